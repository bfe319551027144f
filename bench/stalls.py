"""Pauses: what the slowest command takes, and how long others wait, with millions of keys."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Final

import psutil

from bench.load import settle
from bench.memory import SHAPES, Shape, fill
from bench.pinger import Pinger
from tests.servers import Server
from tests.wire import Argument, Client, Error

STRINGS, ZSET, SET, HASH, LIST = SHAPES
RSS_LIMIT: Final = 3 * 2**30
COMMAND_LIMIT: Final = 10.0  # ms
STALL_LIMIT: Final = 20.0  # ms
BIG: Final = 1_000_000
REPEATS: Final = 2000
DEFAULT_KEYS: Final = 10_000_000

# `{n}` is another number each time. None of these is O(n) in the number of keys.
COMMANDS: Final = (
    "GET key:{n}",
    "SET key:{n} value",
    "SET new:{n} value",
    "SET key:{n} value EX 1000",
    "INCR counter:{n}",
    "EXISTS key:{n}",
    "TYPE key:{n}",
    "EXPIRE key:{n} 1000",
    "TTL key:{n}",
    "PERSIST key:{n}",
    "OBJECT ENCODING key:{n}",
    "RENAME key:{n} renamed:{n}",
    "COPY key:{n} copied:{n}",
    "DEL key:{n}",
    "UNLINK copied:{n}",
    "RANDOMKEY",
    "DBSIZE",
    "SCAN {n} COUNT 10",
    "LPUSH list:{n} item",
    "SADD set:{n} member",
    "HSET hash:{n} field value",
    "ZADD zset:{n} 1 member",
    "MEMORY USAGE key:{n}",
    "INFO",
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One figure and its limit.

    `noise` is the longest that an idle redis-server let a client wait in the same time: what the
    machine does beside, which is in `value` too.
    """

    name: str
    value: float
    limit: float
    unit: str
    noise: float | None = None

    @property
    def reached(self) -> bool:
        """Whether it keeps the limit."""
        return self.value <= self.limit

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "reached": self.reached}


def examine(command: list[str], idle_command: list[str], keys: int) -> list[Finding]:
    """Fill a server with so many small strings, then look for what is slow."""
    with (
        Server(command, name="bench") as server,
        Server(idle_command, name="bench-idle") as idle,
        server.connect(timeout=600.0) as client,
    ):
        bench = _Bench(server, idle, client)
        findings = _examine_keys(bench, keys)
        for shape in (ZSET, SET, HASH, LIST):
            for removing in ("DEL", "UNLINK"):
                findings.append(_remove_big(bench, shape, removing))
        with bench.watch("stall by FLUSHALL ASYNC") as found:
            _must(client("FLUSHALL", "ASYNC"))
            settle(client)
        return [*findings, *found]


class _Bench:
    """A server under examination and an idle one beside it."""

    def __init__(self, server: Server, idle: Server, client: Client) -> None:
        self.server = server
        self.idle = idle
        self.client = client

    @contextmanager
    def watch(self, name: str) -> Iterator[list[Finding]]:
        """How long others wait meanwhile; the finding is in the list once the context is left."""
        findings: list[Finding] = []
        with Pinger(self.idle) as noise, Pinger(self.server) as pinger:
            yield findings
        findings.append(Finding(name, pinger.longest, STALL_LIMIT, "ms", noise.longest))


def _examine_keys(bench: _Bench, keys: int) -> list[Finding]:
    client = bench.client
    with bench.watch("stall while loading") as findings:
        fill(client, STRINGS, keys)
    rss = psutil.Process(bench.server.pid).memory_info().rss
    limit = RSS_LIMIT * keys / DEFAULT_KEYS
    findings.append(Finding(f"RSS with {keys:,} keys", rss / 2**20, limit / 2**20, "MiB"))
    for text in COMMANDS:
        with Pinger(bench.idle) as noise:
            slowest = max(_timed(client, text, n * 7919 % keys) for n in range(REPEATS))
        findings.append(Finding(f"slowest {text}", slowest, COMMAND_LIMIT, "ms", noise.longest))
    return findings


def _timed(client: Client, text: str, number: int) -> float:
    words: list[Argument] = [
        word.replace("{n}", f"{number:08d}" if ":" in word else str(number))
        for word in text.split()
    ]
    started = time.perf_counter()
    reply = client(*words)
    taken = (time.perf_counter() - started) * 1e3
    if isinstance(reply, Error) and not reply.text.startswith(b"ERR no such key"):
        raise RuntimeError(f"{text}: {reply.text!r}")
    return taken


def _remove_big(bench: _Bench, shape: Shape, removing: str) -> Finding:
    client = bench.client
    fill(client, shape, BIG)
    key = shape.request(0, 1)[1]
    with bench.watch(f"stall by {removing} of a value with a million × {shape.name}") as found:
        _must(client(removing, key))
        settle(client)
    return found[0]


def _must(reply: object) -> None:
    if isinstance(reply, Error):
        raise RuntimeError(f"refused: {reply.text!r}")
