"""An engine in the test's own process: no socket, no task, a clock that the test moves.

Its clients have the interface of `tests.wire.Client`, so whatever compares or drives servers works
on it as well.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from node.command import Group
from node.config import make_config
from node.engine import Engine
from node.keyspace import Keyspace
from node.log import Log
from node.session import Session
from node.values.collection import Limits
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
        self.woken = 0

    def _wake(self) -> None:
        self.woken += 1

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
    """An engine with the commands of some groups, and its clock."""

    def __init__(self, groups: Iterable[Group], seed: int = 0) -> None:
        self.clock = FakeClock()
        self.limits = Limits()
        self.keyspace = Keyspace(16, self.limits, seed)
        log = Log(self.clock, path=os.devnull)
        self.engine = Engine(make_config(), self.clock, log, self.keyspace)
        for group in groups:
            self.engine.install_group(group)

    def connect(self, protocol: int = 2) -> LocalClient:
        """A new client."""
        return LocalClient(self.engine, protocol)

    def advance(self, seconds: float) -> None:
        """Let time pass: the clocks are read again, and waits whose time is up end."""
        self.clock.ns += round(seconds * 1e9)
        self.engine.refresh()
        self.engine.blocking.expire(self.engine.ended_ns)
