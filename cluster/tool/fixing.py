"""`fix`: mends what :mod:`cluster.tool.diagnosis` finds, as :mod:`cluster.tool.repair` says."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Final

import trio

from cluster.tool.connection import ErrorReply, Word
from cluster.tool.diagnosis import EPOCHS, Finding, blocking, diagnose, disputed
from cluster.tool.display import Display
from cluster.tool.errors import Failed, Refused, Unreachable
from cluster.tool.fleet import POLL_INTERVAL, Fleet
from cluster.tool.mover import Disturbed, MoveOptions, Mover, execute_moves
from cluster.tool.picture import Picture
from cluster.tool.planning import Move
from cluster.tool.repair import Repair, plan_repairs, slots_to_examine
from cluster.tool.view import format_ranges

SETTLE_LIMIT: Final = 5.0
"""Seconds that gossip gets to settle a disagreement by itself."""
STATE_LIMIT: Final = 30.0


async def fix(
    fleet: Fleet, options: MoveOptions, despite_absent: bool, display: Display
) -> tuple[dict[str, Any], bool]:
    """Mend everything; the JSON document, and whether the cluster is well in the end.

    Raises Refused where masters with slots are unreachable, unless that is to be ignored.
    """
    picture = await settle(fleet)
    strays = await fleet.find_strays(picture)
    found = diagnose(picture, strays)
    show_findings(found, display)
    repairs = await examine(fleet, picture, sorted({*slots_to_examine(picture), *strays}))
    if picture.absent_masters() and any(repair.claim for repair in repairs):
        names = ", ".join(picture.name(line.id) for line in picture.absent_masters())
        if not despite_absent:
            raise Refused(
                f"Masters with slots cannot be reached: {names}. To give their slots to others may "
                "lose what they hold: bring them back, or make a replica master by `sentrio "
                "cluster failover --takeover`; --fix-with-unreachable-masters goes on all the same"
            )
        display.warn(f"The slots of {names} go to others, whatever keys they hold")
    epochs = [finding for finding in found if finding.kind == EPOCHS]
    disputes = disputed(picture)
    document: dict[str, Any] = {
        "found": [finding.as_json() for finding in found],
        "repairs": describe_repairs(repairs),
        "changed": False,
    }
    if not repairs and not disputes and not epochs:
        if not blocking(found):
            display.good("There is nothing to mend")
        return document, not blocking(found)
    show_repairs(repairs, picture, display)
    if disputes:
        display.say(f"All nodes are told whose {len(disputes)} disputed slots are")
    if epochs:
        display.say("Masters whose config epochs are in doubt take new ones")
    if display.dry_run:
        return document, not blocking(found)
    display.confirm("Mend this?")
    await apply_repairs(fleet, picture, repairs, options, display)
    await _settle_disputes(fleet)
    await _settle_epochs(fleet)
    picture = await settle(fleet)
    left = diagnose(picture, await fleet.find_strays(picture))
    document["left"] = [finding.as_json() for finding in left]
    document["changed"] = True
    if blocking(left):
        display.step("What is left")
        show_findings(left, display)
    else:
        display.good("The cluster is well")
    return document, not blocking(left)


async def settle(fleet: Fleet, limit: float = SETTLE_LIMIT) -> Picture:
    """The cluster, after a while for what gossip settles by itself."""
    deadline = trio.current_time() + limit
    while True:
        picture = await fleet.survey()
        found = diagnose(picture)
        passing = disputed(picture) or any(finding.kind == EPOCHS for finding in found)
        if not passing or trio.current_time() > deadline:
            return picture
        await trio.sleep(POLL_INTERVAL)


async def examine(fleet: Fleet, picture: Picture, slots: Sequence[int]) -> list[Repair]:
    """What mends these slots, with their keys counted on all masters."""
    return plan_repairs(picture, slots, await fleet.count_keys(picture.masters(), slots))


def show_findings(found: Sequence[Finding], display: Display) -> None:
    """One line for each."""
    for finding in found:
        (display.warn if finding.warning else display.bad)(finding.text)


def _group(repairs: Sequence[Repair]) -> dict[tuple[object, ...], list[int]]:
    groups: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for r in repairs:
        groups[r.reason, r.owner, r.claim, r.renounce, r.finish, r.collect, r.close].append(r.slot)
    return groups


def _describe(repair: Repair, name: Callable[[str], str]) -> str:
    steps = []
    if repair.claim:
        steps.append(f"{name(repair.owner)} takes it")
    steps += [f"{name(node_id)} gives it up" for node_id in repair.renounce]
    if repair.finish:
        steps.append(f"move on from {name(repair.owner)} to {name(repair.finish)}")
    steps += [
        f"keys from {name(node_id)} to {name(repair.last_owner)}" for node_id in repair.collect
    ]
    if repair.close:
        steps.append("close on " + ", ".join(map(name, repair.close)))
    return "; ".join(steps)


def show_repairs(repairs: Sequence[Repair], picture: Picture, display: Display) -> None:
    """A table, equal repairs in one row."""
    by_slot = {repair.slot: repair for repair in repairs}
    rows: list[list[object]] = []
    for slots in _group(repairs).values():
        first = by_slot[slots[0]]
        rows.append([format_ranges(slots, 8), first.reason, _describe(first, picture.name)])
    if rows:
        display.table(["slots", "why", "what is done"], rows, "The repairs")


def describe_repairs(repairs: Sequence[Repair]) -> list[dict[str, Any]]:
    """The same for `--json`."""
    by_slot = {repair.slot: repair for repair in repairs}
    rows = []
    for slots in _group(repairs).values():
        r = by_slot[slots[0]]
        rows.append(
            {
                "slots": format_ranges(slots),
                "reason": r.reason,
                "owner": r.last_owner,
                "claim": r.claim,
                "renounce": list(r.renounce),
                "finish": r.finish or None,
                "collect": list(r.collect),
                "close": list(r.close),
            }
        )
    return rows


async def apply_repairs(
    fleet: Fleet,
    picture: Picture,
    repairs: Sequence[Repair],
    options: MoveOptions,
    display: Display,
) -> None:
    """Carry them out. Raises Failed, Unreachable."""
    if any(repair.claim for repair in repairs):
        display.step("Giving the slots to their owners")
        await _assign(fleet, picture, [repair for repair in repairs if repair.claim])
        picture = await fleet.wait_for(
            lambda now: all(m.state == "ok" for m in now.masters() if m.me.slots),
            "The cluster has not become well",
            STATE_LIMIT,
        )
    finish = [Move(r.slot, r.owner, r.finish) for r in repairs if r.finish]
    if finish:
        await execute_moves(fleet, picture, finish, options, display, "Finishing moves")
        picture = await fleet.survey()
    routes: dict[tuple[str, str], list[int]] = defaultdict(list)
    for repair in repairs:
        for holder in repair.collect:
            routes[holder, repair.last_owner].append(repair.slot)
    await _close(fleet, picture, _open_on_owners(repairs, picture))
    if routes:
        counts = await fleet.count_keys(
            [
                picture.members[node_id]
                for node_id in {holder for holder, _ in routes}
                if node_id in picture.members
            ],
            {slot for slots in routes.values() for slot in slots},
        )
        keys = sum(sum(found.values()) for found in counts.values())
        with display.progress("Collecting keys", sum(map(len, routes.values())), keys) as meter:
            mover = Mover(fleet, picture, options, display, meter)
            for (holder, owner), slots in routes.items():
                try:
                    await mover.collect(holder, owner, slots)
                except Disturbed as trouble:
                    raise Failed(str(trouble)) from None
                meter.add(slots=len(slots))
    closing: dict[str, set[int]] = defaultdict(set)
    for repair in repairs:
        for node_id in repair.close:
            closing[node_id].add(repair.slot)
    await _close(fleet, picture, closing)


def _open_on_owners(repairs: Sequence[Repair], picture: Picture) -> dict[str, set[int]]:
    """What must be closed before keys come: an owner that migrates a slot takes none of it."""
    found: dict[str, set[int]] = defaultdict(set)
    for repair in repairs:
        if repair.collect and repair.last_owner in repair.close:
            found[repair.last_owner].add(repair.slot)
    return found


async def _assign(fleet: Fleet, picture: Picture, repairs: Sequence[Repair]) -> None:
    """Give the slots to their owners.

    Whoever gives one up does so first: it would drop its keys when it hears of the new owner.
    """
    renouncing: dict[str, list[list[Word]]] = defaultdict(list)
    taking: dict[str, list[list[Word]]] = defaultdict(list)
    telling: dict[str, list[list[Word]]] = defaultdict(list)
    for repair in repairs:
        slot, owner = repair.slot, repair.owner
        for node_id in repair.renounce:
            renouncing[node_id] += [
                ["CLUSTER", "DELSLOTS", slot],
                ["CLUSTER", "SETSLOT", slot, "NODE", owner],
            ]
            if node_id in repair.collect:
                renouncing[node_id].append(["CLUSTER", "SETSLOT", slot, "IMPORTING", owner])
        taking[owner] += [
            ["CLUSTER", "SETSLOT", slot, "STABLE"],
            ["CLUSTER", "SETSLOT", slot, "NODE", owner],
        ]
        for master in picture.masters():
            if master.id != owner and master.id not in repair.renounce:
                telling[master.id].append(["CLUSTER", "SETSLOT", slot, "NODE", owner])
    for node_id, requests in renouncing.items():
        await _tell(fleet, picture, node_id, requests)
    for node_id, requests in taking.items():
        await _tell(fleet, picture, node_id, [*requests, ["CLUSTER", "BUMPEPOCH"]])
    for node_id, requests in telling.items():
        await fleet.pipeline(picture.members[node_id].address, requests)


async def _tell(
    fleet: Fleet, picture: Picture, node_id: str, requests: Sequence[Sequence[Word]]
) -> None:
    address = picture.members[node_id].address
    for words, reply in zip(requests, await fleet.pipeline(address, requests), strict=True):
        if isinstance(reply, ErrorReply):
            raise Failed(f"{address}: {' '.join(map(str, words))}: {reply.text}")


async def _close(fleet: Fleet, picture: Picture, closing: dict[str, set[int]]) -> None:
    for node_id, slots in closing.items():
        if node_id in picture.members:
            requests: list[list[Word]] = [
                ["CLUSTER", "SETSLOT", slot, "STABLE"] for slot in sorted(slots)
            ]
            await _tell(fleet, picture, node_id, requests)


async def _settle_disputes(fleet: Fleet) -> None:
    """Tell everybody who has the slots that they do not agree about."""
    picture = await settle(fleet)
    disputes = disputed(picture)
    if not disputes:
        return
    owners = {slot: owner for slot, owner in picture.last_word().items() if slot in disputes}
    requests: list[list[Word]] = [
        ["CLUSTER", "SETSLOT", slot, "NODE", node_id] for slot, node_id in owners.items()
    ]
    await fleet.ask_all(picture.masters(), requests)
    for node_id in set(owners.values()):
        await fleet.call(picture.members[node_id].address, "CLUSTER", "BUMPEPOCH")


async def _settle_epochs(fleet: Fleet) -> None:
    """A new epoch is news, and so reaches everybody."""
    picture = await settle(fleet)
    for finding in diagnose(picture):
        if finding.kind == EPOCHS:
            for node_id in finding.nodes[:1]:
                try:
                    await fleet.call(picture.members[node_id].address, "CLUSTER", "BUMPEPOCH")
                except (ErrorReply, Unreachable) as error:
                    raise Failed(f"{picture.name(node_id)}: BUMPEPOCH: {error}") from None
