"""Which sentinel leads a failover: epochs, votes, and whose turn it is.

Whoever wants to lead takes a new epoch and asks the others for their votes. A sentinel votes once
in an epoch (for each master), and that is on disk before anybody hears of it, so that there is at
most one who has the majority of an epoch.

Redis lets chance decide who asks first, and when two ask at once and nobody gets a majority, all
wait for twice the failover-timeout. Here those that can see the master's loss take turns: by their
run ids, one after the other from the epoch on, ``Settings.election_turn`` apart, so that mostly the
first has got all votes before the second would ask. A candidate that cannot win any more gives up
at once, and tries again after a short random time. Beyond that, a failover that could not be is
tried again as soon as what it lacked is there: a majority, a replica, or a leader that lives. Votes
are given and counted as in Redis.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentinel.selection import select_replica
from sentinel.state import (
    FAILOVER_IN_PROGRESS,
    MASTER_DOWN,
    O_DOWN,
    S_DOWN,
    WAIT_START,
    Master,
)

if TYPE_CHECKING:
    from sentinel.machine import Machine

MAX_DESYNC: Final = 1_000
JITTER: Final = 20
RETRY_PAUSE: Final = 200
MOST_DOUBLINGS: Final = 8

# Why there may be another failover before twice the failover-timeout has passed.
NOT_ELECTED: Final = "not elected"
NO_MAJORITY: Final = "no majority reachable"
NO_GOOD_REPLICA: Final = "no good replica"
REPLICA_FAILED: Final = "replica failed"
VOTED: Final = "voted for another"
MASTER_CHANGED: Final = "master changed"


class Election:
    """Both sides: asking for votes, and giving them."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._state = machine.state
        self._settings = machine.settings

    # The side of the voter.

    def vote(self, master: Master, epoch: int, run_id: str) -> None:
        """Vote for a sentinel, unless this one has voted in that epoch or knows a newer one.

        (``sentinelVoteLeader``; the vote, or the former one, is the master's ``leader`` then.)
        """
        machine = self._machine
        machine.learn_epoch(master, epoch)
        if master.leader_epoch >= epoch or self._state.current_epoch > epoch:
            return
        master.leader = run_id
        master.leader_epoch = epoch
        machine.save()
        machine.announce("warning", "+vote-for-leader", master, f"{run_id} {epoch}")
        if run_id != self._state.my_id:
            # Whoever has voted does not begin a failover of its own for a while.
            master.failover_start = machine.now + machine.random.randrange(MAX_DESYNC)
            master.gave_up = VOTED
            master.turn_at = 0

    def hear_candidate(self, master: Master, run_id: str) -> None:
        """Whoever asks for a vote says that the master is down."""
        peer = master.peers.get(run_id)
        if peer is not None:
            peer.flags |= MASTER_DOWN
            peer.last_master_down_reply = self._machine.now

    # The side of the candidate.

    def start_if_needed(self, master: Master) -> None:
        """Begin a failover, if the master is down and it is this sentinel's turn."""
        if not master.has(O_DOWN) or master.has(FAILOVER_IN_PROGRESS):
            master.turn_at = 0
            return
        machine = self._machine
        now = machine.now
        if not self._may_start(master):
            master.turn_at = 0
            self._log_delay(master)
            return
        if not master.turn_at:
            master.turn_at = now + self._delay(master)
        if now < master.turn_at:
            machine.wake_at(master.turn_at)
            return
        self.start(master)

    def start(self, master: Master) -> None:
        """Begin a failover, and ask for the votes (``sentinelStartFailover``)."""
        machine = self._machine
        self._state.current_epoch += 1
        epoch = self._state.current_epoch
        master.failover_state = WAIT_START
        master.failover_state_since = machine.now
        master.failover_start = machine.now
        master.failover_epoch = epoch
        master.flags |= FAILOVER_IN_PROGRESS
        master.turn_at = 0
        master.gave_up = ""
        machine.save()
        machine.announce("warning", "+new-epoch", master, f"{epoch}")
        machine.tell("warning", "+try-failover", master)
        self.vote(master, epoch, self._state.my_id)
        machine.failures.ask(master, now_all=True)

    def _may_start(self, master: Master) -> bool:
        """Whether enough time has passed since the last failover, or what it lacked is there."""
        start = master.failover_start
        if not start:
            return True
        now = self._machine.now
        if now - start >= master.failover_timeout * 2:
            return True
        reason = master.gave_up
        idle = now - max(start, master.failover_state_since)
        if reason == NOT_ELECTED:
            return True  # after a pause, see _delay
        if reason == NO_MAJORITY:
            return idle >= self._settings.election_timeout and self._is_majority_there(master)
        if reason == NO_GOOD_REPLICA:
            return idle >= MAX_DESYNC and bool(
                select_replica(master, self._settings, now) is not None
            )
        if reason == REPLICA_FAILED:
            return idle >= MAX_DESYNC
        if reason == VOTED:
            leader = master.peers.get(master.leader)
            return (leader is None or leader.has(S_DOWN)) and now - start >= self.timeout_of(master)
        return False

    def _log_delay(self, master: Master) -> None:
        if master.failover_delay_logged != master.failover_start:
            master.failover_delay_logged = master.failover_start
            left = master.failover_start + master.failover_timeout * 2 - self._machine.now
            self._machine.log(
                "notice",
                f"Next failover delay: I will not start a failover of {master.name} "
                f"for {max(0, left)} ms",
            )

    def _delay(self, master: Master) -> int:
        """How long to wait for those whose turn is before, and after attempts in vain."""
        random = self._machine.random
        ids = [self._state.my_id]
        ids += [
            peer.run_id
            for peer in master.peers.values()
            if peer.link.commands_open and not peer.has(S_DOWN)
        ]
        ids.sort()
        rank = (ids.index(self._state.my_id) + self._state.current_epoch) % len(ids)
        delay = rank * self._settings.election_turn + (random.randrange(JITTER) if rank else 0)
        if master.gave_up == NOT_ELECTED:
            longest = RETRY_PAUSE << min(master.vain_attempts, MOST_DOUBLINGS)
            delay += random.randrange(longest)
        return delay

    def is_leader(self, master: Master) -> bool:
        """Whether this sentinel has the votes of its failover's epoch (``sentinelGetLeader``)."""
        epoch = master.failover_epoch
        needed = self._needed(master)
        return self._votes_for_me(master, epoch) >= needed

    def _votes_for_me(self, master: Master, epoch: int) -> int:
        me = self._state.my_id
        votes = sum(
            peer.leader == me and peer.leader_epoch == epoch for peer in master.peers.values()
        )
        return votes + (master.leader == me and master.leader_epoch == epoch)

    def _needed(self, master: Master) -> int:
        voters = len(master.peers) + 1
        return max(voters // 2 + 1, master.quorum)

    def is_hopeless(self, master: Master) -> bool:
        """Whether votes were refused, so many that those that are left cannot suffice."""
        epoch = master.failover_epoch
        refused = 0
        left = 0
        for peer in master.peers.values():
            if peer.refused_epoch == epoch:
                refused += 1
            elif not peer.has(S_DOWN) and peer.link.commands_open:
                left += peer.leader != self._state.my_id or peer.leader_epoch != epoch
        votes = self._votes_for_me(master, epoch)
        return refused > 0 and votes + left < self._needed(master)

    def _is_majority_there(self, master: Master) -> bool:
        there = 1 + sum(
            peer.link.commands_open and not peer.has(S_DOWN) for peer in master.peers.values()
        )
        return there >= self._needed(master)

    def timeout_of(self, master: Master) -> int:
        """How long votes are waited for."""
        return min(self._settings.election_timeout, master.failover_timeout)
