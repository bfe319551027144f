"""Sets."""

from __future__ import annotations

from typing import Final

from tests.differential.draws import draw_of, pop_of, scan_of
from tests.differential.grammar import (
    Command,
    among,
    counted,
    counts,
    integers,
    keys,
    members,
    mostly,
    options,
    patterns,
    sequence,
    some,
)
from tests.differential.pair import unordered

key = keys(b"t1", b"t2", b"t3")
draw_count = mostly(among(b"1", b"2", b"5", b"-3", b"-10"), among(b"0", b"x", b"1.5"))

COMMANDS: Final = [
    Command("SADD", key, some(members, most=5), weight=5),
    Command("SREM", key, some(members), weight=2),
    Command("SCARD", key),
    Command("SISMEMBER", key, members),
    Command("SMISMEMBER", key, some(members)),
    Command("SMEMBERS", key, check=unordered),
    Command("SMOVE", key, key, members),
    Command("SDIFF", some(key), check=unordered),
    Command("SINTER", some(key), check=unordered),
    Command("SUNION", some(key), check=unordered),
    Command("SDIFFSTORE", key, some(key)),
    Command("SINTERSTORE", key, some(key)),
    Command("SUNIONSTORE", key, some(key)),
    Command("SINTERCARD", counted(key), options(sequence(b"LIMIT", counts), most=1), weight=2),
    Command("SRANDMEMBER", key, check=draw_of([b"SMEMBERS"])),
    Command("SRANDMEMBER", key, draw_count, check=draw_of([b"SMEMBERS"])),
    Command("SPOP", key, check=pop_of()),
    Command("SPOP", key, counts, check=pop_of()),
    Command(
        "SSCAN",
        key,
        b"0",
        options(sequence(b"MATCH", patterns), sequence(b"COUNT", integers)),
        check=scan_of(2),
        weight=2,
    ),
    Command("DEL", key),
]
