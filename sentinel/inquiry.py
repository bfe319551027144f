"""Asking a cluster's nodes what they know, and how often.

Theory of operation.  Every node that can be reached is asked CLUSTER NODES each ten seconds, and
one of them, in turn, each second: what happens in a cluster soon shows at any node. While something
is in doubt (a master is down or being replaced, slots have no owner, views differ, a sentinel or an
INFO says something new) all are asked each second, and several times a second while this sentinel
leads a failover. CLUSTER MYSHARDID is asked once, and again when a node has changed its place.

What a node said counts for as long as it can be reached. Nodes that are no master's or replica's
are asked by probes: the entry, while nobody else can be reached, and nodes of shards that have no
name.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from node.resp import Error, Reply
from sentinel.guarded import ENTRY, GuardedCluster, Watch
from sentinel.state import (
    FAILOVER_IN_PROGRESS,
    O_DOWN,
    S_DOWN,
    Address,
    Instance,
    Link,
    Master,
    Replica,
)
from sentinel.topology import ALL_SLOTS, TopologyError, View, parse_nodes

if TYPE_CHECKING:
    from sentinel.guard import Guard
    from sentinel.machine import Machine

SLOW_PERIOD: Final = 10_000
PERIOD: Final = 1_000
FAILOVER_PERIOD: Final = 200
DOUBT: Final = 5_000  # how long news keep everybody asked often
PATIENCE: Final = 5_000  # for an answer
VALIDITY: Final = 15_000  # of a view
NEVER: Final = 1 << 62
SHARD_ID_LENGTH: Final = 40

# When a node was pinged and has answered, in CLUSTER NODES: of no interest here.
_TIMES: Final = re.compile(rb" \d+ \d+ (\d+ (?:dis)?connected)")

NODES: Final = "cluster nodes"
SHARD_ID: Final = "cluster shard id"


def cluster_of(instance: Instance) -> GuardedCluster | None:
    """The cluster that a master, a replica or a probe belongs to."""
    if isinstance(instance, Replica):
        return instance.master.cluster
    return instance.cluster if isinstance(instance, Master) else None


class Inquiry:
    """Asks the nodes of all clusters, and puts down what they say."""

    def __init__(self, machine: Machine, guard: Guard) -> None:
        self._machine = machine
        self._guard = guard
        self._serial = 0  # of the last request

    # Asking.

    def advance(self, cluster: GuardedCluster) -> None:
        """Send what is due, and forget what counts no more."""
        machine = self._machine
        now = machine.now
        self._forget_old_views(cluster)
        self._keep_probes(cluster)
        reachable = [i for i in self._instances(cluster) if i.link.commands_open]
        period = self._period(cluster)
        for instance in reachable:
            self._ask_if_due(cluster, instance, period)
        if period == SLOW_PERIOD and not 0 <= now - cluster.asked_someone < PERIOD:
            cluster.asked_someone = now
            watches = [(self.watch(cluster, i).asked, n) for n, i in enumerate(reachable)]
            if watches:
                self._ask_if_due(cluster, reachable[min(watches)[1]], PERIOD)

    def ask(self, cluster: GuardedCluster, instance: Instance) -> None:
        """Ask a node now, unless an answer is on its way."""
        self._ask_if_due(cluster, instance, 0)

    def ask_again(self, cluster: GuardedCluster, instance: Instance) -> int:
        """Ask a node now, although an answer may be on its way, because that may be outdated.

        The answer's number, see :meth:`is_newer`.
        """
        self.watch(cluster, instance).pending = 0
        self._ask_if_due(cluster, instance, 0)
        return self._serial

    def is_newer(self, cluster: GuardedCluster, instance: Instance, number: int) -> bool:
        """Whether the view of a node is at hand that has that number, or a later one."""
        return instance.node_id in cluster.views and self.watch(cluster, instance).heard >= number

    def ask_all(self, cluster: GuardedCluster) -> None:
        """Ask everybody now."""
        for instance in self._instances(cluster):
            self.ask(cluster, instance)

    def doubt(self, cluster: GuardedCluster) -> None:
        """Something has happened, or is said to have."""
        cluster.doubt_until = self._machine.now + DOUBT

    def watch(self, cluster: GuardedCluster, instance: Instance) -> Watch:
        """How a node is polled."""
        return cluster.watches.setdefault(instance.node_id or str(instance.address), Watch())

    def _instances(self, cluster: GuardedCluster) -> list[Instance]:
        return [*cluster.instances(self._machine.state), *cluster.probes.values()]

    def _period(self, cluster: GuardedCluster) -> int:
        machine = self._machine
        masters = cluster.masters(machine.state)
        if any(master.has(FAILOVER_IN_PROGRESS) for master in masters):
            return FAILOVER_PERIOD
        if (
            machine.now < cluster.doubt_until
            or cluster.registry.unnamed
            or cluster.topology.covered != ALL_SLOTS
            or any(master.has(S_DOWN | O_DOWN) for master in masters)
        ):
            return PERIOD
        return SLOW_PERIOD

    def _ask_if_due(self, cluster: GuardedCluster, instance: Instance, period: int) -> None:
        machine = self._machine
        now = machine.now
        link = instance.link
        watch = self.watch(cluster, instance)
        if watch.link is not link or watch.link_since != link.commands_since:
            # What was asked on another connection will not be answered.
            watch.link = link
            watch.link_since = link.commands_since
            watch.pending = 0
            watch.asked = 0
        since = now - watch.asked
        if watch.pending and 0 <= since < PATIENCE:
            return
        if 0 <= since < period:
            machine.wake_at(watch.asked + period)
            return
        if not link.commands_open:
            return
        watch.asked = now
        watch.pending += 1
        command = machine.command(instance, "CLUSTER")
        self._serial += 1
        machine.request(instance, [command, b"NODES"], f"{NODES} {self._serial}")
        if instance.node_id not in cluster.shard_ids:
            machine.request(instance, [command, b"MYSHARDID"], SHARD_ID)

    # Answers.

    def hear(self, instance: Instance, purpose: str, reply: Reply) -> None:
        """An answer has come."""
        cluster = cluster_of(instance)
        if cluster is None or cluster.name not in self._machine.state.clusters:
            return
        if purpose == SHARD_ID:
            self._hear_shard_id(cluster, instance, reply)
        elif purpose.startswith(NODES):
            watch = self.watch(cluster, instance)
            watch.pending = max(0, watch.pending - 1)
            watch.heard = int(purpose.removeprefix(NODES))
            self._hear_nodes(cluster, instance, reply)

    def _hear_nodes(self, cluster: GuardedCluster, instance: Instance, reply: Reply) -> None:
        if not isinstance(reply, bytes | bytearray):
            self._complain(cluster, instance, reply)
            self._forget(cluster, instance.node_id)
            return
        text = _TIMES.sub(rb" \1", bytes(reply))
        known = cluster.views.get(instance.node_id)
        if known is not None and known.text == text and known.link is instance.link:
            # Nothing new, as mostly.
            self._put(cluster, known)
            if cluster.dirty:
                self._guard.follow(cluster)
            else:
                self._guard.go_on(cluster)
            return
        try:
            view = parse_nodes(bytes(reply).decode("utf-8", "replace"))
        except TopologyError as error:
            self._complain(cluster, instance, Error(str(error).encode()))
            self._forget(cluster, instance.node_id)
            return
        self.watch(cluster, instance).complaint = ""
        view.text = text
        view.link = instance.link
        view.reached = (instance.address.ip, instance.address.port)
        if not instance.node_id:
            instance.node_id = view.myself
        self._recognize(cluster, instance, view)
        self._put(cluster, view)
        if view.own.shard_id:
            cluster.shard_ids[view.myself] = view.own.shard_id
        self._guard.follow(cluster)

    def _complain(self, cluster: GuardedCluster, instance: Instance, reply: Reply) -> None:
        """Log what a node has said instead of its view; once, while it goes on saying so."""
        watch = self.watch(cluster, instance)
        text = reply.text.decode("utf-8", "replace") if isinstance(reply, Error) else "no text"
        if watch.complaint != text:
            watch.complaint = text
            self._machine.log(
                "warning", f"CLUSTER NODES at {instance.address} of {cluster.name}: {text}"
            )

    def _recognize(self, cluster: GuardedCluster, instance: Instance, view: View) -> None:
        """Another node may be at the address by now: then the one that was there is missing."""
        link = instance.link
        stranger = view.myself != instance.node_id
        if stranger:
            self._forget(cluster, instance.node_id)
            if not link.is_of_stranger:
                self._machine.log(
                    "warning",
                    f"At {instance.address} is the node {view.myself}, not {instance.node_id}",
                )
            self._machine.links.miss(link)
        returned = link.is_of_stranger and not stranger
        link.is_of_stranger = stranger
        if returned:
            self._machine.monitoring.ping(instance)

    def _put(self, cluster: GuardedCluster, view: View) -> None:
        """A view counts from now on, and is the newest one."""
        cluster.views.pop(view.myself, None)
        cluster.views[view.myself] = view
        cluster.viewed[view.myself] = self._machine.now

    def _hear_shard_id(self, cluster: GuardedCluster, instance: Instance, reply: Reply) -> None:
        if isinstance(reply, Error) and reply.text.startswith((b"LOADING", b"NOAUTH")):
            return
        found = ""
        if isinstance(reply, bytes | bytearray) and len(reply) == SHARD_ID_LENGTH:
            found = bytes(reply).decode("ascii", "replace")
        if instance.node_id:
            cluster.shard_ids[instance.node_id] = found
            if cluster.registry.unnamed:
                self._guard.follow(cluster)

    def lost(self, link: Link) -> None:
        """A connection for commands is over."""
        for instance in link.users:
            cluster = cluster_of(instance)
            if cluster is not None:
                self._forget(cluster, instance.node_id)

    def _forget(self, cluster: GuardedCluster, node_id: str) -> None:
        """A node's view counts no more."""
        if cluster.views.pop(node_id, None) is not None:
            del cluster.viewed[node_id]
            cluster.dirty = True
            self.doubt(cluster)

    def _forget_old_views(self, cluster: GuardedCluster) -> None:
        now = self._machine.now
        for node_id, since in list(cluster.viewed.items()):
            if not 0 <= now - since < VALIDITY:
                self._forget(cluster, node_id)
        for instance in cluster.instances(self._machine.state):
            if instance.has(S_DOWN):
                self._forget(cluster, instance.node_id)

    # Probes.

    def _keep_probes(self, cluster: GuardedCluster) -> None:
        """Have the probes that are needed now, and no others."""
        machine = self._machine
        wanted: dict[str, Address] = {}
        topology = cluster.topology
        if cluster.registry.unnamed:
            for node in topology.nodes.values():
                root = topology.root(node)
                if root is not None and root.id in cluster.registry.unnamed and node.port:
                    wanted[node.id] = Address(node.host, node.port, machine.resolve(node.host))
        if not any(i.link.commands_open for i in cluster.instances(machine.state)):
            wanted[ENTRY] = cluster.options.address
        for key, probe in list(cluster.probes.items()):
            if key not in wanted or not probe.address.is_same(wanted[key]):
                machine.links.release(probe)
                del cluster.probes[key]
        for key, address in wanted.items():
            if key not in cluster.probes:
                cluster.probes[key] = self._make_probe(cluster, key, address)
        for probe in cluster.probes.values():
            machine.links.drop_the_dead(probe)
            machine.links.maintain(probe)
            watch = self.watch(cluster, probe)
            if watch.pending and not 0 <= machine.now - watch.asked < PATIENCE:
                machine.links.drop_commands(probe.link)
                watch.pending = 0

    def _make_probe(self, cluster: GuardedCluster, key: str, address: Address) -> Master:
        now = self._machine.now
        probe = Master(cluster.name, address, Link(address, now, listens=False), now, 0)
        probe.node_id = key
        probe.cluster = cluster
        probe.auth_user = cluster.options.auth_user
        probe.auth_pass = cluster.options.auth_pass
        probe.renamed_commands = cluster.options.renamed_commands
        # Nothing but the cluster is of interest: no hello, no INFO.
        probe.last_hello_sent = NEVER
        probe.info_pending = True
        return probe

    def release_probes(self, cluster: GuardedCluster) -> None:
        """Let go of all probes."""
        for probe in cluster.probes.values():
            self._machine.links.release(probe)
        cluster.probes.clear()
