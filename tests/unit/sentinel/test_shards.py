"""The names of shards: they stay, and all sentinels come to the same ones."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from sentinel.shards import Registry
from sentinel.topology import Topology, merge
from tests.unit.sentinel.clusters import Told, node_id, views

A, B, C, D, E, F = (node_id(letter) for letter in "abcdef")
FIRST = [
    Told("a", 1, "0-8000"),
    Told("b", 2, "8001-16383"),
    Told("c", 1, master="a"),
    Told("d", 2, master="b"),
]


def name(letter: str) -> str:
    return f"shop/{node_id(letter)[:12]}"


def follow(
    registry: Registry,
    told: Sequence[Told],
    before: Topology | None = None,
    speakers: str = "",
    ids: dict[str, str] | None = None,
) -> Topology:
    """Let the registry see a cluster; the nodes have no shard ids unless they are given."""
    topology = merge(views(told, speakers), before)
    found = dict.fromkeys(topology.nodes, "") if ids is None else ids
    registry.update(topology, found)
    return topology


def leaders(registry: Registry) -> dict[str, str]:
    return {shard.name: shard.master for shard in registry.shards.values()}


def test_names_from_shard_ids() -> None:
    registry = Registry("shop")
    ids = {D: "f1" * 20, C: "01" * 20}
    follow(registry, FIRST, ids=ids)
    assert leaders(registry) == {"shop/" + "f1" * 6: B, "shop/" + "01" * 6: A}


def test_names_from_node_ids() -> None:
    registry = Registry("shop")
    follow(registry, FIRST)
    assert leaders(registry) == {name("a"): A, name("b"): B}
    assert registry.shards[name("a")].members == {A, C}
    other = Registry("shop")
    follow(
        other,
        [Told("a", 3, master="c"), FIRST[1], Told("c", 3, "0-8000"), FIRST[3]],
    )
    assert leaders(other) == {name("a"): C, name("b"): B}  # after a failover, the same


def test_no_name_before_anybody_was_asked() -> None:
    registry = Registry("shop")
    topology = follow(registry, FIRST, ids={D: ""})
    assert leaders(registry) == {name("b"): B}
    assert registry.unnamed == [A]
    changes = registry.update(topology, {D: "", C: ""})
    assert [shard.name for shard in changes.added] == [name("a")]
    assert not registry.unnamed


def test_a_name_outlives_failovers_and_all_first_nodes() -> None:
    registry = Registry("shop")
    known = follow(registry, FIRST)
    failed = [Told("a", 1, flags="fail"), FIRST[1], Told("c", 3, "0-8000"), FIRST[3]]
    known = follow(registry, failed, known, "bcd")
    assert leaders(registry) == {name("a"): C, name("b"): B}
    shard = registry.shards[name("a")]
    assert shard.members == {A, C}  # the old master is expected back
    assert (shard.epoch, shard.slots) == (3, (1 << 8001) - 1)
    back = [Told("a", 3, master="c"), *failed[1:]]
    known = follow(registry, back, known)
    assert shard.members == {A, C}
    gone = [*failed[1:], Told("e", 3, master="c")]
    known = follow(registry, gone, known)
    assert shard.members == {C, E}
    known = follow(registry, [FIRST[1], FIRST[3], Told("e", 9, "0-8000")], known)
    assert leaders(registry) == {name("a"): E, name("b"): B}


def test_an_old_master_that_claims_its_slots_stays_a_member() -> None:
    registry = Registry("shop")
    known = follow(registry, FIRST)
    failed = [Told("a", 1, flags="fail"), FIRST[1], Told("c", 3, "0-8000"), FIRST[3]]
    known = follow(registry, failed, known, "bcd")
    both = {**views(failed, "bcd"), **views(FIRST, "a")}
    registry.update(merge(both, known), {})
    assert registry.shards[name("a")].master == C
    assert registry.shards[name("a")].members == {A, C}


def test_shards_come_and_go() -> None:
    registry = Registry("shop")
    known = follow(registry, FIRST)
    empty = [*FIRST, Told("e", 0), Told("f", 0, master="e")]
    known = follow(registry, empty, known)
    assert len(registry.shards) == 2  # nobody guards masters without slots
    assert registry.of(E) is None
    assert registry.of(F) is None
    third = [Told("a", 1, "0-7000"), *FIRST[1:], Told("e", 4, "7001-8000"), empty[5]]
    known = follow(registry, third, known)
    assert leaders(registry) == {name("a"): A, name("b"): B, name("e"): E}
    assert registry.shards[name("e")].members == {E, F}
    # A reshard that empties a shard, whose nodes go over to the one that got the slots.
    merged = [
        Told("a", 5, master="e"),
        *FIRST[1:2],
        Told("c", 5, master="e"),
        FIRST[3],
        Told("e", 5, "0-8000"),
        empty[5],
    ]
    known = follow(registry, merged, known)
    assert leaders(registry) == {name("b"): B, name("e"): E}
    assert registry.shards[name("e")].members == {A, C, E, F}
    # ... or stay, empty.
    alone = [Told("b", 2), *FIRST[3:], Told("e", 6, "0-16383"), empty[5]]
    follow(registry, alone, known)
    assert leaders(registry) == {name("e"): E}


def test_replicas_go_over_to_another_shard() -> None:
    registry = Registry("shop")
    known = follow(registry, FIRST)
    follow(registry, [*FIRST[:2], Told("c", 2, master="b"), FIRST[3]], known)
    assert registry.shards[name("a")].members == {A}
    assert registry.shards[name("b")].members == {B, C, D}


def test_a_shard_without_a_master_for_a_moment_stays() -> None:
    registry = Registry("shop")
    known = follow(registry, FIRST)
    unclear = [Told("a", 1, master="c"), *FIRST[1:]]  # both say that the other one is master
    known = follow(registry, unclear, known)
    assert leaders(registry) == {name("a"): A, name("b"): B}
    follow(registry, FIRST, known)
    assert leaders(registry) == {name("a"): A, name("b"): B}


def test_a_shard_that_is_split() -> None:
    registry = Registry("shop")
    known = follow(registry, FIRST)
    # The old master has got a slot in the very moment in which it was replaced.
    split = [
        Told("a", 4, "8001", flags="fail"),
        Told("b", 2, "8002-16383"),
        Told("c", 5, "0-8000"),
        FIRST[3],
    ]
    follow(registry, split, known, "bcd")
    assert leaders(registry)[name("a")] == C
    assert set(leaders(registry).values()) == {A, B, C}


def test_it_knows_its_shards_again() -> None:
    registry = Registry("shop")
    registry.restore("shop/0123456789ab", A, [C])
    registry.restore("shop/ba9876543210", B, [])
    failed = [Told("a", 1, flags="fail"), FIRST[1], Told("c", 3, "0-8000"), FIRST[3]]
    follow(registry, failed, speakers="bcd")
    assert leaders(registry) == {"shop/0123456789ab": C, "shop/ba9876543210": B}
    # Shards whose slots are others' by now, while this sentinel was away, are over.
    registry.restore("shop/0123456789ab", A, [C])
    registry.restore("shop/ba9876543210", D, [])
    follow(registry, [Told("a", 1, "0-16383"), *FIRST[2:3], Told("d", 2, flags="fail")], None, "ac")
    assert leaders(registry) == {"shop/0123456789ab": A}


def test_of_two_names_the_smaller_one_stays() -> None:
    first, second = Registry("shop"), Registry("shop")
    follow(first, FIRST)
    follow(second, [FIRST[1], Told("c", 3, "0-8000"), FIRST[3]])
    known = [Told("a", 3, master="c"), FIRST[1], Told("c", 3, "0-8000"), FIRST[3]]
    follow(first, known)
    follow(second, known)
    assert leaders(second) == {name("c"): C, name("b"): B}
    assert not first.hear(name("c"), C, {})
    assert not first.hear("other/0", C, {})
    assert not first.hear(name("0"), F, {})
    changes = second.hear(name("a"), C, {})
    assert [(old, shard.name) for old, shard in changes.renamed] == [(name("c"), name("a"))]
    assert leaders(second) == leaders(first)


@pytest.mark.parametrize("seed", range(200))
def test_all_come_to_the_same_names(seed: int) -> None:
    """Whatever they called the shards, and in whatever order they hear of each other."""
    drawn = random.Random(seed)
    masters = "abcdef"[: drawn.randrange(2, 7)]
    share = 16384 // len(masters)
    told = [Told(m, n, f"{n * share}-{n * share + share - 1}") for n, m in enumerate(masters)]
    told += [Told(chr(ord("g") + n), 1, master=drawn.choice(masters)) for n in range(6)]
    topology = merge(views(told))
    registries = []
    for _ in range(3):
        registry = Registry("shop")
        names = drawn.sample("abcdefghijkl", len(masters))
        for master, letter in zip(masters, names, strict=True):
            if drawn.random() < 0.8:
                registry.restore(name(letter), node_id(master), [])
        registry.update(topology, dict.fromkeys(topology.nodes, ""))
        registries.append(registry)
    for _ in range(40):
        said = [pair for registry in registries for pair in leaders(registry).items()]
        drawn.shuffle(said)
        for heard, master in said:
            drawn.choice(registries).hear(heard, master, {})
        for heard, master in said:
            for registry in registries:
                registry.hear(heard, master, {})
        if all(leaders(other) == leaders(registries[0]) for other in registries):
            break
    else:
        pytest.fail(repr([leaders(registry) for registry in registries]))
    assert len(leaders(registries[0])) == len(masters)
