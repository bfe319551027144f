"""The compose file brought up for real, wherever a Docker engine answers.

`SENTRIO_BASE_IMAGE` names another base image, where no registry is reachable; `SENTRIO_COMPILE=0`
leaves the compiler out. What is tried on a machine without Docker is in test_containers.py.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.cluster

from tests.conftest import require_program
from tests.containers import read_compose
from tests.formations import Row, parse_rows
from tests.installation import ROOT
from tests.replicas import wait_until
from tests.wire import Client

PROJECT = "sentrio-under-test"
LABEL = "label=com.docker.compose"
LIMIT = 240.0
KEYS = 300

pytestmark = pytest.mark.timeout(1800)


def find_compose() -> list[str]:
    """The command of Compose; without it, or without an engine, the test is skipped."""
    if shutil.which("docker") is None:
        pytest.skip("needs Docker")
    engine = subprocess.run(["docker", "info"], capture_output=True, text=True, check=False)
    if engine.returncode:
        pytest.skip(f"no Docker engine answers: {engine.stderr.strip().splitlines()[-1]}")
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) is None:
            continue
        if subprocess.run([*command, "version"], capture_output=True, check=False).returncode == 0:
            return command
    pytest.skip("needs Compose")


class Stack:
    """The services of a compose file, in a project of their own."""

    def __init__(self, command: Sequence[str], *files: str) -> None:
        options = [word for name in files for word in ("-f", str(ROOT / name))]
        self._command = [*command, "-p", PROJECT, "--project-directory", str(ROOT), *options]
        self._environment = {**os.environ, "IMAGE": "sentrio:under-test", "DOWN_AFTER": "3000"}
        base = os.environ.get("SENTRIO_BASE_IMAGE")
        if base:
            self._environment["BASE_IMAGE"] = base
        self.services = read_compose(files)["services"]

    def run(self, *words: str) -> str:
        """Compose, to its end."""
        done = subprocess.run(
            [*self._command, *words],
            capture_output=True,
            text=True,
            env=self._environment,
            cwd=ROOT,
            check=False,
        )
        assert done.returncode == 0, f"{words}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    def build(self) -> None:
        """The image, once."""
        command = ["docker", "build", "-q", "-f", "deploy/Dockerfile", "-t", "sentrio:under-test"]
        command += ["--build-arg", f"COMPILE={os.environ.get('SENTRIO_COMPILE', '1')}"]
        base = self._environment.get("BASE_IMAGE")
        if base:
            command += ["--build-arg", f"BASE_IMAGE={base}"]
        subprocess.run([*command, "."], cwd=ROOT, check=True)

    def find(self, *filters: str) -> list[str]:
        """The project's containers, asked without Compose, which is slow."""
        words = [f"--filter={text}" for text in (f"{LABEL}.project={PROJECT}", *filters)]
        done = subprocess.run(["docker", "ps", "-a", "-q", *words], capture_output=True, check=True)
        return done.stdout.decode().split()

    def find_service(self, service: str) -> str:
        """Its container."""
        (name,) = self.find(f"{LABEL}.service={service}", f"{LABEL}.oneoff=False")
        return name

    def inspect(self, service: str) -> dict[str, Any]:
        """What Docker says of the service's container."""
        words = ["docker", "inspect", self.find_service(service)]
        (found,) = json.loads(subprocess.run(words, capture_output=True, check=True).stdout)
        assert isinstance(found, dict)
        return found

    def address(self, service: str) -> str:
        """The container's own address."""
        (network,) = self.inspect(service)["NetworkSettings"]["Networks"].values()
        assert isinstance(network["IPAddress"], str)
        return network["IPAddress"]

    def signal(self, service: str, *words: str) -> None:
        """Docker kill, docker start."""
        subprocess.run(["docker", *words, self.find_service(service)], check=True)

    def await_health(self) -> None:
        """Until all servers are ready."""
        servers = len(self.services) - 1  # all but the one that forms the cluster
        # What is asked too often has no time to become healthy.
        wait_until(
            lambda: len(self.find("health=healthy")) == servers, "health", LIMIT, interval=1.0
        )


@pytest.fixture
def stack() -> Iterator[Stack]:
    stack = Stack(find_compose(), "docker-compose.yml")
    stack.build()
    stack.run("up", "-d")
    yield stack
    stack.run("down", "-v", "--remove-orphans")


def rows_of(port: int) -> dict[int, Row]:
    """CLUSTER NODES of the node at that port, by port."""
    with Client(("127.0.0.1", port)) as client:
        return {row.port: row for row in parse_rows(client("CLUSTER", "NODES")).values()}


def write(start: int) -> None:
    """Keys from this machine, by redis-py and by redis-cli."""
    cluster = redis.cluster.RedisCluster(host="127.0.0.1", port=7001)
    for number in range(start, start + KEYS):
        assert cluster.set(f"key:{number}", number)
    cluster.close()


def check(count: int, port: int) -> None:
    """That redis-cli -c finds them from this machine, whatever node it asks first."""
    requests = "".join(f"GET key:{number}\n" for number in range(count))
    done = subprocess.run(
        [require_program("redis-cli"), "-c", "-p", str(port)],
        input=requests,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line for line in done.stdout.splitlines() if not line.startswith("->")]
    assert lines == [str(number) for number in range(count)]


def check_from_container(stack: Stack, count: int) -> None:
    """The same by redis-py inside a container of its own."""
    program = (
        # What Pythons before 3.11.3 need for redis.asyncio, which is not used.
        "import sys, types; m = types.ModuleType('async_timeout'); m.timeout = None;"
        "sys.modules['async_timeout'] = m;"
        "import redis.cluster; c = redis.cluster.RedisCluster(host='node-2', port=7002);"
        f"assert all(int(c.get(f'key:{{n}}')) == n for n in range({count}))"
    )
    library = Path(redis.__file__).parent
    stack.run(
        *("run", "--rm", "--no-deps", "-T", "-e", "PYTHONPATH=/library"),
        *("-v", f"{library}:/library/redis:ro", "form", "python3", "-c", program),
    )


def test_the_life_of_a_cluster(stack: Stack) -> None:
    stack.await_health()
    assert stack.inspect("form")["State"]["ExitCode"] == 0
    write(0)
    check(KEYS, 7006)
    check_from_container(stack, KEYS)

    # A master is killed, sentinels promote its replica, and it comes back as that one's replica.
    victim = next(
        row for row in rows_of(7001).values() if row.port != 7001 and "master" in row.flags
    )
    heirs = {row.port for row in rows_of(7001).values() if row.master == victim.name}
    stack.signal(f"node-{victim.port - 7000}", "kill", "--signal", "KILL")
    wait_until(
        lambda: any("master" in rows_of(7001)[port].flags for port in heirs), "an heir", LIMIT
    )
    write(KEYS)
    check(2 * KEYS, 7001)
    name = f"node-{victim.port - 7000}"
    stack.run("up", "-d", name)
    wait_until(
        lambda: "slave" in rows_of(7001)[victim.port].flags, "the old master's return", LIMIT
    )
    stack.await_health()
    check(2 * KEYS, 7001)

    # Down and up: the data stay, the addresses do not.
    before = {f"node-{n}": stack.address(f"node-{n}") for n in range(1, 7)}
    stack.run("down")
    subprocess.run(["docker", "network", "create", f"{PROJECT}-squatter"], check=True)
    try:
        stack.run("up", "-d")
        stack.await_health()
        assert not set(before.values()) & {stack.address(name) for name in before}
        check(2 * KEYS, 7003)
        check_from_container(stack, 2 * KEYS)
        assert all(row.connected for row in rows_of(7001).values())
    finally:
        subprocess.run(["docker", "network", "rm", f"{PROJECT}-squatter"], check=False)
