"""Other sentinels: new, moved, doubled; their epochs and configurations."""

from __future__ import annotations

from sentinel.state import Address
from tests.unit.sentinel.stage import IP, MASTER, ME, Stage, run_id


def test_a_sentinel_that_moved_keeps_its_name() -> None:
    stage = Stage(peers=2)
    stage.machine.hear_published(
        f"{IP},3000,{run_id(2000)},0,mymaster,{IP},1000,0".encode(), stage.now
    )
    assert stage.events == [
        f"+sentinel-address-switch master mymaster {IP} 1000 ip {IP} port 3000 for {run_id(2000)}"
    ]
    assert stage.peer(2000).address.port == 3000
    assert len(stage.master.peers) == 2
    assert (2000, "commands") in stage.closed


def test_it_moves_for_all_masters() -> None:
    stage = Stage(peers=1)
    other = stage.machine.monitor("other", Address(IP, 1500), 2, stage.now)
    stage.machine.hear_published(
        f"{IP},2000,{run_id(2000)},0,other,{IP},1500,0".encode(), stage.now
    )
    stage.events.clear()
    stage.machine.hear_published(
        f"{IP},3000,{run_id(2000)},0,other,{IP},1500,0".encode(), stage.now
    )
    assert stage.events[-1] == (
        f"+sentinel-address-update sentinel {run_id(2000)} {IP} 3000 @ other {IP} 1500"
        " 1 additional matching instances"
    )
    assert stage.peer(2000).address.port == 3000
    assert stage.peer(2000).link is other.peers[run_id(2000)].link
    assert len(stage.peer(2000).link.users) == 2


def test_a_new_sentinel_at_the_place_of_another_replaces_it() -> None:
    stage = Stage(peers=2)
    stage.machine.hear_published(f"{IP},2000,{'f' * 40},0,mymaster,{IP},1000,0".encode(), stage.now)
    assert stage.names_of_events() == ["+sentinel-invalid-addr", "+sentinel"]
    assert set(stage.master.peers) == {run_id(2001), "f" * 40}


def test_itself_unknown_masters_and_nonsense_are_nobody() -> None:
    stage = Stage(peers=0)
    for text in (
        f"{IP},2000,{ME},0,mymaster,{IP},1000,0",
        f"{IP},2000,{run_id(1)},7,unknown,{IP},1000,0",
        f"nowhere.example,2000,{run_id(1)},0,mymaster,{IP},1000,0",
        "nonsense",
    ):
        stage.machine.hear_published(text.encode(), stage.now)
    assert not stage.master.peers
    assert not stage.events
    assert stage.machine.state.current_epoch == 0


def test_the_newest_epoch_is_taken_over_and_saved() -> None:
    stage = Stage()
    stage.machine.unsaved = False
    stage.hear(2000, epoch=7)
    assert stage.machine.state.current_epoch == 7
    assert stage.machine.unsaved
    assert stage.events == ["+new-epoch 7"]


def test_a_newer_configuration_switches_the_master() -> None:
    stage = Stage(1001, 1002)
    stage.master.client_reconfig_script = "/bin/script"
    stage.hear(2000, epoch=5, config_epoch=5, master=1001)
    assert stage.events == [
        "+new-epoch 5",
        f"+config-update-from sentinel {run_id(2000)} {IP} 2000 @ mymaster {IP} 1000",
        f"+switch-master mymaster {IP} 1000 {IP} 1001",
        f"+slave slave {IP}:1002 {IP} 1002 @ mymaster {IP} 1001",
        f"+slave slave {IP}:1000 {IP} 1000 @ mymaster {IP} 1001",
    ]
    assert stage.scripts == [
        ["/bin/script", "mymaster", "observer", "start", IP, "1000", IP, "1001"]
    ]
    assert stage.master.config_epoch == 5
    assert set(stage.master.peers) == {run_id(2000), run_id(2001)}


def test_an_older_or_equal_configuration_changes_nothing() -> None:
    stage = Stage(1001)
    stage.hear(2000, epoch=5, config_epoch=5)
    stage.events.clear()
    stage.hear(2001, epoch=5, config_epoch=4, master=1001)
    assert stage.master.address.port == MASTER
    assert not stage.events


def test_two_configurations_of_one_epoch_are_settled() -> None:
    stage = Stage(1001)
    stage.hear(2000, epoch=5, config_epoch=5)
    stage.hellos.clear()
    # This one's id is the greater: it takes a new epoch, which wins everywhere.
    stage.hear(2001, epoch=5, config_epoch=5, master=1001)
    assert stage.master.config_epoch == stage.machine.state.current_epoch == 6
    assert stage.master.address.port == MASTER
    assert (2001, f"10.0.0.9,26379,{ME},6,mymaster,{IP},1000,6") in stage.hellos
    # The other side of it: the other one's id is the greater.
    stage.machine.hear_published(f"{IP},2009,{'z' * 40},6,mymaster,{IP},1001,6".encode(), stage.now)
    assert stage.master.config_epoch == 6


def test_reset_forgets_all_that_was_found_out() -> None:
    stage = Stage(1001)
    assert stage.machine.reset("other*", stage.now) == 0
    assert stage.machine.reset("MY*", stage.now) == 1
    assert stage.names_of_events() == ["+reset-master"]
    assert not stage.master.replicas
    assert not stage.master.peers
    stage.run(1000)
    assert set(stage.master.replicas) == {f"{IP}:1001"}


def test_a_master_that_is_guarded_again_has_no_vote_in_old_epochs() -> None:
    stage = Stage()
    assert stage.machine.is_master_down(IP, MASTER, 3, run_id(2000), stage.now)[1:] == (
        run_id(2000),
        3,
    )
    stage.machine.remove("mymaster", stage.now)
    assert stage.events[-1] == f"-monitor master mymaster {IP} 1000"
    stage.machine.monitor("mymaster", Address(IP, MASTER), 2, stage.now)
    assert stage.machine.is_master_down(IP, MASTER, 3, run_id(2001), stage.now)[1] == "*"
