"""What a database is made of, and what that costs in memory: see :mod:`node.keyspace`."""

from __future__ import annotations

from typing import Final

from mypy_extensions import mypyc_attr

from node.values.collection import Collection
from node.values.string import memory as string_memory

Value = bytes | bytearray | Collection

# What a key costs beside the key and value objects: its entry, and its place in the bucket's dict
# at an average load. The account has the real size of that dict instead (``Bucket.room``).
ENTRY_MEMORY: Final = 48
PLACE_MEMORY: Final = 44
DEADLINE_MEMORY: Final = 72
# What a bucket costs beside its dicts' tables: itself, the dict's header, its place in the list.
BUCKET_MEMORY: Final = 96


def object_memory(value: Value) -> int:
    """Bytes that CPython takes for ``value``."""
    if isinstance(value, Collection):
        return value.memory
    return string_memory(value)


@mypyc_attr(acyclic=True)
class Entry:
    """A key's value (``bytes``, ``bytearray`` or a ``Collection``) and its access clock.

    The clock is that of LRU (seconds) or the counter of LFU (:meth:`Keyspace.lfu_used`).
    """

    __slots__ = ("value", "clock")

    def __init__(self, value: Value, clock: int) -> None:
        self.value = value
        self.clock = clock


class Bucket:
    """The keys of one address. ``room`` is what the account has of its size, in bytes."""

    __slots__ = ("entries", "deadlines", "room")

    def __init__(self) -> None:
        self.entries: dict[bytes, Entry] = {}
        self.deadlines: dict[bytes, int] | None = None
        self.room = 0
