"""One snapshot for the replicas that asked for all data, made by a forked child.

Either the child writes it into a pipe, out of which it goes to all of these replicas at the pace of
the slowest (*streamed*), or it writes a file, which each of them is then sent at its own pace.
What is changed after the fork they get from the backlog, which begins for them at ``position``.

A replica is cut off by nothing here; it leaves when its connection is closed.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import trio

from node.files import Sink
from node.replication.feed import PORTION
from node.replication.replica import AWAITING, Needs, Replica

if TYPE_CHECKING:
    from node.files import Files
    from node.persistence.child import Child
    from node.persistence.snapshots import Snapshots

# Bytes of a streamed snapshot that may wait for one replica before the others wait for it, too.
WINDOW: Final = 1 << 20


class FullSync:
    """A snapshot in the making, and who gets it.

    ``needs`` is what it contains, ``mark`` (40 bytes) ends a streamed one, ``position`` is the
    offset of the history at the fork. It is over once the child has ended and everything has been
    relayed.
    """

    __slots__ = (
        "streamed",
        "needs",
        "position",
        "replicas",
        "path",
        "ended",
        "succeeded",
        "relayed",
        "_mark",
        "_files",
        "_snapshots",
        "_child",
        "_reading",
        "_writing",
        "_room",
    )

    def __init__(
        self,
        files: Files,
        snapshots: Snapshots,
        child: Child,
        needs: Needs,
        position: int,
        mark: bytes,
    ) -> None:
        self.streamed = bool(mark)
        self.needs = needs
        self.position = position
        self.replicas: list[Replica] = []
        self.path = f"temp-repl-{os.getpid()}-{position}.rdb"
        self.ended = False
        self.succeeded = False
        self.relayed = not self.streamed
        self._mark = mark
        self._files = files
        self._snapshots = snapshots
        self._child = child
        self._reading = -1
        self._writing = -1
        self._room = trio.Event()

    def open(self) -> None:
        """Before the fork. Raises OSError."""
        if self.streamed:
            self._reading, self._writing = self._files.pipe()

    def forked(self) -> None:
        """In the parent, after the fork: only the child writes."""
        if self._writing >= 0:
            self._files.close(self._writing)
            self._writing = -1

    def abandon(self) -> None:
        """There has been no fork."""
        self.forked()
        self.close()

    def close(self) -> None:
        """Nothing is read out of the pipe any more."""
        if self._reading >= 0:
            self._files.close(self._reading)
            self._reading = -1

    # In the child.

    def work(self) -> None:
        """Write the snapshot. Raises OSError."""
        if self.streamed:
            self._files.close(self._reading)
            self._write(b"$EOF:" + self._mark + b"\r\n")
            self._write_snapshot(self._write)
            self._write(self._mark)
            return
        try:
            sink = Sink(self._files, self.path)
            self._write_snapshot(sink.write)
            sink.finish()
        except OSError:
            self.remove_file()
            raise

    def _write_snapshot(self, write: Callable[[bytes], object]) -> None:
        self._snapshots.write_content(
            write, self._child, data=self.needs.data, functions=self.needs.functions
        )

    def _write(self, data: bytes) -> None:
        self._files.write_all(self._writing, data)

    # In the parent.

    def remove_file(self) -> None:
        """The file is of no use any more, or nobody else has to see it."""
        with contextlib.suppress(OSError):
            self._files.remove(self.path)

    def remove(self, replica: Replica) -> None:
        """The replica is not waiting for this any more."""
        replica.sync = None
        self.replicas.remove(replica)
        self._room.set()

    def make_room(self) -> None:
        """A replica has taken all that was queued for it."""
        self._room.set()

    async def relay(self, limit: int) -> int:
        """Pass what the child writes on to the replicas, until its end; how many bytes it was.

        Stops early when no replica is left. ``limit`` is how much may be queued for one.
        Raises OSError.
        """
        total = 0
        window = min(WINDOW, limit // 2)
        portion = min(PORTION, window)
        while self.replicas:
            await self._files.wait_readable(self._reading)
            data = self._files.read(self._reading, portion)
            if not data:
                break
            total += len(data)
            for replica in self.replicas:
                if replica.state == AWAITING:
                    replica.push(data)
            while any(replica.unsent >= window for replica in self.replicas):
                self._room = trio.Event()
                await self._room.wait()
        return total
