"""What a million keys or members weigh: the growth of a fresh process's resident memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

import psutil

from tests.servers import Server
from tests.wire import Client

PER_COMMAND: Final = 100
COMMANDS_AT_ONCE: Final = 50
ACCOUNTING_TOLERANCE: Final = 0.15


@dataclass(frozen=True, slots=True)
class Shape:
    """What is filled in: a command that adds the elements from `start` to `end`."""

    name: str
    target: float  # bytes, ours / theirs
    request: Callable[[int, int], list[bytes]]


def _strings(start: int, end: int) -> list[bytes]:
    return [b"MSET"] + [
        word for n in range(start, end) for word in (b"key:%08d" % n, b"value:%08d" % n)
    ]


def _zset(start: int, end: int) -> list[bytes]:
    return [b"ZADD", b"zset"] + [
        word for n in range(start, end) for word in (b"%d" % (n * 7919 % 1_000_003), _member(n))
    ]


def _set(start: int, end: int) -> list[bytes]:
    return [b"SADD", b"set", *[_member(n) for n in range(start, end)]]


def _hash(start: int, end: int) -> list[bytes]:
    return [b"HSET", b"hash"] + [
        word for n in range(start, end) for word in (b"field:%08d" % n, b"value:%08d" % n)
    ]


def _list(start: int, end: int) -> list[bytes]:
    return [b"RPUSH", b"list", *[b"item:%08d" % n for n in range(start, end)]]


def _member(number: int) -> bytes:
    return b"member:%08d" % number


SHAPES: Final = (
    Shape("string key", 2.2, _strings),
    Shape("sorted set member", 2.2, _zset),
    Shape("set member", 2.2, _set),
    Shape("hash field", 2.2, _hash),
    Shape("list item", 3.5, _list),
)


@dataclass(frozen=True, slots=True)
class Growth:
    """How much a server grew, in bytes per element."""

    rss: float
    used: float  # by its own account, INFO's used_memory


@dataclass(frozen=True, slots=True)
class Weight:
    """Both servers holding the same elements."""

    shape: str
    target: float
    ours: Growth
    theirs: Growth

    @property
    def ratio(self) -> float:
        """Resident bytes, ours / theirs."""
        return self.ours.rss / self.theirs.rss

    @property
    def reached(self) -> bool:
        """Whether the target is."""
        return self.ratio <= self.target

    @property
    def accounting(self) -> float:
        """Growth of our used_memory over the growth of our resident memory."""
        return self.ours.used / self.ours.rss

    @property
    def accounted(self) -> bool:
        """Whether the account is as near as promised."""
        return abs(self.accounting - 1) <= ACCOUNTING_TOLERANCE

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            **asdict(self),
            "ratio": self.ratio,
            "reached": self.reached,
            "accounting": self.accounting,
            "accounted": self.accounted,
        }


def fill(client: Client, shape: Shape, count: int) -> None:
    """Add so many elements, in pipelines."""
    requests: Iterator[list[bytes]] = (
        shape.request(start, min(start + PER_COMMAND, count))
        for start in range(0, count, PER_COMMAND)
    )
    client.send_all(requests, COMMANDS_AT_ONCE)


def used_memory(client: Client) -> int:
    """INFO's used_memory, in bytes."""
    reply = client("INFO", "memory")
    text = reply if isinstance(reply, bytes) else b""
    for line in text.splitlines():
        if line.startswith(b"used_memory:"):
            return int(line.partition(b":")[2])
    raise RuntimeError("INFO memory tells no used_memory")


def grow(command: list[str], shape: Shape, count: int) -> Growth:
    """Start a server, fill it, and weigh it before and after."""
    with Server(command, name="bench") as server, server.connect(timeout=300.0) as client:
        process = psutil.Process(server.pid)
        rss, used = process.memory_info().rss, used_memory(client)
        fill(client, shape, count)
        return Growth(
            rss=(process.memory_info().rss - rss) / count,
            used=(used_memory(client) - used) / count,
        )


def weigh(ours: list[str], theirs: list[str], shape: Shape, count: int) -> Weight:
    """Both servers, one after the other."""
    return Weight(shape.name, shape.target, grow(ours, shape, count), grow(theirs, shape, count))
