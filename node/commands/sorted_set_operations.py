"""Unions, intersections and differences of sorted sets (Redis's ``t_zset.c``).

Sets may take part too: each of their members has the score 1. Unions and intersections begin with
the smallest input, which also fixes the order in which scores are added up.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import filterfalse, islice, repeat
from typing import Final

from node.command import Group, KeySpec, key, keys_counted
from node.commands.arguments import (
    SYNTAX_ERROR,
    WRONG_TYPE,
    floating,
    integer,
    positive_integer,
)
from node.commands.sorted_sets import reply_entries, store_scores
from node.resp import Reply, ReplyError
from node.session import Session
from node.values.set import Set
from node.values.sorted_set import SortedSet
from node.values.table import Table

GROUP: Final = Group("sorted-set")

SUM: Final = 0
MIN: Final = 1
MAX: Final = 2
_AGGREGATES: Final = {b"sum": SUM, b"min": MIN, b"max": MAX}

UNION: Final = 0
INTERSECTION: Final = 1
DIFFERENCE: Final = 2
CARDINALITY: Final = 3


class Source:
    """One input: a set or sorted set, or nothing, and its weight."""

    __slots__ = ("value", "weight")

    def __init__(self, value: Set | SortedSet | None) -> None:
        self.value = value
        self.weight = 1.0

    def __len__(self) -> int:
        return 0 if self.value is None else len(self.value)

    @property
    def members(self) -> dict[bytes, float] | Table[float] | dict[bytes, None] | Table[None]:
        """What to look a member up in, or to walk for all of them, in no order."""
        value = self.value
        if value is None:
            return {}
        return value.elements if isinstance(value, Set) else value.scores

    def items(self) -> Iterable[tuple[bytes, float]]:
        """All members with their weighted scores; a product that is not a number counts as 0."""
        value = self.value
        weight = self.weight
        if value is None:
            return ()
        if isinstance(value, Set):
            return zip(value.elements, repeat(weight))
        if weight == 1.0:
            return value.scores.items()
        products = {member: score * weight for member, score in value.scores.items()}
        for member in [member for member, score in products.items() if score != score]:
            products[member] = 0.0
        return products.items()


class Operation:
    """What is asked for: the inputs and how they are to be combined."""

    __slots__ = ("sources", "aggregate", "with_scores", "limit")

    def __init__(self, ctx: Session, argv: list[bytes], at: int, kind: int, store: bool) -> None:
        """Read the arguments from ``numkeys`` on, which is argument ``at``.

        As in Redis the keys are looked up before the options are read.
        """
        number = integer(argv[at])
        if number < 1:
            command = ctx.running.name if ctx.running is not None else b""
            raise ReplyError(b"ERR at least 1 input key is needed for '%b' command" % command)
        end = at + 1 + number
        if end > len(argv):
            raise ReplyError(SYNTAX_ERROR)
        self.sources = [_find_source(ctx, name) for name in argv[at + 1 : end]]
        self.aggregate = SUM
        self.with_scores = False
        self.limit = 0
        if end < len(argv):
            self._read_options(argv, end, kind, store)

    def _read_options(self, argv: list[bytes], at: int, kind: int, store: bool) -> None:
        argc = len(argv)
        combines = kind in (UNION, INTERSECTION)
        while at < argc:
            option = argv[at].lower()
            at += 1
            if option == b"weights" and combines and argc - at >= len(self.sources):
                for source in self.sources:
                    source.weight = floating(argv[at], b"ERR weight value is not a float")
                    at += 1
            elif option == b"aggregate" and combines and at < argc:
                aggregate = _AGGREGATES.get(argv[at].lower())
                if aggregate is None:
                    raise ReplyError(SYNTAX_ERROR)
                self.aggregate = aggregate
                at += 1
            elif option == b"withscores" and not store and kind != CARDINALITY:
                self.with_scores = True
            elif option == b"limit" and kind == CARDINALITY and at < argc:
                self.limit = positive_integer(argv[at], b"ERR LIMIT can't be negative")
                at += 1
            else:
                raise ReplyError(SYNTAX_ERROR)

    def unite(self) -> dict[bytes, float]:
        """The members of any source; their scores aggregated."""
        sources = sorted(self.sources, key=len)
        scores = dict(sources[0].items())
        aggregate = self.aggregate
        for source in sources[1:]:
            if not scores:
                scores = dict(source.items())
                continue
            for member, score in source.items():
                old = scores.get(member)
                if old is None:
                    scores[member] = score
                elif aggregate == SUM:
                    score += old
                    scores[member] = score if score == score else 0.0
                elif score < old if aggregate == MIN else score > old:
                    scores[member] = score
        return scores

    def intersect(self) -> dict[bytes, float]:
        """The members of all sources; their scores aggregated."""
        sources = sorted(self.sources, key=len)
        scores = dict(sources[0].items())
        for source in sources[1:]:
            scores = self._meet(scores, source)
        return scores

    def _meet(self, scores: dict[bytes, float], source: Source) -> dict[bytes, float]:
        aggregate = self.aggregate
        weight = source.weight
        value = source.value
        others = value.scores if isinstance(value, SortedSet) else None
        members = source.members
        met: dict[bytes, float] = {}
        for member, score in scores.items():
            if others is None:
                if member not in members:
                    continue
                other = weight
            else:
                found = others.get(member)
                if found is None:
                    continue
                other = found * weight
            if aggregate == SUM:
                other += score
                met[member] = other if other == other else 0.0
            elif aggregate == MIN:
                met[member] = min(score, other)
            else:
                met[member] = max(score, other)
        return met

    def subtract(self) -> dict[bytes, float]:
        """The members of the first source that no other one has, with their scores."""
        first = self.sources[0]
        others = [source for source in self.sources[1:] if len(source)]
        if not len(first) or any(source.value is first.value for source in others):
            return {}
        scores = dict(first.items())
        total = len(first) + sum(map(len, others))
        if len(first) * len(self.sources) // 2 > total:
            for source in others:
                for member in source.members:
                    scores.pop(member, None)
                if not scores:
                    break
            return scores
        # The larger a source, the sooner a member is found to be in it.
        others.sort(key=len, reverse=True)
        left: Iterable[bytes] = scores
        for source in others:
            left = filterfalse(source.members.__contains__, left)
        return {member: scores[member] for member in left}

    def count_common(self) -> int:
        """How many members all sources have, at most ``limit`` unless that is 0."""
        sources = sorted(self.sources, key=len)
        common: Iterable[bytes] = sources[0].members
        if not len(sources[0]):
            return 0
        for source in sources[1:]:
            if source.value is not sources[0].value:
                common = filter(source.members.__contains__, common)
        return len(list(islice(common, self.limit or None)))

    def compute(self, kind: int) -> dict[bytes, float]:
        """The result of a kind of operation, in no order."""
        if kind == UNION:
            return self.unite()
        return self.intersect() if kind == INTERSECTION else self.subtract()


def _find_source(ctx: Session, name: bytes) -> Source:
    value = ctx.db.find(name)
    if value is None or isinstance(value, (Set, SortedSet)):
        return Source(value)
    raise ReplyError(WRONG_TYPE)


def _reply(ctx: Session, argv: list[bytes], kind: int) -> Reply:
    operation = Operation(ctx, argv, 1, kind, False)
    scores = operation.compute(kind)
    entries = sorted(zip(scores.values(), scores, strict=True))
    if operation.with_scores:
        return reply_entries(entries, ctx.protocol)
    return [member for _, member in entries]


def _store(ctx: Session, argv: list[bytes], kind: int, event: bytes) -> Reply:
    return store_scores(ctx, argv[1], Operation(ctx, argv, 2, kind, True).compute(kind), event)


_READ: Final = (keys_counted("RO access"),)
_STORE: Final[tuple[KeySpec, ...]] = (key("OW update"), keys_counted("RO access", 2))
_UNION_COST: Final = "O(N)+O(M*log(M)) for N members in all inputs, M in the result."
_INTERSECTION_COST: Final = (
    "O(N*K)+O(M*log(M)) at worst for N members in the smallest of K inputs, M in the result."
)
_DIFFERENCE_COST: Final = (
    "O(L + (N-K)log(N)) at worst for L members in all inputs, N in the first, K in the result."
)
_COMBINE: Final = " [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>]"


@GROUP.command(
    "zunion",
    -3,
    "readonly",
    keys=_READ,
    since="6.2.0",
    complexity=_UNION_COST,
    summary="Returns the members of several sorted sets together.",
    syntax="numkeys key [key ...]" + _COMBINE + " [WITHSCORES]",
)
def zunion(ctx: Session, argv: list[bytes]) -> Reply:
    return _reply(ctx, argv, UNION)


@GROUP.command(
    "zunionstore",
    -4,
    "write denyoom",
    keys=_STORE,
    since="2.0.0",
    complexity=_UNION_COST,
    summary="Stores the members of several sorted sets together.",
    syntax="destination numkeys key [key ...]" + _COMBINE,
)
def zunionstore(ctx: Session, argv: list[bytes]) -> Reply:
    return _store(ctx, argv, UNION, b"zunionstore")


@GROUP.command(
    "zinter",
    -3,
    "readonly",
    keys=_READ,
    since="6.2.0",
    complexity=_INTERSECTION_COST,
    summary="Returns the members that several sorted sets have in common.",
    syntax="numkeys key [key ...]" + _COMBINE + " [WITHSCORES]",
)
def zinter(ctx: Session, argv: list[bytes]) -> Reply:
    return _reply(ctx, argv, INTERSECTION)


@GROUP.command(
    "zinterstore",
    -4,
    "write denyoom",
    keys=_STORE,
    since="2.0.0",
    complexity=_INTERSECTION_COST,
    summary="Stores the members that several sorted sets have in common.",
    syntax="destination numkeys key [key ...]" + _COMBINE,
)
def zinterstore(ctx: Session, argv: list[bytes]) -> Reply:
    return _store(ctx, argv, INTERSECTION, b"zinterstore")


@GROUP.command(
    "zintercard",
    -3,
    "readonly",
    keys=_READ,
    since="7.0.0",
    complexity="O(N*K) at worst for N members in the smallest of K inputs.",
    summary="Returns how many members several sorted sets have in common.",
    syntax="numkeys key [key ...] [LIMIT limit]",
)
def zintercard(ctx: Session, argv: list[bytes]) -> Reply:
    return Operation(ctx, argv, 1, CARDINALITY, False).count_common()


@GROUP.command(
    "zdiff",
    -3,
    "readonly",
    keys=_READ,
    since="6.2.0",
    complexity=_DIFFERENCE_COST,
    summary="Returns the members of one sorted set that several others do not have.",
    syntax="numkeys key [key ...] [WITHSCORES]",
)
def zdiff(ctx: Session, argv: list[bytes]) -> Reply:
    return _reply(ctx, argv, DIFFERENCE)


@GROUP.command(
    "zdiffstore",
    -4,
    "write denyoom",
    keys=_STORE,
    since="6.2.0",
    complexity=_DIFFERENCE_COST,
    summary="Stores the members of one sorted set that several others do not have.",
    syntax="destination numkeys key [key ...]",
)
def zdiffstore(ctx: Session, argv: list[bytes]) -> Reply:
    return _store(ctx, argv, DIFFERENCE, b"zdiffstore")
