"""The set (Redis's `t_set.c`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from random import Random
from typing import Final

from mypy_extensions import i64

from node.values.collection import (
    ALIGNED,
    DICT_BYTES,
    OBJECT_BYTES,
    SMALL,
    Collection,
    Limits,
    measure_dict,
)
from node.values.elements import (
    SCANNABLE,
    drain_map,
    measure_room,
    random_key,
    random_keys,
    resized,
    sample_keys,
    scan_dict,
)
from node.values.number import is_integer
from node.values.table import Table

BASE_BYTES: Final = 80 + DICT_BYTES[0]
"""An empty set: the object and its dict."""

INTSET: Final = 0
LISTPACK: Final = 1
HASHTABLE: Final = 2
MOST_INTEGERS: Final = 1 << 30
"""No intset has more members, whatever the limit."""
ENCODINGS: Final = ("intset", "listpack", "hashtable")


class Set(Collection):
    """Distinct members, in no order, but for the ascending one of a set of integers ("intset").

    `elements` may be read directly: a dict or a Table with the members as keys.
    """

    __slots__ = ("elements", "form")

    def __init__(self, limits: Limits, first: bytes = b"0", expected: int = 0) -> None:
        """Make an empty set for a command that is about to add `expected` members.

        Redis chooses the encoding by this number, whatever repeats, and by the first of them.
        """
        self.limits = limits
        self.accounted = 0
        self.memory = BASE_BYTES
        self.form = INTSET
        self.elements: dict[bytes, None] | Table[None] = {}
        if expected > limits.set_max_listpack_entries and (
            expected > limits.set_max_intset_entries or not is_integer(first)
        ):
            self.form = HASHTABLE

    def __len__(self) -> int:
        return len(self.elements)

    def __contains__(self, member: bytes) -> bool:
        return member in self.elements

    def encoding(self) -> str:
        return ENCODINGS[self.form]

    def expect(self, count: int) -> None:
        """Prepare for a command that brings `count` members, which may be there already."""
        limits = self.limits
        if (self.form == LISTPACK and count > limits.set_max_listpack_entries) or (
            self.form == INTSET and count > limits.set_max_intset_entries
        ):
            self.form = HASHTABLE

    def add(self, member: bytes) -> bool:
        """Add a member and tell whether it is new."""
        elements = self.elements
        if isinstance(elements, dict):
            if member in elements:
                return False
            size: int = elements.__sizeof__()
            elements[member] = None
            count = len(elements)
            if elements.__sizeof__() != size:
                elements = self.elements = resized(elements)
                self.memory += measure_dict(elements.__sizeof__()) - measure_dict(size)
            if count > SMALL:
                self._tabulate(elements)
        else:
            count = elements.count
            room = elements.room
            elements[member] = None
            if elements.count == count:
                return False
            count += 1
            self.memory += elements.room - room
        self.memory += (len(member) + OBJECT_BYTES) & ALIGNED
        if self.form != HASHTABLE:
            self._reconsider(member, count)
        return True

    def _tabulate(self, elements: dict[bytes, None]) -> Table[None]:
        """Let a Table take the place of the dict."""
        table = Table(elements)
        self.memory += measure_room(table) - measure_room(elements)
        self.elements = table
        return table

    def _reconsider(self, member: bytes, count: int) -> None:
        """Choose the encoding anew after a member was added."""
        limits = self.limits
        if self.form == INTSET:
            if is_integer(member):
                if count > min(limits.set_max_intset_entries, MOST_INTEGERS):
                    self.form = HASHTABLE
                return
            # The integers in it have become strings, of up to 20 characters.
            longest = limits.set_max_listpack_value
            if longest < 20 and any(len(other) > longest for other in self.elements):
                self.form = HASHTABLE
                return
        if count > limits.set_max_listpack_entries or len(member) > limits.set_max_listpack_value:
            self.form = HASHTABLE
        else:
            self.form = LISTPACK

    def update(self, members: Iterable[bytes]) -> int:
        """Add all members and return how many are new."""
        before = len(self.elements)
        for member in members:
            self.add(member)
        return len(self.elements) - before

    @staticmethod
    def from_members(limits: Limits, members: Iterable[bytes], form: int = INTSET) -> Set:
        """Make a set of members, as if they were added to an empty one of an encoding in turn."""
        # A dict of its own, even if it is given one: that may be another set's.
        return Set.from_elements(limits, dict.fromkeys(members), form)

    @staticmethod
    def from_elements(limits: Limits, elements: dict[bytes, None], form: int) -> Set:
        """Make a set of the keys of a dict, as :meth:`from_members`.  Takes the dict over."""
        integers = 0  # before the first member that is none
        if form == INTSET and len(elements) <= max(
            limits.set_max_intset_entries, limits.set_max_listpack_entries
        ):
            for member in elements:
                if not is_integer(member):
                    break
                integers += 1
        return _set_of(limits, elements, form, integers)

    @staticmethod
    def from_integers(limits: Limits, elements: dict[bytes, None]) -> Set:
        """Make a set of members that all are integers.  Takes the dict over."""
        return _set_of(limits, elements, INTSET, len(elements))

    def remove(self, member: bytes) -> bool:
        """Remove a member and tell whether it was there."""
        elements = self.elements
        if isinstance(elements, dict):
            if member not in elements:
                return False
            del elements[member]
        else:
            count = elements.count
            room = elements.room
            elements.pop(member, None)
            if elements.count == count:
                return False
            self.memory += elements.room - room
        self.memory -= (len(member) + OBJECT_BYTES) & ALIGNED
        return True

    def members(self) -> Iterable[bytes]:
        """Return the members, integers of an intset in ascending order."""
        if self.form == INTSET:
            return sorted(self.elements, key=int)
        return self.elements

    def __iter__(self) -> Iterator[bytes]:
        if self.form == INTSET:
            return iter(sorted(self.elements, key=int))
        return iter(self.elements)

    def random_member(self, rng: Random) -> bytes:
        """Return a member, all being equally likely; IndexError when there is none."""
        return random_key(self.elements, rng)

    def random_members(self, rng: Random, n: int) -> list[bytes]:
        """Return n members drawn independently, so that some may repeat."""
        return random_keys(self.elements, rng, n)

    def sample_members(self, rng: Random, n: int) -> list[bytes]:
        """Return n distinct members, or all there are; every subset is equally likely."""
        return sample_keys(self.elements, rng, n)

    def pop_random(self, rng: Random) -> bytes:
        """Remove and return a random member; IndexError when there is none."""
        elements = self.elements
        if isinstance(elements, dict):
            member = random_key(elements, rng)
            del elements[member]
        else:
            room = elements.room
            member = elements.pop_random(rng)
            self.memory += elements.room - room
        self.memory -= (len(member) + OBJECT_BYTES) & ALIGNED
        return member

    def scan(self, cursor: int, count: int) -> tuple[int, list[bytes]]:
        """Return the next cursor, 0 at the end, and about `count` members: all when compact."""
        elements = self.elements
        if self.form != HASHTABLE:
            return 0, list(self)
        if isinstance(elements, dict):
            if len(elements) <= SCANNABLE:
                return scan_dict(elements, cursor, count)
            elements = self._tabulate(elements)
        return elements.scan(cursor, count)

    def compress(self) -> None:
        """Make an intset of it if all members are integers and not too many.

        For results of set operations, which Redis stores in that form whatever they came from.
        """
        if len(self.elements) <= self.limits.set_max_intset_entries and all(
            is_integer(member) for member in self.elements
        ):
            self.form = INTSET

    def copy(self) -> Set:
        other = Set(self.limits)
        other.form = self.form
        other.elements = self.elements.copy()
        other.memory = self.memory + measure_room(other.elements) - measure_room(self.elements)
        return other

    def drain(self, budget: int) -> bool:
        count = len(self.elements)
        if count:
            removed = drain_map(self.elements, budget)
            self.memory -= (self.memory - BASE_BYTES) * removed // count
        return not len(self.elements)


def _set_of(limits: Limits, elements: dict[bytes, None], form: int, integers: int) -> Set:
    """Make a set as if its members were added in turn, so many integers first."""
    result = Set(limits)
    count: i64 = len(elements)
    longest: i64 = 0
    memory: i64 = 0
    for member in elements:
        length: i64 = len(member)
        memory += (length + OBJECT_BYTES) & ALIGNED
        if length > longest:
            longest = length
    most = min(limits.set_max_intset_entries, MOST_INTEGERS)
    if form == INTSET and integers == count and integers <= most:
        result.form = INTSET
    elif (
        form == HASHTABLE
        or integers > most
        or count > limits.set_max_listpack_entries
        or longest > limits.set_max_listpack_value
    ):
        result.form = HASHTABLE
    else:
        result.form = LISTPACK
    result.elements = Table(elements) if count > SMALL else elements
    result.memory += memory + measure_room(result.elements)
    return result
