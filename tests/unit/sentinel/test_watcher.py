"""A whole sentinel without sockets: what is on disk before it is said; when it does not start."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import trio
import trio.testing

from node.component import find_component
from node.config import make_config
from node.log import Log
from node.network import SystemNetwork
from node.process import CannotStart
from sentinel.commands import SentinelCommands
from sentinel.composition import compose, set_defaults
from sentinel.names import Names
from sentinel.watcher import Watcher
from tests.faulty import FaultyFiles
from tests.inprocess import FakeClock, LocalClient
from tests.wire import OK, Error

MASTER = "sentinel monitor shop 127.0.0.1 7000 2\n"
CANDIDATE = "c" * 40
RIVAL = "d" * 40


class Desk:
    """A sentinel that nobody runs: its commands, its disk, its clock."""

    def __init__(self, path: Path, content: str = MASTER) -> None:
        self.path = path
        path.write_text(content)
        self.files = FaultyFiles()
        self.clock = FakeClock()
        self.log_path = path.with_suffix(".log")
        config = make_config()
        set_defaults(config)
        config.file = str(path)
        config.read_file(str(path))
        log = Log(self.clock, path=str(self.log_path))
        self.server = compose(config, log, self.clock, SystemNetwork(), self.files)
        self.watcher = find_component(self.server.engine.components, Watcher)
        self.client = LocalClient(self.server.engine)

    def close(self) -> None:
        self.client.close()
        self.server.hub.close()

    @property
    def log(self) -> str:
        return self.log_path.read_text()


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "sentinel.conf")


def test_a_vote_is_on_disk_before_it_is_given(desk: Desk) -> None:
    words = ("SENTINEL", "IS-MASTER-DOWN-BY-ADDR", "127.0.0.1", 7000, 5)
    desk.files.fail("fsync", errno.EIO)
    reply = desk.client(*words, CANDIDATE)
    assert reply == Error(b"ERR Failed to save config file")
    # It may be on disk or not, and another one gets none.
    assert desk.client(*words, RIVAL) == Error(b"ERR Failed to save config file")
    assert desk.client(*words, "*") == [0, b"*", 0]
    desk.files.heal()
    assert desk.client(*words, RIVAL) == [0, CANDIDATE.encode(), 5]
    assert "sentinel leader-epoch shop 5\n" in desk.path.read_text()
    assert "sentinel current-epoch 5\n" in desk.path.read_text()
    assert "not able to save the new configuration on disk!!!: Input/output error" in desk.log
    desk.close()


def test_changes_are_on_disk_before_they_are_answered(desk: Desk) -> None:
    assert desk.client("SENTINEL", "SET", "shop", "quorum", 3) == OK
    assert "sentinel monitor shop 127.0.0.1 7000 3\n" in desk.path.read_text()
    assert desk.client("SENTINEL", "MONITOR", "other", "127.0.0.1", 7001, 1) == OK
    assert "sentinel monitor other 127.0.0.1 7001 1\n" in desk.path.read_text()
    assert desk.client("SENTINEL", "CONFIG", "SET", "announce-port", 1, "loglevel", "debug") == OK
    assert "sentinel announce-port 1\n" in desk.path.read_text()
    assert "loglevel debug\n" in desk.path.read_text()
    assert desk.client("SENTINEL", "REMOVE", "other") == OK
    assert "other" not in desk.path.read_text()
    desk.files.fill(0)
    for words in (
        ("SET", "shop", "quorum", 4),
        ("FLUSHCONFIG",),
        ("MONITOR", "third", "127.0.0.1", 7001, 1),
        ("CONFIG", "SET", "announce-port", 2),
    ):
        reply = desk.client("SENTINEL", *words)
        assert reply == Error(b"ERR Failed to save config file")
    desk.files.heal()
    assert desk.client("SENTINEL", "FLUSHCONFIG") == OK
    assert "sentinel monitor shop 127.0.0.1 7000 4\n" in desk.path.read_text()
    desk.close()


def test_options_before_a_refused_one_hold_and_are_saved(desk: Desk) -> None:
    reply = desk.client("SENTINEL", "SET", "shop", "quorum", 1, "parallel-syncs", 0)
    assert isinstance(reply, Error)
    assert "sentinel monitor shop 127.0.0.1 7000 1\n" in desk.path.read_text()
    desk.close()


def test_secrets_are_told_to_nobody(desk: Desk) -> None:
    listener = LocalClient(desk.server.engine)
    listener("PSUBSCRIBE", "*")
    assert desk.client("SENTINEL", "SET", "shop", "auth-pass", "hush") == OK
    assert listener.read() == [
        *(b"pmessage", b"*", b"+set", b"master shop 127.0.0.1 7000 auth-pass ******"),
    ]
    assert "hush" not in desk.log
    assert "sentinel auth-pass shop hush\n" in desk.path.read_text()
    listener.close()
    desk.close()


def test_scripts_can_be_set_where_that_is_not_denied(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "sentinel.conf", f"{MASTER}sentinel deny-scripts-reconfig no\n")
    assert desk.client("SENTINEL", "SET", "shop", "notification-script", "/bin/true") == OK
    reply = desk.client("SENTINEL", "SET", "shop", "client-reconfig-script", "/etc/passwd")
    assert reply == Error(b"ERR Client reconfiguration script seems non existing or non executable")
    assert "sentinel notification-script shop /bin/true\n" in desk.path.read_text()
    # Warnings are told to the script from now on, other events are not.
    master = desk.watcher.state.masters["shop"]
    desk.watcher.tell("notice", "+slave", master, "a slave")
    desk.watcher.tell("warning", "+sdown", master, "a master")
    assert [job.argv[1:] for job in desk.watcher.scripts.jobs] == [
        ["+set", "master shop 127.0.0.1 7000 notification-script /bin/true"],
        ["+sdown", "a master"],
    ]
    assert desk.client("SENTINEL", "SET", "shop", "notification-script", "") == OK
    assert "notification-script" not in desk.path.read_text()
    desk.close()


def test_a_wall_clock_that_jumps_brings_tilt(desk: Desk) -> None:
    machine = desk.watcher.machine
    desk.watcher.names.enabled = False
    desk.client("SENTINEL", "REMOVE", "shop")  # nobody is to be connected to
    for step in (0.1, 0.1, 1.5):
        desk.clock.ns += 100_000_000
        desk.clock.start += step - 0.1
        desk.watcher.take_turn()
        assert not machine.tilt
    desk.clock.ns += 100_000_000
    desk.clock.start -= 5
    desk.watcher.take_turn()
    assert machine.tilt
    assert "+tilt #tilt mode entered" in desk.log
    reply = desk.client("INFO", "sentinel")
    assert isinstance(reply, bytes)
    assert b"sentinel_tilt:1\r\nsentinel_tilt_since_seconds:0\r\n" in reply
    desk.close()


async def test_who_monitors_by_name_waits_for_the_name(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    desk = Desk(tmp_path / "sentinel.conf", "sentinel resolve-hostnames yes\n")
    told: list[str] = []

    async def search(host: str) -> str:
        await trio.lowlevel.checkpoint()
        told.append(host)
        return "" if host == "no.example" else "10.0.0.1"

    desk.watcher.names = Names(search)
    desk.watcher.names.enabled = True
    nursery.start_soon(find_component(desk.server.engine.components, SentinelCommands).run)
    await trio.testing.wait_all_tasks_blocked()
    unknown = Error(b"ERR Invalid IP address or hostname specified")
    for name, host, reply in (("a", "shop.example", OK), ("b", "no.example", unknown)):
        desk.client.send("SENTINEL", "MONITOR", name, host, 7000, 1)
        assert not desk.client.has_input()
        await trio.testing.wait_all_tasks_blocked()
        assert desk.client.read() == reply
    assert "sentinel monitor a shop.example 7000 1\n" in desk.path.read_text()
    assert desk.watcher.state.masters["a"].address.ip == "10.0.0.1"
    assert told == ["shop.example", "no.example"]
    # Clients that have gone get nothing, and nothing is done for them.
    leaving = LocalClient(desk.server.engine)
    leaving.send("SENTINEL", "MONITOR", "c", "third.example", 7000, 1)
    leaving.close()
    await trio.testing.wait_all_tasks_blocked()
    assert list(desk.watcher.state.masters) == ["a"]
    nursery.cancel_scope.cancel()
    desk.close()


def test_it_does_not_start_without_a_file(tmp_path: Path) -> None:
    config = make_config()
    log = Log(FakeClock(), level="nothing")
    with pytest.raises(CannotStart, match="needs config file on disk"):
        compose(config, log, FakeClock(), SystemNetwork())
    config.file = str(tmp_path)
    with pytest.raises(CannotStart, match="is not writable: Is a directory"):
        compose(config, log, FakeClock(), SystemNetwork())
    config.file = str(tmp_path / "sentinel.conf")
    with pytest.raises(CannotStart, match="is not writable: No such file"):
        compose(config, log, FakeClock(), SystemNetwork())
    (tmp_path / "sentinel.conf").touch()
    files = FaultyFiles()
    files.fill(10)
    with pytest.raises(CannotStart, match="cannot be rewritten: No space left"):
        compose(config, log, FakeClock(), SystemNetwork(), files)


def test_its_id_is_drawn_once(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "sentinel.conf")
    identity = desk.client("SENTINEL", "MYID")
    desk.close()
    assert isinstance(identity, bytes)
    assert len(identity) == 40
    again = Desk(tmp_path / "sentinel.conf", desk.path.read_text())
    assert again.client("SENTINEL", "MYID") == identity
    again.close()
