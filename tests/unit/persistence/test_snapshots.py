"""Snapshots in a process whose file system fails: what is on disk, what is refused, recovery."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.persistence.child import Child
from node.persistence.snapshots import MISCONF, Snapshots
from tests.faulty import FaultyFiles
from tests.inprocess import LocalClient, LocalServer
from tests.wire import OK, PONG, Error, Simple

PATIENCE = 60.0
FAILED = Error(b"ERR")


class Fixture:
    """A node with save points in a folder of its own."""

    def __init__(self, *options: str) -> None:
        self.files = FaultyFiles()
        self.node = LocalServer(*options, files=self.files)
        self.node.server.sleep = time.sleep  # in the child
        parts = self.node.engine.components
        self.child = next(part for part in parts if isinstance(part, Child))
        self.snapshots = next(part for part in parts if isinstance(part, Snapshots))
        self.client = self.node.connect()

    def settle(self) -> None:
        """Wait until the child has ended."""
        deadline = time.monotonic() + PATIENCE
        while self.child.running:
            self.child.tick(0)
            assert time.monotonic() < deadline

    def saving(self) -> bool:
        """Whether there is a child."""
        return self.child.running

    def save_in_background(self) -> None:
        assert self.client("BGSAVE") == Simple(b"Background saving started")
        self.settle()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def fixture(folder: Path) -> Iterator[Fixture]:
    made = Fixture("--save", "60", "5", "--rdbcompression", "no", "--enable-debug-command", "yes")
    yield made
    made.child.kill()
    made.node.close()


def fill(client: LocalClient) -> None:
    """So much that a snapshot takes several writes."""
    for number in range(30):
        assert client("SET", f"key:{number}", "x" * 10_000) == OK


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


FAULTS = [
    ("create", errno.EACCES, 1),
    *(("write", errno.ENOSPC, at) for at in range(1, 6)),
    ("write", errno.EIO, 2),
    ("fsync", errno.EIO, 1),
    ("rename", errno.EROFS, 1),
]


@pytest.mark.parametrize(("method", "number", "at"), FAULTS)
@pytest.mark.parametrize("background", [False, True])
def test_what_fails_leaves_the_old_snapshot(
    fixture: Fixture, folder: Path, method: str, number: int, at: int, background: bool
) -> None:
    client, files = fixture.client, fixture.files
    assert client("SAVE") == OK
    old = (folder / "dump.rdb").read_bytes()
    fill(client)
    changes = fixture.node.info("persistence")["rdb_changes_since_last_save"]
    assert changes == "30"
    files.fail(method, number, at)
    if background:
        fixture.save_in_background()
    else:
        assert client("SAVE") == FAILED
    assert (folder / "dump.rdb").read_bytes() == old
    assert names(folder) == ["dump.rdb"]
    info = fixture.node.info("persistence")
    assert info["rdb_changes_since_last_save"] == changes
    assert info["rdb_last_bgsave_status"] == ("err" if background else "ok")
    files.heal()
    assert client("SAVE") == OK
    info = fixture.node.info("persistence")
    assert info["rdb_changes_since_last_save"] == "0"
    assert info["rdb_last_bgsave_status"] == "ok"
    assert len((folder / "dump.rdb").read_bytes()) > 300_000


def test_every_write_of_a_snapshot_is_tested(fixture: Fixture) -> None:
    fill(fixture.client)
    fixture.files.heal()
    assert fixture.client("SAVE") == OK
    assert fixture.files.calls["write"] == 6


def test_a_folder_that_cannot_be_flushed(fixture: Fixture, folder: Path) -> None:
    """The snapshot is there, but it may not be after a power cut."""
    fixture.files.fail("sync_folder", errno.EIO)
    assert fixture.client("SAVE") == FAILED
    assert names(folder) == ["dump.rdb"]


def test_writes_are_refused_until_the_disk_recovers(fixture: Fixture) -> None:
    client, node = fixture.client, fixture.node
    fill(client)
    fixture.files.fail("write", errno.ENOSPC)
    node.advance(61)  # the save point
    assert fixture.saving()
    fixture.settle()
    assert client("SET", "key", "value") == Error(MISCONF)
    assert client("PING") == Error(MISCONF)
    assert client("GET", "key:1") == b"x" * 10_000
    assert client("DEL", "key:1") == Error(MISCONF)
    assert client("MULTI") == OK
    assert client("SET", "key", "value") == Error(MISCONF)
    assert isinstance(client("EXEC"), Error)

    # Not at once again.
    node.advance(5)
    assert not fixture.saving()
    node.advance(1)
    assert fixture.saving()
    fixture.settle()
    assert client("PING") == Error(MISCONF)

    fixture.files.heal()
    node.advance(6)
    fixture.settle()
    assert client("PING") == PONG
    assert client("SET", "key", "value") == OK


def test_who_does_not_want_refusals(fixture: Fixture) -> None:
    client = fixture.client
    fixture.files.fail("create", errno.EACCES)
    fixture.save_in_background()
    assert client("PING") == Error(MISCONF)
    assert client("CONFIG", "SET", "stop-writes-on-bgsave-error", "no") == OK
    assert client("PING") == PONG
    assert client("CONFIG", "SET", "stop-writes-on-bgsave-error", "yes") == OK
    assert client("PING") == Error(MISCONF)
    assert client("CONFIG", "SET", "save", "") == OK
    assert client("PING") == PONG
    assert client("SET", "key", "value") == OK


def test_save_points(fixture: Fixture) -> None:
    client, node = fixture.client, fixture.node
    for number in range(4):
        assert client("SET", "key", number) == OK
    node.advance(100)
    assert not fixture.saving()
    assert client("SET", "key", "last") == OK
    node.advance(0.1)
    assert fixture.child.kind == "rdb"
    assert node.info("persistence")["rdb_bgsave_in_progress"] == "1"
    # What is changed meanwhile is not in the snapshot.
    assert client("SET", "other", "value") == OK
    fixture.settle()
    info = node.info("persistence")
    assert info["rdb_changes_since_last_save"] == "1"
    assert info["rdb_saves"] == "1"
    assert info["rdb_bgsave_in_progress"] == "0"
    assert int(info["rdb_last_cow_size"]) > 0
    assert client("LASTSAVE") == int(node.clock.wall())
    assert node.info("stats")["total_forks"] == "1"


def test_one_child_at_a_time(fixture: Fixture) -> None:
    client = fixture.client
    assert client("CONFIG", "SET", "rdb-key-save-delay", "10000000") == OK
    assert client("SET", "key", "value") == OK
    assert client("BGSAVE") == Simple(b"Background saving started")
    busy = Error(b"ERR Background save already in progress")
    assert client("BGSAVE") == busy
    assert client("BGSAVE", "SCHEDULE") == busy
    assert client("SAVE") == busy
    fixture.child.kill()

    fixture.child.start("aof", lambda: time.sleep(PATIENCE), lambda end: None)
    reply = client("BGSAVE")
    assert isinstance(reply, Error)
    assert reply.text.startswith(b"ERR Another child process is active (AOF?): can't BGSAVE")
    assert client("BGSAVE", "schedule") == Simple(b"Background saving scheduled")
    assert client("CONFIG", "SET", "rdb-key-save-delay", "0") == OK
    fixture.node.advance(0.1)
    assert fixture.child.kind == "aof"
    fixture.child.kill()
    fixture.node.advance(0.1)
    assert fixture.child.kind == "rdb"
    fixture.settle()
    fixture.node.advance(0.1)
    assert not fixture.saving()


def test_in_a_transaction_it_begins_afterwards(fixture: Fixture) -> None:
    client = fixture.client
    assert client("MULTI") == OK
    client("SET", "key", "value")
    client("BGSAVE")
    client("SAVE")
    assert isinstance(client("EXEC"), Error)  # SAVE is not for transactions
    assert client("MULTI") == OK
    client("BGSAVE")
    assert client("EXEC") == [Simple(b"Background saving scheduled")]
    fixture.node.advance(0.1)
    assert fixture.child.kind == "rdb"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGUSR1, "ok"), (signal.SIGKILL, "err")])
def test_a_child_that_is_killed(
    fixture: Fixture, folder: Path, number: signal.Signals, status: str
) -> None:
    client = fixture.client
    assert client("CONFIG", "SET", "rdb-key-save-delay", "20000000") == OK
    fill(client)
    assert client("BGSAVE") == Simple(b"Background saving started")
    pid = fixture.child.pid
    deadline = time.monotonic() + PATIENCE
    while not (folder / f"temp-{pid}.rdb").exists():
        assert time.monotonic() < deadline
    # These are for the parent, and come to both from a terminal.
    os.kill(pid, signal.SIGTERM)
    os.kill(pid, signal.SIGINT)
    os.kill(pid, number)
    fixture.settle()
    assert fixture.node.info("persistence")["rdb_last_bgsave_status"] == status
    assert names(folder) == []


def test_flushall_leaves_no_snapshot_of_what_was(fixture: Fixture, folder: Path) -> None:
    client = fixture.client
    fill(client)
    assert client("CONFIG", "SET", "rdb-key-save-delay", "20000000") == OK
    assert client("BGSAVE") == Simple(b"Background saving started")
    before = fixture.snapshots.changes
    assert client("FLUSHALL") == OK
    assert not fixture.saving()
    assert names(folder) == ["dump.rdb"]
    assert (folder / "dump.rdb").stat().st_size < 200
    # They are still to be saved, as far as the count is concerned.
    assert fixture.snapshots.changes == before + 30
    assert client("CONFIG", "SET", "save", "") == OK
    (folder / "dump.rdb").unlink()
    assert client("FLUSHALL") == OK
    assert names(folder) == []


def test_a_fork_that_fails(fixture: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fork", refuse)
        assert fixture.client("BGSAVE") == FAILED
    assert fixture.client("PING") == Error(MISCONF)
    assert fixture.client("CONFIG", "SET", "save", "") == OK
    fixture.save_in_background()
    assert fixture.node.info("persistence")["rdb_last_bgsave_status"] == "ok"
