"""One node's part in the cluster, as a state machine that does no I/O.

Theory of operation.  The machine is told what happens by a few methods: a packet has come
(:meth:`Machine.receive`), a link is open or lost, a tenth of a second has passed
(:meth:`Machine.tick`), an operator wants something (the methods that CLUSTER's subcommands call).
It changes its :class:`~cluster.state.State` and says what is to be done by calling its
:class:`Outside`: send this packet on that link, follow that master, pause the clients. It reads no
clock, draws from the random source that it is given, opens no socket and starts no task, so whole
clusters of machines run in one process and in virtual time.

Two rules:

1. What has to survive a crash is on disk before anybody hears of it. A change that matters sets
   :attr:`Machine.unsaved`; the packets that were handed to the outside after that must not leave
   before the state has been written. So a vote is never given twice in an epoch, and an epoch that
   was announced is never forgotten.
2. Decisions that follow from several things at once (is the cluster up, has the election been won)
   are made in one place, :meth:`Machine.settle`, which the outside calls after each event.

The parts: :mod:`.gossip` (what nodes tell each other), :mod:`.ownership` (who has which slot),
:mod:`.failure` (who fails, is the cluster up), :mod:`.election` (a replica takes over; votes),
:mod:`.handover` (a failover that an operator wants), :mod:`.placement` (replicas go where there are
none). Behaviour after ``cluster.c`` of Redis 7.2 and the cluster specification.
"""

from __future__ import annotations

from random import Random
from typing import Final

from cluster.election import Election
from cluster.failure import FailureDetector
from cluster.gossip import GossipProtocol
from cluster.handover import Handover
from cluster.message import Packet, encode
from cluster.ownership import Ownership
from cluster.placement import Placement
from cluster.state import (
    FAIL,
    HANDSHAKE,
    MEET,
    MYSELF,
    NOADDR,
    PFAIL,
    Node,
    State,
    draw_name,
    slot_bits,
)

TICKS_PER_SECOND: Final = 10
FORGET_MS: Final = 60_000
EARLY_MS: Final = 20  # a tick may come as early for what it is to do


class Settings:
    """The directives that matter to the machine; times in milliseconds."""

    def __init__(self) -> None:
        self.node_timeout = 15_000
        self.ping_interval = 1_000
        self.replica_validity_factor = 10
        self.replica_no_failover = False
        self.replica_ping_period = 10_000  # repl-ping-replica-period
        self.migration_barrier = 1
        self.allow_replica_migration = True
        self.require_full_coverage = True
        self.announce_ip = ""


class Link:
    """A connection to or from another node.

    ``peer`` is the address that the other end is seen at, ``local`` that of this end. An outbound
    link belongs to a node from the start; an inbound one does once its sender is known.
    """

    def __init__(self, node: Node | None, inbound: bool, now: int) -> None:
        self.node = node
        self.inbound = inbound
        self.created = now
        self.open = False
        self.peer = ""
        self.local = ""


class Outside:
    """What the machine asks of the world; a server, or a simulation."""

    def open_link(self, node: Node) -> Link:
        """Begin to connect to a node's bus; :meth:`Machine.link_opened` follows, or `link_lost`."""
        raise NotImplementedError

    def send(self, link: Link, data: bytes) -> None:
        """Send a packet, after everything that is unsaved now has been saved."""
        raise NotImplementedError

    def close_link(self, link: Link) -> None:
        """Let go of a link; the machine will not hear of it any more."""
        raise NotImplementedError

    def follow(self, master: Node) -> None:
        """Replicate that node from now on."""
        raise NotImplementedError

    def promote(self) -> None:
        """Be a master from now on, with the data that are here."""
        raise NotImplementedError

    def is_following(self) -> bool:
        """Whether the server has been told whom to replicate."""
        raise NotImplementedError

    def replication_offset(self) -> int:
        """How much of the history there is here."""
        raise NotImplementedError

    def replication_silence(self) -> int:
        """Milliseconds since this replica last heard from its master."""
        raise NotImplementedError

    def pause_writes(self, until: int) -> None:
        """Hold back what changes data, and keep the offset where it is."""
        raise NotImplementedError

    def resume_writes(self) -> None:
        """Let what was held back go on."""
        raise NotImplementedError

    def count_keys(self, slot: int) -> int:
        """How many keys of a slot there are here."""
        raise NotImplementedError

    def delete_keys(self, slot: int) -> None:
        """Delete the keys of a slot that another node has."""
        raise NotImplementedError

    def deliver(self, channel: bytes, message: bytes, sharded: bool) -> None:
        """A message that a client of another node has published."""
        raise NotImplementedError

    def log(self, level: str, text: str) -> None:
        """A line of the log: ``debug``, ``verbose``, ``notice`` or ``warning``."""
        raise NotImplementedError


class MessageCounts:
    """Packets by type, sent and received."""

    def __init__(self) -> None:
        self.sent = [0] * 11
        self.received = [0] * 11
        self.malformed = 0


class Machine:
    """One node's part in the cluster. ``now`` is set by every event."""

    def __init__(self, state: State, settings: Settings, outside: Outside, random: Random) -> None:
        self.state = state
        self.settings = settings
        self.outside = outside
        self.random = random
        self.now = 0
        self.counts = MessageCounts()
        self.unsaved = False  # see rule 1
        self._doubtful = True  # whether the cluster is up has to be found out again
        self._news = False  # everybody is to be told at once what this node is
        self._ping_due = 0  # when somebody is to be pinged next
        self.gossip = GossipProtocol(self)
        self.ownership = Ownership(self)
        self.failures = FailureDetector(self)
        self.election = Election(self)
        self.handover = Handover(self)
        self.placement = Placement(self)

    @property
    def myself(self) -> Node:
        return self.state.myself

    # What the parts say.

    def save(self) -> None:
        """The state has changed in a way that must survive a crash."""
        self.unsaved = True

    def doubt(self) -> None:
        """Whether the cluster is up may have changed."""
        self._doubtful = True

    def log(self, level: str, text: str) -> None:
        self.outside.log(level, text)

    def send(self, link: Link | None, packet: Packet) -> None:
        """Send a packet on a link, if there is one that is open."""
        if link is not None and link.open:
            self._transmit(link, packet.type, encode(packet))

    def broadcast(self, packet: Packet) -> None:
        """Send a packet to all nodes that are known for certain."""
        self.multicast(packet, self.state.others())

    def multicast(self, packet: Packet, nodes: list[Node]) -> None:
        """Send the same bytes to several nodes."""
        data = encode(packet)
        for node in nodes:
            link = node.link
            if link is not None and link.open and not node.flags & (MYSELF | HANDSHAKE):
                self._transmit(link, packet.type, data)

    def _transmit(self, link: Link, type: int, data: bytes) -> None:
        self.counts.sent[type] += 1
        self.outside.send(link, data)

    # What happens.

    def receive(self, link: Link, packet: Packet, now: int) -> None:
        """A packet has come on a link."""
        self.now = now
        self.counts.received[packet.type] += 1
        self.gossip.process(link, packet)

    def link_opened(self, link: Link, now: int) -> None:
        """A connection stands: one that :meth:`Outside.open_link` began, or an inbound one."""
        self.now = now
        link.open = True
        if not link.inbound:
            self.gossip.greet(link)

    def link_lost(self, link: Link, now: int) -> None:
        """A connection is over, or has not come about."""
        self.now = now
        link.open = False
        node = link.node
        if node is not None:
            if node.link is link:
                node.link = None
            if node.inbound is link:
                node.inbound = None
        elif not link.inbound:
            raise AssertionError("an outbound link of nobody")

    def tick(self, now: int) -> None:
        """A tenth of a second has passed (``clusterCron``)."""
        self.now = now
        self.gossip.connect_all()
        if now + EARLY_MS >= self._ping_due:
            self._ping_due += self.settings.ping_interval
            if self._ping_due <= now:
                self._ping_due = now + self.settings.ping_interval
            self.gossip.ping_someone()
        self.gossip.ping_the_silent()
        self.failures.suspect_the_silent()
        self.handover.check_time()
        if self.myself.is_replica:
            master = self.myself.master
            if master is not None and master.has_address and not self.outside.is_following():
                self.outside.follow(master)
            self.handover.advance()
            self.election.advance()
            self.placement.consider()
        if not self.state.up:
            self.doubt()

    def rest(self, now: int) -> int:
        """How many milliseconds the next tick may wait, if nothing happens before it.

        Not at all while anything is under way or anybody fails; otherwise until the next ping is
        due, or one has waited for its answer for half the time-out.
        """
        if not self.state.up or self._doubtful or self.handover.is_under_way:
            return 0
        if self.myself.is_replica and self.placement.is_wanted:
            return 0
        half = self.settings.node_timeout // 2
        due = self._ping_due
        for node in self.state.others():
            link = node.link
            if link is None or not link.open or node.flags & (PFAIL | FAIL | HANDSHAKE | NOADDR):
                return 0
            due = min(due, (node.ping_sent or node.pong_received) + half)
        return max(0, due - now)

    def settle(self, now: int) -> None:
        """Draw the conclusions from what has happened; called after each event."""
        self.now = now
        if self.myself.is_replica:
            self.handover.advance()
            self.election.advance()
        if self._doubtful:
            self._doubtful = False
            self.failures.judge()
        if self._news:
            self._news = False
            self.gossip.tell_all()

    # Links.

    def drop_link(self, link: Link | None) -> None:
        """Let go of a link for a reason of the protocol."""
        if link is None:
            return
        link.open = False
        node = link.node
        if node is not None:
            if node.link is link:
                node.link = None
            if node.inbound is link:
                node.inbound = None
        self.outside.close_link(link)

    # What operators want. Errors are ValueErrors whose text is for the client.

    def meet(self, ip: str, port: int, bus_port: int, now: int) -> None:
        """Get to know the node at that address, and all that it knows."""
        self.now = now
        for node in self.state.nodes.values():
            if node.in_handshake and node.ip == ip and node.bus_port == bus_port:
                return
        self.gossip.begin_handshake(ip, port, bus_port, HANDSHAKE | MEET)

    def forget(self, node: Node, now: int) -> None:
        """Know a node no more, and do not learn of it again for a minute."""
        self.now = now
        self.state.forget_name(node.name, now + FORGET_MS)
        self.remove(node)

    def remove(self, node: Node) -> None:
        """Know a node no more."""
        self.drop_link(node.link)
        self.drop_link(node.inbound)
        self.state.remove(node)
        self.save()
        self.doubt()

    def replicate(self, master: Node, now: int) -> None:
        """Become a replica of ``master`` (``clusterSetMaster``)."""
        self.now = now
        state = self.state
        if self.myself.is_master:
            state.close_all_slots()
        state.set_master(self.myself, master)
        self.outside.follow(master)
        self.handover.reset()
        self.save()
        self.doubt()

    def set_slot(self, slot: int, node: Node, now: int) -> None:
        """An operator says whose a slot is (CLUSTER SETSLOT NODE); no keys of it are lost by it.

        This node takes it over with an epoch that wins over that of its last owner, if it was being
        imported. A master that has no slot left becomes a replica of the one that has got it.
        """
        self.now = now
        state = self.state
        myself = self.myself
        was_mine = state.owners[slot] is myself
        if not self.outside.count_keys(slot):
            state.migrating.pop(slot, None)
        state.move(1 << slot, node)
        node.gained_at = now
        self.save()
        self.doubt()
        if node is myself:
            if slot in state.importing:
                del state.importing[slot]
                if self.bump_epoch():
                    self.log("notice", f"configEpoch updated after importing slot {slot}")
                self._news = True
        elif was_mine and not myself.slot_count and self.settings.allow_replica_migration:
            self.log(
                "notice",
                "Configuration change detected. Reconfiguring myself as a replica of "
                f"{node.name} ({node.human_name})",
            )
            self.replicate(node, now)

    def take_over(self) -> None:
        """Become master in place of the own master (``clusterFailoverReplaceYourMaster``)."""
        state = self.state
        old = self.myself.master
        assert old is not None
        state.make_master(self.myself)
        self.outside.promote()
        state.move(slot_bits(old.slots), self.myself)
        self.failures.judge()
        self.save()
        self.gossip.tell_all()
        self.handover.reset()
        self.election.reset()

    def bump_epoch(self) -> bool:
        """Take an epoch larger than all that are known, without asking anybody; False: had it.

        (``clusterBumpConfigEpochWithoutConsensus``.)
        """
        state = self.state
        largest = state.largest_epoch
        if self.myself.config_epoch and self.myself.config_epoch == largest:
            return False
        state.current_epoch = largest + 1
        self.myself.config_epoch = state.current_epoch
        self.log("notice", f"New configEpoch set to {state.current_epoch}")
        self.save()
        return True

    def reset(self, hard: bool, now: int) -> None:
        """Forget the cluster (``clusterReset``); the data of a replica are for the caller."""
        self.now = now
        state = self.state
        if self.myself.is_replica:
            state.make_master(self.myself)
            self.outside.promote()
            self.myself.shard = draw_name(self.random)
        state.close_all_slots()
        self.handover.reset()
        state.unassign_all(self.myself)
        for node in state.others():
            self.remove(node)
        if hard:
            state.current_epoch = 0
            self.myself.config_epoch = 0
            state.last_vote_epoch = 0
            old = self.myself.name
            state.rename(self.myself, draw_name(self.random))
            self.myself.shard = draw_name(self.random)
            self.log("notice", f"Node hard reset, now I'm {self.myself.name} (was {old})")
        self.save()
        self.doubt()
