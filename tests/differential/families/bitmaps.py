"""Strings seen as bits."""

from __future__ import annotations

from typing import Final

from tests.differential.draws import arguments_first
from tests.differential.grammar import (
    Command,
    among,
    either,
    indexes,
    keys,
    optional,
    sequence,
    values,
)

key = keys(b"s1", b"s2", b"s3")
# Below 4 Mbit, or refused: an offset near 2^32 would make both servers allocate 512 MB.
offsets = among(b"0", b"1", b"7", b"8", b"9", b"100", b"3000000", b"-1", b"4294967296", b"x", b"01")
bits = among(b"0", b"1", b"0", b"1", b"2", b"-1", b"x")
unit = either(b"BYTE", b"BIT", b"byte", b"x")

COMMANDS: Final = [
    Command("SET", key, values),
    Command("SETBIT", key, offsets, bits, weight=4),
    Command("GETBIT", key, offsets, weight=2),
    Command(
        "BITCOUNT",
        key,
        optional(indexes, indexes, optional(unit)),
        check=arguments_first,
        weight=3,
    ),
    Command(
        "BITPOS",
        key,
        bits,
        optional(indexes, optional(indexes, optional(unit))),
        check=arguments_first,
        weight=3,
    ),
    Command("BITPOS", key, bits, sequence(indexes, indexes, unit), check=arguments_first),
    Command("STRLEN", key),
    Command("GETRANGE", key, indexes, indexes),
]
