"""Replicas go where they are needed: one of a master with several moves to a master without any.

Of the replicas of the masters that have most of them, the one with the smallest name goes, if its
master keeps at least ``cluster-migration-barrier``, and if the other master has been without a
working replica for five seconds. (``clusterHandleSlaveMigration`` in cluster.c.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cluster.state import MIGRATE_TO, Node

if TYPE_CHECKING:
    from cluster.machine import Machine

PATIENCE_MS: Final = 5_000


class Placement:
    """Decides whether this replica is the one to go."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._state = machine.state

    @property
    def is_wanted(self) -> bool:
        """Whether there is a master that has lost its replicas."""
        return self._find_orphan() is not None

    def consider(self) -> None:
        """Go to an orphaned master, if there is one and it is on this replica to go."""
        machine = self._machine
        state = self._state
        settings = machine.settings
        mine = machine.myself.master
        target = self._find_orphan()
        if target is None or mine is None or not settings.allow_replica_migration or not state.up:
            return
        most = max((node.working_replicas for node in state.masters()), default=0)
        if most < 2 or mine.working_replicas != most:
            return
        if mine.working_replicas <= settings.migration_barrier:
            return
        if self._candidate(most) is not machine.myself:
            return
        if machine.now - target.orphaned_at > PATIENCE_MS:
            machine.log("notice", f"Migrating to orphaned master {target.name}")
            machine.replicate(target, machine.now)

    def _find_orphan(self) -> Node | None:
        """The first master that has lost its replicas; notes for all since when they have none."""
        found: Node | None = None
        for node in self._state.nodes.values():
            orphaned = (
                node.is_master
                and not node.failed
                and bool(node.flags & MIGRATE_TO)
                and node.slot_count > 0
                and node.working_replicas == 0
            )
            if not orphaned:
                node.orphaned_at = 0
                continue
            if not node.orphaned_at:
                node.orphaned_at = self._machine.now
            if found is None:
                found = node
        return found

    def _candidate(self, most: int) -> Node | None:
        """The replica with the smallest name among those of the masters that have most."""
        candidates = [
            replica
            for node in self._state.masters()
            if node.working_replicas == most
            for replica in node.replicas
            if not replica.failed
        ]
        return min(candidates, key=lambda node: node.name, default=None)
