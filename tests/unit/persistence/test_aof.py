"""The append-only file in one process: what is on disk, faults of the disk, and what is loaded."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from node.log import Log
from node.persistence.aof import OFF, ON, WAITING, AppendOnlyFile
from node.persistence.child import Child
from node.server import LoadFailed, ShutdownRefused, ShutdownRequest
from tests.composed import ComposedNode
from tests.faulty import FaultyFiles
from tests.inprocess import LocalClient
from tests.wire import OK, PONG, Error, Simple

PATIENCE = 60.0
NO_SPACE = Error(b"MISCONF Errors writing to the AOF file: No space left on device")
IO_ERROR = Error(b"MISCONF Errors writing to the AOF file: Input/output error")
STARTED = Simple(b"Background append only file rewriting started")
SCHEDULED = Simple(b"Background append only file rewriting scheduled")


class Ended(BaseException):
    """The process would have ended."""


class Fixture:
    """A node with a log in the current folder. It is loaded, and its tasks do not run."""

    def __init__(self, *options: str, load: bool = True) -> None:
        self.files = FaultyFiles()
        options = ("--save", "", "--enable-debug-command", "yes", *options)
        if "--appendonly" not in options:
            options = ("--appendonly", "yes", *options)
        self.node = ComposedNode(*options, files=self.files)
        self.server = self.node.server
        self.log_path = Path("log")
        self.log_path.touch()
        log = self.server.log
        assert isinstance(log, Log)
        log.path = str(self.log_path.absolute())
        parts = self.node.engine.components
        self.child = next(part for part in parts if isinstance(part, Child))
        self.aof = next(part for part in parts if isinstance(part, AppendOnlyFile))
        self.writer = self.aof.writer
        self.aof.end = self._end
        self.client = self.node.connect()
        if load:
            self.load()

    def _end(self, code: int) -> None:
        raise Ended(code)

    def state(self) -> int:
        """Whether there is a log."""
        return self.aof.state

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def load(self) -> None:
        """What happens at start."""
        self.node.engine.refresh()
        trio.run(self.server.load)

    def batch(self, *requests: str, client: LocalClient | None = None) -> list[object]:
        """Requests whose replies go out together, once all barriers have been passed."""
        client = client or self.client
        replies: list[object] = [client(*request.split()) for request in requests]
        for barrier in self.server.hub.barriers:
            barrier()
        return replies

    def settle(self) -> None:
        """Wait until the child has ended."""
        deadline = time.monotonic() + PATIENCE
        while self.child.running:
            self.child.tick(0)
            assert time.monotonic() < deadline

    def syncs(self) -> int:
        """How often a file of the log has been synced."""
        return self.files.calls.get("fdatasync", 0)

    def sync(self) -> None:
        """What the worker would do."""
        trio.run(self.writer._work_off)

    def advance(self, seconds: float) -> None:
        """Let time pass, with a disk that is quick."""
        self.node.advance(seconds)
        self.sync()

    def digest(self) -> object:
        return self.client("DEBUG", "DIGEST")

    def close(self) -> None:
        self.child.kill()
        if self.writer.is_open:
            os.close(self.writer.descriptor)
            self.writer.descriptor = -1
        self.node.close()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def fixture(folder: Path) -> Iterator[Fixture]:
    made = Fixture()
    yield made
    made.close()


def again(*options: str) -> Fixture:
    """Another node that loads what is in the folder."""
    return Fixture(*options)


def reload_digest(*options: str) -> object:
    """The digest of what is loaded out of the folder."""
    node = again(*options)
    try:
        return node.digest()
    finally:
        node.close()


def wire(*argv: str) -> bytes:
    parts = [b"*%d\r\n" % len(argv)]
    parts += [b"$%d\r\n%b\r\n" % (len(word), word.encode()) for word in argv]
    return b"".join(parts)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "appendonlydir").iterdir())


def content(folder: Path, name: str) -> bytes:
    return (folder / "appendonlydir" / name).read_bytes()


# What is written.


def test_the_first_start(fixture: Fixture, folder: Path) -> None:
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


def test_a_batch_is_one_write(fixture: Fixture, folder: Path) -> None:
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


def test_what_nobody_asked_for_is_written_by_the_tick(fixture: Fixture, folder: Path) -> None:
    fixture.batch("SET a 1 PX 100")
    before = fixture.writer.offset
    fixture.advance(1)
    fixture.client("GET", "a")
    assert len(content(folder, "appendonly.aof.1.incr.aof")) == before
    fixture.aof.tick(fixture.node.engine.ended_ns)
    assert content(folder, "appendonly.aof.1.incr.aof")[before:] == wire("DEL", "a")


def test_times(folder: Path) -> None:
    made = Fixture("--aof-timestamp-enabled", "yes")
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


def test_always_syncs_before_replies(fixture: Fixture) -> None:
    assert fixture.client("CONFIG", "SET", "appendfsync", "always") == OK
    before = fixture.syncs()
    fixture.batch("SET a 1", "SET b 2")
    assert fixture.syncs() == before + 1
    fixture.batch("GET a")
    assert fixture.syncs() == before + 1


def test_everysec_syncs_once_a_second_and_waits_two_for_a_slow_disk(fixture: Fixture) -> None:
    writer = fixture.writer
    fixture.batch("SET a 1")
    assert writer.pending_syncs == 0
    fixture.node.clock.ns += 1_100_000_000
    fixture.batch("SET a 2")
    assert writer.pending_syncs == 1
    # The disk is busy.
    fixture.batch("SET a 3")
    assert writer.buffered > 0
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


def test_no_leaves_it_to_the_system(fixture: Fixture) -> None:
    assert fixture.client("CONFIG", "SET", "appendfsync", "no") == OK
    before = fixture.syncs()
    for _ in range(3):
        fixture.batch("SET a 1")
        fixture.node.advance(5)
    assert fixture.syncs() == before
    assert fixture.writer.pending_syncs == 0


def test_no_sync_while_a_child_writes(fixture: Fixture) -> None:
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


def test_a_full_disk_refuses_writes_until_there_is_room(fixture: Fixture, folder: Path) -> None:
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


def test_a_short_write_is_taken_back(fixture: Fixture, folder: Path) -> None:
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


def test_a_short_write_that_cannot_be_taken_back_is_finished(
    fixture: Fixture, folder: Path
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
    fixture: Fixture, operation: str, text: str
) -> None:
    assert fixture.client("CONFIG", "SET", "appendfsync", "always") == OK
    fixture.files.fail(operation, errno.EIO)
    with pytest.raises(Ended):
        fixture.batch("SET a 1")
    assert text in fixture.log


def test_a_sync_that_fails_refuses_writes_until_one_succeeds(fixture: Fixture) -> None:
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
    assert fixture.child.running
    fixture.settle()
    assert fixture.aof.manifest.base_sequence == 2


def test_nothing_is_rewritten_while_the_log_cannot_be_written(
    fixture: Fixture, folder: Path
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
    made = Fixture("--aof-use-rdb-preamble", preamble)
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


def test_a_rewrite_killed_changes_nothing(fixture: Fixture, folder: Path) -> None:
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
    ("operation", "at"), [("create", 1), ("fsync", 1), ("rename", 1), ("make_folder", 1)]
)
def test_a_rewrite_that_cannot_begin(
    fixture: Fixture, folder: Path, operation: str, at: int
) -> None:
    fixture.batch("SET a 1")
    fixture.files.fail(operation, errno.EROFS, at)
    assert fixture.client("BGREWRITEAOF") == Error(
        b"ERR Can't execute an AOF background rewriting. Please check the server logs for more "
        b"information."
    )
    assert not fixture.child.running
    fixture.files.heal()
    fixture.batch("SET b 2")
    assert fixture.client("BGREWRITEAOF") == STARTED
    fixture.settle()
    fixture.batch("SET c 3")
    digest = fixture.digest()
    fixture.close()
    assert reload_digest() == digest


@pytest.mark.parametrize("operation", ["rename", "create", "fsync"])
def test_a_rewrite_that_cannot_end(fixture: Fixture, folder: Path, operation: str) -> None:
    fixture.batch("SET a 1")
    assert fixture.client("BGREWRITEAOF") == STARTED
    fixture.batch("SET b 2")
    fixture.files.fail(operation, errno.EROFS)
    fixture.settle()
    assert not fixture.aof.last_ok
    fixture.files.heal()
    assert "appendonly.aof.2.base.rdb" not in names(folder)
    fixture.batch("SET c 3")
    digest = fixture.digest()
    fixture.close()
    assert reload_digest() == digest


def test_rewrites_of_its_own_accord(folder: Path) -> None:
    made = Fixture("--auto-aof-rewrite-min-size", "1000", "--auto-aof-rewrite-percentage", "100")
    made.batch(*["SET key value"] * 20)
    made.node.advance(0.1)
    assert not made.child.running
    made.batch(*["SET key value"] * 20)
    made.node.advance(0.1)
    assert made.child.running
    assert "Starting automatic rewriting of AOF on " in made.log
    made.settle()
    assert made.aof.base_size < 1000
    made.close()


def test_failing_rewrites_become_rare(fixture: Fixture) -> None:
    for _ in range(3):
        fixture.aof.scheduled = True
        fixture.node.advance(0.1)
        os.kill(fixture.child.pid, 9)
        fixture.settle()
    fixture.aof.scheduled = True
    fixture.node.advance(0.1)
    assert not fixture.child.running
    assert "will retry in 1 minutes" in fixture.log
    fixture.node.advance(30)
    assert not fixture.child.running
    fixture.node.advance(31)
    assert fixture.child.running
    fixture.settle()
    assert fixture.aof.failures == 0


def test_a_rewrite_waits_for_a_snapshot_and_for_the_end_of_a_transaction(
    fixture: Fixture,
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
    made = Fixture("--appendonly", "no")
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


def test_on_within_a_transaction(folder: Path) -> None:
    made = Fixture("--appendonly", "no")
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
    made = Fixture("--appendonly", "no")
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
    made = Fixture("--appendonly", "no")
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


# Loading.


def put_log(folder: Path, *files: tuple[str, bytes], manifest: bytes | None = None) -> None:
    place = folder / "appendonlydir"
    place.mkdir(exist_ok=True)
    lines = b""
    for number, (kind, octets) in enumerate(files, 1):
        name = f"appendonly.aof.{number}.{'base' if kind == 'b' else 'incr'}.aof"
        (place / name).write_bytes(octets)
        lines += b"file %b seq %d type %b\n" % (name.encode(), number, kind.encode())
    (place / "appendonly.aof.manifest").write_bytes(lines if manifest is None else manifest)


RECORDS = [
    wire("SELECT", "0"),
    wire("SET", "a", "1"),
    wire("MULTI") + wire("INCR", "a") + wire("INCR", "b") + wire("EXEC"),
    b"#TS:1700000000\r\n",
    wire("RPUSH", "list", "one", "", "three"),
    wire("SET", "a", "x" * 30),
]


def boundaries() -> list[int]:
    """Where a record ends."""
    ends = [0]
    for record in RECORDS:
        ends.append(ends[-1] + len(record))
    return ends


def snapshot_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "appendonlydir").iterdir()}


def test_every_truncation_is_cut_off_or_refused(folder: Path) -> None:
    whole = b"".join(RECORDS)
    base = wire("SET", "base", "1")
    for size in range(1, len(whole) + 1):
        valid = max(end for end in boundaries() if end <= size)
        put_log(folder, ("b", base), ("i", whole[:size]))
        before = snapshot_of(folder)
        if size != valid:
            made = Fixture("--aof-load-truncated", "no", load=False)
            with pytest.raises(LoadFailed):
                made.load()
            made.close()
            assert snapshot_of(folder) == before
            assert f"Unexpected end of file reading the append only file {'appendonly.aof.2'}" in (
                made.log
            )
            assert "redis-check-aof --fix" in made.log
        made = Fixture()
        assert made.digest() == expected_digest(valid)
        assert content(folder, "appendonly.aof.2.incr.aof") == whole[:valid], size
        # The log goes on behind it.
        made.batch("SET after 1")
        digest = made.digest()
        made.close()
        assert reload_digest() == digest


def expected_digest(valid: int) -> object:
    """That of the records up to there."""
    node = Fixture("--appendonly", "no", load=False)
    node.client("SET", "base", "1")
    done = 0
    for record, requests in zip(
        RECORDS,
        (
            *(["SELECT 0"], ["SET a 1"], ["INCR a", "INCR b"], []),
            *([], ["SET a " + "x" * 30]),
        ),
        strict=True,
    ):
        done += len(record)
        if done > valid:
            break
        for request in requests:
            node.client(*request.split())
        if record.startswith(b"*5"):
            node.client("RPUSH", "list", "one", "", "three")
    digest = node.digest()
    node.close()
    return digest


def test_only_the_last_file_may_be_cut_off(folder: Path) -> None:
    whole = b"".join(RECORDS)
    for size in range(1, len(whole)):
        if size in boundaries():
            continue
        put_log(folder, ("b", whole[:size]), ("i", wire("SET", "z", "1")))
        before = snapshot_of(folder)
        made = Fixture(load=False)
        with pytest.raises(LoadFailed):
            made.load()
        assert "the truncated file is not the last file" in made.log
        made.close()
        assert snapshot_of(folder) == before


@pytest.mark.parametrize("at", range(len(RECORDS[1]) + len(RECORDS[2])))
def test_every_damaged_byte_is_refused_or_harmless(folder: Path, at: int) -> None:
    whole = bytearray(b"".join([*RECORDS[1:3], *RECORDS[1:3]]))
    whole[at] ^= 0x15
    put_log(folder, ("b", bytes(whole)), ("i", wire("SET", "z", "1")))
    before = snapshot_of(folder)
    made = Fixture(load=False)
    try:
        made.load()
    except LoadFailed:
        assert snapshot_of(folder) == before
        assert "appendonly.aof.1.base.aof" in made.log
    made.close()


@pytest.mark.parametrize(
    ("octets", "offset"),
    [
        (wire("SET", "a", "1") + b"+OK\r\n" + wire("SET", "a", "1"), 27),
        (wire("SET", "a", "1") + b"*0\r\n", 28),
        (b"*1\r\n$3\r\nFOOxx" + wire("SET", "a", "1"), 11),
        (b"*1\r\n:3\r\n", 4),
        (b"*1\r\n$-1\r\n", 5),
        (b"*1\r\n$99999999999999999999\r\n", 5),
        (b"*" + b"1" * 200, 1),
    ],
)
def test_bad_format_is_told_with_its_place(folder: Path, octets: bytes, offset: int) -> None:
    put_log(folder, ("b", octets))
    made = Fixture(load=False)
    with pytest.raises(LoadFailed):
        made.load()
    assert (
        "Bad file format reading the append only file appendonly.aof.1.base.aof at offset "
        f"{offset}: " in made.log
    )
    assert "redis-check-aof --fix" in made.log
    made.close()


def test_an_unknown_command_stops_the_start(folder: Path) -> None:
    put_log(folder, ("b", wire("SET", "a", "1") + wire("FOO", "bar")))
    made = Fixture(load=False)
    with pytest.raises(LoadFailed):
        made.load()
    assert "Unknown command 'FOO' reading the append only file appendonly.aof.1" in made.log
    made.close()


def test_a_command_that_fails_is_told_and_the_rest_is_loaded(folder: Path) -> None:
    put_log(folder, ("b", wire("SET", "a", "1") + wire("LPUSH", "a", "x") + wire("SET", "b", "2")))
    made = Fixture()
    assert made.client("GET", "b") == b"2"
    assert (
        "This server is sending an error to its AOF-loading-client: '-WRONGTYPE Operation against "
        "a key holding the wrong kind of value' after processing the command 'lpush'" in made.log
    )
    # Nothing of the loading itself is in the log.
    made.batch("GET a")
    assert content(folder, "appendonly.aof.1.incr.aof") == b""
    made.close()


def test_a_missing_file_stops_the_start(folder: Path) -> None:
    put_log(folder, ("b", wire("SET", "a", "1")), ("i", b""))
    (folder / "appendonlydir" / "appendonly.aof.2.incr.aof").unlink()
    made = Fixture(load=False)
    with pytest.raises(LoadFailed):
        made.load()
    assert "appendonly.aof.2.incr.aof" in made.log
    made.close()


@pytest.mark.parametrize("on", ["yes", "no"])
def test_a_bad_manifest_stops_the_start(folder: Path, on: str) -> None:
    put_log(folder, manifest=b"file a seq 1 type x\n")
    made = Fixture("--appendonly", on, load=False)
    with pytest.raises(LoadFailed):
        made.load()
    assert "FATAL AOF MANIFEST FILE ERROR" in made.log
    assert ">>> 'file a seq 1 type x'" in made.log
    assert "Unknown AOF file type" in made.log
    made.close()


def test_what_has_expired_since_was_there_when_it_was_used(folder: Path) -> None:
    past = "1000"
    put_log(
        folder,
        (
            "b",
            wire("SET", "n", "5", "PXAT", past)
            + wire("INCR", "n")
            + wire("RPUSH", "l", "a")
            + wire("PEXPIREAT", "l", past)
            + wire("RPUSH", "l", "b")
            + wire("LRANGE", "l", "0", "-1"),
        ),
    )
    made = Fixture()
    assert made.client("DBSIZE") == 2
    assert made.client("EXISTS", "n", "l") == 0
    made.batch("GET n")
    assert content(folder, "appendonly.aof.1.incr.aof").count(b"DEL") == 2
    made.close()


def test_a_single_file_of_redis_6_moves_into_the_folder(folder: Path) -> None:
    octets = wire("SELECT", "0") + wire("SET", "a", "1")
    (folder / "appendonly.aof").write_bytes(octets)
    made = Fixture()
    assert made.client("GET", "a") == b"1"
    assert names(folder) == [
        "appendonly.aof",
        "appendonly.aof.1.incr.aof",
        "appendonly.aof.manifest",
    ]
    assert content(folder, "appendonly.aof") == octets
    assert not (folder / "appendonly.aof").exists()
    assert "Successfully migrated an old-style AOF configuration" in made.log
    made.batch("SET b 2")
    assert made.client("BGREWRITEAOF") == STARTED
    made.settle()
    assert names(folder)[0] == "appendonly.aof.2.base.rdb"
    digest = made.digest()
    made.close()
    assert reload_digest() == digest


def test_the_move_of_a_single_file_is_finished_after_a_crash(folder: Path) -> None:
    (folder / "appendonly.aof").write_bytes(wire("SET", "a", "1"))
    put_log(folder, manifest=b"file appendonly.aof seq 1 type b\n")
    made = Fixture()
    assert made.client("GET", "a") == b"1"
    made.close()


def test_history_is_removed_at_start(folder: Path) -> None:
    put_log(
        folder,
        ("b", wire("SET", "a", "1")),
        manifest=b"file appendonly.aof.1.base.aof seq 1 type b\nfile old.aof seq 1 type h\n",
    )
    (folder / "appendonlydir" / "old.aof").write_bytes(b"x")
    made = Fixture()
    assert "old.aof" not in names(folder)
    assert b"type h" not in content(folder, "appendonly.aof.manifest")
    made.close()
