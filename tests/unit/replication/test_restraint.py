"""What the role changes for clients, in a server that never connects to its master."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from node.keyspace import Keyspace
from node.replication.restraint import Restraint
from tests.inprocess import LocalServer
from tests.wire import NULL_ARRAY, NULL_BULK, OK, PONG, QUEUED, Error

READ_ONLY = Error(b"READONLY You can't write against a read only replica.")
MASTER_DOWN = Error(
    b"MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."
)


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with LocalServer("--enable-debug-command", "yes") as local:
        yield local


def test_writes_are_refused_until_they_are_allowed(server: LocalServer) -> None:
    client = server.connect()
    assert client("SET", "key", "1") == OK
    assert client("REPLICAOF", "127.0.0.1", 1) == OK
    assert client("SET", "key", "2") == READ_ONLY
    assert client("GET", "key") == b"1"
    assert client("BLPOP", "list", 1) == READ_ONLY
    assert client("CONFIG", "SET", "replica-read-only", "no") == OK
    assert client("SET", "key", "2") == OK
    assert client("CONFIG", "SET", "replica-read-only", "yes") == OK
    assert client("DEL", "key") == READ_ONLY
    assert client("REPLICAOF", "NO", "ONE") == OK
    assert client("DEL", "key") == 1


def test_what_stands_in_the_way_of_either_role_comes_and_goes(server: LocalServer) -> None:
    client = server.connect()
    assert client("CONFIG", "SET", "min-replicas-to-write", 1) == OK
    assert client("CLIENT", "PAUSE", 10000, "WRITE") == OK
    assert client("REPLICAOF", "127.0.0.1", 1) == OK
    assert client("CLIENT", "UNPAUSE") == OK
    assert client("SET", "key", "1") == READ_ONLY
    assert client("REPLICAOF", "NO", "ONE") == OK
    assert client("SET", "key", "1") == Error(b"NOREPLICAS Not enough good replicas to write.")


def test_what_sentinels_are_told(server: LocalServer) -> None:
    client = server.connect()
    for words in (("replica-priority", 7), ("replica-announced", "no")):
        assert client("CONFIG", "SET", *words) == OK
    assert client("REPLICAOF", "127.0.0.1", 1) == OK
    text = client("INFO", "replication")
    assert isinstance(text, bytes)
    for line in (b"slave_priority:7", b"slave_read_only:1", b"replica_announced:0"):
        assert line in text.splitlines()


def test_a_transaction_that_was_begun_in_the_other_role(server: LocalServer) -> None:
    client = server.connect()
    client("MULTI")
    assert client("SET", "key", "1") == QUEUED
    server.connect()("REPLICAOF", "127.0.0.1", 1)
    assert client("EXEC") == Error(b"EXECABORT Transaction discarded because of: " + READ_ONLY.text)
    assert client("GET", "key") == NULL_BULK


def test_stale_data_are_served_or_not(server: LocalServer) -> None:
    client = server.connect()
    client("SET", "key", "1")
    client("REPLICAOF", "127.0.0.1", 1)
    assert client("GET", "key") == b"1"
    client("CONFIG", "SET", "replica-serve-stale-data", "no")
    assert client("GET", "key") == MASTER_DOWN
    assert client("PING") == MASTER_DOWN
    assert not isinstance(client("INFO"), Error)
    client("MULTI")
    assert client("GET", "key") == MASTER_DOWN
    assert isinstance(client("EXEC"), Error)
    client("MULTI")
    assert client("ROLE") == QUEUED
    assert client("EXEC") == [[b"slave", b"127.0.0.1", 1, b"connect", -1]]
    client("REPLICAOF", "NO", "ONE")
    assert client("GET", "key") == b"1"


def test_what_has_expired_is_hidden_and_stays(server: LocalServer) -> None:
    client = server.connect()
    client("SET", "key", "1", "PX", 10)
    client("REPLICAOF", "127.0.0.1", 1)
    server.advance(1)
    assert client("GET", "key") == NULL_BULK
    assert client("TTL", "key") == -2
    assert client("DBSIZE") == 1
    client("REPLICAOF", "NO", "ONE")
    assert client("GET", "key") == NULL_BULK
    assert client("DBSIZE") == 0


def test_watchers_and_waiters_of_data_that_are_replaced(server: LocalServer) -> None:
    keyspace = server.keyspace
    one, two, waiting = server.connect(), server.connect(), server.connect()
    one("SET", "old", "1")
    one("WATCH", "old")
    two("WATCH", "neither")
    waiting.send("BLPOP", "list", "0")
    fresh = Keyspace(len(keyspace.databases), keyspace.limits)
    other = LocalServer()
    other.connect()("RPUSH", "list", "a")
    value = other.keyspace.databases[0].take(b"list")
    other.close()
    assert value is not None
    fresh.databases[0].put(b"list", value)
    fresh.databases[3].put(b"new", b"2")
    before = keyspace.used_memory
    keyspace.replace_all(fresh)
    assert two("DBSIZE") == 1
    for client, result in ((one, NULL_ARRAY), (two, [PONG])):
        client("MULTI")
        client("PING")
        assert client("EXEC") == result
    server.engine.settle_background()
    assert waiting.read() == [b"list", b"a"]
    while not keyspace.trash.drain(1000):
        pass
    assert keyspace.used_memory < before + 10000


def test_keys_that_clients_of_a_replica_write_expire(server: LocalServer) -> None:
    client = server.connect()
    client("SET", "old", "1", "PX", 5000)
    client("REPLICAOF", "127.0.0.1", 1)
    client("CONFIG", "SET", "replica-read-only", "no")
    client("SET", "own", "1", "PX", 5000)
    client("SET", "lasting", "1", "PX", 5000)
    client("PERSIST", "lasting")
    assert isinstance(client("ZUNIONSTORE", "own", "x", "y"), Error)
    client("SELECT", 3)
    client("MULTI")
    client("SETEX", "other", 5, "1")
    client("EXEC")
    client("SELECT", 0)
    parts = [part for part in server.engine.components if isinstance(part, Restraint)]
    for seconds, left in ((1, 3), (5, 2)):
        server.advance(seconds)
        parts[0].tick(0)
        assert client("DBSIZE") == left
    client("SELECT", 3)
    assert client("DBSIZE") == 0
    # That of the master stays until the master says so.
    client("SELECT", 0)
    assert client("GET", "old") == NULL_BULK
    client("CONFIG", "SET", "replica-read-only", "yes")
    client("REPLICAOF", "NO", "ONE")
    assert client("KEYS", "*") == [b"lasting"]
