"""What wakes the periodic work."""

from __future__ import annotations

import time

import pytest
import trio

from node.timer import open_timer


@pytest.mark.parametrize("first", ["waits", "hastens"])
async def test_a_timer_that_is_set_anew_when_it_has_just_expired_goes_on(first: str) -> None:
    """Who waits for it and who hastens it are woken together, in an order that trio chooses."""
    timer = open_timer()
    hastened = trio.Event()

    async def wait() -> None:
        while not hastened.is_set():
            await timer.wait(0.001)

    async def hasten() -> None:
        for _ in range(20):
            # Nobody else runs meanwhile: trio is to find it expired when it looks again.
            time.sleep(0.003)  # noqa: ASYNC251
            await trio.lowlevel.checkpoint()
            timer.hasten(0.001)
        hastened.set()

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for task in (wait, hasten) if first == "waits" else (hasten, wait):
                nursery.start_soon(task)
    timer.close()
