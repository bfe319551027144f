"""A failover from its leader's view; who is chosen; what is put right afterwards."""

from __future__ import annotations

import pytest

from sentinel.machine import Refused
from sentinel.selection import select_replica
from sentinel.state import (
    FAILOVER_IN_PROGRESS,
    NONE,
    PROMOTED,
    RECONF_SENT,
    RECONF_SLAVES,
    S_DOWN,
    SEND_SLAVEOF_NOONE,
    WAIT_PROMOTION,
)
from tests.unit.sentinel.stage import (
    IP,
    MASTER,
    ME,
    Stage,
    master_info,
    replica_info,
    run_id,
)


def configuration(host: str, port: str) -> list[str]:
    """What makes somebody follow somebody."""
    return [
        "MULTI",
        f"SLAVEOF {host} {port}",
        "CONFIG REWRITE",
        "CLIENT KILL TYPE normal",
        "CLIENT KILL TYPE pubsub",
        "EXEC",
    ]


NO_ONE = configuration("NO", "ONE")


def begin(stage: Stage) -> None:
    """Let the master die and this sentinel be elected in epoch 1."""
    stage.kill(MASTER)
    stage.run(1001)
    stage.agree()
    while "+try-failover" not in stage.names_of_events():
        stage.run(10)
    stage.agree(1)


def test_a_failover_is_told_as_redis_tells_it() -> None:
    stage = Stage(1001, 1002)
    stage.master.client_reconfig_script = "/bin/script"
    stage.infos[1002] = replica_info(1002, offset=99)
    begin(stage)
    m = f"master mymaster {IP} 1000"
    chosen = f"slave {IP}:1002 {IP} 1002 @ mymaster {IP} 1000"
    other = f"slave {IP}:1001 {IP} 1001 @ mymaster {IP} 1000"
    assert stage.events == [
        f"+sdown {m}",
        f"+odown {m} #quorum 2/2",
        "+new-epoch 1",
        f"+try-failover {m}",
        f"+vote-for-leader {ME} 1",
        f"+elected-leader {m}",
        f"+failover-state-select-slave {m}",
        f"+selected-slave {chosen}",
        f"+failover-state-send-slaveof-noone {chosen}",
        f"+failover-state-wait-promotion {chosen}",
    ]
    assert stage.take_sent(1002) == NO_ONE
    assert stage.replica(1002).has(PROMOTED)
    assert stage.master.current_address.port == MASTER
    stage.events.clear()
    stage.infos[1002] = master_info(1002, 1001)
    stage.hellos.clear()
    stage.machine.unsaved = False
    stage.run(100)
    assert stage.events == [
        f"+role-change {chosen} new reported role is master".replace("+", "-", 1),
        f"+promoted-slave {chosen}",
        f"+failover-state-reconf-slaves {m}",
        f"+slave-reconf-sent {other}",
    ]
    assert stage.master.current_address.port == 1002
    assert stage.master.config_epoch == 1
    assert stage.machine.unsaved
    assert stage.take_sent(1001) == configuration(IP, "1002")
    assert stage.scripts == [["/bin/script", "mymaster", "leader", "start", IP, "1000", IP, "1002"]]
    # All are told at once, not when a hello is due.
    hello = f"10.0.0.9,26379,{ME},1,mymaster,{IP},1002,1"
    assert {port for port, text in stage.hellos if text == hello} == {1001, 1002, 2000, 2001}
    stage.events.clear()
    stage.infos[1001] = replica_info(1001, 1002, down=1)
    stage.run(250)
    assert stage.events == [f"+slave-reconf-inprog {other}"]
    stage.infos[1001] = replica_info(1001, 1002)
    stage.run(250)
    assert stage.events[1:] == [
        f"+slave-reconf-done {other}",
        f"+failover-end {m}",
        f"+switch-master mymaster {IP} 1000 {IP} 1002",
        f"+slave slave {IP}:1001 {IP} 1001 @ mymaster {IP} 1002",
        f"+slave slave {IP}:1000 {IP} 1000 @ mymaster {IP} 1002",
    ]
    assert stage.master.failover_state == NONE
    assert not stage.master.has(FAILOVER_IN_PROGRESS | S_DOWN)
    assert stage.master.address.port == 1002
    stage.run(3000)
    assert stage.master.link.commands_open
    assert stage.master.run_id == run_id(1002)


# Who is chosen.

CHOICES: dict[str, tuple[dict[int, dict[str, int]], int | None]] = {
    "the greater offset": ({1001: {"offset": 5}, 1002: {"offset": 6}}, 1002),
    "the smaller run id": ({1001: {}, 1002: {}}, 1001),
    "the lower priority number": (
        {1001: {"offset": 9, "priority": 50}, 1002: {"priority": 49}},
        1002,
    ),
    "never priority 0": ({1001: {"offset": 9, "priority": 0}, 1002: {}}, 1002),
    "not after long without the master": ({1001: {"offset": 9, "down": 20}, 1002: {}}, 1002),
    "none at all": ({1001: {"priority": 0}, 1002: {"priority": 0}}, None),
}


@pytest.mark.parametrize("choice", CHOICES)
def test_the_best_replica_is_chosen(choice: str) -> None:
    stage = Stage(1001, 1002, peers=0)
    infos, expected = CHOICES[choice]
    for port, words in infos.items():
        stage.infos[port] = replica_info(port, **words)
    stage.run(11_000)
    chosen = select_replica(stage.master, stage.machine.settings, stage.now)
    assert (chosen.address.port if chosen is not None else None) == expected


def test_a_replica_that_is_down_or_silent_is_not_chosen() -> None:
    stage = Stage(1001, 1002, peers=0, quorum=9)
    settings = stage.machine.settings
    stage.infos[1001] = replica_info(1001, offset=99)
    stage.run(11_000)
    best = select_replica(stage.master, settings, stage.now)
    assert best is stage.replica(1001)
    stage.kill(1001)
    assert select_replica(stage.master, settings, stage.now) is stage.replica(1002)
    stage.master.down_after = stage.replica(1002).down_after = 60_000
    stage.silent.add(1002)
    stage.run(6500)
    assert not stage.replica(1002).has(S_DOWN)
    assert select_replica(stage.master, settings, stage.now) is None


def test_a_master_that_follows_its_replica_makes_none_too_old() -> None:
    stage = Stage(1001, quorum=9)
    stage.infos[MASTER] = replica_info(MASTER, 1001, down=100)
    stage.infos[1001] = replica_info(1001, down=100)
    stage.run(11_000)
    assert select_replica(stage.master, stage.machine.settings, stage.now) is None
    stage.run(25_000)
    assert stage.master.has(S_DOWN)
    chosen = select_replica(stage.master, stage.machine.settings, stage.now)
    assert chosen is stage.replica(1001)


@pytest.mark.parametrize(("keys", "offset"), [(True, 0), (False, 14), (False, 0)])
def test_one_that_has_never_synchronized_is_not_chosen_unless_it_has_data(
    keys: bool, offset: int
) -> None:
    stage = Stage(1001, quorum=9)
    told = replica_info(1001, offset=offset, down=1).replace("since_seconds:1", "since_seconds:-1")
    stage.infos[1001] = told + ("db0:keys=3,expires=0,avg_ttl=0\r\n" if keys else "")
    stage.run(11_000)
    chosen = select_replica(stage.master, stage.machine.settings, stage.now)
    assert (chosen is not None) == (keys or offset > 0)


def test_what_the_replicas_say_after_their_masters_loss_decides() -> None:
    stage = Stage(1001, 1002)
    # Since the last INFO, 1002 has got ahead.
    stage.infos[1002] = replica_info(1002, offset=1000)
    begin(stage)
    assert stage.master.promoted is stage.replica(1002)


def test_a_replica_that_does_not_answer_is_waited_for_but_not_for_long() -> None:
    stage = Stage(1001, 1002)
    stage.silent.add(1001)
    begin(stage)
    assert stage.names_of_events()[-1] == "+failover-state-select-slave"
    stage.run(501)
    assert stage.master.promoted is stage.replica(1002)


# What goes wrong.


def test_without_a_good_replica_it_is_given_up_and_tried_again_when_there_is_one() -> None:
    stage = Stage(1001)
    stage.infos[1001] = replica_info(1001, priority=0)
    begin(stage)
    stage.run(600)
    assert stage.events[-1] == f"-failover-abort-no-good-slave master mymaster {IP} 1000"
    for _ in range(10):
        stage.run(1000)
        stage.agree()
    assert stage.names_of_events().count("+try-failover") == 1
    stage.infos[1001] = replica_info(1001)
    stage.run(1500)
    assert stage.names_of_events().count("+try-failover") == 2


def test_a_replica_that_is_cut_off_is_given_up_after_the_timeout() -> None:
    stage = Stage(1001, 1002)
    stage.master.failover_timeout = 3000
    begin(stage)
    assert stage.master.failover_state == WAIT_PROMOTION
    for _ in range(31):
        stage.run(100)
        stage.agree()
    assert f"-failover-abort-slave-timeout master mymaster {IP} 1000" in stage.events
    assert not stage.replica(1001).has(PROMOTED)


def test_slaveof_no_one_that_was_lost_is_sent_again() -> None:
    stage = Stage(1001)
    begin(stage)
    assert stage.take_sent(1001) == NO_ONE
    stage.run(1100)
    assert stage.take_sent(1001) == NO_ONE


def test_a_chosen_replica_that_dies_is_replaced() -> None:
    stage = Stage(1001, 1002)
    begin(stage)
    stage.kill(1001)
    stage.run(1100)
    assert f"-failover-abort-slave-timeout master mymaster {IP} 1000" in stage.events
    for _ in range(20):
        stage.run(100)
        stage.agree(stage.machine.state.current_epoch)
    assert stage.machine.state.current_epoch == 2
    assert stage.master.promoted is stage.replica(1002)


def test_a_new_master_that_dies_does_not_hold_up_the_failover() -> None:
    stage = Stage(1001, 1002)
    begin(stage)
    stage.infos[1001] = master_info(1001, 1002)
    stage.run(100)
    assert stage.master.failover_state == RECONF_SLAVES
    stage.kill(1001)
    stage.run(1200)
    assert stage.master.address.port == 1001


def promote(stage: Stage, port: int) -> None:
    begin(stage)
    others = [int(name.split(":")[1]) for name in stage.master.replicas]
    stage.infos[port] = master_info(port, *(other for other in others if other != port))
    stage.run(100)
    assert stage.master.failover_state == RECONF_SLAVES


@pytest.mark.parametrize("at_a_time", [1, 2, 3])
def test_so_many_replicas_are_pointed_to_the_master_at_a_time(at_a_time: int) -> None:
    stage = Stage(1001, 1002, 1003, 1004)
    stage.master.parallel_syncs = at_a_time
    promote(stage, 1001)
    left = [1002, 1003, 1004]
    assert [stage.replica(port).has(RECONF_SENT) for port in left].count(True) == at_a_time
    for done in range(1, 4):
        port = next(port for port in left if stage.replica(port).has(RECONF_SENT))
        left.remove(port)
        stage.infos[port] = replica_info(port, 1001)
        stage.run(250)
        told = stage.names_of_events().count("+slave-reconf-sent")
        assert told == min(3, at_a_time + done)


def test_a_replica_that_does_not_obey_is_given_up() -> None:
    stage = Stage(1001, 1002)
    promote(stage, 1001)
    stage.run(10_500)
    assert stage.names_of_events()[-5:-1] == [
        "-slave-reconf-sent-timeout",
        "+failover-end",
        "+switch-master",
        "+slave",
    ]


def test_after_the_failover_timeout_all_are_pointed_to_it_as_well_as_it_goes() -> None:
    stage = Stage(1001, 1002, 1003)
    stage.master.failover_timeout = 5000
    promote(stage, 1001)
    stage.infos[1002] = replica_info(1002, 1001, down=2)
    stage.run(5100)
    names = stage.names_of_events()
    at = names.index("+failover-end-for-timeout")
    assert names[at : at + 5] == [
        "+failover-end-for-timeout",
        "+failover-end",
        "+slave-reconf-sent-be",  # to 1002 again, too
        "+slave-reconf-sent-be",
        "+switch-master",
    ]
    assert f"SLAVEOF {IP} 1001" in stage.take_sent(1003)


def test_replicas_that_are_down_are_not_waited_for() -> None:
    stage = Stage(1001, 1002)
    stage.kill(1002)
    stage.run(1100)
    begin(stage)
    stage.infos[1001] = master_info(1001)
    stage.run(200)
    assert "+switch-master" in stage.names_of_events()


def test_a_newer_configuration_ends_a_failover_that_would_be_older() -> None:
    stage = Stage(1001)
    begin(stage)
    stage.hear(2000, 2, 2)  # the old master is the master, as of epoch 2
    assert stage.events[-1] == f"-failover-abort-master-changed master mymaster {IP} 1000"
    stage.infos[1001] = master_info(1001)
    stage.run(500)
    assert stage.master.config_epoch == 2
    assert "+promoted-slave" not in stage.names_of_events()


def test_a_newer_configuration_leads_back_to_the_old_master() -> None:
    stage = Stage(1001, 1002)
    promote(stage, 1001)
    stage.events.clear()
    stage.hear(2000, 2, 2)
    assert f"+switch-master mymaster {IP} 1001 {IP} 1000" in stage.events
    assert stage.master.address.port == stage.master.current_address.port == MASTER
    assert set(stage.master.replicas) == {f"{IP}:1001", f"{IP}:1002"}
    assert stage.master.failover_state == NONE


def test_a_reset_does_not_forget_who_is_the_master_by_now() -> None:
    stage = Stage(1001, 1002)
    promote(stage, 1001)
    stage.machine.reset("*", stage.now)
    assert stage.names_of_events()[-1] == "+reset-master"
    assert stage.master.address.port == 1001
    assert stage.master.config_epoch == 1
    assert not stage.master.replicas


# By hand.


def test_a_failover_by_hand_asks_nobody() -> None:
    stage = Stage(1001)
    stage.machine.force_failover("mymaster", stage.now)
    assert "+elected-leader" in stage.names_of_events()
    assert not stage.asked
    with pytest.raises(Refused, match="INPROG Failover already in progress"):
        stage.machine.force_failover("mymaster", stage.now)
    stage.run(100)
    assert stage.take_sent(1001)[:6] == NO_ONE
    with pytest.raises(KeyError):
        stage.machine.force_failover("other", stage.now)


def test_a_failover_by_hand_needs_a_replica() -> None:
    stage = Stage(peers=0)
    with pytest.raises(Refused, match="NOGOODSLAVE No suitable replica to promote"):
        stage.machine.force_failover("mymaster", stage.now)


def test_an_old_master_that_is_not_a_replica_yet_lacks_what_has_been_written_since() -> None:
    stage = Stage(1001, 1002)
    stage.infos[1001] = master_info(1001)
    stage.machine.settings.publish_period = 1 << 40  # so that nobody makes it one
    stage.run(11_000)
    assert stage.replica(1001).role_reported == "master"
    settings = stage.machine.settings
    assert select_replica(stage.master, settings, stage.now) is stage.replica(1002)
    del stage.master.replicas[stage.replica(1002).name]
    with pytest.raises(Refused, match="NOGOODSLAVE No suitable replica to promote"):
        stage.machine.force_failover("mymaster", stage.now)
    # Where there is no other any more, it may have been promoted by who died over that.
    stage.kill(MASTER)
    stage.run(1500)
    assert stage.master.has(S_DOWN)
    assert select_replica(stage.master, settings, stage.now) is stage.replica(1001)


@pytest.mark.parametrize("at", ["election", "promotion"])
def test_a_failure_can_be_simulated(at: str) -> None:
    stage = Stage(1001)
    stage.machine.crash_after_election = at == "election"
    stage.machine.crash_after_promotion = at == "promotion"
    begin(stage)
    assert stage.crashed is (at == "election")
    if at == "promotion":
        stage.infos[1001] = master_info(1001)
        stage.run(100)
        assert stage.crashed


# Roles that are put right.


def test_an_old_master_that_returns_becomes_a_replica_when_all_have_spoken() -> None:
    stage = Stage(1001)
    stage.infos[1001] = master_info(1001, 1000)
    stage.kill(MASTER)
    stage.hear(2000, 1, 1, 1001)
    stage.hear(2001, 1, 1, 1001)
    stage.run(5000)
    stage.take_sent(1000)
    stage.up.add(MASTER)
    stage.infos[MASTER] = master_info(MASTER)
    stage.run_until("-role-change")
    began = stage.now
    for _ in range(4):
        stage.run(1000)
        stage.hear(2000, 1, 1, 1001)
        stage.hear(2001, 1, 1, 1001)
    assert f"+convert-to-slave slave {IP}:1000 {IP} 1000 @ mymaster {IP} 1001" in stage.events
    assert stage.now - began < 5000
    assert f"SLAVEOF {IP} 1001" in stage.take_sent(MASTER)


@pytest.mark.parametrize("why", ["a sentinel is silent", "a vote was given"])
def test_otherwise_it_takes_longer(why: str) -> None:
    stage = Stage(1001)
    stage.infos[1001] = master_info(1001)
    stage.run_until("-role-change")
    for i in range(7):
        if why == "a vote was given" and i == 1:
            stage.machine.is_master_down(IP, MASTER, 1, run_id(2000), stage.now)
        stage.run(1000)
        stage.hear(2000)
        if why == "a vote was given":
            stage.hear(2001)
    assert "+convert-to-slave" not in stage.names_of_events()
    stage.run(2200)
    assert "+convert-to-slave" in stage.names_of_events()


def test_a_replica_of_somebody_else_is_pointed_to_its_master_in_time() -> None:
    stage = Stage(1001)
    stage.infos[1001] = replica_info(1001, 1777)
    stage.run(29_000)
    assert not stage.take_sent(1001)
    stage.run(12_000)
    assert f"+fix-slave-config slave {IP}:1001 {IP} 1001 @ mymaster {IP} 1000" in stage.events
    assert stage.take_sent(1001)[:6] == configuration(IP, "1000")


def test_nothing_is_put_right_while_the_master_is_down_or_in_tilt() -> None:
    stage = Stage(1001, quorum=9)
    stage.infos[1001] = replica_info(1001, 1777)
    stage.kill(MASTER)
    stage.run(60_000)
    assert "+fix-slave-config" not in stage.names_of_events()
    assert not [text for text in stage.take_sent(1001) if "SLAVEOF" in text]


def test_a_promotion_waits_for_its_connection() -> None:
    stage = Stage(1001)
    stage.infos[1001] = replica_info(1001)
    begin(stage)
    assert stage.master.failover_state in (SEND_SLAVEOF_NOONE, WAIT_PROMOTION)
