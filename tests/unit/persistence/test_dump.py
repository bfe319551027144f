"""DUMP payloads, and what RESTORE does beside making a key."""

from __future__ import annotations

import random

import pytest
from hypothesis import given

from node.keyspace import EVENT_GENERIC, EVENT_KEYEVENT
from node.persistence.payload import DumpError, dump, load
from node.persistence.rdb_format import RdbError
from node.persistence.rdb_reader import Value
from node.values.collection import Collection
from node.values.digest import value_digest
from tests.differential.families.dumps import REAL, WRONG, signed
from tests.inprocess import LocalServer
from tests.unit.persistence.drawn import LIMITS, values
from tests.wire import NULL, OK, Error


@pytest.fixture
def node() -> LocalServer:
    """A server in this process."""
    return LocalServer()


@given(value=values)
def test_round_trip(value: Value) -> None:
    for compress in (True, False):
        other = load(dump(value, compress), LIMITS)
        assert value_digest(other) == value_digest(value)


@pytest.mark.parametrize("name", REAL)
def test_real_payloads(name: str) -> None:
    payload = REAL[name]
    value = load(payload, LIMITS)
    again = load(dump(value, True), LIMITS)
    assert value_digest(value) == value_digest(again)


@pytest.mark.parametrize("payload", WRONG)
def test_wrong_payloads(payload: bytes) -> None:
    with pytest.raises((DumpError, RdbError)):
        load(payload, LIMITS)


@pytest.mark.parametrize("name", REAL)
def test_damaged_payloads(name: str) -> None:
    payload = REAL[name]
    for size in range(len(payload)):
        with pytest.raises(DumpError):
            load(payload[:size], LIMITS)
        if size < len(payload) - 10:
            with pytest.raises(RdbError):
                load(signed(payload[:size]), LIMITS)
    for at in range(len(payload)):
        for bit in range(8):
            damaged = bytearray(payload)
            damaged[at] ^= 1 << bit
            with pytest.raises(DumpError):
                load(bytes(damaged), LIMITS)
    rng = random.Random(name)
    for _ in range(2000):
        body = bytearray(payload[:-10])
        for _ in range(rng.randint(1, 3)):
            body[rng.randrange(len(body))] = rng.randrange(256)
        try:
            value = load(signed(bytes(body)), LIMITS)
        except RdbError:
            continue
        assert not isinstance(value, Collection) or len(value)
        assert value_digest(load(dump(value, True), LIMITS)) == value_digest(value)


def test_versions() -> None:
    for version in (1, 10, 11, 12):
        assert load(signed(b"\x00\x01v", version), LIMITS) == b"v"
    with pytest.raises(DumpError):
        load(signed(b"\x00\x01v", 13), LIMITS)


def test_restored_data_are_logged_with_the_time_when_they_expire(node: LocalServer) -> None:
    client = node.connect()
    logged: list[bytes] = []
    node.engine.command_log.attach(logged.append)
    payload = REAL["string"]
    assert client("RESTORE", "k", 5000, payload, "REPLACE") == OK
    deadline = node.keyspace.databases[0].deadline(b"k")
    assert deadline is not None
    assert deadline - node.keyspace.now == 5000
    line = b"".join(logged)
    assert b"$13\r\n%d\r\n" % deadline in line
    assert line.endswith(b"$7\r\nREPLACE\r\n$6\r\nABSTTL\r\n")
    logged.clear()
    # Its time is over: all that is left to say is that what was there is gone.
    assert client("RESTORE", "k", 1, payload, "REPLACE", "ABSTTL") == OK
    assert client("EXISTS", "k") == 0
    assert b"".join(logged) == b"*2\r\n$3\r\nDEL\r\n$1\r\nk\r\n"
    logged.clear()
    assert client("RESTORE", "k", 1, payload, "REPLACE", "ABSTTL") == OK
    assert not logged
    assert client("RESTORE", "k", 0, payload, "ABSTTL") == OK
    assert client("TTL", "k") == -1


def test_events(node: LocalServer) -> None:
    client = node.connect()
    events: list[tuple[bytes, bytes]] = []
    node.keyspace.notify_flags = EVENT_GENERIC | EVENT_KEYEVENT
    node.keyspace.notify = lambda _, event, key, db: events.append((event, key))
    payload = REAL["hash"]
    client("RESTORE", "k", 0, payload)
    client("RESTORE", "k", 0, payload)
    client("RESTORE", "k", 1, payload, "ABSTTL", "REPLACE")
    assert events == [(b"restore", b"k"), (b"del", b"k")]


def test_clocks(node: LocalServer) -> None:
    client = node.connect()
    payload = REAL["string"]
    client("RESTORE", "idle", 0, payload, "IDLETIME", 1000)
    assert client("OBJECT", "IDLETIME", "idle") == 1000
    client("RESTORE", "longer", 0, payload, "IDLETIME", 1 << 40)
    assert client("OBJECT", "IDLETIME", "longer") == 1 << 23
    client("CONFIG", "SET", "maxmemory-policy", "allkeys-lfu")
    client("RESTORE", "often", 0, payload, "FREQ", 200)
    assert client("OBJECT", "FREQ", "often") == 200
    client("RESTORE", "new", 0, payload, "IDLETIME", 1000)
    assert client("OBJECT", "FREQ", "new") == 5


def test_nothing_is_half_done(node: LocalServer) -> None:
    client = node.connect()
    client("SET", "k", "old")
    reply = client("RESTORE", "k", 0, REAL["hash"][:-1] + b"x", "REPLACE")
    assert reply == Error(b"ERR DUMP payload version or checksum are wrong")
    reply = client("RESTORE", "k", 0, signed(b"\x02\x02\x01a\x01a"), "REPLACE")
    assert reply == Error(b"ERR Bad data format")
    assert client("GET", "k") == b"old"
    assert node.connect(3)("DUMP", "missing") == NULL


def test_compression_follows_the_directive(node: LocalServer) -> None:
    client = node.connect()
    client("SET", "k", "ab" * 100)
    short = client("DUMP", "k")
    client("CONFIG", "SET", "rdbcompression", "no")
    long = client("DUMP", "k")
    assert isinstance(short, bytes)
    assert isinstance(long, bytes)
    assert len(short) < 40 < 200 < len(long)
    for payload in (short, long):
        client("RESTORE", "other", 0, payload, "REPLACE")
        assert client("GET", "other") == b"ab" * 100
