"""DEBUG, where the real server cannot be asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from node.debugging import describe_table
from tests.inprocess import LocalServer
from tests.wire import OK, Error, Map, Simple, Verbatim


@pytest.fixture
def node() -> Iterator[LocalServer]:
    """A node where DEBUG is allowed."""
    local = LocalServer("--enable-debug-command", "yes")
    yield local
    local.close()


def test_sleep_takes_the_time_of_the_server(node: LocalServer) -> None:
    client = node.connect()
    before = node.clock.ns
    assert client("DEBUG", "SLEEP", "1.25rest") == OK
    assert node.clock.ns - before == 1_250_000_000
    assert client("DEBUG", "SLEEP", "soon") == OK
    assert node.clock.ns - before == 1_250_000_000


def test_switches(node: LocalServer) -> None:
    client = node.connect()

    def states() -> tuple[bool, bool]:
        return node.engine.keyspace.active_expiry, node.engine.cron_paused

    assert client("DEBUG", "SET-ACTIVE-EXPIRE", "0") == OK
    assert client("DEBUG", "PAUSE-CRON", "1") == OK
    assert states() == (False, True)
    assert client("DEBUG", "SET-ACTIVE-EXPIRE", "1") == OK
    assert client("DEBUG", "PAUSE-CRON", "0") == OK
    assert states() == (True, False)


def test_a_history_that_nobody_continues(node: LocalServer) -> None:
    before = node.info("replication")
    assert node.connect()("DEBUG", "CHANGE-REPL-ID") == OK
    after = node.info("replication")
    assert after["master_replid"] != before["master_replid"]
    assert after["master_replid2"] == "0" * 40
    assert after["master_repl_offset"] == before["master_repl_offset"]


def test_pattern(node: LocalServer) -> None:
    client = node.connect()
    assert client("DEBUG", "STRINGMATCH-LEN", "h[a-e]llo*", "hello world") == 1
    assert client("DEBUG", "STRINGMATCH-LEN", "h[^a-e]llo*", "hello world") == 0


def test_populate_leaves_what_is_there(node: LocalServer) -> None:
    client = node.connect()
    client("SET", "key:1", "mine")
    client("WATCH", "key:2")
    assert client("DEBUG", "POPULATE", "3") == OK
    assert client("MGET", "key:0", "key:1", "key:2") == [b"value:0", b"mine", b"value:2"]
    assert client("MULTI") == OK
    client("PING")
    assert client("EXEC") != [Simple(b"PONG")], "the watched key has changed"
    assert client("DEBUG", "POPULATE", "1", "p" * 200) == OK
    assert client("EXISTS", "p" * 127) == 1


def test_the_whole_configuration_is_written(tmp_path: Path) -> None:
    file = tmp_path / "sentrio.conf"
    file.write_text("# kept\nmaxmemory 5mb\n")
    node = LocalServer("--enable-debug-command", "yes")
    try:
        client = node.connect()
        assert isinstance(client("DEBUG", "CONFIG-REWRITE-FORCE-ALL"), Error)
        node.config.file = str(file)
        client("CONFIG", "SET", "maxmemory", "6mb")
        assert client("DEBUG", "CONFIG-REWRITE-FORCE-ALL") == OK
    finally:
        node.close()
    lines = file.read_text().splitlines()
    assert lines[:2] == ["# kept", "maxmemory 6mb"]
    assert "maxmemory-samples 5" in lines


def test_digest_ignores_when_a_key_expires(node: LocalServer) -> None:
    client = node.connect()
    client("SET", "key", "value")
    plain = client("DEBUG", "DIGEST")
    client("EXPIRE", "key", "100")
    soon = client("DEBUG", "DIGEST")
    client("EXPIRE", "key", "200")
    assert plain != soon == client("DEBUG", "DIGEST")
    node.advance(300)
    assert client("DEBUG", "DIGEST") == soon, "an expired key that nobody has met is still there"
    client("GET", "key")
    assert client("DEBUG", "DIGEST") == Simple(b"0" * 40)


def test_object_tells_how_long_it_is_idle(node: LocalServer) -> None:
    client = node.connect()
    client("RPUSH", "key", "a", "bc")
    node.advance(7)
    told = client("DEBUG", "OBJECT", "key")
    assert isinstance(told, Simple)
    fields = dict(part.split(b":") for part in told.text.split()[1:])
    assert fields[b"encoding"] == b"listpack"
    assert fields[b"lru_seconds_idle"] == b"7"
    assert fields[b"serializedlength"] == b"17"


def test_tables(node: LocalServer) -> None:
    assert describe_table([0, 0]) == "No stats available for empty dictionaries\n"
    assert "   0: 1 (25.00%)\n   2: 3 (75.00%)\n" in describe_table([2, 0, 2, 2])
    client = node.connect(3)
    client("DEBUG", "POPULATE", "200")
    client("EXPIRE", "key:1", "10")
    client("SADD", "set", *range(1000), "x")
    client("ZADD", "zset", *(part for number in range(200) for part in (number, number)))
    stats = client("DEBUG", "HTSTATS", "0")
    assert isinstance(stats, Verbatim)
    assert b"[Dictionary HT]\nHash table 0 stats" in stats.text
    assert b" number of elements: 202\n" in stats.text
    assert b"[Expires HT]\nHash table 0 stats" in stats.text
    for key, count in (("set", 1001), ("zset", 200)):
        stats = client("DEBUG", "HTSTATS-KEY", key)
        assert isinstance(stats, Verbatim)
        assert b" number of elements: %d\n" % count in stats.text


def test_clients_by_memory() -> None:
    node = LocalServer("--enable-debug-command", "yes", "--maxmemory-clients", "1mb")
    try:
        client = node.connect(3)
        told = client("DEBUG", "CLIENT-EVICTION")
        assert isinstance(told, Verbatim)
        assert told.text.startswith(b"bucket 0: below 1 bytes, 1 clients")
        stats = client("MEMORY", "STATS")
        assert isinstance(stats, Map)
    finally:
        node.close()
