"""Sentinels of both kinds: how long a dead master is an outage, and what is lost by it.

Three sentinels guard a master with two replicas, ours beside Redis's; three of ours guard a cluster
beside a Redis Cluster that looks after itself; and of three masters two are killed at once, which
Redis Cluster does not survive. A writer goes on all the time, as fast as it is answered up to a
steady pace, and remembers what was acknowledged.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

from bench.duel import Duel
from bench.fleet import PATIENCE, SLOTS, Member, running
from cluster.slots import key_slot
from tests.replicas import wait_until
from tests.sentinels import Sentinel
from tests.servers import Server
from tests.wire import Client, Closed, Error

DOWN_AFTER: Final = 1000  # ms; the cluster's node time-out, too
FAILOVER_TIMEOUT: Final = 5000  # ms; of one master no other failover begins for twice as long
SENTINELS: Final = 3
QUORUM: Final = 2
PACE: Final = 0.002  # s between two writes
POLL: Final = 0.005  # s between two attempts while nobody takes writes
NAME: Final = "bench"
DIRECTIVES: Final = ("--repl-diskless-sync-delay", "0")

Commands = tuple[list[str], list[str]]


def examine_sentinels(servers: Commands, sentinels: Commands, failovers: int) -> list[Duel]:
    """All figures; commands of both kinds, ours first."""
    return [
        *_guard_masters(servers, sentinels, failovers),
        *_guard_clusters(servers, sentinels[0], failovers),
        *_lose_majorities(servers, sentinels[0], max(failovers // 3, 1)),
    ]


def _start_sentinels(
    stack: ExitStack, command: list[str], monitor: str, name: str
) -> list[Sentinel]:
    statements = (
        monitor,
        f"down-after-milliseconds {NAME} {DOWN_AFTER}",
        f"failover-timeout {NAME} {FAILOVER_TIMEOUT}",
    )
    sentinels = [Sentinel(command, statements, name=f"{name}-{at}") for at in range(SENTINELS)]
    for sentinel in sentinels:
        stack.enter_context(sentinel)
    return sentinels


# --- a steady load --------------------------------------------------------------------------------


class Writer:
    """Adds numbers to a set, one after the other, and remembers those that were acknowledged.

    It asks the servers in turn where it finds none that takes a write. ``gap`` is the time between
    the last write that was acknowledged before :meth:`mark` and the first one after it.
    """

    def __init__(self, servers: Sequence[Server], key: bytes) -> None:
        self._servers = list(servers)
        self._key = key
        self._acknowledged: list[bytes] = []
        self._lost: set[bytes] = set()
        self._stopped = False
        self._marked = 0.0
        self._accepted = threading.Event()
        self.taken = 0.0
        self._thread = threading.Thread(target=self._write_forever)

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        self._thread.join()

    def _write_forever(self) -> None:
        number = 0
        at = 0
        client: Client | None = None
        while not self._stopped:
            number += 1
            member = b"%d" % number
            try:
                if client is None:
                    client = self._servers[at].connect(timeout=0.5)
                accepted = not isinstance(client("SADD", self._key, member), Error)
            except (OSError, Closed):
                accepted = False
            if accepted:
                self._acknowledged.append(member)
                if self._marked:
                    self.taken = time.perf_counter() - self._marked
                    self._marked = 0.0
                    self._accepted.set()
                time.sleep(PACE)
                continue
            if client is not None:
                client.close()
            client = None
            at = (at + 1) % len(self._servers)
            time.sleep(POLL)
        if client is not None:
            client.close()

    def kill(self, victim: Server) -> None:
        """Kill the server that takes the writes."""
        self._accepted.clear()
        victim.kill()
        self._marked = time.perf_counter()

    def await_acceptance(self) -> float:
        """Seconds from the kill until a write was accepted."""
        if not self._accepted.wait(PATIENCE):
            raise RuntimeError("nobody has taken over")
        return self.taken

    def count_lost(self, master: Server) -> int:
        """How many of the acknowledged writes that master does not have, not counted before."""
        acknowledged = set(self._acknowledged[:])
        with master.connect() as client:
            members = client("SMEMBERS", self._key)
        assert isinstance(members, list | set), members
        lost = acknowledged - self._lost - {each for each in members if isinstance(each, bytes)}
        self._lost |= lost
        return len(lost)


# --- a master and two replicas --------------------------------------------------------------------


class Guarded:
    """A master, two replicas and three sentinels of one kind, and what they went through."""

    def __init__(self, stack: ExitStack, server: list[str], sentinel: list[str], name: str) -> None:
        self.taken: list[float] = []
        self.lost = 0
        self._servers = [Server(server, *DIRECTIVES, name=f"{name}-{at}") for at in range(3)]
        for each in self._servers:
            stack.enter_context(each)
        self._master = self._servers[0]
        for replica in self._servers[1:]:
            self._follow(replica)
        monitor = f"monitor {NAME} 127.0.0.1 {self._master.port} {QUORUM}"
        self._sentinels = _start_sentinels(stack, sentinel, monitor, f"{name}-sentinel")
        self.await_calm()
        self._writer = stack.enter_context(Writer(self._servers, b"written"))

    def _follow(self, replica: Server) -> None:
        with replica.connect() as client:
            client("REPLICAOF", "127.0.0.1", self._master.port)

    def kill_master(self) -> None:
        """Kill it, wait until another one takes writes, and start it again as a replica."""
        old = self._master
        self._writer.kill(old)
        self.taken.append(self._writer.await_acceptance())
        wait_until(self._has_switched, "the sentinels' agreement", PATIENCE)
        # From the start: a moment as a master, and it would take writes that are lost.
        old.directives = [*DIRECTIVES, "--replicaof", f"127.0.0.1 {self._master.port}"]
        old.launch()
        old.await_ready(PATIENCE)
        time.sleep(2 * FAILOVER_TIMEOUT / 1000)

    def _has_switched(self) -> bool:
        ports: set[object] = set()
        for sentinel in self._sentinels:
            with sentinel.connect() as client:
                reply = client("SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)
            assert isinstance(reply, list), reply
            ports.add(reply[1])
        if len(ports) != 1 or ports == {b"%d" % self._master.port}:
            return False
        (port,) = ports
        self._master = next(each for each in self._servers if b"%d" % each.port == port)
        return True

    def count_lost(self) -> None:
        self.lost += self._writer.count_lost(self._master)

    def await_calm(self) -> None:
        """Until each sentinel knows all servers and sentinels, and all are well."""
        wait_until(lambda: all(map(self._is_calm, self._sentinels)), "calm", PATIENCE)

    @staticmethod
    def _is_calm(sentinel: Sentinel) -> bool:
        with sentinel.connect() as client:
            master = _fields(client("SENTINEL", "MASTER", NAME))
            replicas = client("SENTINEL", "REPLICAS", NAME)
        assert isinstance(replicas, list)
        return (
            master.get(b"flags") == b"master"
            and master.get(b"num-other-sentinels") == b"%d" % (SENTINELS - 1)
            and len(replicas) == 2
            and all(
                row.get(b"flags") == b"slave" and row.get(b"master-link-status") == b"ok"
                for row in map(_fields, replicas)
            )
        )


def _fields(reply: object) -> dict[object, object]:
    if not isinstance(reply, list):
        return {}
    return dict(zip(reply[::2], reply[1::2], strict=True))


def _guard_masters(servers: Commands, sentinels: Commands, failovers: int) -> list[Duel]:
    """Both kinds take turns."""
    with ExitStack() as stack:
        pair = [
            Guarded(stack, server, sentinel, name)
            for server, sentinel, name in zip(
                servers, sentinels, ("bench-ours", "bench"), strict=True
            )
        ]
        for _ in range(failovers):
            for each in pair:
                each.kill_master()
            for each in pair:
                each.await_calm()
                each.count_lost()
    what = f"kill -9 of a master to the first write, down-after {DOWN_AFTER} ms"
    ours, theirs = pair
    return [
        *_compare_times(what, ours.taken, theirs.taken),
        Duel(f"acknowledged writes lost in {failovers} failovers", "", ours.lost, theirs.lost),
    ]


def _compare_times(what: str, ours: list[float], theirs: list[float]) -> list[Duel]:
    times = len(ours)
    middle = statistics.median(ours), statistics.median(theirs)
    return [
        Duel(f"{what}, median of {times}", "s", *middle, 1.0),
        Duel(f"{what}, slowest of {times}", "s", max(ours), max(theirs), 1.0),
    ]


# --- clusters -------------------------------------------------------------------------------------


THIRD: Final = SLOTS // 3
SHARES: Final = (THIRD, THIRD, SLOTS - 2 * THIRD, 0, 0, 0)


class Shard:
    """A master of the cluster and its replica, with a key that is theirs."""

    def __init__(self, at: int, master: Member, replica: Member) -> None:
        self.master = master
        self.replica = replica
        self.key = next(b"%d" % n for n in range(SLOTS) if key_slot(b"%d" % n) // THIRD == at)
        replica.follow(master)

    def revive(self, others: Sequence[Member]) -> None:
        """Start what was killed, and wait until it is a replica that all others see."""
        self.master, self.replica = self.replica, self.master
        self.replica.launch()
        self.replica.await_ready(PATIENCE)
        wait_until(lambda: self.replica.is_synchronized, "a replica", PATIENCE)
        name = self.replica.id.encode()
        wait_until(lambda: all(_is_well(each, name) for each in others), "a whole", PATIENCE)


def _is_well(member: Member, name: bytes) -> bool:
    text = member.do("CLUSTER", "NODES")
    assert isinstance(text, bytes)
    return any(
        b"slave" in (flags := words[2].split(b","))
        and b"fail" not in flags
        and words[7] == b"connected"
        for words in map(bytes.split, text.splitlines())
        if words[0] == name
    )


def _start_cluster(
    stack: ExitStack, command: list[str], name: str, *directives: str
) -> tuple[list[Member], list[Shard]]:
    members = stack.enter_context(running(command, SHARES, *directives, name=name))
    return members, [Shard(at, members[at], members[at + 3]) for at in range(3)]


def _guard_clusters(servers: Commands, sentinel: list[str], failovers: int) -> list[Duel]:
    """A cluster of ours under sentinels, and one of Redis's that elects by itself."""
    timeout = ("--cluster-node-timeout", str(DOWN_AFTER))
    taken: tuple[list[float], list[float]] = [], []
    lost = [0, 0]
    with ExitStack() as stack:
        guarded = ("--cluster-replica-no-failover", "yes")
        ours = _start_cluster(stack, servers[0], "bench-ours", *timeout, *guarded)
        theirs = _start_cluster(stack, servers[1], "bench", *timeout)
        watchers = _start_sentinels(
            stack,
            sentinel,
            f"monitor-cluster {NAME} 127.0.0.1 {ours[0][0].port} {QUORUM}",
            "bench-sentinel",
        )
        _await_watchers(watchers)
        for at in range(failovers):
            for kind, (members, shards) in enumerate((ours, theirs)):
                shard = shards[at % 3]
                with Writer([shard.master, shard.replica], shard.key) as writer:
                    time.sleep(0.5)
                    writer.kill(shard.master)
                    taken[kind].append(writer.await_acceptance())
                    shard.revive(members)
                    lost[kind] += writer.count_lost(shard.master)
            _await_watchers(watchers)
    what = f"a master of a cluster, {DOWN_AFTER} ms: kill -9 to the first write"
    return [
        *_compare_times(what, *taken),
        Duel(
            f"acknowledged writes lost in {failovers} failovers of the cluster",
            "",
            lost[0],
            lost[1],
        ),
    ]


def _await_watchers(sentinels: Sequence[Sentinel]) -> None:
    """Until each sees three shards that are well, each with a replica and the other sentinels."""

    def is_calm(sentinel: Sentinel) -> bool:
        with sentinel.connect() as client:
            masters = client("SENTINEL", "MASTERS")
        assert isinstance(masters, list), masters
        rows = [_fields(row) for row in masters]
        return len(rows) == 3 and all(
            row.get(b"flags") == b"master"
            and row.get(b"num-slaves") == b"1"
            and row.get(b"num-other-sentinels") == b"%d" % (SENTINELS - 1)
            for row in rows
        )

    wait_until(lambda: all(map(is_calm, sentinels)), "sentinels that know the cluster", PATIENCE)


def _lose_majorities(servers: Commands, sentinel: list[str], times: int) -> list[Duel]:
    """Two of three masters are killed at once; Redis Cluster is not asked: it stays down."""
    taken: list[float] = []
    directives = ("--cluster-node-timeout", str(DOWN_AFTER))
    for _ in range(times):
        with ExitStack() as stack:
            members, shards = _start_cluster(
                stack, servers[0], "bench-ours", *directives, "--cluster-replica-no-failover", "yes"
            )
            watchers = _start_sentinels(
                stack,
                sentinel,
                f"monitor-cluster {NAME} 127.0.0.1 {members[0].port} {QUORUM}",
                "bench-sentinel",
            )
            _await_watchers(watchers)
            for shard in shards[:2]:
                shard.master.kill()
            started = time.perf_counter()
            for shard in shards:
                survivor = shard.master if shard is shards[2] else shard.replica
                with survivor.connect() as client:
                    while isinstance(client("SET", shard.key, "written"), Error):
                        if time.perf_counter() - started > PATIENCE:
                            raise RuntimeError("the cluster stays down")
                        time.sleep(POLL)
            taken.append(time.perf_counter() - started)
    return [
        Duel(
            f"two of three masters of a cluster killed at once: until all slots take writes, "
            f"median of {times}",
            "s",
            statistics.median(taken),
            float("inf"),
        )
    ]
