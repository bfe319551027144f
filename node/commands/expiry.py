"""Expiry: when a key goes by itself. Semantics follow Redis's ``expire.c``.

The command log never holds a relative time: every form of EXPIRE is logged as PEXPIREAT, or as a
deletion when the time lies in the past.
"""

from __future__ import annotations

from typing import Final

from node.command import Group, key
from node.commands.arguments import find_untouched, integer
from node.keyspace import EVENT_GENERIC
from node.resp import Reply, ReplyError
from node.session import Session
from node.values.number import MAX_INTEGER, MIN_INTEGER

GROUP: Final = Group("generic")

# Conditions of EXPIRE and its like.
NX: Final = 1 << 0
XX: Final = 1 << 1
GT: Final = 1 << 2
LT: Final = 1 << 3

_CONDITIONS: Final[dict[bytes, int]] = {b"NX": NX, b"XX": XX, b"GT": GT, b"LT": LT}

_CONDITION_SYNTAX: Final = "[NX | XX | GT | LT]@7.0.0"
_CONDITION_HISTORY: Final = [("7.0.0", "New options `NX`, `XX`, `GT` and `LT`.")]


def _parse_conditions(argv: list[bytes]) -> int:
    flags = 0
    for word in argv[3:]:
        flag = _CONDITIONS.get(word.upper())
        if flag is None:
            raise ReplyError(b"ERR Unsupported option %b" % word.partition(b"\0")[0])
        flags |= flag
    if flags & NX and flags & (XX | GT | LT):
        raise ReplyError(b"ERR NX and XX, GT or LT options at the same time are not compatible")
    if flags & GT and flags & LT:
        raise ReplyError(b"ERR GT and LT options at the same time are not compatible")
    return flags


def _expire(ctx: Session, argv: list[bytes], base: int, scale: int) -> Reply:
    """Let ``argv[1]`` expire ``argv[2]`` units of ``scale`` ms after ``base`` (Unix ms)."""
    flags = _parse_conditions(argv) if len(argv) > 3 else 0
    deadline = integer(argv[2]) * scale
    if not MIN_INTEGER <= deadline <= MAX_INTEGER - base:
        command = ctx.running
        assert command is not None
        raise ReplyError(b"ERR invalid expire time in '%b' command" % command.name)
    deadline += base
    name = argv[1]
    db = ctx.db
    if db.find_for_write(name) is None:
        return 0
    if flags:
        current = db.deadline(name)
        # No deadline at all is later than any.
        if (
            (flags & NX and current is not None)
            or (flags & XX and current is None)
            or (flags & GT and (current is None or deadline <= current))
            or (flags & LT and current is not None and deadline >= current)
        ):
            return 0
    # A replica, or a server that loads its data, leaves the deletion to whoever decides it.
    if deadline <= ctx.now and db.keyspace.expiring:
        db.delete(name)
        db.changed(name, None, EVENT_GENERIC, b"del")
        ctx.propagate(db.keyspace.expire_command, name)
        return 1
    db.set_deadline(name, deadline)
    db.changed(name, None, EVENT_GENERIC, b"expire")
    ctx.propagate(b"PEXPIREAT", name, b"%d" % deadline, *argv[3:])
    return 1


@GROUP.command(
    "expire",
    -3,
    "write fast",
    keys=[key("RW update")],
    since="1.0.0",
    complexity="O(1)",
    summary="Lets a key expire after some seconds.",
    syntax=f"key seconds {_CONDITION_SYNTAX}",
    history=_CONDITION_HISTORY,
)
def expire(ctx: Session, argv: list[bytes]) -> Reply:
    return _expire(ctx, argv, ctx.now, 1000)


@GROUP.command(
    "expireat",
    -3,
    "write fast",
    keys=[key("RW update")],
    since="1.2.0",
    complexity="O(1)",
    summary="Lets a key expire at a Unix time in seconds.",
    syntax=f"key unix-time-seconds {_CONDITION_SYNTAX}",
    history=_CONDITION_HISTORY,
)
def expire_at(ctx: Session, argv: list[bytes]) -> Reply:
    return _expire(ctx, argv, 0, 1000)


@GROUP.command(
    "pexpire",
    -3,
    "write fast",
    keys=[key("RW update")],
    since="2.6.0",
    complexity="O(1)",
    summary="Lets a key expire after some milliseconds.",
    syntax=f"key milliseconds {_CONDITION_SYNTAX}",
    history=_CONDITION_HISTORY,
)
def expire_milliseconds(ctx: Session, argv: list[bytes]) -> Reply:
    return _expire(ctx, argv, ctx.now, 1)


@GROUP.command(
    "pexpireat",
    -3,
    "write fast",
    keys=[key("RW update")],
    since="2.6.0",
    complexity="O(1)",
    summary="Lets a key expire at a Unix time in milliseconds.",
    syntax=f"key unix-time-milliseconds {_CONDITION_SYNTAX}",
    history=_CONDITION_HISTORY,
)
def expire_at_milliseconds(ctx: Session, argv: list[bytes]) -> Reply:
    return _expire(ctx, argv, 0, 1)


@GROUP.command(
    "persist",
    2,
    "write fast",
    keys=[key("RW update")],
    since="2.2.0",
    complexity="O(1)",
    summary="Takes a key's expiry away.",
    syntax="key",
)
def persist(ctx: Session, argv: list[bytes]) -> Reply:
    name = argv[1]
    db = ctx.db
    if db.find_for_write(name) is None or not db.persist(name):
        return 0
    db.changed(name, None, EVENT_GENERIC, b"persist")
    return 1


def _deadline(ctx: Session, name: bytes) -> int:
    """When ``name`` expires, Unix milliseconds; -1 if never, -2 if it is not there."""
    db = ctx.db
    if find_untouched(db, name) is None:
        return -2
    deadline = db.deadline(name)
    return -1 if deadline is None else deadline


@GROUP.command(
    "ttl",
    2,
    "readonly fast",
    keys=[key("RO access")],
    since="1.0.0",
    complexity="O(1)",
    summary="Tells how many seconds a key has left.",
    syntax="key",
    history=[("2.8.0", "Returns -2 for a missing key.")],
    tips=["nondeterministic_output"],
)
def seconds_left(ctx: Session, argv: list[bytes]) -> Reply:
    deadline = _deadline(ctx, argv[1])
    return deadline if deadline < 0 else (max(deadline - ctx.now, 0) + 500) // 1000


@GROUP.command(
    "pttl",
    2,
    "readonly fast",
    keys=[key("RO access")],
    since="2.6.0",
    complexity="O(1)",
    summary="Tells how many milliseconds a key has left.",
    syntax="key",
    history=[("2.8.0", "Returns -2 for a missing key.")],
    tips=["nondeterministic_output"],
)
def milliseconds_left(ctx: Session, argv: list[bytes]) -> Reply:
    deadline = _deadline(ctx, argv[1])
    return deadline if deadline < 0 else max(deadline - ctx.now, 0)


@GROUP.command(
    "expiretime",
    2,
    "readonly fast",
    keys=[key("RO access")],
    since="7.0.0",
    complexity="O(1)",
    summary="Tells at which Unix time in seconds a key expires.",
    syntax="key",
)
def expire_time(ctx: Session, argv: list[bytes]) -> Reply:
    deadline = _deadline(ctx, argv[1])
    return deadline if deadline < 0 else (deadline + 500) // 1000


@GROUP.command(
    "pexpiretime",
    2,
    "readonly fast",
    keys=[key("RO access")],
    since="7.0.0",
    complexity="O(1)",
    summary="Tells at which Unix time in milliseconds a key expires.",
    syntax="key",
)
def expire_time_milliseconds(ctx: Session, argv: list[bytes]) -> Reply:
    return _deadline(ctx, argv[1])
