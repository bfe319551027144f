"""FAILOVER in the world of replication: it is asked for at random, and nothing may be lost by it.

A replica that takes over because its master has asked it to must have had all of the master's
history, to the last byte: whatever a client was told of before is in it. With FORCE it need not;
and a replica that has lost data after it had said that it has them is none of FAILOVER's business.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from node.replication.failover import NONE
from tests.simulation.histories import Histories
from tests.simulation.machine import PORT, Machine
from tests.simulation.trace import Broken
from tests.wire import Error


class Takeovers:
    """All of one world."""

    def __init__(self, draw: random.Random, histories: Histories) -> None:
        self.seen = 0
        self._draw = draw
        self._histories = histories
        # The most that a machine has ever had of a history, by its name and the history's id.
        self._most: dict[tuple[str, bytes], int] = {}
        self._counted: dict[str, int] = {}
        # Histories of which a part may be lost, since FORCE was said to their master.
        self._forced: dict[bytes, None] = {}

    def ask(self, primary: Machine, machines: Sequence[Machine]) -> str | None:
        """Have the master hand over to any replica or to one that is named, or give that up."""
        if not primary.ready:
            return None
        draw = self._draw
        words: list[str] = []
        if primary.replication.failover.state != NONE:
            words = ["ABORT"] if draw.random() < 0.5 else []
        elif draw.random() < 0.7:
            target = draw.choice([machine for machine in machines if machine is not primary])
            words = ["TO", target.name, str(PORT)]
            if draw.random() < 0.2:
                words.append("FORCE")
        if words != ["ABORT"] and ("FORCE" in words or draw.random() < 0.7):
            words += ["TIMEOUT", str(draw.choice([10, 300, 3000]))]
        history = primary.history.id
        reply = primary.command("FAILOVER", *words)
        if isinstance(reply, Error):
            return f"{primary.name} {' '.join(words)}: {reply.text.decode()}"
        if "FORCE" in words:
            self._forced[history] = None
        return f"{primary.name} {' '.join(words)}"

    def look(self, machine: Machine) -> None:
        """The machine has been looked at. Raises Broken if it has taken over too early."""
        lineage = self._histories.lineage(machine)
        if lineage is None:
            return
        place = machine.name, lineage.id
        self._most[place] = max(self._most.get(place, 0), machine.history.offset)
        if machine.takeovers == self._counted.get(machine.name, 0):
            return
        self._counted[machine.name] = machine.takeovers
        self.seen += 1
        parent = lineage.parent
        if parent is None or parent.id in self._forced:
            return
        most = self._most.get((machine.name, parent.id), 0)
        if most < parent.length:
            raise Broken(
                f"{machine.name} has taken over from the master of {parent.name}, of which it has "
                f"never had more than {most} bytes; there are {parent.length}"
            )

    def successor(self, primary: Machine, machines: Sequence[Machine]) -> Machine | None:
        """Who has taken over from the master, if it has handed its role over."""
        if not primary.ready or not primary.is_replica or primary.master is not None:
            return None
        if primary.replication.failover.state != NONE:
            return None
        for machine in machines:
            if machine.name == primary.link.host and machine.ready and not machine.is_replica:
                return machine
        return None
