r"""Glob-style patterns as KEYS, SCAN, PSUBSCRIBE and CONFIG GET match them (`stringmatchlen`).

`*` stands for anything, `?` for one byte, `[a-c]` and `[^a-c]` for one byte of, or not of, a class;
`\` takes the meaning from the next byte.  There is no error: a class without its end ends with the
pattern, a `\` at the end stands for itself, and in `[a-]` the range ends with `]`.  Two oddities
are kept as well: nothing but the empty pattern matches the empty text, and bytes from 128 on
compare as negative numbers in ranges.

A pattern becomes a regular expression in which every `*` is atomic: what follows a `*` up to the
next is matched where it fits first and never tried elsewhere, which is always enough.  So the time
is at most the product of the lengths, whatever the pattern.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

Matcher = Callable[[bytes], bool]

STAR: Final = b""
"""A pattern's element is the set of bytes it allows, in ascending order; none at all for `*`."""

ANY: Final = bytes(range(256))

NOTHING: Final = b"\x00\x00"
"""Allows no byte, and is told apart from STAR by its length."""

MAX_STARS: Final = 1000
"""A pattern with more separate `*` before its last byte matches nothing (Redis's nesting limit)."""

MAX_COMPILED: Final = 1024
"""Longer patterns are not worth a regular expression, which would also stay in `re`'s cache."""


def parse(pattern: bytes, nocase: bool = False) -> list[bytes]:
    """Return the elements of a pattern."""
    elements: list[bytes] = []
    n = len(pattern)
    i = 0
    while i < n:
        char = pattern[i]
        if char == 42:  # *
            if not elements or elements[-1] != STAR:
                elements.append(STAR)
        elif char == 63:  # ?
            elements.append(ANY)
        elif char == 91:  # [
            allowed, i = _parse_class(pattern, i + 1, nocase)
            elements.append(allowed)
        else:
            if char == 92 and n - i >= 2:  # \
                i += 1
            elements.append(_fold(pattern[i]) if nocase else pattern[i : i + 1])
        i += 1
    return elements


def _parse_class(pattern: bytes, i: int, nocase: bool) -> tuple[bytes, int]:
    """Return what a class allows and where its last byte is; `i` is where it begins, after "["."""
    n = len(pattern)
    negated = pattern[i : i + 1] == b"^"
    if negated:
        i += 1
    members: set[int] = set()
    while True:
        if i >= n:
            i = n - 1
            break
        char = pattern[i]
        if char == 92 and n - i >= 2:  # \
            i += 1
            members.add(pattern[i])
        elif char == 93:  # ]
            break
        elif n - i >= 3 and pattern[i + 1] == 45:  # -
            members.update(_find_range(char, pattern[i + 2], nocase))
            i += 2
        elif nocase:
            members.update(_fold(char))
        else:
            members.add(char)
        i += 1
    allowed = bytes(char for char in range(256) if (char in members) is not negated)
    return allowed or NOTHING, i


def _fold(char: int) -> bytes:
    one = bytes((char,))
    lower = one.lower()
    upper = one.upper()
    return one if lower == upper else upper + lower


def _sign(char: int) -> int:
    return char - 256 if char > 127 else char


def _find_range(first: int, last: int, nocase: bool) -> list[int]:
    start, end = sorted((_sign(first), _sign(last)))
    if not nocase:
        return [char for char in range(256) if start <= _sign(char) <= end]
    fold = bytes(range(256)).lower()
    start = _sign(fold[start & 255])
    end = _sign(fold[end & 255])
    return [char for char in range(256) if start <= _sign(fold[char]) <= end]


def _allows(allowed: bytes, char: int) -> bool:
    return char in allowed and allowed != NOTHING


def match_elements(elements: list[bytes], text: bytes) -> bool:
    """Match a text against parsed elements, going back to the last `*` only."""
    if not text:
        return not elements
    n = len(elements)
    size = len(text)
    i = j = 0
    star = -1
    mark = 0
    while j < size:
        if i < n and elements[i] == STAR:
            star = i
            mark = j
            i += 1
            if i == n:
                return True
        elif i < n and _allows(elements[i], text[j]):
            i += 1
            j += 1
        elif star >= 0:
            i = star + 1
            mark += 1
            j = mark
        else:
            return False
    if i < n and elements[i] == STAR:
        i += 1
    return i == n


def _translate(allowed: bytes) -> bytes:
    """Return the regular expression of one element."""
    if len(allowed) == 1:
        return re.escape(allowed)
    if allowed == ANY:
        return b"."
    if allowed == NOTHING:
        return b"(?!)"
    return b"[" + b"".join(b"\\x%02x" % char for char in allowed) + b"]"


def _build(pattern: bytes, nocase: bool) -> Matcher:
    elements = parse(pattern, nocase)
    stars = elements.count(STAR)
    if stars - (elements[-1:] == [STAR]) > MAX_STARS:
        return lambda text: False
    if elements == [STAR]:
        return bool
    if stars <= 1 and all(len(allowed) <= 1 for allowed in elements):
        literal = b"".join(elements)
        if stars == 0:
            return lambda text: text == literal
        if elements[-1] == STAR:
            return lambda text: text.startswith(literal)
        if elements[0] == STAR:
            return lambda text: text.endswith(literal)
    if len(pattern) > MAX_COMPILED:
        return lambda text: match_elements(elements, text)
    segments = [b""]
    for allowed in elements:
        if allowed == STAR:
            segments.append(b"")
        else:
            segments[-1] += _translate(allowed)
    expression = segments[0]
    if stars:
        for segment in segments[1:-1]:
            expression += b"(?>.*?" + segment + b")"
        expression += b".*" + segments[-1]
    match = re.compile(expression, re.DOTALL).fullmatch
    return lambda text: match(text) is not None


_build_cached = lru_cache(maxsize=1024)(_build)


def compile(pattern: bytes, nocase: bool = False) -> Matcher:  # noqa: A001
    """Return a function that tells whether a text matches a pattern."""
    if len(pattern) > MAX_COMPILED:
        return _build(pattern, nocase)
    return _build_cached(pattern, nocase)


def matches(pattern: bytes, text: bytes, nocase: bool = False) -> bool:
    """Tell whether a text matches a pattern; with `nocase`, letters of either case are the same."""
    return compile(pattern, nocase)(text)
