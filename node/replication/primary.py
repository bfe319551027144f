"""What a server does for its replicas: it lets them in, and sends them its history.

Theory of operation. The stream is the command log, with a PING now and then. Every request that is
logged goes into the backlog at once; before the replies of a batch go out (a barrier of the hub),
what the batch has added is joined, and the same bytes object is queued for all replicas that have
everything before it (``ONLINE``). A replica that lags (it has just come back, or has just got a
snapshot) is sent the backlog bit by bit, whenever its socket has taken what was sent before, until
it has all; so what is kept for those that lag is kept once. How much that may be is bounded by the
replicas' output limit.

A replica that cannot go on from the backlog waits for a snapshot (:mod:`.full_sync`): the next one
that begins, or one of those that are being written to a file if it does not need another.

Behaviour and log lines after replication.c of Redis 7.2 (``syncCommand``,
``masterTryPartialResync``, ``replconfCommand``, ``replicationCron``).
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import trio

from node.command import WRITE, Command, Group
from node.commands.arguments import SYNTAX_ERROR, integer
from node.component import Component
from node.engine import STAGE_REPLICA
from node.information import Fields
from node.persistence.child import KIND_SNAPSHOT, Exit
from node.replication.full_sync import PORTION, FullSync
from node.replication.replica import (
    AWAITING,
    CATCHING_UP,
    ONLINE,
    RECEIVING,
    SILENT,
    STATE_NAMES,
    STRANGER,
    WAITING,
    Needs,
    Replica,
)
from node.resp import NO_REPLY, OK, Error, Reply, ReplyError, encode_error, encode_request
from node.session import (
    CLASS_REPLICA,
    GATE_OUTSIDE,
    GATE_REPLY,
    REPLY_NEVER,
    Session,
)
from node.words import split_words

if TYPE_CHECKING:
    from node.persistence.child import Child
    from node.persistence.snapshots import Snapshots
    from node.replication.replication import Replication

GROUP: Final = Group("server")

SECOND_NS: Final = 1_000_000_000
MEGABYTE: Final = 1 << 20
LONGEST_ADDRESS: Final = 45
# The backlog may grow by so many bytes before what nobody needs is looked for.
SLACK: Final = 64 * 1024
UNLIMITED: Final = 1 << 62

PING: Final = encode_request([b"PING"])
GETACK: Final = encode_request([b"REPLCONF", b"GETACK", b"*"])
SIGN_OF_LIFE: Final = b"\n"

NO_REPLICAS: Final = Error(b"NOREPLICAS Not enough good replicas to write.")
NO_LINK: Final = b"NOMASTERLINK Can't SYNC while not connected with my master"
PENDING_OUTPUT: Final = b"ERR SYNC and PSYNC are invalid with pending output"
NEEDS_MARK: Final = b"ERR Filtered replica requires EOF capability"
NO_SNAPSHOT: Final = b"ERR BGSAVE failed, replication can't continue"


class Primary(Component):
    """The replicas of this server and what they are sent."""

    def __init__(self, replication: Replication, child: Child, snapshots: Snapshots) -> None:
        super().__init__(replication.engine)
        self._replication = replication
        self._server = replication.server
        self._history = replication.history
        self._config = replication.config
        self._log = replication.log
        self._hub = replication.server.hub
        self._child = child
        self._snapshots = snapshots
        self.full_syncs = 0
        self.partial_syncs = 0
        self.partial_refusals = 0
        # By the id of their session: all that have said anything as a replica does, and of these
        # the ones that have asked for the history, in order.
        self._known: dict[int, Replica] = {}
        self.replicas: dict[int, Replica] = {}
        self._online: list[Replica] = []
        self._sync: FullSync | None = None
        self._relay_wanted = trio.Event()
        # What has been added to the backlog, from a position on, and not yet been queued.
        self._fresh: list[bytes] = []
        self._fresh_start = 0
        self._trim_at = 0
        self._reading_log = False
        self._second_ns = 0
        self._seconds = 0
        self._alone_since = replication.clock.monotonic_ns()
        self._guarding = False
        self._least = 0
        self._largest_lag = 0
        self._limit = UNLIMITED
        self._hub.barriers.append(self.flush)
        snapshots.lineage = self.describe_lineage
        replication.config.on_change(
            (
                "min-replicas-to-write",
                "min-replicas-max-lag",
                "repl-backlog-size",
                "client-output-buffer-limit",
            ),
            self.configure,
        )
        self.configure()

    def configure(self) -> None:
        """Take over the directives."""
        config = self._config
        self._least = config.integer("min-replicas-to-write")
        self._largest_lag = config.integer("min-replicas-max-lag") * 1000
        size = config.integer("repl-backlog-size")
        backlog = self._history.backlog
        if backlog is not None and backlog.size != size:
            backlog.resize(size)
            self._trim()
        # Less than what a replica may come back to would only cut it off again.
        hard, soft, seconds = config.output_buffer_limits()["slave"]
        if hard:
            hard = max(hard, size)
        self._hub.limits.output[CLASS_REPLICA] = (hard, soft, seconds)
        self._limit = hard or UNLIMITED
        self._guard_writes()

    def groups(self) -> Sequence[Group]:
        return (GROUP,)

    def reset_statistics(self) -> None:
        self.full_syncs = 0
        self.partial_syncs = 0
        self.partial_refusals = 0

    def role_changed(self) -> None:
        """The server has become a master, or a replica: the stream has another source."""
        self._follow_log()
        self._guard_writes()
        self._alone_since = self._replication.clock.monotonic_ns()

    # The stream.

    def _follow_log(self) -> None:
        """Let the command log be the stream if this is a master that has been asked for it."""
        log = self.engine.command_log
        wanted = not self._replication.is_replica and self._history.backlog is not None
        if wanted and not self._reading_log:
            log.attach(self.feed, messages=True)
        elif self._reading_log and not wanted:
            log.detach(self.feed)
        self._reading_log = wanted

    def feed(self, wire: bytes) -> None:
        """Add to the stream: whole requests on a master, what comes in on a replica."""
        backlog = self._history.backlog
        if backlog is None:
            return
        if self._online:
            if not self._fresh:
                self._fresh_start = backlog.end
                session = self._online[0].session
                if session.wake is not None:
                    session.wake()  # there will be a batch
            self._fresh.append(wire)
        backlog.append(wire)
        if backlog.end > self._trim_at:
            self._trim()

    def flush(self) -> None:
        """Queue what is new for those who have all before it: a barrier of the hub."""
        fresh = self._fresh
        if not fresh:
            return
        data = fresh[0] if len(fresh) == 1 else b"".join(fresh)
        self._fresh = []
        start = self._fresh_start
        end = start + len(data)
        for replica in self._online:
            session = replica.session
            if replica.position == start:
                session.out.append(data)
                self._replication.output_bytes += len(data)
            elif replica.position < end:
                # It has come online in the middle of the batch.
                session.out.append(data[replica.position - start :])
                self._replication.output_bytes += end - replica.position
            replica.position = end
            if session.wake is not None:
                session.wake()

    def _trim(self) -> None:
        backlog = self._history.backlog
        if backlog is not None:
            lagging = [
                replica.position
                for replica in self.replicas.values()
                if AWAITING <= replica.state <= CATCHING_UP
            ]
            backlog.trim(min(lagging, default=backlog.end))
            self._trim_at = backlog.end + SLACK

    def _push(self, replica: Replica, data: bytes) -> None:
        """Queue bytes for one replica."""
        session = replica.session
        session.out.append(data)
        self._replication.output_bytes += len(data)
        if session.wake is not None:
            session.wake()

    def _catch_up(self, replica: Replica) -> None:
        """The replica's socket has taken everything: send more of what it lacks."""
        backlog = self._history.backlog
        if replica.state != CATCHING_UP:
            return
        if backlog is None or not backlog.holds(replica.position):
            self._kill(replica)  # the history has been replaced
            return
        data = backlog.read(replica.position, min(PORTION, self._limit))
        if data:
            replica.position += len(data)
            self._push(replica, data)
            return
        replica.state = ONLINE
        replica.session.drained = None
        self._online.append(replica)

    def _begin_stream(self, replica: Replica) -> None:
        """The replica has all data up to its position."""
        replica.state = CATCHING_UP
        replica.heard = self.engine.keyspace.now
        replica.session.drained = lambda: self._catch_up(replica)
        self._catch_up(replica)

    # Letting replicas in.

    def _replica_of(self, session: Session) -> Replica:
        replica = self._known.get(session.id)
        if replica is None:
            replica = self._known[session.id] = Replica(session)
        return replica

    @GROUP.command(
        "replconf",
        -1,
        "admin noscript loading stale allow_busy",
        since="3.0.0",
        complexity="O(1)",
        summary="Tells the other end of a replication link about this one.",
        doc_flags=("syscmd",),
    )
    def replconf(self, ctx: Session, argv: list[bytes]) -> Reply:
        """OK, or no reply where an offset is told or asked for."""
        if len(argv) % 2 == 0:
            raise ReplyError(SYNTAX_ERROR)
        for i in range(1, len(argv), 2):
            option = argv[i].lower()
            value = argv[i + 1]
            if option == b"ack":
                self._hear(ctx, argv)
                return NO_REPLY
            if option == b"getack":
                link = self._replication.link
                if ctx.from_master and link is not None:
                    link.acknowledge()
                return NO_REPLY
            self._configure_replica(ctx, option, argv[i], value)
        return OK

    def _configure_replica(self, ctx: Session, option: bytes, written: bytes, value: bytes) -> None:
        """One thing that a replica says of itself."""
        if option == b"listening-port":
            self._replica_of(ctx).port = integer(value)
        elif option == b"ip-address":
            if len(value) > LONGEST_ADDRESS:
                raise ReplyError(
                    b"ERR REPLCONF ip-address provided by replica instance is too long: %d bytes"
                    % len(value)
                )
            self._replica_of(ctx).address = value.decode(errors="replace")
        elif option == b"capa":
            replica = self._replica_of(ctx)
            capability = value.lower()
            if capability == b"eof":
                replica.takes_mark = True
            elif capability == b"psync2":
                replica.takes_id = True
        elif option == b"rdb-only":
            self._replica_of(ctx).snapshot_only = integer(value) == 1
        elif option == b"rdb-filter-only":
            self._replica_of(ctx).needs = parse_needs(value)
        elif option != b"version":
            raise ReplyError(b"ERR Unrecognized REPLCONF option: %b" % written.partition(b"\0")[0])

    @GROUP.command(
        "psync",
        -3,
        "admin noscript no_async_loading no_multi",
        since="2.8.0",
        summary="Asks for the history of the data, from where the replica has it.",
        syntax="replicationid offset:integer",
    )
    def psync(self, ctx: Session, argv: list[bytes]) -> Reply:
        """``+CONTINUE`` or ``+FULLRESYNC``, sooner or later, and then the stream."""
        if ctx.client_class == CLASS_REPLICA:
            return NO_REPLY
        if len(argv) > 3 and argv[3].lower() == b"failover":
            self._take_over(ctx, argv[1])
        self._check_request(ctx)
        replica = self._replica_of(ctx)
        self._log.notice(f"Replica {replica.name} asks for synchronization")
        try:
            offset = integer(argv[2])
        except ReplyError:
            self._log.warning(
                f"Replica {replica.name} asks for synchronization but with a wrong offset"
            )
            raise
        if self._can_continue(replica, argv[1], offset - 1):
            self._continue(replica, offset - 1)
        else:
            if not argv[1].startswith(b"?"):
                self.partial_refusals += 1
            self._synchronize(replica)
        return NO_REPLY

    @GROUP.command(
        "sync",
        1,
        "admin noscript no_async_loading no_multi",
        since="1.0.0",
        summary="Asks for all data, and then for what changes.",
    )
    def sync(self, ctx: Session, argv: list[bytes]) -> Reply:
        """A snapshot, and then the stream."""
        if ctx.client_class == CLASS_REPLICA:
            return NO_REPLY
        self._check_request(ctx)
        replica = self._replica_of(ctx)
        self._log.notice(f"Replica {replica.name} asks for synchronization")
        replica.old = True
        self._synchronize(replica)
        return NO_REPLY

    def _take_over(self, ctx: Session, id: bytes) -> None:
        """The master hands its role over to this replica (its FAILOVER)."""
        self._log.notice(
            f"Failover request received for replid {id.decode(errors='backslashreplace')}."
        )
        if not self._replication.is_replica:
            raise ReplyError(b"ERR PSYNC FAILOVER can't be sent to a master.")
        if id.lower() != self._history.id:
            raise ReplyError(b"ERR PSYNC FAILOVER replid must match my replid.")
        self._replication.promote()
        who = ctx.address.decode(errors="replace")
        self._log.notice(f"MASTER MODE enabled (failover request from '{who}')")

    def _check_request(self, ctx: Session) -> None:
        """Refuse what cannot be served now. Raises ReplyError."""
        link = self._replication.link
        if self._replication.is_replica and (link is None or not link.connected):
            raise ReplyError(NO_LINK)
        if ctx.out or ctx.out_size:
            raise ReplyError(PENDING_OUTPUT)
        replica = self._replica_of(ctx)
        if replica.needs.filtered and not replica.takes_mark:
            raise ReplyError(NEEDS_MARK)

    def _can_continue(self, replica: Replica, id: bytes, position: int) -> bool:
        """Whether the backlog has what the replica lacks; the log says why if not."""
        history = self._history
        log = self._log
        wanted = id.lower()
        if history.can_continue(wanted, position):
            return True
        name = replica.name
        if wanted not in (history.id, history.second_id):
            if id.startswith(b"?"):
                log.notice(f"Full resync requested by replica {name}")
            else:
                log.notice(
                    "Partial resynchronization not accepted: Replication ID mismatch (Replica "
                    f"asked for '{id.decode(errors='backslashreplace')}', my replication IDs are "
                    f"'{history.id.decode()}' and '{history.second_id.decode()}')"
                )
        elif wanted != history.id and position > history.second_end:
            log.notice(
                "Partial resynchronization not accepted: Requested offset for second ID was "
                f"{position + 1}, but I can reply up to {history.second_end + 1}"
            )
        else:
            log.notice(
                f"Unable to partial resync with replica {name} for lack of backlog "
                f"(Replica request was: {position + 1})."
            )
            if position > history.offset:
                log.warning(
                    f"Warning: replica {name} tried to PSYNC with an offset that is greater than "
                    "the master replication offset."
                )
        return False

    def _enter(self, replica: Replica) -> None:
        """The client is a replica from now on: it gets no replies any more."""
        session = replica.session
        session.client_class = CLASS_REPLICA
        session.set_gate(GATE_OUTSIDE, True)
        session.set_gate(GATE_REPLY, True)
        session.reply_mode = REPLY_NEVER
        self.replicas[session.id] = replica
        if self._config.boolean("repl-disable-tcp-nodelay") and not session.unix_socket:
            with contextlib.suppress(OSError):
                self._hub.connections[session.fd].sock.setsockopt(
                    socket.IPPROTO_TCP, socket.TCP_NODELAY, 0
                )

    def _continue(self, replica: Replica, position: int) -> None:
        """Send the replica what it has missed."""
        history = self._history
        self.partial_syncs += 1
        self._enter(replica)
        answer = b"+CONTINUE %b\r\n" % history.id if replica.takes_id else b"+CONTINUE\r\n"
        replica.session.out.append(answer)
        self._log.notice(
            f"Partial resynchronization request from {replica.name} accepted. Sending "
            f"{history.offset - position} bytes of backlog starting from offset {position + 1}."
        )
        replica.position = position
        replica.offset = position
        self._begin_stream(replica)

    def _synchronize(self, replica: Replica) -> None:
        """Send the replica all data, when there is a snapshot."""
        log = self._log
        history = self._history
        self.full_syncs += 1
        self._enter(replica)
        replica.state = WAITING
        replica.since = self.engine.keyspace.now
        if history.backlog is None:
            history.serve(self._config.integer("repl-backlog-size"))
            self._follow_log()
            log.notice(
                "Replication backlog created, my new replication IDs are "
                f"'{history.id.decode()}' and '{history.second_id.decode()}'"
            )
        sync = self._sync
        if sync is not None and not sync.ended:
            if sync.streamed:
                log.notice("Current BGSAVE has socket target. Waiting for next BGSAVE for SYNC")
            elif sync.replicas and sync.needs.same(replica.needs):
                self._await(replica, sync)
                log.notice("Waiting for end of BGSAVE for SYNC")
            else:
                log.notice(
                    "Can't attach the replica to the current BGSAVE. Waiting for next BGSAVE for "
                    "SYNC"
                )
        elif self._child.kind == KIND_SNAPSHOT:
            log.notice(
                "Can't attach the replica to the current BGSAVE. Waiting for next BGSAVE for SYNC"
            )
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
            self._start_sync([replica])

    # Full synchronization.

    def _start_waiting(self) -> None:
        """Begin a snapshot for those who wait for one, if it is time."""
        if self._child.running or self._sync is not None:
            return
        waiting = [replica for replica in self.replicas.values() if replica.state == WAITING]
        if not waiting:
            return
        waiting = [replica for replica in waiting if replica.needs.same(waiting[0].needs)]
        config = self._config
        if config.boolean("repl-diskless-sync"):
            enough = config.integer("repl-diskless-sync-max-replicas")
            waited = self.engine.keyspace.now - min([replica.since for replica in waiting])
            if not (0 < enough <= len(waiting)) and (
                waited < config.integer("repl-diskless-sync-delay") * 1000
            ):
                return
        self._start_sync(waiting)

    def _start_sync(self, replicas: list[Replica]) -> None:
        """Fork a child that makes a snapshot for these replicas, which need the same."""
        streamed = (
            self._config.boolean("repl-diskless-sync") or replicas[0].needs.filtered
        ) and all(replica.takes_mark for replica in replicas)
        self._log.notice(
            "Starting BGSAVE for SYNC with target: " + ("replicas sockets" if streamed else "disk")
        )
        # What comes after the snapshot says itself in which database it is.
        if not self._replication.is_replica:
            self.engine.command_log.selected = -1
        sync = FullSync(
            self._server.files,
            self._snapshots,
            self._child,
            replicas,
            self._history.offset,
            os.urandom(20).hex().encode() if streamed else b"",
        )
        keys = sum([db.count for db in self.engine.keyspace.databases])
        try:
            sync.open()
            pid = self._child.start(KIND_SNAPSHOT, sync.work, self._finish, keys)
        except OSError as error:
            self._log.warning(f"Can't save in background: fork: {error.strerror}")
            self._log.warning("BGSAVE for replication failed")
            sync.abandon()
            for replica in replicas:
                self._leave(replica)
                self._push(replica, encode_error(NO_SNAPSHOT))
                replica.session.closing = True
            return
        sync.forked()
        self._sync = sync
        self._log.notice(
            f"Background RDB transfer started by pid {pid}"
            if streamed
            else f"Background saving started by pid {pid}"
        )
        sync.replicas = []
        for replica in replicas:
            self._await(replica, sync)
        if streamed:
            self._relay_wanted.set()

    def _await(self, replica: Replica, sync: FullSync) -> None:
        """The replica gets this snapshot, and the stream from its position on."""
        replica.state = AWAITING
        replica.position = sync.position
        replica.sync = sync
        sync.replicas.append(replica)
        if sync.streamed:
            replica.session.drained = sync.make_room
        if not replica.old:
            self._push(replica, b"+FULLRESYNC %b %d\r\n" % (self._history.id, sync.position))

    async def run(self) -> None:
        """Relay the snapshots that are streamed."""
        while True:
            await self._relay_wanted.wait()
            self._relay_wanted = trio.Event()
            sync = self._sync
            assert sync is not None
            try:
                self._replication.output_bytes += await sync.relay(self._limit)
            except OSError as error:
                self._log.warning(
                    f"Diskless rdb transfer, read error sending DB to replicas: {error.strerror}"
                )
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
            self._log.notice(
                "Background RDB transfer terminated with success"
                if sync.streamed
                else "Background saving terminated with success"
            )
        elif end.signal:
            self._log.warning(f"Background transfer terminated by signal {end.signal}")
        else:
            self._log.warning("Background transfer error")
        if sync.relayed:
            self._conclude(sync)

    def _conclude(self, sync: FullSync) -> None:
        """The child has ended and there is nothing more to relay."""
        self._sync = None
        replicas = list(sync.replicas)
        for replica in replicas:
            sync.remove(replica)
            if not sync.succeeded:
                self._log.warning("SYNC failed. BGSAVE child returned an error")
                self._cut(replica)
            elif not sync.streamed:
                self._begin_file(replica, sync.path)
            else:
                self._log.notice(
                    f"Streamed RDB transfer with replica {replica.name} succeeded (socket). "
                    "Waiting for REPLCONF ACK from replica to enable streaming"
                )
                replica.session.drained = None
                replica.state = SILENT
                replica.heard = self.engine.keyspace.now
                if replica.snapshot_only:
                    self._dismiss(replica)
        if not sync.streamed:
            sync.remove_file()
        self._start_waiting()

    def _dismiss(self, replica: Replica) -> None:
        """It wanted the snapshot and no more."""
        self._log.notice(
            f"RDB transfer completed, rdb only replica ({replica.name}) should be disconnected asap"
        )
        session = replica.session
        session.closing = True
        if session.wake is not None:
            session.wake()

    def _begin_file(self, replica: Replica, path: str) -> None:
        """Send the replica the snapshot's file."""
        files = self._server.files
        try:
            replica.file = files.open(path)
            replica.file_left = files.size_of(replica.file)
        except OSError as error:
            self._log.warning(f"SYNC failed. Can't open/stat DB after BGSAVE: {error.strerror}")
            self._cut(replica)
            return
        replica.state = RECEIVING
        replica.session.active = self.engine.keyspace.now
        replica.session.drained = lambda: self._send_file(replica)
        self._push(replica, b"$%d\r\n" % replica.file_left)

    def _send_file(self, replica: Replica) -> None:
        """The replica's socket has taken everything: send more of the file."""
        if replica.state != RECEIVING:
            return
        if replica.file_left:
            try:
                data = self._server.files.read(replica.file, min(PORTION, self._limit))
            except OSError as error:
                self._log.warning(f"Read error sending DB to replica: {error.strerror}")
                self._kill(replica)
                return
            if not data:
                self._log.warning("Read error sending DB to replica: premature EOF")
                self._kill(replica)
                return
            replica.file_left -= len(data)
            self._push(replica, data)
            return
        self._close_file(replica)
        replica.session.drained = None
        if replica.snapshot_only:
            self._dismiss(replica)
            return
        self._log.notice(f"Synchronization with replica {replica.name} succeeded")
        self._begin_stream(replica)

    def _close_file(self, replica: Replica) -> None:
        if replica.file >= 0:
            self._server.files.close(replica.file)
            replica.file = -1

    def describe_lineage(self) -> dict[bytes, bytes]:
        """What a snapshot tells of the history that its data are part of; nothing if of none."""
        if self._history.backlog is None:
            return {}
        return {
            b"repl-stream-db": b"%d" % self._replication.stream_db,
            b"repl-id": self._history.id,
            b"repl-offset": b"%d" % self._history.offset,
        }

    # Going.

    def session_closed(self, session: Session) -> None:
        replica = self._known.pop(session.id, None)
        if replica is None or replica.session.id not in self.replicas:
            return
        self._log.notice(f"Connection with replica {replica.name} lost.")
        self._leave(replica)

    def _leave(self, replica: Replica) -> None:
        """The client is no replica any more."""
        del self.replicas[replica.session.id]
        if replica in self._online:
            self._online.remove(replica)
        sync = replica.sync
        if sync is not None:
            sync.remove(replica)
            if not sync.replicas and not sync.streamed and not sync.ended:
                self._child.kill()  # nobody wants the file any more
        self._close_file(replica)
        replica.state = STRANGER
        replica.session.drained = None
        if not self._online:
            self._fresh = []
        if not self.replicas:
            self._alone_since = self._replication.clock.monotonic_ns()

    def _kill(self, replica: Replica) -> None:
        """Cut the replica off in the next batch: its connection is just being served."""
        session = replica.session
        session.killed = True
        if session.wake is not None:
            session.wake()

    def _cut(self, replica: Replica) -> None:
        """Cut the replica off at once."""
        session = replica.session
        if session.close is not None:
            session.close()

    def disconnect_all(self) -> None:
        """The history is another one: the replicas have to ask again."""
        for replica in list(self.replicas.values()):
            self._cut(replica)

    # Acknowledgements.

    def _hear(self, session: Session, argv: list[bytes]) -> None:
        """A replica says how much it has."""
        replica = self.replicas.get(session.id)
        if replica is None:
            return
        try:
            offset = integer(argv[2])
        except ReplyError:
            return
        if offset > replica.offset:
            replica.offset = offset
        replica.heard = self.engine.keyspace.now
        if replica.state == AWAITING and replica.sync is not None and replica.sync.streamed:
            # It has everything, so that the child must have ended, or is about to.
            self._child.tick(self.engine.ended_ns)
        if replica.state == SILENT:
            self._log.notice(f"Synchronization with replica {replica.name} succeeded")
            self._begin_stream(replica)

    # Periodic work.

    def tick(self, now_ns: int) -> None:
        for replica in list(self.replicas.values()):
            self._check_lag(replica)
        self._start_waiting()
        if now_ns - self._second_ns >= SECOND_NS:
            self._second_ns = now_ns
            self._attend(now_ns)

    def _check_lag(self, replica: Replica) -> None:
        """What is kept in the backlog for a replica alone counts as its output."""
        if AWAITING <= replica.state <= CATCHING_UP:
            kept = self._history.offset - replica.position
            if kept + replica.session.out_size >= self._limit:
                self._hub.statistics.output_limit_cuts += 1
                self._log.warning(
                    f"Client id={replica.session.id} addr="
                    f"{replica.session.address.decode(errors='replace')} omem={kept} scheduled "
                    "to be closed ASAP for overcoming of output buffer limits."
                )
                self._cut(replica)
                self._trim()

    def _attend(self, now_ns: int) -> None:
        """What is done once a second."""
        config = self._config
        self._seconds += 1
        if not self._replication.is_replica and self.replicas:
            if self._seconds % config.integer("repl-ping-replica-period") == 0:
                self.feed(PING)
        limit = config.integer("repl-timeout") * 1000
        now = self.engine.keyspace.now
        for replica in list(self.replicas.values()):
            state = replica.state
            streamed = replica.sync is not None and replica.sync.streamed
            if state == WAITING or (state == AWAITING and not streamed):
                self._push(replica, SIGN_OF_LIFE)
            elif state in (ONLINE, CATCHING_UP, SILENT):
                if not replica.old and now - replica.heard > limit:
                    self._log.warning(
                        f"Disconnecting timedout replica (streaming sync): {replica.name}"
                    )
                    self._cut(replica)
            elif replica.unsent and now - replica.session.active > limit:
                self._log.warning(f"Disconnecting timedout replica (full sync): {replica.name}")
                self._cut(replica)
        self._drop_backlog(now_ns)

    def _drop_backlog(self, now_ns: int) -> None:
        """Nobody has wanted the history for a long time: do not keep it."""
        seconds = self._config.integer("repl-backlog-ttl")
        history = self._history
        if self.replicas or not seconds or history.backlog is None or self._replication.is_replica:
            return
        if now_ns - self._alone_since > seconds * SECOND_NS:
            history.drop_backlog()
            self._follow_log()
            self._log.notice(
                f"Replication backlog freed after {seconds} seconds without connected replicas."
            )

    # Writes are refused while there are too few replicas.

    def _guard_writes(self) -> None:
        wanted = bool(self._least and self._largest_lag and not self._replication.is_replica)
        if wanted and not self._guarding:
            self.engine.add_guard(STAGE_REPLICA, self.guard)
        elif self._guarding and not wanted:
            self.engine.remove_guard(self.guard)
        self._guarding = wanted

    def count_good(self) -> int:
        """Replicas that were heard of within ``min-replicas-max-lag``."""
        since = self.engine.keyspace.now - self._largest_lag
        return sum([replica.heard >= since for replica in self._online])

    def guard(self, session: Session, command: Command, argv: list[bytes]) -> Reply:
        """Refuse what changes the data while too few replicas get it."""
        flags = session.queue_flags if command.name == b"exec" else command.flags
        if flags & WRITE and self.count_good() < self._least:
            return NO_REPLICAS
        return None

    # What is told of them.

    def list_online(self) -> list[Reply]:
        """Address, port and offset of each replica that gets the stream, for ROLE."""
        return [
            [replica.host.encode(), b"%d" % replica.port, b"%d" % replica.offset]
            for replica in self.replicas.values()
            if replica.state in (SILENT, CATCHING_UP, ONLINE)
        ]

    def describe_replicas(self) -> Fields:
        """The fields of INFO."""
        fields: Fields = [("connected_slaves", len(self.replicas))]
        if self._guarding:
            fields.append(("min_slaves_good_slaves", self.count_good()))
        now = self.engine.keyspace.now
        for number, replica in enumerate(self.replicas.values()):
            streaming = replica.state in (SILENT, CATCHING_UP, ONLINE)
            lag = (now - replica.heard) // 1000 if streaming else 0
            fields.append(
                (
                    f"slave{number}",
                    (
                        f"ip={replica.host},port={replica.port},"
                        f"state={STATE_NAMES[replica.state]},offset={replica.offset},lag={lag}"
                    ),
                )
            )
        return fields


def parse_needs(value: bytes) -> Needs:
    """The words of ``REPLCONF rdb-filter-only``: what the snapshot is to have, and nothing else.

    Raises ReplyError.
    """
    words = split_words(value)
    if words is None:
        raise ReplyError(b"ERR Missing rdb-filter-only values")
    needs = Needs(data=False, functions=False)
    for word in words:
        if word.lower() != b"functions":
            raise ReplyError(b"ERR Unsupported rdb-filter-only option: %b" % word)
        needs.functions = True
    return needs
