"""Lists; blocking commands run inside MULTI here (`test_blocking` lets them block)."""

from __future__ import annotations

from typing import Final

from tests.differential.grammar import (
    Command,
    among,
    counted,
    counts,
    either,
    indexes,
    keys,
    mostly,
    optional,
    options,
    sequence,
    some,
    values,
)
from tests.differential.pair import in_transaction, plain

key = keys(b"l1", b"l2", b"l3")
# Few, so that lists repeat them and searches find them.
element = either(values, among(b"a", b"b", b"ohmytext", b"10"))
end = among(b"LEFT", b"RIGHT", b"left", b"right", b"LEFT", b"RIGHT", b"x")
# Not -9223372036854775808, which 7.2 refuses and 7.0 takes for -1.
rank = mostly(
    among(b"1", b"2", b"3", b"-1", b"-2", b"-3", b"100"),
    among(b"0", b"9223372036854775807", b"-9223372036854775807", b"x", b"", b"1.5"),
)
timeout = among(b"0", b"1", b"0.5", b"1", b"-1", b"x", b"inf", b"1e400", b"9223372036854775807")
blocking = in_transaction(plain)

COMMANDS: Final = [
    Command("LPUSH", key, some(element), weight=3),
    Command("RPUSH", key, some(element, most=6), weight=4),
    Command("LPUSHX", key, some(element)),
    Command("RPUSHX", key, some(element)),
    Command("LPOP", key, optional(counts)),
    Command("RPOP", key, optional(counts)),
    Command("LLEN", key),
    Command("LINDEX", key, indexes),
    Command("LINSERT", key, among(b"BEFORE", b"AFTER", b"after", b"x"), element, values, weight=2),
    Command("LRANGE", key, indexes, indexes, weight=2),
    Command("LRANGE", key, b"0", b"-1"),
    Command("LREM", key, indexes, element, weight=3),
    Command("LSET", key, indexes, values, weight=2),
    Command("LTRIM", key, indexes, indexes),
    Command(
        "LPOS",
        key,
        element,
        options(sequence(b"RANK", rank), sequence(b"COUNT", counts), sequence(b"MAXLEN", counts)),
        weight=2,
    ),
    Command("RPOPLPUSH", key, key),
    Command("LMOVE", key, key, end, end, weight=2),
    Command("LMPOP", counted(key), end, options(sequence(b"COUNT", counts), most=1), weight=2),
    Command("BLPOP", some(key), timeout, check=blocking),
    Command("BRPOP", some(key), timeout, check=blocking),
    Command("BRPOPLPUSH", key, key, timeout, check=blocking),
    Command("BLMOVE", key, key, end, end, timeout, check=blocking),
    Command(
        "BLMPOP",
        timeout,
        counted(key),
        end,
        options(sequence(b"COUNT", counts), most=1),
        check=blocking,
    ),
    Command("DEL", key),
]
