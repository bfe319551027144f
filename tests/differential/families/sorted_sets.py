"""Sorted sets; blocking commands run inside MULTI here (`test_blocking` lets them block)."""

from __future__ import annotations

from typing import Final

from tests.differential.draws import draw_of, rank, scan_of
from tests.differential.families.lists import timeout
from tests.differential.grammar import (
    Command,
    among,
    counted,
    counts,
    either,
    floats,
    indexes,
    integers,
    keys,
    members,
    mostly,
    optional,
    options,
    patterns,
    sequence,
    some,
)
from tests.differential.pair import as_numbers, in_transaction, scores

key = keys(b"z1", b"z2", b"z3")
bound = either(
    floats,
    floats.map(lambda words: [b"(" + words[0]]),
    among(b"-inf", b"+inf", b"inf", b"(-inf", b"(1", b"(2", b"("),
)
lex_bound = either(
    among(b"-", b"+", b"-", b"+", b"-x", b"", b"a"),
    members.map(lambda words: [b"[" + words[0]]),
    members.map(lambda words: [b"(" + words[0]]),
)
limit = sequence(b"LIMIT", indexes, indexes)
end = among(b"MIN", b"MAX", b"min", b"max", b"x")
draw_count = mostly(among(b"1", b"2", b"5", b"-3", b"-10"), among(b"0", b"x", b"1.5"))
with_scores = optional(b"WITHSCORES")
combine = options(
    sequence(b"WEIGHTS", some(floats, most=2)),
    sequence(b"AGGREGATE", among(b"SUM", b"MIN", b"MAX", b"max", b"x")),
    most=2,
)
two_or_one = either(sequence(b"1", key), sequence(b"2", key, key), counted(key))
blocking = in_transaction(as_numbers)
# Keys whose members all have one score: ranges of members mean something there only.
flat = mostly(among(b"f1", b"f2"), among(b"a:string", b"nowhere"))
flat_members = some(sequence(b"0", members), most=4)

COMMANDS: Final = [
    # As many as still fit a listpack: from the number given 7.2 already chooses the encoding.
    Command("ZADD", key, some(floats, members, most=4), weight=5),
    Command("ZADD", flat, flat_members, weight=3, mangle=False),
    Command(
        "ZADD",
        key,
        options(b"NX", b"XX", b"GT", b"LT", b"CH", b"INCR"),
        some(floats, members, most=2),
        check=scores,
        weight=4,
    ),
    Command("ZINCRBY", key, floats, members, check=scores),
    Command("ZREM", key, some(members), weight=2),
    Command("ZCARD", key),
    Command("ZSCORE", key, members, check=scores),
    Command("ZMSCORE", key, some(members), check=scores),
    Command("ZRANK", key, members, optional(b"WITHSCORE"), check=rank),
    Command("ZREVRANK", key, members, optional(b"WITHSCORE"), check=rank),
    Command("ZCOUNT", key, bound, bound),
    Command("ZLEXCOUNT", flat, lex_bound, lex_bound),
    Command("ZRANGE", key, indexes, indexes, with_scores, check=scores, weight=2),
    Command("ZRANGE", key, b"0", b"-1", b"WITHSCORES", check=scores),
    Command(
        "ZRANGE",
        key,
        bound,
        bound,
        b"BYSCORE",
        options(b"REV", limit, b"WITHSCORES"),
        check=scores,
        weight=2,
    ),
    Command("ZRANGE", flat, lex_bound, lex_bound, b"BYLEX", options(b"REV", limit), weight=2),
    Command(
        "ZRANGE",
        flat,
        either(indexes, bound, lex_bound),
        either(indexes, bound, lex_bound),
        options(b"REV", limit, b"WITHSCORES", b"BYLEX", b"BYSCORE"),
        check=scores,
    ),
    Command("ZRANGEBYLEX", flat, lex_bound, lex_bound, options(limit, most=1)),
    Command("ZREVRANGEBYLEX", flat, lex_bound, lex_bound, options(limit, most=1)),
    Command("ZRANGEBYSCORE", key, bound, bound, options(limit, b"WITHSCORES"), check=scores),
    Command("ZREVRANGEBYSCORE", key, bound, bound, options(limit, b"WITHSCORES"), check=scores),
    Command("ZREVRANGE", key, indexes, indexes, with_scores, check=scores),
    Command("ZRANGESTORE", key, key, indexes, indexes, options(b"REV", limit, b"WITHSCORES")),
    Command("ZRANGESTORE", key, key, bound, bound, b"BYSCORE", options(b"REV", limit)),
    Command("ZRANGESTORE", flat, flat, lex_bound, lex_bound, b"BYLEX", options(b"REV", limit)),
    Command("ZREMRANGEBYLEX", flat, lex_bound, lex_bound),
    Command("ZREMRANGEBYRANK", key, indexes, indexes),
    Command("ZREMRANGEBYSCORE", key, bound, bound),
    Command("ZPOPMIN", key, optional(counts), check=scores),
    Command("ZPOPMAX", key, optional(counts), check=scores),
    Command("ZMPOP", counted(key), end, options(sequence(b"COUNT", counts), most=1), check=scores),
    Command("ZDIFF", counted(key), with_scores, check=scores),
    Command("ZINTER", two_or_one, combine, with_scores, check=scores, weight=2),
    Command("ZUNION", two_or_one, combine, with_scores, check=scores, weight=2),
    Command("ZDIFFSTORE", key, counted(key)),
    Command("ZINTERSTORE", key, two_or_one, combine),
    Command("ZUNIONSTORE", key, two_or_one, combine),
    Command("ZUNIONSTORE", key, b"2", b"a:set", key, combine),
    Command("ZINTERCARD", counted(key), options(sequence(b"LIMIT", counts), most=1)),
    Command("ZRANDMEMBER", key, check=draw_of([b"ZRANGE", b"0", b"-1", b"WITHSCORES"], pairs=True)),
    Command(
        "ZRANDMEMBER",
        key,
        draw_count,
        check=draw_of([b"ZRANGE", b"0", b"-1", b"WITHSCORES"], pairs=True),
    ),
    Command(
        "ZRANDMEMBER",
        key,
        draw_count,
        among(b"WITHSCORES", b"withscores", b"WITHVALUES"),
        check=draw_of([b"ZRANGE", b"0", b"-1", b"WITHSCORES"], pairs=True),
    ),
    Command(
        "ZSCAN",
        key,
        b"0",
        options(sequence(b"MATCH", patterns), sequence(b"COUNT", integers)),
        check=scan_of(2, pairs=True),
        weight=2,
    ),
    Command("BZPOPMIN", some(key), timeout, check=blocking),
    Command("BZPOPMAX", some(key), timeout, check=blocking),
    Command(
        "BZMPOP",
        timeout,
        counted(key),
        end,
        options(sequence(b"COUNT", counts), most=1),
        check=blocking,
    ),
    Command("DEL", key),
]
