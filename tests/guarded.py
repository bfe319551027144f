"""A cluster of processes that sentinels guard, for tests."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from tests.formations import LIMIT, OURS, REAL, SLOTS, Cluster, ClusterNode
from tests.replicas import wait_until
from tests.sentinels import Sentinel
from tests.servers import Server, sentinel_command
from tests.wire import Closed, Error, Reply

NAME: Final = "shop"
# Long enough for a machine that does other things as well, and for nodes that are not compiled.
DOWN_AFTER: Final = {REAL: 1000, OURS: 2500}
# Gossip decides nothing here, but the nodes must find each other again soon.
DIRECTIVES: Final = ("--cluster-node-timeout", "1500", "--cluster-replica-no-failover", "yes")


def fields_of(reply: Reply) -> dict[str, Any]:
    """A flat list of names and values; texts as str, all the way down."""
    assert isinstance(reply, list), reply
    values = [plain(value) for value in reply]
    return dict(zip(values[::2], values[1::2], strict=True))


def plain(value: Reply) -> Any:
    """A reply with texts as str; lists that begin with a name are made dictionaries."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, list):
        items = [plain(item) for item in value]
        if len(items) % 2 == 0 and items and all(isinstance(item, str) for item in items[::2]):
            return dict(zip(items[::2], items[1::2], strict=True))
        return items
    return value


class Guarded:
    """A formed cluster and its sentinels."""

    def __init__(self, cluster: Cluster, sentinels: Sequence[Sentinel]) -> None:
        self.cluster = cluster
        self.sentinels = list(sentinels)

    def ask(self, sentinel: Server, *words: str | int) -> Reply:
        """One request to a sentinel, which must not be answered by an error."""
        with sentinel.connect() as client:
            reply = client(*words)
        assert not isinstance(reply, Error), (words, reply)
        return reply

    def describe(self, sentinel: Server) -> dict[str, Any]:
        """SENTINEL CLUSTER."""
        return fields_of(self.ask(sentinel, "SENTINEL", "CLUSTER", NAME))

    def shards(self, sentinel: Server) -> dict[str, Any]:
        """What a sentinel says of the shards, by name."""
        return {shard["name"]: shard for shard in self.describe(sentinel)["shards"]}

    def leaders(self, sentinel: Server) -> dict[str, int]:
        """The ports of the masters, by the shards' names."""
        return {name: int(shard["master"]["port"]) for name, shard in self.shards(sentinel).items()}

    def wait(self, condition: Callable[[], object], what: str, limit: float = LIMIT) -> None:
        """Until it is so; the logs are shown if it does not come about."""

        def holds() -> bool:
            with contextlib.suppress(OSError, Closed, KeyError, StopIteration):
                return bool(condition())
            return False

        try:
            wait_until(holds, what, limit)
        except TimeoutError as error:
            for sentinel in self.sentinels:
                error.add_note(f"--- {sentinel.name}: {sentinel.log[-5000:]}")
            for node in self.cluster.alive:
                error.add_note(f"--- {node.name}: {node.ask('CLUSTER', 'NODES')!r}")
            raise

    def is_whole(self) -> bool:
        """Whether the nodes agree, all slots are served, and all sentinels say the same of it."""
        cluster = self.cluster
        if not cluster.agree():
            return False
        masters = {node.port: node for node in cluster.alive if node.myself().slots}
        rows = [node.myself() for node in masters.values()]
        if sum(count_slots(row.slots) for row in rows) != SLOTS:
            return False
        for sentinel in self.sentinels:
            shards = self.shards(sentinel)
            if {int(shard["master"]["port"]) for shard in shards.values()} != masters.keys():
                return False
            for shard in shards.values():
                if "down" in shard["master"]["flags"]:
                    return False
                if int(shard["num-other-sentinels"]) != len(self.sentinels) - 1:
                    return False
        return len({tuple(sorted(self.leaders(s).items())) for s in self.sentinels}) == 1

    def await_whole(self) -> None:
        """Until it is so."""
        self.wait(self.is_whole, "a whole cluster")

    def shard_of(self, node: ClusterNode) -> str:
        """The name of the shard that a node is master of."""
        return next(
            name for name, port in self.leaders(self.sentinels[0]).items() if port == node.port
        )

    def replica_of(self, node: ClusterNode) -> ClusterNode:
        """A replica that is alive."""
        me = node.id
        return next(other for other in self.cluster.alive if other.myself().master == me)


def count_slots(words: Sequence[str]) -> int:
    """How many slots CLUSTER NODES names."""
    total = 0
    for word in words:
        first, _, last = word.partition("-")
        total += int(last or first) - int(first) + 1
    return total


def guard(entry: ClusterNode, quorum: int, number: int) -> Sentinel:
    """A sentinel that is yet to be started."""
    statements = [
        f"monitor-cluster {NAME} 127.0.0.1 {entry.port} {quorum}",
        f"down-after-milliseconds {NAME} {DOWN_AFTER[entry.kind]}",
        f"failover-timeout {NAME} 5000",
    ]
    return Sentinel(sentinel_command(), statements, name=f"sentinel-{number}")


@contextmanager
def guarded_cluster(
    kinds: Sequence[str],
    masters: int,
    replicas: dict[int, int],
    real: list[str] | None = None,
    sentinels: int = 3,
) -> Iterator[Guarded]:
    """Form a cluster, have it guarded, and wait until all is well."""
    with Cluster(kinds, real, DIRECTIVES) as cluster, contextlib.ExitStack() as stack:
        cluster.form(masters, replicas)
        guards = [guard(cluster[0], sentinels // 2 + 1, n) for n in range(sentinels)]
        for sentinel in guards:
            stack.callback(sentinel.stop)
            sentinel.launch()
        for sentinel in guards:
            sentinel.await_ready()
        guarded = Guarded(cluster, guards)
        guarded.await_whole()
        yield guarded
