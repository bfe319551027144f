"""`sentrio up`: a cluster of processes that comes, stays and goes with one command."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from redis.cluster import RedisCluster

from tests.conftest import require_oracle
from tests.guarded import fields_of
from tests.local_clusters import LIMIT, free_ports, up, up_words
from tests.replicas import info, wait_until
from tests.servers import environment, node_command
from tests.wire import Client

KINDS = os.environ.get("SENTRIO_CLUSTER_KINDS", "redis").split(",")
NODES = 6
SENTINELS = 3


@pytest.fixture(scope="module", params=KINDS)
def command(request: pytest.FixtureRequest) -> str:
    """What starts a node."""
    return " ".join({"redis": require_oracle, "ours": node_command}[request.param]())


def listeners(port: int) -> list[psutil.Process]:
    """The processes of the nodes and sentinels on these ports, those of the nodes first."""
    found = []
    sentinels = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        if process.info["status"] == psutil.STATUS_ZOMBIE or "up" in words:
            continue
        text = " ".join(words)
        if any(
            f"--port {port + n} " in f"{text} " or f":{port + n} " in text for n in range(NODES)
        ):
            found.append(process)
        elif any(f"sentinel-{port + 20000 + n}/sentinel.conf" in text for n in range(NODES)):
            sentinels.append(process)
    return found + sentinels


def listener(port: int) -> psutil.Process:
    """The process of the node on that port."""
    return next(p for p in listeners(port) if f"{port}" in " ".join(p.cmdline()))


def has_log(port: int) -> bool:
    """Whether a node is done with the beginning of its append-only file."""
    with Client(("127.0.0.1", port)) as client:
        fields = info(client, "persistence")
    return fields["aof_enabled"] == "1" and fields["aof_rewrite_in_progress"] == "0"


def count_synchronized(port: int) -> int:
    """How many replicas have their masters' data."""
    found = 0
    for n in range(NODES):
        with Client(("127.0.0.1", port + n)) as client:
            found += info(client, "replication").get("master_link_status") == "up"
    return found


def tool(*words: str) -> Any:
    """What a command of `sentrio cluster` says."""
    command = [sys.executable, "-m", "sentrio", "cluster", *words]
    done = subprocess.run(command, capture_output=True, env=environment(), check=True)
    return json.loads(done.stdout)


def await_sentinels(port: int) -> None:
    """Until all sentinels know each other and all shards."""

    def know_each_other() -> bool:
        for n in range(SENTINELS):
            with Client(("127.0.0.1", port + 20000 + n)) as client:
                reply = client("SENTINEL", "CLUSTERS")
                assert isinstance(reply, list)
                known = fields_of(reply[0])
            if (known["num-shards"], known["num-other-sentinels"]) != (3, SENTINELS - 1):
                return False
        return True

    wait_until(know_each_other, "sentinels that know each other", LIMIT)


def test_it_comes_stays_and_goes(command: str, tmp_path: Path) -> None:
    port = free_ports(NODES)
    folder = tmp_path / "cluster"
    with up(command, port, folder) as first:
        first.wait_for("3 sentinels guard it")
        assert "Connect with" in first.output
        assert "All 16384 slots are covered by 3 masters" in first.output
        assert len(listeners(port)) == NODES + SENTINELS
        with RedisCluster("127.0.0.1", port) as db:
            for n in range(50):
                db.set(f"key:{n}", n)
        with up(command, port, folder) as second:
            assert second.process.wait(LIMIT) == 4
            assert "in use by another" in second.output
        await_sentinels(port)
        # One that has nothing yet would not be promoted.
        wait_until(lambda: count_synchronized(port) == NODES // 2, "the replicas' data", LIMIT)
        # Whoever kills a node has meant it; the sentinels replace it.
        listener(port).kill()
        first.wait_for("killed by SIGKILL; it is not started again")
        first.wait_for("Sentinels: +switch-master sentrio/")
        assert len(listeners(port)) == NODES + SENTINELS - 1
        told = tool("check", f"{port + 1}", "--sentinel", f"{port + 20000}", "--json")
        names = {shard["master"]["id"] for shard in told["sentinel"]["shards"]}
        masters = {node["id"] for node in told["nodes"] if node["role"] == "master"}
        assert names == masters
        assert told["ok"]
        shown = tool("info", f"{port + 1}", "--sentinel", f"{port + 20001}", "--json")
        assert shown["sentinel"]["other_sentinels"] == SENTINELS - 1
        assert first.end() == 0
        assert "All nodes have ended" in first.output
        assert all(line[2] == ":" for line in first.output.splitlines())  # lines of events alone
    assert listeners(port) == []
    with up(command, port, folder, "--shards", "4") as other:
        assert other.process.wait(LIMIT) == 4
        assert f"--shards 3 --replicas 1 --port {port}" in other.output
    with up(command, port, folder, "--sentinels", "0") as again:
        again.wait_for("Connect with")
        assert "Sentinel" not in again.output
        assert "The cluster of 6 nodes is resumed" in again.output
        with RedisCluster("127.0.0.1", port) as db:
            assert [db.get(f"key:{n}") for n in range(50)] == [b"%d" % n for n in range(50)]
        assert again.end(signal.SIGTERM) == 0
    assert listeners(port) == []


def test_nothing_is_left_when_it_is_killed(command: str, tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("needs prctl")
    port = free_ports(NODES)
    with up(command, port, tmp_path / "cluster") as run:
        run.wait_for(" started, process", NODES + SENTINELS)
        # redis-server does not heed SIGTERM while it writes its first append-only file.
        wait_until(lambda: all(has_log(port + n) for n in range(NODES)), "their logs", LIMIT)
        run.process.kill()
        run.process.wait()
        wait_until(lambda: not listeners(port), "their end", LIMIT)


def test_a_node_that_does_not_start(command: str, tmp_path: Path) -> None:
    port = free_ports(NODES)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port + 3))
        taken.listen()
        with up(command, port, tmp_path / "cluster") as run:
            assert run.process.wait(LIMIT) == 1
            assert f"127.0.0.1:{port + 3} has ended with exit code 1; its log ends in" in run.output
    assert listeners(port) == []
    with up("/nothing/of/this/name", port, tmp_path / "other") as run:
        assert run.process.wait(LIMIT) == 1
        assert "No such file" in run.output


def test_on_a_terminal_it_is_a_table(command: str, tmp_path: Path) -> None:
    port = free_ports(NODES)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*up_words(command, port, tmp_path / "cluster"), "--", "--maxmemory", "100mb"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**environment(), "COLUMNS": "140", "LINES": "50", "TERM": "xterm"},
        start_new_session=True,
    )
    os.close(theirs)
    try:
        shown = b""
        while b"10923-16383" not in shown:
            shown += os.read(ours, 65536)
        assert b"ops/s" in shown
        assert b"\x1b[" in shown
        with RedisCluster("127.0.0.1", port) as db:
            node = db.get_node("127.0.0.1", port)
            assert db.config_get("maxmemory", target_nodes=node) == {"maxmemory": "104857600"}
        os.write(ours, b"\x03")
        process.send_signal(signal.SIGINT)
        while process.poll() is None:
            try:
                os.read(ours, 65536)
            except OSError:
                break
        assert process.wait(LIMIT) == 0
    finally:
        os.close(ours)
        if process.poll() is None:
            process.terminate()
            process.wait(LIMIT)
    assert listeners(port) == []
