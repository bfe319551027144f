"""Snapshots of real processes: exchanged with redis-server, killed, under writes, on full disks."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import metered
from tests.conftest import StartServer, require_oracle
from tests.replicas import wait_until
from tests.servers import Server, node_command
from tests.wire import OK, Argument, Client, Closed, Error, Simple

DEBUG = ("--enable-debug-command", "yes")
PATIENCE = 60.0
LOADING = Error(b"LOADING Redis is loading the dataset in memory")


def info(client: Client, section: str = "persistence") -> dict[str, str]:
    """The fields of a section."""
    text = client("INFO", section)
    assert isinstance(text, bytes)
    return dict(line.split(":", 1) for line in text.decode().splitlines() if ":" in line)


def saved(client: Client) -> None:
    """Wait for the snapshot in the background; it has to succeed."""
    wait_until(lambda: info(client)["rdb_bgsave_in_progress"] == "0")
    assert info(client)["rdb_last_bgsave_status"] == "ok"


def messages(log: str) -> list[str]:
    """Sign and text of each line of a log."""
    return [line.split(" ", 5)[-1] for line in log.splitlines()]


def fill(client: Client) -> None:
    """All types, on both sides of their thresholds, some keys with deadlines."""

    def send(*words: Argument) -> None:
        assert not isinstance(client(*words), Error)

    for size in (3, 600):
        members = [f"member:{n}" for n in range(size)]
        send("SET", f"string:{size}", "x" * size)
        send("SET", f"random:{size}", os.urandom(size))
        send("SET", f"number:{size}", size * 10**15)
        send("RPUSH", f"list:{size}", *members)
        send("SADD", f"set:{size}", *members)
        send("SADD", f"intset:{size}", *range(-size, size))
        send("HSET", f"hash:{size}", *(word for m in members for word in (m, m * 2)))
        send("ZADD", f"zset:{size}", *(word for m in members for word in (len(m) / 7, m)))
        send("APPEND", f"string:{size}", "more")
    send("SET", "deadline", "value", "EX", 1000)
    send("PEXPIRE", "hash:3", 1_000_000)
    send("SELECT", 5)
    send("SET", "elsewhere", "value")
    send("SELECT", 0)


def digest(client: Client) -> bytes:
    reply = client("DEBUG", "DIGEST")
    assert isinstance(reply, Simple)
    return reply.text


@pytest.mark.parametrize("compression", ["yes", "no"])
@pytest.mark.parametrize("ours_first", [True, False])
def test_snapshots_travel(compression: str, ours_first: bool) -> None:
    commands = [node_command(), require_oracle()]
    names = ["node", "oracle"]
    if not ours_first:
        commands.reverse()
        names.reverse()
    options = (*DEBUG, "--rdbcompression", compression)
    writer = Server(commands[0], *options, name=names[0])
    reader = Server(commands[1], *options, name=names[1])
    with writer, writer.connect() as client:
        fill(client)
        expected = digest(client)
        assert client("BGSAVE") == Simple(b"Background saving started")
        saved(client)
        shutil.copy(writer.folder / "dump.rdb", reader.folder)
    checked = subprocess.run(
        ["redis-check-rdb", str(reader.folder / "dump.rdb")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout
    with reader, reader.connect() as client:
        assert digest(client) == expected


def test_start_lines(start_node: StartServer) -> None:
    node = start_node(*DEBUG)
    with node.connect() as client:
        fill(client)
        expected = digest(client)
        keys = sum(int(value[5:].split(",")[0]) for value in info(client, "keyspace").values())
        assert client("SAVE") == OK
    node.restart()
    with node.connect() as client:
        assert digest(client) == expected
    lines = messages(node.log)
    lines = lines[lines.index("* Server initialized", lines.index("* Server initialized") + 1) :]
    assert re.fullmatch(r"\* RDB age \d+ seconds", lines[2])
    assert re.fullmatch(r"\* RDB memory usage when created \d+\.\d\d Mb", lines[3])
    assert re.fullmatch(r"\* DB loaded from disk: \d+\.\d{3} seconds", lines[5])
    assert [*lines[:2], lines[4], lines[6]] == [
        "* Server initialized",
        "* Loading RDB produced by version 7.2.4",
        f"* Done loading RDB, keys loaded: {keys}, keys expired: 0.",
        "* Ready to accept connections tcp",
    ]


def test_log_lines_of_a_snapshot(start_node: StartServer) -> None:
    node = start_node("--save", "1", "1")
    with node.connect() as client:
        assert client("SET", "key", "value") == OK
        wait_until(lambda: "terminated" in node.log)
        saved(client)
    lines = messages(node.log)
    lines = lines[lines.index("* 1 changes in 1 seconds. Saving...") :]
    assert re.fullmatch(r"\* Background saving started by pid \d+", lines[1])
    rest = [re.sub(r"\d+ MB", "N MB", line) for line in lines[2:5]]
    assert rest == [
        "* DB saved on disk",
        "* Fork CoW for RDB: current N MB, peak N MB, average N MB",
        "* Background saving terminated with success",
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_save_where_there_are_save_points(
    start_node: StartServer, number: signal.Signals
) -> None:
    node = start_node("--save", "3600", "1000", "--rdb-key-save-delay", "0")
    with node.connect() as client:
        assert client("SET", "key", "value") == OK
        assert client("CONFIG", "SET", "rdb-key-save-delay", "10000000") == OK
        assert client("BGSAVE") == Simple(b"Background saving started")
        assert client("CONFIG", "SET", "rdb-key-save-delay", "0") == OK
        os.kill(node.pid, number)
        with pytest.raises(Closed):
            client.read()
    assert node.await_end() == 0
    lines = messages(node.log)
    lines = lines[lines.index("* User requested shutdown...") :]
    assert lines[:5] == [
        "* User requested shutdown...",
        "# There is a child saving an .rdb. Killing it!",
        "# Background saving terminated by signal 10",
        "* Saving the final RDB snapshot before exiting.",
        "* DB saved on disk",
    ]
    assert [path.name for path in node.folder.glob("*rdb")] == ["dump.rdb"]
    node.launch()
    node.await_ready()
    with node.connect() as client:
        assert client("GET", "key") == b"value"


@pytest.mark.parametrize("victim", ["child", "parent", "both"])
def test_kill_while_saving_leaves_the_old_snapshot(start_node: StartServer, victim: str) -> None:
    node = start_node()
    with node.connect() as client:
        assert client("SET", "key", "old") == OK
        assert client("SAVE") == OK
        old = (node.folder / "dump.rdb").read_bytes()
        for number in range(1000):
            assert client("SET", f"key:{number}", os.urandom(300)) == OK
        assert client("SET", "key", "new") == OK
        assert client("CONFIG", "SET", "rdb-key-save-delay", "20000") == OK
        assert client("BGSAVE") == Simple(b"Background saving started")
        wait_until(lambda: re.search(r"started by pid \d+", node.log))
        found = re.search(r"started by pid (\d+)", node.log)
        assert found is not None
        child = int(found[1])
        aside = node.folder / f"temp-{child}.rdb"
        wait_until(lambda: aside.exists() and aside.stat().st_size)
        if victim != "child":
            node.kill()
        if victim == "parent":
            # Its child gives up, instead of replacing what another server may have saved by then.
            wait_until(lambda: not aside.exists())
        else:
            os.kill(child, signal.SIGKILL)
        if victim == "child":
            wait_until(lambda: info(client)["rdb_bgsave_in_progress"] == "0")
            assert info(client)["rdb_last_bgsave_status"] == "err"
            assert not aside.exists()
            node.kill()
    assert (node.folder / "dump.rdb").read_bytes() == old
    node.launch()
    node.await_ready()
    with node.connect() as client:
        assert client("GET", "key") == b"old"


def test_a_snapshot_is_of_one_moment(start_node: StartServer) -> None:
    """Pairs that are always changed together are equal in it, however long it takes."""
    node = start_node(*DEBUG)
    with node.connect() as client, node.connect() as writer:
        assert client("DEBUG", "POPULATE", 20_000) == OK
        assert client("CONFIG", "SET", "rdb-key-save-delay", "20") == OK
        rounds = 0

        def write() -> None:
            nonlocal rounds
            rounds += 1
            for number in range(50):
                assert writer("MSET", f"a:{number}", rounds, f"b:{number}", rounds) == OK
                assert writer("RPUSH", f"list:{number}", rounds) == rounds

        write()
        assert client("BGSAVE") == Simple(b"Background saving started")
        while info(client)["rdb_bgsave_in_progress"] == "1":
            write()
        saved(client)
        assert rounds > 3
        assert int(info(client)["rdb_changes_since_last_save"]) == (rounds - 1) * 150
    node.kill()
    node.launch()
    node.await_ready()
    with node.connect() as client:
        for number in range(50):
            assert client("MGET", f"a:{number}", f"b:{number}") == [b"1", b"1"]
            assert client("LLEN", f"list:{number}") == 1


def test_who_leaves_while_a_snapshot_is_written_is_gone(start_node: StartServer) -> None:
    """The child has the sockets too, and must not keep them open."""
    node = start_node()
    with node.connect() as client, node.connect() as leaver:
        assert client("SET", "key", "value") == OK
        assert client("CONFIG", "SET", "rdb-key-save-delay", "100000000") == OK
        assert client("BGSAVE") == Simple(b"Background saving started")
        assert leaver("QUIT") == OK
        assert leaver.read_rest() == b""
        assert info(client)["rdb_bgsave_in_progress"] == "1"
        assert client("FLUSHALL") == OK
        assert info(client)["rdb_bgsave_in_progress"] == "0"


@pytest.mark.parametrize("logged", ["no", "yes"])
def test_fields_of_info(logged: str) -> None:
    options = ("--save", "", "--appendonly", logged)
    with (
        Server(node_command(), *options) as node,
        Server(require_oracle(), *options, name="oracle") as oracle,
        node.connect() as client,
        oracle.connect() as other,
    ):
        assert info(client).keys() == info(other).keys()


# Loading.


@pytest.fixture
def loading_node(start_node: StartServer) -> Server:
    """A node that takes its time: ten milliseconds for each of a thousand keys."""
    node = start_node(*DEBUG)
    with node.connect() as client:
        assert client("DEBUG", "POPULATE", 1000) == OK
        assert client("SAVE") == OK
    node.kill()
    node.directives += ["--key-load-delay", "10000", "--save", "3600", "1"]
    node.launch()
    return node


def connect(node: Server) -> Client:
    """A connection as soon as it is possible."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return node.connect()
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_clients_while_loading(loading_node: Server) -> None:
    with connect(loading_node) as client:
        for request in (["PING"], ["GET", "key:1"], ["SET", "key:1", "x"], ["SAVE"], ["DBSIZE"]):
            assert client(*request) == LOADING
        fields = info(client)
        assert fields["loading"] == "1"
        assert int(fields["loading_total_bytes"]) > 10_000
        assert abs(int(fields["loading_start_time"]) - time.time()) < PATIENCE
        assert client("COMMAND", "COUNT") != LOADING
        assert client("CONFIG", "SET", "key-load-delay", "0") == OK
        assert not isinstance(client("CLIENT", "ID"), Error)
        wait_until(lambda: client("DBSIZE") != LOADING)
        assert client("DBSIZE") == 1000
        assert info(client)["loading"] == "0"


@pytest.mark.parametrize("how", ["SHUTDOWN", "SHUTDOWN SAVE", "SIGTERM", "SIGINT"])
def test_the_end_while_loading(loading_node: Server, how: str) -> None:
    path = loading_node.folder / "dump.rdb"
    before = path.read_bytes(), path.stat().st_mtime_ns
    with connect(loading_node) as client:
        assert client("PING") == LOADING
        if how.startswith("SIG"):
            os.kill(loading_node.pid, signal.Signals[how])
        else:
            client.send(*how.split())
        assert client.read_rest() == b""
    assert loading_node.await_end() == 0
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    if how.startswith("SIG"):
        assert "Received shutdown signal during loading, scheduling shutdown." in loading_node.log


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_snapshot_ends_the_start(damage: str) -> None:
    node = Server(node_command(), *DEBUG)
    path = node.folder / "dump.rdb"
    with node, node.connect() as client:
        fill(client)
        assert client("SAVE") == OK
        content = bytearray(path.read_bytes())
        node.kill()
        if damage == "cut":
            del content[-100:]
        elif damage == "flipped":
            content[len(content) // 2] ^= 0x40
        else:
            content.clear()
        path.write_bytes(content)
        before = path.stat().st_mtime_ns
        node.launch()
        assert node.await_end() == 1
        lines = messages(node.log)
        assert re.search(
            rf"# Bad file format reading the RDB file {re.escape(str(path))} at offset \d+: .",
            lines[-3],
        )
        assert lines[-2].endswith(f"redis-check-rdb {path}")
        assert lines[-1] == "# Fatal error loading the DB, check server logs. Exiting."
        assert (path.read_bytes(), path.stat().st_mtime_ns) == (bytes(content), before)


# At scale, and on a disk that is full.

KEYS = 300_000
FORK_LIMIT = 100.0  # milliseconds
PORTION_LIMIT = 20.0


def test_neither_forking_nor_loading_holds_the_server_up() -> None:
    with metered.start(*DEBUG) as node:
        with node.connect(timeout=PATIENCE) as client:
            for first in range(0, KEYS, 10_000):
                assert client("DEBUG", "POPULATE", 10_000, f"key:{first}", 20) == OK
            metered.longest_run(client)
            assert client("BGSAVE") == Simple(b"Background saving started")
            while info(client)["rdb_bgsave_in_progress"] == "1":
                assert client("SET", "key", "value") == OK
            saved(client)
            longest, task = metered.longest_run(client)
            assert longest < FORK_LIMIT, task
        node.kill()
        node.launch()
        with connect(node) as client:
            wait_until(lambda: client("DBSIZE") != LOADING)
            longest, task = metered.longest_run(client)
            assert longest < PORTION_LIMIT, task
            assert client("DBSIZE") == KEYS


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 1 MB, where one may be mounted."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("may not mount a file system")
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a file system")
def test_a_full_disk(start_node: StartServer, small_disk: Path) -> None:
    node = start_node("--save", "3600", "1", "--enable-protected-configs", "yes")
    with node.connect() as client:
        assert client("CONFIG", "SET", "dir", str(small_disk)) == OK
        assert client("SET", "key", "old") == OK
        assert client("SAVE") == OK
        assert client("SET", "key", "new") == OK
        assert client("SET", "big", os.urandom(2_000_000)) == OK
        assert client("BGSAVE") == Simple(b"Background saving started")
        wait_until(lambda: info(client)["rdb_last_bgsave_status"] == "err")
        assert "Write error while saving DB to the disk(rdbSaveRio): No space left" in node.log
        refusal = client("SET", "key", "value")
        assert isinstance(refusal, Error)
        assert refusal.text.startswith(b"MISCONF Redis is configured to save RDB snapshots")
        assert client("GET", "key") == b"new"
        assert [path.name for path in small_disk.iterdir()] == ["dump.rdb"]
        assert (small_disk / "dump.rdb").stat().st_size < 1000
        remount(small_disk, "size=8m")
        assert client("BGSAVE") == Simple(b"Background saving started")
        saved(client)
        assert client("SET", "key", "newer") == OK
        assert client("SAVE") == OK

        # A disk that may only be read, until it may be written again.
        remount(small_disk, "ro")
        assert client("CONFIG", "SET", "save", "1 1") == OK
        assert client("SET", "key", "newest") == OK
        wait_until(lambda: info(client)["rdb_last_bgsave_status"] == "err")
        assert "Read-only file system" in node.log
        assert client("SET", "key", "value") == refusal
        assert client("GET", "key") == b"newest"
        remount(small_disk, "rw")
        wait_until(lambda: client("SET", "other", "value") == OK)
        assert info(client)["rdb_last_bgsave_status"] == "ok"
        client.send("SHUTDOWN", "NOSAVE")
        assert client.read_rest() == b""
    assert node.await_end() == 0


def remount(place: Path, options: str) -> None:
    """Change the mount options of a file system."""
    subprocess.run(["mount", "-o", f"remount,{options}", str(place)], check=True)
