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
PORTION: Final = 256


class Reclamation(Component):
    """The task that empties the trash."""

    def __init__(self, server: Server) -> None:
        super().__init__(server.engine)
        self._full = trio.Event()
        self.engine.keyspace.trash_filled = self._wake

    def _wake(self) -> None:
        self._full.set()

    async def run(self) -> None:
        keyspace = self.engine.keyspace
        clock = self.engine.clock
        while True:
            if not keyspace.trash:
                self._full = trio.Event()
                await self._full.wait()
            until = clock.monotonic_ns() + SLICE_NS
            while not keyspace.drain(PORTION) and clock.monotonic_ns() < until:
                pass
            await trio.lowlevel.checkpoint()
