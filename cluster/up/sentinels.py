"""The sentinels of `sentrio up`: their config files, their rows, and the events that they tell."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import hiredis
import trio

from cluster.tool.connection import Address, ErrorReply, encode_words
from cluster.tool.errors import Refused, ToolError, Unreachable
from cluster.tool.fleet import Fleet
from cluster.tool.sentinels import Guarded, ask_sentinel
from cluster.up.processes import Process
from cluster.up.status import UNREACHABLE, Row
from node.files import replace_file
from node.network import Network

CLUSTER_NAME: Final = "sentrio"
DISTANCE: Final = 20000
"""From the first node's port to the first sentinel's."""
FOLDER_PREFIX: Final = "sentinel-"
CONFIG_NAME: Final = "sentinel.conf"
FAILOVER_TIMEOUT: Final = 10_000
RETRY_INTERVAL: Final = 0.5
RECEIVE_SIZE: Final = 65536

QUIET: Final = frozenset({"+sentinel", "+monitor", "+slave", "+new-epoch", "+set"})
"""Events of getting to know each other, which are no news."""


def sentinel_addresses(first: Address, count: int) -> list[Address]:
    """Where the sentinels listen."""
    return [Address(first.host, first.port + DISTANCE + n) for n in range(count)]


def sentinel_home(folder: Path, address: Address) -> Path:
    """Where a sentinel lives."""
    return folder.absolute() / f"{FOLDER_PREFIX}{address.port}"


def prepare(folder: Path, entry: Address, addresses: Sequence[Address], down_after: int) -> None:
    """Have a config file for each sentinel. Raises OSError.

    Those of another number of sentinels go: majorities are counted among all that were ever known.
    """
    homes = [sentinel_home(folder, address) for address in addresses]
    if {path.resolve() for path in folder.glob(f"{FOLDER_PREFIX}*")} != set(homes):
        for path in folder.glob(f"{FOLDER_PREFIX}*"):
            shutil.rmtree(path)
    for address, home in zip(addresses, homes, strict=True):
        home.mkdir(parents=True, exist_ok=True)
        path = home / CONFIG_NAME
        if not path.exists():
            text = describe(entry, address, len(addresses), down_after)
            replace_file(str(path), text.encode())


def describe(entry: Address, address: Address, count: int, down_after: int) -> str:
    """A sentinel's config file."""
    name = CLUSTER_NAME
    return "".join(
        f"{line}\n"
        for line in (
            f"port {address.port}",
            f"bind {address.host}",
            f"sentinel monitor-cluster {name} {entry.host} {entry.port} {count // 2 + 1}",
            f"sentinel down-after-milliseconds {name} {down_after}",
            f"sentinel failover-timeout {name} {FAILOVER_TIMEOUT}",
        )
    )


async def adjust(fleet: Fleet, process: Process, down_after: int) -> None:
    """A sentinel that was there before may have been started with another --down-after."""
    words = ["SENTINEL", "SET", CLUSTER_NAME, "down-after-milliseconds", str(down_after)]
    with contextlib.suppress(Unreachable, ErrorReply):
        await fleet.call(process.address, *words)


async def ask_sentinels(fleet: Fleet, processes: Sequence[Process]) -> list[Row]:
    """A row for each."""
    rows: dict[Address, Row] = {}

    async def ask(process: Process) -> None:
        try:
            guarded = await ask_sentinel(fleet, process.address)
        except (Unreachable, Refused):
            rows[process.address] = Row(process.address, state=process.ended or UNREACHABLE)
        else:
            rows[process.address] = make_sentinel_row(process.address, guarded)

    async with trio.open_nursery() as nursery:
        for process in processes:
            if process.ended:
                rows[process.address] = Row(process.address, state=process.ended)
            else:
                nursery.start_soon(ask, process)
    return [rows[process.address] for process in processes]


def make_sentinel_row(address: Address, clusters: Sequence[Guarded]) -> Row:
    """What a sentinel guards, and whether all of it is well."""
    shards = [shard for guarded in clusters for shard in guarded.shards]
    down = sum(shard.master.state != "ok" for shard in shards)
    others = min((guarded.others for guarded in clusters), default=0)
    what = f"guards {len(shards)} shard{'' if len(shards) == 1 else 's'}, {others} others"
    state = "ok" if shards and not down else f"{down} of its masters down" if down else "looking"
    return Row(address, "sentinel", which=what, state=state)


async def hear_events(
    network: Network, processes: Sequence[Process], tell: Callable[[str], None]
) -> None:
    """Tell what the sentinels publish, as one of them does that is there; never ends."""
    while True:
        for process in processes:
            if not process.ended:
                with contextlib.suppress(OSError, trio.BrokenResourceError, ToolError):
                    await _hear(network, process.address, tell)
        await trio.sleep(RETRY_INTERVAL)


async def _hear(network: Network, address: Address, tell: Callable[[str], None]) -> None:
    stream = await network.connect(address.host, address.port)
    reader = hiredis.Reader(encoding="utf-8", errors="replace")
    async with stream:
        await stream.send_all(encode_words(["PSUBSCRIBE", "*"]))
        while data := await stream.receive_some(RECEIVE_SIZE):
            reader.feed(bytes(data))
            while (message := reader.gets()) is not False:
                if isinstance(message, list) and message[0] == "pmessage":
                    event = describe_event(message[2], message[3])
                    if event:
                        tell(event)


def describe_event(channel: str, payload: str) -> str:
    """An event for people; empty for what is no news."""
    if channel in QUIET or not channel.startswith(("+", "-")):
        return ""
    return f"Sentinels: {channel} {payload}"
