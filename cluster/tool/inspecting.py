"""What only looks, or asks all nodes the same: `check`, `info`, `nodes`, `call`, `set-timeout`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from cluster.tool.connection import Address, ErrorReply, Reply
from cluster.tool.diagnosis import blocking, diagnose
from cluster.tool.display import Display
from cluster.tool.errors import Refused, Unreachable
from cluster.tool.fixing import show_findings
from cluster.tool.fleet import Fleet
from cluster.tool.forming import describe_members
from cluster.tool.picture import Picture
from cluster.tool.sentinels import Guarded, ask_about, diagnose_sentinel, list_shards
from cluster.tool.view import SLOTS, NodeLine, format_ranges

SHORTEST_TIMEOUT: Final = 100


async def check(
    fleet: Fleet, strays: bool, strict: bool, sentinel: Address | None, display: Display
) -> tuple[Any, bool]:
    """Look for everything that may be wrong; the JSON document, and whether all is well.

    With ``sentinel`` that is asked, too.
    """
    picture = await fleet.survey()
    show_nodes(picture, display)
    found = diagnose(picture, await fleet.find_strays(picture) if strays else None)
    guarded = await show_guarded(fleet, sentinel, picture, display)
    if guarded is not None:
        found += diagnose_sentinel(guarded, picture)
    show_findings(found, display)
    if picture.agreed():
        display.good("All nodes agree about the slots")
    if not picture.open_slots():
        display.good("No slot is open")
    if not picture.uncovered():
        display.good(f"All {SLOTS} slots are covered")
    well = not (found if strict else blocking(found))
    document = {
        "ok": well,
        "findings": [finding.as_json() for finding in found],
        "nodes": describe_members(picture.in_order()),
        "sentinel": guarded.as_json() if guarded is not None else None,
    }
    return document, well


async def show_guarded(
    fleet: Fleet, sentinel: Address | None, picture: Picture, display: Display
) -> Guarded | None:
    """A table of what a sentinel says, if there is one. Raises Unreachable, Refused."""
    if sentinel is None:
        return None
    guarded = await ask_about(fleet, sentinel, picture)
    others = f"{guarded.others} others, quorum {guarded.quorum}"
    display.table(*list_shards(guarded), f"{guarded.name}, by the sentinel {sentinel} ({others})")
    return guarded


def show_nodes(picture: Picture, display: Display) -> None:
    """A table of all nodes, each master followed by its replicas."""
    rows: list[list[object]] = []
    for member in picture.in_order():
        me = member.me
        role = "master" if me.is_master else "  replica"
        of = "" if me.is_master else picture.name(me.master)
        slots = format_ranges(me.slots, 4) if me.is_master else ""
        rows.append(
            [member.address, role, member.keys, len(me.slots), slots, of, me.epoch, member.id]
        )
    for node_id, line in picture.absent.items():
        role = "master" if line.is_master else "  replica"
        state = "unreachable"
        rows.append(
            [
                line.address,
                role,
                state,
                len(line.slots),
                format_ranges(line.slots, 4),
                picture.name(line.master) if line.master else "",
                line.epoch,
                node_id,
            ]
        )
    display.table(["node", "role", "keys#", "slots#", "which", "of", "epoch#", "id"], rows)


async def list_nodes(fleet: Fleet, display: Display) -> Any:
    """All nodes, with what the others think of them."""
    picture = await fleet.survey()
    show_nodes(picture, display)
    absent = [_describe_absent(line, picture) for line in picture.absent.values()]
    for node in absent:
        display.warn(f"{node['id'][:8]}: {node['reason']}")
    return {"nodes": describe_members(picture.in_order()), "unreachable": absent}


def _describe_absent(line: NodeLine, picture: Picture) -> dict[str, Any]:
    return {
        "id": line.id,
        "address": str(line.address),
        "role": "master" if line.is_master else "replica",
        "master": line.master or None,
        "slots": format_ranges(line.slots) if line.slots else "",
        "slots_count": len(line.slots),
        "flags": sorted(line.flags),
        "reason": picture.reasons.get(line.id, ""),
    }


async def inform(fleet: Fleet, sentinel: Address | None, display: Display) -> Any:
    """Keys, slots and replicas of each master; and what a sentinel says, if there is one."""
    picture = await fleet.survey()
    masters = picture.masters()
    keys = sum(master.keys for master in masters)
    slots = sum(len(master.me.slots) for master in masters)
    rows: list[list[object]] = []
    described = []
    for master in masters:
        replicas = picture.replicas_of(master.id)
        rows.append([master.name, master.keys, len(master.me.slots), len(replicas)])
        described.append(
            {
                "id": master.id,
                "address": str(master.address),
                "keys": master.keys,
                "slots_count": len(master.me.slots),
                "replicas": [replica.id for replica in replicas],
            }
        )
    display.table(["master", "keys#", "slots#", "replicas#"], rows)
    average = keys / slots if slots else 0.0
    display.say(f"{keys} keys in {len(masters)} masters, {average:.2f} keys per slot on average")
    guarded = await show_guarded(fleet, sentinel, picture, display)
    return {
        "keys": keys,
        "masters": described,
        "keys_per_slot": round(average, 2),
        "sentinel": guarded.as_json() if guarded is not None else None,
    }


async def call_all(
    fleet: Fleet, words: Sequence[str], only: str, display: Display
) -> tuple[Any, bool]:
    """The same command on all nodes (or only on masters, only on replicas); whether all took it."""
    picture = await fleet.survey()
    chosen = [
        member
        for member in picture.in_order()
        if not only or member.is_master == (only == "masters")
    ]
    if display.dry_run:
        for member in chosen:
            display.say(f"{member.name}: {' '.join(words)}")
        return {"nodes": [member.id for member in chosen]}, True
    answers = await fleet.ask_all(chosen, [list(words)])
    replies = []
    well = True
    for member in chosen:
        answer = answers[member.id]
        reply = answer if isinstance(answer, Unreachable) else answer[0]
        failed = isinstance(reply, Unreachable | ErrorReply)
        well = well and not failed
        display.say(f"{member.address}: {format_reply(reply)}")
        replies.append(
            {
                "id": member.id,
                "address": str(member.address),
                "error" if failed else "reply": plain_reply(reply),
            }
        )
    return {"command": list(words), "replies": replies}, well


def format_reply(reply: Reply | Unreachable, indent: str = "") -> str:
    """A reply as redis-cli shows it, nearly."""
    if isinstance(reply, ErrorReply | Unreachable):
        return f"(error) {reply}"
    if reply is None:
        return "(nil)"
    if isinstance(reply, int):
        return str(reply)
    if isinstance(reply, bytes):
        return reply.decode(errors="backslashreplace").rstrip("\r\n")
    if not reply:
        return "(empty array)"
    deeper = indent + "   "
    lines = [f"{n}) {format_reply(item, deeper)}" for n, item in enumerate(reply, start=1)]
    return lines[0] + "".join(f"\n{indent}{line}" for line in lines[1:])


def plain_reply(reply: Reply | Unreachable) -> Any:
    """A reply for JSON."""
    if isinstance(reply, ErrorReply | Unreachable):
        return str(reply)
    if isinstance(reply, bytes):
        return reply.decode(errors="backslashreplace")
    if isinstance(reply, list):
        return [plain_reply(item) for item in reply]
    return reply


async def set_timeout(fleet: Fleet, milliseconds: int, display: Display) -> tuple[Any, bool]:
    """`cluster-node-timeout` on all nodes, in their configuration files too where they have one."""
    if milliseconds < SHORTEST_TIMEOUT:
        raise Refused(f"A node timeout below {SHORTEST_TIMEOUT} milliseconds does not work")
    picture = await fleet.survey()
    display.say(f"cluster-node-timeout becomes {milliseconds} on {len(picture.members)} nodes")
    if display.dry_run:
        return {"nodes": list(picture.members)}, True
    requests = [
        ["CONFIG", "SET", "cluster-node-timeout", str(milliseconds)],
        ["CONFIG", "REWRITE"],
    ]
    answers = await fleet.ask_all(picture.in_order(), requests)
    failed: dict[str, str] = {}
    for member in picture.in_order():
        answer = answers[member.id]
        error = answer if isinstance(answer, Unreachable) else answer[0]
        if isinstance(error, Unreachable | ErrorReply):
            failed[member.id] = str(error)
            display.bad(f"{member.name}: {error}")
        elif not isinstance(answer, Unreachable) and isinstance(answer[1], ErrorReply):
            display.warn(f"{member.name}: set, but not for the next start: {answer[1].text}")
        else:
            display.good(member.name)
    for node_id in picture.absent:
        failed[node_id] = picture.reasons[node_id]
        display.bad(f"{picture.name(node_id)}: {picture.reasons[node_id]}")
    return {"timeout": milliseconds, "failed": failed}, not failed
