"""Glob patterns against a direct reading of their rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.glob import match_glob


def reference(pattern: bytes, text: bytes) -> bool:
    """The rules, one byte at a time, with every choice of `*` tried."""
    if not text:
        return not pattern
    return _walk(pattern, text)


def _walk(pattern: bytes, text: bytes) -> bool:
    if not pattern:
        return not text
    if pattern[:1] == b"*":
        return any(_walk(pattern[1:], text[cut:]) for cut in range(len(text) + 1))
    if not text:
        return False
    first, rest = pattern[0:1], pattern[1:]
    if first == b"?":
        return _walk(rest, text[1:])
    if first == b"\\" and rest:
        return rest[:1] == text[:1] and _walk(rest[1:], text[1:])
    if first != b"[":
        return first == text[:1] and _walk(rest, text[1:])
    negated = rest[:1] == b"^"
    if negated:
        rest = rest[1:]
    found = False
    while rest and rest[:1] != b"]":
        if rest[:1] == b"\\" and len(rest) >= 2:
            found = found or rest[1] == text[0]
            rest = rest[2:]
        elif len(rest) >= 3 and rest[1:2] == b"-":
            low, high = sorted((rest[0], rest[2]))
            found = found or low <= text[0] <= high
            rest = rest[3:]
        else:
            found = found or rest[0] == text[0]
            rest = rest[1:]
    return found != negated and _walk(rest[1:], text[1:])


@given(
    st.lists(st.sampled_from(list(b"*?[]^-\\abz")), max_size=10).map(bytes),
    st.lists(st.sampled_from(list(b"abz-]^\\*[")), max_size=6).map(bytes),
)
def test_against_the_rules(pattern: bytes, text: bytes) -> None:
    assert match_glob(pattern, text) == reference(pattern, text)


@given(st.binary(max_size=6), st.binary(max_size=6))
def test_any_bytes(pattern: bytes, text: bytes) -> None:
    assert match_glob(pattern, text) == reference(pattern, text)
    assert match_glob(pattern, text.upper(), True) == match_glob(
        pattern.lower(), text.lower(), True
    )


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        (b"h[^e]llo", b"hallo", True),
        (b"h[^e]llo", b"hello", False),
        (b"h[b-a]llo", b"hallo", True),
        (b"h[a", b"ha", True),
        (b"h[", b"h[", False),
        (b"h[^", b"hx", True),
        (b"a\\", b"a\\", True),
        (b"\\*", b"*", True),
        (b"\\*", b"x", False),
        (b"*", b"", False),
        (b"", b"", True),
        (b"**", b"x\ny", True),
        (b"[\\]]", b"]", True),
    ],
)
def test_corners(pattern: bytes, text: bytes, matches: bool) -> None:
    assert match_glob(pattern, text) is matches


def test_case() -> None:
    assert match_glob(b"MAX[M-N]*", b"maxmemory", ignore_case=True)
    assert not match_glob(b"MAX*", b"maxmemory")


def test_many_stars_take_no_exponential_time() -> None:
    assert not match_glob(b"a*" * 60 + b"b", b"a" * 20_000)
