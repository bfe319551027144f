"""What a replica does not do by itself, and what it refuses to its clients.

Its keys neither expire nor are evicted: the master says what goes. Until then a key whose time has
come is hidden from clients (and only from them: to the master's commands it is there). Writes are
refused (``replica-read-only``), and without the master whatever is not about the server itself
(``replica-serve-stale-data no``). After ``processCommand`` and ``expireIfNeeded`` in Redis 7.2.

Where clients may write, the keys that they give a deadline expire here, since nobody else knows of
them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from node.command import STALE, WRITE, Command
from node.component import Component
from node.engine import STAGE_REPLICA
from node.information import Fields, Section
from node.keyspace import STILL_REPLICA
from node.log import ROLE_MASTER, ROLE_REPLICA
from node.replication.link import SYNC
from node.resp import Error, Reply
from node.session import Session

if TYPE_CHECKING:
    from node.replication.link import Link
    from node.replication.replication import Replication

READ_ONLY: Final = Error(b"READONLY You can't write against a read only replica.")
MASTER_DOWN: Final = Error(
    b"MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."
)

KEYS_PER_TICK: Final = 200


class Restraint(Component):
    """Holds for as long as the server is a replica; :meth:`update` is called when that changes."""

    def __init__(self, replication: Replication, link: Link) -> None:
        super().__init__(replication.engine)
        self._replication = replication
        self._config = replication.config
        self._link = link
        self._read_only = True
        self._serves_stale = True
        self._guarding = False
        self._observing = False
        # Keys with a deadline that clients of a writable replica have changed, by database.
        self._own: OrderedDict[tuple[int, bytes], None] = OrderedDict()
        replication.config.on_change(("replica-read-only", "replica-serve-stale-data"), self.update)
        replication.role_changed.append(self.update)
        self.update()

    def update(self) -> None:
        """The role has changed, or the directives."""
        replica = self._replication.is_replica
        self._read_only = self._config.boolean("replica-read-only")
        self._serves_stale = self._config.boolean("replica-serve-stale-data")
        self.engine.keyspace.hold_still(STILL_REPLICA, replica)
        wanted = replica and (self._read_only or not self._serves_stale)
        if wanted and not self._guarding:
            self.engine.add_guard(STAGE_REPLICA, self.guard)
        elif self._guarding and not wanted:
            self.engine.remove_guard(self.guard)
        self._guarding = wanted
        writable = replica and not self._read_only
        if writable and not self._observing:
            self.engine.add_observer(self.observe)
        elif self._observing and not writable:
            self.engine.remove_observer(self.observe)
        self._observing = writable
        if not replica:
            self._own.clear()  # they expire like all others
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

    # Writable replicas.

    def observe(self, session: Session, command: Command, argv: list[bytes]) -> None:
        """Remember the keys with a deadline that a client has changed."""
        if session.from_master or not command.flags & WRITE:
            return
        db = session.db
        if not db.volatile:
            return
        try:
            positions = command.key_positions(argv)
        except ValueError:
            return  # it has been refused for its arguments
        for at in positions:
            if db.deadline(argv[at]) is not None:
                self._own[(db.index, argv[at])] = None

    def sections(self) -> Sequence[Section]:
        return (Section("Stats", self._collect),)

    def _collect(self) -> Fields:
        return [("slave_expires_tracked_keys", len(self._own))]

    def tick(self, now_ns: int) -> None:
        """Let some of these keys expire whose time has come: no master would say so.

        (``expireSlaveKeys``.)
        """
        own = self._own
        if self._link.state == SYNC:
            own.clear()  # all data are going to be the master's
        keyspace = self.engine.keyspace
        for _ in range(min(len(own), KEYS_PER_TICK)):
            name, _ = own.popitem(last=False)
            db = keyspace.databases[name[0]]
            if db.is_due(name[1]):
                db.expire(name[1])
            elif db.deadline(name[1]) is not None:
                own[name] = None
