"""The sorted set (Redis's `t_zset.c`): members with scores, ordered by score, then by member.

Two structures over the same member objects: a map from member to score, and the ranking, which is
short or long.  Ranges of scores and of members are first turned into ranges of ranks, in O(log n);
all else is slicing.
"""

from __future__ import annotations

from array import array
from collections.abc import ItemsView, Iterable, Iterator
from random import Random
from typing import Final

from mypy_extensions import i64

from node.values.collection import (
    ALIGNED,
    DICT_BYTES,
    OBJECT_BYTES,
    SMALL,
    Collection,
    Limits,
    measure_dict,
)
from node.values.elements import (
    SCANNABLE,
    drain_map,
    measure_room,
    random_key,
    random_keys,
    resized,
    sample_keys,
    scan_dict,
)
from node.values.order import Entry
from node.values.ranking import LongRanking, Ranking, ShortRanking
from node.values.table import Table

BASE_BYTES: Final = 96 + DICT_BYTES[0] + 64 + 56 + 80
"""An empty sorted set: the object, its dict, and its ranking of a list and an array."""

ENTRY_BYTES: Final = 32 + 2 * 9
"""The float in the map and the places in the list and in the array of one member."""

Bound = tuple[bytes, bool] | None
"""One end of a range of members: the member and whether it is exclusive; None for "-" or "+"."""


def _are_in_order(members: list[bytes], scores: list[float]) -> bool:
    """Tell whether members and their scores are in ascending order of both."""
    if not scores:
        return True
    before = scores[0]
    at: i64 = 1
    count: i64 = len(scores)
    while at < count:
        score = scores[at]
        if score < before or (score == before and members[at] < members[at - 1]):
            return False
        before = score
        at += 1
    return True


class SortedSet(Collection):
    """Distinct members, each with a score that is a double and not NaN.

    `scores` may be read directly: a dict or a Table from members to scores.  Ranks count from 0, in
    ascending order or, with `reverse`, in descending order.
    """

    __slots__ = ("compact", "ranking", "scores")

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
        self.ranking: Ranking = ShortRanking([], array("d"))

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
        self.ranking.insert(score, member)
        self.memory += ((len(member) + OBJECT_BYTES) & ALIGNED) + ENTRY_BYTES
        if isinstance(scores, dict):
            size: int = scores.__sizeof__()
            scores[member] = score
            if scores.__sizeof__() != size:
                scores = self.scores = resized(scores)
                self.memory += measure_dict(scores.__sizeof__()) - measure_dict(size)
        else:
            room = scores.room
            scores[member] = score
            self.memory += scores.room - room
        if len(scores) > SMALL and isinstance(self.ranking, ShortRanking):
            self._lengthen()

    def _lengthen(self) -> None:
        """Let the structures for many members take the place of those for few."""
        scores = self.scores
        if isinstance(scores, dict):
            scores = self._tabulate(scores)
        ranking = self.ranking
        assert isinstance(ranking, ShortRanking)
        self.ranking = LongRanking(scores.__getitem__, ranking.part, ranking.keys)

    def _tabulate(self, scores: dict[bytes, float]) -> Table[float]:
        """Let a Table take the place of the dict."""
        table = Table(scores)
        self.memory += measure_room(table) - measure_room(scores)
        self.scores = table
        return table

    def move(self, member: bytes, old: float, score: float) -> None:
        """Give a member, whose score is `old`, another one."""
        assert score == score, "NaN is no score"
        if score == 0.0 and self.compact:
            score = 0.0
        self.ranking.move(old, score, member)
        scores = self.scores
        if isinstance(scores, dict):
            scores[member] = score
        else:
            # What Table does, without looking whether the member is new.
            i: i64 = hash(member)
            i &= scores.mask
            if i >= scores.size:
                i &= scores.mask >> 1
            scores.buckets[i][member] = score

    def remove(self, member: bytes) -> bool:
        """Remove a member and tell whether it was there."""
        scores = self.scores
        if isinstance(scores, dict):
            score = scores.pop(member, None)
        else:
            room = scores.room
            score = scores.pop(member, None)
            self.memory += scores.room - room
        if score is None:
            return False
        self.ranking.take(score, member)
        self.memory -= ((len(member) + OBJECT_BYTES) & ALIGNED) + ENTRY_BYTES
        return True

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
        scores = self.scores
        stop = min(stop, len(scores))
        if start >= stop:
            return []
        ranking = self.ranking
        entries = ranking.entries(start, stop)
        ranking.cut(start, stop)
        memory = 0
        if isinstance(scores, dict):
            for _, member in entries:
                del scores[member]
                memory -= ((len(member) + OBJECT_BYTES) & ALIGNED) + ENTRY_BYTES
        else:
            memory -= scores.room
            for _, member in entries:
                del scores[member]
                memory -= ((len(member) + OBJECT_BYTES) & ALIGNED) + ENTRY_BYTES
            memory += scores.room
        self.memory += memory
        return entries

    # Ranks and ranges.

    def rank(self, member: bytes, reverse: bool = False) -> int | None:
        """Return how many members come before this one, or None when it is not there."""
        score = self.scores.get(member)
        if score is None:
            return None
        rank = self.ranking.rank(score, member)
        return len(self.scores) - 1 - rank if reverse else rank

    def span_scores(
        self, low: float, high: float, low_open: bool = False, high_open: bool = False
    ) -> tuple[int, int]:
        """Return the ranks (start, stop) of the scores from `low` to `high`; stop is exclusive.

        An open end does not belong to the range.  `start` >= `stop` when there are none.
        """
        ranking = self.ranking
        start = ranking.count_through(low) if low_open else ranking.count_below(low)
        stop = ranking.count_below(high) if high_open else ranking.count_through(high)
        return start, max(start, stop)

    def span_members(self, low: Bound, high: Bound) -> tuple[int, int]:
        """Return the ranks (start, stop) of the members from `low` to `high`; stop is exclusive.

        Meant for members that all have the same score; the first one's is taken for it.
        """
        scores = self.scores
        if not len(scores):
            return 0, 0
        ranking = self.ranking
        score = ranking.first_score()
        start = 0
        if low is not None:
            member, is_open = low
            start = ranking.rank(score, member)
            if is_open and scores.get(member) == score:
                start += 1
        stop = len(scores)
        if high is not None:
            member, is_open = high
            stop = ranking.rank(score, member)
            if not is_open and scores.get(member) == score:
                stop += 1
        return start, max(start, stop)

    def range(self, start: int, stop: int, reverse: bool = False) -> list[Entry]:
        """Return the entries of the ranks from `start` to before `stop`, both ascending ranks.

        With `reverse` the same entries come in descending order.
        """
        if start < 0:
            start = 0
        stop = min(stop, len(self.scores))
        if start >= stop:
            return []
        entries = self.ranking.entries(start, stop)
        if reverse:
            entries.reverse()
        return entries

    def range_members(self, start: int, stop: int, reverse: bool = False) -> list[bytes]:
        """Return only the members of what `range` returns."""
        if start < 0:
            start = 0
        stop = min(stop, len(self.scores))
        if start >= stop:
            return []
        members = self.ranking.members(start, stop)
        if reverse:
            members.reverse()
        return members

    def items(self) -> ItemsView[bytes, float] | Iterator[tuple[bytes, float]]:
        """Iterate over members with their scores, in no order."""
        return self.scores.items()

    def __iter__(self) -> Iterator[Entry]:
        """Iterate over the entries in ascending order."""
        return iter(self.ranking)

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
            return 0, self.range_members(0, len(scores))
        if isinstance(scores, dict):
            if len(scores) <= SCANNABLE:
                return scan_dict(scores, cursor, count)
            scores = self._tabulate(scores)
        return scores.scan(cursor, count)

    # The whole.

    @staticmethod
    def from_items(limits: Limits, items: Iterable[tuple[bytes, float]]) -> SortedSet:
        """Make a sorted set of distinct members at once, faster than one by one.

        Its encoding is the one Redis gives to the result of a set operation.
        """
        return SortedSet.from_scores(limits, dict(items))

    @staticmethod
    def from_scores(limits: Limits, scores: dict[bytes, float]) -> SortedSet:
        """Make a sorted set of members and scores, as `from_items` does.  Takes the dict over.

        Fastest where they come in order.
        """
        result = SortedSet(limits)
        count: i64 = len(scores)
        members = list(scores)
        longest: i64 = 0
        memory: i64 = BASE_BYTES + count * ENTRY_BYTES
        for member in members:
            length: i64 = len(member)
            memory += (length + OBJECT_BYTES) & ALIGNED
            if length > longest:
                longest = length
        result.compact = (
            count <= limits.zset_max_listpack_entries and longest <= limits.zset_max_listpack_value
        )
        values = list(scores.values())
        if result.compact and 0.0 in values:
            # A listpack has no negative zero.
            values = [score or 0.0 for score in values]
            scores = dict(zip(members, values, strict=True))
        if not _are_in_order(members, values):
            entries = sorted(zip(values, members, strict=True))
            members = [member for _, member in entries]
            values = [score for score, _ in entries]
        result.scores = scores
        result.memory = memory + measure_room(scores)
        result.ranking = ShortRanking(members, array("d", values))
        if count > SMALL:
            result._lengthen()
        return result

    def copy(self) -> SortedSet:
        other = SortedSet(self.limits)
        other.compact = self.compact
        scores = self.scores.copy()
        other.scores = scores
        ranking = self.ranking
        if isinstance(ranking, ShortRanking):
            other.ranking = ranking.copy()
        elif isinstance(ranking, LongRanking):
            other.ranking = ranking.copy(scores.__getitem__)
        other.memory = self.memory + measure_room(scores) - measure_room(self.scores)
        return other

    def drain(self, budget: int) -> bool:
        count = len(self.scores)
        if count:
            removed = drain_map(self.scores, budget)
            self.ranking.drop_last(removed)
            self.memory -= (self.memory - BASE_BYTES) * removed // count
        return not len(self.scores)
