"""The open end of the append-only file: what has been logged, on its way to the file and the disk.

Changes are collected as bytes and written once per batch, before the batch's replies go out
(:meth:`AofWriter.flush` is a barrier of the hub). What happens then is the policy's:

- always: the file is synced before the replies; a write that cannot be made permanent ends the
  server, since its client must not hear of success, and the data in memory have the write already;
- everysec: a worker thread syncs the file, once a second. While it is at it the next write would
  wait for it in the kernel, so that writes are put off for up to two seconds;
- no: the kernel writes when it likes.

A write that fails leaves the file at the end of the last batch that is there in whole, and is tried
again each second; meanwhile the server accepts no writes. Rules and texts after
``flushAppendOnlyFile`` of Redis (aof.c) and its background jobs (bio.c).

How much of what was logged is permanent is counted in bytes since the start of the server, whatever
files they are in. After a sync that failed nothing more counts until a rewrite has put all data
into a new base: the kernel may have dropped what it could not write, and say nothing of it later.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Final

import trio

from node.clock import Clock
from node.files import Files
from node.log import Log

ALWAYS: Final = 0
EVERY_SECOND: Final = 1
NEVER: Final = 2
POLICIES: Final = {"always": ALWAYS, "everysec": EVERY_SECOND, "no": NEVER}

SECOND_NS: Final = 1_000_000_000
PATIENCE_NS: Final = 2 * SECOND_NS
"""How long writes wait for a sync that is under way."""
COMPLAINT_NS: Final = 30 * SECOND_NS
"""Between two complaints about writes that fail."""


class Point:
    """A moment of the log: so many bytes had been written, and the history had this offset."""

    __slots__ = ("written", "offset", "era")

    def __init__(self, written: int, offset: int, era: int) -> None:
        self.written = written
        self.offset = offset
        self.era = era  # which changes when what was logged before counts no more


class AofWriter:
    """One log's open file, if any, and what is to be written to it.

    busy          whether a child is writing to the disk as well
    report_stall  (class of event, nanoseconds): something has held the server up
    end           ends the process at once with an exit code; may not return
    """

    __slots__ = (
        "buffer",
        "policy",
        "spare",
        "size",
        "offset",
        "synced",
        "delayed",
        "write_error",
        "sync_error",
        "changed",
        "mended",
        "advanced",
        "tell_offset",
        "permanent",
        "descriptor",
        "_files",
        "_clock",
        "_log",
        "_busy",
        "_report_stall",
        "_end",
        "_last_sync_ns",
        "_postponed_ns",
        "_complained_ns",
        "_retry_ns",
        "_syncing",
        "_syncing_to",
        "_wanted",
        "_retired",
        "_working",
        "_written",
        "_permanent_offset",
        "_era",
        "_trusted",
    )

    def __init__(
        self,
        files: Files,
        clock: Clock,
        log: Log,
        busy: Callable[[], bool],
        report_stall: Callable[[bytes, int], None],
        end: Callable[[int], object],
    ) -> None:
        # Filled by the command log; always this very list.
        self.buffer: list[bytes] = []
        self.policy = EVERY_SECOND
        self.spare = False  # do not sync while a child is at work (no-appendfsync-on-rewrite)
        self.size = 0  # bytes of all files of the log
        self.offset = 0  # bytes of the open file
        self.synced = 0  # of these, permanent or about to be
        self.delayed = 0  # writes that did not wait any longer for a sync
        self.write_error = ""  # why nothing can be written at the moment
        self.sync_error = ""  # why what was written may not be permanent
        # Called when ``error`` changes, and when syncing works again after it had failed.
        self.changed: Callable[[], None] = _do_nothing
        self.mended: Callable[[], None] = _do_nothing
        # Called when more is permanent than before.
        self.advanced: Callable[[], None] = _do_nothing
        # The offset of the history that the data are part of (replication).
        self.tell_offset: Callable[[], int] = _tell_nothing
        self.permanent = 0  # bytes of all that was ever logged
        self.descriptor = -1
        self._files = files
        self._clock = clock
        self._log = log
        self._busy = busy
        self._report_stall = report_stall
        self._end = end
        self._last_sync_ns = 0
        self._postponed_ns = 0
        self._complained_ns = -COMPLAINT_NS
        self._retry_ns = 0
        self._syncing = -1  # the descriptor that the worker is at
        self._syncing_to = Point(0, 0, 0)  # what is permanent then
        self._wanted = trio.Event()
        # Still to be closed, and what is permanent once they have been synced (None: no need to).
        self._retired: list[tuple[int, Point | None]] = []
        self._working = False
        self._written = 0  # bytes of all that was ever logged
        self._permanent_offset = 0
        self._era = 0
        self._trusted = True  # no sync has failed that matters still

    @property
    def is_open(self) -> bool:
        """Whether there is a file to write to."""
        return self.descriptor >= 0

    @property
    def pending_syncs(self) -> int:
        """Syncs that the worker has not finished."""
        return sum(point is not None for _, point in self._retired) + (self._syncing >= 0)

    @property
    def buffered(self) -> int:
        """Bytes not written yet."""
        return sum(map(len, self.buffer))

    @property
    def logged(self) -> int:
        """Bytes that were ever logged, written or not."""
        return self._written + self.buffered

    @property
    def permanent_offset(self) -> int:
        """The offset of the history up to which all data are permanent."""
        if not self.buffer and self.permanent == self._written:
            return self.tell_offset()
        return self._permanent_offset

    @property
    def error(self) -> str:
        """Why writes must be refused; empty if they need not."""
        return self.write_error or self.sync_error

    def open(self, descriptor: int, offset: int) -> None:
        """Go on in another file, which is ``offset`` bytes long. The old one is synced and closed
        in time.
        """
        self._retire()
        self.descriptor = descriptor
        self.offset = self.synced = offset
        self._last_sync_ns = self._clock.monotonic_ns()

    def close(self) -> None:
        """Stop writing. What is buffered is dropped: :meth:`flush` before."""
        if self.is_open:
            self.sync_now()
            self._retire()
        self.offset = self.synced = 0
        self.drop()
        self._postponed_ns = 0
        # What comes next is another log, of another history maybe, and begins with a base.
        self._era += 1
        self._permanent_offset = 0

    def drop(self) -> None:
        """Forget what is buffered: a new base will have it, or nobody wants it."""
        self._written += self.buffered
        self.buffer.clear()

    # How much is permanent.

    def mark(self) -> Point:
        """How much has been written by now."""
        return Point(self._written, self.tell_offset(), self._era)

    def settle(self, point: Point) -> None:
        """A base is part of the log that has all that had been written then."""
        if point.era == self._era:
            self._trusted = True
            self._confirm(point)
        self.advanced()

    def _confirm(self, point: Point) -> None:
        """So much has been synced."""
        if point.era == self._era and self._trusted and point.written >= self.permanent:
            self.permanent = point.written
            self._permanent_offset = point.offset
            self.advanced()

    def forget_errors(self) -> None:
        """A new log begins: what was wrong with the old one is of no consequence."""
        if self.sync_error:
            self._log.warning("AOF reopen, just ignore the AOF fsync error in bio job")
            self.sync_error = ""
        if self.write_error:
            self._log.warning("AOF reopen, just ignore the last error.")
            self.write_error = ""
        self.changed()

    def _retire(self) -> None:
        descriptor = self.descriptor
        self.descriptor = -1
        if descriptor < 0:
            return
        point = self.mark()
        if self._working or self._syncing == descriptor:
            self._retired.append((descriptor, point))
            self._wanted.set()
        else:
            self._finish(descriptor, point)

    def _finish(self, descriptor: int, point: Point) -> None:
        try:
            self._files.fdatasync(descriptor)
        except OSError as error:
            self._fail_sync(error)
        else:
            self._confirm(point)
        self._files.close(descriptor)

    def remove(self, path: str) -> None:
        """Remove a file that may be large: its room is given back by the worker. Raises OSError."""
        if not self._working:
            self._files.remove(path)
            return
        descriptor = self._files.open(path)
        try:
            self._files.remove(path)
        finally:
            self._retired.append((descriptor, None))
            self._wanted.set()

    # Writing.

    def flush(self, force: bool = False) -> None:
        """Write what is buffered and sync as the policy says.

        ``force``: do not wait for a sync that is under way.
        """
        buffer = self.buffer
        if not buffer:
            if self.synced != self.offset and self.descriptor >= 0:
                self._sync(self._clock.monotonic_ns())
            return
        if self.descriptor < 0:
            return
        now = self._clock.monotonic_ns()
        if self._syncing >= 0 and self.policy == EVERY_SECOND and not force:
            if not self._postponed_ns:
                self._postponed_ns = now
                return
            if now - self._postponed_ns < PATIENCE_NS:
                return
            self.delayed += 1
            self._log.notice(
                "Asynchronous AOF fsync is taking too long (disk is busy?). Writing the AOF "
                "buffer without waiting for fsync to complete, this may slow down Redis."
            )
        if self.write_error and now < self._retry_ns and not force:
            return
        data = buffer[0] if len(buffer) == 1 else b"".join(buffer)
        size = len(data)
        self._postponed_ns = 0
        written = 0
        reason: OSError | None = None
        try:
            written = self._files.write(self.descriptor, data)
            while written < size:
                written += self._files.write(self.descriptor, memoryview(data)[written:])
        except OSError as error:
            reason = error
        ended = self._clock.monotonic_ns()
        if ended - now > 1_000_000:
            self._report_write(ended - now)
        if reason is not None:
            self._fail_write(data, written, reason)
            return
        buffer.clear()
        self.offset += size
        self.size += size
        self._written += size
        if self.write_error:
            self._log.warning("AOF write error looks solved, Redis can write again.")
            self.write_error = ""
            self.changed()
        self._sync(ended)

    def _report_write(self, taken: int) -> None:
        if self._syncing >= 0:
            self._report_stall(b"aof-write-pending-fsync", taken)
        elif self._busy():
            self._report_stall(b"aof-write-active-child", taken)
        else:
            self._report_stall(b"aof-write-alone", taken)
        self._report_stall(b"aof-write", taken)

    def _fail_write(self, data: bytes, written: int, reason: OSError) -> None:
        now = self._clock.monotonic_ns()
        loud = now - self._complained_ns >= COMPLAINT_NS
        if loud:
            self._complained_ns = now
        text = _describe(reason)
        if not written:
            if loud:
                self._log.warning(f"Error writing to the AOF file: {text}")
        else:
            if loud:
                self._log.warning(
                    "Short write while writing to the AOF file: "
                    f"(nwritten={written}, expected={len(data)})"
                )
            try:
                self._files.truncate(self.descriptor, self.offset)
                written = 0
            except OSError as error:
                if loud:
                    self._log.warning(
                        "Could not remove short write from the append-only file.  Redis may "
                        "refuse to load the AOF the next time it starts.  "
                        f"ftruncate: {_describe(error)}"
                    )
            text = os.strerror(errno.ENOSPC) if reason.errno is None else text
        if self.policy == ALWAYS:
            self._log.warning(
                "Can't recover from AOF write error when the AOF fsync policy is 'always'. "
                "Exiting..."
            )
            self._end(1)
        self.write_error = text
        self.changed()
        self._retry_ns = now + SECOND_NS
        # What is in the file stays, and only the rest is to be written.
        self.offset += written
        self.size += written
        self._written += written
        self.buffer[:] = [data[written:]]

    # Syncing.

    def _sync(self, now: int) -> None:
        """Make what was written permanent, where the policy says that it is time."""
        policy = self.policy
        if policy == NEVER and not self.sync_error:
            return
        if self.spare and self._busy():
            return
        if policy == ALWAYS:
            try:
                self._files.fdatasync(self.descriptor)
            except OSError as error:
                self._log.warning(
                    "Can't persist AOF for fsync error when the AOF fsync policy is 'always': "
                    f"{_describe(error)}. Exiting..."
                )
                self._end(1)
                return
            ended = self._clock.monotonic_ns()
            self._report_stall(b"aof-fsync-always", ended - now)
            self.synced = self.offset
            self._last_sync_ns = ended
            self._succeed_sync(self.mark())
            return
        if now - self._last_sync_ns >= SECOND_NS:
            if self._syncing < 0:
                self._syncing = self.descriptor
                self._syncing_to = self.mark()
                self.synced = self.offset
                self._wanted.set()
            self._last_sync_ns = now

    def sync_now(self) -> None:
        """Make all permanent, whatever the policy."""
        try:
            self._files.fdatasync(self.descriptor)
        except OSError as error:
            self._log.warning(f"Fail to fsync the AOF file: {_describe(error)}")
            return
        self.synced = self.offset
        self._last_sync_ns = self._clock.monotonic_ns()
        self._confirm(self.mark())

    def finish(self) -> None:
        """At the end of the server: everything to the disk, once more."""
        if not self.is_open:
            return
        self._log.notice("Calling fsync() on the AOF file.")
        self.flush(force=True)
        for descriptor, point in self._retired:
            if point is not None:
                try:
                    self._files.fdatasync(descriptor)
                except OSError as error:
                    self._log.warning(f"Fail to fsync the AOF file: {_describe(error)}")
        self.sync_now()

    def _fail_sync(self, error: OSError) -> None:
        """The disk did not take what was written; it is asked again within a second or two."""
        if not self.sync_error:
            self._log.warning(f"Fail to fsync the AOF file: {_describe(error)}")
        self.sync_error = _describe(error)
        self.synced = -1
        self._era += 1
        self._trusted = False
        self.changed()

    def _succeed_sync(self, point: Point) -> None:
        self._confirm(point)
        if self.sync_error:
            self.sync_error = ""
            self._log.warning("AOF fsync error looks solved, Redis can write again.")
            self.changed()
            self.mended()

    async def work(self) -> None:
        """The task behind the worker thread; when cancelled it finishes what it is at."""
        self._working = True
        try:
            while True:
                await self._wanted.wait()
                self._wanted = trio.Event()
                await self._work_off()
        finally:
            self._working = False

    async def _work_off(self) -> None:
        while self._retired or self._syncing >= 0:
            if self._retired:
                descriptor, point = self._retired[0]
                if point is not None:
                    await self._sync_aside(descriptor, point)
                del self._retired[0]
                if self._syncing == descriptor:
                    self._syncing = -1
                await self._files.run_aside(self._files.close, descriptor)
            else:
                await self._sync_aside(self._syncing, self._syncing_to)
                self._syncing = -1

    async def _sync_aside(self, descriptor: int, point: Point) -> None:
        try:
            await self._files.run_aside(self._files.fdatasync, descriptor)
        except OSError as error:
            self._fail_sync(error)
        else:
            self._succeed_sync(point)


def _describe(error: OSError) -> str:
    return error.strerror or str(error)


def _do_nothing() -> None:
    return None


def _tell_nothing() -> int:
    return 0
