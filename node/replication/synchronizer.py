"""Full synchronizations: who waits for a snapshot, when one is made, and how it is handed out.

Behaviour and log lines after ``startBgsaveForReplication``, ``sendBulkToSlave``,
``updateSlavesWaitingBgsave`` and ``shouldStartChildReplication`` in replication.c of Redis 7.2.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import trio

from node.persistence.child import KIND_SNAPSHOT, Exit
from node.replication.feed import Feed
from node.replication.full_sync import FullSync
from node.replication.replica import AWAITING, RECEIVING, SILENT, STRANGER, WAITING, Replica
from node.resp import encode_error

if TYPE_CHECKING:
    from node.persistence.child import Child
    from node.persistence.snapshots import Snapshots
    from node.replication.replication import Replication

NO_SNAPSHOT: Final = b"ERR BGSAVE failed, replication can't continue"


class Synchronizer:
    """Gets the replicas of a feed to the point where their stream begins."""

    def __init__(
        self, replication: Replication, feed: Feed, child: Child, snapshots: Snapshots
    ) -> None:
        self._replication = replication
        self._engine = replication.engine
        self._history = replication.history
        self._config = replication.config
        self._log = replication.log
        self._files = replication.server.files
        self._feed = feed
        self._child = child
        self._snapshots = snapshots
        self._sync: FullSync | None = None
        self._relay_wanted = trio.Event()

    def admit(self, replica: Replica) -> None:
        """The replica needs all data."""
        log = self._log
        replica.state = WAITING
        replica.since = self._engine.keyspace.now
        sync = self._sync
        if sync is not None and not sync.ended:
            if sync.streamed:
                log.notice("Current BGSAVE has socket target. Waiting for next BGSAVE for SYNC")
            elif sync.replicas and sync.needs.same(replica.needs):
                self._await(replica, sync)
                log.notice("Waiting for end of BGSAVE for SYNC")
            else:
                self._refuse_to_attach()
        elif self._child.kind == KIND_SNAPSHOT:
            self._refuse_to_attach()
        elif self._child.running or sync is not None:
            log.notice(
                "No BGSAVE in progress, but another BG operation is active. BGSAVE for "
                "replication delayed"
            )
        elif (
            self._config.boolean("repl-diskless-sync")
            and replica.takes_mark
            and self._config.integer("repl-diskless-sync-delay")
        ):
            log.notice("Delay next BGSAVE for diskless SYNC")
        else:
            self._start(self._find_waiting())

    def _refuse_to_attach(self) -> None:
        self._log.notice(
            "Can't attach the replica to the current BGSAVE. Waiting for next BGSAVE for SYNC"
        )

    def start_waiting(self) -> None:
        """Begin a snapshot for those who wait for one, if it is time."""
        if self._child.running or self._sync is not None:
            return
        waiting = self._find_waiting()
        if not waiting:
            return
        config = self._config
        if config.boolean("repl-diskless-sync"):
            enough = config.integer("repl-diskless-sync-max-replicas")
            waited = self._engine.keyspace.now - min(replica.since for replica in waiting)
            if not (0 < enough <= len(waiting)) and (
                waited < config.integer("repl-diskless-sync-delay") * 1000
            ):
                return
        self._start(waiting)

    def _find_waiting(self) -> list[Replica]:
        """The replica that has waited longest for a snapshot, and those that need the same."""
        waiting = [replica for replica in self._feed.replicas.values() if replica.state == WAITING]
        return [replica for replica in waiting if replica.needs.same(waiting[0].needs)]

    def _start(self, replicas: list[Replica]) -> None:
        """Fork a child that makes a snapshot for these replicas, which need the same."""
        streamed = (
            self._config.boolean("repl-diskless-sync") or replicas[0].needs.filtered
        ) and all(replica.takes_mark for replica in replicas)
        self._log.notice(
            "Starting BGSAVE for SYNC with target: " + ("replicas sockets" if streamed else "disk")
        )
        # What comes after the snapshot says itself in which database it is.
        if not self._replication.is_replica:
            self._engine.command_log.selected = -1
        mark = os.urandom(20).hex().encode() if streamed else b""
        sync = FullSync(
            self._files,
            self._snapshots,
            self._child,
            replicas[0].needs,
            self._history.offset,
            mark,
        )
        keys = sum(db.count for db in self._engine.keyspace.databases)
        try:
            sync.open()
            pid = self._child.start(KIND_SNAPSHOT, sync.work, self._finish, keys)
        except OSError as error:
            self._log.warning(f"Can't save in background: fork: {error.strerror}")
            self._log.warning("BGSAVE for replication failed")
            sync.abandon()
            for replica in replicas:
                replica.push(encode_error(NO_SNAPSHOT))
                replica.dismiss()
                replica.state = STRANGER
            return
        sync.forked()
        self._sync = sync
        self._log.notice(
            f"Background RDB transfer started by pid {pid}"
            if streamed
            else f"Background saving started by pid {pid}"
        )
        for replica in replicas:
            self._await(replica, sync)
        if streamed:
            self._relay_wanted.set()

    def _await(self, replica: Replica, sync: FullSync) -> None:
        """The replica gets this snapshot, and the stream from its position on."""
        replica.state = AWAITING
        replica.position = sync.position
        replica.sync = sync
        replica.loaded = False
        sync.replicas.append(replica)
        if sync.streamed:
            replica.session.drained = sync.make_room
        if not replica.old:
            self._feed.send(replica, b"+FULLRESYNC %b %d\r\n" % (self._history.id, sync.position))

    async def run(self) -> None:
        """Relay the snapshots that are streamed."""
        while True:
            await self._relay_wanted.wait()
            self._relay_wanted = trio.Event()
            sync = self._sync
            assert sync is not None
            try:
                self._replication.output_bytes += await sync.relay(self._feed.limit)
            except OSError as error:
                self._log.warning(
                    f"Diskless rdb transfer, read error sending DB to replicas: {error.strerror}"
                )
                if not sync.ended:
                    self._child.kill()
            finally:
                sync.close()
            sync.relayed = True
            if sync.ended:
                self._conclude(sync)
            elif sync.replicas:
                self._log.notice(
                    "Diskless rdb transfer, done reading from pipe, "
                    f"{len(sync.replicas)} replicas still up."
                )
            else:
                self._log.notice("Diskless rdb transfer, last replica dropped, killing fork child.")
                self._child.kill()

    def _finish(self, end: Exit) -> None:
        """The child has ended."""
        sync = self._sync
        assert sync is not None
        sync.ended = True
        sync.succeeded = end.ok
        if end.ok:
            what = "RDB transfer" if sync.streamed else "saving"
            self._log.notice(f"Background {what} terminated with success")
        else:
            what = "transfer" if sync.streamed else "saving"
            how = f"terminated by signal {end.signal}" if end.signal else "error"
            self._log.warning(f"Background {what} {how}")
        if sync.relayed:
            self._conclude(sync)

    def _conclude(self, sync: FullSync) -> None:
        """The child has ended and there is nothing more to relay."""
        self._sync = None
        for replica in list(sync.replicas):
            sync.remove(replica)
            replica.session.drained = None
            if not sync.succeeded:
                self._log.warning("SYNC failed. BGSAVE child returned an error")
                replica.cut()
            elif not sync.streamed:
                self._begin_file(replica, sync.path)
            elif replica.snapshot_only:
                self._dismiss(replica)
            elif replica.loaded:
                # It was quicker than the child's end, and says it again only after a second.
                self._succeed(replica)
            else:
                self._log.notice(
                    f"Streamed RDB transfer with replica {replica.name} succeeded (socket). "
                    "Waiting for REPLCONF ACK from slave to enable streaming"
                )
                replica.state = SILENT
                replica.session.heard = self._engine.keyspace.now
        if not sync.streamed:
            sync.remove_file()

    def _dismiss(self, replica: Replica) -> None:
        """It wanted the snapshot and no more."""
        self._log.notice(
            f"RDB transfer completed, rdb only replica ({replica.name}) should be disconnected asap"
        )
        replica.dismiss()

    def hear(self, replica: Replica) -> None:
        """The replica has spoken: it has loaded the snapshot that was streamed to it."""
        if replica.state == AWAITING and replica.sync is not None and replica.sync.streamed:
            # It has everything, so that the child must have ended, or is about to.
            replica.loaded = True
            self._child.tick(self._engine.ended_ns)
        if replica.state == SILENT:
            self._succeed(replica)

    def _succeed(self, replica: Replica) -> None:
        self._log.notice(f"Synchronization with replica {replica.name} succeeded")
        self._feed.begin(replica)

    def remove(self, replica: Replica) -> None:
        """The replica has gone."""
        sync = replica.sync
        if sync is not None:
            sync.remove(replica)
            if not sync.replicas and not sync.streamed and not sync.ended:
                self._child.kill()  # nobody wants the file any more
        self._close_file(replica)

    # The file.

    def _begin_file(self, replica: Replica, path: str) -> None:
        """Send the replica the snapshot's file."""
        try:
            replica.file = self._files.open(path)
            replica.file_left = self._files.size_of(replica.file)
        except OSError as error:
            self._log.warning(f"SYNC failed. Can't open/stat DB after BGSAVE: {error.strerror}")
            replica.cut()
            return
        replica.state = RECEIVING
        replica.session.active = self._engine.keyspace.now
        replica.session.drained = lambda: self._send_file(replica)
        self._feed.send(replica, b"$%d\r\n" % replica.file_left)

    def _send_file(self, replica: Replica) -> None:
        """The replica's socket has taken everything: send more of the file."""
        if replica.state != RECEIVING:
            return
        if replica.file_left:
            try:
                data = self._files.read(replica.file, self._feed.portion)
            except OSError as error:
                self._log.warning(f"Read error sending DB to replica: {error.strerror}")
                replica.kill()
                return
            if not data:
                self._log.warning("Read error sending DB to replica: premature EOF")
                replica.kill()
                return
            replica.file_left -= len(data)
            self._feed.send(replica, data)
            return
        self._close_file(replica)
        replica.session.drained = None
        if replica.snapshot_only:
            self._dismiss(replica)
        else:
            self._succeed(replica)

    def _close_file(self, replica: Replica) -> None:
        if replica.file >= 0:
            self._files.close(replica.file)
            replica.file = -1
