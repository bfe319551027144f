"""The set: a set's behaviour at any size, Redis's three encodings, sampling, memory."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from node.values.collection import Limits
from node.values.set import BASE_BYTES, HASHTABLE, INTSET, LISTPACK, Set
from tests.unit.values.sizes import measure


def fill(count: int, prefix: bytes = b"", limits: Limits | None = None) -> Set:
    """Return a set of so many members."""
    value = Set(limits or Limits())
    for i in range(count):
        value.add(prefix + b"%d" % i)
    return value


def check_memory(value: Set) -> None:
    """Assert that the account has what is there, whatever has been there before."""
    # A table that was large and is empty has a list, and counts, of its own.
    assert value.memory == pytest.approx(measure(value), rel=0.02, abs=128)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("names", [20, 300, 3000])
@pytest.mark.parametrize("prefix", [b"", b"m"])
def test_random_changes(prefix: bytes, names: int, seed: int) -> None:
    rng = Random(seed)
    value = Set(Limits())
    model: set[bytes] = set()
    for step in range(5000):
        member = prefix + b"%d" % rng.randrange(names)
        action = rng.random()
        if action < (0.7 if step < 3500 else 0.2):
            assert value.add(member) is (member not in model)
            model.add(member)
        elif action < 0.97:
            assert value.remove(member) is (member in model)
            model.discard(member)
        elif model:
            member = value.pop_random(rng)
            assert member in model
            model.remove(member)
        assert len(value) == len(model)
        if step % 500 == 0:
            check_memory(value)
    check_memory(value)
    assert sorted(value) == sorted(value.members()) == sorted(model)
    for i in range(names):
        member = prefix + b"%d" % i
        assert (member in value) is (member in model)
    cursor, found = value.scan(0, 7)
    while cursor:
        cursor, more = value.scan(cursor, 7)
        found += more
    assert sorted(found) == sorted(model)
    while model:
        model.remove(value.pop_random(rng))
    check_memory(value)
    assert len(value) == 0


def test_integers_in_order() -> None:
    value = Set(Limits())
    assert value.update([b"10", b"9", b"-5", b"0", b"10", b"9223372036854775807"]) == 5
    assert value.encoding() == "intset"
    ascending = [b"-5", b"0", b"9", b"10", b"9223372036854775807"]
    assert list(value) == list(value.members()) == ascending
    assert value.scan(0, 1) == (0, ascending)


@pytest.mark.parametrize(
    ("members", "encoding"),
    [
        ([b"%d" % i for i in range(512)], "intset"),
        ([b"%d" % i for i in range(513)], "hashtable"),
        ([b"01"], "listpack"),
        ([b"9223372036854775808"], "listpack"),
        ([b"1", b"x"], "listpack"),
        ([b"x", b"1"], "listpack"),
        ([b"m%d" % i for i in range(128)], "listpack"),
        ([b"m%d" % i for i in range(129)], "hashtable"),
        ([*(b"%d" % i for i in range(127)), b"x"], "listpack"),
        ([*(b"%d" % i for i in range(128)), b"x"], "hashtable"),
        ([b"x" * 64], "listpack"),
        ([b"x" * 65], "hashtable"),
        ([b"1", b"x" * 65], "hashtable"),
    ],
)
def test_encodings(members: list[bytes], encoding: str) -> None:
    value = Set(Limits())
    value.update(members)
    assert value.encoding() == encoding
    for member in members[1:]:
        value.remove(member)
    assert value.encoding() == encoding


def test_encoding_when_integers_become_too_long_strings() -> None:
    limits = Limits()
    limits.set_max_listpack_value = 3
    value = Set(limits)
    value.update([b"1", b"-100", b"x"])
    assert value.encoding() == "hashtable"
    value = Set(limits)
    value.update([b"1", b"100", b"x"])
    assert value.encoding() == "listpack"


@pytest.mark.parametrize(
    ("first", "expected", "encoding"),
    [
        (b"1", 512, "intset"),
        (b"1", 513, "hashtable"),
        (b"x", 128, "listpack"),
        (b"x", 129, "hashtable"),
    ],
)
def test_encoding_by_what_a_command_brings(first: bytes, expected: int, encoding: str) -> None:
    value = Set(Limits(), first, expected)
    value.add(first)
    assert value.encoding() == encoding
    value = Set(Limits())
    value.add(first)
    value.expect(expected)
    assert value.encoding() == encoding


def test_result_as_integers() -> None:
    value = fill(600)
    assert value.encoding() == "hashtable"
    value.compress()
    assert value.encoding() == "hashtable"
    for i in range(500):
        value.remove(b"%d" % i)
    value.compress()
    assert value.encoding() == "intset"
    value.add(b"x")
    value.compress()
    assert value.encoding() == "listpack"


@pytest.mark.parametrize("size", [10, 500, 2000])
def test_random_members(size: int) -> None:
    rng = Random(3)
    value = fill(size)
    counts = Counter(value.random_member(rng) for _ in range(20 * size))
    counts.update(value.random_members(rng, 20 * size))
    statistic = sum((counts[member] - 40) ** 2 for member in value) / 40
    assert abs(statistic - size) < 6 * (2 * size) ** 0.5 + 10
    for n in (1, 3, size // 2, size - 1, size, size + 5):
        sample = value.sample_members(rng, n)
        assert len(sample) == len(set(sample)) == min(n, size)
        assert all(member in value for member in sample)


def test_popping_is_uniform() -> None:
    rng = Random(5)
    counts: Counter[bytes] = Counter()
    for _ in range(3000):
        counts[fill(5).pop_random(rng)] += 1
    assert len(counts) == 5
    assert all(450 < count < 750 for count in counts.values())


def test_nothing_random_in_an_empty_set() -> None:
    value = Set(Limits())
    with pytest.raises(IndexError):
        value.random_member(Random(0))
    with pytest.raises(IndexError):
        value.pop_random(Random(0))


@pytest.mark.parametrize("prefix", [b"", b"m", b"x" * 70])
@pytest.mark.parametrize("form", [INTSET, LISTPACK, HASHTABLE])
@pytest.mark.parametrize("size", [0, 1, 100, 128, 129, 512, 513, 5000])
def test_many_members_at_once(size: int, form: int, prefix: bytes) -> None:
    members = [prefix + b"%d" % i for i in range(size)]
    expected = Set(Limits())
    expected.form = form
    expected.update(members)
    for source in (iter(members), dict.fromkeys(members)):
        value = Set.from_members(Limits(), source, form)
        assert sorted(value) == sorted(members)
        assert value.encoding() == expected.encoding()
        check_memory(value)
        assert type(value.elements) is type(expected.elements)


@pytest.mark.parametrize("size", [3, 100, 2000])
def test_copy_and_drain(size: int) -> None:
    value = fill(size, b"m")
    copy = value.copy()
    assert copy.encoding() == value.encoding()
    assert copy.memory == value.memory
    steps = 0
    while not value.drain(100):
        steps += 1
    assert steps >= size // 600
    assert value.memory == BASE_BYTES
    assert len(copy) == size
    assert copy.remove(b"m1")


@pytest.mark.parametrize("prefix", [b"", b"member:" * 2, b"x" * 100])
@pytest.mark.parametrize("size", [0, 1, 5, 100, 500, 5000, 30000])
def test_memory(size: int, prefix: bytes) -> None:
    value = fill(size, prefix)
    # One-character members are shared by the whole process.
    check_memory(value)
