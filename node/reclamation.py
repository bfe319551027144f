"""Frees what was let go of, bit by bit, so that no deletion stops the server.

The keyspace puts large values and flushed databases into its trash; this task empties it in slices
of under a millisecond, with the clients served in between. It is what Redis's ``lazyfree.c`` does
in a thread; in CPython a thread would hold the interpreter all the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from node.component import Component

if TYPE_CHECKING:
    from node.server import Server

SLICE_NS: Final = 700_000
# Elements freed between two looks at the clock. Python gives memory back to the system a mebibyte
# at a time, each once the last object in it is gone; of what was filled together the last few
# objects are the last ones nearly everywhere, and then each may cost as much as hundreds before.
LEAST_PORTION: Final = 4
LARGEST_PORTION: Final = 256
LONG_PORTION_NS: Final = 150_000


class Reclamation(Component):
    """The task that empties the trash."""

    def __init__(self, server: Server) -> None:
        super().__init__(server.engine)
        self._full = trio.Event()
        self._portion = LARGEST_PORTION
        self.engine.keyspace.trash.filled = self._wake

    def _wake(self) -> None:
        self._full.set()

    async def run(self) -> None:
        keyspace = self.engine.keyspace
        while True:
            if not keyspace.trash:
                self._full = trio.Event()
                await self._full.wait()
            self.free_slice()
            await trio.lowlevel.checkpoint()

    def free_slice(self) -> None:
        """Free what can be freed in a slice of time."""
        keyspace = self.engine.keyspace
        clock = self.engine.clock
        now = clock.monotonic_ns()
        until = now + SLICE_NS
        portion = self._portion
        while now < until:
            started = now
            if keyspace.trash.drain(portion):
                portion = LARGEST_PORTION
                break
            now = clock.monotonic_ns()
            if now - started > LONG_PORTION_NS:
                portion = max(LEAST_PORTION, portion // 2)
            elif portion < LARGEST_PORTION:
                portion += LEAST_PORTION
        self._portion = portion
