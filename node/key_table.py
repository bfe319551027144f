"""The hash table of a database's keys, and what a key costs in memory.

Each slot holds a chain of entries. The table grows and shrinks by linear hashing on Python's keyed
hash of the key: one slot is split or merged at a time, so that no insertion ever stops the server
for a rehash. An entry is one object that has all there is to say about a key, and holds a part of
the hash, so that a look-up waits for memory no more often than it must: for the slot, the entry
and the key.

Entries with a deadline are in a list as well, each of which knows its place there: whoever wants
such a key, at random or one after the other, finds it without looking at the others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from librt.vecs import append, vec
from mypy_extensions import i32, i64, mypyc_attr

from node.values.collection import Collection
from node.values.string import memory as string_memory
from node.values.table import LOW, SPAN, scan_bucket

Value = bytes | bytearray | Collection

# The deadline of what never expires.
NEVER: Final = -1

# What a key costs beside the key and value objects: its entry; a slot of the table, of which there
# is about one for each key; its place in the list of those with a deadline.
ENTRY_MEMORY: Final = 80
SLOT_MEMORY: Final = 9
TIMED_MEMORY: Final = 9

# Slots for each key above which the table shrinks; it grows with less than one.
SPARSE: Final = 4
# Slots that are merged at once at most.
MOST_MERGED: Final = 8
# Slots that are made in advance at most: a millisecond's work, some megabytes.
MOST_RESERVED: Final = 1 << 20
# A random entry is accepted with a chance in proportion to its chain's length; no chain gets near
# this long, since the hash is keyed.
LONGEST_CHAIN: Final = 16
# Slots looked at for each entry of a sample, or for each key that a scan is to find.
SAMPLE_VISITS: Final = 10
SCAN_VISITS: Final = 10


def object_memory(value: Value) -> int:
    """Bytes that CPython takes for ``value``."""
    if isinstance(value, Collection):
        return value.memory
    return string_memory(value)


@mypyc_attr(acyclic=True)
class Entry:
    """A key, its value (``bytes``, ``bytearray`` or a ``Collection``), and when it goes.

    ``deadline`` is in Unix milliseconds, or NEVER. ``clock`` is that of LRU (seconds) or the
    counter of LFU (:meth:`Keyspace.lfu_used`). The rest is the table's (the low bits of the hash,
    the next entry of the chain, the place among those with a deadline or -1) and the key index's.
    """

    __slots__ = ("key", "value", "next", "deadline", "hash_bits", "clock", "place", "index_place")

    def __init__(
        self, key: bytes, value: Value, clock: i32, hash_bits: i32, next: Entry | None
    ) -> None:
        self.key = key
        self.value = value
        self.next = next
        self.deadline: i64 = NEVER
        self.hash_bits: i32 = hash_bits
        self.clock: i32 = clock
        self.place: i32 = -1
        self.index_place: i32 = 0


def _reverse(position: i64) -> i64:
    """The low 48 bits in reverse order: see :func:`node.values.table.find_position`."""
    x = position
    x = (x >> 1 & 0x5555_5555_5555) | (x & 0x5555_5555_5555) << 1
    x = (x >> 2 & 0x3333_3333_3333) | (x & 0x3333_3333_3333) << 2
    x = (x >> 4 & 0x0F0F_0F0F_0F0F) | (x & 0x0F0F_0F0F_0F0F) << 4
    return (
        (x & 0xFF) << 40
        | (x & 0xFF00) << 24
        | (x & 0xFF_0000) << 8
        | (x >> 8 & 0xFF_0000)
        | (x >> 24 & 0xFF00)
        | (x >> 40 & 0xFF)
    )


class KeyTable:
    """Entries by key. ``slots`` are the chains, ``timed`` those entries that have a deadline.

    To be changed by methods only. ``mask`` is the smallest power of two that is larger than every
    slot's number, less one.
    """

    __slots__ = ("slots", "mask", "size", "count", "timed")

    def __init__(self) -> None:
        self.slots: list[Entry | None] = [None]
        self.mask: i64 = 1
        self.size: i64 = 1  # slots
        self.count: i64 = 0  # entries
        self.timed: list[Entry] = []

    @property
    def room(self) -> int:
        """Bytes that the slots take, beyond those of an empty table."""
        return (self.size - 1) * SLOT_MEMORY

    def seek(self, key: bytes) -> Entry | None:
        """The entry of ``key``; None where there is none."""
        full: i64 = hash(key)
        i = full & self.mask
        if i >= self.size:
            i &= self.mask >> 1
        bits = i32(full)
        entry = self.slots[i]
        while entry is not None:
            if entry.hash_bits == bits and entry.key == key:
                return entry
            entry = entry.next
        return None

    def seek_all(self, words: list[bytes], step: i64) -> list[Entry | None]:
        """The entries of several keys: every ``step``-th of ``words``, from the second on.

        With many keys nearly all the time goes by waiting for memory: looked up in loops that do
        one step each, and little else, the processor waits for several of them at once.
        """
        count: i64 = len(words)
        hashes: vec[i64] = vec[i64]()
        at: i64 = 1
        while at < count:
            hashes = append(hashes, hash(words[at]))
            at += step
        mask = self.mask
        size = self.size
        slots = self.slots
        found: list[Entry | None] = []
        for full in hashes:
            i = full & mask
            if i >= size:
                i &= mask >> 1
            found.append(slots[i])
        for n in range(i64(len(found))):
            bits = i32(hashes[n])
            entry = found[n]
            if entry is not None and entry.hash_bits != bits:
                while entry is not None and entry.hash_bits != bits:
                    entry = entry.next
                found[n] = entry
        for n in range(i64(len(found))):
            entry = found[n]
            if entry is not None and entry.key != words[n * step + 1]:
                found[n] = self.seek(words[n * step + 1])
        return found

    def insert(self, key: bytes, value: Value, clock: i32) -> Entry:
        """Add a key that is not there."""
        full: i64 = hash(key)
        i = full & self.mask
        if i >= self.size:
            i &= self.mask >> 1
        entry = self.slots[i] = Entry(key, value, clock, i32(full), self.slots[i])
        self.count += 1
        if self.count > self.size:
            self._split()
        return entry

    def remove(self, key: bytes) -> Entry | None:
        """Take the entry of ``key`` out; None where there is none. It keeps its deadline."""
        full: i64 = hash(key)
        i = full & self.mask
        if i >= self.size:
            i &= self.mask >> 1
        bits = i32(full)
        before: Entry | None = None
        entry = self.slots[i]
        while entry is not None:
            if entry.hash_bits == bits and entry.key == key:
                break
            before = entry
            entry = entry.next
        if entry is None:
            return None
        if before is None:
            self.slots[i] = entry.next
        else:
            before.next = entry.next
        entry.next = None
        if entry.place >= 0:
            self._forget_place(entry)
        self.count -= 1
        if self.count * SPARSE < self.size:
            self._shrink(MOST_MERGED)
        return entry

    # Deadlines.

    def set_deadline(self, entry: Entry, deadline: i64) -> bool:
        """Give an entry a deadline; True if it had none."""
        entry.deadline = max(0, deadline)  # what is past is past
        if entry.place >= 0:
            return False
        entry.place = i32(len(self.timed))
        self.timed.append(entry)
        return True

    def drop_deadline(self, entry: Entry) -> bool:
        """Take an entry's deadline away; True if it had one."""
        if entry.place < 0:
            return False
        self._forget_place(entry)
        entry.deadline = NEVER
        entry.place = -1
        return True

    def _forget_place(self, entry: Entry) -> None:
        last = self.timed.pop()
        if last is not entry:
            self.timed[entry.place] = last
            last.place = entry.place

    # Walking and drawing.

    def keys_at(self, i: int) -> list[bytes]:
        """The keys of a slot."""
        keys: list[bytes] = []
        entry = self.slots[i]
        while entry is not None:
            keys.append(entry.key)
            entry = entry.next
        return keys

    def scan(self, cursor: int, count: int) -> tuple[int, list[bytes]]:
        """About ``count`` keys from ``cursor`` on, and the next cursor (0: the walk is over).

        Cursors are positions in the order of bit-reversed hashes, in which a slot is a contiguous
        interval however far the table has grown: every key that is there from the first call to
        the last is returned at least once, for any sequence of splits and merges between two.
        """
        keys: list[bytes] = []
        if count < 1:
            count = 1
        position: i64 = cursor & LOW
        mask = self.mask
        bits: i64 = int(mask).bit_length()
        visits: i64 = min(count, SPAN) * SCAN_VISITS
        while True:
            i = _reverse(position)
            low = mask >> 1
            width: i64 = SPAN >> (bits - 1)
            if (i & low) + low + 1 < self.size:
                # The slot has been split already, and its other half has one suffix bit more.
                low = mask
                width >>= 1
            i &= low
            start = position & -width
            entry = self.slots[i]
            if entry is not None:
                held = len(keys)
                while entry is not None:
                    keys.append(entry.key)
                    entry = entry.next
                if position != start or len(keys) > count:
                    # From the middle of it, or no further than that.
                    following, found = scan_bucket(keys[held:], position, count - held)
                    keys[held:] = found
                    if following >= 0:
                        return following, keys
            position = start + width
            if position >= SPAN:
                return 0, keys
            visits -= 1
            if len(keys) >= count or not visits:
                return position, keys

    def draw(self, random: Callable[[], float]) -> Entry:
        """An entry, each with the same chance; there must be one."""
        if self.count * SPARSE < self.size:
            # There was room made for more: it would take too many attempts, once or for ever.
            self._shrink(self.size)
        while True:
            entry = self.slots[int(random() * len(self.slots))]
            steps: i64 = int(random() * LONGEST_CHAIN)
            while entry is not None and steps:
                entry = entry.next
                steps -= 1
            if entry is not None:
                return entry

    def sample(self, count: int, random: Callable[[], float]) -> list[Entry]:
        """Up to ``count`` entries, which have nothing in common but some bits of their hash.

        Fewer where the table is sparse (``dictGetSomeKeys``).
        """
        found: list[Entry] = []
        i: i64 = int(random() * len(self.slots))
        visits = count * SAMPLE_VISITS
        while visits and len(found) < count:
            entry = self.slots[i]
            while entry is not None and len(found) < count:
                found.append(entry)
                entry = entry.next
            i += 1
            if i == self.size:
                i = 0
            visits -= 1
        return found

    def sample_timed(self, count: int, random: Callable[[], float]) -> list[Entry]:
        """Up to ``count`` random entries that have a deadline; some may be the same."""
        timed = self.timed
        if len(timed) <= count:
            return timed.copy()
        return [timed[int(random() * len(timed))] for _ in range(count)]

    # Growing and shrinking.

    def reserve(self, count: int) -> None:
        """Have the slots for about ``count`` keys ready, if the table is empty.

        No more than MOST_RESERVED: the number may be wrong.
        """
        size = min(count, MOST_RESERVED)
        if self.count or size <= self.size:
            return
        self.slots = [None] * size
        self.size = size
        self.mask = (1 << size.bit_length()) - 1

    def _split(self) -> None:
        upper = self.size
        mask = self.mask
        at = upper - ((mask + 1) >> 1)
        entry = self.slots[at]
        stays: Entry | None = None
        moves: Entry | None = None
        while entry is not None:
            following = entry.next
            if i64(entry.hash_bits) & mask == upper:
                entry.next = moves
                moves = entry
            else:
                entry.next = stays
                stays = entry
            entry = following
        self.slots[at] = stays
        self.slots.append(moves)
        self.size = upper + 1
        if self.size > mask:
            self.mask = mask * 2 + 1

    def _shrink(self, most: i64) -> None:
        """Merge slots until there are few enough, or ``most`` of them."""
        while most and self.size > 1 and self.count * SPARSE < self.size:
            self._merge()
            most -= 1

    def _merge(self) -> None:
        if self.size == (self.mask + 1) >> 1:
            self.mask >>= 1
        upper = self.slots.pop()
        self.size -= 1
        if upper is None:
            return
        at = self.size - ((self.mask + 1) >> 1)
        last = upper
        following = last.next
        while following is not None:
            last = following
            following = last.next
        last.next = self.slots[at]
        self.slots[at] = upper
