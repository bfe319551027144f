"""How long a server that has nothing to do may sleep.

The periodic work is done ``hz`` times a second, whether there is any or not; most of what an idle
server costs is being woken for it. So after a turn before which nothing was executed, the server
asks here how long the next one may wait. It ends its rest at once when something is executed, and
whoever learns of something else that is not to wait says so (:meth:`node.server.Server.end_rest`).

What counts is in one place, since what the parts of a data node do concerns each other; a component
that is none of them is asked itself (:meth:`node.component.Component.rest`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from node.client_limits import ClientLimits
from node.commands.info import Information
from node.commands.memory import Memory
from node.component import Component, find_component, has_periodic_work
from node.eviction import Eviction
from node.expiration import Expiration
from node.migration import Migration
from node.pause import PAUSE_NONE, Pause
from node.persistence.aof import OFF, AppendOnlyFile
from node.persistence.child import Child
from node.persistence.snapshots import Snapshots
from node.replication import failover
from node.replication.departure import Departure
from node.replication.link import CONNECTED
from node.replication.primary import Primary
from node.replication.replica import ONLINE
from node.replication.replication import Replication
from node.replication.restraint import Restraint

if TYPE_CHECKING:
    from node.server import Server

LONGEST: Final = 0.5  # s; what counts in seconds (save points, retries) is still in time
# Of more clients not even a look is worth it.
MOST_CLIENTS: Final = 100

KNOWN: Final = (
    # They look at what only requests change, or count in seconds.
    *(Information, Memory, Eviction, Migration, Snapshots),
    # They are looked at.
    *(Expiration, ClientLimits, Pause, Child, AppendOnlyFile),
    *(Replication, Primary, failover.Failover, Departure, Restraint),
)


class Rest:
    """Knows when a server may rest."""

    def __init__(self, server: Server, components: Sequence[Component]) -> None:
        self._server = server
        self._others = [
            component
            for component in components
            if has_periodic_work(component) and not isinstance(component, KNOWN)
        ]
        self._databases = server.engine.keyspace.databases
        self._clients = find_component(components, ClientLimits)
        self._pause = find_component(components, Pause)
        self._child = find_component(components, Child)
        self._log = find_component(components, AppendOnlyFile)
        self._replication = find_component(components, Replication)

    def __call__(self) -> float:
        """For so many seconds the periodic work may wait, unless something happens."""
        if self._is_busy():
            return 0.0
        return min([LONGEST, *(component.rest() for component in self._others)])

    def _is_busy(self) -> bool:
        server = self._server
        return (
            server.loading
            or server.async_loading
            or server.shutdown_postponed
            or self._child.running
            or self._pause.mode != PAUSE_NONE
            # Keys that are to expire, those of a writable replica included.
            or any(db.volatile or db.average_ttl for db in self._databases)
            or self._has_busy_clients()
            or self._is_replicating()
        )

    def _has_busy_clients(self) -> bool:
        clients = self._clients
        connections = self._server.hub.connections
        return (
            clients.timeout != 0
            or clients.limit != 0
            or len(connections) > MOST_CLIENTS
            or any(connection.unsent for connection in connections.values())
        )

    def _is_replicating(self) -> bool:
        """Whether a replica or a master of this server is not quite there, or has to be waited for.

        What a replica is sent goes into its file by the periodic work.
        """
        replication = self._replication
        link = replication.link
        if replication.is_replica and link is not None:
            if link.state != CONNECTED or self._log.state != OFF:
                return True
        if replication.failover.state != failover.NONE:
            return True
        return any(replica.state != ONLINE for replica in replication.masters.replicas)
