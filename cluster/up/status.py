"""How nodes and sentinels are: rows of a table, and what has changed between two of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cluster.tool.connection import Address, Reply
from cluster.tool.picture import Member, Picture
from cluster.tool.view import format_ranges

UNREACHABLE = "unreachable"
LINK_DOWN = "no link to its master"


@dataclass(frozen=True, slots=True)
class Row:
    """One node, or a sentinel.

    ``lag`` is how many bytes of its master's stream a replica has not yet.
    """

    address: Address
    role: str = ""
    master: str = ""
    slots: int = 0
    which: str = ""
    keys: int = 0
    ops: int = 0
    lag: int | None = None
    state: str = "ok"


def parse_info(reply: Reply) -> dict[str, str]:
    """INFO's fields; none of what is no INFO."""
    if not isinstance(reply, bytes):
        return {}
    lines = reply.decode(errors="replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def make_rows(
    picture: Picture | None,
    infos: Mapping[str, Mapping[str, str]],
    ended: Mapping[Address, str],
    alive: Sequence[Address],
) -> list[Row]:
    """All nodes: masters with their replicas, then those that do not answer.

    ``infos`` are INFO's fields by node id; ``ended`` says how processes have ended, and ``alive``
    which are running.
    """
    rows: list[Row] = []
    if picture is not None:
        rows = [_make_row(member, picture, infos) for member in picture.in_order()]
    seen = {row.address for row in rows}
    rows += [Row(address, state=UNREACHABLE) for address in alive if address not in seen]
    rows += [Row(address, state=how) for address, how in ended.items() if address not in seen]
    return rows


def _make_row(member: Member, picture: Picture, infos: Mapping[str, Mapping[str, str]]) -> Row:
    info = infos.get(member.id, {})
    me = member.me
    lag = None
    state = member.state if member.state == "ok" else f"cluster is {member.state}"
    if not me.is_master:
        master = infos.get(me.master, {})
        if info.get("master_link_status") != "up":
            state = LINK_DOWN
        elif "master_repl_offset" in master and "slave_repl_offset" in info:
            lag = max(0, int(master["master_repl_offset"]) - int(info["slave_repl_offset"]))
    held = picture.members.get(me.master) or picture.absent.get(me.master)
    return Row(
        address=member.address,
        role="master" if me.is_master else "replica",
        master="" if me.is_master else str(held.address) if held else me.master[:8],
        slots=len(me.slots),
        which=format_ranges(me.slots, 3) if me.slots else "",
        keys=member.keys,
        ops=int(info.get("instantaneous_ops_per_sec", 0)),
        lag=lag,
        state=state,
    )


def compare(before: Sequence[Row], after: Sequence[Row]) -> list[str]:
    """What has happened in between, an event a line. Keys, operations and lag are no events."""
    events: list[str] = []
    old = {row.address: row for row in before}
    for row in after:
        was = old.get(row.address)
        if was is None:
            if row.role and row.role != "sentinel":
                events.append(f"{row.address} is a member now: {_describe(row)}")
            continue
        # How a process has ended is told by who watches it.
        if row.state != was.state and (row.role or row.state == UNREACHABLE):
            events.append(f"{row.address}: {row.state}")
        if not row.role or not was.role:
            continue
        if row.role != was.role:
            events.append(f"{row.address} is a {_describe(row)} now")
        elif row.master != was.master:
            events.append(f"{row.address} is a replica of {row.master} now")
        elif row.role == "master" and row.slots != was.slots:
            events.append(f"{row.address} has {row.slots} slots now, {was.slots} before")
    gone = set(old) - {row.address for row in after}
    events += [f"{address} is no member any more" for address in sorted(gone)]
    return events


def _describe(row: Row) -> str:
    if row.role == "master":
        return f"master of {row.slots} slots"
    return f"replica of {row.master}"
