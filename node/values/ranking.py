"""The ranking of a sorted set: its members in order of their scores, then of themselves.

A short ranking is one list of members and one array of their scores; a long one is many such parts,
which sortedcontainers keeps at a good size (`Order`).  Searches and changes that stay within a part
are here, where they are compiled.  Ranks count from 0.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, Final

from mypy_extensions import i64

from node.values.order import Entry, Order

NEAR: Final = 6
"""Among so many members of equal scores a place is looked for one by one, which is what most need;
beyond, by bisection, since all members may have the same score."""

# Called several times for each change; as constants they are not looked up each time.
search_left: Final = bisect_left
search_right: Final = bisect_right


def find_place(members: list[bytes], keys: array[float], score: float, member: bytes) -> int:
    """Return where (score, member) is in a part, or would be."""
    boxed: Any = score
    place: int = search_left(keys, boxed)
    count = len(members)
    near = min(place + NEAR, count)
    while place < near:
        if keys[place] != score or members[place] >= member:
            return place
        place += 1
    if place == count:
        return place
    return search_left(members, member, place, search_right(keys, boxed, place))


def find_member(members: list[bytes], keys: array[float], score: float, member: bytes) -> int:
    """Return where (score, member) is in a part that has it."""
    boxed: Any = score
    place: int = search_left(keys, boxed)
    near = min(place + NEAR, len(members))
    while place < near:
        if members[place] == member:
            return place
        place += 1
    return search_left(members, member, place, search_right(keys, boxed, place))


def move_within(
    members: list[bytes], keys: array[float], place: int, score: float, member: bytes
) -> None:
    """Give the member at a place of a part another score.

    The object stays, since the map from members to scores holds it too.
    """
    target = find_place(members, keys, score, member)
    if target == place or target == place + 1:
        keys[place] = score
        return
    if target > place:
        target -= 1
    del keys[place]
    keys.insert(target, score)
    members.insert(target, members.pop(place))


class Ranking:
    """What both kinds do.  Members that are named with their score must be there."""

    __slots__ = ()

    def insert(self, score: float, member: bytes) -> None:
        """Add a member that is not there yet."""
        raise NotImplementedError

    def take(self, score: float, member: bytes) -> None:
        """Remove a member."""
        raise NotImplementedError

    def move(self, old: float, score: float, member: bytes) -> None:
        """Give a member another score than the `old` one."""
        raise NotImplementedError

    def rank(self, score: float, member: bytes) -> int:
        """Return how many are before (score, member), which need not be there."""
        raise NotImplementedError

    def count_below(self, score: float) -> int:
        """Return how many have a lower score."""
        raise NotImplementedError

    def count_through(self, score: float) -> int:
        """Return how many have this score or a lower one."""
        raise NotImplementedError

    def first_score(self) -> float:
        """Return the lowest score; IndexError when there is none."""
        raise NotImplementedError

    def members(self, start: int, stop: int) -> list[bytes]:
        """Return the members of the ranks from `start` to before `stop`; 0 <= start < stop."""
        raise NotImplementedError

    def entries(self, start: int, stop: int) -> list[Entry]:
        """Return the same members as (score, member)."""
        raise NotImplementedError

    def cut(self, start: int, stop: int) -> None:
        """Remove the members of those ranks, all of which must be there."""
        raise NotImplementedError

    def drop_last(self, count: int) -> None:
        """Remove the last `count` members, or all when there are fewer."""
        raise NotImplementedError

    def __len__(self) -> int:
        raise NotImplementedError

    def __iter__(self) -> Iterator[Entry]:
        """Iterate over (score, member)."""
        raise NotImplementedError


class ShortRanking(Ranking):
    """One part."""

    __slots__ = ("keys", "part")

    def __init__(self, part: list[bytes], keys: array[float]) -> None:
        """Begin with members that are in order already, and their scores."""
        self.part = part
        self.keys = keys

    def insert(self, score: float, member: bytes) -> None:
        place = find_place(self.part, self.keys, score, member)
        self.keys.insert(place, score)
        self.part.insert(place, member)

    def take(self, score: float, member: bytes) -> None:
        place = find_member(self.part, self.keys, score, member)
        del self.keys[place]
        del self.part[place]

    def move(self, old: float, score: float, member: bytes) -> None:
        place = find_member(self.part, self.keys, old, member)
        move_within(self.part, self.keys, place, score, member)

    def rank(self, score: float, member: bytes) -> int:
        return find_place(self.part, self.keys, score, member)

    def count_below(self, score: float) -> int:
        return search_left(self.keys, score)

    def count_through(self, score: float) -> int:
        return search_right(self.keys, score)

    def first_score(self) -> float:
        return self.keys[0]

    def members(self, start: int, stop: int) -> list[bytes]:
        return self.part[start:stop]

    def entries(self, start: int, stop: int) -> list[Entry]:
        return list(zip(self.keys[start:stop], self.part[start:stop], strict=True))

    def cut(self, start: int, stop: int) -> None:
        del self.keys[start:stop]
        del self.part[start:stop]

    def drop_last(self, count: int) -> None:
        left = max(len(self.part) - count, 0)
        del self.keys[left:]
        del self.part[left:]

    def __len__(self) -> int:
        return len(self.part)

    def __iter__(self) -> Iterator[Entry]:
        return zip(self.keys, self.part, strict=True)

    def copy(self) -> ShortRanking:
        return ShortRanking(self.part.copy(), self.keys[:])


class LongRanking(Ranking):
    """Many parts: those of an order, which splits and joins them and indexes positions."""

    __slots__ = ("index", "keys", "largest", "maxes", "order", "parts", "smallest")

    def __init__(
        self, score_of: Callable[[bytes], float], members: list[bytes], keys: array[float]
    ) -> None:
        """Begin with members that are in order already, and their scores."""
        order = Order(key=score_of)
        order.fill(members, keys)
        self.order = order
        self.parts: list[list[bytes]] = order._lists
        self.keys: list[array[float]] = order._keys
        self.maxes: list[float] = order._maxes
        self.index: list[int] = order._index
        self.largest: int = order._load * 2
        self.smallest: int = order._load // 2

    # Where something is.

    def _find_part(self, score: float, member: bytes) -> int:
        """Return the first part that ends with (score, member) or later; their number if none."""
        maxes = self.maxes
        parts = self.parts
        # Compiled, this is faster than bisect, and all the parts may end with the same score.
        low: i64 = 0
        high: i64 = len(parts)
        while low < high:
            middle = (low + high) >> 1
            largest = maxes[middle]
            if largest < score or (largest == score and parts[middle][-1] < member):
                low = middle + 1
            else:
                high = middle
        return int(low)

    def _count_before(self, position: int) -> int:
        """Return how many members the parts before one have; see `SortedList._loc`."""
        if position == 0:
            return 0
        order = self.order
        index = self.index
        if not index:
            order._build_index()
        node = position + order._offset
        total = 0
        while node:
            if not node & 1:
                total += index[node - 1]
            node = (node - 1) >> 1
        return total

    def _find_rank(self, rank: int) -> tuple[int, int]:
        """Return the part in which a rank is and its place there."""
        parts = self.parts
        if rank < len(parts[0]):
            return 0, rank
        order = self.order
        size = len(parts[-1])
        place: int = rank - order._len + size
        if place >= 0:
            return len(parts) - 1, place
        position, place = order._pos(rank)
        return position, place

    def _note(self, position: int, change: int) -> None:
        """Note in the index of positions that a part has a member more or less."""
        index = self.index
        node: int = position + self.order._offset
        while node:
            index[node] += change
            node = (node - 1) >> 1
        index[0] += change

    def rank(self, score: float, member: bytes) -> int:
        position = self._find_part(score, member)
        if position == len(self.parts):
            return len(self)
        return self._count_before(position) + find_place(
            self.parts[position], self.keys[position], score, member
        )

    def count_below(self, score: float) -> int:
        position = search_left(self.maxes, score)
        if position == len(self.parts):
            return len(self)
        return self._count_before(position) + search_left(self.keys[position], score)

    def count_through(self, score: float) -> int:
        position = search_right(self.maxes, score)
        if position == len(self.parts):
            return len(self)
        return self._count_before(position) + search_right(self.keys[position], score)

    # Changes.

    def insert(self, score: float, member: bytes) -> None:
        self.order._len += 1
        self._put(self._find_part(score, member), score, member)

    def _put(self, position: int, score: float, member: bytes) -> None:
        """Add a member to a part, or after the last one."""
        parts = self.parts
        if position < len(parts):
            part = parts[position]
            keys = self.keys[position]
            place = find_place(part, keys, score, member)
            keys.insert(place, score)
            part.insert(place, member)
        elif position:
            position -= 1
            part = parts[position]
            part.append(member)
            self.keys[position].append(score)
            self.maxes[position] = score
        else:
            part = [member]
            parts.append(part)
            self.keys.append(array("d", [score]))
            self.maxes.append(score)
        if len(part) > self.largest:
            self.order._expand(position)
        elif self.index:
            self._note(position, 1)

    def take(self, score: float, member: bytes) -> None:
        position = self._find_part(score, member)
        place = find_member(self.parts[position], self.keys[position], score, member)
        self._take_at(position, place)

    def _take_at(self, position: int, place: int) -> None:
        if len(self.parts[position]) - 1 > self.smallest:
            self.order._len -= 1
            self._drop(position, place)
        else:
            self.order._delete(position, place)

    def _drop(self, position: int, place: int) -> None:
        """Remove a member of a part that stays large enough."""
        part = self.parts[position]
        keys = self.keys[position]
        del keys[place]
        del part[place]
        if place == len(part):
            self.maxes[position] = keys[place - 1]
        if self.index:
            self._note(position, -1)

    def move(self, old: float, score: float, member: bytes) -> None:
        position = self._find_part(old, member)
        target = self._find_part(score, member)
        part = self.parts[position]
        keys = self.keys[position]
        place = find_member(part, keys, old, member)
        if target == position or position == target - 1 == len(self.parts) - 1:
            move_within(part, keys, place, score, member)
            self.maxes[position] = keys[-1]
            return
        held = part[place]
        if len(part) - 1 > self.smallest:
            self._drop(position, place)
        else:
            order = self.order
            order._delete(position, place)
            order._len += 1
            target = self._find_part(score, held)
        self._put(target, score, held)

    def cut(self, start: int, stop: int) -> None:
        if stop - start == 1:
            position, place = self._find_rank(start)
            self._take_at(position, place)
        else:
            self.order.cut(start, stop)

    def drop_last(self, count: int) -> None:
        self.order.drop_last(count)

    # Reading.

    def __len__(self) -> int:
        count: int = self.order._len
        return count

    def first_score(self) -> float:
        return self.keys[0][0]

    def members(self, start: int, stop: int) -> list[bytes]:
        position, place = self._find_rank(start)
        parts = self.parts
        count = stop - start
        found = parts[position][place : place + count]
        while len(found) < count:
            position += 1
            part = parts[position]
            left = count - len(found)
            found += part if len(part) <= left else part[:left]
        return found

    def _keys_of(self, start: int, stop: int) -> array[float]:
        position, place = self._find_rank(start)
        parts = self.keys
        count = stop - start
        found = parts[position][place : place + count]
        while len(found) < count:
            position += 1
            found += parts[position][: count - len(found)]
        return found

    def entries(self, start: int, stop: int) -> list[Entry]:
        return list(zip(self._keys_of(start, stop), self.members(start, stop), strict=True))

    def __iter__(self) -> Iterator[Entry]:
        return chain.from_iterable(map(zip, self.keys, self.parts))

    def copy(self, score_of: Callable[[bytes], float]) -> LongRanking:
        count = len(self)
        if not count:
            return LongRanking(score_of, [], array("d"))
        return LongRanking(score_of, self.members(0, count), self._keys_of(0, count))
