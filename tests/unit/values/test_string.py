"""Strings: their encodings and their cost."""

from __future__ import annotations

import sys

import pytest

from node.values.string import encoding, memory


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (b"", "embstr"),
        (b"0", "int"),
        (b"-1", "int"),
        (b"9223372036854775807", "int"),
        (b"-9223372036854775808", "int"),
        (b"9223372036854775808", "embstr"),
        (b"01", "embstr"),
        (b"1.5", "embstr"),
        (b"x" * 44, "embstr"),
        (b"x" * 45, "raw"),
        (bytearray(b"1"), "raw"),
    ],
)
def test_encoding(value: bytes | bytearray, name: str) -> None:
    assert encoding(value) == name


@pytest.mark.parametrize("length", [0, 1, 14, 15, 16, 100, 511, 5000])
def test_memory(length: int) -> None:
    text = b"x" * length
    assert sys.getsizeof(text) <= memory(text) < sys.getsizeof(text) + 16
    changed = bytearray(text)
    changed += b"y"
    changed[:1] = b""
    assert sys.getsizeof(changed) <= memory(changed) < sys.getsizeof(changed) + 32
