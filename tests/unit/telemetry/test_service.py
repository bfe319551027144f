"""The HTTP server under clients that are many, slow, or gone."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from node.log import Log
from node.network import SystemNetwork
from node.telemetry.samples import Sample
from node.telemetry.service import MOST_CONNECTIONS, PORTION_SECONDS, Pause, Portions, Service
from tests.inprocess import FakeClock

GET = b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n"


class House:
    """A service, and what it is told."""

    def __init__(self) -> None:
        self.obstacle = ""
        self.scrapes = 0
        self.most_scrapes = 0
        log = Log(FakeClock(), path="/dev/null")
        self.service = Service(log, self._collect, lambda: self.obstacle)
        self.address = ("", 0)

    async def _collect(self, pause: Pause) -> list[Sample]:
        self.scrapes += 1
        self.most_scrapes = max(self.most_scrapes, self.scrapes)
        await trio.sleep(0.01)
        await pause()
        self.scrapes -= 1
        return [Sample("up", 1.0)]

    async def connect(self) -> trio.SocketStream:
        """A client."""
        return await trio.open_tcp_stream(*self.address)

    async def until_alone(self) -> None:
        """Until there is no connection."""
        with trio.fail_after(20):
            while self.service.connections:  # noqa: ASYNC110  (nobody tells of it)
                await trio.sleep(0.001)

    async def get(self, path: bytes) -> bytes:
        """A whole answer, on a connection of its own."""
        async with await self.connect() as stream:
            await stream.send_all(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") % path)
            return b"".join([bytes(data) async for data in stream])


@asynccontextmanager
async def open_house() -> AsyncIterator[House]:
    """A service on the loopback address."""
    house = House()
    listeners = SystemNetwork().listen("127.0.0.1", 0, 100)
    house.address = listeners[0].getsockname()[:2]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.service.run, listeners)
        yield house
        nursery.cancel_scope.cancel()


async def test_paths() -> None:
    async with open_house() as house:
        metrics = await house.get(b"/metrics")
        assert metrics.startswith(b"HTTP/1.1 200 ")
        assert metrics.endswith(b"redis_up 1.0\n")
        assert (await house.get(b"/healthz")).endswith(b"ok\n")
        assert (await house.get(b"/readyz")).startswith(b"HTTP/1.1 200 ")
        house.obstacle = "no cluster"
        unready = await house.get(b"/readyz")
        assert unready.startswith(b"HTTP/1.1 503 ")
        assert unready.endswith(b"not ready: no cluster\n")
        assert (await house.get(b"/favicon.ico")).startswith(b"HTTP/1.1 404 ")
        assert b"/readyz" in await house.get(b"/")


async def test_one_connection_asks_again_and_again() -> None:
    async with open_house() as house, await house.connect() as stream:
        for _ in range(3):
            await stream.send_all(GET % b"/healthz")
            data = b""
            while not data.endswith(b"ok\n"):
                data += await stream.receive_some()
            assert data.startswith(b"HTTP/1.1 200 ")


async def test_one_scrape_at_a_time() -> None:
    async with open_house() as house:
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(house.get, b"/metrics")
        assert house.most_scrapes == 1


async def test_others_have_their_turns_during_a_scrape() -> None:
    turns = 0
    done = False

    async def count() -> None:
        nonlocal turns
        while not done:
            await trio.lowlevel.checkpoint()
            turns += 1

    portions = Portions()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        await trio.lowlevel.checkpoint()
        before = turns
        for _ in range(20):
            began = time.perf_counter()
            while time.perf_counter() - began < PORTION_SECONDS:
                pass
            await portions.pause()
        # Of the two tasks either may come first in the first turn, and in the last.
        assert turns - before >= 19
        done = True


async def test_who_takes_their_time_is_cut_off(autojump_clock: trio.testing.MockClock) -> None:
    autojump_clock.autojump_threshold = 0.05
    async with open_house() as house, await house.connect() as stream:
        await stream.send_all(b"GET /metr")
        began = trio.current_time()
        data = b"".join([bytes(part) async for part in stream])
        assert data.startswith(b"HTTP/1.1 408 ")
        assert trio.current_time() - began == pytest.approx(10, abs=1)


async def test_who_says_nothing_is_cut_off(autojump_clock: trio.testing.MockClock) -> None:
    autojump_clock.autojump_threshold = 0.05
    async with open_house() as house, await house.connect() as stream:
        assert await stream.receive_some() == b""
        assert trio.current_time() == pytest.approx(300, abs=1)


async def test_the_idle_make_room() -> None:
    async with open_house() as house:
        idle = [await house.connect() for _ in range(MOST_CONNECTIONS)]
        busy = idle.pop()
        await busy.send_all(b"GET /hea")
        assert (await house.get(b"/healthz")).endswith(b"ok\n")
        # The oldest one has gone; the others, and who was asking, have not.
        assert await idle[0].receive_some() == b""
        await busy.send_all((GET % b"/healthz")[len(b"GET /hea") :])
        assert (await busy.receive_some()).startswith(b"HTTP/1.1 200 ")
        for stream in (*idle, busy):
            await stream.aclose()


async def test_who_goes_away_leaves_nothing() -> None:
    async with open_house() as house:
        for _ in range(5):
            async with await house.connect() as stream:
                await stream.send_all(GET % b"/metrics")
        await house.until_alone()
