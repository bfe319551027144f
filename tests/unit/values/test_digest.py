"""Digests: those a real server gave for the same data, and what they depend on."""

from __future__ import annotations

from math import inf

import pytest

from node.values.collection import Collection, Limits
from node.values.digest import dataset_digest, key_digest, value_digest
from node.values.hash import Hash
from node.values.list import List
from node.values.set import Set
from node.values.sorted_set import SortedSet


def make_list(*elements: bytes) -> List:
    value = List(Limits())
    value.extend_right(elements)
    return value


def make_set(*members: bytes) -> Set:
    value = Set(Limits())
    value.update(members)
    return value


def make_sorted_set(*entries: tuple[float, bytes]) -> SortedSet:
    value = SortedSet(Limits())
    for score, member in entries:
        value.add(member, score)
    return value


def make_hash(*pairs: tuple[bytes, bytes]) -> Hash:
    value = Hash(Limits())
    for field, content in pairs:
        value.set(field, content)
    return value


EXAMPLES: list[tuple[bytes, bytes | bytearray | Collection, str]] = [
    (b"string", b"value", "d59ec93db87f4cd915db3cdf44bb63755bc4a635"),
    (b"empty", b"", "8b3447c33a834b810e3e181b6fd6a2ee1020921c"),
    (b"number", b"12345", "e1cf90774e995ae03de66e8109dc5cb9d9c2dc83"),
    (b"list", make_list(b"a", b"b", b"3", b""), "efff5a0c01914781106a4afdc6a94b5c67818949"),
    (b"integers", make_set(b"1", b"2", b"-3"), "836878cc027f259476c1f062e588720a8848c1d0"),
    (b"set", make_set(b"x", b"y", b"\x00\xff"), "9cba324745807e54ac15ceb2c118a65fc9b3ba58"),
    (
        b"sorted set",
        make_sorted_set((1.5, b"a"), (-inf, b"b"), (0.1, b"c")),
        "68e3e45b8d85c6bd776092d51acc9c222f498aad",
    ),
    (b"hash", make_hash((b"f", b"v"), (b"g", b"1")), "6679ee22f89ed8001eeb5309d0900265ea56c03a"),
]


@pytest.mark.parametrize(("key", "value", "digest"), EXAMPLES)
def test_values(key: bytes, value: bytes | Collection, digest: str) -> None:
    assert value_digest(value).hex() == digest
    assert value_digest(value, expires=True).hex() != digest
    assert key_digest(key, value) != value_digest(value)


def test_everything() -> None:
    digests = [key_digest(key, value) for key, value, _ in EXAMPLES]
    volatile = key_digest(b"volatile", b"v", expires=True)
    everything = dataset_digest([(0, digests), (1, []), (9, [volatile])])
    assert everything.hex() == "eeab952becae9c34c1391a56ca47c0d2ed328042"
    assert dataset_digest([(0, digests[::-1]), (9, iter([volatile]))]) == everything
    assert dataset_digest([(1, digests), (9, [volatile])]) != everything
    assert dataset_digest([]) == bytes(20)


def test_order_matters_where_there_is_one() -> None:
    assert value_digest(make_list(b"a", b"b")) != value_digest(make_list(b"b", b"a"))
    assert value_digest(make_set(b"a", b"b")) == value_digest(make_set(b"b", b"a"))
    assert value_digest(bytearray(b"abc")) == value_digest(b"abc")


def test_unknown_values_have_no_digest() -> None:
    with pytest.raises(TypeError):
        value_digest(Collection(Limits()))
