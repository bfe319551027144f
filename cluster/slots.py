"""Hash slots: which slot a key belongs to, which keys a slot has, and how ranges are written.

A slot is the CRC16 (XMODEM) of the key modulo 16384; of a key with a hash tag, of what stands
between its first ``{`` and the next ``}``, unless that is nothing. (The cluster specification of
Redis, "Key distribution model" and "Hash tags".)

:class:`SlotIndex` keeps the keys of each slot: counting them costs nothing, listing and removing
them O(keys).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from crcmod.predefined import mkPredefinedCrcFun
from mypy_extensions import i32

from node.key_index import KeyIndex
from node.key_table import Entry
from node.keyspace import Database

SLOTS: Final = 16384

# What an entry costs in the index, and what a slot that has any does: its list.
PLACE_MEMORY: Final = 9
LIST_MEMORY: Final = 88

_crc16: Final[Callable[[bytes], int]] = mkPredefinedCrcFun("xmodem")


class _Last:
    """The key that was asked for last, its slot, and what it has as far as the end of its tag.

    ``head`` is empty if it has no tag.
    """

    __slots__ = ("key", "head", "slot")

    def __init__(self) -> None:
        self.key = b""
        self.head = b""
        self.slot = 0


# The routing of a request asks for a key's slot, and the index does again when the key is new: it
# is the same object then. Keys that are used together have one tag, at the beginning mostly.
_LAST: Final = _Last()


def key_slot(key: bytes) -> int:
    """The slot of a key."""
    last = _LAST
    if key is last.key or (last.head and key.startswith(last.head)):
        return last.slot
    hashed = key
    head = b""
    opening = key.find(b"{")
    if opening >= 0:
        closing = key.find(b"}", opening + 1)
        if closing > opening + 1:
            hashed = key[opening + 1 : closing]
            head = key[: closing + 1]
    slot = _crc16(hashed) & (SLOTS - 1)
    last.key = key
    last.head = head
    last.slot = slot
    return slot


class SlotIndex(KeyIndex):
    """The entries of a database by slot, in lists; each entry knows its place in its own.

    The order of a slot's keys is any, and holds as long as none comes or goes.
    """

    __slots__ = ("_slots", "_drained")

    def __init__(self) -> None:
        super().__init__()
        # None for a slot that has no keys.
        self._slots: list[list[Entry] | None] = [None] * SLOTS
        self._drained = 0

    def add(self, entry: Entry) -> int:
        slot = key_slot(entry.key)
        entries = self._slots[slot]
        grown = PLACE_MEMORY
        if entries is None:
            entries = []
            self._slots[slot] = entries
            grown += LIST_MEMORY
        entry.index_place = i32(len(entries))
        entries.append(entry)
        self.memory += grown
        return grown

    def discard(self, entry: Entry) -> int:
        slot = key_slot(entry.key)
        entries = self._slots[slot]
        assert entries is not None
        last = entries.pop()
        if last is not entry:
            entries[entry.index_place] = last
            last.index_place = entry.index_place
        grown = -PLACE_MEMORY
        if not entries:
            self._slots[slot] = None
            grown -= LIST_MEMORY
        self.memory += grown
        return grown

    def fresh(self) -> SlotIndex:
        return SlotIndex()

    def drain(self, budget: int) -> bool:
        """Slot by slot; a large one in portions."""
        while budget > 0 and self._drained < SLOTS:
            entries = self._slots[self._drained]
            if entries is not None:
                size = len(entries)
                del entries[-budget:]
                self.memory -= (size - len(entries)) * PLACE_MEMORY
                budget -= size - len(entries)
                if entries:
                    return False
                self._slots[self._drained] = None
                self.memory -= LIST_MEMORY
            self._drained += 1
        return self._drained == SLOTS

    # What is asked of it.

    def count(self, slot: int) -> int:
        """How many keys a slot has, expired ones included."""
        entries = self._slots[slot]
        return 0 if entries is None else len(entries)

    def keys(self, slot: int, most: int) -> list[bytes]:
        """Up to ``most`` keys of a slot, expired ones included."""
        entries = self._slots[slot]
        return [] if entries is None else [entry.key for entry in entries[:most]]

    def used(self) -> list[int]:
        """The slots that have keys, in order."""
        return [slot for slot, entries in enumerate(self._slots) if entries is not None]


def slot_index(db: Database) -> SlotIndex:
    """The index of a database that has one; it is another one after a flush or full sync."""
    index = db.key_index
    assert isinstance(index, SlotIndex)
    return index


def format_range(first: int, last: int) -> str:
    """``0-5460``, or ``7`` for a single slot, as CLUSTER NODES has it."""
    return str(first) if first == last else f"{first}-{last}"
