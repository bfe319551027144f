"""The sorted set: order, ranks and ranges at any size, encodings, removals, memory."""

from __future__ import annotations

from collections import Counter
from math import copysign, inf
from random import Random

import pytest

from node.values.collection import Limits
from node.values.ranking import LongRanking
from node.values.sorted_set import BASE_BYTES, Bound, SortedSet
from tests.unit.values.sizes import measure

SIZES = [8, 300, 4000]


def fill(count: int, limits: Limits | None = None) -> SortedSet:
    """Return a sorted set of so many members, many of them with equal scores."""
    value = SortedSet(limits or Limits())
    for i in range(count):
        value.add(b"m%d" % (i * 7919 % count), float(i % 50))
    return value


def check_memory(value: SortedSet) -> None:
    """Assert that the account has what is there.

    What the members that are gone have left free in lists and arrays may be missing.
    """
    assert value.memory == pytest.approx(measure(value), rel=0.06, abs=4096)


def check(value: SortedSet, model: dict[bytes, float]) -> None:
    """Assert that both structures of a sorted set hold what a dict holds."""
    assert len(value) == len(model)
    assert dict(value.items()) == model
    entries = list(value)
    assert entries == sorted((score, member) for member, score in model.items())
    check_memory(value)
    held = {member: member for member, _ in value.items()}
    assert all(held[member] is member for _, member in entries), "one object serves both"
    ranking = value.ranking
    assert len(ranking) == len(model)
    if isinstance(ranking, LongRanking):
        order = ranking.order
        order._check()
        assert ranking.parts is order._lists
        assert ranking.keys is order._keys
        assert ranking.maxes is order._maxes
        assert ranking.index is order._index


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("names", SIZES)
def test_random_changes(names: int, seed: int) -> None:
    rng = Random(seed)
    value = SortedSet(Limits())
    model: dict[bytes, float] = {}
    for step in range(8000):
        member = b"%d" % rng.randrange(names)
        action = rng.random()
        if action < (0.7 if step < 6000 else 0.2):
            old = model.get(member)
            if old is not None and rng.random() < 0.5:
                score = old + rng.choice([-1e-3, 1e-3, 0.0])
            else:
                score = rng.choice([float(rng.randrange(-9, 9)), rng.uniform(-9, 9), inf, -inf])
            assert value.add(member, score) is (old is None)
            model[member] = score
        elif action < 0.98:
            assert value.remove(member) is (model.pop(member, None) is not None)
        elif action < 0.985:
            count = rng.randrange(1, 5)
            popped = value.pop_min(count)
            assert popped == sorted((score, name) for name, score in model.items())[:count]
            for _, name in popped:
                del model[name]
        elif action < 0.99:
            count = rng.randrange(1, 5)
            popped = value.pop_max(count)
            expected = sorted(((score, name) for name, score in model.items()), reverse=True)
            assert popped == expected[:count]
            for _, name in popped:
                del model[name]
        assert value.score(member) == model.get(member)
        assert (member in value) is (member in model)
    check(value, model)
    rebuilt = SortedSet.from_items(Limits(), model.items())
    check(rebuilt, model)
    for member in list(model):
        value.remove(member)
    check(value, {})
    value.add(b"again", 1.0)
    check(value, {b"again": 1.0})


@pytest.mark.parametrize("scores", [[1.0], [0.0, -0.0], [-inf, 1.0, inf]])
def test_changes_of_many_equal_scores(scores: list[float]) -> None:
    rng = Random(len(scores))
    value = SortedSet(Limits())
    model: dict[bytes, float] = {}
    for step in range(9000):
        member = b"%d" % rng.randrange(5000)
        if rng.random() < (0.9 if step < 5000 else 0.4):
            score = rng.choice(scores) * 1.0  # an object of its own, as it comes from a client
            assert value.add(member, score) is (member not in model)
            model[member] = score
        else:
            assert value.remove(member) is (model.pop(member, None) is not None)
        if step % 50 == 0:
            below = sum((score, name) < (1.0, member) for name, score in model.items())
            assert value.ranking.rank(1.0, member) == below
    check(value, model)
    check(value.copy(), model)


@pytest.mark.parametrize("names", SIZES)
def test_ranks_and_ranges(names: int) -> None:
    rng = Random(names)
    value = fill(names)
    entries = list(value)
    total = len(entries)
    for rank in range(0, total, max(1, total // 50)):
        member = entries[rank][1]
        assert value.rank(member) == rank
        assert value.rank(member, reverse=True) == total - 1 - rank
    assert value.rank(b"absent") is None
    for _ in range(100):
        start = rng.randrange(-3, total + 3)
        stop = rng.randrange(-3, total + 3)
        expected = entries[max(start, 0) : max(stop, 0)]
        assert value.range(start, stop) == expected
        assert value.range(start, stop, reverse=True) == expected[::-1]


@pytest.mark.parametrize("names", SIZES)
def test_ranges_of_scores(names: int) -> None:
    rng = Random(names)
    value = fill(names)
    for i, score in enumerate((inf, -inf, 0.0, -0.0, 5e-324, -5e-324, 1e308)):
        value.add(b"special:%d" % i, score)
    entries = list(value)
    ends = [-inf, inf, 0.0, -0.0, 5e-324, 3.0, 3.5, 25.0, 49.0, 50.0, 1e308, -1.0]
    for _ in range(400):
        low, high = rng.choice(ends), rng.choice(ends)
        low_open, high_open = rng.random() < 0.5, rng.random() < 0.5
        expected = [
            entry
            for entry in entries
            if (entry[0] > low if low_open else entry[0] >= low)
            and (entry[0] < high if high_open else entry[0] <= high)
        ]
        start, stop = value.span_scores(low, high, low_open, high_open)
        assert stop - start == len(expected)
        assert value.range(start, stop) == expected


@pytest.mark.parametrize("names", SIZES)
def test_ranges_of_members(names: int) -> None:
    rng = Random(names)
    value = SortedSet(Limits())
    for i in range(names):
        value.add(b"%d" % i, 2.5)
    members = [member for _, member in value]
    ends: list[Bound] = [None]
    for text in (b"", b"1", b"10", b"2", b"25", b"3999", b"9", b":", b"\xff"):
        ends += [(text, False), (text, True)]
    for _ in range(400):
        low, high = rng.choice(ends), rng.choice(ends)
        expected = [
            member
            for member in members
            if (low is None or (member > low[0] if low[1] else member >= low[0]))
            and (high is None or (member < high[0] if high[1] else member <= high[0]))
        ]
        start, stop = value.span_members(low, high)
        assert [member for _, member in value.range(start, stop)] == expected
    assert SortedSet(Limits()).span_members(None, None) == (0, 0)


@pytest.mark.parametrize("names", SIZES)
def test_deleting_ranges(names: int) -> None:
    rng = Random(names)
    for _ in range(10):
        value = fill(names)
        model = dict(value.items())
        while model:
            total = len(model)
            start = rng.randrange(total)
            stop = min(total, start + rng.choice([0, 1, 2, 30, total // 2 + 1, total]))
            expected = list(value)[start:stop]
            if rng.random() < 0.5:
                value.rank(expected[0][1] if expected else b"")
            assert value.delete(start, stop) == expected
            for _, member in expected:
                del model[member]
            check(value, model)


def test_no_number_is_no_score() -> None:
    with pytest.raises(AssertionError):
        fill(3).add(b"m", float("nan"))


@pytest.mark.parametrize(
    ("members", "encoding"),
    [
        ([b"%d" % i for i in range(128)], "listpack"),
        ([b"%d" % i for i in range(129)], "skiplist"),
        ([b"x" * 64], "listpack"),
        ([b"x" * 65], "skiplist"),
    ],
)
def test_encodings(members: list[bytes], encoding: str) -> None:
    value = SortedSet(Limits())
    for member in members:
        value.add(member, 1.0)
    assert value.encoding() == encoding
    assert SortedSet.from_items(Limits(), value.items()).encoding() == encoding
    for member in members[1:]:
        value.remove(member)
    assert value.encoding() == encoding


def test_encoding_by_what_a_command_brings() -> None:
    assert SortedSet(Limits(), b"x" * 64, 128).encoding() == "listpack"
    assert SortedSet(Limits(), b"x" * 65, 128).encoding() == "skiplist"
    assert SortedSet(Limits(), b"x", 129).encoding() == "skiplist"
    value = fill(2)
    value.expect(128)
    assert value.encoding() == "listpack"
    value.expect(129)
    assert value.encoding() == "skiplist"


def test_the_sign_of_zero() -> None:
    def sign(value: SortedSet, member: bytes) -> float:
        score = value.score(member)
        assert score is not None
        assert value.range(*value.span_scores(0.0, 0.0))[0][0] == 0
        return copysign(1, score)

    value = SortedSet(Limits())
    value.add(b"m", -0.0)
    assert sign(value, b"m") == 1
    value.add(b"m", 5.0)
    value.add(b"m", -0.0)
    assert sign(value, b"m") == 1
    value.add(b"x" * 65, -0.0)
    assert sign(value, b"x" * 65) == -1
    assert sign(SortedSet.from_items(Limits(), [(b"m", -0.0)]), b"m") == 1
    assert sign(SortedSet.from_items(Limits(), [(b"x" * 65, -0.0)]), b"x" * 65) == -1


@pytest.mark.parametrize("size", SIZES)
def test_random_members_and_scan(size: int) -> None:
    rng = Random(3)
    value = fill(size)
    counts = Counter(value.random_member(rng) for _ in range(20 * size))
    counts.update(value.random_members(rng, 20 * size))
    members = [member for member, _ in value.items()]
    statistic = sum((counts[member] - 40) ** 2 for member in members) / 40
    assert abs(statistic - size) < 6 * (2 * size) ** 0.5 + 10
    sample = value.sample_members(rng, size // 2)
    assert len(set(sample)) == size // 2
    cursor, found = value.scan(0, 9)
    while cursor:
        cursor, more = value.scan(cursor, 9)
        found += more
    assert sorted(found) == sorted(members)


def test_compact_sorted_sets_are_scanned_in_order() -> None:
    value = fill(20)
    assert value.scan(5, 1) == (0, [member for _, member in value])


@pytest.mark.parametrize("size", [3, 100, 6000])
def test_copy_and_drain(size: int) -> None:
    value = fill(size)
    copy = value.copy()
    model = dict(value.items())
    assert copy.encoding() == value.encoding()
    steps = 0
    while not value.drain(100):
        steps += 1
        assert len(value.ranking) == len(value)
    assert steps >= size // 600
    assert value.memory == BASE_BYTES
    assert len(value.ranking) == 0
    check(copy, model)
    copy.add(b"m1", 77.0)
    check(copy, {**model, b"m1": 77.0})


def test_pop_beyond_the_end() -> None:
    value = fill(3)
    entries = list(value)
    assert value.pop_max(10) == entries[::-1]
    assert value.pop_min(10) == []


@pytest.mark.parametrize("prefix", [b"", b"x" * 100])
@pytest.mark.parametrize("size", [0, 1, 5, 100, 500, 5000, 30000])
def test_memory(size: int, prefix: bytes) -> None:
    value = SortedSet(Limits())
    rng = Random(1)
    for i in range(size):
        value.add(prefix + b"%019d" % i, rng.random())
    assert value.memory == pytest.approx(measure(value), rel=0.03, abs=128)
    again = SortedSet.from_items(Limits(), value.items())
    assert again.memory == pytest.approx(measure(again), rel=0.03, abs=128)
