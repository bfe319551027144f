"""An engine in the test's own process: no socket, no task, a clock that the test moves.

Its clients have the interface of `tests.wire.Client`, so whatever compares or drives servers works
on it as well.
"""

from __future__ import annotations

import os

import hiredis

from cluster.composition import install_cluster
from node.composition import compose
from node.config import make_config
from node.engine import Engine
from node.files import SYSTEM_FILES, Files
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
    """A server put together as a node is, but never run, and its clock.

    `directives` are words of the command line. Time stands still until the test moves it, or a
    client sends DEBUG SLEEP.
    """

    def __init__(self, *directives: str, seed: int = 0, files: Files = SYSTEM_FILES) -> None:
        self.config = make_config()
        self.config.read_options([os.fsencode(word) for word in directives])
        self.clock = FakeClock()
        log = Log(self.clock, path=os.devnull)
        self.server = compose(
            self.config, log, self.clock, SystemNetwork(), install_cluster, files=files
        )
        self.server.sleep = self._sleep
        self.engine = self.server.engine
        self.keyspace = self.engine.keyspace
        self.keyspace.random.seed(seed)

    def _sleep(self, seconds: float) -> None:
        self.clock.ns += round(seconds * 1e9)

    def __enter__(self) -> LocalServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back what it holds of the system."""
        self.server.hub.close()

    def connect(self, protocol: int = 2) -> LocalClient:
        """A new client."""
        self.engine.refresh()
        return LocalClient(self.engine, protocol)

    def advance(self, seconds: float) -> None:
        """Let time pass: waits whose time is up end, and the periodic work is done once."""
        self._sleep(seconds)
        self.engine.refresh()
        self.engine.blocking.expire(self.engine.ended_ns)
        for component in self.engine.components:
            component.tick(self.engine.ended_ns)

    def info(self, *sections: Argument) -> dict[str, str]:
        """INFO's fields."""
        text = self.connect()("INFO", *sections)
        assert isinstance(text, bytes)
        lines = text.decode().splitlines()
        return dict(line.split(":", 1) for line in lines if line and not line.startswith("#"))


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
