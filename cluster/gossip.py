"""What nodes tell each other: pings and their answers, who else there is, and how they are.

Each node keeps an open link to each other one. It pings some node once a second, and every node at
least once in half the node timeout; a ping, its pong and a meet carry what the sender is, and what
it knows of a few others. So whatever one node knows, all know soon.

Who is not known is not listened to, except for a MEET, which asks to be let in, and for the answer
to a handshake that this node has begun. (``clusterProcessPacket``, ``clusterSendPing``,
``clusterProcessGossipSection`` in cluster.c.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cluster import message
from cluster.message import Gossip, Packet
from cluster.state import (
    EXTENSIONS,
    FAIL,
    HANDSHAKE,
    MASTER,
    MEET,
    MIGRATE_TO,
    MYSELF,
    NOADDR,
    NOFAILOVER,
    NOWHERE,
    PFAIL,
    REPLICA,
    Node,
    draw_name,
)

if TYPE_CHECKING:
    from cluster.machine import Link, Machine

LEAST_HANDSHAKE_MS: Final = 1_000
SAMPLED: Final = 5
LEAST_GOSSIP: Final = 3
# A pong that another node has seen may be so far in the future, by its clock.
CLOCK_SKEW_MS: Final = 500
# Flags of others that a packet may set on a node.
LEARNT: Final = MASTER | REPLICA | PFAIL | FAIL | NOADDR | NOFAILOVER


class GossipProtocol:
    """Sends and processes packets."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._state = machine.state
        self._settings = machine.settings

    # Links.

    def connect_all(self) -> None:
        """Open a link to every node that has none; give up handshakes that take too long."""
        machine = self._machine
        limit = max(self._settings.node_timeout, LEAST_HANDSHAKE_MS)
        for node in self._state.others():
            if node.in_handshake and machine.now - node.created > limit:
                machine.remove(node)
            elif node.link is None and node.has_address:
                node.link = machine.outside.open_link(node)
                if node.ping_sent == 0:
                    # A node that cannot be connected to counts as one that does not answer.
                    node.ping_sent = machine.now

    def greet(self, link: Link) -> None:
        """A link to a node stands: say who we are."""
        node = link.node
        assert node is not None
        waiting = node.ping_sent
        self.ping(link, message.MEET if node.flags & MEET else message.PING)
        if waiting:
            # It has owed us an answer for longer than this link exists.
            node.ping_sent = waiting
        node.flags &= ~MEET

    def begin_handshake(self, ip: str, port: int, bus_port: int, flags: int) -> Node:
        """Connect to an address whose node's name is not known yet."""
        machine = self._machine
        node = Node(draw_name(machine.random), flags, machine.now)
        node.shard = draw_name(machine.random)  # until it tells, which a 7.0 node never does
        node.ip = ip
        node.port = port
        node.bus_port = bus_port
        self._state.add(node)
        return node

    # Pings.

    def ping_someone(self) -> None:
        """Of a few nodes, ping the one that has been silent for longest."""
        machine = self._machine
        nodes = list(self._state.nodes.values())
        oldest: Node | None = None
        for _ in range(SAMPLED):
            node = nodes[int(machine.random.random() * len(nodes))]
            if node.link is None or not node.link.open or node.ping_sent:
                continue
            if node.flags & (MYSELF | HANDSHAKE):
                continue
            if oldest is None or node.pong_received < oldest.pong_received:
                oldest = node
        if oldest is not None:
            self.ping(oldest.link, message.PING)

    def ping_the_silent(self) -> None:
        """Ping who has not been heard of for half the time-out, and renew links that are stuck."""
        machine = self._machine
        now = machine.now
        half = self._settings.node_timeout // 2
        for node in self._state.others():
            link = node.link
            if link is None or not link.open or node.flags & (NOADDR | HANDSHAKE):
                continue
            if (
                now - link.created > self._settings.node_timeout
                and node.ping_sent
                and node.pong_received < node.ping_sent
                and now - node.ping_sent > half
                and now - node.data_received > half
            ):
                machine.drop_link(link)
            elif node.ping_sent == 0 and (
                now - node.pong_received > half or machine.handover.is_for(node)
            ):
                self.ping(link, message.PING)

    def ping(self, link: Link | None, type: int) -> None:
        """Send a PING, PONG or MEET with what is to be told to everybody."""
        if link is None:
            return
        machine = self._machine
        node = link.node
        if node is not None and type == message.PING:
            node.ping_sent = machine.now
        packet = self.packet(type)
        packet.gossip = self._choose_gossip(node)
        if node is not None and node.flags & EXTENSIONS:
            self._extend(packet)
        packet.says |= message.SAYS_EXTENSIONS
        machine.send(link, packet)

    def tell_all(self) -> None:
        """Tell every node at once what this one is (``clusterBroadcastPong``)."""
        for node in self._state.others():
            if node.link is not None and not node.in_handshake:
                self.ping(node.link, message.PONG)

    def tell_shard(self) -> None:
        """The same for the other replicas of the own master."""
        myself = self._machine.myself
        for node in self._state.shard_of(myself):
            if node is not myself and node.is_replica and node.link is not None:
                self.ping(node.link, message.PONG)

    def publish(self, channel: bytes, text: bytes, sharded: bool) -> None:
        """Let other nodes deliver a message: all, or those of the own shard."""
        machine = self._machine
        packet = self.packet(message.PUBLISHSHARD if sharded else message.PUBLISH)
        packet.channel = channel
        packet.message = text
        if sharded:
            machine.multicast(packet, self._state.shard_of(machine.myself))
        else:
            machine.broadcast(packet)

    def packet(self, type: int) -> Packet:
        """A packet with the header that all types have (``clusterBuildMessageHdr``)."""
        machine = self._machine
        state = self._state
        myself = state.myself
        head = myself.master or myself
        packet = Packet(type, myself.name)
        packet.ip = self._settings.announce_ip
        packet.port = myself.port
        packet.bus_port = myself.bus_port
        packet.tls_port = myself.tls_port
        packet.current_epoch = state.current_epoch
        packet.config_epoch = head.config_epoch
        packet.offset = machine.outside.replication_offset()
        packet.slots = bytes(head.slots)
        packet.master = myself.master.name if myself.master is not None else ""
        packet.flags = myself.flags & 0xFFFF
        packet.down = not state.up
        if machine.handover.is_pausing:
            packet.says |= message.SAYS_PAUSED
        return packet

    def _choose_gossip(self, receiver: Node | None) -> list[Gossip]:
        """A tenth of the nodes, at random, and all that seem to fail."""
        random = self._machine.random
        state = self._state
        nodes = list(state.nodes.values())
        fresh = len(nodes) - 2  # the sender and the receiver need not be told
        wanted = min(max(LEAST_GOSSIP, len(nodes) // 10), fresh)
        chosen: dict[Node, None] = {}
        tries = wanted * 3
        while len(chosen) < wanted and tries:
            tries -= 1
            node = nodes[int(random.random() * len(nodes))]
            if node is state.myself or node.suspect or node.flags & (HANDSHAKE | NOADDR):
                continue
            if node.link is None and node.slot_count == 0:
                continue
            chosen[node] = None
        for node in nodes:
            if node.suspect and not node.flags & (HANDSHAKE | NOADDR):
                chosen[node] = None
        return [
            Gossip(
                node.name,
                node.ping_sent // 1000,
                node.pong_received // 1000,
                node.ip,
                node.port,
                node.bus_port,
                node.flags & 0xFFFF,
                node.tls_port,
            )
            for node in chosen
        ]

    def _extend(self, packet: Packet) -> None:
        """Add what only nodes understand that have said so."""
        state = self._state
        myself = state.myself
        packet.hostname = myself.hostname or None
        packet.human_name = myself.human_name or None
        packet.shard = myself.shard
        now = self._machine.now
        packet.forgotten = [
            (name, (until - now) // 1000)
            for name, until in state.forgotten.items()
            if until - now >= 1000
        ]

    # Receiving.

    def process(self, link: Link, packet: Packet) -> None:
        """What a packet says."""
        machine = self._machine
        state = self._state
        sender = self._sender(link, packet)
        if sender is not None:
            sender.data_received = machine.now
            if packet.says & message.SAYS_EXTENSIONS:
                sender.flags |= EXTENSIONS
            if link.inbound and link.node is None:
                self._recognize(link, sender)
            if not sender.in_handshake:
                self._learn_progress(sender, packet)
        kind = packet.type
        if kind <= message.MEET:
            self._process_ping(link, packet, sender)
        elif sender is None:
            return  # who is not known has nothing to say
        elif kind == message.FAIL:
            machine.failures.hear_of_failure(sender, packet.about)
        elif kind == message.PUBLISH or kind == message.PUBLISHSHARD:
            machine.outside.deliver(packet.channel, packet.message, kind == message.PUBLISHSHARD)
        elif kind == message.FAILOVER_AUTH_REQUEST:
            machine.election.vote(sender, packet)
        elif kind == message.FAILOVER_AUTH_ACK:
            machine.election.count_vote(sender, packet)
        elif kind == message.MFSTART:
            machine.handover.pause_for(sender)
        elif kind == message.UPDATE:
            about = state.find(packet.about)
            if about is not None:
                machine.ownership.correct(about, packet.about_epoch, packet.about_slots)

    def _sender(self, link: Link, packet: Packet) -> Node | None:
        """Who has sent a packet, if it is known (``getNodeFromLinkAndMsg``)."""
        node = link.node
        if node is not None and not node.in_handshake and node.name == packet.sender:
            return node
        return self._state.find(packet.sender)

    def _recognize(self, link: Link, sender: Node) -> None:
        """An inbound link turns out to be that of a node; it has one only."""
        if sender.inbound is not None and sender.inbound is not link:
            self._machine.drop_link(sender.inbound)
        sender.inbound = link
        link.node = sender

    def _learn_progress(self, sender: Node, packet: Packet) -> None:
        """Epochs and the offset of a node."""
        machine = self._machine
        state = self._state
        state.current_epoch = max(state.current_epoch, packet.current_epoch)
        if packet.config_epoch > sender.config_epoch:
            sender.config_epoch = packet.config_epoch
            machine.save()
        sender.offset = packet.offset
        if packet.says & message.SAYS_PAUSED:
            machine.handover.learn_offset(sender, packet.offset)

    def _process_ping(self, link: Link, packet: Packet, sender: Node | None) -> None:
        machine = self._machine
        kind = packet.type
        if kind != message.PONG:
            self._learn_own_address(link, kind)
            if sender is None and kind == message.MEET:
                ip = packet.ip or link.peer
                self.begin_handshake(ip, packet.port, packet.bus_port, HANDSHAKE)
                machine.save()
            self.ping(link, message.PONG)
        node = link.node
        if not link.inbound and node is not None:
            if node.in_handshake:
                if sender is not None:
                    # Known already, by another address maybe: this was one handshake too many.
                    self._update_address(sender, link, packet)
                    machine.remove(node)
                    return
                self._complete_handshake(node, packet)
                sender = node
                if packet.says & message.SAYS_EXTENSIONS:
                    node.flags |= EXTENSIONS
            elif node.name != packet.sender:
                self._lose_address(node, packet)
                return
            if kind == message.PONG:
                self._hear_pong(node)
        if sender is None or sender.in_handshake:
            return
        sender.flags = sender.flags & ~NOFAILOVER | packet.flags & NOFAILOVER
        if kind == message.PING and self._update_address(sender, link, packet):
            machine.doubt()
        self._learn_role(sender, packet)
        machine.ownership.compare(sender, packet)
        self._hear_gossip(packet, sender)
        self._learn_extensions(sender, packet)

    def _learn_own_address(self, link: Link, kind: int) -> None:
        """Who connects to us knows our address (only one who asks us in can change it)."""
        myself = self._machine.myself
        if self._settings.announce_ip or not link.local:
            return
        if (kind == message.MEET or not myself.ip) and myself.ip != link.local:
            myself.ip = link.local
            self._machine.log("warning", f"IP address for this node updated to {myself.ip}")
            self._machine.save()

    def _complete_handshake(self, node: Node, packet: Packet) -> None:
        """The node that we have asked has told its name."""
        self._state.rename(node, packet.sender)
        node.flags = node.flags & ~HANDSHAKE | packet.flags & (MASTER | REPLICA)
        if packet.flags & REPLICA:
            node.flags &= ~MASTER
        self._machine.log("debug", f"Handshake with node {node.name} completed.")
        self._machine.save()

    def _lose_address(self, node: Node, packet: Packet) -> None:
        """Somebody else answers where the node was."""
        self._machine.log(
            "debug",
            f"PONG contains mismatching sender ID. About node {node.name} added "
            f"{self._machine.now - node.created} ms ago, having flags {node.flags}",
        )
        node.flags |= NOADDR
        node.move_to(NOWHERE)
        self._machine.drop_link(node.link)
        self._machine.save()

    def _hear_pong(self, node: Node) -> None:
        machine = self._machine
        node.pong_received = machine.now
        node.ping_sent = 0
        if node.suspect:
            node.flags &= ~PFAIL
            machine.save()
            machine.doubt()
        elif node.failed:
            machine.failures.forgive(node)

    def _update_address(self, node: Node, link: Link, packet: Packet) -> bool:
        """Whether a node that we know has moved (``nodeUpdateAddressIfNeeded``)."""
        if link is node.link:
            return False
        ip = packet.ip or link.peer
        where = (ip, packet.port, packet.bus_port, packet.tls_port)
        if not ip or node.address == where:
            return False
        machine = self._machine
        node.move_to(where)
        machine.drop_link(node.link)
        node.flags &= ~NOADDR
        machine.log("warning", f"Address updated for node {node.name}, now {ip}:{packet.port}")
        if machine.myself.master is node:
            machine.outside.follow(node)
        machine.save()
        return True

    def _learn_role(self, sender: Node, packet: Packet) -> None:
        """Whether the sender is a master, or whose replica."""
        machine = self._machine
        state = self._state
        if not packet.master:
            if sender.is_replica or not sender.is_master:
                state.make_master(sender)
                machine.save()
                machine.doubt()
            return
        master = state.find(packet.master)
        if sender.is_master:
            # It was a master and is none any more. If it has handed its slots over, whoever has
            # them will say so.
            state.unassign_all(sender)
            sender.flags = sender.flags & ~(MASTER | MIGRATE_TO) | REPLICA
            machine.save()
            machine.doubt()
        if master is not None and master is not sender and sender.master is not master:
            state.set_master(sender, master)
            machine.save()

    def _hear_gossip(self, packet: Packet, sender: Node) -> None:
        """What the sender knows of others."""
        machine = self._machine
        state = self._state
        now = machine.now
        for entry in packet.gossip:
            node = state.find(entry.name)
            if node is None:
                if not entry.flags & (NOADDR | HANDSHAKE) and not state.is_forgotten(
                    entry.name, now
                ):
                    self._get_to_know(entry)
                continue
            if sender.is_master and node is not state.myself:
                if entry.flags & (FAIL | PFAIL):
                    machine.failures.report(node, sender)
                else:
                    machine.failures.withdraw(node, sender)
            if node is state.myself:
                continue
            if not entry.flags & (FAIL | PFAIL):
                if not node.flags & (FAIL | PFAIL):
                    self._believe_pong(node, entry)
                elif not entry.flags & NOADDR and node.address != entry.address:
                    # It fails where we think it is, but others reach it somewhere else.
                    machine.drop_link(node.link)
                    node.move_to(entry.address)
                    node.flags &= ~NOADDR

    def _believe_pong(self, node: Node, entry: Gossip) -> None:
        """Another node has heard from it since we did: no need to ask ourselves."""
        if node.ping_sent or self._machine.failures.count_reports(node):
            return
        heard = entry.pong_received * 1000
        if node.pong_received < heard <= self._machine.now + CLOCK_SKEW_MS:
            node.pong_received = heard

    def _get_to_know(self, entry: Gossip) -> None:
        """A node that we have not known, from one that we trust."""
        flags = entry.flags & LEARNT & ~(PFAIL | FAIL)
        node = Node(entry.name, flags & ~MIGRATE_TO, self._machine.now)
        if flags & MASTER and flags & REPLICA:
            node.flags &= ~REPLICA
        node.shard = draw_name(self._machine.random)
        node.move_to(entry.address)
        self._state.add(node)
        self._machine.save()

    def _learn_extensions(self, sender: Node, packet: Packet) -> None:
        machine = self._machine
        state = self._state
        for name, seconds in packet.forgotten:
            node = state.find(name)
            if node is None or node is state.myself or node is machine.myself.master:
                continue
            if seconds > 0:
                state.forget_name(name, machine.now + seconds * 1000)
                machine.remove(node)
        if state.find(sender.name) is not sender:
            return  # it is itself the one to be forgotten
        unsaid = packet.hostname is None and packet.shard is None
        if unsaid and packet.says & message.SAYS_EXTENSIONS:
            return  # it does not know yet that this node understands extensions
        hostname = packet.hostname or ""
        if sender.hostname != hostname:
            sender.hostname = hostname
            machine.save()
        human_name = packet.human_name or ""
        if sender.human_name != human_name:
            sender.human_name = human_name
            machine.save()
        if packet.shard and sender.shard != packet.shard:
            self._learn_shard(sender, packet.shard)

    def _learn_shard(self, sender: Node, shard: str) -> None:
        """The shard that a node says it is in; a replica is always in that of its master."""
        if sender.is_master:
            for node in self._state.shard_of(sender):
                node.shard = shard
        elif sender.master is None or not sender.master.shard:
            sender.shard = shard
        self._machine.save()
