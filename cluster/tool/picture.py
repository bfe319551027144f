"""The whole cluster as all its nodes see it: their views side by side."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from cluster.tool.connection import Address
from cluster.tool.errors import Refused
from cluster.tool.view import SLOTS, NodeLine, View


@dataclass(slots=True)
class Member:
    """A node that has answered: where it was reached, what it sees, how many keys it has."""

    address: Address
    view: View
    keys: int = 0
    state: str = "ok"
    current_epoch: int = 0

    @property
    def id(self) -> str:
        """Its id."""
        return self.view.myself

    @property
    def me(self) -> NodeLine:
        """What it says of itself."""
        return self.view.me

    @property
    def is_master(self) -> bool:
        """By its own word."""
        return self.me.is_master

    @property
    def name(self) -> str:
        """For people: address and the beginning of the id."""
        return f"{self.address} ({self.id[:8]})"


@dataclass(slots=True)
class Picture:
    """All members by id, and the nodes that somebody knows but that do not answer, with reasons."""

    members: dict[str, Member]
    absent: dict[str, NodeLine] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def masters(self) -> list[Member]:
        """The masters, by address."""
        return sorted(
            (member for member in self.members.values() if member.is_master),
            key=lambda member: member.address,
        )

    def replicas_of(self, node_id: str) -> list[Member]:
        """The replicas of a master, by address, by their own word."""
        return sorted(
            (member for member in self.members.values() if member.me.master == node_id),
            key=lambda member: member.address,
        )

    def in_order(self) -> Iterator[Member]:
        """Each master followed by its replicas, then what is left."""
        rest = dict(self.members)
        for master in self.masters():
            for member in [master, *self.replicas_of(master.id)]:
                if rest.pop(member.id, None):
                    yield member
        yield from rest.values()

    def owners(self) -> dict[int, list[str]]:
        """For each slot that some reachable master claims, who does."""
        owners: dict[int, list[str]] = defaultdict(list)
        for master in self.masters():
            for slot in master.me.slots:
                owners[slot].append(master.id)
        return owners

    def last_word(self) -> dict[int, str]:
        """For each slot that is claimed, by whom; of several, by the one of the greatest epoch."""
        owners: dict[int, str] = {}
        for master in sorted(self.masters(), key=lambda m: (m.me.epoch, m.id)):
            owners.update(dict.fromkeys(master.me.slots, master.id))
        return owners

    def owner(self, slot: int) -> str:
        """The same for one slot; empty if nobody claims it."""
        return self.last_word().get(slot, "")

    def is_owner(self, node_id: str) -> bool:
        """Whether anybody thinks that this node has slots."""
        return any(
            node_id in member.view.nodes and bool(member.view.nodes[node_id].slots)
            for member in self.members.values()
        )

    def covered(self) -> set[int]:
        """The slots that some reachable master claims."""
        return set(self.owners())

    def uncovered(self) -> set[int]:
        """The others."""
        return set(range(SLOTS)) - self.covered()

    def absent_masters(self) -> list[NodeLine]:
        """Unreachable masters with slots."""
        return [line for line in self.absent.values() if line.is_master and line.slots]

    def open_slots(self) -> dict[int, tuple[dict[str, str], dict[str, str]]]:
        """For each open slot, who migrates it whereto, and who imports it wherefrom."""
        found: dict[int, tuple[dict[str, str], dict[str, str]]] = {}
        for member in self.members.values():
            for slot, other in member.view.migrating.items():
                found.setdefault(slot, ({}, {}))[0][member.id] = other
            for slot, other in member.view.importing.items():
                found.setdefault(slot, ({}, {}))[1][member.id] = other
        return dict(sorted(found.items()))

    def agreed(self) -> bool:
        """Whether all views have the same owners."""
        return len({member.view.ownership() for member in self.members.values()}) <= 1

    def name(self, node_id: str) -> str:
        """A node for people."""
        if node_id in self.members:
            return self.members[node_id].name
        if node_id in self.absent:
            return f"{self.absent[node_id].address} ({node_id[:8]})"
        return node_id[:8] or "nobody"

    def find(self, text: str) -> Member:
        """The member that an id, the unique beginning of one, or an address means.

        Raises Refused.
        """
        if text in self.members:
            return self.members[text]
        found = [
            member
            for member in self.members.values()
            if text
            in {
                str(member.address),
                str(member.me.address),
                f"{member.me.hostname}:{member.me.address.port}",
            }
        ]
        if not found and len(text) >= 4:
            found = [
                member
                for node_id, member in self.members.items()
                if node_id.startswith(text.lower())
            ]
        if len(found) == 1:
            return found[0]
        if found:
            raise Refused(f"'{text}' is the beginning of the ids of {len(found)} nodes")
        if any(node_id.startswith(text) for node_id in self.absent):
            raise Refused(f"Node {text} does not answer: {self.reasons.get(text, 'unreachable')}")
        raise Refused(f"No such node: {text}")

    def find_master(self, text: str) -> Member:
        """The same for a node that must be a master. Raises Refused."""
        member = self.find(text)
        if not member.is_master:
            raise Refused(f"{member.name} is not a master")
        return member

    def fewest_replicas(self, besides: Iterable[str] = ()) -> Member:
        """The master with slots that has the fewest replicas. Raises Refused."""
        without = set(besides)
        able = [m for m in self.masters() if m.me.slots and m.id not in without]
        if not able:
            raise Refused("There is no master with slots")
        return min(able, key=lambda m: (len(set(self.replicas_of_id(m.id)) - without), m.address))

    def replicas_of_id(self, node_id: str) -> list[str]:
        """The ids of a master's replicas, unreachable ones included."""
        found = [member.id for member in self.replicas_of(node_id)]
        return found + [line.id for line in self.absent.values() if line.master == node_id]
