"""A started process answers as a server should."""

from __future__ import annotations

from tests.servers import Server
from tests.wire import NULL, NULL_BULK, OK, PONG, Client


def test_ping(client: Client) -> None:
    assert client("PING") == PONG
    assert client("PING", "hello") == b"hello"


def test_null_of_each_protocol(client: Client, protocol: int) -> None:
    assert client("GET", "missing") == (NULL if protocol == 3 else NULL_BULK)


def test_inline_commands(node: Server) -> None:
    with node.connect() as client:
        client.send_raw(b"SET key 'a value'\r\nGET key\n")
        assert client.read() == OK
        assert client.read() == b"a value"
