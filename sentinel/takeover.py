"""How a replica of a cluster's shard is made its master.

Theory of operation.  CLUSTER FAILOVER TAKEOVER makes a replica the owner of all slots that it
knows as its master's, under a config epoch greater than all that it has heard of, and asks nobody.
So two things have to be seen to:

- Before: the replica must not take what is not its master's any more. If a reshard has moved a slot
  away and the replica has not heard of it, its greater epoch would win, and the slot's keys would
  be lost. So its own view is fetched right before, and compared with the topology; as long as it
  claims too much for its master, nothing is sent. Where it is not clear who is behind, the nodes
  are given some seconds to settle it.
- After: it is the master when it says so itself, with the shard's slots. The failover has ended
  when all nodes that can be reached say so as well, and the shard's other replicas follow; until
  then it is looked after, and a slot that only the dead master was known to own is given to the new
  one.

Within one failover, thus within one epoch of the sentinels, only one replica is ever told so. What
has been lost on the way is sent again to the same one.

SENTINEL FAILOVER of a master that is well is another thing: then CLUSTER FAILOVER is sent first, by
which the two nodes hand over without losing a write. Only if that does not work it is a takeover.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from node.resp import Error, Reply
from sentinel.guarded import GuardedCluster, Record
from sentinel.promotion import Promotion
from sentinel.state import RECONF_SLAVES, S_DOWN, WAIT_PROMOTION, Address, Master, Replica
from sentinel.topology import View, count_agreeing, find_ranges, format_slots

if TYPE_CHECKING:
    from sentinel.machine import Machine

TAKEOVER: Final = "cluster takeover"
OTHER: Final = "cluster other"
REPEAT_AFTER: Final = 1_000
HANDOVER_TIME: Final = 6_000  # Redis gives up a handover after five seconds
DISPUTE_TIME: Final = 5_000  # for the nodes to settle whose a slot is
MOST_SLOTS: Final = 64  # that are given to the new master at a time


class Takeover:
    """One that is under way; of each master there is one at most."""

    __slots__ = ("asked", "began", "epoch", "new", "old", "postponed", "sent_at", "sent_first_at")

    def __init__(self, old: str, new: str, epoch: int) -> None:
        self.old = old  # the ids of the nodes
        self.new = new
        self.epoch = epoch  # the sentinels'
        self.asked = 0  # the number of the view that is awaited
        self.began = 0
        self.sent_at = 0
        self.sent_first_at = 0
        self.postponed = False


class ClusterPromotion(Promotion):
    """Of a shard's master; see above."""

    repairs = False

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self._takeovers: dict[Master, Takeover] = {}

    # Before.

    def begin(self, replica: Replica) -> None:
        """Look at the replica's view; what that allows is done when it has come."""
        master = replica.master
        cluster = master.cluster
        assert cluster is not None
        takeover = self._takeovers.get(master)
        if takeover is None or takeover.epoch != master.failover_epoch:
            takeover = Takeover(master.node_id, replica.node_id, master.failover_epoch)
            takeover.began = self._machine.now
            self._takeovers[master] = takeover
        takeover.asked = self._machine.guard.inquiry.ask_again(cluster, replica)

    def point(self, replica: Replica, master: Address) -> None:
        """Nobody is pointed: a cluster's nodes find their master by themselves."""

    # While it goes on: called whenever a node has said something.

    def advance(self, master: Master) -> None:
        """Go on with a failover that this sentinel leads."""
        takeover = self._takeovers.get(master)
        replica = master.promoted
        cluster = master.cluster
        if takeover is None or replica is None or cluster is None:
            self._takeovers.pop(master, None)
            return
        if takeover.new != replica.node_id:
            return
        if master.failover_state == WAIT_PROMOTION:
            if self._has_taken_over(replica):
                self._machine.failover.promoted(master, replica)
            elif replica.link.commands_open and not replica.has(S_DOWN):
                self._send(cluster, takeover, replica)
        elif master.failover_state == RECONF_SLAVES:
            self._claim_what_is_left(cluster, takeover, replica)

    def _send(self, cluster: GuardedCluster, takeover: Takeover, replica: Replica) -> None:
        machine = self._machine
        now = machine.now
        inquiry = machine.guard.inquiry
        handover = self._is_handover(takeover, replica.master)
        if takeover.sent_at and (handover or now - takeover.sent_at < REPEAT_AFTER):
            return  # a handover that is asked for again begins anew
        if not inquiry.is_newer(cluster, replica, takeover.asked):
            return
        view = cluster.views[replica.node_id]
        stale = self._find_stale(cluster, view)
        if not stale and now - takeover.began < DISPUTE_TIME:
            stale = self._find_disputed(cluster, view)
        if stale:
            if not takeover.postponed:
                takeover.postponed = True
                slots = format_slots(stale)
                machine.tell("warning", "-takeover-postponed", replica, f" stale slots {slots}")
            inquiry.doubt(cluster)
            return
        takeover.sent_at = now
        takeover.sent_first_at = takeover.sent_first_at or now
        cluster_command = machine.command(replica, "CLUSTER")
        words = [cluster_command, b"FAILOVER"]
        if handover:
            event = "+handover-sent"
        else:
            event = "+takeover-sent"
            words.append(b"TAKEOVER")
        machine.tell("warning", event, replica)
        machine.request(replica, words, TAKEOVER)
        takeover.asked = inquiry.ask_again(cluster, replica)

    def _is_handover(self, takeover: Takeover, master: Master) -> bool:
        """Whether the master is there to hand over by itself."""
        return (
            not master.has(S_DOWN)
            and master.link.commands_open
            and (
                not takeover.sent_first_at
                or self._machine.now - takeover.sent_first_at < HANDOVER_TIME
            )
        )

    def _find_stale(self, cluster: GuardedCluster, view: View) -> int:
        """Slots that a replica takes for its master's, and that others own by now."""
        own = view.own
        line = view.lines.get(own.master)
        if line is None:
            return 0
        stale = 0
        for node in cluster.topology.nodes.values():
            if node.id != own.master and node.is_master and node.epoch > line.epoch:
                stale |= (node.claimed if node.own else node.slots) & line.slots
        return stale

    def _find_disputed(self, cluster: GuardedCluster, view: View) -> int:
        """Slots that it takes for its master's, and that others say they have, by smaller epochs.

        Either those have not heard yet that they have lost them; or the replica has not heard that
        its master had given them away, before it took its last epoch. The nodes settle that soon.
        """
        line = view.lines.get(view.own.master)
        if line is None:
            return 0
        disputed = 0
        for node in cluster.topology.nodes.values():
            if node.id not in (line.id, view.myself) and node.own and node.is_master:
                disputed |= node.claimed & line.slots
        return disputed

    def hear(self, replica: Replica, reply: Reply) -> None:
        """The answer to TAKEOVER, which only says that it has been received."""
        if isinstance(reply, Error):
            text = reply.text.decode("utf-8", "replace")
            self._machine.log("warning", f"{replica.address} refuses to take over: {text}")

    # After.

    def is_done(self, replica: Replica) -> bool:
        """Whether it says itself that it is master of the slots; if not, it is asked."""
        if self._has_taken_over(replica):
            return True
        cluster = replica.master.cluster
        if cluster is not None:
            self._machine.guard.inquiry.ask(cluster, replica)
        return False

    def _has_taken_over(self, replica: Replica) -> bool:
        master = replica.master
        cluster = master.cluster
        takeover = self._takeovers.get(master)
        if cluster is None or takeover is None or takeover.new != replica.node_id:
            return False
        view = cluster.views.get(replica.node_id)
        if view is None or not view.own.is_master or not view.own.slots:
            return False
        cluster.failovers[master.name] = Record(
            self._machine.now, takeover.old, takeover.new, view.own.epoch, led=True
        )
        return True

    def epoch(self, replica: Replica) -> int:
        """The cluster's, not the sentinels'."""
        cluster = replica.master.cluster
        view = cluster.views.get(replica.node_id) if cluster is not None else None
        return view.own.epoch if view is not None else replica.master.config_epoch

    def is_settled(self, master: Master, left: list[Replica]) -> bool:
        """Whether all nodes that can be reached know of it, and the other replicas follow it."""
        cluster = master.cluster
        promoted = master.promoted
        if cluster is None or promoted is None:
            return True
        node = cluster.topology.nodes.get(promoted.node_id)
        if node is None or not node.slots:
            return False
        agreeing, asked = count_agreeing(cluster.own_views().values(), node.id, node.slots)
        if agreeing < asked or node.id not in cluster.views:
            return False
        for replica in left:
            view = cluster.views.get(replica.node_id)
            if view is not None and view.own.master != node.id:
                return False
        takeover = self._takeovers.get(master)
        return takeover is None or not self._left_over(cluster, takeover)

    def _left_over(self, cluster: GuardedCluster, takeover: Takeover) -> int:
        """Slots that the old master, which nobody reaches, is still known to own.

        It had got them when the replica had not heard of that yet; their keys the replica has.
        """
        old = cluster.topology.nodes.get(takeover.old)
        new = cluster.topology.nodes.get(takeover.new)
        if old is None or new is None or old.id in cluster.views or old.epoch >= new.epoch:
            return 0
        return old.slots

    def _claim_what_is_left(
        self, cluster: GuardedCluster, takeover: Takeover, replica: Replica
    ) -> None:
        machine = self._machine
        slots = self._left_over(cluster, takeover)
        now = machine.now
        if not slots or not replica.link.commands_open or now - takeover.sent_at < REPEAT_AFTER:
            return
        takeover.sent_at = now
        machine.tell("warning", "+slots-claimed", replica, f" {format_slots(slots)}")
        command = machine.command(replica, "CLUSTER")
        sent = 0
        for first, last in find_ranges(slots):
            for slot in range(first, last + 1):
                if sent == MOST_SLOTS:
                    return
                words = [command, b"SETSLOT", b"%d" % slot, b"NODE", takeover.new.encode()]
                machine.request(replica, words, OTHER)
                sent += 1
