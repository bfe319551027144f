"""A hash map from bytes that never pauses: linear hashing over small dicts.

One big dict doubles in one go, which for ten million keys stops the server for a second.  Here the
entries lie in buckets, each a dict of a few dozen, and the number of buckets follows the number of
entries one bucket at a time: an insertion splits at most one bucket, a deletion merges at most one.

Addressing.  With `size` buckets and `mask` the smallest 2**k - 1 such that size <= mask:

    i = hash(key) & mask
    if i >= size: i &= mask >> 1

so bucket i holds exactly the keys whose hash ends in a certain bit string, and a split tells the
keys of one bucket apart by one more bit.  Turn the hash round, low bit first, and those suffixes
become prefixes: every bucket is one contiguous interval of *positions*, the bit-reversed low 48
bits of the hash.  A position is a property of the key and the process alone, not of the current
number of buckets.  That is why SCAN's cursor is simply a position: it stays valid through any
growth and shrinkage, returns every key that is there throughout, and repeats none.

Python keys the hash of bytes with a secret of the process (SipHash), so clients cannot choose
colliding keys; two runs of the process disagree about positions, which SCAN permits.
"""

from collections.abc import Callable, Iterator
from itertools import chain, islice
from random import Random
from typing import Generic, TypeVar, overload

V = TypeVar("V")
D = TypeVar("D")

LOAD = 44
"""Entries per bucket, on average, beyond which a bucket is split.

A dict's size is a power of two and costs 26 to 52 bytes an entry, as it is full or not.  Since
linear hashing keeps all loads from LOAD / 2 to 2 * LOAD present at once, the average is near 39
bytes for any LOAD from 40 to 100; the smallest of these makes splits, scans and random picks
cheapest."""

SPARSE = 11
"""Entries per bucket, on average, below which two buckets are merged."""

SLACK = 6
"""By how many standard deviations more than the mean random picks expect a bucket to hold."""

ENTRY_BYTES = 40
"""What one entry costs on average, without key and value."""

POSITION_BITS = 48
SPAN = 1 << POSITION_BITS
LOW = SPAN - 1
REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def find_position(key: bytes) -> int:
    """Return where a key lies in scan order: the low 48 bits of its hash, reversed."""
    return int.from_bytes((hash(key) & LOW).to_bytes(6, "little").translate(REVERSED), "big")


def scan_bucket(bucket: dict[bytes, V], cursor: int, count: int) -> tuple[int, list[bytes]]:
    """Return up to `count` keys of one dict, from a position on, in scan order.

    Keys of equal position stay together, so there may be more than `count`.  The first item is the
    position of the next key, or -1 when there is none left.
    """
    entries = [
        (int.from_bytes((hash(key) & LOW).to_bytes(6, "little").translate(REVERSED), "big"), key)
        for key in bucket
    ]
    entries.sort()
    total = len(entries)
    start = 0
    while start < total and entries[start][0] < cursor:
        start += 1
    stop = start + count
    if stop >= total:
        return -1, [key for _, key in entries[start:]]
    last = entries[stop - 1][0]
    while stop < total and entries[stop][0] == last:
        stop += 1
    keys = [key for _, key in entries[start:stop]]
    return (entries[stop][0] if stop < total else -1), keys


def scan_buckets(
    bucket_at: Callable[[int], dict[bytes, V]], mask: int, size: int, cursor: int, count: int
) -> tuple[int, list[bytes]]:
    """Return the next cursor, 0 at the end, and about `count` keys of a table of buckets.

    A full iteration from cursor 0 returns every key that was there from its start to its end,
    whatever else was added or removed meanwhile.  Takes O(count), at least one bucket.  Any
    integer is accepted as a cursor.
    """
    keys: list[bytes] = []
    if count < 1:
        count = 1
    position = cursor & LOW
    visits = count * 10
    while True:
        i = int.from_bytes(position.to_bytes(6, "little").translate(REVERSED), "big")
        low = mask >> 1
        if (i & low) + low + 1 < size:
            # The bucket has been split already, and its other half has one suffix bit more.
            low = mask
        i &= low
        width = SPAN >> low.bit_length()
        start = position & -width
        bucket = bucket_at(i)
        if position == start and len(bucket) <= count - len(keys):
            keys.extend(bucket)
        elif bucket:
            following, found = scan_bucket(bucket, position, count - len(keys))
            keys.extend(found)
            if following >= 0:
                return following, keys
        position = start + width
        if position >= SPAN:
            return 0, keys
        visits -= 1
        if len(keys) >= count or not visits:
            return position, keys


def nth_key(bucket: dict[bytes, V], n: int) -> bytes:
    """Return the key at a position of the dict's order, walking from the nearer end."""
    behind = len(bucket) - 1 - n
    if behind < n:
        return next(islice(reversed(bucket), behind, None))
    return next(islice(bucket, n, None))


class Table(Generic[V]):
    """A map from bytes to V with bounded work per operation, stable scans and uniform sampling.

    `buckets`, `mask` and `size` are public so that a hot path may find a bucket without a call;
    `count` is the number of entries.  Whoever inserts or deletes goes through the methods.
    Iterators must be used up before the next change.
    """

    __slots__ = ("buckets", "count", "grow_at", "mask", "peak", "shrink_at", "size")

    def __init__(self, source: "dict[bytes, V] | None" = None) -> None:
        self.buckets: list[dict[bytes, V]] = [{}]
        self.mask = 1
        self.size = 1
        self.count = 0
        self.grow_at = LOAD
        self.shrink_at = 0
        self.peak = 0
        if source:
            self._fill(source)

    def _fill(self, source: dict[bytes, V]) -> None:
        size = 1
        while size * LOAD < len(source):
            size <<= 1
        low = size - 1
        buckets: list[dict[bytes, V]] = [{} for _ in range(size)]
        for key, value in source.items():
            buckets[hash(key) & low][key] = value
        self.buckets = buckets
        self.count = len(source)
        self.mask = size * 2 - 1
        self._resize(size)

    # The map.

    @overload
    def get(self, key: bytes) -> V | None: ...
    @overload
    def get(self, key: bytes, default: D) -> V | D: ...
    def get(self, key: bytes, default: object = None) -> object:
        i = hash(key) & self.mask
        if i >= self.size:
            i &= self.mask >> 1
        return self.buckets[i].get(key, default)

    def __contains__(self, key: bytes) -> bool:
        i = hash(key) & self.mask
        if i >= self.size:
            i &= self.mask >> 1
        return key in self.buckets[i]

    def __getitem__(self, key: bytes) -> V:
        i = hash(key) & self.mask
        if i >= self.size:
            i &= self.mask >> 1
        return self.buckets[i][key]

    def __setitem__(self, key: bytes, value: V) -> None:
        i = hash(key) & self.mask
        if i >= self.size:
            i &= self.mask >> 1
        bucket = self.buckets[i]
        before = len(bucket)
        bucket[key] = value
        if len(bucket) != before:
            self.count += 1
            if self.count > self.grow_at:
                self._split()

    def __delitem__(self, key: bytes) -> None:
        i = hash(key) & self.mask
        if i >= self.size:
            i &= self.mask >> 1
        del self.buckets[i][key]
        self.count -= 1
        if self.count < self.shrink_at:
            self._merge()

    @overload
    def pop(self, key: bytes) -> V | None: ...
    @overload
    def pop(self, key: bytes, default: D) -> V | D: ...
    def pop(self, key: bytes, default: object = None) -> object:
        """Remove a key and return its value, or the default when it is absent."""
        i = hash(key) & self.mask
        if i >= self.size:
            i &= self.mask >> 1
        bucket = self.buckets[i]
        if key not in bucket:
            return default
        value = bucket.pop(key)
        self.count -= 1
        if self.count < self.shrink_at:
            self._merge()
        return value

    def setdefault(self, key: bytes, default: V) -> V:
        i = hash(key) & self.mask
        if i >= self.size:
            i &= self.mask >> 1
        bucket = self.buckets[i]
        before = len(bucket)
        value = bucket.setdefault(key, default)
        if len(bucket) != before:
            self.count += 1
            if self.count > self.grow_at:
                self._split()
        return value

    def replace(self, key: bytes, value: V) -> V | None:
        """Set a key and return the value it had before, or None."""
        i = hash(key) & self.mask
        if i >= self.size:
            i &= self.mask >> 1
        bucket = self.buckets[i]
        old = bucket.get(key)
        before = len(bucket)
        bucket[key] = value
        if len(bucket) != before:
            self.count += 1
            if self.count > self.grow_at:
                self._split()
        return old

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[bytes]:
        return chain.from_iterable(self.buckets)

    def keys(self) -> Iterator[bytes]:
        return chain.from_iterable(self.buckets)

    def values(self) -> Iterator[V]:
        return chain.from_iterable([bucket.values() for bucket in self.buckets])

    def items(self) -> Iterator[tuple[bytes, V]]:
        return chain.from_iterable([bucket.items() for bucket in self.buckets])

    def clear(self) -> None:
        """Remove everything at once; see `drain` for a way in bounded steps."""
        self.buckets = [{}]
        self.count = 0
        self.mask = 1
        self._resize(1)

    def copy(self) -> "Table[V]":
        """Return a table with the same entries, in O(n)."""
        other: Table[V] = Table()
        other.buckets = [bucket.copy() for bucket in self.buckets]
        other.count = self.count
        other.mask = self.mask
        other._resize(self.size)
        return other

    # Growth and shrinkage, one bucket at a time.

    def _resize(self, size: int) -> None:
        self.size = size
        self.grow_at = size * LOAD
        self.shrink_at = (size - 1) * SPARSE

    def _split(self) -> None:
        half = (self.mask + 1) >> 1
        source = self.size - half
        bucket = self.buckets[source]
        self.buckets.append({key: value for key, value in bucket.items() if hash(key) & half})
        self.buckets[source] = {key: value for key, value in bucket.items() if not hash(key) & half}
        size = self.size + 1
        if size > self.mask:
            self.mask = self.mask * 2 + 1
        self._resize(size)

    def _merge(self) -> None:
        moved = self.buckets.pop()
        self._unlink_last()
        target = self.size & (self.mask >> 1)
        # A new dict, since the old one may be mostly holes after many deletions.
        self.buckets[target] = {**self.buckets[target], **moved}

    def _unlink_last(self) -> None:
        size = self.size - 1
        if size * 2 <= self.mask:
            self.mask >>= 1
        self._resize(size)

    # What a dict cannot do.

    def scan(self, cursor: int, count: int) -> tuple[int, list[bytes]]:
        """Return the next cursor, 0 at the end, and about `count` keys: see `scan_buckets`."""
        return scan_buckets(self.buckets.__getitem__, self.mask, self.size, cursor, count)

    def random_key(self, rng: Random) -> bytes:
        """Return a key, every key with the same probability; IndexError when there is none.

        Draws a cell of an imagined grid until the cell is taken.  It has a column for each bucket
        of the smaller table that is growing into the next size: the two halves of one that has
        been split share its column, so that all cells are about equally full.
        """
        count = self.count
        if count == 0:
            raise IndexError("random key of an empty table")
        buckets = self.buckets
        if self.size == 1:
            bucket = buckets[0]
            return nth_key(bucket, int(rng.random() * count))
        half = (self.mask + 1) >> 1
        split = self.size - half
        mean = count / (half + half)
        # Rows for a bucket that has been split; one that has not takes twice as many.
        rows = int(mean + SLACK * mean**0.5) + 4
        if rows < self.peak:
            rows = self.peak
        draw = rng.random
        while True:
            column = int(draw() * half)
            row = int(draw() * (rows + rows))
            if column >= split:
                bucket = buckets[column]
                excess = len(bucket) - rows - rows
            else:
                if row >= rows:
                    row -= rows
                    column += half
                bucket = buckets[column]
                excess = len(bucket) - rows
            if excess > 0:
                # Beyond all likelihood, but then make room and draw again.
                rows += excess
                self.peak = rows
            elif row < len(bucket):
                return nth_key(bucket, row)

    def sample(self, rng: Random, n: int) -> list[bytes]:
        """Return n distinct keys, or all when there are fewer; every subset is equally likely."""
        if n >= self.count:
            return list(self)
        if n * 3 >= self.count:
            return rng.sample(list(self), n)
        chosen: dict[bytes, None] = {}
        while len(chosen) < n:
            chosen[self.random_key(rng)] = None
        return list(chosen)

    def drain(self, budget: int) -> int:
        """Destroy entries until `budget` is reached or nothing is left.

        Returns the number destroyed.  What remains is an intact table.
        """
        removed = 0
        while removed < budget and self.count:
            bucket = self.buckets[-1]
            if len(bucket) <= budget - removed:
                removed += len(self.pop_bucket())
                continue
            for _ in range(budget - removed):
                bucket.popitem()
            self.count -= budget - removed
            removed = budget
        return removed

    def pop_bucket(self) -> dict[bytes, V]:
        """Remove one bucket with all its entries and return it."""
        if self.size == 1:
            bucket = self.buckets[0]
            self.buckets[0] = {}
        else:
            bucket = self.buckets.pop()
            self._unlink_last()
        self.count -= len(bucket)
        return bucket
