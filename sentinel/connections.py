"""The connections that a sentinel opens: requests out, answers and messages in, for the machine.

Each half of a link is a connection of its own, served by two tasks, one that reads and one that
writes. What is sent while something is unsaved waits at the barrier until it is on disk. What tells
nothing (PING, INFO, AUTH …) need not wait: a sentinel whose disk is full goes on watching, though
it neither votes nor leads.
"""

from __future__ import annotations

import contextlib
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

import hiredis
import trio

from node.network import describe_failure
from node.resp import Error, Reply, encode_request
from node.save_barrier import SaveBarrier

if TYPE_CHECKING:
    from node.log import Log
    from node.network import Network
    from sentinel.machine import Half, Machine, Request
    from sentinel.state import Link

READ_SIZE: Final = 65_536
# A lost SYN is sent again after 1, 3, 7 … seconds: who has come back is reached sooner by another.
CONNECT_SECONDS: Final = 3.0
CLOSED: Final = "closed"
# What an answer may be at most; the longest by far is that to INFO.
LARGEST_REPLY: Final = 16 * 1024 * 1024
UNEXPECTED: Final = "unexpected error"
# What gives nothing away of what the sentinel knows, by the first word or the first two.
HARMLESS: Final = frozenset(((b"PING",), (b"INFO",), (b"AUTH",), (b"CLIENT", b"SETNAME")))


class _ErrorReply(Exception):
    """What the reader makes of an error."""


class Connection:
    """One half of a link. ``asked`` are the requests that have not been answered."""

    def __init__(self, link: Link, half: Half) -> None:
        self.link = link
        self.half = half
        self.asked: deque[Request] = deque()
        self.queue: deque[bytes] = deque()
        self.wake = trio.Event()
        self.scope = trio.CancelScope()
        self.local_ip = ""


class Connections:
    """All connections to masters, replicas and other sentinels.

    ``settled`` is called after whatever the machine has been told; ``now`` tells the machine's
    time.
    """

    def __init__(
        self, network: Network, log: Log, now: Callable[[], int], settled: Callable[[], None]
    ) -> None:
        self.source_address = ""
        self._network = network
        self._log = log
        self._now = now
        self._settled = settled
        self._machine: Machine | None = None
        self._nursery: trio.Nursery | None = None
        self._open: dict[tuple[int, Half], Connection] = {}
        self.barrier: SaveBarrier[tuple[Connection, Request]] = SaveBarrier(_post)

    @property
    def machine(self) -> Machine:
        assert self._machine is not None
        return self._machine

    def serve(self, machine: Machine) -> None:
        """Whom to tell of what comes."""
        self._machine = machine

    # Sending.

    def send(self, link: Link, request: Request) -> None:
        """Send a request, when it may leave; without a connection it is lost."""
        connection = self._open.get((id(link), "commands"))
        if connection is None:
            return
        words = tuple(word.upper() for word in request.argv[:2])
        harmless = words in HARMLESS or words[:1] in HARMLESS
        if harmless and not request.follows:
            _post((connection, request))
        else:
            self.barrier.send((connection, request))

    def subscribe(self, link: Link, argv: Sequence[bytes]) -> None:
        """Send something on the half for messages."""
        connection = self._open.get((id(link), "messages"))
        if connection is not None:
            _queue(connection, argv)

    def local_ip(self, link: Link) -> str:
        """Our own address on the connection for commands, "" if it is not open."""
        connection = self._open.get((id(link), "commands"))
        return "" if connection is None else connection.local_ip

    # Opening and closing.

    def open(self, link: Link, half: Half) -> None:
        """Begin to connect, unless that is under way."""
        if (id(link), half) in self._open:
            return
        connection = Connection(link, half)
        self._open[id(link), half] = connection
        assert self._nursery is not None
        self._nursery.start_soon(self._run, connection, link.address.ip, link.address.port)

    def close(self, link: Link, half: Half) -> None:
        """Let go of a connection, without telling the machine."""
        connection = self._open.pop((id(link), half), None)
        if connection is not None:
            connection.scope.cancel()
            self.barrier.drop(lambda sent: sent[0] is connection)

    def _is_current(self, connection: Connection) -> bool:
        return self._open.get((id(connection.link), connection.half)) is connection

    # Tasks.

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve all connections; it has started once they may be opened."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            await trio.sleep_forever()

    async def _run(self, connection: Connection, ip: str, port: int) -> None:
        reason = CLOSED
        try:
            with connection.scope:
                reason = await self._connect(connection, ip, port)
        finally:
            if self._is_current(connection):
                del self._open[id(connection.link), connection.half]
                with self._survive():
                    self.machine.lost(connection.link, connection.half, reason, self._now())
                    self._settled()

    @contextlib.contextmanager
    def _survive(self) -> Iterator[None]:
        """A bug costs a connection, which will be made anew, and not the sentinel."""
        try:
            yield
        except Exception:
            self._log.warning(f"Unexpected error in the sentinel:\n{traceback.format_exc()}")

    async def _connect(self, connection: Connection, ip: str, port: int) -> str:
        """Connect and serve until the connection is over; the reason."""
        try:
            with trio.fail_after(CONNECT_SECONDS):
                stream = await self._network.connect(ip, port, self.source_address)
        except OSError as error:
            return describe_failure(error)
        except trio.TooSlowError:
            return "Connection timed out"
        except ValueError as error:  # a name that cannot be one
            return str(error)
        try:
            if not self._is_current(connection):
                return CLOSED
            if isinstance(stream, trio.SocketStream):
                connection.local_ip = str(stream.socket.getsockname()[0])
            reason = UNEXPECTED
            with self._survive():
                self.machine.opened(connection.link, connection.half, self._now())
                self._settled()
                reason = ""
            if reason:
                return reason
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, connection, stream)
                reason = await self._read(connection, stream)
                nursery.cancel_scope.cancel()
            return reason
        finally:
            await trio.aclose_forcefully(stream)

    async def _read(self, connection: Connection, stream: trio.abc.Stream) -> str:
        reader = hiredis.Reader(replyError=_ErrorReply, protocolError=ValueError)
        unread = 0
        while True:
            try:
                data = await stream.receive_some(READ_SIZE)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                cause = error.__cause__
                return describe_failure(cause) if isinstance(cause, OSError) else "broken"
            if not data:
                return "Server closed the connection"
            if not self._is_current(connection):
                # Closed while this task was about to run: the link may lead elsewhere by now.
                return CLOSED
            reader.feed(bytes(data))
            unread += len(data)
            try:
                while (reply := reader.gets()) is not False:
                    unread = 0
                    reason = UNEXPECTED
                    with self._survive():
                        reason = self._take(connection, _convert(reply))
                    if reason or not self._is_current(connection):
                        return reason
            except ValueError as error:
                return f"Protocol error: {error}"
            if unread > LARGEST_REPLY:
                return "Protocol error: too long an answer"
            with self._survive():
                self._settled()

    def _take(self, connection: Connection, reply: Reply) -> str:
        """An answer or a message has come in whole; why the connection is of no use any more."""
        link = connection.link
        if connection.half == "commands":
            if not connection.asked:
                return "Protocol error: an answer that nothing was asked for"
            self.machine.answered(link, connection.asked.popleft(), reply, self._now())
        elif isinstance(reply, list) and len(reply) == 3 and reply[0] == b"message":
            channel, payload = reply[1:]
            if isinstance(channel, bytes) and isinstance(payload, bytes):
                self.machine.heard(link, channel, payload, self._now())
        return ""

    async def _write(self, connection: Connection, stream: trio.abc.Stream) -> None:
        while True:
            await connection.wake.wait()
            connection.wake = trio.Event()
            while connection.queue:
                data = b"".join(connection.queue)
                connection.queue.clear()
                try:
                    await stream.send_all(data)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    return  # who reads will see it, too


def _convert(reply: Reply) -> Reply:
    if isinstance(reply, _ErrorReply):
        return Error(str(reply).encode(errors="surrogateescape"))
    if isinstance(reply, list):
        return [_convert(item) for item in reply]
    return reply


def _post(sent: tuple[Connection, Request]) -> None:
    connection, request = sent
    connection.asked.append(request)
    _queue(connection, request.argv)


def _queue(connection: Connection, argv: Sequence[bytes]) -> None:
    connection.queue.append(encode_request(list(argv)))
    connection.wake.set()
