"""Faults for the containers of the compose file, by the client of Docker."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cluster.chaos import schedule
from cluster.chaos.processes import DELAY, FILL_NAME, JUMP, SMALL_DISK
from cluster.chaos.schedule import CLOCK, FULL, PARTITION, SLOW, Topology
from cluster.chaos.target import run
from cluster.tool.connection import Address
from cluster.tool.errors import Failed, Refused
from node.clock import SHIFT_VARIABLE

HOST: Final = "127.0.0.1"
FORMAT: Final = '{{.Label "com.docker.compose.service"}}\t{{.Names}}\t{{.Ports}}\t{{.Networks}}'
_PUBLISHED: Final = re.compile(r":(\d+)->(\d+)/tcp")


@dataclass(frozen=True, slots=True)
class Container:
    """A node's or sentinel's; ``port`` is where clients reach it."""

    service: str
    name: str
    port: int
    networks: tuple[str, ...]

    @property
    def is_sentinel(self) -> bool:
        """Whether it is one."""
        return self.service.startswith("sentinel")


def list_words(project: str) -> list[str]:
    """The command that lists a project's containers; without a name, those of any."""
    label = f"com.docker.compose.project{f'={project}' if project else ''}"
    return ["docker", "ps", "--no-trunc", "--filter", f"label={label}", "--format", FORMAT]


def parse_containers(text: str) -> list[Container]:
    """What that says: nodes and sentinels with a published port, by port.

    A node publishes its bus, too, which is the port 10000 above.
    """
    found = []
    for line in text.splitlines():
        service, name, ports, networks = line.split("\t")
        published = [int(inside) for outside, inside in _PUBLISHED.findall(ports)]
        if published and re.fullmatch(r"(node|sentinel)-\d+", service):
            names = tuple(part for part in networks.split(",") if part)
            found.append(Container(service, name, min(published), names))
    return sorted(found, key=lambda container: container.port)


def begin_words(kind: str, container: Container) -> list[list[str]]:
    """The commands that do a fault. Raises Failed if there are none."""
    name = container.name
    match kind:
        case schedule.KILL:
            return [["docker", "kill", "--signal", "KILL", name]]
        case schedule.STOP:
            return [["docker", "pause", name]]
        case schedule.PARTITION:
            return [["docker", "network", "disconnect", net, name] for net in container.networks]
        case schedule.SLOW:
            return [_exec_as_root(name, "qdisc", "add", "dev", "eth0", "root", "netem", *DELAY)]
        case schedule.FULL:
            script = f"dd if=/dev/zero of=/data/{FILL_NAME} bs=1M; true"
            return [["docker", "exec", name, "sh", "-c", script]]
        case schedule.CLOCK:
            script = f'echo {JUMP} > "${SHIFT_VARIABLE}"'
            return [["docker", "exec", name, "sh", "-c", script]]
    raise Failed(f"{kind} is not possible here")


def end_words(kind: str, container: Container) -> list[list[str]]:
    """The commands that mend it."""
    name = container.name
    match kind:
        case schedule.KILL:
            return [["docker", "start", name]]
        case schedule.STOP:
            return [["docker", "unpause", name]]
        case schedule.PARTITION:
            # The name by which the others find it is lost with the connection.
            alias = ["--alias", container.service]
            return [["docker", "network", "connect", *alias, n, name] for n in container.networks]
        case schedule.SLOW:
            return [_exec_as_root(name, "qdisc", "del", "dev", "eth0", "root")]
        case schedule.FULL:
            return [["docker", "exec", name, "rm", "-f", f"/data/{FILL_NAME}"]]
        case schedule.CLOCK:
            return [["docker", "exec", name, "sh", "-c", f'rm -f "${SHIFT_VARIABLE}"']]
    return []


def _exec_as_root(name: str, *words: str) -> list[str]:
    return ["docker", "exec", "--privileged", "--user", "0", name, "tc", *words]


def parse_disk(text: str) -> int:
    """The size in bytes, of what `df -kP` says of one file system. Raises Failed."""
    words = text.splitlines()[-1].split() if text else []
    if len(words) < 6 or not words[1].isdigit():
        raise Failed("df does not say how large the disk is")
    return int(words[1]) * 1024


def measure(containers: Sequence[Container]) -> Topology:
    """The size of the cluster; the compose files give each master one replica."""
    sentinels = sum(container.is_sentinel for container in containers)
    return Topology((len(containers) - sentinels) // 2, 1, sentinels)


class Containers:
    """The cluster of a compose project; :meth:`find` has to come first."""

    def __init__(self, project: str) -> None:
        self._project = project
        self._containers: dict[int, Container] = {}
        self.topology = Topology(0, 0, 0)
        self.entries: Sequence[Address] = []
        self.sentinels: Sequence[Address] = []

    async def find(self) -> None:
        """Look which containers there are. Raises Failed, Refused."""
        found = parse_containers(await run(list_words(self._project)))
        nodes = [container for container in found if not container.is_sentinel]
        if not nodes:
            raise Refused("No containers of such a project have published nodes")
        if len({container.port for container in found}) < len(found):
            raise Refused("There are several such projects: say which, by its name")
        self._containers = {container.port: container for container in found}
        self.entries = [Address(HOST, container.port) for container in nodes]
        self.sentinels = [Address(HOST, c.port) for c in found if c.is_sentinel]
        self.topology = measure(found)

    async def find_impossible(self, kinds: Sequence[str]) -> dict[str, str]:
        found = {}
        nodes = [c for c in self._containers.values() if not c.is_sentinel]
        if CLOCK in kinds:
            for container in self._containers.values():
                try:
                    await run(["docker", "exec", container.name, "printenv", SHIFT_VARIABLE])
                except Failed:
                    found[CLOCK] = "containers share the machine's clock, unless CLOCK_SHIFT is set"
                    break
        if PARTITION in kinds and any(not c.networks for c in self._containers.values()):
            found[PARTITION] = "not every container has a network of its own"
        if SLOW in kinds:
            for container in self._containers.values():
                try:
                    await run(["docker", "exec", container.name, "sh", "-c", "command -v tc"])
                except Failed:
                    found[SLOW] = f"takes tc (iproute2) in the image; {container.name} has none"
                    break
        if FULL in kinds:
            for container in nodes:
                words = ["docker", "exec", container.name, "df", "-kP", "/data"]
                if parse_disk(await run(words)) > SMALL_DISK:
                    found[FULL] = f"the volume of {container.name} is larger than 1 GiB"
                    break
        return found

    async def begin(self, kind: str, port: int) -> None:
        for words in begin_words(kind, self._find(port)):
            await run(words)

    async def end(self, kind: str, port: int) -> None:
        for words in end_words(kind, self._find(port)):
            await run(words)

    async def close(self) -> None:
        return None

    def _find(self, port: int) -> Container:
        if port not in self._containers:
            raise Failed(f"no container has the port {port}")
        return self._containers[port]
