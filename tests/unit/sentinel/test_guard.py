"""A sentinel that guards a cluster: what it asks, whom it names, how a replica takes over."""

from __future__ import annotations

import pytest

from node.config.settings import Statement
from node.words import split_words
from sentinel.config_file import Reader, format_state
from sentinel.machine import Refused
from sentinel.state import FAILOVER_IN_PROGRESS, S_DOWN, Address, State
from sentinel.topology import parse_range
from tests.unit.sentinel.cluster_stage import ClusterStage, shard_name
from tests.unit.sentinel.clusters import Told, node_id
from tests.unit.sentinel.stage import IP


def told(letter: str, epoch: int = 0, slots: str = "", master: str = "", port: int = 0) -> Told:
    return Told(letter, epoch, slots, master=master, host=IP, port=port)


FIRST = [
    told("a", 1, "0-8000"),
    told("b", 2, "8001-16383"),
    told("c", 1, master="a"),
    told("d", 2, master="b"),
]
TAKEOVER = "CLUSTER FAILOVER TAKEOVER"
SEEN_BY_ALL = [
    Told("a", 1, "", host=IP, flags="fail"),
    FIRST[1],
    told("c", 3, "0-8000"),
    FIRST[3],
]


def names(stage: ClusterStage) -> dict[str, str]:
    return {master.name: letter for letter, master in stage.masters.items()}


def test_each_shard_is_guarded() -> None:
    stage = ClusterStage(FIRST)
    assert names(stage) == {shard_name("a"): "a", shard_name("b"): "b"}
    master = stage.masters["a"]
    assert master.cluster is stage.cluster
    assert (master.down_after, master.failover_timeout, master.quorum) == (1000, 20_000, 2)
    assert (master.node_id, master.config_epoch) == (node_id("a"), 1)
    assert [replica.node_id for replica in master.replicas.values()] == [node_id("c")]
    assert len(master.peers) == 2
    assert not stage.cluster.probes
    ids = {"a": "f" * 40, "c": "f" * 40, "b": "0" * 40}
    assert set(names(ClusterStage(FIRST, shard_ids=ids))) == {
        "shop/" + "f" * 12,
        "shop/" + "0" * 12,
    }


def test_how_often_nodes_are_asked() -> None:
    stage = ClusterStage(FIRST)
    stage.run(10_000)  # until there is no doubt left
    stage.sent.clear()
    stage.run(20_000)
    asked = [stage.count_sent(letter, "CLUSTER NODES") for letter in "abcd"]
    assert 18 <= sum(asked) <= 30
    assert all(3 <= count <= 10 for count in asked)
    assert not any("MYSHARDID" in text for _, text in stage.sent)
    stage.kill(stage.port("a"))
    stage.run(1100)
    stage.sent.clear()
    stage.run(5000)
    assert [stage.count_sent(letter, "CLUSTER NODES") for letter in "abcd"] == [0, 5, 5, 5]


def test_a_replica_takes_over() -> None:
    stage = ClusterStage(FIRST)
    old = stage.masters["a"]
    stage.lead("a")
    assert stage.count_sent("c", TAKEOVER) == 1
    assert old.current_address.port == stage.port("c")
    assert old.config_epoch == 3  # the cluster's, not the sentinels'
    assert old.has(FAILOVER_IN_PROGRESS)  # the others do not know of it yet
    assert "+switch-master" not in stage.names_of_events()
    stage.spread("c")
    stage.run(1000)
    assert f"+switch-master {shard_name('a')} {IP} 7000 {IP} 7002" in stage.events
    assert names(stage) == {shard_name("a"): "c", shard_name("b"): "b"}
    master = stage.masters["c"]
    assert master.node_id == node_id("c")
    assert [replica.node_id for replica in master.replicas.values()] == [node_id("a")]
    assert stage.count_sent("c", TAKEOVER) == 1
    assert not any("SLAVEOF" in text or "CONFIG" in text for _, text in stage.sent)
    record = stage.cluster.failovers[master.name]
    assert (record.old, record.new, record.epoch, record.led) == (
        node_id("a"),
        node_id("c"),
        3,
        True,
    )
    # The old master comes back, and is watched until it follows; nobody tells it to.
    stage.up.add(stage.port("a"))
    stage.run(5000)
    back = [told("a", 3, master="c"), *SEEN_BY_ALL[1:]]
    stage.say(back, "abcd")
    stage.run(20_000)
    replica = next(iter(master.replicas.values()))
    assert not replica.has(S_DOWN)
    assert replica.role_reported == "slave"
    assert not any("SLAVEOF" in text for _, text in stage.sent)


def test_a_majority_of_the_masters_at_once() -> None:
    stage = ClusterStage(FIRST)
    stage.kill(stage.port("a"), stage.port("b"))
    for _ in range(60):
        stage.run(100)
        epoch = stage.machine.state.current_epoch
        stage.agree(epoch)
    stage.spread("c")
    assert stage.count_sent("c", TAKEOVER) == 1
    assert stage.count_sent("d", TAKEOVER) == 1


def test_a_replica_that_knows_less_must_not_take_over_yet() -> None:
    """Or it would take slots that another master has got meanwhile."""
    stage = ClusterStage(FIRST)
    moved = [told("a", 1, "0-7000"), told("b", 5, "7001-16383"), *FIRST[2:]]
    stage.say(moved, "abd")  # c has not heard of it
    stage.run(1500)
    stage.lead("a")
    stage.run(3000)
    assert stage.count_sent("c", TAKEOVER) == 0
    assert any(event.startswith("-takeover-postponed") for event in stage.events)
    assert stage.masters["a"].has(FAILOVER_IN_PROGRESS)
    stage.say(moved, "c")
    stage.run(1100)
    assert stage.count_sent("c", TAKEOVER) == 1


def test_slots_that_only_the_dead_master_had_go_to_the_new_one() -> None:
    stage = ClusterStage(FIRST)
    moved = [told("a", 5, "0-8002"), told("b", 2, "8003-16383"), *FIRST[2:]]
    stage.say(moved, "abd")  # c has not heard of it
    stage.run(1500)
    stage.lead("a")
    assert stage.count_sent("c", TAKEOVER) == 1
    after = [
        Told("a", 5, "8001-8002", host=IP, flags="fail"),
        moved[1],
        told("c", 6, "0-8000"),
        moved[3],
    ]
    stage.say(after, "bcd")
    stage.run(3000)
    for slot in (8001, 8002):
        assert stage.count_sent("c", f"CLUSTER SETSLOT {slot} NODE {node_id('c')}") >= 1
    assert stage.masters["c"].has(FAILOVER_IN_PROGRESS)
    whole = [Told("a", 5, "", host=IP, flags="fail"), moved[1], told("c", 6, "0-8002"), moved[3]]
    stage.say(whole, "bcd")
    stage.run(1000)
    assert not stage.masters["c"].has(FAILOVER_IN_PROGRESS)
    assert names(stage) == {shard_name("a"): "c", shard_name("b"): "b"}


def test_only_one_replica_is_told_in_an_epoch() -> None:
    stage = ClusterStage([*FIRST, told("e", 1, master="a")])
    stage.obedient = False
    stage.lead("a")
    stage.run(10_000)
    counts = [stage.count_sent(letter, TAKEOVER) for letter in "ce"]
    assert min(counts) == 0
    assert 8 <= max(counts) <= 11  # it is told again each second


def test_somebody_else_has_replaced_the_master() -> None:
    stage = ClusterStage([*FIRST, told("e", 1, master="a")])
    stage.obedient = False
    stage.lead("a")
    told_to = "c" if stage.count_sent("c", TAKEOVER) else "e"
    other = "e" if told_to == "c" else "c"
    after = [
        Told("a", 1, "", host=IP, flags="fail"),
        *FIRST[1:2],
        told(other, 9, "0-8000"),
        FIRST[3],
        told(told_to, 9, master=other),
    ]
    stage.say(after, "bcde")
    stage.run(1500)
    assert "-failover-abort-master-changed" in stage.names_of_events()
    assert names(stage) == {shard_name("a"): other, shard_name("b"): "b"}
    assert stage.masters[other].config_epoch == 9
    assert not stage.masters[other].has(FAILOVER_IN_PROGRESS)
    assert not stage.cluster.failovers[shard_name("a")].led


def test_a_manual_failover_is_followed_soon() -> None:
    stage = ClusterStage(FIRST)
    stage.run(10_000)
    after = [told("a", 7, master="c"), FIRST[1], told("c", 7, "0-8000"), FIRST[3]]
    stage.say(after, "abcd")
    stage.run(2000)
    assert stage.events[0] == f"+switch-master {shard_name('a')} {IP} 7000 {IP} 7002"
    assert names(stage) == {shard_name("a"): "c", shard_name("b"): "b"}
    assert not any("FAILOVER" in text or "SLAVEOF" in text for _, text in stage.sent)


def test_a_failover_on_request_begins_with_a_handover() -> None:
    stage = ClusterStage(FIRST)
    stage.machine.force_failover(shard_name("a"), stage.now)
    stage._settle()
    assert stage.count_sent("c", "CLUSTER FAILOVER") == 1
    stage.run(5000)
    assert stage.count_sent("c", TAKEOVER) == 0
    stage.run(3000)
    assert stage.count_sent("c", TAKEOVER) == 1
    with pytest.raises(Refused, match="INPROG"):
        stage.machine.force_failover(shard_name("a"), stage.now)


def test_slots_move_and_shards_come_and_go() -> None:
    stage = ClusterStage(FIRST)
    moved = [told("a", 1, "0-7999"), told("b", 5, "8000-16383"), *FIRST[2:]]
    stage.say(moved, "abcd")
    stage.run(2000)
    assert f"+slots master {shard_name('b')} {IP} 7001 8384 slots +8000" in stage.events
    third = [
        told("a", 1, "0-7999"),
        told("b", 5, "9000-16383"),
        *FIRST[2:],
        told("e", 6, "8000-8999"),
    ]
    stage.ports[third[4].port] = "e"
    stage.up.add(third[4].port)
    stage.say(third, "abcde")
    stage.run(3000)
    assert names(stage)[shard_name("e")] == "e"
    merged = [told("a", 7, "0-8999"), third[1], *FIRST[2:], told("e", 7, master="a")]
    stage.say(merged, "abcde")
    stage.run(3000)
    assert names(stage) == {shard_name("a"): "a", shard_name("b"): "b"}
    assert f"-monitor master {shard_name('e')} {IP} 7004" in stage.events
    replicas = stage.masters["a"].replicas.values()
    assert {replica.node_id for replica in replicas} == {node_id("c"), node_id("e")}


def test_a_node_is_known_by_its_id() -> None:
    stage = ClusterStage(FIRST)
    moved = [FIRST[0], FIRST[1], told("c", 1, master="a", port=7500), FIRST[3]]
    stage.kill(7002)
    stage.up.add(7500)
    stage.say(moved, "abcd")
    stage.run(3000)
    (replica,) = stage.masters["a"].replicas.values()
    assert (replica.name, replica.node_id) == (f"{IP}:7500", node_id("c"))
    # A master, too: clients have to go there, but it is the same one.
    again = [told("a", 1, "0-8000", port=7600), *moved[1:]]
    stage.up.add(7600)
    stage.up.discard(7000)
    stage.say(again, "abcd")
    stage.run(900)
    assert f"+switch-master {shard_name('a')} {IP} 7000 {IP} 7600" in stage.events
    assert stage.masters["a"].node_id == node_id("a")
    assert not stage.cluster.failovers


def test_of_two_names_for_a_shard_the_smaller_one_stays() -> None:
    stage = ClusterStage([*FIRST[1:2], told("c", 3, "0-8000"), FIRST[3]], entry="b")
    assert names(stage) == {shard_name("c"): "c", shard_name("b"): "b"}
    master = stage.masters["c"]
    stage.meet_shard(2000, master, name=shard_name("d"))
    assert master.name == shard_name("c")
    stage.meet_shard(2000, master, name=shard_name("a"))
    assert names(stage) == {shard_name("a"): "c", shard_name("b"): "b"}
    assert stage.machine.state.masters[shard_name("a")] is master
    assert len(master.peers) == 2
    assert stage.events[-1].endswith(f"was {shard_name('c')}")
    assert stage.machine.unsaved


def test_a_hello_is_a_reason_to_ask() -> None:
    stage = ClusterStage(FIRST)
    stage.run(10_000)
    stage.sent.clear()
    master = stage.masters["a"]
    stage.meet_shard(2000, master, port=7002, epoch=9)
    assert all(stage.count_sent(letter, "CLUSTER NODES") == 1 for letter in "abcd")
    assert master.config_epoch == 1  # nobody but the cluster says who is master
    assert names(stage)[shard_name("a")] == "a"
    # Whoever can reach no node at all believes it.
    stage.kill(7000, 7001, 7002, 7003)
    stage.run(500)
    stage.meet_shard(2000, master, port=7002, epoch=9)
    assert (master.current_address.port, master.config_epoch) == (7002, 9)


def test_what_is_heard_again_at_once_costs_nothing() -> None:
    stage = ClusterStage(FIRST)
    master = stage.masters["a"]
    stage.run(1000)
    peer = next(iter(master.peers.values()))
    text = f"{IP},2000,{peer.run_id},0,{master.name},{IP},7000,1".encode()
    stage.machine.hear_published(text, stage.now)
    heard = peer.last_hello_heard
    stage.machine.hear_published(text, stage.now + 100)
    assert peer.last_hello_heard == heard
    stage.machine.hear_published(text, stage.now + 600)
    assert peer.last_hello_heard == heard + 600


def test_a_cluster_that_cannot_be_reached_at_first() -> None:
    stage = ClusterStage(FIRST, up="b", peers=0)
    assert not stage.machine.state.masters
    stage.up.add(stage.port("a"))
    stage.run(2000)
    assert names(stage) == {shard_name("a"): "a", shard_name("b"): "b"}
    assert not stage.cluster.probes


def read_again(state: State, more: str = "") -> State:
    """What a sentinel knows that starts with the file of another one."""
    statements = []
    lines = [text for _, text, force in format_state(state) if force]
    lines += more.encode().splitlines()
    for number, line in enumerate(lines):
        words = split_words(line)
        assert words is not None
        texts = tuple(word.decode() for word in words[1:])
        statements.append(Statement("sentinel", texts, "file", number, line.decode()))
    found = State("")
    Reader(found, lambda host: host, 1).read(statements)
    return found


def test_it_knows_its_clusters_again() -> None:
    stage = ClusterStage(FIRST)
    stage.lead("a")
    stage.spread("c")
    stage.run(1000)
    master = stage.masters["c"]
    master.down_after = 777
    stage.cluster.options.auth_pass = "secret"
    for each in stage.masters.values():
        each.auth_pass = "secret"
    found = read_again(stage.machine.state)
    again = found.masters[shard_name("a")]
    assert (again.node_id, again.address.port) == (node_id("c"), 7002)
    assert (again.config_epoch, again.leader_epoch) == (3, 1)
    assert (again.down_after, again.failover_timeout, again.auth_pass) == (777, 20_000, "secret")
    assert found.masters[shard_name("b")].down_after == 1000
    assert {r.node_id for r in again.replicas.values()} == {node_id("a")}
    assert len(again.peers) == 2
    assert again.cluster is found.clusters["shop"]
    # It goes on where it was, although the first entry is not there.
    second = ClusterStage(SEEN_BY_ALL, state=found, up="bcd", peers=0)
    assert names(second) == {shard_name("a"): "c", shard_name("b"): "b"}
    assert len(second.masters["c"].peers) == 2
    # What is left of a shard whose nodes somebody has taken out of the file is no obstacle.
    assert "shop/abc" not in read_again(found, "sentinel config-epoch shop/abc 5").masters


def test_a_file_during_a_failover_names_the_new_master() -> None:
    stage = ClusterStage(FIRST)
    stage.lead("a")
    assert stage.masters["c"].has(FAILOVER_IN_PROGRESS)
    again = read_again(stage.machine.state).masters[shard_name("a")]
    assert again.node_id == node_id("c")
    assert {replica.node_id for replica in again.replicas.values()} == {node_id("a")}


def test_several_clusters_and_masters() -> None:
    stage = ClusterStage(FIRST)
    machine = stage.machine
    for name in ("shop", shard_name("a")):
        with pytest.raises(Refused, match="Duplicate master name"):
            machine.monitor(name, Address(IP, 1), 1, stage.now)
        with pytest.raises(Refused):
            machine.monitor_cluster(name, Address(IP, 1), 1, stage.now)
    machine.monitor("plain", Address(IP, 7001), 1, stage.now)
    machine.monitor_cluster("other", Address(IP, stage.port("b")), 1, stage.now)
    stage.run(3000)
    assert len(machine.state.masters) == 5
    machine.remove("shop", stage.now)
    stage.run(3000)
    assert set(machine.state.masters) == {
        "plain",
        *(f"other/{node_id(letter)[:12]}" for letter in "ab"),
    }
    assert f"-monitor-cluster cluster shop {IP} 7000" in stage.events


def test_who_owns_what_is_known() -> None:
    stage = ClusterStage(FIRST)
    shards = stage.cluster.registry.shards
    assert shards[shard_name("a")].slots == parse_range("0-8000")
    assert [master.name for master in stage.cluster.masters(stage.machine.state)] == [
        shard_name("a"),
        shard_name("b"),
    ]


def test_what_is_forgotten_is_found_again() -> None:
    stage = ClusterStage(FIRST)
    stage.run(10_000)
    assert stage.machine.reset("shop/*", stage.now) == 2
    assert not stage.masters["a"].replicas
    stage.run(2000)
    assert len(stage.masters["a"].replicas) == 1
    assert names(stage) == {shard_name("a"): "a", shard_name("b"): "b"}


def test_nobody_takes_over_in_tilt() -> None:
    stage = ClusterStage(FIRST)
    stage.obedient = False
    stage.lead("a")
    assert stage.count_sent("c", TAKEOVER) == 1
    stage.machine.doubt_time(stage.now)
    stage.run(10_000)
    assert stage.count_sent("c", TAKEOVER) == 1


def test_credentials_are_those_of_the_cluster() -> None:
    stage = ClusterStage(FIRST, peers=0)
    stage.machine.remove("shop", stage.now)
    cluster = stage.machine.monitor_cluster("shop", Address(IP, 7000), 2, stage.now)
    cluster.options.auth_user, cluster.options.auth_pass = "ada", "secret"
    cluster.options.renamed_commands["CLUSTER"] = "KLUSTER"
    stage.machine.guard.changed(cluster, credentials=True)
    stage.sent.clear()
    stage.run(500)
    assert (7000, "AUTH ada secret") in stage.sent  # the probe
    assert any(text == "KLUSTER NODES" for _, text in stage.sent)
    assert not any(text.startswith("CLUSTER") for _, text in stage.sent)


def test_another_node_at_the_master_s_address_is_not_the_master() -> None:
    """An empty one, say, that was started there without the old one's data."""
    stage = ClusterStage(FIRST)
    stage.run(10_000)
    empty = [told("x", 0, port=7000)]
    stage.say(empty, "x")
    missed = [Told("a", 1, "0-8000", host=IP, flags="fail"), *FIRST[1:]]
    stage.say(missed, "bcd")
    stage.run(11_000)
    assert any("is the node" in text for text in stage.logged)
    assert any(event.startswith("+sdown master") for event in stage.events)
    for _ in range(20):
        stage.agree(stage.machine.state.current_epoch)
        stage.run(100)
    assert stage.count_sent("c", TAKEOVER) == 1
    stage.say(stage.views["c"], "bcd")
    master = stage.machine.state.masters[shard_name("a")]
    while master.node_id != node_id("c"):
        stage.run(1)
    stage.run(1)
    assert master.link.commands_open
    assert master.link.ping_sent == 0  # its first pong counts


def test_a_node_that_is_back_at_its_place_is_pinged_at_once() -> None:
    """Its next turn may come too late: it has been missed since the stranger was seen."""
    stage = ClusterStage(FIRST)
    stage.run(10_000)
    seen = stage.views["a"]
    master = stage.masters["a"]
    stage.say([told("x", 0, port=7000)], "x")
    link = master.link

    def await_stranger(there: bool) -> None:
        while link.is_of_stranger is not there:
            stage.run(1)

    await_stranger(True)
    assert link.ping_sent > 0
    stage.say(seen, "a")
    await_stranger(False)
    stage.run(1)
    assert link.ping_sent == 0


def test_what_a_node_says_instead_is_logged_once() -> None:
    stage = ClusterStage(FIRST)
    stage.machine.monitor_cluster("other", Address(IP, 7000), 2, stage.now)
    stage.views["a"] = []  # it answers with nothing
    stage.run(20_000)
    assert len([text for text in stage.logged if "CLUSTER NODES at" in text]) == 2


def test_whose_a_slot_is_may_be_settled_first() -> None:
    """The replica knows of its master's last epoch, but not of what that had given away before."""
    stage = ClusterStage(FIRST)
    given = [told("a", 1, "0-7999"), told("b", 5, "8000-16383"), *FIRST[2:]]
    stage.say(given, "b")
    wrong = [told("a", 6, "0-8000"), told("b", 2, "8001-16383"), *FIRST[2:]]
    stage.say(wrong, "acd")
    stage.run(1500)
    stage.lead("a")
    stage.run(3000)
    assert stage.count_sent("c", TAKEOVER) == 0
    stage.run(2500)  # b does not give way; but a shard without a master is worse
    assert stage.count_sent("c", TAKEOVER) == 1
