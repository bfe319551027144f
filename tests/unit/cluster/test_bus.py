"""Links of the cluster bus, over streams in memory."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import trio
import trio.testing

from cluster.bus import Bus, BusLink
from cluster.state import MASTER, Node
from node.log import Log
from tests.inprocess import FakeClock


class FakeNetwork:
    """Connects once the node is ``reachable``; the test has what the bus reads."""

    def __init__(self) -> None:
        self.reachable = trio.Event()
        self.reachable.set()
        self.incoming: list[trio.testing.MemoryReceiveStream] = []

    async def connect(self, host: str, port: int, source: str = "") -> trio.abc.Stream:
        await self.reachable.wait()
        mine, _ = trio.testing.memory_stream_pair()
        self.incoming.append(mine.receive_stream)
        return mine


class Recorder:
    """In place of the machine: notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def link_opened(self, link: BusLink, now: int) -> None:
        self.told.append("opened")

    def link_lost(self, link: BusLink, now: int) -> None:
        self.told.append("lost")

    @property
    def counts(self) -> Any:
        """What a malformed packet is counted in."""
        self.told.append("malformed")
        return self

    malformed = 0


class Scene:
    """A bus and the node that it has links to."""

    def __init__(self) -> None:
        self.network = FakeNetwork()
        self.machine = Recorder()
        network: Any = self.network
        machine: Any = self.machine
        self.bus = Bus(network, Log(FakeClock(), level="nothing"), lambda: 1, lambda: None)
        self.bus.serve(machine)
        self.bus.listeners.append(socket.create_server(("127.0.0.1", 0)))
        self.bus.listeners[0].setblocking(False)
        self.node = Node("b" * 40, MASTER, 1)
        self.node.ip, self.node.port = "127.0.0.1", 1


@pytest.fixture
async def scene(nursery: trio.Nursery) -> Scene:
    scene = Scene()
    nursery.start_soon(scene.bus.run)
    await trio.testing.wait_all_tasks_blocked()
    return scene


async def test_what_comes_and_the_end(scene: Scene) -> None:
    scene.bus.open(scene.node)
    await trio.testing.wait_all_tasks_blocked()
    assert scene.machine.told == ["opened"]
    scene.network.incoming[-1].put_data(b"nonsense" * 1000)
    await trio.testing.wait_all_tasks_blocked()
    assert scene.machine.told == ["opened", "malformed", "lost"]
    assert not scene.bus.links


async def test_what_has_come_before_a_link_is_closed_is_not_read_any_more(scene: Scene) -> None:
    link = scene.bus.open(scene.node)
    await trio.testing.wait_all_tasks_blocked()
    # The task that reads is woken, but has not had its turn.
    scene.network.incoming[-1].put_data(b"nonsense" * 1000)
    scene.bus.close(link)
    await trio.testing.wait_all_tasks_blocked()
    assert scene.machine.told == ["opened"]


async def test_nor_is_it_told_that_it_stands(scene: Scene) -> None:
    scene.network.reachable = trio.Event()
    link = scene.bus.open(scene.node)
    await trio.testing.wait_all_tasks_blocked()
    scene.network.reachable.set()
    scene.bus.close(link)
    await trio.testing.wait_all_tasks_blocked()
    assert scene.machine.told == []
