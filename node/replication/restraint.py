"""What a replica does not do by itself, and what it refuses to its clients.

Its keys neither expire nor are evicted: the master says what goes. Until then a key whose time has
come is hidden from clients (and only from them: to the master's commands it is there). Writes are
refused (``replica-read-only``), and without the master whatever is not about the server itself
(``replica-serve-stale-data no``). After ``processCommand`` and ``expireIfNeeded`` in Redis 7.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from node.command import STALE, WRITE, Command
from node.engine import STAGE_REPLICA
from node.keyspace import STILL_REPLICA
from node.log import ROLE_MASTER, ROLE_REPLICA
from node.resp import Error, Reply
from node.session import Session

if TYPE_CHECKING:
    from node.replication.link import Link
    from node.replication.replication import Replication

READ_ONLY: Final = Error(b"READONLY You can't write against a read only replica.")
MASTER_DOWN: Final = Error(
    b"MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."
)


class Restraint:
    """Holds for as long as the server is a replica; :meth:`update` is called when that changes."""

    def __init__(self, replication: Replication, link: Link) -> None:
        self._replication = replication
        self._engine = replication.engine
        self._config = replication.config
        self._link = link
        self._read_only = True
        self._serves_stale = True
        self._guarding = False
        replication.config.on_change(("replica-read-only", "replica-serve-stale-data"), self.update)
        replication.role_changed.append(self.update)
        self.update()

    def update(self) -> None:
        """The role has changed, or the directives."""
        replica = self._replication.is_replica
        self._read_only = self._config.boolean("replica-read-only")
        self._serves_stale = self._config.boolean("replica-serve-stale-data")
        self._engine.keyspace.hold_still(STILL_REPLICA, replica)
        wanted = replica and (self._read_only or not self._serves_stale)
        if wanted and not self._guarding:
            self._engine.add_guard(STAGE_REPLICA, self.guard)
        elif self._guarding and not wanted:
            self._engine.remove_guard(self.guard)
        self._guarding = wanted
        log = self._replication.log
        if replica:
            log.role = ROLE_REPLICA
        elif log.role == ROLE_REPLICA:
            log.role = ROLE_MASTER

    def guard(self, session: Session, command: Command, argv: list[bytes]) -> Reply:
        """Refuse what a replica does not do."""
        flags = command.flags
        if self._read_only and not session.from_master:
            if flags & WRITE or (command.name == b"exec" and session.queue_flags & WRITE):
                return READ_ONLY
        if not self._serves_stale and not self._link.connected:
            if not flags & STALE:
                return MASTER_DOWN
            if command.name == b"exec" and session.queue is not None:
                if not all(queued.command.flags & STALE for queued in session.queue):
                    return MASTER_DOWN
        return None
