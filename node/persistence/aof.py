"""The append-only file: every change is in it before its client hears of success.

The log is a folder of files that a manifest names (see :mod:`aof_manifest`). Changes come from the
command log, which all readers share, and go to the last file (:mod:`aof_writer`). From time to time
the log is rewritten, so that it grows with the data and not with their history: another file is
begun, a forked child writes the data as they are at that moment into a new base, and once that is
there the files before are removed. At every moment the manifest on disk names a complete log.

A log that is switched on at run time waits for its first base: until then what is logged goes to a
file that the manifest does not know, and the log on disk is the one from before, or none.

Behaviour and log lines after aof.c of Redis 7.2.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from node.command import Command, Group
from node.command_log import Reader
from node.component import Component
from node.config import ConfigError
from node.engine import STAGE_DISK
from node.information import Fields, Section
from node.persistence.aof_folder import AofFolder
from node.persistence.aof_loader import AofLoader
from node.persistence.aof_manifest import Manifest, temporary_incremental_name
from node.persistence.aof_rewriter import encode_timestamp, write_base
from node.persistence.aof_writer import ALWAYS, POLICIES, SECOND_NS, AofWriter
from node.persistence.child import KIND_REWRITE, Child, Exit
from node.persistence.loading import Loading
from node.persistence.refusal import refuse_changes
from node.resp import Reply, ReplyError, Status
from node.server import LoadFailed, ShutdownRefused, ShutdownRequest
from node.session import Session

if TYPE_CHECKING:
    from node.server import Server

GROUP: Final = Group("server")

# The log's state. WAITING: it was switched on, and its first base is not there yet.
OFF: Final = 0
ON: Final = 1
WAITING: Final = 2

# After so many failures in a row the server waits before it tries another rewrite by itself.
FAILURES: Final = 3
LONGEST_DELAY_MINUTES: Final = 60

IN_PROGRESS: Final = b"ERR Background append only file rewriting already in progress"
IMPOSSIBLE: Final = (
    b"ERR Can't execute an AOF background rewriting. Please check the server logs for more "
    b"information."
)


class AppendOnlyFile(Component):
    """One server's log.

    ``rewrites`` counts rewrites that have begun, ``failures`` those that failed since the last one
    that did not; ``base_size`` is the size of the log in bytes after its last rewrite.
    """

    def __init__(self, server: Server, child: Child, loading: Loading) -> None:
        super().__init__(server.engine)
        self._server = server
        self._config = server.config
        self._clock = server.clock
        self._log = server.log
        self._files = server.files
        self._child = child
        self._loading = loading
        self._name = self._config.text("appendfilename")
        self.folder = AofFolder(
            server.files, server.log, self._name, self._config.text("appenddirname")
        )
        self.state = OFF
        self.writer = AofWriter(
            server.files,
            server.clock,
            server.log,
            lambda: child.running,
            self._report_stall,
            self._end,
        )
        self.engine.command_log.waiting = self._measure_buffer
        self.writer.changed = self._guard_writes
        self.writer.mended = self.schedule
        # Ends the process at once: nothing may go out to clients any more.
        self.end: Callable[[int], object] = os._exit
        self.scheduled = False
        self.rewrites = 0
        self.failures = 0
        self.last_ok = True
        self.last_seconds = -1
        self.last_cow = 0
        self.base_size = 0
        self._snapshot_base = True  # what the child is writing
        self._fork_point = self.writer.mark()  # of the child
        self._unwanted = False  # the child is being killed
        self._delay_minutes = 0
        self._next_try_ns = 0
        self._stamped = 0  # the last time in the log, Unix seconds
        self._reader: Reader = self.writer.buffer.append
        self._guarding = False
        self._config.on_change(
            ("appendfsync", "no-appendfsync-on-rewrite", "aof-timestamp-enabled"), self.configure
        )
        self._config.on_change("appendonly", self._switch)
        loading.sources.insert(0, self.load)
        self.configure()

    def configure(self) -> None:
        """Take over the directives."""
        config = self._config
        self.writer.policy = POLICIES[config.text("appendfsync")]
        self.writer.spare = config.boolean("no-appendfsync-on-rewrite")
        reader = self.writer.buffer.append
        if self.state != OFF:
            self._server.hub.gathers = self.writer.policy == ALWAYS
        self._follow(self._append_with_time if config.boolean("aof-timestamp-enabled") else reader)

    def _report_stall(self, event: bytes, taken: int) -> None:
        self.engine.report_stall(event, taken)

    def _measure_buffer(self) -> int:
        return self.writer.buffered

    def _end(self, code: int) -> None:
        self.end(code)

    def groups(self) -> Sequence[Group]:
        return (GROUP,)

    async def run(self) -> None:
        await self.writer.work()

    @property
    def permanent_offset(self) -> int:
        """The offset of the history up to which all data are in the log for good; -1: no log."""
        return self.writer.permanent_offset if self.state == ON else -1

    # The command log.

    def _follow(self, reader: Reader) -> None:
        """Let ``reader`` take what is logged, if anybody does."""
        log = self.engine.command_log
        if self._reader in log.readers and reader != self._reader:
            log.detach(self._reader)
            log.attach(reader)
        self._reader = reader

    def _append_with_time(self, wire: bytes) -> None:
        now = self.engine.keyspace.now // 1000
        if now > self._stamped:
            self._stamped = now
            self.writer.buffer.append(encode_timestamp(now))
        self.writer.buffer.append(wire)

    def _attach(self) -> None:
        if self._reader not in self.engine.command_log.readers:
            self.engine.command_log.attach(self._reader)
            self._server.hub.barriers.append(self.writer.flush)
        self._server.hub.gathers = self.writer.policy == ALWAYS

    def _detach(self) -> None:
        if self._reader in self.engine.command_log.readers:
            self.engine.command_log.detach(self._reader)
            self._server.hub.barriers.remove(self.writer.flush)
        self._server.hub.gathers = False

    # Start.

    async def load(self) -> bool:
        """At start: load the log and open it; False where it is off, so that there are no data.

        A manifest that cannot be read stops the start in any case. Raises LoadFailed.
        """
        folder = self.folder
        folder.settle(self._config.text("dir"))
        folder.read()
        if not self._config.boolean("appendonly"):
            return False
        started = self._clock.monotonic_ns()
        folder.adopt_single_file()
        manifest = folder.manifest
        if not manifest.is_empty:
            loader = AofLoader(
                self.engine, self._loading, self._files, self._log, folder.path, self._name
            )
            sizes = loader.measure(manifest)
            if any(sizes.values()):
                truncate = self._config.boolean("aof-load-truncated")
                await loader.load(manifest, sizes, truncate)
                self.base_size = sizes[manifest.base.name] if manifest.base is not None else 0
            taken = (self._clock.monotonic_ns() - started) / 1e9
            self._log.notice(f"DB loaded from append only file: {taken:.3f} seconds")
        self._open_at_start()
        return True

    def _open_at_start(self) -> None:
        """Go on where the log ends, or begin one. Raises LoadFailed."""
        folder = self.folder
        if not folder.make():
            raise LoadFailed
        files = self._files
        log = self._log
        manifest = folder.manifest.copy()
        there = bool(manifest.incremental)
        if manifest.is_empty:
            # The log would do without a base, but other tools expect one.
            snapshot = self._config.boolean("aof-use-rdb-preamble")
            base = manifest.add_base(snapshot=snapshot)
            if not self._write_base(self.folder.place(base.name), snapshot, _ignore_progress):
                raise LoadFailed
            log.notice(f"Creating AOF base file {base.name} on server start")
            self.base_size = self.folder.length(base.name)
        name = manifest.last_incremental().name
        try:
            descriptor = files.append(self.folder.place(name))
            offset = files.size_of(descriptor)
        except OSError as error:
            log.warning(f"Can't open the append-only file {name}: {error.strerror}")
            raise LoadFailed from None
        if not folder.persist(manifest):
            raise LoadFailed
        log.notice(f"{'Opening' if there else 'Creating'} AOF incr file {name} on server start")
        self.writer.size = sum(folder.length(file.name) for file in manifest.files)
        self.writer.open(descriptor, offset)
        self.state = ON
        self._attach()
        self._remove_history()

    # Rewriting.

    @GROUP.command(
        "bgrewriteaof",
        1,
        "admin noscript no_async_loading",
        since="1.0.0",
        complexity="O(1)",
        summary="Rewrites the append-only file in the background.",
    )
    def rewrite_in_background(self, ctx: Session, argv: list[bytes]) -> Reply:
        """A status that says whether it has begun, or will when the child there is done."""
        if self._child.kind == KIND_REWRITE:
            raise ReplyError(IN_PROGRESS)
        if self._child.running or ctx.in_exec:
            self.scheduled = True
            # Whoever asks for it does not want to wait for the server's own patience.
            self.failures = 0
            return Status(b"Background append only file rewriting scheduled")
        if not self.rewrite():
            raise ReplyError(IMPOSSIBLE)
        return Status(b"Background append only file rewriting started")

    def schedule(self) -> None:
        """Rewrite the log as soon as there is no other child."""
        if self.state != OFF:
            self.scheduled = True

    def rewrite(self) -> bool:
        """Begin a rewrite, no child being there; False when that is impossible, which is logged."""
        if self.state == OFF:
            self.folder.settle(self._config.text("dir"))
        if not self.folder.make():
            self._fail()
            return False
        if self.state != OFF:
            self.writer.flush(force=True)
            if self.state == WAITING:
                self.writer.drop()  # the new base will have it
            if self.writer.buffer:
                # The child would write it, too, and loading would do it twice.
                self._log.warning(
                    "Can't rewrite append only file in background: what was logged cannot be "
                    f"written: {self.writer.write_error}"
                )
                self._fail()
                return False
            if not self._begin_incremental():
                self._fail()
                return False
        self.rewrites += 1
        self._snapshot_base = self._config.boolean("aof-use-rdb-preamble")
        keys = sum(db.count for db in self.engine.keyspace.databases)
        try:
            pid = self._child.start(KIND_REWRITE, self._work, self._finish, keys)
        except OSError as error:
            self._log.warning(
                f"Can't rewrite append only file in background: fork: {error.strerror}"
            )
            self._fail()
            return False
        self._fork_point = self.writer.mark()
        self._log.notice(f"Background append only file rewriting started by pid {pid}")
        self.scheduled = False
        # From here on the log has what the child does not know.
        if self.state != OFF:
            self._attach()
            self.engine.command_log.selected = -1
        return True

    def _fail(self) -> None:
        self.last_ok = False
        self.failures += 1

    def _begin_incremental(self) -> bool:
        """Let what is logged from now on go to another file; False when that failed."""
        files = self._files
        log = self._log
        manifest: Manifest | None = None
        if self.state == WAITING:
            name = temporary_incremental_name(self._name)
        else:
            manifest = self.folder.manifest.copy()
            name = manifest.add_incremental().name
        try:
            # What is cut off after a short write is not to leave a hole.
            files.close(files.create(self.folder.place(name)))
            descriptor = files.append(self.folder.place(name))
        except OSError as error:
            log.warning(f"Can't open the append-only file {name}: {error.strerror}")
            return False
        log.notice(f"Creating AOF incr file {name} on background rewrite")
        if manifest is not None:
            # Only the last file of a log may break off in the middle.
            self.writer.sync_now()
            if not self.folder.persist(manifest):
                files.close(descriptor)
                return False
        self.writer.open(descriptor, 0)
        return True

    def _remove_history(self) -> None:
        if not self._config.boolean("aof-disable-auto-gc"):
            self.folder.remove_history(self.writer.remove)

    def _temporary_base(self, pid: int) -> str:
        return f"temp-rewriteaof-bg-{pid}.aof"

    def _work(self) -> None:
        """What the child does."""
        name = self._temporary_base(os.getpid())
        if not self._write_base(self.folder.beside(name), self._snapshot_base, self._child.report):
            raise OSError
        self._log.notice(f"Successfully created the temporary AOF base file {name}")

    def _write_base(self, path: str, snapshot: bool, step: Callable[[int], None]) -> bool:
        keyspace = self.engine.keyspace
        now = self._clock.wall()
        return write_base(
            self._files,
            path,
            self._config,
            self._log,
            keyspace,
            now,
            snapshot,
            self._loading.functions,
            step,
        )

    def _finish(self, end: Exit) -> None:
        """The child has ended."""
        log = self._log
        if end.ok and self._unwanted:
            log.notice("Background AOF rewrite has ended before it was killed, and is dropped")
        elif end.ok:
            log.notice("Background AOF rewrite terminated with success")
            if self._install_base(end.pid):
                self.last_ok = True
                self.failures = 0
                self._remove_history()
                log.notice("Background AOF rewrite finished successfully")
                if self.state == WAITING:
                    self.state = ON
                self.writer.settle(self._fork_point)
            else:
                self._fail()
        elif not end.signal:
            log.warning("Background AOF rewrite terminated with error")
            self._fail()
        else:
            log.warning(f"Background AOF rewrite terminated by signal {end.signal}")
            if not end.killed:
                self._fail()
        self.folder.remove(self.folder.beside(self._temporary_base(end.pid)))
        self.last_cow = end.cow
        self.last_seconds = int(end.seconds)
        if self.state == WAITING:
            self.scheduled = True

    def _install_base(self, pid: int) -> bool:
        """Make what the child has written the base of the log; False when that failed."""
        files = self._files
        log = self._log
        manifest = self.folder.manifest.copy()
        base = manifest.add_base(snapshot=self._snapshot_base)
        aside = self._temporary_base(pid)
        try:
            files.rename(self.folder.beside(aside), self.folder.place(base.name))
        except OSError as error:
            log.warning(
                f"Error trying to rename the temporary AOF base file {aside} into {base.name}: "
                f"{error.strerror}"
            )
            return False
        log.notice(f"Successfully renamed the temporary AOF base file {aside} into {base.name}")
        moved = ""
        if self.state == WAITING:
            manifest.retire_incremental(keep_last=False)
            temporary = temporary_incremental_name(self._name)
            moved = manifest.add_incremental().name
            try:
                files.rename(self.folder.place(temporary), self.folder.place(moved))
            except OSError as error:
                log.warning(
                    f"Error trying to rename the temporary AOF incr file {temporary} into "
                    f"{moved}: {error.strerror}"
                )
                self.folder.remove(self.folder.place(base.name))
                return False
            log.notice(f"Successfully renamed the temporary AOF incr file {temporary} into {moved}")
        else:
            manifest.retire_incremental(keep_last=self.state == ON)
        if not self.folder.persist(manifest):
            if self.folder.manifest is not manifest:
                self.folder.remove(self.folder.place(base.name))
                if moved:
                    self.folder.remove(self.folder.place(moved))
            return False
        if self.state != OFF:
            size = self.folder.length(base.name)
            self.writer.size = self.base_size = size + self.writer.offset
        return True

    # On and off.

    def _switch(self) -> None:
        """CONFIG SET appendonly. Raises ConfigError."""
        if self._server.loading:
            return
        wanted = self._config.boolean("appendonly")
        if not wanted and self.state != OFF:
            self.stop()
        elif wanted and self.state == OFF and not self.start():
            raise ConfigError("Unable to turn on AOF. Check server logs.")

    def start(self) -> bool:
        """Begin to log; False when that is impossible, which has been logged."""
        log = self._log
        self.folder.settle(self._config.text("dir"))
        self.state = WAITING
        if self._child.running and self._child.kind != KIND_REWRITE:
            self.scheduled = True
            log.notice(
                "AOF was enabled but there is already another background operation. An AOF "
                "background was scheduled to start when possible."
            )
        elif self.engine.in_unit:
            self.scheduled = True
            log.notice(
                "AOF was enabled during a transaction. An AOF background was scheduled to start "
                "when possible."
            )
        else:
            if self._child.running:
                log.notice(
                    "AOF was enabled but there is already an AOF rewriting in background. "
                    "Stopping background AOF and starting a rewrite now."
                )
                self._kill_child()
            if not self.rewrite():
                self.stop()
                log.warning(
                    "Redis needs to enable the AOF but can't trigger a background AOF rewrite "
                    "operation. Check the above logs for more info about the error."
                )
                return False
        self.writer.forget_errors()
        return True

    def stop(self) -> None:
        """Log nothing any more; what is on disk stays."""
        self.writer.flush(force=True)
        self._detach()
        self.writer.close()
        if self.state == WAITING:
            self.folder.remove(self.folder.place(temporary_incremental_name(self._name)))
        self.state = OFF
        self.scheduled = False
        self.writer.advanced()  # whoever waits for it will do so in vain
        self._kill_child()
        self.writer.forget_errors()

    def _kill_child(self) -> None:
        if self._child.kind == KIND_REWRITE:
            self._log.notice(f"Killing running AOF rewrite child: {self._child.pid}")
            # It may have ended just now, and not know what was logged to a log that ends here.
            self._unwanted = True
            self._child.kill()
            self._unwanted = False

    # Periodic work.

    def tick(self, now_ns: int) -> None:
        """Write what no client waits for, and begin a rewrite where it is time."""
        if self.state != OFF:
            self.writer.flush()
        if self._child.running or self._server.loading:
            return
        if self.scheduled:
            if not self._must_wait(now_ns):
                self.rewrite()
            return
        growth = self._config.integer("auto-aof-rewrite-percentage")
        size = self.writer.size
        if self.state != ON or not growth:
            return
        if size <= self._config.integer("auto-aof-rewrite-min-size"):
            return
        grown = size * 100 // (self.base_size or 1) - 100
        if grown >= growth and not self._must_wait(now_ns):
            self._log.notice(f"Starting automatic rewriting of AOF on {grown}% growth")
            self.rewrite()

    def _must_wait(self, now_ns: int) -> bool:
        """Whether rewrites have failed so often that the next one is not due yet."""
        if self.failures < FAILURES:
            self._delay_minutes = 0
            self._next_try_ns = 0
            return False
        if self._next_try_ns:
            if now_ns < self._next_try_ns:
                return True
            self._next_try_ns = 0
            return False
        self._delay_minutes = min(max(1, self._delay_minutes * 2), LONGEST_DELAY_MINUTES)
        self._next_try_ns = now_ns + self._delay_minutes * 60 * SECOND_NS
        self._log.warning(
            "Background AOF rewrite has repeatedly failed and triggered the limit, will retry in "
            f"{self._delay_minutes} minutes"
        )
        return True

    # Writes are refused while the log cannot be written.

    def _guard_writes(self) -> None:
        wanted = bool(self.writer.error)
        if wanted and not self._guarding:
            self.engine.add_guard(STAGE_DISK, self.guard)
        elif self._guarding and not wanted:
            self.engine.remove_guard(self.guard)
        self._guarding = wanted

    def guard(self, session: Session, command: Command, argv: list[bytes]) -> Reply:
        """Refuse what changes the data, and PING, so that monitoring learns of it."""
        text = b"MISCONF Errors writing to the AOF file: %b" % self.writer.error.encode()
        return refuse_changes(session, command, text)

    # The end.

    def finish(self, request: ShutdownRequest) -> None:
        """At shutdown: all that was logged goes to the disk. Raises ShutdownRefused."""
        if self.state == OFF:
            return
        if self._child.kind == KIND_REWRITE:
            if self.state == WAITING:
                if not request.force:
                    self._log.warning("Writing initial AOF, can't exit.")
                    raise ShutdownRefused
                self._log.warning("Writing initial AOF. Exit anyway.")
            self._log.warning("There is a child rewriting the AOF. Killing it!")
            self._kill_child()
        self.writer.finish()

    # INFO.

    def sections(self) -> Sequence[Section]:
        return (Section("Persistence", self._collect),)

    def _collect(self) -> Fields:
        rewriting = self._child.kind == KIND_REWRITE
        writer = self.writer
        fields: Fields = [
            ("aof_enabled", int(self.state != OFF)),
            ("aof_rewrite_in_progress", int(rewriting)),
            ("aof_rewrite_scheduled", int(self.scheduled)),
            ("aof_last_rewrite_time_sec", self.last_seconds),
            ("aof_current_rewrite_time_sec", int(self._child.seconds) if rewriting else -1),
            ("aof_last_bgrewrite_status", "ok" if self.last_ok else "err"),
            ("aof_rewrites", self.rewrites),
            ("aof_rewrites_consecutive_failures", self.failures),
            ("aof_last_write_status", "err" if writer.error else "ok"),
            ("aof_last_cow_size", self.last_cow),
        ]
        if self.state != OFF:
            fields += [
                ("aof_current_size", writer.size),
                ("aof_base_size", self.base_size),
                ("aof_pending_rewrite", int(self.state == WAITING)),
                ("aof_buffer_length", writer.buffered),
                ("aof_pending_bio_fsync", writer.pending_syncs),
                ("aof_delayed_fsync", writer.delayed),
            ]
        return fields

    def reset_statistics(self) -> None:
        self.writer.delayed = 0
        self.rewrites = 0


def _ignore_progress(written: int) -> None:
    return None
