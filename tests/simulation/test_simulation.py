"""Many seeds of each world, in a process whose hashes are the same each time; lies are found."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from node.replication.acknowledgements import Acknowledgements
from node.replication.history import History
from sentinel import selection
from sentinel.election import Election
from sentinel.guarded import GuardedCluster
from sentinel.state import Master, Replica
from sentinel.takeover import ClusterPromotion
from sentinel.topology import View
from tests.installation import ROOT
from tests.simulation.trace import Broken
from tests.simulation.worlds import WORLDS

# The checkout's tests, with the program that is under test.
START = """
import os, runpy, sys
at = 0 if os.environ.get("SENTRIO_TEST_CHECKOUT") == "1" else len(sys.path)
sys.path.insert(at, os.environ["SIMULATION_ROOT"])
runpy.run_module("tests.simulation", run_name="__main__", alter_sys=True)
"""
SEEDS = {"cluster": 150, "guarded": 24, "replication": 250, "sentinel": 40}
MOST_SEEDS = 60


def simulate(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    environment = {**os.environ, "PYTHONHASHSEED": "0", "SIMULATION_ROOT": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-P", "-c", START, *arguments],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


@pytest.mark.timeout(900)
@pytest.mark.parametrize("world", WORLDS)
def test_nothing_breaks(world: str) -> None:
    done = simulate("--world", world, "--seeds", str(SEEDS[world]))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{SEEDS[world]} seeds" in done.stdout


@pytest.mark.parametrize("world", WORLDS)
def test_a_seed_gives_the_same_run_each_time(world: str) -> None:
    one, other = (simulate("--world", world, "--seeds", "2", "--trace") for _ in range(2))
    assert one.returncode == 0, one.stdout + one.stderr
    lines = one.stdout.splitlines()
    assert len(lines) > 100
    # The last line tells how long it took.
    assert lines[:-1] == other.stdout.splitlines()[:-1]


def _keep_id(history: History) -> None:
    """A promotion that does not begin a history of its own."""
    history.second_id = history.id
    history.second_end = history.offset


def _count_sent(acknowledgements: Acknowledgements, position: int) -> int:
    """Replicas that have been sent so much."""
    replicas = acknowledgements._feed.replicas.values()
    return sum(replica.streaming and replica.position >= position for replica in replicas)


def _vote_for_all(election: Election, master: Master, epoch: int, run_id: str) -> None:
    """A vote for whoever asks."""
    machine = election._machine
    machine.learn_epoch(master, epoch)
    master.leader = run_id
    master.leader_epoch = epoch
    machine.save()


def _rank_by_id(replica: Replica) -> tuple[int, str]:
    """A choice that does not ask who has more of the data."""
    return replica.priority, replica.run_id


def _see_nothing_stale(promotion: ClusterPromotion, cluster: GuardedCluster, view: View) -> int:
    """A takeover whatever the replica takes for its master's."""
    return 0


def run_until_broken(world: str) -> None:
    """Run one seed after the other, until one breaks."""
    for seed in range(1, MOST_SEEDS):
        WORLDS[world](seed, None)


@pytest.mark.parametrize(
    ("world", "part", "method", "lie"),
    [
        ("replication", History, "fork", _keep_id),
        ("replication", Acknowledgements, "_count", _count_sent),
        ("sentinel", Election, "vote", _vote_for_all),
        ("sentinel", selection, "_rank", _rank_by_id),
        ("guarded", ClusterPromotion, "_find_stale", _see_nothing_stale),
    ],
)
def test_a_lie_is_found(
    monkeypatch: pytest.MonkeyPatch, world: str, part: object, method: str, lie: object
) -> None:
    monkeypatch.setattr(part, method, lie)
    with pytest.raises(Broken):
        run_until_broken(world)
