"""How faults are done: the commands that are run, and the processes that are found."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import trio

from cluster.chaos.containers import (
    Container,
    Containers,
    begin_words,
    end_words,
    list_words,
    parse_containers,
    parse_disk,
)
from cluster.chaos.processes import (
    CHAIN,
    Processes,
    cut_commands,
    find_process,
    is_small_disk,
    slow_commands,
)
from cluster.chaos.schedule import KINDS, Topology
from cluster.tool.connection import Address
from cluster.tool.errors import Failed, Refused
from cluster.up.command import PLAN_NAME
from cluster.up.processes import START_NAME, start, stop
from node.clock import SHIFT_VARIABLE

PS = """\
sentinel-1\tp_sentinel-1_1\t9121/tcp, 127.0.0.1:26379->26379/tcp\tp_cluster
node-2\tp_node-2_1\t127.0.0.1:17002->17002/tcp, 127.0.0.1:7002->7002/tcp\tp_cluster
node-1\tp_node-1_1\t0.0.0.0:7001->7001/tcp, :::7001->7001/tcp, 0.0.0.0:17001->17001/tcp\tp_cluster,q
form\tp_form_1\t\tp_cluster
prometheus\tp_prometheus_1\t127.0.0.1:9090->9090/tcp\tp_cluster
"""
NODE = Container("node-1", "p_node-1_1", 7001, ("p_cluster", "q"))
AS_ROOT = "docker exec --privileged --user 0 p_node-1_1"


def test_containers() -> None:
    first, second, sentinel = parse_containers(PS)
    assert first == NODE
    assert (second.port, second.is_sentinel) == (7002, False)
    assert (sentinel.name, sentinel.port, sentinel.is_sentinel) == ("p_sentinel-1_1", 26379, True)
    assert "label=com.docker.compose.project=shop" in list_words("shop")
    assert "label=com.docker.compose.project" in list_words("")


@pytest.mark.parametrize(
    ("kind", "begin", "end"),
    [
        ("kill", ["docker kill --signal KILL p_node-1_1"], ["docker start p_node-1_1"]),
        ("stop", ["docker pause p_node-1_1"], ["docker unpause p_node-1_1"]),
        (
            "partition",
            [f"docker network disconnect {net} p_node-1_1" for net in ("p_cluster", "q")],
            [
                f"docker network connect --alias node-1 {net} p_node-1_1"
                for net in ("p_cluster", "q")
            ],
        ),
        (
            "slow",
            [f"{AS_ROOT} tc qdisc add dev eth0 root netem delay 150ms 50ms distribution normal"],
            [f"{AS_ROOT} tc qdisc del dev eth0 root"],
        ),
        (
            "full",
            [
                "docker exec p_node-1_1 sh -c dd if=/dev/zero of=/data/chaos.fill bs=1M; true",
            ],
            ["docker exec p_node-1_1 rm -f /data/chaos.fill"],
        ),
        (
            "clock",
            ['docker exec p_node-1_1 sh -c echo 3600 > "$SENTRIO_CLOCK_SHIFT"'],
            ['docker exec p_node-1_1 sh -c rm -f "$SENTRIO_CLOCK_SHIFT"'],
        ),
    ],
)
def test_commands_for_docker(kind: str, begin: list[str], end: list[str]) -> None:
    assert [" ".join(words) for words in begin_words(kind, NODE)] == begin
    assert [" ".join(words) for words in end_words(kind, NODE)] == end


def test_what_docker_cannot_do() -> None:
    with pytest.raises(Failed):
        begin_words("flood", NODE)


def test_sizes_of_disks() -> None:
    head = "Filesystem 1024-blocks Used Available Capacity Mounted on\n"
    assert parse_disk(f"{head}tmpfs 262144 4 262140 1% /data\n") == 256 << 20
    for text in ("", head, "df: /data: no such file"):
        with pytest.raises(Failed):
            parse_disk(text)


async def test_a_compose_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a Docker that only writes down what it is asked."""
    requests = tmp_path / "requests"
    (tmp_path / "ps").write_text(PS)
    docker = tmp_path / "docker"
    docker.write_text(
        f"""#!/bin/sh
case "$1 $3" in
    "ps "*) cat {tmp_path}/ps ;;
    "exec df") printf 'header\\noverlay 99999999 1 1 1%% /data\\n' ;;
    "exec sh" | "exec printenv") exit 127 ;;
    *) echo "$@" >> {requests} ;;
esac
"""
    )
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    target = Containers("")
    await target.find()
    assert target.topology == Topology(1, 1, 1)
    assert target.entries == [Address("127.0.0.1", 7001), Address("127.0.0.1", 7002)]
    assert target.sentinels == [Address("127.0.0.1", 26379)]
    impossible = await target.find_impossible(KINDS)
    assert set(impossible) == {"slow", "full", "clock"}
    assert "iproute2" in impossible["slow"]
    assert "larger than 1 GiB" in impossible["full"]
    await target.begin("kill", 26379)
    await target.end("kill", 26379)
    assert requests.read_text().splitlines() == [
        "kill --signal KILL p_sentinel-1_1",
        "start p_sentinel-1_1",
    ]
    with pytest.raises(Failed):
        await target.begin("kill", 7003)
    (tmp_path / "ps").write_text(PS + PS)
    with pytest.raises(Refused, match="several"):
        await target.find()
    (tmp_path / "ps").write_text("")
    with pytest.raises(Refused):
        await target.find()


def test_ports_that_are_cut_off() -> None:
    assert [" ".join(words) for words in cut_commands([7001])] == [
        f"iptables -w -F {CHAIN}",
        f"iptables -w -A {CHAIN} -p tcp --dport 7001 -j DROP",
        f"iptables -w -A {CHAIN} -p tcp --sport 7001 -j DROP",
    ]
    assert len(cut_commands([7001, 17001])) == 5
    assert len(cut_commands([])) == 1
    chance = "-m statistic --mode random --probability 0.2"
    assert [" ".join(words) for words in cut_commands([], [7002])][1:] == [
        f"iptables -w -A {CHAIN} -p tcp --dport 7002 {chance} -j DROP",
        f"iptables -w -A {CHAIN} -p tcp --sport 7002 {chance} -j DROP",
    ]


def test_ports_that_are_slow() -> None:
    assert slow_commands([]) == []
    lines = [" ".join(words) for words in slow_commands([7001, 17001])]
    assert lines[0].startswith("tc qdisc add dev lo root handle 1: prio bands 4 priomap 0 0")
    assert lines[1].startswith("tc qdisc add dev lo parent 1:4 handle 40: netem delay 150ms")
    assert len(lines) == 6
    assert lines[2].endswith("u32 match ip dport 7001 0xffff flowid 1:4")
    assert lines[5].endswith("u32 match ip sport 17001 0xffff flowid 1:4")


def make_folder(folder: Path) -> Path:
    """What a `sentrio up` would have left."""
    plan = {"shards": 3, "replicas": 1, "port": 7000}
    (folder / PLAN_NAME).write_text(json.dumps(plan))
    for port in (27000, 27001, 27002):
        (folder / f"sentinel-{port}").mkdir()
    (folder / "7001").mkdir()
    return folder


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(Refused):
        Processes(tmp_path)


linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


@linux
async def test_processes_of_a_folder(tmp_path: Path) -> None:
    target = Processes(make_folder(tmp_path))
    assert target.topology == Topology(3, 1, 3)
    assert len(target.entries) == 6
    assert [address.port for address in target.sentinels] == [27000, 27001, 27002]
    impossible = await target.find_impossible(["clock", "full"])
    assert set(impossible) == {"clock", "full"}
    with pytest.raises(Failed, match="not running"):
        await target.begin("kill", 7001)
    home = tmp_path / "7001"
    words = [sys.executable, "-c", "import time; time.sleep(600)", "--port", "7001"]
    process = start(words, home, Address("127.0.0.1", 7001))
    # A shell that somebody has in the folder is not taken for the node.
    other = start(["sleep", "600"], home, Address("127.0.0.1", 7002))
    try:
        assert find_process(home, 7001) == process.pid
        await target.begin("stop", 7001)
        await trio.to_thread.run_sync(os.waitid, os.P_PID, process.pid, os.WSTOPPED)
        await target.end("stop", 7001)
        await trio.to_thread.run_sync(os.waitid, os.P_PID, process.pid, os.WCONTINUED)
        await target.begin("kill", 7001)
        assert await trio.to_thread.run_sync(process.handle.wait) == -9
        assert find_process(home, 7001) is None
        assert not (home / START_NAME).exists()
        await target.end("kill", 7001)
        assert process.look()
        assert process.heed_request()
        assert find_process(home, 7001) == process.pid
    finally:
        await stop([process, other])
    with pytest.raises(Failed):
        await target.begin("clock", 7001)
    await target.close()


@linux
async def test_clocks_that_jump(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = Processes(make_folder(tmp_path))
    monkeypatch.setenv(SHIFT_VARIABLE, "clock")
    ports = [*range(7000, 7006), *range(27000, 27003)]
    folders = [*map(str, range(7000, 7006)), *(f"sentinel-{port}" for port in ports[6:])]
    processes = []
    try:
        for port, name in zip(ports, folders, strict=True):
            words = ["sleep", "600", "0", str(port)]
            processes.append(start(words, tmp_path / name, Address("127.0.0.1", port)))
        assert await target.find_impossible(["clock"]) == {}
        for port, name in ((7001, "7001"), (27002, "sentinel-27002")):
            await target.begin("clock", port)
            assert float((tmp_path / name / "clock").read_text()) == 3600
            await target.end("clock", port)
            assert not (tmp_path / name / "clock").exists()
    finally:
        await stop(processes)
    reasons = await target.find_impossible(["clock"])
    assert SHIFT_VARIABLE in reasons["clock"]


def test_disks_that_are_not_small(tmp_path: Path) -> None:
    assert not is_small_disk(tmp_path)
    assert not is_small_disk(tmp_path / "missing")
