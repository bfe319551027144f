"""`sentrio chaos` against a cluster of `sentrio up`: one run, with a fault of each kind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from cluster.chaos.processes import CHAIN, FILL_NAME, LOSS
from cluster.chaos.schedule import CLOCK, FULL, KILL, PARTITION, SLOW, STOP
from cluster.up.processes import LOG_NAME
from node.clock import SHIFT_VARIABLE
from tests.local_clusters import free_ports, up
from tests.servers import environment, node_command

NODES = 6
LIMIT = 170
# What asynchronous replication may cost: for each failover, what was written within some
# milliseconds, or to a master that was stopped and does not know yet that it is none any more.
LOSSES = 40
# Of six faults it draws one of each kind, those of disk, death and network at masters.
SEED = 2171
FAULTS = 6
# A network and mounts of one's own, for root and for whoever may map himself to root.
APART = ("unshare", "--map-root-user", "--net", "--mount")
PREPARE = f"""
ip link set lo up
iptables -w -A INPUT -p tcp --dport 1 {" ".join(LOSS)} -j DROP
iptables -w -F INPUT
for folder in $FOLDERS; do
    mkdir -p "$folder"
    mount -t tmpfs -o size=48m tmpfs "$folder"
done
"""

pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.skipif(sys.platform != "linux", reason="needs /proc"),
]


def chaos(folder: Path, *words: str, before: Sequence[str] = ()) -> tuple[int, Any, str]:
    """The exit code of `sentrio chaos`, its document, and what else it has said."""
    command = [sys.executable, "-m", "sentrio", "chaos", "--dir", str(folder), "--json", *words]
    done = subprocess.run(
        [*before, *command],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=LIMIT,
        check=False,
    )
    return done.returncode, json.loads(done.stdout or "null"), done.stderr


def find_obstacle(folder: Path) -> str:
    """Why there can be no network and mounts of one's own; empty: there can."""
    try:
        done = subprocess.run(
            [*APART, "sh", "-e", "-c", PREPARE],
            env={**os.environ, "FOLDERS": str(folder)},
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return "needs unshare (util-linux)"
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        return f"needs namespaces for networks and mounts, ip and iptables: {last}"
    return ""


@dataclass
class Run:
    """One run, and what was left of it."""

    obstacle: str
    plan: Any = None
    report: Any = None
    picture: str = ""
    output: str = ""
    rules: str = ""
    leftovers: str = ""
    logs: dict[str, str] = field(default_factory=dict)

    def faults(self, kind: str) -> list[Any]:
        """Those of that kind."""
        return [fault for fault in self.report["faults"] if fault["kind"] == kind]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """With all kinds of faults, where that is possible."""
    place = tmp_path_factory.mktemp("chaos")
    run = Run(find_obstacle(place / "tried"))
    port = free_ports(NODES)
    folder = place / "cluster"
    picture = place / "timeline.svg"
    homes = [folder / str(port + number) for number in range(NODES)]
    before = ["env", f"{SHIFT_VARIABLE}=clock"]
    kinds = [KILL, STOP, CLOCK]
    if not run.obstacle:
        script = f'{PREPARE}\nexec "$@"'
        before += [f"FOLDERS={' '.join(map(str, homes))}", *APART, "sh", "-e", "-c", script, "sh"]
        kinds += [PARTITION, SLOW, FULL]
    words = ["--seed", str(SEED), "--faults", str(FAULTS), "--kinds", ",".join(kinds)]
    words += ["--pause", "0.5", "--length", "1.5", "3"]
    words += ["--allow-lost", str(LOSSES), "--allow-stale", str(LOSSES)]
    with up(" ".join(node_command()), port, folder, before=before) as cluster:
        cluster.wait_for("3 sentinels guard it")
        inside = []
        if not run.obstacle:
            inside = ["nsenter", "--user", "--net", "--mount", "--preserve-credentials"]
            inside += ["--target", str(cluster.process.pid), "--"]
        code, run.plan, said = chaos(folder, *words, "--dry-run", before=inside)
        assert code == 0, said
        code, run.report, said = chaos(folder, *words, "--svg", str(picture), before=inside)
        assert code == 0, (run.report, said, cluster.output)
        killed = sum(len(fault["who"]) for fault in run.faults(KILL))
        # `sentrio up` has them all again, as children of its own, and ends them.
        cluster.wait_for("started again", killed)
        run.picture = picture.read_text()
        if not run.obstacle:
            run.rules = read([*inside, "iptables", "-w", "-S"])
        found = ("find", str(folder), "-name", FILL_NAME, "-o", "-name", "clock")
        run.leftovers = read([*inside, *found])
        run.logs = {home.name: read([*inside, "cat", str(home / LOG_NAME)]) for home in homes}
        assert cluster.end() == 0
        run.output = cluster.output
    yield run
    code, _, said = chaos(folder, *words, "--patience", "1")
    assert code == 4
    assert "not whole" in said


def read(words: Sequence[str]) -> str:
    """What a command says."""
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def has_outage(run: Run, shard: int, fault: Any) -> bool:
    """Whether a shard could not be written to at some time while there was that fault."""
    return any(
        outage["start"] <= fault["ended"] and outage["end"] >= fault["begun"]
        for outage in run.report["shards"][shard]["outages"]
    )


def test_faults_are_survived_and_told_of(run: Run) -> None:
    report = run.report
    assert report["ok"]
    assert report["whole"]
    # The schedule is the one of the dry run.
    names = ("number", "kind", "places", "start", "length")
    assert [[fault[name] for name in names] for fault in report["faults"]] == [
        [fault[name] for name in names] for fault in run.plan["faults"]
    ]
    assert all(fault["trouble"] == "" for fault in report["faults"])
    killed = next(f for f in run.faults(KILL) if f["places"][0]["role"] == "master")
    assert has_outage(run, killed["places"][0]["shard"], killed)
    assert report["failovers"]
    assert report["writes"] > 500
    assert ET.fromstring(run.picture).tag.endswith("svg")
    assert run.leftovers == ""
    assert "All nodes have ended" in run.output


def test_a_master_that_is_cut_off_is_replaced(run: Run) -> None:
    if run.obstacle:
        pytest.skip(run.obstacle)
    (cut,) = run.faults(PARTITION)
    shard = cut["places"][0]["shard"]
    assert has_outage(run, shard, cut)
    (old,) = cut["who"]
    assert any(
        failover["shard"] == shard and failover["old"] == old and failover["time"] > cut["begun"]
        for failover in run.report["failovers"]
    )
    assert len(run.faults(SLOW)) == 1
    assert CHAIN not in run.rules


def test_a_master_whose_disk_is_full_refuses_writes(run: Run) -> None:
    if run.obstacle:
        pytest.skip(run.obstacle)
    (full,) = run.faults(FULL)
    assert has_outage(run, full["places"][0]["shard"], full)
    port = full["who"][0].rpartition(":")[2]
    # Of a short write or an error.
    assert "writing to the AOF file" in run.logs[port]


def test_a_folder_without_a_cluster(tmp_path: Path) -> None:
    code, _, said = chaos(tmp_path)
    assert code == 4
    assert "no folder of `sentrio up`" in said
