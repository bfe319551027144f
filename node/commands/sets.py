"""The commands of sets (Redis's ``t_set.c``).

Intersections walk the smallest set and ask the others; differences walk the first one, or take
the others away from a copy of it, whichever is less work, by the same rule as Redis. What chance
decides (SPOP) goes into the command log as the removal that it came to.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import filterfalse, islice
from typing import Final

from node.command import Group, key, keys_counted
from node.commands.arguments import (
    SYNTAX_ERROR,
    WRONG_TYPE,
    bounded_integer,
    find_typed,
    find_typed_for_write,
    positive_integer,
    random_count,
    scan_cursor,
    scan_options,
    scan_reply,
)
from node.keyspace import EVENT_GENERIC, EVENT_SET
from node.resp import Reply, ReplyError, SetReply
from node.session import Session
from node.values.set import INTSET, LISTPACK, Set

GROUP: Final = Group("set")

LOGGED_AT_ONCE: Final = 1024
"""SPOP with a count is logged as SREM commands of up to so many members."""

POP_BY_KEEPING: Final = 5
"""SPOP moves what stays into a new set where so many times that is no more than what goes."""


# Members.


@GROUP.command(
    "sadd",
    -3,
    "write denyoom fast",
    keys=[key("RW insert")],
    since="1.0.0",
    complexity="O(1) for each member, O(N) for N of them.",
    summary="Puts members into a set, which is created if there is none.",
    syntax="key member [member ...]",
    history=[("2.4.0", "Several members at once.")],
)
def sadd(ctx: Session, argv: list[bytes]) -> Reply:
    db = ctx.db
    name = argv[1]
    value = db.find_for_write(name)
    if type(value) is Set:
        if len(argv) == 3:
            if not value.add(argv[2]):
                return 0
            added = 1
        else:
            value.expect(len(argv) - 2)
            added = value.update(argv[2:])
            if added == 0:
                return 0
        db.changed(name, value, EVENT_SET, b"sadd", added)
        return added
    if value is not None:
        raise ReplyError(WRONG_TYPE)
    value = Set(db.keyspace.limits, argv[2], len(argv) - 2)
    added = value.update(argv[2:])
    db.put(name, value)
    db.changed(name, None, EVENT_SET, b"sadd", added)
    return added


@GROUP.command(
    "srem",
    -3,
    "write fast",
    keys=[key("RW delete")],
    since="1.0.0",
    complexity="O(N) for N members.",
    summary="Takes members out of a set; a set that becomes empty is deleted.",
    syntax="key member [member ...]",
    history=[("2.4.0", "Several members at once.")],
)
def srem(ctx: Session, argv: list[bytes]) -> Reply:
    db = ctx.db
    name = argv[1]
    value = find_typed_for_write(db, name, Set)
    if value is None:
        return 0
    removed = 0
    for member in argv[2:]:
        if value.remove(member):
            removed += 1
    if removed:
        db.changed(name, value, EVENT_SET, b"srem", removed)
        db.delete_if_empty(name, value)
    return removed


@GROUP.command(
    "smove",
    4,
    "write fast",
    keys=[key("RW access delete"), key("RW insert", 2)],
    since="1.0.0",
    complexity="O(1)",
    summary="Takes a member out of one set and puts it into another.",
    syntax="source destination member",
)
def smove(ctx: Session, argv: list[bytes]) -> Reply:
    db = ctx.db
    source_name, target_name, member = argv[1:]
    source = db.find_for_write(source_name)
    target = db.find_for_write(target_name)
    if source is None:
        return 0
    if type(source) is not Set or (target is not None and type(target) is not Set):
        raise ReplyError(WRONG_TYPE)
    if source is target:
        return 1 if member in source.elements else 0
    if not source.remove(member):
        return 0
    db.changed(source_name, source, EVENT_SET, b"srem")
    db.delete_if_empty(source_name, source)
    if target is None:
        target = Set(db.keyspace.limits, member, 1)
        target.add(member)
        db.put(target_name, target)
        db.changed(target_name, None, EVENT_SET, b"sadd")
    elif target.add(member):
        db.changed(target_name, target, EVENT_SET, b"sadd")
    return 1


@GROUP.command(
    "scard",
    2,
    "readonly fast",
    keys=[key("RO")],
    since="1.0.0",
    complexity="O(1)",
    summary="Returns how many members a set has.",
    syntax="key",
)
def scard(ctx: Session, argv: list[bytes]) -> Reply:
    value = find_typed(ctx.db, argv[1], Set)
    return 0 if value is None else len(value.elements)


@GROUP.command(
    "sismember",
    3,
    "readonly fast",
    keys=[key("RO")],
    since="1.0.0",
    complexity="O(1)",
    summary="Tells whether a set has a member.",
    syntax="key member",
)
def sismember(ctx: Session, argv: list[bytes]) -> Reply:
    value = ctx.db.find(argv[1])
    if type(value) is Set:
        return 1 if argv[2] in value.elements else 0
    if value is not None:
        raise ReplyError(WRONG_TYPE)
    return 0


@GROUP.command(
    "smismember",
    -3,
    "readonly fast",
    keys=[key("RO access")],
    since="6.2.0",
    complexity="O(N) for N members asked for.",
    summary="Tells of each of several members whether a set has it.",
    syntax="key member [member ...]",
)
def smismember(ctx: Session, argv: list[bytes]) -> Reply:
    value = find_typed(ctx.db, argv[1], Set)
    if value is None:
        return [0] * (len(argv) - 2)
    elements = value.elements
    return [1 if member in elements else 0 for member in argv[2:]]


@GROUP.command(
    "smembers",
    2,
    "readonly",
    keys=[key("RO access")],
    since="1.0.0",
    complexity="O(N) for N members.",
    summary="Returns all members of a set.",
    syntax="key",
    tips=["nondeterministic_output_order"],
)
def smembers(ctx: Session, argv: list[bytes]) -> Reply:
    value = find_typed(ctx.db, argv[1], Set)
    return SetReply([] if value is None else list(value.members()))


@GROUP.command(
    "sscan",
    -3,
    "readonly",
    keys=[key("RO access")],
    since="2.8.0",
    complexity="O(1) for each call, O(N) for a whole iteration over N members.",
    summary="Iterates over the members of a set, some at a time.",
    syntax="key cursor [MATCH pattern] [COUNT count]",
    tips=["nondeterministic_output"],
)
def sscan(ctx: Session, argv: list[bytes]) -> Reply:
    cursor = scan_cursor(argv[2])
    value = find_typed(ctx.db, argv[1], Set)
    if value is None:
        return scan_reply(0, [])
    options = scan_options(argv, 3)
    following, members = value.scan(cursor, options.count)
    if options.match is not None:
        members = list(filter(options.match, members))
    return scan_reply(following, members)


# Chance.


@GROUP.command(
    "spop",
    -2,
    "write fast",
    keys=[key("RW access delete")],
    since="1.0.0",
    complexity="O(1) without a count, O(N) for a count of N.",
    summary="Takes random members out of a set and returns them.",
    syntax="key [count@3.2.0]",
    tips=["nondeterministic_output"],
    history=[("3.2.0", "A number of members.")],
)
def spop(ctx: Session, argv: list[bytes]) -> Reply:
    if len(argv) > 2:
        return _pop_several(ctx, argv)
    db = ctx.db
    name = argv[1]
    value = db.find_for_write(name)
    if type(value) is not Set:
        if value is not None:
            raise ReplyError(WRONG_TYPE)
        return None
    member = value.pop_random(db.keyspace.random)
    db.changed(name, value, EVENT_SET, b"spop")
    if not len(value.elements):
        db.delete_if_empty(name, value)
    ctx.propagate(b"SREM", name, member)
    return member


def _pop_several(ctx: Session, argv: list[bytes]) -> Reply:
    if len(argv) > 3:
        raise ReplyError(SYNTAX_ERROR)
    db = ctx.db
    name = argv[1]
    count = positive_integer(argv[2])
    value = find_typed_for_write(db, name, Set)
    if value is None or count == 0:
        return SetReply([])
    size = len(value.elements)
    if count >= size:
        members = list(value.members())
        db.delete(name)
        db.changed(name, None, EVENT_SET, b"spop", size)
        db.notify(EVENT_GENERIC, b"del", name)
        lazy = ctx.engine.config.boolean("lazyfree-lazy-server-del")
        ctx.propagate(b"UNLINK" if lazy else b"DEL", name)
        return SetReply(members)
    rng = db.keyspace.random
    if (size - count) * POP_BY_KEEPING > count:
        members = value.sample_members(rng, count)
        for member in members:
            value.remove(member)
    else:
        kept = dict.fromkeys(value.sample_members(rng, size - count))
        members = [member for member in value.members() if member not in kept]
        value = Set.from_elements(value.limits, kept, min(value.form, LISTPACK))
        db.put(name, value, keep_ttl=True)
    db.changed(name, value, EVENT_SET, b"spop", count)
    for start in range(0, count, LOGGED_AT_ONCE):
        ctx.propagate(b"SREM", name, *members[start : start + LOGGED_AT_ONCE])
    return SetReply(members)


@GROUP.command(
    "srandmember",
    -2,
    "readonly",
    keys=[key("RO access")],
    since="1.0.0",
    complexity="O(1) without a count, O(N) for a count of N or -N.",
    summary="Returns random members of a set.",
    syntax="key [count@2.6.0]",
    tips=["nondeterministic_output"],
    history=[("2.6.0", "A number of members.")],
)
def srandmember(ctx: Session, argv: list[bytes]) -> Reply:
    db = ctx.db
    rng = db.keyspace.random
    if len(argv) == 2:
        value = find_typed(db, argv[1], Set)
        return None if value is None else value.random_member(rng)
    if len(argv) > 3:
        raise ReplyError(SYNTAX_ERROR)
    count = random_count(argv[2])
    value = find_typed(db, argv[1], Set)
    if value is None or count == 0:
        return []
    if count < 0:
        return value.random_members(rng, -count)
    if count >= len(value.elements):
        return list(value.members())
    return value.sample_members(rng, count)


# Several sets.


def _find_all(ctx: Session, names: Sequence[bytes]) -> list[Set | None]:
    db = ctx.db
    return [find_typed(db, name, Set) for name in names]


def _store(ctx: Session, name: bytes, members: Iterable[bytes], form: int, event: bytes) -> int:
    """Let ``members`` be the set at ``name``, which is deleted if there are none; their number.

    ``form`` is the encoding to begin with, as in :meth:`Set.from_members`.
    """
    db = ctx.db
    result = Set.from_members(db.keyspace.limits, members, form)
    if not len(result.elements):
        if db.delete(name):
            db.changed(name, None, EVENT_GENERIC, b"del")
        return 0
    if event == b"sinterstore":
        result.compress()
    db.put(name, result)
    db.changed(name, None, EVENT_SET, event)
    return len(result.elements)


def _intersect(sets: Sequence[Set | None]) -> tuple[Iterable[bytes], int]:
    """The members that all ``sets`` have, lazily, and the encoding of the smallest set."""
    found = [value for value in sets if value is not None]
    if len(found) < len(sets):
        return (), INTSET
    found.sort(key=len)
    smallest = found[0]
    members: Iterable[bytes] = smallest.members()
    for other in found[1:]:
        if other is not smallest:
            members = filter(other.elements.__contains__, members)
    return members, smallest.form


@GROUP.command(
    "sinter",
    -2,
    "readonly",
    keys=[key("RO access", last=-1)],
    since="1.0.0",
    complexity="O(N*M) at worst, N members in the smallest of M sets.",
    summary="Returns the members that several sets have in common.",
    syntax="key [key ...]",
    tips=["nondeterministic_output_order"],
)
def sinter(ctx: Session, argv: list[bytes]) -> Reply:
    return SetReply(list(_intersect(_find_all(ctx, argv[1:]))[0]))


@GROUP.command(
    "sintercard",
    -3,
    "readonly",
    keys=[keys_counted("RO access")],
    since="7.0.0",
    complexity="O(N*M) at worst, N members in the smallest of M sets.",
    summary="Returns how many members several sets have in common.",
    syntax="numkeys key [key ...] [LIMIT limit]",
)
def sintercard(ctx: Session, argv: list[bytes]) -> Reply:
    count = bounded_integer(argv[1], 1, error=b"ERR numkeys should be greater than 0")
    if count > len(argv) - 2:
        raise ReplyError(b"ERR Number of keys can't be greater than number of args")
    limit = 0
    at = 2 + count
    while at < len(argv):
        if argv[at].lower() != b"limit" or at + 1 == len(argv):
            raise ReplyError(SYNTAX_ERROR)
        limit = positive_integer(argv[at + 1], b"ERR LIMIT can't be negative")
        at += 2
    members, _ = _intersect(_find_all(ctx, argv[2 : 2 + count]))
    return len(list(islice(members, limit or None)))


@GROUP.command(
    "sinterstore",
    -3,
    "write denyoom",
    keys=[key("RW update"), key("RO access", 2, last=-1)],
    since="1.0.0",
    complexity="O(N*M) at worst, N members in the smallest of M sets.",
    summary="Stores the members that several sets have in common.",
    syntax="destination key [key ...]",
)
def sinterstore(ctx: Session, argv: list[bytes]) -> Reply:
    members, form = _intersect(_find_all(ctx, argv[2:]))
    return _store(ctx, argv[1], members, min(form, LISTPACK), b"sinterstore")


def _unite(sets: Sequence[Set | None]) -> dict[bytes, None]:
    members: dict[bytes, None] = {}
    found = [value for value in sets if value is not None]
    for value in found:
        elements = value.elements
        if isinstance(elements, dict):
            members.update(elements)
        else:
            for bucket in elements.buckets:
                members.update(bucket)
    if all(value.form == INTSET for value in found):
        return dict.fromkeys(sorted(members, key=int))
    return members


@GROUP.command(
    "sunion",
    -2,
    "readonly",
    keys=[key("RO access", last=-1)],
    since="1.0.0",
    complexity="O(N) for N members in all sets together.",
    summary="Returns the members that any of several sets has.",
    syntax="key [key ...]",
    tips=["nondeterministic_output_order"],
)
def sunion(ctx: Session, argv: list[bytes]) -> Reply:
    return SetReply(list(_unite(_find_all(ctx, argv[1:]))))


@GROUP.command(
    "sunionstore",
    -3,
    "write denyoom",
    keys=[key("OW update"), key("RO access", 2, last=-1)],
    since="1.0.0",
    complexity="O(N) for N members in all sets together.",
    summary="Stores the members that any of several sets has.",
    syntax="destination key [key ...]",
)
def sunionstore(ctx: Session, argv: list[bytes]) -> Reply:
    return _store(ctx, argv[1], _unite(_find_all(ctx, argv[2:])), INTSET, b"sunionstore")


def _subtract(sets: Sequence[Set | None]) -> Iterable[bytes]:
    """The members of the first set that no other one has."""
    first = sets[0]
    if first is None:
        return ()
    others = [value for value in sets[1:] if value is not None]
    if any(value is first for value in others):
        return ()
    sizes = list(map(len, others))
    if len(first) * (1 + len(others)) // 2 <= len(first) + sum(sizes):
        # The larger a set, the sooner a member is found to be in it.
        others.sort(key=len, reverse=True)
        members: Iterable[bytes] = first.members()
        for value in others:
            members = filterfalse(value.elements.__contains__, members)
        return members
    left = dict.fromkeys(first.members())
    for value in others:
        for member in value.elements:
            left.pop(member, None)
        if not left:
            break
    return left


@GROUP.command(
    "sdiff",
    -2,
    "readonly",
    keys=[key("RO access", last=-1)],
    since="1.0.0",
    complexity="O(N) for N members in all sets together.",
    summary="Returns the members of one set that several others do not have.",
    syntax="key [key ...]",
    tips=["nondeterministic_output_order"],
)
def sdiff(ctx: Session, argv: list[bytes]) -> Reply:
    return SetReply(list(_subtract(_find_all(ctx, argv[1:]))))


@GROUP.command(
    "sdiffstore",
    -3,
    "write denyoom",
    keys=[key("OW update"), key("RO access", 2, last=-1)],
    since="1.0.0",
    complexity="O(N) for N members in all sets together.",
    summary="Stores the members of one set that several others do not have.",
    syntax="destination key [key ...]",
)
def sdiffstore(ctx: Session, argv: list[bytes]) -> Reply:
    return _store(ctx, argv[1], _subtract(_find_all(ctx, argv[2:])), INTSET, b"sdiffstore")
