"""An engine in the test's own process: no socket, no task, a clock that the test moves.

Its clients have the interface of `tests.wire.Client`, so whatever compares or drives servers works
on it as well.
"""

from __future__ import annotations

import os

import hiredis

from node.composition import compose
from node.config import make_config
from node.engine import Engine
from node.log import Log
from node.network import SystemNetwork
from node.session import Session
from tests.wire import Argument, Client, Closed, to_bytes


class FakeClock:
    """Stands still until it is moved."""

    def __init__(self, wall: float = 1_700_000_000.0) -> None:
        self.start = wall
        self.ns = 1_000_000_000

    def wall(self) -> float:
        """Seconds since the Unix epoch."""
        return self.start + self.ns / 1e9

    def monotonic_ns(self) -> int:
        """Nanoseconds since some time before the test."""
        return self.ns


class LocalClient(Client):
    """A client of an engine. It can block: replies that come later are read later."""

    def __init__(self, engine: Engine, protocol: int = 2) -> None:
        self._buffer = bytearray()
        self._position = 0
        self.engine = engine
        self.session: Session = engine.open_session()
        self.session.protocol = protocol
        self.session.wake = self._wake
        self.session.retry = self._retry
        self.woken = 0

    def _wake(self) -> None:
        self.woken += 1

    def _retry(self, argv: list[bytes]) -> None:
        self.engine.execute(self.session, argv)

    def send(self, *arguments: Argument) -> None:
        """Execute one request. A client that waits sends nothing, as its connection would."""
        assert self.session.blocked is None, "the client is waiting"
        self.engine.execute(self.session, [to_bytes(argument) for argument in arguments])

    def has_input(self, timeout: float = 0.0) -> bool:
        """Whether a reply is there; nothing comes by waiting."""
        return self._position < len(self._buffer) or bool(self.session.out)

    def close(self) -> None:
        """The client goes, waiting or not; may be called again."""
        if self.session.id in self.engine.sessions:
            self.engine.close_session(self.session)

    def _fill(self) -> None:
        if not self.session.out:
            raise Closed("no reply")
        self._buffer += b"".join(self.session.out)
        self.session.out.clear()


class LocalServer:
    """A server put together as a node is, but never run, and its clock."""

    def __init__(self, *directives: str, seed: int = 0) -> None:
        config = make_config()
        config.read_options([word.encode() for word in directives])
        self.clock = FakeClock()
        log = Log(self.clock, path=os.devnull)
        self.server = compose(config, log, self.clock, SystemNetwork())
        self.engine = self.server.engine
        self.keyspace = self.engine.keyspace
        self.keyspace.random.seed(seed)

    def __enter__(self) -> LocalServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back what it holds of the system."""
        self.server.hub.close()

    def connect(self, protocol: int = 2) -> LocalClient:
        """A new client."""
        return LocalClient(self.engine, protocol)

    def advance(self, seconds: float) -> None:
        """Let time pass: the clocks are read again, and waits whose time is up end."""
        self.clock.ns += round(seconds * 1e9)
        self.engine.refresh()
        self.engine.blocking.expire(self.engine.ended_ns)


def follow_log(server: LocalServer) -> hiredis.Reader:
    """What reads the command log from here on."""
    reader = hiredis.Reader()
    server.engine.command_log.attach(reader.feed)
    return reader


def read_log(reader: hiredis.Reader) -> list[list[bytes]]:
    """All commands logged since the last look, but those that select a database."""
    found: list[list[bytes]] = []
    while (argv := reader.gets()) is not False:
        if argv[0] != b"SELECT":
            found.append(argv)
    return found
