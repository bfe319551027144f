"""The sorted set (Redis's `t_zset.c`): members with scores, ordered by score, then by member.

Two structures over the same objects: a map from member to score, and the sorted sequence of
(score, member), a list while small and a SortedList beyond.  Ranges of scores and of members are
first turned into ranges of ranks, in O(log n); all else is slicing.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import ItemsView, Iterable, Iterator
from math import inf, nextafter
from random import Random
from typing import Any

from node.values.collection import ALIGNED, DICT_BYTES, OBJECT_BYTES, SMALL, Collection, Limits
from node.values.elements import (
    SCANNABLE,
    STEP,
    drain_map,
    random_key,
    random_keys,
    sample_keys,
    scan_dict,
)
from node.values.order import Entry, Order
from node.values.table import Table

BASE_BYTES = 96 + DICT_BYTES[0] + 56
"""An empty sorted set: the object, its dict and its list."""

ENTRY_BYTES = 64 + 32 + 9
"""The tuple, the float and the place in the list of one member."""

Bound = tuple[bytes, bool] | None
"""One end of a range of members: the member and whether it is exclusive; None for "-" or "+"."""


class SortedSet(Collection):
    """Distinct members, each with a score that is a double and not NaN.

    `scores` may be read directly: a dict or a Table from members to scores.  Ranks count from 0, in
    ascending order or, with `reverse`, in descending order.
    """

    __slots__ = ("compact", "order", "scores")

    def __init__(self, limits: Limits, first: bytes = b"", expected: int = 0) -> None:
        """Make an empty sorted set for a command that is about to add `expected` members.

        Redis chooses the encoding by this number, whatever repeats, and by the first of them.
        """
        self.limits = limits
        self.accounted = 0
        self.memory = BASE_BYTES
        self.compact = (
            expected <= limits.zset_max_listpack_entries
            and len(first) <= limits.zset_max_listpack_value
        )
        self.scores: dict[bytes, float] | Table[float] = {}
        self.order: list[Entry] | Order = []

    def __len__(self) -> int:
        return len(self.scores)

    def __contains__(self, member: bytes) -> bool:
        return member in self.scores

    def encoding(self) -> str:
        return "listpack" if self.compact else "skiplist"

    def expect(self, count: int) -> None:
        """Prepare for a command that brings `count` members, which may be there already."""
        if count > self.limits.zset_max_listpack_entries:
            self.compact = False

    def score(self, member: bytes) -> float | None:
        return self.scores.get(member)

    # Changes.

    def add(self, member: bytes, score: float) -> bool:
        """Set a member's score and tell whether the member is new."""
        old = self.scores.get(member)
        if old is None:
            self.insert(member, score)
            return True
        if old != score:
            self.move(member, old, score)
        return False

    def insert(self, member: bytes, score: float) -> None:
        """Add a member that is not there yet."""
        assert score == score, "NaN is no score"
        scores = self.scores
        order = self.order
        if self.compact:
            limits = self.limits
            if (
                len(scores) >= limits.zset_max_listpack_entries
                or len(member) > limits.zset_max_listpack_value
            ):
                self.compact = False
            elif score == 0.0:
                # A listpack stores whole numbers as integers, so -0 loses its sign there.
                score = 0.0
        shared: Any = score  # one object for both structures, compiled too
        scores[member] = shared
        if isinstance(order, list):
            insort(order, (shared, member))
        else:
            order.add((shared, member))
        count = len(scores)
        self.memory += (
            ((len(member) + OBJECT_BYTES) & ALIGNED)
            + ENTRY_BYTES
            + STEP[count if count <= SMALL else -1]
        )
        if count > SMALL:
            if isinstance(scores, dict):
                self.scores = Table(scores)
            if isinstance(order, list):
                self.order = Order(order)

    def move(self, member: bytes, old: float, score: float) -> None:
        """Give a member, whose score is `old`, another one."""
        assert score == score, "NaN is no score"
        order = self.order
        if score == 0.0 and self.compact:
            score = 0.0
        shared: Any = score
        if isinstance(order, list):
            index = bisect_left(order, (old, member))
            entry = (shared, order[index][1])
            if (index == 0 or order[index - 1] < entry) and (
                index == len(order) - 1 or entry < order[index + 1]
            ):
                order[index] = entry
            else:
                del order[index]
                insort(order, entry)
        else:
            order.move((old, member), shared)
        self.scores[member] = shared

    def remove(self, member: bytes) -> bool:
        """Remove a member and tell whether it was there."""
        scores = self.scores
        count = len(scores)
        score = scores.pop(member, None)
        if score is None:
            return False
        order = self.order
        if isinstance(order, list):
            del order[bisect_left(order, (score, member))]
        else:
            order.take((score, member))
        self._forget(member, count)
        return True

    def _forget(self, member: bytes, count: int) -> None:
        """Take a member off the books, the last of `count`."""
        self.memory -= (
            ((len(member) + OBJECT_BYTES) & ALIGNED)
            + ENTRY_BYTES
            + STEP[count if count <= SMALL else -1]
        )

    def pop_min(self, count: int = 1) -> list[Entry]:
        """Remove up to `count` entries with the lowest scores and return them, lowest first."""
        return self.delete(0, min(count, len(self.scores)))

    def pop_max(self, count: int = 1) -> list[Entry]:
        """Remove up to `count` entries with the highest scores and return them, highest first."""
        total = len(self.scores)
        entries = self.delete(total - min(count, total), total)
        entries.reverse()
        return entries

    def delete(self, start: int, stop: int) -> list[Entry]:
        """Remove the entries of the ranks from `start` to before `stop` and return them."""
        if start >= stop:
            return []
        order = self.order
        scores = self.scores
        count = len(scores)
        if isinstance(order, list):
            entries = order[start:stop]
            del order[start:stop]
        elif stop - start > 1:
            entries = order.cut(start, stop)
        else:
            # -1 for the last one saves the way through the positions.
            entries = [order.pop(start if stop < count else -1)]
        for _, member in entries:
            del scores[member]
            self._forget(member, count)
            count -= 1
        return entries

    # Ranks and ranges.

    def rank(self, member: bytes, reverse: bool = False) -> int | None:
        """Return how many members come before this one, or None when it is not there."""
        score = self.scores.get(member)
        if score is None:
            return None
        rank = self._count_below((score, member))
        return len(self.scores) - 1 - rank if reverse else rank

    def _count_below(self, key: Entry | tuple[float]) -> int:
        order = self.order
        if isinstance(order, list):
            return bisect_left(order, key)
        return order.bisect_left(key)  # type: ignore[arg-type]

    def _count_through(self, key: Entry) -> int:
        order = self.order
        if isinstance(order, list):
            return bisect_right(order, key)
        return order.bisect_right(key)

    def span_scores(
        self, low: float, high: float, low_open: bool = False, high_open: bool = False
    ) -> tuple[int, int]:
        """Return the ranks (start, stop) of the scores from `low` to `high`; stop is exclusive.

        An open end does not belong to the range.  `start` >= `stop` when there are none.
        """
        if low_open:
            start = len(self.scores) if low == inf else self._count_below((nextafter(low, inf),))
        else:
            start = self._count_below((low,))
        if high_open:
            stop = self._count_below((high,))
        else:
            stop = len(self.scores) if high == inf else self._count_below((nextafter(high, inf),))
        return start, max(start, stop)

    def span_members(self, low: Bound, high: Bound) -> tuple[int, int]:
        """Return the ranks (start, stop) of the members from `low` to `high`; stop is exclusive.

        Meant for members that all have the same score; the first one's is taken for it.
        """
        if not len(self.scores):
            return 0, 0
        score = self.order[0][0]
        start = 0
        if low is not None:
            member, is_open = low
            key = (score, member)
            start = self._count_through(key) if is_open else self._count_below(key)
        stop = len(self.scores)
        if high is not None:
            member, is_open = high
            key = (score, member)
            stop = self._count_below(key) if is_open else self._count_through(key)
        return start, max(start, stop)

    def range(self, start: int, stop: int, reverse: bool = False) -> list[Entry]:
        """Return the entries of the ranks from `start` to before `stop`, both ascending ranks.

        With `reverse` the same entries come in descending order.
        """
        if start < 0:
            start = 0
        if start >= stop:
            return []
        entries = self.order[start:stop]
        if reverse:
            entries.reverse()
        return entries

    def items(self) -> ItemsView[bytes, float] | Iterator[tuple[bytes, float]]:
        """Iterate over members with their scores, in no order."""
        return self.scores.items()

    def __iter__(self) -> Iterator[Entry]:
        """Iterate over the entries in ascending order."""
        return iter(self.order)

    # Random members and scans.

    def random_member(self, rng: Random) -> bytes:
        """Return a member, all being equally likely; IndexError when there is none."""
        return random_key(self.scores, rng)

    def random_members(self, rng: Random, n: int) -> list[bytes]:
        """Return n members drawn independently, so that some may repeat."""
        return random_keys(self.scores, rng, n)

    def sample_members(self, rng: Random, n: int) -> list[bytes]:
        """Return n distinct members, or all there are; every subset is equally likely."""
        return sample_keys(self.scores, rng, n)

    def scan(self, cursor: int, count: int) -> tuple[int, list[bytes]]:
        """Return the next cursor, 0 at the end, and about `count` members: all when compact."""
        scores = self.scores
        if self.compact:
            return 0, [member for _, member in self.order]
        if isinstance(scores, dict):
            if len(scores) <= SCANNABLE:
                return scan_dict(scores, cursor, count)
            scores = self.scores = Table(scores)
        return scores.scan(cursor, count)

    # The whole.

    @classmethod
    def from_items(cls, limits: Limits, items: Iterable[tuple[bytes, float]]) -> SortedSet:
        """Make a sorted set of distinct members at once, faster than one by one.

        Its encoding is the one Redis gives to the result of a set operation.
        """
        result = cls(limits)
        scores = dict(items)
        count = len(scores)
        longest = 0
        memory = BASE_BYTES
        for rank, member in enumerate(scores, 1):
            length = len(member)
            if length > longest:
                longest = length
            memory += (
                ((length + OBJECT_BYTES) & ALIGNED)
                + ENTRY_BYTES
                + STEP[rank if rank <= SMALL else -1]
            )
        result.memory = memory
        result.compact = (
            count <= limits.zset_max_listpack_entries and longest <= limits.zset_max_listpack_value
        )
        if result.compact:
            scores = {member: score or 0.0 for member, score in scores.items()}
        order = sorted(zip(scores.values(), scores, strict=True))
        if count > SMALL:
            result.scores = Table(scores)
            result.order = Order(order)
        else:
            result.scores = scores
            result.order = order
        return result

    def copy(self) -> SortedSet:
        other = SortedSet(self.limits)
        other.compact = self.compact
        other.scores = self.scores.copy()
        other.order = self.order.copy()
        other.memory = self.memory
        return other

    def drain(self, budget: int) -> bool:
        count = len(self.scores)
        order = self.order
        if count:
            removed = drain_map(self.scores, budget)
            if isinstance(order, list):
                del order[count - removed :]
            else:
                order.drop_last(removed)
            self.memory -= (self.memory - BASE_BYTES) * removed // count
        return not len(self.scores)
