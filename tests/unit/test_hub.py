"""The hub with real sockets: a bug costs one client its connection, and never the server."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio
import trio.lowlevel

from node.clock import SystemClock
from node.command import Command
from node.component import Component
from node.composition import compose
from node.config import make_config
from node.engine import STAGE_ACL
from node.hub import SHORT_READS
from node.log import Log
from node.network import SystemNetwork
from node.resp import Reply, encode_request
from node.server import Server
from node.session import CLASS_NORMAL, CLASS_REPLICA, Session
from tests.servers import free_port


class Faulty(Component):
    """Has a bug in its periodic work."""

    ticks = 0

    def tick(self, now_ns: int) -> None:
        self.ticks += 1
        raise ZeroDivisionError


@asynccontextmanager
async def serving(log: Path) -> AsyncIterator[tuple[Server, int]]:
    """A server in this process, and its port."""
    port = free_port()
    config = make_config()
    config.read_options([b"--port", b"%d" % port, b"--bind", b"127.0.0.1"])
    clock = SystemClock()
    server = compose(
        config,
        Log(clock, path=os.fspath(log)),
        clock,
        SystemNetwork(),
        lambda server, others: [Faulty(server.engine)],
    )
    ready = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: server.run(ready=ready.set))
        await ready.wait()
        yield server, port
        server.stop()


async def receive(stream: trio.SocketStream, size: int) -> bytes:
    """Exactly ``size`` bytes, or what came before the end."""
    data = b""
    while len(data) < size:
        part = await stream.receive_some(size - len(data))
        if not part:
            break
        data += bytes(part)
    return data


async def test_a_bug_costs_one_connection(tmp_path: Path) -> None:
    def fail(session: Session, command: Command, argv: list[bytes]) -> Reply:
        if command.name == b"echo":
            raise ZeroDivisionError
        return None

    log = tmp_path / "log"
    with trio.fail_after(30):
        async with serving(log) as (server, port):
            server.engine.add_guard(STAGE_ACL, fail)
            async with (
                await trio.open_tcp_stream("127.0.0.1", port) as other,
                await trio.open_tcp_stream("127.0.0.1", port) as unlucky,
            ):
                await other.send_all(b"PING\r\n")
                assert await receive(other, 7) == b"+PONG\r\n"
                await unlucky.send_all(encode_request([b"ECHO", b"x"]))
                assert await receive(unlucky, 1) == b""
                await other.send_all(b"PING\r\n")
                assert await receive(other, 7) == b"+PONG\r\n"
            faulty = next(c for c in server.engine.components if isinstance(c, Faulty))
            while faulty.ticks < 2:
                await trio.lowlevel.checkpoint()
    text = log.read_text()
    assert "after an unexpected error" in text
    assert "Unexpected error in the periodic work of Faulty" in text
    assert text.count("ZeroDivisionError") >= 3


async def test_a_pipeline_larger_than_all_buffers(tmp_path: Path) -> None:
    """Requests go on being read while the replies wait for a client that sends first."""
    count = 200_000
    request = encode_request([b"ECHO", b"x" * 40])
    reply = b"$40\r\n" + b"x" * 40 + b"\r\n"
    with trio.fail_after(60):
        async with (
            serving(tmp_path / "log") as (_, port),
            await trio.open_tcp_stream("127.0.0.1", port) as stream,
        ):
            await stream.send_all(request * count)
            data = await receive(stream, len(reply) * count)
    assert data == reply * count


async def test_a_large_request_after_many_small_ones(tmp_path: Path) -> None:
    """What a small buffer leaves in the socket is read, too; then small ones again."""
    async with (
        serving(tmp_path / "log") as (_, port),
        await trio.open_tcp_stream("127.0.0.1", port) as stream,
    ):
        with trio.fail_after(60):
            small = [10] * (SHORT_READS + 1)
            # The request of an ECHO of 426 fills the small buffer.
            for size in [*small, 425, *small, 426, *small, 427, *small, 100_000]:
                await stream.send_all(encode_request([b"ECHO", b"x" * size]))
                reply = b"$%d\r\n%b\r\n" % (size, b"x" * size)
                assert await receive(stream, len(reply)) == reply


async def test_a_half_closed_connection_gets_its_replies(tmp_path: Path) -> None:
    with trio.fail_after(30):
        async with (
            serving(tmp_path / "log") as (_, port),
            await trio.open_tcp_stream("127.0.0.1", port) as stream,
        ):
            await stream.send_all(b"PING\r\nPING\r\n")
            await stream.send_eof()
            assert await receive(stream, 15) == b"+PONG\r\n+PONG\r\n"


async def test_what_others_read_comes_among_the_requests(tmp_path: Path) -> None:
    """At once; while it rests, without the poller; and not any more when it is removed."""
    came: list[bytes] = []
    rested = trio.Event()
    with trio.fail_after(30):
        async with (
            serving(tmp_path / "log") as (server, port),
            await trio.open_tcp_stream("127.0.0.1", port) as client,
        ):
            end, inlet = server.network.pair()
            fd = inlet.fileno()

            def attend() -> bool:
                try:
                    came.append(inlet.recv(100))
                except BlockingIOError:
                    rested.set()
                    return False
                if came == [b"flow"]:
                    end.send(b"more")
                return came[-1] in (b"flow", b"more")

            server.hub.inlets.add(fd, attend)
            for data, expected in ((b"one", [b"one"]), (b"flow", [b"flow", b"more"])):
                came.clear()
                rested = trio.Event()
                end.send(data)
                while came != expected:
                    await trio.lowlevel.checkpoint()
            await rested.wait()
            end.send(b"again")
            while came[-1] != b"again":
                await trio.lowlevel.checkpoint()
            server.hub.inlets.remove(fd)
            end.send(b"lost")
            await client.send_all(b"PING\r\n")
            assert await receive(client, 7) == b"+PONG\r\n"
            assert came == [b"flow", b"more", b"again"]
            for sock in (end, inlet):
                sock.close()


async def test_the_stream_may_be_sent_in_larger_packets(tmp_path: Path) -> None:
    """repl-disable-tcp-nodelay is about the replicas' connections, and no others."""
    with trio.fail_after(30):
        async with (
            serving(tmp_path / "log") as (server, port),
            await trio.open_tcp_stream("127.0.0.1", port) as client,
            await trio.open_tcp_stream("127.0.0.1", port) as replica,
        ):
            await client.send_all(b"CONFIG SET repl-disable-tcp-nodelay yes\r\n")
            assert await receive(client, 5) == b"+OK\r\n"
            await replica.send_all(b"PSYNC ? -1\r\n")
            connections = server.hub.connections
            while not any(
                connection.session.client_class == CLASS_REPLICA
                for connection in connections.values()
            ):
                await trio.lowlevel.checkpoint()
            undelayed = {
                connection.session.client_class: connection.sock.getsockopt(
                    socket.IPPROTO_TCP, socket.TCP_NODELAY
                )
                for connection in connections.values()
            }
            assert undelayed == {CLASS_NORMAL: 1, CLASS_REPLICA: 0}
