"""Strings: values, counters, ranges, several keys at once, expiry along with the value.

A string is ``bytes``, and ``bytearray`` once it was changed in place (APPEND, SETRANGE): that is
what Redis would keep in its raw encoding. Semantics follow Redis's ``t_string.c``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from node.command import Group, key
from node.commands.arguments import (
    NOT_A_FLOAT,
    NOT_AN_INTEGER,
    SYNTAX_ERROR,
    TOO_LONG,
    WRONG_TYPE,
    find_string,
    find_string_for_write,
    integer,
)
from node.key_table import object_memory
from node.keyspace import EVENT_GENERIC, EVENT_STRING
from node.resp import OK, Map, Reply, ReplyError
from node.session import Session
from node.values import subsequence
from node.values.long_double import MAX_TEXT, add_long_double
from node.values.number import MAX_INTEGER, MIN_INTEGER, parse_integer

GROUP: Final = Group("string")

OVERFLOW: Final = b"ERR increment or decrement would overflow"

# Below this no setting of proto-max-bulk-len can forbid a length.
SMALLEST_BULK_LIMIT: Final = 1024 * 1024
# Strings are lengthened with zeros in portions, so that no second large string is needed.
_ZEROS: Final = bytes(1024 * 1024)

# Options of SET and GETEX.
NX: Final = 1 << 0
XX: Final = 1 << 1
GET: Final = 1 << 2
KEEPTTL: Final = 1 << 3
PERSIST: Final = 1 << 4
EX: Final = 1 << 5
PX: Final = 1 << 6
EXAT: Final = 1 << 7
PXAT: Final = 1 << 8
_TIMES: Final = EX | PX | EXAT | PXAT

# Each option's bit and those that it cannot stand after.
_SET_OPTIONS: Final[dict[bytes, tuple[int, int]]] = {
    b"NX": (NX, XX),
    b"XX": (XX, NX),
    b"GET": (GET, 0),
    b"KEEPTTL": (KEEPTTL, _TIMES),
    b"EX": (EX, KEEPTTL | _TIMES & ~EX),
    b"PX": (PX, KEEPTTL | _TIMES & ~PX),
    b"EXAT": (EXAT, KEEPTTL | _TIMES & ~EXAT),
    b"PXAT": (PXAT, KEEPTTL | _TIMES & ~PXAT),
}
_GETEX_OPTIONS: Final[dict[bytes, tuple[int, int]]] = {
    b"PERSIST": (PERSIST, _TIMES),
    b"EX": (EX, PERSIST | _TIMES & ~EX),
    b"PX": (PX, PERSIST | _TIMES & ~PX),
    b"EXAT": (EXAT, PERSIST | _TIMES & ~EXAT),
    b"PXAT": (PXAT, PERSIST | _TIMES & ~PXAT),
}


def check_length(ctx: Session, length: int) -> None:
    """Refuse a string longer than proto-max-bulk-len, unless the master has it already."""
    if (
        length > SMALLEST_BULK_LIMIT
        and not ctx.from_master
        and length > ctx.engine.config.integer("proto-max-bulk-len")
    ):
        raise ReplyError(TOO_LONG)


def lengthen(value: bytearray, length: int) -> None:
    """Add zero bytes to ``value`` until it has ``length``."""
    missing = length - len(value)
    while missing > 0:
        value += _ZEROS if missing >= len(_ZEROS) else bytes(missing)
        missing -= len(_ZEROS)


def snapshot(ctx: Session, value: bytes | bytearray) -> bytes | bytearray:
    """``value`` as a reply: a copy where commands run before the reply is written (EXEC)."""
    return bytes(value) if ctx.in_exec else value


# Setting.


@GROUP.command(
    "set",
    -3,
    "write denyoom",
    keys=[
        key(
            "RW access update variable_flags",
            notes="RW and ACCESS because GET reads the old value",
        )
    ],
    key_finder=lambda argv: [(1, _set_key_flags(argv))],
    since="1.0.0",
    complexity="O(1)",
    summary="Stores a string under a key, on demand under a condition or with an expiry.",
    syntax="key value [NX | XX]@2.6.12 [GET]@6.2.0 [EX seconds@2.6.12 | PX milliseconds@2.6.12 | "
    "EXAT unix-time-seconds@6.2.0 | PXAT unix-time-milliseconds@6.2.0 | KEEPTTL@6.0.0]",
    history=[
        ("2.6.12", "New options `EX`, `PX`, `NX` and `XX`."),
        ("6.0.0", "New option `KEEPTTL`."),
        ("6.2.0", "New options `GET`, `EXAT` and `PXAT`."),
        ("7.0.0", "`NX` and `GET` may be combined."),
    ],
)
def set_value(ctx: Session, argv: list[bytes]) -> Reply:
    if len(argv) == 3:
        name = argv[1]
        db = ctx.db
        db.put(name, argv[2])
        db.changed(name, None, EVENT_STRING, b"set")
        return OK
    flags, time = _parse_options(argv, 3, _SET_OPTIONS)
    return _set(ctx, argv, argv[1], argv[2], flags, time, OK, None)


def _set_key_flags(argv: Sequence[bytes]) -> tuple[str, ...]:
    """SET reads its key only where GET is among the options."""
    if any(word.upper() == b"GET" for word in argv[3:]):
        return ("RW", "access", "update")
    return ("OW", "update")


def _parse_options(
    argv: list[bytes], start: int, options: dict[bytes, tuple[int, int]]
) -> tuple[int, bytes | None]:
    """The options from ``argv[start]`` on as bits, and the argument of the one that is a time."""
    flags = 0
    time = None
    at = start
    argc = len(argv)
    while at < argc:
        option = options.get(argv[at].upper())
        if option is None or flags & option[1]:
            raise ReplyError(SYNTAX_ERROR)
        flags |= option[0]
        if option[0] & _TIMES:
            at += 1
            if at == argc:
                raise ReplyError(SYNTAX_ERROR)
            time = argv[at]
        at += 1
    return flags, time


def _read_deadline(ctx: Session, flags: int, argument: bytes) -> int:
    """The Unix milliseconds that an expiry option means."""
    time = integer(argument)
    in_seconds = flags & (EX | EXAT)
    if time <= 0 or (in_seconds and time > MAX_INTEGER // 1000):
        raise _invalid_expiry(ctx)
    if in_seconds:
        time *= 1000
    if flags & (EX | PX):
        time += ctx.now
        if time > MAX_INTEGER:
            raise _invalid_expiry(ctx)
    return time


def _invalid_expiry(ctx: Session) -> ReplyError:
    command = ctx.running
    assert command is not None
    return ReplyError(b"ERR invalid expire time in '%b' command" % command.name)


def _set(
    ctx: Session,
    argv: list[bytes],
    name: bytes,
    value: bytes,
    flags: int,
    time: bytes | None,
    done: Reply,
    refused: Reply,
) -> Reply:
    """What SET and its older relatives have in common; the reply is ``done`` or ``refused``."""
    db = ctx.db
    deadline = None if time is None else _read_deadline(ctx, flags, time)
    if flags & GET:
        done = find_string(db, name)
        if type(done) is bytearray:
            done = bytes(done)
        refused = done
    # What is overwritten counts as used by that.
    if (flags & NX and db.find_for_write(name) is not None) or (
        flags & XX and db.peek(name) is None
    ):
        return refused
    db.put(name, value, flags & KEEPTTL != 0 or deadline is not None)
    db.changed(name, None, EVENT_STRING, b"set")
    if deadline is not None:
        db.set_deadline(name, deadline)
        ctx.propagate(b"SET", name, value, b"PXAT", b"%d" % deadline)
        db.notify(EVENT_GENERIC, b"expire", name)
    elif flags & GET:
        ctx.propagate(*argv[:3], *[word for word in argv[3:] if word.upper() != b"GET"])
    return done


@GROUP.command(
    "setnx",
    3,
    "write denyoom fast",
    keys=[key("OW insert")],
    since="1.0.0",
    complexity="O(1)",
    summary="Stores a string under a key that does not exist yet.",
    syntax="key value",
    deprecated_since="2.6.12",
    replaced_by="`SET` with the `NX` argument",
    doc_flags=["deprecated"],
)
def set_if_missing(ctx: Session, argv: list[bytes]) -> Reply:
    name = argv[1]
    db = ctx.db
    if db.find_for_write(name) is not None:
        return 0
    db.put(name, argv[2])
    db.changed(name, None, EVENT_STRING, b"set")
    return 1


@GROUP.command(
    "setex",
    4,
    "write denyoom",
    keys=[key("OW update")],
    since="2.0.0",
    complexity="O(1)",
    summary="Stores a string under a key and lets it expire after some seconds.",
    syntax="key seconds value",
    deprecated_since="2.6.12",
    replaced_by="`SET` with the `EX` argument",
    doc_flags=["deprecated"],
)
def set_with_seconds(ctx: Session, argv: list[bytes]) -> Reply:
    return _set(ctx, argv, argv[1], argv[3], EX, argv[2], OK, None)


@GROUP.command(
    "psetex",
    4,
    "write denyoom",
    keys=[key("OW update")],
    since="2.6.0",
    complexity="O(1)",
    summary="Stores a string under a key and lets it expire after some milliseconds.",
    syntax="key milliseconds value",
    deprecated_since="2.6.12",
    replaced_by="`SET` with the `PX` argument",
    doc_flags=["deprecated"],
)
def set_with_milliseconds(ctx: Session, argv: list[bytes]) -> Reply:
    return _set(ctx, argv, argv[1], argv[3], PX, argv[2], OK, None)


@GROUP.command(
    "getset",
    3,
    "write denyoom fast",
    keys=[key("RW access update")],
    since="1.0.0",
    complexity="O(1)",
    summary="Stores a string under a key and returns the one that was there.",
    syntax="key value",
    deprecated_since="6.2.0",
    replaced_by="`SET` with the `!GET` argument",
    doc_flags=["deprecated"],
)
def get_and_set(ctx: Session, argv: list[bytes]) -> Reply:
    name = argv[1]
    db = ctx.db
    old = find_string(db, name)
    db.put(name, argv[2])
    db.changed(name, None, EVENT_STRING, b"set")
    ctx.propagate(b"SET", name, argv[2])
    return old


# Getting.


@GROUP.command(
    "get",
    2,
    "readonly fast",
    keys=[key("RO access")],
    since="1.0.0",
    complexity="O(1)",
    summary="Returns the string at a key.",
    syntax="key",
)
def get(ctx: Session, argv: list[bytes]) -> Reply:
    value = ctx.db.find(argv[1])
    if type(value) is bytes or value is None:
        return value
    if type(value) is bytearray:
        return snapshot(ctx, value)
    raise ReplyError(WRONG_TYPE)


@GROUP.command(
    "getdel",
    2,
    "write fast",
    keys=[key("RW access delete")],
    since="6.2.0",
    complexity="O(1)",
    summary="Returns the string at a key and deletes the key.",
    syntax="key",
)
def get_and_delete(ctx: Session, argv: list[bytes]) -> Reply:
    name = argv[1]
    db = ctx.db
    value = find_string(db, name)
    if value is not None:
        db.delete(name)
        db.changed(name, None, EVENT_GENERIC, b"del")
        ctx.propagate(b"DEL", name)
    return value


@GROUP.command(
    "getex",
    -2,
    "write fast",
    keys=[key("RW access update", notes="RW and UPDATE because the expiry may change")],
    since="6.2.0",
    complexity="O(1)",
    summary="Returns the string at a key and sets or removes its expiry.",
    syntax="key [EX seconds | PX milliseconds | EXAT unix-time-seconds | "
    "PXAT unix-time-milliseconds | PERSIST]",
)
def get_and_expire(ctx: Session, argv: list[bytes]) -> Reply:
    name = argv[1]
    db = ctx.db
    flags, time = _parse_options(argv, 2, _GETEX_OPTIONS)
    value = find_string(db, name)
    if value is None:
        return None
    if time is not None:
        deadline = _read_deadline(ctx, flags, time)
        if flags & (EXAT | PXAT) and deadline <= ctx.now and db.keyspace.expiring:
            db.delete(name)
            db.changed(name, None, EVENT_GENERIC, b"del")
            ctx.propagate(db.keyspace.expire_command, name)
            return value
        db.set_deadline(name, deadline)
        db.changed(name, None, EVENT_GENERIC, b"expire")
        ctx.propagate(b"PEXPIREAT", name, b"%d" % deadline)
    elif flags & PERSIST and db.persist(name):
        db.changed(name, None, EVENT_GENERIC, b"persist")
        ctx.propagate(b"PERSIST", name)
    return snapshot(ctx, value)


# Several keys.


@GROUP.command(
    "mget",
    -2,
    "readonly fast",
    keys=[key("RO access", last=-1)],
    since="1.0.0",
    complexity="O(N), N being the number of keys",
    summary="Returns the strings at several keys.",
    syntax="key [key ...]",
    tips=["request_policy:multi_shard"],
)
def get_many(ctx: Session, argv: list[bytes]) -> Reply:
    replies: list[Reply] = []
    for value in ctx.db.find_many(argv):
        if type(value) is bytes:
            replies.append(value)
        elif type(value) is bytearray:
            replies.append(snapshot(ctx, value))
        else:
            replies.append(None)
    return replies


@GROUP.command(
    "mset",
    -3,
    "write denyoom",
    keys=[key("OW update", last=-1, step=2)],
    since="1.0.1",
    complexity="O(N), N being the number of keys",
    summary="Stores strings under several keys at once.",
    syntax="key value [key value ...]",
    tips=["request_policy:multi_shard", "response_policy:all_succeeded"],
)
def set_many(ctx: Session, argv: list[bytes]) -> Reply:
    if not len(argv) & 1:
        raise ReplyError(b"ERR wrong number of arguments for 'mset' command")
    ctx.db.put_many(argv, EVENT_STRING, b"set")
    return OK


@GROUP.command(
    "msetnx",
    -3,
    "write denyoom",
    keys=[key("OW insert", last=-1, step=2)],
    since="1.0.1",
    complexity="O(N), N being the number of keys",
    summary="Stores strings under several keys at once, if none of them exists yet.",
    syntax="key value [key value ...]",
)
def set_many_if_missing(ctx: Session, argv: list[bytes]) -> Reply:
    if not len(argv) & 1:
        raise ReplyError(b"ERR wrong number of arguments for 'msetnx' command")
    db = ctx.db
    for at in range(1, len(argv), 2):
        if db.find_for_write(argv[at]) is not None:
            return 0
    ctx.db.put_many(argv, EVENT_STRING, b"set")
    return 1


# Counters.


def _add(ctx: Session, name: bytes, increment: int) -> int:
    db = ctx.db
    value = db.find_for_write(name)
    if value is None:
        number = increment
        db.put(name, b"%d" % number)
    else:
        if type(value) is not bytes:
            if type(value) is not bytearray:
                raise ReplyError(WRONG_TYPE)
            value = bytes(value[:32])
        old = parse_integer(value)
        if old is None:
            raise ReplyError(NOT_AN_INTEGER)
        number = old + increment
        if number > MAX_INTEGER or number < MIN_INTEGER:
            raise ReplyError(OVERFLOW)
        db.replace(name, b"%d" % number)
    db.changed(name, None, EVENT_STRING, b"incrby")
    return number


@GROUP.command(
    "incr",
    2,
    "write denyoom fast",
    keys=[key("RW access update")],
    since="1.0.0",
    complexity="O(1)",
    summary="Adds one to the integer at a key; a missing key counts as 0.",
    syntax="key",
)
def increment(ctx: Session, argv: list[bytes]) -> Reply:
    return _add(ctx, argv[1], 1)


@GROUP.command(
    "decr",
    2,
    "write denyoom fast",
    keys=[key("RW access update")],
    since="1.0.0",
    complexity="O(1)",
    summary="Subtracts one from the integer at a key; a missing key counts as 0.",
    syntax="key",
)
def decrement(ctx: Session, argv: list[bytes]) -> Reply:
    return _add(ctx, argv[1], -1)


@GROUP.command(
    "incrby",
    3,
    "write denyoom fast",
    keys=[key("RW access update")],
    since="1.0.0",
    complexity="O(1)",
    summary="Adds a number to the integer at a key; a missing key counts as 0.",
    syntax="key increment",
)
def increment_by(ctx: Session, argv: list[bytes]) -> Reply:
    return _add(ctx, argv[1], integer(argv[2]))


@GROUP.command(
    "decrby",
    3,
    "write denyoom fast",
    keys=[key("RW access update")],
    since="1.0.0",
    complexity="O(1)",
    summary="Subtracts a number from the integer at a key; a missing key counts as 0.",
    syntax="key decrement",
)
def decrement_by(ctx: Session, argv: list[bytes]) -> Reply:
    number = integer(argv[2])
    if number == MIN_INTEGER:
        raise ReplyError(b"ERR decrement would overflow")
    return _add(ctx, argv[1], -number)


@GROUP.command(
    "incrbyfloat",
    3,
    "write denyoom fast",
    keys=[key("RW access update")],
    since="2.6.0",
    complexity="O(1)",
    summary="Adds a floating point number to the number at a key; a missing key counts as 0.",
    syntax="key increment:double",
)
def increment_by_float(ctx: Session, argv: list[bytes]) -> Reply:
    name = argv[1]
    db = ctx.db
    value = find_string_for_write(db, name)
    try:
        text = add_long_double(
            b"0" if value is None else bytes(value[: MAX_TEXT + 1]),
            argv[2],
        )
    except ValueError:
        raise ReplyError(NOT_A_FLOAT) from None
    except OverflowError:
        raise ReplyError(b"ERR increment would produce NaN or Infinity") from None
    if value is None:
        db.put(name, text)
    else:
        db.replace(name, text)
    db.changed(name, None, EVENT_STRING, b"incrbyfloat")
    # A reader of the log need not add floating point numbers as this machine does.
    ctx.propagate(b"SET", name, text, b"KEEPTTL")
    return text


# Parts.


@GROUP.command(
    "append",
    3,
    "write denyoom fast",
    keys=[key("RW insert")],
    since="2.0.0",
    complexity="O(1), amortized over many calls on a small value",
    summary="Adds to the end of the string at a key, which is made if it is missing.",
    syntax="key value",
)
def append(ctx: Session, argv: list[bytes]) -> Reply:
    name = argv[1]
    suffix = argv[2]
    db = ctx.db
    value = db.find_for_write(name)
    if value is None:
        length = len(suffix)
        db.put(name, suffix)
    elif type(value) is bytearray:
        length = len(value) + len(suffix)
        check_length(ctx, length)
        before = object_memory(value)
        value += suffix
        db.grow(object_memory(value) - before)
    elif type(value) is bytes:
        length = len(value) + len(suffix)
        check_length(ctx, length)
        longer = bytearray(value)
        longer += suffix
        db.replace(name, longer)
    else:
        raise ReplyError(WRONG_TYPE)
    db.changed(name, None, EVENT_STRING, b"append")
    return length


@GROUP.command(
    "strlen",
    2,
    "readonly fast",
    keys=[key("RO")],
    since="2.2.0",
    complexity="O(1)",
    summary="Returns the length of the string at a key.",
    syntax="key",
)
def measure(ctx: Session, argv: list[bytes]) -> Reply:
    value = find_string(ctx.db, argv[1])
    return 0 if value is None else len(value)


@GROUP.command(
    "setrange",
    4,
    "write denyoom",
    keys=[key("RW update")],
    since="2.2.0",
    complexity="O(N), N being the length of the value and of the zeros before it, if any",
    summary="Overwrites the string at a key from an offset on; zeros fill what was not there.",
    syntax="key offset value",
)
def set_range(ctx: Session, argv: list[bytes]) -> Reply:
    name = argv[1]
    part = argv[3]
    db = ctx.db
    offset = integer(argv[2])
    if offset < 0:
        raise ReplyError(b"ERR offset is out of range")
    value = find_string_for_write(db, name)
    if not part:
        return 0 if value is None else len(value)
    end = offset + len(part)
    check_length(ctx, end)
    if value is None:
        fresh = bytearray(end)
        fresh[offset:] = part
        db.put(name, fresh)
        length = end
    else:
        target = edit(ctx, name, value, end)
        target[offset:end] = part
        length = len(target)
    db.changed(name, None, EVENT_STRING, b"setrange")
    return length


def edit(ctx: Session, name: bytes, value: bytes | bytearray, length: int) -> bytearray:
    """The string at ``name``, there already, ready to be changed in place up to ``length``."""
    if type(value) is bytearray:
        if len(value) < length:
            before = object_memory(value)
            lengthen(value, length)
            ctx.db.grow(object_memory(value) - before)
        return value
    fresh = bytearray(value)
    lengthen(fresh, length)
    ctx.db.replace(name, fresh)
    return fresh


def _get_range(ctx: Session, argv: list[bytes]) -> Reply:
    start = integer(argv[2])
    end = integer(argv[3])
    value = find_string(ctx.db, argv[1])
    if value is None or (start < 0 and end < 0 and start > end):
        return b""
    length = len(value)
    if start < 0:
        start = max(start + length, 0)
    if end < 0:
        end = max(end + length, 0)
    end = min(end + 1, length)
    if start >= end:
        return b""
    if type(value) is bytes:
        return value[start:end]
    return bytes(memoryview(value)[start:end])


@GROUP.command(
    "getrange",
    4,
    "readonly",
    keys=[key("RO access")],
    since="2.4.0",
    complexity="O(N), N being the length of what is returned",
    summary="Returns a part of the string at a key.",
    syntax="key start end",
)
def get_range(ctx: Session, argv: list[bytes]) -> Reply:
    return _get_range(ctx, argv)


@GROUP.command(
    "substr",
    4,
    "readonly",
    keys=[key("RO access")],
    since="1.0.0",
    complexity="O(N), N being the length of what is returned",
    summary="Returns a part of the string at a key.",
    syntax="key start end",
    deprecated_since="2.0.0",
    replaced_by="`GETRANGE`",
    doc_flags=["deprecated"],
)
def get_substring(ctx: Session, argv: list[bytes]) -> Reply:
    return _get_range(ctx, argv)


# Longest common subsequence.


@GROUP.command(
    "lcs",
    -3,
    "readonly",
    keys=[key("RO access", last=1)],
    since="7.0.0",
    complexity="O(N*M), N and M being the lengths of the two strings",
    summary="Finds the longest common subsequence of the strings at two keys.",
    syntax="key1 key2 [LEN] [IDX] [MINMATCHLEN min-match-len:integer] [WITHMATCHLEN]",
)
def find_common(ctx: Session, argv: list[bytes]) -> Reply:
    strings: list[bytes] = []
    for value in (ctx.db.find(argv[1]), ctx.db.find(argv[2])):
        if value is None:
            strings.append(b"")
        elif type(value) is bytes or type(value) is bytearray:
            strings.append(bytes(value))
        else:
            raise ReplyError(b"ERR The specified keys must contain string values")
    a, b = strings
    with_indexes = only_length = with_lengths = False
    least = 0
    at = 3
    while at < len(argv):
        option = argv[at].upper()
        if option == b"IDX":
            with_indexes = True
        elif option == b"LEN":
            only_length = True
        elif option == b"WITHMATCHLEN":
            with_lengths = True
        elif option == b"MINMATCHLEN" and at + 1 < len(argv):
            at += 1
            least = integer(argv[at])
        else:
            raise ReplyError(SYNTAX_ERROR)
        at += 1
    if with_indexes and only_length:
        raise ReplyError(b"ERR If you want both the length and indexes, please just use IDX.")
    # The size of the table that Redis would fill: the bound on the work that is done here too.
    if (len(a) + 1) * (len(b) + 1) * 4 > ctx.engine.config.integer("proto-max-bulk-len"):
        raise ReplyError(
            b"ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len"
        )
    if only_length:
        return subsequence.measure(a, b)
    common, runs = subsequence.find(a, b)
    if not with_indexes:
        return common
    matches: list[Reply] = []
    for i, j, length in runs:
        if length >= least:
            match: list[Reply] = [[i, i + length - 1], [j, j + length - 1]]
            if with_lengths:
                match.append(length)
            matches.append(match)
    return Map([b"matches", matches, b"len", len(common)])
