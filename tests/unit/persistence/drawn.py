"""Strategies for values of all types, in all encodings."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from node.persistence.rdb_reader import Value
from node.values.collection import Limits
from node.values.hash import Hash
from node.values.list import List
from node.values.set import Set
from node.values.sorted_set import SortedSet
from tests.rdb_files import EDGES


def small_limits() -> Limits:
    """Thresholds that a few elements cross."""
    limits = Limits()
    limits.hash_max_listpack_entries = 4
    limits.set_max_intset_entries = 4
    limits.set_max_listpack_entries = 4
    limits.zset_max_listpack_entries = 4
    limits.list_max_listpack_size = 3
    return limits


LIMITS = small_limits()

texts: SearchStrategy[bytes] = st.one_of(
    st.binary(max_size=30),
    st.integers(-(1 << 65), 1 << 65).map(lambda number: b"%d" % number),
    st.sampled_from(EDGES),
    st.builds(lambda text, times: text * times, st.binary(max_size=10), st.integers(0, 60)),
)
scores = st.floats(allow_nan=False)


def _list(items: list[bytes]) -> Value:
    value = List(LIMITS)
    value.extend_right(items)
    return value


def _set(items: list[bytes]) -> Value:
    value = Set(LIMITS)
    value.update(items)
    return value


def _hash(items: list[tuple[bytes, bytes]]) -> Value:
    value = Hash(LIMITS)
    for field, text in items:
        value.set(field, text)
    return value


def _sorted_set(items: list[tuple[bytes, float]]) -> Value:
    value = SortedSet(LIMITS)
    for member, score in items:
        value.add(member, score)
    return value


numbers = st.integers(-(1 << 63), (1 << 63) - 1).map(lambda number: b"%d" % number)

values: SearchStrategy[Value] = st.one_of(
    texts,
    texts.map(bytearray),
    st.lists(texts, min_size=1, max_size=12).map(_list),
    st.lists(texts, min_size=1, max_size=12).map(_set),
    st.lists(numbers, min_size=1, max_size=8).map(_set),
    st.lists(st.tuples(texts, texts), min_size=1, max_size=12).map(_hash),
    st.lists(st.tuples(texts, scores), min_size=1, max_size=12).map(_sorted_set),
)
