"""SDOWN at its time, ODOWN by quorum, what is asked and answered, and TILT."""

from __future__ import annotations

import pytest

from node.resp import Error
from sentinel.state import MASTER_DOWN, O_DOWN, S_DOWN
from tests.unit.sentinel.stage import IP, MASTER, ME, Stage, master_info, replica_info, run_id

ASK = f"SENTINEL is-master-down-by-addr {IP} 1000 0 *"


def test_a_reset_connection_is_down_exactly_when_its_time_is_over() -> None:
    stage = Stage(peers=0, quorum=9)
    stage.kill(MASTER)
    stage.run(1000)
    assert not stage.events
    stage.run(1)
    assert stage.events == [f"+sdown master mymaster {IP} 1000"]


def test_silence_is_counted_from_the_first_ping_without_an_answer() -> None:
    stage = Stage(peers=0, quorum=9)
    stage.silent.add(MASTER)
    stage.run(1000)
    assert not stage.events
    stage.run(1200)
    assert stage.names_of_events() == ["+sdown"]


def test_who_was_never_there_is_down_too() -> None:
    stage = Stage(1001, peers=0)
    stage.infos[MASTER] = master_info(MASTER, 1001, 1009)
    stage.run(13_000)
    assert stage.events[-1] == f"+sdown slave {IP}:1009 {IP} 1009 @ mymaster {IP} 1000"


def test_others_are_asked_at_once_and_odown_follows_the_quorum() -> None:
    stage = Stage(1001, peers=3, quorum=3)
    stage.kill(MASTER)
    stage.run(1001)
    assert [stage.take_sent(2000 + i) for i in range(3)] == [[ASK]] * 3
    stage.verdict(2000, 1)
    stage.verdict(2001, 0)
    assert not stage.master.has(O_DOWN)
    stage.verdict(2002, 1)
    assert stage.events == [
        f"+sdown master mymaster {IP} 1000",
        f"+odown master mymaster {IP} 1000 #quorum 3/3",
    ]


def test_they_are_asked_again_soon_at_first_and_each_second_later() -> None:
    stage = Stage(peers=1, quorum=3)
    stage.kill(MASTER)
    stage.run(1001)
    for _ in range(1000):
        if stage.asked:
            stage.verdict(2000, 0)
        stage.run(10)
    asked = len(stage.take_sent(2000))
    assert 12 <= asked <= 20


def test_odown_ends_with_the_view_of_the_others() -> None:
    stage = Stage(peers=2, quorum=2)
    stage.master.failover_start = stage.now  # no failover now
    stage.kill(MASTER)
    stage.run(1001)
    stage.agree()
    assert stage.master.has(O_DOWN)
    stage.run(1100)
    stage.verdict(2000, 0)
    stage.verdict(2001, 0)
    assert stage.names_of_events() == ["+sdown", "+odown", "-odown"]


def test_a_view_that_is_too_old_is_forgotten() -> None:
    stage = Stage(peers=2, quorum=2)
    stage.master.failover_start = stage.now
    stage.kill(MASTER)
    stage.run(1001)
    stage.agree()
    assert stage.peer(2000).has(MASTER_DOWN)
    stage.run(5200)
    assert not stage.peer(2000).has(MASTER_DOWN)
    assert stage.names_of_events() == ["+sdown", "+odown", "-odown"]


@pytest.mark.parametrize(
    "reply", [None, 3, [1, b"*"], [b"1", b"*", 0], [1, None, 0], [1, b"*", b"0"]]
)
def test_answers_that_make_no_sense_are_ignored(reply: object) -> None:
    stage = Stage(peers=1, quorum=2)
    stage.kill(MASTER)
    stage.run(1001)
    link, request = stage.asked.pop()
    stage.machine.answered(link, request, reply, stage.now)
    assert not stage.peer(2000).has(MASTER_DOWN)


def test_others_hear_what_is_known_at_that_moment() -> None:
    stage = Stage(peers=1, quorum=9)
    assert stage.machine.is_master_down(IP, MASTER, 0, "*", stage.now) == (False, "*", 0)
    stage.kill(MASTER)
    stage.run(1000)
    # No tick has come since the time was over.
    assert not stage.master.has(S_DOWN)
    assert stage.machine.is_master_down(IP, MASTER, 0, "*", stage.now + 1) == (True, "*", 0)
    assert stage.machine.is_master_down(IP, 9, 0, "*", stage.now + 1) == (False, "*", 0)


def test_a_master_that_is_a_replica_for_long_is_down() -> None:
    stage = Stage(peers=0, quorum=9)
    stage.infos[MASTER] = replica_info(MASTER, 1001)
    stage.run_until("-role-change")
    assert stage.events == [f"-role-change master mymaster {IP} 1000 new reported role is slave"]
    stage.run(20_900)
    assert not stage.master.has(S_DOWN)
    stage.run(300)
    assert stage.master.has(S_DOWN)


def test_a_master_that_rebooted_may_take_its_time_to_load() -> None:
    stage = Stage(peers=0, quorum=9)
    stage.master.reboot_down_after = 3000
    stage.infos[MASTER] = stage.infos[MASTER].replace(run_id(MASTER), "e" * 40)
    stage.pongs[MASTER] = Error(b"LOADING Redis is loading the dataset in memory")
    stage.run_until("+reboot")
    stage.run(2900)
    assert stage.names_of_events() == ["+reboot"]
    stage.run(300)
    assert stage.names_of_events() == ["+reboot", "+sdown"]
    stage.pongs.clear()
    stage.run(1200)
    assert stage.names_of_events() == ["+reboot", "+sdown", "-sdown"]


def test_time_that_jumps_brings_tilt_and_nothing_is_judged_then() -> None:
    stage = Stage(peers=1, quorum=1)
    stage.now += 5000  # the process stood still
    stage.run(100)
    assert stage.events == ["+tilt #tilt mode entered"]
    stage.kill(MASTER)
    stage.run(10_000)
    assert stage.machine.is_master_down(IP, MASTER, 0, "*", stage.now) == (False, "*", 0)
    assert len(stage.events) == 1
    stage.run(20_100)
    assert stage.events[1:3] == ["-tilt #tilt mode exited", f"+sdown master mymaster {IP} 1000"]


def test_a_clock_that_goes_back_is_as_bad_but_nothing_stops_for_it() -> None:
    stage = Stage(1001, peers=1, quorum=9)
    stage.now -= 500_000
    stage.machine.tick(stage.now)
    assert stage.events == ["+tilt #tilt mode entered"]
    stage.count.clear()
    stage.run(10_000)
    assert stage.count["PING"] >= 27
    stage.run(20_100)
    stage.kill(MASTER)
    stage.run(1001)
    assert stage.names_of_events() == ["+tilt", "-tilt", "+sdown"]


def test_the_wall_clock_may_be_doubted_as_well() -> None:
    stage = Stage(peers=0)
    stage.machine.doubt_time(stage.now)
    assert stage.machine.tilt
    assert stage.machine.tilt_since == stage.now


def test_a_late_tick_does_not_take_silence_for_a_sign() -> None:
    stage = Stage(peers=0, quorum=9)
    stage.silent.add(MASTER)
    stage.run(1100)  # a PING is out
    assert stage.master.link.ping_sent
    # Its answer has come, but the machine, which was held up, is told of other things first.
    stage.now += 1500
    assert stage.machine.is_master_down(IP, MASTER, 0, "*", stage.now) == (False, "*", 0)
    stage.machine.tick(stage.now)
    assert not stage.events
    stage.run(100)
    assert stage.names_of_events() == ["+sdown"]


def test_quorum_and_majority_are_checked_by_who_is_up() -> None:
    stage = Stage(peers=4, quorum=3)
    assert stage.machine.check_quorum(stage.master) == (5, True, True)
    stage.kill(2000, 2001)
    stage.run(1100)
    assert stage.machine.check_quorum(stage.master) == (3, True, True)
    stage.kill(2002)
    stage.run(1100)
    assert stage.machine.check_quorum(stage.master) == (2, False, False)
    assert ME not in stage.master.peers
