"""What all command families share: error texts, arguments read as Redis reads them, typed look-ups.

Everything here raises ReplyError with the text that Redis 7.2 answers with (``object.c``'s
``get…FromObjectOrReply``, ``db.c``, ``timeout.c``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, TypeVar

from node.key_table import Value
from node.keyspace import Database
from node.resp import Reply, ReplyError, Status
from node.values import pattern
from node.values.collection import Collection
from node.values.hash import Hash
from node.values.list import List
from node.values.long_double import INFINITE, parse_long_double
from node.values.number import MAX_INTEGER, MIN_INTEGER, parse_float, parse_integer
from node.values.set import Set
from node.values.sorted_set import SortedSet

WRONG_TYPE: Final = b"WRONGTYPE Operation against a key holding the wrong kind of value"
SYNTAX_ERROR: Final = b"ERR syntax error"
NOT_AN_INTEGER: Final = b"ERR value is not an integer or out of range"
NOT_A_FLOAT: Final = b"ERR value is not a valid float"
NOT_POSITIVE: Final = b"ERR value is out of range, must be positive"
OUT_OF_RANGE: Final = b"ERR index out of range"
NO_SUCH_KEY: Final = b"ERR no such key"
TOO_LONG: Final = b"ERR string exceeds maximum allowed size (proto-max-bulk-len)"

# What the slow log and MONITOR show of a secret: the handler writes it over the argument.
REDACTED: Final = b"(redacted)"

# C's int, for arguments that Redis keeps in one.
INT_MIN: Final = -(1 << 31)
INT_MAX: Final = (1 << 31) - 1

C = TypeVar("C", bound=Collection)


# Numbers.


def integer(argument: bytes, error: bytes = NOT_AN_INTEGER) -> int:
    """A signed 64-bit integer, or ``error``."""
    number = parse_integer(argument)
    if number is None:
        raise ReplyError(error)
    return number


def bounded_integer(
    argument: bytes,
    least: int = MIN_INTEGER,
    most: int = MAX_INTEGER,
    error: bytes | None = None,
) -> int:
    """An integer from ``least`` to ``most``; ``error`` stands for both of Redis's complaints."""
    number = parse_integer(argument)
    if number is None:
        raise ReplyError(NOT_AN_INTEGER if error is None else error)
    if not least <= number <= most:
        if error is None:
            error = b"ERR value is out of range, value must between %d and %d" % (least, most)
        raise ReplyError(error)
    return number


def positive_integer(argument: bytes, error: bytes = NOT_POSITIVE) -> int:
    """An integer that is not negative (Redis's "positive"), or ``error``, no number at all too."""
    number = parse_integer(argument)
    if number is None or number < 0:
        raise ReplyError(error)
    return number


# The reply to a draw with repetitions is built in memory before it is sent.
RANDOM_COUNT_LIMIT: Final = 1 << 24


def random_count(argument: bytes) -> int:
    """The count of SRANDMEMBER and its like: -n draws n elements that may repeat.

    Redis would go on sending for ever where this refuses an absurd number of repetitions.
    """
    count = bounded_integer(argument, -MAX_INTEGER)
    if count < -RANDOM_COUNT_LIMIT:
        raise ReplyError(b"ERR value is out of range")
    return count


def floating(argument: bytes, error: bytes = NOT_A_FLOAT) -> float:
    """A double, infinities included and NaN not, or ``error``."""
    number = parse_float(argument)
    if number is None:
        raise ReplyError(error)
    return number


def timeout_ms(argument: bytes, now: int = 0) -> int:
    """The timeout of a blocking command, given in (fractions of) seconds, in milliseconds.

    0 waits for ever. ``now`` (Unix milliseconds): a time that would end after the last one that 64
    bits can tell is refused.
    """
    number = parse_long_double(argument)
    if number is None:
        raise ReplyError(b"ERR timeout is not a float or out of range")
    mantissa, exponent = number
    if exponent == INFINITE or mantissa.bit_length() + exponent > 64:
        if mantissa < 0:
            raise ReplyError(b"ERR timeout is negative")
        raise ReplyError(b"ERR timeout is out of range")
    thousandfold = mantissa * 1000
    if exponent < 0:
        # The product has 64 bits in Redis, which is what makes 100 ms of 0.1 seconds.
        drop = thousandfold.bit_length() - 64
        if drop > 0:
            thousandfold = (thousandfold + (1 << (drop - 1))) >> drop
            exponent += drop
    if exponent < 0:
        milliseconds = -(-thousandfold >> -exponent)
    else:
        milliseconds = thousandfold << exponent
    if milliseconds < 0:
        raise ReplyError(b"ERR timeout is negative")
    if milliseconds > MAX_INTEGER - now:
        raise ReplyError(b"ERR timeout is out of range")
    return milliseconds


# Looking up.


def find_typed(db: Database, key: bytes, kind: type[C]) -> C | None:
    """The collection at ``key`` to be read; WRONG_TYPE if it is of another kind."""
    value = db.find(key)
    if value is None:
        return None
    if isinstance(value, kind):
        return value
    raise ReplyError(WRONG_TYPE)


def find_typed_for_write(db: Database, key: bytes, kind: type[C]) -> C | None:
    """The collection at ``key`` to be changed; WRONG_TYPE if it is of another kind."""
    value = db.find_for_write(key)
    if value is None:
        return None
    if isinstance(value, kind):
        return value
    raise ReplyError(WRONG_TYPE)


def find_string(db: Database, key: bytes) -> bytes | bytearray | None:
    """The string at ``key`` to be read; WRONG_TYPE if it is none."""
    value = db.find(key)
    if value is None or type(value) is bytes or type(value) is bytearray:
        return value
    raise ReplyError(WRONG_TYPE)


def find_string_for_write(db: Database, key: bytes) -> bytes | bytearray | None:
    """The string at ``key`` to be changed; WRONG_TYPE if it is none."""
    value = db.find_for_write(key)
    if value is None or type(value) is bytes or type(value) is bytearray:
        return value
    raise ReplyError(WRONG_TYPE)


def find_untouched(db: Database, key: bytes) -> Value | None:
    """The value at ``key``, counted as hit or miss, but not as used."""
    keyspace = db.keyspace
    touching = keyspace.touching
    keyspace.touching = False
    value = db.find(key)
    keyspace.touching = touching
    return value


def type_name(value: Value) -> bytes:
    """What TYPE says of a value."""
    if type(value) is bytes or type(value) is bytearray:
        return b"string"
    return _TYPE_NAMES[type(value)]


_TYPE_NAMES: Final[dict[type, bytes]] = {
    List: b"list",
    Hash: b"hash",
    Set: b"set",
    SortedSet: b"zset",
}


# SCAN and its like.

# strtoul's idea of a number, without the white space that Redis refuses before it.
_CURSOR: Final = re.compile(rb"([+-]?)([0-9]+)")
_ULONG_MAX: Final = (1 << 64) - 1


class ScanOptions:
    """The options of SCAN, HSCAN, SSCAN, ZSCAN.

    ``match`` is None where everything matches. ``kind`` is SCAN's TYPE in lower case.
    """

    __slots__ = ("match", "count", "kind")

    def __init__(self) -> None:
        self.match: pattern.Matcher | None = None
        self.count = 10
        self.kind: bytes | None = None


def scan_cursor(argument: bytes) -> int:
    """The cursor of a scan. Redis reads it before it looks at the key, the options after."""
    text = argument.partition(b"\0")[0]
    if not text:
        return 0
    match = _CURSOR.fullmatch(text)
    if match is not None and len(text) <= 4096:
        number = int(match.group(2))
        if number <= _ULONG_MAX:
            return -number & _ULONG_MAX if match.group(1) == b"-" else number
    raise ReplyError(b"ERR invalid cursor")


def scan_options(argv: Sequence[bytes], start: int, *, takes_type: bool = False) -> ScanOptions:
    """MATCH, COUNT and, where it ``takes_type``, TYPE from ``argv[start]`` on."""
    options = ScanOptions()
    for at in range(start, len(argv), 2):
        name = argv[at].lower()
        if at + 1 == len(argv):
            raise ReplyError(SYNTAX_ERROR)
        argument = argv[at + 1]
        if name == b"count":
            options.count = integer(argument)
            if options.count < 1:
                raise ReplyError(SYNTAX_ERROR)
        elif name == b"match":
            options.match = None if argument == b"*" else pattern.compile(argument)
        elif name == b"type" and takes_type:
            options.kind = argument.lower()
        else:
            raise ReplyError(SYNTAX_ERROR)
    return options


def scan_reply(cursor: int, items: list[Reply]) -> Reply:
    """What a scan answers: the next cursor, 0 at the end, and what it has found."""
    return [b"%d" % cursor, items]


# HELP.


def subcommand_error(argv: Sequence[bytes]) -> ReplyError:
    """What Redis says to a subcommand with the wrong number of arguments, among other things."""
    return ReplyError(
        b"ERR unknown subcommand or wrong number of arguments for '%b'. Try %b HELP."
        % (argv[1].partition(b"\0")[0][:128], argv[0].upper())
    )


def help_reply(name: str, lines: Sequence[str]) -> Reply:
    """The reply of a container's HELP: syntax lines, each followed by indented explanations."""
    head = f"{name.upper()} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
    return [Status(line.encode()) for line in (head, *lines, "HELP", "    Print this help.")]
