"""What the nodes of a cluster say of it, and what follows from that: no I/O, plain functions.

Theory of operation.  Each node has a view of the whole cluster, which CLUSTER NODES tells. Views
differ while something changes, and some are old because their node cannot be reached. One
:class:`Topology` is made of all that is at hand:

- What is true of a node (its role, its master, the slots that it claims) changes together with a
  greater config epoch, or by its own decision. So of several lines about a node the one with the
  greatest epoch counts, and among equals the one of its own (``myself``).
- A slot belongs to the claimant with the greatest epoch; of two with the same one (nodes settle
  that soon) to the one with the smaller id, which is who gets the next epoch then.
- A node that nobody reaches is remembered as it was, until a line with a greater epoch, or, at the
  same epoch, any line of a view that is at hand says something else. A view that has forgotten
  everybody (CLUSTER RESET), or that is of another cluster by now, is no view of this one.

Nodes are known by id; where they are is what they say themselves, else what the others say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final

SLOTS: Final = 16384
ALL_SLOTS: Final = (1 << SLOTS) - 1
MOST_NODES: Final = 16384
# So many views are searched for what they say of others; of the rest only what nodes say of
# themselves counts. In a large cluster all of them would say the same, at a high price.
MOST_GOSSIP: Final = 16

_FIELDS: Final = 8


class TopologyError(ValueError):
    """What a node said is not CLUSTER NODES."""


class Line:
    """One line of CLUSTER NODES: what a node says of another one, or of itself.

    ``slots`` is a number whose bit n stands for slot n. A replica's ``epoch`` is that of its master
    as far as the speaker knows. ``host`` is "" where the speaker knows no address; it may be a name
    if there is no IP.
    """

    __slots__ = ("epoch", "flags", "host", "hostname", "id", "master", "port", "shard_id", "slots")

    def __init__(self, id: str) -> None:
        self.id = id
        self.host = ""
        self.port = 0
        self.hostname = ""
        self.shard_id = ""
        self.flags: frozenset[str] = frozenset()
        self.master = ""
        self.epoch = 0
        self.slots = 0

    @property
    def is_master(self) -> bool:
        return "master" in self.flags

    @property
    def is_member(self) -> bool:
        """Whether the speaker knows it for certain (no handshake is under way)."""
        return "handshake" not in self.flags

    @property
    def is_failing(self) -> bool:
        """Whether the speaker misses it."""
        return bool(self.flags & {"fail", "fail?"})

    @property
    def has_address(self) -> bool:
        return bool(self.host) and self.port > 0 and "noaddr" not in self.flags


class View:
    """What one node says of the cluster; ``lines`` by node id, without handshakes."""

    __slots__ = ("importing", "lines", "link", "migrating", "myself", "reached", "text")

    def __init__(self, myself: str, lines: dict[str, Line]) -> None:
        self.myself = myself
        self.lines = lines
        self.reached: tuple[str, int] | None = None  # the address where it was asked
        # For who asks again: the reply, and the connection on which it came.
        self.text = b""
        self.link: object = None
        self.migrating: dict[int, str] = {}  # slots on their way, to whom
        self.importing: dict[int, str] = {}  # and from whom

    @property
    def own(self) -> Line:
        """What the node says of itself."""
        return self.lines[self.myself]


def parse_nodes(text: str) -> View:
    """CLUSTER NODES of any Redis from 3.0 to 7.2, of Valkey, of Sentrio. Raises TopologyError."""
    lines: dict[str, Line] = {}
    myself = ""
    migrating: dict[int, str] = {}
    importing: dict[int, str] = {}
    rows = text.splitlines()
    if len(rows) > MOST_NODES:
        raise TopologyError(f"CLUSTER NODES of more than {MOST_NODES} nodes")
    for row in rows:
        if not row:
            continue
        try:
            line = _parse_line(row.split(" "), migrating, importing)
        except ValueError as error:
            raise TopologyError(f"not a line of CLUSTER NODES: {row[:200]!r} ({error})") from None
        if "myself" in line.flags:
            if myself:
                raise TopologyError("CLUSTER NODES with two lines of the node itself")
            myself = line.id
        if line.is_member:
            lines[line.id] = line
    if myself not in lines:
        raise TopologyError("CLUSTER NODES without a line of the node itself")
    view = View(myself, lines)
    view.migrating = migrating
    view.importing = importing
    return view


def _parse_line(words: list[str], migrating: dict[int, str], importing: dict[int, str]) -> Line:
    if len(words) < _FIELDS:
        raise ValueError(f"{len(words)} fields")
    if not words[0]:
        raise ValueError("no id")
    line = Line(words[0])
    place, *more = words[1].split(",")
    host, _, port = place.partition("@")[0].rpartition(":")
    host = host.strip("[]")
    for n, word in enumerate(more):
        # The host name, and after it what later versions add as name=value.
        name, equals, value = word.partition("=")
        if n == 0 and not equals:
            line.hostname = word
        elif name == "shard-id":
            line.shard_id = value
    line.host = line.hostname if host in ("", "?") else host
    line.port = int(port or 0)
    line.flags = frozenset(words[2].split(","))
    line.master = "" if words[3] == "-" else words[3]
    line.epoch = int(words[6])
    if line.epoch < 0 or not 0 <= line.port < 1 << 16:
        raise ValueError("a number out of bounds")
    for word in words[_FIELDS:]:
        if word.startswith("["):
            slot, _, other = word.strip("[]").partition("-")
            if other.startswith(">-"):
                migrating[int(slot)] = other[2:]
            elif other.startswith("<-"):
                importing[int(slot)] = other[2:]
            else:
                raise ValueError(word)
        elif word:
            line.slots |= parse_range(word)
    return line


def parse_range(text: str) -> int:
    """`5461-10922` or `7` as bits. Raises ValueError."""
    first, dash, last = text.partition("-")
    low = int(first)
    high = int(last) if dash else low
    if not 0 <= low <= high < SLOTS:
        raise ValueError(f"'{text}' is not within 0-{SLOTS - 1}")
    return ((1 << (high - low + 1)) - 1) << low


def find_ranges(slots: int) -> Iterator[tuple[int, int]]:
    """The runs of bits that are set, both ends included, in order."""
    start = 0
    while slots:
        skipped = (slots & -slots).bit_length() - 1
        slots >>= skipped
        start += skipped
        rest = slots + 1
        length = (rest & -rest).bit_length() - 1
        yield start, start + length - 1
        slots >>= length
        start += length


def format_slots(slots: int) -> str:
    """`0-99 200`, as CLUSTER NODES has it; "" for none."""
    return " ".join(str(a) if a == b else f"{a}-{b}" for a, b in find_ranges(slots))


class Node:
    """A node as all that is known tells; equal if all of that is equal.

    ``claimed`` are the slots that it takes for its own, ``slots`` those that nobody has a better
    claim to. ``own`` says that its own word counted (it can be reached, and nobody knows better).
    ``failing``: more of the others miss it than do not.
    """

    __slots__ = (
        "claimed",
        "epoch",
        "failing",
        "host",
        "hostname",
        "id",
        "master",
        "own",
        "port",
        "slots",
    )

    def __init__(self, id: str, host: str, port: int) -> None:
        self.id = id
        self.host = host
        self.port = port
        self.hostname = ""
        self.master = ""  # "" for masters
        self.epoch = 0
        self.claimed = 0
        self.slots = 0
        self.own = False
        self.failing = False

    @property
    def is_master(self) -> bool:
        return not self.master

    def __repr__(self) -> str:
        role = f"replica of {self.master[:8]}" if self.master else "master"
        return f"<{self.id[:8]} {self.host}:{self.port} {role} {self.epoch}>"


class Topology:
    """A cluster's nodes by id, each slot with one owner at most."""

    def __init__(self, nodes: Mapping[str, Node] | None = None) -> None:
        self.nodes = dict(nodes or {})

    @property
    def covered(self) -> int:
        """The slots that somebody has."""
        covered = 0
        for node in self.nodes.values():
            covered |= node.slots
        return covered

    def owners(self) -> list[Node]:
        """The masters that have slots, by their first one."""
        found = [node for node in self.nodes.values() if node.slots]
        return sorted(found, key=lambda node: node.slots & -node.slots)

    def owner(self, slot: int) -> Node | None:
        """Who has a slot."""
        return next((node for node in self.nodes.values() if node.slots >> slot & 1), None)

    def at(self, host: str, port: int) -> Node | None:
        """The node at an address; of several that have been there the one that can be reached."""
        found = [n for n in self.nodes.values() if n.port == port and n.host == host]
        return max(found, key=lambda node: node.own, default=None)

    def root(self, node: Node) -> Node | None:
        """The master at the end of a chain of replicas; None if it leads nowhere."""
        for _ in range(len(self.nodes)):
            if not node.master:
                return node
            above = self.nodes.get(node.master)
            if above is None:
                return None
            node = above
        return None


def is_of_cluster(view: View, known: Collection[str]) -> bool:
    """Whether a view is one of the cluster that has these nodes (none: whatever it is).

    One that has been reset, or has joined another cluster since, knows no other of them.
    """
    others = [node_id for node_id in known if node_id != view.myself]
    return not others or any(node_id in view.lines for node_id in others)


def merge(views: Mapping[str, View], before: Topology | None = None) -> Topology:
    """One topology out of the views at hand, by the node's id; ``before`` is what was known.

    Views that are not of this cluster are the caller's to leave out; the newest ones come last.
    Without any view everything stays as it was.
    """
    old = before.nodes if before is not None else {}
    if not views:
        return Topology(old)
    said: dict[str, list[Line]] = {node_id: [view.own] for node_id, view in views.items()}
    for view in _gossip(views):
        for line in view.lines.values():
            if line is not view.own:
                said.setdefault(line.id, []).append(line)
    known = set().union(*(view.lines.keys() for view in views.values()))
    nodes: dict[str, Node] = {}
    for node_id, lines in said.items():
        nodes[node_id] = _judge(node_id, views.get(node_id), lines, old.get(node_id))
    for node_id in old.keys() - said.keys():
        if node_id in known or not _is_forgotten(views, old):
            nodes[node_id] = _copy(old[node_id])
    _settle_slots(nodes.values())
    return Topology(nodes)


def find_outdated(views: Mapping[str, View]) -> set[str]:
    """The nodes whose own view is older than what another one says of them: to be asked again."""
    outdated: set[str] = set()
    for view in _gossip(views):
        for line in view.lines.values():
            own = views.get(line.id)
            if own is not None and own is not view and _knows_better(line, own.own):
                outdated.add(line.id)
    return outdated


def _gossip(views: Mapping[str, View]) -> list[View]:
    """The newest views."""
    return list(views.values())[-MOST_GOSSIP:]


def _knows_better(line: Line, own: Line) -> bool:
    """Whether what another one says of a node is newer than its own last word.

    Only a node itself takes another epoch, so a greater one is news of it; except that a replica's
    is its master's, which may grow although the replica stays as it is.
    """
    return line.epoch > own.epoch and (line.is_master or line.master != own.master)


def _judge(node_id: str, view: View | None, lines: list[Line], old: Node | None) -> Node:
    """What to make of all lines about one node, and of its own view if that is at hand."""
    own = view.own if view is not None else None
    best = _choose(lines)
    if own is not None and not _knows_better(best, own):
        best = own
    node = Node(node_id, *_locate(view, lines, old))
    others = [line for line in lines if line is not own]
    node.failing = sum(line.is_failing for line in others) * 2 > len(others)
    node.own = best is own
    named = own if own is not None else best
    node.hostname = named.hostname
    if own is None and old is not None and _outranks(old, best):
        node.master, node.epoch, node.claimed = old.master, old.epoch, old.claimed
    else:
        node.master, node.epoch, node.claimed = best.master, best.epoch, best.slots
    if node.master == node_id:
        node.master = ""
    return node


def _choose(lines: list[Line]) -> Line:
    """The newest line about a node; of several, what most say.

    Who has not heard of it may miss slots that it got last, or leave it some that it gave away.
    """
    newest = max((line.epoch, line.is_master) for line in lines)
    able = [line for line in lines if (line.epoch, line.is_master) == newest]
    said = Counter((line.slots, line.master) for line in able)
    return max(able, key=lambda line: (said[line.slots, line.master], -line.slots, line.master))


def _outranks(old: Node, line: Line) -> bool:
    """Whether what was known of a node is newer than what is said of it now.

    One that has nothing may follow a master whose epoch is smaller than its own has been.
    """
    return bool(old.claimed) and old.epoch > line.epoch


def _locate(view: View | None, lines: list[Line], old: Node | None) -> tuple[str, int]:
    """Where a node is: by its own word, by most of those who do not miss it, by most.

    If nobody knows, where it was reached, or was before; ("", 0) if it has never been anywhere.
    """
    if view is not None and view.own.has_address:
        return view.own.host, view.own.port
    others = [line for line in lines if line.has_address]
    for group in ([line for line in others if not line.is_failing], others):
        places = Counter((line.host, line.port) for line in group)
        if places:
            return max(places, key=lambda place: (places[place], place))
    if view is not None and view.reached is not None:
        return view.reached
    if old is not None:
        return old.host, old.port
    return "", 0


def _is_forgotten(views: Mapping[str, View], old: Mapping[str, Node]) -> bool:
    """Whether enough nodes have been asked to say that one that none of them knows is gone.

    That are half of the masters with slots; a few who cannot know would be no proof.
    """
    owners = [node.id for node in old.values() if node.slots]
    return sum(node_id in views for node_id in owners) * 2 >= len(owners)


def _copy(node: Node) -> Node:
    copy = Node(node.id, node.host, node.port)
    copy.hostname = node.hostname
    copy.master, copy.epoch, copy.claimed = node.master, node.epoch, node.claimed
    copy.failing = node.failing
    return copy


def _settle_slots(nodes: Collection[Node]) -> None:
    """Give each slot to the best claimant."""
    free = ALL_SLOTS
    claimants = [node for node in nodes if node.is_master and node.claimed]
    for node in sorted(claimants, key=lambda node: (-node.epoch, node.id)):
        node.slots = node.claimed & free
        free &= ~node.slots


class Difference:
    """What has changed between two topologies; ids, and for slots who has got which."""

    def __init__(self) -> None:
        self.added: list[str] = []
        self.removed: list[str] = []
        self.moved: list[str] = []  # to another address
        self.promoted: list[str] = []  # was a replica, is a master
        self.demoted: list[str] = []  # was a master, is a replica
        self.repointed: list[str] = []  # a replica of another master now
        self.gained: dict[str, int] = {}
        self.lost: dict[str, int] = {}

    def __bool__(self) -> bool:
        return any(vars(self).values())


def compare(before: Topology, after: Topology) -> Difference:
    """What has changed."""
    found = Difference()
    found.added = sorted(after.nodes.keys() - before.nodes.keys())
    found.removed = sorted(before.nodes.keys() - after.nodes.keys())
    for node_id in sorted(before.nodes.keys() | after.nodes.keys()):
        old, new = before.nodes.get(node_id), after.nodes.get(node_id)
        had = old.slots if old is not None else 0
        has = new.slots if new is not None else 0
        if has & ~had:
            found.gained[node_id] = has & ~had
        if had & ~has:
            found.lost[node_id] = had & ~has
        if old is None or new is None:
            continue
        if (old.host, old.port) != (new.host, new.port):
            found.moved.append(node_id)
        if old.master != new.master:
            if not new.master:
                found.promoted.append(node_id)
            elif not old.master:
                found.demoted.append(node_id)
            else:
                found.repointed.append(node_id)
    return found


def count_agreeing(views: Iterable[View], node_id: str, slots: int) -> tuple[int, int]:
    """How many of these views say that the node is a master with at least these slots; of how many.

    Its own view is not asked.
    """
    agreeing = asked = 0
    for view in views:
        if view.myself == node_id:
            continue
        asked += 1
        line = view.lines.get(node_id)
        if line is not None and line.is_master and line.slots & slots == slots:
            agreeing += 1
    return agreeing, asked
