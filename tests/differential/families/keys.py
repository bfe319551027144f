"""Keys of any type: existence, expiry, renaming, copying, scanning, sorting, databases."""

from __future__ import annotations

from typing import Final

from tests.differential.draws import encoding, random_key, scan_of, sorted_reply
from tests.differential.grammar import (
    Command,
    among,
    any_key,
    either,
    integers,
    members,
    mostly,
    optional,
    options,
    patterns,
    seconds,
    sequence,
    some,
    unix_milliseconds,
    unix_seconds,
    values,
)
from tests.differential.pair import kind, near, unordered

database = mostly(among(b"0", b"1", b"2"), among(b"16", b"-1", b"x", b""))
once = optional(among(b"NX", b"XX", b"nx"))
# Two relative times could compare by the millisecond between them: GT and LT come with absolute
# ones, or where they are refused.
compared = options(b"NX", b"XX", b"GT", b"LT", most=2)
sort_options = options(
    b"ASC",
    b"DESC",
    b"ALPHA",
    sequence(b"LIMIT", integers, integers),
    sequence(
        b"BY", among(b"w_*", b"a:hash->*", b"nosort", b"w_*->f", b"h_*->a", b"*->a", b"w_*->")
    ),
    sequence(b"GET", among(b"#", b"w_*", b"h_*->a", b"*->", b"nostar")),
    most=4,
)

COMMANDS: Final = [
    Command("SET", any_key, values),
    Command("RPUSH", any_key, some(values)),
    Command("SADD", any_key, some(members)),
    Command("ZADD", any_key, some(b"1", members)),
    Command("HSET", any_key, some(members, values)),
    Command("MSET", among(b"w_a", b"w_b", b"w_1"), integers, b"w_c", integers),
    Command("HSET", among(b"h_a", b"h_b", b"h_1"), b"a", integers),
    Command(
        "COPY",
        any_key,
        any_key,
        options(b"REPLACE", sequence(b"DB", database), most=2),
        weight=2,
    ),
    Command("DEL", some(any_key)),
    Command("UNLINK", some(any_key)),
    Command("EXISTS", some(any_key)),
    Command("TOUCH", some(any_key)),
    Command("TYPE", any_key),
    Command("EXPIRE", any_key, seconds, once, weight=2),
    Command("PEXPIRE", any_key, among(b"100000", b"0", b"-1", b"x", b"9223372036854775807"), once),
    Command("EXPIREAT", any_key, unix_seconds, compared, weight=2),
    Command("PEXPIREAT", any_key, unix_milliseconds, compared, weight=2),
    Command("EXPIRE", any_key, seconds, b"GT", b"LT"),
    Command("EXPIRETIME", any_key, check=near(1)),
    Command("PEXPIRETIME", any_key, check=near(5000)),
    Command("TTL", any_key, check=near(5)),
    Command("PTTL", any_key, check=near(5000)),
    Command("PERSIST", any_key),
    Command("KEYS", patterns, check=unordered),
    Command("RANDOMKEY", check=random_key),
    Command("RENAME", any_key, any_key, weight=2),
    Command("RENAMENX", any_key, any_key),
    Command("MOVE", any_key, database),
    Command("SWAPDB", database, database),
    Command("SELECT", database, weight=2),
    Command("DBSIZE"),
    Command("FLUSHDB", optional(among(b"ASYNC", b"SYNC", b"x"))),
    Command("FLUSHALL", optional(among(b"ASYNC", b"SYNC", b"x"))),
    Command("OBJECT ENCODING", any_key, check=encoding, weight=2),
    Command("OBJECT REFCOUNT", any_key),
    Command("OBJECT FREQ", any_key),
    # Redis shares small integers, whose idle time is not the key's own.
    Command("OBJECT IDLETIME", any_key, check=kind),
    Command("OBJECT HELP", check=kind),
    Command("OBJECT", among(b"x", b"ENCODING", b"")),
    Command(
        "SCAN",
        b"0",
        options(
            sequence(b"MATCH", patterns),
            sequence(b"COUNT", integers),
            sequence(b"TYPE", among(b"string", b"list", b"SET", b"hash", b"zset", b"x")),
        ),
        check=scan_of(1),
        weight=2,
    ),
    Command("SORT", any_key, sort_options, check=sorted_reply, weight=2),
    Command("SORT_RO", any_key, sort_options, check=sorted_reply),
    Command(
        "SORT",
        any_key,
        options(b"ALPHA", b"DESC", sequence(b"LIMIT", integers, integers)),
        b"STORE",
        any_key,
        check=sorted_reply,
    ),
    Command("SORT", either(any_key), sort_options, b"ALPHA", check=sorted_reply),
]
