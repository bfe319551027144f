"""Bitmaps: strings seen as bits, the first bit being the highest of the first byte.

Semantics follow Redis's ``bitops.c``.
"""

from __future__ import annotations

import re
from typing import Final

from node.command import Group, key
from node.commands.arguments import (
    SYNTAX_ERROR,
    find_string,
    find_string_for_write,
    integer,
)
from node.commands.strings import edit
from node.keyspace import EVENT_STRING
from node.resp import Reply, ReplyError
from node.session import Session

GROUP: Final = Group("bitmap")

BAD_OFFSET: Final = b"ERR bit offset is not an integer or out of range"
BAD_BIT: Final = b"ERR bit is not an integer or out of range"

# How many bytes become one integer at a time; about the fastest size, and no large copy.
_PORTION: Final = 8192

_BLANKS: Final = (bytes(_PORTION), b"\xff" * _PORTION)
"""Portions without a bit set, and without a bit clear."""
_OTHERS: Final = (re.compile(rb"[^\x00]", re.DOTALL), re.compile(rb"[^\xff]", re.DOTALL))
"""Find a byte that is not blank."""


def _bit_offset(ctx: Session, argument: bytes) -> int:
    offset = integer(argument, BAD_OFFSET)
    if offset < 0 or (
        not ctx.from_master and offset >> 3 >= ctx.engine.config.integer("proto-max-bulk-len")
    ):
        raise ReplyError(BAD_OFFSET)
    return offset


@GROUP.command(
    "setbit",
    4,
    "write denyoom",
    keys=[key("RW access update")],
    since="2.2.0",
    complexity="O(1)",
    summary="Sets or clears a bit of the string at a key, which grows as needed.",
    syntax="key offset value:integer",
)
def set_bit(ctx: Session, argv: list[bytes]) -> Reply:
    name = argv[1]
    offset = _bit_offset(ctx, argv[2])
    bit = integer(argv[3], BAD_BIT)
    if bit not in (0, 1):
        raise ReplyError(BAD_BIT)
    db = ctx.db
    at = offset >> 3
    mask = 128 >> (offset & 7)
    value = find_string_for_write(db, name)
    if value is None:
        fresh = bytearray(at + 1)
        if bit:
            fresh[at] = mask
        db.put(name, fresh)
        db.changed(name, None, EVENT_STRING, b"setbit")
        return 0
    grown = at >= len(value)
    target = edit(ctx, name, value, at + 1)
    old = 1 if target[at] & mask else 0
    if old != bit:
        target[at] ^= mask
    if grown or old != bit:
        db.changed(name, None, EVENT_STRING, b"setbit")
    return old


@GROUP.command(
    "getbit",
    3,
    "readonly fast",
    keys=[key("RO access")],
    since="2.2.0",
    complexity="O(1)",
    summary="Returns a bit of the string at a key.",
    syntax="key offset",
)
def get_bit(ctx: Session, argv: list[bytes]) -> Reply:
    offset = _bit_offset(ctx, argv[2])
    value = find_string(ctx.db, argv[1])
    at = offset >> 3
    if value is None or at >= len(value):
        return 0
    return value[at] >> (7 - (offset & 7)) & 1


def _in_bits(unit: bytes) -> bool:
    """BYTE or BIT."""
    unit = unit.upper()
    if unit == b"BIT":
        return True
    if unit == b"BYTE":
        return False
    raise ReplyError(SYNTAX_ERROR)


def _clamp(start: int, end: int, total: int) -> tuple[int, int]:
    """A range of indices from 0 on, both ends included; an empty one begins after its end."""
    if start < 0:
        start = max(start + total, 0)
    if end < 0:
        end = max(end + total, 0)
    return start, min(end, total - 1)


def count_bits(value: bytes | bytearray, start: int, stop: int) -> int:
    """How many bits are set in bytes ``start`` up to ``stop``."""
    blank = _BLANKS[0]
    total = 0
    for at in range(start, stop, _PORTION):
        # Large bitmaps are often sparse, and comparing is much faster than counting.
        if not value.startswith(blank, at, stop):
            portion = value[at : min(at + _PORTION, stop)]
            total += int.from_bytes(portion, "little").bit_count()
    return total


@GROUP.command(
    "bitcount",
    -2,
    "readonly",
    keys=[key("RO access")],
    since="2.6.0",
    complexity="O(N), N being the length of the range",
    summary="Counts the bits that are set in the string at a key, or in a range of it.",
    syntax="key range=[start end unit=[BYTE | BIT]@7.0.0]",
    history=[("7.0.0", "New option `BYTE|BIT`.")],
)
def count(ctx: Session, argv: list[bytes]) -> Reply:
    argc = len(argv)
    if argc == 2:
        value = find_string(ctx.db, argv[1])
        return 0 if value is None else count_bits(value, 0, len(value))
    if argc not in (4, 5):
        raise ReplyError(SYNTAX_ERROR)
    start = integer(argv[2])
    end = integer(argv[3])
    in_bits = argc == 5 and _in_bits(argv[4])
    value = find_string(ctx.db, argv[1])
    if value is None or (start < 0 and end < 0 and start > end):
        return 0
    total = len(value) * 8 if in_bits else len(value)
    start, end = _clamp(start, end, total)
    if start > end:
        return 0
    if not in_bits:
        return count_bits(value, start, end + 1)
    first = start >> 3
    last = end >> 3
    found = count_bits(value, first, last + 1)
    # Less what the outer bytes have outside of the range.
    found -= (value[first] >> (8 - (start & 7))).bit_count()
    found -= (value[last] & (1 << (7 - (end & 7))) - 1).bit_count()
    return found


def find_bit(value: bytes | bytearray, bit: int, start: int, end: int) -> int:
    """The first ``bit`` between bits ``start`` and ``end``, both included; -1 if there is none."""
    blank = _BLANKS[1 - bit]
    other = _OTHERS[1 - bit]
    at = start >> 3
    last = end >> 3
    # The first byte, without what lies before the range.
    head = (value[at] if bit else ~value[at]) & 0xFF >> (start & 7)
    if not head:
        at += 1
        while at + _PORTION <= last and value.startswith(blank, at):
            at += _PORTION
        match = other.search(value, at, last + 1)
        if match is None:
            return -1
        at = match.start()
        head = (value[at] if bit else ~value[at]) & 0xFF
    found = at * 8 + 8 - head.bit_length()
    return found if found <= end else -1


@GROUP.command(
    "bitpos",
    -3,
    "readonly",
    keys=[key("RO access")],
    since="2.8.7",
    complexity="O(N), N being the length of the range",
    summary="Finds the first bit set, or clear, in the string at a key or in a range of it.",
    syntax="key bit range=[start end-unit-block=[end unit=[BYTE | BIT]@7.0.0]]",
    history=[("7.0.0", "New option `BYTE|BIT`.")],
)
def find_position(ctx: Session, argv: list[bytes]) -> Reply:
    argc = len(argv)
    bit = integer(argv[2])
    if bit not in (0, 1):
        raise ReplyError(b"ERR The bit argument must be 1 or 0.")
    start = 0
    end = -1
    in_bits = False
    if argc > 3:
        if argc > 6:
            raise ReplyError(SYNTAX_ERROR)
        start = integer(argv[3])
        in_bits = argc == 6 and _in_bits(argv[5])
        if argc > 4:
            end = integer(argv[4])
    value = find_string(ctx.db, argv[1])
    if value is None:
        # An endless row of zeros.
        return -1 if bit else 0
    start, end = _clamp(start, end, len(value) * 8 if in_bits else len(value))
    if start > end:
        return -1
    if not in_bits:
        start *= 8
        end = end * 8 + 7
    found = find_bit(value, bit, start, end)
    if found < 0 and not bit and argc < 5:
        # Without an end the string is followed by zeros.
        return len(value) * 8
    return found
