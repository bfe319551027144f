"""What an instance says that it is, and what is done where that is not what it should be.

A replica that says it is a master is either the one that is being promoted, or one that somebody
else has made a master: a failover that this sentinel has not heard of yet, or an old master that
has come back. So a while passes before it is made a replica again. A replica of somebody else is
pointed to its master after a failover-timeout. A master that says it is a replica counts as down
(:mod:`.failure`). (``sentinelRefreshInstanceInfo``.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentinel.information import Information
from sentinel.state import (
    FAILOVER_IN_PROGRESS,
    MASTER_REBOOT,
    O_DOWN,
    PROMOTED,
    RECONF_DONE,
    RECONF_INPROG,
    RECONF_SENT,
    S_DOWN,
    WAIT_PROMOTION,
    Instance,
    Master,
    Replica,
)

if TYPE_CHECKING:
    from sentinel.machine import Machine

PATIENCE_PERIODS: Final = 4  # of hello, before a master that should be none is made a replica
REPAIR_PAUSE: Final = 900  # less than the pace at which they say what they are
SETTLING_TIME: Final = 1_000  # for a leader to learn that its promotion has worked


class Roles:
    """Draws the conclusions from INFO."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._settings = machine.settings

    def refresh(self, instance: Master | Replica, information: Information) -> None:
        """Note what an instance says about itself, and act."""
        machine = self._machine
        self._note_run_id(instance, information.run_id)
        if isinstance(instance, Master):
            if instance.cluster is None:
                for host, port in information.replicas:
                    machine.discovery.add_replica(instance, host, port)
            elif information.role == "slave":
                machine.guard.suspect(instance)
        else:
            instance.master_link_down_time = information.master_link_down_time
            instance.has_nothing = (
                information.master_link_up is False
                and information.master_link_down_time < 0
                and not information.offset
                and not information.has_keys
            )
            if information.role == "slave":
                self._note_replication(instance, information)
        instance.info_refreshed = machine.now
        role = information.role
        if not role:
            return
        if role != instance.role_reported:
            instance.role_reported_since = machine.now
            instance.role_reported = role
            if role == "slave" and isinstance(instance, Replica):
                instance.conf_changed = machine.now
            event = "+role-change" if role == instance.kind else "-role-change"
            machine.tell("verbose", event, instance, f" new reported role is {role}")
        if machine.tilt or isinstance(instance, Master):
            return
        if role == "master":
            self._handle_promotion(instance)
        else:
            if machine.failover.promotion_of(instance.master).repairs:
                self._repair(instance)
            self._follow_reconfiguration(instance)

    def _note_run_id(self, instance: Master | Replica, run_id: str) -> None:
        if not run_id or run_id == instance.run_id:
            return
        if instance.run_id:
            self._machine.tell("notice", "+reboot", instance)
            if isinstance(instance, Master) and instance.reboot_down_after:
                instance.flags |= MASTER_REBOOT
                instance.reboot_since = self._machine.now
        instance.run_id = run_id

    def _note_replication(self, replica: Replica, information: Information) -> None:
        now = self._machine.now
        host, port = information.master_host, information.master_port
        if host is not None and host.lower() != replica.master_host.lower():
            replica.master_host = host
            replica.conf_changed = now
        if port is not None and port != replica.master_port:
            replica.master_port = port
            replica.conf_changed = now
        if information.master_link_up is not None:
            replica.master_link_up = information.master_link_up
        if information.priority is not None:
            replica.priority = information.priority
        if information.offset is not None:
            replica.offset = information.offset
        if information.replica_announced is not None:
            replica.announced = information.replica_announced

    # A replica that says it is a master.

    def _handle_promotion(self, replica: Replica) -> None:
        machine = self._machine
        master = replica.master
        promotion = machine.failover.promotion_of(master)
        if (
            replica.has(PROMOTED)
            and master.has(FAILOVER_IN_PROGRESS)
            and master.failover_state == WAIT_PROMOTION
        ):
            if promotion.is_done(replica):
                machine.failover.promoted(master, replica)
        elif promotion.repairs and not replica.has(PROMOTED) and self._may_convert(replica):
            self._point(replica, "+convert-to-slave")
        elif not promotion.repairs:
            machine.guard.suspect(master)

    def _point(self, replica: Replica, event: str) -> None:
        """Make it follow its master; not again and again if it cannot."""
        machine = self._machine
        if replica.repaired_at and machine.now - replica.repaired_at < REPAIR_PAUSE:
            return
        replica.repaired_at = machine.now
        machine.tell("notice", event, replica)
        machine.failover.promotion_of(replica.master).point(replica, replica.master.address)

    def _may_convert(self, replica: Replica) -> bool:
        """Whether it is certain enough that nobody has made it the master.

        Redis waits for some hello periods. Where all other sentinels have spoken since, and this
        one has voted for nobody in the meantime, there is nothing more to wait for.
        """
        now = self._machine.now
        master = replica.master
        period = self._settings.publish_period
        if not self.looks_sane(master):
            return False
        age = now - replica.role_reported_since
        if age > period * PATIENCE_PERIODS:
            return self.was_up_for(replica, period * PATIENCE_PERIODS)
        since = replica.role_reported_since + SETTLING_TIME
        return (
            age > period + SETTLING_TIME
            and master.leader_epoch <= master.config_epoch
            and self._machine.state.current_epoch <= master.config_epoch
            and all(
                peer.last_hello_heard > since
                for peer in master.peers.values()
                if not peer.has(S_DOWN)
            )
        )

    def looks_sane(self, master: Master) -> bool:
        """Whether others may be pointed to it (``sentinelMasterLooksSane``)."""
        return (
            master.role_reported == "master"
            and not master.has(S_DOWN | O_DOWN)
            and master.info_refreshed != 0
            and self._machine.now - master.info_refreshed < self._settings.info_period * 2
        )

    def was_up_for(self, instance: Instance, duration: int) -> bool:
        """Whether it has not begun to be down for so long (``sentinelRedisInstanceNoDownFor``)."""
        since = max(instance.s_down_since, instance.o_down_since)
        return not since or self._machine.now - since > duration

    # A replica that says it is one.

    def _repair(self, replica: Replica) -> None:
        """Point it to its master, if it follows somebody else for long."""
        machine = self._machine
        master = replica.master
        if self.follows(replica, master):
            return
        patience = master.failover_timeout
        if (
            self.looks_sane(master)
            and self.was_up_for(replica, patience)
            and machine.now - replica.conf_changed > patience
        ):
            self._point(replica, "+fix-slave-config")

    def follows(self, replica: Replica, instance: Instance) -> bool:
        """Whether it says that it is a replica of that instance."""
        return replica.master_port == instance.address.port and self._machine.is_host(
            instance.address, replica.master_host
        )

    def _follow_reconfiguration(self, replica: Replica) -> None:
        """It has been told to follow the new master: how far is that?"""
        machine = self._machine
        promoted = replica.master.promoted
        if promoted is None:
            return
        if replica.has(RECONF_SENT) and self.follows(replica, promoted):
            replica.flags = replica.flags & ~RECONF_SENT | RECONF_INPROG
            machine.tell("notice", "+slave-reconf-inprog", replica)
        if replica.has(RECONF_INPROG) and replica.master_link_up:
            replica.flags = replica.flags & ~RECONF_INPROG | RECONF_DONE
            machine.tell("notice", "+slave-reconf-done", replica)
