"""What is wrong with a cluster, as `check` tells it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from cluster.tool.picture import Picture
from cluster.tool.view import SLOTS, format_ranges

UNCOVERED: Final = "uncovered"
OPEN: Final = "open"
DISAGREEMENT: Final = "disagreement"
CLAIMED_TWICE: Final = "claimed-twice"
STRAYS: Final = "strays"
EPOCHS: Final = "epochs"
UNREACHABLE: Final = "unreachable"
STATE: Final = "state"

SHOWN: Final = 12


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. A warning is nothing that `fix` would mend."""

    kind: str
    text: str
    slots: tuple[int, ...] = ()
    nodes: tuple[str, ...] = ()
    warning: bool = False

    def as_json(self) -> dict[str, Any]:
        """For `--json`: the slots as ranges."""
        fields = asdict(self)
        fields["slots"] = format_ranges(self.slots) if self.slots else ""
        fields["nodes"] = list(self.nodes)
        fields["severity"] = "warning" if fields.pop("warning") else "error"
        return fields


Strays = Mapping[int, Mapping[str, int]]
"""For slots with keys where they should not be: how many, by node."""


def diagnose(picture: Picture, strays: Strays | None = None) -> list[Finding]:
    """Everything there is to say, the worst first. ``strays`` None: nobody has counted."""
    return [
        *_find_gaps(picture),
        *_find_double_claims(picture),
        *_find_disagreement(picture),
        *_find_open_slots(picture),
        *_find_strays(picture, strays or {}),
        *_find_absent(picture),
        *_find_epochs(picture),
        *_find_states(picture),
    ]


def blocking(findings: list[Finding]) -> list[Finding]:
    """Those that a reshard or a change of the members must not meet."""
    return [finding for finding in findings if not finding.warning]


def _find_gaps(picture: Picture) -> list[Finding]:
    gaps = picture.uncovered()
    if not gaps:
        return []
    text = f"{len(gaps)} of {SLOTS} slots are covered by no reachable master: "
    return [Finding(UNCOVERED, text + format_ranges(gaps, SHOWN), tuple(sorted(gaps)))]


def _find_double_claims(picture: Picture) -> list[Finding]:
    claims: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for slot, ids in picture.owners().items():
        if len(ids) > 1:
            claims[tuple(ids)].append(slot)
    return [
        Finding(
            CLAIMED_TWICE,
            f"Slots {format_ranges(slots, SHOWN)} are claimed by "
            + " and ".join(picture.name(node_id) for node_id in ids),
            tuple(sorted(slots)),
            ids,
        )
        for ids, slots in claims.items()
    ]


def disputed(picture: Picture) -> dict[int, dict[str, list[str]]]:
    """For each slot whose owner is not the same in all views: the owners, and who says so."""
    if picture.agreed():
        return {}
    opinions: dict[int, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for member in picture.members.values():
        table = [""] * SLOTS
        for node_id, line in member.view.nodes.items():
            for slot in line.slots:
                table[slot] = node_id
        for slot, node_id in enumerate(table):
            opinions[slot][node_id].append(member.id)
    return {slot: dict(found) for slot, found in opinions.items() if len(found) > 1}


def _find_disagreement(picture: Picture) -> list[Finding]:
    disputes = disputed(picture)
    if not disputes:
        return []
    slots = sorted(disputes)
    said = "; ".join(
        f"{', '.join(picture.name(node_id) for node_id in voices[:3])}"
        f"{f' and {len(voices) - 3} more' if len(voices) > 3 else ''} "
        f"say{'s' if len(voices) == 1 else ''} {picture.name(owner)}"
        for owner, voices in disputes[slots[0]].items()
    )
    text = f"Nodes disagree about the owners of {len(slots)} slots ({format_ranges(slots, SHOWN)})"
    return [Finding(DISAGREEMENT, f"{text}: of slot {slots[0]} {said}", tuple(slots))]


def _find_open_slots(picture: Picture) -> list[Finding]:
    groups: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for slot, (migrating, importing) in picture.open_slots().items():
        for node_id, other in migrating.items():
            groups["migrating to", node_id, other].append(slot)
        for node_id, other in importing.items():
            groups["importing from", node_id, other].append(slot)
    return [
        Finding(
            OPEN,
            f"Slots {format_ranges(slots, SHOWN)} are open: {picture.name(node_id)} is {how} "
            f"{picture.name(other)}",
            tuple(slots),
            (node_id, other),
        )
        for (how, node_id, other), slots in groups.items()
    ]


def _find_strays(picture: Picture, strays: Strays) -> list[Finding]:
    slots: dict[str, list[int]] = defaultdict(list)
    keys: dict[str, int] = defaultdict(int)
    open_slots = picture.open_slots()
    for slot, counts in strays.items():
        if slot in open_slots:
            continue  # keys on both sides are what an open slot is for
        for node_id, count in counts.items():
            slots[node_id].append(slot)
            keys[node_id] += count
    return [
        Finding(
            STRAYS,
            f"{picture.name(node_id)} holds {keys[node_id]} keys of slots that are not its own: "
            + format_ranges(slots[node_id], SHOWN),
            tuple(sorted(slots[node_id])),
            (node_id,),
        )
        for node_id in sorted(slots)
    ]


def _find_absent(picture: Picture) -> list[Finding]:
    found = []
    for node_id, line in picture.absent.items():
        role = "master" if line.is_master else "replica"
        has = f" with {len(line.slots)} slots" if line.slots else ""
        reason = picture.reasons.get(node_id, "no answer")
        text = f"The {role} {node_id[:8]}{has} cannot be reached: {reason}"
        found.append(
            Finding(UNREACHABLE, text, tuple(sorted(line.slots)), (node_id,), warning=True)
        )
    return found


def _find_epochs(picture: Picture) -> list[Finding]:
    found = []
    by_epoch: dict[int, list[str]] = defaultdict(list)
    for master in picture.masters():
        own = master.me.epoch
        if master.me.slots:
            by_epoch[own].append(master.id)
        others = [
            f"{other.name} says {other.view.nodes[master.id].epoch}"
            for other in picture.members.values()
            if master.id in other.view.nodes and other.view.nodes[master.id].epoch != own
        ]
        if others:
            text = f"The config epoch of {master.name} is {own}, but " + ", ".join(others[:3])
            found.append(Finding(EPOCHS, text, (), (master.id,), warning=True))
    for epoch, ids in by_epoch.items():
        if len(ids) > 1:
            names = " and ".join(picture.name(node_id) for node_id in ids)
            text = f"The config epoch {epoch} is that of {names}"
            found.append(Finding(EPOCHS, text, (), tuple(ids), warning=True))
    return found


def _find_states(picture: Picture) -> list[Finding]:
    bad = [member for member in picture.members.values() if member.state != "ok"]
    if not bad or picture.uncovered():
        return []
    names = ", ".join(member.name for member in bad[:3])
    more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
    text = f"cluster_state is not ok on {names}{more}"
    return [Finding(STATE, text, (), tuple(m.id for m in bad), warning=True)]
