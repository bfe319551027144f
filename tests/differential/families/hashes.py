"""Hashes."""

from __future__ import annotations

from typing import Final

from tests.differential.draws import draw_of, scan_of
from tests.differential.grammar import (
    Command,
    among,
    floats,
    integers,
    keys,
    mostly,
    options,
    patterns,
    sequence,
    some,
    values,
)
from tests.differential.pair import unordered, unordered_pairs

key = keys(b"h1", b"h2")
field = among(b"a", b"b", b"c", b"d", b"e", b"f", b"1", b"", b"f" * 70)
draw_count = mostly(among(b"1", b"2", b"5", b"-3", b"-10"), among(b"0", b"x", b"1.5"))

COMMANDS: Final = [
    Command("HSET", key, some(field, values), weight=4),
    Command("HMSET", key, some(field, values)),
    Command("HSETNX", key, field, values),
    Command("HGET", key, field, weight=2),
    Command("HMGET", key, some(field)),
    Command("HGETALL", key, check=unordered_pairs),
    Command("HKEYS", key, check=unordered),
    Command("HVALS", key, check=unordered),
    Command("HDEL", key, some(field), weight=2),
    Command("HEXISTS", key, field),
    Command("HLEN", key),
    Command("HSTRLEN", key, field),
    Command("HINCRBY", key, field, integers, weight=2),
    Command("HINCRBYFLOAT", key, field, floats, weight=2),
    Command("HRANDFIELD", key, check=draw_of([b"HGETALL"], pairs=True)),
    Command("HRANDFIELD", key, draw_count, check=draw_of([b"HGETALL"], pairs=True)),
    Command(
        "HRANDFIELD",
        key,
        draw_count,
        among(b"WITHVALUES", b"withvalues", b"WITHSCORES"),
        check=draw_of([b"HGETALL"], pairs=True),
    ),
    Command(
        "HSCAN",
        key,
        b"0",
        options(sequence(b"MATCH", patterns), sequence(b"COUNT", integers)),
        check=scan_of(2, pairs=True),
        weight=2,
    ),
    Command("DEL", key),
]
