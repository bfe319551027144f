"""The hash: a dict's behaviour at any size, Redis's encodings, scans, sampling, memory."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from node.values.collection import Limits
from node.values.elements import SCANNABLE
from node.values.hash import BASE_BYTES, Hash
from node.values.table import Table
from tests.unit.values.sizes import measure


def fill(count: int, limits: Limits | None = None) -> Hash:
    """Return a hash of so many fields."""
    value = Hash(limits or Limits())
    for i in range(count):
        value.set(b"field:%d" % i, b"value:%d" % i)
    return value


def scan_all(value: Hash, count: int) -> list[bytes]:
    """Return what a whole iteration returns."""
    cursor, fields = value.scan(0, count)
    while cursor:
        cursor, more = value.scan(cursor, count)
        fields += more
    return fields


def check_memory(value: Hash) -> None:
    """Assert that the account has what is there, whatever has been there before."""
    # A table that was large and is empty has a list, and counts, of its own.
    assert value.memory == pytest.approx(measure(value), rel=0.02, abs=128)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("names", [20, 300, 3000])
def test_random_changes(names: int, seed: int) -> None:
    rng = Random(seed)
    value = Hash(Limits())
    model: dict[bytes, bytes] = {}
    for step in range(6000):
        field = b"%d" % rng.randrange(names)
        if rng.random() < (0.7 if step < 4000 else 0.2):
            content = b"x" * rng.randrange(2, 40)
            assert value.set(field, content) is (field not in model)
            model[field] = content
        else:
            assert value.delete(field) is (model.pop(field, None) is not None)
        assert len(value) == len(model)
        if step % 500 == 0:
            check_memory(value)
    check_memory(value)
    assert dict(value.items()) == model
    assert sorted(value) == sorted(value.keys()) == sorted(model)
    assert sorted(value.values()) == sorted(model.values())
    for i in range(names):
        field = b"%d" % i
        assert value.get(field) == model.get(field)
        assert (field in value) is (field in model)
    fields = scan_all(value, 7)
    assert sorted(fields) == sorted(model)
    for field in list(model):
        value.delete(field)
    check_memory(value)


def test_encoding_changes_once() -> None:
    value = fill(512)
    assert value.encoding() == "listpack"
    value.set(b"field:0", b"x" * 64)
    assert value.encoding() == "listpack"
    value.set(b"one more", b"")
    assert value.encoding() == "hashtable"
    value.delete(b"one more")
    assert value.encoding() == "hashtable"
    for field, content in ((b"x" * 65, b""), (b"", b"x" * 65)):
        value = fill(1)
        value.set(field, content)
        assert value.encoding() == "hashtable"


def test_encoding_may_be_chosen_beforehand() -> None:
    limits = Limits()
    limits.hash_max_listpack_entries = 3
    value = fill(2, limits)
    value.expect(3)
    assert value.encoding() == "listpack"
    value.expect(4)
    assert value.encoding() == "hashtable"
    value.expect(1)
    assert value.encoding() == "hashtable"


def test_limits_are_shared() -> None:
    limits = Limits()
    value = fill(5, limits)
    limits.hash_max_listpack_entries = 3
    assert value.encoding() == "listpack"
    value.set(b"field:0", b"again")
    assert value.encoding() == "hashtable"


def test_compact_hashes_are_scanned_whole() -> None:
    value = fill(100)
    assert value.scan(0, 1) == (0, list(value))
    assert value.scan(77, 1) == (0, list(value))


@pytest.mark.parametrize("size", [1, 5, SCANNABLE, SCANNABLE + 1, 500, 2000])
def test_scan(size: int) -> None:
    limits = Limits()
    limits.hash_max_listpack_entries = 0
    value = fill(size, limits)
    for count in (1, 10, 10**9):
        fields = scan_all(value, count)
        assert len(fields) == size
        assert set(fields) == set(value)


def test_scan_goes_on_while_the_hash_grows_and_shrinks() -> None:
    limits = Limits()
    limits.hash_max_listpack_entries = 0
    value = fill(60, limits)
    stable = set(value)
    cursor, found = value.scan(0, 10)
    for i in range(1000):
        value.set(b"new:%d" % i, b"")
    cursor, more = value.scan(cursor, 300)
    found += more
    for i in range(1000):
        value.delete(b"new:%d" % i)
    while cursor:
        cursor, more = value.scan(cursor, 10)
        found += more
    assert sorted(field for field in found if field in stable) == sorted(stable)


@pytest.mark.parametrize("size", [10, 500, 2000])
def test_random_fields(size: int) -> None:
    rng = Random(3)
    value = fill(size)
    counts = Counter(value.random_field(rng) for _ in range(20 * size))
    counts.update(value.random_fields(rng, 20 * size))
    statistic = sum((counts[field] - 40) ** 2 for field in value) / 40
    assert abs(statistic - size) < 6 * (2 * size) ** 0.5 + 10
    for n in (1, 3, size // 2, size - 1, size, size + 5):
        sample = value.sample_fields(rng, n)
        assert len(sample) == len(set(sample)) == min(n, size)
        assert all(field in value for field in sample)


def test_nothing_random_in_an_empty_hash() -> None:
    value = Hash(Limits())
    with pytest.raises(IndexError):
        value.random_field(Random(0))
    with pytest.raises(IndexError):
        value.random_fields(Random(0), 3)
    assert value.sample_fields(Random(0), 3) == []


@pytest.mark.parametrize("size", [3, 100, 2000])
def test_copy_and_drain(size: int) -> None:
    value = fill(size)
    value.accounted = 17
    copy = value.copy()
    assert copy.encoding() == value.encoding()
    assert copy.memory == value.memory
    assert copy.accounted == 0
    steps = 0
    memory = value.memory
    while not value.drain(100):
        steps += 1
        assert value.memory < memory
        memory = value.memory
    assert steps >= size // 600
    assert value.memory == BASE_BYTES
    assert len(value) == 0
    assert value.drain(1)
    assert len(copy) == size
    assert copy.get(b"field:1") == b"value:1"
    copy.set(b"field:1", b"other")
    assert fill(size).get(b"field:1") == b"value:1"


@pytest.mark.parametrize("length", [0, 19, 200])
@pytest.mark.parametrize("size", [0, 1, 5, 100, 500, 5000, 30000])
def test_memory(size: int, length: int) -> None:
    value = Hash(Limits())
    for i in range(size):
        value.set(b"%0*d" % (19, i), b"%0*d" % (length, i))
    assert isinstance(value.fields, Table) is (size > 512)
    check_memory(value)
