"""The commands of replication, as far as they make neither server a replica."""

from __future__ import annotations

from typing import Final

from tests.differential.grammar import Command, among, integers, options, sequence, some

FAILOVER_OPTION: Final = options(
    among(b"ABORT", b"force"),
    sequence(b"TO", among(b"127.0.0.1", b"x"), among(b"1", b"x")),
    sequence(b"timeout", among(b"0", b"1", b"-1", b"x")),
)
COMMANDS: Final = [
    Command("WAIT", among(b"0", b"-1", b"x", b""), among(b"0", b"1", b"-1", b"x"), mangle=False),
    Command("WAIT", b"1", among(b"1", b"2", b"-1", b"x"), mangle=False),
    Command("REPLCONF"),
    Command("REPLCONF", b"listening-port", integers),
    Command("REPLCONF", b"ip-address", among(b"10.0.0.1", b"", b"a" * 45, b"b" * 46)),
    Command("REPLCONF", b"CAPA", among(b"eof", b"PSYNC2", b"x", b"")),
    Command("REPLCONF", b"rdb-only", among(b"0", b"1", b"2", b"x")),
    Command("REPLCONF", b"rdb-filter-only", among(b"functions", b"", b"x", b"functions x", b'"')),
    Command("REPLCONF", some(sequence(b"capa", among(b"eof", b"x")))),
    Command("PSYNC", b"?", among(b"x", b""), mangle=False),
    Command("REPLCONF", b"ip-address", among(b"a" * 255, b"b" * 256)),
    Command("REPLICAOF", among(b"x", b"127.0.0.1"), among(b"x", b"-1", b"65536"), mangle=False),
    Command("SLAVEOF", among(b"x", b"127.0.0.1"), among(b"x", b"-1", b"65536"), mangle=False),
    Command("REPLICAOF", among(b"no", b"NO"), among(b"one", b"ONE"), mangle=False),
    Command("FAILOVER", FAILOVER_OPTION),
]
