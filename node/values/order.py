"""The order of a large sorted set's members: a SortedKeyList whose key is the score.

The keys of a part are an array of doubles here, where sortedcontainers has a list of objects: a
search touches a few neighbouring cache lines instead of an object in a new place at each step, and
a key costs eight bytes.  `find_place` and `rankings.LongRanking` keep members of equal scores in
their own order, which a SortedKeyList leaves open.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Final

from sortedcontainers import SortedKeyList

Entry = tuple[float, bytes]


class Order(SortedKeyList[bytes, float]):
    """A SortedKeyList that is filled with what is in order already, and that can be cut.

    All that reads works as in its base class; `add`, `update` and what deletes by value do not
    know the order of members with equal scores.
    """

    _lists: list[list[bytes]]
    _keys: list[array[float]]
    _maxes: list[float]
    _index: list[int]
    _offset: int
    _len: int
    _load: int

    # Parts of half this size to twice this size.  Smaller ones make insertion faster (less to move
    # in a part), larger ones make positions faster (fewer parts to index anew).
    DEFAULT_LOAD_FACTOR: Final = 400  # type: ignore[misc]

    if TYPE_CHECKING:

        def _build_index(self) -> None: ...

        def _check(self) -> None: ...

        def _delete(self, position: int, index: int) -> None: ...

        def _expand(self, position: int) -> None: ...

        def _pos(self, index: int) -> tuple[int, int]: ...

    def fill(self, members: list[bytes], keys: array[float]) -> None:
        """Let these members, with their keys in the same order, be all there are."""
        load = self._load
        starts = range(0, len(members), load)
        self._lists = [members[start : start + load] for start in starts]
        self._keys = [keys[start : start + load] for start in starts]
        self._maxes = [part[-1] for part in self._keys]
        self._len = len(members)

    def cut(self, start: int, stop: int) -> None:
        """Remove the members at the positions from `start` to before `stop`.

        Takes time in proportion to their number, and to that of the parts of the list.
        """
        position, index = self._pos(start)
        lists = self._lists
        keys = self._keys
        maxes = self._maxes
        left = stop - start
        self._len -= left
        del self._index[:]
        if index:
            count = min(left, len(lists[position]) - index)
            del lists[position][index : index + count]
            del keys[position][index : index + count]
            maxes[position] = keys[position][-1]
            left -= count
            position += 1
        end = position
        while left and left >= len(lists[end]):
            left -= len(lists[end])
            end += 1
        del lists[position:end]
        del keys[position:end]
        del maxes[position:end]
        if left:
            del lists[position][:left]
            del keys[position][:left]
        # The first and the last part it went through may have become small.
        self._join(position)
        self._join(position - 1)

    def _join(self, position: int) -> None:
        """Let a part that is less than half full be one with a neighbour."""
        lists = self._lists
        keys = self._keys
        if not 0 <= position < len(lists) or len(lists) == 1:
            return
        if len(lists[position]) > self._load >> 1:
            return
        previous = max(position - 1, 0)
        lists[previous] += lists.pop(previous + 1)
        keys[previous] += keys.pop(previous + 1)
        self._maxes[previous] = self._maxes.pop(previous + 1)
        self._expand(previous)

    def drop_last(self, count: int) -> None:
        """Remove the last `count` members, or all when there are fewer, without rebalancing."""
        lists = self._lists
        keys = self._keys
        del self._index[:]
        while count > 0 and lists:
            part = lists[-1]
            size = len(part)
            if count < size:
                del part[size - count :]
                del keys[-1][size - count :]
                self._maxes[-1] = keys[-1][-1]
                self._len -= count
                return
            lists.pop()
            keys.pop()
            self._maxes.pop()
            self._len -= size
            count -= size
