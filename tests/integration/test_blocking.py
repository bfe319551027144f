"""Blocking commands over real connections: the same of our node and of the real server."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

import pytest

from tests.servers import Server
from tests.wire import NULL, NULL_ARRAY, OK, PONG, Argument, Client, Error, Reply, encode

WAIT_LIMIT = 20.0
UNBLOCKED = Error(b"UNBLOCKED client unblocked via CLIENT UNBLOCK")


@pytest.fixture(params=["node", "oracle"])
def server(request: pytest.FixtureRequest) -> Server:
    """Each of the two, empty."""
    server = request.getfixturevalue(request.param)
    assert isinstance(server, Server)
    return server


@pytest.fixture(params=["node", "oracle"])
def start(request: pytest.FixtureRequest) -> Callable[..., Server]:
    """What starts a server of the test's own, of either kind."""
    starter: Callable[..., Server] = request.getfixturevalue(f"start_{request.param}")
    return starter


def blocked_clients(client: Client) -> int:
    """How many clients wait, as INFO tells."""
    text = client("INFO", "clients")
    assert isinstance(text, bytes)
    (line,) = [line for line in text.splitlines() if line.startswith(b"blocked_clients:")]
    return int(line.partition(b":")[2])


def wait_for_blocked(client: Client, count: int) -> None:
    """Until so many clients wait."""
    deadline = time.monotonic() + WAIT_LIMIT
    while (found := blocked_clients(client)) != count:
        assert time.monotonic() < deadline, f"{found} clients wait instead of {count}"


def start_waiting(server: Server, onlooker: Client, *argv: str | int, protocol: int = 2) -> Client:
    """A new client that waits."""
    before = blocked_clients(onlooker)
    client = server.connect(protocol)
    client.send(*argv)
    wait_for_blocked(onlooker, before + 1)
    return client


def client_id(client: Client) -> int:
    """Which number the server gave it."""
    number = client("CLIENT", "ID")
    assert isinstance(number, int)
    return number


@pytest.mark.parametrize(
    ("protocol", "nothing"), [(2, NULL_ARRAY), (3, NULL)], ids=["resp2", "resp3"]
)
def test_timeouts(server: Server, protocol: int, nothing: Reply) -> None:
    with server.connect(protocol) as client:
        for argv, seconds in (
            (["BLPOP", "k", "0.001"], 0.001),
            (["BRPOP", "k", "l", "0.05"], 0.05),
            (["BLMOVE", "k", "l", "LEFT", "RIGHT", "0.1"], 0.1),
            (["BRPOPLPUSH", "k", "l", ".02"], 0.02),
            (["BLMPOP", "2e-2", "2", "k", "l", "LEFT"], 0.02),
        ):
            began = time.monotonic()
            assert client(*argv) == nothing
            assert seconds - 0.0015 <= time.monotonic() - began < WAIT_LIMIT


def test_timeouts_end_in_their_order(server: Server) -> None:
    with server.connect() as onlooker:
        clients = [
            start_waiting(server, onlooker, "BLPOP", "k", timeout) for timeout in ("4", "2.5", "1")
        ]
        assert clients[2].read() == NULL_ARRAY
        assert clients[1].read() == NULL_ARRAY
        assert clients[0].read() == NULL_ARRAY
        assert blocked_clients(onlooker) == 0
        for client in clients:
            client.close()


def test_many_are_served_in_order(server: Server) -> None:
    count = 300
    with server.connect() as pusher:
        clients: list[Client] = []
        for _ in range(count):
            clients.append(server.connect())
            clients[-1].send("BLPOP", "k", 0)
            if len(clients) % 50 == 1:
                # In each lot the first is known to be before the others, which come as one.
                wait_for_blocked(pusher, len(clients))
        wait_for_blocked(pusher, count)
        assert pusher("RPUSH", "k", *range(count - 1)) == count - 1
        replies = [client.read() for client in clients[:-50]]
        assert sorted(map(str, replies)) == sorted(
            str([b"k", b"%d" % i]) for i in range(count - 50)
        )
        for lot in range(0, count - 50, 50):
            assert replies[lot] == [b"k", b"%d" % lot]
        wait_for_blocked(pusher, 1)
        assert pusher("RPUSH", "k", "last") == 1
        wait_for_blocked(pusher, 0)
        for client in clients:
            client.close()


def test_further_requests_wait_as_well(server: Server) -> None:
    with server.connect() as client, server.connect() as pusher:
        requests: list[tuple[Argument, ...]] = [
            ("PING",),
            ("BLPOP", "k", 0),
            ("LLEN", "k"),
            ("BLMOVE", "k", "l", "LEFT", "LEFT", 0),
            ("LRANGE", "l", 0, -1),
            ("BLPOP", "k", "0.01"),
            ("PING", "end"),
        ]
        client.send_raw(b"".join(map(encode, requests)))
        assert client.read() == PONG
        wait_for_blocked(pusher, 1)
        # More of them, and a piece of one, while it waits.
        client.send("PING", "late")
        client.send_raw(b"*2\r\n$4\r\nPING\r\n$5\r\nla")
        assert not client.has_input()
        assert pusher("RPUSH", "k", "a") == 1
        assert client.read() == [b"k", b"a"]
        assert client.read() == 0
        wait_for_blocked(pusher, 1)
        assert not client.has_input()
        assert pusher("RPUSH", "k", "b") == 1
        assert client.read() == b"b"
        assert client.read() == [b"b"]
        assert client.read() == NULL_ARRAY
        assert client.read() == b"end"
        assert client.read() == b"late"
        client.send_raw(b"ter\r\n")
        assert client.read() == b"later"


def test_served_within_a_pipeline(server: Server) -> None:
    with server.connect() as pusher:
        client = start_waiting(server, pusher, "BLPOP", "k", 0)
        with client:
            requests: list[tuple[Argument, ...]] = [
                ("RPUSH", "k", "a"),
                ("LLEN", "k"),
                ("RPUSH", "k", "b"),
                ("LLEN", "k"),
            ]
            pusher.send_raw(b"".join(map(encode, requests)))
            assert [pusher.read() for _ in requests] == [1, 0, 1, 1]
            assert client.read() == [b"k", b"a"]


@pytest.mark.parametrize("how", ["close", "reset", "half"])
def test_gone_while_waiting(server: Server, how: str) -> None:
    with server.connect() as pusher:
        gone = start_waiting(server, pusher, "BLPOP", "k", 0)
        stays = start_waiting(server, pusher, "BLPOP", "k", 0)
        if how == "close":
            gone.close()
        elif how == "reset":
            linger = b"\1\0\0\0\0\0\0\0"
            gone.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            gone.close()
        else:
            gone.socket.shutdown(socket.SHUT_WR)
            assert gone.read_rest() == b""
        wait_for_blocked(pusher, 1)
        assert pusher("RPUSH", "k", "a", "b") == 2
        assert stays.read() == [b"k", b"a"]
        assert pusher("LRANGE", "k", 0, -1) == [b"b"]
        stays.close()


def test_gone_with_requests_left(server: Server) -> None:
    # What a client had sent behind a blocking command dies with it.
    with server.connect() as onlooker:
        client = server.connect()
        requests: list[tuple[Argument, ...]] = [("BLPOP", "k", 0), ("SET", "x", "1")]
        client.send_raw(b"".join(map(encode, requests)))
        wait_for_blocked(onlooker, 1)
        client.close()
        wait_for_blocked(onlooker, 0)
        onlooker("RPUSH", "k", "a")
        assert onlooker("LLEN", "k") == 1
        assert onlooker("EXISTS", "x") == 0


def test_unblocked_and_killed(server: Server) -> None:
    with server.connect() as other:
        ids: list[int] = []
        clients: list[Client] = []
        for argv in (
            ["BLPOP", "k", "0"],
            ["BLMOVE", "k", "l", "LEFT", "LEFT", "0"],
            ["BRPOP", "k", "100"],
        ):
            client = server.connect()
            ids.append(client_id(client))
            client.send(*argv)
            clients.append(client)
            wait_for_blocked(other, len(clients))
        assert other("CLIENT", "UNBLOCK", ids[0]) == 1
        assert clients[0].read() == NULL_ARRAY
        assert clients[0]("PING") == PONG
        assert other("CLIENT", "UNBLOCK", ids[1], "error") == 1
        assert clients[1].read() == UNBLOCKED
        assert clients[1]("PING") == PONG
        assert other("CLIENT", "UNBLOCK", ids[0]) == 0
        assert other("CLIENT", "KILL", "ID", ids[2]) == 1
        assert clients[2].read_rest() == b""
        wait_for_blocked(other, 0)
        assert other("RPUSH", "k", "a") == 1
        assert other("LLEN", "k") == 1
        for client in clients:
            client.close()


def test_a_transaction_that_serves(server: Server) -> None:
    with server.connect() as pusher:
        first = start_waiting(server, pusher, "BLPOP", "k", 0)
        second = start_waiting(server, pusher, "BRPOPLPUSH", "k", "l", 0)
        third = start_waiting(server, pusher, "BLPOP", "l", 0)
        assert pusher("MULTI") == OK
        for request in (["RPUSH", "k", "x"], ["LPUSH", "k", "y"], ["LLEN", "k"]):
            pusher(*request)
        assert pusher("EXEC") == [1, 2, 2]
        assert first.read() == [b"k", b"y"]
        assert second.read() == b"x"
        assert third.read() == [b"l", b"x"]
        for client in (first, second, third):
            client.close()


def test_waiting_does_not_hold_up_the_end(start: Callable[..., Server]) -> None:
    server = start()
    with server.connect() as onlooker:
        clients = [start_waiting(server, onlooker, "BLPOP", "k", 0) for _ in range(3)]
        assert onlooker.socket.fileno() >= 0
    assert server.process is not None
    server.process.terminate()
    server.process.wait(WAIT_LIMIT)
    for client in clients:
        assert client.read_rest() == b""
        client.close()


def test_a_client_that_waits_is_not_idle(start: Callable[..., Server]) -> None:
    # `timeout` closes idle clients, not those that wait.
    server = start("--timeout", "1")
    with server.connect() as waiting:
        began = time.monotonic()
        assert waiting("BLPOP", "k", "2.5") == NULL_ARRAY
        assert time.monotonic() - began > 2.4
        assert waiting("PING") == PONG


def test_what_a_waiting_client_sends_is_bounded(start: Callable[..., Server]) -> None:
    server = start("--client-query-buffer-limit", "1mb")
    with server.connect() as onlooker:
        client = start_waiting(server, onlooker, "BLPOP", "k", 0)
        request = encode(("SET", "x", "y" * 100_000))
        try:
            for _ in range(1000):
                client.send_raw(request)
        except OSError:
            pass
        else:
            pytest.fail("100 MB of requests were accepted from a client that waits")
        wait_for_blocked(onlooker, 0)
        assert onlooker("EXISTS", "x") == 0
        client.close()
