"""Processes that are killed, or stand still, and run again."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from typing import Final

from tests.servers import Server

# Seconds that a fault lasts, and that nothing happens after it.
FAULTS: Final = (0.1, 1.0, 3.0)
PAUSES: Final = (0.0, 0.5, 2.0)


class Faults:
    """What is done to processes; whoever stands still in the end goes on by :meth:`thaw`."""

    def __init__(self) -> None:
        self._frozen: set[Server] = set()

    def hit(self, victim: Server, stop: bool) -> None:
        """Kill a process, or let it stand still; nothing if it is hit already."""
        process = victim.process
        if victim in self._frozen or process is None or process.poll() is not None:
            return
        if stop:
            os.kill(victim.pid, signal.SIGSTOP)
            self._frozen.add(victim)
        else:
            victim.kill()

    def mend(self, victim: Server) -> None:
        """Let it run again."""
        if victim in self._frozen:
            os.kill(victim.pid, signal.SIGCONT)
            self._frozen.discard(victim)
        elif victim.process is not None and victim.process.poll() is not None:
            victim.launch()
            victim.await_ready()
            self.revived(victim)

    def revived(self, victim: Server) -> None:
        """A process that was killed runs again: what was set at run time is to be set anew."""

    def thaw(self) -> None:
        """Processes that stand still do not heed SIGTERM."""
        for victim in list(self._frozen):
            self.mend(victim)

    def rage(
        self,
        everybody: Sequence[Server],
        favourites: Callable[[], Sequence[Server]],
        draw: random.Random,
        seconds: float,
    ) -> None:
        """One fault after the other for so long; after that everybody runs.

        Each hits one process or two; most often it is one of ``favourites``, the masters. The first
        one kills a master for long.
        """
        victims = draw.sample(list(favourites()), 1)
        until = time.monotonic() + seconds
        self.hit(victims[0], stop=False)
        time.sleep(FAULTS[-1])
        while True:
            for victim in draw.sample(victims, len(victims)):
                self.mend(victim)
            time.sleep(draw.choice(PAUSES))
            if time.monotonic() > until:
                return
            victims = _choose(everybody, favourites(), draw)
            for victim in victims:
                self.hit(victim, stop=draw.random() < 0.4)
            time.sleep(draw.choice(FAULTS))


def _choose(
    everybody: Sequence[Server], favourites: Sequence[Server], draw: random.Random
) -> list[Server]:
    wanted = draw.choice([1, 2])
    victims: list[Server] = []
    if favourites and draw.random() < 0.6:
        victims = draw.sample(list(favourites), min(wanted, len(favourites)))
    others = [each for each in everybody if each not in victims]
    return victims + draw.sample(others, wanted - len(victims))
