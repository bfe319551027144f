"""A guarded cluster: what a sentinel knows of it, beside the masters of its shards.

Plain data, changed by :mod:`.guard` alone. The shards' masters are ordinary guarded masters: in
``State.masters`` under the shard's name, with ``Master.cluster`` set.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from sentinel.shards import Registry, Shard
from sentinel.state import Address, Instance, Link, Master, Replica, State
from sentinel.topology import Node, Topology, View, is_of_cluster

SEPARATOR: Final = "/"
ENTRY: Final = ""  # the id of the entry's probe: who is there has to be found out


# What is set for a cluster, and holds for its shards.
OPTIONS: Final = (
    "quorum",
    "down_after",
    "failover_timeout",
    "parallel_syncs",
    "reboot_down_after",
    "auth_user",
    "auth_pass",
    "notification_script",
    "client_reconfig_script",
)


class Watch:
    """How a node is polled: when it was asked last, and how many answers are missing.

    ``heard`` is the number of the last answer; ``complaint`` what was wrong with it.
    """

    __slots__ = ("asked", "complaint", "heard", "link", "link_since", "pending")

    def __init__(self) -> None:
        self.asked = 0
        self.pending = 0
        self.heard = 0
        self.complaint = ""
        # The connection on which it was asked.
        self.link: Link | None = None
        self.link_since = 0


class Record:
    """The last failover of a shard: what was promoted instead of what; ``epoch``: the cluster's."""

    __slots__ = ("at", "epoch", "led", "new", "old")

    def __init__(self, at: int, old: str, new: str, epoch: int, led: bool) -> None:
        self.at = at
        self.old = old
        self.new = new
        self.epoch = epoch
        self.led = led  # by this sentinel


class GuardedCluster:
    """One cluster.

    ``options`` is a master that nobody guards: what is set for the cluster (down_after, quorum,
    credentials, scripts ...) is set there and holds for all shards; its address is the entry, a
    node by which the cluster was found.
    """

    def __init__(self, options: Master) -> None:
        self.options = options
        self.registry = Registry(options.name)
        self.topology = Topology()
        self.views: dict[str, View] = {}  # of nodes that can be reached, by id
        self.viewed: dict[str, int] = {}  # and since when they are so
        self.shard_ids: dict[str, str] = {}  # what nodes said; "" if they have none
        self.watches: dict[str, Watch] = {}
        # Connections to nodes that are no master's or replica's: to the entry while nobody else
        # can be reached, and to nodes of shards that have no name yet.
        self.probes: dict[str, Master] = {}
        self.failovers: dict[str, Record] = {}  # by shard
        self.doubt_until = 0  # until then every node is asked every second
        self.asked_someone = 0
        # Whether what is guarded may not be what is known of the cluster: views are looked at again
        # although they say nothing new.
        self.dirty = False
        self.suspected = 0

    @property
    def name(self) -> str:
        return self.options.name

    @property
    def quorum(self) -> int:
        return self.options.quorum

    def shard(self, master: Master) -> Shard | None:
        """The shard that a guarded master stands for."""
        return self.registry.shards.get(master.name)

    def own_views(self) -> dict[str, View]:
        """The views of nodes that are of this cluster."""
        known = self.topology.nodes
        return {node_id: v for node_id, v in self.views.items() if is_of_cluster(v, known)}

    def masters(self, state: State) -> list[Master]:
        """The guarded masters, in the order of their slots."""
        shards = sorted(self.registry.shards.values(), key=lambda s: (s.slots & -s.slots, s.name))
        return [state.masters[s.name] for s in shards if s.name in state.masters]

    def instances(self, state: State) -> Iterator[Master | Replica]:
        """All nodes that are guarded, masters first."""
        for master in self.masters(state):
            yield master
            yield from master.replicas.values()

    def find(self, state: State, node_id: str) -> Instance | None:
        """The record of a node."""
        return next((i for i in self.instances(state) if i.node_id == node_id), None)


def add_cluster(state: State, name: str, address: Address, quorum: int, now: int) -> GuardedCluster:
    """A cluster, of which nothing is known yet. ValueError: the name is taken, or will not do."""
    if SEPARATOR in name:
        raise ValueError(f"The name of a cluster cannot contain '{SEPARATOR}'.")
    if name in state.clusters or name in state.masters:
        raise ValueError("Duplicate master name.")
    options = Master(name, address, Link(address, now, listens=False), now, quorum)
    cluster = GuardedCluster(options)
    state.clusters[name] = cluster
    return cluster


def copy_options(source: Master, target: Master, names: Iterable[str] = OPTIONS) -> None:
    """Give a shard's master what is set for its cluster."""
    for name in names:
        setattr(target, name, getattr(source, name))
    target.renamed_commands = dict(source.renamed_commands)


def restore_shard(
    state: State,
    cluster: GuardedCluster,
    name: str,
    nodes: Iterable[tuple[str, Address, bool]],
    now: int,
) -> None:
    """A shard as the config file has it: the nodes' ids and addresses, and who is master.

    Without a master there is none.
    """
    known = list(nodes)
    master_id = next((node_id for node_id, _, is_master in known if is_master), "")
    if not master_id:
        return
    cluster.registry.restore(name, master_id, [node_id for node_id, _, _ in known])
    for node_id, address, is_master in sorted(known, key=lambda each: not each[2]):
        node = Node(node_id, address.ip or address.host, address.port)
        node.master = "" if node_id == master_id else master_id
        cluster.topology.nodes[node_id] = node
        instance: Master | Replica
        if node_id == master_id:
            instance = state.add_master(name, address, cluster.quorum, now)
            instance.cluster = cluster
        elif is_master:
            raise ValueError("A shard has one master.")
        else:
            instance = state.add_replica(state.masters[name], address, now)
        instance.node_id = node_id
