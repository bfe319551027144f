"""The scripts of the containers, run as processes: forming, growing, other addresses, chaos."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers import CONTAINER, ContainerNode, Programs, read_compose
from tests.installation import ROOT
from tests.replicas import wait_until
from tests.scraping import ask, find, scrape
from tests.servers import free_port
from tests.wire import OK

KEYS = 60


class Fleet:
    """Nodes as of a compose file."""

    def __init__(self, count: int) -> None:
        self.programs = Programs()
        self.nodes: list[ContainerNode] = []
        for _ in range(count):
            self.add()

    def add(self) -> None:
        """One node more, which is not started."""
        self.nodes.append(ContainerNode(self.programs, len(self.nodes)))

    @property
    def names(self) -> str:
        """NODES."""
        return " ".join(node.text for node in self.nodes)

    def start(self) -> None:
        """Start those that do not run."""
        for node in self.nodes:
            node.port = node.port or free_port()
        for node in self.nodes:
            node.nodes = self.names
            if not node.is_alive:
                node.launch()
        for node in self.nodes:
            node.await_ready()

    def form(self, replicas: int) -> str:
        """Run the one-shot service; what it has said."""
        done = self.programs.run("form", NODES=self.names, REPLICAS=str(replicas), FORM_LIMIT="100")
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def stop(self) -> None:
        """End all."""
        for node in self.nodes:
            node.stop()

    def is_whole(self) -> bool:
        """Whether every node finds the cluster up, and everybody connected where they are."""
        places = {node.address for node in self.nodes}
        for node in self.nodes:
            rows = node.rows().values()
            if not node.is_up or {(row.host, row.port) for row in rows} != places:
                return False
            if not all(row.connected for row in rows):
                return False
        return True

    def write(self) -> None:
        """One key in every part of the slots."""
        for number in range(KEYS):
            self._do("SET", f"key:{number}", number)

    def check(self) -> None:
        """That they are there."""
        for number in range(KEYS):
            assert self._do("GET", f"key:{number}") == b"%d" % number

    def _do(self, *words: str | int) -> object:
        for node in self.nodes:
            reply = node.ask(*words)
            if reply == OK or isinstance(reply, bytes):
                return reply
        raise AssertionError(words)


@pytest.fixture
def fleet(request: pytest.FixtureRequest) -> Iterator[Fleet]:
    fleet = Fleet(request.param)
    yield fleet
    fleet.stop()


@pytest.mark.parametrize("fleet", [3], indirect=True)
def test_forming_growing_and_other_addresses(fleet: Fleet) -> None:
    fleet.start()
    first = fleet.nodes[0]
    assert ask(first.metrics_port, "/readyz") == (503, "not ready: cluster_state is fail\n")
    ready = {"METRICS_PORT": str(first.metrics_port)}
    done = fleet.programs.run("ready", **ready)
    assert (done.returncode, done.stdout) == (1, "not ready: cluster_state is fail\n")
    assert "the cluster of 3 nodes is up" in fleet.form(0)
    assert fleet.programs.run("ready", **ready).returncode == 0
    assert fleet.programs.run("role", **ready).stdout == "master\n"
    fleet.write()
    assert "nothing is left to do" in fleet.form(0)

    # One more: there are masters enough, so it becomes a replica.
    fleet.add()
    fleet.start()
    fleet.form(1)
    replica = fleet.nodes[3]
    assert "slave" in replica.myself().flags
    wait_until(lambda: ask(replica.metrics_port, "/readyz")[0] == 200, "a replica that is ready")

    # `down` and `up`: everybody has another address, and only names are left to find each other.
    before = {node.id for node in fleet.nodes}
    for node in fleet.nodes:
        assert node.process is not None
        node.process.send_signal(signal.SIGTERM)
    for number, node in enumerate(fleet.nodes):
        assert node.await_end() == 0, node.log
        node.host = f"127.0.1.{number + 1}"
    fleet.start()
    wait_until(fleet.is_whole, "a cluster that has found itself again", 100)
    fleet.check()
    assert {node.id for node in fleet.nodes} == before
    assert sum(node.is_master for node in fleet.nodes) == 3


@pytest.mark.parametrize("fleet", [3], indirect=True)
def test_growing_that_was_interrupted_is_completed(fleet: Fleet) -> None:
    fleet.start()
    fleet.form(0)
    fleet.write()
    fleet.add()
    fleet.start()
    # A member that has got nothing yet.
    first, last = fleet.nodes[0].text, fleet.nodes[3].text
    done = fleet.programs.run("sentrio", "cluster", "add-node", last, first, "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    fleet.form(0)
    assert fleet.nodes[3].myself().slots
    fleet.check()
    assert "nothing is left to do" in fleet.form(0)


def test_a_node_that_is_missing_is_waited_for(tmp_path: Path) -> None:
    programs = Programs()
    done = programs.run("form", NODES="127.0.0.1:1", FORM_LIMIT="0.1")
    assert done.returncode == 1
    assert "waiting for 127.0.0.1:1" in done.stdout
    assert "error: no 127.0.0.1:1 within" in done.stdout
    assert programs.run("form", NODES="").returncode == 1
    assert programs.run("form", NODES="nowhere").returncode == 1
    assert programs.run("rejoin", "a:1", NODES="b:1").returncode == 1
    assert programs.run("echo", "anything else").stdout == "anything else\n"


def test_passwords_are_on_no_command_line(tmp_path: Path) -> None:
    node = ContainerNode(Programs(), 0)
    try:
        node.port = free_port()
        os.environ["PASSWORD"] = 'two "words'
        try:
            node.launch()
        finally:
            del os.environ["PASSWORD"]
        wait_until(lambda: "Ready to accept connections" in node.log, "the node")
        command = Path(f"/proc/{node.pid}/cmdline").read_bytes()
        assert b"words" not in command
        with node.connect() as client:
            assert b"NOAUTH" in bytes(repr(client("GET", "a")), "ascii")
            assert client("AUTH", 'two "words') == OK
    finally:
        node.stop()


def run_chaos(folder: Path, seed: int) -> tuple[str, list[str]]:
    """Three rounds against a Docker that only writes down what it is asked: log and requests."""
    requests = folder / "requests"
    requests.write_text("")
    docker = folder / "docker"
    docker.write_text(
        f"""#!/bin/sh
case $1 in
    ps) for n in 1 2 3 4 5 6; do echo "node-$n p_node-${{n}}_1"; done; echo "form p_form_1" ;;
    exec) case $2 in *-[123]_1) echo master ;; *) echo slave ;; esac ;;
    *) echo "$@" >> {requests} ;;
esac
"""
    )
    docker.chmod(0o755)
    done = subprocess.run(
        [ROOT / "deploy" / "chaos" / "kill-masters"],
        env={
            "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
            "SEED": str(seed),
            "ROUNDS": "5",
            "EVERY": "0 0",
            "DOWN": "0 0",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout, requests.read_text().splitlines()


def test_chaos_kills_masters_and_starts_them_again(tmp_path: Path) -> None:
    log, requests = run_chaos(tmp_path, 1)
    assert len(requests) == 10
    for killed, started in zip(requests[::2], requests[1::2], strict=True):
        victim = killed.removeprefix("kill --signal KILL ")
        assert victim in {f"p_node-{number}_1" for number in (1, 2, 3)}
        assert started == f"start {victim}"
        assert f"kill -9 {victim}" in log
    assert len(set(requests)) > 2
    assert run_chaos(tmp_path, 1)[1] == requests
    assert run_chaos(tmp_path, 2)[1] != requests


def test_a_sentinel_keeps_its_config_file(tmp_path: Path) -> None:
    programs = Programs()
    port, metrics = free_port(), free_port()
    service = read_compose(["deploy/compose-sentinel.yml"])["services"]["sentinel-1"]
    lines = service["environment"]["SENTINEL"].replace("redis-1 6379", f"127.0.0.1 {free_port()}")
    variables = {
        "DATA": str(tmp_path),
        "METRICS_PORT": str(metrics),
        "METRICS_BIND": "127.0.0.1",
        "GUARDED": "shop",
        "PASSWORD": 'a "b',
        "SENTINEL": lines,
    }
    files: list[str] = []
    for _ in range(2):
        process = subprocess.Popen(
            [CONTAINER / "sentrio-container", "sentinel", "--port", str(port)],
            env=programs.environment(**variables),
            stdin=subprocess.DEVNULL,
        )
        try:
            wait_until(lambda: is_ready(metrics), "a sentinel that is ready", 60)
            assert find(scrape(metrics), "redis_sentinel_masters") == 1
            # Of two that must agree there is one.
            assert find(scrape(metrics), "redis_sentinel_master_ckquorum_status") == 0
            assert find(scrape(metrics), "redis_sentinel_master_ok_sentinels") == 1
            assert find(scrape(metrics), "redis_sentinel_master_slaves", master_name="shop") == 0
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        files.append((tmp_path / "sentinel.conf").read_text())
        variables["SENTINEL"] = "sentinel monitor another 127.0.0.1 1 1"
    assert 'sentinel auth-pass shop "a \\"b"' in files[0]
    ids = [re.findall(r"sentinel myid (\w{40})", text) for text in files]
    assert ids[0] == ids[1] != []
    assert "another" not in files[1]


def is_ready(port: int) -> bool:
    """Whether the server with those metrics is."""
    try:
        return ask(port, "/readyz")[0] == 200
    except OSError:
        return False
