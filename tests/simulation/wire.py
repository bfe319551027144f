"""Connections between processes, message by message: slow, one-way, dead without anybody's knowing.

A connection keeps the order of what is sent on it. What cannot get through waits, as with TCP; a
peer that is killed is known to be so by a reset, unless that cannot get through either; one whose
host lost power is not, until it is there again.
"""

from __future__ import annotations

import random
from collections import deque
from typing import Final

from tests.simulation.timeline import Timeline

CONNECT_LIMIT: Final = 3.0
RETRY: Final = 0.1


class Host:
    """A process with an address of its own; ``life`` counts how often it was started."""

    def __init__(self, ip: str, port: int) -> None:
        self.ip = ip
        self.port = port
        self.alive = False
        self.silent = False  # its power is off
        self.paused = False
        self.life = 0

    def connected(self, wire: Wire) -> None:
        """The connection that was wanted stands."""
        raise NotImplementedError

    def disconnected(self, wire: Wire, reason: str) -> None:
        """It is over, or has not come about."""
        raise NotImplementedError

    def accept(self, wire: Wire) -> None:
        """Somebody has connected."""
        raise NotImplementedError

    def take(self, wire: Wire, message: object) -> None:
        """Something has come."""
        raise NotImplementedError

    def left(self, wire: Wire) -> None:
        """Somebody who had connected is gone."""
        raise NotImplementedError


class Direction:
    """What is on its way from one end to the other."""

    def __init__(self) -> None:
        self.queue: deque[tuple[float, object]] = deque()
        self.pumping = False
        self.stalled = False  # nothing arrives any more


class Wire:
    """One connection: ``near`` has asked for it, ``far`` is where it leads."""

    def __init__(self, network: Wires, near: Host, far: Host | None, label: object) -> None:
        self.network = network
        self.near = near
        self.far = far
        self.label = label
        self.near_life = near.life
        self.far_life = 0
        self.near_open = True
        self.far_open = False
        self.forth = Direction()
        self.back = Direction()

    @property
    def near_there(self) -> bool:
        """Whether who connected still has it."""
        return self.near_open and self.near.alive and self.near.life == self.near_life

    @property
    def far_there(self) -> bool:
        """Whether the other end is there."""
        far = self.far
        return self.far_open and far is not None and far.alive and far.life == self.far_life

    def send(self, message: object) -> None:
        """From the near end."""
        if self.near_there:
            self.network.carry(self, self.forth, message)

    def reply(self, message: object) -> None:
        """From the far end."""
        if self.far_there:
            self.network.carry(self, self.back, message)

    def close(self) -> None:
        """The near end lets go of it."""
        self.near_open = False
        if self.far is not None:
            self.network.carry(self, self.forth, END)

    def kill(self) -> None:
        """The far end lets go of it."""
        if self.far_there:
            self.network.carry(self, self.back, END)
            self.far_open = False


END: Final = "end of a connection"


class Wires:
    """All connections."""

    def __init__(self, timeline: Timeline, draw: random.Random) -> None:
        self.timeline = timeline
        self.draw = draw
        self.hosts: dict[tuple[str, int], Host] = {}
        self.cut: set[tuple[Host, Host]] = set()  # from, to: nothing gets through
        self.slowness = 0.002
        self.wires: dict[Wire, None] = {}
        self.delivered = 0

    def delay(self) -> float:
        return 0.0003 + self.draw.expovariate(1 / self.slowness)

    def blocked(self, one: Host, other: Host) -> bool:
        return (one, other) in self.cut

    # Connecting.

    def connect(self, near: Host, ip: str, port: int, label: object) -> Wire:
        """Begin to connect; the near host is told what becomes of it."""
        wire = Wire(self, near, self.hosts.get((ip, port)), label)
        self.wires[wire] = None
        began = self.timeline.now
        self.timeline.after(self.delay(), lambda: self._arrive(wire, began))
        return wire

    def _arrive(self, wire: Wire, began: float) -> None:
        if not wire.near_there:
            self.wires.pop(wire, None)
            return
        near, far = wire.near, wire.far
        if far is None:
            self._lose(wire, "No route to host")
        elif far.silent or self.blocked(near, far) or self.blocked(far, near) or near.paused:
            if self.timeline.now - began > CONNECT_LIMIT and not near.paused:
                self._lose(wire, "Connection timed out")
            else:
                self.timeline.after(0.25, lambda: self._arrive(wire, began))
        elif not far.alive:
            self._lose(wire, "Connection refused")
        else:
            # The system accepts for a process that stands still.
            wire.far_life = far.life
            wire.far_open = True
            far.accept(wire)
            near.connected(wire)

    def _lose(self, wire: Wire, reason: str) -> None:
        self.wires.pop(wire, None)
        if wire.near_there:
            wire.near_open = False
            wire.near.disconnected(wire, reason)

    # Carrying.

    def carry(self, wire: Wire, direction: Direction, message: object) -> None:
        """Let a message arrive, after all that was sent before it."""
        last = direction.queue[-1][0] if direction.queue else 0.0
        arrival = max(self.timeline.now + self.delay(), last)
        direction.queue.append((arrival, message))
        if not direction.pumping:
            direction.pumping = True
            self.timeline.at(arrival, lambda: self._pump(wire, direction))

    def _pump(self, wire: Wire, direction: Direction) -> None:
        direction.pumping = False
        forth = direction is wire.forth
        far = wire.far
        assert far is not None
        source, target = (wire.near, far) if forth else (far, wire.near)
        while direction.queue and direction.queue[0][0] <= self.timeline.now:
            if direction.stalled or target.silent or self.blocked(source, target):
                self._pump_later(wire, direction, RETRY)
                return
            there = wire.far_there if forth else wire.near_there
            if there and target.paused:
                self._pump_later(wire, direction, RETRY)
                return
            message = direction.queue.popleft()[1]
            self._deliver(wire, forth, there, message)
        if direction.queue:
            self._pump_later(wire, direction, direction.queue[0][0] - self.timeline.now)

    def _pump_later(self, wire: Wire, direction: Direction, pause: float) -> None:
        if not wire.near_open and not wire.far_open:
            self.wires.pop(wire, None)
            return
        direction.pumping = True
        self.timeline.after(pause, lambda: self._pump(wire, direction))

    def _deliver(self, wire: Wire, forth: bool, there: bool, message: object) -> None:
        far = wire.far
        assert far is not None
        self.delivered += 1
        if message is END:
            if forth and there:
                wire.far_open = False
                far.left(wire)
            elif not forth:
                self._lose(wire, "Server closed the connection")
        elif there:
            (far if forth else wire.near).take(wire, message)
        elif forth:
            # Nobody knows of the connection there: a reset, if it gets back.
            if not self.blocked(far, wire.near):
                self._lose(wire, "Connection reset by peer")

    # Faults.

    def crash(self, host: Host, *, power: bool) -> None:
        """A process is gone: its connections are reset, unless its host is off."""
        for wire in list(self.wires):
            if wire.near is host:
                if not power and wire.far_there:
                    self.carry(wire, wire.forth, END)
                wire.near_open = False
            elif wire.far is host:
                if not power and wire.far_open:
                    self.carry(wire, wire.back, END)
                wire.far_open = False

    def reset(self, wire: Wire) -> None:
        """The network breaks a connection."""
        if wire.far_there and wire.far is not None:
            wire.far_open = False
            wire.far.left(wire)
        self._lose(wire, "Connection reset by peer")
