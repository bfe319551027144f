"""The cluster's file (nodes.conf): locked, read by either kind of server, refused when damaged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import require_oracle
from tests.formations import OURS, REAL, Cluster, ClusterNode
from tests.replicas import wait_until
from tests.servers import node_command
from tests.wire import OK


@pytest.fixture
def mixed() -> Iterator[Cluster]:
    with Cluster([OURS, REAL, OURS, REAL], require_oracle()) as cluster:
        yield cluster.form(2, {2: 1, 3: 0})


def config_of(node: ClusterNode) -> Path:
    return node.folder / "nodes.conf"


def end(node: ClusterNode) -> None:
    """As a crash would."""
    node.kill()


def test_either_kind_starts_from_the_file_of_the_other(mixed: Cluster) -> None:
    """A real node goes on where one of ours was, and the other way round, as the same node."""
    real = require_oracle()
    facts = sorted(row.fact for row in mixed[0].rows().values())
    names = [node.id for node in mixed.nodes]
    ours, theirs = mixed[2], mixed[3]
    end(ours)
    end(theirs)
    # What 7.2 adds to an address is unknown to 7.0.
    lines = config_of(ours).read_text().splitlines()
    plain = [" ".join(cut_address(word) for word in line.split()) for line in lines]
    config_of(ours).write_text("\n".join(plain) + "\n")
    ours.command, theirs.command = real, node_command()
    for node in (ours, theirs):
        node.launch()
    for node in (ours, theirs):
        node.await_ready()
    mixed.await_agreement()
    assert [node.id for node in mixed.nodes] == names
    assert sorted(row.fact for row in mixed[0].rows().values()) == facts
    for node in (ours, theirs):
        mixed.await_synchronized(node)


def cut_address(word: str) -> str:
    """``ip:port@bus,host`` of a word that has more."""
    return ",".join(word.split(",")[:1]) if "@" in word else word


@pytest.fixture
def alone() -> Iterator[ClusterNode]:
    with Cluster([OURS]) as cluster:
        yield cluster[0]


def test_a_second_node_may_not_use_it(alone: ClusterNode) -> None:
    other = ClusterNode(
        OURS, node_command(), "--cluster-config-file", str(config_of(alone)), name="second"
    )
    try:
        other.launch()
        assert other.await_end() == 1
        assert "is already used by a different Redis Cluster node" in other.log
    finally:
        other.stop()
    assert alone.do("CLUSTER", "MYID")


@pytest.mark.parametrize("damage", ["half", "words", "bytes", "empty"])
def test_a_damaged_one_ends_the_start(alone: ClusterNode, damage: str) -> None:
    alone.do("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    name = alone.id
    end(alone)
    content = config_of(alone).read_bytes()
    damaged = {
        "half": content[: len(content) // 4],
        "words": content.replace(b"myself", b"nonsense"),
        "bytes": b"\xff\x00" + content,
        "empty": b"",
    }[damage]
    config_of(alone).write_bytes(damaged)
    alone.launch()
    if damage == "empty":
        alone.await_ready()  # a new node, as with Redis
        assert alone.id != name
        return
    assert alone.await_end() == 1
    assert "orrupt" in alone.log
    assert config_of(alone).read_bytes() == damaged
    config_of(alone).write_bytes(content)
    alone.launch()
    alone.await_ready()
    assert alone.id == name
    assert alone.myself().slots == ("0-16383",)


def test_what_is_acknowledged_is_on_disk(alone: ClusterNode) -> None:
    """Killed right after the answer, a node knows what it has been told; and who it is."""
    shard = alone.do("CLUSTER", "MYSHARDID")
    assert isinstance(shard, bytes)
    assert len(bytes.fromhex(shard.decode())) == 20
    for turn in range(3):
        with alone.connect() as client:
            assert client("CLUSTER", "ADDSLOTS", turn) == OK
            alone.kill()
        alone.launch()
        alone.await_ready()
        assert alone.myself().slots == (f"0-{turn}" if turn else "0",)
        assert alone.do("CLUSTER", "MYSHARDID") == shard


def test_keys_found_at_the_start(alone: ClusterNode) -> None:
    """Keys of slots that nobody has: the slots become the node's."""
    alone.do("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    wait_until(lambda: alone.is_up, "the cluster's being up")
    assert alone.do("SET", "foo", "bar") == OK
    assert alone.do("SAVE") == OK
    end(alone)
    config_of(alone).unlink()
    alone.launch()
    alone.await_ready()
    assert "I have keys for unassigned slot 12182. Taking ownership of it." in alone.log
    assert alone.myself().slots == ("12182",)


def test_reset(alone: ClusterNode) -> None:
    name = alone.id
    alone.do("CLUSTER", "SET-CONFIG-EPOCH", 7)
    alone.do("CLUSTER", "ADDSLOTS", 1)
    alone.do("CLUSTER", "RESET")
    assert alone.id == name
    assert alone.myself().slots == ()
    assert alone.myself().epoch == 7
    alone.do("CLUSTER", "RESET", "HARD")
    assert alone.id != name
    assert alone.myself().epoch == 0
    assert alone.fields()["cluster_current_epoch"] == "0"
