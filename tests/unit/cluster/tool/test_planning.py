"""What moves in a reshard and in a rebalance."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.tool.errors import Refused
from cluster.tool.planning import (
    Move,
    apportion,
    cut_groups,
    exceeds,
    gather,
    plan_rebalance,
    plan_reshard,
    plan_slots,
    remaining,
    share_out,
)

COUNT = 60


@st.composite
def ownership(draw: st.DrawFn) -> dict[str, set[int]]:
    """A few hundred slots in two to six masters, some of which may have none."""
    masters = draw(st.integers(2, 6))
    slots: dict[str, set[int]] = {f"m{n}": set() for n in range(masters)}
    seed = draw(st.randoms(use_true_random=False))
    for slot in range(COUNT):
        slots[f"m{int(masters * seed.random() ** 2)}"].add(slot)
    return slots


def apply(slots: dict[str, set[int]], moves: list[Move]) -> dict[str, set[int]]:
    """Who has what afterwards; each move must be possible."""
    after = {node_id: set(held) for node_id, held in slots.items()}
    for move in moves:
        assert move.source != move.target
        after[move.source].remove(move.slot)
        after[move.target].add(move.slot)
    assert sorted(slot for held in after.values() for slot in held) == list(range(COUNT))
    return after


@given(st.dictionaries(st.text(max_size=3), st.floats(0, 100), min_size=1), st.integers(0, 500))
def test_shares_add_up(parts: dict[str, float], total: int) -> None:
    shares = apportion(total, parts)
    whole = sum(parts.values())
    if whole <= 0:
        assert set(shares.values()) == {0}
        return
    assert sum(shares.values()) == total
    assert all(
        abs(shares[node_id] - total * part / whole) < 1 + 1e-6 for node_id, part in parts.items()
    )


@given(ownership(), st.data())
def test_a_reshard_takes_from_all_in_proportion(
    slots: dict[str, set[int]], data: st.DataObject
) -> None:
    target = data.draw(st.sampled_from(sorted(slots)))
    sources = [node_id for node_id in slots if node_id != target]
    available = sum(len(slots[node_id]) for node_id in sources)
    count = data.draw(st.integers(0, available))
    moves = plan_reshard(slots, sources, target, count)
    after = apply(slots, moves)
    assert len(moves) == len(after[target]) - len(slots[target]) == count
    for node_id in sources:
        taken = len(slots[node_id]) - len(after[node_id])
        assert abs(taken - count * len(slots[node_id]) / max(available, 1)) < 1 + 1e-6
    with pytest.raises(Refused, match=f"sources have {available}"):
        plan_reshard(slots, sources, target, available + 1)
    with pytest.raises(Refused, match="target"):
        plan_reshard(slots, [*sources, target], target, 1)


@given(ownership(), st.data())
def test_a_rebalance_gives_each_its_share(slots: dict[str, set[int]], data: st.DataObject) -> None:
    weights = data.draw(
        st.dictionaries(st.sampled_from(sorted(slots)), st.sampled_from([0.0, 0.5, 1.0, 3.0]))
    )
    if not any(weights.get(node_id, 1.0) for node_id in slots):
        return
    shares = share_out(slots, weights, use_empty=True)
    moves = plan_rebalance(slots, shares)
    after = apply(slots, moves)
    assert {share.id: share.expected for share in shares} == {
        node_id: len(held) for node_id, held in after.items()
    }
    assert len({move.slot for move in moves}) == len(moves)
    # Done once, nothing is left to do.
    again = share_out(after, weights, use_empty=True)
    assert not exceeds(again, 2.0)
    assert not plan_rebalance(after, again)


def test_a_rebalance_that_is_right_already_moves_nothing() -> None:
    slots = {"a": set(range(34)), "b": set(range(34, 67)), "c": set(range(67, 100))}
    for names in ("abc", "cab", "bca"):
        renamed = dict(zip(names, slots.values(), strict=True))
        assert plan_rebalance(renamed, share_out(renamed, {}, False)) == []


def test_masters_without_slots_are_left_alone() -> None:
    slots = {"a": set(range(80)), "b": set(range(80, 100)), "c": set[int]()}
    assert [share.id for share in share_out(slots, {}, False)] == ["a", "b"]
    assert [share.expected for share in share_out(slots, {}, True)] == [34, 33, 33]
    with pytest.raises(Refused, match="use-empty-masters"):
        share_out(slots, {"c": 1.0}, False)
    with pytest.raises(Refused, match="No master"):
        share_out(slots, {"a": 0.0, "b": 0.0}, False)


def test_the_threshold() -> None:
    slots = {"a": set(range(51)), "b": set(range(51, 100))}
    assert not exceeds(share_out(slots, {}, False), 5.0)
    assert exceeds(share_out(slots, {}, False), 1.0)


def test_slots_by_name() -> None:
    slots = {"a": {0, 1, 2}, "b": {3}}
    assert plan_slots(slots, [1, 3], "b") == [Move(1, "a", "b")]
    with pytest.raises(Refused, match="Slot 9"):
        plan_slots(slots, [9], "b")


def test_what_is_left_of_a_plan() -> None:
    moves = [Move(1, "a", "c"), Move(2, "a", "c"), Move(3, "b", "c")]
    # One has moved, and a's replica has become master of the other.
    assert remaining(moves, {1: "c", 2: "r", 3: "b"}) == [Move(2, "r", "c"), Move(3, "b", "c")]
    assert gather(moves) == {("a", "c"): [1, 2], ("b", "c"): [3]}


@given(st.dictionaries(st.integers(0, 99), st.integers(0, 50)))
def test_groups_are_bounded(keys: dict[int, int]) -> None:
    slots = list(range(100))
    groups = cut_groups(slots, keys, 8, 60)
    assert [slot for group in groups for slot in group] == slots
    for group in groups:
        assert 1 <= len(group) <= 8
        assert len(group) == 1 or sum(keys.get(slot, 0) for slot in group) <= 60
