"""Loading a snapshot: what is refused and how, what a client is told meanwhile, DEBUG RELOAD."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from node.files import SYSTEM_FILES
from node.persistence.rdb_writer import RdbWriter
from node.server import LoadFailed
from tests.faulty import FaultyFiles
from tests.inprocess import LocalServer
from tests.wire import OK, Error, Null

NULL = Null(b"$-1")
REDIS_LOADING = Error(b"LOADING Redis is loading the dataset in memory")
Start = Callable[..., LocalServer]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def files() -> FaultyFiles:
    return FaultyFiles()


@pytest.fixture
def start(folder: Path, files: FaultyFiles) -> Iterator[Start]:
    nodes: list[LocalServer] = []

    def build(*options: str) -> LocalServer:
        node = LocalServer("--save", "", "--enable-debug-command", "yes", *options, files=files)
        node.server.log.path = str(folder / "log")
        nodes.append(node)
        return node

    yield build
    for node in nodes:
        node.close()


def write(path: Path, *entries: tuple[int, bytes, bytes, int | None]) -> None:
    """A snapshot with strings: database, key, value, deadline."""
    content: list[bytes] = []
    writer = RdbWriter(content.append, True, True)
    writer.begin({b"redis-ver": b"7.0.15", b"ctime": b"1699999000", b"used-mem": b"1048576"})
    for db, key, value, deadline in entries:
        writer.select(db, 1, 0)
        writer.entry(key, value, deadline, None, None)
    writer.end()
    path.write_bytes(b"".join(content))


def log_of(folder: Path) -> list[str]:
    """What has been logged, without date and process."""
    return [line.split(" ", 6)[-1] for line in (folder / "log").read_text().splitlines()]


async def test_a_snapshot_is_loaded(start: Start, folder: Path) -> None:
    node = start("--maxmemory-policy", "allkeys-lru")
    now = int(node.clock.wall() * 1000)
    write(
        folder / "dump.rdb",
        (0, b"key", b"value", None),
        (0, b"late", b"value", now - 1),
        (0, b"early", b"value", now + 5000),
        (3, b"key", b"other", None),
    )
    await node.server.load()
    client = node.connect()
    assert client("DBSIZE") == 2
    assert client("PTTL", "early") == 5000
    assert client("SELECT", 3) == OK
    assert client("GET", "key") == b"other"
    info = node.info("persistence")
    assert info["rdb_last_load_keys_loaded"] == "3"
    assert info["rdb_last_load_keys_expired"] == "1"
    assert info["rdb_changes_since_last_save"] == "0"
    assert info["loading"] == "0"
    assert "loading_start_time" not in info
    assert log_of(folder) == [
        "Loading RDB produced by version 7.0.15",
        "RDB age 1001 seconds",
        "RDB memory usage when created 1.00 Mb",
        "Done loading RDB, keys loaded: 3, keys expired: 1.",
        "DB loaded from disk: 0.000 seconds",
    ]


async def test_no_snapshot_is_no_failure(start: Start, folder: Path) -> None:
    node = start()
    await node.server.load()
    assert node.connect()("DBSIZE") == 0
    assert not (folder / "log").exists()


async def test_a_cut_file_is_refused_wherever_it_is_cut(start: Start, folder: Path) -> None:
    path = folder / "dump.rdb"
    write(path, (0, b"key", b"value" * 20, None), (1, b"other", b"12", 1_800_000_000_000))
    whole = path.read_bytes()
    node = start()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(LoadFailed):
            await start().server.load()
        assert path.read_bytes() == whole[:size]
        lines = log_of(folder)
        place = f"Bad file format reading the RDB file {node.config.path('dbfilename')} at offset "
        assert lines[-3].startswith(place)
        assert int(lines[-3].removeprefix(place).split(":")[0]) <= size
        assert lines[-2].endswith(f"redis-check-rdb {node.config.path('dbfilename')}")
        assert lines[-1] == "Fatal error loading the DB, check server logs. Exiting."


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([(0, b"key", b"1", None), (0, b"key", b"2", None)], "duplicated key 'key' in DB 0"),
        ([(16, b"key", b"1", None)], "more than 16 databases"),
    ],
)
async def test_what_has_no_place_is_refused(
    start: Start, folder: Path, entries: list[tuple[int, bytes, bytes, int | None]], reason: str
) -> None:
    write(folder / "dump.rdb", *entries)
    with pytest.raises(LoadFailed):
        await start().server.load()
    assert reason in log_of(folder)[-3]


@pytest.mark.parametrize(
    ("method", "number", "text"),
    [
        ("open", errno.EACCES, "can't open the RDB file dump.rdb for reading: Permission denied"),
        ("read", errno.EIO, "Input/output error"),
    ],
)
async def test_an_unreadable_file(
    start: Start, folder: Path, files: FaultyFiles, method: str, number: int, text: str
) -> None:
    write(folder / "dump.rdb", (0, b"key", b"value", None))
    files.fail(method, number, 2 if method == "open" else 1)  # the log's manifest comes first
    with pytest.raises(LoadFailed):
        await start().server.load()
    assert any(text in line for line in log_of(folder))


async def test_clients_are_told_while_it_loads(
    start: Start, folder: Path, files: FaultyFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder / "dump.rdb", (0, b"key", b"value", None))
    node = start()
    client = node.connect()
    asked = 0

    def look(descriptor: int, size: int) -> bytes:
        nonlocal asked
        asked += 1
        for request in ("GET key", "SET key x", "PING", "SAVE", "DBSIZE", "BGSAVE", "MULTI x"):
            reply = client(*request.split())
            assert reply == REDIS_LOADING or request == "MULTI x", request
        info = node.info("persistence")
        assert info["loading"] == "1"
        assert info["loading_total_bytes"] == str((folder / "dump.rdb").stat().st_size)
        assert info["loading_start_time"] == str(int(node.clock.wall()))
        assert {"loading_rdb_used_mem", "loading_loaded_bytes"} < info.keys()
        assert {"loading_loaded_perc", "loading_eta_seconds"} < info.keys()
        assert client("MULTI") == OK
        assert client("GET", "key") == REDIS_LOADING
        assert isinstance(client("EXEC"), Error)
        assert client("CONFIG", "SET", "appendonly", "no") == REDIS_LOADING
        return SYSTEM_FILES.read(descriptor, size)

    monkeypatch.setattr(FaultyFiles, "read", lambda _, *arguments: look(*arguments))
    await node.server.load()
    assert asked
    assert client("GET", "key") == b"value"


def test_reload_of_a_bad_file_changes_nothing(start: Start, folder: Path) -> None:
    client = start().connect()
    assert client("SET", "key", "value") == OK
    failed = Error(b"ERR Error trying to load the RDB dump, check server logs.")
    assert client("DEBUG", "RELOAD", "NOSAVE") == failed  # no such file
    assert client("DEBUG", "RELOAD") == OK
    path = folder / "dump.rdb"
    path.write_bytes(path.read_bytes()[:-9])
    assert client("DEBUG", "RELOAD", "NOSAVE") == failed
    assert client("DEBUG", "RELOAD", "NOSAVE", "NOFLUSH", "MERGE") == failed
    assert client("GET", "key") == b"value"


def test_reload_beside_what_is_there(start: Start, folder: Path) -> None:
    client = start().connect()
    path = folder / "dump.rdb"
    write(path, (0, b"key", b"old", None), (0, b"other", b"old", None))
    assert client("SET", "key", "new") == OK
    assert client("SET", "third", "new") == OK
    assert isinstance(client("DEBUG", "RELOAD", "NOSAVE", "NOFLUSH"), Error)
    assert client("MGET", "key", "other", "third") == [b"new", NULL, b"new"]
    assert client("DEBUG", "RELOAD", "NOSAVE", "NOFLUSH", "MERGE") == OK
    assert client("MGET", "key", "other", "third") == [b"old", b"old", b"new"]
    assert client("DEBUG", "RELOAD", "NOSAVE") == OK
    assert client("MGET", "key", "other", "third") == [b"old", b"old", NULL]


def test_reload_that_cannot_save_forgets_nothing(start: Start, files: FaultyFiles) -> None:
    client = start().connect()
    assert client("SET", "key", "value") == OK
    files.fail("write", errno.ENOSPC)
    assert client("DEBUG", "RELOAD") == Error(b"ERR")
    assert client("GET", "key") == b"value"


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "noeviction"])
def test_access_clocks_survive(start: Start, policy: str) -> None:
    node = start("--maxmemory-policy", policy)
    client = node.connect()
    assert client("SET", "key", "value") == OK
    for _ in range(20):
        client("GET", "key")
    question = ("OBJECT", "FREQ" if policy == "allkeys-lfu" else "IDLETIME", "key")
    node.advance(50)
    before = client(*question)
    assert client("DEBUG", "RELOAD") == OK
    after = client(*question)
    assert after == (0 if policy == "noeviction" else before)
    assert before
