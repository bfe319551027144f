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

from collections.abc import Callable, Collection, Iterator
from itertools import chain
from math import sqrt
from random import Random
from typing import Final, Generic, TypeVar, overload

from librt.vecs import append, pop, vec
from mypy_extensions import i32, i64

from node.values.collection import DICT_BYTES, DICT_STEP, SMALL, measure_dict

V = TypeVar("V")
D = TypeVar("D")

LOAD: Final = 24
"""Entries per bucket, on average, beyond which a bucket is split.

A dict's size is a power of two and costs 26 to 52 bytes an entry, as it is full or not; since
linear hashing keeps all loads from LOAD / 2 to 2 * LOAD present at once, the average hardly depends
on LOAD.  A smaller one makes splits, scans and random picks cheaper, but more dicts for the same
entries do not stay in the processor's cache as well."""

SPARSE: Final = 6
"""Entries per bucket, on average, below which two buckets are merged."""

SPACIOUS: Final = 64
"""A dict out of which keys go as others come grows to thrice the room that its entries need.  With
more bytes per entry than this (half as much again as one that only grew) it is made anew, which
leaves room for a few keys more, so that the next time is not at once."""

SLACK: Final = 5.0
"""By how many standard deviations more than the mean random picks expect a bucket to hold.

Should one hold still more (one in a million does), the rest of its keys is not drawn before another
one of it has been; over all draws that is less than one in ten million."""

ENTRY_BYTES: Final = 41
"""What one entry costs on average, without key and value."""

SLOT_BYTES: Final = 12
"""What a bucket costs beside its dict: its places in the list and among the counts."""

POSITION_BITS: Final = 48
SPAN: Final = 1 << POSITION_BITS
LOW: Final = SPAN - 1
REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def find_position(key: bytes) -> int:
    """Return where a key lies in scan order: the low 48 bits of its hash, reversed."""
    return int.from_bytes((hash(key) & LOW).to_bytes(6, "little").translate(REVERSED), "big")


def scan_bucket(bucket: Collection[bytes], cursor: int, count: int) -> tuple[int, list[bytes]]:
    """Return up to `count` of these keys, from a position on, in scan order.

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
    if behind + BACKWARDS < n:
        for key in reversed(bucket):
            if behind == 0:
                return key
            behind -= 1
    for key in bucket:
        if n == 0:
            return key
        n -= 1
    raise IndexError("no such position")


BACKWARDS: Final = 4
"""How many steps forward are as dear as beginning to walk backward."""


def is_spacious(bucket: dict[bytes, V], size: int) -> bool:
    """Tell whether a dict whose `__sizeof__()` is `size` should be made anew."""
    return size > SPACIOUS * len(bucket) and len(bucket) > 10


class Table(Generic[V]):
    """A map from bytes to V with bounded work per operation, stable scans and uniform sampling.

    `buckets`, `mask` and `size` are public so that a hot path may find a bucket without a call;
    `count` is the number of entries.  `room` is what the buckets cost beyond an empty one, in
    bytes, without keys and values; it never lags behind.  Whoever inserts or deletes goes through
    the methods.  Iterators must be used up before the next change.

    `counts` has the number of entries of each bucket once more: close together, so that random
    picks look at no bucket in vain, which in a large table would be to wait for memory each time.
    """

    # A table that only grows knows the size of its dicts by the number of their entries; one that
    # is `worn`, since keys were taken out, asks them.
    __slots__ = (
        "buckets",
        "count",
        "counts",
        "grow_at",
        "mask",
        "peak",
        "room",
        "shrink_at",
        "size",
        "worn",
    )

    def __init__(self, source: "dict[bytes, V] | None" = None) -> None:
        self.buckets: list[dict[bytes, V]] = [{}]
        self.counts: vec[i32] = vec[i32]([0])
        self.mask: i64 = 1
        self.size: i64 = 1
        self.count = 0
        self.grow_at = LOAD
        self.shrink_at = 0
        self.peak = 0
        self.room = 0
        self.worn = False
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
        self._measure_all()

    # The map.

    @overload
    def get(self, key: bytes) -> V | None: ...
    @overload
    def get(self, key: bytes, default: D) -> V | D: ...
    def get(self, key: bytes, default: object = None) -> object:
        i: i64 = hash(key)
        i &= self.mask
        if i >= self.size:
            i &= self.mask >> 1
        return self.buckets[i].get(key, default)

    def __contains__(self, key: bytes) -> bool:
        i: i64 = hash(key)
        i &= self.mask
        if i >= self.size:
            i &= self.mask >> 1
        return key in self.buckets[i]

    def __getitem__(self, key: bytes) -> V:
        i: i64 = hash(key)
        i &= self.mask
        if i >= self.size:
            i &= self.mask >> 1
        return self.buckets[i][key]

    def __setitem__(self, key: bytes, value: V) -> None:
        i: i64 = hash(key)
        i &= self.mask
        if i >= self.size:
            i &= self.mask >> 1
        bucket = self.buckets[i]
        before = len(bucket)
        size = bucket.__sizeof__() if self.worn else 0
        bucket[key] = value
        if len(bucket) != before:
            self._count_in(i, size)

    def __delitem__(self, key: bytes) -> None:
        i: i64 = hash(key)
        i &= self.mask
        if i >= self.size:
            i &= self.mask >> 1
        del self.buckets[i][key]
        self._count_out(i)

    @overload
    def pop(self, key: bytes) -> V | None: ...
    @overload
    def pop(self, key: bytes, default: D) -> V | D: ...
    def pop(self, key: bytes, default: object = None) -> object:
        """Remove a key and return its value, or the default when it is absent."""
        i: i64 = hash(key)
        i &= self.mask
        if i >= self.size:
            i &= self.mask >> 1
        bucket = self.buckets[i]
        if key not in bucket:
            return default
        value = bucket.pop(key)
        self._count_out(i)
        return value

    def setdefault(self, key: bytes, default: V) -> V:
        i: i64 = hash(key)
        i &= self.mask
        if i >= self.size:
            i &= self.mask >> 1
        bucket = self.buckets[i]
        before = len(bucket)
        size = bucket.__sizeof__() if self.worn else 0
        value = bucket.setdefault(key, default)
        if len(bucket) != before:
            self._count_in(i, size)
        return value

    def replace(self, key: bytes, value: V) -> V | None:
        """Set a key and return the value it had before, or None."""
        i: i64 = hash(key)
        i &= self.mask
        if i >= self.size:
            i &= self.mask >> 1
        bucket = self.buckets[i]
        before = len(bucket)
        size = bucket.__sizeof__() if self.worn else 0
        old = bucket.setdefault(key, value)
        if len(bucket) != before:
            self._count_in(i, size)
            return None
        bucket[key] = value
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
        self.counts = vec[i32]([0])
        self.count = 0
        self.mask = 1
        self.room = 0
        self.worn = False
        self._resize(1)

    def copy(self) -> "Table[V]":
        """Return a table with the same entries, in O(n)."""
        other: Table[V] = Table()
        other.buckets = [bucket.copy() for bucket in self.buckets]
        other.count = self.count
        other.mask = self.mask
        other.worn = self.worn
        other._resize(self.size)
        other._measure_all()
        return other

    # The account.

    def _count_in(self, i: i64, size: int) -> None:
        """Account for a key that is new in bucket i, whose dict had a size before, if worn."""
        bucket = self.buckets[i]
        if self.worn:
            after: int = bucket.__sizeof__()
            if after != size:
                if is_spacious(bucket, after):
                    bucket = self.buckets[i] = {**bucket}
                    after = bucket.__sizeof__()
                self.room += measure_dict(after) - measure_dict(size)
        elif len(bucket) <= SMALL:
            self.room += DICT_STEP[len(bucket)]
        else:
            self._measure_all()  # beyond all likelihood
        self.count += 1
        self.counts[i] += 1
        if self.count > self.grow_at:
            self._split()

    def _count_out(self, i: i64) -> None:
        """Account for a key that was taken out of bucket i."""
        self.worn = True
        bucket = self.buckets[i]
        if not len(bucket):
            self.room -= measure_dict(bucket.__sizeof__()) - DICT_BYTES[0]
            self.buckets[i] = {}
        self.count -= 1
        self.counts[i] -= 1
        if self.count < self.shrink_at:
            self._merge()

    def _measure_all(self) -> None:
        """Find out what all the buckets hold and cost."""
        room = SLOT_BYTES * (len(self.buckets) - 1) - DICT_BYTES[0]
        counts = vec[i32]()
        for bucket in self.buckets:
            counts = append(counts, i32(len(bucket)))
            room += measure_dict(bucket.__sizeof__())
        self.counts = counts
        self.room = room

    # Growth and shrinkage, one bucket at a time.

    def _resize(self, size: int) -> None:
        self.size = size
        self.grow_at = size * LOAD
        self.shrink_at = (size - 1) * SPARSE

    def _split(self) -> None:
        half = (self.mask + 1) >> 1
        source = self.size - half
        bucket = self.buckets[source]
        lower: dict[bytes, V] = {}
        upper: dict[bytes, V] = {}
        for key, value in bucket.items():
            place: i64 = hash(key)
            if place & half:
                upper[key] = value
            else:
                lower[key] = value
        self.buckets.append(upper)
        self.buckets[source] = lower
        self.counts[source] = i32(len(lower))
        self.counts = append(self.counts, i32(len(upper)))
        self.room += (
            measure_dict(lower.__sizeof__())
            + measure_dict(upper.__sizeof__())
            - measure_dict(bucket.__sizeof__())
            + SLOT_BYTES
        )
        size = self.size + 1
        if size > self.mask:
            self.mask = self.mask * 2 + 1
        self._resize(size)

    def _merge(self) -> None:
        moved = self.buckets.pop()
        self._unlink_last()
        target = self.size & (self.mask >> 1)
        bucket = self.buckets[target]
        # A new dict, since the old one may be mostly holes after many deletions.
        merged = {**bucket, **moved}
        self.buckets[target] = merged
        self.counts[target] = i32(len(merged))
        self.room += (
            measure_dict(merged.__sizeof__())
            - measure_dict(bucket.__sizeof__())
            - measure_dict(moved.__sizeof__())
            - SLOT_BYTES
        )

    def _unlink_last(self) -> None:
        self.counts, _ = pop(self.counts)
        size = self.size - 1
        if size * 2 <= self.mask:
            self.mask >>= 1
            # Popping gives no memory back.
            counts = vec[i32]([self.counts[0]])
            for i in range(1, size):
                counts = append(counts, self.counts[i])
            self.counts = counts
        self._resize(size)

    # What a dict cannot do.

    def scan(self, cursor: int, count: int) -> tuple[int, list[bytes]]:
        """Return the next cursor, 0 at the end, and about `count` keys: see `scan_buckets`."""
        return scan_buckets(self.buckets.__getitem__, self.mask, self.size, cursor, count)

    def random_key(self, rng: Random) -> bytes:
        """Return a key, every key with the same probability; IndexError when there is none."""
        i, row = self._draw(rng)
        return nth_key(self.buckets[i], row)

    def pop_random(self, rng: Random) -> bytes:
        """Remove a random key and return it; IndexError when there is none."""
        i, row = self._draw(rng)
        bucket = self.buckets[i]
        key = nth_key(bucket, row)
        del bucket[key]
        self._count_out(i)
        return key

    def _draw(self, rng: Random) -> tuple[int, int]:
        """Return a bucket's number and a position in its dict, all being equally likely.

        Draws a cell of an imagined grid until the cell is taken.  It has a column for each bucket
        of the smaller table that is growing into the next size: the two halves of one that has
        been split share its column, so that all cells are about equally full.
        """
        if self.count == 0:
            raise IndexError("random key of an empty table")
        if self.size == 1:
            return 0, int(rng.random() * self.count)
        counts = self.counts
        half: i64 = (self.mask + 1) >> 1
        split: i64 = self.size - half
        mean = self.count / float(half + half)
        # Rows for a bucket that has been split; one that has not takes twice as many.
        rows: i64 = max(int(mean + SLACK * sqrt(mean)) + 2, self.peak)
        while True:
            height: i64 = rows + rows
            cell: i64 = int(rng.random() * float(half * height))
            column: i64 = cell // height
            row: i64 = cell - column * height
            if column >= split:
                taken = i64(counts[column])
                excess: i64 = taken - height
            else:
                if row >= rows:
                    row -= rows
                    column += half
                taken = i64(counts[column])
                excess = taken - rows
            if excess > 0:
                # Beyond all likelihood, but then make room and draw again.
                rows += excess
                self.peak = rows
            elif row < taken:
                return column, row

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
            self.counts[self.size - 1] = i32(len(bucket))
            self.worn = True
            self.count -= budget - removed
            removed = budget
        while self.count < self.shrink_at:
            self._merge()
        return removed

    def pop_bucket(self) -> dict[bytes, V]:
        """Remove one bucket with all its entries and return it."""
        if self.size == 1:
            bucket = self.buckets[0]
            self.buckets[0] = {}
            self.counts[0] = 0
            self.room = 0
        else:
            bucket = self.buckets.pop()
            self._unlink_last()
            self.room -= measure_dict(bucket.__sizeof__()) + SLOT_BYTES
        self.count -= len(bucket)
        return bucket
