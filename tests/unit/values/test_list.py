"""The list: a list's behaviour at any size, Redis's encodings, packing, memory."""

from __future__ import annotations

from random import Random

import pytest

from node.values.chunk import PACKABLE, count_elements, pack, unpack
from node.values.collection import Limits
from node.values.list import (
    BASE_BYTES,
    CHUNK,
    CHUNK_BYTES,
    LISTS_BYTES,
    NO_CHUNKS,
    NO_COUNTS,
    OPEN,
    OPEN_BYTES,
    PACKED_BYTES,
    List,
)
from node.values.listpack import HEADER, measure_entry
from tests.unit.values.sizes import measure


def fill(values: list[bytes], limits: Limits | None = None) -> List:
    """Return a list of these elements."""
    value = List(limits or Limits())
    value.extend_right(values)
    return value


def check(value: List, model: list[bytes]) -> None:
    """Assert what must hold between any two operations."""
    assert list(value) == model
    assert len(value) == len(model)
    assert [count_elements(chunk) for chunk in value.middle] == value.counts
    assert all(value.counts)
    assert max(value.counts, default=0) <= 2 * CHUNK
    assert len(value.head) <= OPEN
    assert len(value.tail) <= OPEN
    assert not NO_CHUNKS
    assert not NO_COUNTS
    if model:
        assert value.head
        assert value.tail
    else:
        assert value.compact
    if value.head is value.tail:
        assert not value.middle
    if value.weight >= 0:
        assert value.weight == HEADER + sum(map(measure_entry, model))
    ends = len(value.head) + (0 if value.head is value.tail else len(value.tail))
    memory = BASE_BYTES + sum(map(len, model)) + ends * OPEN_BYTES
    if value.middle is not NO_CHUNKS:
        memory += LISTS_BYTES
    for chunk in value.middle:
        packed = isinstance(chunk, bytes)
        memory += CHUNK_BYTES + count_elements(chunk) * (PACKED_BYTES if packed else OPEN_BYTES)
    assert memory == value.memory


class Script:
    """Random operations on a list and on a Python list."""

    def __init__(self, seed: int, length: int, grow: int) -> None:
        self.rng = Random(seed)
        self.grow = grow
        self.values = [
            b"%d" % self.rng.randrange(10 ** self.rng.randrange(1, 12)) for _ in "x" * 60
        ]
        self.values += [b"x" * self.rng.randrange(length) for _ in "x" * 40]
        self.value = List(Limits())
        self.model: list[bytes] = []

    def step(self) -> None:
        """Do one of the operations below."""
        actions = [
            *(self.push, self.push, self.push, self.pop, self.get_and_set, self.range),
            *(self.insert, self.remove, self.trim, self.find, self.take),
        ]
        self.rng.choice(actions)()

    def push(self) -> None:
        values = self.rng.choices(self.values, k=self.rng.randrange(1, 12 * self.grow))
        if self.rng.random() < 0.5:
            self.value.extend_left(values)
            self.model[:0] = values[::-1]
        else:
            self.value.extend_right(values)
            self.model += values

    def pop(self) -> None:
        for _ in range(self.rng.randrange(min(60, len(self.model) + 1))):
            if self.rng.random() < 0.5:
                assert self.value.pop_left() == self.model.pop(0)
            else:
                assert self.value.pop_right() == self.model.pop()

    def take(self) -> None:
        n = self.rng.choice([1, 3, self.rng.randrange(1, 100)])
        if self.rng.random() < 0.5:
            assert self.value.take_left(n) == self.model[:n]
            del self.model[:n]
        else:
            assert self.value.take_right(n) == self.model[::-1][:n]
            del self.model[-n:]

    def get_and_set(self) -> None:
        total = len(self.model)
        index = self.rng.randrange(-total - 2, total + 2)
        value = self.rng.choice(self.values)
        if -total <= index < total:
            assert self.value.get(index) == self.model[index]
            assert self.value.set(index, value)
            self.model[index] = value
        else:
            assert self.value.get(index) is None
            assert not self.value.set(index, value)

    def range(self) -> None:
        start = self.rng.randrange(len(self.model) + 1)
        stop = self.rng.randrange(start, len(self.model) + 1)
        assert self.value.range(start, stop) == self.model[start:stop]

    def insert(self) -> None:
        pivot, value = self.rng.choices(self.values, k=2)
        before = self.rng.random() < 0.5
        there = pivot in self.model
        assert self.value.insert(pivot, value, before) is there
        if there:
            self.model.insert(self.model.index(pivot) + (not before), value)

    def remove(self) -> None:
        value = self.rng.choice(self.values)
        count = self.rng.randrange(-3, 4)
        limit = abs(count) or len(self.model)
        removed = 0
        if count < 0:
            self.model.reverse()
        while removed < limit and value in self.model:
            self.model.remove(value)
            removed += 1
        if count < 0:
            self.model.reverse()
        assert self.value.remove(value, count) == removed

    def trim(self) -> None:
        if self.rng.random() < 0.1:
            start = self.rng.randrange(len(self.model) + 1)
            stop = self.rng.randrange(start, len(self.model) + 1)
            self.value.trim(start, stop)
            self.model = self.model[start:stop]

    def find(self) -> None:
        value = self.rng.choice(self.values)
        rank = self.rng.choice([1, 2, -1, -2, 5])
        count = self.rng.randrange(4)
        maxlen = self.rng.choice([0, 0, 5, 200])
        indexes = list(range(len(self.model)))
        if rank < 0:
            indexes.reverse()
        found = [i for i in indexes[: maxlen or None] if self.model[i] == value][abs(rank) - 1 :]
        assert self.value.find(value, rank, count, maxlen) == found[: count or None]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("length", "grow"), [(100, 1), (100, 6), (2000, 2), (4, 8)])
def test_random_changes(length: int, grow: int, seed: int) -> None:
    script = Script(seed, length, grow)
    for step in range(900):
        script.step()
        if step % 20 == 0:
            check(script.value, script.model)
    check(script.value, script.model)
    copy = script.value.copy()
    assert copy.encoding() == script.value.encoding()
    script.value.drain(len(script.model))
    check(script.value, [])
    check(copy, script.model)
    while script.model:
        assert copy.pop_left() == script.model.pop(0)
    check(copy, [])


@pytest.mark.parametrize("left_in", [True, False])
@pytest.mark.parametrize("left_out", [True, False])
def test_a_long_way_through(left_in: bool, left_out: bool) -> None:
    value = List(Limits())
    model = [b"%d" % i for i in range(3000)]
    for element in model:
        if left_in:
            value.push_left(element)
        else:
            value.push_right(element)
    if left_in:
        model.reverse()
    check(value, model)
    assert [value.get(i) for i in range(3000)] == model
    assert [value.get(-1 - i) for i in range(3000)] == model[::-1]
    while model:
        if left_out:
            assert value.pop_left() == model.pop(0)
        else:
            assert value.pop_right() == model.pop()
    check(value, [])


def test_nothing_to_pop() -> None:
    value = List(Limits())
    with pytest.raises(IndexError):
        value.pop_left()
    with pytest.raises(IndexError):
        value.pop_right()


def test_many_removals_leave_few_chunks() -> None:
    value = fill([b"%d" % (i % 100) for i in range(20000)])
    for i in range(99):
        assert value.remove(b"%d" % i) == 200
    check(value, [b"99"] * 200)
    assert len(value.middle) <= 4


def test_chunks_of_any_bytes() -> None:
    rng = Random(1)
    for part in (
        [],
        [b""],
        [b"\x00" * 5, bytes(range(256))],
        [rng.randbytes(50) for _ in range(99)],
    ):
        chunk = pack(part)
        assert isinstance(chunk, bytes)
        assert unpack(chunk) == part
        assert count_elements(chunk) == len(part)
    large = [b"x" * 1000] * (PACKABLE // 1000 + 1)
    assert pack(large) is large
    assert unpack(large) is large
    assert count_elements(large) == len(large)


@pytest.mark.parametrize(
    ("value", "size"),
    [
        *((b"", 2), (b"a", 3), (b"0", 2), (b"127", 2), (b"128", 3), (b"-1", 3), (b"4095", 3)),
        *((b"4096", 4), (b"-4096", 3), (b"-4097", 4), (b"32767", 4), (b"32768", 5)),
        *((b"8388607", 5), (b"8388608", 6), (b"2147483648", 10), (b"-9223372036854775808", 10)),
        *((b"9223372036854775808", 21), (b"007", 5), (b"x" * 63, 65), (b"x" * 64, 67)),
        *((b"x" * 125, 128), (b"x" * 126, 130), (b"x" * 4095, 4099), (b"x" * 4096, 4103)),
        *(
            (b"x" * 16377, 16384),
            (b"x" * 16378, 16386),
        ),
    ],
)
def test_sizes_in_a_listpack(value: bytes, size: int) -> None:
    assert measure_entry(value) == size


def test_encoding_by_size() -> None:
    # A header of 7 bytes, and 12 for each element.
    value = List(Limits())
    while value.encoding() == "listpack":
        value.push_right(b"abcdefghij")
    assert 7 + 12 * (len(value) - 1) + 10 > 8192
    assert 7 + 12 * (len(value) - 2) + 10 <= 8192
    # Back below half of the limit.
    while value.encoding() == "quicklist":
        value.pop_left()
    assert 7 + 12 * len(value) <= 4096 < 7 + 12 * (len(value) + 1)
    value.extend_left([b"abcdefghij"] * 2)
    assert value.encoding() == "listpack"


def test_encoding_by_what_a_command_brings() -> None:
    value = fill([b"x" * 100] * 82)
    assert value.encoding() == "quicklist"
    value = fill([b"x" * 100] * 81)
    assert value.encoding() == "listpack"
    # What it weighs counts as a listpack, what is added by its bytes alone.
    assert value.weight == 7 + 81 * 103


@pytest.mark.parametrize(("size", "limit"), [(0, 1), (1, 1), (5, 5), (128, 128)])
def test_encoding_by_count(size: int, limit: int) -> None:
    limits = Limits()
    limits.list_max_listpack_size = size
    value = fill([b"x"] * limit, limits)
    assert value.encoding() == "listpack"
    value.push_left(b"x")
    assert value.encoding() == "quicklist"
    while len(value) > limit // 2 + 1:
        value.pop_right()
        assert value.encoding() == "quicklist"
    if limit > 1:
        value.pop_right()
        assert value.encoding() == "listpack"


def test_encoding_of_few_large_elements() -> None:
    limits = Limits()
    limits.list_max_listpack_size = 128
    assert fill([b"x" * 8000], limits).encoding() == "listpack"
    assert fill([b"x" * 8190], limits).encoding() == "quicklist"
    assert fill([b"x" * 8190]).encoding() == "quicklist"
    limits.list_max_listpack_size = -9
    assert fill([b"x" * 65000], limits).encoding() == "listpack"


def test_encoding_after_each_way_to_shrink() -> None:
    def large() -> List:
        value = fill([b"a" * 1000] * 20)
        assert value.encoding() == "quicklist"
        return value

    value = large()
    value.trim(0, 3)
    assert value.encoding() == "listpack"
    value = large()
    value.remove(b"a" * 1000, 17)
    assert value.encoding() == "listpack"
    value = large()
    for i in range(16):
        assert value.encoding() == "quicklist"
        value.set(i, b"")
    assert value.encoding() == "listpack"


def test_encoding_when_a_pivot_is_missing() -> None:
    value = fill([b"a" * 1000] * 7)
    assert not value.insert(b"missing", b"b" * 2000, True)
    assert value.encoding() == "quicklist"


@pytest.mark.parametrize("length", [0, 5, 19, 100, 600])
@pytest.mark.parametrize("size", [0, 1, 5, 100, 500, 5000, 30000])
def test_memory(size: int, length: int) -> None:
    value = fill([b"%0*d" % (length, i) for i in range(size)])
    assert value.memory == pytest.approx(measure(value, NO_CHUNKS, NO_COUNTS), rel=0.15, abs=160)


@pytest.mark.parametrize("size", [3, 300, 20000])
def test_drain(size: int) -> None:
    value = fill([b"%d" % i for i in range(size)])
    steps = 0
    memory = value.memory
    while not value.drain(1000):
        steps += 1
        assert value.memory < memory
        memory = value.memory
    assert steps >= size // 2000
    check(value, [])
