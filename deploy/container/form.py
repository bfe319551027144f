"""Forms the cluster of the nodes that NODES names, and keeps it together when addresses change.

`form.py form` may be run as often as one likes, whatever state the nodes are in:

- new ones become a cluster (`sentrio cluster create`), each master with $REPLICAS replicas;
- further ones join a cluster that is there, first as masters, until there are as many as that
  number asks for, which get their share of the slots; then as replicas;
- those of a cluster that has been down, and that have other addresses by now, are told of them.

`form.py rejoin HOST:PORT` does the last for one node. Nodes keep the others' addresses in
nodes.conf; when all have got new ones at once (`docker-compose down` and `up`, a cluster of
Kubernetes that starts again) nobody finds anybody any more. CLUSTER MEET with the new address of a
node that is known by its name mends that.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import hiredis

from node.resp import encode_request

LIMIT: Final = float(os.environ.get("FORM_LIMIT", "300"))
"""Seconds until everybody must have been found."""
PAUSE: Final = 0.5
MEET_PAUSE: Final = 3.0
TIMEOUT: Final = 5.0
SLOTS: Final = 16384
REFUSED: Final = 4
"""The tool's exit code when it has changed nothing, for a reason."""
PASSWORD: Final = os.environ.get("PASSWORD", "")
ANNOUNCE_IP: Final = os.environ.get("ANNOUNCE_IP", "")


class Trouble(Exception):
    """It cannot be done; the text says why."""


class Row(NamedTuple):
    """What a node says of another one: a line of CLUSTER NODES."""

    name: str
    address: tuple[str, int]
    flags: frozenset[str]
    connected: bool
    has_slots: bool


class Node:
    """A node, by the name that does not change."""

    def __init__(self, text: str) -> None:
        host, _, port = text.rpartition(":")
        if not host or not port.isdigit():
            raise Trouble(f"{text!r} in NODES is not host:port")
        self.text = text
        self.host = host
        self.port = int(port)
        # Known once it has been looked at.
        self.id = ""
        self.bus_port = 0

    @property
    def address(self) -> tuple[str, int]:
        """Where other nodes find it now. Raises OSError."""
        return (ANNOUNCE_IP or socket.gethostbyname(self.host), self.port)

    def ask(self, *words: str | int) -> Any:
        """One request. Raises OSError, also for an answer that is an error."""
        requests = [["AUTH", PASSWORD], words] if PASSWORD else [words]
        reader = hiredis.Reader()
        answers: list[Any] = []
        with socket.create_connection((self.host, self.port), TIMEOUT) as connection:
            for request in requests:
                connection.sendall(encode_request([str(word).encode() for word in request]))
            while len(answers) < len(requests):
                answer = reader.gets()
                if answer is not False:
                    answers.append(answer)
                    continue
                data = connection.recv(65536)
                if not data:
                    raise ConnectionResetError(f"{self.text} has closed the connection")
                reader.feed(data)
        for answer in answers:
            if isinstance(answer, hiredis.ReplyError):
                raise ConnectionError(f"{self.text}: {answer}")
        return answers[-1]

    def look(self) -> dict[str, Row]:
        """Whom it knows, itself included, by name. Raises OSError."""
        found: dict[str, Row] = {}
        for line in self.ask("CLUSTER", "NODES").decode().splitlines():
            words = line.split()
            flags = frozenset(words[2].split(","))
            host, _, ports = words[1].partition(",")[0].rpartition(":")
            port, _, bus_port = ports.partition("@")
            address = (host, int(port))
            if "handshake" not in flags:
                found[words[0]] = Row(
                    words[0], address, flags, words[7] == "connected", len(words) > 8
                )
            if "myself" in flags:
                self.id = words[0]
                self.bus_port = int(bus_port)
        return found

    def fields(self) -> dict[str, str]:
        """CLUSTER INFO. Raises OSError."""
        lines = self.ask("CLUSTER", "INFO").decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)


def say(text: str) -> None:
    """Tell the log."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def read_nodes() -> list[Node]:
    """Those of NODES."""
    nodes = [Node(word) for word in os.environ.get("NODES", "").replace(",", " ").split()]
    if not nodes:
        raise Trouble("NODES names no node")
    return nodes


def wait_for(attempt: Callable[[], str], what: str) -> None:
    """Until ``attempt`` returns no obstacle. Raises Trouble when that takes too long."""
    deadline = time.monotonic() + LIMIT
    told = ""
    while True:
        try:
            obstacle = attempt()
        except OSError as error:
            obstacle = str(error)
        if not obstacle:
            return
        if obstacle != told:
            told = obstacle
            say(f"waiting for {what}: {obstacle}")
        if time.monotonic() > deadline:
            raise Trouble(f"no {what} within {LIMIT:g} s: {obstacle}")
        time.sleep(PAUSE)


class Introduction:
    """Tells nodes where those are by now that they know already."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._nodes = nodes
        self._met: dict[tuple[str, str], float] = {}

    def mend(self, node: Node) -> str:
        """Let a node meet whom it has lost; an obstacle while there is anybody. Raises OSError."""
        rows = node.look()
        obstacle = ""
        for other in self._nodes:
            if other is node:
                continue
            if not other.id:
                try:
                    other.look()
                except OSError as error:
                    obstacle = f"{other.text}: {error}"
                    continue
            row = rows.get(other.id)
            if row is None:
                continue
            address = other.address
            if row.address != address or not row.connected:
                obstacle = f"{node.text} takes {other.text} to be at {row.address[0]}"
                self._meet(node, other, address)
        return obstacle

    def _meet(self, node: Node, other: Node, address: tuple[str, int]) -> None:
        now = time.monotonic()
        if now - self._met.get((node.id, other.id), -MEET_PAUSE) >= MEET_PAUSE:
            self._met[node.id, other.id] = now
            node.ask("CLUSTER", "MEET", *address, other.bus_port)

    def mend_all(self) -> str:
        """The same for all of them. Raises OSError."""
        obstacles = [self.mend(node) for node in self._nodes]
        return next(filter(None, obstacles), "")


def run_tool(*words: str, refusable: bool = False) -> bool:
    """`sentrio cluster`; False if it has refused, which it may. Raises Trouble."""
    command = [sys.executable, "-m", "sentrio", "cluster", *words, "--yes"]
    say("$ sentrio " + " ".join(command[3:]))
    environment = {**os.environ, "SENTRIO_AUTH": PASSWORD} if PASSWORD else dict(os.environ)
    code = subprocess.run(command, env=environment, check=False).returncode
    if code == REFUSED and refusable:
        return False
    if code:
        raise Trouble(f"sentrio cluster {words[0]} has ended with {code}")
    return True


def own_rows(nodes: Sequence[Node]) -> list[Row]:
    """What each says of itself. Raises OSError."""
    return [node.look()[node.id] for node in nodes]


def grow(nodes: Sequence[Node], members: Sequence[Node], replicas: int) -> None:
    """Let those of ``nodes`` join that are not among ``members``. Raises Trouble, OSError."""
    # CLUSTER MEET takes no names.
    entry = "{}:{}".format(*members[0].address)
    masters = sum("master" in row.flags for row in own_rows(members))
    wanted = len(nodes) // (replicas + 1)
    for node in nodes:
        if node in members:
            continue
        if masters < wanted:
            masters += 1
            run_tool("add-node", node.text, entry)
        else:
            run_tool("add-node", node.text, entry, "--replica")
    if any("master" in row.flags and not row.has_slots for row in own_rows(nodes)):
        run_tool("rebalance", entry, "--use-empty-masters")


def form() -> None:
    """See above. Raises Trouble."""
    nodes = read_nodes()
    replicas = int(os.environ.get("REPLICAS", "1"))
    for node in nodes:
        wait_for(lambda node=node: "" if node.look() else "nothing", node.text)  # type: ignore[misc]
    wait_for(Introduction(nodes).mend_all, "the nodes that know each other")
    members = [
        node
        for node in nodes
        if len(node.look()) > 1 and int(node.fields()["cluster_slots_assigned"]) == SLOTS
    ]
    create = ["create", *(node.text for node in nodes), "--replicas", str(replicas)]
    if 0 < len(members) < len(nodes):
        grow(nodes, members, replicas)
    elif not run_tool(*create, refusable=bool(members)):
        # They are a cluster, but not as a new one would be: growing has been interrupted.
        grow(nodes, members, replicas)

    def find_unready() -> str:
        states = {node.text: node.fields()["cluster_state"] for node in nodes}
        return ", ".join(f"{text}: {state}" for text, state in states.items() if state != "ok")

    wait_for(find_unready, "cluster_state ok on all nodes")
    say(f"the cluster of {len(nodes)} nodes is up")


def rejoin(text: str) -> None:
    """See above. Raises Trouble."""
    nodes = read_nodes()
    own = next((node for node in nodes if node.text == text), None)
    if own is None:
        raise Trouble(f"{text} is not in NODES")
    introduction = Introduction(nodes)
    wait_for(lambda: introduction.mend(own), "the nodes that this one knows")


def main(words: Sequence[str]) -> int:
    """The exit code."""
    try:
        if words[:1] == ["form"]:
            form()
        elif words[:1] == ["rejoin"] and len(words) == 2:
            rejoin(words[1])
        else:
            raise Trouble("usage: form.py form | rejoin HOST:PORT")
    except (Trouble, OSError) as error:
        say(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
