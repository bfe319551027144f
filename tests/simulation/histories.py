"""All histories that there have been in a world, and whether the servers tell the truth of theirs.

A history is known by its id. Its bytes are taken from the backlog of its master as they arise, and
executed by a model of the data, so that the fingerprint of the data is known for each offset at
which a server may stand: the ends of requests outside of transactions. A server that says that it
has so many bytes of a history must have exactly those data.

Where a server begins a history of its own that continues another one (it was promoted, or has
started with the data of another), it must be the one that it had, at the offset that it had.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from node.replication.history import NO_ID
from node.replication.stream import StreamParser
from tests.simulation.machine import Machine
from tests.simulation.model import Model, fingerprint_of
from tests.simulation.trace import Broken

Token = bytes
TOKEN_START: Final = b"token:"
UNKNOWN: Final = -1
"""The fingerprint of data that have not been seen, at an offset at which a server may stand."""


class Lineage:
    """One history: it begins at the offset ``start``, where it continues ``parent``, if any.

    ``fingerprints`` are by offset. ``length`` is how far it is known.
    """

    def __init__(self, id: bytes, name: str, start: int, parent: Lineage | None, model: Model):
        self.id = id
        self.name = name
        self.start = start
        self.length = start
        self.parent = parent
        self.model = model
        self.fingerprints = {start: UNKNOWN if parent is not None else model.fingerprint}
        # Writes that can be recognized, and the offset from which on the data have them.
        self.tokens: dict[Token, int] = {
            word: start
            for value in model.values.values()
            if isinstance(value, list)
            for word in value
            if word.startswith(TOKEN_START)
        }
        self._parser = StreamParser()
        self._parsed = start
        self._unit: list[list[bytes]] | None = None

    def extend(self, data: bytes) -> None:
        """These are the next bytes."""
        requests = self._parser.feed(data)
        self.length += len(data)
        for i, argv in enumerate(requests):
            end = self._parsed + self._parser.end_of(i + 1, requests)
            command = argv[0].lower()
            if command == b"multi":
                assert self._unit is None
                self._unit = []
            elif command == b"exec":
                assert self._unit is not None
                for part in self._unit:
                    self._apply(part, end)
                self._unit = None
            elif self._unit is not None:
                self._unit.append(argv)
                continue
            else:
                self._apply(argv, end)
            if self._unit is None:
                self.fingerprints[end] = self.model.fingerprint
        self._parsed += self._parser.used

    def _apply(self, argv: list[bytes], end: int) -> None:
        self.model.apply(argv)
        for word in argv[2:]:
            if word.startswith(TOKEN_START):
                self.tokens[word] = end

    def at(self, offset: int) -> int | None:
        """The fingerprint of the data there; None where no server may stand."""
        lineage: Lineage | None = self
        while lineage is not None and offset < lineage.start:
            lineage = lineage.parent
        if lineage is None:
            return None
        if offset == lineage.start and lineage.parent is not None:
            return lineage.parent.at(offset)
        return lineage.fingerprints.get(offset)

    def has(self, token: Token, offset: int) -> bool:
        """Whether a write is in the first ``offset`` bytes."""
        lineage: Lineage | None = self
        while lineage is not None:
            end = lineage.tokens.get(token)
            if end is not None:
                return end <= offset
            offset = min(offset, lineage.start)
            lineage = lineage.parent
        return False


class Histories:
    """Looks at the machines, one at a time, whenever something may have changed.

    ``moved`` is told of each machine whose place in a history is another one than before.
    """

    def __init__(self, moved: Callable[[Machine], None]) -> None:
        self.known: dict[bytes, Lineage] = {}
        # What each machine said the last time: the run, the id and the offset.
        self._said: dict[str, tuple[int, bytes, int]] = {}
        self._seen: dict[str, tuple[object, ...]] = {}
        self._moved = moved
        self.checks = 0

    def lineage(self, machine: Machine) -> Lineage | None:
        """The history that the machine's data are a part of."""
        return self.known.get(machine.history.id) if machine.has_history else None

    def holds(self, machine: Machine, token: Token) -> bool:
        """Whether the machine has this write in memory."""
        lineage = self.lineage(machine)
        return lineage is not None and lineage.has(token, machine.history.offset)

    def knows(self, token: Token) -> bool:
        """Whether any history has this write; it may have been deleted before one began."""
        return any(token in lineage.tokens for lineage in self.known.values())

    def changed(self, machine: Machine) -> bool:
        """Whether there is something new to look at."""
        history = machine.replication.history
        link = machine.link
        seen = (
            history,
            history.id,
            history.offset,
            machine.keyspace.dirty,
            link.state,
            link.resumable,
            link.session,
            machine.server is not None and machine.server.loading,
        )
        if self._seen.get(machine.name) == seen:
            return False
        self._seen[machine.name] = seen
        return True

    def look(self, machine: Machine) -> None:
        """Raise Broken where the machine's data are not what its history says."""
        if not machine.has_history:
            return
        history = machine.history
        lineage = self.known.get(history.id)
        if lineage is None:
            lineage = self._begin(machine)
        if not machine.is_replica:
            self._extend(machine, lineage)
        self.checks += 1
        offset = history.offset
        expected = lineage.at(offset)
        if expected is None:
            raise Broken(
                f"{machine.name} says that it has {offset} bytes of the history {lineage.name}, "
                f"where nobody may stand; it is {lineage.length} bytes long"
            )
        if expected not in (UNKNOWN, fingerprint_of(machine.engine.keyspace)):
            raise Broken(
                f"{machine.name} has other data than the first {offset} bytes of the history "
                f"{lineage.name} make:\n{Model.read(machine.engine.keyspace).describe()}\nThe "
                f"history, which is {lineage.length} bytes long, ends with:\n"
                f"{lineage.model.describe()}"
            )
        self._said[machine.name] = (machine.run_number, history.id, offset)
        self._moved(machine)

    def _extend(self, machine: Machine, lineage: Lineage) -> None:
        """The machine is the master: its history may have grown."""
        backlog = machine.history.backlog
        assert backlog is not None
        if backlog.end < lineage.length:
            raise Broken(
                f"{machine.name} is the master of {lineage.name}, which has {lineage.length} "
                f"bytes, and says {backlog.end}"
            )
        while lineage.length < backlog.end:
            lineage.extend(backlog.read(lineage.length, 1 << 20))

    def _begin(self, machine: Machine) -> Lineage:
        """A history that has not been seen before."""
        history = machine.history
        name = f"{machine.name}.{len(self.known)}"
        if machine.is_replica and machine.link.connected:
            raise Broken(f"{machine.name} follows a history that no master has ever had")
        parent: Lineage | None = None
        start = history.offset
        if history.second_id != NO_ID:
            parent = self.known.get(history.second_id)
            said = self._said.get(machine.name)
            if parent is not None:
                self._check_branch(machine, parent, said)
                start = history.second_end
        elif machine.name in self._said and self._said[machine.name][0] == machine.run_number:
            machine.note("begins a history that continues none")
        model = Model.read(machine.engine.keyspace)
        lineage = self.known[history.id] = Lineage(history.id, name, start, parent, model)
        if start != history.offset:
            self._take_beginning(machine, lineage)
        machine.note(
            f"begins the history {name} at {start}"
            + (f", which continues {parent.name}" if parent is not None else "")
        )
        return lineage

    def _check_branch(
        self, machine: Machine, parent: Lineage, said: tuple[int, bytes, int] | None
    ) -> None:
        """A history that says that it continues another one."""
        history = machine.history
        end = history.second_end
        if said is not None and said[0] == machine.run_number and said[1:] != (parent.id, end):
            raise Broken(
                f"{machine.name} continues {parent.name} at {end}, but was at {said[2]} of "
                f"{self.known[said[1]].name}"
            )
        fingerprint = parent.at(end)
        if fingerprint is None:
            raise Broken(f"{machine.name} continues {parent.name} at {end}, where nobody may stand")
        found = fingerprint_of(machine.engine.keyspace)
        if end == history.offset and fingerprint not in (UNKNOWN, found):
            raise Broken(f"{machine.name} continues {parent.name} at {end} with other data")

    def _take_beginning(self, machine: Machine, lineage: Lineage) -> None:
        """A master has started with the data of another history, in which keys had expired.

        That these are gone is the beginning of its own history. In between the data are not known.
        """
        model = lineage.model
        self._extend(machine, lineage)
        for offset in lineage.fingerprints:
            lineage.fingerprints[offset] = UNKNOWN
        model.fingerprint = fingerprint_of(machine.engine.keyspace)
        lineage.fingerprints[lineage.length] = model.fingerprint
