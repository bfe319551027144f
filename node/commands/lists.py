"""The commands of lists that answer at once (Redis's ``t_list.c``).

:mod:`node.commands.blocking_lists` has those that wait for elements; both take and move elements
by the functions at the end of the sections *Taking* and *Moving* here.
"""

from __future__ import annotations

from typing import Final

from node.command import Group, key, keys_counted
from node.commands.arguments import (
    NO_SUCH_KEY,
    OUT_OF_RANGE,
    SYNTAX_ERROR,
    WRONG_TYPE,
    bounded_integer,
    find_typed,
    find_typed_for_write,
    integer,
    positive_integer,
)
from node.keyspace import EVENT_LIST, Database
from node.resp import NULL_ARRAY, OK, Reply, ReplyError
from node.session import Session
from node.values.list import List
from node.values.number import MAX_INTEGER

GROUP: Final = Group("list")


# Adding.


@GROUP.command(
    "lpush",
    -3,
    "write denyoom fast",
    keys=[key("RW insert")],
    since="1.0.0",
    complexity="O(1) for each element, O(N) for N of them.",
    summary="Puts elements before the first one of a list, which is created if there is none.",
    syntax="key element [element ...]",
    history=[("2.4.0", "Several elements at once.")],
)
def lpush(ctx: Session, argv: list[bytes]) -> Reply:
    return _push(ctx, argv, True)


@GROUP.command(
    "rpush",
    -3,
    "write denyoom fast",
    keys=[key("RW insert")],
    since="1.0.0",
    complexity="O(1) for each element, O(N) for N of them.",
    summary="Puts elements behind the last one of a list, which is created if there is none.",
    syntax="key element [element ...]",
    history=[("2.4.0", "Several elements at once.")],
)
def rpush(ctx: Session, argv: list[bytes]) -> Reply:
    return _push(ctx, argv, False)


def _push(ctx: Session, argv: list[bytes], left: bool) -> Reply:
    db = ctx.db
    name = argv[1]
    event = b"lpush" if left else b"rpush"
    value = db.find_for_write(name)
    if value is None:
        value = List(db.keyspace.limits)
        _extend(value, argv, left)
        db.put(name, value)
        db.changed(name, None, EVENT_LIST, event, len(argv) - 2)
    elif type(value) is List:
        _extend(value, argv, left)
        db.changed(name, value, EVENT_LIST, event, len(argv) - 2)
    else:
        raise ReplyError(WRONG_TYPE)
    return value.count


def _extend(value: List, argv: list[bytes], left: bool) -> None:
    if len(argv) > 3:
        elements = argv[2:]
        if left:
            value.extend_left(elements)
        else:
            value.extend_right(elements)
    elif left:
        value.push_left(argv[2])
    else:
        value.push_right(argv[2])


@GROUP.command(
    "lpushx",
    -3,
    "write denyoom fast",
    keys=[key("RW insert")],
    since="2.2.0",
    complexity="O(1) for each element, O(N) for N of them.",
    summary="Puts elements before the first one of a list, but creates none.",
    syntax="key element [element ...]",
    history=[("4.0.0", "Several elements at once.")],
)
def lpushx(ctx: Session, argv: list[bytes]) -> Reply:
    return _push_if_there(ctx, argv, True)


@GROUP.command(
    "rpushx",
    -3,
    "write denyoom fast",
    keys=[key("RW insert")],
    since="2.2.0",
    complexity="O(1) for each element, O(N) for N of them.",
    summary="Puts elements behind the last one of a list, but creates none.",
    syntax="key element [element ...]",
    history=[("4.0.0", "Several elements at once.")],
)
def rpushx(ctx: Session, argv: list[bytes]) -> Reply:
    return _push_if_there(ctx, argv, False)


def _push_if_there(ctx: Session, argv: list[bytes], left: bool) -> Reply:
    db = ctx.db
    value = find_typed_for_write(db, argv[1], List)
    if value is None:
        return 0
    _extend(value, argv, left)
    db.changed(argv[1], value, EVENT_LIST, b"lpush" if left else b"rpush", len(argv) - 2)
    return value.count


@GROUP.command(
    "linsert",
    5,
    "write denyoom",
    keys=[key("RW insert")],
    since="2.2.0",
    complexity="O(N) for N elements up to the pivot: O(1) near the head.",
    summary="Puts an element before or behind the first one that equals the pivot.",
    syntax="key <BEFORE | AFTER> pivot element",
)
def linsert(ctx: Session, argv: list[bytes]) -> Reply:
    db = ctx.db
    name = argv[1]
    where = argv[2].lower()
    if where != b"before" and where != b"after":
        raise ReplyError(SYNTAX_ERROR)
    value = find_typed_for_write(db, name, List)
    if value is None:
        return 0
    if not value.insert(argv[3], argv[4], where == b"before"):
        return -1
    db.changed(name, value, EVENT_LIST, b"linsert")
    return value.count


@GROUP.command(
    "lset",
    4,
    "write denyoom",
    keys=[key("RW update")],
    since="1.0.0",
    complexity="O(N) for N elements, O(1) at both ends.",
    summary="Replaces the element at an index.",
    syntax="key index element",
)
def lset(ctx: Session, argv: list[bytes]) -> Reply:
    db = ctx.db
    value = find_typed_for_write(db, argv[1], List)
    if value is None:
        raise ReplyError(NO_SUCH_KEY)
    if not value.set(integer(argv[2]), argv[3]):
        raise ReplyError(OUT_OF_RANGE)
    db.changed(argv[1], value, EVENT_LIST, b"lset")
    return OK


# Reading.


@GROUP.command(
    "llen",
    2,
    "readonly fast",
    keys=[key("RO")],
    since="1.0.0",
    complexity="O(1)",
    summary="Returns how many elements a list has.",
    syntax="key",
)
def llen(ctx: Session, argv: list[bytes]) -> Reply:
    value = find_typed(ctx.db, argv[1], List)
    return 0 if value is None else value.count


@GROUP.command(
    "lindex",
    3,
    "readonly",
    keys=[key("RO access")],
    since="1.0.0",
    complexity="O(N) for N elements between the index and the nearer end.",
    summary="Returns the element at an index.",
    syntax="key index",
)
def lindex(ctx: Session, argv: list[bytes]) -> Reply:
    value = find_typed(ctx.db, argv[1], List)
    return None if value is None else value.get(integer(argv[2]))


@GROUP.command(
    "lrange",
    4,
    "readonly",
    keys=[key("RO access")],
    since="1.0.0",
    complexity="O(S+N) for N elements that begin S elements from the nearer end.",
    summary="Returns the elements from one index up to another.",
    syntax="key start stop",
)
def lrange(ctx: Session, argv: list[bytes]) -> Reply:
    start = integer(argv[2])
    stop = integer(argv[3])
    value = ctx.db.find(argv[1])
    if value is None:
        return []
    if type(value) is not List:
        raise ReplyError(WRONG_TYPE)
    start, stop = _place(start, stop, value.count)
    return value.range(start, stop) if start < stop else []


def _place(start: int, stop: int, count: int) -> tuple[int, int]:
    """The indexes of a range's first element and of the one behind its last."""
    if start < 0:
        start = max(start + count, 0)
    return start, stop + count + 1 if stop < 0 else min(stop + 1, count)


@GROUP.command(
    "lpos",
    -3,
    "readonly",
    keys=[key("RO access")],
    since="6.0.6",
    complexity="O(N) for N elements to look at, which MAXLEN bounds.",
    summary="Returns the indexes of the elements that equal a value.",
    syntax="key element [RANK rank] [COUNT num-matches] [MAXLEN len]",
)
def lpos(ctx: Session, argv: list[bytes]) -> Reply:
    rank = 1
    count = -1
    most = 0
    for at in range(3, len(argv), 2):
        option = argv[at].lower()
        if at + 1 == len(argv):
            raise ReplyError(SYNTAX_ERROR)
        if option == b"rank":
            rank = bounded_integer(argv[at + 1], -MAX_INTEGER)
            if rank == 0:
                raise ReplyError(
                    b"ERR RANK can't be zero: use 1 to start from the first match, "
                    b"2 from the second ... or use negative to start from the end of the list"
                )
        elif option == b"count":
            count = positive_integer(argv[at + 1], b"ERR COUNT can't be negative")
        elif option == b"maxlen":
            most = positive_integer(argv[at + 1], b"ERR MAXLEN can't be negative")
        else:
            raise ReplyError(SYNTAX_ERROR)
    value = find_typed(ctx.db, argv[1], List)
    if count >= 0:
        return [] if value is None else value.find(argv[2], rank, count, most)
    if value is None:
        return None
    found = value.find(argv[2], rank, 1, most)
    return found[0] if found else None


# Taking.


@GROUP.command(
    "lpop",
    -2,
    "write fast",
    keys=[key("RW access delete")],
    since="1.0.0",
    complexity="O(N) for N elements taken.",
    summary="Takes the first elements out of a list.",
    syntax="key [count@6.2.0]",
    history=[("6.2.0", "A number of elements.")],
)
def lpop(ctx: Session, argv: list[bytes]) -> Reply:
    return _pop_several(ctx, argv, True) if len(argv) > 2 else _pop(ctx, argv[1], True)


@GROUP.command(
    "rpop",
    -2,
    "write fast",
    keys=[key("RW access delete")],
    since="1.0.0",
    complexity="O(N) for N elements taken.",
    summary="Takes the last elements out of a list.",
    syntax="key [count@6.2.0]",
    history=[("6.2.0", "A number of elements.")],
)
def rpop(ctx: Session, argv: list[bytes]) -> Reply:
    return _pop_several(ctx, argv, False) if len(argv) > 2 else _pop(ctx, argv[1], False)


def _pop(ctx: Session, name: bytes, left: bool) -> Reply:
    db = ctx.db
    value = db.find_for_write(name)
    if value is None:
        return None
    if type(value) is not List:
        raise ReplyError(WRONG_TYPE)
    element = value.pop_left() if left else value.pop_right()
    db.changed(name, value, EVENT_LIST, b"lpop" if left else b"rpop")
    if not value.count:
        db.delete_if_empty(name, value)
    return element


def _pop_several(ctx: Session, argv: list[bytes], left: bool) -> Reply:
    """LPOP and RPOP with a count."""
    if len(argv) > 3:
        name = b"lpop" if left else b"rpop"
        raise ReplyError(b"ERR wrong number of arguments for '%b' command" % name)
    count = positive_integer(argv[2])
    value = find_typed_for_write(ctx.db, argv[1], List)
    if value is None:
        return NULL_ARRAY
    if count == 0:
        return []
    return take(ctx.db, argv[1], value, left, count)


@GROUP.command(
    "lmpop",
    -4,
    "write",
    keys=[keys_counted("RW access delete")],
    since="7.0.0",
    complexity="O(N+M) for N keys and M elements taken.",
    summary="Takes elements out of the first of several lists that is there.",
    syntax="numkeys key [key ...] <LEFT | RIGHT> [COUNT count]",
)
def lmpop(ctx: Session, argv: list[bytes]) -> Reply:
    keys, left, count = parse_pop(argv, 1)
    reply = pop_first(ctx, keys, left, count)
    return NULL_ARRAY if reply is None else reply


def parse_end(argument: bytes) -> bool:
    """True for LEFT, False for RIGHT."""
    word = argument.lower()
    if word == b"left":
        return True
    if word == b"right":
        return False
    raise ReplyError(SYNTAX_ERROR)


def parse_pop(argv: list[bytes], at: int) -> tuple[list[bytes], bool, int]:
    """The arguments of LMPOP and BLMPOP from the number of keys at ``at`` on: keys, left, count."""
    number = bounded_integer(argv[at], 1, error=b"ERR numkeys should be greater than 0")
    where = at + number + 1
    if where >= len(argv):
        raise ReplyError(SYNTAX_ERROR)
    left = parse_end(argv[where])
    count = 0
    for option in range(where + 1, len(argv), 2):
        if count or option + 1 == len(argv) or argv[option].lower() != b"count":
            raise ReplyError(SYNTAX_ERROR)
        count = bounded_integer(argv[option + 1], 1, error=b"ERR count should be greater than 0")
    return argv[at + 1 : where], left, count or 1


def take(db: Database, name: bytes, value: List, left: bool, count: int) -> list[bytes]:
    """Remove up to ``count`` (at least one) elements at an end, in the order of popping."""
    if left:
        elements = value.take_left(count)
        db.changed(name, value, EVENT_LIST, b"lpop", len(elements))
    else:
        elements = value.take_right(count)
        db.changed(name, value, EVENT_LIST, b"rpop", len(elements))
    db.delete_if_empty(name, value)
    return elements


def pop_first(ctx: Session, keys: list[bytes], left: bool, count: int) -> Reply:
    """Pop from the first of ``keys`` that is there: [key, elements]; None when none is."""
    db = ctx.db
    for name in keys:
        value = find_typed_for_write(db, name, List)
        if value is not None:
            elements = take(db, name, value, left, count)
            ctx.propagate(b"LPOP" if left else b"RPOP", name, b"%d" % len(elements))
            return [name, elements]
    return None


@GROUP.command(
    "lrem",
    4,
    "write",
    keys=[key("RW delete")],
    since="1.0.0",
    complexity="O(N+M) for N elements in the list and M removed.",
    summary="Removes elements that equal a value.",
    syntax="key count element",
)
def lrem(ctx: Session, argv: list[bytes]) -> Reply:
    db = ctx.db
    name = argv[1]
    count = integer(argv[2])
    value = find_typed_for_write(db, name, List)
    if value is None:
        return 0
    removed = value.remove(argv[3], count)
    if removed:
        db.changed(name, value, EVENT_LIST, b"lrem", removed)
        db.delete_if_empty(name, value)
    return removed


@GROUP.command(
    "ltrim",
    4,
    "write",
    keys=[key("RW delete")],
    since="1.0.0",
    complexity="O(N) for N elements removed.",
    summary="Removes all elements but those from one index up to another.",
    syntax="key start stop",
)
def ltrim(ctx: Session, argv: list[bytes]) -> Reply:
    db = ctx.db
    name = argv[1]
    start = integer(argv[2])
    stop = integer(argv[3])
    value = find_typed_for_write(db, name, List)
    if value is None:
        return OK
    count = value.count
    start, stop = _place(start, stop, count)
    value.trim(start, stop)
    # Watched keys and listeners hear of it even when nothing had to go.
    db.changed(name, value, EVENT_LIST, b"ltrim", count - value.count)
    db.delete_if_empty(name, value)
    return OK


# Moving.


@GROUP.command(
    "lmove",
    5,
    "write denyoom",
    keys=[key("RW access delete"), key("RW insert", 2)],
    since="6.2.0",
    complexity="O(1)",
    summary="Takes an element off one end of a list and puts it at one end of another.",
    syntax="source destination wherefrom=<LEFT | RIGHT> whereto=<LEFT | RIGHT>",
)
def lmove(ctx: Session, argv: list[bytes]) -> Reply:
    from_left = parse_end(argv[3])
    to_left = parse_end(argv[4])
    return move(ctx.db, argv[1], argv[2], from_left, to_left)


@GROUP.command(
    "rpoplpush",
    3,
    "write denyoom",
    keys=[key("RW access delete"), key("RW insert", 2)],
    since="1.2.0",
    complexity="O(1)",
    summary="Takes the last element of a list and puts it before the first one of another.",
    syntax="source destination",
    deprecated_since="6.2.0",
    replaced_by="`LMOVE` with the `RIGHT` and `LEFT` arguments",
    doc_flags=["deprecated"],
)
def rpoplpush(ctx: Session, argv: list[bytes]) -> Reply:
    return move(ctx.db, argv[1], argv[2], False, True)


def move(
    db: Database, source: bytes, destination: bytes, from_left: bool, to_left: bool
) -> bytes | None:
    """Move one element and return it; None when ``source`` is not there."""
    value = find_typed_for_write(db, source, List)
    if value is None:
        return None
    target = find_typed_for_write(db, destination, List)
    element = value.pop_left() if from_left else value.pop_right()
    if target is None:
        fresh = List(db.keyspace.limits)
        fresh.push_left(element)
        db.put(destination, fresh)
    elif to_left:
        target.extend_left((element,))
    else:
        target.extend_right((element,))
    # Redis tells of the push before the pop, and counts both as one change.
    db.changed(destination, target, EVENT_LIST, b"lpush" if to_left else b"rpush", 0)
    db.changed(source, value, EVENT_LIST, b"lpop" if from_left else b"rpop")
    db.delete_if_empty(source, value)
    return element
