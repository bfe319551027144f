"""Which slots move: pure functions of who has what."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from cluster.tool.errors import Refused

Slots = Mapping[str, Collection[int]]


@dataclass(frozen=True, slots=True)
class Move:
    """One slot from one master to another."""

    slot: int
    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Share:
    """A master in a rebalance: what it has and what it should have."""

    id: str
    weight: float
    slots: int
    expected: int


def apportion(
    total: int, parts: Mapping[str, float], have: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Whole numbers in proportion to the parts, with exactly this sum (largest remainders).

    Of equal remainders, those are preferred who ``have`` the most beyond their whole share.
    """
    held = have or {}
    whole = sum(parts.values())
    if whole <= 0:
        return dict.fromkeys(parts, 0)
    exact = {node_id: total * part / whole for node_id, part in parts.items()}
    shares = {node_id: int(value) for node_id, value in exact.items()}
    short = total - sum(shares.values())
    for node_id in sorted(
        exact, key=lambda id: (round(shares[id] - exact[id], 9), shares[id] - held.get(id, 0), id)
    )[:short]:
        shares[node_id] += 1
    return shares


def plan_reshard(slots: Slots, sources: Sequence[str], target: str, count: int) -> list[Move]:
    """So many slots to the target, from each source in proportion to what it has.

    Raises Refused.
    """
    if target in sources:
        raise Refused("The target is one of the sources")
    have = {node_id: len(slots[node_id]) for node_id in sources}
    if count > sum(have.values()):
        raise Refused(f"{count} slots are to move, but the sources have {sum(have.values())}")
    shares = apportion(count, {node_id: float(n) for node_id, n in have.items()})
    moves: list[Move] = []
    for node_id in sorted(sources, key=lambda node_id: (-have[node_id], node_id)):
        moves += [Move(slot, node_id, target) for slot in sorted(slots[node_id])[: shares[node_id]]]
    return moves


def plan_slots(slots: Slots, wanted: Collection[int], target: str) -> list[Move]:
    """These slots to the target, from whoever has them. Raises Refused for a slot of nobody."""
    owners = {slot: node_id for node_id, held in slots.items() for slot in held}
    missing = [slot for slot in wanted if slot not in owners]
    if missing:
        raise Refused(f"Slot {missing[0]} belongs to no reachable master")
    return [Move(slot, owners[slot], target) for slot in sorted(wanted) if owners[slot] != target]


def share_out(slots: Slots, weights: Mapping[str, float], use_empty: bool) -> list[Share]:
    """What each master should have; those without slots and weight are left alone.

    A weight that is not given is 1, and 0 empties a master. Raises Refused.
    """
    involved: dict[str, float] = {}
    for node_id in sorted(slots):
        if slots[node_id] or use_empty:
            involved[node_id] = weights.get(node_id, 1.0)
        elif weights.get(node_id):
            raise Refused(f"{node_id} has a weight but no slots: it takes --use-empty-masters")
    if sum(involved.values()) <= 0:
        raise Refused("No master is to have any slots")
    have = {node_id: len(slots[node_id]) for node_id in involved}
    expected = apportion(sum(have.values()), involved, have)
    return [
        Share(node_id, weight, len(slots[node_id]), expected[node_id])
        for node_id, weight in involved.items()
    ]


def exceeds(shares: Sequence[Share], threshold: float) -> bool:
    """Whether some master is off by more than so many percent of its slots."""
    for share in shares:
        if not share.slots:
            if share.expected > 1:
                return True
        elif abs(100 - 100 * share.expected / share.slots) > threshold:
            return True
    return False


def plan_rebalance(slots: Slots, shares: Sequence[Share]) -> list[Move]:
    """From those with too many to those with too few, the greatest difference first."""
    surplus = {share.id: share.slots - share.expected for share in shares}
    order = sorted(surplus, key=lambda node_id: (-surplus[node_id], node_id))
    missing = {node_id: -surplus[node_id] for node_id in reversed(order) if surplus[node_id] < 0}
    moves: list[Move] = []
    for source in order:
        leaving = sorted(slots[source])[: max(0, surplus[source])]
        for target, wanted in missing.items():
            taken = min(wanted, len(leaving))
            moves += [Move(slot, source, target) for slot in leaving[:taken]]
            leaving = leaving[taken:]
            missing[target] = wanted - taken
    return moves


def remaining(moves: Sequence[Move], owners: Mapping[int, str]) -> list[Move]:
    """What is left of a plan, given who has the slots now: from there on, to the same targets."""
    return [
        Move(move.slot, owners.get(move.slot, move.source), move.target)
        for move in moves
        if owners.get(move.slot) != move.target
    ]


def gather(moves: Sequence[Move]) -> dict[tuple[str, str], list[int]]:
    """The slots by source and target, in the plan's order."""
    routes: dict[tuple[str, str], list[int]] = {}
    for move in moves:
        routes.setdefault((move.source, move.target), []).append(move.slot)
    return routes


def cut_groups(
    slots: Sequence[int], keys: Mapping[int, int], most_slots: int, most_keys: int
) -> list[list[int]]:
    """The slots in groups that are open at the same time: many small ones, or one that is not."""
    groups: list[list[int]] = []
    held = 0
    for slot in slots:
        count = keys.get(slot, 0)
        if not groups or len(groups[-1]) >= most_slots or held + count > most_keys:
            groups.append([])
            held = 0
        groups[-1].append(slot)
        held += count
    return groups
