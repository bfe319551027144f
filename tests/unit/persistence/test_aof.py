"""The append-only file in one process: what is written and when, rewrites, faults of the disk."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.persistence.aof import OFF, ON, WAITING
from node.server import ShutdownRefused, ShutdownRequest
from tests.unit.persistence.logged import (
    IO_ERROR,
    NO_SPACE,
    SCHEDULED,
    STARTED,
    Ended,
    LoggedNode,
    again,
    content,
    names,
    reload_digest,
    wire,
)
from tests.wire import OK, PONG, Error, Simple


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def fixture(folder: Path) -> Iterator[LoggedNode]:
    made = LoggedNode()
    yield made
    made.close()


# What is written.


def test_the_first_start(fixture: LoggedNode, folder: Path) -> None:
    assert names(folder) == [
        "appendonly.aof.1.base.rdb",
        "appendonly.aof.1.incr.aof",
        "appendonly.aof.manifest",
    ]
    assert content(folder, "appendonly.aof.manifest") == (
        b"file appendonly.aof.1.base.rdb seq 1 type b\n"
        b"file appendonly.aof.1.incr.aof seq 1 type i\n"
    )
    assert content(folder, "appendonly.aof.1.base.rdb").startswith(b"REDIS")
    assert content(folder, "appendonly.aof.1.incr.aof") == b""
    assert "Creating AOF base file appendonly.aof.1.base.rdb on server start" in fixture.log
    assert "Creating AOF incr file appendonly.aof.1.incr.aof on server start" in fixture.log


def test_a_batch_is_one_write(fixture: LoggedNode, folder: Path) -> None:
    fixture.batch("SET a 1", "GET a", "SELECT 3", "RPUSH l 1 2", "PUBLISH channel message")
    assert content(folder, "appendonly.aof.1.incr.aof") == b"".join(
        [
            *(wire("SELECT", "0"), wire("SET", "a", "1")),
            *(wire("SELECT", "3"), wire("RPUSH", "l", "1", "2")),
        ]
    )
    before = fixture.writer.offset
    fixture.batch("MULTI", "INCR n", "INCR n", "EXEC")
    tail = content(folder, "appendonly.aof.1.incr.aof")[before:]
    assert tail == wire("MULTI") + 2 * wire("INCR", "n") + wire("EXEC")
    assert fixture.writer.offset == before + len(tail)


def test_what_nobody_asked_for_is_written_by_the_tick(fixture: LoggedNode, folder: Path) -> None:
    fixture.batch("SET a 1 PX 100")
    before = fixture.writer.offset
    fixture.advance(1)
    fixture.client("GET", "a")
    assert len(content(folder, "appendonly.aof.1.incr.aof")) == before
    fixture.aof.tick(fixture.node.engine.ended_ns)
    assert content(folder, "appendonly.aof.1.incr.aof")[before:] == wire("DEL", "a")


def test_times(folder: Path) -> None:
    made = LoggedNode("--aof-timestamp-enabled", "yes")
    now = made.node.engine.keyspace.now // 1000
    made.batch("SET a 1", "SET b 2")
    made.advance(2)
    made.batch("SET c 3")
    stamp = b"#TS:%d\r\n"
    assert content(folder, "appendonly.aof.1.incr.aof") == b"".join(
        [
            *(stamp % now, wire("SELECT", "0"), wire("SET", "a", "1"), wire("SET", "b", "2")),
            *(stamp % (now + 2), wire("SET", "c", "3")),
        ]
    )
    assert made.client("CONFIG", "SET", "aof-timestamp-enabled", "no") == OK
    made.advance(2)
    made.batch("SET d 4")
    assert content(folder, "appendonly.aof.1.incr.aof").endswith(wire("SET", "d", "4"))
    assert content(folder, "appendonly.aof.1.incr.aof").count(b"#TS") == 2
    digest = made.digest()
    made.close()
    assert reload_digest() == digest


# Policies.


def test_always_syncs_before_replies(fixture: LoggedNode) -> None:
    assert fixture.client("CONFIG", "SET", "appendfsync", "always") == OK
    before = fixture.syncs()
    fixture.batch("SET a 1", "SET b 2")
    assert fixture.syncs() == before + 1
    fixture.batch("GET a")
    assert fixture.syncs() == before + 1


def test_everysec_syncs_once_a_second_and_waits_two_for_a_slow_disk(fixture: LoggedNode) -> None:
    writer = fixture.writer
    fixture.batch("SET a 1")
    assert writer.pending_syncs == 0
    fixture.node.clock.ns += 1_100_000_000
    fixture.batch("SET a 2")
    assert writer.pending_syncs == 1
    # The disk is busy.
    fixture.batch("SET a 3")
    assert writer.buffered > 0
    assert fixture.node.info("memory")["mem_aof_buffer"] == str(writer.buffered)
    assert fixture.node.info("persistence")["aof_buffer_length"] == str(writer.buffered)
    fixture.node.clock.ns += 1_900_000_000
    fixture.batch("SET a 4")
    assert writer.buffered > 0
    assert writer.delayed == 0
    fixture.node.clock.ns += 200_000_000
    fixture.batch("SET a 5")
    assert writer.buffered == 0
    assert writer.delayed == 1
    assert "Asynchronous AOF fsync is taking too long (disk is busy?)" in fixture.log
    fixture.sync()
    assert writer.pending_syncs == 0
    # What was written meanwhile is synced although nothing more comes.
    fixture.node.advance(1.1)
    assert writer.pending_syncs == 1
    fixture.sync()
    fixture.node.advance(1.1)
    assert writer.pending_syncs == 0


def test_no_leaves_it_to_the_system(fixture: LoggedNode) -> None:
    assert fixture.client("CONFIG", "SET", "appendfsync", "no") == OK
    before = fixture.syncs()
    for _ in range(3):
        fixture.batch("SET a 1")
        fixture.node.advance(5)
    assert fixture.syncs() == before
    assert fixture.writer.pending_syncs == 0


def test_no_sync_while_a_child_writes(fixture: LoggedNode) -> None:
    for directive in ("no-appendfsync-on-rewrite yes", "appendfsync always"):
        assert fixture.client("CONFIG", "SET", *directive.split()) == OK
    assert fixture.client("BGREWRITEAOF") == STARTED
    before = fixture.syncs()
    fixture.batch("SET a 1")
    assert fixture.syncs() == before
    fixture.settle()
    fixture.batch("GET a")
    assert fixture.syncs() == before + 1


# Faults.


def test_a_full_disk_refuses_writes_until_there_is_room(fixture: LoggedNode, folder: Path) -> None:
    fixture.batch("SET a 1")
    whole = content(folder, "appendonly.aof.1.incr.aof")
    fixture.files.fail("write", errno.ENOSPC)
    assert fixture.batch("INCR n") == [1]  # what has been done is not undone, and written later
    assert fixture.batch("SET b 2", "PING", "GET n") == [NO_SPACE, NO_SPACE, b"1"]
    assert fixture.batch("MULTI", "GET n", "EXEC")[-1] == [b"1"]
    assert fixture.node.info("persistence")["aof_last_write_status"] == "err"
    fixture.advance(1.1)
    assert fixture.batch("SET b 2") == [NO_SPACE]
    assert content(folder, "appendonly.aof.1.incr.aof") == whole
    assert fixture.log.count("Error writing to the AOF file: No space left on device") == 1
    fixture.files.heal()
    fixture.advance(1.1)
    assert "AOF write error looks solved, Redis can write again." in fixture.log
    assert fixture.batch("SET b 2", "PING") == [OK, PONG]
    assert content(folder, "appendonly.aof.1.incr.aof") == b"".join(
        [whole, wire("INCR", "n"), wire("SET", "b", "2")]
    )
    assert fixture.node.info("persistence")["aof_last_write_status"] == "ok"


def test_a_short_write_is_taken_back(fixture: LoggedNode, folder: Path) -> None:
    fixture.batch("SET a 1")
    whole = content(folder, "appendonly.aof.1.incr.aof")
    fixture.files.fill(10)
    fixture.batch("SET b 2")
    assert content(folder, "appendonly.aof.1.incr.aof") == whole
    assert f"(nwritten=10, expected={len(wire('SET', 'b', '2'))})" in fixture.log
    assert fixture.batch("SET c 3") == [NO_SPACE]
    fixture.files.heal()
    fixture.advance(1.1)
    assert content(folder, "appendonly.aof.1.incr.aof") == whole + wire("SET", "b", "2")


def test_a_short_write_after_a_rewrite_leaves_no_hole(fixture: LoggedNode, folder: Path) -> None:
    assert fixture.client("BGREWRITEAOF") == STARTED
    fixture.settle()
    fixture.files.fill(10)
    fixture.batch("SET b 2")
    assert content(folder, "appendonly.aof.2.incr.aof") == b""
    fixture.files.heal()
    fixture.advance(1.1)
    expected = wire("SELECT", "0") + wire("SET", "b", "2")
    assert content(folder, "appendonly.aof.2.incr.aof") == expected


def test_a_short_write_that_cannot_be_taken_back_is_finished(
    fixture: LoggedNode, folder: Path
) -> None:
    fixture.files.fill(10)
    fixture.files.fail("truncate", errno.EIO)
    fixture.batch("SET b 2")
    expected = wire("SELECT", "0") + wire("SET", "b", "2")
    assert content(folder, "appendonly.aof.1.incr.aof") == expected[:10]
    assert "Could not remove short write from the append-only file." in fixture.log
    fixture.files.heal()
    fixture.advance(1.1)
    assert content(folder, "appendonly.aof.1.incr.aof") == expected


@pytest.mark.parametrize(
    ("operation", "text"),
    [
        (
            "write",
            "Can't recover from AOF write error when the AOF fsync policy is 'always'. Exiting...",
        ),
        (
            "fdatasync",
            "fsync error when the AOF fsync policy is 'always': Input/output error. Exiting...",
        ),
    ],
)
def test_always_ends_the_server_rather_than_break_its_promise(
    fixture: LoggedNode, operation: str, text: str
) -> None:
    assert fixture.client("CONFIG", "SET", "appendfsync", "always") == OK
    fixture.files.fail(operation, errno.EIO)
    with pytest.raises(Ended):
        fixture.batch("SET a 1")
    assert text in fixture.log


def test_a_sync_that_fails_refuses_writes_until_one_succeeds(fixture: LoggedNode) -> None:
    fixture.node.clock.ns += 1_100_000_000
    fixture.batch("SET a 1")
    fixture.files.fail("fdatasync", errno.EIO)
    fixture.sync()
    assert fixture.batch("SET a 2", "GET a") == [IO_ERROR, b"1"]
    fixture.node.advance(1.1)
    fixture.sync()
    assert fixture.log.count("Fail to fsync the AOF file: Input/output error") == 1
    fixture.files.heal()
    fixture.node.advance(1.1)
    fixture.sync()
    assert fixture.batch("SET a 2") == [OK]
    # What the kernel could not write may be gone from the file, but not from memory.
    assert fixture.aof.scheduled
    fixture.node.advance(0.1)
    assert fixture.busy()
    fixture.settle()
    assert fixture.aof.folder.manifest.base_sequence == 2


def test_what_a_sync_has_failed_for_is_permanent_when_a_rewrite_has_it(fixture: LoggedNode) -> None:
    """WAITAOF does not believe the next sync: the kernel may have dropped what it says nothing of.

    Neither does a rewrite help that had begun before.
    """
    fixture.advance(1.1)
    fixture.batch("SET a 1")
    fixture.client.send("WAITAOF", 1, 0, 0)
    assert not fixture.client.has_input()
    fixture.sync()
    assert fixture.client.read() == [1, 0]
    assert fixture.client("BGREWRITEAOF") == STARTED
    fixture.sync()
    fixture.batch("SET a 2")
    fixture.node.advance(1.1)
    fixture.files.fail("fdatasync", errno.EIO)
    fixture.sync()
    fixture.files.heal()
    fixture.node.advance(1.1)
    fixture.sync()
    assert fixture.batch("SET a 3") == [OK]
    fixture.settle()
    fixture.client.send("WAITAOF", 1, 0, 0)
    assert not fixture.client.has_input()
    assert fixture.aof.scheduled
    fixture.advance(1.1)
    assert not fixture.client.has_input()
    assert fixture.busy()
    fixture.settle()
    assert fixture.client.read() == [1, 0]
    fixture.batch("SET a 4")
    fixture.client.send("WAITAOF", 1, 0, 0)
    assert not fixture.client.has_input()
    fixture.advance(1.1)
    assert fixture.client.read() == [1, 0]


def test_nothing_is_rewritten_while_the_log_cannot_be_written(
    fixture: LoggedNode, folder: Path
) -> None:
    fixture.files.fail("write", errno.ENOSPC)
    fixture.batch("INCR n")
    assert isinstance(fixture.client("BGREWRITEAOF"), Error)
    fixture.files.heal()
    fixture.node.advance(1.1)
    assert fixture.client("BGREWRITEAOF") == STARTED
    fixture.settle()
    digest = fixture.digest()
    fixture.close()
    assert reload_digest() == digest


# Rewriting.


@pytest.mark.parametrize("preamble", ["yes", "no"])
def test_a_rewrite_with_changes_meanwhile(folder: Path, preamble: str) -> None:
    made = LoggedNode("--aof-use-rdb-preamble", preamble)
    made.batch("SET a 1", "RPUSH l a b c", "INCR n")
    assert made.client("BGREWRITEAOF") == STARTED
    assert made.node.info("persistence")["aof_rewrite_in_progress"] == "1"
    assert made.client("BGREWRITEAOF") == Error(
        b"ERR Background append only file rewriting already in progress"
    )
    made.batch("INCR n", "SELECT 1", "SET b 2")
    made.settle()
    suffix = "rdb" if preamble == "yes" else "aof"
    assert names(folder) == [
        f"appendonly.aof.2.base.{suffix}",
        "appendonly.aof.2.incr.aof",
        "appendonly.aof.manifest",
    ]
    assert content(folder, "appendonly.aof.2.incr.aof") == b"".join(
        [wire("SELECT", "0"), wire("INCR", "n"), wire("SELECT", "1"), wire("SET", "b", "2")]
    )
    made.batch("INCR n")
    digest = made.digest()
    fields = made.node.info("persistence")
    base = content(folder, f"appendonly.aof.2.base.{suffix}")
    incr = content(folder, "appendonly.aof.2.incr.aof")
    assert fields["aof_current_size"] == str(len(base) + len(incr))
    assert fields["aof_last_bgrewrite_status"] == "ok"
    assert fields["aof_rewrites"] == "1"
    made.close()
    assert reload_digest() == digest
    assert not [path for path in folder.iterdir() if path.name.startswith("temp-")]


def test_a_rewrite_killed_changes_nothing(fixture: LoggedNode, folder: Path) -> None:
    fixture.batch("SET a 1")
    assert fixture.client("BGREWRITEAOF") == STARTED
    os.kill(fixture.child.pid, 9)
    fixture.batch("SET b 2")
    fixture.settle()
    assert names(folder) == [
        "appendonly.aof.1.base.rdb",
        "appendonly.aof.1.incr.aof",
        "appendonly.aof.2.incr.aof",
        "appendonly.aof.manifest",
    ]
    assert fixture.node.info("persistence")["aof_last_bgrewrite_status"] == "err"
    digest = fixture.digest()
    fixture.close()
    assert reload_digest() == digest


@pytest.mark.parametrize(
    ("operation", "at"),
    [("create", 1), ("fsync", 1), ("rename", 1), ("make_folder", 1), ("sync_folder", 1)],
)
def test_a_rewrite_that_cannot_begin(
    fixture: LoggedNode, folder: Path, operation: str, at: int
) -> None:
    fixture.batch("SET a 1")
    fixture.files.fail(operation, errno.EROFS, at)
    assert fixture.client("BGREWRITEAOF") == Error(
        b"ERR Can't execute an AOF background rewriting. Please check the server logs for more "
        b"information."
    )
    assert not fixture.busy()
    fixture.files.heal()
    fixture.batch("SET b 2")
    assert fixture.client("BGREWRITEAOF") == STARTED
    fixture.settle()
    fixture.batch("SET c 3")
    digest = fixture.digest()
    fixture.close()
    assert reload_digest() == digest


@pytest.mark.parametrize("operation", ["rename", "create", "fsync", "sync_folder"])
def test_a_rewrite_that_cannot_end(fixture: LoggedNode, folder: Path, operation: str) -> None:
    fixture.batch("SET a 1")
    assert fixture.client("BGREWRITEAOF") == STARTED
    fixture.batch("SET b 2")
    fixture.files.fail(operation, errno.EROFS)
    fixture.settle()
    assert not fixture.aof.last_ok
    fixture.files.heal()
    if operation != "sync_folder":
        assert "appendonly.aof.2.base.rdb" not in names(folder)
    fixture.batch("SET c 3")
    digest = fixture.digest()
    fixture.close()
    assert reload_digest() == digest


def test_rewrites_of_its_own_accord(folder: Path) -> None:
    made = LoggedNode("--auto-aof-rewrite-min-size", "1000", "--auto-aof-rewrite-percentage", "100")
    made.batch(*["SET key value"] * 20)
    made.node.advance(0.1)
    assert not made.busy()
    made.batch(*["SET key value"] * 20)
    made.node.advance(0.1)
    assert made.busy()
    assert "Starting automatic rewriting of AOF on " in made.log
    made.settle()
    assert made.aof.base_size < 1000
    made.close()


def test_failing_rewrites_become_rare(fixture: LoggedNode) -> None:
    for _ in range(3):
        fixture.aof.scheduled = True
        fixture.node.advance(0.1)
        os.kill(fixture.child.pid, 9)
        fixture.settle()
    fixture.aof.scheduled = True
    fixture.node.advance(0.1)
    assert not fixture.busy()
    assert "will retry in 1 minutes" in fixture.log
    fixture.node.advance(30)
    assert not fixture.busy()
    fixture.node.advance(31)
    assert fixture.busy()
    fixture.settle()
    assert fixture.aof.failures == 0


def test_a_rewrite_waits_for_a_snapshot_and_for_the_end_of_a_transaction(
    fixture: LoggedNode,
) -> None:
    assert fixture.client("BGSAVE") == Simple(b"Background saving started")
    assert fixture.client("BGREWRITEAOF") == SCHEDULED
    assert fixture.node.info("persistence")["aof_rewrite_scheduled"] == "1"
    fixture.settle()
    fixture.node.advance(0.1)
    assert fixture.child.kind == "aof"
    fixture.settle()
    assert fixture.batch("MULTI", "INCR n", "BGREWRITEAOF", "INCR n", "EXEC")[-1] == [
        *(1, SCHEDULED, 2)
    ]
    fixture.node.advance(0.1)
    fixture.settle()
    digest = fixture.digest()
    fixture.close()
    assert reload_digest() == digest


# On and off.


def test_on_and_off(folder: Path) -> None:
    made = LoggedNode("--appendonly", "no")
    assert made.state() == OFF
    made.batch("SET a 1", "INCR n")
    assert not (folder / "appendonlydir").exists()
    assert made.client("CONFIG", "SET", "appendonly", "yes") == OK
    assert made.state() == WAITING
    made.batch("INCR n")
    assert made.node.info("persistence")["aof_pending_rewrite"] == "1"
    with pytest.raises(ShutdownRefused):
        made.server.shut_down(ShutdownRequest())
    made.settle()
    assert made.state() == ON
    assert names(folder) == [
        "appendonly.aof.1.base.rdb",
        "appendonly.aof.1.incr.aof",
        "appendonly.aof.manifest",
    ]
    made.batch("INCR n")
    assert made.client("CONFIG", "SET", "appendonly", "no") == OK
    assert made.state() == OFF
    made.batch("INCR n")
    assert made.client("GET", "n") == b"4"
    other = again()
    assert other.client("GET", "n") == b"3"
    other.close()
    assert made.client("CONFIG", "SET", "appendonly", "yes") == OK
    made.settle()
    digest = made.digest()
    made.close()
    assert reload_digest() == digest


def test_off_when_a_rewrite_has_just_ended(folder: Path) -> None:
    made = LoggedNode()
    made.batch("INCR n")
    assert made.client("BGREWRITEAOF") == STARTED
    made.batch("INCR n")
    os.waitid(os.P_PID, made.child.pid, os.WEXITED | os.WNOWAIT)
    assert made.client("CONFIG", "SET", "appendonly", "no") == OK
    assert not made.busy()
    digest = made.digest()
    made.close()
    assert reload_digest() == digest


def test_on_within_a_transaction(folder: Path) -> None:
    made = LoggedNode("--appendonly", "no")
    made.batch("MULTI", "INCR n", "CONFIG SET appendonly yes", "INCR n", "EXEC")
    assert made.aof.scheduled
    made.batch("INCR n")
    made.node.advance(0.1)
    made.batch("INCR n")
    made.settle()
    assert made.state() == ON
    made.close()
    other = again()
    assert other.client("GET", "n") == b"4"
    other.close()


def test_on_is_refused_where_it_is_impossible(folder: Path) -> None:
    made = LoggedNode("--appendonly", "no")
    made.files.fail("create", errno.EROFS)
    reply = made.client("CONFIG", "SET", "appendonly", "yes")
    assert isinstance(reply, Error)
    assert reply.text.endswith(b"Unable to turn on AOF. Check server logs.")
    assert made.state() == OFF
    assert made.client("CONFIG", "GET", "appendonly") == [b"appendonly", b"no"]
    made.files.heal()
    assert made.batch("SET a 1") == [OK]
    made.close()


def test_a_first_base_that_fails_is_tried_again(folder: Path) -> None:
    made = LoggedNode("--appendonly", "no")
    assert made.client("CONFIG", "SET", "appendonly", "yes") == OK
    os.kill(made.child.pid, 9)
    made.batch("INCR n")
    made.settle()
    assert made.state() == WAITING
    made.node.advance(0.1)
    made.batch("INCR n")
    made.settle()
    assert made.state() == ON
    made.close()
    other = again()
    assert other.client("GET", "n") == b"2"
    other.close()
