"""Connections, greetings, PING, INFO and hello, at their times."""

from __future__ import annotations

import pytest

from node.resp import Error
from sentinel.machine import HELLO_CHANNEL
from sentinel.state import S_DOWN, SCRIPT_KILL_SENT, Address
from tests.unit.sentinel.stage import IP, MASTER, ME, Stage, master_info, replica_info, run_id


def test_replicas_are_found_by_info_and_sentinels_by_hello() -> None:
    stage = Stage(1001, 1002, peers=2)
    assert set(stage.master.replicas) == {f"{IP}:1001", f"{IP}:1002"}
    assert set(stage.master.peers) == {run_id(2000), run_id(2001)}
    assert stage.master.run_id == run_id(MASTER)
    assert stage.replica(1001).offset == 10
    assert stage.replica(1001).priority == 100
    assert stage.replica(1001).master_link_up
    assert stage.machine.unsaved
    assert stage.machine.check_quorum(stage.master) == (3, True, True)


def test_events_of_the_beginning_are_as_redis_tells_them() -> None:
    stage = Stage(peers=0)
    stage.infos[MASTER] = master_info(MASTER, 1001)
    stage.up.add(1001)
    stage.infos[1001] = replica_info(1001)
    stage.run(10_000)
    stage.meet(2000)
    assert stage.events == [
        f"+slave slave {IP}:1001 {IP} 1001 @ mymaster {IP} 1000",
        f"+sentinel sentinel {run_id(2000)} {IP} 2000 @ mymaster {IP} 1000",
    ]


def test_both_halves_are_greeted() -> None:
    stage = Stage(1001, peers=1)
    stage.master.auth_user, stage.master.auth_pass = "user", "secret"
    stage.machine.state.requirepass = "own"
    stage.machine.changed(stage.master, stage.now, credentials=True)
    stage.machine.credentials_changed(stage.now)
    stage.run(100)
    for port in (MASTER, 1001):
        assert stage.take_sent(port) == [
            "AUTH user secret",
            f"CLIENT SETNAME sentinel-{ME[:8]}-cmd",
            "~AUTH user secret",
            f"~CLIENT SETNAME sentinel-{ME[:8]}-pubsub",
            "~SUBSCRIBE __sentinel__:hello",
        ]
    # Another sentinel gets this one's own password, if there is none for sentinels.
    assert stage.take_sent(2000) == ["AUTH own", f"CLIENT SETNAME sentinel-{ME[:8]}-cmd"]
    stage.machine.state.sentinel_user, stage.machine.state.sentinel_pass = "s", "p"
    stage.machine.credentials_changed(stage.now)
    stage.run(100)
    assert stage.take_sent(2000)[0] == "AUTH s p"


def test_links_stay_where_credentials_are_the_same() -> None:
    stage = Stage(1001)
    stage.closed.clear()
    stage.machine.changed(stage.master, stage.now, credentials=True)
    assert not stage.closed


def test_commands_are_called_what_they_are_called_there() -> None:
    stage = Stage(1001)
    stage.master.renamed_commands = {"INFO": "GUESS", "SLAVEOF": "FOLLOW", "CONFIG": "SETUP"}
    stage.count.clear()
    stage.run(11_000)
    assert stage.count["GUESS"] >= 2
    assert "INFO" not in stage.count
    stage.take_sent(1001)
    stage.machine.failover.promotion_of(stage.master).point(
        stage.replica(1001), Address(IP, MASTER)
    )
    assert stage.take_sent(1001) == [
        "MULTI",
        f"FOLLOW {IP} {MASTER}",
        "SETUP REWRITE",
        "CLIENT KILL TYPE normal",
        "CLIENT KILL TYPE pubsub",
        "EXEC",
        "GUESS",
    ]


def test_rates_are_those_of_redis() -> None:
    stage = Stage(1001, peers=1)
    stage.count.clear()
    stage.hellos.clear()
    stage.run(60_000)
    instances = 3
    assert 50 * instances <= stage.count["PING"] <= 61 * instances
    assert 5 * (instances - 1) <= stage.count["INFO"] <= 7 * (instances - 1)
    assert 27 * instances <= len(stage.hellos) <= 31 * instances


@pytest.mark.parametrize("broken", ["sdown", "link"])
def test_replicas_are_watched_closely_where_something_is_wrong(broken: str) -> None:
    stage = Stage(1001, peers=0, quorum=5)
    if broken == "sdown":
        stage.kill(MASTER)
        stage.run(1100)
        assert stage.master.has(S_DOWN)
    else:
        stage.infos[1001] = replica_info(1001, down=3)
        stage.run(10_100)
    stage.count.clear()
    stage.run(10_000)
    assert stage.count["INFO"] >= 9


def test_a_hello_tells_who_and_whom() -> None:
    stage = Stage(1001)
    stage.hellos.clear()
    stage.run(2100)
    text = f"10.0.0.9,26379,{ME},0,mymaster,{IP},{MASTER},0"
    assert {port for port, _ in stage.hellos} == {MASTER, 1001, 2000, 2001}
    assert {hello for _, hello in stage.hellos} == {text}
    stage.machine.state.announce_ip = "fe80::5"
    stage.machine.state.announce_port = 5000
    stage.hellos.clear()
    stage.run(2100)
    assert {hello for _, hello in stage.hellos} == {f"fe80::5,5000,{ME},0,mymaster,{IP},{MASTER},0"}


def test_who_is_away_is_tried_once_a_second() -> None:
    stage = Stage(1001, peers=0)
    stage.kill(1001)
    stage.run(5000)
    stage.opened.clear()
    stage.run(10_000)
    attempts = [entry for entry in stage.opened if entry == (1001, "commands")]
    assert 9 <= len(attempts) <= 11


def test_who_comes_back_in_time_is_not_down() -> None:
    stage = Stage(peers=0, quorum=1)
    stage.kill(MASTER)
    stage.run(800)
    stage.up.add(MASTER)
    stage.run(3000)
    assert stage.events == []


def test_a_connection_that_looks_dead_is_made_anew() -> None:
    stage = Stage(peers=0, quorum=1)
    stage.run(20_000)
    stage.silent.add(MASTER)
    stage.closed.clear()
    stage.run(1700)
    assert (MASTER, "commands") in stage.closed
    stage.silent.clear()
    stage.run(2000)
    assert not stage.master.has(S_DOWN)


def test_a_deaf_connection_for_messages_is_made_anew() -> None:
    stage = Stage(peers=0)
    stage.closed.clear()
    stage.run(20_000)
    assert not stage.closed
    stage.machine.heard(stage.master.link, HELLO_CHANNEL, b"anything", stage.now)
    # Hellos are still taken, but nobody hears them.
    stage.echo = False
    stage.run(5900)
    assert (MASTER, "messages") not in stage.closed
    stage.run(300)
    assert (MASTER, "messages") in stage.closed
    assert (MASTER, "commands") not in stage.closed
    assert stage.master.link.messages_open


def test_an_attempt_to_connect_that_hangs_is_given_up() -> None:
    stage = Stage(peers=0)
    stage.kill(MASTER)
    stage.up.add(MASTER)
    opened, stage.open = stage.open, lambda link, half: None  # type: ignore[method-assign]
    stage.run(1200)
    stage.closed.clear()
    stage.run(3000)
    assert (MASTER, "commands") in stage.closed
    stage.open = opened  # type: ignore[method-assign]
    stage.run(4000)
    assert stage.master.link.commands_open


@pytest.mark.parametrize(
    ("answer", "there"),
    [
        (b"PONG", True),
        (Error(b"LOADING Redis is loading the dataset in memory"), True),
        (Error(b"MASTERDOWN Link with MASTER is down"), True),
        (Error(b"NOAUTH Authentication required."), False),
        (Error(b"BUSY Redis is busy running a script."), False),
        (b"nonsense", False),
    ],
)
def test_which_answers_count_as_being_there(answer: object, there: bool) -> None:
    stage = Stage(peers=0, quorum=9)
    stage.pongs[MASTER] = answer
    stage.run(4000)
    assert stage.master.has(S_DOWN) is not there


def test_a_script_that_keeps_it_busy_is_killed_once() -> None:
    stage = Stage(peers=0, quorum=9)
    stage.pongs[MASTER] = Error(b"BUSY Redis is busy running a script.")
    stage.run(6000)
    assert stage.take_sent(MASTER) == ["SCRIPT KILL"]
    assert stage.master.has(SCRIPT_KILL_SENT)
    stage.pongs.clear()
    stage.run(2000)
    assert not stage.master.has(S_DOWN | SCRIPT_KILL_SENT)
    assert stage.names_of_events() == ["+sdown", "-sdown"]


def test_a_name_is_resolved_again_before_each_attempt() -> None:
    stage = Stage(peers=0, quorum=9)
    stage.machine.state.resolve_hostnames = True
    stage.names["db.example"] = ""
    address = Address("db.example", 1500, "")
    named = stage.machine.monitor("named", address, 1, stage.now)
    stage.up.add(1500)
    stage.run(2000)
    assert (1500, "commands") not in stage.opened
    stage.names["db.example"] = "10.0.0.77"
    stage.run(2000)
    assert named.link.commands_open
    assert named.address.ip == "10.0.0.77"
    assert stage.machine.is_host(named.address, "DB.example")
    assert stage.machine.is_host(named.address, "10.0.0.77")


def test_one_link_for_all_records_of_a_sentinel() -> None:
    stage = Stage(peers=1)
    other = stage.machine.monitor("other", Address(IP, 1500), 2, stage.now)
    stage.up.add(1500)
    stage.infos[1500] = master_info(1500)
    stage.machine.hear_published(
        f"{IP},2000,{run_id(2000)},0,other,{IP},1500,0".encode(), stage.now
    )
    stage.run(100)
    peer = other.peers[run_id(2000)]
    assert peer.link is stage.peer(2000).link
    assert len(peer.link.users) == 2
    stage.count.clear()
    stage.run(20_000)
    assert stage.count["PING"] <= 21 * 3  # two masters and one sentinel
    stage.machine.remove("other", stage.now)
    assert stage.peer(2000).link.commands_open
    assert len(stage.peer(2000).link.users) == 1
    assert (2000, "commands") not in stage.closed
    stage.machine.remove("mymaster", stage.now)
    assert (2000, "commands") in stage.closed
