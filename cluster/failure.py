"""Who fails, and whether the cluster is up.

A node that has not answered for the node timeout is suspected (PFAIL), which is an opinion of this
node alone. Masters tell each other whom they suspect; a node that a majority of them suspects at
the same time has failed (FAIL), and whoever finds that out tells everybody at once. A report counts
for twice the node timeout. A failed node that answers again is forgiven, but a master with slots
only after a while in which nobody has taken its place.

(``markNodeAsFailingIfNeeded``, ``clearNodeFailureIfNeeded``, ``clusterUpdateState``.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cluster import message
from cluster.slots import SLOTS
from cluster.state import FAIL, HANDSHAKE, NOADDR, PFAIL, Node

if TYPE_CHECKING:
    from cluster.machine import Machine

REPORT_VALIDITY: Final = 2  # times the node timeout
FORGIVENESS: Final = 2  # times the node timeout
# A master that has just started waits before it takes writes, so that it can be told what has
# happened while it was away.
WRITABLE_DELAY_MS: Final = 2_000
LEAST_REJOIN_MS: Final = 500
LARGEST_REJOIN_MS: Final = 5_000


class FailureDetector:
    """Suspicions, reports, and the verdict on the cluster as a whole."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._state = machine.state
        self._settings = machine.settings
        self._first_judged = 0
        self._minority_at = 0
        self._reachable = 0
        self._failed_owners = 0

    # Suspicion.

    def suspect_the_silent(self) -> None:
        """Suspect the nodes that owe an answer for too long."""
        machine = self._machine
        now = machine.now
        for node in self._state.others():
            if node.flags & (NOADDR | HANDSHAKE) or not node.ping_sent:
                continue
            # Any traffic is a sign of life: a large message may hold up the pong.
            delay = min(now - node.ping_sent, now - node.data_received)
            if delay > self._settings.node_timeout and not node.flags & (PFAIL | FAIL):
                machine.log("debug", f"*** NODE {node.name} possibly failing")
                node.flags |= PFAIL
                machine.doubt()
                self.condemn(node)

    # Reports of masters.

    def report(self, node: Node, reporter: Node) -> None:
        """A master says that a node fails."""
        machine = self._machine
        if reporter not in node.reports:
            machine.log(
                "verbose", f"Node {reporter.name} reported node {node.name} as not reachable."
            )
        node.reports[reporter] = machine.now
        self.condemn(node)

    def withdraw(self, node: Node, reporter: Node) -> None:
        """A master says that a node does not fail, or not any more."""
        if node.reports.pop(reporter, None) is not None:
            self._machine.log(
                "verbose", f"Node {reporter.name} reported node {node.name} is back online."
            )

    def count_reports(self, node: Node) -> int:
        """How many masters say that it fails, lately."""
        oldest = self._machine.now - REPORT_VALIDITY * self._settings.node_timeout
        for reporter in [r for r, at in node.reports.items() if at < oldest]:
            del node.reports[reporter]
        return len(node.reports)

    def condemn(self, node: Node) -> None:
        """The node has failed if we and enough masters say so; then tell everybody."""
        machine = self._machine
        if not node.suspect or node.failed:
            return
        voices = self.count_reports(node) + self._state.myself.is_master
        if voices < self._state.size // 2 + 1:
            return
        machine.log(
            "notice", f"Marking node {node.name} ({node.human_name}) as failing (quorum reached)."
        )
        self._fail(node)
        packet = machine.gossip.packet(message.FAIL)
        packet.about = node.name
        machine.broadcast(packet)

    def hear_of_failure(self, sender: Node, name: str) -> None:
        """A FAIL message: somebody has found the majority."""
        node = self._state.find(name)
        if node is None or node is self._state.myself or node.failed:
            return
        self._machine.log(
            "notice",
            f"FAIL message received from {sender.name} ({sender.human_name}) about {node.name} "
            f"({node.human_name})",
        )
        self._fail(node)

    def _fail(self, node: Node) -> None:
        node.flags = node.flags & ~PFAIL | FAIL
        node.failed_at = self._machine.now
        self._machine.save()
        self._machine.doubt()

    def forgive(self, node: Node) -> None:
        """A failed node has answered."""
        machine = self._machine
        if node.is_replica or not node.slot_count:
            what = "replica" if node.is_replica else "master without slots"
            machine.log(
                "notice",
                f"Clear FAIL state for node {node.name} ({node.human_name}): {what} is reachable "
                "again.",
            )
        elif machine.now - node.failed_at > FORGIVENESS * self._settings.node_timeout:
            machine.log(
                "notice",
                f"Clear FAIL state for node {node.name} ({node.human_name}): is reachable again "
                "and nobody is serving its slots after some time.",
            )
        else:
            return
        node.flags &= ~FAIL
        machine.save()
        machine.doubt()

    # The cluster as a whole.

    def judge(self) -> None:
        """Find out whether the cluster is up (``clusterUpdateState``)."""
        machine = self._machine
        state = self._state
        settings = self._settings
        now = machine.now
        self._count_masters()
        if not self._first_judged:
            self._first_judged = now
        if state.myself.is_master and not state.up and now - self._first_judged < WRITABLE_DELAY_MS:
            machine.doubt()
            return
        up = True
        if settings.require_full_coverage:
            up = state.assigned == SLOTS and not self._failed_owners
        if self._reachable < state.size // 2 + 1:
            up = False
            self._minority_at = now
        if up == state.up:
            return
        if up and state.myself.is_master:
            rejoin = min(max(settings.node_timeout, LEAST_REJOIN_MS), LARGEST_REJOIN_MS)
            if now - self._minority_at < rejoin:
                return
        machine.log("notice", f"Cluster state changed: {'ok' if up else 'fail'}")
        if not up and self._reachable < state.size // 2 + 1:
            machine.log("notice", "Cluster is currently down: I am part of a minority partition.")
        state.up = up

    def _count_masters(self) -> None:
        """How many masters with slots there are, and how many of them we reach."""
        size = reachable = failed = 0
        for node in self._state.nodes.values():
            if node.is_master and node.slot_count:
                size += 1
                failed += node.failed
                if not node.flags & (FAIL | PFAIL):
                    reachable += 1
        self._state.size = size
        self._reachable = reachable
        self._failed_owners = failed
