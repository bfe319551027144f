"""What clients were told, and what follows from it: what was lost, duplicated, stale, and when.

Times are seconds of one clock. An operation is *acknowledged*, *refused* (it was certainly not
done: an error was the answer), or *unknown* (no answer came: it may have been done, or may yet be).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

ACKNOWLEDGED: Final = "acknowledged"
REFUSED: Final = "refused"
UNKNOWN: Final = "unknown"

OBSERVED_LATE: Final = 3.0
"""By how many seconds a failover may be seen later than clients feel it."""


@dataclass(slots=True)
class SetRecord:
    """Unique ids added to one set."""

    acknowledged: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    found: set[str] = field(default_factory=set)


@dataclass(slots=True)
class CounterRecord:
    """Increments by one of one counter."""

    acknowledged: int = 0
    unknown: int = 0
    found: int = 0


@dataclass(slots=True)
class QueueRecord:
    """A list that ids are pushed to, each once, and popped from.

    ``doubtful`` ids were popped, but too few replicas had that: they may come once more.
    """

    pushed: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    popped: list[str] = field(default_factory=list)
    doubtful: set[str] = field(default_factory=set)
    unknown_pops: int = 0
    rest: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Read:
    """What a register held: begun, answered, which version (0: none).

    A ``final`` one was made when all was whole again.
    """

    begin: float
    end: float
    version: int
    final: bool = False


@dataclass(slots=True)
class RegisterRecord:
    """One writer's increasing versions; ``acknowledged`` has version and time of the answer.

    Versions without an answer are ``unknown``.
    """

    shard: int
    acknowledged: list[tuple[int, float]] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    unknown: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Failover:
    """Another node was seen as a shard's master."""

    shard: int
    time: float
    old: str
    new: str


@dataclass(slots=True)
class History:
    """Everything, by key."""

    sets: dict[str, SetRecord] = field(default_factory=dict)
    counters: dict[str, CounterRecord] = field(default_factory=dict)
    queues: dict[str, QueueRecord] = field(default_factory=dict)
    registers: dict[str, RegisterRecord] = field(default_factory=dict)
    failovers: list[Failover] = field(default_factory=list)


@dataclass(slots=True)
class Findings:
    """What the history shows.

    ``lost`` and ``duplicated`` count acknowledged writes by the kind of their key; ``stale`` counts
    reads, ``resurrected`` writes that were refused and are there all the same, and ``untold`` ids
    that a pop without an answer may have taken. ``examples`` are for people.
    """

    writes: int = 0
    reads: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    duplicated: Counter[str] = field(default_factory=Counter)
    stale: int = 0
    resurrected: int = 0
    untold: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def all_lost(self) -> int:
        """Of all kinds."""
        return self.lost.total()

    @property
    def all_duplicated(self) -> int:
        """Of all kinds."""
        return self.duplicated.total()


def analyse(history: History) -> Findings:
    """Compare what was acknowledged with what is there."""
    findings = Findings()
    for name, record in history.sets.items():
        _judge_set(name, record, findings)
    for name, counter in history.counters.items():
        _judge_counter(name, counter, findings)
    for name, queue in history.queues.items():
        _judge_queue(name, queue, findings)
    for name, register in history.registers.items():
        _judge_register(name, register, history.failovers, findings)
    return findings


def _tell(findings: Findings, name: str, what: str, ids: Iterable[str]) -> None:
    shown = sorted(ids)
    if shown:
        more = ", ..." if len(shown) > 5 else ""
        findings.examples.append(f"{name}: {what} {', '.join(shown[:5])}{more}")


def _judge_set(name: str, record: SetRecord, findings: Findings) -> None:
    lost = record.acknowledged - record.found
    risen = record.refused & record.found
    findings.writes += len(record.acknowledged)
    findings.lost["set"] += len(lost)
    findings.resurrected += len(risen)
    _tell(findings, name, "lost", lost)
    _tell(findings, name, "refused, and there", risen)


def _judge_counter(name: str, record: CounterRecord, findings: Findings) -> None:
    findings.writes += record.acknowledged
    missing = record.acknowledged - record.found
    excess = record.found - record.acknowledged - record.unknown
    findings.lost["counter"] += max(0, missing)
    findings.duplicated["counter"] += max(0, excess)
    if missing > 0 or excess > 0:
        findings.examples.append(
            f"{name}: {record.found}, after {record.acknowledged} acknowledged increments and "
            f"{record.unknown} without an answer"
        )


def _judge_queue(name: str, record: QueueRecord, findings: Findings) -> None:
    seen = Counter(record.popped)
    seen.update(record.rest)
    findings.writes += len(record.pushed) + len(record.popped) - len(record.doubtful)
    missing = record.pushed - seen.keys()
    untold = min(len(missing), record.unknown_pops)
    findings.untold += untold
    findings.lost["queue"] += len(missing) - untold
    again = {text for text, times in seen.items() if times > 1 and text not in record.doubtful}
    findings.duplicated["queue"] += sum(seen[text] - 1 for text in again)
    risen = record.refused & seen.keys()
    findings.resurrected += len(risen)
    if len(missing) > untold:
        _tell(findings, name, f"lost, but for {untold} that pops may have taken,", missing)
    _tell(findings, name, "twice", again)
    _tell(findings, name, "refused, and there", risen)


def _judge_register(
    name: str, record: RegisterRecord, failovers: Iterable[Failover], findings: Findings
) -> None:
    """A read of an older version is a loss if the shard has got another master since.

    Else it is stale: the newer one is there, and somebody answered who has not got it. What is not
    there at the end is lost, whatever has happened. But a version that was written without an
    answer may have replaced newer ones: the client gave up, and the network had the request yet.
    """
    findings.writes += len(record.acknowledged)
    findings.reads += len(record.reads)
    changes = [failover.time for failover in failovers if failover.shard == record.shard]
    versions = [version for version, _ in record.acknowledged]
    times = [time for _, time in record.acknowledged]
    lost: set[int] = set()
    for read in record.reads:
        newer = record.acknowledged[
            bisect_right(versions, read.version) : bisect_left(times, read.begin)
        ]
        if not newer or read.version in record.unknown:
            continue
        if read.final:
            lost.update(version for version, _ in newer)
            continue
        change = max((c for c in changes if c <= read.end + OBSERVED_LATE), default=None)
        last, since = newer[-1]
        if change is not None and since <= change:
            lost.update(version for version, _ in newer)
        else:
            findings.stale += 1
            findings.examples.append(
                f"{name}: version {read.version} was read at {read.begin:.2f} s, "
                f"{last} had been acknowledged at {since:.2f} s"
            )
    findings.lost["register"] += len(lost)
    _tell(findings, name, "lost versions", (f"{version}" for version in lost))


@dataclass(frozen=True, slots=True)
class Outage:
    """From the last write that went through until the next one, with failures in between."""

    start: float
    end: float

    @property
    def length(self) -> float:
        """In seconds."""
        return self.end - self.start


def find_outages(probes: Sequence[tuple[float, bool]], start: float, end: float) -> list[Outage]:
    """When a shard was not writable, of probes as (time of the answer, whether it was good)."""
    outages: list[Outage] = []
    last = start
    failing = False
    for time, good in probes:
        if good:
            if failing:
                outages.append(Outage(last, time))
            last = time
        failing = not good
    if failing:
        outages.append(Outage(last, end))
    return outages


def percentile(values: Sequence[float], share: float) -> float:
    """The value that so much of them (0 to 1) are not above; 0 of none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@dataclass(slots=True)
class Second:
    """What clients saw within one second; latencies in seconds, of acknowledged operations."""

    good: int = 0
    bad: int = 0
    latencies: list[float] = field(default_factory=list)


class Load:
    """Operations by the second in which they ended, counted from ``start``."""

    def __init__(self, start: float) -> None:
        self.start = start
        self._seconds: defaultdict[int, Second] = defaultdict(Second)

    def add(self, begin: float, end: float, good: bool) -> None:
        """One operation."""
        second = self._seconds[max(0, int(end - self.start))]
        if good:
            second.good += 1
            second.latencies.append(end - begin)
        else:
            second.bad += 1

    def seconds(self) -> list[Second]:
        """All from the first, empty ones included."""
        last = max(self._seconds, default=-1)
        return [self._seconds.get(number, Second()) for number in range(last + 1)]
