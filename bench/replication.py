"""Replication, both servers side by side.

How long a full synchronization takes, what two replicas cost their master, and how fast a replica
applies a stream. The stream comes from here (:class:`ScriptedMaster`), as fast as it is taken, so
that the replica is what is measured.
"""

from __future__ import annotations

import random
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import BinaryIO, Final

import psutil

from bench.duel import Duel
from bench.durability import small_strings
from bench.load import (
    KEYSPACE,
    SETTINGS,
    WORKLOADS,
    Comparison,
    Contender,
    Figures,
    Setting,
    Workload,
    compare,
    processor_seconds,
)
from tests.servers import Server
from tests.wire import Client, Error, encode

PATIENCE: Final = 600.0
POLL_SECONDS: Final = 0.005
REPLICAS: Final = 2
LAST: Final = 19  # the niceness of who gets what the others leave
WRITES: Final = ("SET", "LPUSH")
SLOWER: Final = 4.0  # times Redis's seconds of a full synchronization
WITH_REPLICAS: Final = 0.90  # of a Redis master's requests/s
APPLIED: Final = 0.35  # of a Redis replica's requests/s

MASTER: Final = ("--repl-diskless-sync-delay", "0", "--save", "")
# A snapshot without any key: magic and version, the end mark, no checksum.
NOTHING: Final = b"REDIS0009\xff" + bytes(8)

Commands = tuple[list[str], list[str]]


def examine_replication(
    ours: list[str], theirs: list[str], keys: int, rounds: int, seconds: float
) -> tuple[list[Duel], list[Comparison]]:
    """All figures; ``keys`` is how many a full synchronization and a stream have."""
    commands = ours, theirs
    duels = _synchronize(commands, keys, rounds)
    duels += _apply(commands, keys, rounds)
    found, costs = _throughput(commands, rounds, seconds)
    return duels + costs, found


# --- full synchronization -------------------------------------------------------------------------


def _synchronize(commands: Commands, keys: int, rounds: int) -> list[Duel]:
    """Between two of a kind, and with one of Redis's at either end."""
    ours, theirs = commands
    with (
        Server(ours, *MASTER, name="bench-ours") as our_master,
        Server(theirs, *MASTER, name="bench") as their_master,
    ):
        for master in (our_master, their_master):
            with master.connect(timeout=PATIENCE) as client:
                client.send_all(small_strings(keys))
        pairs = ((our_master, ours), (our_master, theirs), (their_master, ours))
        found: list[list[float]] = [[] for _ in range(len(pairs) + 1)]
        for _ in range(rounds):
            for seconds, (master, command) in zip(
                found, (*pairs, (their_master, theirs)), strict=True
            ):
                seconds.append(_follow(command, master, keys))
    *each, redis = (statistics.median(seconds) for seconds in found)
    what = f"full sync of {keys:,} small strings"
    names = (what, f"{what}, our master, Redis's replica", f"{what}, Redis's master, our replica")
    return [Duel(name, "s", taken, redis, SLOWER) for name, taken in zip(names, each, strict=True)]


def _follow(command: list[str], master: Server, keys: int) -> float:
    """Seconds from REPLICAOF until a new replica has all data."""
    with (
        Server(command, name="bench-replica") as replica,
        replica.connect(timeout=PATIENCE) as client,
    ):
        started = time.perf_counter()
        client("REPLICAOF", "127.0.0.1", master.port)
        _await(lambda: _replication(client).get("master_link_status") == "up", POLL_SECONDS)
        taken = time.perf_counter() - started
        if client("DBSIZE") != keys:
            raise RuntimeError("the replica has not got all data")
        return taken


def _point(replica: Server, port: int) -> None:
    """Make it a replica of the master there."""
    with replica.connect() as client:
        client("REPLICAOF", "127.0.0.1", port)


def _replication(client: Client) -> dict[str, str]:
    """INFO's fields; none while it is loading."""
    text = client("INFO", "replication")
    if isinstance(text, Error):
        return {}
    assert isinstance(text, bytes)
    return dict(line.split(":", 1) for line in text.decode().splitlines() if ":" in line)


def _await(true: Callable[[], bool], pause: float) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > deadline:
            raise RuntimeError("the replica does not come to an end")
        time.sleep(pause)


# --- a replica that applies a stream --------------------------------------------------------------


class ScriptedMaster:
    """Lets one replica in, gives it nothing as all data, and then the stream it is told to."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(PATIENCE)
        self._sock: socket.socket | None = None
        self._requests: Iterator[list[bytes]] = iter(())

    def __enter__(self) -> ScriptedMaster:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        if self._sock is not None:
            self._sock.close()

    @property
    def port(self) -> int:
        """Where the replica is to look for it."""
        port: int = self._listener.getsockname()[1]
        return port

    def admit(self) -> None:
        """Until a replica has loaded the snapshot and waits for the stream."""
        self._sock, _ = self._listener.accept()
        self._sock.settimeout(PATIENCE)
        self._requests = _read_requests(self._sock.makefile("rb"))
        for words in self._requests:
            name = words[0].upper()
            if name == b"REPLCONF" and words[1].upper() == b"ACK":
                return
            if name == b"PSYNC":
                head = b"+FULLRESYNC %b 0\r\n$%d\r\n" % (b"5" * 40, len(NOTHING))
                self._sock.sendall(head + NOTHING)
            else:
                self._sock.sendall(b"+PONG\r\n" if name == b"PING" else b"+OK\r\n")
        raise RuntimeError("the replica has gone")

    def stream(self, data: bytes) -> float:
        """Seconds until the replica says that it has executed all of it."""
        assert self._sock is not None
        started = time.perf_counter()
        self._sock.sendall(data)
        self._sock.sendall(encode(["REPLCONF", "GETACK", "*"]))
        for words in self._requests:
            if words[1].upper() == b"ACK" and int(words[2]) >= len(data):
                return time.perf_counter() - started
        raise RuntimeError("the replica has gone")


def _read_requests(file: BinaryIO) -> Iterator[list[bytes]]:
    """What a replica says; it says empty lines, too, while it loads."""
    while line := file.readline():
        if line.startswith(b"*"):
            words = []
            for _ in range(int(line[1:])):
                size = int(file.readline()[1:])
                words.append(file.read(size + 2)[:-2])
            yield words


def _apply(commands: Commands, count: int, rounds: int) -> list[Duel]:
    """The same SETs for both kinds of replica."""
    draw = random.Random(4)
    requests = [
        encode(["SET", b"key:%012d" % draw.randrange(KEYSPACE), "xxx"]) for _ in range(count)
    ]
    data = encode(["SELECT", 0]) + b"".join(requests)
    rates: tuple[list[float], list[float]] = ([], [])
    costs: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for at, command in enumerate(commands):
            with ScriptedMaster() as master, Server(command, name="bench-replica") as replica:
                _point(replica, master.port)
                master.admit()
                before = processor_seconds([replica])
                taken = master.stream(data)
                spent = processor_seconds([replica]) - before
            rates[at].append(count / taken)
            costs[at].append(spent / count * 1e6)
    rate, cost = ([statistics.median(each) for each in pair] for pair in (rates, costs))
    what = f"a replica applies {count:,} SETs"
    return [
        Duel(what, "/s", rate[0], rate[1], APPLIED, least=True),
        Duel(f"{what}: CPU per SET", "µs", cost[0], cost[1]),
    ]


# --- a master with replicas -----------------------------------------------------------------------


class Leader(Contender):
    """A master under load, and its replicas, who are given time to follow after each round.

    With ``yielding`` the replicas get only what master and load leave of the cores, so that it is
    the master that is measured: replicas have machines of their own.

    ``costs`` is what one replica has spent per request, in µs of processor time, in each run; the
    one before each that counts is to warm up.
    """

    def __init__(self, server: Server, replicas: list[Server], yielding: bool) -> None:
        super().__init__(server)
        self.replicas = replicas
        self.yielding = yielding
        self.costs: list[float] = []

    def renew(self) -> None:
        super().renew()
        for replica in self.replicas:
            replica.restart()
            _point(replica, self.server.port)
        self.await_replicas()

    def await_replicas(self) -> None:
        """Until all get the stream."""
        with self.server.connect() as client:
            _await(lambda: _online(client) == len(self.replicas), POLL_SECONDS)
        if self.yielding:
            for replica in self.replicas:
                psutil.Process(replica.pid).nice(LAST)

    def run(self, workload: Workload, setting: Setting, count: int) -> Figures:
        before = processor_seconds(self.replicas)
        figures = super().run(workload, setting, count)
        with self.server.connect(timeout=PATIENCE) as client:
            if self.replicas and client("WAIT", len(self.replicas), 0) != len(self.replicas):
                raise RuntimeError("a replica has been lost")
        if self.replicas:
            spent = processor_seconds(self.replicas) - before
            self.costs.append(spent / len(self.replicas) / count * 1e6)
        return figures


@contextmanager
def _leader(command: list[str], replica: list[str], count: int, yielding: bool) -> Iterator[Leader]:
    """A master with so many replicas, all in sync."""
    with ExitStack() as stack:
        name = "bench-ours" if command is not replica else "bench"
        master = stack.enter_context(Server(command, *MASTER, name=name))
        replicas = []
        for _ in range(count):
            replicas.append(stack.enter_context(Server(replica, name="bench-replica")))
            _point(replicas[-1], master.port)
        leader = Leader(master, replicas, yielding)
        leader.await_replicas()
        yield leader


def _online(client: Client) -> int:
    """How many replicas get the stream."""
    return sum("state=online" in value for value in _replication(client).values())


def _throughput(
    commands: Commands, rounds: int, seconds: float
) -> tuple[list[Comparison], list[Duel]]:
    """Writes at 50 clients, without and with replicas, and what one of them costs."""
    ours, theirs = commands
    found: list[Comparison] = []
    duels: list[Duel] = []
    for name, count, our_replica, yielding, target in (
        ("no replica", 0, ours, False, SETTINGS[0].target),
        ("two replicas of Redis's that yield", REPLICAS, theirs, True, WITH_REPLICAS),
        ("two replicas of its own kind that yield", REPLICAS, ours, True, WITH_REPLICAS),
        ("two replicas of its own kind", REPLICAS, ours, False, WITH_REPLICAS),
    ):
        setting = SETTINGS[0].with_name(f"50 clients, {name}", target)
        for workload in (each for each in WORKLOADS if each.name in WRITES):
            with (
                _leader(ours, our_replica, count, yielding) as leader,
                _leader(theirs, theirs, count, yielding) as their_leader,
            ):
                found.append(compare(leader, their_leader, workload, setting, rounds, seconds))
                if our_replica is ours and count and not yielding:
                    pair = [
                        statistics.median(each.costs[::-2][:rounds])
                        for each in (leader, their_leader)
                    ]
                    what = f"CPU per {workload.name} on each of two replicas"
                    duels.append(Duel(what, "µs", pair[0], pair[1]))
    for workload_name in WRITES:
        alone, *_, accompanied = (each for each in found if each.workload == workload_name)
        pair = [
            (more.cpu - less.cpu) / REPLICAS
            for more, less in (
                (accompanied.ours, alone.ours),
                (accompanied.theirs, alone.theirs),
            )
        ]
        what = f"CPU per {workload_name} and replica on the master"
        duels.append(Duel(what, "µs", pair[0], pair[1]))
    return found, duels
