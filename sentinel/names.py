"""Host names: what they stand for, looked up aside, again and again.

The machine wants an answer at once, so it gets what the last look-up found. A name that is asked
for is looked up until it has not been asked for in a long time.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from sentinel.machine import is_ip

# How long an answer holds, and how soon a name is tried again that could not be found.
REFRESH_SECONDS: Final = 5.0
RETRY_SECONDS: Final = 1.0
FORGET_SECONDS: Final = 3600.0
MOST_NAMES: Final = 1000
LOOK_UP_SECONDS: Final = 10.0


def look_up_now(host: str) -> str:
    """The first IP that a name has, "" for none. Waits; for the time before anybody is served."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return ""
    return str(found[0][4][0])


async def look_up(host: str) -> str:
    """The first IP that a name has, "" for none."""
    with trio.move_on_after(LOOK_UP_SECONDS):
        try:
            found = await trio.socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return ""
        return str(found[0][4][0])
    return ""


class Names:
    """All names that are of interest. ``enabled`` is ``resolve-hostnames``.

    ``search`` finds the IP of a name, "" if there is none.
    """

    def __init__(self, search: Callable[[str], Awaitable[str]] = look_up) -> None:
        self.enabled = False
        self._search = search
        self._known: dict[str, str] = {}
        self._asked: dict[str, float] = {}
        self._due: dict[str, float] = {}
        self._wanted = trio.Event()

    def learn(self, host: str, ip: str) -> None:
        """What has been found elsewhere."""
        self._known[host] = ip

    def resolve(self, host: str) -> str:
        """The IP that a host has stood for lately, "" if it is unknown (yet)."""
        if is_ip(host):
            return host
        if not self.enabled or not host:
            return ""
        if host not in self._asked and len(self._asked) >= MOST_NAMES:
            return ""
        self._asked[host] = trio.current_time()
        if host not in self._due:
            self._due[host] = 0.0
            self._wanted.set()
        return self._known.get(host, "")

    async def find(self, host: str) -> str:
        """The same, waiting for a look-up where none has been made."""
        ip = self.resolve(host)
        if not ip and self.enabled and host:
            ip = await self._search(host)
            self.learn(host, ip)
        return ip

    async def run(self) -> None:
        """Look up what is due, each name by itself: one that nobody can tell holds up no other."""
        async with trio.open_nursery() as nursery:
            while True:
                now = trio.current_time()
                for host in [host for host, due in self._due.items() if due <= now]:
                    if now - self._asked[host] > FORGET_SECONDS:
                        for table in (self._known, self._asked, self._due):
                            table.pop(host, None)
                    else:
                        self._due[host] = math.inf
                        nursery.start_soon(self._refresh, host)
                self._wanted = trio.Event()
                with trio.move_on_at(min(self._due.values(), default=math.inf)):
                    await self._wanted.wait()

    async def _refresh(self, host: str) -> None:
        ip = await self._search(host)
        if ip or host not in self._known:
            self._known[host] = ip
        self._due[host] = trio.current_time() + (REFRESH_SECONDS if ip else RETRY_SECONDS)
        self._wanted.set()
