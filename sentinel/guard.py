"""Guarding clusters: their shards as masters that come, go and change by themselves.

Theory of operation.  A guarded cluster is found by one of its nodes and followed from then on
(:mod:`.inquiry` asks, :mod:`.topology` makes one picture of all answers, :mod:`.shards` names the
shards). Each shard that has slots is a guarded master like any other: the same PING, INFO and
hello, the same SDOWN, ODOWN, votes and choice of a replica. What is different:

- Who the master is, and who its replicas are, is what the cluster says, and not what INFO or
  another sentinel's hello says; these only are reasons to ask the cluster at once.
- A replica is promoted by CLUSTER FAILOVER TAKEOVER, see :mod:`.takeover`. Nobody is re-pointed: a
  cluster's nodes follow whoever has the slots with the greatest config epoch.
- Whoever else changes something (an operator, a reshard, Redis Cluster's own failover, a partition
  that heals) has a greater config epoch for it, and is followed: +switch-master.

So a sentinel never goes on naming a node that is not the master once it can reach the one that is.
Nodes are known by id: one that comes back at another address is the same one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentinel import election
from sentinel.guarded import (
    SEPARATOR,
    GuardedCluster,
    Record,
    add_cluster,
    copy_options,
)
from sentinel.inquiry import Inquiry
from sentinel.shards import Changes, Shard
from sentinel.state import (
    FAILOVER_IN_PROGRESS,
    SEND_SLAVEOF_NOONE,
    Address,
    Instance,
    Master,
    Replica,
)
from sentinel.takeover import TAKEOVER
from sentinel.topology import Node, compare, find_outdated, format_slots, merge

if TYPE_CHECKING:
    from node.resp import Reply
    from sentinel.hello import Hello
    from sentinel.machine import Machine

SUSPICION_PERIOD: Final = 200


class Guard:
    """The part of the machine that is about clusters."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.inquiry = Inquiry(machine, self)

    # Which clusters.

    def monitor(self, name: str, address: Address, quorum: int) -> GuardedCluster:
        """Begin to guard a cluster (SENTINEL MONITOR-CLUSTER). ValueError: the name is taken."""
        machine = self._machine
        cluster = add_cluster(machine.state, name, address, quorum, machine.now)
        cluster.options.down_after = machine.settings.default_down_after
        cluster.options.failover_timeout = machine.settings.default_failover_timeout
        self.tell(cluster, "+monitor-cluster", f" quorum {quorum}")
        machine.save()
        machine.wake()
        return cluster

    def remove(self, name: str) -> None:
        """Guard a cluster no more. KeyError: no such cluster."""
        machine = self._machine
        cluster = machine.state.clusters[name]
        self.inquiry.release_probes(cluster)
        for master in cluster.masters(machine.state):
            machine.remove(master.name, machine.now)
        self.tell(cluster, "-monitor-cluster")
        del machine.state.clusters[name]
        machine.save()

    def tell(self, cluster: GuardedCluster, event: str, more: str = "") -> None:
        """An event of a cluster as such."""
        machine = self._machine
        options = cluster.options
        place = f"{machine.state.show(options.address)} {options.address.port}"
        machine.announce("warning", event, options, f"cluster {cluster.name} {place}{more}")

    def changed(self, cluster: GuardedCluster, *, credentials: bool = False) -> None:
        """SENTINEL SET has changed the options of a cluster, and of its shards."""
        for probe in cluster.probes.values():
            probe.auth_user = cluster.options.auth_user
            probe.auth_pass = cluster.options.auth_pass
            self._machine.links.renew(probe.link)
        for master in cluster.masters(self._machine.state):
            self._machine.changed(master, self._machine.now, credentials=credentials)
        self._machine.save()

    # What happens.

    def tick(self) -> None:
        """Time has passed."""
        for cluster in self._machine.state.clusters.values():
            self.inquiry.advance(cluster)

    def hear(self, instance: Instance, purpose: str, reply: Reply) -> None:
        """The answer to a request that is about a cluster."""
        if purpose == TAKEOVER:
            assert isinstance(instance, Replica)
            self._machine.failover.takeovers.hear(instance, reply)
        else:
            self.inquiry.hear(instance, purpose, reply)

    def suspect(self, master: Master) -> None:
        """Something (INFO, a hello) does not fit what is known of a shard: ask the cluster now."""
        cluster = master.cluster
        now = self._machine.now
        if cluster is not None:
            cluster.dirty = True
            self.inquiry.doubt(cluster)
            if not 0 <= now - cluster.suspected < SUSPICION_PERIOD:
                cluster.suspected = now
                self.inquiry.ask_all(cluster)

    # What another sentinel says.

    def find_master(self, hello: Hello) -> Master | None:
        """The master that a hello is about; the shard's name may become another one by that.

        None: no shard is known that has that address, or name.
        """
        masters = self._machine.state.masters
        cluster = self._machine.state.clusters.get(hello.master_name.partition(SEPARATOR)[0])
        if cluster is None:
            return None
        node = self._locate(cluster, hello)
        shard = cluster.registry.of(node.id) if node is not None else None
        if node is None or shard is None:
            return masters.get(hello.master_name)
        # Of a node that is not the shard's master to us, one of us does not know the newest.
        if shard.master == node.id:
            names = cluster.registry.hear(hello.master_name, node.id, cluster.shard_ids)
            self._rename(cluster, names)
        return masters.get(shard.name)

    def hear_configuration(self, master: Master, hello: Hello) -> None:
        """Another sentinel says who is a shard's master, and under which config epoch.

        That is a reason to ask the cluster; only who cannot reach any of its nodes believes it.
        """
        address = master.current_address
        same = hello.master_port == address.port and self._machine.is_host(
            address, hello.master_host
        )
        if same and hello.config_epoch <= master.config_epoch:
            return
        if hello.config_epoch < master.config_epoch:
            return
        self.suspect(master)
        cluster = master.cluster
        if cluster is None or cluster.views or same or master.has(FAILOVER_IN_PROGRESS):
            return
        node = self._locate(cluster, hello)
        if node is not None and hello.config_epoch > master.config_epoch:
            self._switch(cluster, master, node, self._address(node))
            master.config_epoch = hello.config_epoch

    def _locate(self, cluster: GuardedCluster, hello: Hello) -> Node | None:
        """The node at the address that a hello names."""
        ip = self._machine.resolve(hello.master_host) or hello.master_host
        return cluster.topology.at(ip, hello.master_port)

    # What the cluster says.

    def follow(self, cluster: GuardedCluster) -> None:
        """Make what is guarded the same as what the cluster's nodes say."""
        machine = self._machine
        cluster.dirty = False
        before = cluster.topology
        views = cluster.own_views()
        topology = merge(views, before)
        difference = compare(before, topology)
        for node_id in (*difference.promoted, *difference.demoted, *difference.repointed):
            cluster.shard_ids.pop(node_id, None)
        cluster.topology = topology
        had = {shard.name: shard.slots for shard in cluster.registry.shards.values()}
        changes = cluster.registry.update(topology, cluster.shard_ids)
        if difference or changes:
            self._tidy(cluster)
            machine.save()
        if difference or changes or find_outdated(views):
            self.inquiry.doubt(cluster)
        for shard in changes.removed:
            self._end(cluster, shard)
        for shard in cluster.registry.shards.values():
            self._follow_shard(cluster, shard)
        self._tell_slots(cluster, had)
        self.go_on(cluster)

    def _tidy(self, cluster: GuardedCluster) -> None:
        """Forget how nodes were asked that are no more."""
        known = cluster.topology.nodes
        for node_id in cluster.shard_ids.keys() - known.keys():
            del cluster.shard_ids[node_id]
        used = {instance.node_id for instance in cluster.instances(self._machine.state)}
        used.update(known)
        for key in cluster.watches.keys() - used:
            if not any(key == str(probe.address) for probe in cluster.probes.values()):
                del cluster.watches[key]

    def go_on(self, cluster: GuardedCluster) -> None:
        """A node has said something: that may be what a takeover waits for."""
        machine = self._machine
        if machine.tilt:
            return
        for shard in cluster.registry.shards.values():
            master = machine.state.masters.get(shard.name)
            if master is not None and master.has(FAILOVER_IN_PROGRESS):
                machine.failover.takeovers.advance(master)

    def switched(self, master: Master) -> None:
        """A master is guarded at another address, where a failover has put it: who is there?"""
        cluster = master.cluster
        if cluster is None:
            return
        for instance in (master, *master.replicas.values()):
            node = cluster.topology.at(instance.address.ip, instance.address.port)
            if node is not None:
                instance.node_id = node.id
        cluster.dirty = True
        self.inquiry.doubt(cluster)

    def _end(self, cluster: GuardedCluster, shard: Shard) -> None:
        cluster.failovers.pop(shard.name, None)
        if shard.name in self._machine.state.masters:
            self._machine.remove(shard.name, self._machine.now)

    def _rename(self, cluster: GuardedCluster, changes: Changes) -> None:
        """Carry names over to the masters; two may change places."""
        if not changes.renamed:
            return
        machine = self._machine
        masters = machine.state.masters
        taken = [(masters.pop(old, None), cluster.failovers.pop(old, None), old, shard.name)
                 for old, shard in changes.renamed]  # fmt: skip
        for master, record, old, name in taken:
            if record is not None:
                cluster.failovers[name] = record
            if master is not None:
                master.name = name
                masters[name] = master
                machine.tell("warning", "+shard-renamed", master, f" was {old}")
        machine.save()

    def _tell_slots(self, cluster: GuardedCluster, had: dict[str, int]) -> None:
        """Slots have moved between shards; ``had`` is what those had that were there before."""
        for name, slots in had.items():
            shard = cluster.registry.shards.get(name)
            master = self._machine.state.masters.get(name)
            if shard is None or master is None or not slots or shard.slots == slots:
                continue
            text = f" {shard.slots.bit_count()} slots"
            for sign, some in (("+", shard.slots & ~slots), ("-", slots & ~shard.slots)):
                if some:
                    text += f" {sign}{format_slots(some).replace(' ', ',')}"
            self._machine.tell("notice", "+slots", master, text)

    # One shard.

    def _follow_shard(self, cluster: GuardedCluster, shard: Shard) -> None:
        machine = self._machine
        node = cluster.topology.nodes.get(shard.master)
        if node is None or not node.port or not node.host:
            return
        master = machine.state.masters.get(shard.name)
        address = self._address(node)
        if self._is_held(cluster, shard, address):
            cluster.dirty = True
            return
        if master is None:
            master = self._begin(cluster, shard, node)
        if not self._may_follow(master, node):
            cluster.dirty = True
            return
        if not master.address.is_same(address):
            self._switch(cluster, master, node, address)
        elif master.node_id != node.id:
            # Another node has taken the place of the old one.
            self._note(cluster, master, node)
            master.node_id = node.id
            machine.save()
        if master.config_epoch != shard.epoch:
            master.config_epoch = shard.epoch
            machine.save()
        self._follow_replicas(cluster, master, shard)

    def _is_held(self, cluster: GuardedCluster, shard: Shard, address: Address) -> bool:
        """Whether another shard's failover, which has not ended, is about the master there.

        Sentinels vote about addresses: two records of one would give two votes.
        """
        return any(
            master.name != shard.name
            and master.has(FAILOVER_IN_PROGRESS)
            and master.address.is_same(address)
            for master in cluster.masters(self._machine.state)
        )

    def _begin(self, cluster: GuardedCluster, shard: Shard, node: Node) -> Master:
        """A shard is guarded from now on."""
        machine = self._machine
        address = self._address(node)
        master = machine.monitor(shard.name, address, cluster.quorum, machine.now)
        master.cluster = cluster
        master.node_id = node.id
        master.config_epoch = shard.epoch
        copy_options(cluster.options, master)
        return master

    def _may_follow(self, master: Master, node: Node) -> bool:
        """Whether no failover is under way that what the cluster says is part of."""
        if not master.has(FAILOVER_IN_PROGRESS):
            return True
        if node.id == master.node_id and master.address.is_same(self._address(node)):
            return False  # nothing new: go on
        promoted = master.promoted
        if promoted is not None and promoted.node_id == node.id:
            return False  # what is meant to be
        if node.id == master.node_id and master.failover_state > SEND_SLAVEOF_NOONE:
            return False  # back at another address, but too late
        self._machine.failover.abort(
            master, "-failover-abort-master-changed", election.MASTER_CHANGED
        )
        return True

    def _switch(
        self, cluster: GuardedCluster, master: Master, node: Node, address: Address
    ) -> None:
        """The shard's master is another node, or elsewhere."""
        machine = self._machine
        if master.node_id != node.id:
            self._note(cluster, master, node)
        old = master.address
        machine.configuration.switch(master, address)
        machine.configuration.run_script(master, "observer", "start", old, address)
        master.node_id = node.id

    def _note(self, cluster: GuardedCluster, master: Master, node: Node) -> None:
        cluster.failovers[master.name] = Record(
            self._machine.now, master.node_id, node.id, node.epoch, led=False
        )

    def _follow_replicas(self, cluster: GuardedCluster, master: Master, shard: Shard) -> None:
        """Have a record for each other node of the shard."""
        machine = self._machine
        wanted: dict[str, Address] = {}
        taken = [master.address]
        nodes = [cluster.topology.nodes.get(node_id) for node_id in sorted(shard.members)]
        # At one place there is one; of several that were there the one that is.
        for node in sorted(filter(None, nodes), key=lambda node: not node.own):
            address = self._address(node)
            if node.id == shard.master or not node.port or not node.host:
                continue
            if not any(place.is_same(address) for place in taken):
                wanted[node.id] = address
                taken.append(address)
        for replica in list(master.replicas.values()):
            if not replica.node_id:
                replica.node_id = next(
                    (i for i, address in wanted.items() if address.is_same(replica.address)), ""
                )
            place = wanted.get(replica.node_id)
            if place is None or not place.is_same(replica.address):
                self._drop(master, replica)
            else:
                del wanted[replica.node_id]
        for node_id, address in wanted.items():
            added = machine.discovery.add_replica(master, address.host, address.port)
            if added is not None:
                added.node_id = node_id

    def _drop(self, master: Master, replica: Replica) -> None:
        """A node belongs to the shard no more, or is elsewhere."""
        machine = self._machine
        machine.tell("notice", "-slave", replica)
        machine.discovery.forget_replica(replica)
        machine.save()

    def _address(self, node: Node) -> Address:
        return Address(node.host, node.port, self._machine.resolve(node.host))
