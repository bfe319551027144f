"""`reshard` and `rebalance`: the plan, then the moves."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from cluster.tool.diagnosis import OPEN, blocking, diagnose
from cluster.tool.display import Display
from cluster.tool.errors import Refused
from cluster.tool.fixing import apply_repairs, describe_repairs, examine, settle, show_repairs
from cluster.tool.fleet import Fleet
from cluster.tool.journal import Journal
from cluster.tool.mover import MoveOptions, Result, execute_moves
from cluster.tool.picture import Picture
from cluster.tool.planning import (
    Move,
    exceeds,
    gather,
    plan_rebalance,
    plan_reshard,
    plan_slots,
    remaining,
    share_out,
)
from cluster.tool.repair import Repair, slots_to_examine
from cluster.tool.view import format_ranges

T = TypeVar("T")


@dataclass(slots=True)
class ReshardRequest:
    """What the operator has said; None and empty texts: not yet. ``slots`` wins over ``count``."""

    sources: str = ""
    target: str = ""
    count: int | None = None
    slots: tuple[int, ...] = ()
    journal: Path | None = None
    anew: bool = False


async def survey_movable(fleet: Fleet, display: Display) -> tuple[Picture, list[Repair]]:
    """The cluster and the moves in it that have stopped half-way.

    Raises Refused where anything else is wrong.
    """
    picture = await settle(fleet)
    found = diagnose(picture)
    for finding in found:
        if finding.warning:
            display.warn(finding.text)
    repairs = await examine(fleet, picture, slots_to_examine(picture))
    troubles = [finding for finding in blocking(found) if finding.kind != OPEN]
    if troubles or any(r.claim or r.renounce or r.collect for r in repairs):
        texts = [finding.text for finding in troubles or blocking(found)]
        raise Refused(
            "The cluster has problems (`sentrio cluster fix` mends them): " + "; ".join(texts[:3])
        )
    return picture, repairs


def current_slots(picture: Picture, repairs: Sequence[Repair]) -> dict[str, set[int]]:
    """Who has which slots once the unfinished moves are finished."""
    slots = {master.id: set(master.me.slots) for master in picture.masters()}
    for repair in repairs:
        if repair.finish:
            slots[repair.owner].discard(repair.slot)
            slots[repair.finish].add(repair.slot)
    return slots


async def reshard(
    fleet: Fleet, request: ReshardRequest, options: MoveOptions, display: Display
) -> dict[str, Any]:
    """Move slots to one master. An interrupted reshard goes on if it is asked for again."""
    picture, repairs = await survey_movable(fleet, display)
    slots = current_slots(picture, repairs)
    if not (request.count or request.slots):
        request.count = _ask(display, "How many slots do you want to move?", int, "--slots")
    if not request.target:
        _show_masters(picture, display)
        request.target = _ask(display, "Which master is to get them?", str, "--to")
    target = picture.find_master(request.target).id
    if not request.sources and not request.slots:
        request.sources = _ask(display, "From which masters (ids, or all)?", str, "--from")
    if request.sources in ("", "all"):
        sources = [node_id for node_id in slots if node_id != target]
    else:
        sources = [picture.find_master(name).id for name in request.sources.split(",")]
    journal = None
    if request.journal is not None and not request.slots:
        journal = Journal(request.journal, [*picture.members, *picture.absent])
    words = {"from": sorted(sources), "to": target, "count": request.count}
    begun = dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    entry = None if journal is None or request.anew else journal.load()
    resumed = entry is not None and entry.request == words
    if entry is not None and resumed:
        owners = {slot: node_id for node_id, held in slots.items() for slot in held}
        moves = remaining(entry.moves, owners)
        begun = entry.begun
        display.say(
            f"This goes on with the reshard begun at {begun}, of whose {len(entry.moves)} slots "
            f"{len(entry.moves) - len(moves)} have moved (--anew begins another one)"
        )
    elif request.slots:
        foreign = set(request.slots) - {s for node_id in [*sources, target] for s in slots[node_id]}
        if foreign:
            raise Refused(f"Slots {format_ranges(foreign, 5)} are not the sources'")
        moves = plan_slots(slots, request.slots, target)
    else:
        moves = plan_reshard(slots, sources, target, request.count or 0)

    def begin() -> None:
        if journal is not None and moves:
            try:
                journal.save(words, begun, moves)
            except OSError as error:
                display.warn(f"The plan cannot be kept in {journal.path}: {error.strerror}")

    document = await _carry_out(fleet, picture, repairs, moves, options, display, begin)
    if journal is not None and document["done"]:
        journal.clear()
    return {"resumed": resumed, **document}


async def rebalance(
    fleet: Fleet,
    weights: Mapping[str, float],
    threshold: float,
    use_empty: bool,
    options: MoveOptions,
    display: Display,
) -> dict[str, Any]:
    """Move slots until each master has what its weight says. Run again, it does what is left."""
    picture, repairs = await survey_movable(fleet, display)
    slots = current_slots(picture, repairs)
    given = {picture.find_master(name).id: weight for name, weight in weights.items()}
    shares = share_out(slots, given, use_empty)
    display.table(
        ["master", "weight#", "slots#", "should have#"],
        [[picture.name(s.id), f"{s.weight:g}", s.slots, s.expected] for s in shares],
        "The balance",
    )
    moves: list[Move] = []
    if exceeds(shares, threshold):
        moves = plan_rebalance(slots, shares)
    else:
        display.good(f"All masters are within the threshold of {threshold:g} %")
    document = await _carry_out(fleet, picture, repairs, moves, options, display, _nothing)
    balance = [
        {"id": s.id, "weight": s.weight, "slots": s.slots, "expected": s.expected} for s in shares
    ]
    return {"balance": balance, **document}


def _nothing() -> None:
    return None


async def _carry_out(
    fleet: Fleet,
    picture: Picture,
    repairs: list[Repair],
    moves: list[Move],
    options: MoveOptions,
    display: Display,
    begin: Callable[[], None],
) -> dict[str, Any]:
    """Show the plan, have it confirmed, do it."""
    plan = await _show_plan(fleet, picture, repairs, moves, display)
    document: dict[str, Any] = {
        "unfinished": describe_repairs(repairs),
        "plan": plan,
        "done": False,
        "moved": None,
    }
    if not moves and not repairs:
        display.good("Nothing has to move")
        return {**document, "done": True}
    if display.dry_run:
        return document
    display.confirm("Move these slots?" if moves else "Finish this?")
    begin()
    if repairs:
        await apply_repairs(fleet, picture, repairs, options, display)
        picture = await fleet.survey()
    result = Result()
    if moves:
        result = await execute_moves(fleet, picture, moves, options, display)
    display.good("All nodes agree about the slots")
    moved = {"slots": result.slots, "keys": result.keys, "seconds": round(result.seconds, 3)}
    return {**document, "done": True, "moved": moved}


async def _show_plan(
    fleet: Fleet,
    picture: Picture,
    repairs: list[Repair],
    moves: Sequence[Move],
    display: Display,
) -> list[dict[str, Any]]:
    if repairs:
        display.say("An earlier move has stopped half-way; it is finished first")
        show_repairs(repairs, picture, display)
    rows: list[list[object]] = []
    plan: list[dict[str, Any]] = []
    for (source, target), slots in gather(moves).items():
        counts = await fleet.count_keys([picture.members[source]], slots)
        keys = sum(sum(found.values()) for found in counts.values())
        rows.append(
            [picture.name(source), picture.name(target), len(slots), keys, format_ranges(slots, 6)]
        )
        plan.append(
            {
                "source": source,
                "target": target,
                "slots": format_ranges(slots),
                "slots_count": len(slots),
                "keys": keys,
            }
        )
    if rows:
        display.table(["from", "to", "slots#", "keys#", "which"], rows, "The plan")
    return plan


def _show_masters(picture: Picture, display: Display) -> None:
    rows: list[list[object]] = [
        [master.id, master.address, len(master.me.slots), master.keys]
        for master in picture.masters()
    ]
    display.table(["id", "node", "slots#", "keys#"], rows)


def _ask(display: Display, question: str, kind: type[T], option: str) -> T:
    """Ask for what the command line did not say; where nobody can answer it is an error."""
    if not display.terminal or display.as_json or display.yes:
        raise click.UsageError(f"Missing option '{option}'.")
    answer: T = click.prompt(question, type=kind)
    return answer
