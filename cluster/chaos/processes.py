"""Faults for the processes of `sentrio up`, found by its folder. Linux alone, for /proc's sake."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import trio

from cluster.chaos.schedule import CLOCK, FULL, KILL, PARTITION, SLOW, STOP, Topology
from cluster.chaos.target import run
from cluster.tool.connection import Address
from cluster.tool.errors import Failed, Refused, ToolError
from cluster.up.command import BUS_DISTANCE, HOST, PLAN_NAME, Shape, node_home
from cluster.up.processes import START_NAME
from cluster.up.sentinels import FOLDER_PREFIX, sentinel_home

CHAIN: Final = "SENTRIO-CHAOS"
DELAY: Final = ("delay", "150ms", "50ms", "distribution", "normal")
SMALL_DISK: Final = 1 << 30
FILL_NAME: Final = "chaos.fill"
BLOCK: Final = bytes(1 << 20)
ENDING_LIMIT: Final = 3.0
POLL_INTERVAL: Final = 0.1


class Processes:
    """The cluster in a folder of `sentrio up`. Raises Refused if there is none."""

    def __init__(self, folder: Path) -> None:
        if sys.platform != "linux":
            raise Refused("The processes of `sentrio up` are found by way of /proc: Linux alone")
        try:
            shape = Shape(**json.loads((folder / PLAN_NAME).read_text()))
        except FileNotFoundError:
            raise Refused(f"{folder} is no folder of `sentrio up`") from None
        except (OSError, ValueError, TypeError) as error:
            raise Refused(f"{folder / PLAN_NAME} cannot be read: {error}") from None
        self.entries: Sequence[Address] = shape.addresses
        ports = sorted(
            int(path.name.removeprefix(FOLDER_PREFIX)) for path in folder.glob(f"{FOLDER_PREFIX}*")
        )
        self.sentinels: Sequence[Address] = [Address(HOST, port) for port in ports]
        self.topology = Topology(shape.shards, shape.replicas, len(ports))
        self._homes = {address.port: node_home(folder, address) for address in self.entries} | {
            address.port: sentinel_home(folder, address) for address in self.sentinels
        }
        self._stopped: dict[int, int] = {}
        self._cut: set[int] = set()
        self._slow: set[int] = set()
        self._chained = False

    async def find_impossible(self, kinds: Sequence[str]) -> dict[str, str]:
        found = {}
        if CLOCK in kinds:
            found[CLOCK] = "processes share the machine's clock; it would take libfaketime in them"
        if FULL in kinds and not all(is_small_disk(self._homes[a.port]) for a in self.entries):
            found[FULL] = (
                "not every node's folder is a mount of its own of at most 1 GiB (mount -t tmpfs "
                "-o size=256m tmpfs FOLDER, before `sentrio up`)"
            )
        for kind, program in ((PARTITION, "iptables"), (SLOW, "tc")):
            if kind not in kinds:
                continue
            if os.geteuid() != 0:
                found[kind] = f"takes root, for {program}"
            elif shutil.which(program) is None:
                found[kind] = f"takes {program}, which is not installed"
            else:
                try:
                    await self._try(kind)
                except Failed as error:
                    found[kind] = str(error)
        return found

    async def _try(self, kind: str) -> None:
        if kind == PARTITION:
            await run(["iptables", "-w", "-n", "-L", "INPUT"])
            return
        if "noqueue" not in await run(["tc", "qdisc", "show", "dev", "lo"]):
            raise Failed("the loopback device has a queueing discipline already")
        try:
            for words in slow_commands([1]):
                await run(words)
        finally:
            with contextlib.suppress(Failed):
                await run(UNSLOW)

    async def begin(self, kind: str, port: int) -> None:
        if kind == KILL:
            os.kill(self._find(port), signal.SIGKILL)
        elif kind == STOP:
            pid = self._find(port)
            os.kill(pid, signal.SIGSTOP)
            self._stopped[port] = pid
        elif kind == PARTITION:
            self._cut.add(port)
            await self._set_cut()
        elif kind == SLOW:
            self._slow.add(port)
            await self._set_slow()
        elif kind == FULL and port in {address.port for address in self.entries}:
            await trio.to_thread.run_sync(fill, self._homes[port] / FILL_NAME)
        else:
            raise Failed(f"{kind} is not possible here")

    async def end(self, kind: str, port: int) -> None:
        if kind == KILL:
            # Who has it as its child starts it again, and will end it.
            (self._homes[port] / START_NAME).touch()
        elif kind == STOP:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._stopped.pop(port), signal.SIGCONT)
        elif kind == PARTITION:
            self._cut.discard(port)
            await self._set_cut()
        elif kind == SLOW:
            self._slow.discard(port)
            await self._set_slow()
        elif kind == FULL:
            (self._homes[port] / FILL_NAME).unlink(missing_ok=True)
            await self._start_if_it_ends(port)

    async def close(self) -> None:
        if self._chained:
            for words in UNCUT:
                with contextlib.suppress(ToolError):
                    await run(words)

    async def _start_if_it_ends(self, port: int) -> None:
        """A node that cannot save what it has to ends by itself; it may just be about to."""
        with trio.move_on_after(ENDING_LIMIT):
            while find_process(self._homes[port], port) is not None:  # noqa: ASYNC110
                await trio.sleep(POLL_INTERVAL)
            (self._homes[port] / START_NAME).touch()

    def _find(self, port: int) -> int:
        pid = find_process(self._homes[port], port)
        if pid is None:
            raise Failed("it is not running")
        return pid

    async def _set_cut(self) -> None:
        if not self._chained:
            self._chained = True
            # What an earlier run has left, should it have been killed.
            for words in UNCUT:
                with contextlib.suppress(Failed):
                    await run(words)
            for words in CHAINED:
                await run(words)
        for words in cut_commands(self._all_ports(self._cut)):
            await run(words)

    async def _set_slow(self) -> None:
        with contextlib.suppress(Failed):
            await run(UNSLOW)
        for words in slow_commands(self._all_ports(self._slow)):
            await run(words)

    def _all_ports(self, ports: Iterable[int]) -> list[int]:
        """Those of the buses, too."""
        nodes = {address.port for address in self.entries}
        return sorted({*ports, *(port + BUS_DISTANCE for port in ports if port in nodes)})


def find_process(home: Path, port: int, proc: Path = Path("/proc")) -> int | None:
    """The process of a node or sentinel: it works in its folder, and its port is in its words.

    None if there is none, or it has ended and nobody has looked.
    """
    for folder in proc.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            if (folder / "cwd").readlink() != home.resolve():
                continue
            words = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if str(port).encode() in words:
            return int(folder.name)
    return None


CHAINED: Final = (
    ["iptables", "-w", "-N", CHAIN],
    ["iptables", "-w", "-I", "INPUT", "-i", "lo", "-p", "tcp", "-j", CHAIN],
)
UNCUT: Final = (
    ["iptables", "-w", "-D", "INPUT", "-i", "lo", "-p", "tcp", "-j", CHAIN],
    ["iptables", "-w", "-F", CHAIN],
    ["iptables", "-w", "-X", CHAIN],
)
UNSLOW: Final = ["tc", "qdisc", "del", "dev", "lo", "root"]


def cut_commands(ports: Sequence[int]) -> list[list[str]]:
    """What makes these ports, and no others, unreachable, in a chain that is there."""
    commands = [["iptables", "-w", "-F", CHAIN]]
    for port in ports:
        for side in ("--dport", "--sport"):
            rule = ["-p", "tcp", side, str(port), "-j", "DROP"]
            commands.append(["iptables", "-w", "-A", CHAIN, *rule])
    return commands


def slow_commands(ports: Sequence[int]) -> list[list[str]]:
    """What makes these ports, and no others, slow, on a device without any discipline."""
    if not ports:
        return []
    device = ["dev", "lo"]
    # All go to the first band but those that a filter sends to the last, which waits.
    everything = ["bands", "4", "priomap", *["0"] * 16]
    commands = [
        ["tc", "qdisc", "add", *device, "root", "handle", "1:", "prio", *everything],
        ["tc", "qdisc", "add", *device, "parent", "1:4", "handle", "40:", "netem", *DELAY],
    ]
    for port in ports:
        for side in ("dport", "sport"):
            match = ["u32", "match", "ip", side, str(port), "0xffff", "flowid", "1:4"]
            commands.append(
                ["tc", "filter", "add", *device, "parent", "1:", "protocol", "ip", *match]
            )
    return commands


def is_small_disk(folder: Path) -> bool:
    """Whether a folder is a mount of its own that may be filled."""
    if not folder.is_mount():
        return False
    state = os.statvfs(folder)
    return state.f_frsize * state.f_blocks <= SMALL_DISK


def fill(path: Path) -> None:
    """Leave no room beside a new file."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        for size in (len(BLOCK), 4096, 1):
            with contextlib.suppress(OSError):
                while file.write(BLOCK[:size]):
                    pass
