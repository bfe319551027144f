"""Hash slots: which slot a key belongs to, which keys a slot has, and how ranges are written.

A slot is the CRC16 (XMODEM) of the key modulo 16384; of a key with a hash tag, of what stands
between its first ``{`` and the next ``}``, unless that is nothing. (The cluster specification of
Redis, "Key distribution model" and "Hash tags".)

:class:`SlotIndex` keeps the keys of each slot: counting them costs nothing, listing and removing
them O(keys), and no insertion waits for a large table to grow.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Final

from crcmod.predefined import mkPredefinedCrcFun

from node.key_index import KeyIndex
from node.keyspace import Database
from node.values.collection import measure_dict
from node.values.elements import TABLE_BYTES
from node.values.table import Table, is_spacious

SLOTS: Final = 16384

# More keys of one slot than this lie in a table that grows bucket by bucket; fewer than the other
# again in one dict.
LARGE: Final = 2048
SMALL: Final = 512

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
    """The keys of a database by slot.

    The order of a slot's keys is any, and holds as long as none comes or goes.
    """

    __slots__ = ("_slots", "_tables", "_rooms", "_drained")

    def __init__(self) -> None:
        super().__init__()
        # The keys of a slot are in one of the two; in none if there are no keys.
        self._slots: list[dict[bytes, None] | None] = [None] * SLOTS
        self._tables: dict[int, Table[None]] = {}
        # What the account has of each dict's size.
        self._rooms: list[int] = [0] * SLOTS
        self._drained = 0

    def add(self, key: bytes) -> int:
        slot = key_slot(key)
        keys = self._slots[slot]
        if keys is None:
            if self._tables:
                table = self._tables.get(slot)
                if table is not None:
                    return self._add_to_table(table, key)
            keys = {}
            self._slots[slot] = keys
        keys[key] = None
        size: int = keys.__sizeof__()
        if size == self._rooms[slot]:
            return 0
        # The dict has grown.
        if len(keys) > LARGE:
            return self._enlarge(slot, keys)
        if is_spacious(keys, size):
            keys = {**keys}
            self._slots[slot] = keys
            size = keys.__sizeof__()
        return self._account(slot, size)

    def discard(self, key: bytes) -> int:
        slot = key_slot(key)
        keys = self._slots[slot]
        if keys is None:
            return self._take_from_table(slot, key)
        del keys[key]
        if keys:
            return 0
        self._slots[slot] = None
        return self._account(slot, 0)

    def fresh(self) -> SlotIndex:
        return SlotIndex()

    def drain(self, budget: int) -> bool:
        """Slot by slot; a large one in portions."""
        while budget > 0 and self._drained < SLOTS:
            slot = self._drained
            table = self._tables.get(slot)
            if table is not None:
                before = TABLE_BYTES + table.room
                budget -= table.drain(budget)
                if table.count:
                    self.memory += TABLE_BYTES + table.room - before
                    return False
                self.memory -= before
                del self._tables[slot]
            keys = self._slots[slot]
            if keys is not None:
                budget -= len(keys)
                self._slots[slot] = None
                self._account(slot, 0)
            self._drained += 1
        return self._drained == SLOTS

    # What is asked of it.

    def count(self, slot: int) -> int:
        """How many keys a slot has, expired ones included."""
        keys = self._slots[slot]
        if keys is not None:
            return len(keys)
        table = self._tables.get(slot)
        return 0 if table is None else table.count

    def keys(self, slot: int, most: int) -> list[bytes]:
        """Up to ``most`` keys of a slot, expired ones included."""
        keys = self._slots[slot]
        if keys is not None:
            return list(islice(keys, most))
        table = self._tables.get(slot)
        return [] if table is None else list(islice(table.keys(), most))

    def used(self) -> list[int]:
        """The slots that have keys, in order."""
        found = [slot for slot, keys in enumerate(self._slots) if keys is not None]
        if self._tables:
            found.extend(self._tables)
            found.sort()
        return found

    # Large slots, and the account.

    def _account(self, slot: int, size: int) -> int:
        """Account for the size that a slot's dict has now, 0 when it is gone."""
        before = self._rooms[slot]
        self._rooms[slot] = size
        change = (measure_dict(size) if size else 0) - (measure_dict(before) if before else 0)
        self.memory += change
        return change

    def _enlarge(self, slot: int, keys: dict[bytes, None]) -> int:
        """Put the keys of a slot that has got many into a table."""
        table = Table(keys)
        self._tables[slot] = table
        self._slots[slot] = None
        grown = TABLE_BYTES + table.room
        self.memory += grown
        return grown + self._account(slot, 0)

    def _add_to_table(self, table: Table[None], key: bytes) -> int:
        before = table.room
        table[key] = None
        grown = table.room - before
        self.memory += grown
        return grown

    def _take_from_table(self, slot: int, key: bytes) -> int:
        table = self._tables[slot]
        before = table.room
        del table[key]
        change = table.room - before
        if table.count >= SMALL:
            self.memory += change
            return change
        del self._tables[slot]
        keys: dict[bytes, None] = dict.fromkeys(table.keys())
        self._slots[slot] = keys
        self.memory -= TABLE_BYTES + before
        return self._account(slot, keys.__sizeof__()) - TABLE_BYTES - before


def slot_index(db: Database) -> SlotIndex:
    """The index of a database that has one; it is another one after a flush or full sync."""
    index = db.key_index
    assert isinstance(index, SlotIndex)
    return index


def format_range(first: int, last: int) -> str:
    """``0-5460``, or ``7`` for a single slot, as CLUSTER NODES has it."""
    return str(first) if first == last else f"{first}-{last}"
