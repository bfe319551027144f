"""MULTI, EXEC and WATCH on an engine without sockets: what lets a transaction fail."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from node.keyspace import STILL_PAUSED
from node.session import Session
from tests.inprocess import LocalServer
from tests.wire import NULL, NULL_ARRAY, NULL_BULK, OK, QUEUED, Argument, Error, Reply

EXECABORT = Error(b"EXECABORT Transaction discarded because of previous errors.")


@pytest.fixture
def server() -> Iterator[LocalServer]:
    """An engine with all components."""
    with LocalServer() as local:
        yield local


def watched_keys(server: LocalServer) -> int:
    """Keys that anyone watches, in all databases."""
    return sum(len(db.watches) for db in server.keyspace.databases)


def run_watched(server: LocalServer, *requests: tuple[Argument, ...]) -> Reply:
    """EXEC of a client that watches `key`, after another one has made these requests."""
    watcher, other = server.connect(), server.connect()
    assert watcher("WATCH", "key") == OK
    for request in requests:
        reply = other(*request)
        assert not isinstance(reply, Error), reply
    assert watcher("MULTI") == OK
    assert watcher("PING") == QUEUED
    reply = watcher("EXEC")
    assert watched_keys(server) == 0
    return reply


TOUCHED = [
    [("SET", "key", "2")],
    [("DEL", "key")],
    [("UNLINK", "key")],
    [("APPEND", "key", "x")],
    [("EXPIRE", "key", 100)],
    [("RENAME", "key", "elsewhere")],
    [("SET", "other", "1"), ("RENAME", "other", "key")],
    [("MOVE", "key", 1)],
    [("COPY", "other", "key", "REPLACE")],
    [("FLUSHALL",)],
    [("FLUSHDB",)],
    [("SWAPDB", 0, 1)],
    [("SELECT", 1), ("SWAPDB", 1, 0)],
    [("MULTI",), ("SET", "key", "2"), ("EXEC",)],
    [("SETRANGE", "key", 0, "x")],
    [("GETDEL", "key")],
    [("GETEX", "key", "EX", 100)],
]
UNTOUCHED = [
    [("GET", "key")],
    [("TOUCH", "key")],
    [("SET", "other", "2")],
    [("SELECT", 1), ("SET", "key", "2")],
    [("SELECT", 1), ("FLUSHDB",)],
    [("SWAPDB", 0, 0)],
    [("SWAPDB", 1, 2)],
    [("SETNX", "key", "2")],
    [("SET", "key", "2", "NX")],
    [("PERSIST", "key")],
    [("GETEX", "key")],
    [("EXPIRE", "key", 100, "XX")],
]


@pytest.mark.parametrize("requests", TOUCHED, ids=repr)
def test_a_change_of_a_watched_key_fails_the_transaction(
    server: LocalServer, requests: list[tuple[Argument, ...]]
) -> None:
    server.connect()("MSET", "key", "1", "other", "1")
    assert run_watched(server, *requests) == NULL_ARRAY


@pytest.mark.parametrize("requests", UNTOUCHED, ids=repr)
def test_what_changes_nothing_does_not(
    server: LocalServer, requests: list[tuple[Argument, ...]]
) -> None:
    server.connect()("MSET", "key", "1", "other", "1")
    reply = run_watched(server, *requests)
    assert isinstance(reply, list)
    assert len(reply) == 1


@pytest.mark.parametrize(
    "requests", [[("FLUSHALL",)], [("SWAPDB", 0, 1)], [("DEL", "key")]], ids=repr
)
def test_a_key_that_is_not_there_does_not_change_by_that(
    server: LocalServer, requests: list[tuple[Argument, ...]]
) -> None:
    assert run_watched(server, *requests) != NULL_ARRAY


def test_a_key_that_appears_by_swapdb(server: LocalServer) -> None:
    other = server.connect()
    other("SELECT", 1)
    other("SET", "key", "1")
    assert run_watched(server, ("SWAPDB", 0, 1)) == NULL_ARRAY


def test_null_in_resp3(server: LocalServer) -> None:
    client = server.connect(3)
    client("WATCH", "key")
    client("SET", "key", "1")
    client("MULTI")
    assert client("EXEC") == NULL


def test_a_watched_key_that_expires(server: LocalServer) -> None:
    client = server.connect()
    client("SET", "key", "1", "PX", 100)
    client("WATCH", "key")
    server.advance(0.2)
    client("MULTI")
    assert client("EXEC") == NULL_ARRAY


def test_a_key_that_had_expired_when_the_watch_began(server: LocalServer) -> None:
    client, other = server.connect(), server.connect()
    client("SET", "key", "1", "PX", 100)
    server.advance(0.2)
    client("WATCH", "key")
    # Its deletion is no change …
    assert other("GET", "key") == NULL_BULK
    client("MULTI")
    assert client("EXEC") == []
    # … but a new value is.
    client("SET", "key", "1", "PX", 100)
    server.advance(0.2)
    client("WATCH", "key")
    other("SET", "key", "2")
    client("MULTI")
    assert client("EXEC") == NULL_ARRAY


def test_expired_keys_that_are_flushed_or_swapped(server: LocalServer) -> None:
    client, other = server.connect(), server.connect()
    server.keyspace.hold_still(STILL_PAUSED, True)  # as a pause does: expired keys stay, hidden
    client("SET", "key", "1", "PX", 100)
    server.advance(0.2)
    for request in (("FLUSHALL",), ("SWAPDB", 0, 1), ("SWAPDB", 0, 1)):
        client("WATCH", "key")
        other(*request)
        client("MULTI")
        assert client("EXEC") == []
    # An expired key that was flushed, and is written anew.
    client("WATCH", "key")
    other("FLUSHALL")
    other("SET", "key", "2")
    client("MULTI")
    assert client("EXEC") == NULL_ARRAY


def test_a_failed_watch_stays_failed_until_unwatch(server: LocalServer) -> None:
    client, other = server.connect(), server.connect()
    client("WATCH", "a", "b", "a")
    assert len(client.session.watches) == 2
    other("SET", "b", "1")
    assert watched_keys(server) == 0
    assert client("WATCH", "c") == OK
    assert watched_keys(server) == 0  # no use in it any more
    client("MULTI")
    assert client("EXEC") == NULL_ARRAY
    client("WATCH", "a")
    other("SET", "a", "1")
    client("UNWATCH")
    client("MULTI")
    assert client("EXEC") == []


@pytest.mark.parametrize("end", ["DISCARD", "RESET", "close"])
def test_watches_end(server: LocalServer, end: str) -> None:
    client, other = server.connect(), server.connect()
    other("WATCH", "key")
    client("WATCH", "key", "more")
    client("MULTI")
    if end == "close":
        client.close()
    else:
        client(end)
    assert watched_keys(server) == 1
    assert not client.session.watches
    assert client.session.interest_memory == 0
    assert client.session.queue_memory == 0


def test_watch_in_one_database_only(server: LocalServer) -> None:
    client, other = server.connect(), server.connect()
    client("WATCH", "key")
    client("SELECT", 1)
    client("WATCH", "key")
    assert watched_keys(server) == 2
    other("SET", "key", "1")
    client("MULTI")
    assert client("EXEC") == NULL_ARRAY


def test_errors_while_queueing_abort(server: LocalServer) -> None:
    client = server.connect()
    for request in (("NOSUCH",), ("GET",), ("CONFIG", "NOSUCH"), ("EXEC", "x"), ("DISCARD", "x")):
        client("MULTI")
        client("SET", "key", "1")
        assert isinstance(client(*request), Error)
        if request != ("EXEC", "x"):
            assert client("EXEC") == EXECABORT
        assert client("EXEC") == Error(b"ERR EXEC without MULTI")
    assert client("EXISTS", "key") == 0


def test_exec_itself_refused_ends_the_transaction(server: LocalServer) -> None:
    client = server.connect()
    client("MULTI")
    assert client("EXEC", "x") == Error(
        b"EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command"
    )
    assert client("PING", "out") == b"out"


def test_errors_in_exec_do_not_stop_it(server: LocalServer) -> None:
    client = server.connect()
    client("MULTI")
    client("SET", "key", "x")
    client("INCR", "key")
    client("LPUSH", "key", "1")
    client("GET", "key")
    reply = client("EXEC")
    assert isinstance(reply, list)
    assert reply[0] == OK
    assert isinstance(reply[1], Error)
    assert isinstance(reply[2], Error)
    assert reply[3] == b"x"


def test_neither_nested_multi_nor_watch_in_it_aborts(server: LocalServer) -> None:
    client = server.connect()
    client("MULTI")
    assert client("MULTI") == Error(b"ERR MULTI calls can not be nested")
    assert client("WATCH", "x") == Error(b"ERR WATCH inside MULTI is not allowed")
    client("PING")
    reply = client("EXEC")
    assert isinstance(reply, list)
    assert len(reply) == 1
    assert client("DISCARD") == Error(b"ERR DISCARD without MULTI")


def test_blocking_commands_do_not_block_in_exec(server: LocalServer) -> None:
    client = server.connect()
    client("MULTI")
    client("BLPOP", "none", 0)
    client("BRPOPLPUSH", "none", "other", 0)
    client("BZPOPMIN", "none", 0)
    assert client("EXEC") == [NULL_ARRAY, NULL_BULK, NULL_ARRAY]


def test_waiters_are_served_after_the_whole_transaction(server: LocalServer) -> None:
    waiting, client = server.connect(), server.connect()
    waiting.send("BLPOP", "list", 0)
    client("MULTI")
    client("RPUSH", "list", "a")
    client("DEL", "list")
    client("RPUSH", "list", "b")
    assert client("EXEC") == [1, 1, 1]
    assert waiting.read() == [b"list", b"b"]


def test_the_log_takes_a_transaction_as_one(server: LocalServer) -> None:
    logged: list[bytes] = []
    server.engine.command_log.attach(logged.append)
    client = server.connect()
    client("MULTI")
    client("SET", "a", "1")
    client("GET", "a")
    client("SET", "b", "2")
    client("EXEC")
    assert len(logged) == 1
    words = [word for word in logged[0].split(b"\r\n") if word[:1] not in (b"*", b"$", b"")]
    assert words == [
        *(b"SELECT", b"0", b"MULTI"),
        *(b"SET", b"a", b"1", b"SET", b"b", b"2"),
        b"EXEC",
    ]
    client("MULTI")
    client("GET", "a")
    client("EXEC")
    assert len(logged) == 1


def test_time_stands_still_in_exec(server: LocalServer) -> None:
    client = server.connect()
    client("MULTI")
    client("TIME")
    client("SET", "key", "1", "PX", 100)
    client("PTTL", "key")
    reply = client("EXEC")
    assert isinstance(reply, list)
    assert reply[2] == 100


def test_time_of_exec_includes_its_commands(server: LocalServer) -> None:
    client = server.connect()
    ping = server.engine.commands[b"ping"]
    handler = ping.handler

    def slow(ctx: Session, argv: list[bytes]) -> object:
        server.clock.ns += 5_000_000
        return handler(ctx, argv)

    ping.handler = slow
    client("MULTI")
    client("PING", "x")
    client("PING", "y")
    assert client("EXEC") == [b"x", b"y"]
    assert ping.nanoseconds == 10_000_000
    assert server.engine.commands[b"exec"].nanoseconds == 10_000_000


def test_memory_of_the_queue_is_counted(server: LocalServer) -> None:
    client = server.connect()
    client("MULTI")
    client("SET", "key", "x" * 10_000)
    assert client.session.queue_memory > 10_000
    assert client.session.memory > 10_000
    client("DISCARD")
    assert client.session.queue_memory == 0


def test_out_of_memory() -> None:
    with LocalServer("--maxmemory-policy", "noeviction") as server:
        client, other = server.connect(), server.connect()
        oom = Error(b"OOM command not allowed when used memory > 'maxmemory'.")
        client("SET", "some", "data")
        client("MULTI")
        assert client("SET", "a", "1") == QUEUED
        other("MULTI")
        assert other("GET", "a") == QUEUED
        admin = server.connect()
        assert admin("CONFIG", "SET", "maxmemory", "1") == OK
        # What was queued may not run; reading is still possible; a queue may not grow.
        assert client("EXEC") == Error(
            b"EXECABORT Transaction discarded because of: "
            b"OOM command not allowed when used memory > 'maxmemory'."
        )
        assert other("EXEC") == [NULL_BULK]
        assert other("MULTI") == OK
        assert other("GET", "a") == oom
        assert other("EXEC") == EXECABORT
        assert other("MULTI") == OK
        assert other("DISCARD") == OK
        assert other("SET", "a", "1") == oom
