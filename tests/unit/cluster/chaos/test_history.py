"""What is found in histories whose losses are known."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from cluster.chaos.history import (
    CounterRecord,
    Failover,
    History,
    Load,
    Outage,
    QueueRecord,
    Read,
    RegisterRecord,
    SetRecord,
    analyse,
    find_outages,
    percentile,
)


def test_sets() -> None:
    record = SetRecord({"a", "b", "c"}, refused={"d", "e"}, found={"a", "d", "z"})
    findings = analyse(History(sets={"s": record}))
    assert findings.writes == 3
    assert findings.lost == {"set": 2}
    assert findings.resurrected == 1  # d; of z nobody knew whether it was done
    assert findings.examples == ["s: lost b, c", "s: refused, and there d"]


@pytest.mark.parametrize(
    ("found", "lost", "duplicated"), [(10, 0, 0), (12, 0, 0), (7, 3, 0), (13, 0, 1)]
)
def test_counters(found: int, lost: int, duplicated: int) -> None:
    record = CounterRecord(acknowledged=10, unknown=2, found=found)
    findings = analyse(History(counters={"c": record}))
    assert (findings.all_lost, findings.all_duplicated) == (lost, duplicated)
    assert bool(findings.examples) == bool(lost or duplicated)


def test_queues() -> None:
    record = QueueRecord(
        pushed={"a", "b", "c", "d", "e"},
        refused={"r"},
        popped=["a", "b", "x"],
        rest=["b", "r"],
        unknown_pops=1,
    )
    findings = analyse(History(queues={"q": record}))
    # c, d and e are missing; a pop without an answer may have taken one of them.
    assert findings.lost == {"queue": 2}
    assert findings.untold == 1
    assert findings.duplicated == {"queue": 1}
    assert findings.resurrected == 1


def test_a_pop_that_too_few_replicas_had_may_come_again() -> None:
    record = QueueRecord({"a", "b"}, popped=["a", "a", "b"], doubtful={"a"})
    findings = analyse(History(queues={"q": record}))
    assert findings.all_duplicated == 0


def register(acknowledged: Sequence[tuple[int, float]], *reads: Read) -> RegisterRecord:
    return RegisterRecord(0, list(acknowledged), list(reads))


WRITES = [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)]


def findings_of(record: RegisterRecord, *failovers: float) -> tuple[int, int]:
    """How many writes were lost, and how many reads stale."""
    changes = [Failover(0, time, "a", "b") for time in failovers]
    changes.append(Failover(1, 3.5, "c", "d"))  # another shard's
    findings = analyse(History(registers={"r": record}, failovers=changes))
    return findings.all_lost, findings.stale


def test_registers_that_are_well() -> None:
    # A version that was not acknowledged yet when the read began may be missing or there.
    reads = [Read(0.5, 0.6, 0), Read(0.9, 1.1, 1), Read(1.9, 2.5, 1), Read(4.5, 4.6, 5)]
    assert findings_of(register(WRITES, *reads, Read(9.0, 9.1, 4, final=True))) == (0, 0)


def test_a_write_without_an_answer_may_be_done_late() -> None:
    """Its bytes may reach the server after the next write, which came by another connection."""
    record = register([(1, 1.0), (3, 3.0)], Read(3.5, 3.6, 2), Read(9.0, 9.1, 2, final=True))
    assert findings_of(record) == (1, 1)
    record.unknown.add(2)
    assert findings_of(record) == (0, 0)
    # It excuses nothing but itself.
    record.reads.append(Read(9.2, 9.3, 1))
    assert findings_of(record) == (0, 1)


def test_an_older_version_without_a_failover_is_stale() -> None:
    assert findings_of(register(WRITES, Read(3.5, 3.6, 1), Read(4.5, 4.6, 4))) == (0, 1)


def test_an_older_version_after_a_failover_is_a_loss() -> None:
    read = Read(5.5, 5.6, 2)
    assert findings_of(register(WRITES, read, read), 5.0) == (2, 0)


def test_a_version_of_after_the_failover_that_is_missing_is_stale() -> None:
    assert findings_of(register(WRITES, Read(9.0, 9.1, 2)), 3.5) == (0, 1)


def test_what_is_not_there_at_the_end_is_lost() -> None:
    assert findings_of(register(WRITES, Read(9.0, 9.1, 1, final=True))) == (3, 0)


def test_a_failover_may_be_seen_late() -> None:
    assert findings_of(register(WRITES, Read(4.5, 4.6, 3)), 6.0) == (1, 0)
    assert findings_of(register(WRITES, Read(4.5, 4.6, 3)), 60.0) == (0, 1)


@pytest.mark.parametrize(
    ("probes", "outages"),
    [
        ([], []),
        ([(1.0, True), (2.0, True)], []),
        ([(1.0, True), (1.5, False), (2.0, False), (3.0, True)], [Outage(1.0, 3.0)]),
        ([(0.5, False), (1.0, True)], [Outage(0.0, 1.0)]),
        ([(1.0, True), (2.0, False)], [Outage(1.0, 10.0)]),
        (
            [(1.0, True), (2.0, False), (3.0, True), (4.0, True), (5.0, False), (6.0, True)],
            [Outage(1.0, 3.0), Outage(4.0, 6.0)],
        ),
    ],
)
def test_outages(probes: list[tuple[float, bool]], outages: list[Outage]) -> None:
    assert find_outages(probes, 0.0, 10.0) == outages


def test_load_by_the_second() -> None:
    load = Load(0.0)
    load.add(0.1, 0.2, True)
    load.add(0.5, 2.5, False)
    load.add(2.1, 2.4, True)
    first, empty, last = load.seconds()
    assert (first.good, first.bad) == (1, 0)
    assert (empty.good, empty.bad, empty.latencies) == (0, 0, [])
    assert (last.good, last.bad) == (1, 1)
    assert last.latencies == pytest.approx([0.3])


def test_percentiles() -> None:
    assert percentile([], 0.99) == 0.0
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([float(n) for n in range(100)], 0.99) == 99.0
