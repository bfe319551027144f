"""Views of clusters for tests, written the way CLUSTER NODES writes them."""

from __future__ import annotations

from collections.abc import Sequence

from sentinel.topology import View, parse_nodes


def node_id(letter: str) -> str:
    """The id that a letter stands for; ids are in the letters' order."""
    return f"{ord(letter):02x}" * 20


class Told:
    """What is told of a node: `Told("a", 5, "0-99")`, or `Told("b", 5, master="a")`."""

    def __init__(
        self,
        letter: str,
        epoch: int = 0,
        slots: str = "",
        *,
        master: str = "",
        port: int = 0,
        host: str = "127.0.0.1",
        flags: str = "",
        open_slots: str = "",
    ) -> None:
        self.letter = letter
        self.epoch = epoch
        self.slots = slots
        self.master = master
        self.port = port or 7000 + ord(letter) - ord("a")
        self.host = host
        self.flags = flags
        self.open_slots = open_slots

    def line(self, myself: bool) -> str:
        """As CLUSTER NODES has it."""
        flags = ["myself"] if myself else []
        flags.append("slave" if self.master else "master")
        flags += [self.flags] if self.flags else []
        words = [
            node_id(self.letter),
            f"{self.host}:{self.port}@{self.port + 10000}",
            ",".join(flags),
            node_id(self.master) if self.master else "-",
            *("0", "1700000000000", str(self.epoch), "connected"),
            *self.slots.split(),
            *self.open_slots.split(),
        ]
        return " ".join(words)


def view(speaker: str, told: Sequence[Told]) -> View:
    """One node's view."""
    return parse_nodes("".join(f"{t.line(t.letter == speaker)}\n" for t in told))


def views(told: Sequence[Told], speakers: str = "") -> dict[str, View]:
    """The same view of all of them, or of these."""
    letters = speakers or "".join(t.letter for t in told)
    return {node_id(letter): view(letter, told) for letter in letters}
