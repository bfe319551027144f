"""Which requests a node of a cluster executes, and what it answers to the others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.cluster import Cluster
from cluster.routing import EACH, FIRST, NO_KEYS, PAIRS, SPECIFIED, find_kind
from cluster.slots import key_slot
from cluster.state import FAIL, MASTER, MIGRATE_TO, PFAIL, Node
from node.component import find_component
from tests.inprocess import LocalClient, LocalServer
from tests.wire import NULL_BULK, OK, QUEUED, Error, Reply

OTHER = "b" * 40
CROSS = Error(b"CROSSSLOT Keys in request don't hash to the same slot")
DOWN = Error(b"CLUSTERDOWN The cluster is down")
AGAIN = Error(b"TRYAGAIN Multiple keys request during rehashing of slot")


class ClusterNode(LocalServer):
    """A master with the slots below 8192, which knows another one with the rest, or without."""

    def __init__(self, folder: Path, *directives: str) -> None:
        path = str(folder / "nodes.conf")
        super().__init__("--cluster-enabled", "yes", "--cluster-config-file", path, *directives)
        self.cluster = find_component(self.engine.components, Cluster)
        state = self.state = self.cluster.state
        other = self.other = Node(OTHER, MASTER, self.cluster.now())
        other.ip, other.port, other.bus_port, other.hostname = (
            "10.0.0.2",
            7002,
            17002,
            "two.example",
        )
        state.add(other)
        for slot in range(16384):
            state.assign(slot, state.myself if slot < 8192 else other)
        state.up = True

    def close(self) -> None:
        self.cluster.file.close()
        super().close()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[ClusterNode]:
    local = ClusterNode(tmp_path)
    yield local
    local.close()


@pytest.fixture
def client(node: ClusterNode) -> LocalClient:
    return node.connect()


def key(low: bool, tag: int = 0) -> str:
    """A key in a slot below 8192, or not."""
    names = (f"key{i}" for i in range(1000))
    return [name for name in names if (key_slot(name.encode()) < 8192) == low][tag]


MINE, MINE_TOO, THEIRS = key(True), key(True, 1), key(False)


def moved(name: str, host: str = "10.0.0.2") -> Error:
    return Error(b"MOVED %d %b:7002" % (key_slot(name.encode()), host.encode()))


def test_own_keys_and_others(client: LocalClient) -> None:
    assert client("SET", MINE, "1") == OK
    assert client("GET", THEIRS) == moved(THEIRS)
    assert client("MGET", MINE, MINE_TOO) == CROSS
    assert client("MGET", f"{{{MINE}}}1", f"{{{MINE}}}2", MINE) == [NULL_BULK, NULL_BULK, b"1"]
    assert client("PING") != CROSS
    assert client("SORT", MINE, "STORE", THEIRS) == CROSS


@pytest.mark.parametrize(
    ("kind", "host"), [("ip", "10.0.0.2"), ("hostname", "two.example"), ("unknown-endpoint", "")]
)
def test_endpoints(client: LocalClient, kind: str, host: str) -> None:
    assert client("CONFIG", "SET", "cluster-preferred-endpoint-type", kind) == OK
    assert client("GET", THEIRS) == moved(THEIRS, host)


def test_transactions(client: LocalClient) -> None:
    client("MULTI")
    assert client("SET", THEIRS, "1") == moved(THEIRS)
    reply = client("EXEC")
    assert isinstance(reply, Error)
    assert reply.text.startswith(b"EXECABORT")
    client("MULTI")
    assert client("SET", MINE, "1") == QUEUED
    assert client("SET", MINE_TOO, "1") == QUEUED
    assert client("EXEC") == CROSS
    assert client("EXEC") == Error(b"ERR EXEC without MULTI")


def test_a_slot_on_its_way_out(node: ClusterNode, client: LocalClient) -> None:
    tagged = [f"{{{MINE}}}{i}" for i in range(3)]
    client("SET", tagged[0], "here")
    slot = key_slot(MINE.encode())
    assert client("CLUSTER", "SETSLOT", slot, "MIGRATING", OTHER) == OK
    assert client("GET", tagged[0]) == b"here"
    assert client("GET", tagged[1]) == Error(b"ASK %d 10.0.0.2:7002" % slot)
    assert client("MGET", tagged[0], tagged[1]) == AGAIN
    assert client("MGET", tagged[1], tagged[2]) == Error(b"ASK %d 10.0.0.2:7002" % slot)
    refusal = client("CLUSTER", "SETSLOT", slot, "NODE", OTHER)
    assert isinstance(refusal, Error)
    assert b"while I still hold keys" in refusal.text
    client("DEL", tagged[0])
    assert client("CLUSTER", "SETSLOT", slot, "NODE", OTHER) == OK
    assert not node.state.migrating
    assert client("GET", tagged[0]) == moved(MINE)


def test_a_slot_on_its_way_in(node: ClusterNode, client: LocalClient) -> None:
    slot = key_slot(THEIRS.encode())
    first, second = f"{{{THEIRS}}}1", f"{{{THEIRS}}}2"
    assert client("CLUSTER", "SETSLOT", slot, "IMPORTING", OTHER) == OK
    assert client("SET", first, "1") == moved(THEIRS)
    client("ASKING")
    assert client("SET", first, "1") == OK
    # For one command only.
    assert client("GET", first) == moved(THEIRS)
    client("ASKING")
    assert client("MGET", first, second) == AGAIN
    # And for one transaction.
    client("ASKING")
    client("MULTI")
    assert client("SET", first, "1") == QUEUED
    assert client("EXEC") == [OK]
    assert client("GET", first) == moved(THEIRS)
    assert client("CLUSTER", "SETSLOT", slot, "NODE", node.state.myself.name) == OK
    assert client("GET", first) == b"1"
    assert node.state.myself.config_epoch == node.state.current_epoch > 0


def test_a_cluster_that_is_down(node: ClusterNode, client: LocalClient) -> None:
    node.state.unassign(8191)
    node.state.up = False
    lost = next(f"{i}" for i in range(100_000) if key_slot(f"{i}".encode()) == 8191)
    assert client("GET", lost) == Error(b"CLUSTERDOWN Hash slot not served")
    assert client("GET", MINE) == DOWN
    assert client("PING") != DOWN
    client("CONFIG", "SET", "cluster-allow-reads-when-down", "yes")
    assert client("GET", MINE) == NULL_BULK
    assert client("SET", MINE, "1") == Error(
        b"CLUSTERDOWN The cluster is down and only accepts read commands"
    )
    assert client("SPUBLISH", MINE, "message") == 0
    client("CONFIG", "SET", "cluster-allow-pubsubshard-when-down", "no")
    assert client("SPUBLISH", MINE, "message") == DOWN


def test_replicas(node: ClusterNode, client: LocalClient) -> None:
    state = node.state
    state.unassign_all(state.myself)
    for slot in range(8192):
        state.assign(slot, node.other)
    state.set_master(state.myself, node.other)
    assert client("GET", MINE) == moved(MINE)
    assert client("READONLY") == OK
    assert client("GET", MINE) == NULL_BULK
    assert client("SET", MINE, "1") == moved(MINE)
    client("MULTI")
    assert client("GET", MINE) == QUEUED
    assert client("EXEC") == [NULL_BULK]
    assert client("READWRITE") == OK
    assert client("GET", MINE) == moved(MINE)


def test_clients_that_wait_are_sent_after_their_slot(
    node: ClusterNode, client: LocalClient
) -> None:
    waiting = node.connect()
    waiting.send("BLPOP", MINE, 0)
    slot = key_slot(MINE.encode())
    assert client("CLUSTER", "SETSLOT", slot, "NODE", OTHER) == OK
    node.cluster.redirect_waiting()
    assert waiting.read() == moved(MINE)


@pytest.mark.parametrize("reads", ["yes", "no"])
def test_nobody_waits_in_a_cluster_that_is_down(
    node: ClusterNode, client: LocalClient, reads: str
) -> None:
    """Whatever may be read meanwhile: what is waited for is written by somebody else."""
    client("CONFIG", "SET", "cluster-allow-reads-when-down", reads)
    waiting = node.connect()
    waiting.send("BLPOP", MINE, 0)
    node.state.up = False
    node.state.move(1 << key_slot(MINE.encode()), node.other)
    node.cluster.redirect_waiting()
    assert waiting.read() == DOWN


def test_shard_channels_end_with_their_slot(node: ClusterNode, client: LocalClient) -> None:
    listener = node.connect()
    listener.send("SSUBSCRIBE", MINE)
    assert listener.read() == [b"ssubscribe", MINE.encode(), 1]
    assert client("SSUBSCRIBE", THEIRS) == moved(THEIRS)
    assert client("SPUBLISH", MINE, "hello") == 1
    assert listener.read() == [b"smessage", MINE.encode(), b"hello"]
    client("CLUSTER", "SETSLOT", key_slot(MINE.encode()), "NODE", OTHER)
    node.cluster.settle()
    assert listener.read() == [b"sunsubscribe", MINE.encode(), 0]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("SELECT 1", b"ERR SELECT is not allowed in cluster mode"),
        (f"MOVE {MINE} 1", b"ERR MOVE is not allowed in cluster mode"),
        ("SWAPDB 0 1", b"ERR SWAPDB is not allowed in cluster mode"),
        ("REPLICAOF NO ONE", b"ERR REPLICAOF not allowed in cluster mode."),
        (f"SORT {MINE} BY weight_*", b"ERR BY option of SORT denied in Cluster mode."),
        (f"SORT {MINE} GET data_*", b"ERR GET option of SORT denied in Cluster mode."),
        (
            f"COPY {MINE} {{{MINE}}}2 DB 1",
            b"ERR Copying to another database is not allowed in cluster mode",
        ),
    ],
)
def test_what_a_cluster_does_not_allow(client: LocalClient, words: str, text: bytes) -> None:
    assert client(*words.split()) == Error(text)


def test_what_is_allowed(client: LocalClient) -> None:
    client("RPUSH", MINE, "2", "1")
    assert client("SELECT", 0) == OK
    assert client("SORT", MINE, "BY", "nosort") == [b"2", b"1"]
    assert client("COPY", MINE, f"{{{MINE}}}2", "DB", "0") == 1


def test_no_cluster() -> None:
    with LocalServer() as local:
        disabled: Reply = Error(b"ERR This instance has cluster support disabled")
        client = local.connect()
        for words in ("CLUSTER INFO", "CLUSTER NODES", "CLUSTER HELP", "ASKING", "READONLY"):
            assert client(*words.split()) == disabled
        assert local.info("cluster")["cluster_enabled"] == "0"


def test_failing_owners_and_health(node: ClusterNode) -> None:
    machine = node.cluster.machine
    node.other.flags |= FAIL | MIGRATE_TO
    machine.now = node.cluster.now() + 10_000
    machine.failures.judge()
    machine.failures.judge()
    assert not node.state.up


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("get", FIRST),
        ("set", FIRST),  # although a finder says whether it reads
        ("del", EACH),
        ("mget", EACH),
        ("mset", PAIRS),
        ("blpop", SPECIFIED),
        ("sort", SPECIFIED),
        ("ping", NO_KEYS),
    ],
)
def test_what_is_usual_is_decided_without_looking_up_positions(
    node: ClusterNode, name: str, kind: int
) -> None:
    assert find_kind(node.engine.commands[name.encode()]) == kind


@pytest.mark.parametrize(
    ("flags", "ok", "suspect", "failed"),
    [
        (0, 16384, 0, 0),
        (PFAIL, 8192, 8192, 0),
        (FAIL, 8192, 0, 8192),
        (FAIL | PFAIL, 8192, 0, 8192),
    ],
)
def test_cluster_info_counts_the_slots_of_nodes_that_fail(
    node: ClusterNode, client: LocalClient, flags: int, ok: int, suspect: int, failed: int
) -> None:
    node.other.flags |= flags
    text = client("CLUSTER", "INFO")
    assert isinstance(text, bytes)
    fields = dict(line.split(":") for line in text.decode().splitlines())
    assert fields["cluster_slots_assigned"] == "16384"
    assert fields["cluster_slots_ok"] == str(ok)
    assert fields["cluster_slots_pfail"] == str(suspect)
    assert fields["cluster_slots_fail"] == str(failed)
