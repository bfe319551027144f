"""The layout of a new cluster: masters, their slots, and replicas away from their masters.

The rules are redis-cli's, without its dice: the same nodes in the same order always get the same
layout, so that a `create` that stopped half-way can be run again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cluster.tool.connection import Address
from cluster.tool.errors import Refused
from cluster.tool.view import SLOTS

FEWEST_MASTERS: Final = 3
MASTER_TOGETHER: Final = 10000
"""What it costs when a replica shares the host with its master; two replicas on one host: 1."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a node is to be: a master with slots, or the replica of one."""

    address: Address
    slots: range | None = None
    master: Address | None = None


def plan_layout(nodes: Sequence[Address], replicas: int) -> list[Place]:
    """Masters first, then replicas. Raises Refused where there are too few nodes."""
    if len(set(nodes)) != len(nodes):
        raise Refused("A node is named twice")
    count = len(nodes) // (replicas + 1)
    if count < FEWEST_MASTERS:
        raise Refused(
            f"A cluster needs at least {FEWEST_MASTERS} masters: with {replicas} replicas for each "
            f"these are {FEWEST_MASTERS * (replicas + 1)} nodes, not {len(nodes)}"
        )
    mixed = _interleave(nodes)
    masters = mixed[:count]
    groups: list[list[Address]] = [[] for _ in masters]
    waiting = mixed[count:]
    # In rounds, so that nodes to spare become further replicas of different masters.
    turn = 0
    while waiting:
        index = turn % count
        group = [masters[index], *groups[index]]
        best = min(range(len(waiting)), key=lambda at: _cost([*group, waiting[at]]))
        groups[index].append(waiting.pop(best))
        turn += 1
    _spread(masters, groups)
    places = [
        Place(master, slots=share)
        for master, share in zip(masters, share_slots(count), strict=True)
    ]
    for master, group in zip(masters, groups, strict=True):
        places += [Place(replica, master=master) for replica in group]
    return places


def share_slots(count: int) -> list[range]:
    """All slots in so many ranges, as equal as can be."""
    share = SLOTS / count
    ends = [int(share * (n + 1) + 0.5) for n in range(count)]
    return [range(a, b) for a, b in zip([0, *ends], [*ends[:-1], SLOTS], strict=False)]


def count_together(places: Sequence[Place]) -> int:
    """How many replicas are on the host of their master."""
    return sum(
        place.master is not None and place.master.host == place.address.host for place in places
    )


def _interleave(nodes: Sequence[Address]) -> list[Address]:
    """One node of each host in turn."""
    hosts: dict[str, list[Address]] = {}
    for node in nodes:
        hosts.setdefault(node.host, []).append(node)
    mixed: list[Address] = []
    while any(hosts.values()):
        mixed += [queue.pop(0) for queue in hosts.values() if queue]
    return mixed


def _cost(group: Sequence[Address]) -> int:
    """How badly a master (the first) and its replicas are spread."""
    hosts = Counter(node.host for node in group[1:])
    return hosts[group[0].host] * MASTER_TOGETHER + sum(n - 1 for n in hosts.values())


def _spread(masters: Sequence[Address], groups: list[list[Address]]) -> None:
    """Exchange replicas as long as it makes the layout better."""
    better = True
    while better:
        better = False
        for a in range(len(groups)):
            for b in range(a + 1, len(groups)):
                better |= _exchange(masters[a], groups[a], masters[b], groups[b])


def _exchange(m: Address, ours: list[Address], n: Address, theirs: list[Address]) -> bool:
    done = False
    for i in range(len(ours)):
        for j in range(len(theirs)):
            before = _cost([m, *ours]) + _cost([n, *theirs])
            ours[i], theirs[j] = theirs[j], ours[i]
            if _cost([m, *ours]) + _cost([n, *theirs]) < before:
                done = True
            else:
                ours[i], theirs[j] = theirs[j], ours[i]
    return done
