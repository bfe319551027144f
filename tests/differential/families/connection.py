"""The connection, and the commands about commands, clients and settings that change no data."""

from __future__ import annotations

from typing import Final

from tests.differential.draws import hello
from tests.differential.grammar import (
    Command,
    among,
    any_key,
    either,
    integers,
    mostly,
    optional,
    options,
    patterns,
    sequence,
    some,
    values,
)
from tests.differential.pair import kind, shape, unordered, unordered_pairs

database = mostly(among(b"0", b"1", b"15"), among(b"16", b"-1", b"x", b""))
client_name = among(b"a-name", b"other", b"", b"with space", b"new\nline", b"\xff")
yes_no = among(b"yes", b"no", b"x", b"")
on_off = among(b"on", b"off", b"ON", b"x")

COMMANDS: Final = [
    Command("PING"),
    Command("PING", values),
    Command("ECHO", values),
    Command("SELECT", database),
    Command("AUTH", values),
    Command("AUTH", among(b"default", b"nobody"), values),
    Command(
        "HELLO",
        optional(
            among(b"2", b"3", b"4", b"1", b"x"),
            options(
                sequence(b"SETNAME", client_name), sequence(b"AUTH", b"default", values), most=2
            ),
        ),
        check=hello,
        weight=2,
    ),
    Command("CLIENT SETNAME", client_name),
    Command("CLIENT GETNAME"),
    Command("CLIENT ID", check=kind),
    Command("CLIENT INFO", check=kind),
    Command("CLIENT LIST", optional(b"TYPE", among(b"normal", b"pubsub", b"x")), check=kind),
    Command("CLIENT LIST", b"ID", some(integers), check=kind),
    Command("CLIENT NO-EVICT", on_off),
    Command("CLIENT REPLY", among(b"ON", b"on", b"x"), mangle=False),
    Command("CLIENT KILL", among(b"1.2.3.4:5", b"x")),
    Command(
        "CLIENT KILL",
        options(
            sequence(b"ID", among(b"999999", b"-1", b"0", b"x")),
            sequence(b"ADDR", b"1.2.3.4:5"),
            sequence(b"LADDR", b"1.2.3.4:5"),
            sequence(b"TYPE", among(b"pubsub", b"replica", b"x")),
            sequence(b"USER", among(b"nobody", b"default")),
            sequence(b"SKIPME", yes_no),
            sequence(b"NOSUCH", b"1"),
        ),
        b"ADDR",
        b"1.2.3.4:5",
        mangle=False,
    ),
    # Not with any other argument: a long pause would hold up everything, here and there.
    Command(
        "CLIENT PAUSE",
        among(b"x", b"-1", b""),
        optional(among(b"WRITE", b"ALL", b"x")),
        mangle=False,
    ),
    Command("CLIENT UNPAUSE"),
    Command("CLIENT CACHING", yes_no),
    Command(
        "CLIENT UNBLOCK",
        among(b"999999", b"x", b"-1"),
        optional(among(b"TIMEOUT", b"ERROR", b"x")),
    ),
    Command("CLIENT HELP", check=kind),
    Command("CLIENT", among(b"x", b"", b"GETNAMES")),
    Command("COMMAND HELP", check=kind),
    Command("COMMAND", among(b"x", b"GETKEYS"), mangle=False),
    Command("COMMAND COUNT", check=kind),
    Command("COMMAND INFO", among(b"nosuch", b"", b"get|x"), mangle=False),
    Command("COMMAND LIST", b"FILTERBY", b"MODULE", among(b"x", b"")),
    Command("COMMAND LIST", b"FILTERBY", among(b"x", b"PATTERN")),
    Command(
        "COMMAND LIST", b"FILTERBY", b"PATTERN", among(b"s*x", b"mset*", b"x"), check=unordered
    ),
    Command("COMMAND DOCS", b"nosuch", mangle=False),
    # A command alone is too little for 7.0, and for 7.2 it is not.
    Command(
        "COMMAND GETKEYS",
        either(
            sequence(b"SET", any_key, values),
            sequence(b"nosuch", values),
            sequence(b"PING", values),
        ),
        mangle=False,
    ),
    Command("COMMAND GETKEYS", b"MSET", some(any_key, values), mangle=False),
    Command(
        "COMMAND GETKEYSANDFLAGS", b"SET", any_key, values, options(b"GET", most=1), mangle=False
    ),
    Command(
        "CONFIG GET",
        some(
            among(
                b"maxmemory",
                b"hash-max-listpack-entries",
                b"hash-max-ziplist-entries",
                b"databases",
                b"timeout",
                b"maxmemory-p*",
                b"slowlog-log-slower-than",
                b"client-output-buffer-limit",
                b"nosuch",
                b"TIMEOUT",
                b"lazyfree-lazy-*",
                b"notify-keyspace-events",
            )
        ),
        check=unordered_pairs,
        weight=2,
    ),
    Command(
        "CONFIG SET",
        some(
            either(
                sequence(
                    b"maxmemory-samples", among(b"5", b"10", b"0", b"-1", b"x", b"99999999999")
                ),
                sequence(b"timeout", among(b"0", b"600", b"-1", b"x")),
                sequence(b"lazyfree-lazy-expire", yes_no),
                sequence(b"maxmemory-policy", among(b"noeviction", b"allkeys-lru", b"x")),
                sequence(b"slowlog-max-len", among(b"128", b"64", b"-1", b"1gb", b"x")),
                sequence(b"notify-keyspace-events", among(b"", b"KEA", b"Kg$", b"x", b"AKE")),
                sequence(b"hz", among(b"10", b"x")),
                sequence(b"nosuch", values),
                sequence(b"databases", b"4"),
            )
        ),
        weight=2,
    ),
    Command("CONFIG RESETSTAT"),
    Command("CONFIG REWRITE"),
    Command("CONFIG HELP", check=kind),
    Command("CONFIG", among(b"x", b"GET", b"SET")),
    Command(
        "DEBUG PROTOCOL",
        among(
            b"string",
            b"integer",
            b"double",
            b"null",
            b"array",
            b"set",
            b"map",
            b"attrib",
            b"verbatim",
            b"true",
            b"false",
            b"bignum",
            b"x",
        ),
        mangle=False,
    ),
    Command("DEBUG ERROR", values, mangle=False),
    Command("DEBUG", among(b"x", b"SLEEP", b"")),
    Command("INFO", optional(among(b"server", b"clients", b"everything", b"x", b"")), check=kind),
    Command("LOLWUT", check=kind, mangle=False),
    Command("LATENCY RESET", check=kind),
    Command("LATENCY LATEST"),
    Command("LATENCY HISTORY", among(b"command", b"x")),
    Command("LATENCY DOCTOR", check=kind),
    Command("LATENCY GRAPH", among(b"command", b"x")),
    Command("LATENCY HISTOGRAM", some(among(b"get", b"nosuch"), least=0), check=kind),
    Command("LATENCY HELP", check=kind),
    Command("LATENCY", among(b"x", b"HISTORY")),
    Command("MEMORY USAGE", any_key, optional(b"SAMPLES", integers), check=kind),
    Command("MEMORY DOCTOR", check=kind),
    Command("MEMORY HELP", check=kind),
    Command("MEMORY PURGE", check=kind),
    Command("MEMORY MALLOC-STATS", check=kind),
    Command("MEMORY STATS", check=kind),
    Command("MEMORY", among(b"x", b"USAGE")),
    Command("PUBSUB CHANNELS", optional(patterns), check=unordered),
    Command("PUBSUB NUMSUB", some(any_key)),
    Command("PUBSUB NUMPAT"),
    Command("PUBSUB SHARDCHANNELS", optional(patterns)),
    Command("PUBSUB SHARDNUMSUB", some(any_key)),
    Command("PUBSUB HELP", check=kind),
    Command("PUBSUB", among(b"x", b"NUMSUB")),
    Command("PUBLISH", any_key, values),
    Command("SPUBLISH", any_key, values),
    Command("ROLE"),
    Command("RESET"),
    Command("SLOWLOG LEN", check=kind),
    Command("SLOWLOG GET", optional(among(b"-1", b"0", b"x", b"-2")), check=kind),
    Command("SLOWLOG RESET"),
    Command("SLOWLOG HELP", check=kind),
    Command("SLOWLOG", among(b"x", b"")),
    Command("TIME", check=shape),
    Command("MULTI"),
    Command("EXEC", check=kind),
    Command("DISCARD"),
    Command("WATCH", some(any_key)),
    Command("UNWATCH"),
    Command("UNSUBSCRIBE", mangle=False),
    Command("NOSUCHCOMMAND", values, values),
    Command("nosuch", some(values)),
]
