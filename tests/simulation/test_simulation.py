"""Many seeds of each world, in a process whose hashes are the same each time; lies are found."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from node.persistence.aof import ON
from node.replication.acknowledgements import Acknowledgements, Aim
from node.replication.failover import WAITING, Failover
from node.replication.history import History
from node.replication.report import Report
from node.resp import encode_request
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
MOST_SEEDS = 150
MOST_PARTS = 4  # processes that share the seeds


def simulate(*runs: list[str]) -> list[str]:
    """Run the command, as often as there are lists of arguments, at once; what it has printed."""
    environment = {**os.environ, "PYTHONHASHSEED": "0", "SIMULATION_ROOT": str(ROOT)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-P", "-c", START, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        for arguments in runs
    ]
    outputs = [process.communicate()[0] for process in processes]
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, output
    return outputs


@pytest.mark.timeout(900)
@pytest.mark.parametrize("world", WORLDS)
def test_nothing_breaks(world: str) -> None:
    parts = min(os.cpu_count() or 1, MOST_PARTS)
    share = -(-SEEDS[world] // parts)
    shares = [["--first", str(1 + n * share), "--seeds", str(share)] for n in range(parts)]
    for output in simulate(*(["--world", world, *words] for words in shares)):
        assert f"{share} seeds" in output


@pytest.mark.parametrize("world", WORLDS)
def test_a_seed_gives_the_same_run_each_time(world: str) -> None:
    one, other = simulate(*2 * [["--world", world, "--seeds", "2", "--trace"]])
    lines = one.splitlines()
    assert len(lines) > 100
    # The last line tells how long it took.
    assert lines[:-1] == other.splitlines()[:-1]


def _keep_id(history: History) -> None:
    """A promotion that does not begin a history of its own."""
    history.second_id = history.id
    history.second_end = history.offset


def _count_sent(acknowledgements: Acknowledgements, position: int) -> int:
    """Replicas that have been sent so much."""
    replicas = acknowledgements._feed.replicas.values()
    return sum(replica.streaming and replica.position >= position for replica in replicas)


def _trust_the_log(acknowledgements: Acknowledgements, aim: Aim) -> bool:
    """A write that is in the log is taken for one that is on the disk."""
    return acknowledgements._replication.log_file.state == ON


def _tell_all(report: Report) -> bytes:
    """A replica that says that its log has whatever its data have."""
    position = b"%d" % report._link.position
    return encode_request([b"REPLCONF", b"ACK", position, b"FACK", position])


def _hand_over_at_once(failover: Failover) -> None:
    """A role that is handed over to whoever is there."""
    replicas = failover._replication.masters.replicas
    if failover.state == WAITING and replicas:
        failover._target = failover._target or (replicas[0].host, replicas[0].port)
        failover._hand_over()


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
        ("replication", Acknowledgements, "_has_logged", _trust_the_log),
        ("replication", Report, "compose", _tell_all),
        ("replication", Failover, "_check", _hand_over_at_once),
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
