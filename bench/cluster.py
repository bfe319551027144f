"""Cluster mode, both servers side by side.

What the checks of slots cost a request, how fast slots with their keys move, how long a master's
slots cannot be written after it was killed, and what nodes cost that have nothing to do.
"""

from __future__ import annotations

import random
import shutil
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Final

from bench.duel import Duel
from bench.fleet import PATIENCE, SLOTS, Member, running
from bench.load import (
    KEYSPACE,
    SETTINGS,
    WORKLOADS,
    Comparison,
    Contender,
    Workload,
    compare,
    processor_seconds,
)
from cluster.slots import key_slot
from tests.replicas import wait_until
from tests.servers import Server, environment
from tests.wire import Client, Error, encode

PARTS: Final = ("requests", "reshard", "failover", "idle")

CHECKED: Final = 0.90  # of a Redis node's requests/s
MOVED: Final = 0.5  # of Redis's keys/s
LATER: Final = 0.5  # s more than Redis

KEYS_EACH: Final = 100  # keys in a slot that moves
RESHARD_SECONDS: Final = 300.0
LOAD_PAUSE: Final = 0.002  # s between two requests of the light load
NODE_TIMEOUT: Final = 2000  # ms, where masters are killed
POLL_SECONDS: Final = 0.005
SIZES: Final = (3, 12, 30)
# A cluster that has just formed has more to tell than one that has stood for a while.
SETTLING_SECONDS: Final = 5.0

Commands = tuple[list[str], list[str]]


def examine_cluster(
    ours: list[str],
    theirs: list[str],
    keys: int,
    rounds: int,
    seconds: float,
    parts: Sequence[str] = PARTS,
) -> tuple[list[Duel], list[Comparison]]:
    """All figures, or those of some parts; ``keys`` is how many a reshard moves."""
    commands = ours, theirs
    duels: list[Duel] = []
    found: list[Comparison] = []
    if "requests" in parts:
        found, duels = _requests(commands, rounds, seconds)
    if "reshard" in parts:
        duels += _reshard(commands, keys)
    if "failover" in parts:
        duels += _fail_over(commands, 2 * rounds + 1)
    if "idle" in parts:
        duels += _idle(commands, 4 * seconds)
    return duels, found


# --- requests with slots checked ------------------------------------------------------------------


def _fill_strings(client: Client, count: int) -> int:
    """All keys that redis-benchmark may ask for; they are of all slots, so one by one."""
    for start in range(0, KEYSPACE, 1000):
        keys = (b"key:%012d" % n for n in range(start, start + 1000))
        client.send_raw(b"".join(encode([b"SET", key, b"xxx"]) for key in keys))
        replies = b""
        while len(replies) < len(b"+OK\r\n") * 1000:
            replies += client.socket.recv(65536)
        if replies != b"+OK\r\n" * 1000:
            raise RuntimeError(f"loading was refused: {replies[:100]!r}")
    return count


_SAME_SLOT: Final = [word for n in range(5) for word in (f"{{a}}:{n}:__rand_int__", "xxx")]
REQUESTS: Final = (
    next(each for each in WORKLOADS if each.name == "SET"),
    Workload("GET", ["-t", "get"], _fill_strings),
    Workload("MSET, 5 keys of one slot", ["MSET", *_SAME_SLOT]),
)
# Those that are measured without cluster mode, too.
COMPARED: Final = ("SET", "GET")


class _Node(Contender):
    """A node of a cluster."""

    def renew(self) -> None:
        super().renew()
        with self.server.connect() as client:
            wait_until(lambda: "cluster_state:ok" in str(client("CLUSTER", "INFO")), "a cluster")


def _requests(
    commands: Commands, rounds: int, seconds: float
) -> tuple[list[Comparison], list[Duel]]:
    """50 clients and one node that has all slots; what cluster mode adds to a request."""
    found: list[Comparison] = []
    duels: list[Duel] = []
    clustered = SETTINGS[0].with_name("50 clients, one node with all slots", CHECKED)
    alone = SETTINGS[0].with_name("50 clients, no cluster mode", SETTINGS[0].target)
    with ExitStack() as stack:
        nodes: list[Contender] = []
        singles: list[Contender] = []
        for name, command in zip(("bench-ours", "bench"), commands, strict=True):
            (node,) = stack.enter_context(running(command, [SLOTS], name=name))
            nodes.append(_Node(node))
            singles.append(Contender(stack.enter_context(Server(command, name=name))))
        for workload in REQUESTS:
            checked = compare(nodes[0], nodes[1], workload, clustered, rounds, seconds)
            found.append(checked)
            if workload.name not in COMPARED:
                continue
            free = compare(singles[0], singles[1], workload, alone, rounds, seconds)
            found.append(free)
            added = [
                after.cpu - before.cpu
                for after, before in ((checked.ours, free.ours), (checked.theirs, free.theirs))
            ]
            what = f"CPU that cluster mode adds to a {workload.name}"
            duels.append(Duel(what, "µs", added[0], added[1]))
    return found, duels


# --- slots that move ------------------------------------------------------------------------------


class LightLoad:
    """A client that reads and writes keys of a cluster, one request after the other, with pauses.

    It follows MOVED and ASK, as clients of clusters do. After the context ``requests`` says how
    many there were and ``longest`` what the slowest took, redirections included, in ms.
    """

    def __init__(self, members: Sequence[Member], tags: Sequence[bytes]) -> None:
        self.requests = 0
        self.longest = 0.0
        self._tags = tags
        self._clients = {member.port: member.connect(timeout=PATIENCE) for member in members}
        self._first = members[0].port
        self._where: dict[bytes, int] = {}
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> LightLoad:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        for client in self._clients.values():
            client.close()
        if self._failure is not None:
            raise RuntimeError("a client of the cluster was not served") from self._failure

    def _run(self) -> None:
        draw = random.Random(5)
        try:
            while not self._stop.wait(LOAD_PAUSE):
                tag = draw.choice(self._tags)
                key = _key(tag, draw.randrange(KEYS_EACH))
                words = [b"GET", key] if draw.random() < 0.5 else [b"SET", key, b"written again"]
                started = time.perf_counter()
                self._ask(tag, words)
                self.longest = max(self.longest, (time.perf_counter() - started) * 1e3)
                self.requests += 1
        except BaseException as error:
            self._failure = error

    def _ask(self, tag: bytes, words: list[bytes]) -> None:
        port = self._where.get(tag, self._first)
        asking = False
        for _ in range(16):
            client = self._clients[port]
            if asking:
                client.send("ASKING")
            client.send(*words)
            if asking:
                client.read()
            reply = client.read()
            if not isinstance(reply, Error):
                return
            kind, _, rest = reply.text.partition(b" ")
            if kind not in (b"MOVED", b"ASK"):
                raise RuntimeError(reply.text.decode())
            port = int(rest.rpartition(b":")[2])
            asking = kind == b"ASK"
            if not asking:
                self._where[tag] = port
        raise RuntimeError("redirected for ever")


def _key(tag: bytes, number: int) -> bytes:
    return b"{%b}:%04d" % (tag, number)


def _tags(count: int) -> list[bytes]:
    """A hash tag for each of the first slots."""
    found: dict[int, bytes] = {}
    number = 0
    while len(found) < count:
        tag = b"%d" % number
        slot = key_slot(tag)
        if slot < count:
            found.setdefault(slot, tag)
        number += 1
    return [found[slot] for slot in range(count)]


def _reshard(commands: Commands, keys: int) -> list[Duel]:
    """All slots of one master, with all the keys, to another and back, under a light load."""
    tool = _find_tool(commands[0])
    slots = keys // KEYS_EACH
    tags = _tags(slots)
    by_redis: list[list[float]] = []
    waits: list[float] = []
    by_tool: list[float] = []
    for name, command in zip(("bench-ours", "bench"), commands, strict=True):
        shares = (slots, 0, SLOTS - slots)
        # A master that has lost its last slot is to stay one.
        keep = ("--cluster-allow-replica-migration", "no")
        with running(command, shares, *keep, name=name) as members:
            one, other, _ = members
            with one.connect(timeout=PATIENCE) as client:
                client.send_all(_small_keys(tags))
            ours = command is commands[0]
            with LightLoad(members, tags) as load:
                rates = [
                    keys / _by_redis_cli(*pair, slots) for pair in ((one, other), (other, one))
                ]
            _check(one, keys)
            by_redis.append(rates)
            waits.append(load.longest)
            if ours and tool is not None:
                with LightLoad(members, tags) as load:
                    by_tool = [
                        keys / _by_tool(tool, *pair, slots) for pair in ((one, other), (other, one))
                    ]
                _check(one, keys)
                waits.insert(0, load.longest)
    what = f"reshard of {keys:,} small keys in {slots:,} slots"
    rate = [statistics.mean(rates) for rates in by_redis]
    duels = [
        Duel(f"{what}, redis-cli", "/s", rate[0], rate[1], MOVED, least=True),
        Duel("longest wait of a client meanwhile", "ms", waits[-2], waits[-1]),
    ]
    if by_tool:
        own = statistics.mean(by_tool)
        duels.append(Duel(f"{what}, each's own tool", "/s", own, rate[1], MOVED, least=True))
        what = "longest wait of a client meanwhile, each's own tool"
        duels.append(Duel(what, "ms", waits[0], waits[-1]))
    return duels


def _small_keys(tags: Sequence[bytes]) -> Iterator[list[bytes]]:
    for tag in tags:
        for number in range(KEYS_EACH):
            yield [b"SET", _key(tag, number), b"value:%08d" % number]


def _check(member: Member, keys: int) -> None:
    if member.do("DBSIZE") != keys:
        raise RuntimeError("not all keys have been moved")


def _by_redis_cli(source: Member, target: Member, slots: int) -> float:
    """Seconds of ``redis-cli --cluster reshard`` of all slots of ``source``."""
    program = shutil.which("redis-cli")
    if program is None:
        raise RuntimeError("redis-cli is needed (Debian: apt-get install redis-tools)")
    words = ["--cluster", "reshard", f"127.0.0.1:{source.port}", "--cluster-yes"]
    words += ["--cluster-from", source.id, "--cluster-to", target.id]
    return _run([program, *words, "--cluster-slots", str(slots)], source, target)


def _by_tool(tool: list[str], source: Member, target: Member, slots: int) -> float:
    """Seconds of ``sentrio cluster reshard`` of all slots of ``source``."""
    words = ["reshard", f"127.0.0.1:{source.port}", "--yes", "--slots", f"0-{slots - 1}"]
    return _run([*tool, *words, "--from", source.id, "--to", target.id], source, target)


def _run(command: list[str], source: Member, target: Member) -> float:
    started = time.perf_counter()
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=RESHARD_SECONDS,
        check=False,
        env=environment(),
    )
    taken = time.perf_counter() - started
    if done.returncode != 0 or source.do("DBSIZE") != 0 or target.do("DBSIZE") == 0:
        raise RuntimeError(f"the reshard failed: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return taken


def _find_tool(node: list[str]) -> list[str] | None:
    """The operator's tool beside what starts our node, where there is one."""
    if node[-1] != "node":
        return None
    tool = [*node[:-1], "cluster"]
    done = subprocess.run(
        [*tool, "reshard", "--help"],
        capture_output=True,
        timeout=60,
        check=False,
        env=environment(),
    )
    return tool if done.returncode == 0 else None


# --- a master that is killed ----------------------------------------------------------------------


class Shard:
    """A cluster of three masters, the first of which has a replica: these two take turns."""

    def __init__(self, members: list[Member]) -> None:
        self.master, self.replica = members[0], members[3]
        self.replica.follow(self.master)
        self._others = members[1:3]
        self.taken: list[float] = []
        self._key = next(b"%d" % n for n in range(SLOTS) if key_slot(b"%d" % n) < SLOTS // 3)

    def kill(self) -> None:
        """Kill the master; wait until its replica accepts a write in its place."""
        with self.replica.connect() as client:
            self.master.kill()
            started = time.perf_counter()
            while isinstance(client("SET", self._key, "written"), Error):
                if time.perf_counter() - started > PATIENCE:
                    raise RuntimeError("nobody has taken over")
                time.sleep(POLL_SECONDS)
            self.taken.append(time.perf_counter() - started)

    def revive(self) -> None:
        """Start what was killed, without waiting."""
        self.master, self.replica = self.replica, self.master
        self.replica.launch()

    def recover(self) -> None:
        """Wait until the one that was killed is a replica that all others know to be well."""
        self.replica.await_ready()
        wait_until(lambda: self.replica.is_synchronized, "a replica", PATIENCE)
        name = self.replica.id.encode()
        others = (self.master, *self._others)
        wait_until(lambda: all(_is_well(one, name) for one in others), "a whole cluster", PATIENCE)


def _is_well(member: Member, name: bytes) -> bool:
    text = member.do("CLUSTER", "NODES")
    assert isinstance(text, bytes)
    (line,) = (line for line in text.splitlines() if line.startswith(name))
    words = line.split()
    return words[2] == b"slave" and words[7] == b"connected"


def _fail_over(commands: Commands, times: int) -> list[Duel]:
    """Both clusters take turns; one recovers while the other one's master is killed."""
    third = SLOTS // 3
    shares = (third, third, SLOTS - 2 * third, 0)
    timeout = ("--cluster-node-timeout", str(NODE_TIMEOUT))
    with ExitStack() as stack:
        shards = [
            Shard(stack.enter_context(running(command, shares, *timeout, name=name)))
            for name, command in zip(("bench-ours", "bench"), commands, strict=True)
        ]
        for _ in range(times):
            for shard in shards:
                shard.kill()
                shard.revive()
            for shard in shards:
                shard.recover()
    middle = [statistics.median(shard.taken) for shard in shards]
    slowest = [max(shard.taken) for shard in shards]
    what = f"kill -9 of a master to the first write, time-out {NODE_TIMEOUT / 1000:g} s"
    return [
        Duel(f"{what}, median of {times}", "s", middle[0], middle[1], LATER, added=True),
        Duel(f"{what}, slowest of {times}", "s", slowest[0], slowest[1]),
    ]


# --- nodes that have nothing to do ----------------------------------------------------------------


def _idle(commands: Commands, seconds: float) -> list[Duel]:
    """Percent of a core, the mean over all nodes of a cluster."""
    duels: list[Duel] = []
    for size in SIZES:
        shares = [SLOTS // size + (at < SLOTS % size) for at in range(size)]
        pair: list[float] = []
        for name, command in zip(("bench-ours", "bench"), commands, strict=True):
            with running(command, shares, name=name) as members:
                time.sleep(SETTLING_SECONDS)
                before = processor_seconds(members)
                started = time.perf_counter()
                time.sleep(seconds)
                spent = processor_seconds(members) - before
                pair.append(spent / (time.perf_counter() - started) / size * 100)
        duels.append(Duel(f"an idle node in a cluster of {size}", "%", pair[0], pair[1]))
    return duels
