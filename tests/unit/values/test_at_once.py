"""Values made at once are those made element by element: elements, encoding, memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.values.collection import SMALL
from node.values.hash import Hash
from node.values.list import List
from node.values.number import format_integer
from node.values.set import HASHTABLE, INTSET, LISTPACK, Set
from node.values.sorted_set import SortedSet
from tests.unit.persistence.drawn import LIMITS, scores, texts

SIZES = (0, 1, 5, 11, SMALL, SMALL + 1, 700)


@given(pairs=st.lists(st.tuples(texts, texts), max_size=12))
def test_hashes(pairs: list[tuple[bytes, bytes]]) -> None:
    check_hash(pairs)


def check_hash(pairs: list[tuple[bytes, bytes]]) -> None:
    expected = Hash(LIMITS)
    for field, value in pairs:
        expected.set(field, value)
    made = Hash.from_entries(LIMITS, [text for pair in pairs for text in pair])
    assert dict(made.items()) == dict(expected.items())
    if len(dict(pairs)) == len(pairs):
        # A long value that is replaced leaves its mark.
        assert made.encoding() == expected.encoding()
    assert made.memory == expected.memory


@given(members=st.lists(texts, max_size=12), form=st.sampled_from((INTSET, LISTPACK, HASHTABLE)))
def test_sets(members: list[bytes], form: int) -> None:
    check_set(members, form)


@given(numbers=st.lists(st.integers(-(1 << 63), (1 << 63) - 1), max_size=8))
def test_sets_of_integers(numbers: list[int]) -> None:
    members = dict.fromkeys([b"%d" % number for number in numbers])
    expected = Set(LIMITS)
    expected.update(members)
    made = Set.from_integers(LIMITS, members)
    assert list(made) == list(expected)
    assert (made.encoding(), made.memory) == (expected.encoding(), expected.memory)
    check_set([*members, b"x"], INTSET)


def check_set(members: list[bytes], form: int) -> None:
    expected = Set(LIMITS)
    expected.form = form
    expected.update(members)
    made = Set.from_members(LIMITS, members, form)
    assert sorted(made.elements) == sorted(expected.elements)
    assert (made.encoding(), made.memory) == (expected.encoding(), expected.memory)


@given(items=st.dictionaries(texts, scores, max_size=12), ordered=st.booleans())
def test_sorted_sets(items: dict[bytes, float], ordered: bool) -> None:
    if ordered:
        items = dict(sorted(items.items(), key=lambda item: (item[1], item[0])))
    check_sorted_set(items)


def check_sorted_set(items: dict[bytes, float]) -> None:
    expected = SortedSet(LIMITS)
    for member, score in items.items():
        expected.add(member, score)
    made = SortedSet.from_scores(LIMITS, dict(items))
    assert list(made) == list(expected)
    assert dict(made.scores.items()) == dict(expected.scores.items())
    assert (made.encoding(), made.memory) == (expected.encoding(), expected.memory)


@given(elements=st.lists(texts, max_size=12))
def test_lists(elements: list[bytes]) -> None:
    check_list(elements)


def check_list(elements: list[bytes]) -> None:
    expected = List(LIMITS)
    for element in elements:
        expected.push_right(element)
    made = List.from_elements(LIMITS, list(elements), expected.weight)
    assert list(made) == list(expected)
    assert (len(made), made.memory) == (len(expected), expected.memory)
    if len(elements) < SMALL:
        assert made.weight == expected.weight


@pytest.mark.parametrize("size", SIZES)
def test_sizes(size: int) -> None:
    some = [b"element:%d" % (number * 7919 % 1000) for number in range(size)]
    check_hash([(text, text[::-1]) for text in some])
    check_set(some, HASHTABLE)
    check_set([text[8:] for text in some], INTSET)
    check_sorted_set({text: float(at % 100) for at, text in enumerate(some)})
    check_list(some)


@given(number=st.one_of(st.integers(-(1 << 63), (1 << 63) - 1), st.integers(-2000, 2_000_000_000)))
def test_texts_of_integers(number: int) -> None:
    assert format_integer(number) == b"%d" % number
