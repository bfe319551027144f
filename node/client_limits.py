"""Clients that the server parts with: idle ones, slow readers, the largest when memory is short.

All clients are looked at once a second, a few per tick (``clientsCron`` in Redis's server.c), for
`timeout` and the soft limits of `client-output-buffer-limit`. With `maxmemory-clients` every batch
of requests is followed by a look at the memory of the clients that were in it; when all together
take more than allowed, the largest go first (``evictClients`` in networking.c).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from node.clients import describe, kind_of
from node.component import Component
from node.hub import Connection
from node.information import Fields, Section
from node.session import CLASS_REPLICA, GATE_OUTSIDE, GATE_SUBSCRIBED, Session

if TYPE_CHECKING:
    from node.server import Server

# A lower `maxmemory-clients` would not leave room to talk to the server at all.
LEAST_LIMIT: Final = 128 * 1024
# Clients looked at in a tick at least.
LEAST_SWEEP: Final = 5


class ClientLimits(Component):
    """Watches over what clients may take, in time and in memory."""

    def __init__(self, server: Server) -> None:
        super().__init__(server.engine)
        self._hub = server.hub
        self._config = server.config
        self.timeout = 0
        self._sweep: list[Connection] = []
        self._share = LEAST_SWEEP
        # 0: no limit, and no accounts are kept.
        self.limit = 0
        self.total = 0
        self._accounts: dict[Session, int] = {}
        self._stuck = False
        self.evicted = 0
        self._config.on_change(("timeout", "maxmemory-clients", "maxmemory"), self._configure)
        self._configure()

    def sections(self) -> Sequence[Section]:
        return (Section("Stats", self._collect),)

    def _collect(self) -> Fields:
        return [("evicted_clients", self.evicted)]

    def reset_statistics(self) -> None:
        self.evicted = 0

    def _configure(self) -> None:
        self.timeout = self._config.integer("timeout")
        limit = self._config.integer("maxmemory-clients")
        if limit < 0:
            limit = self._config.integer("maxmemory") * -limit // 100
        limit = max(limit, LEAST_LIMIT) if limit else 0
        if limit and not self.limit:
            self._hub.barriers.append(self.account_batch)
        elif self.limit and not limit:
            self._hub.barriers.remove(self.account_batch)
            self._accounts.clear()
            self.total = 0
        self.limit = limit
        if limit:
            self._recount()
            self._evict()

    def session_closed(self, session: Session) -> None:
        self.total -= self._accounts.pop(session, 0)

    # Once a second, all clients.

    def tick(self, now_ns: int) -> None:
        if not self._sweep:
            self._sweep = list(self._hub.connections.values())
            ticks = self._config.integer("hz")
            self._share = max(LEAST_SWEEP, -(-len(self._sweep) // ticks))
        now = self.engine.keyspace.now / 1000
        for connection in self._sweep[-self._share :]:
            if not connection.closed:
                self._look_at(connection, now)
        del self._sweep[-self._share :]
        if self.limit:
            self._stuck = False
            if self.total >= self.limit:
                self._evict()

    def _look_at(self, connection: Connection, now: float) -> None:
        session = connection.session
        if self.timeout and now - session.active / 1000 > self.timeout and is_idle(session):
            self.engine.log.verbose("Closing idle client")
            self._hub.drop(connection)
            return
        if connection.unsent:
            self._hub.check_output_limit(connection)
        if self.limit and not connection.closed:
            self._account(connection)

    # Memory.

    def account_batch(self) -> None:
        """Look at the clients of this batch, before their replies go out."""
        for connection in self._hub.pending:
            if not connection.closed:
                self._account(connection)
        if self.total >= self.limit and not self._stuck:
            self._evict()

    def _account(self, connection: Connection) -> None:
        session = connection.session
        if session.client_class == CLASS_REPLICA or session.from_master:
            return
        size = session.memory
        self.total += size - self._accounts.get(session, 0)
        self._accounts[session] = size

    def _recount(self) -> None:
        for connection in self._hub.connections.values():
            self._account(connection)

    def _evict(self) -> None:
        """Drop the largest clients until the rest are below the limit."""
        self._recount()
        if self.total < self.limit:
            return
        connections = sorted(self._hub.connections.values(), key=_size_of, reverse=True)
        for connection in connections:
            if self.total < self.limit:
                return
            session = connection.session
            if session.no_evict or session not in self._accounts:
                continue
            about = describe(session, self._hub).decode("latin-1")
            self.engine.log.notice(f"Evicting client: {about}")
            self.evicted += 1
            self._hub.drop(connection)
        # Only those that may not be evicted are left; no use in trying before the next tick.
        self._stuck = self.total >= self.limit


def is_idle(session: Session) -> bool:
    """Whether the client may be timed out: not one that waits or listens."""
    return (
        session.blocked is None
        and not session.gate & (GATE_SUBSCRIBED | GATE_OUTSIDE)
        and kind_of(session) != CLASS_REPLICA
        and not session.from_master
    )


def _size_of(connection: Connection) -> int:
    return connection.session.memory
