"""The cluster bus in virtual time: links that delay, break, hang, and deliver twice.

What one link carries stays in order, as with TCP, but nothing is said of two links between the same
nodes: what was sent on one that is gone may still come after what the next one brings.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from cluster.machine import Link
from cluster.message import decode
from cluster.state import Node
from tests.simulation.timeline import Timeline

if TYPE_CHECKING:
    from tests.simulation.peer import Peer

CONNECT_LIMIT: Final = 5.0
FIRST_BUS_PORT: Final = 20_000


class SimulatedLink(Link):
    """One end of a connection; ``other`` is the other one, as long as there is one."""

    def __init__(self, owner: Peer, node: Node | None, inbound: bool, now: int) -> None:
        super().__init__(node, inbound, now)
        self.owner = owner
        self.life = owner.life  # of the owner: a restarted one has nothing to do with it
        self.other: SimulatedLink | None = None
        self.gone = False
        self.clear_at = 0.0  # when the last packet sent on it arrives


class Bus:
    """All links of all nodes."""

    def __init__(self, timeline: Timeline, draw: random.Random) -> None:
        self.timeline = timeline
        self.draw = draw
        self.peers: dict[int, Peer] = {}  # by bus port
        self.cut: set[frozenset[int]] = set()  # pairs of ports between which nothing gets through
        self.slowness = 0.01  # seconds that a packet takes, on average
        self.duplication = 0.0
        self.delivered = 0

    def is_cut(self, one: Peer, other: Peer) -> bool:
        return frozenset((one.port, other.port)) in self.cut

    def _delay(self) -> float:
        return 0.0005 + self.draw.expovariate(1 / self.slowness)

    # Connecting.

    def open(self, peer: Peer, node: Node) -> SimulatedLink:
        """Begin to connect; what comes of it is told later."""
        link = SimulatedLink(peer, node, False, peer.now())
        began = self.timeline.now
        port = node.bus_port
        self.timeline.after(self._delay(), lambda: self._arrive(link, port, began))
        return link

    def _arrive(self, link: SimulatedLink, port: int, began: float) -> None:
        if link.gone or not link.owner.lives(link.life):
            return
        target = self.peers.get(port)
        if target is not None and self.is_cut(link.owner, target):
            if self.timeline.now - began > CONNECT_LIMIT:
                self._lose(link)
            else:
                self.timeline.after(0.5, lambda: self._arrive(link, port, began))
            return
        if target is None or not target.alive:
            self._lose(link)
            return
        inbound = SimulatedLink(target, None, True, target.now())
        inbound.peer = link.local = link.owner.ip
        inbound.local = link.peer = target.ip
        inbound.other = link
        link.other = inbound
        target.links[inbound] = None
        target.opened(inbound)
        link.owner.opened(link)

    def _lose(self, link: SimulatedLink) -> None:
        """The link is over, and its owner learns of it."""
        if link.gone:
            return
        link.gone = True
        link.owner.links.pop(link, None)
        if link.owner.lives(link.life):
            link.owner.lost(link)

    def close(self, link: SimulatedLink) -> None:
        """An owner lets go of a link; the other end learns of it later, if anything gets there."""
        if link.gone:
            return
        link.gone = True
        link.owner.links.pop(link, None)
        other = link.other
        if other is not None and not self.is_cut(link.owner, other.owner):
            self.timeline.after(self._delay(), lambda: self._lose(other))

    def reset(self, link: SimulatedLink) -> None:
        """The network breaks a connection: both ends learn of it."""
        other = link.other
        self._lose(link)
        if other is not None:
            self._lose(other)

    # Packets.

    def send(self, link: SimulatedLink, data: bytes) -> None:
        """Deliver a packet some time later."""
        if link.gone or link.other is None:
            return
        arrival = max(self.timeline.now + self._delay(), link.clear_at)
        link.clear_at = arrival
        self._plan(link, link.other, data, arrival)
        if self.draw.random() < self.duplication:
            self._plan(link, link.other, data, arrival + self._delay() * 5)

    def _plan(self, link: SimulatedLink, other: SimulatedLink, data: bytes, arrival: float) -> None:
        self.timeline.at(arrival, lambda: self._deliver(link, other, data))

    def _deliver(self, link: SimulatedLink, other: SimulatedLink, data: bytes) -> None:
        if other.gone or not other.owner.lives(other.life):
            return
        if self.is_cut(link.owner, other.owner):
            # It is sent again and again until it gets through, or somebody gives the link up.
            self._plan(link, other, data, self.timeline.now + 0.2)
            return
        self.delivered += 1
        other.owner.heard(other, decode(data))
