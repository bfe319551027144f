"""The account of memory after random commands: the sum of what is there, and nothing in the end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node.key_table import ENTRY_MEMORY, TIMED_MEMORY, object_memory
from node.keyspace import Database
from node.values.collection import Collection
from tests.differential.families import FAMILIES
from tests.differential.grammar import PROLOGUE, steps
from tests.inprocess import LocalServer

# So small that a few elements are enough to change an encoding.
SMALL = [
    *["--hash-max-listpack-entries", "4"],
    *["--zset-max-listpack-entries", "4"],
    *["--set-max-intset-entries", "3"],
    *["--list-max-listpack-size", "4"],
]
DATA_FAMILIES = [name for name in FAMILIES if name not in ("connection", "transactions")]


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with LocalServer(*SMALL) as local:
        yield local


def measure(db: Database) -> int:
    """What the account must say, counted anew."""
    total = db.table.room + db.volatile * TIMED_MEMORY
    for key, value in db.items():
        total += object_memory(key) + ENTRY_MEMORY + object_memory(value)
        if isinstance(value, Collection):
            assert value.accounted == value.memory, key
    return total


def check(server: LocalServer) -> None:
    for db in server.keyspace.databases:
        assert db.memory == measure(db)


def empty_trash(server: LocalServer) -> None:
    while not server.keyspace.trash.drain(1000):
        pass


@pytest.mark.parametrize("family", DATA_FAMILIES)
@settings(max_examples=50, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_commands_keep_the_account(server: LocalServer, family: str, data: st.DataObject) -> None:
    client = server.connect()
    client("FLUSHALL", "SYNC")
    for argv in PROLOGUE:
        client(*argv)
    for step in data.draw(steps(FAMILIES[family]), label=family):
        client.send(*step.argv)
        if client.session.blocked is not None:
            client.close()
            client = server.connect()
        check(server)
    client.close()
    client = server.connect()
    for db in server.keyspace.databases:
        client("SELECT", db.index)
        for key in [key for key, _ in db.items()]:
            client("DEL", key)
        assert db.memory == 0
    client.close()
    empty_trash(server)
    assert server.keyspace.used_memory == 0
    assert server.keyspace.trash.memory == 0


def test_collections_of_some_size(server: LocalServer) -> None:
    """Those that change their structure as they grow and shrink, several hundred elements."""
    client = server.connect()
    client("FLUSHALL", "SYNC")
    for start in range(0, 3000, 100):
        words = [f"element:{n}" for n in range(start, start + 100)]
        client("RPUSH", "list", *words)
        client("SADD", "set", *words)
        client("HSET", "hash", *[word for pair in zip(words, words, strict=True) for word in pair])
        client("ZADD", "zset", *[w for n, word in enumerate(words) for w in (n, word)])
        check(server)
    for command, target in (
        ("COPY list l2", "list"),
        ("COPY zset z2", "zset"),
        ("SUNIONSTORE s2 set", "set"),
        ("ZUNIONSTORE z3 2 zset set", "zset"),
        ("SORT list ALPHA STORE l3", "list"),
        ("ZRANGESTORE z2 zset 0 700", "zset"),
        ("LTRIM list 10 -300", "list"),
        ("LINSERT list BEFORE element:1500 x", "list"),
        ("LSET list 900 a-longer-element-than-before", "list"),
        ("LREM list 0 element:1000", "list"),
        ("LPOP list 1000", "list"),
        ("SPOP set 1000", "set"),
        ("ZREMRANGEBYRANK zset 100 2500", "zset"),
        ("ZPOPMAX zset 100", "zset"),
        ("RENAME z2 hash", "hash"),
        ("SET list string", "list"),
        ("EXPIRE set 100", "set"),
    ):
        assert client("EXISTS", target) == 1
        client(*command.split())
        check(server)
    for name in (b"list", b"l2", b"l3", b"set", b"s2", b"hash", b"zset", b"z2", b"z3"):
        client("UNLINK", name)
        check(server)
    empty_trash(server)
    assert server.keyspace.used_memory == 0
