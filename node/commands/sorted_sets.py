"""The commands of sorted sets (Redis's ``t_zset.c``), but for those that pop or combine.

A range, however it is asked for, becomes a range of ranks first (:class:`Selection`), so that one
slice serves ZRANGE and all its older relatives, ZRANGESTORE, ZREMRANGEBY… and ZCOUNT.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from node.command import Group, key
from node.commands.arguments import (
    NOT_A_FLOAT,
    SYNTAX_ERROR,
    WRONG_TYPE,
    find_typed,
    find_typed_for_write,
    floating,
    integer,
    random_count,
    scan_cursor,
    scan_options,
    scan_reply,
)
from node.keyspace import EVENT_GENERIC, EVENT_ZSET
from node.resp import NULL_ARRAY, Reply, ReplyError
from node.session import Session
from node.values.number import MAX_INTEGER, format_double, parse_bound, parse_float
from node.values.order import Entry
from node.values.sorted_set import Bound, SortedSet

GROUP: Final = Group("sorted-set")

BAD_SCORES: Final = b"ERR min or max is not a float"
BAD_MEMBERS: Final = b"ERR min or max not valid string range item"


def reply_entries(entries: Sequence[Entry], protocol: int) -> Reply:
    """Members with their scores: alternating in RESP2, as pairs in RESP3."""
    if protocol == 2:
        return [part for score, member in entries for part in (member, format_double(score))]
    return [[member, score] for score, member in entries]


# Members and scores.

# Options of ZADD.
_NX: Final = 1
_XX: Final = 2
_GT: Final = 4
_LT: Final = 8
_CH: Final = 16
_INCR: Final = 32
_ADD_OPTIONS: Final = {
    b"nx": _NX,
    b"xx": _XX,
    b"gt": _GT,
    b"lt": _LT,
    b"ch": _CH,
    b"incr": _INCR,
}


@GROUP.command(
    "zadd",
    -4,
    "write denyoom fast",
    keys=[key("RW update")],
    since="1.2.0",
    complexity="O(log(N)) for each member, N members in the sorted set.",
    summary="Puts members into a sorted set, or gives them other scores; creates it if need be.",
    syntax="key [NX | XX]@3.0.2 [GT | LT]@6.2.0 change=[CH@3.0.2] increment=[INCR@3.0.2]"
    " score member [score member ...]",
    history=[
        ("2.4.0", "Several members at once."),
        ("3.0.2", "The options `XX`, `NX`, `CH` and `INCR`."),
        ("6.2.0", "The options `GT` and `LT`."),
    ],
)
def zadd(ctx: Session, argv: list[bytes]) -> Reply:
    option = _ADD_OPTIONS.get(argv[2].lower())
    if option is not None:
        return _add_with_options(ctx, argv, option)
    if len(argv) > 4:
        if len(argv) % 2:
            raise ReplyError(SYNTAX_ERROR)
        return _add_several(ctx, argv)
    score = parse_float(argv[2])
    if score is None:
        raise ReplyError(NOT_A_FLOAT)
    db = ctx.db
    name = argv[1]
    value = db.find_for_write(name)
    if type(value) is SortedSet:
        member = argv[3]
        old = value.scores.get(member)
        if old is None:
            value.insert(member, score)
            db.changed(name, value, EVENT_ZSET, b"zadd")
            return 1
        if old != score:
            value.move(member, old, score)
            db.changed(name, value, EVENT_ZSET, b"zadd")
        return 0
    if value is not None:
        raise ReplyError(WRONG_TYPE)
    value = SortedSet(db.keyspace.limits, argv[3], 1)
    value.insert(argv[3], score)
    db.put(name, value)
    db.changed(name, None, EVENT_ZSET, b"zadd")
    return 1


def _add_several(ctx: Session, argv: list[bytes]) -> Reply:
    scores = list(map(floating, argv[2::2]))
    db = ctx.db
    name = argv[1]
    value = find_typed_for_write(db, name, SortedSet)
    fresh = value is None
    if value is None:
        value = SortedSet(db.keyspace.limits, argv[3], len(scores))
    else:
        value.expect(len(scores))
    added = updated = 0
    for member, score in zip(argv[3::2], scores, strict=True):
        old = value.scores.get(member)
        if old is None:
            value.insert(member, score)
            added += 1
        elif old != score:
            value.move(member, old, score)
            updated += 1
    if fresh:
        db.put(name, value)
    if added or updated:
        db.changed(name, value, EVENT_ZSET, b"zadd", added + updated)
    return added


def _add_with_options(ctx: Session, argv: list[bytes], first: int) -> Reply:
    """ZADD with at least one option, the ``first`` of which is argument 2."""
    options = first
    at = 3
    while at < len(argv):
        option = _ADD_OPTIONS.get(argv[at].lower())
        if option is None:
            break
        options |= option
        at += 1
    count = len(argv) - at
    if count == 0 or count % 2:
        raise ReplyError(SYNTAX_ERROR)
    if options & _NX and options & _XX:
        raise ReplyError(b"ERR XX and NX options at the same time are not compatible")
    if (options & _NX and options & (_GT | _LT)) or (options & _GT and options & _LT):
        raise ReplyError(b"ERR GT, LT, and/or NX options at the same time are not compatible")
    if options & _INCR and count > 2:
        raise ReplyError(b"ERR INCR option supports a single increment-element pair")
    scores = list(map(floating, argv[at::2]))
    return _apply(ctx, argv[1], argv[at + 1 :: 2], scores, options)


def _apply(
    ctx: Session, name: bytes, members: list[bytes], scores: list[float], options: int
) -> Reply:
    """Add ``members`` with ``scores``, or these to their scores, as the options of ZADD allow."""
    db = ctx.db
    value = find_typed_for_write(db, name, SortedSet)
    fresh = value is None
    increment = options & _INCR
    if value is None:
        if options & _XX:
            return None if increment else 0
        value = SortedSet(db.keyspace.limits, members[0], len(members))
    else:
        value.expect(len(members))
    added = updated = 0
    result: float | None = None
    for member, score in zip(members, scores, strict=True):
        old = value.scores.get(member)
        if old is None:
            if not options & _XX:
                value.insert(member, score)
                added += 1
                result = score
            continue
        if options & _NX:
            continue
        if increment:
            score += old
            if score != score:
                raise ReplyError(b"ERR resulting score is not a number (NaN)")
        if (options & _GT and score <= old) or (options & _LT and score >= old):
            continue
        result = score
        if score != old:
            value.move(member, old, score)
            updated += 1
    if fresh:
        db.put(name, value)
    if added or updated:
        db.changed(name, value, EVENT_ZSET, b"zincr" if increment else b"zadd", added + updated)
    if increment:
        return result
    return added + updated if options & _CH else added


@GROUP.command(
    "zincrby",
    4,
    "write denyoom fast",
    keys=[key("RW access update")],
    since="1.2.0",
    complexity="O(log(N)) for N members.",
    summary="Adds to the score of a member, which is put into the sorted set if it is not there.",
    syntax="key increment member",
)
def zincrby(ctx: Session, argv: list[bytes]) -> Reply:
    increment = parse_float(argv[2])
    if increment is None:
        # Redis reads the options of ZADD here too, and then misses the pair.
        option = argv[2].lower() in _ADD_OPTIONS
        raise ReplyError(SYNTAX_ERROR if option else NOT_A_FLOAT)
    db = ctx.db
    name = argv[1]
    value = db.find_for_write(name)
    if type(value) is not SortedSet:
        if value is not None:
            raise ReplyError(WRONG_TYPE)
        return _apply(ctx, name, [argv[3]], [increment], _INCR)
    member = argv[3]
    old = value.scores.get(member)
    if old is None:
        value.insert(member, increment)
    else:
        increment += old
        if increment != increment:
            raise ReplyError(b"ERR resulting score is not a number (NaN)")
        if increment == old:
            return increment
        value.move(member, old, increment)
    db.changed(name, value, EVENT_ZSET, b"zincr")
    return increment


@GROUP.command(
    "zrem",
    -3,
    "write fast",
    keys=[key("RW delete")],
    since="1.2.0",
    complexity="O(M*log(N)) for M members to remove out of N.",
    summary="Takes members out of a sorted set; one that becomes empty is deleted.",
    syntax="key member [member ...]",
    history=[("2.4.0", "Several members at once.")],
)
def zrem(ctx: Session, argv: list[bytes]) -> Reply:
    db = ctx.db
    name = argv[1]
    value = find_typed_for_write(db, name, SortedSet)
    if value is None:
        return 0
    removed = 0
    for member in argv[2:]:
        if value.remove(member):
            removed += 1
    if removed:
        db.changed(name, value, EVENT_ZSET, b"zrem", removed)
        db.delete_if_empty(name, value)
    return removed


@GROUP.command(
    "zcard",
    2,
    "readonly fast",
    keys=[key("RO")],
    since="1.2.0",
    complexity="O(1)",
    summary="Returns how many members a sorted set has.",
    syntax="key",
)
def zcard(ctx: Session, argv: list[bytes]) -> Reply:
    value = find_typed(ctx.db, argv[1], SortedSet)
    return 0 if value is None else len(value.scores)


@GROUP.command(
    "zscore",
    3,
    "readonly fast",
    keys=[key("RO access")],
    since="1.2.0",
    complexity="O(1)",
    summary="Returns the score of a member.",
    syntax="key member",
)
def zscore(ctx: Session, argv: list[bytes]) -> Reply:
    value = ctx.db.find(argv[1])
    if type(value) is SortedSet:
        return value.scores.get(argv[2])
    if value is not None:
        raise ReplyError(WRONG_TYPE)
    return None


@GROUP.command(
    "zmscore",
    -3,
    "readonly fast",
    keys=[key("RO access")],
    since="6.2.0",
    complexity="O(N) for N members asked for.",
    summary="Returns the scores of several members.",
    syntax="key member [member ...]",
)
def zmscore(ctx: Session, argv: list[bytes]) -> Reply:
    value = find_typed(ctx.db, argv[1], SortedSet)
    if value is None:
        return [None] * (len(argv) - 2)
    return list(map(value.scores.get, argv[2:]))


def _rank(ctx: Session, argv: list[bytes], reverse: bool) -> Reply:
    with_score = False
    if len(argv) > 3:
        if len(argv) > 4:
            command = b"zrevrank" if reverse else b"zrank"
            raise ReplyError(b"ERR wrong number of arguments for '%b' command" % command)
        if argv[3].lower() != b"withscore":
            raise ReplyError(SYNTAX_ERROR)
        with_score = True
    value = find_typed(ctx.db, argv[1], SortedSet)
    rank = None if value is None else value.rank(argv[2], reverse)
    if rank is None:
        return NULL_ARRAY if with_score else None
    if with_score and value is not None:
        return [rank, value.score(argv[2])]
    return rank


@GROUP.command(
    "zrank",
    -3,
    "readonly fast",
    keys=[key("RO access")],
    since="2.0.0",
    complexity="O(log(N)) for N members.",
    summary="Returns how many members come before one, from the lowest score on.",
    syntax="key member [WITHSCORE]",
    history=[("7.2.0", "The option `WITHSCORE`.")],
)
def zrank(ctx: Session, argv: list[bytes]) -> Reply:
    return _rank(ctx, argv, False)


@GROUP.command(
    "zrevrank",
    -3,
    "readonly fast",
    keys=[key("RO access")],
    since="2.0.0",
    complexity="O(log(N)) for N members.",
    summary="Returns how many members come before one, from the highest score on.",
    syntax="key member [WITHSCORE]",
    history=[("7.2.0", "The option `WITHSCORE`.")],
)
def zrevrank(ctx: Session, argv: list[bytes]) -> Reply:
    return _rank(ctx, argv, True)


@GROUP.command(
    "zscan",
    -3,
    "readonly",
    keys=[key("RO access")],
    since="2.8.0",
    complexity="O(1) for each call, O(N) for a whole iteration over N members.",
    summary="Iterates over the members of a sorted set with their scores, some at a time.",
    syntax="key cursor [MATCH pattern] [COUNT count]",
    tips=["nondeterministic_output"],
)
def zscan(ctx: Session, argv: list[bytes]) -> Reply:
    cursor = scan_cursor(argv[2])
    value = find_typed(ctx.db, argv[1], SortedSet)
    if value is None:
        return scan_reply(0, [])
    options = scan_options(argv, 3)
    following, members = value.scan(cursor, options.count)
    if options.match is not None:
        members = list(filter(options.match, members))
    scores = value.scores
    found: list[Reply] = []
    for member in members:
        found.append(member)
        # Here scores are bulk strings in RESP3 too.
        found.append(format_double(scores[member]))
    return scan_reply(following, found)


@GROUP.command(
    "zrandmember",
    -2,
    "readonly",
    keys=[key("RO access")],
    since="6.2.0",
    complexity="O(N) for N members returned.",
    summary="Returns random members of a sorted set.",
    syntax="key options=[count [WITHSCORES]]",
    tips=["nondeterministic_output"],
)
def zrandmember(ctx: Session, argv: list[bytes]) -> Reply:
    db = ctx.db
    rng = db.keyspace.random
    if len(argv) == 2:
        value = find_typed(db, argv[1], SortedSet)
        return None if value is None else value.random_member(rng)
    count = random_count(argv[2])
    with_scores = len(argv) == 4 and argv[3].lower() == b"withscores"
    if len(argv) > 4 or (len(argv) == 4 and not with_scores):
        raise ReplyError(SYNTAX_ERROR)
    if with_scores and count > MAX_INTEGER // 2:
        raise ReplyError(b"ERR value is out of range")
    value = find_typed(db, argv[1], SortedSet)
    if value is None or count == 0:
        return []
    if count < 0:
        members = value.random_members(rng, -count)
    else:
        members = value.sample_members(rng, count)
    if not with_scores:
        return members
    scores = value.scores
    return reply_entries([(scores[member], member) for member in members], ctx.protocol)


# Ranges.

BY_RANK: Final = 0
BY_SCORE: Final = 1
BY_MEMBER: Final = 2


class Selection:
    """Which entries of a sorted set a command asks for.

    ``first`` and ``last`` are ranks, negative from the end, the last one included; with ``reverse``
    they count from the highest. ``low`` and ``high`` are (score, exclusive), ``least`` and ``most``
    the same of members. ``offset`` and ``count`` are LIMIT's, -1 being no limit.
    """

    __slots__ = (
        "by",
        "reverse",
        "with_scores",
        "offset",
        "count",
        "first",
        "last",
        "low",
        "high",
        "least",
        "most",
    )

    def __init__(self, by: int, reverse: bool = False) -> None:
        self.by = by
        self.reverse = reverse
        self.with_scores = False
        self.offset = 0
        self.count = -1
        self.first = 0
        self.last = 0
        self.low = (0.0, False)
        self.high = (0.0, False)
        self.least: Bound = None
        self.most: Bound = None

    def read_bounds(self, first: bytes, last: bytes) -> bool:
        """Read both ends as they were given, the upper one first if in reverse.

        False where no member can be between them whatever their order (from ``+``, up to ``-``).
        """
        if self.by == BY_RANK:
            self.first = integer(first)
            self.last = integer(last)
            return True
        if self.reverse:
            first, last = last, first
        if self.by == BY_SCORE:
            low = parse_bound(first)
            high = parse_bound(last)
            if low is None or high is None:
                raise ReplyError(BAD_SCORES)
            self.low = low
            self.high = high
            return True
        lowest, self.least = read_member_bound(first)
        highest, self.most = read_member_bound(last)
        return lowest <= 0 <= highest

    def find_span(self, value: SortedSet) -> tuple[int, int]:
        """The ascending ranks (start, stop) of what is asked for, LIMIT not yet applied."""
        if self.by == BY_SCORE:
            low, low_open = self.low
            high, high_open = self.high
            return value.span_scores(low, high, low_open, high_open)
        if self.by == BY_MEMBER:
            return value.span_members(self.least, self.most)
        size = len(value.scores)
        first = self.first
        last = self.last
        if first < 0:
            first = max(0, first + size)
        if last < 0:
            last += size
        elif last >= size:
            last = size - 1
        if first > last:
            return 0, 0
        if self.reverse:
            return size - 1 - last, size - first
        return first, last + 1

    def find_limited_span(self, value: SortedSet) -> tuple[int, int]:
        """The same of those that LIMIT leaves."""
        start, stop = self.find_span(value)
        if self.offset < 0:
            return 0, 0
        if self.reverse:
            stop -= self.offset
            if 0 <= self.count < stop - start:
                start = stop - self.count
        else:
            start += self.offset
            if 0 <= self.count < stop - start:
                stop = start + self.count
        return start, stop

    def find_entries(self, value: SortedSet) -> list[Entry]:
        """The entries asked for, in the order asked for."""
        start, stop = self.find_limited_span(value)
        return value.range(start, stop, self.reverse)


def read_member_bound(text: bytes) -> tuple[int, Bound]:
    """One end of a range of members: -1 for ``-``, 1 for ``+``, else 0 with the bound."""
    mark = text[:1]
    if mark == b"[":
        return 0, (text[1:], False)
    if mark == b"(":
        return 0, (text[1:], True)
    # Redis looks at these as C strings.
    if mark in (b"-", b"+") and (len(text) == 1 or text[1] == 0):
        return (-1 if mark == b"-" else 1), None
    raise ReplyError(BAD_MEMBERS)


def _read_options(
    argv: list[bytes], at: int, by: int | None, reverse: bool | None, store: bool
) -> Selection:
    """The options of ZRANGE and its relatives from ``argv[at]`` on.

    ``by`` and ``reverse`` are None where the options decide.
    """
    selection = Selection(by or BY_RANK, bool(reverse))
    chosen = by is not None
    argc = len(argv)
    while at < argc:
        option = argv[at].lower()
        if option == b"withscores" and not store:
            selection.with_scores = True
        elif option == b"limit" and at + 2 < argc:
            selection.offset = integer(argv[at + 1])
            selection.count = integer(argv[at + 2])
            at += 2
        elif option == b"rev" and reverse is None and not selection.reverse:
            selection.reverse = True
        elif option in (b"bylex", b"byscore") and not chosen:
            selection.by = BY_MEMBER if option == b"bylex" else BY_SCORE
            chosen = True
        else:
            raise ReplyError(SYNTAX_ERROR)
        at += 1
    if selection.by == BY_RANK:
        if selection.count != -1:
            raise ReplyError(
                b"ERR syntax error, LIMIT is only supported in combination with either BYSCORE or"
                b" BYLEX"
            )
        selection.offset = 0
    if selection.with_scores and selection.by == BY_MEMBER:
        raise ReplyError(b"ERR syntax error, WITHSCORES not supported in combination with BYLEX")
    return selection


def _range(ctx: Session, argv: list[bytes], by: int | None, reverse: bool | None) -> Reply:
    selection = _read_options(argv, 4, by, reverse, False)
    possible = selection.read_bounds(argv[2], argv[3])
    value = find_typed(ctx.db, argv[1], SortedSet)
    if value is None or not possible:
        return []
    start, stop = selection.find_limited_span(value)
    if selection.with_scores:
        return reply_entries(value.range(start, stop, selection.reverse), ctx.protocol)
    return value.range_members(start, stop, selection.reverse)


@GROUP.command(
    "zrange",
    -4,
    "readonly",
    keys=[key("RO access")],
    since="1.2.0",
    complexity="O(log(N)+M) for M members returned out of N.",
    summary="Returns the members within a range of ranks, scores or members.",
    syntax="key start:string stop:string [BYSCORE | BYLEX]@6.2.0 [REV@6.2.0]"
    " [LIMIT offset count]@6.2.0 [WITHSCORES]",
    history=[("6.2.0", "The options `REV`, `BYSCORE`, `BYLEX` and `LIMIT`.")],
)
def zrange(ctx: Session, argv: list[bytes]) -> Reply:
    argc = len(argv)
    with_scores = argc == 5 and argv[4].lower() == b"withscores"
    if argc > 4 and not with_scores:
        return _range(ctx, argv, None, None)
    # By far the most common form, without a detour.
    first = integer(argv[2])
    last = integer(argv[3])
    value = ctx.db.find(argv[1])
    if type(value) is not SortedSet:
        if value is not None:
            raise ReplyError(WRONG_TYPE)
        return []
    size = len(value.scores)
    if first < 0:
        first = max(0, first + size)
    if last < 0:
        last += size
    if first > last:
        return []
    if with_scores:
        return reply_entries(value.range(first, last + 1), ctx.protocol)
    return value.range_members(first, last + 1)


@GROUP.command(
    "zrevrange",
    -4,
    "readonly",
    keys=[key("RO access")],
    since="1.2.0",
    complexity="O(log(N)+M) for M members returned out of N.",
    summary="Returns the members within a range of ranks, from the highest score on.",
    syntax="key start stop [WITHSCORES]",
    deprecated_since="6.2.0",
    replaced_by="`ZRANGE` with the `REV` argument",
    doc_flags=["deprecated"],
)
def zrevrange(ctx: Session, argv: list[bytes]) -> Reply:
    return _range(ctx, argv, BY_RANK, True)


@GROUP.command(
    "zrangebyscore",
    -4,
    "readonly",
    keys=[key("RO access")],
    since="1.0.5",
    complexity="O(log(N)+M) for M members returned out of N.",
    summary="Returns the members within a range of scores.",
    syntax="key min max [WITHSCORES@2.0.0] [LIMIT offset count]",
    history=[("2.0.0", "The option `WITHSCORES`.")],
    deprecated_since="6.2.0",
    replaced_by="`ZRANGE` with the `BYSCORE` argument",
    doc_flags=["deprecated"],
)
def zrangebyscore(ctx: Session, argv: list[bytes]) -> Reply:
    return _range(ctx, argv, BY_SCORE, False)


@GROUP.command(
    "zrevrangebyscore",
    -4,
    "readonly",
    keys=[key("RO access")],
    since="2.2.0",
    complexity="O(log(N)+M) for M members returned out of N.",
    summary="Returns the members within a range of scores, from the highest on.",
    syntax="key max min [WITHSCORES] [LIMIT offset count]",
    history=[("2.1.6", "`min` and `max` may be exclusive.")],
    deprecated_since="6.2.0",
    replaced_by="`ZRANGE` with the `REV` and `BYSCORE` arguments",
    doc_flags=["deprecated"],
)
def zrevrangebyscore(ctx: Session, argv: list[bytes]) -> Reply:
    return _range(ctx, argv, BY_SCORE, True)


@GROUP.command(
    "zrangebylex",
    -4,
    "readonly",
    keys=[key("RO access")],
    since="2.8.9",
    complexity="O(log(N)+M) for M members returned out of N.",
    summary="Returns the members within a range of members that share one score.",
    syntax="key min:string max:string [LIMIT offset count]",
    deprecated_since="6.2.0",
    replaced_by="`ZRANGE` with the `BYLEX` argument",
    doc_flags=["deprecated"],
)
def zrangebylex(ctx: Session, argv: list[bytes]) -> Reply:
    return _range(ctx, argv, BY_MEMBER, False)


@GROUP.command(
    "zrevrangebylex",
    -4,
    "readonly",
    keys=[key("RO access")],
    since="2.8.9",
    complexity="O(log(N)+M) for M members returned out of N.",
    summary="Returns the members within a range of members that share one score, the last first.",
    syntax="key max:string min:string [LIMIT offset count]",
    deprecated_since="6.2.0",
    replaced_by="`ZRANGE` with the `REV` and `BYLEX` arguments",
    doc_flags=["deprecated"],
)
def zrevrangebylex(ctx: Session, argv: list[bytes]) -> Reply:
    return _range(ctx, argv, BY_MEMBER, True)


@GROUP.command(
    "zrangestore",
    -5,
    "write denyoom",
    keys=[key("OW update"), key("RO access", 2)],
    since="6.2.0",
    complexity="O(log(N)+M) for M members stored out of N.",
    summary="Stores the members within a range of a sorted set in another one.",
    syntax="dst src min:string max:string [BYSCORE | BYLEX] [REV] [LIMIT offset count]",
)
def zrangestore(ctx: Session, argv: list[bytes]) -> Reply:
    selection = _read_options(argv, 5, None, None, True)
    possible = selection.read_bounds(argv[3], argv[4])
    value = find_typed(ctx.db, argv[2], SortedSet)
    entries: list[Entry] = []
    if value is not None and possible:
        entries = selection.find_entries(value)
    scores = {member: score for score, member in entries}
    return store_scores(ctx, argv[1], scores, b"zrangestore")


def store_scores(ctx: Session, name: bytes, scores: dict[bytes, float], event: bytes) -> int:
    """Let ``scores`` be the sorted set at ``name``, which is deleted if there are none.

    Returns how many members it has now.
    """
    db = ctx.db
    if scores:
        db.put(name, SortedSet.from_items(db.keyspace.limits, scores.items()))
        db.changed(name, None, EVENT_ZSET, event)
    elif db.delete(name):
        db.changed(name, None, EVENT_GENERIC, b"del")
    return len(scores)


def _count(ctx: Session, argv: list[bytes], by: int) -> Reply:
    selection = Selection(by)
    possible = selection.read_bounds(argv[2], argv[3])
    value = find_typed(ctx.db, argv[1], SortedSet)
    if value is None or not possible:
        return 0
    start, stop = selection.find_span(value)
    return stop - start


@GROUP.command(
    "zcount",
    4,
    "readonly fast",
    keys=[key("RO access")],
    since="2.0.0",
    complexity="O(log(N)) for N members.",
    summary="Returns how many members have a score within a range.",
    syntax="key min max",
)
def zcount(ctx: Session, argv: list[bytes]) -> Reply:
    return _count(ctx, argv, BY_SCORE)


@GROUP.command(
    "zlexcount",
    4,
    "readonly fast",
    keys=[key("RO access")],
    since="2.8.9",
    complexity="O(log(N)) for N members.",
    summary="Returns how many members that share one score are within a range of members.",
    syntax="key min:string max:string",
)
def zlexcount(ctx: Session, argv: list[bytes]) -> Reply:
    return _count(ctx, argv, BY_MEMBER)


def _remove_range(ctx: Session, argv: list[bytes], by: int, event: bytes) -> Reply:
    selection = Selection(by)
    possible = selection.read_bounds(argv[2], argv[3])
    db = ctx.db
    name = argv[1]
    value = find_typed_for_write(db, name, SortedSet)
    if value is None or not possible:
        return 0
    start, stop = selection.find_span(value)
    removed = len(value.delete(start, stop))
    if removed:
        db.changed(name, value, EVENT_ZSET, event, removed)
        db.delete_if_empty(name, value)
    return removed


@GROUP.command(
    "zremrangebyrank",
    4,
    "write",
    keys=[key("RW delete")],
    since="2.0.0",
    complexity="O(log(N)+M) for M members removed out of N.",
    summary="Takes the members within a range of ranks out of a sorted set.",
    syntax="key start stop",
)
def zremrangebyrank(ctx: Session, argv: list[bytes]) -> Reply:
    return _remove_range(ctx, argv, BY_RANK, b"zremrangebyrank")


@GROUP.command(
    "zremrangebyscore",
    4,
    "write",
    keys=[key("RW delete")],
    since="1.2.0",
    complexity="O(log(N)+M) for M members removed out of N.",
    summary="Takes the members within a range of scores out of a sorted set.",
    syntax="key min max",
)
def zremrangebyscore(ctx: Session, argv: list[bytes]) -> Reply:
    return _remove_range(ctx, argv, BY_SCORE, b"zremrangebyscore")


@GROUP.command(
    "zremrangebylex",
    4,
    "write",
    keys=[key("RW delete")],
    since="2.8.9",
    complexity="O(log(N)+M) for M members removed out of N.",
    summary="Takes the members within a range of members out of a sorted set of one score.",
    syntax="key min:string max:string",
)
def zremrangebylex(ctx: Session, argv: list[bytes]) -> Reply:
    return _remove_range(ctx, argv, BY_MEMBER, b"zremrangebylex")
