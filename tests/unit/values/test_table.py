"""The table: a dict's behaviour, bounded work, scans that miss nothing, uniform sampling."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from node.values.collection import measure_dict
from node.values.table import LOAD, SLOT_BYTES, SPACIOUS, SPAN, SPARSE, Table, find_position
from tests.unit.values.sizes import measure


def check(table: Table[Any]) -> None:
    """Assert what must hold between any two operations."""
    assert len(table.buckets) == table.size
    assert table.count == sum(map(len, table.buckets)) == len(table)
    assert list(table.counts) == list(map(len, table.buckets))
    assert (table.mask + 1) // 2 <= table.size <= table.mask
    assert table.mask & (table.mask + 1) == 0
    assert SPARSE * (table.size - 1) <= table.count <= 2 * LOAD * table.size + LOAD
    empty = Table[int]().buckets[0]
    assert table.room == SLOT_BYTES * (table.size - 1) - measure_dict(empty.__sizeof__()) + sum(
        measure_dict(bucket.__sizeof__()) for bucket in table.buckets
    )
    for number, bucket in enumerate(table.buckets):
        for key in bucket:
            address = hash(key) & table.mask
            if address >= table.size:
                address &= table.mask >> 1
            assert address == number


def scan_all(table: Table[int], count: int) -> list[bytes]:
    """Return what a whole iteration returns."""
    keys: list[bytes] = []
    cursor = 0
    while True:
        cursor, found = table.scan(cursor, count)
        keys += found
        if cursor == 0:
            return keys


class TableModel(RuleBasedStateMachine):
    """Random operations on a table and on a dict."""

    @initialize(size=st.integers(0, 2000))
    def start(self, size: int) -> None:
        self.model = {b"%d" % i: i for i in range(size)}
        self.table: Table[int] = Table(dict(self.model))

    @rule(start=st.integers(0, 3000), count=st.integers(1, 400), value=st.integers(0, 9))
    def put(self, start: int, count: int, value: int) -> None:
        for i in range(start, start + count):
            self.table[b"%d" % i] = value
            self.model[b"%d" % i] = value

    @rule(start=st.integers(0, 3000), count=st.integers(1, 400))
    def pop(self, start: int, count: int) -> None:
        for i in range(start, start + count):
            key = b"%d" % i
            assert self.table.pop(key) == self.model.pop(key, None)
            assert self.table.pop(key, 7) == 7

    @rule(start=st.integers(0, 3000), count=st.integers(1, 400))
    def delete(self, start: int, count: int) -> None:
        for i in range(start, start + count):
            key = b"%d" % i
            if key in self.model:
                del self.model[key]
                del self.table[key]
            with pytest.raises(KeyError):
                del self.table[key]

    @rule(start=st.integers(0, 3000), value=st.integers(0, 9))
    def default(self, start: int, value: int) -> None:
        key = b"%d" % start
        assert self.table.setdefault(key, value) == self.model.setdefault(key, value)

    @rule(start=st.integers(0, 3000), count=st.integers(1, 400), value=st.integers(0, 9))
    def replace(self, start: int, count: int, value: int) -> None:
        for i in range(start, start + count):
            assert self.table.replace(b"%d" % i, value) == self.model.get(b"%d" % i)
            self.model[b"%d" % i] = value

    @rule(budget=st.integers(1, 300))
    def drain(self, budget: int) -> None:
        before = len(self.table)
        removed = self.table.drain(budget)
        assert min(before, budget) <= removed < budget + LOAD * 8
        assert len(self.table) == before - removed
        self.model = {key: value for key, value in self.model.items() if key in self.table}

    @rule(count=st.integers(1, 300), seed=st.integers(0, 9))
    def pop_random(self, count: int, seed: int) -> None:
        rng = Random(seed)
        for _ in range(min(count, len(self.model))):
            del self.model[self.table.pop_random(rng)]

    @rule()
    def clear(self) -> None:
        self.table.clear()
        self.model.clear()

    @rule()
    def copy(self) -> None:
        copy = self.table.copy()
        self.table.clear()
        check(self.table)
        self.table = copy

    @invariant()
    def same(self) -> None:
        check(self.table)
        assert dict(self.table.items()) == self.model
        assert sorted(self.table) == sorted(self.table.keys()) == sorted(self.model)
        assert sorted(self.table.values()) == sorted(self.model.values())
        for key in list(self.model)[:20]:
            assert self.table[key] == self.table.get(key) == self.model[key]
        assert self.table.get(b"absent") is None
        assert self.table.get(b"absent", 5) == 5
        assert b"absent" not in self.table

    @rule(count=st.integers(1, 3000))
    def scan(self, count: int) -> None:
        found = scan_all(self.table, count)
        assert len(found) == len(self.model)
        assert set(found) == set(self.model)


TestTableModel = TableModel.TestCase
TestTableModel.settings = settings(max_examples=25, stateful_step_count=25)


def test_one_change_touches_at_most_two_buckets() -> None:
    table: Table[int] = Table()
    for step in range(8000):
        before = {id(bucket) for bucket in table.buckets}
        size = int(table.size)
        if step < 4000:
            table[b"%d" % step] = step
        else:
            del table[b"%d" % (step - 4000)]
        assert abs(int(table.size) - size) <= 1
        assert len({id(bucket) for bucket in table.buckets} - before) <= 2
        assert max(map(len, table.buckets)) < 8 * LOAD
    assert table.size == 1
    assert len(table) == 0


@pytest.mark.parametrize("count", [1, 10, 100, 1000])
@pytest.mark.parametrize("seed", range(5))
def test_scan_returns_what_stays_whatever_comes_and_goes(seed: int, count: int) -> None:
    rng = Random(seed)
    table: Table[int] = Table()
    stable = {b"stable:%d" % i for i in range(rng.randrange(1, 2000))}
    passing = [b"passing:%d" % i for i in range(6000)]
    for key in stable:
        table[key] = 0
    present: set[bytes] = set()
    if seed % 2:
        # Start wide and shrink under the scan; otherwise start narrow and grow.
        for key in passing:
            table[key] = 0
            present.add(key)
    found: list[bytes] = []
    cursor = 0
    calls = 0
    while True:
        cursor, keys = table.scan(cursor, count)
        found += keys
        calls += 1
        if cursor == 0:
            break
        for _ in range(rng.randrange(300 * count // 10 + 10)):
            key = rng.choice(passing)
            grow = rng.random() < (0.1 if seed % 2 else 0.9)
            if grow and key not in present:
                table[key] = 0
                present.add(key)
            elif not grow and key in present:
                del table[key]
                present.discard(key)
    check(table)
    assert stable <= set(found)
    stable_found = [key for key in found if key in stable]
    assert len(stable_found) == len(stable), "a key that stays is returned once"


def test_scan_costs_about_its_count() -> None:
    table: Table[int] = Table({b"%d" % i: i for i in range(5000)})
    cursor = 0
    calls = 0
    while True:
        cursor, keys = table.scan(cursor, 10)
        calls += 1
        assert len(keys) <= 11
        if cursor == 0:
            break
        assert cursor < SPAN
    assert calls <= 5000 // 10 + 2 + table.size


@pytest.mark.parametrize("cursor", [1, SPAN - 1, SPAN, 2**64 - 1, 2**63, 12345678901234567, -1])
def test_scan_accepts_any_cursor(cursor: int) -> None:
    table: Table[int] = Table({b"%d" % i: i for i in range(1000)})
    following, keys = table.scan(cursor, 5)
    assert 0 <= following < SPAN
    assert all(find_position(key) >= cursor % SPAN for key in keys)


def test_scan_of_an_empty_table() -> None:
    assert Table[int]().scan(0, 10) == (0, [])


def test_scan_keeps_keys_of_one_position_together(monkeypatch: pytest.MonkeyPatch) -> None:
    found: Table[int] = Table({b"a": 1, b"b": 2, b"c": 3})
    order = sorted(found, key=find_position)
    assert found.scan(0, 1) == (find_position(order[1]), order[:1])
    # Let all positions be zero.
    monkeypatch.setattr("node.values.table.REVERSED", bytes(256))
    cursor, keys = found.scan(0, 1)
    assert cursor == 0
    assert sorted(keys) == [b"a", b"b", b"c"]


@pytest.mark.parametrize("size", [10, 60, 100, 400, 1000, 4000, 5500])
def test_random_keys_are_uniform(size: int) -> None:
    rng = Random(7)
    table: Table[int] = Table()
    for i in range(size):
        table[b"%d" % i] = i
    draws = 30 * size
    counts = Counter(table.random_key(rng) for _ in range(draws))
    statistic = sum((counts[key] - 30) ** 2 for key in table) / 30
    # The statistic has mean `size` and variance 2 * `size`; six deviations never happen.
    assert abs(statistic - size) < 6 * (2 * size) ** 0.5 + 10


class Crowding(bytes):
    """A key that lies in the first bucket, however many there are."""

    def __hash__(self) -> int:
        return int(self) << 40


@pytest.mark.parametrize("size", [50, 100, 140])
def test_random_key_of_a_crowded_bucket(size: int) -> None:
    rng = Random(1)
    table: Table[int] = Table()
    for i in range(size):
        table[Crowding(b"%d" % i)] = i
    assert len(table.buckets[0]) == size
    counts = Counter(table.random_key(rng) for _ in range(30 * size))
    assert len(counts) == size
    assert max(counts.values()) < 80


def test_random_key_of_an_empty_table() -> None:
    with pytest.raises(IndexError):
        Table[int]().random_key(Random(0))
    with pytest.raises(IndexError):
        Table[int]().pop_random(Random(0))


def test_popped_keys_are_uniform() -> None:
    rng = Random(8)
    counts: Counter[bytes] = Counter()
    for _ in range(3000):
        table: Table[None] = Table({b"%d" % i: None for i in range(300)})
        for _ in range(10):
            key = table.pop_random(rng)
            assert key not in table
            counts[key] += 1
        check(table)
    statistic = sum((counts[b"%d" % i] - 100) ** 2 for i in range(300)) / 100
    assert abs(statistic - 300) < 6 * (2 * 300) ** 0.5 + 10


@pytest.mark.parametrize("size", [600, 3000, 3500, 4200, 5000])
def test_dicts_of_keys_that_come_and_go_are_made_anew(size: int) -> None:
    rng = Random(size)
    there = [b"%d" % i for i in range(size)]
    table: Table[None] = Table(dict.fromkeys(there))
    for i in range(size, size + 20 * size):
        at = rng.randrange(size)
        del table[there[at]]
        there[at] = b"%d" % i
        table[there[at]] = None
    check(table)
    # The smallest dicts are left alone, and a bucket may hold less than when its dict was made.
    assert table.room < SPACIOUS * size * 1.25


@pytest.mark.parametrize("n", [0, 1, 50, 150, 299, 300, 400])
def test_samples_are_distinct_and_uniform(n: int) -> None:
    rng = Random(n)
    table: Table[int] = Table({b"%d" % i: i for i in range(300)})
    counts: Counter[bytes] = Counter()
    for _ in range(200):
        sample = table.sample(rng, n)
        assert len(sample) == len(set(sample)) == min(n, 300)
        counts.update(sample)
    mean = 200 * min(n, 300) / 300
    deviation = (200 * (n / 300) * max(1 - n / 300, 0)) ** 0.5
    assert all(abs(counts[key] - mean) <= 6 * deviation + 1 for key in table)


def test_pop_bucket_leaves_an_intact_table() -> None:
    table: Table[int] = Table({b"%d" % i: i for i in range(1000)})
    model = dict(table.items())
    while model:
        for key, value in table.pop_bucket().items():
            assert model.pop(key) == value
        assert table.count == len(model)
        assert dict(table.items()) == model
    assert table.size == 1


def test_memory_per_entry() -> None:
    keys = [b"%d" % i for i in range(60000)]
    table: Table[None] = Table()
    for count, key in enumerate(keys, 1):
        table[key] = None
        if count % 7000 == 0:
            own = measure(table) - sum(map(measure, keys[:count]))
            assert own / count < 48
