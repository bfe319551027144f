"""Strings."""

from __future__ import annotations

from typing import Final

from tests.differential.grammar import (
    Command,
    Part,
    either,
    floats,
    indexes,
    integers,
    keys,
    milliseconds,
    optional,
    options,
    seconds,
    sequence,
    some,
    unix_milliseconds,
    unix_seconds,
    values,
)
from tests.differential.pair import near

key = keys(b"s1", b"s2", b"s3")

EXPIRY: Final[tuple[Part, ...]] = (
    sequence(b"EX", seconds),
    sequence(b"PX", milliseconds),
    sequence(b"EXAT", unix_seconds),
    sequence(b"PXAT", unix_milliseconds),
)

COMMANDS: Final = [
    Command("SET", key, values, weight=3),
    Command("SET", key, values, options(b"NX", b"XX", b"GET", b"KEEPTTL", *EXPIRY), weight=3),
    Command("GET", key, weight=2),
    Command("APPEND", key, values),
    Command("DECR", key),
    Command("DECRBY", key, integers),
    Command("GETDEL", key),
    Command("GETEX", key, optional(either(b"PERSIST", b"KEEPTTL", *EXPIRY))),
    Command("GETRANGE", key, indexes, indexes),
    Command("GETSET", key, values),
    Command("INCR", key),
    Command("INCRBY", key, integers),
    Command("INCRBYFLOAT", key, floats, weight=2),
    Command(
        "LCS",
        key,
        key,
        options(b"LEN", b"IDX", b"WITHMATCHLEN", sequence(b"MINMATCHLEN", indexes)),
        weight=2,
    ),
    Command("MGET", some(key)),
    Command("MSET", some(key, values)),
    Command("MSETNX", some(key, values)),
    Command("PSETEX", key, milliseconds, values),
    Command("SETEX", key, seconds, values),
    Command("SETNX", key, values),
    Command("SETRANGE", key, indexes, values),
    Command("STRLEN", key),
    Command("SUBSTR", key, indexes, indexes),
    Command("PERSIST", key),
    Command("EXPIRETIME", key, check=near(1)),
    Command("PTTL", key, check=near(5000)),
    Command("DEL", some(key)),
]
