"""Faults, or other things that are done to a world, at times that the seed decides."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from tests.simulation.timeline import Timeline

# What it is called, how often it comes compared with the others, and what it does: it returns what
# to tell of it, None where it is not possible at the moment.
Deed = tuple[str, float, Callable[[], str | None]]


class Schedule:
    """Does one of ``deeds`` after the other, about ``pause`` seconds apart, until :meth:`stop`.

    ``note`` is told of each that was done.
    """

    def __init__(
        self,
        timeline: Timeline,
        draw: random.Random,
        deeds: Sequence[Deed],
        pause: float,
        note: Callable[[str], None],
    ) -> None:
        self._timeline = timeline
        self._draw = draw
        self._deeds = [deed for deed in deeds if deed[1] > 0]
        self._weights = [deed[1] for deed in self._deeds]
        self._pause = pause
        self._note = note
        self._stopped = False
        self.counts: dict[str, int] = {}
        self._plan()

    def _plan(self) -> None:
        self._timeline.after(self._draw.expovariate(1 / self._pause), self._act)

    def _act(self) -> None:
        if self._stopped:
            return
        name, _, deed = self._draw.choices(self._deeds, self._weights)[0]
        told = deed()
        if told is not None:
            self.counts[name] = self.counts.get(name, 0) + 1
            self._note(f"{name} {told}".rstrip())
        self._plan()

    def stop(self) -> None:
        """Do no more."""
        self._stopped = True
