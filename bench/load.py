"""Throughput, latency and processor time under redis-benchmark.

The two servers take turns, round by round, so that what the machine does meanwhile meets both. A
round's number of requests is chosen so that it lasts the time asked for. redis-benchmark takes one
core and the server the other: on a machine with fewer than two the figures mean little.
"""

from __future__ import annotations

import csv
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import psutil

from tests.servers import Server
from tests.wire import Client, Error

KEYSPACE: Final = 100_000
MOST_PRELOADED: Final = 1_000_000
CALIBRATION: Final = 5_000


@dataclass(frozen=True, slots=True)
class Setting:
    """How clients ask: how many, and how many requests each sends at once."""

    name: str
    clients: int
    pipeline: int
    target: float  # requests/s, ours / theirs

    def with_name(self, name: str, target: float) -> Setting:
        """The same under other circumstances."""
        return Setting(name, self.clients, self.pipeline, target)


SETTINGS: Final = (
    Setting("50 clients", 50, 1, 0.95),
    Setting("1 client", 1, 1, 0.80),
    Setting("500 clients", 500, 1, 0.90),
    Setting("50 clients, pipeline 16", 50, 16, 0.35),
)


@dataclass(frozen=True, slots=True)
class Workload:
    """A command as redis-benchmark's list has it, and what it needs to find."""

    name: str
    arguments: list[str]
    preload: Callable[[Client, int], int] | None = None


def _fill(client: Client, command: bytes, key: bytes, count: int) -> int:
    """Add `count` elements, a thousand a command; returns how many there are."""
    for start in range(0, count, 1000):
        elements = [b"element:%012d" % n for n in range(start, min(start + 1000, count))]
        _must(client(command, key, *elements))
    return count


def _fill_list(client: Client, count: int) -> int:
    return _fill(client, b"RPUSH", b"mylist", min(count, MOST_PRELOADED))


def _fill_short_list(client: Client, count: int) -> int:
    _must(client(b"RPUSH", b"mylist", *[b"xxx"] * 1000))
    return count


def _fill_set(client: Client, count: int) -> int:
    return _fill(client, b"SADD", b"myset", min(count, MOST_PRELOADED))


def _fill_strings(client: Client, count: int) -> int:
    for start in range(0, KEYSPACE, 1000):
        pairs = [word for n in range(start, start + 1000) for word in (b"key:%012d" % n, b"xxx")]
        _must(client(b"MSET", *pairs))
    return count


def settle(client: Client) -> None:
    """Until what is freed behind the scenes is freed, or half a minute has passed."""
    deadline = time.monotonic() + 30.0
    while time.monotonic() < deadline:
        reply = client("INFO", "memory")
        if not isinstance(reply, bytes) or b"lazyfree_pending_objects:0" in reply:
            return


def _must(reply: object) -> None:
    if isinstance(reply, Error):
        raise RuntimeError(f"loading was refused: {reply.text!r}")


WORKLOADS: Final = (
    Workload("SET", ["-t", "set"]),
    Workload("GET", ["-t", "get"], _fill_strings),
    Workload("INCR", ["-t", "incr"]),
    Workload("LPUSH", ["-t", "lpush"]),
    Workload("RPOP", ["-t", "rpop"], _fill_list),
    Workload("SADD", ["-t", "sadd"]),
    Workload("HSET", ["-t", "hset"]),
    Workload("ZADD", ["-t", "zadd"]),
    Workload("SPOP", ["-t", "spop"], _fill_set),
    # Its own test of that name fills the list first, in the same run.
    Workload("LRANGE_100", ["lrange", "mylist", "0", "99"], _fill_short_list),
    Workload("MSET", ["-t", "mset"]),
)


@dataclass(frozen=True, slots=True)
class Figures:
    """One server under one workload; medians over the rounds."""

    rate: float  # requests/s
    p50: float  # ms
    p99: float  # ms
    cpu: float  # µs of the server's processor time per request

    @staticmethod
    def median(rounds: Iterable[Figures]) -> Figures:
        """Each figure's median by itself."""
        columns = zip(*[(one.rate, one.p50, one.p99, one.cpu) for one in rounds], strict=True)
        return Figures(*[statistics.median(column) for column in columns])


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both servers under one workload and setting."""

    workload: str
    setting: Setting
    ours: Figures
    theirs: Figures

    @property
    def ratio(self) -> float:
        """Requests/s, ours / theirs."""
        return self.ours.rate / self.theirs.rate

    @property
    def reached(self) -> bool:
        """Whether the target is."""
        return self.ratio >= self.setting.target

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "ratio": self.ratio, "reached": self.reached}


class Contender:
    """A server under load, with its processor clock."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.process = psutil.Process(server.pid)

    def calibrate(self, workload: Workload, setting: Setting, seconds: float) -> int:
        """How many requests take about so long."""
        count = CALIBRATION
        while True:
            rate = self.run(workload, setting, count).rate
            # A short run mostly shows how long connecting takes.
            if count / rate >= seconds / 4:
                return int(rate * seconds)
            count *= 4

    def renew(self) -> None:
        """Take another process: where one happens to lie in memory makes it a fifth slower or
        faster, for as long as it lives.
        """
        self.server.restart()
        self.process = psutil.Process(self.server.pid)

    def run(self, workload: Workload, setting: Setting, count: int) -> Figures:
        """One round on an empty server."""
        with self.server.connect(timeout=120.0) as client:
            _must(client("FLUSHALL"))
            settle(client)
            if workload.preload is not None:
                count = min(count, workload.preload(client, count))
        before = self._cpu()
        row = _benchmark(self.server.port, workload, setting, count)
        spent = self._cpu() - before
        return Figures(
            rate=float(row["rps"]),
            p50=float(row["p50_latency_ms"]),
            p99=float(row["p99_latency_ms"]),
            cpu=spent / count * 1e6,
        )

    def _cpu(self) -> float:
        times = self.process.cpu_times()
        return float(times.user + times.system)


def processor_seconds(servers: Sequence[Server]) -> float:
    """What the servers have used by now, all together."""
    times = [psutil.Process(server.pid).cpu_times() for server in servers]
    return float(sum(each.user + each.system for each in times))


def _program() -> str:
    program = shutil.which("redis-benchmark")
    if program is None:
        raise RuntimeError("redis-benchmark is needed (Debian: apt-get install redis-tools)")
    return program


def start_load(port: int, arguments: list[str], clients: int, keys: int) -> subprocess.Popen[bytes]:
    """A load beside what is measured; ends by itself after five million requests."""
    words = ["-p", str(port), "-n", "5000000", "-r", str(keys), "-c", str(clients), "-q"]
    return subprocess.Popen(
        [_program(), *words, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def _benchmark(port: int, workload: Workload, setting: Setting, count: int) -> dict[str, str]:
    program = _program()
    arguments = ["-p", str(port), "-n", str(count), "-r", str(KEYSPACE), "--csv"]
    arguments += ["-c", str(setting.clients), "-P", str(setting.pipeline), *workload.arguments]
    done = subprocess.run(
        [program, *arguments], capture_output=True, text=True, timeout=600, check=False
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith('"')]
    if done.returncode != 0 or len(lines) != 2:
        raise RuntimeError(f"redis-benchmark failed: {done.stdout}{done.stderr}")
    return next(csv.DictReader(lines))


def compare(
    ours: Contender,
    theirs: Contender,
    workload: Workload,
    setting: Setting,
    rounds: int,
    seconds: float,
) -> Comparison:
    """Alternate between both, each time with new processes; medians."""
    counts = [each.calibrate(workload, setting, seconds) for each in (ours, theirs)]
    figures: tuple[list[Figures], list[Figures]] = ([], [])
    for _ in range(rounds):
        for at, each in enumerate((ours, theirs)):
            each.renew()
            each.run(workload, setting, counts[at] // 4)  # it has its memory after that
            figures[at].append(each.run(workload, setting, counts[at]))
    return Comparison(
        workload.name, setting, Figures.median(figures[0]), Figures.median(figures[1])
    )
