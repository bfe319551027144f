"""Clusters for the tests of the tool, written as their nodes would tell of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cluster.tool.connection import Address
from cluster.tool.picture import Member, Picture
from cluster.tool.view import format_ranges, parse_nodes


def node_id(number: int) -> str:
    """The id of the node of that number."""
    return f"{number:040x}"


@dataclass(slots=True)
class Node:
    """A node as it is; ``slots``, ``epoch`` and the open slots are its own word."""

    number: int
    slots: Iterable[int] = ()
    master: int | None = None
    epoch: int = 0
    migrating: Mapping[int, int] = field(default_factory=dict)
    importing: Mapping[int, int] = field(default_factory=dict)
    keys: int = 0

    @property
    def id(self) -> str:
        """Its id."""
        return node_id(self.number)

    def line(self, by: Node) -> str:
        """Its line in the view of another (or its own)."""
        flags = "master" if self.master is None else "slave"
        words = [
            self.id,
            f"127.0.0.1:{7000 + self.number}@{17000 + self.number}",
            f"myself,{flags}" if by is self else flags,
            "-" if self.master is None else node_id(self.master),
            "0",
            "0",
            str(self.epoch),
            "connected",
        ]
        if self.slots:
            words += format_ranges(self.slots).split(",")
        if by is self:
            words += [f"[{slot}->-{node_id(other)}]" for slot, other in self.migrating.items()]
            words += [f"[{slot}-<-{node_id(other)}]" for slot, other in self.importing.items()]
        return " ".join(words)


def member(node: Node, seen: Iterable[Node]) -> Member:
    """A node that answers, and how it sees the others."""
    text = "\n".join(other.line(node) for other in seen)
    return Member(Address("127.0.0.1", 7000 + node.number), parse_nodes(text), node.keys)


def picture(*nodes: Node) -> Picture:
    """A cluster whose nodes all tell the truth of each other."""
    return Picture({node.id: member(node, nodes) for node in nodes})
