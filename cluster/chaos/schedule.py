"""What is done to the cluster and when: drawn from a seed, before anything is done."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

KILL: Final = "kill"
STOP: Final = "stop"
PARTITION: Final = "partition"
SLOW: Final = "slow"
FULL: Final = "full"
CLOCK: Final = "clock"
KINDS: Final = (KILL, STOP, PARTITION, SLOW, FULL, CLOCK)
DESCRIPTIONS: Final = {
    KILL: "kill -9, started again later",
    STOP: "stopped as by SIGSTOP, continued later",
    PARTITION: "cut off from the network",
    SLOW: "a slow link",
    FULL: "a full disk",
    CLOCK: "a clock that jumps",
}

MASTER: Final = "master"
REPLICA: Final = "replica"
SENTINEL: Final = "sentinel"
PAIR_CHANCE: Final = 0.25
"""How often two are hit at once."""


@dataclass(frozen=True, slots=True)
class Topology:
    """A cluster's size: shards, replicas of each, sentinels."""

    shards: int
    replicas: int
    sentinels: int


@dataclass(frozen=True, slots=True)
class Place:
    """Somebody, by role: a shard's master, its replica of that number, or a sentinel."""

    role: str
    shard: int = 0
    number: int = 0

    def __str__(self) -> str:
        if self.role == SENTINEL:
            return f"sentinel {self.number + 1}"
        if self.role == MASTER:
            return f"master of shard {self.shard + 1}"
        return f"replica {self.number + 1} of shard {self.shard + 1}"


@dataclass(frozen=True, slots=True)
class Fault:
    """One event: ``start`` seconds after the beginning at the earliest, for ``length`` seconds.

    All its places are hit at once.
    """

    number: int
    kind: str
    places: tuple[Place, ...]
    start: float
    length: float

    def __str__(self) -> str:
        return f"{self.kind} {' and '.join(map(str, self.places))}"

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def draw_schedule(
    seed: int,
    topology: Topology,
    kinds: Sequence[str] = (KILL, STOP),
    *,
    seconds: float = 60.0,
    most: int = 0,
    pause: float = 3.0,
    length: tuple[float, float] = (2.0, 8.0),
) -> list[Fault]:
    """The faults, one after the other, with ``pause`` to twice as many seconds between them.

    As many as begin and end within ``seconds``; with ``most``, so many, however long it takes.
    """
    source = random.Random(seed)
    faults: list[Fault] = []
    kinds = sorted(kinds, key=KINDS.index)
    now = 0.0
    while kinds:
        now += pause * (1 + source.random())
        kind = source.choice(kinds)
        fault = Fault(
            len(faults) + 1,
            kind,
            # A sentinel's disk hardly ever matters, nor has it one of its own.
            _draw_places(source, replace(topology, sentinels=0) if kind == FULL else topology),
            round(now, 1),
            round(source.uniform(*length), 1),
        )
        now = fault.start + fault.length
        if len(faults) >= most if most else now > seconds:
            break
        faults.append(fault)
    return faults


def _draw_places(source: random.Random, topology: Topology) -> tuple[Place, ...]:
    first = _draw_place(source, topology)
    if source.random() >= PAIR_CHANCE:
        return (first,)
    second = _draw_place(source, topology)
    # Two sentinels of three would be a majority: nothing could be done about anything.
    if second == first or second.role == first.role == SENTINEL:
        return (first,)
    return (first, second)


def _draw_place(source: random.Random, topology: Topology) -> Place:
    roles = [MASTER, MASTER]
    roles += [REPLICA] if topology.replicas else []
    roles += [SENTINEL] if topology.sentinels else []
    role = source.choice(roles)
    if role == SENTINEL:
        return Place(SENTINEL, number=source.randrange(topology.sentinels))
    shard = source.randrange(topology.shards)
    if role == MASTER:
        return Place(MASTER, shard)
    return Place(REPLICA, shard, source.randrange(topology.replicas))


def list_schedule(faults: Iterable[Fault]) -> list[str]:
    """Lines for people."""
    return [
        f"{fault.start:7.1f} s  {fault.length:4.1f} s  {fault.number:3}. {fault}"
        for fault in faults
    ]
