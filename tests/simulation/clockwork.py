"""Runs a world of trio tasks in virtual time, the same way each time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio
import trio.testing

from tests.simulation.timeline import Timeline

Result = TypeVar("Result")


async def drive(timeline: Timeline) -> None:
    """Let happen what is planned, in the time of the trio loop; for ever."""
    while True:
        timeline.advance(trio.current_time())
        changed = trio.Event()
        timeline.changed = changed.set
        with trio.move_on_at(timeline.next_time):
            await changed.wait()


def run(main: Callable[[], Awaitable[Result]], seed: int) -> Result:
    """What ``main`` returns. ``seed`` decides which task runs first where several could.

    Time passes only when no task has anything to do.
    """
    core = trio._core._run
    allowed = core._ALLOW_DETERMINISTIC_SCHEDULING
    state = core._r.getstate()
    core._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    core._r.seed(seed)
    try:
        return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    finally:
        core._ALLOW_DETERMINISTIC_SCHEDULING = allowed  # type: ignore[misc]
        core._r.setstate(state)
