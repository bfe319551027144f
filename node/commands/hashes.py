"""The commands of hashes (Redis's ``t_hash.c``)."""

from __future__ import annotations

from itertools import chain
from typing import Final

from node.command import Group, key
from node.commands.arguments import (
    NOT_A_FLOAT,
    SYNTAX_ERROR,
    WRONG_TYPE,
    find_typed,
    find_typed_for_write,
    integer,
    random_count,
    scan_cursor,
    scan_options,
    scan_reply,
)
from node.keyspace import EVENT_HASH, Database
from node.resp import OK, Map, Reply, ReplyError
from node.session import Session
from node.values.hash import Hash
from node.values.long_double import INFINITE, add, format_long_double, parse_long_double
from node.values.number import MAX_INTEGER, MIN_INTEGER, parse_integer

GROUP: Final = Group("hash")


# Setting.


@GROUP.command(
    "hset",
    -4,
    "write denyoom fast",
    keys=[key("RW update")],
    since="2.0.0",
    complexity="O(1) for each field, O(N) for N of them.",
    summary="Gives fields of a hash their values; the hash is created if there is none.",
    syntax="key field value [field value ...]",
    history=[("4.0.0", "Several fields and values at once.")],
)
def hset(ctx: Session, argv: list[bytes]) -> Reply:
    count = len(argv)
    if count & 1:
        raise ReplyError(b"ERR wrong number of arguments for 'hset' command")
    db = ctx.db
    name = argv[1]
    value = db.find_for_write(name)
    if type(value) is Hash:
        if count == 4:
            created = 1 if value.set(argv[2], argv[3]) else 0
            db.changed(name, value, EVENT_HASH, b"hset")
            return created
        created = _set_several(value, argv)
        db.changed(name, value, EVENT_HASH, b"hset", (count - 2) // 2)
        return created
    if value is not None:
        raise ReplyError(WRONG_TYPE)
    value = Hash(db.keyspace.limits)
    created = _set_several(value, argv)
    db.put(name, value)
    db.changed(name, None, EVENT_HASH, b"hset", (count - 2) // 2)
    return created


@GROUP.command(
    "hmset",
    -4,
    "write denyoom fast",
    keys=[key("RW update")],
    since="2.0.0",
    complexity="O(N) for N fields.",
    summary="Gives fields of a hash their values.",
    syntax="key field value [field value ...]",
    deprecated_since="4.0.0",
    replaced_by="`HSET` with multiple field-value pairs",
    doc_flags=["deprecated"],
)
def hmset(ctx: Session, argv: list[bytes]) -> Reply:
    if len(argv) & 1:
        raise ReplyError(b"ERR wrong number of arguments for 'hmset' command")
    hset(ctx, argv)
    return OK


def _set_several(value: Hash, argv: list[bytes]) -> int:
    """Set the fields that ``argv`` has from its third word on; how many are new."""
    created = 0
    value.expect((len(argv) - 2) // 2)
    for at in range(2, len(argv), 2):
        if value.set(argv[at], argv[at + 1]):
            created += 1
    return created


def _set_one(
    db: Database, name: bytes, value: Hash | None, field: bytes, text: bytes, event: bytes
) -> None:
    """Set one field of ``value``, or of a new hash if there is none."""
    if value is None:
        fresh = Hash(db.keyspace.limits)
        fresh.set(field, text)
        db.put(name, fresh)
    else:
        value.set(field, text)
    db.changed(name, value, EVENT_HASH, event)


@GROUP.command(
    "hsetnx",
    4,
    "write denyoom fast",
    keys=[key("RW insert")],
    since="2.0.0",
    complexity="O(1)",
    summary="Gives a field of a hash its value unless it has one.",
    syntax="key field value",
)
def hsetnx(ctx: Session, argv: list[bytes]) -> Reply:
    db = ctx.db
    value = find_typed_for_write(db, argv[1], Hash)
    if value is not None and argv[2] in value.fields:
        return 0
    _set_one(db, argv[1], value, argv[2], argv[3], b"hset")
    return 1


@GROUP.command(
    "hincrby",
    4,
    "write denyoom fast",
    keys=[key("RW access update")],
    since="2.0.0",
    complexity="O(1)",
    summary="Adds an integer to the value of a field.",
    syntax="key field increment",
)
def hincrby(ctx: Session, argv: list[bytes]) -> Reply:
    db = ctx.db
    number = integer(argv[3])
    value = db.find_for_write(argv[1])
    if value is None:
        _set_one(db, argv[1], None, argv[2], b"%d" % number, b"hincrby")
        return number
    if type(value) is not Hash:
        raise ReplyError(WRONG_TYPE)
    field = argv[2]
    text = value.fields.get(field)
    if text is not None:
        old = parse_integer(text)
        if old is None:
            raise ReplyError(b"ERR hash value is not an integer")
        number += old
        if not MIN_INTEGER <= number <= MAX_INTEGER:
            raise ReplyError(b"ERR increment or decrement would overflow")
    value.set(field, b"%d" % number)
    db.changed(argv[1], value, EVENT_HASH, b"hincrby")
    return number


@GROUP.command(
    "hincrbyfloat",
    4,
    "write denyoom fast",
    keys=[key("RW access update")],
    since="2.6.0",
    complexity="O(1)",
    summary="Adds a floating point number to the value of a field.",
    syntax="key field increment:double",
)
def hincrbyfloat(ctx: Session, argv: list[bytes]) -> Reply:
    db = ctx.db
    name = argv[1]
    field = argv[2]
    number = parse_long_double(argv[3])
    if number is None:
        raise ReplyError(NOT_A_FLOAT)
    if number[1] == INFINITE:
        raise ReplyError(b"ERR value is NaN or Infinity")
    value = find_typed_for_write(db, name, Hash)
    text = None if value is None else value.fields.get(field)
    if text is not None:
        old = parse_long_double(text)
        if old is None:
            raise ReplyError(b"ERR hash value is not a float")
        try:
            number = add(old, number)
        except OverflowError:
            raise ReplyError(b"ERR increment would produce NaN or Infinity") from None
    result = format_long_double(number)
    _set_one(db, name, value, field, result, b"hincrbyfloat")
    # Other machines may round otherwise: what is logged is the outcome.
    ctx.propagate(b"HSET", name, field, result)
    return result


# Deleting.


@GROUP.command(
    "hdel",
    -3,
    "write fast",
    keys=[key("RW delete")],
    since="2.0.0",
    complexity="O(N) for N fields.",
    summary="Takes fields out of a hash; a hash that becomes empty is deleted.",
    syntax="key field [field ...]",
    history=[("2.4.0", "Several fields at once.")],
)
def hdel(ctx: Session, argv: list[bytes]) -> Reply:
    db = ctx.db
    name = argv[1]
    value = find_typed_for_write(db, name, Hash)
    if value is None:
        return 0
    deleted = 0
    for at in range(2, len(argv)):
        if value.delete(argv[at]):
            deleted += 1
    if deleted:
        db.changed(name, value, EVENT_HASH, b"hdel", deleted)
        db.delete_if_empty(name, value)
    return deleted


# Reading.


@GROUP.command(
    "hget",
    3,
    "readonly fast",
    keys=[key("RO access")],
    since="2.0.0",
    complexity="O(1)",
    summary="Returns the value of a field.",
    syntax="key field",
)
def hget(ctx: Session, argv: list[bytes]) -> Reply:
    value = ctx.db.find(argv[1])
    if value is None:
        return None
    if type(value) is not Hash:
        raise ReplyError(WRONG_TYPE)
    return value.fields.get(argv[2])


@GROUP.command(
    "hmget",
    -3,
    "readonly fast",
    keys=[key("RO access")],
    since="2.0.0",
    complexity="O(N) for N fields.",
    summary="Returns the values of several fields.",
    syntax="key field [field ...]",
)
def hmget(ctx: Session, argv: list[bytes]) -> Reply:
    value = find_typed(ctx.db, argv[1], Hash)
    if value is None:
        return [None] * (len(argv) - 2)
    return list(map(value.fields.get, argv[2:]))


@GROUP.command(
    "hgetall",
    2,
    "readonly",
    keys=[key("RO access")],
    since="2.0.0",
    complexity="O(N) for N fields.",
    summary="Returns all fields of a hash and their values.",
    syntax="key",
    tips=["nondeterministic_output_order"],
)
def hgetall(ctx: Session, argv: list[bytes]) -> Reply:
    value = ctx.db.find(argv[1])
    if value is None:
        return Map([])
    if type(value) is not Hash:
        raise ReplyError(WRONG_TYPE)
    return Map(list(chain.from_iterable(value.fields.items())))


@GROUP.command(
    "hkeys",
    2,
    "readonly",
    keys=[key("RO access")],
    since="2.0.0",
    complexity="O(N) for N fields.",
    summary="Returns all fields of a hash.",
    syntax="key",
    tips=["nondeterministic_output_order"],
)
def hkeys(ctx: Session, argv: list[bytes]) -> Reply:
    value = find_typed(ctx.db, argv[1], Hash)
    return [] if value is None else list(value.fields)


@GROUP.command(
    "hvals",
    2,
    "readonly",
    keys=[key("RO access")],
    since="2.0.0",
    complexity="O(N) for N fields.",
    summary="Returns the values of all fields of a hash.",
    syntax="key",
    tips=["nondeterministic_output_order"],
)
def hvals(ctx: Session, argv: list[bytes]) -> Reply:
    value = find_typed(ctx.db, argv[1], Hash)
    return [] if value is None else list(value.fields.values())


@GROUP.command(
    "hlen",
    2,
    "readonly fast",
    keys=[key("RO")],
    since="2.0.0",
    complexity="O(1)",
    summary="Returns how many fields a hash has.",
    syntax="key",
)
def hlen(ctx: Session, argv: list[bytes]) -> Reply:
    value = find_typed(ctx.db, argv[1], Hash)
    return 0 if value is None else len(value.fields)


@GROUP.command(
    "hexists",
    3,
    "readonly fast",
    keys=[key("RO")],
    since="2.0.0",
    complexity="O(1)",
    summary="Tells whether a hash has a field.",
    syntax="key field",
)
def hexists(ctx: Session, argv: list[bytes]) -> Reply:
    value = find_typed(ctx.db, argv[1], Hash)
    return 0 if value is None or argv[2] not in value.fields else 1


@GROUP.command(
    "hstrlen",
    3,
    "readonly fast",
    keys=[key("RO")],
    since="3.2.0",
    complexity="O(1)",
    summary="Returns the length of a field's value.",
    syntax="key field",
)
def hstrlen(ctx: Session, argv: list[bytes]) -> Reply:
    value = find_typed(ctx.db, argv[1], Hash)
    return 0 if value is None else len(value.fields.get(argv[2], b""))


@GROUP.command(
    "hscan",
    -3,
    "readonly",
    keys=[key("RO access")],
    since="2.8.0",
    complexity="O(1) for each call, O(N) for a whole iteration over N fields.",
    summary="Iterates over the fields of a hash and their values, some at a time.",
    syntax="key cursor [MATCH pattern] [COUNT count]",
    tips=["nondeterministic_output"],
)
def hscan(ctx: Session, argv: list[bytes]) -> Reply:
    cursor = scan_cursor(argv[2])
    value = find_typed(ctx.db, argv[1], Hash)
    if value is None:
        return scan_reply(0, [])
    options = scan_options(argv, 3)
    following, fields = value.scan(cursor, options.count)
    if options.match is not None:
        fields = list(filter(options.match, fields))
    return scan_reply(following, _with_values(value, fields))


def _with_values(value: Hash, fields: list[bytes]) -> list[Reply]:
    """Fields of a hash, each followed by its value."""
    return list(chain.from_iterable(zip(fields, map(value.fields.get, fields), strict=True)))


@GROUP.command(
    "hrandfield",
    -2,
    "readonly",
    keys=[key("RO access")],
    since="6.2.0",
    complexity="O(1) without a count, O(N) for a count of N or -N.",
    summary="Returns random fields of a hash.",
    syntax="key options=[count [WITHVALUES]]",
    tips=["nondeterministic_output"],
)
def hrandfield(ctx: Session, argv: list[bytes]) -> Reply:
    db = ctx.db
    rng = db.keyspace.random
    if len(argv) == 2:
        value = find_typed(db, argv[1], Hash)
        return None if value is None else value.random_field(rng)
    count = random_count(argv[2])
    if len(argv) > 4 or (len(argv) == 4 and argv[3].lower() != b"withvalues"):
        raise ReplyError(SYNTAX_ERROR)
    if len(argv) == 4 and count > MAX_INTEGER // 2:
        raise ReplyError(b"ERR value is out of range")
    value = find_typed(db, argv[1], Hash)
    if value is None or count == 0:
        return []
    if count < 0:
        fields = value.random_fields(rng, -count)
    elif count >= len(value.fields):
        fields = list(value.fields)
    else:
        fields = value.sample_fields(rng, count)
    if len(argv) == 3:
        return fields
    if ctx.protocol == 2:
        return _with_values(value, fields)
    return [[field, value.fields.get(field)] for field in fields]
