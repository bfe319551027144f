"""Moves slots and their keys between masters.

A group of slots goes through these steps together, each step one pipeline to one node:

1. IMPORTING on the target, then MIGRATING on the source: from here on clients are told to ask the
   target for what the source does not have any more;
2. MIGRATE of the keys, in rounds (:mod:`cluster.tool.batches`), until the source has none;
3. NODE on the target, which takes the slots with a greater epoch, then on the source, then on all
   other masters.

Stopped between any two of them, nothing is lost, and doing all of it again finishes it. Different
sources work at the same time; a source works on one group at a time, since MIGRATE occupies it.

A key that is on both sides (MIGRATE was cut off between the two) is taken from the source, if the
slot has been open all along: clients are served by the source as long as it has the key. Where that
is not known, only equal values are merged, unless the operator says otherwise.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import trio

from cluster.tool.batches import MOST_KEYS, ROUND_BYTES, Batch, Sizer, cut_round, make_batches
from cluster.tool.connection import Connection, ErrorReply, Reply, Word
from cluster.tool.display import Display, Meter
from cluster.tool.errors import Failed, Unreachable
from cluster.tool.fleet import Fleet
from cluster.tool.picture import Member, Picture
from cluster.tool.planning import Move, cut_groups, gather, remaining

GROUP_SLOTS: Final = 256
GROUP_KEYS: Final = 4000
FETCH: Final = 1000
"""How many keys of a slot are asked for at once."""
PATIENCE: Final = 30.0
"""Seconds without any progress after which a move gives up."""
FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 1.0
SHOWN_CONFLICTS: Final = 10

REPORT: Final = "report"
STRAY: Final = "stray"
OWNER: Final = "owner"

BUSY_KEY: Final = "busy key"
PASSING: Final = "passing"
MOVED_ON: Final = "moved on"
FATAL: Final = "fatal"

_TARGET_SAYS: Final = "ERR Target instance replied with error: "
_PASSING_CODES: Final = {"IOERR", "TRYAGAIN", "LOADING", "CLUSTERDOWN", "BUSY", "MASTERDOWN"}
_MOVED_CODES: Final = {"MOVED", "ASK", "READONLY"}
_MOVED_TEXTS: Final = (
    "I'm not the owner of hash slot",
    "I'm already the owner of hash slot",
    "Please use SETSLOT only with masters",
    "I don't know about node",
    "Unknown node",
    "Target node is not a master",
)


class Disturbed(Exception):
    """The cluster is not as the plan has it (a failover, a lost connection): look again."""


@dataclass(slots=True)
class MoveOptions:
    """How to move.

    ``timeout`` is MIGRATE's, in milliseconds. ``conflicts`` says which one stays of a key that is
    on both sides with different values, where the slot was not properly open: neither is touched
    (`report`), the `stray` one, which is what `--replace` means, or the `owner`'s.
    """

    timeout: int = 60000
    most_keys: int = MOST_KEYS
    round_bytes: int = ROUND_BYTES
    conflicts: str = REPORT
    patience: float = PATIENCE


@dataclass(slots=True)
class Result:
    """What has been moved."""

    slots: int = 0
    keys: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class _Route:
    """Between whom keys go now. The side that is not the owner's is talked to with ASKING."""

    source: Connection
    target: Member
    from_owner: bool
    trusted: set[int] = field(default_factory=set)


def classify(text: str) -> str:
    """What an error of MIGRATE or SETSLOT means for the move."""
    text = text.removeprefix(_TARGET_SAYS)
    code = text.partition(" ")[0]
    if code == "BUSYKEY":
        return BUSY_KEY
    if code in _PASSING_CODES:
        return PASSING
    if code in _MOVED_CODES or any(known in text for known in _MOVED_TEXTS):
        return MOVED_ON
    return FATAL


def show_key(key: bytes) -> str:
    """A key for people."""
    return repr(key)[1:]


class Mover:
    """Moves slots as one picture of the cluster has them."""

    def __init__(
        self, fleet: Fleet, picture: Picture, options: MoveOptions, display: Display, meter: Meter
    ) -> None:
        self._fleet = fleet
        self._picture = picture
        self._options = options
        self._display = display
        self._meter = meter

    async def move(self, moves: Sequence[Move]) -> list[str]:
        """Move these slots; what has gone wrong in a way that another look may show a way around.

        Raises Failed.
        """
        routes: dict[str, list[tuple[str, list[int]]]] = {}
        for (source, target), slots in gather(moves).items():
            routes.setdefault(source, []).append((target, slots))
        troubles: list[str] = []

        async def empty(source: str) -> None:
            try:
                for target, slots in routes[source]:
                    await self._move_slots(source, target, slots)
            except (Disturbed, Unreachable) as trouble:
                troubles.append(str(trouble))

        async with trio.open_nursery() as nursery:
            for source in routes:
                nursery.start_soon(empty, source)
        return troubles

    async def collect(self, holder: str, owner: str, slots: Sequence[int]) -> None:
        """Bring the keys of slots that are not the holder's to their owner.

        Raises Failed, Disturbed, Unreachable.
        """
        source, target = self._member(holder), self._member(owner)
        async with self._fleet.connected(source.address) as connection:
            await self._set_slots(connection, slots, "NODE", owner)
            await self._set_slots(connection, slots, "IMPORTING", owner)
            route = _Route(connection, target, from_owner=False)
            await self._move_keys(route, slots)
            await self._set_slots(connection, slots, "STABLE")

    def _member(self, node_id: str) -> Member:
        member = self._picture.members.get(node_id)
        if member is None:
            raise Disturbed(f"{self._picture.name(node_id)} does not answer")
        return member

    async def _move_slots(self, source: str, target: str, slots: Sequence[int]) -> None:
        counts = await self._fleet.count_keys([self._member(source)], slots)
        keys = {slot: sum(found.values()) for slot, found in counts.items()}
        for group in cut_groups(slots, keys, GROUP_SLOTS, GROUP_KEYS):
            await self._move_group(self._member(source), self._member(target), group)

    async def _move_group(self, source: Member, target: Member, slots: list[int]) -> None:
        fleet = self._fleet
        there = await fleet.count_keys([target], slots)
        trusted = {
            slot
            for slot in slots
            if slot not in there
            or (
                source.view.migrating.get(slot) == target.id
                and target.view.importing.get(slot) == source.id
            )
        }
        async with (
            fleet.connected(source.address) as from_,
            fleet.connected(target.address) as to,
        ):
            # An importing node does not hear of a failover of the other side: for it the slot is
            # then nobody's, or still the old master's.
            deaf = [slot for slot in slots if target.view.owner(slot) not in (source.id, target.id)]
            await self._set_slots(to, deaf, "NODE", source.id)
            await self._set_slots(to, slots, "IMPORTING", source.id)
            await self._set_slots(from_, slots, "MIGRATING", target.id)
            await self._move_keys(_Route(from_, target, True, trusted), slots)
            await self._set_slots(to, slots, "NODE", target.id)
            # A master that hears of it by gossip first, and has no slots left, is a replica by now.
            with contextlib.suppress(Disturbed):
                await self._set_slots(from_, slots, "NODE", target.id)
        await self.announce(dict.fromkeys(slots, target.id), {source.id, target.id})
        self._meter.add(slots=len(slots))

    async def announce(self, owners: Mapping[int, str], besides: set[str]) -> None:
        """Tell the other masters whose the slots are; who does not hear it learns it by gossip."""
        requests: list[list[Word]] = [
            ["CLUSTER", "SETSLOT", slot, "NODE", node_id] for slot, node_id in owners.items()
        ]
        others = [master for master in self._picture.masters() if master.id not in besides]
        await self._fleet.ask_all(others, requests)

    async def _set_slots(self, node: Connection, slots: Sequence[int], *state: str) -> None:
        """CLUSTER SETSLOT of all these. Raises Failed, Disturbed."""
        waiting = list(slots)
        pause = _Pause(self._options.patience)
        while waiting:
            replies = await node.pipeline(["CLUSTER", "SETSLOT", slot, *state] for slot in waiting)
            again: list[int] = []
            for slot, reply in zip(waiting, replies, strict=True):
                if not isinstance(reply, ErrorReply):
                    continue
                text = f"{node.address}: SETSLOT {slot} {state[0]}: {reply.text}"
                kind = classify(reply.text)
                if kind == PASSING:
                    again.append(slot)
                    pause.reason = text
                elif kind == MOVED_ON:
                    raise Disturbed(text)
                else:
                    raise Failed(text)
            waiting = again
            if waiting:
                await pause.wait()

    # Keys.

    async def _move_keys(self, route: _Route, slots: Sequence[int]) -> None:
        """Move all keys of these slots. Raises Failed, Disturbed, Unreachable."""
        source = route.source
        sizer = Sizer(self._options.most_keys)
        pause = _Pause(self._options.patience)
        pending = list(slots)
        while True:
            replies = await source.pipeline(
                ["CLUSTER", "GETKEYSINSLOT", slot, FETCH] for slot in pending
            )
            keys: dict[int, list[bytes]] = {}
            for slot, reply in zip(pending, replies, strict=True):
                if isinstance(reply, ErrorReply):
                    raise Disturbed(f"{source.address}: GETKEYSINSLOT: {reply.text}")
                if reply:
                    keys[slot] = reply
            pending = list(keys)
            if not pending:
                return
            sizes = await self._measure(route, [key for found in keys.values() for key in found])
            waiting = make_batches(keys)
            moved = 0
            while waiting:
                batches = cut_round(waiting, sizes, sizer.count, self._options.round_bytes)
                begin = trio.current_time()
                done = await self._migrate(
                    route, batches, pause, replace=self._options.conflicts == STRAY
                )
                sizer.learn(sum(len(b.keys) for b in batches), trio.current_time() - begin)
                moved += done
                if pause.reason:
                    break
            if moved:
                pause.restart()
            else:
                pause.reason = pause.reason or "no key can be moved"
            if pause.reason:
                await pause.wait()

    async def _measure(self, route: _Route, keys: Sequence[bytes]) -> dict[bytes, int]:
        """About how many bytes each key takes; keys that are gone are left out."""
        replies = await self._ask(
            route.source, not route.from_owner, [["MEMORY", "USAGE", key] for key in keys]
        )
        return {key: size for key, size in zip(keys, replies, strict=True) if isinstance(size, int)}

    async def _ask(
        self, node: Connection, asking: bool, requests: Sequence[Sequence[Word]]
    ) -> list[Reply]:
        """A pipeline to a node that is the slots' owner, or is asked in spite of that."""
        if not asking:
            return await node.pipeline(requests)
        doubled: list[Sequence[Word]] = []
        for words in requests:
            doubled += [["ASKING"], words]
        return (await node.pipeline(doubled))[1::2]

    async def _migrate(
        self, route: _Route, batches: Sequence[Batch], pause: _Pause, replace: bool
    ) -> int:
        """One round; how many keys have moved. Trouble that will pass goes to ``pause.reason``."""
        place = self._address_for(route)
        options = self._options
        requests: list[list[Word]] = []
        for batch in batches:
            words: list[Word] = ["MIGRATE", place[0], place[1], "", 0, options.timeout]
            if replace:
                words.append("REPLACE")
            words += self._fleet.credentials.migrate_words()
            requests.append([*words, "KEYS", *batch.keys])
        replies = await route.source.pipeline(
            requests, patience=len(requests) * (options.timeout / 1000 + 1)
        )
        moved = 0
        for batch, reply in zip(batches, replies, strict=True):
            if not isinstance(reply, ErrorReply):
                if reply == b"OK":
                    moved += len(batch.keys)
                continue
            text = f"{route.source.address}: MIGRATE of slot {batch.slot}: {reply.text}"
            match classify(reply.text):
                case "busy key":
                    moved += await self._settle(route, batch, pause)
                case "passing":
                    pause.reason = text
                case "moved on":
                    raise Disturbed(text)
                case _:
                    raise Failed(text)
        self._meter.add(keys=moved)
        return moved

    def _address_for(self, route: _Route) -> tuple[str, int]:
        """Where the source finds the target: as the source itself sees it, if it does."""
        for member in self._picture.members.values():
            if member.address == route.source.address:
                line = member.view.nodes.get(route.target.id)
                if line is not None and line.usable:
                    return line.address
        return route.target.address

    async def _settle(self, route: _Route, batch: Batch, pause: _Pause) -> int:
        """Some of these keys are on both sides: see which copy counts; how many have moved.

        Raises Failed where nobody can say.
        """
        source = route.source
        dumps = await self._ask(source, not route.from_owner, [["DUMP", key] for key in batch.keys])
        left = {
            key: dump
            for key, dump in zip(batch.keys, dumps, strict=True)
            if isinstance(dump, bytes)
        }
        moved = len(batch.keys) - len(left)
        if batch.slot in route.trusted:
            same = list(left)
            different: list[bytes] = []
        else:
            same, different = await self._compare(route, left)
        if different and self._options.conflicts == OWNER and not route.from_owner:
            await self._ask(source, True, [["UNLINK", key] for key in different])
            different = []
        if same:
            moved += await self._replace(route, Batch(batch.slot, tuple(same)), pause)
        if different:
            names = ", ".join(map(show_key, different[:SHOWN_CONFLICTS]))
            more = f" and {len(different) - SHOWN_CONFLICTS} more"
            raise Failed(
                f"Slot {batch.slot}: {len(different)} keys have different values on "
                f"{source.address} and {route.target.address}: {names}"
                f"{more if len(different) > SHOWN_CONFLICTS else ''}. Delete one of them, or use "
                "--replace, and the one on the source counts"
            )
        return moved

    async def _replace(self, route: _Route, batch: Batch, pause: _Pause) -> int:
        done = await self._migrate(route, [batch], pause, replace=True)
        self._meter.add(keys=-done)  # whoever called counts them
        return done

    async def _compare(
        self, route: _Route, dumps: Mapping[bytes, bytes]
    ) -> tuple[list[bytes], list[bytes]]:
        """The keys whose values are equal on both sides (or that only one has), and the others."""
        keys = list(dumps)
        same: list[bytes] = []
        different: list[bytes] = []
        async with self._fleet.connected(route.target.address) as target:
            theirs = await self._ask(target, route.from_owner, [["DUMP", key] for key in keys])
            for key, dump in zip(keys, theirs, strict=True):
                if not isinstance(dump, bytes) or dump == dumps[key]:
                    same.append(key)
                    continue
                # The same value in another encoding is another dump.
                digests = [
                    (await node.pipeline([["DEBUG", "DIGEST-VALUE", key]]))[0]
                    for node in (route.source, target)
                ]
                equal = isinstance(digests[0], list) and digests[0] == digests[1]
                (same if equal else different).append(key)
        return same, different


class _Pause:
    """Waits longer each time, and gives up after so many seconds without progress."""

    def __init__(self, patience: float) -> None:
        self.reason = ""
        self._patience = patience
        self._seconds = FIRST_PAUSE
        self._deadline = trio.current_time() + patience

    def restart(self) -> None:
        """There has been progress."""
        self._seconds = FIRST_PAUSE
        self._deadline = trio.current_time() + self._patience

    async def wait(self) -> None:
        """Raises Failed when that has taken too long."""
        if trio.current_time() > self._deadline:
            raise Failed(f"Nothing has moved for {self._patience:g} s: {self.reason}")
        self.reason = ""
        await trio.sleep(self._seconds)
        self._seconds = min(LONGEST_PAUSE, self._seconds * 2)


def successor(picture: Picture, node_id: str) -> str:
    """Who is master in the place of a node that was one: itself, or the replica promoted since.

    Empty if nobody is there.
    """
    member = picture.members.get(node_id)
    if member is None:
        return ""
    return node_id if member.is_master else member.me.master


async def execute_moves(
    fleet: Fleet,
    picture: Picture,
    moves: Sequence[Move],
    options: MoveOptions,
    display: Display,
    what: str = "Moving",
) -> Result:
    """Move slots until all are where the plan wants them, and all nodes know it.

    After a failover it goes on from the new master. Raises Failed, Unreachable.
    """
    left = remaining(moves, picture.last_word())
    total = await _count(fleet, picture, left)
    begin = trio.current_time()
    with display.progress(what, len(left), total) as meter:
        deadline = trio.current_time() + options.patience
        while left:
            before = (meter.keys_done, meter.slots_done)
            troubles = await Mover(fleet, picture, options, display, meter).move(left)
            if not troubles:
                break
            if (meter.keys_done, meter.slots_done) != before:
                deadline = trio.current_time() + options.patience
            for trouble in dict.fromkeys(troubles):
                display.warn(trouble)
            if trio.current_time() > deadline:
                raise Failed(
                    "It does not go on; the same command continues when the cluster is well"
                )
            await trio.sleep(LONGEST_PAUSE)
            slots = {move.slot for move in left}

            def usable(now: Picture, slots: set[int] = slots) -> bool:
                return slots <= now.covered()

            picture = await fleet.wait_for(
                usable, "Slots that are to move have not found a master", options.patience
            )
            plan = [Move(m.slot, m.source, successor(picture, m.target) or m.target) for m in left]
            left = remaining(plan, picture.last_word())
    result = Result(meter.slots_done, meter.keys_done, trio.current_time() - begin)
    if moves:
        await await_agreement(fleet, {move.slot for move in moves})
    return result


async def await_agreement(fleet: Fleet, slots: set[int], limit: float = 30.0) -> Picture:
    """Until all nodes name the same owners, and none of these slots is open. Raises Failed."""

    def settled(picture: Picture) -> bool:
        return picture.agreed() and not slots & set(picture.open_slots())

    return await fleet.wait_for(settled, "The nodes do not agree about the slots", limit)


async def _count(fleet: Fleet, picture: Picture, moves: Sequence[Move]) -> int:
    total = 0
    by_source: dict[str, list[int]] = {}
    for move in moves:
        by_source.setdefault(move.source, []).append(move.slot)
    for source, slots in by_source.items():
        if source in picture.members:
            counts = await fleet.count_keys([picture.members[source]], slots)
            total += sum(sum(found.values()) for found in counts.values())
    return total
