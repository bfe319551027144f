"""A failover that an operator wants (CLUSTER FAILOVER), which loses no acknowledged write.

The replica asks its master to pause (MFSTART). The master holds its clients' writes back, and says
at which offset its history stands; once the replica has all of it, it holds an election that nobody
refuses because the master is well. When the slots are the replica's, the old master becomes its
replica and lets the clients go on, who are then redirected. All of that within five seconds, or it
has not been.

(``clusterHandleManualFailover``, ``resetManualFailover`` in cluster.c.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cluster import message
from cluster.state import Node

if TYPE_CHECKING:
    from cluster.machine import Machine

LIMIT_MS: Final = 5_000
PAUSE_FACTOR: Final = 2  # the master stays paused for so many limits at most

UNKNOWN: Final = -1


class Handover:
    """The state of one, on either side."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._ends_at = 0
        self._offset = UNKNOWN  # where the paused master stands
        self._successor: Node | None = None  # on the master: for whom it is paused
        self.may_start = False  # the election may

    @property
    def is_under_way(self) -> bool:
        return self._ends_at != 0

    @property
    def is_pausing(self) -> bool:
        """Whether this master is paused for one of its replicas."""
        return self._successor is not None and self._machine.myself.is_master

    def is_for(self, node: Node) -> bool:
        """Whether this master is paused for that replica, which is to learn its offset soon."""
        return self._successor is node

    # On the replica.

    def begin(self, now: int, *, force: bool = False) -> None:
        """CLUSTER FAILOVER [FORCE]."""
        machine = self._machine
        machine.now = now
        self.reset()
        machine.election.reset()
        self._ends_at = now + LIMIT_MS
        if force:
            machine.log("notice", "Forced failover user request accepted.")
            self.may_start = True
            return
        machine.log("notice", "Manual failover user request accepted.")
        master = machine.myself.master
        assert master is not None
        machine.send(master.link, machine.gossip.packet(message.MFSTART))

    def learn_offset(self, sender: Node, offset: int) -> None:
        """The master is paused and has so much."""
        machine = self._machine
        if self._ends_at and sender is machine.myself.master and self._offset == UNKNOWN:
            self._offset = offset
            machine.log(
                "notice",
                f"Received replication offset for paused master manual failover: {offset}",
            )

    def advance(self) -> None:
        """The election may start when all of the master's history is here."""
        machine = self._machine
        if not self._ends_at or self.may_start or self._offset == UNKNOWN:
            return
        if machine.outside.replication_offset() == self._offset:
            self.may_start = True
            machine.log(
                "notice",
                "All master replication stream processed, manual failover can start.",
            )

    # On the master.

    def pause_for(self, replica: Node) -> None:
        """MFSTART: hold the writes back until the replica has taken over, or the time is up."""
        machine = self._machine
        if replica.master is not machine.myself:
            return
        self.reset()
        self._ends_at = machine.now + LIMIT_MS
        self._successor = replica
        machine.outside.pause_writes(machine.now + LIMIT_MS * PAUSE_FACTOR)
        machine.log(
            "notice",
            f"Manual failover requested by replica {replica.name} ({replica.human_name}).",
        )
        machine.gossip.ping(replica.link, message.PING)

    # On both.

    def check_time(self) -> None:
        """Give it up when it takes too long."""
        if self._ends_at and self._machine.now > self._ends_at:
            self._machine.log("warning", "Manual failover timed out.")
            self.reset()

    def reset(self) -> None:
        """It is over, or has not been."""
        if self._successor is not None:
            self._successor = None
            self._machine.outside.resume_writes()
        self._ends_at = 0
        self._offset = UNKNOWN
        self.may_start = False
