"""A server that has nothing to do sleeps, and is awake as soon as there is something."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from cluster.bus import BusLink
from cluster.state import FAIL, PFAIL
from node.component import Component, has_periodic_work
from node.rest import KNOWN, LONGEST
from node.timer import TrioTimer
from tests.inprocess import LocalServer
from tests.unit.cluster.test_routing import MINE, ClusterNode


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with LocalServer() as local:
        yield local


def test_every_part_with_periodic_work_has_its_say(tmp_path: Path) -> None:
    node = ClusterNode(tmp_path)
    for component in node.engine.components:
        kind = type(component)
        asked = isinstance(component, KNOWN) or kind.rest is not Component.rest
        assert asked or not has_periodic_work(component), kind
    node.close()


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        ("SET key value EX 1000", "DEL key"),
        ("CLIENT PAUSE 1000 WRITE", "CLIENT UNPAUSE"),
        ("CONFIG SET timeout 100", "CONFIG SET timeout 0"),
        ("CONFIG SET maxmemory-clients 100mb", "CONFIG SET maxmemory-clients 0"),
        ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE"),
    ],
)
def test_what_must_not_wait(server: LocalServer, begin: str, end: str) -> None:
    client = server.connect()
    assert server.server.rest() == LONGEST
    client(*begin.split())
    assert server.server.rest() == 0
    client(*end.split())
    assert server.server.rest() == LONGEST


def test_a_node_of_a_cluster_rests_until_its_next_ping(tmp_path: Path) -> None:
    node = ClusterNode(tmp_path)
    cluster, other = node.cluster, node.other
    half = cluster.machine.settings.node_timeout // 2
    now = cluster.now()
    assert cluster.rest() == 0  # the other one is not connected to
    other.link = BusLink(other, False, now)
    other.link.open = True
    other.pong_received = now
    cluster.machine.tick(now)
    cluster.settle()
    assert cluster.rest() == 1.0
    other.ping_sent = 0
    other.pong_received = now + 200 - half
    assert cluster.rest() == 0.2
    other.pong_received = now
    for flag in (PFAIL, FAIL):
        other.flags |= flag
        assert cluster.rest() == 0
        other.flags &= ~flag
    assert cluster.rest() == 1.0
    waiting = node.connect()
    waiting.send("BLPOP", MINE, 0)
    assert cluster.rest() == 0  # a slot that goes takes it along
    waiting.close()
    node.close()


async def test_it_sleeps_and_wakes_at_once(
    server: LocalServer,
    autojump_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = server.server
    monkeypatch.setattr(node.network, "open_timer", TrioTimer)
    counter = Counter(server.engine)
    server.engine.components.append(counter)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node._run_ticks)
        await trio.sleep(10.0)
        assert 19 <= counter.ticks <= 21
        for _ in range(3):
            await trio.sleep(0.05)
            assert node.resting
            before = counter.ticks
            server.connect()("PING")
            node.end_rest()
            await trio.sleep(0.11)
            assert counter.ticks == before + 1
            server.connect()("SET", "key", "value", "EX", 1000)
            node.end_rest()
            await trio.sleep(2.05)
            assert counter.ticks >= before + 20
            server.connect()("DEL", "key")
            await trio.sleep(0.15)
        nursery.cancel_scope.cancel()


class Counter(Component):
    """Counts the turns of the periodic work."""

    ticks = 0

    def tick(self, now_ns: int) -> None:
        self.ticks += 1
