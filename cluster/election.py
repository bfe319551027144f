"""A replica takes its failed master's place, if a majority of masters lets it.

The replicas of a failed master wait for a moment, the longer the less of the history they have, so
that the best one asks first. Asking takes a new epoch. A master votes once in an epoch, for a
replica whose master it takes to have failed, and for replicas of the same master once in two node
timeouts. Whoever has the votes of a majority in time takes the slots with that epoch.

(``clusterHandleSlaveFailover``, ``clusterSendFailoverAuthIfNeeded`` in cluster.c.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cluster import message
from cluster.message import Packet
from cluster.state import NOFAILOVER, Node, iterate_bits, slot_bits

if TYPE_CHECKING:
    from cluster.machine import Machine

FIXED_DELAY_MS: Final = 500  # lets the news of the failure spread
RANDOM_DELAY_MS: Final = 500
RANK_DELAY_MS: Final = 1_000
LEAST_PATIENCE_MS: Final = 2_000
NEVER: Final = -(1 << 62)

# Why a replica does not take over; said once every so often in the log.
NO_REASON: Final = ""
TOO_OLD: Final = (
    "Disconnected from master for longer than allowed. Please check the "
    "'cluster-replica-validity-factor' configuration option."
)
WAITING: Final = "Waiting the delay before I can start a new failover."
EXPIRED: Final = "Failover attempt expired."
VOTES: Final = "Waiting for votes, but majority still not reached."
RELOG_MS: Final = 10_000


class Election:
    """Both sides: asking for votes, and giving them."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._state = machine.state
        self._settings = machine.settings
        self._starts_at = NEVER  # when the votes are to be asked for, or were
        self._asked = False
        self._epoch = 0
        self.won_epoch = -1  # the last one that this node has won
        self._votes: set[Node] = set()
        self._rank = 0
        self._reason = NO_REASON
        self._logged_at = NEVER

    # The side of the replica.

    def reset(self) -> None:
        """Whatever election there was is over: the next one need not wait for its time."""
        self._starts_at = NEVER
        self._asked = False
        self._votes.clear()

    def advance(self) -> None:
        """Do what is next, if there is anything to do."""
        machine = self._machine
        settings = self._settings
        now = machine.now
        manual = machine.handover.may_start
        if not self._is_wanted(manual):
            self._reason = NO_REASON
            return
        if not manual and self._is_too_old():
            self._explain(TOO_OLD)
            return
        age = now - self._starts_at
        patience = max(2 * settings.node_timeout, LEAST_PATIENCE_MS)
        if age > 2 * patience:
            self._schedule()
            return
        if not self._asked and not machine.handover.is_under_way:
            self._fall_back()
        if now < self._starts_at:
            self._explain(WAITING)
        elif age > patience:
            self._explain(EXPIRED)
        elif not self._asked:
            self._ask()
        elif len(self._votes) >= self._quorum():
            self._win()
        else:
            self._explain(VOTES)

    def _quorum(self) -> int:
        return self._state.size // 2 + 1

    def _is_wanted(self, manual: bool) -> bool:
        master = self._machine.myself.master
        if master is None or not master.slot_count:
            return False
        return manual or (master.failed and not self._settings.replica_no_failover)

    def _is_too_old(self) -> bool:
        """Whether the master has been out of reach for too long before it failed."""
        settings = self._settings
        factor = settings.replica_validity_factor
        if not factor:
            return False
        silence = self._machine.outside.replication_silence()
        if silence > settings.node_timeout:
            # So long it takes at least to notice that it fails.
            silence -= settings.node_timeout
        return silence > settings.replica_ping_period + settings.node_timeout * factor

    def _schedule(self) -> None:
        """Set a time for the election."""
        machine = self._machine
        now = machine.now
        self.reset()
        self._rank = self._find_rank()
        wait = FIXED_DELAY_MS + int(machine.random.random() * RANDOM_DELAY_MS)
        self._starts_at = now + wait + self._rank * RANK_DELAY_MS
        if machine.handover.is_under_way:
            self._starts_at = now
            self._rank = 0
        machine.log(
            "notice",
            f"Start of election delayed for {self._starts_at - now} milliseconds "
            f"(rank #{self._rank}, offset {machine.outside.replication_offset()}).",
        )
        # The others can find out their rank only by our offset.
        machine.gossip.tell_shard()
        if machine.handover.is_under_way:
            self.advance()

    def _find_rank(self) -> int:
        """How many other replicas of the master have more of the history."""
        myself = self._machine.myself
        master = myself.master
        assert master is not None
        offset = self._machine.outside.replication_offset()
        return sum(
            replica is not myself and not replica.flags & NOFAILOVER and replica.offset > offset
            for replica in master.replicas
        )

    def _fall_back(self) -> None:
        """Wait longer if others turn out to have more."""
        rank = self._find_rank()
        if rank <= self._rank:
            return
        delay = (rank - self._rank) * RANK_DELAY_MS
        self._starts_at += delay
        self._rank = rank
        self._machine.log(
            "notice", f"Replica rank updated to #{rank}, added {delay} milliseconds of delay."
        )

    def _ask(self) -> None:
        """Ask all masters for their votes, in a new epoch."""
        machine = self._machine
        state = self._state
        state.current_epoch += 1
        self._epoch = state.current_epoch
        self._asked = True
        machine.log("notice", f"Starting a failover election for epoch {self._epoch}.")
        machine.save()
        machine.doubt()
        packet = machine.gossip.packet(message.FAILOVER_AUTH_REQUEST)
        if machine.handover.is_under_way:
            packet.says |= message.SAYS_FORCED
        machine.broadcast(packet)

    def count_vote(self, sender: Node, packet: Packet) -> None:
        """A FAILOVER_AUTH_ACK: a vote, if it is for this election."""
        if not self._asked or packet.current_epoch < self._epoch:
            return
        if sender.is_master and sender.slot_count:
            self._votes.add(sender)

    def _win(self) -> None:
        machine = self._machine
        myself = machine.myself
        machine.log("notice", "Failover election won: I'm the new master.")
        if myself.config_epoch < self._epoch:
            myself.config_epoch = self._epoch
            machine.log("notice", f"configEpoch set to {self._epoch} after successful failover")
        self.won_epoch = self._epoch
        machine.take_over()

    def _explain(self, reason: str) -> None:
        """Say why nothing happens, when the reason is another one or after a while."""
        machine = self._machine
        if reason == self._reason and machine.now - self._logged_at < RELOG_MS:
            return
        self._reason = reason
        self._logged_at = machine.now
        master = machine.myself.master
        # A failure that has just happened is nothing to complain about yet.
        patience = self._settings.node_timeout + 5_000
        if master is not None and master.failed and machine.now - master.failed_at < patience:
            return
        machine.log("notice", f"Currently unable to failover: {reason}")

    # The side of the master.

    def vote(self, candidate: Node, packet: Packet) -> None:
        """A FAILOVER_AUTH_REQUEST: give the vote, or say nothing."""
        machine = self._machine
        state = self._state
        myself = machine.myself
        if not myself.is_master or not myself.slot_count:
            return
        refusal = self._refusal(candidate, packet)
        if refusal:
            machine.log(
                "warning",
                f"Failover auth denied to {candidate.name} ({candidate.human_name}): {refusal}",
            )
            return
        assert candidate.master is not None
        candidate.master.voted_at = machine.now
        state.last_vote_epoch = state.current_epoch
        machine.save()
        machine.send(candidate.link, machine.gossip.packet(message.FAILOVER_AUTH_ACK))
        machine.log(
            "notice",
            f"Failover auth granted to {candidate.name} ({candidate.human_name}) for epoch "
            f"{state.current_epoch}",
        )

    def _refusal(self, candidate: Node, packet: Packet) -> str:
        """Why the candidate does not get the vote; empty where it does."""
        state = self._state
        now = self._machine.now
        master = candidate.master
        if packet.current_epoch < state.current_epoch:
            return f"reqEpoch ({packet.current_epoch}) < curEpoch({state.current_epoch})"
        if state.last_vote_epoch == state.current_epoch:
            return f"already voted for epoch {state.current_epoch}"
        if candidate.is_master:
            return "it is a master node"
        if master is None:
            return "I don't know its master"
        if not master.failed and not packet.says & message.SAYS_FORCED:
            return "its master is up"
        wait = 2 * self._settings.node_timeout
        if master.voted_at and now - master.voted_at < wait:
            left = wait - (now - master.voted_at)
            return f"can't vote about this master before {left} milliseconds"
        for slot in iterate_bits(slot_bits(packet.slots)):
            owner = state.owners[slot]
            if owner is not None and owner.config_epoch > packet.config_epoch:
                return (
                    f"slot {slot} epoch ({owner.config_epoch}) > reqEpoch ({packet.config_epoch})"
                )
        return ""
