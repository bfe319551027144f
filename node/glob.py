r"""Glob patterns as KEYS, SCAN, PSUBSCRIBE and CONFIG GET take them.

`*` stands for any bytes, `?` for one byte, `[a-c^]` for one of some bytes, `[^a-c]` for one of the
others, and a backslash takes the next byte as it is, inside brackets too. Brackets that are not
closed end with the pattern, and a backslash at the end is itself. Behaviour after `stringmatchlen`
in Redis (util.c): so the empty text is matched by the empty pattern alone, not by `*`.

A pattern becomes a regular expression whose time is bounded by pattern length times text length:
after each `*` the first place that fits is taken and never given up.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

_STAR: Final = ord("*")
_ANY: Final = ord("?")
_OPEN: Final = ord("[")
_CLOSE: Final = ord("]")
_DASH: Final = ord("-")
_BACKSLASH: Final = ord("\\")

Matcher = Callable[[bytes], object]


@lru_cache(maxsize=1024)
def compile_glob(pattern: bytes, ignore_case: bool = False) -> Matcher:
    """A function that is true of a text the pattern matches as a whole."""
    segments: list[bytes] = [b""]
    at = 0
    while at < len(pattern):
        byte = pattern[at]
        if byte == _STAR:
            segments.append(b"")
            at += 1
            continue
        if byte == _ANY:
            segments[-1] += b"."
        elif byte == _OPEN:
            chosen, at = _read_class(pattern, at + 1, ignore_case)
            segments[-1] += chosen
        else:
            if byte == _BACKSLASH and at + 1 < len(pattern):
                at += 1
            segments[-1] += re.escape(pattern[at : at + 1])
        at += 1
    if not pattern:
        expression = rb""
    elif len(segments) == 1:
        expression = segments[0]
    else:
        middle = b"".join(b"(?>.*?%b)" % segment for segment in segments[1:-1] if segment)
        expression = b"(?=.)%b%b.*%b" % (segments[0], middle, segments[-1])
    return re.compile(expression, re.DOTALL | (re.IGNORECASE if ignore_case else 0)).fullmatch


def match_glob(pattern: bytes, text: bytes, ignore_case: bool = False) -> bool:
    """Whether the pattern matches the whole text."""
    return compile_glob(pattern, ignore_case)(text) is not None


def _read_class(pattern: bytes, at: int, ignore_case: bool) -> tuple[bytes, int]:
    """What stands between brackets, as an expression, and the index of its last byte."""
    negated = pattern[at : at + 1] == b"^"
    if negated:
        at += 1
    ranges: list[tuple[int, int]] = []
    while at < len(pattern):
        byte = pattern[at]
        if byte == _BACKSLASH and at + 1 < len(pattern):
            at += 1
            ranges.append((pattern[at], pattern[at]))
        elif byte == _CLOSE:
            break
        elif at + 2 < len(pattern) and pattern[at + 1] == _DASH:
            ranges.append((min(byte, pattern[at + 2]), max(byte, pattern[at + 2])))
            at += 2
        else:
            ranges.append((byte, byte))
        at += 1
    chosen = bytearray()
    for byte in range(256):
        if _falls_in(byte, ranges, ignore_case) != negated:
            chosen += b"\\x%02x" % byte
    return (b"[%b]" % bytes(chosen) if chosen else b"(?!)"), min(at, len(pattern) - 1)


def _falls_in(byte: int, ranges: list[tuple[int, int]], ignore_case: bool) -> bool:
    if not ignore_case:
        return any(low <= byte <= high for low, high in ranges)
    lower = _lower(byte)
    return any(_lower(low) <= lower <= _lower(high) for low, high in ranges)


def _lower(byte: int) -> int:
    return byte + 32 if 0x41 <= byte <= 0x5A else byte
