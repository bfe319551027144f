"""Clusters for tests: several server processes, of our kind or the real one's, in one cluster."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator, Sequence
from typing import Final

from tests.replicas import wait_until
from tests.servers import Server, free_port, node_command
from tests.wire import Client, Closed, Error, Reply

SLOTS: Final = 16384
OURS: Final = "ours"
REAL: Final = "real"
# Long enough for a machine that does other things as well.
NODE_TIMEOUT: Final = 1500
LIMIT: Final = 40.0
LOG_TAIL: Final = 4000


class Row:
    """One line of CLUSTER NODES."""

    def __init__(self, line: str) -> None:
        words = line.split()
        self.name, self.address = words[:2]
        self.flags = set(words[2].split(","))
        self.master = "" if words[3] == "-" else words[3]
        self.epoch = int(words[6])
        self.connected = words[7] == "connected"
        self.slots = tuple(word for word in words[8:] if not word.startswith("["))
        self.open_slots = tuple(word for word in words[8:] if word.startswith("["))
        host, _, ports = self.address.partition(",")[0].rpartition(":")
        self.host = host
        self.port = int(ports.partition("@")[0])

    @property
    def fact(self) -> tuple[object, ...]:
        """What all nodes have to agree on."""
        lasting = self.flags - {"myself", "fail?"}
        return (self.name, self.address, sorted(lasting), self.master, self.epoch, self.slots)


def parse_rows(text: Reply) -> dict[str, Row]:
    """CLUSTER NODES, by name."""
    assert isinstance(text, bytes), text
    rows = [Row(line) for line in text.decode().splitlines()]
    return {row.name: row for row in rows}


def parse_fields(text: Reply) -> dict[str, str]:
    """CLUSTER INFO, or INFO."""
    assert isinstance(text, bytes), text
    lines = text.decode().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


class ClusterNode(Server):
    """A server in cluster mode, with a port of its own for the bus."""

    def __init__(self, kind: str, command: list[str], *directives: str, name: str) -> None:
        self.kind = kind
        self.bus_port = free_port()
        super().__init__(
            command,
            *("--cluster-enabled", "yes", "--cluster-port", str(self.bus_port)),
            *("--cluster-node-timeout", str(NODE_TIMEOUT), "--enable-debug-command", "yes"),
            *("--repl-diskless-sync-delay", "0"),
            *directives,
            name=name,
        )

    def ask(self, *arguments: str | bytes | int) -> Reply:
        """One request on a connection of its own."""
        with self.connect() as client:
            return client(*arguments)

    def do(self, *arguments: str | bytes | int) -> Reply:
        """One request that must not be answered by an error; while the node loads, it waits."""
        replies: list[Reply] = []

        def is_answered() -> bool:
            reply = self.ask(*arguments)
            if isinstance(reply, Error) and reply.text.startswith(b"LOADING"):
                return False
            replies.append(reply)
            return True

        wait_until(is_answered, f"an answer to {arguments}")
        assert not isinstance(replies[0], Error), (arguments, replies[0])
        return replies[0]

    @property
    def id(self) -> str:
        """CLUSTER MYID."""
        reply = self.do("CLUSTER", "MYID")
        assert isinstance(reply, bytes)
        return reply.decode()

    def rows(self) -> dict[str, Row]:
        """CLUSTER NODES."""
        return parse_rows(self.do("CLUSTER", "NODES"))

    def myself(self) -> Row:
        """The row about this node itself."""
        return next(row for row in self.rows().values() if "myself" in row.flags)

    def fields(self) -> dict[str, str]:
        """CLUSTER INFO."""
        return parse_fields(self.do("CLUSTER", "INFO"))

    @property
    def is_up(self) -> bool:
        """Whether it takes the cluster to be up."""
        return self.fields()["cluster_state"] == "ok"

    @property
    def is_master(self) -> bool:
        return "master" in self.myself().flags

    def process_stopped(self, stopped: bool) -> None:
        """Let the process stand still (SIGSTOP), or go on."""
        os.kill(self.pid, signal.SIGSTOP if stopped else signal.SIGCONT)

    @property
    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None


class Cluster:
    """Nodes, started and stopped together; ``kinds`` says of which kind each is."""

    def __init__(
        self, kinds: Sequence[str], real: list[str] | None = None, directives: Sequence[str] = ()
    ) -> None:
        self._real = real
        self._directives = directives
        self.nodes: list[ClusterNode] = []
        try:
            for kind in kinds:
                self._launch(kind)
            for node in self.nodes:
                node.await_ready()
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __getitem__(self, index: int) -> ClusterNode:
        return self.nodes[index]

    def _launch(self, kind: str, directives: Sequence[str] = ()) -> ClusterNode:
        command = node_command()
        if kind == REAL:
            assert self._real is not None
            command = self._real
        node = ClusterNode(
            kind, command, *self._directives, *directives, name=f"{kind}-{len(self.nodes)}"
        )
        self.nodes.append(node)
        node.launch()
        return node

    def add(self, kind: str, *directives: str) -> ClusterNode:
        """Start one more node, alone."""
        node = self._launch(kind, directives)
        node.await_ready()
        return node

    def stop(self) -> None:
        """End all nodes, at once as far as possible."""
        for node in self.nodes:
            if node.process is not None and node.process.poll() is None:
                node.process.kill()
        for node in self.nodes:
            node.stop()

    @property
    def alive(self) -> list[ClusterNode]:
        return [node for node in self.nodes if node.is_alive]

    def form(self, masters: int, replicas: dict[int, int] | None = None) -> Cluster:
        """Let the first ``masters`` nodes share the slots; ``replicas``: index -> that of its
        master. Waits until all agree and the cluster is up.
        """
        share = SLOTS // masters
        for index, node in enumerate(self.nodes):
            if index < masters:
                last = SLOTS - 1 if index == masters - 1 else (index + 1) * share - 1
                node.do("CLUSTER", "ADDSLOTSRANGE", index * share, last)
            node.do("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
        for node in self.nodes[1:]:
            self.meet(node)
        self.await_members(len(self.nodes))
        for index, master in (replicas or {}).items():
            self.replicate(index, master)
        self.await_agreement()
        for index in replicas or {}:
            self.await_synchronized(self.nodes[index])
        return self

    def meet(self, node: ClusterNode) -> None:
        """Let a node into the cluster of the first one."""
        first = self.nodes[0]
        first.do("CLUSTER", "MEET", "127.0.0.1", node.port, node.bus_port)

    def await_members(self, count: int) -> None:
        """Until each node knows so many, by name."""
        self.wait(
            lambda: all(
                len(rows := node.rows()) == count
                and not any("handshake" in row.flags for row in rows.values())
                for node in self.alive
            ),
            f"a cluster of {count}",
        )

    def replicate(self, index: int, master: int) -> None:
        """Make a node the replica of another one."""
        self.nodes[index].do("CLUSTER", "REPLICATE", self.nodes[master].id)

    def await_synchronized(self, node: ClusterNode) -> None:
        """Until a replica is connected to its master."""
        self.wait(
            lambda: parse_fields(node.do("INFO", "replication")).get("master_link_status") == "up",
            f"the link of {node.name}",
        )

    def agree(self) -> bool:
        """Whether all that are alive say the same of all nodes, and take the cluster to be up."""
        views = [node.rows() for node in self.alive]
        facts = [sorted(row.fact for row in view.values()) for view in views]
        return all(fact == facts[0] for fact in facts) and all(node.is_up for node in self.alive)

    def await_agreement(self) -> None:
        self.wait(self.agree, "agreement")

    def wait(self, condition: object, what: str = "it", limit: float = LIMIT) -> None:
        """Until it is so; a node that is just ending does not disturb."""
        assert callable(condition)

        def holds() -> bool:
            with contextlib.suppress(OSError, Closed):
                return bool(condition())
            return False

        try:
            wait_until(holds, what, limit)
        except TimeoutError as error:
            for node in self.alive:
                rows = node.ask("CLUSTER", "NODES")
                error.add_note(f"--- {node.name}: {rows!r}\n{node.log[-LOG_TAIL:]}")
            raise

    def master_of(self, slot: int) -> ClusterNode:
        """The node that has a slot, as the nodes themselves say."""
        for node in self.alive:
            row = node.myself()
            if "master" in row.flags and any(_covers(word, slot) for word in row.slots):
                return node
        raise LookupError(slot)

    def call(self, key: str | bytes, *arguments: str | bytes | int) -> Reply:
        """Ask, and follow where the answers send us."""
        node = self.alive[0]
        slot = node.do("CLUSTER", "KEYSLOT", key)
        assert isinstance(slot, int)
        with self.master_of(slot).connect() as client:
            return client(*arguments)

    def by_port(self, port: int) -> ClusterNode:
        return next(node for node in self.nodes if node.port == port)


def _covers(word: str, slot: int) -> bool:
    first, _, last = word.partition("-")
    return int(first) <= slot <= int(last or first)


@contextlib.contextmanager
def connected(*nodes: ClusterNode) -> Iterator[list[Client]]:
    """A connection to each."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(node.connect()) for node in nodes]
