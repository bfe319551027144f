"""CLUSTER and its kin on a server that is no node of a cluster: all say so."""

from __future__ import annotations

from typing import Final

from tests.differential.grammar import Command, among, any_key, integers, optional, some

names = among(b"f" * 40, b"x", b"")

COMMANDS: Final = [
    Command("ASKING"),
    Command("READONLY"),
    Command("READWRITE"),
    Command("CLUSTER ADDSLOTS", some(integers)),
    Command("CLUSTER ADDSLOTSRANGE", integers, integers),
    Command("CLUSTER BUMPEPOCH"),
    Command("CLUSTER COUNT-FAILURE-REPORTS", names),
    Command("CLUSTER COUNTKEYSINSLOT", integers),
    Command("CLUSTER DELSLOTS", some(integers)),
    Command("CLUSTER DELSLOTSRANGE", integers, integers),
    Command("CLUSTER FAILOVER", optional(among(b"FORCE", b"TAKEOVER", b"x"))),
    Command("CLUSTER FLUSHSLOTS"),
    Command("CLUSTER FORGET", names),
    Command("CLUSTER GETKEYSINSLOT", integers, integers),
    Command("CLUSTER HELP"),
    Command("CLUSTER INFO"),
    Command("CLUSTER KEYSLOT", any_key),
    Command("CLUSTER LINKS"),
    Command("CLUSTER MEET", names, integers),
    Command("CLUSTER MYID"),
    Command("CLUSTER NODES"),
    Command("CLUSTER REPLICAS", names),
    Command("CLUSTER REPLICATE", names),
    Command("CLUSTER RESET", optional(among(b"HARD", b"SOFT", b"x"))),
    Command("CLUSTER SAVECONFIG"),
    Command("CLUSTER SET-CONFIG-EPOCH", integers),
    Command("CLUSTER SETSLOT", integers, among(b"STABLE", b"NODE", b"x")),
    Command("CLUSTER SHARDS"),
    Command("CLUSTER SLAVES", names),
    Command("CLUSTER SLOTS"),
]
