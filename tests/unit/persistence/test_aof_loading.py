"""Loading an append-only file: whole, cut off, damaged, of older servers."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.server import LoadFailed
from tests.unit.persistence.logged import (
    STARTED,
    LoggedNode,
    content,
    names,
    reload_digest,
    wire,
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


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
            made = LoggedNode("--aof-load-truncated", "no", load=False)
            with pytest.raises(LoadFailed):
                made.load()
            made.close()
            assert snapshot_of(folder) == before
            assert f"Unexpected end of file reading the append only file {'appendonly.aof.2'}" in (
                made.log
            )
            assert "redis-check-aof --fix" in made.log
        made = LoggedNode()
        assert made.digest() == expected_digest(valid)
        assert content(folder, "appendonly.aof.2.incr.aof") == whole[:valid], size
        # The log goes on behind it.
        made.batch("SET after 1")
        digest = made.digest()
        made.close()
        assert reload_digest() == digest


def expected_digest(valid: int) -> object:
    """That of the records up to there."""
    node = LoggedNode("--appendonly", "no", load=False)
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
        made = LoggedNode(load=False)
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
    made = LoggedNode(load=False)
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
    made = LoggedNode(load=False)
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
    made = LoggedNode(load=False)
    with pytest.raises(LoadFailed):
        made.load()
    assert "Unknown command 'FOO' reading the append only file appendonly.aof.1" in made.log
    made.close()


def test_a_command_that_fails_is_told_and_the_rest_is_loaded(folder: Path) -> None:
    put_log(folder, ("b", wire("SET", "a", "1") + wire("LPUSH", "a", "x") + wire("SET", "b", "2")))
    made = LoggedNode()
    assert made.client("GET", "b") == b"2"
    assert (
        "This server is sending an error to its AOF-loading-client: '-WRONGTYPE Operation against "
        "a key holding the wrong kind of value' after processing the command 'lpush'" in made.log
    )
    # Nothing of the loading itself is in the log.
    made.batch("GET a")
    assert content(folder, "appendonly.aof.1.incr.aof") == b""
    made.close()
    made = LoggedNode("--propagation-error-behavior", "panic", load=False)
    with pytest.raises(LoadFailed):
        made.load()
    text = "This server panicked sending an error to its AOF-loading-client after processing"
    assert f"{text} the command 'lpush'" in made.log
    made.close()


def test_a_missing_file_stops_the_start(folder: Path) -> None:
    put_log(folder, ("b", wire("SET", "a", "1")), ("i", b""))
    (folder / "appendonlydir" / "appendonly.aof.2.incr.aof").unlink()
    made = LoggedNode(load=False)
    with pytest.raises(LoadFailed):
        made.load()
    assert "appendonly.aof.2.incr.aof" in made.log
    made.close()


@pytest.mark.parametrize("on", ["yes", "no"])
def test_a_bad_manifest_stops_the_start(folder: Path, on: str) -> None:
    put_log(folder, manifest=b"file a seq 1 type x\n")
    made = LoggedNode("--appendonly", on, load=False)
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
    made = LoggedNode()
    assert made.client("DBSIZE") == 2
    assert made.client("EXISTS", "n", "l") == 0
    made.batch("GET n")
    assert content(folder, "appendonly.aof.1.incr.aof").count(b"DEL") == 2
    made.close()


def test_a_single_file_of_redis_6_moves_into_the_folder(folder: Path) -> None:
    octets = wire("SELECT", "0") + wire("SET", "a", "1")
    (folder / "appendonly.aof").write_bytes(octets)
    made = LoggedNode()
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
    made = LoggedNode()
    assert made.client("GET", "a") == b"1"
    made.close()


def test_history_is_removed_at_start(folder: Path) -> None:
    put_log(
        folder,
        ("b", wire("SET", "a", "1")),
        manifest=b"file appendonly.aof.1.base.aof seq 1 type b\nfile old.aof seq 1 type h\n",
    )
    (folder / "appendonlydir" / "old.aof").write_bytes(b"x")
    made = LoggedNode()
    assert "old.aof" not in names(folder)
    assert b"type h" not in content(folder, "appendonly.aof.manifest")
    made.close()
