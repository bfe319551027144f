"""What a server does for its replicas: it lets them in, and gets them to the end of its history.

A replica that can go on from the backlog is fed at once (:mod:`.feed`); one that cannot waits for a
snapshot (:mod:`.synchronizer`). How much waits for a replica, in whatever way, is bounded by its
output limit, and for how long it may be silent by ``repl-timeout``.

Behaviour and log lines after replication.c of Redis 7.2 (``syncCommand``,
``masterTryPartialResync``, ``replconfCommand``, ``replicationCron``).
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from node.clients import describe
from node.command import Group
from node.commands.arguments import SYNTAX_ERROR, bounded_integer, integer
from node.component import Component
from node.information import Fields
from node.pause import BY_FAILOVER, BY_SHUTDOWN
from node.replication.acknowledgements import Acknowledgements
from node.replication.feed import UNLIMITED, Feed
from node.replication.replica import (
    AWAITING,
    CATCHING_UP,
    STATE_NAMES,
    STRANGER,
    WAITING,
    Needs,
    Replica,
)
from node.replication.synchronizer import Synchronizer
from node.resp import NO_REPLY, OK, Reply, ReplyError, encode_request
from node.session import CLASS_REPLICA, GATE_OUTSIDE, GATE_REPLY, REPLY_NEVER, Session
from node.values.number import parse_integer
from node.words import split_words

if TYPE_CHECKING:
    from node.persistence.child import Child
    from node.persistence.snapshots import Snapshots
    from node.replication.replication import Replication

GROUP: Final = Group("server")

SECOND_NS: Final = 1_000_000_000
LONGEST_ADDRESS: Final = 255

PING: Final = encode_request([b"PING"])
SIGN_OF_LIFE: Final = b"\n"

NO_LINK: Final = b"NOMASTERLINK Can't SYNC while not connected with my master"
PENDING_OUTPUT: Final = b"ERR SYNC and PSYNC are invalid with pending output"
NEEDS_MARK: Final = b"ERR Filtered replica requires EOF capability"


class Primary(Component):
    """The replicas of this server. ``acknowledgements`` is a component of its own."""

    def __init__(self, replication: Replication, child: Child, snapshots: Snapshots) -> None:
        super().__init__(replication.engine)
        self._replication = replication
        self._history = replication.history
        self._config = replication.config
        self._log = replication.log
        self._hub = replication.server.hub
        self._feed = Feed(replication)
        self._synchronizer = Synchronizer(replication, self._feed, child, snapshots)
        self.acknowledgements = Acknowledgements(replication, self._feed)
        self.full_syncs = 0
        self.partial_syncs = 0
        self.partial_refusals = 0
        # By the id of their session: all who have said anything as a replica does. Those of them
        # who have asked for the history are in the feed.
        self._known: dict[int, Replica] = {}
        self._second_ns = 0
        self._seconds = 0
        self._alone_since = replication.clock.monotonic_ns()
        self._hub.barriers.append(self._feed.flush)
        snapshots.lineage = self.describe_lineage
        replication.config.on_change(
            ("repl-backlog-size", "client-output-buffer-limit"), self.configure
        )
        self.configure()

    def configure(self) -> None:
        """Take over the directives."""
        config = self._config
        size = config.integer("repl-backlog-size")
        backlog = self._history.backlog
        if backlog is not None and backlog.size != size:
            backlog.resize(size)
            self._feed.trim()
        # The same as in the hub: see Server._copy_limits.
        hard = config.output_buffer_limits()["slave"][0]
        self._feed.limit = max(hard, size) if hard else UNLIMITED

    def groups(self) -> Sequence[Group]:
        return (GROUP,)

    def reset_statistics(self) -> None:
        self.full_syncs = 0
        self.partial_syncs = 0
        self.partial_refusals = 0

    def role_changed(self) -> None:
        """The server has become a master, or a replica: the stream has another source."""
        self._feed.follow_log()
        self.acknowledgements.configure()
        self._alone_since = self._replication.clock.monotonic_ns()

    def feed(self, wire: bytes) -> None:
        """On a replica: what comes from the own master goes on to the own replicas."""
        self._feed.append(wire)

    async def run(self) -> None:
        await self._synchronizer.run()

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
            self._replica_of(ctx).snapshot_only = bounded_integer(value, 0, 1) == 1
        elif option == b"rdb-filter-only":
            self._restrict(self._replica_of(ctx), value)
        elif option != b"version":
            raise ReplyError(b"ERR Unrecognized REPLCONF option: %b" % written.partition(b"\0")[0])

    @staticmethod
    def _restrict(replica: Replica, value: bytes) -> None:
        """What the snapshot is to have, and nothing else. Raises ReplyError."""
        words = split_words(value)
        if words is None:
            raise ReplyError(b"ERR Missing rdb-filter-only values")
        needs = replica.needs = Needs(data=False, functions=False)
        for word in words:
            if word.lower() != b"functions":
                raise ReplyError(b"ERR Unsupported rdb-filter-only option: %b" % word)
            needs.functions = True

    def _hear(self, session: Session, argv: list[bytes]) -> None:
        """A replica says how much it has."""
        replica = self._feed.replicas.get(session.id)
        if replica is None:
            return
        try:
            offset = integer(argv[2])
        except ReplyError:
            return
        logged = parse_integer(argv[4]) if len(argv) > 4 and argv[3].lower() == b"fack" else None
        self._synchronizer.hear(replica)
        self.acknowledgements.hear(replica, offset, -1 if logged is None else logged)

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
        who = describe(ctx, self._hub).decode(errors="replace")
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
        self._feed.replicas[session.id] = replica
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
        self._feed.begin(replica)

    def _synchronize(self, replica: Replica) -> None:
        """Send the replica all data, when there is a snapshot."""
        log = self._log
        history = self._history
        self.full_syncs += 1
        self._enter(replica)
        if history.backlog is None:
            history.serve(self._config.integer("repl-backlog-size"))
            self._feed.follow_log()
            log.notice(
                "Replication backlog created, my new replication IDs are "
                f"'{history.id.decode()}' and '{history.second_id.decode()}'"
            )
        self._synchronizer.admit(replica)

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
        if replica is None or session.id not in self._feed.replicas:
            return
        self._log.notice(f"Connection with replica {replica.name} lost.")
        self._feed.remove(replica)
        self._synchronizer.remove(replica)
        replica.state = STRANGER
        session.drained = None
        if not self._feed.replicas:
            self._alone_since = self._replication.clock.monotonic_ns()

    def disconnect_all(self) -> None:
        """The history is another one: the replicas have to ask again."""
        for replica in self.replicas:
            replica.cut()

    # Periodic work.

    def tick(self, now_ns: int) -> None:
        for replica in self.replicas:
            self._check_lag(replica)
        self._synchronizer.start_waiting()
        if now_ns - self._second_ns >= SECOND_NS:
            self._second_ns = now_ns
            self._attend(now_ns)

    def _check_lag(self, replica: Replica) -> None:
        """What is kept in the backlog for a replica alone counts as its output."""
        if not AWAITING <= replica.state <= CATCHING_UP:
            return
        session = replica.session
        kept = self._history.offset - replica.position
        if kept >= self._feed.limit:
            self._hub.statistics.output_limit_cuts += 1
            self._log.warning(
                f"Client id={session.id} addr={session.address.decode(errors='replace')} "
                f"omem={kept} scheduled to be closed ASAP for overcoming of output buffer limits."
            )
            replica.cut()
            self._feed.trim()

    def _attend(self, now_ns: int) -> None:
        """What is done once a second."""
        config = self._config
        feed = self._feed
        self._seconds += 1
        replication = self._replication
        pause = replication.pause
        standing = pause.holds(BY_FAILOVER) or pause.holds(BY_SHUTDOWN)  # nothing may be added
        if feed.replicas and not replication.is_replica and not standing:
            if self._seconds % config.integer("repl-ping-replica-period") == 0:
                feed.fill(PING)
        limit = config.integer("repl-timeout") * 1000
        now = self.engine.keyspace.now
        for replica in self.replicas:
            streamed = replica.sync is not None and replica.sync.streamed
            if replica.streaming:
                if not replica.old and now - replica.session.heard > limit:
                    self._log.warning(
                        f"Disconnecting timedout replica (streaming sync): {replica.name}"
                    )
                    replica.cut()
            elif replica.state == WAITING or (replica.state == AWAITING and not streamed):
                replica.push(SIGN_OF_LIFE)
            elif replica.unsent and now - replica.session.active > limit:
                self._log.warning(f"Disconnecting timedout replica (full sync): {replica.name}")
                replica.cut()
        self._drop_backlog(now_ns)

    def _drop_backlog(self, now_ns: int) -> None:
        """Nobody has wanted the history for a long time: do not keep it."""
        seconds = self._config.integer("repl-backlog-ttl")
        history = self._history
        if self._feed.replicas or not seconds or history.backlog is None:
            return
        if not self._replication.is_replica and now_ns - self._alone_since > seconds * SECOND_NS:
            history.drop_backlog()
            self._feed.follow_log()
            self._log.notice(
                f"Replication backlog freed after {seconds} seconds without connected replicas."
            )

    # What is told of them.

    @property
    def replicas(self) -> list[Replica]:
        """All who have asked for the history."""
        return list(self._feed.replicas.values())

    def list_online(self) -> list[Reply]:
        """Address, port and offset of each replica that gets the stream, for ROLE."""
        return [
            [replica.host.encode(), b"%d" % replica.port, b"%d" % max(0, replica.offset)]
            for replica in self._feed.replicas.values()
            if replica.streaming
        ]

    def describe_replicas(self) -> Fields:
        """The fields of INFO."""
        fields: Fields = [("connected_slaves", len(self._feed.replicas))]
        if self.acknowledgements.guarding:
            good = self.acknowledgements.count_good()
            fields.append(("min_slaves_good_slaves", good))
        now = self.engine.keyspace.now
        for number, replica in enumerate(self._feed.replicas.values()):
            lag = now // 1000 - replica.session.heard // 1000 if replica.streaming else 0
            fields.append(
                (
                    f"slave{number}",
                    (
                        f"ip={replica.host},port={replica.port},"
                        f"state={STATE_NAMES[replica.state]},"
                        f"offset={max(0, replica.offset)},lag={lag}"
                    ),
                )
            )
        return fields
