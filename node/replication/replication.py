"""What a server is in replication: a master or a replica, of which history, and how it changes.

Two parts do the work: :class:`~node.replication.primary.Primary` is what the server does for its
replicas (a replica may have some as well), :class:`~node.replication.link.Link` is its connection
to its own master. This component holds what both need, and what clients ask for.

Behaviour, fields and log lines after replication.c of Redis 7.2 (``replicationSetMaster``,
``replicationUnsetMaster``, ``roleCommand``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from node.clients import describe
from node.command import Group
from node.component import Component
from node.information import Fields, Section
from node.persistence.aof_writer import EVERY_SECOND
from node.replication.failover import NONE as NO_FAILOVER
from node.replication.failover import Failover
from node.replication.history import ID_LENGTH, History
from node.replication.primary import Primary
from node.resp import OK, Reply, ReplyError, Status
from node.session import CLASS_REPLICA, Session
from node.values.number import parse_integer

if TYPE_CHECKING:
    from node.pause import Pause
    from node.persistence.aof import AppendOnlyFile
    from node.persistence.child import Child
    from node.persistence.snapshots import Snapshots
    from node.replication.link import Link
    from node.server import Server

GROUP: Final = Group("server")

MASTER: Final = "master"
REPLICA: Final = "slave"

UNBLOCKED: Final = (
    b"UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)"
)


class Replication(Component):
    """The role of the server and the history that its data are part of.

    ``link`` is set by whoever puts the server together. ``role_changed`` are called after each
    change of ``role``. ``input_bytes`` and ``output_bytes`` count what has come from the master
    and what has gone to replicas.
    """

    def __init__(
        self,
        server: Server,
        child: Child,
        snapshots: Snapshots,
        log_file: AppendOnlyFile,
        pause: Pause,
    ) -> None:
        super().__init__(server.engine)
        self.server = server
        self.config = server.config
        self.log = server.log
        self.clock = server.clock
        self.history = History(self._draw_id)
        self.role = MASTER
        self.role_changed: list[Callable[[], None]] = []
        self.input_bytes = 0
        self.output_bytes = 0
        self.link: Link | None = None
        # Whether somebody else decides on the role (cluster mode), and not clients.
        self.clustered = False
        self.pause = pause
        self.log_file = log_file
        log_file.writer.tell_offset = self._tell_offset
        log_file.writer.advanced = self._attend_log
        self.masters = Primary(self, child, snapshots)
        self.failover = Failover(self, pause)

    def _draw_id(self) -> bytes:
        return b"%040x" % self.engine.keyspace.random.getrandbits(160)

    def _tell_offset(self) -> int:
        return self.history.offset

    def _attend_log(self) -> None:
        """More is in the append-only file for good, or there is none any more."""
        self.masters.acknowledgements.check()
        if self.link is not None and self.log_file.writer.policy == EVERY_SECOND:
            self.link.acknowledge()  # somebody up there may wait for it

    def groups(self) -> Sequence[Group]:
        return (GROUP,)

    @property
    def is_replica(self) -> bool:
        """Whether there is a master above this server, connected or not."""
        return self.role == REPLICA

    @property
    def stream_db(self) -> int:
        """The database that the stream is in where the history ends; 0 if it begins with SELECT."""
        return self.link.stream_db if self.link is not None and self.is_replica else 0

    # The role.

    def begin(self) -> None:
        """At start: be a replica if the configuration says so. The data are still to be loaded."""
        address = self.config.values("replicaof")
        link = self.link
        if address and link is not None:
            self._change_role(REPLICA)
            link.follow(address[0], int(address[1]))
            link.resumable = False

    def take_lineage(self, aux: dict[bytes, bytes]) -> None:
        """A snapshot is loaded at start: of which history its data are part, if it says so.

        A replica asks its master to go on there. A master begins a history of its own, which
        continues that one (``loadDataFromDisk``).
        """
        known = aux.get(b"repl-id", b"")
        offset = aux.get(b"repl-offset", b"")
        if len(known) != ID_LENGTH or not offset.isdigit():
            return
        history = self.history
        history.join(known, int(offset))
        link = self.link
        size = self.config.integer("repl-backlog-size")
        if link is not None and self.is_replica:
            selected = aux.get(b"repl-stream-db", b"")
            link.resume(int(selected) if selected.isdigit() else 0)
        else:
            history.fork()
        history.open_backlog(size)
        self.masters.role_changed()

    def follow(self, host: str, port: int) -> None:
        """Become a replica of the master there, or of another master than before.

        The data stay, and so does the history: the master may be able to go on with it.
        """
        link = self.link
        assert link is not None
        if self.role == MASTER:
            self.log.notice(
                "Before turning into a replica, using my own master parameters to synthesize a "
                "cached master: I may be able to synchronize with the new master with just a "
                "partial transfer."
            )
            self.history.open_backlog(self.config.integer("repl-backlog-size"))
            self._unblock_all()
            self._change_role(REPLICA)
        self.config.adopt("replicaof", (host, str(port)))
        link.follow(host, port)

    def promote(self) -> None:
        """Become a master with a history of its own, which continues that of the master before."""
        link = self.link
        if self.role == MASTER:
            return
        assert link is not None
        link.leave()
        self.config.adopt("replicaof", ())
        history = self.history
        history.fork()
        self.log.notice(
            f"Setting secondary replication ID to {history.second_id.decode()}, valid up to "
            f"offset: {history.second_end + 1}. New replication ID is {history.id.decode()}"
        )
        # They have to learn the new id, which they do when they come back.
        self.masters.disconnect_all()
        self._change_role(MASTER)

    def change_id(self, ctx: Session, argv: list[bytes]) -> Reply:
        """DEBUG CHANGE-REPL-ID: a history that nobody else is part of, for tests."""
        self.log.notice("Changing replication IDs after receiving change-repl-id")
        self.history.begin_anew()
        return OK

    def _change_role(self, role: str) -> None:
        self.role = role
        self.masters.role_changed()
        for hear in self.role_changed:
            hear()

    def _unblock_all(self) -> None:
        """What the clients wait for will not come: they are no longer at a master."""
        for wait in list(self.engine.blocking.waits):
            if not wait.session.from_master:
                self.engine.blocking.unblock(wait.session, UNBLOCKED)
                wait.session.closing = True

    # Commands.

    @GROUP.command(
        "role",
        1,
        "noscript loading stale fast",
        categories="admin dangerous",
        since="2.8.12",
        complexity="O(1)",
        summary="Tells what the server is in replication.",
    )
    def tell_role(self, ctx: Session, argv: list[bytes]) -> Reply:
        """``master``, its offset, its replicas; ``slave``, its master, the link's state, offset."""
        link = self.link
        if link is not None and self.is_replica:
            return [
                b"slave",
                link.host.encode(),
                link.port,
                link.state.encode(),
                link.position,
            ]
        return [b"master", self.history.offset, self.masters.list_online()]

    @GROUP.command(
        "replicaof",
        3,
        "admin noscript stale no_async_loading",
        since="5.0.0",
        complexity="O(1)",
        summary="Makes the server a replica of another one, or a master.",
        syntax="<host port | NO ONE>",
    )
    def replicaof(self, ctx: Session, argv: list[bytes]) -> Reply:
        """OK at once: what follows goes on by itself."""
        if self.clustered:
            raise ReplyError(b"ERR REPLICAOF not allowed in cluster mode.")
        if self.failover.state != NO_FAILOVER:
            raise ReplyError(b"ERR REPLICAOF not allowed while failing over.")
        who = describe(ctx, self.server.hub, argv).decode(errors="replace")
        if argv[1].lower() == b"no" and argv[2].lower() == b"one":
            if self.is_replica:
                self.promote()
                self.log.notice(f"MASTER MODE enabled (user request from '{who}')")
            return OK
        if ctx.client_class == CLASS_REPLICA and not ctx.monitor:
            raise ReplyError(b"ERR Command is not valid when client is a replica.")
        port = parse_integer(argv[2])
        if port is None or not 0 <= port <= 65535:
            raise ReplyError(b"ERR Invalid master port")
        host = argv[1].decode(errors="surrogateescape")
        link = self.link
        if link is not None and self.is_replica and (link.host, link.port) == (host, port):
            self.log.notice(
                "REPLICAOF would result into synchronization with the master we are already "
                "connected with. No operation performed."
            )
            return Status(b"OK Already connected to specified master")
        self.follow(host, port)
        self.log.notice(f"REPLICAOF {host}:{port} enabled (user request from '{who}')")
        return OK

    @GROUP.command(
        "slaveof",
        3,
        "admin noscript stale no_async_loading",
        since="1.0.0",
        complexity="O(1)",
        summary="Makes the server a replica of another one, or a master.",
        syntax="<host port | NO ONE>",
        deprecated_since="5.0.0",
        replaced_by="`REPLICAOF`",
        doc_flags=("deprecated",),
    )
    def slaveof(self, ctx: Session, argv: list[bytes]) -> Reply:
        """The old name of REPLICAOF."""
        return self.replicaof(ctx, argv)

    # Work of its own.

    def tick(self, now_ns: int) -> None:
        if self.link is not None:
            self.link.tick(now_ns)

    async def run(self) -> None:
        """The connection to the master, as long as there is to be one."""
        if self.link is not None:
            await self.link.run()

    # INFO.

    def sections(self) -> Sequence[Section]:
        return (Section("Replication", self._collect), Section("Stats", self._collect_stats))

    def reset_statistics(self) -> None:
        self.input_bytes = 0
        self.output_bytes = 0

    def _collect(self) -> Fields:
        history = self.history
        backlog = history.backlog
        link = self.link
        fields: Fields = [("role", self.role)]
        if link is not None and self.is_replica:
            fields += link.fields()
        return [
            *fields,
            *self.masters.describe_replicas(),
            ("master_failover_state", self.failover.state),
            ("master_replid", history.id.decode()),
            ("master_replid2", history.second_id.decode()),
            ("master_repl_offset", history.offset),
            ("second_repl_offset", history.second_end + 1 if history.second_end >= 0 else -1),
            ("repl_backlog_active", int(backlog is not None)),
            ("repl_backlog_size", self.config.integer("repl-backlog-size")),
            ("repl_backlog_first_byte_offset", 0 if backlog is None else backlog.start + 1),
            ("repl_backlog_histlen", 0 if backlog is None else len(backlog)),
        ]

    def _collect_stats(self) -> Fields:
        masters = self.masters
        return [
            ("total_net_repl_input_bytes", self.input_bytes),
            ("total_net_repl_output_bytes", self.output_bytes),
            ("sync_full", masters.full_syncs),
            ("sync_partial_ok", masters.partial_syncs),
            ("sync_partial_err", masters.partial_refusals),
        ]
