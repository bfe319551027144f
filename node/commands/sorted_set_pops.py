"""The commands that take the lowest or highest members out of sorted sets, waiting or not.

The waiting ones are logged as the ZPOPMIN or ZPOPMAX that they came to.
"""

from __future__ import annotations

from typing import Final

from node.command import Group, key, keys_counted
from node.commands.arguments import (
    SYNTAX_ERROR,
    bounded_integer,
    find_typed_for_write,
    positive_integer,
    timeout_ms,
)
from node.commands.sorted_sets import reply_entries
from node.keyspace import EVENT_ZSET
from node.resp import NULL_ARRAY, Reply, ReplyError
from node.session import Session
from node.values.number import format_double
from node.values.order import Entry
from node.values.sorted_set import SortedSet

GROUP: Final = Group("sorted-set")


def _take(ctx: Session, name: bytes, value: SortedSet, count: int, highest: bool) -> list[Entry]:
    """Remove up to ``count`` entries of the sorted set at ``name``."""
    entries = value.pop_max(count) if highest else value.pop_min(count)
    event = b"zpopmax" if highest else b"zpopmin"
    ctx.db.changed(name, value, EVENT_ZSET, event, len(entries))
    ctx.db.delete_if_empty(name, value)
    return entries


def _pop(ctx: Session, argv: list[bytes], highest: bool) -> Reply:
    if len(argv) > 3:
        raise ReplyError(SYNTAX_ERROR)
    count = positive_integer(argv[2]) if len(argv) == 3 else 1
    value = find_typed_for_write(ctx.db, argv[1], SortedSet)
    if value is None or count == 0:
        return []
    entries = _take(ctx, argv[1], value, count, highest)
    if len(argv) == 3:
        return reply_entries(entries, ctx.protocol)
    score, member = entries[0]
    return [member, score if ctx.protocol > 2 else format_double(score)]


@GROUP.command(
    "zpopmin",
    -2,
    "write fast",
    keys=[key("RW access delete")],
    since="5.0.0",
    complexity="O(log(N)*M) for M members taken out of N.",
    summary="Takes the members with the lowest scores out of a sorted set and returns them.",
    syntax="key [count]",
)
def zpopmin(ctx: Session, argv: list[bytes]) -> Reply:
    return _pop(ctx, argv, False)


@GROUP.command(
    "zpopmax",
    -2,
    "write fast",
    keys=[key("RW access delete")],
    since="5.0.0",
    complexity="O(log(N)*M) for M members taken out of N.",
    summary="Takes the members with the highest scores out of a sorted set and returns them.",
    syntax="key [count]",
)
def zpopmax(ctx: Session, argv: list[bytes]) -> Reply:
    return _pop(ctx, argv, True)


class _Request:
    """The arguments that ZMPOP and BZMPOP share."""

    __slots__ = ("names", "highest", "count")

    def __init__(self, argv: list[bytes], at: int) -> None:
        """Read them from ``numkeys``, which is argument ``at``."""
        argc = len(argv)
        number = bounded_integer(argv[at], 1, error=b"ERR numkeys should be greater than 0")
        end = at + 1 + number
        if end >= argc:
            raise ReplyError(SYNTAX_ERROR)
        where = argv[end].lower()
        if where not in (b"min", b"max"):
            raise ReplyError(SYNTAX_ERROR)
        self.names = argv[at + 1 : end]
        self.highest = where == b"max"
        self.count = 1
        if argc > end + 1:
            if argc < end + 3 or argv[end + 1].lower() != b"count":
                raise ReplyError(SYNTAX_ERROR)
            self.count = bounded_integer(
                argv[end + 2], 1, error=b"ERR count should be greater than 0"
            )
            if argc > end + 3:
                raise ReplyError(SYNTAX_ERROR)

    def serve(self, ctx: Session) -> Reply:
        """Pop from the first of the keys that is there; None if none is."""
        for name in self.names:
            value = find_typed_for_write(ctx.db, name, SortedSet)
            if value is not None:
                entries = _take(ctx, name, value, self.count, self.highest)
                command = b"ZPOPMAX" if self.highest else b"ZPOPMIN"
                ctx.propagate(command, name, b"%d" % len(entries))
                return [name, [[member, score] for score, member in entries]]
        return None


@GROUP.command(
    "zmpop",
    -4,
    "write",
    keys=[keys_counted("RW access delete")],
    since="7.0.0",
    complexity="O(K) + O(M*log(N)) for M members taken out of N, K keys being given.",
    summary="Takes the lowest or highest members out of the first sorted set that has any.",
    syntax="numkeys key [key ...] <MIN | MAX> [COUNT count]",
)
def zmpop(ctx: Session, argv: list[bytes]) -> Reply:
    reply = _Request(argv, 1).serve(ctx)
    return NULL_ARRAY if reply is None else reply


@GROUP.command(
    "bzmpop",
    -5,
    "write blocking",
    keys=[keys_counted("RW access delete", 2)],
    since="7.0.0",
    complexity="O(K) + O(M*log(N)) for M members taken out of N, K keys being given.",
    summary="Takes the lowest or highest members out of the first sorted set that has any, and "
    "waits until one has.",
    syntax="timeout:double numkeys key [key ...] <MIN | MAX> [COUNT count]",
)
def bzmpop(ctx: Session, argv: list[bytes]) -> Reply:
    request = _Request(argv, 2)
    timeout = timeout_ms(argv[1], ctx.now)
    reply = request.serve(ctx)
    if reply is not None:
        return reply
    return ctx.engine.blocking.wait_for_keys(
        ctx, argv, request.names, SortedSet, timeout, NULL_ARRAY
    )


def _pop_or_wait(ctx: Session, argv: list[bytes], highest: bool) -> Reply:
    timeout = timeout_ms(argv[-1], ctx.now)
    names = argv[1:-1]
    for name in names:
        value = find_typed_for_write(ctx.db, name, SortedSet)
        if value is not None:
            score, member = _take(ctx, name, value, 1, highest)[0]
            ctx.propagate(b"ZPOPMAX" if highest else b"ZPOPMIN", name)
            return [name, member, score]
    return ctx.engine.blocking.wait_for_keys(ctx, argv, names, SortedSet, timeout, NULL_ARRAY)


@GROUP.command(
    "bzpopmin",
    -3,
    "write fast blocking",
    keys=[key("RW access delete", last=-2)],
    since="5.0.0",
    complexity="O(log(N)) for N members.",
    summary="Takes the member with the lowest score out of the first sorted set that has any, and "
    "waits until one has.",
    syntax="key [key ...] timeout:double",
    history=[("6.0.0", "`timeout` may have a fraction.")],
)
def bzpopmin(ctx: Session, argv: list[bytes]) -> Reply:
    return _pop_or_wait(ctx, argv, False)


@GROUP.command(
    "bzpopmax",
    -3,
    "write fast blocking",
    keys=[key("RW access delete", last=-2)],
    since="5.0.0",
    complexity="O(log(N)) for N members.",
    summary="Takes the member with the highest score out of the first sorted set that has any, and "
    "waits until one has.",
    syntax="key [key ...] timeout:double",
    history=[("6.0.0", "`timeout` may have a fraction.")],
)
def bzpopmax(ctx: Session, argv: list[bytes]) -> Reply:
    return _pop_or_wait(ctx, argv, True)
