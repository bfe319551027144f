"""Words, quoting, sizes and command line options of redis.conf."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.config.syntax import (
    UINT64_MAX,
    decode,
    encode,
    format_memory,
    options_text,
    parse_integer,
    parse_memory,
)
from node.words import quote, split_words


@given(st.lists(st.binary()))
def test_quoted_words_come_back(words: list[bytes]) -> None:
    line = b" ".join(map(quote, words))
    assert line.isascii()
    assert b"\n" not in line
    assert split_words(line) == words


@given(st.binary())
def test_splitting_any_line_ends(line: bytes) -> None:
    words = split_words(line)
    assert words is None or sum(map(len, words)) <= len(line)


@given(st.binary())
def test_bytes_survive_as_text(octets: bytes) -> None:
    assert encode(decode(octets)) == octets


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"", []),
        (b"  \t ", []),
        (b"port 6379", [b"port", b"6379"]),
        (b"  port\t\t6379  ", [b"port", b"6379"]),
        (b'save ""', [b"save", b""]),
        (b"save ''", [b"save", b""]),
        (b'a "b c" d', [b"a", b"b c", b"d"]),
        (rb'"\x41\x6a\n\r\t\b\a\\\"\q"', [b'Aj\n\r\t\b\a\\"q']),
        (rb'"\xg1\x4"', [b"xg1x4"]),
        (rb"'\x41\n\' it'", [rb"\x41\n' it"]),
        (b'pre"fix and" more', [b"prefix and", b"more"]),
        (b"a\0b c", [b"a"]),
        (b"a # b", [b"a", b"#", b"b"]),
        (b'"\xc3\xa9"', [b"\xc3\xa9"]),
    ],
)
def test_splitting(line: bytes, words: list[bytes]) -> None:
    assert split_words(line) == words


@pytest.mark.parametrize(
    "line", [b'"', b"'", b'a "b', b"a 'b", b'"a"b', b"'a'b", b'"a\\"', b"'a\\'", b'"a\0"', b'"\\']
)
def test_unbalanced_quotes(line: bytes) -> None:
    assert split_words(line) is None


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("", 0),
        ("100", 100),
        ("100b", 100),
        ("1k", 1000),
        ("1kb", 1024),
        ("3M", 3_000_000),
        ("3mB", 3 * 1024**2),
        ("2g", 2 * 10**9),
        ("2GB", 2 * 1024**3),
        ("kb", 0),
        ("18446744073709551615", UINT64_MAX),
        ("18446744073709551616", UINT64_MAX),
        ("99999999999gb", UINT64_MAX),
        ("-1", None),
        ("1.5gb", None),
        ("1 kb", None),
        (" 1", None),
        ("1x", None),
        ("0x10", None),
        ("1%", None),
        ("9" * 128, None),
    ],
)
def test_sizes(text: str, size: int | None) -> None:
    assert parse_memory(text) == size


@given(st.integers(0, UINT64_MAX))
def test_sizes_come_back(size: int) -> None:
    assert parse_memory(format_memory(size)) == size


@pytest.mark.parametrize("text", ["", "+1", "-0", "007", " 1", "1 ", "1_0", "0x1", "²", "-", "1\n"])
def test_strict_integers(text: str) -> None:
    assert parse_integer(text) is None


@given(st.integers(-(2**70), 2**70))
def test_integers_have_64_bits(number: int) -> None:
    fits = -(2**63) <= number < 2**63
    assert parse_integer(str(number)) == (number if fits else None)


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (["--port", "6380"], ['port "6380"']),
        (["--port 6380"], ["port 6380"]),
        (["--port", "6380", "--bind", "a", "b"], ['port "6380"', 'bind "a" "b"']),
        (["--save", ""], ['save ""']),
        (["--save", "--port", "1"], ['save ""', 'port "1"']),
        (["--port", "1", "--save"], ['port "1"', 'save ""']),
        (["--SAVE"], ['SAVE ""']),
        (["--save", "60", "1", "--save", "30", "2"], ['save "60" "1"', 'save "30" "2"']),
        (["--requirepass", "--secret", "--port", "1"], ['requirepass "--secret"', 'port "1"']),
        (["--logfile", 'a "b"\n'], ['logfile "a \\"b\\"\\n"']),
        (["--port"], ["port"]),
        (["-p", "1"], ['"-p" "1"']),
        (["stray", "--port", "1"], ['"stray"', 'port "1"']),
    ],
)
def test_options(arguments: list[str], lines: list[str]) -> None:
    text = options_text([argument.encode() for argument in arguments]).decode()
    assert [line.strip() for line in text.split("\n")] == lines
