"""The report of a run: text, JSON, verdict, and the picture."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from cluster.chaos.history import Failover, Findings, Outage, Second
from cluster.chaos.report import Allowance, Event, Report, as_json, write_text
from cluster.chaos.schedule import MASTER, SENTINEL, Fault, Place, Topology
from cluster.chaos.timeline import COLOURS, FAILOVER, OUTAGE, draw

SVG = "{http://www.w3.org/2000/svg}"
KILLED = Event(
    Fault(1, "kill", (Place(MASTER, 1),), 4.0, 2.0), ["127.0.0.1:7001"], begun=4.1, ended=6.2
)
MISSED = Event(
    Fault(2, "stop", (Place(SENTINEL, number=2),), 9.0, 2.0), trouble="<it> is not running & gone"
)


def report() -> Report:
    """One in which something has happened, and nothing has been lost."""
    return Report(
        seed=7,
        topology=Topology(2, 1, 3),
        wait_replicas=0,
        impossible={"clock": "no <faketime>"},
        seconds=20.0,
        planned=2,
        events=[KILLED, MISSED],
        failovers=[Failover(1, 5.0, "127.0.0.1:7001", "127.0.0.1:7003")],
        outages={0: [], 1: [Outage(4.0, 5.5), Outage(8.0, 8.5)]},
        load=[Second(100, 0, [0.002] * 100), Second(), Second(1, 3, [0.5])],
        findings=Findings(writes=90, reads=10),
        allowance=Allowance(),
    )


def test_text() -> None:
    text = "\n".join(write_text(report()))
    assert "Not possible here: clock (a clock that jumps): no <faketime>" in text
    assert "1 of 2 faults" in text
    assert "4.1 s    1. kill master of shard 2 (127.0.0.1:7001) for 2.1 s" in text
    assert "never      2. stop sentinel 3: <it> is not running & gone" in text
    assert "Shard 1: writable 100.00 %, not for 0.0 s in 0 outages" in text
    assert (
        "Shard 2: writable 90.00 %, not for 2.0 s in 2 outages (longest 1.5 s); failovers: 1"
    ) in text
    assert "101 acknowledged, 3 not; latency p50 2.0 ms" in text
    assert text.endswith("Verdict: good")


def test_json() -> None:
    document = json.loads(json.dumps(as_json(report())))
    assert document["ok"]
    assert document["shards"][1]["not_writable"] == 2.0
    assert document["faults"][0]["who"] == ["127.0.0.1:7001"]
    assert document["faults"][0]["places"] == [{"role": "master", "shard": 1, "number": 0}]


@pytest.mark.parametrize(
    ("findings", "problem"),
    [
        ({"lost": Counter(set=2), "duplicated": Counter(queue=1)}, "3 acknowledged writes lost"),
        ({"stale": 1}, "1 stale reads"),
        ({"resurrected": 1}, "1 writes that were refused"),
        ({"writes": 0}, "no write has been acknowledged"),
    ],
)
def test_verdicts(findings: dict[str, object], problem: str) -> None:
    bad = replace(report(), findings=replace(report().findings, **findings))  # type: ignore[arg-type]
    assert [text.startswith(problem) for text in bad.problems()] == [True]
    assert not as_json(bad)["ok"]
    assert problem in write_text(bad)[-1]


def test_what_is_allowed_is_no_problem() -> None:
    findings = Findings(writes=9, lost=Counter(set=2), duplicated=Counter(queue=1), stale=2)
    allowed = replace(report(), findings=findings, allowance=Allowance(3, 2))
    assert allowed.problems() == []
    assert len(replace(allowed, allowance=Allowance(2, 1)).problems()) == 2


def test_a_cluster_that_is_broken_or_was_left_alone_is_a_problem() -> None:
    assert replace(report(), broken="a slot is gone").problems() == ["a slot is gone"]
    assert replace(report(), events=[MISSED]).problems() == ["no fault has been done"]


def test_picture() -> None:
    root = ET.fromstring(draw(report()))
    assert root.tag == f"{SVG}svg"
    colours = Counter(rect.get("fill") for rect in root.iter(f"{SVG}rect"))
    assert colours[COLOURS["kill"]] == 1
    assert colours[COLOURS["stop"]] == 0  # it was not done
    assert colours[OUTAGE] == 2
    marks = [path for path in root.iter(f"{SVG}path") if path.get("fill") == FAILOVER]
    assert [mark[0].text for mark in marks] == ["127.0.0.1:7001 to 127.0.0.1:7003"]
    load, tail = root.iter(f"{SVG}polyline")
    assert len((load.get("points") or "").split()) == len((tail.get("points") or "").split()) == 3
    kill = next(r for r in root.iter(f"{SVG}rect") if r.get("fill") == COLOURS["kill"])
    outage = next(r for r in root.iter(f"{SVG}rect") if r.get("fill") == OUTAGE)
    assert float(kill.get("x") or 0) > float(outage.get("x") or 0)
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert {"kill", "shard 1", "shard 2", "0 s"} <= set(texts)


@pytest.mark.parametrize("seconds", [0.0, 0.5, 59.0, 1800.0, 90000.0])
def test_pictures_of_all_lengths(seconds: float) -> None:
    empty = replace(report(), seconds=seconds, load=[], events=[], failovers=[], outages={})
    root = ET.fromstring(draw(empty))
    labels = [t.text for t in root.iter(f"{SVG}text") if (t.text or "").endswith(" s")]
    assert 1 <= len(labels) <= 60
