"""Strings and bitmaps on an engine without sockets: what no comparison with a 7.0 shows."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from node.key_table import ENTRY_MEMORY, TIMED_MEMORY, object_memory
from node.keyspace import STILL_PAUSED
from tests.inprocess import LocalServer, follow_log, read_log
from tests.wire import NULL_BULK, OK, QUEUED, Argument, Error

TOO_LONG = Error(b"ERR string exceeds maximum allowed size (proto-max-bulk-len)")
NOT_AN_INTEGER = Error(b"ERR value is not an integer or out of range")
SYNTAX_ERROR = Error(b"ERR syntax error")
MIB = 1024 * 1024


@pytest.fixture
def server() -> Iterator[LocalServer]:
    """An engine with all components; strings of more than a megabyte are refused."""
    with LocalServer("--proto-max-bulk-len", "1mb") as local:
        yield local


def stored_memory(server: LocalServer) -> int:
    """What the books should say: every key and value counted anew."""
    total = 0
    for db in server.keyspace.databases:
        total += db.table.room + db.volatile * TIMED_MEMORY
        for key, value in db.items():
            total += object_memory(key) + ENTRY_MEMORY + object_memory(value)
    return total


# --- limits --------------------------------------------------------------------------------------


def test_strings_grow_up_to_the_limit(server: LocalServer) -> None:
    client = server.connect()
    assert client("SETRANGE", "key", MIB - 1, "x") == MIB
    assert client("APPEND", "key", "y") == TOO_LONG
    assert client("SETRANGE", "key", MIB, "y") == TOO_LONG
    assert client("SETRANGE", "new", MIB - 1, "xy") == TOO_LONG
    assert client("SETRANGE", "new", 2**62, "x") == TOO_LONG
    assert client("SETRANGE", "key", 2**62, "") == MIB
    assert client("SETBIT", "key", 8 * MIB - 1, 0) == 0
    refused = Error(b"ERR bit offset is not an integer or out of range")
    assert client("SETBIT", "key", 8 * MIB, 0) == refused
    assert client("GETBIT", "key", 8 * MIB, 0) == Error(
        b"ERR wrong number of arguments for 'getbit' command"
    )
    assert client("GETBIT", "key", 8 * MIB) == refused
    assert client("EXISTS", "new") == 0
    assert client("STRLEN", "key") == MIB


def test_what_the_master_has_is_not_refused(server: LocalServer) -> None:
    client = server.connect()
    client.session.from_master = True
    assert client("SETRANGE", "key", 2 * MIB, "x") == 2 * MIB + 1
    assert client("APPEND", "key", "y") == 2 * MIB + 2
    assert client("SETBIT", "key", 24 * MIB, 1) == 0


def test_lcs_refuses_a_table_beyond_the_limit(server: LocalServer) -> None:
    client = server.connect()
    client("MSET", "a", "x" * 511, "b", "x" * 511, "c", "x" * 512)
    assert client("LCS", "a", "b", "LEN") == 511
    refused = Error(b"ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len")
    assert client("LCS", "a", "c", "LEN") == refused
    assert client("LCS", "a", "c") == refused


def test_a_large_lcs_is_quick() -> None:
    with LocalServer() as server:
        client = server.connect()
        client("MSET", "a", "abcdefghij" * 1000, "b", "jabcdefghi" * 1000)
        start = time.perf_counter()
        assert client("LCS", "a", "b", "LEN") == 9999
        # Cell by cell this would be a hundred million steps.
        assert time.perf_counter() - start < 5


# --- changes in place ----------------------------------------------------------------------------


def test_strings_are_changed_in_place(server: LocalServer) -> None:
    client = server.connect()
    db = server.keyspace.databases[0]
    client("SET", "key", "x" * 1000)
    client("APPEND", "key", "y")
    first = db.peek(b"key")
    assert type(first) is bytearray
    client("APPEND", "key", "z" * 5000)
    client("SETRANGE", "key", 10, "abc")
    client("SETBIT", "key", 7, 0)
    client("SETRANGE", "key", 9000, "end")
    assert db.peek(b"key") is first
    assert bytes(first[:14]) == b"x" * 10 + b"abc" + b"x"
    assert client("STRLEN", "key") == 9003
    assert client("OBJECT", "ENCODING", "key") == b"raw"
    assert db.memory == stored_memory(server)


def test_replies_of_a_transaction_do_not_change_with_the_string(server: LocalServer) -> None:
    client = server.connect()
    client("SET", "key", "a")
    client("APPEND", "key", "b")
    client("MULTI")
    for request in (
        ("GET", "key"),
        ("MGET", "key", "none"),
        ("GETEX", "key", "PERSIST"),
        ("SET", "other", "x", "GET"),
        ("APPEND", "key", "c"),
        ("SET", "key", "d", "GET"),
    ):
        assert client(*request) == QUEUED
    assert client("EXEC") == [b"ab", [b"ab", NULL_BULK], b"ab", NULL_BULK, 3, b"abc"]


def test_a_copy_of_a_changed_string_is_independent(server: LocalServer) -> None:
    client = server.connect()
    client("SET", "key", "a")
    client("APPEND", "key", "b")
    client("COPY", "key", "copy")
    client("APPEND", "key", "c")
    assert client("MGET", "key", "copy") == [b"abc", b"ab"]
    assert client("OBJECT", "ENCODING", "copy") == b"raw"


@pytest.mark.parametrize(
    "request_",
    [
        ("SET", "key", "x" * 100),
        ("SET", "key", "y", "EX", 100),
        ("SETRANGE", "key", 100, "x"),
        ("SETBIT", "key", 8000, 1),
        ("APPEND", "key", "x" * 77),
        ("INCR", "number"),
        ("INCRBYFLOAT", "number", "0.00001"),
        ("INCRBY", "number", 10**17),
        ("GETDEL", "key"),
        ("GETSET", "key", "z" * 300),
        ("MSET", "key", "1", "other", "2"),
        ("GETEX", "key", "EX", 10),
        ("GETEX", "volatile", "PERSIST"),
        ("PERSIST", "volatile"),
        ("SET", "volatile", "x"),
        ("SET", "volatile", "x", "KEEPTTL"),
        ("RENAME", "volatile", "key"),
        ("RENAME", "raw", "key"),
        ("MOVE", "raw", 1),
        ("COPY", "volatile", "raw", "REPLACE"),
        ("SWAPDB", 0, 1),
        ("DEL", "key", "raw", "volatile"),
        ("PEXPIREAT", "volatile", 1),
    ],
    ids=repr,
)
def test_memory_is_accounted(server: LocalServer, request_: tuple[Argument, ...]) -> None:
    client = server.connect()
    client("MSET", "key", "value", "number", "10", "raw", "0123456789")
    client("APPEND", "raw", "0123456789" * 20)
    client("SET", "volatile", "value", "EX", 1000)
    assert server.keyspace.used_memory == stored_memory(server)
    reply = client(*request_)
    assert not isinstance(reply, Error), reply
    assert server.keyspace.used_memory == stored_memory(server)
    client("FLUSHALL", "SYNC")
    assert server.keyspace.used_memory == 0


# --- expiry and the command log ------------------------------------------------------------------


def test_relative_times_are_logged_as_absolute_ones(server: LocalServer) -> None:
    client = server.connect()
    reader = follow_log(server)
    now = server.keyspace.now
    for request in (
        ("SET", "a", "1", "EX", 10, "GET"),
        ("SET", "a", "1", "XX", "PX", 10),
        ("SETEX", "a", 10, "1"),
        ("PSETEX", "a", 10, "1"),
        ("SET", "a", "1", "KEEPTTL", "GET"),
        ("GETEX", "a", "EX", 20),
        ("GETEX", "a", "PERSIST"),
        ("GETEX", "a", "PERSIST"),
        ("GETEX", "a"),
        ("EXPIRE", "a", 5, "NX"),
        ("PEXPIRE", "a", 7000, "GT"),
        ("EXPIREAT", "a", 4_000_000_000),
        ("INCRBYFLOAT", "a", "0.5"),
        ("GETSET", "a", "2"),
        ("GETDEL", "a"),
        ("GETDEL", "a"),
    ):
        reply = client(*request)
        assert not isinstance(reply, Error), reply
    assert read_log(reader) == [
        [b"SET", b"a", b"1", b"PXAT", b"%d" % (now + 10_000)],
        [b"SET", b"a", b"1", b"PXAT", b"%d" % (now + 10)],
        [b"SET", b"a", b"1", b"PXAT", b"%d" % (now + 10_000)],
        [b"SET", b"a", b"1", b"PXAT", b"%d" % (now + 10)],
        [b"SET", b"a", b"1", b"KEEPTTL"],
        [b"PEXPIREAT", b"a", b"%d" % (now + 20_000)],
        [b"PERSIST", b"a"],
        [b"PEXPIREAT", b"a", b"%d" % (now + 5000), b"NX"],
        [b"PEXPIREAT", b"a", b"%d" % (now + 7000), b"GT"],
        [b"PEXPIREAT", b"a", b"4000000000000"],
        [b"SET", b"a", b"1.5", b"KEEPTTL"],
        [b"SET", b"a", b"2"],
        [b"DEL", b"a"],
    ]


@pytest.mark.parametrize(("lazy", "word"), [("no", b"DEL"), ("yes", b"UNLINK")])
def test_a_time_in_the_past_is_logged_as_a_deletion(lazy: str, word: bytes) -> None:
    with LocalServer("--lazyfree-lazy-expire", lazy) as server:
        client = server.connect()
        client("MSET", "a", "1", "b", "2")
        reader = follow_log(server)
        assert client("GETEX", "a", "PXAT", 1) == b"1"
        assert client("EXPIRE", "b", -1) == 1
        assert client("EXISTS", "a", "b") == 0
        assert read_log(reader) == [[word, b"a"], [word, b"b"]]


def test_writing_to_an_expired_key_begins_anew(server: LocalServer) -> None:
    client = server.connect()
    for write, after in (
        (("INCR", "key"), b"1"),
        (("APPEND", "key", "x"), b"x"),
        (("SETNX", "key", "y"), b"y"),
        (("SETRANGE", "key", 1, "z"), b"\x00z"),
        (("SET", "key", "v", "KEEPTTL"), b"v"),
        (("SET", "key", "w", "NX"), b"w"),
    ):
        client("SET", "key", "5", "PX", 50)
        reader = follow_log(server)
        server.advance(0.06)
        client(*write)
        assert client("GET", "key") == after
        assert client("TTL", "key") == -1
        multi, deletion, logged, end = read_log(reader)
        assert (multi, deletion, end) == ([b"MULTI"], [b"DEL", b"key"], [b"EXEC"])
        assert logged[:2] == [str(write[0]).encode(), b"key"]
        server.engine.command_log.readers.clear()


def test_an_expired_key_that_may_not_go_is_overwritten(server: LocalServer) -> None:
    client = server.connect()
    client("SET", "key", "5", "PX", 50)
    server.advance(0.06)
    server.keyspace.hold_still(STILL_PAUSED, True)
    assert client("GET", "key") == NULL_BULK
    assert client("DBSIZE") == 1
    assert client("SET", "key", "6", "KEEPTTL") == OK
    assert client("GET", "key") == b"6"
    assert client("DBSIZE") == 1
    assert client("TTL", "key") == -1
    assert server.keyspace.used_memory == stored_memory(server)


# --- 7.2 -----------------------------------------------------------------------------------------


def test_bit_commands_look_at_the_arguments_first(server: LocalServer) -> None:
    client = server.connect()
    client("RPUSH", "list", "a")
    for key in ("none", "list"):
        assert client("BITCOUNT", key, "0") == SYNTAX_ERROR
        assert client("BITCOUNT", key, "0", "1", "x") == SYNTAX_ERROR
        assert client("BITCOUNT", key, "x", "1") == NOT_AN_INTEGER
        assert client("BITPOS", key, "1", "0", "1", "x") == SYNTAX_ERROR
        assert client("BITPOS", key, "1", "x") == NOT_AN_INTEGER
        assert client("BITPOS", key, "2") == Error(b"ERR The bit argument must be 1 or 0.")


# --- bits, against counting one by one -----------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 3, 8191, 8192, 8193, 30_000])
def test_bits_of_long_strings(server: LocalServer, size: int) -> None:
    client = server.connect()
    for text in (bytes(size), b"\xff" * size, bytes(i * 7 & 0xFF for i in range(size))):
        client("SET", "key", text)
        bits = "".join(f"{byte:08b}" for byte in text)
        assert client("BITCOUNT", "key") == bits.count("1")
        for start, end in ((0, -1), (3, -3), (9, 9), (size * 4, -1), (-9, -2), (size * 8, -1)):
            first = start if start >= 0 else max(len(bits) + start, 0)
            last = (end if end >= 0 else len(bits) + end) + 1
            assert client("BITCOUNT", "key", start, end, "BIT") == bits[first:last].count("1")
            for bit in "01":
                expected = bits.find(bit, first, last)
                assert client("BITPOS", "key", bit, start, end, "BIT") == expected
        if size:
            found = bits.find("0")
            assert client("BITPOS", "key", 0) == (len(bits) if found < 0 else found)
