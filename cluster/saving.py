"""When what a node knows of its cluster is written to its file, and who waits for that.

Three wait. Packets do not leave before all is on disk that the machine knew when they were made
(rule 1 of :mod:`.machine`): :class:`~cluster.bus.Bus` holds them, while a thread writes the file.
What a client has changed is on disk before the client is answered, once for all clients of a batch;
or noted (:class:`~cluster.config_file.ConfigFile`), where it was said that the disk may come a
moment later. So CLUSTER SETSLOT, of which a reshard sends thousands, waits for no disk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import trio

from cluster.config_file import ConfigFile, format_state

if TYPE_CHECKING:
    from cluster.bus import Bus
    from cluster.machine import Machine
    from node.log import Log

RETRY_SECONDS: Final = 1.0
# For so long changes are gathered that only packets wait for.
GATHER_SECONDS: Final = 0.05


class Saver:
    """Saves what a machine knows. ``settle`` lets the machine draw its conclusions first."""

    def __init__(
        self, file: ConfigFile, machine: Machine, bus: Bus, log: Log, settle: Callable[[], None]
    ) -> None:
        self._file = file
        self._machine = machine
        self._bus = bus
        self._log = log
        self._settle = settle
        self._number = file.newest
        self._wanted = trio.Event()
        self._may_gather = False  # what is to be saved has been noted
        self._must_save = False  # before clients are answered
        self._must_flush = False  # the disk, too, before they are

    def save_now(self, flush: bool = True) -> None:
        """Write the file before returning. Raises OSError.

        Without ``flush`` it is only noted: the disk is waited for in the background, and by
        packets.
        """
        self._number += 1
        machine = self._machine
        machine.unsaved = False
        self._file.save(format_state(machine.state), self._number, flush)
        if flush:
            self._bus.barrier.open(self._number)
        else:
            machine.save()
            self._may_gather = True
            self.hold_packets()

    def save_before_reply(self, flush: bool = True) -> None:
        """Have the file written before the client is answered that is being served.

        Without ``flush`` it is noted, and on disk only a moment later. Conclusions are drawn then,
        too, once for all requests of a batch.
        """
        self._must_save = True
        self._must_flush = self._must_flush or flush

    def save_before_replies(self) -> None:
        """A barrier of the hub: do that."""
        if not self._must_save:
            return
        self._settle()
        flush = self._must_flush
        self._must_save = self._must_flush = False
        try:
            self.save_now(flush)
        except OSError as error:
            self._complain(error)

    def save_at_end(self) -> None:
        """The server goes down in good order: whoever comes next need not read notes."""
        if self._file.is_late:
            try:
                self.save_now()
            except OSError as error:
                self._log.warning(f"Could not save the cluster's state: {error.strerror}")

    def tick(self) -> None:
        """Save what no client waits for any more."""
        if self._must_save:
            self._wanted.set()

    def hold_packets(self) -> None:
        """What is sent from here on must wait until the file says what the machine knows now."""
        machine = self._machine
        if machine.unsaved:
            machine.unsaved = False
            self._number += 1
            self._bus.barrier.close(self._number)
            if not self._must_save:
                self._wanted.set()

    async def run(self) -> None:
        """Write the file in a thread whenever that is wanted."""
        while True:
            await self._wanted.wait()
            self._wanted = trio.Event()
            if self._may_gather:
                self._may_gather = False
                await trio.sleep(GATHER_SECONDS)
            number = self._number
            content = format_state(self._machine.state)
            try:
                await trio.to_thread.run_sync(self._file.save, content, number)
            except OSError as error:
                await trio.sleep(RETRY_SECONDS)
                self._complain(error)
            else:
                self._bus.barrier.open(number)

    def _complain(self, error: OSError) -> None:
        """The disk fails: go on without it, say nothing that is not saved, and try again."""
        self._log.warning(f"Could not save the cluster's state: {error.strerror}; trying again")
        self._machine.save()
        self._settle()
