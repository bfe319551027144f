"""Who takes a master's place, among nodes of both kinds: nothing that was acknowledged is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from tests.conftest import require_oracle
from tests.formations import OURS, REAL, Cluster, ClusterNode
from tests.wire import OK, Client, Closed, Error, Reply

KEY = "foo"  # slot 12182
TIMEOUT = 1000
# When the masters have last been replaced.
_voted: dict[int, float] = {}


class Writer:
    """Counts a key up, wherever its master is; records how far it was told to have come."""

    def __init__(self, cluster: Cluster) -> None:
        self._nodes = {node.port: node for node in cluster.nodes}
        self._port = cluster.nodes[0].port
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._ended = threading.Event()
        self.acknowledged = 0
        self.longest = 0.0  # seconds without an acknowledgement
        self.wrong: list[str] = []

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(30)

    def _write(self) -> None:
        client: Client | None = None
        last = time.monotonic()
        unsure = False  # a request was sent whose answer has not come
        while not self._ended.is_set():
            try:
                if client is None:
                    client = self._nodes[self._port].connect(timeout=10)
                reply = client("INCR", KEY)
            except (OSError, Closed, TimeoutError):
                unsure = True
                client = None
                ports = list(self._nodes)
                self._port = ports[(ports.index(self._port) + 1) % len(ports)]
                time.sleep(0.02)
                continue
            if isinstance(reply, Error):
                if reply.text.startswith(b"MOVED"):
                    client.close()
                    client = None
                    self._port = int(reply.text.rpartition(b":")[2])
                else:
                    time.sleep(0.02)
                continue
            assert isinstance(reply, int)
            if reply != self.acknowledged + 1 and not (unsure and reply > self.acknowledged):
                self.wrong.append(f"{reply} after {self.acknowledged}")
            unsure = False
            now = time.monotonic()
            self.longest = max(self.longest, now - last)
            last = now
            self.acknowledged = reply


@pytest.fixture(scope="module")
def pairs() -> Iterator[Cluster]:
    """Three masters; a real node has two replicas of ours, one of ours has a real one."""
    kinds = [REAL, OURS, REAL, OURS, OURS, REAL]
    directives = ["--cluster-node-timeout", str(TIMEOUT)]
    with Cluster(kinds, require_oracle(), directives) as cluster:
        yield cluster.form(3, {3: 2, 4: 2, 5: 1})


@pytest.mark.parametrize("indices", [(2, 3), (3, 4)], ids=["ours-and-real", "ours-and-ours"])
def test_hand_over_back_and_forth(pairs: Cluster, indices: tuple[int, int]) -> None:
    """Ten times, under a writer that is told of each write that it is there."""
    nodes = [pairs[index] for index in indices]
    if not nodes[0].is_master:
        hand_over(pairs, nodes[0])
    pairs.call(KEY, "DEL", KEY)
    with Writer(pairs) as writer:
        for turn in range(10):
            before = writer.acknowledged
            hand_over(pairs, nodes[(turn + 1) % 2])
            pairs.wait(lambda before=before: writer.acknowledged > before + 5, "further writes")
    assert not writer.wrong
    assert pairs.call(KEY, "GET", KEY) == b"%d" % writer.acknowledged
    pairs.await_agreement()
    for node in nodes:
        assert "Manual failover timed out" not in node.log
    if all(node.kind == OURS for node in nodes):
        # Of which redis-server 7.0 knows nothing yet.
        first, second = nodes
        pairs.wait(lambda: shard_of(first) == shard_of(second), "one name of the shard")


def shard_of(node: ClusterNode) -> Reply:
    """The name of its shard."""
    return node.do("CLUSTER", "MYSHARDID")


def hand_over(cluster: Cluster, node: ClusterNode) -> None:
    """CLUSTER FAILOVER, and wait until it has come about."""
    # Who votes has to know whose replica it is, and votes about a master once in two time-outs.
    cluster.await_agreement()
    master = next(other for other in cluster.nodes if other.id == node.myself().master)
    voted = _voted.get(master.port, 0.0)
    cluster.wait(lambda: time.monotonic() > voted + 2.1 * TIMEOUT / 1000, "the right to vote")
    assert node.ask("CLUSTER", "FAILOVER") == OK
    cluster.wait(lambda: node.is_master, f"the promotion of {node.name}", 15)
    _voted[master.port] = time.monotonic()
    cluster.await_synchronized(master)


@pytest.mark.parametrize("kind", ["FORCE", "TAKEOVER"])
def test_failover_without_the_master(pairs: Cluster, kind: str) -> None:
    """A replica of either kind takes over without asking its master, or anybody."""
    for _ in range(2):
        node = next(node for node in (pairs[1], pairs[5]) if not node.is_master)
        pairs.await_agreement()
        assert node.ask("CLUSTER", "FAILOVER", kind) == OK
        pairs.wait(lambda node=node: node.is_master, "the promotion")
        pairs.await_agreement()
        pairs.await_synchronized(next(node for node in (pairs[1], pairs[5]) if not node.is_master))


def test_killed_masters_are_replaced(pairs: Cluster) -> None:
    """A replica of the other kind takes over; the old master comes back as its replica."""
    pairs.await_agreement()
    for turn in range(2):
        old = next(node for node in (pairs[1], pairs[5]) if node.is_master)
        new = next(node for node in (pairs[1], pairs[5]) if node is not old)
        with old.connect() as client:
            key = next(key for key in map(str, range(1000)) if client("SET", key, turn) == OK)
            assert client("WAIT", 1, 10000) == 1
        old.kill()
        pairs.wait(lambda new=new: new.is_master, "the takeover")
        pairs.wait(lambda new=new: new.is_up, "the cluster's being up")
        assert new.ask("GET", key) == b"%d" % turn
        assert new.ask("SET", key, "new") == OK
        old.launch()
        old.await_ready()
        pairs.wait(lambda old=old: not old.is_master, "the old master's giving in")
        pairs.await_synchronized(old)
        pairs.await_agreement()
        with old.connect() as client:
            assert client("READONLY") == OK
            pairs.wait(lambda client=client, key=key: client("GET", key) == b"new", "the new data")
