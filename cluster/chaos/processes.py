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
from node.clock import SHIFT_VARIABLE

CHAIN: Final = "SENTRIO-CHAOS"
DELAY: Final = ("delay", "150ms", "50ms", "distribution", "normal")
LOSS: Final = ("-m", "statistic", "--mode", "random", "--probability", "0.2")
"""Where no discipline delays: what is lost is sent again, after 200 ms at the least."""
JUMP: Final = 3600
"""Seconds by which a clock jumps ahead; it jumps back in the end."""
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
        self._is_lossy = False
        self._clocks: dict[int, Path] = {}
        self._chained = False

    async def find_impossible(self, kinds: Sequence[str]) -> dict[str, str]:
        found = {}
        if CLOCK in kinds and not all(self._find_clock(port) for port in self._homes):
            found[CLOCK] = (
                "processes share the machine's clock, unless `sentrio up` is started with "
                f"{SHIFT_VARIABLE}=clock"
            )
        if FULL in kinds and not all(is_small_disk(self._homes[a.port]) for a in self.entries):
            found[FULL] = (
                "not every node's folder is a mount of its own of at most 1 GiB (mount -t tmpfs "
                "-o size=256m tmpfs FOLDER, before `sentrio up`)"
            )
        for kind, attempt in ((PARTITION, self._try_partition), (SLOW, self._try_slow)):
            if kind in kinds:
                try:
                    if os.geteuid() != 0:
                        raise Failed("takes root")
                    await attempt()
                except Failed as error:
                    found[kind] = str(error)
        return found

    async def _try_partition(self) -> None:
        require_program("iptables")
        await run(["iptables", "-w", "-n", "-L", "INPUT"])

    async def _try_slow(self) -> None:
        """By delays; by losses where the kernel cannot delay. Raises Failed for the delays."""
        try:
            require_program("tc")
            if "noqueue" not in await run(["tc", "qdisc", "show", "dev", "lo"]):
                raise Failed("the loopback device has a queueing discipline already")
            try:
                for words in slow_commands([1]):
                    await run(words)
            finally:
                with contextlib.suppress(Failed):
                    await run(UNSLOW)
        except Failed as error:
            self._is_lossy = True
            self._slow.add(1)
            try:
                await self._set_chain()
            except Failed:
                raise error from None
            finally:
                self._slow.discard(1)
                await self.close()

    async def begin(self, kind: str, port: int) -> None:
        if kind == KILL:
            os.kill(self._find(port), signal.SIGKILL)
        elif kind == STOP:
            pid = self._find(port)
            os.kill(pid, signal.SIGSTOP)
            self._stopped[port] = pid
        elif kind == PARTITION:
            self._cut.add(port)
            await self._set_chain()
        elif kind == SLOW:
            self._slow.add(port)
            await self._set_slow()
        elif kind == CLOCK and (clock := self._find_clock(port)) is not None:
            self._clocks[port] = clock
            clock.write_text(f"{JUMP}\n")
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
            await self._set_chain()
        elif kind == SLOW:
            self._slow.discard(port)
            await self._set_slow()
        elif kind == CLOCK:
            self._clocks.pop(port).unlink(missing_ok=True)
        elif kind == FULL:
            (self._homes[port] / FILL_NAME).unlink(missing_ok=True)
            await self._start_if_it_ends(port)

    async def close(self) -> None:
        if self._chained:
            for words in UNCUT:
                with contextlib.suppress(ToolError):
                    await run(words)
            self._chained = False

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

    def _find_clock(self, port: int) -> Path | None:
        """What shifts its clock; None: nothing does."""
        pid = find_process(self._homes[port], port)
        if pid is None:
            return None
        try:
            variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            return None
        for variable in variables:
            name, _, value = variable.decode(errors="replace").partition("=")
            if name == SHIFT_VARIABLE and value:
                return self._homes[port] / value
        return None

    async def _set_chain(self) -> None:
        if not self._chained:
            self._chained = True
            # What an earlier run has left, should it have been killed.
            for words in UNCUT:
                with contextlib.suppress(Failed):
                    await run(words)
            for words in CHAINED:
                await run(words)
        lossy = self._all_ports(self._slow) if self._is_lossy else []
        for words in cut_commands(self._all_ports(self._cut), lossy):
            await run(words)

    async def _set_slow(self) -> None:
        if self._is_lossy:
            await self._set_chain()
            return
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


def cut_commands(ports: Sequence[int], lossy: Sequence[int] = ()) -> list[list[str]]:
    """What makes these ports, and no others, unreachable or lossy, in a chain that is there."""
    commands = [["iptables", "-w", "-F", CHAIN]]
    for port in (*ports, *lossy):
        chance = LOSS if port in lossy else ()
        for side in ("--dport", "--sport"):
            rule = ["-p", "tcp", side, str(port), *chance, "-j", "DROP"]
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


def require_program(name: str) -> None:
    """Raises Failed if it is not there."""
    if shutil.which(name) is None:
        raise Failed(f"takes {name}, which is not installed")


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
