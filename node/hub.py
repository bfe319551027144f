"""All client sockets, multiplexed by one task.

The hub owns a poller (epoll) with all sockets in it; the server's task waits through trio until one
of these is ready and then calls :meth:`Hub.serve`. Here nothing awaits: the hub serves
whatever is ready without any task switch, as Redis's event loop does: read what is there, execute
it, and when all ready sockets have been read, send the replies. Between the two stand the
*barriers*: what must be true before a client may read its reply (the append-only file is synced,
say) is made true once for the whole batch.

While there is work the hub does not go back to the task for every batch. It polls again, waiting
up to a millisecond itself, since a busy client's next request is usually nearer than that; but it
lets the other tasks run at least every two milliseconds: each such pause costs the clients some
50 µs.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import traceback
from collections import deque
from collections.abc import Callable
from typing import Final

from node.engine import Engine
from node.inlets import Inlets
from node.poller import READABLE, WRITABLE, Poller
from node.resp import RequestParser, encode_error
from node.session import (
    CLASS_NORMAL,
    CLASS_PUBSUB,
    GATE_SUBSCRIBED,
    Session,
)

READ_SIZE: Final = 16 * 1024  # PROTO_IOBUF_LEN
LARGE_READ_SIZE: Final = 1024 * 1024
# A client of which so many reads in a row were short is read with a buffer that Python's own
# allocator gives, which is faster; what is more than that the poller tells of once more.
SHORT_READ_SIZE: Final = 448
SHORT_READS: Final = 16
WRITE_LIMIT: Final = 64 * 1024  # NET_MAX_WRITES_PER_EVENT: then others get their turn
ACCEPTS_PER_EVENT: Final = 1000
PATIENCE: Final = 0.001
# How long clients are served before other tasks get their turn, and how long each of them is at
# least, however much of that is left.
TURN_NS: Final = 2_000_000
SHARE_NS: Final = 250_000


class Limits:
    """What one connection may use; hot copies of configuration directives."""

    __slots__ = ("query_buffer", "bulk_size", "output", "max_clients", "keep_alive")

    def __init__(self) -> None:
        self.query_buffer = 1024 * 1024 * 1024
        self.bulk_size = 512 * 1024 * 1024
        # Client class -> (hard bytes, soft bytes, soft seconds); 0 is no limit.
        self.output: list[tuple[int, int, int]] = [
            (0, 0, 0),
            (256 * 1024 * 1024, 64 * 1024 * 1024, 60),
            (32 * 1024 * 1024, 8 * 1024 * 1024, 60),
        ]
        self.max_clients = 10000
        self.keep_alive = 300


class Statistics:
    """Counters of the network since the start or CONFIG RESETSTAT."""

    __slots__ = (
        "accepted",
        "refused",
        "input",
        "output",
        "reads",
        "writes",
        "query_limit_cuts",
        "output_limit_cuts",
    )

    def __init__(self) -> None:
        self.accepted = 0
        self.refused = 0
        self.input = 0
        self.output = 0
        self.reads = 0
        self.writes = 0
        self.query_limit_cuts = 0
        self.output_limit_cuts = 0


class Connection:
    """A client's socket, what has come over it and what has still to go."""

    __slots__ = (
        "hub",
        "sock",
        "receive",
        "send",
        "fd",
        "session",
        "parser",
        "backlog",
        "backlog_size",
        "unsent",
        "short_reads",
        "marked",
        "closed",
    )

    def __init__(self, hub: Hub, sock: socket.socket, session: Session) -> None:
        self.hub = hub
        self.sock = sock
        # Looked up once, since they are called for each request.
        self.receive: Callable[[int], bytes] = sock.recv
        self.send: Callable[[bytes | memoryview], int] = sock.send
        self.fd = sock.fileno()
        self.session = session
        self.parser = RequestParser(hub.limits.bulk_size)
        # Requests that came while the client was blocked, or beyond its share of a turn.
        self.backlog: deque[list[bytes]] = deque()
        self.backlog_size = 0  # bytes
        # Replies that the socket did not take yet; the poller tells when it does.
        self.unsent: deque[bytes | memoryview] = deque()
        self.short_reads = 0  # since the last one that was not
        self.marked = False
        self.closed = False

    def wake(self) -> None:
        """Output was queued, or a wait is over."""
        if not self.marked and not self.closed:
            self.marked = True
            self.session.active = self.hub.engine.keyspace.now
            self.hub.pending.append(self)
            self.hub.nudge()

    def close(self) -> None:
        self.hub.drop(self)

    def retry(self, argv: list[bytes]) -> None:
        """Execute a request that was put off, before those that came after it."""
        self.backlog.appendleft(argv)
        self.backlog_size += _size_of(argv)
        self.wake()

    def keep_back(self, requests: list[list[bytes]]) -> None:
        """Execute requests later."""
        self.backlog.extend(requests)
        self.backlog_size += sum(map(_size_of, requests))

    def take_up(self) -> list[bytes]:
        """The next request that was kept back."""
        argv = self.backlog.popleft()
        self.backlog_size -= _size_of(argv)
        return argv

    def forget_backlog(self) -> None:
        """The client leaves: what it wanted after that is not done."""
        self.backlog.clear()
        self.backlog_size = 0

    def query_size(self) -> int:
        """Bytes held of requests: unfinished ones, and those that have to wait."""
        return self.parser.size + self.backlog_size


class Hub:
    """The clients of one server. The poller and both ends of the bell are the hub's from now on."""

    def __init__(
        self, engine: Engine, poller: Poller, bell: tuple[socket.socket, socket.socket]
    ) -> None:
        self.engine = engine
        self.limits = Limits()
        self.statistics = Statistics()
        self.connections: dict[int, Connection] = {}
        # Connections that have something to send, or to go on with.
        self.pending: list[Connection] = []
        # Run before replies are sent, once per batch.
        self.barriers: list[Callable[[], None]] = []
        # Whether the barriers take so long (a disk is waited for) that a batch had better be large.
        self.gathers = False
        self._gathered = 0  # clients in the last such batch
        # Told about each new connection before its first request; False refuses it (the reason
        # must have been queued in the session's ``out``).
        self.greet: Callable[[Connection], bool] | None = None
        self.poller = poller
        self.inlets = Inlets(poller)
        self._listeners: dict[int, socket.socket] = {}
        # What the poller reported and has not been attended to yet.
        self._ready: list[tuple[int, int]] = []
        # How long clients are waited for before other tasks may go on; 0 where those hurry.
        self.patience = PATIENCE
        self._serving = False
        self._turn_end = 0  # monotonic nanoseconds
        self._rung = False
        # A byte in here wakes the loop when something is left to do that no socket tells of.
        self._bell, self._bell_rope = bell
        self.poller.register(self._bell.fileno(), READABLE)

    # Listening.

    def add_listener(self, listener: socket.socket) -> None:
        """Accept clients from a non-blocking listening socket, which the hub owns from now on."""
        self._listeners[listener.fileno()] = listener
        self.poller.register(listener.fileno(), READABLE)

    def take_tcp_listeners(self) -> list[socket.socket]:
        """Give the TCP listeners back to the caller; no client is accepted on them meanwhile."""
        taken = [s for s in self._listeners.values() if s.family != socket.AF_UNIX]
        for listener in taken:
            del self._listeners[listener.fileno()]
            self.poller.unregister(listener.fileno())
        return taken

    def remove_listeners(self) -> None:
        for fd, listener in self._listeners.items():
            self.poller.unregister(fd)
            listener.close()
        self._listeners.clear()

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPTS_PER_EVENT):
            try:
                sock, peer = listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno != errno.ECONNABORTED:
                    self.engine.log.warning(f"Accepting client connection: {error.strerror}")
                return
            self._adopt(sock, peer)

    def _adopt(self, sock: socket.socket, peer: object) -> None:
        sock.setblocking(False)
        if len(self.connections) >= self.limits.max_clients:
            self.statistics.refused += 1
            _send_and_close(sock, encode_error(b"ERR max number of clients reached"))
            return
        session = self.engine.open_session()
        connection = Connection(self, sock, session)
        session.fd = connection.fd
        session.wake = connection.wake
        session.close = connection.close
        session.retry = connection.retry
        if sock.family == socket.AF_UNIX:
            session.unix_socket = True
            path = sock.getsockname()
            session.address = session.local_address = b"%b:0" % path.encode(
                errors="surrogateescape"
            )
        else:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            set_keep_alive(sock, self.limits.keep_alive)
            session.address = format_address(peer)
            session.local_address = format_address(sock.getsockname())
        self.statistics.accepted += 1
        if self.greet is not None and not self.greet(connection):
            self.statistics.refused += 1
            _send_and_close(sock, b"".join(session.out))
            self.engine.close_session(session)
            return
        self.connections[connection.fd] = connection
        self.poller.register(connection.fd, READABLE)

    # The loop.

    def serve(self) -> bool:
        """Serve clients for one turn; True when nobody wants anything any more."""
        engine = self.engine
        inlets = self.inlets
        self._turn_end = engine.clock.monotonic_ns() + TURN_NS
        while True:
            if not self._ready:
                self._ready = self.poller.poll(0 if self.pending else self.patience)
                if inlets.resting and (
                    not self._ready or engine.clock.monotonic_ns() >= inlets.rest_end
                ):
                    self._ready += inlets.end_rest()
                if not self._ready and not self.pending:
                    return True
            self._serving = True
            engine.begin_batch()
            self._attend_ready()
            if self.gathers and self.pending:
                self._gather()
            self.flush()
            self._serving = False
            if engine.ended_ns > self._turn_end:
                return False

    def _attend_ready(self) -> None:
        """Read from what is ready; when the turn is over first, the rest waits for the next.

        A turn that has passed in waiting leaves time for a share all the same: the barriers may be
        worth more than that.
        """
        engine = self.engine
        until = max(self._turn_end, engine.ended_ns + SHARE_NS)
        connections = self.connections
        ready = self._ready
        self._ready = []
        for i, (fileno, events) in enumerate(ready):
            connection = connections.get(fileno)
            if connection is None:
                self._attend(fileno)
                continue
            try:
                if events & WRITABLE and connection.unsent:
                    self._transmit(connection)
                if events != WRITABLE:
                    self._receive(connection)
            except Exception:
                self._give_up(connection)
            else:
                if engine.ended_ns > until:
                    self._ready = ready[i + 1 :]
                    return

    def _gather(self) -> None:
        """Wait a moment for those who came with the last batch, before the barriers."""
        engine = self.engine
        until = engine.ended_ns + SHARE_NS
        while not self._ready and engine.ended_ns < until:
            self._ready = self.poller.poll(0)
            if self._ready:
                engine.begin_batch()
                self._attend_ready()
            elif 2 * len(self.pending) >= self._gathered:
                break
            else:
                engine.begin_batch()
        self._gathered = len(self.pending)

    def _attend(self, fileno: int) -> None:
        """Something other than a client is ready: an inlet, a listener, or the bell."""
        if self.inlets.attend(fileno, self.engine.ended_ns):
            return
        listener = self._listeners.get(fileno)
        if listener is not None:
            self._accept(listener)
        elif fileno == self._bell.fileno():
            self._bell.recv(4096)
            self._rung = False

    def nudge(self) -> None:
        """Something is pending: wake the loop, unless a batch is under way that will see to it.

        Nothing is sent or executed here, since the caller may be in the middle of a command.
        """
        if not self._serving and not self._rung:
            self._rung = True
            self._bell_rope.send(b"!")

    def _receive(self, connection: Connection) -> None:
        parser = connection.parser
        session = connection.session
        if connection.closed or (connection.backlog and session.blocked is None):
            return  # what is here already comes first
        try:
            if connection.short_reads >= SHORT_READS:
                data = connection.receive(SHORT_READ_SIZE)
            else:
                data = connection.receive(LARGE_READ_SIZE if parser.size > READ_SIZE else READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.drop(connection)
            return
        if not data:
            self.drop(connection)
            return
        if session.closing:
            return  # only the replies before the end are still to be sent
        if len(data) < SHORT_READ_SIZE:
            connection.short_reads += 1
        else:
            connection.short_reads = 0
        statistics = self.statistics
        statistics.input += len(data)
        statistics.reads += 1
        session.active = session.heard = self.engine.keyspace.now
        requests = parser.feed(data)
        if parser.stranger:
            requests = self._serve_stranger(connection, requests)
        if connection.backlog or session.blocked is not None:
            connection.keep_back(requests)
            self._check_query_limit(connection)
        elif len(requests) == 1:
            self.engine.execute(session, requests[0])
        else:
            self._execute(connection, requests)
        if parser.size > READ_SIZE or session.query_size:
            self._check_query_limit(connection)
        if parser.error is not None and not connection.backlog:
            self._fail_protocol(connection)
        if not connection.marked and not connection.closed:
            connection.marked = True
            self.pending.append(connection)

    def _execute(self, connection: Connection, requests: list[list[bytes]]) -> None:
        session = connection.session
        engine = self.engine
        until = max(self._turn_end, engine.ended_ns + SHARE_NS)
        for i, argv in enumerate(requests):
            engine.execute(session, argv)
            if session.blocked is not None or engine.ended_ns > until:
                connection.keep_back(requests[i + 1 :])
                return
            if session.closing or session.killed:
                return

    def _serve_stranger(
        self, connection: Connection, requests: list[list[bytes]]
    ) -> list[list[bytes]]:
        """Execute requests one by one until one lets the client in; what is left to execute."""
        parser = connection.parser
        session = connection.session
        rest = parser.take_rest()
        while rest:
            if connection.backlog or session.blocked is not None:
                connection.keep_back(requests)
            else:
                self._execute(connection, requests)
            if session.closing or session.killed:
                return []
            requests = parser.feed(rest)
            rest = parser.take_rest()
        return requests

    def _continue(self, connection: Connection) -> None:
        """Execute what was kept back, as far as the client's share of a turn goes."""
        session = connection.session
        backlog = connection.backlog
        engine = self.engine
        until = max(self._turn_end, engine.ended_ns + SHARE_NS)
        while backlog and session.blocked is None:
            engine.execute(session, connection.take_up())
            if session.closing or session.killed:
                connection.forget_backlog()
            elif engine.ended_ns > until:
                return
        if connection.parser.error is not None and not backlog:
            self._fail_protocol(connection)

    def _fail_protocol(self, connection: Connection) -> None:
        error = connection.parser.error
        assert error is not None
        session = connection.session
        if session.closing:
            return
        self.engine.log.verbose(
            f"Protocol error from client: {session.address.decode(errors='replace')}: "
            f"{error.decode(errors='replace')}"
        )
        session.out.append(encode_error(b"ERR " + error))
        session.closing = True

    def _check_query_limit(self, connection: Connection) -> None:
        size = connection.query_size()
        connection.session.query_size = size
        if size > self.limits.query_buffer:
            self.statistics.query_limit_cuts += 1
            self.engine.log.warning(
                "Closing client that reached max query buffer length: "
                f"{connection.session.address.decode(errors='replace')}"
            )
            self.drop(connection)

    # Sending.

    def flush(self) -> None:
        """Make the barriers true, then send what is pending, and go on with what was kept back."""
        rounds = 0
        while self.pending and rounds < 16:
            if rounds and self.engine.ended_ns > self._turn_end:
                return
            rounds += 1
            for barrier in self.barriers:
                barrier()
            batch = self.pending
            self.pending = []
            for connection in batch:
                connection.marked = False
                if connection.closed:
                    continue
                session = connection.session
                try:
                    if session.out:
                        self._send(connection)
                    if session.killed or (session.closing and not connection.unsent):
                        self.drop(connection)
                    elif connection.backlog and session.blocked is None:
                        self._continue(connection)
                        connection.marked = True
                        self.pending.append(connection)
                except Exception:
                    self._give_up(connection)

    def _give_up(self, connection: Connection) -> None:
        """A bug outside of any handler: it costs one client its connection, not all of them."""
        self.engine.statistics.unexpected += 1
        self.engine.log.warning(
            f"Closing client id={connection.session.id} after an unexpected error:\n"
            f"{traceback.format_exc()}"
        )
        self.drop(connection)

    def _send(self, connection: Connection) -> None:
        session = connection.session
        out = session.out
        if len(out) == 1:
            data = out.pop()
        else:
            data = b"".join(out)
            session.out = []
        size = len(data)
        if connection.unsent:
            connection.unsent.append(data)
            session.out_size += size
        else:
            try:
                sent = connection.send(data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError:
                self.drop(connection)
                return
            self.statistics.output += sent
            self.statistics.writes += 1
            if sent == size:
                if session.drained is not None:
                    session.drained()
                return
            connection.unsent.append(memoryview(data)[sent:])
            session.out_size = size - sent
            self.poller.modify(connection.fd, READABLE | WRITABLE)
        self.check_output_limit(connection)

    def _transmit(self, connection: Connection) -> None:
        """Send more of what the socket did not take before."""
        unsent = connection.unsent
        session = connection.session
        budget = WRITE_LIMIT
        while unsent and budget > 0:
            data = unsent[0]
            try:
                sent = connection.sock.send(data)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                self.drop(connection)
                return
            self.statistics.output += sent
            self.statistics.writes += 1
            session.active = self.engine.keyspace.now
            session.out_size -= sent
            budget -= sent
            if sent == len(data):
                unsent.popleft()
            else:
                unsent[0] = memoryview(data)[sent:]
        if not unsent:
            self.poller.modify(connection.fd, READABLE)
            if session.closing:
                self.drop(connection)
            elif session.drained is not None and not session.out:
                session.drained()

    def check_output_limit(self, connection: Connection) -> None:
        """Cut a client off that does not read its replies (client-output-buffer-limit)."""
        session = connection.session
        kind = session.client_class
        if kind == CLASS_NORMAL and session.gate & GATE_SUBSCRIBED:
            kind = CLASS_PUBSUB
        hard, soft, seconds = self.limits.output[kind]
        size = session.out_size
        exceeded = hard > 0 and size >= hard
        if soft > 0 and size >= soft:
            now = self.engine.keyspace.now / 1000
            if session.soft_limit_since == 0.0:
                session.soft_limit_since = now
            elif now - session.soft_limit_since > seconds:
                exceeded = True
        else:
            session.soft_limit_since = 0.0
        if exceeded:
            self.statistics.output_limit_cuts += 1
            self.engine.log.warning(
                f"Client id={session.id} addr={session.address.decode(errors='replace')} "
                f"omem={size} scheduled to be closed ASAP for overcoming of output buffer limits."
            )
            self.drop(connection)

    # Ending.

    def drop(self, connection: Connection) -> None:
        """Close the socket and forget the client."""
        if connection.closed:
            return
        connection.closed = True
        connection.session.killed = True
        del self.connections[connection.fd]
        self.poller.unregister(connection.fd)
        connection.sock.close()
        connection.backlog.clear()
        connection.unsent.clear()
        self.engine.close_session(connection.session)

    def abandon(self) -> None:
        """In a forked child: close its copies of all sockets, which stay open in the parent.

        The poller is the parent's too, and must not be told.
        """
        for fd in [*self._listeners, *self.inlets.descriptors(), *self.connections]:
            os.close(fd)

    def close(self) -> None:
        """Close all sockets; what is still to be sent is tried once."""
        self._rung = True  # nobody listens any more
        self.remove_listeners()
        for connection in list(self.connections.values()):
            rest = b"".join([*connection.unsent, *connection.session.out])
            if rest:
                with contextlib.suppress(OSError):
                    connection.sock.send(rest)
            self.drop(connection)
        self.poller.close()
        self._bell.close()
        self._bell_rope.close()


def _size_of(argv: list[bytes]) -> int:
    """About what a request took on the wire."""
    return sum(map(len, argv)) + 8 * len(argv)


def _send_and_close(sock: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):
        sock.send(data)
    sock.close()


def set_keep_alive(sock: socket.socket, interval: int) -> None:
    """TCP keep-alive as Redis sets it (anetKeepAlive): after ``interval`` seconds; 0: none."""
    if interval == 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 0)
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, interval)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, interval // 3))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)


def format_address(address: object) -> bytes:
    """``ip:port``, IPv6 in brackets, as CLIENT LIST shows it."""
    assert isinstance(address, tuple)
    host, port = address[0], address[1]
    if ":" in host:
        return b"[%b]:%d" % (host.encode(), port)
    return b"%b:%d" % (host.encode(), port)
