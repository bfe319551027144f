"""Glob patterns: every construct, and both matchers against a plain recursive one."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from node.values.pattern import (
    ANY,
    MAX_COMPILED,
    MAX_STARS,
    NOTHING,
    STAR,
    compile,
    match_elements,
    matches,
    parse,
)


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        (b"", [b""], [b"a"]),
        (b"*", [b"a", b"abc", b"\x00\n"], [b""]),
        (b"**", [b"a"], [b""]),
        (b"?", [b"a", b"\n", b"\xff"], [b"", b"ab"]),
        (b"h?llo", [b"hello", b"hallo"], [b"hllo", b"heello"]),
        (b"h*llo", [b"hllo", b"heeeello"], [b"hell"]),
        (b"user:*", [b"user:", b"user:1"], [b"use", b"xuser:1"]),
        (b"*:1", [b":1", b"user:1"], [b"user:1x"]),
        (b"a*b*c", [b"abc", b"axbxc", b"abcbc"], [b"acb", b"ab"]),
        (b"*a*", [b"a", b"bab"], [b"b", b""]),
        (b"h[ae]llo", [b"hello", b"hallo"], [b"hillo", b"hllo"]),
        (b"h[^e]llo", [b"hallo", b"h^llo"], [b"hello"]),
        (b"h[a-b]llo", [b"hallo", b"hbllo"], [b"hcllo", b"h-llo"]),
        (b"[b-a]", [b"a", b"b"], [b"c", b"-"]),
        (b"[a-]", [b"]", b"^", b"a"], [b"-", b"b"]),
        (b"[-a]", [b"-", b"a"], [b"b"]),
        (b"[\\]]", [b"]"], [b"\\"]),
        (b"[\\a-c]", [b"a", b"-", b"c"], [b"b", b"\\"]),
        (b"[]", [], [b"", b"]", b"a"]),
        (b"[^]", [b"a", b"]"], [b""]),
        (b"[ab", [b"a", b"b"], [b"[ab"]),
        (b"[^ab", [b"c"], [b"a"]),
        (b"[", [], [b"["]),
        (b"[^", [b"x"], [b""]),
        (b"[a\\", [b"a", b"\\"], [b"b"]),
        (b"\\*", [b"*"], [b"a", b"\\*"]),
        (b"\\\\", [b"\\"], [b"\\\\"]),
        (b"a\\", [b"a\\"], [b"a"]),
        (b"\\a", [b"a"], [b"\\a"]),
        # 0x80 is -128 and 0x7f is 127: the range from one to the other is all there is.
        (b"[\x80-\x7f]", [b"\x80", b"\x00", b"a", b"\xff"], []),
        (b"[a-\x80]", [b"a", b"\x00", b"\xff", b"\x80"], [b"b", b"\x7f"]),
    ],
)
def test_constructs(pattern: bytes, matching: list[bytes], others: list[bytes]) -> None:
    for text in matching:
        assert matches(pattern, text), text
    for text in others:
        assert not matches(pattern, text), text


@pytest.mark.parametrize(
    ("pattern", "text", "matching"),
    [
        (b"HeLLo", b"hEllO", True),
        (b"max*", b"MAXMEMORY", True),
        (b"[a-c]x", b"BX", True),
        (b"[ABC]", b"b", True),
        (b"[^abc]", b"B", False),
        (b"\\A", b"a", True),
        (b"[\\A]", b"a", False),
        (b"[\\A]", b"A", True),
        (b"\xe9", b"\xc9", False),
        (b"[Z-a]", b"q", False),
    ],
)
def test_without_case(pattern: bytes, text: bytes, matching: bool) -> None:
    assert matches(pattern, text, nocase=True) is matching


def singles(allowed: bytes) -> set[bytes]:
    """Return the texts that one element matches."""
    return set() if allowed == NOTHING else {bytes((char,)) for char in allowed}


def match_plainly(elements: list[bytes], text: bytes) -> bool:
    """Match by trying everything."""
    if not elements:
        return not text
    if elements[0] == STAR:
        return any(match_plainly(elements[1:], text[i:]) for i in range(len(text) + 1))
    return text[:1] in singles(elements[0]) and match_plainly(elements[1:], text[1:])


PATTERNS = st.lists(
    st.sampled_from([b"a", b"b", b"A", b"*", b"?", b"[", b"]", b"^", b"-", b"\\", b"\xff", b"ab"]),
    max_size=9,
).map(b"".join)


@given(PATTERNS, st.lists(st.sampled_from(b"abAB[]^-\\\xff"), max_size=8).map(bytes), st.booleans())
@example(b"*a*b*", b"ab", False)
@example(b"*aab", b"aaab", False)
@example(b"a**b", b"ab", False)
def test_matchers_agree(pattern: bytes, text: bytes, nocase: bool) -> None:
    elements = parse(pattern, nocase)
    expected = compile(pattern, nocase)(text)
    assert match_elements(elements, text) is expected
    if text:
        assert match_plainly(elements, text) is expected


@pytest.mark.parametrize("stars", [20, 200, MAX_STARS - 1])
def test_many_stars_take_no_time(stars: int) -> None:
    text = b"a" * 2000
    for pattern in (b"a*" * stars + b"b", b"*a" * stars + b"b", b"[ab]*" * stars + b"b"):
        assert not matches(pattern, text)
        assert matches(pattern, text + b"b")


def test_too_many_stars_match_nothing() -> None:
    text = b"a" * 3000
    assert matches(b"a*" * MAX_STARS + b"a", text)
    assert matches(b"a*" * (MAX_STARS + 1), text)
    assert not matches(b"a*" * (MAX_STARS + 1) + b"a", text)
    assert not matches(b"a*" * (MAX_STARS + 2), text)
    assert matches(b"*" * 5000, text)


def test_long_patterns() -> None:
    pattern = b"a?*[b-d]" * (MAX_COMPILED // 8 + 1)
    text = b"axyzc" * (MAX_COMPILED // 8 + 1)
    assert len(pattern) > MAX_COMPILED
    assert matches(pattern, text)
    assert not matches(pattern, text + b"e")
    assert compile(pattern) is not compile(pattern), "kept for nobody"


def test_compiled_patterns_are_kept() -> None:
    assert compile(b"x[yz]*") is compile(b"x[yz]*")
    assert compile(b"x[yz]*", nocase=True) is not compile(b"x[yz]*")
    assert parse(b"?") == [ANY]
