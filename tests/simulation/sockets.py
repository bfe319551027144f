"""The simulated network as a node sees it: sockets, a poller, streams.

Only what the hub and the link to a master ask of them is there.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Callable
from functools import partial
from typing import cast

import trio

from node.network import Network as NodeNetwork
from node.poller import READABLE, WRITABLE, Poller
from node.timer import Timer, TrioTimer
from tests.simulation.network import End, Listener, Network


class Descriptors:
    """The descriptors of one process: ends of connections and listeners by number."""

    def __init__(self) -> None:
        self.all: dict[int, End | Listener | _BellEnd] = {}
        self._next = 10000

    def add(self, what: End | Listener | _BellEnd) -> int:
        """The number of another one."""
        self._next += 1
        self.all[self._next] = what
        return self._next


class _Socket:
    """An end of a connection, with the interface of a non-blocking socket."""

    family = socket.AF_INET

    def __init__(self, end: End, descriptors: Descriptors) -> None:
        self.end = end
        self._descriptors = descriptors
        self._fileno = descriptors.add(end)
        self.recv = end.recv
        self.send = end.send

    def fileno(self) -> int:
        return self._fileno

    def setblocking(self, blocking: bool) -> None:
        assert not blocking

    def setsockopt(self, level: int, option: int, value: int) -> None:
        return None

    def getsockname(self) -> tuple[str, int]:
        return self.end.address

    def close(self) -> None:
        self._descriptors.all.pop(self._fileno, None)
        self.end.close()


class _SharedSocket(_Socket):
    """Another descriptor for the end of a connection that a stream has, and will close."""

    def shutdown(self, how: int) -> None:
        return None

    def close(self) -> None:
        self._descriptors.all.pop(self._fileno, None)


class _ListeningSocket:
    """A listener, with the interface of a non-blocking socket."""

    family = socket.AF_INET

    def __init__(self, listener: Listener, descriptors: Descriptors) -> None:
        self._listener = listener
        self._descriptors = descriptors
        self._fileno = descriptors.add(listener)

    def fileno(self) -> int:
        return self._fileno

    def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        end = self._listener.accept()
        return cast(socket.socket, _Socket(end, self._descriptors)), end.peer.address

    def close(self) -> None:
        self._descriptors.all.pop(self._fileno, None)
        self._listener.close()


class _BellEnd:
    """One of two sockets inside a process: what is sent is there at once."""

    def __init__(self, descriptors: Descriptors) -> None:
        self.peer = self
        self.rung = 0
        self.ready = _do_nothing
        self._fileno = descriptors.add(self)

    @property
    def readable(self) -> bool:
        return self.rung > 0

    def fileno(self) -> int:
        return self._fileno

    def send(self, data: bytes) -> int:
        self.peer.rung += len(data)
        self.peer.ready()
        return len(data)

    def recv(self, size: int) -> bytes:
        data = b"!" * min(size, self.rung)
        self.rung -= len(data)
        return data

    def close(self) -> None:
        return None


class _Poller:
    """Which of a process's descriptors are ready, in an order that ``draw`` decides."""

    def __init__(
        self, descriptors: Descriptors, draw: random.Random, spend: Callable[[], None]
    ) -> None:
        self._descriptors = descriptors
        self._draw = draw
        self._spend = spend
        self._wanted: dict[int, int] = {}
        self._told: set[int] = set()
        self._woken = trio.Event()

    def fileno(self) -> int:
        raise NotImplementedError

    def register(self, fd: int, events: int) -> None:
        self._wanted[fd] = events
        what = self._descriptors.all[fd]
        if fd not in self._told:
            # Somebody else may wait for it, too.
            self._told.add(fd)
            what.ready = partial(self._tell, what.ready)

    def modify(self, fd: int, events: int) -> None:
        self._wanted[fd] = events

    def unregister(self, fd: int) -> None:
        del self._wanted[fd]

    def poll(self, timeout: float) -> list[tuple[int, int]]:
        found = self._find()
        self._draw.shuffle(found)
        if not found:
            self._spend()
        return found

    def _find(self) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        for fd, wanted in self._wanted.items():
            what = self._descriptors.all[fd]
            ready = 0
            if isinstance(what, Listener):
                ready = READABLE if what.waiting else 0
            else:
                if wanted & READABLE and what.readable:
                    ready = READABLE
                if wanted & WRITABLE and isinstance(what, End) and what.writable:
                    ready |= WRITABLE
            if ready:
                found.append((fd, ready))
        return found

    def close(self) -> None:
        return None

    def _tell(self, other: Callable[[], None]) -> None:
        self._woken.set()
        other()

    async def wait(self) -> None:
        """Return when one is ready."""
        while not self._find():
            self._woken = trio.Event()
            await self._woken.wait()
        await trio.lowlevel.checkpoint()


class Stream(trio.abc.Stream):
    """An end of a connection as a trio stream."""

    def __init__(self, end: End) -> None:
        self.end = end
        self._woken = trio.Event()
        end.ready = self._wake

    def _wake(self) -> None:
        self._woken.set()

    async def _wait(self) -> None:
        self._woken = trio.Event()
        await self._woken.wait()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        rest = memoryview(data)
        while rest:
            if self.end.closed:
                raise trio.ClosedResourceError
            try:
                rest = rest[self.end.send(rest) :]
            except BlockingIOError:
                await self._wait()
            except OSError as error:
                raise trio.BrokenResourceError(str(error)) from error

    async def wait_send_all_might_not_block(self) -> None:
        while not self.end.writable:
            await self._wait()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        while True:
            if self.end.closed:
                raise trio.ClosedResourceError
            try:
                return self.end.recv(max_bytes or 65536)
            except BlockingIOError:
                await self._wait()
            except OSError as error:
                raise trio.BrokenResourceError(str(error)) from error

    async def aclose(self) -> None:
        self.end.close()
        self._wake()
        await trio.lowlevel.checkpoint()


async def open_stream(network: Network, source: str, host: str, port: int) -> Stream:
    """Connect. Raises ConnectionRefusedError; waits for ever for a host that is silent."""
    refused = False
    answered = trio.Event()

    def hear(end: End | None) -> None:
        nonlocal refused
        refused = end is None
        answered.set()

    end = network.connect(source, host, port, hear)
    try:
        await answered.wait()
    except BaseException:
        end.close()
        raise
    if refused:
        raise ConnectionRefusedError(111, "Connection refused")
    return Stream(end)


class HostNetwork(NodeNetwork):
    """What one process at ``host`` sees of the network.

    ``spend`` is called when the process has looked for something to do, and found nothing.
    """

    def __init__(
        self, network: Network, host: str, draw: random.Random, spend: Callable[[], None]
    ) -> None:
        self._spend = spend
        self._network = network
        self._host = host
        self._draw = draw
        self._descriptors = Descriptors()

    def listen(self, host: str, port: int, backlog: int) -> list[socket.socket]:
        listener = self._network.listen(self._host, port)
        return [cast(socket.socket, _ListeningSocket(listener, self._descriptors))]

    def listen_unix(self, path: str, permissions: int, backlog: int) -> socket.socket:
        raise NotImplementedError

    async def connect(self, host: str, port: int, source: str = "") -> trio.abc.Stream:
        return await open_stream(self._network, self._host, host, port)

    def share_socket(self, stream: trio.abc.Stream) -> socket.socket | None:
        assert isinstance(stream, Stream)
        return cast(socket.socket, _SharedSocket(stream.end, self._descriptors))

    def connect_blocking(self, host: str, port: int, timeout: float) -> socket.socket:
        raise NotImplementedError

    def open_timer(self) -> Timer:
        return TrioTimer()

    def open_poller(self) -> Poller:
        return _Poller(self._descriptors, self._draw, self._spend)

    async def wait_ready(self, poller: Poller) -> None:
        assert isinstance(poller, _Poller)
        await poller.wait()

    def pair(self) -> tuple[socket.socket, socket.socket]:
        one, other = _BellEnd(self._descriptors), _BellEnd(self._descriptors)
        one.peer = other
        other.peer = one
        return cast(socket.socket, one), cast(socket.socket, other)


def _do_nothing() -> None:
    return None
