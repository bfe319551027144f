"""The shards of a cluster, each under a name that stays while its nodes come and go. No I/O.

A shard is a master that has slots, with its replicas. It goes on being the same one when a replica
becomes its master, and it ends when other shards have got its slots. Its name is
``<cluster>/<twelve hex digits>``, and has to be the same at all sentinels, which do not ask each
other first:

- Where nodes have shard ids (Redis 7.2), the digits are the shard id's first ones.
- Where they have not, those of the smallest node id among the shard's nodes when it is first seen.

From then on the name stays, whatever happens to those nodes; it is in the config file. A sentinel
that comes later may see other nodes first, and so find another name. So names are compared when
sentinels hear of each other's masters (:meth:`Registry.hear`): of two names for one shard the
smaller one stays; of two shards for one name the one whose master has the smaller id keeps it.
Both rules use only what both sides know, so both come to the same result.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from sentinel.topology import ALL_SLOTS, Node, Topology

DIGITS: Final = 12


class Shard:
    """A master with slots, and the nodes that belong to it.

    ``master`` and ``members`` are node ids. A master that was replaced stays a member until it is
    seen to be something else. ``slots`` and ``epoch`` are its master's.
    """

    __slots__ = ("epoch", "master", "members", "name", "slots")

    def __init__(self, name: str, master: str) -> None:
        self.name = name
        self.master = master
        self.members = {master}
        self.slots = 0
        self.epoch = 0

    def __repr__(self) -> str:
        return f"<{self.name} {self.master[:8]} of {len(self.members)}>"


class Changes:
    """What an update has changed; ``replaced``: shards whose master is another node than before."""

    def __init__(self) -> None:
        self.added: list[Shard] = []
        self.removed: list[Shard] = []
        self.replaced: list[Shard] = []
        self.renamed: list[tuple[str, Shard]] = []  # the old name

    def __bool__(self) -> bool:
        return any(vars(self).values())


class Registry:
    """The shards of one cluster, by name; ``unnamed`` are the ids of masters that wait for one.

    A shard without a name is nobody's business yet: none of its nodes has said whether it has a
    shard id, so none has been reached.
    """

    def __init__(self, cluster: str) -> None:
        self.cluster = cluster
        self.shards: dict[str, Shard] = {}
        self.unnamed: list[str] = []

    def of(self, node_id: str) -> Shard | None:
        """The shard that a node belongs to."""
        return next((s for s in self.shards.values() if node_id in s.members), None)

    def led_by(self, node_id: str) -> Shard | None:
        """The shard that a node is master of."""
        return next((s for s in self.shards.values() if s.master == node_id), None)

    def restore(self, name: str, master: str, members: Iterable[str]) -> Shard:
        """A shard as it was before the sentinel was started again."""
        shard = Shard(name, master)
        shard.members.update(members)
        self.shards[name] = shard
        return shard

    def update(self, topology: Topology, shard_ids: Mapping[str, str]) -> Changes:
        """Follow the topology. ``shard_ids``: what nodes said; "" if they have none."""
        changes = Changes()
        self.unnamed = []
        owners = {node.id: node for node in topology.owners()}
        fresh = self._assign(owners, changes)
        self._gather(topology, owners, fresh)
        for master, members in fresh.items():
            self._found(owners[master], members, shard_ids, changes)
        for shard in list(self.shards.values()):
            if shard.master not in owners and self._has_ended(shard, topology):
                del self.shards[shard.name]
                changes.removed.append(shard)
        return changes

    def _assign(self, owners: Mapping[str, Node], changes: Changes) -> dict[str, set[str]]:
        """Find the master of each shard that there is; who is left begins one of its own."""
        left = dict(owners)
        for shard in self.shards.values():
            able = [left[node_id] for node_id in shard.members if node_id in left]
            if not able:
                continue
            # Several, if one was split: it goes on with who has most of what it had.
            best = max(
                able,
                key=lambda n: ((n.slots & shard.slots).bit_count(), n.id == shard.master, n.epoch),
            )
            del left[best.id]
            if best.id != shard.master:
                shard.master = best.id
                changes.replaced.append(shard)
            shard.slots = best.slots
            shard.epoch = best.epoch
        return {master: {master} for master in left}

    def _gather(
        self, topology: Topology, owners: Mapping[str, Node], fresh: dict[str, set[str]]
    ) -> None:
        """Find out for each node to which shard it belongs."""
        sets = {shard.master: shard.members for shard in self.shards.values()}
        sets.update(fresh)
        for node in topology.nodes.values():
            root = topology.root(node)
            place = sets.get(root.id) if root is not None else None
            if place is None and (root is None or not _stands_alone(root)):
                continue  # it stays where it was
            for members in sets.values():
                if members is not place:
                    members.discard(node.id)
            if place is not None:
                place.add(node.id)
        for shard in self.shards.values():
            shard.members &= topology.nodes.keys()

    def _found(
        self, master: Node, members: set[str], shard_ids: Mapping[str, str], changes: Changes
    ) -> None:
        """Begin a shard, if it can be named."""
        said = [shard_ids[node_id] for node_id in members if node_id in shard_ids]
        if not said:
            self.unnamed.append(master.id)
            return
        shard = Shard(self._choose(members, filter(None, said)), master.id)
        shard.members = members
        shard.slots = master.slots
        shard.epoch = master.epoch
        self.shards[shard.name] = shard
        changes.added.append(shard)

    def _choose(self, members: Iterable[str], shard_ids: Iterable[str]) -> str:
        """The first name of these that is free."""
        for text in [*sorted(shard_ids), *sorted(members)]:
            name = f"{self.cluster}/{text[:DIGITS]}"
            if name not in self.shards:
                return name
        # Two nodes whose ids begin alike, or all names are taken by whom nodes have gone to.
        return f"{self.cluster}/{min(members)}"

    def _has_ended(self, shard: Shard, topology: Topology) -> bool:
        """Whether a shard that has no slots any more is over.

        It is if others have got its slots, or if none of its nodes is there, or they say that they
        have none; otherwise its nodes just have not agreed who is master. After a start nobody
        knows which slots it had.
        """
        if not (shard.slots or ALL_SLOTS) & ~topology.covered:
            return True
        here = [topology.nodes[i] for i in shard.members if i in topology.nodes]
        return all(_stands_alone(node) for node in here)

    def hear(self, name: str, master: str, shard_ids: Mapping[str, str]) -> Changes:
        """Another sentinel calls the shard of which this node (an id) is master by that name."""
        changes = Changes()
        shard = self.led_by(master)
        if shard is None or shard.name <= name or not name.startswith(f"{self.cluster}/"):
            return changes
        taken = self.shards.get(name)
        if taken is None:
            self._rename(shard, name, changes)
        elif shard.master < taken.master:
            # Whom it is taken from gets the name that it would get if it were new.
            self._rename(shard, name, changes)
            said = [shard_ids[i] for i in taken.members if shard_ids.get(i)]
            self._rename(taken, self._choose(taken.members, said), changes)
        return changes

    def _rename(self, shard: Shard, name: str, changes: Changes) -> None:
        changes.renamed.append((shard.name, shard))
        if self.shards.get(shard.name) is shard:
            del self.shards[shard.name]
        shard.name = name
        self.shards[name] = shard


def _stands_alone(node: Node) -> bool:
    """Whether a node says itself that it is a master that has no slots, and claims none."""
    return node.own and node.is_master and not node.claimed
