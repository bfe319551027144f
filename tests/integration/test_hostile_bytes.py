"""Hostile bytes: whatever comes in, the server lives, serves others and stays small."""

from __future__ import annotations

import random
import select
import socket
from collections.abc import Callable
from typing import Final

import psutil
import pytest

from tests.servers import Server
from tests.wire import OK, Client, Closed, Error, encode

# Nothing here, nor what becomes of it, is a wish that a server should fulfil and that would hurt:
# to shut down, to pause, to reply with a million elements, to allocate half a gigabyte.
REQUESTS: Final = [
    encode(words.encode().split(b" "))
    for words in (
        "SET key value",
        "SET key value EX 100 NX",
        "GET key",
        "MSET a 1 b 2",
        "INCR counter",
        "APPEND key value",
        "RPUSH list a b c",
        "LRANGE list 0 -1",
        "LINSERT list BEFORE a x",
        "BLPOP nothing 0",
        "HSET hash a 1 b 2",
        "HGETALL hash",
        "SADD set a b c",
        "SINTERCARD 2 set set LIMIT 1",
        "ZADD zset 1 a 2 b",
        "ZRANGE zset (1 +inf BYSCORE LIMIT 0 5",
        "ZUNIONSTORE dst 2 zset zset WEIGHTS 1 2 AGGREGATE MAX",
        "SORT list BY w_* GET # ALPHA",
        "SCAN 0 MATCH * COUNT 10",
        "EXPIRE key 100",
        "COPY key copy",
        "MULTI",
        "EXEC",
        "WATCH key",
        "SUBSCRIBE channel",
        "PSUBSCRIBE c*",
        "PUBLISH channel message",
        "UNSUBSCRIBE",
        "HELLO 3",
        "HELLO 2 SETNAME me",
        "AUTH user password",
        "CLIENT LIST",
        "CLIENT SETNAME name",
        "COMMAND INFO get",
        "COMMAND GETKEYS MSET a 1 b 2",
        "CONFIG GET *",
        "INFO",
        "OBJECT ENCODING key",
        "RESET",
        "QUIT",
        "PING",
    )
]
INLINE: Final = [b"PING\r\n", b"SET 'a b' \"\\x41\"\r\n", b"GET key\n", b"\r\n", b'SET "open\r\n']
FRAMING: Final = [
    b"*",
    b"$",
    b"\r\n",
    b"*-1\r\n",
    b"*0\r\n",
    b"*1000000\r\n",
    b"*2147483647\r\n",
    b"*2147483648\r\n",
    b"*99999999999999999999\r\n",
    b"*3\r\n$3\r\nSET\r\n",
    b"$-1\r\n",
    b"$536870912\r\n",
    b"$536870913\r\n",
    b"*2\r\n$3\r\nGET\r\n$500000000\r\n",
    b"*1\r\n:1\r\n",
    b"*1\r\n+PING\r\n",
    b"*1\r\n*1\r\n$4\r\nPING\r\n",
    b"_\r\n",
    b"%1\r\n",
    b"\x00",
    b"\xff\xfe",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST / HTTP/1.1\r\n",
]
CONNECTIONS: Final = 80
GROWTH_LIMIT: Final = 100 * 2**20


def hostile_stream(chance: random.Random) -> bytes:
    """Requests, damaged ones, and noise."""
    parts: list[bytes] = []
    for _ in range(chance.randint(1, 12)):
        kind = chance.random()
        if kind < 0.35:
            parts.append(chance.choice(REQUESTS))
        elif kind < 0.75:
            parts.append(damaged(chance, chance.choice(REQUESTS + INLINE)))
        elif kind < 0.85:
            parts.append(chance.choice(FRAMING))
        elif kind < 0.93:
            parts.append(chance.choice(INLINE))
        else:
            parts.append(chance.randbytes(chance.randint(1, 300)))
    return b"".join(parts)


def damaged(chance: random.Random, request: bytes) -> bytes:
    """A request with a few mistakes."""
    data = bytearray(request)
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(6):
            case 0:
                del data[at : at + chance.randint(1, 4)]
            case 1:
                data[at:at] = chance.choice(FRAMING)
            case 2:
                data[at:at] = chance.randbytes(chance.randint(1, 4))
            case 3:
                data[at : at + 1] = bytes([chance.randrange(256)])
            case 4:
                del data[at:]
            case _:
                data[at:at] = data[: chance.randint(1, 40)]
        if not data:
            data += b"*"
    return bytes(data)


def send_in_fragments(chance: random.Random, connection: socket.socket, data: bytes) -> None:
    """Send piece by piece, reading now and then what comes, until the server has had enough."""
    connection.setblocking(False)
    at = 0
    try:
        while at < len(data):
            readable, writable, _ = select.select([connection], [connection], [], 5.0)
            assert readable or writable, "the server reads no more"
            if readable and chance.random() < 0.7 and not connection.recv(65536):
                return
            if writable:
                size = chance.choice([1, 2, 3, 7, 50, 1000, len(data)])
                at += connection.send(data[at : at + size])
    except (ConnectionResetError, BrokenPipeError):
        return


def still_serves(client: Client, number: int) -> None:
    """Another client gets right answers."""
    value = f"value {number}"
    assert client("SET", "bystander", value) == OK
    assert client("GET", "bystander") == value.encode()


@pytest.mark.parametrize("seed", range(6))
def test_random_and_mutated_requests(start_node: Callable[..., Server], seed: int) -> None:
    node = start_node()
    chance = random.Random(seed)
    bystander = node.connect()
    still_serves(bystander, -1)
    process = psutil.Process(node.pid)
    before = process.memory_info().rss
    open_ones: list[socket.socket] = []
    for number in range(CONNECTIONS):
        connection = socket.create_connection(node.address)
        send_in_fragments(chance, connection, hostile_stream(chance))
        # Some go at once, some rudely, some stay open with half a request.
        match chance.randrange(3):
            case 0:
                open_ones.append(connection)
            case 1:
                connection.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00"
                )
                connection.close()
            case _:
                connection.close()
        still_serves(bystander, number)
    for connection in open_ones:
        connection.close()
    still_serves(bystander, CONNECTIONS)
    grown = process.memory_info().rss - before
    assert grown < GROWTH_LIMIT, f"grew by {grown / 2**20:.0f} MiB"
    assert "Traceback" not in node.log, node.log
    bystander.close()


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"*abc\r\n", b"ERR Protocol error: invalid multibulk length"),
        (b"*2147483648\r\n", b"ERR Protocol error: invalid multibulk length"),
        (b"*1\r\nPING\r\n", b"ERR Protocol error: expected '$', got 'P'"),
        (b"*1\r\n$abc\r\n", b"ERR Protocol error: invalid bulk length"),
        (b"*1\r\n$-5\r\n", b"ERR Protocol error: invalid bulk length"),
        (b"*1\r\n$536870913\r\n", b"ERR Protocol error: invalid bulk length"),
        (b"SET 'open\r\n", b"ERR Protocol error: unbalanced quotes in request"),
        (b"x" * 70_000, b"ERR Protocol error: too big inline request"),
        (b"*" + b"1" * 70_000, b"ERR Protocol error: too big mbulk count string"),
        (b"*1\r\n$" + b"1" * 70_000, b"ERR Protocol error: too big bulk count string"),
    ],
)
def test_protocol_errors_close(node: Server, data: bytes, text: bytes) -> None:
    with node.connect() as client:
        client.send_raw(data)
        assert client.read() == Error(text)
        assert client.read_rest() == b""


def test_what_came_before_a_protocol_error_is_answered(node: Server) -> None:
    with node.connect() as client:
        client.send_raw(encode([b"SET", b"k", b"v"]) + encode([b"GET", b"k"]) + b"*x\r\n")
        assert client.read() == OK
        assert client.read() == b"v"
        assert client.read() == Error(b"ERR Protocol error: invalid multibulk length")
        with pytest.raises(Closed):
            client.read()


@pytest.mark.parametrize("word", [b"POST / HTTP/1.1\r\n", b"Host: somewhere\r\n"])
def test_http_requests_are_dropped(node: Server, word: bytes) -> None:
    with node.connect() as client:
        client.send_raw(word + b"SET crossed 1\r\n")
        assert client.read_rest() == b""
    with node.connect() as client:
        assert client("EXISTS", "crossed") == 0


def test_empty_and_null_requests_are_passed_over(node: Server) -> None:
    with node.connect() as client:
        client.send_raw(b"\r\n\r\n*0\r\n*-1\r\n" + encode([b"ECHO", b"x"]))
        assert client.read() == b"x"


def test_byte_by_byte(node: Server) -> None:
    with node.connect() as client:
        for byte in encode([b"SET", b"key", b"a\r\nb"]) + b"GET key\r\n":
            client.send_raw(bytes([byte]))
        assert client.read() == OK
        assert client.read() == b"a\r\nb"


def test_long_pipeline_with_a_slow_reader(node: Server) -> None:
    count = 30_000
    value = b"v" * 100
    whole = b"$%d\r\n%s\r\n" % (len(value), value)
    with node.connect(timeout=60.0) as client:
        assert client("SET", "key", value) == OK
        # All is sent before anything is read: the server has to keep what the socket cannot take.
        client.send_raw(encode([b"GET", b"key"]) * count)
        received = b""
        while len(received) < len(whole) * count:
            data = client.socket.recv(1 << 20)
            assert data
            received += data
    assert received == whole * count


def test_half_closed_socket_gets_its_replies(node: Server) -> None:
    with node.connect() as client:
        client.send_raw(encode([b"PING"]) * 100)
        client.socket.shutdown(socket.SHUT_WR)
        assert client.read_rest() == b"+PONG\r\n" * 100


def test_big_values(node: Server) -> None:
    value = bytes(range(256)) * 40_000
    with node.connect(timeout=60.0) as client:
        assert client("SET", "big", value) == OK
        assert client("GET", "big") == value
        assert client("STRLEN", "big") == len(value)
