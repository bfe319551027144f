"""List commands: what 7.2 does as 7.0 does not, and what the books say of memory."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from node.key_table import ENTRY_MEMORY
from tests.differential.test_large import list_request
from tests.inprocess import LocalClient, LocalServer, follow_log, read_log
from tests.wire import OK, Error, Reply


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with LocalServer() as server:
        yield server


@pytest.fixture
def client(server: LocalServer) -> LocalClient:
    return server.connect()


def encoding(client: LocalClient, key: str = "l") -> Reply:
    return client("OBJECT", "ENCODING", key)


def test_rank_is_bounded(client: LocalClient) -> None:
    client("RPUSH", "l", "a", "b", "a")
    error = Error(
        b"ERR value is out of range, value must between -9223372036854775807 "
        b"and 9223372036854775807"
    )
    assert client("LPOS", "l", "a", "RANK", "-9223372036854775808") == error
    assert client("LPOS", "missing", "a", "RANK", "-9223372036854775808") == error
    assert client("LPOS", "l", "a", "RANK", "-9223372036854775807", "COUNT", 0) == []


def test_count_of_removals_is_not(client: LocalClient) -> None:
    # Its negation does not fit in 64 bits; Redis then removes all.
    client("RPUSH", "l", "a", "b", "a")
    assert client("LREM", "l", "-9223372036854775808", "a") == 2


def test_small_lists_are_listpacks_since_7_2(client: LocalClient) -> None:
    client("RPUSH", "l", *range(100))
    assert encoding(client) == b"listpack"
    client("LSET", "l", 0, "x" * 8192)
    assert encoding(client) == b"quicklist"
    client("LPOP", "l")
    assert encoding(client) == b"listpack"
    client("LINSERT", "l", "BEFORE", "missing", "x" * 8192)
    assert encoding(client) == b"quicklist"
    client("RPOP", "l", 1)
    assert encoding(client) == b"listpack"


@pytest.mark.parametrize("request_", ["RPUSH", "RPUSHX"])
def test_an_argument_that_does_not_fit_into_a_listpack(client: LocalClient, request_: str) -> None:
    client("RPUSH", "l", "a")
    client(request_, "l", "b", "x" * 8192)
    assert encoding(client) == b"quicklist"
    client("RPOP", "l")
    assert encoding(client) == b"listpack"


def test_lengths_of_listpacks(client: LocalClient) -> None:
    client("CONFIG", "SET", "list-max-listpack-size", 4)
    client("RPUSH", "l", "a", "b", "c", "d")
    assert encoding(client) == b"listpack"
    client("LMOVE", "l", "l", "LEFT", "RIGHT")
    client("RPUSH", "l", "e")
    assert encoding(client) == b"quicklist"
    client("LTRIM", "l", 0, 2)
    assert encoding(client) == b"quicklist"
    client("LREM", "l", 1, "a")
    client("LPOP", "l")
    assert encoding(client) == b"listpack"


def test_counts_are_logged_as_what_was_taken(server: LocalServer, client: LocalClient) -> None:
    client("RPUSH", "l", "a", "b", "c")
    log = follow_log(server)
    assert client("LMPOP", 2, "missing", "l", "right", "count", 2) == [b"l", [b"c", b"b"]]
    assert client("LMPOP", 1, "l", "LEFT", "COUNT", 9223372036854775807) == [b"l", [b"a"]]
    client("LMPOP", 1, "l", "LEFT")
    client("LPOP", "l", 3)
    client("RPUSHX", "l", "a")
    client("LREM", "l", 0, "a")
    assert read_log(log) == [[b"RPOP", b"l", b"2"], [b"LPOP", b"l", b"1"]]


def test_many_elements_at_the_cost_of_those_taken(client: LocalClient) -> None:
    # Neither popping nor trimming looks at what stays.
    client("RPUSH", "l", *range(60_000))
    for i in range(20_000):
        assert client("LPOP", "l", 1) == [b"%d" % i]
        assert client("LTRIM", "l", 0, -2) == OK
    assert client("LRANGE", "l", 0, 0) == [b"20000"]
    assert client("LLEN", "l") == 20_000


@pytest.mark.parametrize("seed", range(5))
def test_memory_is_accounted_to_the_byte(
    server: LocalServer, client: LocalClient, seed: int
) -> None:
    rng = random.Random(seed)
    db = server.keyspace.databases[0]
    for _ in range(1000):
        client(*list_request(rng))
        value = db.peek(b"key")
        expected = 0
        if value is not None:
            assert not isinstance(value, bytes | bytearray)
            expected = ((len(b"key") + 48) & ~15) + ENTRY_MEMORY + value.memory + db.table.room
            assert len(value)
        assert db.memory == expected
