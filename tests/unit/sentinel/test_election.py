"""Votes: given once, counted right, asked for in turns."""

from __future__ import annotations

import pytest

from sentinel.machine import Settings
from sentinel.state import FAILOVER_IN_PROGRESS, O_DOWN, WAIT_START
from tests.unit.sentinel.stage import IP, MASTER, ME, Stage, run_id

TURN = Settings().election_turn
OTHER, THIRD = run_id(2000), run_id(2001)


def vote(stage: Stage, epoch: int, who: str) -> tuple[str, int]:
    """What the sentinel answers to whoever wants its vote."""
    return stage.machine.is_master_down(IP, MASTER, epoch, who, stage.now)[1:]


def test_one_vote_in_an_epoch() -> None:
    stage = Stage()
    stage.machine.unsaved = False
    assert vote(stage, 5, OTHER) == (OTHER, 5)
    assert stage.machine.unsaved
    assert stage.events == ["+new-epoch 5", f"+vote-for-leader {OTHER} 5"]
    stage.machine.unsaved = False
    assert vote(stage, 5, THIRD) == (OTHER, 5)
    assert vote(stage, 4, THIRD) == (OTHER, 5)
    assert not stage.machine.unsaved
    assert vote(stage, 6, THIRD) == (THIRD, 6)


def test_no_vote_in_an_epoch_that_is_over() -> None:
    stage = Stage()
    stage.hear(2000, epoch=9)
    assert vote(stage, 8, OTHER) == ("*", 0)


def test_after_a_restart_the_vote_is_not_given_again() -> None:
    stage = Stage()
    stage.master.leader_epoch = 5  # as its file says, which does not say for whom
    stage.machine.state.current_epoch = 5
    assert vote(stage, 5, OTHER) == ("*", 5)
    assert vote(stage, 6, OTHER) == (OTHER, 6)


def test_whoever_has_voted_waits() -> None:
    stage = Stage(1001)
    vote(stage, 1, OTHER)
    stage.kill(MASTER)
    stage.run(1001)
    stage.agree()
    assert stage.master.has(O_DOWN)
    stage.run(20_000)
    assert not stage.master.has(FAILOVER_IN_PROGRESS)
    assert stage.logged[-1].startswith("Next failover delay")
    for _ in range(30):
        stage.run(1000)
        stage.agree()
    assert "+try-failover" in stage.names_of_events()


def test_unless_its_candidate_is_gone() -> None:
    stage = Stage(1001)
    vote(stage, 1, OTHER)
    stage.kill(MASTER, 2000)
    for _ in range(13):
        stage.run(1000)
        stage.agree()
    assert "+try-failover" in stage.names_of_events()


def start(stage: Stage) -> None:
    """Let the master be down for all, and the sentinel begin a failover in epoch 1."""
    stage.kill(MASTER)
    stage.run(1001)
    stage.agree()
    stage.run(len(stage.master.peers) * (TURN + 20))
    assert stage.master.failover_state == WAIT_START, stage.events


def test_a_candidate_votes_for_itself_and_asks_all() -> None:
    stage = Stage(1001)
    start(stage)
    assert stage.events[2:] == [
        "+new-epoch 1",
        f"+try-failover master mymaster {IP} 1000",
        f"+vote-for-leader {ME} 1",
    ]
    for port in (2000, 2001):
        assert stage.take_sent(port)[-1] == (f"SENTINEL is-master-down-by-addr {IP} 1000 1 {ME}")
    assert vote(stage, 1, OTHER) == (ME, 1)


@pytest.mark.parametrize(
    ("peers", "quorum", "votes"), [(2, 2, 1), (4, 2, 2), (4, 4, 3), (6, 3, 3), (1, 1, 1), (0, 1, 0)]
)
def test_so_many_votes_make_a_leader(peers: int, quorum: int, votes: int) -> None:
    stage = Stage(1001, peers=peers, quorum=quorum)
    stage.silent.add(1001)  # what follows is not of interest
    start_with = stage.names_of_events
    stage.kill(MASTER)
    stage.run(1001)
    stage.agree()
    stage.run(peers * (TURN + 20))
    for i in range(votes):
        assert "+elected-leader" not in start_with()
        stage.verdict(2000 + i, 1, ME, 1)
    assert "+elected-leader" in start_with()


@pytest.mark.parametrize(("leader", "epoch"), [(OTHER, 1), (ME, 0), (ME, 2), ("*", 0)])
def test_these_are_no_votes(leader: str, epoch: int) -> None:
    stage = Stage(1001)
    start(stage)
    stage.verdict(2000, 1, leader, epoch)
    assert "+elected-leader" not in stage.names_of_events()


def test_a_lost_election_is_given_up_at_once_and_tried_again_soon() -> None:
    stage = Stage(1001)
    start(stage)
    stage.verdict(2000, 1, OTHER, 1)
    assert "-failover-abort-not-elected" not in stage.names_of_events()
    stage.verdict(2001, 1, THIRD, 1)
    assert stage.events[-1] == f"-failover-abort-not-elected master mymaster {IP} 1000"
    stage.events.clear()
    stage.run(1000)
    assert stage.events[:2] == ["+new-epoch 2", f"+try-failover master mymaster {IP} 1000"]
    stage.verdict(2000, 1, ME, 2)
    assert "+elected-leader" in stage.names_of_events()


def test_without_answers_it_is_given_up_after_the_election_timeout() -> None:
    stage = Stage(1001)
    start(stage)
    stage.kill(2000, 2001)
    stage.run(9_000)
    assert stage.master.has(FAILOVER_IN_PROGRESS)
    stage.run(2_000)
    assert "-failover-abort-not-elected" in stage.names_of_events()
    assert not stage.master.has(FAILOVER_IN_PROGRESS)


def test_a_vote_for_a_newer_candidate_ends_the_own_candidacy() -> None:
    stage = Stage(1001)
    start(stage)
    assert vote(stage, 2, OTHER) == (OTHER, 2)
    stage.verdict(2000, 1, OTHER, 2)
    stage.verdict(2001, 1, OTHER, 2)
    assert stage.events[-1].startswith("-failover-abort-not-elected")
    stage.run(10_000)
    assert stage.names_of_events().count("+try-failover") == 1


def test_those_who_see_it_take_turns() -> None:
    times = []
    for epoch in range(3):
        stage = Stage(1001)
        stage.hear(2000, epoch=epoch)
        stage.kill(MASTER)
        stage.run(1001)
        stage.agree()
        began = stage.now
        while "+try-failover" not in stage.names_of_events():
            stage.run(1)
        times.append((stage.now - began) // TURN)
    assert sorted(times) == [0, 1, 2]


def test_no_turn_for_those_that_are_away() -> None:
    stage = Stage(1001, peers=4, quorum=1)
    stage.kill(2000, 2001, 2002, 2003)
    stage.run(1100)
    stage.kill(MASTER)
    stage.run(1001)
    assert "+try-failover" in stage.names_of_events()


def test_whoever_asks_for_a_vote_says_that_the_master_is_down() -> None:
    stage = Stage(1001, peers=2, quorum=2)
    stage.kill(MASTER)
    stage.run(1001)
    vote(stage, 1, OTHER)
    assert stage.master.has(O_DOWN)
