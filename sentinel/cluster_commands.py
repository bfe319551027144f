"""SENTINEL CLUSTERS, CLUSTER and MONITOR-CLUSTER: the commands that Redis's sentinels have not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from node.command import Group
from node.component import Component
from node.config.syntax import decode, encode
from node.resp import Map, Reply, ReplyError
from node.session import Session
from sentinel.commands import ADMIN, SentinelCommands
from sentinel.guarded import GuardedCluster
from sentinel.rows import describe_flags
from sentinel.state import FAILOVER_IN_PROGRESS, O_DOWN, S_DOWN, Address, Master, Replica
from sentinel.topology import find_ranges

if TYPE_CHECKING:
    from sentinel.watcher import Watcher

GROUP: Final = Group("sentinel")

NO_SUCH_CLUSTER: Final = b"ERR No such cluster with that name"


class ClusterCommands(Component):
    """The commands about clusters as such; shards are masters, and asked for as such."""

    def __init__(self, watcher: Watcher, commands: SentinelCommands) -> None:
        super().__init__(watcher.engine)
        self._watcher = watcher
        self._machine = watcher.machine
        self._commands = commands

    def groups(self) -> Sequence[Group]:
        return (GROUP,)

    @GROUP.command(
        "sentinel|monitor-cluster",
        6,
        ADMIN,
        since="7.2.0",
        complexity="O(1)",
        summary="Begins to guard a cluster, found by one of its nodes.",
        syntax="name ip port quorum",
    )
    def monitor(self, ctx: Session, argv: list[bytes]) -> Reply:
        """OK; a host name is looked up first. Who is in the cluster is found out afterwards."""

        def begin(name: str, address: Address, quorum: int) -> None:
            self._machine.monitor_cluster(name, address, quorum, self._watcher.now())

        return self._commands.begin_to_guard(ctx, argv, begin)

    @GROUP.command(
        "sentinel|clusters",
        2,
        ADMIN,
        since="7.2.0",
        complexity="O(N) where N is the number of nodes",
        summary="Shows what is known of all clusters.",
    )
    def clusters(self, ctx: Session, argv: list[bytes]) -> Reply:
        """A map for each."""
        return [_map(self._describe(c)) for c in self._machine.state.clusters.values()]

    @GROUP.command(
        "sentinel|cluster",
        3,
        ADMIN,
        since="7.2.0",
        complexity="O(N) where N is the number of nodes",
        summary="Shows what is known of a cluster, its shards, masters and replicas.",
        syntax="cluster-name",
    )
    def cluster(self, ctx: Session, argv: list[bytes]) -> Reply:
        """The same map, and the shards, in the order of their slots."""
        state = self._machine.state
        cluster = state.clusters.get(decode(argv[2]))
        if cluster is None:
            raise ReplyError(NO_SUCH_CLUSTER)
        shards: list[Reply] = [
            _map(self._describe_shard(cluster, master)) for master in cluster.masters(state)
        ]
        return _map([*self._describe(cluster), ("shards", shards)])

    def _describe(self, cluster: GuardedCluster) -> list[tuple[str, Reply]]:
        state = self._machine.state
        options = cluster.options
        masters = cluster.masters(state)
        down = [master for master in masters if master.has(S_DOWN | O_DOWN)]
        last = max((record.at for record in cluster.failovers.values()), default=0)
        flags = [
            name
            for name, flag in (
                ("o_down", O_DOWN),
                ("s_down", S_DOWN),
                ("failover_in_progress", FAILOVER_IN_PROGRESS),
            )
            if any(master.has(flag) for master in masters)
        ]
        if not cluster.views:
            flags.append("disconnected")
        nodes = cluster.topology.nodes.values()
        return [
            ("name", encode(cluster.name)),
            ("ip", encode(state.show(options.address))),
            ("port", options.address.port),
            ("flags", encode(",".join(["cluster", *flags]))),
            ("quorum", options.quorum),
            ("num-shards", len(masters)),
            ("num-down-shards", len(down)),
            ("num-nodes", len(nodes)),
            ("num-reachable-nodes", len(cluster.views)),
            ("num-other-sentinels", min((len(m.peers) for m in masters), default=0)),
            ("slots-covered", cluster.topology.covered.bit_count()),
            ("cluster-epoch", max((node.epoch for node in nodes), default=0)),
            ("sentinel-epoch", state.current_epoch),
            ("last-failover-time", self._watcher.now() - last if last else -1),
            ("down-after-milliseconds", options.down_after),
            ("failover-timeout", options.failover_timeout),
            ("parallel-syncs", options.parallel_syncs),
        ]

    def _describe_shard(self, cluster: GuardedCluster, master: Master) -> list[tuple[str, Reply]]:
        shard = cluster.shard(master)
        slots = shard.slots if shard is not None else 0
        record = cluster.failovers.get(master.name)
        failover: Reply = None
        if record is not None:
            failover = _map(
                [
                    ("old-master-id", encode(record.old)),
                    ("new-master-id", encode(record.new)),
                    ("epoch", record.epoch),
                    ("milliseconds-ago", self._watcher.now() - record.at),
                    ("leader", encode("myself" if record.led else "other")),
                ]
            )
        ranges: list[Reply] = [number for pair in find_ranges(slots) for number in pair]
        replicas: list[Reply] = [self._describe_node(each) for each in master.replicas.values()]
        return [
            ("name", encode(master.name)),
            ("slots", ranges),
            ("slots-count", slots.bit_count()),
            ("config-epoch", master.config_epoch),
            ("failover-epoch", master.failover_epoch),
            ("leader-epoch", master.leader_epoch),
            ("num-other-sentinels", len(master.peers)),
            ("last-failover", failover),
            ("master", self._describe_node(master)),
            ("replicas", replicas),
        ]

    def _describe_node(self, instance: Master | Replica) -> Reply:
        address = instance.address
        fields: list[tuple[str, Reply]] = [
            ("id", encode(instance.node_id)),
            ("ip", encode(self._machine.state.show(address))),
            ("port", address.port),
            ("flags", encode(describe_flags(instance))),
            ("role-reported", encode(instance.role_reported)),
        ]
        if isinstance(instance, Replica):
            fields += [
                ("master-link-status", b"ok" if instance.master_link_up else b"err"),
                ("slave-repl-offset", instance.offset),
                ("slave-priority", instance.priority),
            ]
        return _map(fields)


def _map(fields: Sequence[tuple[str, Reply]]) -> Reply:
    parts: list[Reply] = []
    for name, value in fields:
        parts += (name.encode(), value)
    return Map(parts)
