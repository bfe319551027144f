"""What has happened in a world, line by line."""

from __future__ import annotations

import hashlib
import sys
from typing import TextIO

from tests.simulation.timeline import Timeline


class Broken(AssertionError):
    """Something that must always hold does not."""


class Trace:
    """Lines of ``time who what``.

    With ``echo`` each is printed at once. ``digest`` is of all lines so far: two runs with equal
    digests were the same.
    """

    def __init__(self, timeline: Timeline, echo: TextIO | None = None) -> None:
        self._timeline = timeline
        self._echo = echo
        self._hash = hashlib.sha1(usedforsecurity=False)
        self.count = 0

    def note(self, who: str, what: str) -> None:
        """Write a line."""
        line = f"{self._timeline.now:10.4f} {who:8} {what}"
        self.count += 1
        self._hash.update(line.encode("utf-8", "backslashreplace"))
        if self._echo is not None:
            print(line, file=self._echo)

    @property
    def digest(self) -> str:
        """Of all lines."""
        return self._hash.hexdigest()


def echo_to_output(wanted: bool) -> TextIO | None:
    """Where a trace is printed, if it is."""
    return sys.stdout if wanted else None
