"""CLUSTER and its kin: what clients and operators ask of a node of a cluster.

Without cluster mode all of them say that there is none. Behaviour and texts after
``clusterCommand`` in cluster.c of Redis 7.2.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from cluster import message
from cluster.description import describe_node, describe_nodes
from cluster.restrictions import restrict_commands
from cluster.routing import ENDPOINT_HOSTNAME, ENDPOINT_IP, ENDPOINT_UNKNOWN, Router
from cluster.slots import SLOTS, key_slot, slot_index
from cluster.state import FAIL, PFAIL, Node
from node.command import Group
from node.commands.arguments import SYNTAX_ERROR, integer, subcommand_error
from node.component import Component
from node.resp import OK, Map, Reply, ReplyError, Status, Verbatim
from node.session import Session
from node.values.number import parse_integer

if TYPE_CHECKING:
    from cluster.cluster import Cluster
    from node.engine import Engine

GROUP: Final = Group("cluster")
GROUP.container("cluster", since="3.0.0", summary="Holds the commands about the cluster.")

DISABLED: Final = b"ERR This instance has cluster support disabled"
BAD_SLOT: Final = b"ERR Invalid or out of range slot"
LARGEST_PORT: Final = 65535
ADMIN: Final = "admin stale no_async_loading"
ADMIN_LOOK: Final = "admin stale"
STALE: Final = "stale"

HELP: Final = (
    "CLUSTER <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "COUNTKEYSINSLOT <slot>",
    "    Count the keys of <slot> on this node.",
    "GETKEYSINSLOT <slot> <count>",
    "    List up to <count> keys of <slot> on this node.",
    "INFO",
    "    Describe the cluster as this node sees it.",
    "KEYSLOT <key>",
    "    Tell the hash slot of <key>.",
    "MYID",
    "    Tell the name of this node.",
    "MYSHARDID",
    "    Tell the name of the shard that this node is in.",
    "NODES",
    "    Describe all nodes, one in a line:",
    "    <id> <ip:port@bus-port[,hostname]> <flags> <master> <ping> <pong> <epoch> <link> <slots>",
    "REPLICAS <node-id>",
    "    Describe the replicas of <node-id>.",
    "SLOTS",
    "    List ranges of slots, and the nodes that have them.",
    "SHARDS",
    "    List the shards: their slots and their nodes.",
    "ADDSLOTS <slot> [<slot> ...]",
    "    Let this node have slots that nobody has.",
    "ADDSLOTSRANGE <start slot> <end slot> [<start slot> <end slot> ...]",
    "    The same for ranges.",
    "BUMPEPOCH",
    "    Take a larger config epoch without asking the other nodes.",
    "COUNT-FAILURE-REPORTS <node-id>",
    "    Count the masters that say that <node-id> fails.",
    "DELSLOTS <slot> [<slot> ...]",
    "    Let this node know no owner of slots.",
    "DELSLOTSRANGE <start slot> <end slot> [<start slot> <end slot> ...]",
    "    The same for ranges.",
    "FAILOVER [FORCE|TAKEOVER]",
    "    Let this replica take its master's place.",
    "FORGET <node-id>",
    "    Know <node-id> no more.",
    "FLUSHSLOTS",
    "    Let this node have no slots.",
    "MEET <ip> <port> [<bus-port>]",
    "    Let the node at that address into the cluster.",
    "REPLICATE <node-id>",
    "    Become a replica of <node-id>.",
    "RESET [HARD|SOFT]",
    "    Forget the cluster (default: SOFT).",
    "SET-CONFIG-EPOCH <epoch>",
    "    Set the config epoch of a node that is alone.",
    "SETSLOT <slot> (IMPORTING <node-id>|MIGRATING <node-id>|STABLE|NODE <node-id>)",
    "    Say what becomes of <slot>.",
    "SAVECONFIG",
    "    Write the cluster's file.",
    "LINKS",
    "    Describe the links to and from the other nodes.",
    "HELP",
    "    Print this help.",
)


class ClusterCommands(Component):
    """The commands; ``cluster`` is None where there is no cluster mode."""

    def __init__(self, engine: Engine, cluster: Cluster | None, router: Router | None) -> None:
        super().__init__(engine)
        self._cluster = cluster
        self._router = router

    def groups(self) -> Sequence[Group]:
        return (GROUP,)

    def installed(self) -> None:
        if self._cluster is not None:
            restrict_commands(self.engine)
            return
        for command in self.engine.all_commands():
            if command.spec.group == GROUP.name:
                command.handler = _refuse

    @property
    def _mode(self) -> Cluster:
        """The cluster mode. Raises ReplyError where there is none."""
        if self._cluster is None:
            raise ReplyError(DISABLED)
        return self._cluster

    def _find(self, name: bytes, text: bytes = b"ERR Unknown node %b") -> Node:
        """A node by its name. Raises ReplyError with ``text``."""
        node = self._mode.state.find(name.decode("latin-1"))
        if node is None:
            raise ReplyError(text % name)
        return node

    def _changed(self, flush: bool = True) -> Status:
        """OK, as soon as the change is on disk, or without ``flush`` in the file."""
        cluster = self._mode
        cluster.machine.doubt()
        cluster.save_before_reply(flush)
        return OK

    # Clients.

    @GROUP.command(
        "asking",
        1,
        "fast",
        categories="connection",
        since="3.0.0",
        complexity="O(1)",
        summary="Lets the next command be executed in a slot that is being imported.",
    )
    def asking(self, ctx: Session, argv: list[bytes]) -> Reply:
        """OK."""
        self._mode  # noqa: B018 raises
        if not ctx.in_exec:
            ctx.asking = True
        return OK

    @GROUP.command(
        "readonly",
        1,
        "loading stale fast",
        categories="connection",
        since="3.0.0",
        complexity="O(1)",
        summary="Lets a replica answer reads of this client.",
    )
    def readonly(self, ctx: Session, argv: list[bytes]) -> Reply:
        """OK."""
        self._mode  # noqa: B018 raises
        ctx.read_only = True
        return OK

    @GROUP.command(
        "readwrite",
        1,
        "loading stale fast",
        categories="connection",
        since="3.0.0",
        complexity="O(1)",
        summary="Lets a replica redirect all requests of this client.",
    )
    def readwrite(self, ctx: Session, argv: list[bytes]) -> Reply:
        """OK."""
        self._mode  # noqa: B018 raises
        ctx.read_only = False
        return OK

    def session_reset(self, session: Session) -> None:
        session.asking = False
        session.read_only = False

    # What a node knows.

    @GROUP.command(
        "cluster|myid",
        2,
        STALE,
        since="3.0.0",
        complexity="O(1)",
        summary="Tells the name of this node.",
    )
    def tell_name(self, ctx: Session, argv: list[bytes]) -> Reply:
        """40 hexadecimal digits."""
        return self._mode.machine.myself.name.encode()

    @GROUP.command(
        "cluster|myshardid",
        2,
        STALE,
        since="7.2.0",
        complexity="O(1)",
        summary="Tells the name of this node's shard.",
        tips=("nondeterministic_output",),
    )
    def tell_shard(self, ctx: Session, argv: list[bytes]) -> Reply:
        """40 hexadecimal digits."""
        return self._mode.machine.myself.shard.encode()

    @GROUP.command(
        "cluster|keyslot",
        3,
        STALE,
        since="3.0.0",
        complexity="O(N) where N is the number of bytes in the key",
        summary="Tells the hash slot of a key.",
        syntax="key:string",
    )
    def tell_slot(self, ctx: Session, argv: list[bytes]) -> Reply:
        """0 to 16383."""
        self._mode  # noqa: B018 raises
        return key_slot(argv[2])

    @GROUP.command(
        "cluster|countkeysinslot",
        3,
        STALE,
        since="3.0.0",
        complexity="O(1)",
        summary="Counts the keys of a slot.",
        syntax="slot:integer",
    )
    def count_keys(self, ctx: Session, argv: list[bytes]) -> Reply:
        """The number of keys that this node has."""
        cluster = self._mode
        slot = integer(argv[2])
        if not 0 <= slot < SLOTS:
            raise ReplyError(b"ERR Invalid slot")
        return cluster.count_keys(slot)

    @GROUP.command(
        "cluster|getkeysinslot",
        4,
        STALE,
        since="3.0.0",
        complexity="O(N) where N is the number of requested keys",
        summary="Lists keys of a slot.",
        syntax="slot:integer count:integer",
        tips=("nondeterministic_output",),
    )
    def list_keys(self, ctx: Session, argv: list[bytes]) -> Reply:
        """Names of keys."""
        self._mode  # noqa: B018 raises
        slot = integer(argv[2])
        most = integer(argv[3])
        if not 0 <= slot < SLOTS or most < 0:
            raise ReplyError(b"ERR Invalid slot or number of keys")
        return slot_index(self.engine.keyspace.databases[0]).keys(slot, most)

    @GROUP.command(
        "cluster|nodes",
        2,
        STALE,
        since="3.0.0",
        complexity="O(N) where N is the total number of Cluster nodes",
        summary="Describes all nodes.",
        tips=("nondeterministic_output",),
    )
    def list_nodes(self, ctx: Session, argv: list[bytes]) -> Reply:
        """A line for each node."""
        return Verbatim(describe_nodes(self._mode.state).encode())

    @GROUP.command(
        "cluster|replicas",
        3,
        ADMIN_LOOK,
        since="5.0.0",
        complexity="O(N) where N is the number of replicas.",
        summary="Describes the replicas of a master.",
        syntax="node-id:string",
        tips=("nondeterministic_output",),
    )
    def list_replicas(self, ctx: Session, argv: list[bytes]) -> Reply:
        """A line for each replica, as in CLUSTER NODES."""
        state = self._mode.state
        node = self._find(argv[2])
        if node.is_replica:
            raise ReplyError(b"ERR The specified node is not a master")
        return [describe_node(state, replica).encode() for replica in node.replicas]

    @GROUP.command(
        "cluster|slaves",
        3,
        ADMIN_LOOK,
        since="3.0.0",
        complexity="O(N) where N is the number of replicas.",
        summary="Describes the replicas of a master.",
        syntax="node-id:string",
        deprecated_since="5.0.0",
        replaced_by="`CLUSTER REPLICAS`",
        doc_flags=("deprecated",),
        tips=("nondeterministic_output",),
    )
    def list_slaves(self, ctx: Session, argv: list[bytes]) -> Reply:
        """The old name of CLUSTER REPLICAS."""
        return self.list_replicas(ctx, argv)

    @GROUP.command(
        "cluster|count-failure-reports",
        3,
        ADMIN_LOOK,
        since="3.0.0",
        complexity="O(N) where N is the number of failure reports",
        summary="Counts who says that a node fails.",
        syntax="node-id:string",
        tips=("nondeterministic_output",),
    )
    def count_failure_reports(self, ctx: Session, argv: list[bytes]) -> Reply:
        """The number of masters."""
        return self._mode.machine.failures.count_reports(self._find(argv[2]))

    @GROUP.command(
        "cluster|links",
        2,
        STALE,
        since="7.0.0",
        complexity="O(N) where N is the total number of Cluster nodes",
        summary="Describes the links of the bus.",
        tips=("nondeterministic_output",),
    )
    def list_links(self, ctx: Session, argv: list[bytes]) -> Reply:
        """A map for each link to or from a node that is known."""
        found: list[Reply] = []
        for link in self._mode.bus.links:
            if link.node is None or not link.open:
                continue
            found.append(
                Map(
                    [
                        b"direction",
                        b"from" if link.inbound else b"to",
                        b"node",
                        link.node.name.encode(),
                        b"create-time",
                        link.created,
                        b"events",
                        b"rw" if link.queued else b"r",
                        b"send-buffer-allocated",
                        link.queued,
                        b"send-buffer-used",
                        link.queued,
                    ]
                )
            )
        return found

    @GROUP.command(
        "cluster|info",
        2,
        STALE,
        since="3.0.0",
        complexity="O(1)",
        summary="Describes the cluster.",
        tips=("nondeterministic_output",),
    )
    def tell_info(self, ctx: Session, argv: list[bytes]) -> Reply:
        """Fields as in INFO."""
        fields = self.collect_info()
        return Verbatim("".join(f"{name}:{value}\r\n" for name, value in fields).encode())

    def collect_info(self) -> list[tuple[str, object]]:
        cluster = self._mode
        state = cluster.state
        failed = suspect = 0
        for node in state.nodes.values():
            if node.flags & FAIL:
                failed += node.slot_count
            elif node.flags & PFAIL:
                suspect += node.slot_count
        head = state.myself.master or state.myself
        fields: list[tuple[str, object]] = [
            ("cluster_state", "ok" if state.up else "fail"),
            ("cluster_slots_assigned", state.assigned),
            ("cluster_slots_ok", state.assigned - failed - suspect),
            ("cluster_slots_pfail", suspect),
            ("cluster_slots_fail", failed),
            ("cluster_known_nodes", len(state.nodes)),
            ("cluster_size", state.size),
            ("cluster_current_epoch", state.current_epoch),
            ("cluster_my_epoch", head.config_epoch),
        ]
        counts = cluster.machine.counts
        for what, numbers in (("sent", counts.sent), ("received", counts.received)):
            for name, number in zip(message.TYPE_NAMES, numbers, strict=True):
                if number:
                    fields.append((f"cluster_stats_messages_{name}_{what}", number))
            fields.append((f"cluster_stats_messages_{what}", sum(numbers)))
        fields.append(("total_cluster_links_buffer_limit_exceeded", cluster.bus.limit_exceeded))
        return fields

    @GROUP.command(
        "cluster|slots",
        2,
        "loading stale",
        since="3.0.0",
        complexity="O(N) where N is the total number of Cluster nodes",
        summary="Lists ranges of slots and who has them.",
        deprecated_since="7.0.0",
        replaced_by="`CLUSTER SHARDS`",
        doc_flags=("deprecated",),
        tips=("nondeterministic_output",),
        history=(
            ("4.0.0", "Tells the names of the nodes."),
            ("7.0.0", "Tells further addresses of the nodes."),
        ),
    )
    def list_slots(self, ctx: Session, argv: list[bytes]) -> Reply:
        """First slot, last slot, master, replicas of each range."""
        state = self._mode.state
        found: list[tuple[int, Reply]] = []
        for node in state.masters():
            if not node.slot_count:
                continue
            nodes = [node, *filter(self._is_available, node.replicas)]
            for first, last in node.slot_ranges:
                found.append((first, [first, last, *map(self._describe_endpoint, nodes)]))
        found.sort(key=lambda entry: entry[0])
        return [entry for _, entry in found]

    def _offset_of(self, node: Node) -> int:
        cluster = self._mode
        return cluster.replication_offset() if node is cluster.machine.myself else node.offset

    def _is_available(self, node: Node) -> bool:
        return not node.failed and self._offset_of(node) != 0

    def _endpoint(self, node: Node) -> bytes | None:
        router = self._router
        assert router is not None
        host = router.endpoint_of(node)
        return None if host is None else host.encode()

    def _describe_endpoint(self, node: Node) -> Reply:
        """Where clients are to connect to, and where else the node can be found."""
        router = self._router
        assert router is not None
        further: list[Reply] = []
        if router.endpoint != ENDPOINT_IP and node.ip:
            further += [b"ip", node.ip.encode()]
        if router.endpoint != ENDPOINT_HOSTNAME and node.hostname:
            further += [b"hostname", node.hostname.encode()]
        return [self._endpoint(node), node.port, node.name.encode(), Map(further)]

    @GROUP.command(
        "cluster|shards",
        2,
        "loading stale",
        since="7.0.0",
        complexity="O(N) where N is the total number of cluster nodes",
        summary="Lists the shards.",
        tips=("nondeterministic_output",),
    )
    def list_shards(self, ctx: Session, argv: list[bytes]) -> Reply:
        """Slots and nodes of each shard."""
        state = self._mode.state
        shards: list[Reply] = []
        for node in state.nodes.values():
            if node.in_handshake or (node.is_replica and node.master is not None):
                continue
            ranges = [bound for pair in node.slot_ranges for bound in pair]
            nodes = [self._describe_member(member) for member in state.shard_of(node)]
            shards.append(Map([b"slots", ranges, b"nodes", nodes]))
        return shards

    def _describe_member(self, node: Node) -> Reply:
        items: list[Reply] = [b"id", node.name.encode()]
        if node.port:
            items += [b"port", node.port]
        if node.tls_port:
            items += [b"tls-port", node.tls_port]
        endpoint = self._endpoint(node)
        items += [b"ip", node.ip.encode(), b"endpoint", endpoint or b""]
        if node.hostname:
            items += [b"hostname", node.hostname.encode()]
        offset = self._offset_of(node)
        health = b"online"
        if node.failed:
            health = b"fail"
        elif node.is_replica and offset == 0:
            health = b"loading"
        items += [
            b"role",
            b"master" if node.is_master else b"replica",
            b"replication-offset",
            offset,
            b"health",
            health,
        ]
        return Map(items)

    # Slots.

    @GROUP.command(
        "cluster|addslots",
        -3,
        ADMIN,
        since="3.0.0",
        complexity="O(N) where N is the total number of hash slot arguments",
        summary="Lets this node have slots.",
        syntax="slot:integer [slot:integer ...]",
    )
    def add_slots(self, ctx: Session, argv: list[bytes]) -> Reply:
        """OK; all or none."""
        return self._assign(_parse_slots(argv[2:]), True)

    @GROUP.command(
        "cluster|delslots",
        -3,
        ADMIN,
        since="3.0.0",
        complexity="O(N) where N is the total number of hash slot arguments",
        summary="Lets this node know no owner of slots.",
        syntax="slot:integer [slot:integer ...]",
    )
    def delete_slots(self, ctx: Session, argv: list[bytes]) -> Reply:
        """OK; all or none."""
        return self._assign(_parse_slots(argv[2:]), False)

    @GROUP.command(
        "cluster|addslotsrange",
        -4,
        ADMIN,
        since="7.0.0",
        complexity=(
            "O(N) where N is the total number of the slots between the start "
            "slot and end slot arguments."
        ),
        summary="Lets this node have ranges of slots.",
        syntax="<start-slot:integer end-slot:integer> [<start-slot:integer end-slot:integer> ...]",
    )
    def add_ranges(self, ctx: Session, argv: list[bytes]) -> Reply:
        """OK; all or none."""
        return self._assign(_parse_ranges(argv), True)

    @GROUP.command(
        "cluster|delslotsrange",
        -4,
        ADMIN,
        since="7.0.0",
        complexity=(
            "O(N) where N is the total number of the slots between the start "
            "slot and end slot arguments."
        ),
        summary="Lets this node know no owner of ranges of slots.",
        syntax="<start-slot:integer end-slot:integer> [<start-slot:integer end-slot:integer> ...]",
    )
    def delete_ranges(self, ctx: Session, argv: list[bytes]) -> Reply:
        """OK; all or none."""
        return self._assign(_parse_ranges(argv), False)

    def _assign(self, slots: list[int], add: bool) -> Reply:
        state = self._mode.state
        seen: set[int] = set()
        for slot in slots:
            if add and state.owners[slot] is not None:
                raise ReplyError(b"ERR Slot %d is already busy" % slot)
            if not add and state.owners[slot] is None:
                raise ReplyError(b"ERR Slot %d is already unassigned" % slot)
            if slot in seen:
                raise ReplyError(b"ERR Slot %d specified multiple times" % slot)
            seen.add(slot)
        for slot in slots:
            if not add:
                state.unassign(slot)
                continue
            # Whoever gives the slot to this node has settled where its keys are.
            state.importing.pop(slot, None)
            state.assign(slot, state.myself)
        return self._changed()

    @GROUP.command(
        "cluster|flushslots",
        2,
        ADMIN,
        since="3.0.0",
        complexity="O(1)",
        summary="Lets this node have no slots.",
    )
    def flush_slots(self, ctx: Session, argv: list[bytes]) -> Reply:
        """OK; only without keys."""
        state = self._mode.state
        if self.engine.keyspace.databases[0].count:
            raise ReplyError(b"ERR DB must be empty to perform CLUSTER FLUSHSLOTS.")
        state.unassign_all(state.myself)
        return self._changed()

    @GROUP.command(
        "cluster|setslot",
        -4,
        ADMIN,
        since="3.0.0",
        complexity="O(1)",
        summary="Says what becomes of a slot.",
        syntax="slot:integer <IMPORTING node-id:string | MIGRATING node-id:string | "
        "NODE node-id:string | STABLE>",
    )
    def set_slot(self, ctx: Session, argv: list[bytes]) -> Reply:
        """OK."""
        state = self._mode.state
        if state.myself.is_replica:
            raise ReplyError(b"ERR Please use SETSLOT only with masters.")
        epoch = state.current_epoch
        slot = _parse_slot(argv[2])
        action = argv[3].lower()
        if action == b"migrating" and len(argv) == 5:
            self._begin_migration(slot, argv[4])
        elif action == b"importing" and len(argv) == 5:
            self._begin_import(slot, argv[4])
        elif action == b"stable" and len(argv) == 4:
            state.migrating.pop(slot, None)
            state.importing.pop(slot, None)
        elif action == b"node" and len(argv) == 5:
            self._give_slot(slot, argv[4])
        else:
            raise ReplyError(
                b"ERR Invalid CLUSTER SETSLOT action or number of arguments. Try CLUSTER HELP"
            )
        # A reshard does this five times a slot and thousands of times in all. What is lost if the
        # machine goes down before it is flushed, a moment later, no node has heard of, and the
        # others and the operator's tool put it right; a new epoch or role is another matter.
        return self._changed(flush=state.current_epoch != epoch or state.myself.is_replica)

    def _begin_migration(self, slot: int, name: bytes) -> None:
        state = self._mode.state
        if state.owners[slot] is not state.myself:
            raise ReplyError(b"ERR I'm not the owner of hash slot %d" % slot)
        node = self._find(name, b"ERR I don't know about node %b")
        if node.is_replica:
            raise ReplyError(b"ERR Target node is not a master")
        state.migrating[slot] = node

    def _begin_import(self, slot: int, name: bytes) -> None:
        state = self._mode.state
        if state.owners[slot] is state.myself:
            raise ReplyError(b"ERR I'm already the owner of hash slot %d" % slot)
        node = self._find(name, b"ERR I don't know about node %b")
        if node.is_replica:
            raise ReplyError(b"ERR Target node is not a master")
        state.importing[slot] = node

    def _give_slot(self, slot: int, name: bytes) -> None:
        cluster = self._mode
        state = cluster.state
        node = self._find(name)
        if node.is_replica:
            raise ReplyError(b"ERR Target node is not a master")
        if state.owners[slot] is state.myself and node is not state.myself:
            if cluster.count_keys(slot):
                raise ReplyError(
                    b"ERR Can't assign hashslot %d to a different node while I still hold keys for "
                    b"this hash slot." % slot
                )
        cluster.machine.set_slot(slot, node, cluster.now())

    # Nodes.

    @GROUP.command(
        "cluster|meet",
        -4,
        ADMIN,
        since="3.0.0",
        complexity="O(1)",
        summary="Lets a node into the cluster.",
        syntax="ip:string port:integer [cluster-bus-port:integer]@4.0.0",
        history=(("4.0.0", "Takes the port of the bus."),),
    )
    def meet(self, ctx: Session, argv: list[bytes]) -> Reply:
        """OK at once; whether there is a node turns out later."""
        cluster = self._mode
        if len(argv) > 5:
            raise subcommand_error(argv)
        port = parse_integer(argv[3])
        if port is None:
            raise ReplyError(b"ERR Invalid base port specified: %b" % argv[3])
        bus_port: int | None = port + 10000
        if len(argv) == 5:
            bus_port = parse_integer(argv[4])
            if bus_port is None:
                raise ReplyError(b"ERR Invalid bus port specified: %b" % argv[4])
        assert bus_port is not None
        refusal = ReplyError(b"ERR Invalid node address specified: %b:%b" % (argv[2], argv[3]))
        try:
            if b"%" in argv[2]:
                raise ValueError("a scope")
            ip = str(ipaddress.ip_address(argv[2].decode("latin-1")))
        except ValueError:
            raise refusal from None
        if not 0 < port <= LARGEST_PORT or not 0 < bus_port <= LARGEST_PORT:
            raise refusal
        cluster.machine.meet(ip, port, bus_port, cluster.now())
        cluster.settle()
        return OK

    @GROUP.command(
        "cluster|forget",
        3,
        ADMIN,
        since="3.0.0",
        complexity="O(1)",
        summary="Lets this node know another one no more.",
        syntax="node-id:string",
        history=(("7.2.0", "Told to the other nodes as well."),),
    )
    def forget(self, ctx: Session, argv: list[bytes]) -> Reply:
        """OK; for a minute the node is not learnt again."""
        cluster = self._mode
        state = cluster.state
        node = state.find(argv[2].decode("latin-1"))
        if node is None:
            if state.is_forgotten(argv[2].decode("latin-1"), cluster.now()):
                return OK  # another node has told us
            raise ReplyError(b"ERR Unknown node %b" % argv[2])
        if node is state.myself:
            raise ReplyError(b"ERR I tried hard but I can't forget myself...")
        if node is state.myself.master:
            raise ReplyError(b"ERR Can't forget my master!")
        cluster.machine.forget(node, cluster.now())
        return self._changed()

    @GROUP.command(
        "cluster|replicate",
        3,
        ADMIN,
        since="3.0.0",
        complexity="O(1)",
        summary="Makes this node a replica.",
        syntax="node-id:string",
    )
    def replicate(self, ctx: Session, argv: list[bytes]) -> Reply:
        """OK at once."""
        cluster = self._mode
        myself = cluster.machine.myself
        node = self._find(argv[2])
        if node is myself:
            raise ReplyError(b"ERR Can't replicate myself")
        if node.is_replica:
            raise ReplyError(b"ERR I can only replicate a master, not a replica.")
        if myself.is_master and (myself.slot_count or self.engine.keyspace.databases[0].count):
            raise ReplyError(
                b"ERR To set a master the node must be empty and without assigned slots."
            )
        cluster.machine.replicate(node, cluster.now())
        return self._changed()

    @GROUP.command(
        "cluster|failover",
        -2,
        ADMIN,
        since="3.0.0",
        complexity="O(1)",
        summary="Lets this replica take its master's place.",
        syntax="[FORCE | TAKEOVER]",
    )
    def fail_over(self, ctx: Session, argv: list[bytes]) -> Reply:
        """OK at once; whether it comes about turns out later."""
        cluster = self._mode
        machine = cluster.machine
        if len(argv) > 3:
            raise subcommand_error(argv)
        word = argv[2].lower() if len(argv) == 3 else b""
        if word not in (b"", b"force", b"takeover"):
            raise ReplyError(SYNTAX_ERROR)
        master = machine.myself.master
        if machine.myself.is_master:
            raise ReplyError(b"ERR You should send CLUSTER FAILOVER to a replica")
        if master is None:
            raise ReplyError(b"ERR I'm a replica but my master is unknown to me")
        if not word and (master.failed or master.link is None or not master.link.open):
            raise ReplyError(b"ERR Master is down or failed, please use CLUSTER FAILOVER FORCE")
        if word == b"takeover":
            machine.now = cluster.now()
            machine.handover.reset()
            machine.log("notice", "Taking over the master (user request).")
            machine.bump_epoch()
            machine.take_over()
        else:
            machine.handover.begin(cluster.now(), force=word == b"force")
        return self._changed()

    @GROUP.command(
        "cluster|reset",
        -2,
        "admin stale noscript",
        since="3.0.0",
        complexity=(
            "O(N) where N is the number of known nodes. The command may execute "
            "a FLUSHALL as a side effect."
        ),
        summary="Lets this node forget the cluster.",
        syntax="[HARD | SOFT]",
    )
    def reset(self, ctx: Session, argv: list[bytes]) -> Reply:
        """OK; a replica loses its data."""
        cluster = self._mode
        machine = cluster.machine
        if len(argv) > 3:
            raise subcommand_error(argv)
        word = argv[2].lower() if len(argv) == 3 else b"soft"
        if word not in (b"hard", b"soft"):
            raise ReplyError(SYNTAX_ERROR)
        db = self.engine.keyspace.databases[0]
        if machine.myself.is_master and db.count:
            raise ReplyError(b"ERR CLUSTER RESET can't be called with master nodes containing keys")
        was_replica = machine.myself.is_replica
        machine.reset(word == b"hard", cluster.now())
        if was_replica:
            db.clear()
            self.engine.keyspace.emptied()
        return self._changed()

    # Epochs, the file.

    @GROUP.command(
        "cluster|bumpepoch",
        2,
        ADMIN,
        since="3.0.0",
        complexity="O(1)",
        summary="Takes a larger config epoch.",
        tips=("nondeterministic_output",),
    )
    def bump_epoch(self, ctx: Session, argv: list[bytes]) -> Reply:
        """``BUMPED`` or ``STILL``, and the epoch."""
        cluster = self._mode
        word = b"BUMPED" if cluster.machine.bump_epoch() else b"STILL"
        self._changed()
        return Status(b"%b %d" % (word, cluster.machine.myself.config_epoch))

    @GROUP.command(
        "cluster|set-config-epoch",
        3,
        ADMIN,
        since="3.0.0",
        complexity="O(1)",
        summary="Sets the config epoch of a node that is alone.",
        syntax="config-epoch:integer",
    )
    def set_epoch(self, ctx: Session, argv: list[bytes]) -> Reply:
        """OK."""
        state = self._mode.state
        epoch = integer(argv[2])
        if epoch < 0:
            raise ReplyError(b"ERR Invalid config epoch specified: %d" % epoch)
        if len(state.nodes) > 1:
            raise ReplyError(
                b"ERR The user can assign a config epoch only when the node does not know any "
                b"other node."
            )
        if state.myself.config_epoch:
            raise ReplyError(b"ERR Node config epoch is already non-zero")
        state.myself.config_epoch = epoch
        state.current_epoch = max(state.current_epoch, epoch)
        self._mode.machine.log("notice", f"configEpoch set to {epoch} via CLUSTER SET-CONFIG-EPOCH")
        return self._changed()

    @GROUP.command(
        "cluster|saveconfig",
        2,
        ADMIN,
        since="3.0.0",
        complexity="O(1)",
        summary="Writes the cluster's file.",
    )
    def save_config(self, ctx: Session, argv: list[bytes]) -> Reply:
        """OK when it is on disk."""
        try:
            self._mode.save_now()
        except OSError as error:
            raise ReplyError(
                b"ERR error saving the cluster node config: %b" % str(error.strerror).encode()
            ) from None
        return OK

    @GROUP.command(
        "cluster|help",
        2,
        "loading stale",
        since="5.0.0",
        complexity="O(1)",
        summary="Prints help about CLUSTER.",
    )
    def help(self, ctx: Session, argv: list[bytes]) -> Reply:
        """Lines of text."""
        self._mode  # noqa: B018 raises
        return [Status(line.encode()) for line in HELP]


def _refuse(ctx: Session, argv: list[bytes]) -> Reply:
    raise ReplyError(DISABLED)


def _parse_slot(argument: bytes) -> int:
    slot = parse_integer(argument)
    if slot is None or not 0 <= slot < SLOTS:
        raise ReplyError(BAD_SLOT)
    return slot


def _parse_slots(arguments: Sequence[bytes]) -> list[int]:
    return [_parse_slot(argument) for argument in arguments]


def _parse_ranges(argv: list[bytes]) -> list[int]:
    """The slots of pairs of bounds, after the subcommand's name."""
    if len(argv) % 2:
        name = b"cluster|" + argv[1].lower()
        raise ReplyError(b"ERR wrong number of arguments for '%b' command" % name)
    slots: list[int] = []
    for i in range(2, len(argv), 2):
        first = _parse_slot(argv[i])
        last = _parse_slot(argv[i + 1])
        if first > last:
            raise ReplyError(
                b"ERR start slot number %d is greater than end slot number %d" % (first, last)
            )
        slots += range(first, last + 1)
    return slots


ENDPOINTS: Final = {
    "ip": ENDPOINT_IP,
    "hostname": ENDPOINT_HOSTNAME,
    "unknown-endpoint": ENDPOINT_UNKNOWN,
}
