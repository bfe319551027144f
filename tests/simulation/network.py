"""Connections between hosts in virtual time, and what may go wrong with them.

A connection has two ends, which behave as non-blocking sockets do: what one sends arrives at the
other later, in pieces of any size, in order; both sides buffer only so much. Connections do not
wait for each other, so that what is sent on one may arrive before what was sent earlier on another.

A host may stop to answer (``silent``: the power is off, and nobody tells the others), and a path
between two hosts may stall, lose everything (connections over it stay half open) or be slow.
"""

from __future__ import annotations

import errno
import os
import random
from collections import deque
from collections.abc import Callable
from typing import Final

from tests.simulation.timeline import Action, Timeline

LONGEST_PIECE: Final = 4096
PIECES: Final = 3


def _failure(number: int) -> OSError:
    return OSError(number, os.strerror(number))


class Path:
    """The way between two hosts, both directions. Latencies are in seconds.

    ``blocked``: nothing gets through, and arrives later. ``losing``: what is sent is lost, and so
    is what is sent after it on the same connection.
    """

    def __init__(self, shortest: float, longest: float) -> None:
        self.shortest = shortest
        self.longest = longest
        self.blocked = False
        self.losing = False
        self.waiting: list[Action] = []


class End:
    """One end of a connection: a non-blocking socket.

    ``ready`` is called when there may be something to do: to read, or room to send.
    """

    def __init__(self, network: Network, host: str, port: int, window: int) -> None:
        self.host = host
        self.port = port
        self.peer: End = self
        self.ready: Action = _do_nothing
        self.closed = False
        self.broken = False  # a reset has come
        self.ended = False  # the peer sends no more
        self.lost = False  # what is sent vanishes
        self._network = network
        self._window = window
        self._inbox = bytearray()
        self._flying: deque[bytes] = deque()
        self._flying_size = 0
        self._last_arrival = 0.0
        self._closing = False

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of this end."""
        return self.host, self.port

    @property
    def readable(self) -> bool:
        """Whether reading would not block."""
        return bool(self._inbox) or self.ended or self.broken

    @property
    def writable(self) -> bool:
        """Whether sending would not block."""
        return self.broken or self._room > 0

    @property
    def _room(self) -> int:
        return self._window - self._flying_size - len(self.peer._inbox)

    def send(self, data: bytes | memoryview) -> int:
        """Send some of ``data``; how much it was. Raises OSError as a socket does."""
        if self.closed:
            raise _failure(errno.EBADF)
        if self.broken:
            raise _failure(errno.ECONNRESET)
        room = self._room
        if room <= 0:
            raise _failure(errno.EAGAIN)
        piece = bytes(data[:room])
        self._network.carry(self, piece)
        return len(piece)

    def recv(self, size: int) -> bytes:
        """Some bytes, none at the end. Raises OSError as a socket does."""
        if self.closed:
            raise _failure(errno.EBADF)
        if self.broken:
            raise _failure(errno.ECONNRESET)
        if self._inbox:
            data = bytes(self._inbox[:size])
            del self._inbox[:size]
            self.peer.ready()
            return data
        if self.ended:
            return b""
        raise _failure(errno.EAGAIN)

    def close(self) -> None:
        """Let go of it. What was sent still arrives; what comes is answered with a reset."""
        if self.closed:
            return
        self.closed = True
        self._network.forget(self)
        if not self.broken:
            if self._inbox:
                self._network.break_later(self)
            else:
                self._network.end_later(self)

    def abort(self) -> None:
        """The system closes it for a process that is gone."""
        self.closed = True
        self._network.forget(self)
        self._network.break_later(self)

    def vanish(self) -> None:
        """The host is gone, and tells nobody."""
        self.closed = True
        self._network.forget(self)

    # Of the network.

    def fly(self, piece: bytes) -> None:
        """The piece is on its way."""
        self._flying.append(piece)
        self._flying_size += len(piece)

    def land(self) -> None:
        """The oldest piece that is on its way arrives, unless the connection is over."""
        if not self._flying:
            return  # cut off meanwhile
        piece = self._flying.popleft()
        self._flying_size -= len(piece)
        peer = self.peer
        if peer.closed:
            if not self._network.is_silent(peer.host):
                self._network.break_later(peer)
            return
        if peer.broken:
            return
        peer._inbox += piece
        peer.ready()

    def cut(self, draw: random.Random) -> None:
        """Nothing of what is on its way arrives but maybe the first few bytes."""
        if self._flying and not self.peer.closed:
            piece = self._flying[0]
            self.peer._inbox += piece[: draw.randrange(len(piece) + 1)]
        self._flying.clear()
        self._flying_size = 0

    def fail(self) -> None:
        """A reset has come. What has arrived before may be read if the peer had ended properly."""
        if not self.broken and not self.closed:
            self.broken = True
            self.ready()

    def end(self) -> None:
        """The peer has closed its end."""
        if not self.closed:
            self.ended = True
            self.ready()

    def arrival(self, when: float) -> float:
        """When something that would arrive then does: after all that was sent before."""
        self._last_arrival = max(self._last_arrival, when)
        return self._last_arrival


class Listener:
    """A listening socket: ends of connections that nobody has accepted yet."""

    def __init__(self, network: Network, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self.ready: Action = _do_nothing
        self.waiting: deque[End] = deque()
        self.closed = False
        self._network = network

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        return self.host, self.port

    def accept(self) -> End:
        """The next connection. Raises BlockingIOError."""
        if not self.waiting:
            raise _failure(errno.EAGAIN)
        return self.waiting.popleft()

    def close(self) -> None:
        """Listen no more."""
        if not self.closed:
            self.closed = True
            del self._network.listeners[self.address]
            while self.waiting:
                self.waiting.popleft().abort()


class Network:
    """All hosts' connections. ``draw`` decides how long what takes, and how it comes in pieces.

    Connections buffer ``window`` bytes in each direction.
    """

    def __init__(self, timeline: Timeline, draw: random.Random) -> None:
        self.timeline = timeline
        self.window = 64 * 1024
        self.shortest = 0.0005
        self.longest = 0.005
        self.listeners: dict[tuple[str, int], Listener] = {}
        self._draw = draw
        self._paths: dict[tuple[str, str], Path] = {}
        self._silent: dict[str, None] = {}
        self._ends: dict[End, None] = {}
        self._next_port = 10000

    def path(self, one: str, other: str) -> Path:
        """The path between two hosts."""
        name = (one, other) if one < other else (other, one)
        path = self._paths.get(name)
        if path is None:
            path = self._paths[name] = Path(self.shortest, self.longest)
        return path

    # Connecting.

    def listen(self, host: str, port: int) -> Listener:
        """A listening socket. Raises OSError if there is one at that address."""
        if (host, port) in self.listeners:
            raise _failure(errno.EADDRINUSE)
        listener = self.listeners[host, port] = Listener(self, host, port)
        return listener

    def connect(self, source: str, host: str, port: int, done: Callable[[End | None], None]) -> End:
        """Connect; ``done`` is told the end when that is done, None when it was refused.

        It may never be told, if the host is silent. Close the end that is returned to give up.
        """
        self._next_port += 1
        near = End(self, source, self._next_port, self.window)
        far = End(self, host, port, self.window)
        near.peer = far
        far.peer = near

        def arrive() -> None:
            if self.is_silent(host):
                return
            listener = self.listeners.get((host, port))
            if listener is None:
                self._send(near, lambda: done(None))
                return
            if near.closed:
                return
            self._ends[near] = None
            self._ends[far] = None
            listener.waiting.append(far)
            listener.ready()
            self._send(near, lambda: None if near.closed else done(near))

        self._send(near, arrive)
        return near

    # Carrying.

    def _send(self, end: End, action: Action) -> None:
        """Let something of a connection arrive, in the order in which it was sent."""
        path = self.path(end.host, end.peer.host)
        if path.losing:
            end.lost = True
        if end.lost:
            return
        delay = self._draw.uniform(path.shortest, path.longest)

        def arrive() -> None:
            if path.blocked:
                path.waiting.append(action)
            elif not self.is_silent(end.peer.host):
                action()

        self.timeline.at(end.arrival(self.timeline.now + delay), arrive)

    def carry(self, end: End, data: bytes) -> None:
        """Let ``data`` arrive at the other end, in a few pieces."""
        at = 0
        pieces = 1
        while at < len(data):
            size = min(LONGEST_PIECE, len(data) - at)
            if pieces < PIECES and size > 1 and self._draw.random() < 0.3:
                size = self._draw.randrange(1, size)
                pieces += 1
            piece = data[at : at + size]
            at += size
            end.fly(piece)
            self._send(end, end.land)

    def end_later(self, end: End) -> None:
        """The end has been closed: the other learns it after all that was sent."""
        self._send(end, end.peer.end)

    def break_later(self, end: End) -> None:
        """The end knows of no connection any more: the other learns it."""
        self._send(end, end.peer.fail)

    def forget(self, end: End) -> None:
        """The end is closed."""
        self._ends.pop(end, None)

    # Faults.

    def is_silent(self, host: str) -> bool:
        """Whether the host's power is off."""
        return host in self._silent

    def silence(self, host: str, silent: bool) -> None:
        """Turn a host off, so that all its ends are gone at once, or on."""
        if silent:
            self._silent[host] = None
        else:
            self._silent.pop(host, None)

    def ends_of(self, host: str) -> list[End]:
        """The host's ends of its connections."""
        return [end for end in self._ends if end.host == host]

    def reset_one(self, among: Callable[[End], bool]) -> End | None:
        """Break a connection at any byte; one of its ends, None if there is none."""
        ends = [end for end in self._ends if among(end)]
        if not ends:
            return None
        end = self._draw.choice(ends)
        end.cut(self._draw)
        end.peer.cut(self._draw)
        end.fail()
        end.peer.fail()
        return end

    def lose_one(self, among: Callable[[End], bool]) -> End | None:
        """Let what one end sends vanish from now on; None if there is no connection."""
        ends = [end for end in self._ends if among(end)]
        if not ends:
            return None
        end = self._draw.choice(ends)
        end.lost = True
        return end

    def block(self, one: str, other: str) -> None:
        """Let nothing through between two hosts until :meth:`unblock`."""
        self.path(one, other).blocked = True

    def unblock(self, one: str, other: str) -> None:
        """Let everything through, and what has waited as well."""
        path = self.path(one, other)
        path.blocked = False
        path.losing = False
        waiting, path.waiting = path.waiting, []
        for action in waiting:
            self.timeline.at(self.timeline.now, action)

    def heal(self) -> None:
        """Let all paths work; connections that have lost something stay as they are."""
        for one, other in list(self._paths):
            self.unblock(one, other)
            path = self.path(one, other)
            path.shortest = self.shortest
            path.longest = self.longest


def _do_nothing() -> None:
    return None
