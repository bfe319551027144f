"""The hash: a map from fields to values (Redis's `t_hash.c`)."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from random import Random

from node.values.collection import ALIGNED, DICT_BYTES, OBJECT_BYTES, SMALL, Collection, Limits
from node.values.elements import (
    SCANNABLE,
    STEP,
    drain_map,
    random_key,
    random_keys,
    sample_keys,
    scan_dict,
)
from node.values.table import Table

BASE_BYTES = 80 + DICT_BYTES[0]
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
            fields[field] = value
        else:
            old = fields.replace(field, value)
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
        count = len(fields)
        self.memory += (
            ((len(field) + OBJECT_BYTES) & ALIGNED)
            + ((len(value) + OBJECT_BYTES) & ALIGNED)
            + STEP[count if count <= SMALL else -1]
        )
        if count > SMALL and isinstance(fields, dict):
            self.fields = Table(fields)
        return True

    def expect(self, count: int) -> None:
        """Choose the encoding for a command that is about to set `count` fields, new or not."""
        if count > self.limits.hash_max_listpack_entries:
            self.compact = False

    def delete(self, field: bytes) -> bool:
        """Remove a field and tell whether it was there."""
        fields = self.fields
        count = len(fields)
        old = fields.pop(field, None)
        if old is None:
            return False
        self.memory -= (
            ((len(field) + OBJECT_BYTES) & ALIGNED)
            + ((len(old) + OBJECT_BYTES) & ALIGNED)
            + STEP[count if count <= SMALL else -1]
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
            fields = self.fields = Table(fields)
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
        other.memory = self.memory
        return other

    def drain(self, budget: int) -> bool:
        count = len(self.fields)
        if count:
            removed = drain_map(self.fields, budget)
            self.memory -= (self.memory - BASE_BYTES) * removed // count
        return not len(self.fields)
