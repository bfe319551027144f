"""The order of a large sorted set: a SortedList of (score, member).

The subclass adds what sortedcontainers has no public name for: taking an entry out and learning
which object it was, moving one, and removing many at once without sorting the rest again.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import TYPE_CHECKING, Final

from sortedcontainers import SortedList

Entry = tuple[float, bytes]


class Order(SortedList[Entry]):
    """A sorted list of entries with O(log n) insertion, removal and positions."""

    _lists: list[list[Entry]]
    _maxes: list[Entry]
    _index: list[int]
    _len: int
    _load: int

    # Parts of half this size to twice this size.  Smaller ones make insertion faster (fewer cache
    # misses in a part), larger ones make positions faster (fewer parts to index anew).
    DEFAULT_LOAD_FACTOR: Final = 500  # type: ignore[misc]

    if TYPE_CHECKING:

        def _delete(self, position: int, index: int) -> None: ...

        def _expand(self, position: int) -> None: ...

        def _pos(self, index: int) -> tuple[int, int]: ...

    def take(self, key: Entry) -> Entry:
        """Remove the entry equal to a key and return it; it must be there."""
        position = bisect_left(self._maxes, key)
        part = self._lists[position]
        index = bisect_left(part, key)
        entry = part[index]
        self._delete(position, index)
        return entry

    def move(self, key: Entry, score: float) -> None:
        """Give another score to the entry equal to a key, which must be there.

        The member object stays, since the map from members to scores holds it too.
        """
        lists = self._lists
        maxes = self._maxes
        position = bisect_left(maxes, key)
        part = lists[position]
        index = bisect_left(part, key)
        entry = (score, part[index][1])
        if (
            index < len(part) - 1
            and entry < maxes[position]
            and (position == 0 or maxes[position - 1] < entry)
        ):
            if entry < part[index + 1] and (index == 0 or part[index - 1] < entry):
                part[index] = entry
            else:
                del part[index]
                insort(part, entry)
            return
        self._delete(position, index)
        self.add(entry)

    def cut(self, start: int, stop: int) -> list[Entry]:
        """Remove the entries at the positions from `start` to before `stop` and return them.

        Takes time in proportion to their number, and to that of the parts of the list.
        """
        entries: list[Entry] = self[start:stop]
        position, index = self._pos(start)
        lists = self._lists
        maxes = self._maxes
        left = len(entries)
        self._len -= left
        del self._index[:]
        part = lists[position]
        if index and left:
            count = min(left, len(part) - index)
            del part[index : index + count]
            maxes[position] = part[-1]
            left -= count
            position += 1
        end = position
        while left and left >= len(lists[end]):
            left -= len(lists[end])
            end += 1
        del lists[position:end]
        del maxes[position:end]
        if left:
            del lists[position][:left]
        # The first and the last part it went through may have become small.
        self._join(position)
        self._join(position - 1)
        return entries

    def _join(self, position: int) -> None:
        """Let a part that is less than half full be one with a neighbour."""
        lists = self._lists
        maxes = self._maxes
        if not 0 <= position < len(lists) or len(lists) == 1:
            return
        if len(lists[position]) > self._load >> 1:
            return
        previous = max(position - 1, 0)
        lists[previous] += lists.pop(previous + 1)
        maxes[previous] = maxes.pop(previous + 1)
        self._expand(previous)

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
