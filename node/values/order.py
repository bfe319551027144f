"""The order of a large sorted set: a SortedList of (score, member).

The subclass adds what sortedcontainers has no public name for: taking an entry out and learning
which object it was, moving one, and removing many at once without sorting the rest again.
"""

from __future__ import annotations

from bisect import bisect_left

from sortedcontainers import SortedList

Entry = tuple[float, bytes]


class Order(SortedList[Entry]):
    """A sorted list of entries with O(log n) insertion, removal and positions."""

    _lists: list[list[Entry]]
    _maxes: list[Entry]
    _index: list[int]
    _len: int

    def take(self, key: Entry) -> Entry:
        """Remove the entry equal to a key and return it; it must be there."""
        position = bisect_left(self._maxes, key)
        part = self._lists[position]
        index = bisect_left(part, key)
        entry = part[index]
        self._delete(position, index)  # type: ignore[attr-defined]
        return entry

    def drop_last(self, count: int) -> None:
        """Remove the last `count` entries, or all when there are fewer, without rebalancing."""
        lists = self._lists
        del self._index[:]
        while count > 0 and lists:
            part = lists[-1]
            size = len(part)
            if count < size:
                del part[size - count :]
                self._maxes[-1] = part[-1]
                self._len -= count
                return
            lists.pop()
            self._maxes.pop()
            self._len -= size
            count -= size
