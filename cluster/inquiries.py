"""What a node of a cluster tells: its name, what it knows of the others, the keys of a slot.

Answers and texts after ``clusterCommand`` in cluster.c of Redis 7.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from cluster import message
from cluster.description import describe_node, describe_nodes
from cluster.family import ClusterFamily
from cluster.routing import ENDPOINT_HOSTNAME, ENDPOINT_IP, ENDPOINT_UNKNOWN, Router
from cluster.slots import SLOTS, key_slot, slot_index
from cluster.state import FAIL, PFAIL, Node
from node.command import Group
from node.commands.arguments import integer
from node.resp import Map, Reply, ReplyError, Verbatim
from node.session import Session

if TYPE_CHECKING:
    from cluster.cluster import Cluster
    from node.engine import Engine

GROUP: Final = Group("cluster")

ADMIN_LOOK: Final = "admin stale"
STALE: Final = "stale"

ENDPOINTS: Final = {
    "ip": ENDPOINT_IP,
    "hostname": ENDPOINT_HOSTNAME,
    "unknown-endpoint": ENDPOINT_UNKNOWN,
}


class ClusterInquiries(ClusterFamily):
    """What is asked and changes nothing. ``router`` knows where clients are sent."""

    def __init__(self, engine: Engine, cluster: Cluster | None, router: Router | None) -> None:
        super().__init__(engine, cluster)
        self._router = router

    def groups(self) -> Sequence[Group]:
        return (GROUP,)

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
