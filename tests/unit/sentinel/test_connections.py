"""Connections to the watched, over streams in memory."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from node.log import Log
from node.resp import Error, Reply
from sentinel.connections import CONNECT_SECONDS, Connections
from sentinel.machine import Half, Request
from sentinel.state import Address, Instance, Link
from tests.inprocess import FakeClock

Stream = trio.StapledStream[Any, Any]


class FakeNetwork:
    """Connections that end at the test."""

    def __init__(self) -> None:
        self.ends: list[Stream] = []
        self.receivers: list[trio.testing.MemoryReceiveStream] = []
        self.error: OSError | None = None
        self.silent = False
        self.reachable = trio.Event()
        self.reachable.set()

    async def connect(self, host: str, port: int, source: str = "") -> trio.abc.Stream:
        if self.silent:
            await trio.sleep_forever()
        await self.reachable.wait()
        if self.error is not None:
            raise self.error
        mine, theirs = trio.testing.memory_stream_pair()
        self.ends.append(theirs)
        self.receivers.append(mine.receive_stream)
        return mine


class Recorder:
    """In place of the machine: notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.broken = False

    def opened(self, link: Link, half: Half, now: int) -> None:
        if self.broken:
            raise RuntimeError("a bug")
        self.told.append(("opened", half))

    def lost(self, link: Link, half: Half, reason: str, now: int) -> None:
        self.told.append(("lost", half, reason))

    def answered(self, link: Link, request: Request, reply: Reply, now: int) -> None:
        if self.broken:
            raise RuntimeError("a bug")
        self.told.append(("answered", request.purpose, reply))

    def heard(self, link: Link, channel: bytes, payload: bytes, now: int) -> None:
        self.told.append(("heard", channel, payload))


class Scene:
    """One link, whose other ends are the test's."""

    def __init__(self) -> None:
        self.network = FakeNetwork()
        self.machine = Recorder()
        self.settled = 0
        network: Any = self.network
        self.connections = Connections(
            network, Log(FakeClock(), level="nothing"), lambda: 1, self.settle
        )
        machine: Any = self.machine
        self.connections.serve(machine)
        address = Address("127.0.0.1", 1)
        self.link = Link(address, 1, listens=True)
        self.instance = Instance("m", address, self.link, 1)

    def settle(self) -> None:
        self.settled += 1

    async def open(self, half: Half = "commands") -> Stream:
        self.connections.open(self.link, half)
        await trio.testing.wait_all_tasks_blocked()
        return self.network.ends[-1]

    def send(self, *words: bytes, purpose: str = "", follows: bool = False) -> None:
        self.connections.send(self.link, Request(self.instance, words, purpose, follows))

    async def received(self, end: Stream) -> bytes:
        """What has come by now at the other end."""
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(0.02):
            return bytes(await end.receive_some(100_000))
        return b""

    async def say(self, end: Stream, data: bytes) -> None:
        await end.send_all(data)
        await trio.testing.wait_all_tasks_blocked()


@pytest.fixture
async def scene(nursery: trio.Nursery) -> Scene:
    scene = Scene()
    await nursery.start(scene.connections.run)
    return scene


async def test_answers_belong_to_requests_in_order(scene: Scene) -> None:
    end = await scene.open()
    scene.send(b"PING", purpose="ping")
    scene.send(b"INFO", purpose="info")
    scene.send(b"EXEC", purpose="exec")
    assert await scene.received(end) == (
        b"*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nINFO\r\n*1\r\n$4\r\nEXEC\r\n"
    )
    await scene.say(end, b"+PONG\r\n$4\r\nro")
    await scene.say(end, b"le\r\n*3\r\n:1\r\n-ERR no\r\n$-1\r\n")
    told = scene.machine.told
    assert told[:3] == [
        ("opened", "commands"),
        ("answered", "ping", b"PONG"),
        ("answered", "info", b"role"),
    ]
    purpose, reply = told[3][1:]
    assert (purpose, reply[0], reply[2]) == ("exec", 1, None)
    assert isinstance(reply[1], Error)
    assert reply[1].text == b"ERR no"
    assert scene.settled >= 3


async def test_what_says_something_waits_for_the_disk(scene: Scene) -> None:
    end = await scene.open()
    scene.connections.barrier.close(1)
    scene.send(b"SENTINEL", b"IS-MASTER-DOWN-BY-ADDR", purpose="vote")
    scene.send(b"ping", purpose="ping")
    scene.send(b"INFO", purpose="info", follows=True)
    scene.connections.barrier.close(2)
    scene.send(b"PUBLISH", b"x", purpose="hello")
    assert await scene.received(end) == b"*1\r\n$4\r\nping\r\n"
    scene.connections.barrier.open(1)
    data = await scene.received(end)
    assert 0 < data.find(b"IS-MASTER-DOWN") < data.find(b"INFO")
    scene.connections.barrier.open(2)
    assert b"PUBLISH" in await scene.received(end)
    scene.send(b"PUBLISH", b"y", purpose="last")
    assert b"y" in await scene.received(end)
    # The answers are told apart by when the requests left, not by when they were made.
    await scene.say(end, b"+1\r\n+2\r\n+3\r\n+4\r\n+5\r\n")
    assert scene.machine.told[1:] == [
        ("answered", "ping", b"1"),
        ("answered", "vote", b"2"),
        ("answered", "info", b"3"),
        ("answered", "hello", b"4"),
        ("answered", "last", b"5"),
    ]


async def test_what_is_held_for_a_connection_that_has_gone_is_lost(scene: Scene) -> None:
    end = await scene.open()
    scene.connections.barrier.close(1)
    scene.send(b"EXEC")
    scene.connections.close(scene.link, "commands")
    again = await scene.open()
    scene.connections.barrier.open(1)
    assert await scene.received(again) == b""
    assert await scene.received(end) == b""


async def test_what_has_come_before_a_connection_is_closed_is_not_told_any_more(
    scene: Scene,
) -> None:
    """The link may stand for another instance by then."""
    await scene.open()
    scene.send(b"PING", purpose="ping")
    await trio.testing.wait_all_tasks_blocked()
    # The task that reads is woken, but has not had its turn.
    scene.network.receivers[-1].put_data(b"+PONG\r\n")
    scene.connections.close(scene.link, "commands")
    await scene.open()
    assert scene.machine.told == [("opened", "commands"), ("opened", "commands")]


async def test_nor_that_it_stands(scene: Scene) -> None:
    scene.network.reachable = trio.Event()
    scene.connections.open(scene.link, "commands")
    await trio.testing.wait_all_tasks_blocked()
    scene.network.reachable.set()
    scene.connections.close(scene.link, "commands")
    await trio.testing.wait_all_tasks_blocked()
    assert scene.machine.told == []


async def test_messages(scene: Scene) -> None:
    end = await scene.open("messages")
    scene.connections.subscribe(scene.link, [b"SUBSCRIBE", b"c"])
    assert b"SUBSCRIBE" in await scene.received(end)
    await scene.say(end, b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n-NOAUTH x\r\n")
    await scene.say(end, b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n")
    assert scene.machine.told == [("opened", "messages"), ("heard", b"c", b"hi")]


async def test_an_end_is_told_once(scene: Scene) -> None:
    end = await scene.open()
    await end.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert scene.machine.told[1:] == [("lost", "commands", "Server closed the connection")]
    scene.send(b"PING")  # to nobody
    await scene.open()
    scene.connections.close(scene.link, "commands")
    await trio.testing.wait_all_tasks_blocked()
    assert scene.machine.told[2:] == [("opened", "commands")]


@pytest.mark.parametrize("data", [b"+early\r\n", b"nonsense\r\n"])
async def test_nonsense_ends_the_connection(scene: Scene, data: bytes) -> None:
    end = await scene.open()
    await scene.say(end, data)
    kind, half, reason = scene.machine.told[-1]
    assert (kind, half) == ("lost", "commands")
    assert reason.startswith("Protocol error")


async def test_a_bug_costs_one_connection(scene: Scene) -> None:
    end = await scene.open()
    scene.machine.broken = True
    scene.send(b"PING")
    await scene.say(end, b"+PONG\r\n")
    await scene.open()
    scene.machine.broken = False
    await scene.open()
    assert scene.machine.told[1:] == [
        ("lost", "commands", "unexpected error"),
        ("lost", "commands", "unexpected error"),
        ("opened", "commands"),
    ]


async def test_who_cannot_be_reached(scene: Scene, autojump_clock: trio.abc.Clock) -> None:
    scene.network.error = ConnectionRefusedError(111, "Connection refused")
    scene.connections.open(scene.link, "commands")
    await trio.testing.wait_all_tasks_blocked()
    assert scene.machine.told == [("lost", "commands", "Connection refused")]
    scene.network.silent = True
    begun = trio.current_time()
    scene.connections.open(scene.link, "commands")
    scene.connections.open(scene.link, "commands")  # that is under way
    await trio.sleep(CONNECT_SECONDS + 1)
    assert scene.machine.told[1:] == [("lost", "commands", "Connection timed out")]
    assert trio.current_time() - begun >= CONNECT_SECONDS
