"""What mends a slot: a pure function of who claims it, who has opened it and who has its keys.

Theory of operation. A slot has one owner in the end. Who that is, is clear where exactly one master
claims the slot; with several claims it is the one with most keys, then the greatest config epoch;
with none, whoever has most keys, or the master with the fewest slots. Then, in this order:

1. the owner takes the slot, if it had not, and whoever else claims it gives it up;
2. a migration that both sides know about (or whose target holds keys) goes on to its end, and the
   target is the owner from there on;
3. keys on any other master come to the owner;
4. whatever is still open is closed.

These are the cases of `redis-cli --cluster fix`, with those it does not know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cluster.tool.picture import Picture


@dataclass(frozen=True, slots=True)
class SlotState:
    """All that masters say about a slot; ``migrating`` and ``importing`` tell the other side."""

    slot: int
    owners: tuple[str, ...]
    migrating: Mapping[str, str]
    importing: Mapping[str, str]
    keys: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Repair:
    """What is to be done about a slot, in this order; ``reason`` is for people.

    ``owner`` takes the slot if ``claim`` is set, ``renounce`` give it up; with ``finish`` the slot
    moves on to that master; keys of ``collect`` come to who is the owner then; ``close`` are set
    STABLE.
    """

    slot: int
    reason: str
    owner: str
    claim: bool = False
    renounce: tuple[str, ...] = ()
    finish: str = ""
    collect: tuple[str, ...] = ()
    close: tuple[str, ...] = ()

    @property
    def last_owner(self) -> str:
        """Who has the slot in the end."""
        return self.finish or self.owner


def decide(
    state: SlotState, masters: Mapping[str, tuple[int, int]], choice: str = ""
) -> Repair | None:
    """What mends the slot; None if nothing is wrong with it.

    ``masters`` are the reachable ones: config epoch, number of slots. ``choice`` is who gets a slot
    of which there is no trace.
    """
    holders = {node_id: n for node_id, n in state.keys.items() if n and node_id in masters}
    reasons: list[str] = []
    claim = False

    def weight(node_id: str) -> tuple[int, int, str]:
        return holders.get(node_id, 0), masters[node_id][0], node_id

    owners = [node_id for node_id in state.owners if node_id in masters]
    if len(owners) == 1:
        owner = owners[0]
    elif owners:
        owner = max(owners, key=weight)
        claim = True
        reasons.append("several masters claim it")
    else:
        candidates = list(holders) or [node_id for node_id in state.importing if node_id in masters]
        owner = max(candidates, key=weight) if candidates else choice
        if not owner:
            return None
        claim = True
        reasons.append("nobody has it" if not holders else "only its keys say whose it is")
    renounce = tuple(sorted(set(owners) - {owner}))

    finish = ""
    target = state.migrating.get(owner, "")
    if target in masters and target != owner and not claim:
        if state.importing.get(target) == owner or holders.get(target):
            finish = target
            reasons.append("a move is unfinished")
    last = finish or owner
    collect = tuple(sorted(set(holders) - {last, owner}))
    if not finish and owner not in holders and not collect and state.migrating.get(owner):
        reasons.append("a move has not begun")
    if collect:
        reasons.append("keys are where they do not belong")
    opened = (set(state.migrating) | set(state.importing)) & set(masters)
    # The move itself closes both of its sides.
    close = tuple(sorted(opened - ({owner, finish} if finish else set())))
    if close and not reasons:
        reasons.append("it is open for nothing")
    if not (claim or renounce or finish or collect or close):
        return None
    return Repair(state.slot, "; ".join(reasons), owner, claim, renounce, finish, collect, close)


def slots_to_examine(picture: Picture) -> list[int]:
    """The slots that something may be wrong with, apart from strays."""
    doubtful = picture.uncovered() | set(picture.open_slots())
    doubtful |= {slot for slot, ids in picture.owners().items() if len(ids) > 1}
    return sorted(doubtful)


def plan_repairs(
    picture: Picture, slots: Sequence[int], keys: Mapping[int, Mapping[str, int]]
) -> list[Repair]:
    """What mends these slots. ``keys`` are the counts of each slot's keys on every master.

    Slots of nobody go to those who have the fewest.
    """
    masters = {m.id: (m.me.epoch, len(m.me.slots)) for m in picture.masters()}
    load = {m.id: len(m.me.slots) for m in picture.masters()}
    owners = picture.owners()
    open_slots = picture.open_slots()
    repairs: list[Repair] = []
    for slot in slots:
        migrating, importing = open_slots.get(slot, ({}, {}))
        state = SlotState(
            slot, tuple(owners.get(slot, ())), migrating, importing, keys.get(slot, {})
        )
        choice = min(load, key=lambda node_id: (load[node_id], node_id)) if load else ""
        repair = decide(state, masters, choice)
        if repair:
            repairs.append(repair)
            if repair.claim:
                load[repair.owner] += 1
    return repairs
