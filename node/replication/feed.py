"""The stream, from where it arises into the queues of the replicas.

Every request that is logged goes into the backlog at once. Before the replies of a batch go out (a
barrier of the hub), what the batch has added is joined, and the same bytes object is queued for
all replicas that have everything before it (``ONLINE``). A replica that lags (it has just come
back, or has just got a snapshot) is sent the backlog bit by bit, whenever its socket has taken
what was sent before, until it has all; so what is kept for those that lag is kept once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from node.replication.replica import AWAITING, CATCHING_UP, ONLINE, Replica

if TYPE_CHECKING:
    from node.replication.replication import Replication

# Bytes of the backlog, or of a snapshot, that are queued for a replica at once.
PORTION: Final = 64 * 1024
# The backlog may grow by so many bytes before what nobody needs is looked for.
SLACK: Final = 64 * 1024
UNLIMITED: Final = 1 << 62


class Feed:
    """Feeds the replicas, which are in ``replicas`` by the id of their session, in order.

    ``limit`` is how many bytes may wait for one of them.
    """

    def __init__(self, replication: Replication) -> None:
        self.replicas: dict[int, Replica] = {}
        self.online: list[Replica] = []
        self.limit = UNLIMITED
        self._replication = replication
        self._history = replication.history
        self._reading_log = False
        # What has been added to the backlog, from a position on, and not yet been queued.
        self._fresh: list[bytes] = []
        self._fresh_start = 0
        self._most = 0  # what the backlog may hold before it is looked through
        # Where the part at the end of the history is that changes no data.
        self._filling_start = 0
        self._filling_end = -1
        replication.engine.command_log.kept = self.measure

    def follow_log(self) -> None:
        """Let the command log be the stream if this is a master that has been asked for it."""
        log = self._replication.engine.command_log
        wanted = not self._replication.is_replica and self._history.backlog is not None
        if wanted and not self._reading_log:
            log.attach(self.append, messages=True)
        elif self._reading_log and not wanted:
            log.detach(self.append)
        self._reading_log = wanted

    def append(self, wire: bytes) -> None:
        """Add to the stream: whole requests on a master, what comes in on a replica."""
        backlog = self._history.backlog
        if backlog is None:
            return
        if self.online:
            if not self._fresh:
                self._fresh_start = backlog.end
                session = self.online[0].session
                if session.wake is not None:
                    session.wake()  # there will be a batch
            self._fresh.append(wire)
        backlog.append(wire)
        if backlog.end - backlog.start > self._most:
            self.trim()

    def fill(self, wire: bytes) -> None:
        """Add something that changes no data."""
        start = self._history.offset
        self.append(wire)
        if start != self._filling_end:
            self._filling_start = start
        self._filling_end = self._history.offset

    @property
    def written(self) -> int:
        """The offset of the last change of the data."""
        offset = self._history.offset
        return self._filling_start if offset == self._filling_end else offset

    def flush(self) -> None:
        """Queue what is new for those who have all before it: a barrier of the hub."""
        fresh = self._fresh
        if not fresh:
            return
        data = fresh[0] if len(fresh) == 1 else b"".join(fresh)
        self._fresh = []
        start = self._fresh_start
        end = start + len(data)
        for replica in self.online:
            if replica.position == start:
                self._replication.output_bytes += len(data)
                replica.push(data)
            elif replica.position < end:
                # It has come online in the middle of the batch.
                self.send(replica, data[replica.position - start :])
            replica.position = end

    def trim(self) -> None:
        """Let go of the part of the backlog that is beyond its size and that nobody lacks."""
        backlog = self._history.backlog
        if backlog is not None:
            lagging = [
                replica.position
                for replica in self.replicas.values()
                if AWAITING <= replica.state <= CATCHING_UP
            ]
            backlog.trim(min(lagging, default=backlog.end))
            self._most = max(len(backlog), backlog.size) + SLACK

    def measure(self) -> tuple[int, int]:
        """Bytes of the backlog within its size, and beyond it."""
        backlog = self._history.backlog
        if backlog is None:
            return 0, 0
        within = min(backlog.memory, backlog.size)
        return within, backlog.memory - within

    def send(self, replica: Replica, data: bytes) -> None:
        """Queue bytes for one replica, and count them."""
        self._replication.output_bytes += len(data)
        replica.push(data)

    @property
    def portion(self) -> int:
        """How many bytes may be queued for a replica at once."""
        return min(PORTION, self.limit // 2)

    def begin(self, replica: Replica) -> None:
        """The replica has all data up to its position."""
        replica.state = CATCHING_UP
        replica.session.heard = self._replication.engine.keyspace.now
        replica.session.drained = lambda: self._catch_up(replica)
        self._catch_up(replica)

    def _catch_up(self, replica: Replica) -> None:
        """The replica's socket has taken everything: send more of what it lacks."""
        backlog = self._history.backlog
        if replica.state != CATCHING_UP:
            return
        if backlog is None or not backlog.holds(replica.position):
            replica.kill()  # the history has been replaced
            return
        data = backlog.read(replica.position, self.portion)
        if data:
            replica.position += len(data)
            self.send(replica, data)
            return
        replica.state = ONLINE
        replica.session.drained = None
        self.online.append(replica)

    def remove(self, replica: Replica) -> None:
        """The replica has gone."""
        del self.replicas[replica.session.id]
        if replica in self.online:
            self.online.remove(replica)
        if not self.online:
            self._fresh = []
