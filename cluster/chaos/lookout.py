"""Whether the cluster is whole, and who has which part in it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Final

import trio

from cluster.chaos.schedule import MASTER, SENTINEL, Place, Topology
from cluster.tool.connection import Address, ErrorReply
from cluster.tool.errors import Failed, Refused, Unreachable
from cluster.tool.fleet import Fleet
from cluster.tool.picture import Picture
from cluster.tool.sentinels import Guarded, ask_sentinel
from cluster.up.status import parse_info

POLL_INTERVAL: Final = 0.25
UP: Final = "up"


class Lookout:
    """Looks at all nodes and sentinels."""

    def __init__(
        self,
        fleet: Fleet,
        topology: Topology,
        entries: Sequence[Address],
        sentinels: Sequence[Address],
    ) -> None:
        self._fleet = fleet
        self._topology = topology
        self._entries = entries
        self._sentinels = sentinels

    async def survey(self) -> Picture:
        """What the nodes say, by way of any that answers. Raises Unreachable, Refused."""
        last: Unreachable | None = None
        for entry in self._entries:
            self._fleet.entry = entry
            try:
                return await self._fleet.survey()
            except Unreachable as error:
                last = error
        raise last or Unreachable("no node is known")

    async def await_whole(self, limit: float) -> Picture:
        """Until nothing is wrong. Raises Failed after so many seconds, with what still is."""
        deadline = trio.current_time() + limit
        while True:
            try:
                picture = await self.survey()
                trouble = await self._find_trouble(picture)
                if not trouble:
                    return picture
            except (Unreachable, Refused) as error:
                trouble = str(error)
            if trio.current_time() > deadline:
                raise Failed(f"the cluster is not whole within {limit:g} s: {trouble}")
            await trio.sleep(POLL_INTERVAL)

    async def _find_trouble(self, picture: Picture) -> str:
        """The first thing that is wrong; empty: nothing."""
        answers = await self._fleet.ask_all(picture.members.values(), [["INFO", "replication"]])
        links = {
            node_id: "" if isinstance(replies, Unreachable) else _link(replies[0])
            for node_id, replies in answers.items()
        }
        trouble = find_trouble(picture, self._topology, links)
        if trouble:
            return trouble
        for sentinel in self._sentinels:
            # One of another make refuses: it guards its masters one by one.
            with contextlib.suppress(Refused):
                trouble = find_disagreement(await ask_sentinel(self._fleet, sentinel), picture)
            if not trouble and await self._is_tilted(sentinel):
                trouble = "is in TILT, and would do nothing"
            if trouble:
                return f"the sentinel {sentinel} {trouble}"
        return ""

    async def _is_tilted(self, sentinel: Address) -> bool:
        """Whether a sentinel's clock has jumped of late."""
        try:
            info = parse_info(await self._fleet.call(sentinel, "INFO", "sentinel"))
        except ErrorReply as error:
            raise Unreachable(f"{sentinel}: {error}") from None
        return info.get("sentinel_tilt") == "1"


def _link(reply: object) -> str:
    return parse_info(reply).get("master_link_status", "")


def find_trouble(picture: Picture, topology: Topology, links: Mapping[str, str]) -> str:
    """What is wrong with the nodes; ``links`` are master_link_status by the replicas' ids."""
    for line in picture.absent.values():
        return f"{line.address} does not answer"
    if uncovered := picture.uncovered():
        return f"{len(uncovered)} slots have no master"
    for member in picture.members.values():
        if member.state != "ok":
            return f"{member.address} says that the cluster is {member.state}"
        if any(line.failing for line in member.view.known().values()):
            return f"{member.address} misses somebody"
        if not member.is_master and links.get(member.id) != UP:
            return f"the replica {member.address} has no link to its master"
    if not picture.agreed():
        return "the nodes do not agree about the slots"
    for master in picture.masters():
        if master.me.slots and len(picture.replicas_of(master.id)) < topology.replicas:
            return f"{master.address} has too few replicas"
    return ""


def find_disagreement(guarded: Sequence[Guarded], picture: Picture) -> str:
    """What a sentinel sees otherwise than the nodes."""
    ports = {master.me.address.port for master in picture.masters() if master.me.slots}
    for one in guarded:
        for shard in one.shards:
            if shard.failing_over or shard.master.state != "ok":
                return f"takes the master of {shard.name} to be down"
            if shard.master.address.port not in ports:
                return f"takes {shard.master.address} for the master of {shard.name}"
            if down := [replica for replica in shard.replicas if replica.state != "ok"]:
                return f"takes {down[0].address} to be down"
    return ""


def locate(
    place: Place, picture: Picture, slots: Sequence[int], sentinels: Sequence[Address]
) -> Address:
    """Who is there now; ``slots`` has one of each shard. Raises Failed: nobody."""
    if place.role == SENTINEL:
        return sentinels[place.number]
    master = picture.members.get(picture.owner(slots[place.shard]))
    if master is None:
        raise Failed(f"shard {place.shard + 1} has no master that answers")
    if place.role == MASTER:
        return master.me.address
    replicas = picture.replicas_of(master.id)
    if not replicas:
        raise Failed(f"shard {place.shard + 1} has no replica that answers")
    return replicas[place.number % len(replicas)].me.address
