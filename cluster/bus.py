"""The connections of the cluster bus: bytes to packets and back, for the machine.

Every link is served by two tasks, one that reads and one that writes. What the socket takes at once
is written at once, since waking a task costs an idle node more than the packet; the rest waits in
the link's queue. Packets that are sent while something is unsaved wait at the barrier until it is
on disk, in order, with all that come after them.
"""

from __future__ import annotations

import contextlib
import os
import socket
import traceback
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import trio

from cluster.machine import Link
from cluster.message import Malformed, Splitter, decode
from cluster.state import Node
from node.save_barrier import SaveBarrier

if TYPE_CHECKING:
    from cluster.machine import Machine
    from node.log import Log
    from node.network import Network

READ_SIZE: Final = 65536
BACKLOG: Final = 511
# Links that strangers may have open at once.
MOST_STRANGERS: Final = 1000
# How long a connection may take to come about.
CONNECT_SECONDS: Final = 30.0


class BusLink(Link):
    """A link and its queue. ``created`` is a machine's time."""

    def __init__(self, node: Node | None, inbound: bool, now: int) -> None:
        super().__init__(node, inbound, now)
        self.fd = -1  # a socket that may be written to
        self.queue: deque[bytes] = deque()
        self.queued = 0  # bytes that have not been written yet
        self.wake = trio.Event()
        self.scope = trio.CancelScope()


class Bus:
    """All links of a node.

    ``settled`` is called after whatever the machine has been told; ``now`` tells the machine's
    time. ``listeners`` are set before :meth:`run`. ``limit`` is ``cluster-link-sendbuf-limit``, in
    bytes, 0 for none.
    """

    def __init__(
        self, network: Network, log: Log, now: Callable[[], int], settled: Callable[[], None]
    ) -> None:
        self._network = network
        self._log = log
        self._now = now
        self._settled = settled
        self._machine: Machine | None = None
        self._nursery: trio.Nursery | None = None
        self.listeners: list[socket.socket] = []
        self.links: dict[BusLink, None] = {}
        self.limit = 0
        self.limit_exceeded = 0
        self.source_address = ""
        self.barrier: SaveBarrier[tuple[BusLink, bytes]] = SaveBarrier(self._queue)

    @property
    def machine(self) -> Machine:
        assert self._machine is not None
        return self._machine

    def serve(self, machine: Machine) -> None:
        """Whom to tell of what comes."""
        self._machine = machine

    @property
    def memory(self) -> int:
        """Bytes that wait on all links."""
        return sum(link.queued for link in self.links)

    # Sending.

    def send(self, link: Link, data: bytes) -> None:
        """Send a packet, when it may leave."""
        assert isinstance(link, BusLink)
        self.barrier.send((link, data))

    def _queue(self, packet: tuple[BusLink, bytes]) -> None:
        link, data = packet
        if link not in self.links:
            return
        if link.fd >= 0 and not link.queued:
            # Whoever reads or writes in a task finds out what an error is about.
            with contextlib.suppress(OSError):
                data = data[os.write(link.fd, data) :]
            if not data:
                return
        link.queue.append(data)
        link.queued += len(data)
        link.wake.set()
        if self.limit and link.queued > self.limit:
            self.limit_exceeded += 1
            name = link.node.name if link.node is not None else "unknown"
            self._log.warning(
                f"Freeing {'inbound' if link.inbound else 'outbound'} cluster link to node {name}, "
                f"exceeded memory limit. (Channel size {link.queued} bytes)"
            )
            self.close(link)
            self.machine.link_lost(link, self._now())

    # Links.

    def open(self, node: Node) -> BusLink:
        """Begin to connect to a node."""
        link = BusLink(node, False, self._now())
        self.links[link] = None
        assert self._nursery is not None
        self._nursery.start_soon(self._connect, link, node.ip, node.bus_port)
        return link

    def close(self, link: Link) -> None:
        """Let go of a link, without telling the machine."""
        assert isinstance(link, BusLink)
        self.links.pop(link, None)
        link.fd = -1
        link.queue.clear()
        link.queued = 0
        link.scope.cancel()

    def _lose(self, link: BusLink) -> None:
        """A link is over: tell the machine, unless it has let go of it by itself."""
        if link in self.links:
            self.close(link)
            self.machine.link_lost(link, self._now())
            self._settled()

    # Tasks.

    async def run(self) -> None:
        """Serve all links."""
        try:
            async with trio.open_nursery() as self._nursery:
                for listener in self.listeners:
                    sock = trio.socket.from_stdlib_socket(listener)
                    self._nursery.start_soon(self._accept, sock)
        finally:
            for listener in self.listeners:
                listener.close()

    async def _accept(self, listener: trio.socket.SocketType) -> None:
        assert self._nursery is not None
        while True:
            try:
                sock, _ = await listener.accept()
            except OSError as error:
                self._log.verbose(f"Error accepting cluster node: {error.strerror}")
                await trio.sleep(0.1)  # out of descriptors, most likely
                continue
            strangers = sum(link.inbound and link.node is None for link in self.links)
            if strangers >= MOST_STRANGERS:
                sock.close()
                continue
            link = BusLink(None, True, self._now())
            self.links[link] = None
            self._nursery.start_soon(self._admit, link, trio.SocketStream(sock))

    async def _connect(self, link: BusLink, host: str, port: int) -> None:
        try:
            with link.scope:
                try:
                    with trio.fail_after(CONNECT_SECONDS):
                        stream = await self._network.connect(host, port, self.source_address)
                except (OSError, trio.TooSlowError) as error:
                    reason = getattr(error, "strerror", None) or "timed out"
                    self._log.debug(
                        f"Unable to connect to Cluster Node [{host}]:{port} -> {reason}"
                    )
                else:
                    await self._serve(link, stream)
        finally:
            self._lose(link)

    async def _admit(self, link: BusLink, stream: trio.abc.Stream) -> None:
        try:
            with link.scope:
                await self._serve(link, stream)
        finally:
            self._lose(link)

    async def _serve(self, link: BusLink, stream: trio.abc.Stream) -> None:
        """Read and write until the link breaks."""
        if link not in self.links:
            await trio.aclose_forcefully(stream)
            return
        if isinstance(stream, trio.SocketStream):
            link.fd = stream.socket.fileno()
            with contextlib.suppress(OSError):
                link.peer = _host_of(stream.socket.getpeername())
                link.local = _host_of(stream.socket.getsockname())
        try:
            self.machine.link_opened(link, self._now())
            self._settled()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, link, stream)
                await self._read(link, stream)
                nursery.cancel_scope.cancel()
        finally:
            link.fd = -1
            await trio.aclose_forcefully(stream)

    async def _read(self, link: BusLink, stream: trio.abc.Stream) -> None:
        splitter = Splitter()
        machine = self.machine
        while data := await _receive(link.fd, stream):
            if link not in self.links:
                return  # closed while this task was about to run
            try:
                packets = splitter.feed(data)
            except Malformed as error:
                machine.counts.malformed += 1
                self._log.warning(str(error))
                return
            for raw in packets:
                try:
                    packet = decode(raw)
                except Malformed as error:
                    machine.counts.malformed += 1
                    self._log.verbose(f"Dropped a packet of the cluster bus: {error}")
                    continue
                try:
                    machine.receive(link, packet, self._now())
                    self._settled()
                except Exception:
                    # A bug costs this link, which will be made anew, and not the node.
                    self._log.warning(
                        f"Unexpected error in the cluster bus:\n{traceback.format_exc()}"
                    )
                    return
                if link not in self.links:
                    return

    async def _write(self, link: BusLink, stream: trio.abc.Stream) -> None:
        while True:
            await link.wake.wait()
            link.wake = trio.Event()
            while link.queue:
                data = b"".join(link.queue)
                link.queue.clear()
                try:
                    await stream.send_all(data)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    link.scope.cancel()
                    return
                link.queued -= len(data)


async def _receive(fd: int, stream: trio.abc.Stream) -> bytes:
    """What comes next on a stream, a socket if ``fd`` says so; nothing where it is over."""
    try:
        if fd < 0:
            return bytes(await stream.receive_some(READ_SIZE))
        while True:
            await trio.lowlevel.wait_readable(fd)
            with contextlib.suppress(BlockingIOError):
                return os.read(fd, READ_SIZE)
    except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
        return b""


def _host_of(address: object) -> str:
    assert isinstance(address, tuple)
    host = str(address[0])
    # An IPv4 client of an IPv6 socket.
    return host.removeprefix("::ffff:") if "." in host else host
