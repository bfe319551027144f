"""A write that can be recognized, and who has it."""

from __future__ import annotations

from collections.abc import Sequence

from tests.simulation.histories import Token
from tests.simulation.machine import Machine


class Write:
    """A write that a client waits for, or has waited for.

    ``holders`` are the machines other than the server that have had it, with the state of theirs
    that they had it in: see :meth:`ReplicationWorld.state_of`. ``links`` are the connections over
    which they have had it: a master counts each of these until it learns that it is broken, as
    Redis does. ``counted`` is how many replicas have it, as the client was told.
    """

    __slots__ = ("token", "machine", "holders", "links", "counted", "_eras")

    def __init__(self, token: Token, machine: Machine, machines: Sequence[Machine]) -> None:
        self.token = token
        self.machine = machine
        self.holders: dict[str, tuple[int, int]] = {}
        self.links: dict[tuple[str, int], None] = {}
        self.counted = -1
        self._eras: dict[str, object] = {each.name: each.era for each in machines}

    def has_era_of(self, machine: Machine) -> bool:
        """Whether the machine's log has only grown since the write began."""
        return machine.era == self._eras[machine.name]

    def may_be_logged(self, machine: Machine) -> bool:
        """Whether the machine has it in its log for good, or may have had it there."""
        return not self.has_era_of(machine) or machine.keeps(self.token)
