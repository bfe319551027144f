"""What a sentinel makes of CLUSTER NODES."""

from __future__ import annotations

import itertools
import random

import pytest

from sentinel.topology import (
    ALL_SLOTS,
    Topology,
    TopologyError,
    compare,
    count_agreeing,
    find_outdated,
    find_ranges,
    format_slots,
    is_of_cluster,
    merge,
    parse_nodes,
    parse_range,
)
from tests.unit.sentinel.clusters import Told, node_id, view, views

A, B, C, D, E, F = (node_id(letter) for letter in "abcdef")

# What real servers print: Redis 4.0 and 7.0, 7.2 with host names, Valkey with further fields.
REDIS_4 = """\
07c37dfeb235213a872192d90877d0cd55635b91 127.0.0.1:30004@31004 slave e7d1eecce10fd6bb5eb35b9f99a5\
14335d9ba9ca 0 1426238317239 4 connected
67ed2db8d677e59ec4a4cefb06858cf2a1a89fa1 127.0.0.1:30002@31002 master - 0 1426238316232 2 connec\
ted 5461-10922
e7d1eecce10fd6bb5eb35b9f99a514335d9ba9ca 127.0.0.1:30001@31001 myself,master - 0 0 1 connected 0-\
5460 [93->-292f8b365bb7edb5e285caf0b7e6ddc7265d2f4f] [77-<-e7d1eecce10fd6bb5eb35b9f99a514335d9ba9ca]
"""
REDIS_7 = """\
aaaa 10.0.0.1:7000@17000,node-1.example myself,master - 0 0 3 connected 0-5 7 9-10
bbbb 10.0.0.2:7000@17000,node-2.example slave,fail aaaa 5 6 3 disconnected
cccc :0@0 master,noaddr - 5 6 2 disconnected
dddd 10.0.0.4:7000@17000 handshake - 5 6 0 connected
eeee fd00::5:7000@17000,,tls-port=0,shard-id=5555 master,fail? - 5 6 4 connected
ffff ?:7000@17000,node-6.example slave,nofailover aaaa 5 6 3 connected
"""


def test_lines_of_redis_4() -> None:
    found = parse_nodes(REDIS_4)
    assert found.myself == "e7d1eecce10fd6bb5eb35b9f99a514335d9ba9ca"
    assert found.own.slots == (1 << 5461) - 1
    assert found.own.epoch == 1
    assert (found.own.host, found.own.port) == ("127.0.0.1", 30001)
    assert found.migrating == {93: "292f8b365bb7edb5e285caf0b7e6ddc7265d2f4f"}
    assert found.importing == {77: found.myself}
    replica = found.lines["07c37dfeb235213a872192d90877d0cd55635b91"]
    assert replica.master == found.myself
    assert not replica.is_master


def test_lines_of_redis_7_and_valkey() -> None:
    found = parse_nodes(REDIS_7)
    assert set(found.lines) == {"aaaa", "bbbb", "cccc", "eeee", "ffff"}  # no handshakes
    assert format_slots(found.own.slots) == "0-5 7 9-10"
    assert found.own.hostname == "node-1.example"
    assert found.lines["bbbb"].is_failing
    assert not found.lines["cccc"].has_address
    assert (found.lines["eeee"].host, found.lines["eeee"].port) == ("fd00::5", 7000)
    assert found.lines["eeee"].shard_id == "5555"
    assert found.lines["eeee"].hostname == ""
    assert found.lines["eeee"].is_failing
    assert found.lines["ffff"].host == "node-6.example"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "what?",
        "aaaa 10.0.0.1:7000@17000 master - 0 0 3 connected",
        "aaaa 10.0.0.1:x@17000 myself,master - 0 0 3 connected",
        "aaaa 10.0.0.1:70000@17000 myself,master - 0 0 3 connected",
        "aaaa 10.0.0.1:7000@17000 myself,master - 0 0 -3 connected",
        "aaaa 10.0.0.1:7000@17000 myself,master - 0 0 3 connected 5-4",
        "aaaa 10.0.0.1:7000@17000 myself,master - 0 0 3 connected 0-16384",
        "aaaa 10.0.0.1:7000@17000 myself,master - 0 0 3 connected [5-x]",
        "aaaa 1.1.1.1:1@2 myself,master - 0 0 3 connected\n" * 2,
        "aaaa 1.1.1.1:1@2 myself,handshake - 0 0 3 connected",
    ],
)
def test_what_is_no_view(text: str) -> None:
    with pytest.raises(TopologyError):
        parse_nodes(text)


def test_slots_as_bits() -> None:
    drawn = random.Random(1)
    for _ in range(50):
        slots = {drawn.randrange(16384) for _ in range(drawn.choice([0, 1, 50, 9000]))}
        bits = sum(1 << slot for slot in slots)
        runs = list(find_ranges(bits))
        assert {slot for a, b in runs for slot in range(a, b + 1)} == slots
        assert all(b + 1 < c for (_, b), (c, _) in itertools.pairwise(runs))
        assert sum(parse_range(word) for word in format_slots(bits).split()) == bits
    assert format_slots(ALL_SLOTS) == "0-16383"


THREE = [
    Told("a", 1, "0-5000"),
    Told("b", 2, "5001-10000"),
    Told("c", 3, "10001-16383"),
    Told("d", 1, master="a"),
]


def test_all_agree() -> None:
    found = merge(views(THREE))
    assert [node.id for node in found.owners()] == [A, B, C]
    assert found.covered == ALL_SLOTS
    assert found.nodes[D].master == A
    assert all(node.own for node in found.nodes.values())
    owner = found.owner(7000)
    assert owner is not None
    assert owner.id == B
    assert not find_outdated(views(THREE))


def test_the_own_word_counts_and_gossip_while_it_is_missing() -> None:
    seen = [*THREE[:3], Told("d", 1, master="b")]  # the others do not know better yet
    told = {**views(seen, "abc"), D: view("d", THREE)}
    assert merge(told).nodes[D].master == A
    del told[D]
    assert merge(told).nodes[D].master == B
    assert not merge(told).nodes[D].own


def test_a_greater_epoch_wins_over_an_own_word_that_is_old() -> None:
    after = [Told("a", 7, master="d"), *THREE[1:3], Told("d", 7, "0-5000")]
    told = views(THREE, "d")
    told.update(views(after, "ab"))
    found = merge(told)
    assert found.nodes[D].is_master
    assert found.nodes[D].slots == parse_range("0-5000")
    assert not found.nodes[D].own
    assert found.nodes[A].master == D
    assert find_outdated(told) == {D}


def test_a_replica_whose_master_got_a_greater_epoch_is_not_outdated() -> None:
    later = [Told("a", 9, "0-5000"), *THREE[1:3], Told("d", 9, master="a")]
    told = {D: view("d", THREE), A: view("a", later)}
    assert D not in find_outdated(told)


def test_each_slot_has_one_owner() -> None:
    """A master that comes back claims what it had; during a reshard two claim one slot."""
    told = {
        A: view("a", THREE),
        D: view("d", [Told("d", 7, "0-5000"), Told("a", 7, master="d"), *THREE[1:3]]),
        B: view("b", [*THREE[:1], Told("b", 8, "5001-10000 10001"), *THREE[2:]]),
        C: view("c", THREE),
    }
    found = merge(told)
    assert found.nodes[A].slots == 0
    assert found.nodes[D].slots == parse_range("0-5000")
    assert found.nodes[B].slots == parse_range("5001-10001")
    assert found.nodes[C].slots == parse_range("10002-16383")
    same = {
        A: view("a", [Told("a", 4, "0-10"), Told("b", 4, "5-15")]),
        B: view("b", [Told("a", 4, "0-10"), Told("b", 4, "5-15")]),
    }
    found = merge(same)
    assert found.nodes[A].slots == parse_range("0-10")
    assert found.nodes[B].slots == parse_range("11-15")


def test_what_was_known_is_not_forgotten_for_those_who_know_less() -> None:
    after = [Told("a", 7, master="d"), *THREE[1:3], Told("d", 7, "0-5000")]
    before = merge(views(after))
    found = merge(views(THREE, "bc"), before)  # on the other side of a partition
    assert found.nodes[D].is_master
    assert found.nodes[D].slots == parse_range("0-5000")
    assert found.nodes[A].slots == 0
    assert merge({}, before).nodes[D].slots == parse_range("0-5000")


def test_a_node_without_slots_may_follow_a_smaller_epoch() -> None:
    before = merge(views([Told("a", 9), *THREE[1:]]))
    found = merge(views([Told("a", 2, master="b", flags="fail"), *THREE[1:]], "bc"), before)
    assert found.nodes[A].master == B


def test_nodes_go_when_enough_have_forgotten_them() -> None:
    before = merge(views(THREE))
    assert D not in merge(views(THREE[:3], "ab"), before).nodes
    assert D in merge(views(THREE[:3], "a"), before).nodes  # one of three masters
    two = merge(views(THREE[:2]))
    assert B not in merge(views(THREE[:1]), two).nodes


def test_a_node_that_moved_is_the_same_one() -> None:
    before = merge(views(THREE))
    moved = [*THREE[:3], Told("d", 1, master="a", port=9999)]
    assert merge({**views(THREE, "abc"), D: view("d", moved)}, before).nodes[D].port == 9999
    told = {
        **views(moved, "ab"),
        C: view("c", [*THREE[:3], Told("d", 1, master="a", flags="fail")]),
    }
    after = merge(told, before)
    assert after.nodes[D].port == 9999  # by those who do not miss it
    assert compare(before, after).moved == [D]
    assert not after.nodes[D].failing


def test_a_node_that_does_not_know_its_address() -> None:
    alone = view("a", [Told("a", 0, host="")])
    alone.reached = ("10.1.1.1", 7000)
    assert merge({A: alone}).nodes[A].host == "10.1.1.1"
    nowhere = merge(views([*THREE[:3], Told("d", 1, master="a", host="", flags="noaddr")], "abc"))
    assert (nowhere.nodes[D].host, nowhere.nodes[D].port) == ("", 0)


def test_views_of_other_clusters() -> None:
    assert is_of_cluster(view("a", THREE), {A, B, C, D})
    assert not is_of_cluster(view("a", [Told("a")]), {A, B, C, D})
    assert not is_of_cluster(view("a", [Told("a"), Told("e"), Told("f")]), {A, B, C, D})
    assert is_of_cluster(view("a", [Told("a")]), {A})
    assert is_of_cluster(view("a", THREE), set())


def test_chains_and_loops_of_masters() -> None:
    chain = [*THREE[:3], Told("d", 1, master="e"), Told("e", 1, master="a")]
    found = merge(views(chain))
    root = found.root(found.nodes[D])
    assert root is not None
    assert root.id == A
    loop = [*THREE[1:3], Told("d", 1, master="e"), Told("e", 1, master="d")]
    found = merge(views(loop))
    assert found.root(found.nodes[D]) is None
    lost = merge(views([*THREE[1:3], Told("d", 1, master="f")]))
    assert lost.root(lost.nodes[D]) is None


def test_differences() -> None:
    before = merge(views(THREE))
    after = merge(
        views(
            [
                Told("a", 7, master="d"),
                Told("b", 2, "5001-10000"),
                Told("c", 3, "10100-16383"),
                Told("d", 7, "0-5000"),
                Told("e", 8, "10001-10099"),
            ]
        ),
        before,
    )
    found = compare(before, after)
    assert found.added == [E]
    assert found.promoted == [D]
    assert found.demoted == [A]
    assert found.gained == {D: parse_range("0-5000"), E: parse_range("10001-10099")}
    assert found.lost == {A: parse_range("0-5000"), C: parse_range("10001-10099")}
    assert not found.moved
    assert not found.removed
    assert not found.repointed
    assert found
    assert not compare(after, after)
    assert compare(Topology(), after).added == sorted(after.nodes)
    assert compare(after, before).removed == [E]
    other = merge(views([*THREE[:3], Told("d", 2, master="b")]))
    assert compare(before, other).repointed == [D]


def test_who_agrees() -> None:
    slots = parse_range("0-5000")
    told = {
        **views([*THREE[:3], Told("d", 1, master="a")], "bc"),
        A: view("a", [Told("a", 7, master="d"), *THREE[1:3], Told("d", 7, "0-5000")]),
        D: view("d", [Told("a", 7, master="d"), *THREE[1:3], Told("d", 7, "0-5000")]),
    }
    assert count_agreeing(told.values(), D, slots) == (1, 3)
    assert count_agreeing(told.values(), A, slots) == (2, 3)


def test_of_a_node_that_is_missing_what_most_say_counts() -> None:
    few = [Told("a", 4, "0-5000", flags="fail"), *THREE[1:]]
    many = [Told("a", 4, "0-4999", flags="fail"), *THREE[1:]]
    for order in ("bcd", "dcb", "cbd"):
        told = {node_id(letter): view(letter, few if letter == "b" else many) for letter in order}
        assert merge(told).nodes[A].claimed == parse_range("0-4999")
