"""`sentrio chaos` against a cluster of `sentrio up`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tests.local_clusters import free_ports, up
from tests.servers import environment, node_command

NODES = 6
SEED = 5
SECONDS = 45
LIMIT = 170
# What asynchronous replication may cost: for each failover, what was written within some
# milliseconds, or to a master that was stopped and does not know yet that it is none any more.
LOSSES = 40


def chaos(folder: Path, *words: str) -> tuple[int, Any, str]:
    """The exit code of `sentrio chaos`, its document, and what else it has said."""
    command = [sys.executable, "-m", "sentrio", "chaos", "--dir", str(folder), "--json", *words]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment(), timeout=LIMIT, check=False
    )
    return done.returncode, json.loads(done.stdout or "null"), done.stderr


@pytest.mark.timeout(400)
@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_faults_are_survived_and_told_of(tmp_path: Path) -> None:
    port = free_ports(NODES)
    folder = tmp_path / "cluster"
    picture = tmp_path / "timeline.svg"
    words = ["--seed", str(SEED), "--seconds", str(SECONDS), "--kinds", "kill,stop,clock"]
    with up(" ".join(node_command()), port, folder) as run:
        run.wait_for("3 sentinels guard it")
        code, plan, said = chaos(folder, *words, "--dry-run")
        assert code == 0
        assert "Not possible here: clock" in said
        allowed = ["--allow-lost", str(LOSSES), "--allow-stale", str(LOSSES)]
        code, report, said = chaos(folder, *words, *allowed, "--svg", str(picture))
        assert code == 0, (report, said, run.output)
        assert report["ok"]
        assert report["whole"]
        assert report["impossible"].keys() == {"clock"}
        # The schedule is the one of the dry run; on a slow machine its end is left out.
        done = report["faults"]
        names = ("number", "kind", "places", "start", "length")
        assert [[fault[name] for name in names] for fault in done] == [
            [fault[name] for name in names] for fault in plan["faults"][: len(done)]
        ]
        assert all(fault["trouble"] == "" for fault in done)
        killed = sum(len(fault["who"]) for fault in done if fault["kind"] == "kill")
        assert killed
        assert report["failovers"]
        assert report["writes"] > 500
        assert any(shard["outages"] for shard in report["shards"])
        root = ET.fromstring(picture.read_text())
        assert root.tag.endswith("svg")
        # `sentrio up` has them all again, as children of its own, and ends them.
        run.wait_for("started again", killed)
        assert run.end() == 0
        assert "All nodes have ended" in run.output
    code, _, said = chaos(folder, *words, "--patience", "1")
    assert code == 4
    assert "not whole" in said
    code, _, said = chaos(tmp_path, *words)
    assert code == 4
    assert "no folder of `sentrio up`" in said
