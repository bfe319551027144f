"""RDB files put together by hand, with all the encodings that servers have ever written.

From the published descriptions of the formats; nothing here uses the code under test but for the
checksum and for encodings of today.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from node.persistence.crc64 import crc64
from node.values.number import parse_integer

NUMBERS: Final = (0, 1, 12, 13, 127, 128, -1, -128, -129, 4095, 4096, -4096, -4097, 32767, 32768)
NUMBERS_BEYOND: Final = (-32769, 8388607, 8388608, -8388609, 2147483647, 2147483648, -2147483649)
EDGES: Final = (
    *[b"%d" % number for number in (*NUMBERS, *NUMBERS_BEYOND, -(1 << 63), (1 << 63) - 1)],
    *[b"", b"a", b"-", b"-0", b"007", b"1.5", b" 1", b"\x00\xff", b"9223372036854775808"],
    *[b"x" * length for length in (20, 21, 63, 64, 125, 126, 127, 253, 254, 255, 4095, 4096)],
    b"y" * 16400,
)
"""Elements on either side of every threshold of the packed encodings."""


def length(number: int) -> bytes:
    """A length in its shortest form."""
    if number < 64:
        return bytes([number])
    if number < 16384:
        return struct.pack(">H", number | 0x4000)
    if number < 1 << 32:
        return b"\x80" + struct.pack(">I", number)
    return b"\x81" + struct.pack(">Q", number)


def string(text: bytes) -> bytes:
    """A string as it is."""
    return length(len(text)) + text


def ziplist(entries: Sequence[bytes], small_integers: bool = True) -> bytes:
    """A ziplist; without `small_integers` as versions before 2.6 wrote it."""
    body = b""
    previous = 0
    tail = 10
    for entry in entries:
        tail = 10 + len(body)
        head = bytes([previous]) if previous < 254 else b"\xfe" + struct.pack("<I", previous)
        whole = head + _ziplist_entry(entry, small_integers)
        body += whole
        previous = len(whole)
    count = min(len(entries), 65535)
    return struct.pack("<IIH", 11 + len(body), tail, count) + body + b"\xff"


def _ziplist_entry(entry: bytes, small_integers: bool) -> bytes:
    number = parse_integer(entry)
    if number is not None:
        if small_integers and 0 <= number <= 12:
            return bytes([0xF1 + number])
        if small_integers and -128 <= number <= 127:
            return b"\xfe" + struct.pack("<b", number)
        if -32768 <= number <= 32767:
            return b"\xc0" + struct.pack("<h", number)
        if small_integers and -8388608 <= number <= 8388607:
            return b"\xf0" + struct.pack("<i", number)[:3]
        if -(1 << 31) <= number < 1 << 31:
            return b"\xd0" + struct.pack("<i", number)
        return b"\xe0" + struct.pack("<q", number)
    if len(entry) < 64:
        return bytes([len(entry)]) + entry
    if len(entry) < 16384:
        return struct.pack(">H", len(entry) | 0x4000) + entry
    return b"\x80" + struct.pack(">I", len(entry)) + entry


def zipmap(pairs: Sequence[tuple[bytes, bytes]], spare: int = 0) -> bytes:
    """A zipmap, with so many unused bytes behind each value."""
    body = b""
    for field, value in pairs:
        body += _zipmap_length(field) + field
        body += _zipmap_length(value) + bytes([spare]) + value + bytes(spare)
    return bytes([min(len(pairs), 254)]) + body + b"\xff"


def _zipmap_length(text: bytes) -> bytes:
    if len(text) < 254:
        return bytes([len(text)])
    return b"\xfe" + struct.pack("<I", len(text))


def intset(numbers: Sequence[int], width: int) -> bytes:
    """An intset of numbers in ascending order, each of so many bytes."""
    letter = {2: "h", 4: "i", 8: "q"}[width]
    return struct.pack(f"<II{len(numbers)}{letter}", width, len(numbers), *numbers)


def old_score(score: float) -> bytes:
    """A score as a text, as before RDB version 8."""
    if score == float("inf"):
        return b"\xfe"
    if score == float("-inf"):
        return b"\xff"
    text = b"%.17g" % score
    return bytes([len(text)]) + text


def entry(kind: int, key: bytes, body: bytes) -> bytes:
    """A key with what is written of its value."""
    return bytes([kind]) + string(key) + body


def file(version: int, *records: bytes, checksum: bool = True) -> bytes:
    """A whole file of these records."""
    content = b"REDIS%04d" % version + b"".join(records) + b"\xff"
    if version < 5:
        return content
    return content + (crc64(content) if checksum else 0).to_bytes(8, "little")


SELECT_0: Final = b"\xfe\x00"


def old_values() -> list[tuple[bytes, int, bytes]]:
    """Keys with a type and a body each: every encoding that is not written any more, up to what
    Redis 7.0 loads.
    """
    few = list(EDGES[:20])
    pairs = list(zip(EDGES, reversed(EDGES), strict=True))
    flat = [text for pair in pairs for text in pair]
    scores = [b"0", b"-1", b"2.5", b"1e300", b"inf", b"-inf", b"12345678901"]
    scored = [text for pair in zip(EDGES, scores * 9, strict=False) for text in pair]
    found: list[tuple[bytes, int, bytes]] = [
        (b"list", 1, length(len(EDGES)) + b"".join(map(string, EDGES))),
        (b"set", 2, length(len(EDGES)) + b"".join(map(string, EDGES))),
        (
            b"zset",
            3,
            length(7) + b"".join(string(b"m" + text) + old_score(float(text)) for text in scores),
        ),
        (b"hash", 4, length(len(pairs)) + b"".join(string(a) + string(b) for a, b in pairs)),
        (b"zipmap", 9, string(zipmap([(a, b) for a, b in pairs if len(a) < 300 > len(b)]))),
        (b"zipmap:spare", 9, string(zipmap([(b"a", b"1"), (b"b", b"x" * 260)], 3))),
        (b"list:ziplist", 10, string(ziplist(EDGES))),
        (b"list:old-ziplist", 10, string(ziplist(EDGES, False))),
        (b"zset:ziplist", 12, string(ziplist(scored))),
        (b"hash:ziplist", 13, string(ziplist(flat))),
        (b"quicklist", 14, length(2) + string(ziplist(EDGES)) + string(ziplist(few))),
        (b"quicklist:one", 14, length(1) + string(ziplist(few))),
    ]
    for width in (2, 4, 8):
        numbers = sorted({*NUMBERS[:-1], -(1 << 8 * width - 1)})
        found.append((b"intset:%d" % width, 11, string(intset(numbers, width))))
    return found
