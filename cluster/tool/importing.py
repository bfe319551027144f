"""`import`: the keys of a server that is no cluster, by SCAN and MIGRATE on that server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import trio

from cluster.slots import key_slot
from cluster.tool.batches import Batch, Sizer, cut_round
from cluster.tool.connection import (
    Address,
    Connection,
    Credentials,
    ErrorReply,
    Word,
    resolve_host,
)
from cluster.tool.display import Display, Meter
from cluster.tool.errors import Failed, Refused, Unreachable
from cluster.tool.fleet import Fleet
from cluster.tool.forming import survey_sound
from cluster.tool.mover import BUSY_KEY, MOVED_ON, PASSING, MoveOptions, classify, show_key
from cluster.tool.picture import Picture
from node.network import Network

SCAN_COUNT: Final = 1000
PAUSE: Final = 0.5


async def import_keys(
    fleet: Fleet,
    network: Network,
    source: Address,
    credentials: Credentials,
    copy: bool,
    replace: bool,
    options: MoveOptions,
    display: Display,
) -> dict[str, Any]:
    """Move (or copy) all keys of the server's database 0 into the cluster.

    Keys that are in the cluster already stay as they are, on both sides, and are told; with
    ``replace`` the imported ones win. Run again after an interruption, it does what is left (with
    ``copy``, all of it).
    """
    picture = await survey_sound(fleet)
    source = Address(await resolve_host(source.host), source.port)
    connection = Connection(network, source, credentials, fleet.timeout)
    try:
        total = await _examine(connection)
        verb = "copied" if copy else "moved"
        display.say(f"{total} keys of {source} are {verb} to {len(picture.masters())} masters")
        document: dict[str, Any] = {"source": str(source), "keys": total, "done": False}
        if display.dry_run or not total:
            return {**document, "done": not total}
        display.confirm("Import them?")
        with display.progress("Importing", 0, total) as meter:
            work = _Import(fleet, picture, connection, copy, replace, options, meter)
            await work.run()
    finally:
        connection.close()
    if work.busy:
        names = ", ".join(map(show_key, work.busy[:10]))
        more = f" and {len(work.busy) - 10} more" if len(work.busy) > 10 else ""
        raise Failed(
            f"{len(work.busy)} keys are in the cluster already, and have not been imported: "
            f"{names}{more} (--replace imports them all the same)"
        )
    display.good(f"{meter.keys_done} keys have been {verb}")
    return {**document, "done": True, "moved": meter.keys_done, "seconds": round(meter.seconds, 3)}


async def _examine(connection: Connection) -> int:
    """How many keys there are. Raises Refused if that is not what this is for."""
    try:
        about = await connection.call("INFO", "cluster")
        total = await connection.call("DBSIZE")
    except ErrorReply as error:
        raise Unreachable(f"{connection.address}: {error.text}") from None
    if b"cluster_enabled:1" in about:
        raise Refused(f"{connection.address} is a node of a cluster itself")
    return int(total)


class _Import:
    """One pass over all keys."""

    def __init__(
        self,
        fleet: Fleet,
        picture: Picture,
        connection: Connection,
        copy: bool,
        replace: bool,
        options: MoveOptions,
        meter: Meter,
    ) -> None:
        self.busy: list[bytes] = []
        self._fleet = fleet
        self._connection = connection
        self._words: list[Word] = []
        if copy:
            self._words.append("COPY")
        if replace:
            self._words.append("REPLACE")
        self._words += fleet.credentials.migrate_words()
        self._options = options
        self._meter = meter
        self._sizer = Sizer(options.most_keys)
        self._places: dict[int, Address] = {}
        self._learn(picture)

    def _learn(self, picture: Picture) -> None:
        self._places = {
            slot: master.address for master in picture.masters() for slot in master.me.slots
        }

    async def run(self) -> None:
        """Raises Failed, Unreachable."""
        cursor = b"0"
        while True:
            try:
                cursor, keys = await self._connection.call("SCAN", cursor, "COUNT", SCAN_COUNT)
            except ErrorReply as error:
                raise Failed(f"{self._connection.address}: SCAN: {error.text}") from None
            await self._send(list(dict.fromkeys(keys)))
            if cursor == b"0":
                return

    async def _send(self, keys: Sequence[bytes]) -> None:
        deadline = trio.current_time() + self._options.patience
        left = list(keys)
        while left:
            sizes = await self._connection.pipeline(["MEMORY", "USAGE", key] for key in left)
            known = {
                key: size for key, size in zip(left, sizes, strict=True) if isinstance(size, int)
            }
            by_place: dict[Address, list[bytes]] = {}
            for key in left:
                place = self._places.get(key_slot(key))
                if place is None:
                    raise Failed(f"Nobody has the slot of {show_key(key)}")
                by_place.setdefault(place, []).append(key)
            left = []
            reason = ""
            for place, found in by_place.items():
                waiting = [Batch(0, tuple(found))]
                while waiting:
                    batch = cut_round(waiting, known, self._sizer.count, self._options.round_bytes)[
                        0
                    ]
                    again, why = await self._migrate(place, batch.keys)
                    left += again
                    reason = why or reason
            if left and reason:
                if trio.current_time() > deadline:
                    raise Failed(reason)
                await trio.sleep(PAUSE)
                self._learn(await self._fleet.survey())

    async def _migrate(self, place: Address, keys: tuple[bytes, ...]) -> tuple[list[bytes], str]:
        """One request; the keys to try again, and why after a pause."""
        timeout = self._options.timeout
        begin = trio.current_time()
        reply = (
            await self._connection.pipeline(
                [["MIGRATE", place.host, place.port, "", 0, timeout, *self._words, "KEYS", *keys]],
                patience=timeout / 1000 + 1,
            )
        )[0]
        self._sizer.learn(len(keys), trio.current_time() - begin)
        if not isinstance(reply, ErrorReply):
            self._meter.add(keys=len(keys) if reply == b"OK" else 0)
            return [], ""
        kind = classify(reply.text)
        if kind == BUSY_KEY:
            # Of several, those that are not there have been imported.
            if len(keys) == 1:
                self.busy.append(keys[0])
                return [], ""
            return await self._one_by_one(place, keys)
        if kind in (PASSING, MOVED_ON):
            return list(keys), f"{self._connection.address}: MIGRATE: {reply.text}"
        raise Failed(f"{self._connection.address}: MIGRATE: {reply.text}")

    async def _one_by_one(self, place: Address, keys: tuple[bytes, ...]) -> tuple[list[bytes], str]:
        again: list[bytes] = []
        reason = ""
        if "COPY" in self._words:
            # What has been copied a moment ago would look as if it had been there before.
            there = await self._fleet.pipeline(place, [["DUMP", key] for key in keys])
            here = await self._connection.pipeline(["DUMP", key] for key in keys)
            differ = []
            for key, a, b in zip(keys, there, here, strict=True):
                if a == b and isinstance(a, bytes):
                    self._meter.add(keys=1)
                else:
                    differ.append(key)
            keys = tuple(differ)
        for key in keys:
            more, why = await self._migrate(place, (key,))
            again += more
            reason = why or reason
        return again, reason
