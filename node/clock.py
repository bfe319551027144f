"""Time, handed in: nothing below the composition root reads a clock of its own."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

SHIFT_VARIABLE: Final = "SENTRIO_CLOCK_SHIFT"
"""The variable that names the file of a ShiftedClock."""
LOOK_INTERVAL: Final = 500_000_000
"""Nanoseconds between two looks into that file."""


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


class ShiftedClock:
    """The machine's clocks, of which the wall's is off by the seconds that a file holds.

    For trying what a jump of the clock does (`sentrio chaos`). Without the file, or with something
    else in it, it is right.
    """

    monotonic_ns = staticmethod(time.monotonic_ns)

    def __init__(self, path: Path) -> None:
        self._path = path
        self._shift = 0.0
        self._look_at = 0

    def wall(self) -> float:
        """What the machine says, and that much more."""
        now = time.monotonic_ns()
        if now >= self._look_at:
            self._look_at = now + LOOK_INTERVAL
            try:
                self._shift = float(self._path.read_text())
            except (OSError, ValueError):
                self._shift = 0.0
        return time.time() + self._shift


def choose_clock(environment: Mapping[str, str]) -> Clock:
    """A process's clock; the file of a shifted one may be in the folder that it starts in."""
    name = environment.get(SHIFT_VARIABLE)
    return ShiftedClock(Path(name).absolute()) if name else SystemClock()
