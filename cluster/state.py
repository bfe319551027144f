"""What a node knows of its cluster: the nodes, who has which slot, and the epochs.

Two rules keep it consistent. A slot has one owner in :attr:`State.owners`, and its owner's bitmap
says the same; only :meth:`State.assign`, :meth:`State.unassign` and :meth:`State.move` change
either. A replica is in its master's ``replicas`` and names it as its ``master``; only
:meth:`State.set_master` and :meth:`State.make_master` change either. :meth:`State.check` asserts
both.

All times are Unix milliseconds of the machine's clock, 0 for never.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from random import Random
from typing import TYPE_CHECKING, Final

from cluster.message import BITMAP_SIZE, NAME_LENGTH, Address
from cluster.slots import SLOTS

if TYPE_CHECKING:
    from cluster.machine import Link

# Flags of a node, with the bits that they have on the bus and the names in CLUSTER NODES.
MYSELF: Final = 1 << 4
MASTER: Final = 1 << 0
REPLICA: Final = 1 << 1
PFAIL: Final = 1 << 2
FAIL: Final = 1 << 3
HANDSHAKE: Final = 1 << 5
NOADDR: Final = 1 << 6
MEET: Final = 1 << 7
MIGRATE_TO: Final = 1 << 8  # a master whose replicas are to be replaced by those of others
NOFAILOVER: Final = 1 << 9
EXTENSIONS: Final = 1 << 10

NOWHERE: Final[Address] = ("", 0, 0, 0)

FLAG_NAMES: Final = (
    (MYSELF, "myself"),
    (MASTER, "master"),
    (REPLICA, "slave"),
    (PFAIL, "fail?"),
    (FAIL, "fail"),
    (HANDSHAKE, "handshake"),
    (NOADDR, "noaddr"),
    (NOFAILOVER, "nofailover"),
)

_ONES: Final = re.compile("1+")


def draw_name(random: Random) -> str:
    """A name for a node or a shard: 40 hexadecimal digits."""
    return f"{random.getrandbits(4 * NAME_LENGTH):0{NAME_LENGTH}x}"


def find_runs(bits: int) -> list[tuple[int, int]]:
    """The runs (first, last) of bits that are set, the lowest first."""
    if not bits:
        return []
    # A search in text is linear however many runs there are.
    start = (bits & -bits).bit_length() - 1
    text = f"{bits >> start:b}"[::-1]
    return [(start + run.start(), start + run.end() - 1) for run in _ONES.finditer(text)]


def slot_bits(bitmap: bytes | bytearray) -> int:
    """A bitmap as a number."""
    return int.from_bytes(bitmap, "little")


def iterate_bits(bits: int) -> Iterator[int]:
    """The numbers of the bits that are set, in order."""
    for first, last in find_runs(bits):
        yield from range(first, last + 1)


def _set_slots(node: Node, bits: int) -> None:
    node.slots[:] = bits.to_bytes(BITMAP_SIZE, "little")
    node.slot_count = bits.bit_count()


class Node:
    """One node of the cluster, as this one knows it."""

    def __init__(self, name: str, flags: int, now: int) -> None:
        self.name = name
        self.flags = flags
        self.created = now
        self.shard = ""
        self.ip = ""
        self.port = 0
        self.bus_port = 0
        self.tls_port = 0
        self.hostname = ""
        self.human_name = ""
        self.config_epoch = 0
        self.slots = bytearray(BITMAP_SIZE)
        self.slot_count = 0
        # The ranges of a bitmap that is mostly the one above: the file is written often.
        self._ranged = bytes(BITMAP_SIZE)
        self._ranges: list[tuple[int, int]] = []
        self.master: Node | None = None
        self.replicas: list[Node] = []
        self.ping_sent = 0  # the ping that has not been answered
        self.pong_received = 0
        self.data_received = 0
        self.failed_at = 0
        self.voted_at = 0  # when this node last voted for a replica of that master
        self.orphaned_at = 0
        self.gained_at = 0  # when it was last heard or said to have slots that it did not have
        self.offset = 0
        # Masters that say it fails, and when they last said so.
        self.reports: dict[Node, int] = {}
        self.link: Link | None = None  # the one that this node has opened
        self.inbound: Link | None = None  # the one that that node has opened

    def __repr__(self) -> str:
        return f"<{self.name[:8]} {self.describe_flags()}>"

    @property
    def is_master(self) -> bool:
        return self.flags & MASTER != 0

    @property
    def is_replica(self) -> bool:
        return self.flags & REPLICA != 0

    @property
    def failed(self) -> bool:
        """FAIL: a majority has agreed on it."""
        return self.flags & FAIL != 0

    @property
    def suspect(self) -> bool:
        """PFAIL: this node does not reach it."""
        return self.flags & PFAIL != 0

    @property
    def in_handshake(self) -> bool:
        return self.flags & HANDSHAKE != 0

    @property
    def has_address(self) -> bool:
        return not self.flags & NOADDR

    def has_slot(self, slot: int) -> bool:
        return self.slots[slot >> 3] & 1 << (slot & 7) != 0

    def iterate_slots(self) -> Iterator[int]:
        """Its slots, in order."""
        return iterate_bits(slot_bits(self.slots))

    @property
    def slot_ranges(self) -> list[tuple[int, int]]:
        """Its slots as ranges (first, last)."""
        if self._ranged != self.slots:
            self._ranged = bytes(self.slots)
            self._ranges = find_runs(slot_bits(self.slots))
        return self._ranges

    @property
    def working_replicas(self) -> int:
        """Replicas that do not fail (``clusterCountNonFailingSlaves``)."""
        return sum(not replica.failed for replica in self.replicas)

    def describe_flags(self) -> str:
        """As CLUSTER NODES names them."""
        return ",".join(name for bit, name in FLAG_NAMES if self.flags & bit) or "noflags"

    @property
    def address(self) -> Address:
        return (self.ip, self.port, self.bus_port, self.tls_port)

    def move_to(self, address: Address) -> None:
        """It is to be found there from now on."""
        self.ip, self.port, self.bus_port, self.tls_port = address


class State:
    """All that a node knows, itself included."""

    def __init__(self, myself: Node) -> None:
        self.myself = myself
        self.nodes: dict[str, Node] = {myself.name: myself}
        self.owners: list[Node | None] = [None] * SLOTS
        self.assigned = 0  # slots that have an owner
        # Slots, as bits, whose owner has been heard to claim them no more: whoever claims one may
        # have it.
        self.unclaimed = 0
        self.migrating: dict[int, Node] = {}  # slots of this node -> where they go
        self.importing: dict[int, Node] = {}  # slots that come here -> from where
        self.current_epoch = 0
        self.last_vote_epoch = 0
        # Names that are not to be learnt again, and until when.
        self.forgotten: dict[str, int] = {}
        self.up = False
        self.size = 0  # masters with slots
        # The slots that have changed hands since somebody last looked, as bits.
        self.moved = 0

    # Nodes.

    def find(self, name: str) -> Node | None:
        return self.nodes.get(name)

    def add(self, node: Node) -> None:
        assert node.name not in self.nodes
        self.nodes[node.name] = node

    def rename(self, node: Node, name: str) -> None:
        """A node's real name has become known."""
        assert name not in self.nodes
        # In the same place, so that the order of the nodes stays.
        self.nodes = {name if n is node else key: n for key, n in self.nodes.items()}
        node.name = name

    def remove(self, node: Node) -> None:
        """Forget a node, and what it has to do with others (``clusterDelNode``)."""
        assert node is not self.myself
        self.unassign_all(node)
        for table in (self.migrating, self.importing):
            for slot in [slot for slot, other in table.items() if other is node]:
                del table[slot]
        for other in self.nodes.values():
            other.reports.pop(node, None)
        if node.master is not None:
            self._leave_master(node)
        for replica in list(node.replicas):
            self._leave_master(replica)
        del self.nodes[node.name]

    def others(self) -> list[Node]:
        """All nodes but this one."""
        return [node for node in self.nodes.values() if node is not self.myself]

    def masters(self) -> list[Node]:
        return [node for node in self.nodes.values() if node.is_master]

    def shard_of(self, node: Node) -> list[Node]:
        """The master of a node's shard and its replicas, the node among them."""
        head = node.master or node
        return [head, *head.replicas]

    # Roles.

    def make_master(self, node: Node) -> None:
        """The node is a master from now on (``clusterSetNodeAsMaster``)."""
        if node.is_master:
            return
        if node.master is not None:
            self._leave_master(node)
            if node is not self.myself:
                node.flags |= MIGRATE_TO
        node.flags = node.flags & ~REPLICA | MASTER

    def set_master(self, node: Node, master: Node) -> None:
        """The node is a replica of ``master`` from now on; its slots, if any, stay with it."""
        assert node is not master
        node.flags = node.flags & ~(MASTER | MIGRATE_TO) | REPLICA
        if node.master is master:
            return
        if node.master is not None:
            self._leave_master(node)
        node.master = master
        master.replicas.append(node)
        master.flags |= MIGRATE_TO
        node.shard = master.shard

    def _leave_master(self, node: Node) -> None:
        master = node.master
        assert master is not None
        master.replicas.remove(node)
        if not master.replicas:
            master.flags &= ~MIGRATE_TO
        node.master = None

    # Slots.

    def assign(self, slot: int, node: Node) -> None:
        """Give a slot that nobody has to ``node``."""
        assert self.owners[slot] is None
        self.owners[slot] = node
        node.slots[slot >> 3] |= 1 << (slot & 7)
        node.slot_count += 1
        self.assigned += 1
        if node.slot_count == 1 and any(master.replicas for master in self.masters()):
            node.flags |= MIGRATE_TO
        self.moved |= 1 << slot

    def unassign(self, slot: int) -> None:
        """Let nobody have the slot."""
        node = self.owners[slot]
        if node is None:
            return
        self.owners[slot] = None
        node.slots[slot >> 3] &= ~(1 << (slot & 7))
        node.slot_count -= 1
        self.assigned -= 1
        bit = 1 << slot
        self.unclaimed &= ~bit
        self.moved |= bit

    def move(self, bits: int, node: Node) -> None:
        """Give slots, as bits, to ``node``, whoever has them; as fast for thousands as for a few,
        however scattered they are.
        """
        self.unclaimed &= ~bits
        bits &= ~slot_bits(node.slots)
        if not bits:
            return
        rest = bits
        for owner in self.nodes.values():
            if owner.slot_count:
                slots = slot_bits(owner.slots)
                if slots & rest:
                    _set_slots(owner, slots & ~rest)
                    rest &= ~slots
        for first, last in find_runs(bits):
            self.owners[first : last + 1] = [node] * (last + 1 - first)
        had_none = not node.slot_count
        _set_slots(node, slot_bits(node.slots) | bits)
        self.assigned += rest.bit_count()
        self.moved |= bits
        if had_none and any(master.replicas for master in self.masters()):
            node.flags |= MIGRATE_TO

    def unassign_all(self, node: Node) -> int:
        """Take all its slots from a node; how many there were."""
        slots = list(node.iterate_slots())
        for slot in slots:
            self.unassign(slot)
        return len(slots)

    def close_all_slots(self) -> None:
        """No slot is on its way any more."""
        self.migrating.clear()
        self.importing.clear()

    # Epochs.

    @property
    def largest_epoch(self) -> int:
        return max(self.current_epoch, *(node.config_epoch for node in self.nodes.values()))

    # What must not be known.

    def forget_name(self, name: str, until: int) -> None:
        """Do not learn of a node of that name before ``until``."""
        self.forgotten[name] = until

    def is_forgotten(self, name: str, now: int) -> bool:
        until = self.forgotten.get(name)
        if until is None:
            return False
        if until > now:
            return True
        del self.forgotten[name]
        return False

    # Invariants.

    def check(self) -> None:
        """Assert what always holds; for tests and simulations."""
        owned: dict[str, int] = {}
        first = 0
        for owner, run in groupby(self.owners):
            length = len(list(run))
            if owner is not None:
                assert self.nodes.get(owner.name) is owner, (first, owner)
                owned[owner.name] = owned.get(owner.name, 0) | ((1 << length) - 1) << first
            first += length
        assert self.assigned == sum(bits.bit_count() for bits in owned.values())
        for name, node in self.nodes.items():
            assert node.name == name
            bits = slot_bits(node.slots)
            assert bits == owned.get(name, 0), node
            assert node.slot_count == bits.bit_count(), node
            assert not (node.is_master and node.is_replica), node
            assert node.master is None or node.is_replica, node
            assert node.master is None or node in node.master.replicas, node
            for replica in node.replicas:
                assert replica.master is node, (node, replica)
        assert self.myself.flags & MYSELF
        for node in self.others():
            assert not node.flags & MYSELF, node
