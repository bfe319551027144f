"""The append-only file of real processes: exchanged with redis-server, killed, on full disks."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import StartServer, require_oracle, require_program
from tests.integration.test_snapshots import (
    DEBUG,
    LOADING,
    PATIENCE,
    digest,
    fill,
    info,
    messages,
)
from tests.replicas import wait_until
from tests.servers import Server, node_command
from tests.wire import OK, Client, Closed, Error, Simple

LOGGED = ("--save", "", "--appendonly", "yes", *DEBUG)
LOG_FOLDER = "appendonlydir"
STARTED = Simple(b"Background append only file rewriting started")


def rewritten(client: Client) -> None:
    """Wait for the rewrite in the background; it has to succeed."""
    wait_until(
        lambda: (
            info(client)["aof_rewrite_in_progress"] == "0"
            and info(client)["aof_rewrite_scheduled"] == "0"
        )
    )
    assert info(client)["aof_last_bgrewrite_status"] == "ok"


def kill(server: Server) -> None:
    """End the process without a warning."""
    assert server.process is not None
    server.process.kill()
    server.process.wait()


def check(folder: Path) -> None:
    """What redis-check-aof says of the log."""
    manifest = folder / LOG_FOLDER / "appendonly.aof.manifest"
    checked = subprocess.run(
        [require_program("redis-check-aof"), str(manifest)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "All AOF files and manifest are valid" in checked.stdout


def change(client: Client) -> None:
    """Changes that depend on what is there and on chance."""
    for words in (
        "INCRBYFLOAT number:3x 1.5",
        "SPOP set:600 5",
        "EXPIRE hash:600 500",
        "GETEX string:3 EX 100",
        "LPOP list:600 3",
        "ZPOPMIN zset:600 2",
        "SELECT 7",
        "SET other value PX 1000000",
        "SWAPDB 7 8",
        "SELECT 0",
        "COPY string:600 renamed REPLACE",
    ):
        assert not isinstance(client(*words.split()), Error), words
    for words in ("MULTI", "INCR counter", "APPEND counter 1", "SADD s a b c", "EXEC"):
        assert not isinstance(client(*words.split()), Error)


@pytest.mark.parametrize("preamble", ["yes", "no"])
@pytest.mark.parametrize("times", ["yes", "no"])
@pytest.mark.parametrize("ours_first", [True, False])
def test_logs_travel(preamble: str, times: str, ours_first: bool) -> None:
    commands = [node_command(), require_oracle()]
    names = ["node", "oracle"]
    if not ours_first:
        commands.reverse()
        names.reverse()
    options = (*LOGGED, "--aof-use-rdb-preamble", preamble, "--aof-timestamp-enabled", times)
    writer = Server(commands[0], *options, name=names[0])
    reader = Server(commands[1], *options, name=names[1])
    with writer, writer.connect() as client:
        fill(client)
        assert client("BGREWRITEAOF") == STARTED
        change(client)
        rewritten(client)
        change(client)
        expected = digest(client)
        suffix = "rdb" if preamble == "yes" else "aof"
        kept = [path.name for path in (writer.folder / LOG_FOLDER).iterdir()]
        assert sorted(kept) == [
            f"appendonly.aof.2.base.{suffix}",
            "appendonly.aof.2.incr.aof",
            "appendonly.aof.manifest",
        ]
        shutil.copytree(writer.folder / LOG_FOLDER, reader.folder / LOG_FOLDER)
    check(reader.folder)
    with reader, reader.connect() as client:
        assert digest(client) == expected

        # It goes on where the other has ended, and the first one takes it over again.
        change(client)
        expected = digest(client)
        back = Server(commands[0], *options, name=names[0])
        shutil.copytree(reader.folder / LOG_FOLDER, back.folder / LOG_FOLDER)
    with back, back.connect() as client:
        assert digest(client) == expected


def test_the_log_is_taken_back_to_a_moment(start_node: StartServer) -> None:
    """By redis-check-aof, which goes by the times in it."""
    program = require_program("redis-check-aof")
    node = start_node(*LOGGED, "--aof-timestamp-enabled", "yes", "--appendfsync", "always")
    folder = node.folder / LOG_FOLDER
    log = folder / "appendonly.aof.1.incr.aof"
    with node.connect() as client:
        assert client("SET", "key", "before") == OK
        first = int(log.read_bytes().split(b"\r\n")[0].removeprefix(b"#TS:"))
        # The time that commands see may be a millisecond old.
        wait_until(lambda: time.time() > first + 1.1)
        assert client("SET", "key", "after") == OK
    kill(node)
    command = [
        program,
        "--truncate-to-timestamp",
        str(first),
        str(folder / "appendonly.aof.manifest"),
    ]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode == 0, run.stdout
    assert "Successfully truncated" in run.stdout
    node.restart()
    with node.connect() as client:
        assert client("GET", "key") == b"before"


def test_libraries_of_functions_stay() -> None:
    """They cannot be called here, and are not lost by a rewrite."""
    library = "#!lua name=lib\nredis.register_function('f', function() return 1 end)"
    oracle = Server(require_oracle(), *LOGGED, name="oracle")
    node = Server(node_command(), *LOGGED, name="node")
    back = Server(require_oracle(), *LOGGED, name="oracle")
    with oracle, oracle.connect() as client:
        assert client("FUNCTION", "LOAD", library) == b"lib"
        client("BGREWRITEAOF")
        rewritten(client)
        shutil.copytree(oracle.folder / LOG_FOLDER, node.folder / LOG_FOLDER)
    with node, node.connect() as client:
        client("SET", "key", "value")
        assert client("BGREWRITEAOF") == STARTED
        rewritten(client)
        shutil.copytree(node.folder / LOG_FOLDER, back.folder / LOG_FOLDER)
    with back, back.connect() as client:
        assert client("FCALL", "f", 0) == 1
        assert client("GET", "key") == b"value"


def test_start_lines(start_node: StartServer) -> None:
    node = start_node(*LOGGED)
    with node.connect() as client:
        fill(client)
        expected = digest(client)
    node.restart()
    with node.connect() as client:
        assert digest(client) == expected
    lines = messages(node.log)
    for text in (
        "* Creating AOF base file appendonly.aof.1.base.rdb on server start",
        "* Creating AOF incr file appendonly.aof.1.incr.aof on server start",
        "* Calling fsync() on the AOF file.",
        "* Reading RDB base file on AOF loading...",
        "* RDB is base AOF",
        "* Opening AOF incr file appendonly.aof.1.incr.aof on server start",
    ):
        assert text in lines, text
    for start in (
        "* DB loaded from base file appendonly.aof.1.base.rdb: ",
        "* DB loaded from incr file appendonly.aof.1.incr.aof: ",
        "* DB loaded from append only file: ",
    ):
        assert any(line.startswith(start) for line in lines), start


def test_clients_wait_while_it_is_loaded() -> None:
    server = Server(node_command(), *LOGGED, "--appendfsync", "always")
    with server:
        with server.connect() as client:
            for number in range(2000):
                client.send("RPUSH", f"list:{number % 100}", number)
            for _ in range(2000):
                client.read()
            expected = digest(client)
        kill(server)
        server.directives += ["--key-load-delay", "500"]
        server._launch()
        wait_until(lambda: can_connect(server))
        with server.connect() as client:
            assert client("PING") == client("GET", "list:1") == LOADING
            fields = info(client)
            assert fields["loading"] == "1"
            assert int(fields["loading_total_bytes"]) > 50_000
            assert client("CONFIG", "SET", "appendonly", "no") == LOADING
            wait_until(lambda: info(client)["loading"] == "0")
            assert digest(client) == expected
            assert client("SET", "key", "value") == OK
        # It can be shut down meanwhile, and nothing is changed by that.
        kill(server)
        before = (server.folder / LOG_FOLDER / "appendonly.aof.1.incr.aof").read_bytes()
        server._launch()
        wait_until(lambda: can_connect(server))
        with server.connect() as client:
            client.send("SHUTDOWN")
            assert server.process is not None
            assert server.process.wait(PATIENCE) == 0
        assert (server.folder / LOG_FOLDER / "appendonly.aof.1.incr.aof").read_bytes() == before


def can_connect(server: Server) -> bool:
    """Whether it listens."""
    try:
        server.connect().close()
    except OSError:
        return False
    return True


class Load:
    """A client that sets counters one after the other and remembers what was acknowledged."""

    def __init__(self, server: Server, number: int) -> None:
        self._server = server
        self._key = f"load:{number}"
        self.acknowledged: list[tuple[float, int]] = []
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self) -> None:
        try:
            with self._server.connect() as client:
                value = 0
                while True:
                    for _ in range(10):
                        value += 1
                        client.send("SET", self._key, value)
                        client.send("SADD", f"{self._key}:all", value)
                    for at in range(value - 9, value + 1):
                        replies = [client.read(), client.read()]
                        assert not any(isinstance(reply, Error) for reply in replies), replies
                        self.acknowledged.append((time.monotonic(), at))
        except (OSError, Closed):
            return

    def has_come(self, count: int) -> bool:
        """Whether more than so many writes have been acknowledged."""
        return len(self.acknowledged) > count

    def wait(self) -> None:
        """Wait until it has ended, with the server."""
        self._thread.join()

    def lost(self, client: Client, before: float) -> int:
        """How many of the writes acknowledged before a moment are not there."""
        wanted = [value for at, value in self.acknowledged if at < before]
        if not wanted:
            return 0
        current = client("GET", self._key)
        assert isinstance(current, bytes)
        lost = max(0, wanted[-1] - int(current))
        for at in range(0, len(wanted), 1000):
            portion = wanted[at : at + 1000]
            found = client("SMISMEMBER", f"{self._key}:all", *portion)
            assert isinstance(found, list)
            lost += found.count(0)
        return lost


def have_come(loads: Sequence[Load], count: int) -> bool:
    """Whether each has had more than so many writes acknowledged."""
    return all(load.has_come(count) for load in loads)


def is_rewriting(client: Client) -> bool:
    return info(client)["aof_rewrite_in_progress"] == "1"


def is_saving(client: Client) -> bool:
    return info(client)["rdb_bgsave_in_progress"] == "1"


KILLS = int(os.environ.get("SENTRIO_KILLS", "6"))
"""How often each server of the test below is killed."""

FILLER = 300
"""Keys that make snapshots take a while."""


@pytest.mark.parametrize(("policy", "grace"), [("always", 0.0), ("everysec", 2.0), ("no", 2.0)])
def test_nothing_acknowledged_is_lost_by_kills(policy: str, grace: float) -> None:
    """Under load, at random moments, in the middle of a rewrite, in the middle of a snapshot."""
    rng = random.Random()
    options = ("--auto-aof-rewrite-min-size", "20kb", "--auto-aof-rewrite-percentage", "50")
    delay = ("--rdb-key-save-delay", "500")
    server = Server(node_command(), *LOGGED, *options, *delay, "--appendfsync", policy)
    rewrites = saves = 0
    with server:
        for turn in range(KILLS):
            with server.connect() as client:
                assert client("MSET", *(f"key:{n // 2}" for n in range(2 * FILLER))) == OK
                loads = [Load(server, number) for number in range(3)]
                if turn % 3 == 1:
                    wait_until(partial(is_rewriting, client))
                elif turn % 3 == 2:
                    wait_until(partial(try_to_save, client))
                    saves += is_saving(client)
                come = max(len(load.acknowledged) for load in loads)
                wait_until(partial(have_come, loads, come + rng.randrange(1, 300)))
                rewrites += int(info(client)["aof_rewrites"])
            kill(server)
            killed = time.monotonic()
            for load in loads:
                load.wait()
            server.restart(limit=PATIENCE)
            with server.connect() as client:
                assert sum(load.lost(client, killed - grace) for load in loads) == 0
                assert client("DBSIZE") == FILLER + 2 * len(loads)
                assert client("FLUSHALL") == OK
        check(server.folder)
        snapshot = server.folder / "dump.rdb"
        if snapshot.exists():
            subprocess.run(["redis-check-rdb", snapshot], check=True, stdout=subprocess.DEVNULL)
    assert rewrites > 0
    assert saves > 0


def try_to_save(client: Client) -> bool:
    """Begin a snapshot, unless another child is at work; whether it has begun."""
    return client("BGSAVE") == Simple(b"Background saving started")


def test_a_rewrite_under_load(start_node: StartServer) -> None:
    node = start_node(*LOGGED, "--rdb-key-save-delay", "200")
    with node.connect() as client:
        assert client("DEBUG", "POPULATE", 3000) == OK
        assert client("BGREWRITEAOF") == STARTED
        loads = [Load(node, number) for number in range(2)]
        wait_until(lambda: have_come(loads, 300))
        rewritten(client)
        wait_until(lambda: have_come(loads, 600))
    kill(node)
    killed = time.monotonic()
    for load in loads:
        load.wait()
    node.restart()
    with node.connect() as client:
        assert sum(load.lost(client, killed - 2.0) for load in loads) == 0
        assert isinstance(size := client("DBSIZE"), int)
        assert size == 3000 + 2 * len(loads)


def test_on_and_off_under_load(start_node: StartServer) -> None:
    node = start_node("--save", "", "--appendonly", "no", "--appendfsync", "always", *DEBUG)
    loads = [Load(node, number) for number in range(2)]
    with node.connect() as client:
        for _ in range(3):
            assert client("CONFIG", "SET", "appendonly", "yes") == OK
            rewritten(client)
            wait_until(lambda: info(client)["aof_pending_rewrite"] == "0")
            wait_until(partial(have_come, loads, 50 + max(len(e.acknowledged) for e in loads)))
            assert client("CONFIG", "SET", "appendonly", "no") == OK
        assert client("CONFIG", "SET", "appendonly", "yes") == OK
        rewritten(client)
        wait_until(lambda: info(client)["aof_pending_rewrite"] == "0")
    kill(node)
    killed = time.monotonic()
    for load in loads:
        load.wait()
    node.directives[node.directives.index("no")] = "yes"
    node.restart()
    with node.connect() as client:
        assert sum(load.lost(client, killed) for load in loads) == 0


def test_the_log_comes_before_the_snapshot(start_node: StartServer) -> None:
    node = start_node(*LOGGED, "--appendfsync", "always")
    with node.connect() as client:
        assert client("SET", "key", "snapshot") == OK
        assert client("SAVE") == OK
        assert client("SET", "key", "log") == OK
    kill(node)
    node.restart()
    with node.connect() as client:
        assert client("GET", "key") == b"log"
    kill(node)
    node.directives[node.directives.index("--appendonly") + 1] = "no"
    node.restart()
    with node.connect() as client:
        assert client("GET", "key") == b"snapshot"


def test_a_damaged_log_ends_the_start_with_1_and_stays(tmp_path: Path) -> None:
    server = Server(node_command(), *LOGGED)
    with server:
        with server.connect() as client:
            fill(client)
        kill(server)
        place = server.folder / LOG_FOLDER / "appendonly.aof.1.incr.aof"
        octets = bytearray(place.read_bytes())
        octets[octets.index(b"*", 1000)] ^= 1
        place.write_bytes(octets)
        process = subprocess.run(
            [
                *node_command(),
                *("--port", "0", "--unixsocket", str(tmp_path / "socket")),
                *("--dir", str(server.folder), *LOGGED),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert process.returncode == 1
        assert "Bad file format reading the append only file appendonly.aof.1.incr.aof" in (
            process.stdout
        )
        assert "redis-check-aof --fix" in process.stdout
        assert place.read_bytes() == octets


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a mebibyte."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk(small_disk: Path, tmp_path: Path) -> None:
    server = Server(node_command(), *LOGGED, "--auto-aof-rewrite-percentage", "0")
    shutil.rmtree(server.folder)
    server.folder = small_disk
    server.log_path = tmp_path / "log"
    ballast = small_disk / "ballast"
    server.start()
    try:
        with server.connect() as client:
            ballast.write_bytes(b"x" * 400_000)
            written = 0
            reply: object = OK
            while reply == OK:
                reply = client("SET", f"key:{written}", os.urandom(10_000))
                written += 1
            assert reply == Error(
                b"MISCONF Errors writing to the AOF file: No space left on device"
            )
            written -= 1
            assert client("PING") == reply
            assert isinstance(client("GET", "key:0"), bytes)
            assert info(client)["aof_last_write_status"] == "err"
            assert client("BGREWRITEAOF") != STARTED
            ballast.unlink()
            wait_until(lambda: client("SET", "after", "room") == OK)
            assert info(client)["aof_last_write_status"] == "ok"
            expected = digest(client)
            # While the file is being synced a write may wait, as it may with everysec.
            wait_until(lambda: info(client)["aof_buffer_length"] == "0")
        kill(server)
        check(small_disk)
        server.restart()
        with server.connect() as client:
            assert digest(client) == expected
            # All that was acknowledged, and what was done when the disk turned out to be full.
            assert client("DBSIZE") == written + 1
    finally:
        server.stop()
