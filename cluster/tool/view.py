"""What one node thinks of the cluster: CLUSTER NODES, parsed, and the notation of slots."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cluster.tool.connection import Address

SLOTS: Final = 16384


class ViewError(ValueError):
    """What a node said is not CLUSTER NODES."""


@dataclass(frozen=True, slots=True)
class NodeLine:
    """One line of CLUSTER NODES; ``master`` is empty for masters."""

    id: str
    address: Address
    bus_port: int
    hostname: str
    flags: frozenset[str]
    master: str
    epoch: int
    linked: bool
    slots: frozenset[int]

    @property
    def is_master(self) -> bool:
        """Whether it holds slots of its own, or could."""
        return "master" in self.flags

    @property
    def usable(self) -> bool:
        """Whether there is an address where it may answer."""
        return not self.flags & {"noaddr", "handshake"} and self.address.port > 0

    @property
    def failing(self) -> bool:
        """Whether the node with this view has lost it."""
        return bool(self.flags & {"fail", "fail?"})


@dataclass(frozen=True, slots=True)
class View:
    """All lines by node id; the slots that this node moves, each with the other side's id."""

    myself: str
    nodes: dict[str, NodeLine]
    migrating: dict[int, str]
    importing: dict[int, str]

    @property
    def me(self) -> NodeLine:
        """The line of the node whose view it is."""
        return self.nodes[self.myself]

    def known(self) -> dict[str, NodeLine]:
        """The nodes that are members (no handshake is under way)."""
        return {
            node_id: line for node_id, line in self.nodes.items() if "handshake" not in line.flags
        }

    def owner(self, slot: int) -> str:
        """Who has the slot as this node sees it; empty if nobody."""
        for node_id, line in self.nodes.items():
            if slot in line.slots:
                return node_id
        return ""

    def ownership(self) -> frozenset[tuple[str, frozenset[int]]]:
        """Who has which slots, to compare with other views."""
        return frozenset(
            (node_id, line.slots) for node_id, line in self.nodes.items() if line.slots
        )


def parse_nodes(text: str) -> View:
    """CLUSTER NODES' text. Raises ViewError."""
    nodes: dict[str, NodeLine] = {}
    migrating: dict[int, str] = {}
    importing: dict[int, str] = {}
    myself = ""
    for row in text.splitlines():
        if not row:
            continue
        words = row.split(" ")
        if len(words) < 8:
            raise ViewError(f"not a line of CLUSTER NODES: {row!r}")
        try:
            line = _parse_line(words, migrating, importing)
        except ValueError as error:
            raise ViewError(f"not a line of CLUSTER NODES: {row!r} ({error})") from None
        nodes[line.id] = line
        if "myself" in line.flags:
            myself = line.id
    if not myself:
        raise ViewError("CLUSTER NODES without a line of the node itself")
    return View(myself, nodes, migrating, importing)


def _parse_line(words: list[str], migrating: dict[int, str], importing: dict[int, str]) -> NodeLine:
    address, _, hostname = words[1].partition(",")
    # The auxiliary fields of later versions (`shard-id=...`) follow the hostname.
    hostname = hostname.partition(",")[0]
    place, _, bus_port = address.partition("@")
    host, _, port = place.rpartition(":")
    slots: set[int] = set()
    for word in words[8:]:
        if word.startswith("["):
            slot, _, other = word.strip("[]").partition("-")
            if other.startswith(">-"):
                migrating[int(slot)] = other[2:]
            elif other.startswith("<-"):
                importing[int(slot)] = other[2:]
            else:
                raise ValueError(word)
        elif word:
            slots.update(parse_ranges(word))
    return NodeLine(
        id=words[0],
        address=Address(host.strip("[]"), int(port or 0)),
        bus_port=int(bus_port or 0),
        hostname=hostname,
        flags=frozenset(words[2].split(",")) - {"noflags"},
        master="" if words[3] == "-" else words[3],
        epoch=int(words[6]),
        linked=words[7] == "connected",
        slots=frozenset(slots),
    )


def parse_ranges(text: str) -> list[int]:
    """`0-99,200` as slots, ascending. Raises ValueError."""
    slots: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise ValueError(f"'{part}' is neither a slot nor a range of slots")
        low, high = int(first), int(last) if dash else int(first)
        if not low <= high < SLOTS:
            raise ValueError(f"'{part}' is not within 0-{SLOTS - 1}")
        slots.update(range(low, high + 1))
    return sorted(slots)


def list_ranges(slots: Iterable[int]) -> list[tuple[int, int]]:
    """The slots as ranges, both ends included."""
    ranges: list[tuple[int, int]] = []
    for slot in sorted(slots):
        if ranges and ranges[-1][1] == slot - 1:
            ranges[-1] = (ranges[-1][0], slot)
        else:
            ranges.append((slot, slot))
    return ranges


def format_ranges(slots: Iterable[int], most: int = 0) -> str:
    """`0-99,200`, or `-` for none; with ``most``, so many ranges and how many there are more."""
    ranges = list_ranges(slots)
    if not ranges:
        return "-"
    shown = ranges[:most] if most else ranges
    text = ",".join(str(a) if a == b else f"{a}-{b}" for a, b in shown)
    more = len(ranges) - len(shown)
    return f"{text} and {more} more" if more else text
