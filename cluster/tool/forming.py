"""Who is a member: `create`, `add-node`, `del-node`, `failover`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import trio

from cluster.tool.connection import Address, ErrorReply, Word, resolve_host
from cluster.tool.diagnosis import blocking, diagnose
from cluster.tool.display import Display
from cluster.tool.errors import Failed, Refused, Unreachable
from cluster.tool.fleet import Fleet, agree, sees
from cluster.tool.layout import Place, count_together, plan_layout
from cluster.tool.picture import Member, Picture
from cluster.tool.view import SLOTS, format_ranges

JOIN_LIMIT: Final = 60.0
MEET_INTERVAL: Final = 3.0
POLL: Final = 0.1


async def create(
    fleet: Fleet, addresses: Sequence[Address], replicas: int, display: Display
) -> dict[str, Any]:
    """Form a cluster of these nodes, or complete one whose forming has stopped half-way."""
    nodes = [Address(await resolve_host(node.host), node.port) for node in addresses]
    places = plan_layout(nodes, replicas)
    members = await _look_at(fleet, nodes)
    ids = {address: member.id for address, member in members.items()}
    if len(set(ids.values())) != len(ids):
        raise Refused("Two of the addresses are those of the same node")
    _refuse_strangers(members)
    if _is_formed(members):
        _compare_with_plan(members, places)
        display.good(f"These {len(nodes)} nodes already form a cluster: nothing is left to do")
        return {"state": "formed", "nodes": describe_members(members.values()), "changed": False}
    begun = any(len(m.view.known()) > 1 or m.me.slots for m in members.values())
    for place in places:
        _refuse_unfit(members[place.address], place, ids)
    if begun:
        display.say("The forming of this cluster has begun before; it is going to be completed")
    _show_places(places, members, display)
    together = count_together(places)
    if together and len({node.host for node in nodes}) > 1:
        display.warn(f"{together} replicas are on the same host as their master")
    document = {
        "state": "completed" if begun else "created",
        "plan": [_describe_place(place, ids) for place in places],
        "changed": not display.dry_run,
    }
    if display.dry_run:
        return document
    display.confirm("Form the cluster?")
    display.step("Assigning slots and epochs")
    await _assign(fleet, places, members)
    display.step("Introducing the nodes to each other")
    await _introduce(fleet, members)
    display.step("Making replicas")
    for place in places:
        if place.master is not None and members[place.address].me.master != ids[place.master]:
            await _replicate(fleet, place.address, ids[place.master])
    display.step("Waiting until all nodes agree")
    masters = {ids[place.address] for place in places if place.slots is not None}
    await fleet.wait_for(
        lambda picture: _is_complete(picture, masters, len(nodes)),
        "The nodes have not come to agree",
        JOIN_LIMIT,
    )
    display.good(f"All {SLOTS} slots are covered by {len(masters)} masters")
    return document


def describe_members(members: Any) -> list[dict[str, Any]]:
    """Members for `--json`."""
    return [describe_member(member) for member in members]


def describe_member(member: Member) -> dict[str, Any]:
    """One of them."""
    me = member.me
    return {
        "id": member.id,
        "address": str(member.address),
        "role": "master" if me.is_master else "replica",
        "master": me.master or None,
        "slots": format_ranges(me.slots) if me.slots else "",
        "slots_count": len(me.slots),
        "keys": member.keys,
        "epoch": me.epoch,
        "state": member.state,
    }


def _describe_place(place: Place, ids: dict[Address, str]) -> dict[str, Any]:
    return {
        "id": ids[place.address],
        "address": str(place.address),
        "role": "replica" if place.master else "master",
        "master": ids[place.master] if place.master else None,
        "slots": format_ranges(place.slots) if place.slots else "",
    }


async def _look_at(fleet: Fleet, nodes: Sequence[Address]) -> dict[Address, Member]:
    found: dict[Address, Member] = {}
    errors: list[Exception] = []

    async def look(node: Address) -> None:
        try:
            found[node] = await fleet.look(node)
        except (Unreachable, Refused) as error:
            errors.append(error)

    async with trio.open_nursery() as nursery:
        for node in nodes:
            nursery.start_soon(look, node)
    if errors:
        raise errors[0]
    return {node: found[node] for node in nodes}


def _refuse_strangers(members: dict[Address, Member]) -> None:
    ids = {member.id for member in members.values()}
    for member in members.values():
        strangers = set(member.view.known()) - ids
        if strangers:
            raise Refused(
                f"{member.name} already knows {len(strangers)} nodes that are not named here: it "
                "belongs to another cluster (CLUSTER RESET ends that)"
            )


def _is_formed(members: dict[Address, Member]) -> bool:
    picture = Picture({member.id: member for member in members.values()})
    return (
        all(sees(member.view, picture.members) for member in members.values())
        and not picture.uncovered()
        and agree(picture)
        and all(member.me.slots or not member.is_master for member in members.values())
    )


def _compare_with_plan(members: dict[Address, Member], places: Sequence[Place]) -> None:
    masters = sum(member.is_master for member in members.values())
    wanted = sum(place.slots is not None for place in places)
    if masters != wanted:
        raise Refused(
            f"These nodes already form a cluster, but of {masters} masters and "
            f"{len(members) - masters} replicas instead of {wanted} and {len(members) - wanted}"
        )


def _refuse_unfit(member: Member, place: Place, ids: dict[Address, str]) -> None:
    """What a node has already must be what the plan wants of it."""
    planned = set(place.slots or ())
    if member.keys and not member.me.slots and member.is_master:
        raise Refused(f"{member.name} is not empty: it has {member.keys} keys")
    if foreign := member.me.slots - planned:
        raise Refused(
            f"{member.name} already has slots that the layout does not give it: "
            f"{format_ranges(foreign, 5)}"
        )
    if place.slots is not None and not member.is_master:
        raise Refused(f"{member.name} is a replica already, but is to be a master")


def _show_places(places: Sequence[Place], members: dict[Address, Member], display: Display) -> None:
    rows: list[list[object]] = []
    for place in places:
        what = f"replica of {place.master}" if place.master else "master"
        slots = format_ranges(place.slots) if place.slots else ""
        rows.append([what, place.address, slots, members[place.address].id])
    display.table(["role", "node", "slots", "id"], rows, "The layout")


async def _assign(fleet: Fleet, places: Sequence[Place], members: dict[Address, Member]) -> None:
    for number, place in enumerate(places, start=1):
        member = members[place.address]
        missing = sorted(set(place.slots or ()) - member.me.slots)
        # After the members know each other, epochs find each other by themselves.
        if member.me.epoch == 0 and len(member.view.nodes) == 1:
            await _tell(fleet, place.address, "CLUSTER", "SET-CONFIG-EPOCH", number)
        if missing:
            await _tell(fleet, place.address, "CLUSTER", "ADDSLOTS", *missing)


async def _tell(fleet: Fleet, address: Address, *words: Word) -> None:
    try:
        await fleet.call(address, *words)
    except ErrorReply as error:
        raise Failed(f"{address}: {' '.join(map(str, words[:3]))}: {error.text}") from None


async def meet_words(member: Member) -> list[Word]:
    """CLUSTER MEET's arguments for this node; its bus port where that is not the usual one."""
    bus_port = member.me.bus_port
    usual = bus_port in (0, member.address.port + 10000)
    host = await resolve_host(member.address.host)
    return [host, member.address.port, *([] if usual else [bus_port])]


async def _introduce(fleet: Fleet, members: dict[Address, Member]) -> None:
    """Until all know all."""
    nodes = list(members)
    first = members[nodes[0]]
    ids = [member.id for member in members.values()]
    deadline = trio.current_time() + JOIN_LIMIT
    meet_again = 0.0
    while True:
        now = await _look_at(fleet, nodes)
        missing = [node for node in nodes if not sees(now[node].view, ids)]
        if not missing:
            return
        if trio.current_time() > deadline:
            raise Failed(
                f"{missing[0]} does not get to know all others within {JOIN_LIMIT:g} s: are the "
                f"bus ports (such as {first.me.bus_port}) reachable?"
            )
        if trio.current_time() >= meet_again:
            meet_again = trio.current_time() + MEET_INTERVAL
            for node in nodes[1:]:
                if first.id not in now[node].view.known():
                    await _tell(fleet, node, "CLUSTER", "MEET", *await meet_words(first))
        await trio.sleep(POLL)


async def _replicate(fleet: Fleet, node: Address, master: str) -> None:
    """CLUSTER REPLICATE, once the node knows that one as a master."""
    deadline = trio.current_time() + JOIN_LIMIT
    while True:
        try:
            await fleet.call(node, "CLUSTER", "REPLICATE", master)
        except ErrorReply as error:
            passing = "Unknown node" in error.text or "only replicate a master" in error.text
            if not passing or trio.current_time() > deadline:
                raise Failed(f"{node}: CLUSTER REPLICATE: {error.text}") from None
            await trio.sleep(POLL)
        else:
            return


def _is_complete(picture: Picture, masters: set[str], count: int) -> bool:
    """Whether everybody has the same roles, slots and good news."""
    if len(picture.members) != count or picture.uncovered() or not picture.agreed():
        return False
    return all(
        member.state == "ok"
        and {node_id for node_id, line in member.view.known().items() if line.is_master} == masters
        for member in picture.members.values()
    )


async def survey_sound(fleet: Fleet, limit: float = 5.0) -> Picture:
    """The cluster, which must be well; passing disagreement is waited for. Raises Refused."""
    deadline = trio.current_time() + limit
    while True:
        picture = await fleet.survey()
        troubles = blocking(diagnose(picture))
        if not troubles:
            return picture
        if trio.current_time() > deadline:
            raise Refused(
                "The cluster has problems (`sentrio cluster fix` mends them): "
                + "; ".join(finding.text for finding in troubles[:3])
            )
        await trio.sleep(POLL)


async def add_node(
    fleet: Fleet, address: Address, replica: bool, master: str, display: Display
) -> dict[str, Any]:
    """Make a node a member: a master without slots, or a replica (of that master)."""
    picture = await survey_sound(fleet)
    address = Address(await resolve_host(address.host), address.port)
    new = await fleet.look(address)
    member = picture.members.get(new.id)
    wanted = ""
    if master:
        wanted = picture.find_master(master).id
    elif replica and not (member and member.me.master):
        wanted = picture.fewest_replicas({new.id}).id
    document: dict[str, Any] = {
        "id": new.id,
        "address": str(address),
        "master": wanted or (new.me.master or None),
        "changed": not display.dry_run,
    }
    role = f"a replica of {picture.name(wanted)}" if wanted else "a master without slots"
    if member is not None:
        if not wanted or member.me.master == wanted:
            display.good(f"{new.name} is a member already: nothing is left to do")
            return {**document, "changed": False}
        if member.me.slots:
            raise Refused(f"{new.name} is a member already, and has slots")
    elif len(new.view.known()) > 1:
        raise Refused(f"{new.name} already knows other nodes (CLUSTER RESET ends that)")
    elif new.keys or new.me.slots:
        raise Refused(f"{new.name} is not empty: {new.keys} keys, {len(new.me.slots)} slots")
    display.say(f"{new.name} becomes {role}")
    if display.dry_run:
        return document
    display.confirm("Add it?")
    if member is None:
        if not wanted:
            await _copy_functions(fleet, picture, address, display)
        await _join(fleet, picture, address, new)
    if wanted:
        await _replicate(fleet, address, wanted)
    await fleet.wait_for(
        lambda now: all(
            new.id in m.view.known() and m.view.nodes[new.id].master == wanted
            for m in now.members.values()
        ),
        "Not all nodes have heard of it",
    )
    display.good(f"{new.name} is {role}")
    return document


async def _join(fleet: Fleet, picture: Picture, address: Address, new: Member) -> None:
    host = next(iter(picture.members.values()))
    deadline = trio.current_time() + JOIN_LIMIT
    meet_again = 0.0
    while True:
        now = await fleet.look(address)
        picture = await fleet.survey()
        known = all(new.id in member.view.known() for member in picture.members.values())
        if known and sees(now.view, picture.members):
            return
        if trio.current_time() > deadline:
            raise Failed(f"{new.name} is not known to all within {JOIN_LIMIT:g} s")
        if trio.current_time() >= meet_again:
            meet_again = trio.current_time() + MEET_INTERVAL
            await _tell(fleet, address, "CLUSTER", "MEET", *await meet_words(host))
        await trio.sleep(POLL)


async def _copy_functions(
    fleet: Fleet, picture: Picture, address: Address, display: Display
) -> None:
    """A new master needs the functions that all masters have."""
    try:
        functions = await fleet.call(picture.masters()[0].address, "FUNCTION", "DUMP")
        await fleet.call(address, "FUNCTION", "RESTORE", functions)
    except ErrorReply as error:
        if "unknown" not in error.text.lower():
            display.warn(f"The libraries of functions have not been copied: {error.text}")


async def del_node(fleet: Fleet, name: str, display: Display) -> dict[str, Any]:
    """Take a node without slots out of the cluster; its replicas go to other masters."""
    picture = await fleet.survey()
    absent = picture.absent.get(name)
    member = None if absent else picture.find(name)
    line = absent or (member.me if member else None)
    assert line is not None
    node_id = line.id
    if line.slots or picture.is_owner(node_id):
        raise Refused(f"{picture.name(node_id)} has {len(line.slots)} slots: move them away first")
    orphans = picture.replicas_of(node_id)
    others = [m for m in picture.members.values() if m.id != node_id]
    if not others:
        raise Refused("It is the only node that can be reached")
    display.say(f"{picture.name(node_id)} leaves the cluster, {len(others)} nodes forget it")
    document = {
        "id": node_id,
        "address": str(line.address),
        "orphans": [orphan.id for orphan in orphans],
        "changed": not display.dry_run,
    }
    for orphan in orphans:
        display.say(f"Its replica {orphan.name} gets another master")
    if display.dry_run:
        return document
    display.confirm("Remove it?")
    fleet.entry = others[0].address
    for orphan in orphans:
        now = await fleet.survey()
        await _replicate(fleet, orphan.address, now.fewest_replicas({node_id}).id)
    if orphans:
        await fleet.wait_for(
            lambda now: all(
                m.view.nodes[o.id].master not in ("", node_id)
                for m in now.members.values()
                for o in orphans
                if o.id in m.view.nodes
            ),
            "The replicas have not found other masters",
        )
    await _forget(fleet, node_id, others, display)
    if member is not None:
        try:
            await fleet.call(member.address, "CLUSTER", "RESET", "SOFT")
        except (ErrorReply, Unreachable) as error:
            display.warn(f"{member.name} itself has not been reset: {error}")
    for stranger in set(picture.absent) - {node_id}:
        display.warn(f"{picture.name(stranger)} does not answer, and has not forgotten it")
    display.good(f"{picture.name(node_id)} is not a member any more")
    return document


async def _forget(fleet: Fleet, node_id: str, members: Sequence[Member], display: Display) -> None:
    answers = await fleet.ask_all(members, [["CLUSTER", "FORGET", node_id]])
    failed = []
    for member in members:
        answer = answers[member.id]
        error = answer if isinstance(answer, Unreachable) else answer[0]
        if isinstance(error, Unreachable) or (
            isinstance(error, ErrorReply) and "Unknown node" not in error.text
        ):
            failed.append(f"{member.name}: {error}")
    if failed:
        raise Failed("Not all nodes have forgotten it: " + "; ".join(failed))


async def fail_over(
    fleet: Fleet, name: str, how: str, limit: float, display: Display
) -> dict[str, Any]:
    """Make a replica the master. ``how``: empty, FORCE or TAKEOVER."""
    picture = await fleet.survey()
    replica = picture.find(name)
    document = {"id": replica.id, "address": str(replica.address), "changed": not display.dry_run}
    if replica.is_master:
        display.good(f"{replica.name} is a master already: nothing is left to do")
        return {**document, "changed": False}
    old = replica.me.master
    display.say(f"{replica.name} becomes master in place of {picture.name(old)}")
    if display.dry_run:
        return document
    display.confirm("Fail over?")
    try:
        await fleet.call(replica.address, "CLUSTER", "FAILOVER", *([how] if how else []))
    except ErrorReply as error:
        raise Refused(f"{replica.name}: {error.text}") from None
    # Not that all agree about the slots: those that are open are left alone by gossip.
    await fleet.wait_for(
        lambda now: all(
            replica.id in member.view.nodes and member.view.nodes[replica.id].is_master
            for member in now.members.values()
        ),
        f"{replica.name} has not become the master",
        limit,
    )
    display.good(f"{replica.name} is the master")
    return document
