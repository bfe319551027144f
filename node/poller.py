"""Which sockets are ready: epoll where there is one, kqueue elsewhere.

A poller is itself a descriptor that becomes readable when one of its sockets is ready; that is
what lets one trio task wait for all clients at once.
"""

from __future__ import annotations

import select
import sys
from typing import Final, Protocol

READABLE: Final = 1  # select.EPOLLIN
WRITABLE: Final = 4  # select.EPOLLOUT


class Poller(Protocol):
    """Level-triggered readiness of descriptors."""

    def fileno(self) -> int: ...

    def register(self, fd: int, events: int) -> None: ...

    def modify(self, fd: int, events: int) -> None: ...

    def unregister(self, fd: int) -> None: ...

    def poll(self, timeout: float) -> list[tuple[int, int]]:
        """(descriptor, events) that are ready, after waiting up to ``timeout`` seconds.

        Events other than WRITABLE alone (errors, hang-ups) mean: read, and see.
        """
        ...

    def close(self) -> None: ...


if sys.platform == "linux":

    def open_poller() -> Poller:
        return select.epoll()

else:

    class _KqueuePoller:
        """The same over kqueue (BSD, macOS)."""

        def __init__(self) -> None:
            self._queue = select.kqueue()
            self._events: dict[int, int] = {}

        def fileno(self) -> int:
            return self._queue.fileno()

        def register(self, fd: int, events: int) -> None:
            self._events[fd] = 0
            self.modify(fd, events)

        def modify(self, fd: int, events: int) -> None:
            old = self._events[fd]
            changes = []
            for bit, kind in (
                (READABLE, select.KQ_FILTER_READ),
                (WRITABLE, select.KQ_FILTER_WRITE),
            ):
                if events & bit and not old & bit:
                    changes.append(select.kevent(fd, kind, select.KQ_EV_ADD))
                elif old & bit and not events & bit:
                    changes.append(select.kevent(fd, kind, select.KQ_EV_DELETE))
            if changes:
                self._queue.control(changes, 0)
            self._events[fd] = events

        def unregister(self, fd: int) -> None:
            self.modify(fd, 0)
            del self._events[fd]

        def poll(self, timeout: float) -> list[tuple[int, int]]:
            ready: dict[int, int] = {}
            for event in self._queue.control(None, 1024, timeout):
                bit = READABLE if event.filter == select.KQ_FILTER_READ else WRITABLE
                ready[event.ident] = ready.get(event.ident, 0) | bit
            return list(ready.items())

        def close(self) -> None:
            self._queue.close()

    def open_poller() -> Poller:
        return _KqueuePoller()
