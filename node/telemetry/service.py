"""The HTTP server: connections, their limits, and what is asked for.

Nobody who asks here may hold up the server's clients: the work is done in the same thread, in
portions of well under a millisecond, between which everybody else has a turn; one scrape is made at
a time; and there are few connections, none of which may take its time.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import trio

from node.telemetry.exposition import CONTENT_TYPE, render
from node.telemetry.http import (
    NOT_FOUND,
    OK,
    REQUEST_TIMEOUT,
    UNAVAILABLE,
    Answer,
    Conversation,
    Refused,
)

if TYPE_CHECKING:
    from node.log import Log
    from node.telemetry.samples import Sample

MOST_CONNECTIONS: Final = 32
IDLE_SECONDS: Final = 300.0
"""How long a connection may say nothing; Prometheus keeps one between its scrapes."""
HEAD_SECONDS: Final = 10.0
"""How long a request may take to come, and its answer to be taken."""
READ_SIZE: Final = 8192
PORTION_SECONDS: Final = 0.0005

INDEX: Final = b"""\
/metrics  for Prometheus
/healthz  200 while the process does its work
/readyz   200 while clients should be sent here, 503 and the reason otherwise
"""

Pause = Callable[[], Awaitable[None]]


class Portions:
    """Lets others have their turn when the present portion of work has taken long enough."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    async def pause(self) -> None:
        """Called between two small pieces of work."""
        if time.perf_counter() - self._began >= PORTION_SECONDS:
            await trio.lowlevel.checkpoint()
            self._began = time.perf_counter()


class _Connection:
    """One connection; ``idle`` while it waits for a request to begin."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.idle = True


class Service:
    """Serves listening sockets until it is cancelled.

    ``collect`` makes the samples of a scrape and awaits the pause that it is given in between;
    ``find_obstacle`` tells why the server is not ready, if it is not.
    """

    def __init__(
        self,
        log: Log,
        collect: Callable[[Pause], Awaitable[list[Sample]]],
        find_obstacle: Callable[[], str],
    ) -> None:
        self._log = log
        self._collect = collect
        self._find_obstacle = find_obstacle
        self.connections: dict[_Connection, None] = {}
        self._one_scrape = trio.Lock()
        self._descriptors: set[int] = set()

    def abandon(self) -> None:
        """In a forked child: let go of all sockets, which are the parent's."""
        for descriptor in self._descriptors:
            with contextlib.suppress(OSError):
                os.close(descriptor)

    async def run(self, listeners: list[socket.socket]) -> None:
        """Serve; the sockets are closed in the end."""
        try:
            async with trio.open_nursery() as nursery:
                for listener in listeners:
                    self._descriptors.add(listener.fileno())
                    nursery.start_soon(
                        self._accept, trio.socket.from_stdlib_socket(listener), nursery
                    )
        finally:
            for listener in listeners:
                self._descriptors.discard(listener.fileno())
                listener.close()

    async def _accept(self, listener: trio.socket.SocketType, nursery: trio.Nursery) -> None:
        while True:
            try:
                sock, _ = await listener.accept()
            except OSError as error:
                self._log.verbose(f"Error accepting a scrape: {error.strerror}")
                await trio.sleep(0.1)  # out of descriptors, most likely
                continue
            if len(self.connections) >= MOST_CONNECTIONS:
                self._make_room()
            connection = _Connection()
            self.connections[connection] = None
            nursery.start_soon(self._serve, connection, trio.SocketStream(sock))

    def _make_room(self) -> None:
        """Cut off who has been idle for longest, or else who came first."""
        connections = list(self.connections)
        idle = [connection for connection in connections if connection.idle]
        connection = (idle or connections)[0]
        del self.connections[connection]
        connection.scope.cancel()

    async def _serve(self, connection: _Connection, stream: trio.SocketStream) -> None:
        descriptor = stream.socket.fileno()
        self._descriptors.add(descriptor)
        try:
            with connection.scope, contextlib.suppress(trio.BrokenResourceError):
                await self._converse(connection, stream)
        finally:
            self._descriptors.discard(descriptor)
            self.connections.pop(connection, None)
            await trio.aclose_forcefully(stream)

    async def _converse(self, connection: _Connection, stream: trio.SocketStream) -> None:
        conversation = Conversation()
        while not conversation.over:
            try:
                path = await self._await_path(connection, conversation, stream)
                answer = None if path is None else await self._answer(path)
            except Refused as refusal:
                data = conversation.answer(refusal.answer, last=True)
                conversation.over = True
            else:
                if answer is None:
                    return
                data = conversation.answer(answer)
            with trio.move_on_after(HEAD_SECONDS) as limit:
                await stream.send_all(data)
            if limit.cancelled_caught:
                return
            # Who is idle for longest is first.
            if connection in self.connections:
                del self.connections[connection]
                self.connections[connection] = None

    async def _await_path(
        self, connection: _Connection, conversation: Conversation, stream: trio.SocketStream
    ) -> str | None:
        """The next request's path; None when there is none to come. Raises Refused."""
        path = conversation.next_path()
        connection.idle = not conversation.begun
        deadline = trio.current_time() + (IDLE_SECONDS if connection.idle else HEAD_SECONDS)
        while path is None and not conversation.over:
            with trio.move_on_at(deadline) as limit:
                data = bytes(await stream.receive_some(READ_SIZE))
            if limit.cancelled_caught:
                if connection.idle:
                    return None
                raise Refused(REQUEST_TIMEOUT, "The request took too long to come.")
            if connection.idle and data:
                connection.idle = False
                deadline = trio.current_time() + HEAD_SECONDS
            conversation.receive(data)
            path = conversation.next_path()
        connection.idle = False
        return path

    async def _answer(self, path: str) -> Answer:
        if path == "/metrics":
            async with self._one_scrape:
                return Answer(OK, await self._scrape(), CONTENT_TYPE)
        if path == "/healthz":
            return Answer(OK, b"ok\n")
        if path == "/readyz":
            obstacle = self._find_obstacle()
            if obstacle:
                return Answer(UNAVAILABLE, f"not ready: {obstacle}\n".encode())
            return Answer(OK, b"ok\n")
        if path == "/":
            return Answer(OK, INDEX)
        return Answer(NOT_FOUND, b"There is /metrics, /healthz and /readyz.\n")

    async def _scrape(self) -> bytes:
        portions = Portions()
        parts: list[bytes] = []
        for part in render(await self._collect(portions.pause)):
            parts.append(part)
            await portions.pause()
        return b"".join(parts)
