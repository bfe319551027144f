"""How it went: for people, for programs, and as a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from cluster.chaos.history import Failover, Findings, Outage, Second, percentile
from cluster.chaos.schedule import DESCRIPTIONS, Fault, Topology

MOST_EXAMPLES: Final = 20


@dataclass(slots=True)
class Event:
    """A fault as it was done: to whom, and when; ``trouble`` says what went wrong, if anything."""

    fault: Fault
    who: list[str] = field(default_factory=list)
    begun: float | None = None
    ended: float | None = None
    trouble: str = ""

    def __str__(self) -> str:
        when = f"{self.begun:7.1f} s" if self.begun is not None else "  never  "
        length = ""
        if self.begun is not None and self.ended is not None:
            length = f" for {self.ended - self.begun:.1f} s"
        who = f" ({', '.join(self.who)})" if self.who else ""
        trouble = f": {self.trouble}" if self.trouble else ""
        return f"{when}  {self.fault.number:3}. {self.fault}{who}{length}{trouble}"


@dataclass(frozen=True, slots=True)
class Allowance:
    """What may be lost for the verdict to be good: lost or duplicated writes, stale reads."""

    lost: int = 0
    stale: int = 0


@dataclass(slots=True)
class Report:
    """One run; times are in seconds from its beginning, which lasted ``seconds``."""

    seed: int
    topology: Topology
    wait_replicas: int
    impossible: Mapping[str, str]
    seconds: float
    planned: int
    events: list[Event]
    failovers: list[Failover]
    outages: dict[int, list[Outage]]
    load: list[Second]
    findings: Findings
    allowance: Allowance
    broken: str = ""
    """What was not whole at the end."""

    @property
    def done(self) -> int:
        """How many faults have been done."""
        return sum(event.begun is not None for event in self.events)

    def problems(self) -> list[str]:
        """What is beyond what is allowed."""
        found = []
        harmed = self.findings.all_lost + self.findings.all_duplicated
        if harmed > self.allowance.lost:
            found.append(
                f"{harmed} acknowledged writes lost or duplicated, {self.allowance.lost} allowed"
            )
        if self.findings.stale > self.allowance.stale:
            found.append(f"{self.findings.stale} stale reads, {self.allowance.stale} allowed")
        if self.findings.resurrected:
            found.append(f"{self.findings.resurrected} writes that were refused, and are there")
        if self.broken:
            found.append(self.broken)
        if self.planned and not self.done:
            found.append("no fault has been done")
        if not self.findings.writes:
            found.append("no write has been acknowledged")
        return found

    def latencies(self) -> list[float]:
        """Of all acknowledged operations, in seconds."""
        return [latency for second in self.load for latency in second.latencies]


def list_impossible(impossible: Mapping[str, str]) -> list[str]:
    """What cannot be done here, and why."""
    return [
        f"Not possible here: {kind} ({DESCRIPTIONS[kind]}): {reason}"
        for kind, reason in impossible.items()
    ]


def write_text(report: Report) -> list[str]:
    """Lines for people."""
    lines = list_impossible(report.impossible)
    size = report.topology
    lines.append(
        f"{size.shards} shards, {size.replicas} replicas each, {size.sentinels} sentinels; "
        f"seed {report.seed}; {report.seconds:.1f} s; {report.done} of {report.planned} faults:"
    )
    lines += [str(event) for event in report.events]
    lines.append("")
    for shard, outages in report.outages.items():
        lines.append(_describe_shard(report, shard, outages))
    latencies = report.latencies()
    half, tail = (percentile(latencies, share) * 1000 for share in (0.5, 0.99))
    bad = sum(second.bad for second in report.load)
    lines.append(
        f"Operations: {len(latencies)} acknowledged, {bad} not; latency p50 "
        f"{half:.1f} ms, p99 {tail:.1f} ms"
    )
    found = report.findings
    lines.append(
        f"Writes acknowledged: {found.writes}"
        + (f" (by {report.wait_replicas} replicas, too)" if report.wait_replicas else "")
        + f"; lost: {_count(found.lost)}; duplicated: {_count(found.duplicated)}"
    )
    lines.append(f"Reads of registers: {found.reads}; stale: {found.stale}")
    if found.untold:
        lines.append(f"Taken by pops whose answers did not come, it seems: {found.untold}")
    lines += [f"  {example}" for example in found.examples[:MOST_EXAMPLES]]
    if len(found.examples) > MOST_EXAMPLES:
        lines.append(f"  and {len(found.examples) - MOST_EXAMPLES} more")
    problems = report.problems()
    lines.append("Verdict: " + ("; ".join(problems) if problems else "good"))
    return lines


def _describe_shard(report: Report, shard: int, outages: Sequence[Outage]) -> str:
    down = sum(outage.length for outage in outages)
    share = 100 * (1 - down / report.seconds) if report.seconds else 100.0
    longest = max((outage.length for outage in outages), default=0.0)
    failovers = sum(failover.shard == shard for failover in report.failovers)
    return (
        f"Shard {shard + 1}: writable {share:.2f} %, not for {down:.1f} s in "
        f"{len(outages)} outages (longest {longest:.1f} s); failovers: {failovers}"
    )


def _count(counts: Mapping[str, int]) -> str:
    total = sum(counts.values())
    parts = ", ".join(f"{kind} {count}" for kind, count in counts.items() if count)
    return f"{total} ({parts})" if total else "0"


def as_json(report: Report) -> dict[str, Any]:
    """For `--json`."""
    latencies = report.latencies()
    found = report.findings
    return {
        "ok": not report.problems(),
        "problems": report.problems(),
        "seed": report.seed,
        "topology": asdict(report.topology),
        "impossible": dict(report.impossible),
        "seconds": round(report.seconds, 3),
        "planned": report.planned,
        "faults": [
            {
                **event.fault.as_json(),
                "who": event.who,
                "begun": event.begun,
                "ended": event.ended,
                "trouble": event.trouble,
            }
            for event in report.events
        ],
        "failovers": [asdict(failover) for failover in report.failovers],
        "shards": [
            {
                "shard": shard,
                "not_writable": round(sum(outage.length for outage in outages), 3),
                "outages": [asdict(outage) for outage in outages],
            }
            for shard, outages in report.outages.items()
        ],
        "operations": {
            "acknowledged": len(latencies),
            "others": sum(second.bad for second in report.load),
            "p50": percentile(latencies, 0.5),
            "p99": percentile(latencies, 0.99),
        },
        "writes": found.writes,
        "reads": found.reads,
        "lost": dict(found.lost),
        "duplicated": dict(found.duplicated),
        "stale": found.stale,
        "resurrected": found.resurrected,
        "untold": found.untold,
        "examples": found.examples,
        "wait_replicas": report.wait_replicas,
        "whole": not report.broken,
    }
