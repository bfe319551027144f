"""What wakes the periodic work: a timer of the kernel's where there is one.

``trio.sleep`` ends by an exception in a scope that is made anew each time. That is most of what an
idle node does, ten times a second; a descriptor that becomes readable costs half of it.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Protocol

import trio


class Timer(Protocol):
    """Wakes one task again and again."""

    async def wait(self, seconds: float) -> None:
        """Return about every ``seconds``, however long the caller has taken since the last time."""
        ...

    def hasten(self, seconds: float) -> None:
        """Let the wait that is under way end in so long; it would have taken longer."""
        ...

    def close(self) -> None: ...


class TrioTimer:
    """By trio's clock, which may be a virtual one."""

    def __init__(self) -> None:
        self._scope = trio.CancelScope()

    async def wait(self, seconds: float) -> None:
        self._scope = trio.CancelScope(deadline=trio.current_time() + seconds)
        with self._scope:
            await trio.sleep_forever()

    def hasten(self, seconds: float) -> None:
        self._scope.deadline = trio.current_time() + seconds

    def close(self) -> None:
        """There is nothing to let go of."""


if sys.platform == "linux":

    class _Setting(ctypes.Structure):
        """``struct itimerspec``: the interval, and when the timer expires first."""

        _fields_ = (
            ("interval_seconds", ctypes.c_long),
            ("interval_ns", ctypes.c_long),
            ("first_seconds", ctypes.c_long),
            ("first_ns", ctypes.c_long),
        )

    CLOCK_MONOTONIC = 1
    _libc = ctypes.CDLL(None)

    class _KernelTimer:
        """A timerfd."""

        def __init__(self, descriptor: int) -> None:
            self._descriptor = descriptor
            self._seconds = 0.0

        async def wait(self, seconds: float) -> None:
            if seconds != self._seconds:
                self.hasten(seconds)
            while True:
                await trio.lowlevel.wait_readable(self._descriptor)
                try:
                    os.read(self._descriptor, 8)
                except BlockingIOError:
                    # It had expired, but was set anew before this task had its turn.
                    continue
                return

        def hasten(self, seconds: float) -> None:
            self._seconds = seconds
            whole, rest = divmod(int(seconds * 1e9), 1_000_000_000)
            setting = _Setting(whole, rest, whole, rest)
            _libc.timerfd_settime(self._descriptor, 0, ctypes.byref(setting), None)

        def close(self) -> None:
            trio.lowlevel.notify_closing(self._descriptor)
            os.close(self._descriptor)

    def open_timer() -> Timer:
        descriptor = _libc.timerfd_create(CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        return _KernelTimer(descriptor) if descriptor >= 0 else TrioTimer()

else:

    def open_timer() -> Timer:
        return TrioTimer()
