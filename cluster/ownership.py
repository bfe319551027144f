"""Who has which slot: what others claim is weighed by the epoch of the claim.

A master claims its slots in every packet, with its config epoch. Of two claims to a slot the one
with the larger epoch holds; epochs are unique among masters once :meth:`Ownership.part_epochs` has
seen to it. Whoever claims with an epoch that has been passed is told so by an UPDATE. A slot that
is being imported here is left alone: the operator's tool says when it is ours.

(``clusterUpdateSlotsConfigWith``, ``clusterHandleConfigEpochCollision`` in cluster.c.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cluster import message
from cluster.message import Packet
from cluster.state import Node, iterate_bits, slot_bits

if TYPE_CHECKING:
    from cluster.machine import Machine


# Node timeouts for which the winner of an epoch may speak up.
PATIENCE: Final = 2


class Ownership:
    """Weighs claims."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._state = machine.state
        # Masters that claim slots of this one by the same epoch, and since when.
        self._contested: dict[Node, int] = {}

    def compare(self, sender: Node, packet: Packet) -> None:
        """What the sender of a ping says of its slots, or those of its master, against ours."""
        state = self._state
        if sender.is_master and packet.config_epoch < sender.config_epoch:
            return  # a ping and a pong may overtake each other: this one is of the past
        head = sender if sender.is_master else sender.master
        if head is not None and head.slots != packet.slots:
            if sender.is_master:
                self.accept(sender, packet.config_epoch, packet.slots)
            self._correct_sender(sender, packet)
        myself = state.myself
        if (
            sender.is_master
            and myself.is_master
            and packet.config_epoch == myself.config_epoch
            and sender is not myself
        ):
            self.part_epochs(sender, packet.slots)

    def _correct_sender(self, sender: Node, packet: Packet) -> None:
        """Tell a sender who claims a slot that another one has by a larger epoch."""
        for slot in iterate_bits(slot_bits(packet.slots) & ~slot_bits(sender.slots)):
            owner = self._state.owners[slot]
            if owner is None or owner is sender or self._state.unclaimed & 1 << slot:
                continue
            if owner.config_epoch > packet.config_epoch:
                self._machine.log(
                    "verbose",
                    f"Node {sender.name} has old slots configuration, sending an UPDATE message "
                    f"about {owner.name}",
                )
                self.send_update(sender, owner)
                return  # one at a time; it will come back if it has more to learn

    def send_update(self, to: Node, about: Node) -> None:
        """Tell a node which slots another one has, and by which epoch."""
        if to.link is None:
            return
        machine = self._machine
        packet = machine.gossip.packet(message.UPDATE)
        packet.about = about.name
        packet.about_epoch = about.config_epoch
        packet.about_slots = bytes(about.slots)
        machine.send(to.link, packet)

    def correct(self, about: Node, epoch: int, slots: bytes) -> None:
        """An UPDATE has come: a node has those slots by that epoch."""
        if about.config_epoch >= epoch:
            return
        machine = self._machine
        if about.is_replica:
            self._state.make_master(about)
        about.config_epoch = epoch
        machine.save()
        self.accept(about, epoch, slots)

    def accept(self, claimant: Node, epoch: int, slots: bytes) -> None:
        """Give the claimant what it claims and nobody holds by a larger epoch.

        Where that takes all slots from this node's master, or from this node, it becomes a replica
        of the claimant; where a master loses some, the keys in them go.
        """
        machine = self._machine
        state = self._state
        myself = state.myself
        if claimant is myself:
            return
        mine = myself if myself.is_master else myself.master
        claims = slot_bits(slots)
        held = slot_bits(claimant.slots)
        gained = self._find_gains(claims & ~held, epoch)
        lost = gained & slot_bits(mine.slots) if mine is not None else 0
        taken = lost.bit_count()
        stranded: list[int] = []
        if mine is myself:
            stranded = [slot for slot in iterate_bits(lost) if machine.outside.count_keys(slot)]
        if gained:
            state.move(gained, claimant)
            claimant.gained_at = machine.now
            for slot in list(state.migrating):
                if gained & 1 << slot:
                    del state.migrating[slot]
            machine.save()
            machine.doubt()
        state.unclaimed &= ~(claims & held)
        # Not its any more, it says, but we do not know whose: they are free to be claimed. Unless
        # it has only just got some: a packet from before that may have been overtaken, by another
        # one or by an operator, and the last owner's claim by one that is as old.
        if machine.now - claimant.gained_at > machine.settings.node_timeout:
            state.unclaimed |= held & ~claims
        claimed = claims.bit_count()
        self._follow_slots(claimant, mine, taken, claimed, stranded)

    def _find_gains(self, claims: int, epoch: int) -> int:
        """Those of the slots, as bits, that a claim with that epoch wins."""
        state = self._state
        gained = 0
        rest = claims
        for owner in state.nodes.values():
            if owner.slot_count and rest:
                slots = slot_bits(owner.slots) & rest
                if owner.config_epoch < epoch:
                    gained |= slots
                rest &= ~slots
        gained |= rest | claims & state.unclaimed  # what nobody has, or nobody wants
        if gained:
            for slot in state.importing:
                gained &= ~(1 << slot)
        return gained

    def _follow_slots(
        self, claimant: Node, mine: Node | None, taken: int, claimed: int, stranded: list[int]
    ) -> None:
        machine = self._machine
        myself = self._state.myself
        settings = machine.settings
        moves = taken and mine is not None and mine.slot_count == 0
        if moves and (settings.allow_replica_migration or claimed == taken):
            machine.log(
                "notice",
                "Configuration change detected. Reconfiguring myself as a replica of "
                f"{claimant.name} ({claimant.human_name})",
            )
            machine.replicate(claimant, machine.now)
            return
        for slot in stranded:
            machine.outside.delete_keys(slot)
        master = myself.master
        if master is not None and master.master is not None and master.master is not myself:
            # A replica of a replica would never hear who has its slots: go to the top.
            machine.log(
                "notice",
                f"I'm a sub-replica! Reconfiguring myself from {master.name} to "
                f"{master.master.name}",
            )
            machine.replicate(master.master, machine.now)

    def part_epochs(self, sender: Node, slots: bytes) -> None:
        """Two masters have the same epoch: the one with the smaller name takes another one.

        Where both claim the same slots, one has won the epoch and the other has taken it without
        asking, at the other end of a partition: then the winner takes the next one, and with it the
        slots, whatever their names are. (If there is no winner, or it has been restarted since, the
        names decide after a while.)
        """
        machine = self._machine
        state = self._state
        myself = state.myself
        if slot_bits(slots) & slot_bits(myself.slots):
            if machine.election.won_epoch != myself.config_epoch:
                since = self._contested.setdefault(sender, machine.now)
                patience = PATIENCE * machine.settings.node_timeout
                if machine.now - since < patience or sender.name <= myself.name:
                    return
        elif sender.name <= myself.name:
            return
        self._contested.pop(sender, None)
        state.current_epoch += 1
        myself.config_epoch = state.current_epoch
        machine.log(
            "verbose",
            f"WARNING: configEpoch collision with node {sender.name}. configEpoch set to "
            f"{myself.config_epoch}",
        )
        machine.save()
