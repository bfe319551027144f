"""Virtual time, and what is going to happen in it."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from math import inf
from typing import Final

Action = Callable[[], None]

NEVER: Final = inf


class Planned:
    """Something that is going to happen, unless it is called off."""

    __slots__ = ("when", "action")

    def __init__(self, when: float, action: Action) -> None:
        self.when = when
        self.action: Action | None = action

    def cancel(self) -> None:
        """Let it not happen; may be called at any time."""
        self.action = None


class Timeline:
    """Actions by the time at which they happen; at the same time, in the order of planning.

    ``now`` is in seconds and moves only by :meth:`advance`. ``changed`` is called when the next
    action is nearer than it was, for who waits for it.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.changed: Action = _do_nothing
        self._heap: list[tuple[float, int, Planned]] = []
        self._serial = 0

    def at(self, when: float, action: Action) -> Planned:
        """Plan ``action``; what is planned for the past happens now."""
        planned = Planned(max(when, self.now), action)
        self._serial += 1
        nearer = planned.when < self.next_time
        heapq.heappush(self._heap, (planned.when, self._serial, planned))
        if nearer:
            self.changed()
        return planned

    def after(self, delay: float, action: Action) -> Planned:
        """Plan ``action`` for ``delay`` seconds from now."""
        return self.at(self.now + delay, action)

    @property
    def next_time(self) -> float:
        """When the next action happens; NEVER if none is planned."""
        heap = self._heap
        while heap and heap[0][2].action is None:
            heapq.heappop(heap)
        return heap[0][0] if heap else NEVER

    def advance(self, now: float) -> None:
        """Let it be ``now``, and all happen that is planned until then, each at its time."""
        while self.next_time <= now:
            when, _, planned = heapq.heappop(self._heap)
            self.now = max(self.now, when)
            action = planned.action
            planned.action = None
            assert action is not None
            action()
        self.now = max(self.now, now)


def _do_nothing() -> None:
    return None
