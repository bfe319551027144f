"""What is on disk before a client is answered, and before other nodes hear of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.bus import BusLink
from cluster.cluster import Cluster
from cluster.state import MASTER, Node
from node.component import find_component
from node.files import Files
from tests.inprocess import LocalServer
from tests.wire import OK

OTHER = "b" * 40


class CountingFiles(Files):
    """Counts what waits for the disk."""

    __slots__ = ("flushes",)

    def __init__(self) -> None:
        self.flushes = 0

    def fsync(self, descriptor: int) -> None:
        self.flushes += 1
        super().fsync(descriptor)


class ClusterNode(LocalServer):
    """A master with all slots that knows another one."""

    def __init__(self, folder: Path) -> None:
        self.counts = CountingFiles()
        self.path = folder / "nodes.conf"
        super().__init__(
            *("--cluster-enabled", "yes", "--cluster-config-file", str(self.path)),
            files=self.counts,
        )
        self.cluster = find_component(self.engine.components, Cluster)
        state = self.cluster.state
        state.add(Node(OTHER, MASTER, self.cluster.now()))
        for slot in range(16384):
            state.assign(slot, state.myself)

    def call(self, *words: str | int) -> int:
        """A request that is answered by OK; how often the disk was waited for before that."""
        before = self.counts.flushes
        assert self.connect()(*words) == OK
        for barrier in self.server.hub.barriers:
            barrier()
        return self.counts.flushes - before

    def close(self) -> None:
        self.cluster.file.close()
        super().close()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[ClusterNode]:
    local = ClusterNode(tmp_path)
    yield local
    local.close()


def test_a_slot_is_in_the_file_before_the_answer_and_on_disk_before_any_packet(
    node: ClusterNode,
) -> None:
    assert node.call("CLUSTER", "SETSLOT", 5, "MIGRATING", OTHER) == 0
    assert f"[5->-{OTHER}]" in Path(f"{node.path}.notes").read_text()
    assert node.call("CLUSTER", "DELSLOTS", 7) == 0
    assert " 0-6 8-16383 " in Path(f"{node.path}.notes").read_text()
    bus = node.cluster.bus
    link = BusLink(None, True, 0)
    bus.links[link] = None
    bus.send(link, b"packet")
    assert not link.queue
    node.cluster.saver.save_now()
    assert list(link.queue) == [b"packet"]
    assert f"[5->-{OTHER}]" in node.path.read_text()


def test_a_slot_that_is_taken_over_is_on_disk_where_it_brings_an_epoch(node: ClusterNode) -> None:
    state = node.cluster.state
    other = state.find(OTHER)
    assert other is not None
    for slot in (5, 6):
        state.move(1 << slot, other)
        assert node.call("CLUSTER", "SETSLOT", slot, "IMPORTING", OTHER) == 0
    assert node.call("CLUSTER", "SETSLOT", 5, "NODE", state.myself.name) > 0
    assert node.call("CLUSTER", "SETSLOT", 6, "NODE", state.myself.name) == 0


def test_everything_else_is_on_disk_before_the_answer(node: ClusterNode) -> None:
    assert node.call("CLUSTER", "FORGET", OTHER) > 0
    assert node.call("CLUSTER", "RESET", "HARD") > 0
    assert node.call("CLUSTER", "SET-CONFIG-EPOCH", 5) > 0
