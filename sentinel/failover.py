"""The failover that this sentinel leads, from state to state (``sentinelFailoverStateMachine``).

wait_start (votes are asked for), select_slave, send_slaveof_noone, wait_promotion (until the
replica's INFO says that it is a master: then the new configuration exists, and is told to all),
reconf_slaves (the others are pointed to it, ``parallel-syncs`` at a time), update_config (the
master is guarded at its new address from here on).

Each state is left as soon as it can be, not at the next tick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentinel import election
from sentinel.promotion import Promotion
from sentinel.selection import is_reachable, select_replica
from sentinel.state import (
    FAILOVER_IN_PROGRESS,
    FORCE_FAILOVER,
    NONE,
    PROMOTED,
    RECONF_DONE,
    RECONF_INPROG,
    RECONF_SENT,
    RECONF_SLAVES,
    S_DOWN,
    SELECT_SLAVE,
    SEND_SLAVEOF_NOONE,
    UPDATE_CONFIG,
    WAIT_PROMOTION,
    WAIT_START,
    Master,
    Replica,
)
from sentinel.takeover import ClusterPromotion

if TYPE_CHECKING:
    from sentinel.machine import Machine

FRESHNESS_PATIENCE: Final = 500  # for what replicas say after their master's loss
REPEAT_AFTER: Final = 1_000


class Failover:
    """Leads it."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._settings = machine.settings
        self._plain = Promotion(machine)
        self.takeovers = ClusterPromotion(machine)

    def promotion_of(self, master: Master) -> Promotion:
        """How replicas of that master are promoted."""
        return self._plain if master.cluster is None else self.takeovers

    def advance(self, master: Master) -> None:
        """Go on, as far as it goes."""
        while master.has(FAILOVER_IN_PROGRESS):
            state = master.failover_state
            if state == WAIT_START:
                self._wait_start(master)
            elif state == SELECT_SLAVE:
                self._select(master)
            elif state == SEND_SLAVEOF_NOONE:
                self._send(master)
            elif state == WAIT_PROMOTION:
                self._wait_promotion(master)
            elif state == RECONF_SLAVES:
                self._reconfigure_next(master)
            if master.failover_state == state:
                return

    def _enter(self, master: Master, state: int) -> None:
        master.failover_state = state
        master.failover_state_since = self._machine.now

    def _age(self, master: Master) -> int:
        return self._machine.now - master.failover_state_since

    def abort(self, master: Master, event: str, reason: str) -> None:
        """Give it up; ``reason`` says when there may be another one, see the election."""
        self._machine.tell("warning", event, master)
        master.flags &= ~(FAILOVER_IN_PROGRESS | FORCE_FAILOVER)
        if master.promoted is not None:
            master.promoted.flags &= ~PROMOTED
            master.promoted = None
        self._enter(master, NONE)
        if master.leader == self._machine.state.my_id:
            # If it has voted for another meanwhile, that one has its turn.
            master.gave_up = reason

    def _wait_start(self, master: Master) -> None:
        machine = self._machine
        if not machine.election.is_leader(master) and not master.has(FORCE_FAILOVER):
            timeout = machine.election.timeout_of(master)
            if machine.election.is_hopeless(master):
                master.vain_attempts += 1
                self.abort(master, "-failover-abort-not-elected", election.NOT_ELECTED)
            elif machine.now - master.failover_start > timeout:
                self.abort(master, "-failover-abort-not-elected", election.NO_MAJORITY)
            return
        master.vain_attempts = 0
        machine.tell("warning", "+elected-leader", master)
        if machine.crash_after_election:
            machine.outside.crash()
        self._enter(master, SELECT_SLAVE)
        machine.tell("warning", "+failover-state-select-slave", master)

    def _select(self, master: Master) -> None:
        machine = self._machine
        if self._awaits_news(master):
            return
        replica = select_replica(master, self._settings, machine.now)
        if replica is None:
            self.abort(master, "-failover-abort-no-good-slave", election.NO_GOOD_REPLICA)
            return
        machine.tell("warning", "+selected-slave", replica)
        replica.flags |= PROMOTED
        master.promoted = replica
        self._enter(master, SEND_SLAVEOF_NOONE)
        machine.tell("notice", "+failover-state-send-slaveof-noone", replica)

    def _awaits_news(self, master: Master) -> bool:
        """Whether a replica that could be chosen is about to say how far it is."""
        machine = self._machine
        if self._age(master) >= FRESHNESS_PATIENCE:
            return False
        since = master.s_down_since if master.has(S_DOWN) else master.failover_start
        waiting = False
        for replica in master.replicas.values():
            if is_reachable(replica, self._settings, machine.now):
                if replica.info_refreshed < since:
                    machine.monitoring.ask_information(replica)
                    waiting = True
        if waiting:
            machine.wake_at(master.failover_state_since + FRESHNESS_PATIENCE)
        return waiting

    def _send(self, master: Master) -> None:
        machine = self._machine
        replica = master.promoted
        assert replica is not None
        if replica.has(S_DOWN) or (
            not replica.link.commands_open and self._age(master) > master.failover_timeout
        ):
            self.abort(master, "-failover-abort-slave-timeout", election.REPLICA_FAILED)
        elif replica.link.commands_open:
            machine.tell("notice", "+failover-state-wait-promotion", replica)
            self._enter(master, WAIT_PROMOTION)
            replica.promotion_sent_at = machine.now
            self.promotion_of(master).begin(replica)

    def _wait_promotion(self, master: Master) -> None:
        """Until INFO says that it is done, see :meth:`promoted`."""
        machine = self._machine
        replica = master.promoted
        assert replica is not None
        if replica.has(S_DOWN) or self._age(master) > master.failover_timeout:
            self.abort(master, "-failover-abort-slave-timeout", election.REPLICA_FAILED)
        elif (
            replica.link.commands_open
            and machine.now - replica.promotion_sent_at >= REPEAT_AFTER
            and replica.info_refreshed > replica.promotion_sent_at
            and replica.role_reported == "slave"
        ):
            # What was sent has been lost with its connection.
            replica.promotion_sent_at = machine.now
            self.promotion_of(master).begin(replica)

    def promoted(self, master: Master, replica: Replica) -> None:
        """The replica is a master: from now on, that is the configuration, and told to all."""
        machine = self._machine
        master.config_epoch = self.promotion_of(master).epoch(replica)
        self._enter(master, RECONF_SLAVES)
        machine.save()
        machine.tell("warning", "+promoted-slave", replica)
        if machine.crash_after_promotion:
            machine.outside.crash()
        machine.tell("warning", "+failover-state-reconf-slaves", master)
        machine.configuration.run_script(master, "leader", "start", master.address, replica.address)
        machine.hello.publish_soon(master)

    def _reconfigure_next(self, master: Master) -> None:
        """Point as many replicas to the new master as may synchronize at a time."""
        machine = self._machine
        promoted = master.promoted
        assert promoted is not None
        promotion = self.promotion_of(master)
        in_progress = sum(
            replica.has(RECONF_SENT | RECONF_INPROG) for replica in master.replicas.values()
        )
        for replica in master.replicas.values():
            if not promotion.repairs:
                break
            if replica.has(PROMOTED | RECONF_DONE):
                continue
            if replica.has(RECONF_SENT):
                if machine.now - replica.reconf_sent_at > self._settings.slave_reconf_timeout:
                    # It is put right later, as any replica of somebody else.
                    machine.tell("notice", "-slave-reconf-sent-timeout", replica)
                    replica.flags = replica.flags & ~RECONF_SENT | RECONF_DONE
                    in_progress -= 1
                continue
            if (
                replica.has(RECONF_INPROG)
                or not replica.link.commands_open
                or in_progress >= master.parallel_syncs
            ):
                continue
            replica.flags |= RECONF_SENT
            replica.reconf_sent_at = machine.now
            in_progress += 1
            machine.tell("notice", "+slave-reconf-sent", replica)
            promotion.point(replica, promoted.address)
        self._detect_end(master, promoted, promotion)

    def _detect_end(self, master: Master, promoted: Replica, promotion: Promotion) -> None:
        machine = self._machine
        left = [
            replica
            for replica in master.replicas.values()
            if not replica.has(PROMOTED | RECONF_DONE | S_DOWN)
        ]
        timeout = self._age(master) > master.failover_timeout
        # If the new master is down already, it is the master all the same: to be failed over.
        if not timeout and not promoted.has(S_DOWN) and not promotion.is_settled(master, left):
            return
        if timeout:
            machine.tell("warning", "+failover-end-for-timeout", master)
        machine.tell("warning", "+failover-end", master)
        self._enter(master, UPDATE_CONFIG)
        if timeout and promotion.repairs:
            for replica in left:
                if not replica.has(RECONF_SENT) and replica.link.commands_open:
                    promotion.point(replica, promoted.address)
                    machine.tell("notice", "+slave-reconf-sent-be", replica)
                    replica.flags |= RECONF_SENT

    def end(self, master: Master) -> None:
        """End it now, with the new master, whatever the other replicas do."""
        self._machine.tell("warning", "+failover-end", master)
        self._enter(master, UPDATE_CONFIG)
        self.finish(master)

    def finish(self, master: Master) -> None:
        """Guard the new master, if the failover has come so far.

        (``sentinelFailoverSwitchToPromotedSlave``.) Not to be called while replicas are gone
        through: there are others afterwards.
        """
        if master.failover_state == UPDATE_CONFIG:
            promoted = master.promoted
            address = promoted.address if promoted is not None else master.address
            self._machine.configuration.switch(master, address)
