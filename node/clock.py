"""Time, handed in: nothing below the composition root reads a clock of its own."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What the server asks of time."""

    def wall(self) -> float:
        """Seconds since the Unix epoch."""
        ...

    def monotonic_ns(self) -> int:
        """Nanoseconds from some fixed point, never going back."""
        ...


class SystemClock:
    """The machine's clocks: the C functions themselves, since each command reads one."""

    wall = staticmethod(time.time)
    monotonic_ns = staticmethod(time.monotonic_ns)
