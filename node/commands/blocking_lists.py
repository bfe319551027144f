"""The commands of lists that wait for elements (Redis's ``t_list.c``).

Each is run from its beginning, and run again when one of its keys appears: it either finds an
element or goes on waiting. What goes into the command log is the command that does not wait.
"""

from __future__ import annotations

from typing import Final

from node.command import Group, key, keys_counted
from node.commands.arguments import find_typed_for_write, timeout_ms
from node.commands.lists import move, parse_end, parse_pop, pop_first
from node.keyspace import EVENT_LIST
from node.resp import NULL_ARRAY, Reply
from node.session import Session
from node.values.list import List

GROUP: Final = Group("list")


@GROUP.command(
    "blpop",
    -3,
    "write blocking",
    keys=[key("RW access delete", last=-2)],
    since="2.0.0",
    complexity="O(N) for N keys.",
    summary="Takes the first element out of the first of several lists that is there, or waits.",
    syntax="key [key ...] timeout:double",
    history=[("6.0.0", "Fractions of a second as timeout.")],
)
def blpop(ctx: Session, argv: list[bytes]) -> Reply:
    return _pop_or_wait(ctx, argv, True)


@GROUP.command(
    "brpop",
    -3,
    "write blocking",
    keys=[key("RW access delete", last=-2)],
    since="2.0.0",
    complexity="O(N) for N keys.",
    summary="Takes the last element out of the first of several lists that is there, or waits.",
    syntax="key [key ...] timeout:double",
    history=[("6.0.0", "Fractions of a second as timeout.")],
)
def brpop(ctx: Session, argv: list[bytes]) -> Reply:
    return _pop_or_wait(ctx, argv, False)


def _pop_or_wait(ctx: Session, argv: list[bytes], left: bool) -> Reply:
    timeout = timeout_ms(argv[-1], ctx.now)
    db = ctx.db
    keys = argv[1:-1]
    for name in keys:
        value = find_typed_for_write(db, name, List)
        if value is None:
            continue
        if left:
            element = value.pop_left()
            db.changed(name, value, EVENT_LIST, b"lpop")
            ctx.propagate(b"LPOP", name)
        else:
            element = value.pop_right()
            db.changed(name, value, EVENT_LIST, b"rpop")
            ctx.propagate(b"RPOP", name)
        db.delete_if_empty(name, value)
        return [name, element]
    return ctx.engine.blocking.wait_for_keys(ctx, argv, keys, List, timeout, NULL_ARRAY)


@GROUP.command(
    "blmpop",
    -5,
    "write blocking",
    keys=[keys_counted("RW access delete", 2)],
    since="7.0.0",
    complexity="O(N+M) for N keys and M elements taken.",
    summary="Takes elements out of the first of several lists that is there, or waits.",
    syntax="timeout:double numkeys key [key ...] <LEFT | RIGHT> [COUNT count]",
)
def blmpop(ctx: Session, argv: list[bytes]) -> Reply:
    keys, left, count = parse_pop(argv, 2)
    timeout = timeout_ms(argv[1], ctx.now)
    reply = pop_first(ctx, keys, left, count)
    if reply is not None:
        return reply
    return ctx.engine.blocking.wait_for_keys(ctx, argv, keys, List, timeout, NULL_ARRAY)


@GROUP.command(
    "blmove",
    6,
    "write denyoom blocking",
    keys=[key("RW access delete"), key("RW insert", 2)],
    since="6.2.0",
    complexity="O(1)",
    summary="Moves an element from one list to another as LMOVE does, or waits for one.",
    syntax="source destination wherefrom=<LEFT | RIGHT> whereto=<LEFT | RIGHT> timeout:double",
)
def blmove(ctx: Session, argv: list[bytes]) -> Reply:
    from_left = parse_end(argv[3])
    to_left = parse_end(argv[4])
    timeout = timeout_ms(argv[5], ctx.now)
    element = move(ctx.db, argv[1], argv[2], from_left, to_left)
    if element is None:
        return _wait_for_source(ctx, argv, timeout)
    ctx.propagate(b"LMOVE", argv[1], argv[2], argv[3], argv[4])
    return element


@GROUP.command(
    "brpoplpush",
    4,
    "write denyoom blocking",
    keys=[key("RW access delete"), key("RW insert", 2)],
    since="2.2.0",
    complexity="O(1)",
    summary="Moves an element from one list to another as RPOPLPUSH does, or waits for one.",
    syntax="source destination timeout:double",
    history=[("6.0.0", "Fractions of a second as timeout.")],
    deprecated_since="6.2.0",
    replaced_by="`BLMOVE` with the `RIGHT` and `LEFT` arguments",
    doc_flags=["deprecated"],
)
def brpoplpush(ctx: Session, argv: list[bytes]) -> Reply:
    timeout = timeout_ms(argv[3], ctx.now)
    element = move(ctx.db, argv[1], argv[2], False, True)
    if element is None:
        return _wait_for_source(ctx, argv, timeout)
    ctx.propagate(b"RPOPLPUSH", argv[1], argv[2])
    return element


def _wait_for_source(ctx: Session, argv: list[bytes], timeout: int) -> Reply:
    """Wait as BLMOVE does: its time ends with a null array, but in a transaction with a null."""
    if ctx.deny_blocking:
        return None
    return ctx.engine.blocking.wait_for_keys(ctx, argv, [argv[1]], List, timeout, NULL_ARRAY)
