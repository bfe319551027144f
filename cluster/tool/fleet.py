"""The nodes of a cluster as far as they answer: connections, and what all of them say."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import trio

from cluster.tool.connection import (
    Address,
    Connection,
    Credentials,
    ErrorReply,
    Reply,
    Word,
)
from cluster.tool.errors import Failed, Refused, Unreachable
from cluster.tool.picture import Member, Picture
from cluster.tool.view import SLOTS, NodeLine, View, ViewError, parse_nodes
from node.network import Network

POLL_INTERVAL: Final = 0.1
ABSENCE_LIMIT: Final = 2.0
"""Seconds for a node that others have lost, and that probably does not answer."""


class Fleet:
    """A way into a cluster, and connections to its nodes, one for each at a time.

    ``timeout`` (seconds) bounds connecting and each reply.
    """

    def __init__(
        self, network: Network, entry: Address, credentials: Credentials, timeout: float
    ) -> None:
        self.entry = entry
        self.credentials = credentials
        self.timeout = timeout
        self._network = network
        self._known: list[Address] = []
        self._idle: dict[Address, list[Connection]] = {}

    @asynccontextmanager
    async def connected(self, address: Address) -> AsyncIterator[Connection]:
        """A connection that nobody else uses meanwhile."""
        idle = self._idle.setdefault(address, [])
        connection = idle.pop() if idle else self.open(address, self.timeout)
        try:
            yield connection
        except (Unreachable, trio.Cancelled):
            connection.close()
            raise
        else:
            idle.append(connection)

    def open(self, address: Address, timeout: float) -> Connection:
        """A connection of the caller's own, who closes it."""
        return Connection(self._network, address, self.credentials, timeout)

    def close(self) -> None:
        """Close what is open."""
        for idle in self._idle.values():
            for connection in idle:
                connection.close()
        self._idle.clear()

    async def call(self, address: Address, *words: Word) -> Reply:
        """One request to one node. Raises ErrorReply, Unreachable."""
        async with self.connected(address) as connection:
            return await connection.call(*words)

    async def pipeline(self, address: Address, requests: Iterable[Sequence[Word]]) -> list[Reply]:
        """Many requests to one node, errors as values. Raises Unreachable."""
        async with self.connected(address) as connection:
            return await connection.pipeline(requests)

    async def ask_all(
        self, members: Iterable[Member], requests: Sequence[Sequence[Word]]
    ) -> dict[str, list[Reply] | Unreachable]:
        """The same requests to all of these at once; the replies by node id."""
        answers: dict[str, list[Reply] | Unreachable] = {}

        async def ask(member: Member) -> None:
            try:
                answers[member.id] = await self.pipeline(member.address, requests)
            except Unreachable as error:
                answers[member.id] = error

        async with trio.open_nursery() as nursery:
            for member in members:
                nursery.start_soon(ask, member)
        return answers

    async def look(self, address: Address, patience: float | None = None) -> Member:
        """What one node says. Raises Unreachable, Refused (it is no node of a cluster)."""
        requests: list[list[Word]] = [["CLUSTER", "NODES"], ["CLUSTER", "INFO"], ["DBSIZE"]]
        if patience is None:
            replies = await self.pipeline(address, requests)
        else:
            connection = self.open(address, patience)
            try:
                replies = await connection.pipeline(requests)
            finally:
                connection.close()
        nodes, about, size = replies
        if isinstance(nodes, ErrorReply):
            if nodes.code in ("LOADING", "NOAUTH", "NOPERM"):
                raise Unreachable(f"{address}: {nodes.text}")
            raise Refused(f"{address} is not a node of a cluster: {nodes.text}")
        try:
            view = parse_nodes(nodes.decode(errors="replace"))
        except (ViewError, AttributeError) as error:
            raise Refused(f"{address}: {error}") from None
        fields = (
            dict(row.split(":", 1) for row in about.decode().splitlines() if ":" in row)
            if isinstance(about, bytes)
            else {}
        )
        return Member(
            address,
            view,
            keys=size if isinstance(size, int) else 0,
            state=fields.get("cluster_state", "ok"),
            current_epoch=int(fields.get("cluster_current_epoch", 0)),
        )

    async def survey(self) -> Picture:
        """What all nodes say that the entry node knows. Raises Unreachable, Refused."""
        entry = await self._enter()
        picture = Picture({entry.id: entry})

        async def visit(line: NodeLine) -> None:
            try:
                if not line.usable:
                    raise Unreachable("no address is known")
                member = await self.look(line.address, ABSENCE_LIMIT if line.failing else None)
                if member.id != line.id:
                    raise Unreachable(f"{line.address} is another node by now")
            except (Unreachable, Refused) as error:
                picture.absent[line.id] = line
                picture.reasons[line.id] = str(error)
            else:
                picture.members[line.id] = member

        async with trio.open_nursery() as nursery:
            for node_id, line in entry.view.known().items():
                if node_id != entry.id:
                    nursery.start_soon(visit, line)
        self._known = [member.address for member in picture.members.values()]
        return picture

    async def _enter(self) -> Member:
        """The entry node, or, once it has been there and is not any more, another one."""
        try:
            return await self.look(self.entry)
        except Unreachable as error:
            for address in self._known:
                with contextlib.suppress(Unreachable, Refused):
                    if address != self.entry:
                        return await self.look(address)
            raise error from None

    async def wait_for(
        self, condition: Callable[[Picture], bool], what: str, limit: float = 30.0
    ) -> Picture:
        """Survey until it is so. Raises Failed after so many seconds, Unreachable (the entry)."""
        deadline = trio.current_time() + limit
        while True:
            picture = await self.survey()
            if condition(picture):
                return picture
            if trio.current_time() > deadline:
                raise Failed(f"{what} within {limit:g} s")
            await trio.sleep(POLL_INTERVAL)

    async def count_keys(
        self, members: Iterable[Member], slots: Iterable[int]
    ) -> dict[int, dict[str, int]]:
        """How many keys of each of these slots are on which of these nodes (none: left out)."""
        wanted = sorted(slots)
        counts: dict[int, dict[str, int]] = {}
        if not wanted:
            return counts
        requests: list[list[Word]] = [["CLUSTER", "COUNTKEYSINSLOT", slot] for slot in wanted]
        for node_id, replies in (await self.ask_all(members, requests)).items():
            if isinstance(replies, Unreachable):
                raise replies
            for slot, count in zip(wanted, replies, strict=True):
                if isinstance(count, ErrorReply):
                    raise Failed(f"CLUSTER COUNTKEYSINSLOT: {count.text}")
                if count:
                    counts.setdefault(slot, {})[node_id] = count
        return counts

    async def find_strays(self, picture: Picture) -> dict[int, dict[str, int]]:
        """Keys of slots that a master has not, or that are not the only owner's."""
        strays: dict[int, dict[str, int]] = {}
        owners = picture.last_word()
        for master in picture.masters():
            if not master.keys:
                continue
            foreign = [slot for slot in range(SLOTS) if owners.get(slot) != master.id]
            for slot, counts in (await self.count_keys([master], foreign)).items():
                strays.setdefault(slot, {}).update(counts)
        return strays


def agree(picture: Picture) -> bool:
    """Whether all have the same view of the slots, and nothing is open."""
    return picture.agreed() and not picture.open_slots()


def sees(view: View, ids: Iterable[str]) -> bool:
    """Whether the node has all of these as members."""
    known = view.known()
    return all(node_id in known for node_id in ids)
