"""A client that follows the cluster: it goes to whoever has the slot."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Final

import trio

from cluster.chaos.history import Failover
from cluster.slots import key_slot
from cluster.tool.connection import Address, ErrorReply, Reply, Word
from cluster.tool.errors import Refused, Unreachable
from cluster.tool.fleet import Fleet
from cluster.tool.picture import Picture
from cluster.tool.view import View

MOST_REDIRECTIONS: Final = 5
REFRESH_INTERVAL: Final = 0.5
EAGER_INTERVAL: Final = 0.1
"""Seconds between two looks at the cluster, and while somebody does not answer."""


class Denied(Exception):
    """It was certainly not done."""


class Unanswered(Exception):
    """It may have been done, or may yet be."""


def find_tag(slots: Iterable[int]) -> str:
    """A hash tag whose slot is one of these."""
    wanted = frozenset(slots)
    return next(str(n) for n in itertools.count() if key_slot(b"%d" % n) in wanted)


def choose_owner(views: Iterable[View], slot: int) -> tuple[int, Address] | None:
    """Who has the slot by the greatest epoch that anybody knows, and that epoch."""
    claims = [
        (line.epoch, line.address)
        for view in views
        for line in view.nodes.values()
        if slot in line.slots and line.usable
    ]
    return max(claims, key=lambda claim: claim[0], default=None)


class Follower:
    """Calls for the shards that a picture has; ``tags`` are hash tags, one for each.

    Shards are those of the beginning, by their masters' addresses; each is the owner of its tag's
    slot later on.
    """

    def __init__(self, fleet: Fleet, picture: Picture, looks: float) -> None:
        self._fleet = fleet
        self._looks = looks
        masters = [member for member in picture.masters() if member.me.slots]
        self.tags = [find_tag(member.me.slots) for member in masters]
        self.slots = [key_slot(tag.encode()) for tag in self.tags]
        self.failovers: list[Failover] = []
        self._owners = [member.address for member in masters]
        self._known = [(member.me.epoch, member.address) for member in masters]
        self._addresses = {member.address for member in picture.members.values()}
        self._views: dict[Address, View] = {}
        self._suspicion = trio.Event()

    @property
    def owners(self) -> list[Address]:
        """The masters, shard by shard, as far as is known."""
        return list(self._owners)

    async def follow(self, start: float) -> None:
        """Look who is master of what, for ever; failovers get times counted from ``start``."""
        while True:
            await self.refresh(start)
            self._suspicion = trio.Event()
            with trio.move_on_after(REFRESH_INTERVAL):
                await self._suspicion.wait()
                await trio.sleep(EAGER_INTERVAL)

    async def refresh(self, start: float) -> None:
        """Ask all nodes, wherever they are by now."""
        async with trio.open_nursery() as nursery:
            for address in self._addresses:
                nursery.start_soon(self._look, address)
        seen = {
            line.address
            for view in self._views.values()
            for line in view.nodes.values()
            if line.usable
        }
        self._addresses = seen or self._addresses
        for shard, slot in enumerate(self.slots):
            found = choose_owner(self._views.values(), slot)
            if found is None:
                continue
            epoch, address = self._known[shard]
            if found[0] >= epoch and found[1] != address:
                now = trio.current_time() - start
                self.failovers.append(Failover(shard, now, str(address), str(found[1])))
            if found[0] >= epoch:
                self._known[shard] = found
                self._owners[shard] = found[1]

    async def _look(self, address: Address) -> None:
        try:
            self._views[address] = (await self._fleet.look(address, self._looks)).view
        except (Unreachable, Refused):
            self._views.pop(address, None)

    async def call(self, shard: int, requests: Sequence[Sequence[Word]]) -> list[Reply]:
        """Requests about keys of one shard, of which the first is the one that matters.

        Raises Denied (the first was an error, or nobody could be asked), Unanswered.
        """
        address = self._owners[shard]
        asking: list[Sequence[Word]] = []
        for _ in range(MOST_REDIRECTIONS):
            replies = await self._send(address, [*asking, *requests])
            reply = replies[len(asking)]
            if not isinstance(reply, ErrorReply):
                return replies[len(asking) :]
            if reply.code not in ("MOVED", "ASK"):
                self._suspicion.set()
                raise Denied(reply.text)
            host, _, port = reply.text.split(" ")[2].rpartition(":")
            address = Address(host or address.host, int(port))
            asking = [["ASKING"]] if reply.code == "ASK" else []
            if reply.code == "MOVED":
                self._owners[shard] = address
        raise Denied("too many redirections")

    async def _send(self, address: Address, requests: Sequence[Sequence[Word]]) -> list[Reply]:
        async with self._fleet.connected(address) as connection:
            try:
                await connection.connect()
            except Unreachable as error:
                self._suspicion.set()
                raise Denied(str(error)) from None
            try:
                return await connection.pipeline(requests)
            except Unreachable as error:
                self._suspicion.set()
                raise Unanswered(str(error)) from None
