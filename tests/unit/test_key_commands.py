"""Keys, expiry and SORT on an engine without sockets: what no comparison of replies shows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from node.keyspace import STILL_PAUSED, Keyspace
from tests.inprocess import LocalServer, follow_log, read_log
from tests.wire import NULL_BULK, OK, QUEUED, Client, Error, Reply, Simple


@pytest.fixture
def server() -> Iterator[LocalServer]:
    """An engine with all components."""
    with LocalServer() as local:
        yield local


def scan_all(client: Client, *options: str) -> list[bytes]:
    """What a whole walk of SCAN returns."""
    found: list[bytes] = []
    cursor: Reply = b"0"
    while True:
        reply = client("SCAN", *[cursor] if isinstance(cursor, bytes) else [], *options)
        assert isinstance(reply, list)
        cursor, names = reply
        assert isinstance(names, list)
        found += [name for name in names if isinstance(name, bytes)]
        if cursor == b"0":
            return found


# --- expired keys --------------------------------------------------------------------------------


def test_walks_do_not_show_expired_keys(server: LocalServer) -> None:
    client = server.connect()
    for i in range(50):
        client("SET", f"stays:{i}", "x", "EX", 100)
        client("SET", f"goes:{i}", "x", "PX", 10)
    server.advance(0.02)
    kept = {b"stays:%d" % i for i in range(50)}
    reply = client("KEYS", "*")
    assert isinstance(reply, list)
    assert sorted(reply, key=repr) == sorted(kept)
    assert client("KEYS", "goes:*") == []
    # KEYS looks, SCAN deletes what it finds expired.
    assert client("DBSIZE") == 100
    reader = follow_log(server)
    assert set(scan_all(client)) == kept
    assert client("DBSIZE") == 50
    logged = read_log(reader)
    assert len(logged) == 50
    assert {argv[0] for argv in logged} == {b"DEL"}  # each for itself, no transaction
    assert server.keyspace.statistics.expired == 50


def test_a_random_key_is_not_an_expired_one(server: LocalServer) -> None:
    client = server.connect()
    client("MSET", "a", "1", "b", "2")
    for i in range(100):
        client("SET", f"goes:{i}", "x", "PX", 10)
    server.advance(0.02)
    assert {client("RANDOMKEY") for _ in range(50)} == {b"a", b"b"}
    client("FLUSHALL")
    assert client("RANDOMKEY") == NULL_BULK


def test_a_random_key_where_all_have_expired_and_none_may_go(server: LocalServer) -> None:
    client = server.connect()
    client("SET", "a", "1", "PX", 10)
    server.advance(0.02)
    server.keyspace.hold_still(STILL_PAUSED, True)
    assert client("RANDOMKEY") == b"a"
    server.keyspace.hold_still(STILL_PAUSED, False)
    assert client("RANDOMKEY") == NULL_BULK


def test_deleting_an_expired_key_deletes_nothing(server: LocalServer) -> None:
    client = server.connect()
    client("SET", "a", "1", "PX", 10)
    server.advance(0.02)
    assert client("DEL", "a") == 0
    assert client("DBSIZE") == 0


def test_times_left_are_rounded_as_in_redis(server: LocalServer) -> None:
    client = server.connect()
    client("SET", "a", "1", "PX", 1500)
    now = server.keyspace.now
    assert (client("PTTL", "a"), client("TTL", "a")) == (1500, 2)
    assert client("PEXPIRETIME", "a") == now + 1500
    assert client("EXPIRETIME", "a") == (now + 2000) // 1000
    server.advance(0.001)
    assert (client("PTTL", "a"), client("TTL", "a")) == (1499, 1)
    assert (client("PTTL", "b"), client("TTL", "b"), client("EXPIRETIME", "b")) == (-2, -2, -2)
    client("PERSIST", "a")
    assert (client("PTTL", "a"), client("TTL", "a"), client("PEXPIRETIME", "a")) == (-1, -1, -1)


# --- values that change their place --------------------------------------------------------------


def stored_memory(keyspace: Keyspace) -> int:
    """The account, without the tables of the databases, which grow in steps."""
    return keyspace.used_memory - sum(db.table.room for db in keyspace.databases)


@pytest.mark.parametrize("request_", [("RENAME", "old", "new"), ("MOVE", "old", 1)], ids=repr)
def test_a_large_value_moves_whole(server: LocalServer, request_: tuple[str, ...]) -> None:
    client = server.connect()
    members = [f"m{i}" for i in range(5000)]
    client("SADD", "old", *members)
    client("EXPIRE", "old", 1000)
    client("SADD", "new", *members[:100])
    used = stored_memory(server.keyspace)
    client(*request_)
    while not server.keyspace.trash.drain(100):
        pass
    if request_[0] == "MOVE":
        client("SELECT", 1)
    name = request_[2] if request_[0] == "RENAME" else "old"
    assert client("SCARD", name) == 5000
    assert client("TTL", name) == 1000
    if request_[0] == "MOVE":
        assert stored_memory(server.keyspace) == used
    assert client("DEL", name) == 1
    client("FLUSHALL", "SYNC")
    assert server.keyspace.used_memory == 0


def test_access_clocks_go_with_the_value(server: LocalServer) -> None:
    client = server.connect()
    client("SET", "a", "1")
    server.advance(100)
    assert client("OBJECT", "IDLETIME", "a") == 100
    client("EXISTS", "a")
    client("TYPE", "a")
    client("TTL", "a")
    client("OBJECT", "ENCODING", "a")
    assert client("OBJECT", "IDLETIME", "a") == 100
    client("CLIENT", "NO-TOUCH", "ON")
    client("GET", "a")
    assert client("OBJECT", "IDLETIME", "a") == 100
    client("RENAME", "a", "b")
    assert client("OBJECT", "IDLETIME", "b") == 100
    client("MOVE", "b", 1)
    client("SELECT", 1)
    assert client("OBJECT", "IDLETIME", "b") == 100
    assert client("TOUCH", "b", "none") == 1
    assert client("OBJECT", "IDLETIME", "b") == 0


def test_frequencies_are_kept_under_an_lfu_policy_only(server: LocalServer) -> None:
    client = server.connect()
    client("SET", "a", "1")
    refused = client("OBJECT", "FREQ", "a")
    assert isinstance(refused, Error)
    assert refused.text.startswith(b"ERR An LFU maxmemory policy is not selected")
    assert client("OBJECT", "FREQ", "none") == NULL_BULK
    client("CONFIG", "SET", "maxmemory-policy", "allkeys-lfu")
    client("SET", "b", "1")
    assert client("OBJECT", "FREQ", "b") == 5
    for _ in range(200):
        client("GET", "b")
    frequency = client("OBJECT", "FREQ", "b")
    assert isinstance(frequency, int)
    assert 5 < frequency < 60
    refused = client("OBJECT", "IDLETIME", "b")
    assert isinstance(refused, Error)
    assert refused.text.startswith(b"ERR An LFU maxmemory policy is selected")


def test_small_integers_count_as_shared(server: LocalServer) -> None:
    client = server.connect()
    client("MSET", "a", "9999", "b", "10000", "c", "-1", "d", "01")
    counts = [client("OBJECT", "REFCOUNT", key) for key in "abcd"]
    assert counts == [2**31 - 1, 1, 1, 1]
    client("CONFIG", "SET", "maxmemory", "1gb", "maxmemory-policy", "allkeys-lru")
    assert client("OBJECT", "REFCOUNT", "a") == 1


# --- databases -----------------------------------------------------------------------------------


def test_flushing_nothing_is_logged(server: LocalServer) -> None:
    client = server.connect()
    reader = follow_log(server)
    assert client("FLUSHALL", "ASYNC") == OK
    assert client("FLUSHDB") == OK
    assert server.keyspace.dirty == 0
    assert read_log(reader) == [[b"FLUSHALL", b"ASYNC"], [b"FLUSHDB"]]
    client("SET", "a", "1")
    assert read_log(reader) == [[b"SET", b"a", b"1"]]


def test_a_flushed_database_is_freed_bit_by_bit_or_at_once(server: LocalServer) -> None:
    client = server.connect()
    for mode in ("ASYNC", "SYNC"):
        for i in range(2000):
            client("SET", f"key:{i}", "x" * 100)
        client("FLUSHALL", mode)
        assert client("DBSIZE") == 0
        assert (server.keyspace.used_memory > 0) == (mode == "ASYNC")


def test_swapped_databases_serve_those_who_wait(server: LocalServer) -> None:
    client, waiting = server.connect(), server.connect()
    waiting.send("BLPOP", "list", 0)
    assert not waiting.has_input()
    client("SELECT", 1)
    client("RPUSH", "list", "a", "b")
    assert client("SWAPDB", 0, 1) == OK
    assert waiting.read() == [b"list", b"a"]
    client("SELECT", 0)
    assert client("LRANGE", "list", 0, -1) == [b"b"]


@pytest.mark.parametrize("request_", [("RENAME", "other", "list"), ("COPY", "other", "list")])
def test_a_key_that_appears_serves_those_who_wait(
    server: LocalServer, request_: tuple[str, ...]
) -> None:
    client, waiting = server.connect(), server.connect()
    client("RPUSH", "other", "a", "b")
    waiting.send("BRPOP", "list", 0)
    client(*request_)
    assert waiting.read() == [b"list", b"b"]


# --- SCAN ----------------------------------------------------------------------------------------


def test_scan_filters(server: LocalServer) -> None:
    client = server.connect()
    client("MSET", *[word for i in range(500) for word in (f"s:{i}", "x")])
    for i in range(100):
        client("RPUSH", f"l:{i}", "x")
    assert len(set(scan_all(client))) == 600
    assert len(set(scan_all(client, "COUNT", "7", "TYPE", "LIST"))) == 100
    assert set(scan_all(client, "MATCH", "?:1", "COUNT", "1000")) == {b"s:1", b"l:1"}
    assert scan_all(client, "TYPE", "nothing") == []
    assert client("SCAN", "18446744073709551615") != Error(b"ERR invalid cursor")
    assert client("SCAN", "18446744073709551616") == Error(b"ERR invalid cursor")


# --- SORT ----------------------------------------------------------------------------------------


def test_sort_reads_numbers_as_c_does(server: LocalServer) -> None:
    client = server.connect()
    client("RPUSH", "list", " 3", "0x10", "1e1", "", "-inf", "+2")
    assert client("SORT", "list") == [b"-inf", b"", b"+2", b" 3", b"1e1", b"0x10"]
    for wrong in ("nan", "3 ", "x", "1_0", "1e999"):
        client("DEL", "list")
        client("RPUSH", "list", "1", wrong)
        refused = Error(b"ERR One or more scores can't be converted into double")
        assert client("SORT", "list") == refused
        assert client("SORT", "list", "STORE", "target") == refused
        assert client("EXISTS", "target") == 0


def test_sort_follows_strings_changed_in_place(server: LocalServer) -> None:
    client = server.connect()
    client("RPUSH", "list", "a", "b")
    client("MSET", "w_a", "2", "w_b", "1")
    client("APPEND", "w_b", "0")
    assert client("SORT", "list", "BY", "w_*", "GET", "w_*") == [b"2", b"10"]
    assert client("SORT", "list", "BY", "w_*", "ALPHA", "DESC") == [b"a", b"b"]


def test_a_set_is_stored_in_one_order(server: LocalServer) -> None:
    client = server.connect()
    client("SADD", "set", "c", "a", "b", "10", "9")
    client("SORT", "set", "BY", "nothing", "STORE", "list")
    assert client("LRANGE", "list", 0, -1) == [b"10", b"9", b"a", b"b", b"c"]
    client("SORT", "set", "BY", "nothing", "DESC", "LIMIT", 1, 2, "STORE", "list")
    assert client("LRANGE", "list", 0, -1) == [b"b", b"a"]


def test_what_sort_stores_replaces_what_was_there(server: LocalServer) -> None:
    client = server.connect()
    client("RPUSH", "list", "2", "1")
    client("SET", "target", "x", "EX", 100)
    assert client("SORT", "list", "GET", "none_*", "GET", "#", "STORE", "target") == 4
    assert client("LRANGE", "target", 0, -1) == [b"", b"1", b"", b"2"]
    assert client("TTL", "target") == -1
    assert client("SORT", "none", "STORE", "target") == 0
    assert client("EXISTS", "target") == 0
    assert client("TYPE", "target") == Simple(b"none")


def test_sort_in_a_transaction(server: LocalServer) -> None:
    client = server.connect()
    client("RPUSH", "list", "2", "1")
    client("MULTI")
    assert client("SORT", "list") == QUEUED
    assert client("RPUSH", "list", "0") == QUEUED
    assert client("EXEC") == [[b"1", b"2"], 3]
