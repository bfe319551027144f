"""The hash: a map from fields to values (Redis's `t_hash.c`)."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, ValuesView
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
from node.values.table import Table

BASE_BYTES: Final = 80 + DICT_BYTES[0]
"""An empty hash: the object and its dict."""


class Hash(Collection):
    """Fields and values, both bytes.

    `fields` may be read directly: a dict or a Table, which has a dict's methods.
    """

    __slots__ = ("compact", "fields")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.accounted = 0
        self.memory = BASE_BYTES
        self.compact = True
        self.fields: dict[bytes, bytes] | Table[bytes] = {}

    @staticmethod
    def from_entries(limits: Limits, entries: list[bytes]) -> Hash:
        """Make a hash of fields and values by turns, as if they were set one after the other."""
        result = Hash(limits)
        fields: dict[bytes, bytes] = {}
        longest: i64 = 0
        memory: i64 = 0
        at: i64 = 0
        count: i64 = len(entries)
        while at + 1 < count:
            field = entries[at]
            value = entries[at + 1]
            fields[field] = value
            at += 2
            length: i64 = len(field)
            memory += (length + OBJECT_BYTES) & ALIGNED
            if length > longest:
                longest = length
            length = len(value)
            memory += (length + OBJECT_BYTES) & ALIGNED
            if length > longest:
                longest = length
        if len(fields) * 2 != count:
            # Some come again: the last value counts.
            memory = 0
            for field, value in fields.items():
                memory += (len(field) + OBJECT_BYTES) & ALIGNED
                memory += (len(value) + OBJECT_BYTES) & ALIGNED
        result.compact = (
            len(fields) <= limits.hash_max_listpack_entries
            and longest <= limits.hash_max_listpack_value
        )
        result.fields = Table(fields) if len(fields) > SMALL else fields
        result.memory += memory + measure_room(result.fields)
        return result

    def __len__(self) -> int:
        return len(self.fields)

    def __contains__(self, field: bytes) -> bool:
        return field in self.fields

    def encoding(self) -> str:
        return "listpack" if self.compact else "hashtable"

    def get(self, field: bytes) -> bytes | None:
        return self.fields.get(field)

    def set(self, field: bytes, value: bytes) -> bool:
        """Set a field and tell whether it is new."""
        fields = self.fields
        if isinstance(fields, dict):
            old = fields.get(field)
            size: int = fields.__sizeof__() if old is None else 0
            fields[field] = value
            if old is None and fields.__sizeof__() != size:
                fields = self.fields = resized(fields)
                self.memory += measure_dict(fields.__sizeof__()) - measure_dict(size)
        else:
            room = fields.room
            old = fields.replace(field, value)
            self.memory += fields.room - room
        if self.compact:
            limits = self.limits
            if (
                len(value) > limits.hash_max_listpack_value
                or len(field) > limits.hash_max_listpack_value
                or len(fields) > limits.hash_max_listpack_entries
            ):
                self.compact = False
        if old is not None:
            self.memory += ((len(value) + OBJECT_BYTES) & ALIGNED) - (
                (len(old) + OBJECT_BYTES) & ALIGNED
            )
            return False
        self.memory += ((len(field) + OBJECT_BYTES) & ALIGNED) + (
            (len(value) + OBJECT_BYTES) & ALIGNED
        )
        if isinstance(fields, dict) and len(fields) > SMALL:
            self._tabulate(fields)
        return True

    def _tabulate(self, fields: dict[bytes, bytes]) -> Table[bytes]:
        """Let a Table take the place of the dict."""
        table = Table(fields)
        self.memory += measure_room(table) - measure_room(fields)
        self.fields = table
        return table

    def expect(self, count: int) -> None:
        """Choose the encoding for a command that is about to set `count` fields, new or not."""
        if count > self.limits.hash_max_listpack_entries:
            self.compact = False

    def delete(self, field: bytes) -> bool:
        """Remove a field and tell whether it was there."""
        fields = self.fields
        if isinstance(fields, dict):
            old = fields.pop(field, None)
        else:
            room = fields.room
            old = fields.pop(field, None)
            self.memory += fields.room - room
        if old is None:
            return False
        self.memory -= ((len(field) + OBJECT_BYTES) & ALIGNED) + (
            (len(old) + OBJECT_BYTES) & ALIGNED
        )
        return True

    def keys(self) -> KeysView[bytes] | Iterator[bytes]:
        return self.fields.keys()

    def values(self) -> ValuesView[bytes] | Iterator[bytes]:
        return self.fields.values()

    def items(self) -> ItemsView[bytes, bytes] | Iterator[tuple[bytes, bytes]]:
        return self.fields.items()

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.fields)

    def scan(self, cursor: int, count: int) -> tuple[int, list[bytes]]:
        """Return the next cursor, 0 at the end, and about `count` fields: all when compact."""
        fields = self.fields
        if self.compact:
            return 0, list(fields)
        if isinstance(fields, dict):
            if len(fields) <= SCANNABLE:
                return scan_dict(fields, cursor, count)
            fields = self._tabulate(fields)
        return fields.scan(cursor, count)

    def random_field(self, rng: Random) -> bytes:
        """Return a field, all being equally likely; IndexError when there is none."""
        return random_key(self.fields, rng)

    def random_fields(self, rng: Random, n: int) -> list[bytes]:
        """Return n fields drawn independently, so that some may repeat."""
        return random_keys(self.fields, rng, n)

    def sample_fields(self, rng: Random, n: int) -> list[bytes]:
        """Return n distinct fields, or all when there are fewer; all subsets are equally likely."""
        return sample_keys(self.fields, rng, n)

    def copy(self) -> Hash:
        other = Hash(self.limits)
        other.compact = self.compact
        other.fields = self.fields.copy()
        other.memory = self.memory + measure_room(other.fields) - measure_room(self.fields)
        return other

    def drain(self, budget: int) -> bool:
        count = len(self.fields)
        if count:
            removed = drain_map(self.fields, budget)
            self.memory -= (self.memory - BASE_BYTES) * removed // count
        return not len(self.fields)
