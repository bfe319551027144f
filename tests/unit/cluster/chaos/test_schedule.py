"""The schedule of faults: a function of the seed and of the cluster's size."""

from __future__ import annotations

from itertools import pairwise

import pytest

from cluster.chaos.schedule import (
    FULL,
    KILL,
    KINDS,
    MASTER,
    REPLICA,
    SENTINEL,
    Fault,
    Topology,
    draw_schedule,
    list_schedule,
)

SIZE = Topology(shards=3, replicas=2, sentinels=3)
SEEDS = range(20)


def test_a_seed_draws_the_same_again_and_another_one_does_not() -> None:
    drawn = [draw_schedule(seed, SIZE, KINDS, seconds=300) for seed in SEEDS]
    assert drawn == [draw_schedule(seed, SIZE, KINDS, seconds=300) for seed in SEEDS]
    assert len({str(faults) for faults in drawn}) == len(SEEDS)
    # Neither does the order in which kinds are named matter.
    assert drawn[3] == draw_schedule(3, SIZE, tuple(reversed(KINDS)), seconds=300)
    assert drawn[3] != draw_schedule(3, Topology(4, 1, 3), KINDS, seconds=300)


@pytest.mark.parametrize("seed", SEEDS)
def test_lengths_and_pauses_are_those_that_were_asked_for(seed: int) -> None:
    faults = draw_schedule(seed, SIZE, [KILL], seconds=200, pause=2.0, length=(1.0, 4.0))
    assert len(faults) > 200 / (4 + 4) - 1
    assert [fault.number for fault in faults] == list(range(1, len(faults) + 1))
    assert faults[0].start >= 2.0
    assert faults[-1].start + faults[-1].length <= 200
    assert all(1.0 <= fault.length <= 4.0 for fault in faults)
    for before, after in pairwise(faults):
        # Times are rounded to a tenth.
        assert 1.9 <= after.start - before.start - before.length <= 4.1


def test_as_many_as_were_asked_for() -> None:
    assert len(draw_schedule(5, SIZE, KINDS, seconds=1, most=40)) == 40
    assert draw_schedule(5, SIZE, [], seconds=100) == []


def test_everybody_is_hit_and_no_majority_of_the_sentinels_at_once() -> None:
    faults = [fault for seed in SEEDS for fault in draw_schedule(seed, SIZE, KINDS, seconds=300)]
    places = {place for fault in faults for place in fault.places}
    assert {(p.shard, p.number) for p in places if p.role == MASTER} == {(n, 0) for n in range(3)}
    assert len({(p.shard, p.number) for p in places if p.role == REPLICA}) == 6
    assert {p.number for p in places if p.role == SENTINEL} == {0, 1, 2}
    pairs = [fault.places for fault in faults if len(fault.places) == 2]
    assert 0.05 < len(pairs) / len(faults) < 0.3
    assert all(one != other for one, other in pairs)
    assert all([p.role for p in pair].count(SENTINEL) < 2 for pair in pairs)
    assert {fault.kind for fault in faults} == set(KINDS)


def test_disks_are_those_of_nodes() -> None:
    faults = draw_schedule(1, SIZE, [FULL], most=200)
    assert all(place.role != SENTINEL for fault in faults for place in fault.places)


def test_a_cluster_of_masters_alone() -> None:
    faults = draw_schedule(1, Topology(3, 0, 0), [KILL], most=50)
    assert {place.role for fault in faults for place in fault.places} == {MASTER}


def test_it_is_listed() -> None:
    faults: list[Fault] = draw_schedule(7, Topology(3, 1, 3), ["kill", "stop"], seconds=20)
    lines = list_schedule(faults)
    assert len(lines) == len(faults)
    assert lines[0].split()[:2] == [f"{faults[0].start}", "s"]
    assert f"1. {faults[0].kind} {faults[0].places[0]}" in lines[0]
