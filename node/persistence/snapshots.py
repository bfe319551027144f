"""Snapshots: SAVE, BGSAVE, save points, and the last one before the end.

A snapshot is written to a file of its own, made permanent, and renamed to ``dbfilename``; then the
folder is made permanent, too. Until then the one before is untouched, whatever happens. In the
background it is a forked child that writes, and thus the data as they were at one moment.

Behaviour and log lines after rdb.c of Redis 7.2 (``rdbSave``, ``rdbSaveBackground``,
``backgroundSaveDoneHandler``) and ``serverCron``.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from node.command import Command, Group
from node.commands.arguments import SYNTAX_ERROR
from node.component import Component
from node.engine import STAGE_DISK
from node.files import Sink
from node.information import Fields, Section
from node.persistence.child import KIND_SNAPSHOT, Child, Exit
from node.persistence.dataset import SYNC_PORTION, describe_origin, write_dataset
from node.persistence.rdb_writer import RdbWriter
from node.persistence.refusal import refuse_changes
from node.resp import OK, Reply, ReplyError, Status
from node.server import ShutdownRefused, ShutdownRequest
from node.session import Session

if TYPE_CHECKING:
    from node.server import Server

GROUP: Final = Group("server")

# After a failure the next attempt of the server itself waits so many seconds.
RETRY_DELAY: Final = 5
SLEEP_SECONDS: Final = 0.1

IN_PROGRESS: Final = b"ERR Background save already in progress"
OTHER_CHILD: Final = (
    b"ERR Another child process is active (AOF?): can't BGSAVE right now. Use BGSAVE SCHEDULE in "
    b"order to schedule a BGSAVE whenever possible."
)
SEE_LOG: Final = b"ERR"
MISCONF: Final = (
    b"MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to "
    b"disk. Commands that may modify the data set are disabled, because this instance is "
    b"configured to report errors during writes if RDB snapshotting fails "
    b"(stop-writes-on-bgsave-error option). Please check the Redis logs for details about the RDB "
    b"error."
)


class Snapshots(Component):
    """Saves the data, when asked to and unasked.

    ``last_save`` and ``last_try`` are Unix seconds; ``last_ok`` is whether the last snapshot in the
    background succeeded; ``last_seconds`` how long it took, -1 before the first.
    """

    def __init__(self, server: Server, child: Child) -> None:
        super().__init__(server.engine)
        self._server = server
        self._files = server.files
        self._config = server.config
        self._log = server.log
        self._clock = server.clock
        self._child = child
        self.last_save = int(self._clock.wall())
        self.last_try = 0
        self.last_ok = True
        self.last_seconds = -1
        self.last_cow = 0
        self.saves = 0
        self.scheduled = False
        # Libraries of functions that a file brought, to be saved with the data.
        self.functions: list[bytes] = []
        # What a snapshot is to tell of the history that its data are part of: set by replication.
        self.lineage: Callable[[], dict[bytes, bytes]] = _tell_nothing
        # The keyspace's count of changes that the last snapshot has, and that of the child has.
        self._saved_dirty = 0
        self._forked_dirty = 0
        self._points: list[tuple[int, int]] = []
        self._strict = True
        self._guarding = False
        self.engine.keyspace.emptied = self._replace_with_nothing
        server.config.on_change(("save", "stop-writes-on-bgsave-error"), self.configure)
        self.configure()

    def configure(self) -> None:
        """Take over the directives."""
        self._points = self._config.save_points()
        self._strict = self._config.boolean("stop-writes-on-bgsave-error")
        self._guard_writes()

    def groups(self) -> Sequence[Group]:
        return (GROUP,)

    @property
    def changes(self) -> int:
        """Changes since the last snapshot."""
        return self.engine.keyspace.dirty - self._saved_dirty

    def forget_changes(self) -> None:
        """What is in memory is what is on disk: it has just been loaded."""
        self._saved_dirty = self.engine.keyspace.dirty

    # Commands.

    @GROUP.command(
        "save",
        1,
        "admin noscript no_async_loading no_multi",
        since="1.0.0",
        complexity="O(N), N being the number of keys in all databases",
        summary="Writes a snapshot of all data to disk, while everybody waits.",
    )
    def save_now(self, ctx: Session, argv: list[bytes]) -> Reply:
        """OK once the snapshot is there for good."""
        if self._child.kind == KIND_SNAPSHOT:
            raise ReplyError(IN_PROGRESS)
        self.saves += 1
        if not self.save():
            raise ReplyError(SEE_LOG)
        return OK

    @GROUP.command(
        "bgsave",
        -1,
        "admin noscript no_async_loading",
        since="1.0.0",
        complexity="O(1)",
        summary="Writes a snapshot of all data to disk in the background.",
        syntax="[SCHEDULE]@3.2.2",
        history=[("3.2.2", "New option `SCHEDULE`.")],
    )
    def save_in_background(self, ctx: Session, argv: list[bytes]) -> Reply:
        """A status that says whether it has begun, or will when the rewrite of the log is done."""
        if len(argv) > 2 or (len(argv) == 2 and argv[1].lower() != b"schedule"):
            raise ReplyError(SYNTAX_ERROR)
        if self._child.kind == KIND_SNAPSHOT:
            raise ReplyError(IN_PROGRESS)
        if self._child.running or ctx.in_exec:
            if len(argv) < 2 and not ctx.in_exec:
                raise ReplyError(OTHER_CHILD)
            self.scheduled = True
            return Status(b"Background saving scheduled")
        if not self.start():
            raise ReplyError(SEE_LOG)
        return Status(b"Background saving started")

    @GROUP.command(
        "lastsave",
        1,
        "loading stale fast",
        categories="admin dangerous",
        since="1.0.0",
        complexity="O(1)",
        summary="Tells when the last snapshot succeeded.",
        tips=["nondeterministic_output"],
    )
    def last_save_time(self, ctx: Session, argv: list[bytes]) -> Reply:
        """Unix seconds; the time of the start while there was none."""
        return self.last_save

    # Saving.

    def save(self, *, settled: bool = True) -> bool:
        """Write a snapshot here and now; False when it failed, and the log says why.

        ``settled`` is False in the middle of a command: then the data are at no place of a history.
        """
        if not self._write(self._config.text("dbfilename"), None, settled=settled):
            return False
        self.forget_changes()
        self.last_save = int(self._clock.wall())
        self.last_ok = True
        self._guard_writes()
        return True

    def start(self) -> bool:
        """Begin a snapshot in the background, no child being there; False if that is impossible."""
        keyspace = self.engine.keyspace
        self.saves += 1
        self._forked_dirty = keyspace.dirty
        self.last_try = int(self._clock.wall())
        keys = sum(db.count for db in keyspace.databases)
        try:
            pid = self._child.start(KIND_SNAPSHOT, self._work, self._finish, keys)
        except OSError as error:
            self._log.warning(f"Can't save in background: fork: {error.strerror}")
            self.last_ok = False
            self._guard_writes()
            return False
        self._log.notice(f"Background saving started by pid {pid}")
        return True

    def _work(self) -> None:
        """What the child does."""
        if not self._write(self._config.text("dbfilename"), self._child):
            raise OSError

    def _finish(self, end: Exit) -> None:
        """The child has ended."""
        now = int(self._clock.wall())
        if end.ok:
            self._log.notice("Background saving terminated with success")
            self._saved_dirty = self._forked_dirty
            self.last_save = now
            self.last_ok = True
        elif not end.signal:
            self._log.warning("Background saving error")
            self.last_ok = False
        else:
            self._log.warning(f"Background saving terminated by signal {end.signal}")
            with contextlib.suppress(OSError):
                self._files.remove(f"temp-{end.pid}.rdb")
            if not end.killed:
                self.last_ok = False
        self.last_cow = end.cow
        self.last_seconds = int(end.seconds)
        self._guard_writes()

    def _write(self, path: str, child: Child | None, *, settled: bool = True) -> bool:
        """Write the file; False when that failed, which has been logged."""
        files = self._files
        log = self._log
        aside = self._server.unfinished = f"temp-{os.getpid()}.rdb"
        folder = self._config.text("dir")
        portion = SYNC_PORTION if self._config.boolean("rdb-save-incremental-fsync") else 0
        try:
            sink = Sink(files, aside, portion)
        except OSError as error:
            log.warning(
                f"Failed opening the temp RDB file {aside} (in server root dir {folder}) "
                f"for saving: {error.strerror}"
            )
            return False
        step = "rdbSaveRio"
        try:
            self.write_content(sink.write, child, settled=settled)
            step = "fsync"
            sink.finish()
            if child is not None:
                child.check_parent()
        except OSError as error:
            log.warning(f"Write error while saving DB to the disk({step}): {error.strerror}")
            sink.abandon()
            self._remove(aside)
            return False
        except BaseException:
            sink.abandon()
            self._remove(aside)
            raise
        try:
            files.rename(aside, path)
        except OSError as error:
            log.warning(
                f"Error moving temp DB file {aside} on the final destination {path} "
                f"(in server root dir {folder}): {error.strerror}"
            )
            self._remove(aside)
            return False
        try:
            files.sync_folder(".")
        except OSError as error:
            log.warning(f"Failed to fsync directory while saving DB: {error.strerror}")
            return False
        log.notice("DB saved on disk")
        return True

    def write_content(
        self,
        write: Callable[[bytes], object],
        child: Child | None,
        *,
        data: bool = True,
        functions: bool = True,
        settled: bool = True,
    ) -> None:
        """Write a snapshot, all of it or not the data or the functions; see :meth:`save`."""
        config = self._config
        keyspace = self.engine.keyspace
        writer = RdbWriter(write, config.boolean("rdbcompression"), config.boolean("rdbchecksum"))
        delay = config.integer("rdb-key-save-delay") / 1e6
        before = 0

        def step(written: int) -> None:
            nonlocal before
            if delay > 0:
                left = delay * (written - before)
                before = written
                # In short steps: a signal that comes right before one of them is heeded after it.
                while left > 0:
                    self._server.sleep(min(left, SLEEP_SECONDS))
                    left -= SLEEP_SECONDS
            if child is not None:
                child.report(written)

        origin = describe_origin(keyspace, self._clock.wall(), base=False)
        writer.begin({**origin, **(self.lineage() if settled else {})})
        if functions:
            for library in self.functions:
                writer.function(library)
        if data:
            write_dataset(writer, keyspace, config.text("maxmemory-policy"), step)
        writer.end()

    def _remove(self, path: str) -> None:
        with contextlib.suppress(OSError):
            self._files.remove(path)

    # Unasked.

    def tick(self, now_ns: int) -> None:
        """Begin what a save point or BGSAVE SCHEDULE asks for."""
        if self._child.running or self._server.loading:
            return
        now = int(self._clock.wall())
        may_try = self.last_ok or now - self.last_try > RETRY_DELAY
        if not may_try:
            return
        changes = self.changes
        for seconds, least in self._points:
            if changes >= least and now - self.last_save > seconds:
                self._log.notice(f"{least} changes in {seconds} seconds. Saving...")
                self.start()
                return
        if self.scheduled and self.start():
            self.scheduled = False

    def _replace_with_nothing(self) -> None:
        """FLUSHALL: what is being saved is gone, and the snapshot of it is not to come back."""
        if self._child.kind == KIND_SNAPSHOT:
            self._child.kill()
        if self._points:
            # The changes still count: they are still to be told to the log and the replicas.
            before = self._saved_dirty
            self.save(settled=False)
            self._saved_dirty = before

    # Writes are refused while snapshots fail.

    def _guard_writes(self) -> None:
        wanted = self._strict and bool(self._points) and not self.last_ok
        if wanted and not self._guarding:
            self.engine.add_guard(STAGE_DISK, self.guard)
        elif self._guarding and not wanted:
            self.engine.remove_guard(self.guard)
        self._guarding = wanted

    def guard(self, session: Session, command: Command, argv: list[bytes]) -> Reply:
        """Refuse what changes the data, and PING, so that monitoring learns of it."""
        return refuse_changes(session, command, MISCONF)

    # The end.

    def stop_child(self, request: ShutdownRequest) -> None:
        """At shutdown: there is to be one writer of snapshots."""
        if self._child.kind == KIND_SNAPSHOT:
            self._log.warning("There is a child saving an .rdb. Killing it!")
            self._child.kill()

    def save_finally(self, request: ShutdownRequest) -> None:
        """At shutdown: save the data if asked to, or if there are save points.

        Half of the data, while loading, is no snapshot. Raises ShutdownRefused.
        """
        if self._server.loading:
            return
        if request.save if request.save is not None else bool(self._points):
            self._log.notice("Saving the final RDB snapshot before exiting.")
            if not self.save():
                if request.force:
                    self._log.warning("Error trying to save the DB. Exit anyway.")
                    return
                self._log.warning("Error trying to save the DB, can't exit.")
                raise ShutdownRefused

    # INFO.

    def sections(self) -> Sequence[Section]:
        return (Section("Persistence", self._collect),)

    def _collect(self) -> Fields:
        child = self._child
        running = child.running
        age = (self._clock.monotonic_ns() - child.told_ns) // 1_000_000_000 if running else 0
        done = child.processed * 100 / child.total if child.total else 0.0
        saving = child.kind == KIND_SNAPSHOT
        return [
            ("loading", int(self._server.loading and not self._server.async_loading)),
            ("async_loading", int(self._server.async_loading)),
            ("current_cow_peak", child.cow_peak),
            ("current_cow_size", child.cow),
            ("current_cow_size_age", age),
            ("current_fork_perc", done),
            ("current_save_keys_processed", child.processed),
            ("current_save_keys_total", child.total),
            ("rdb_changes_since_last_save", self.changes),
            ("rdb_bgsave_in_progress", int(saving)),
            ("rdb_last_save_time", self.last_save),
            ("rdb_last_bgsave_status", "ok" if self.last_ok else "err"),
            ("rdb_last_bgsave_time_sec", self.last_seconds),
            ("rdb_current_bgsave_time_sec", int(child.seconds) if saving else -1),
            ("rdb_saves", self.saves),
            ("rdb_last_cow_size", self.last_cow),
        ]


def _tell_nothing() -> dict[bytes, bytes]:
    return {}
