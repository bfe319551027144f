"""`backup`: a snapshot of each master's data, and the layout of the cluster, in one folder."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any, Final

import trio

from cluster.tool.connection import Connection, ErrorReply
from cluster.tool.diagnosis import blocking, diagnose
from cluster.tool.display import Display, format_seconds
from cluster.tool.errors import Failed, Unreachable
from cluster.tool.fleet import Fleet
from cluster.tool.picture import Member, Picture
from cluster.tool.view import list_ranges
from node.files import SYSTEM_FILES, Sink, replace_file
from node.replication.payload import Payload, PayloadError

LAYOUT_NAME: Final = "nodes.json"
PORTION: Final = 8 << 20
FIRST_BYTES: Final = 3600.0
"""Seconds that a master may take to make the snapshot; it sends signs of life meanwhile."""
RDB_MAGIC: Final = b"REDIS"
SMALLEST_RDB: Final = 18


async def back_up(fleet: Fleet, folder: Path, display: Display) -> tuple[dict[str, Any], bool]:
    """Fetch one RDB file from each master with slots; whether the backup is of a whole cluster.

    Raises Failed, Unreachable.
    """
    picture = await fleet.survey()
    troubles = blocking(diagnose(picture))
    for finding in troubles:
        display.bad(finding.text)
    masters = [master for master in picture.masters() if master.me.slots]
    document: dict[str, Any] = {
        "folder": str(folder),
        "files": {master.id: file_name(master) for master in masters},
        "layout": LAYOUT_NAME,
        "bytes": 0,
        "complete": not troubles,
    }
    rows = [[m.name, len(m.me.slots), m.keys, file_name(m)] for m in masters]
    display.table(["master", "slots#", "keys#", "file"], rows, f"Backup to {folder}")
    if display.dry_run:
        return document, not troubles
    begin = trio.current_time()
    sizes: dict[str, int] = {}

    async def fetch(master: Member) -> None:
        sizes[master.id] = await _fetch(fleet, master, folder / file_name(master))
        display.good(f"{master.name}: {sizes[master.id]} bytes")

    async with trio.open_nursery() as nursery:
        for master in masters:
            nursery.start_soon(fetch, master)
    layout = json.dumps(describe_layout(picture), indent=2) + "\n"
    await trio.to_thread.run_sync(replace_file, str(folder / LAYOUT_NAME), layout.encode())
    document["bytes"] = sum(sizes.values())
    seconds = format_seconds(trio.current_time() - begin)
    display.good(f"{document['bytes']} bytes of {len(masters)} masters in {seconds}")
    return document, not troubles


def file_name(master: Member) -> str:
    """As redis-cli names it."""
    host = master.address.host.replace(":", "_")
    return f"redis-node-{host}-{master.address.port}-{master.id}.rdb"


def describe_layout(picture: Picture) -> list[dict[str, Any]]:
    """All nodes, in the form that redis-cli writes."""
    nodes = []
    for member in picture.in_order():
        me = member.me
        nodes.append(
            {
                "name": member.id,
                "host": member.address.host,
                "port": member.address.port,
                "replicate": me.master or None,
                "slots": [list(ends) for ends in list_ranges(me.slots)],
                "slots_count": len(me.slots),
                "flags": ",".join(sorted(me.flags - {"myself"})),
                "current_epoch": member.current_epoch,
            }
        )
    return nodes


async def _fetch(fleet: Fleet, master: Member, path: Path) -> int:
    """One snapshot, written aside and renamed when it is whole; its size in bytes."""
    connection = fleet.open(master.address, fleet.timeout)
    aside = f"{path}.{os.getpid()}.part"
    sink = None
    try:
        # Only the data are wanted, no stream of changes; old servers do not know that.
        await connection.pipeline([["REPLCONF", "rdb-only", "1"], ["REPLCONF", "capa", "eof"]])
        await connection.send("SYNC")
        sink = await trio.to_thread.run_sync(Sink, SYSTEM_FILES, aside, PORTION)
        await _receive(connection, sink)
        await trio.to_thread.run_sync(sink.finish)
        await trio.to_thread.run_sync(_publish, aside, path)
    except (PayloadError, ErrorReply) as error:
        raise Failed(f"{master.name}: {error}") from None
    except OSError as error:
        raise Failed(f"{path}: {error.strerror or error}") from None
    except Unreachable as error:
        raise Failed(f"{master.name}: {error}") from None
    finally:
        connection.close()
        if sink is not None:
            sink.abandon()
        with contextlib.suppress(OSError):
            SYSTEM_FILES.remove(aside)
    return sink.size


async def _receive(connection: Connection, sink: Sink) -> None:
    payload = Payload()
    first = last = b""
    while not payload.complete:
        data = payload.feed(await connection.receive(0.0 if payload.begun else FIRST_BYTES))
        if data:
            first = (first + data)[:SMALLEST_RDB] if len(first) < SMALLEST_RDB else first
            last = (last + data)[-9:]
            await trio.to_thread.run_sync(sink.write, data)
    # The end of an RDB file: the opcode EOF, and eight bytes of checksum.
    if not first.startswith(RDB_MAGIC) or last[:1] != b"\xff":
        raise Failed(f"{connection.address} has sent something that is no snapshot")


def _publish(aside: str, path: Path) -> None:
    SYSTEM_FILES.rename(aside, str(path))
    SYSTEM_FILES.sync_folder(str(path.parent))
