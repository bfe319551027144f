"""The list (Redis's `t_list.c` and `quicklist.c`).

Both ends are plain Python lists of bytes, so that pushes, pops and ranges there cost what they cost
in Python; what lies between is cut into chunks of about CHUNK elements, each packed into one bytes
object of five bytes overhead per element.

A small list is one Python list that serves as both ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Final

from node.values.chunk import Chunk, count_elements, pack, unpack
from node.values.collection import Collection, Limits
from node.values.listpack import HEADER, SAFE_SIZE, SIZE_LIMITS, measure_entry

CHUNK: Final = 128
"""Elements per chunk when it is made; edits may leave fewer, or up to twice as many."""

OPEN: Final = 256
"""Elements either end holds before it gives a chunk away."""

BASE_BYTES: Final = 112 + 72
"""An empty list: the object and one Python list."""

LISTS_BYTES: Final = 3 * 80
"""What the first chunk costs once: a list of the chunks, one of their sizes, one for the tail."""

OPEN_BYTES: Final = 50
"""What an element at the ends costs beside its bytes: object header, rounding, place in a list."""

PACKED_BYTES: Final = 5
"""What an element of a packed chunk costs beside its bytes."""

CHUNK_BYTES: Final = 64
"""What a chunk costs: its object and its place."""

COUNTED: Final = 16384
"""No list with more elements fits into half of the largest listpack there can be."""

HEAVY: Final = 4 * SIZE_LIMITS[-1]
"""A list of more bytes is far from any listpack, and need not be weighed at each change."""

NO_CHUNKS: list[Chunk] = []
NO_COUNTS: list[int] = []
"""What lists without chunks share; `_place` puts lists of their own in place of them."""


class List(Collection):
    """A sequence of bytes with cheap ends.

    Indexes count from 0 at the left, negative ones from -1 at the right; where a method takes a
    range, `stop` is exclusive and both are already within the list.
    """

    __slots__ = ("compact", "count", "counts", "head", "middle", "tail", "weight")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.accounted = 0
        self.memory = BASE_BYTES
        self.compact = True
        # The size as one listpack; -1 while the list is too long for that to matter.
        self.weight = HEADER
        self.count = 0
        self.head: list[bytes] = []
        self.tail = self.head
        self.middle = NO_CHUNKS
        self.counts = NO_COUNTS

    @staticmethod
    def from_elements(limits: Limits, elements: list[bytes], weight: int) -> List:
        """Make a list whose size as one listpack is `weight`; its encoding is for the caller to
        choose.  Takes the elements over.
        """
        result = List(limits)
        if len(elements) > OPEN:
            for element in elements:
                result.push_right(element)
            return result
        result.weight = weight
        result.count = len(elements)
        result.memory += sum(map(len, elements)) + len(elements) * OPEN_BYTES
        result.head = elements
        result.tail = elements
        return result

    def __len__(self) -> int:
        return self.count

    def encoding(self) -> str:
        return "listpack" if self.compact else "quicklist"

    # The encoding.

    def _exceeds(self, size: int, count: int) -> bool:
        """Tell whether a listpack of this size and count is larger than the limits allow."""
        fill = self.limits.list_max_listpack_size
        if fill < 0:
            return size > (SIZE_LIMITS[-fill - 1] if fill >= -5 else SIZE_LIMITS[-1])
        return size > SAFE_SIZE or count > max(fill, 1)

    def _grow(self, value: bytes) -> None:
        """Account for an element about to be added, while `weight` is known."""
        weight = self.weight
        if self.compact:
            if self._exceeds(weight + len(value), self.count + 1):
                self.compact = False
        elif weight > HEAVY:
            self.weight = -1
            return
        self.weight = weight + measure_entry(value)

    def _shrink(self, value: bytes) -> None:
        """Account for an element that was removed, and become a listpack again if small."""
        if self.weight >= 0:
            self.weight -= measure_entry(value)
        if not self.compact:
            self._reconsider()

    def _reconsider(self) -> None:
        """Return to a listpack if the list has shrunk below half the limit.

        Redis waits besides until all that is left lies in one node of its quicklist, of which there
        is no counterpart here; that makes a difference of a few elements at most times.
        """
        if self.compact or not self.count:
            return
        fill = self.limits.list_max_listpack_size
        if fill < 0:
            half = (SIZE_LIMITS[-fill - 1] if fill >= -5 else SIZE_LIMITS[-1]) // 2
            if self.count * 2 > half:
                return
            if self.weight < 0:
                self._weigh()
            self.compact = self.weight <= half
        elif self.count <= max(fill, 1) // 2:
            if self.weight < 0:
                self._weigh()
            self.compact = True

    def _weigh(self) -> None:
        self.weight = HEADER + sum(map(measure_entry, self))

    # The ends.

    def push_left(self, value: bytes) -> None:
        if self.weight >= 0:
            self._grow(value)
        head = self.head
        head.insert(0, value)
        self.count += 1
        self.memory += len(value) + OPEN_BYTES
        if len(head) > OPEN:
            self._spill_head()

    def push_right(self, value: bytes) -> None:
        if self.weight >= 0:
            self._grow(value)
        tail = self.tail
        tail.append(value)
        self.count += 1
        self.memory += len(value) + OPEN_BYTES
        if len(tail) > OPEN:
            self._spill_tail()

    def extend_left(self, values: Sequence[bytes]) -> None:
        """Push several, one after the other; the last becomes the first."""
        self._expect(values)
        compact = self.compact
        for value in values:
            self.push_left(value)
        self.compact = compact and self.weight >= 0

    def extend_right(self, values: Sequence[bytes]) -> None:
        """Push several, one after the other."""
        self._expect(values)
        compact = self.compact
        for value in values:
            self.push_right(value)
        self.compact = compact and self.weight >= 0

    def _expect(self, values: Sequence[bytes]) -> None:
        """Choose the encoding for a command that brings several values.

        Redis does so once, by the bytes of the values alone, not by what they take in a listpack.
        """
        if self.compact and self._exceeds(
            self.weight + sum(map(len, values)), self.count + len(values)
        ):
            self.compact = False

    def pop_left(self) -> bytes:
        """Remove and return the first element; IndexError when there is none."""
        head = self.head
        value = head.pop(0)
        self.count -= 1
        self.memory -= len(value) + OPEN_BYTES
        if not head:
            self._refill_head()
        if self.weight >= 0 or self.count <= COUNTED:
            self._shrink(value)
        return value

    def pop_right(self) -> bytes:
        """Remove and return the last element; IndexError when there is none."""
        tail = self.tail
        value = tail.pop()
        self.count -= 1
        self.memory -= len(value) + OPEN_BYTES
        if not tail:
            self._refill_tail()
        if self.weight >= 0 or self.count <= COUNTED:
            self._shrink(value)
        return value

    def _spill_head(self) -> None:
        head = self.head
        if head is self.tail:
            self.tail = head[CHUNK:]
            del head[CHUNK:]
            return
        part = head[CHUNK:]
        del head[CHUNK:]
        self._place(0, part)

    def _spill_tail(self) -> None:
        tail = self.tail
        part = tail[:-CHUNK]
        del tail[:-CHUNK]
        if tail is self.head:
            self.head = part
        else:
            self._place(len(self.middle), part)

    def _refill_head(self) -> None:
        if self.middle:
            self.head = self._take(0)
        else:
            self.head = self.tail

    def _refill_tail(self) -> None:
        if self.middle:
            self.tail = self._take(len(self.middle) - 1)
        else:
            self.tail = self.head

    # The chunks.

    def _place(self, k: int, part: list[bytes]) -> None:
        """Insert a chunk before the k-th, of elements that were accounted as open."""
        chunk = pack(part)
        if self.middle is NO_CHUNKS:
            self.middle = []
            self.counts = []
            self.memory += LISTS_BYTES
        self.middle.insert(k, chunk)
        self.counts.insert(k, len(part))
        self.memory += CHUNK_BYTES
        if not isinstance(chunk, list):
            self.memory -= len(part) * (OPEN_BYTES - PACKED_BYTES)

    def _take(self, k: int) -> list[bytes]:
        """Remove the k-th chunk and return its elements, accounted as open."""
        chunk = self.middle.pop(k)
        count = self.counts.pop(k)
        self.memory -= CHUNK_BYTES
        if isinstance(chunk, list):
            return chunk
        self.memory += count * (OPEN_BYTES - PACKED_BYTES)
        return unpack(chunk)

    def _put_back(self, k: int, part: list[bytes]) -> None:
        """Insert what an edit left of a chunk: nothing, one chunk or two."""
        if len(part) > 2 * CHUNK:
            half = len(part) // 2
            self._place(k, part[half:])
            del part[half:]
        if part:
            self._place(k, part)

    def _locate(self, index: int) -> tuple[int, int]:
        """Return the chunk with the index-th element of the middle, and its place in the chunk.

        Walks over blocks of chunks, from the nearer end.
        """
        counts = self.counts
        total = self.count - len(self.head) - len(self.tail)
        k = 0
        if index * 2 < total:
            while True:
                block = sum(counts[k : k + 64])
                if index < block:
                    break
                index -= block
                k += 64
            while index >= counts[k]:
                index -= counts[k]
                k += 1
            return k, index
        index -= total
        k = len(counts)
        while True:
            start = max(0, k - 64)
            block = sum(counts[start:k])
            if index + block >= 0:
                break
            index += block
            k = start
        while index < 0:
            k -= 1
            index += counts[k]
        return k, index

    def _chunks(self) -> Iterator[Chunk]:
        """Iterate over head, chunks and tail."""
        yield self.head
        if self.head is not self.tail:
            yield from self.middle
            yield self.tail

    # Elements and ranges.

    def __iter__(self) -> Iterator[bytes]:
        return chain.from_iterable(map(unpack, self._chunks()))

    def get(self, index: int) -> bytes | None:
        """Return an element, or None beyond the ends."""
        if index < 0:
            index += self.count
        if index < 0 or index >= self.count:
            return None
        head = self.head
        if index < len(head):
            return head[index]
        from_end = index - self.count
        if -from_end <= len(self.tail):
            return self.tail[from_end]
        k, place = self._locate(index - len(head))
        return unpack(self.middle[k])[place]

    def set(self, index: int, value: bytes) -> bool:
        """Replace an element and tell whether there is one of this index."""
        if index < 0:
            index += self.count
        if index < 0 or index >= self.count:
            return False
        head = self.head
        from_end = index - self.count
        if index < len(head):
            old = head[index]
            head[index] = value
        elif -from_end <= len(self.tail):
            old = self.tail[from_end]
            self.tail[from_end] = value
        else:
            k, place = self._locate(index - len(head))
            part = self._take(k)
            old = part[place]
            part[place] = value
            self._place(k, part)
        self.memory += len(value) - len(old)
        if self.weight >= 0:
            self._grow(value)
        if self.weight >= 0 or self.count <= COUNTED:
            self._shrink(old)
        return True

    def range(self, start: int, stop: int) -> list[bytes]:
        """Return the elements from `start` to before `stop`."""
        head = self.head
        first = len(head)
        if stop <= first:
            return head[start:stop]
        if head is self.tail:
            return head[start:stop]
        last = self.count - len(self.tail)
        if start >= last:
            return self.tail[start - last : stop - last]
        found = head[start:] if start < first else []
        begin = max(start, first) - first
        end = min(stop, last) - first
        if begin < end:
            k, place = self._locate(begin)
            left = end - begin
            while left:
                part = unpack(self.middle[k])
                part = part[place : place + left] if place or left < len(part) else part
                found += part
                left -= len(part)
                place = 0
                k += 1
        if stop > last:
            found += self.tail[: stop - last]
        return found

    def trim(self, start: int, stop: int) -> None:
        """Remove all but the elements from `start` to before `stop`."""
        if start >= stop:
            self.drain(self.count)
            return
        weighed = self.weight >= 0
        if weighed and self.count > 2 * (stop - start):
            # What stays is weighed afterwards, since it is less than what goes.
            self.weight = -1
        self._cut_right(self.count - stop)
        self._cut_left(start)
        if weighed and self.weight < 0:
            self._weigh()
        self._reconsider()

    def take_left(self, n: int) -> list[bytes]:
        """Remove and return the first n elements, or all when there are fewer."""
        n = min(n, self.count)
        found = self.range(0, n)
        self.trim(n, self.count)
        return found

    def take_right(self, n: int) -> list[bytes]:
        """Remove and return the last n elements, or all when there are fewer, the last first."""
        start = max(self.count - n, 0)
        found = self.range(start, self.count)
        found.reverse()
        self.trim(0, start)
        return found

    def _cut_left(self, n: int) -> None:
        while n:
            head = self.head
            size = len(head)
            if n < size:
                self._discard(head[:n])
                del head[:n]
                return
            n -= size
            self._discard(head)
            head.clear()
            while self.counts and n >= self.counts[0]:
                n -= self.counts[0]
                self._discard(self._take(0))
            self._refill_head()
            if not self.head:
                return

    def _cut_right(self, n: int) -> None:
        while n:
            tail = self.tail
            size = len(tail)
            if n < size:
                self._discard(tail[size - n :])
                del tail[size - n :]
                return
            n -= size
            self._discard(tail)
            tail.clear()
            while self.counts and n >= self.counts[-1]:
                n -= self.counts[-1]
                self._discard(self._take(len(self.counts) - 1))
            self._refill_tail()
            if not self.tail:
                return

    def _discard(self, part: list[bytes]) -> None:
        """Take open elements off the books."""
        self.count -= len(part)
        self.memory -= sum(map(len, part)) + len(part) * OPEN_BYTES
        if self.weight >= 0:
            self.weight -= sum(map(measure_entry, part))

    # By value.

    def insert(self, pivot: bytes, value: bytes, before: bool) -> bool:
        """Insert a value before or after the first element equal to `pivot`.

        Returns False, and changes nothing but perhaps the encoding, when there is none.
        """
        if self.compact:
            # Redis makes room before it looks for the pivot.
            self._expect((value,))
        shift = 0 if before else 1
        head = self.head
        tail = self.tail
        if pivot in head:
            self._add(value)
            head.insert(head.index(pivot) + shift, value)
            if len(head) > OPEN:
                self._spill_head()
            return True
        for k, chunk in enumerate(self.middle):
            # A chunk without these bytes anywhere does not have the element.
            if pivot in chunk and pivot in unpack(chunk):
                self._add(value)
                part = self._take(k)
                part.insert(part.index(pivot) + shift, value)
                self._put_back(k, part)
                return True
        if tail is not head and pivot in tail:
            self._add(value)
            tail.insert(tail.index(pivot) + shift, value)
            if len(tail) > OPEN:
                self._spill_tail()
            return True
        return False

    def _add(self, value: bytes) -> None:
        if self.weight >= 0:
            self._grow(value)
        self.count += 1
        self.memory += len(value) + OPEN_BYTES

    def remove(self, value: bytes, count: int = 0) -> int:
        """Remove elements equal to a value and return how many there were.

        The first `count` of them, the last -count when negative, all when zero.
        """
        limit = abs(count) if count else self.count
        removed = 0
        if count < 0:
            removed += self._remove_from(self.tail, value, limit, True)
            k = len(self.middle)
            while k and removed < limit:
                k -= 1
                removed += self._remove_chunk(k, value, limit - removed, True)
            if self.head is not self.tail:
                removed += self._remove_from(self.head, value, limit - removed, True)
        else:
            removed += self._remove_from(self.head, value, limit, False)
            k = 0
            while k < len(self.middle) and removed < limit:
                before = len(self.middle)
                removed += self._remove_chunk(k, value, limit - removed, False)
                k += 1 - (before - len(self.middle))
            if self.head is not self.tail:
                removed += self._remove_from(self.tail, value, limit - removed, False)
        if removed:
            if not self.head:
                self._refill_head()
            if not self.tail:
                self._refill_tail()
            if self.weight >= 0:
                self.weight -= removed * measure_entry(value)
            self._reconsider()
        return removed

    def _remove_from(self, part: list[bytes], value: bytes, limit: int, reverse: bool) -> int:
        """Remove up to `limit` elements from an open list, account for them, return how many."""
        found = part.count(value)
        removed = min(found, limit)
        if not removed:
            return 0
        if removed == found:
            part[:] = [other for other in part if other != value]
        else:
            if reverse:
                part.reverse()
            for _ in range(removed):
                part.remove(value)
            if reverse:
                part.reverse()
        self.count -= removed
        self.memory -= removed * (len(value) + OPEN_BYTES)
        return removed

    def _remove_chunk(self, k: int, value: bytes, limit: int, reverse: bool) -> int:
        chunk = self.middle[k]
        if value not in chunk or value not in unpack(chunk):
            return 0
        part = self._take(k)
        removed = self._remove_from(part, value, limit, reverse)
        if part and k and len(part) + self.counts[k - 1] <= CHUNK:
            # Small neighbours join, lest many removals leave many chunks of little.
            k -= 1
            part = self._take(k) + part
        self._put_back(k, part)
        return removed

    def find(self, value: bytes, rank: int = 1, count: int = 1, maxlen: int = 0) -> list[int]:
        """Return indexes of elements equal to a value, as LPOS does.

        `rank` 1 starts with the first match from the left, -1 from the right, and so on; `count` 0
        means all of them, `maxlen` 0 comparisons without limit.
        """
        matches: list[int] = []
        reverse = rank < 0
        skip = abs(rank) - 1
        left = maxlen or self.count
        chunks: Iterable[Chunk] = self._chunks()
        if reverse:
            chunks = reversed(list(chunks))
        passed = 0
        for chunk in chunks:
            if left <= passed:
                break
            if value not in chunk:
                passed += count_elements(chunk)
                continue
            part = unpack(chunk)
            if reverse:
                part = part[::-1]
            if passed + len(part) > left:
                part = part[: left - passed]
            place = -1
            for _ in range(part.count(value)):
                place = part.index(value, place + 1)
                if skip:
                    skip -= 1
                    continue
                index = passed + place
                matches.append(self.count - 1 - index if reverse else index)
                if len(matches) == count:
                    return matches
            passed += len(part)
        return matches

    # The whole.

    def copy(self) -> List:
        other = List(self.limits)
        other.compact = self.compact
        other.weight = self.weight
        other.count = self.count
        other.memory = self.memory
        other.head = self.head.copy()
        other.tail = other.head if self.tail is self.head else self.tail.copy()
        if self.middle is not NO_CHUNKS:
            other.middle = [
                chunk.copy() if isinstance(chunk, list) else chunk for chunk in self.middle
            ]
            other.counts = self.counts.copy()
        return other

    def drain(self, budget: int) -> bool:
        removed = 0
        before = self.count
        while removed < budget and self.middle:
            self.middle.pop()
            removed += self.counts.pop()
        self.count -= removed
        if removed < budget or not self.count:
            self.count = 0
            self.head.clear()
            self.tail = self.head
            self.middle = NO_CHUNKS
            self.counts = NO_COUNTS
            self.compact = True
            self.weight = HEADER
        else:
            self.compact = False
            self.weight = -1
        if before:
            self.memory -= (self.memory - BASE_BYTES) * (before - self.count) // before
        return not self.count
