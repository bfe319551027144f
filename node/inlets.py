"""What is read among the clients' requests although it comes from no client: a master's stream.

The hub attends to an inlet as it does to a client's socket, so that no task has to be woken for
what comes over it. One over which little comes at a time, but all the time, *rests*: the poller
does not tell of it meanwhile, and it is read again when the clients have been waited for; so one
wake-up is enough for all that has come until then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from node.poller import READABLE, Poller

REST_NS: Final = 1_000_000


class Inlets:
    """The inlets of one hub, by their descriptors; the poller is the hub's.

    ``resting`` are those that rest, until ``rest_end`` (monotonic nanoseconds).
    """

    __slots__ = ("resting", "rest_end", "_poller", "_all", "_muted")

    def __init__(self, poller: Poller) -> None:
        self.resting: list[int] = []
        self.rest_end = 0
        self._poller = poller
        self._all: dict[int, Callable[[], bool]] = {}
        self._muted: dict[int, None] = {}  # of which the poller does not tell

    def add(self, fd: int, attend: Callable[[], bool]) -> None:
        """Call ``attend`` whenever there is something to read from the descriptor.

        It may be called although there is nothing, and must not raise anything. If it returns True,
        it is called again after a millisecond at most, but not much earlier.
        """
        self._all[fd] = attend
        self._poller.register(fd, READABLE)

    def remove(self, fd: int) -> None:
        """Look at the descriptor no more: to be called before it is closed."""
        del self._all[fd]
        self._muted.pop(fd, None)
        if fd in self.resting:
            self.resting.remove(fd)
        self._poller.unregister(fd)

    def attend(self, fd: int, now_ns: int) -> bool:
        """Read from it; False if it is no inlet."""
        attend = self._all.get(fd)
        if attend is None:
            return False
        if attend():
            if fd not in self._muted:
                self._muted[fd] = None
                self._poller.modify(fd, 0)
            self.resting.append(fd)
            self.rest_end = now_ns + REST_NS
        elif fd in self._muted:
            del self._muted[fd]
            self._poller.modify(fd, READABLE)
        return True

    def end_rest(self) -> list[tuple[int, int]]:
        """Those that have rested, as the poller tells of what is ready."""
        ready = [(fd, READABLE) for fd in self.resting]
        self.resting = []
        return ready

    def descriptors(self) -> list[int]:
        """Those of all inlets."""
        return list(self._all)
