"""Loading the data at start, while clients wait for them, and again where DEBUG RELOAD asks for it.

The port is open by then: clients connect, and commands flagged ``loading`` (PING is not one of
them, INFO and SHUTDOWN are) are executed, all others answered with LOADING. The file is read in
small portions, between which the other tasks run about every millisecond.

A file that cannot be loaded whole ends the start: where, why and how to look into it is logged,
and nothing on disk is touched. Behaviour and log lines after ``loadDataFromDisk`` and ``rdbLoad``
of Redis 7.2.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final

import trio

from node.collector import collector_at_rest
from node.command import LOADING, NO_ASYNC_LOADING, Command
from node.component import Component
from node.engine import STAGE_LOADING
from node.information import Fields, Section
from node.keyspace import STILL_LOADING, STILL_REPLICA, Keyspace
from node.persistence.dataset import Intake, Unloadable
from node.persistence.rdb_format import RdbError
from node.persistence.rdb_reader import RdbReader, Record
from node.persistence.snapshots import Snapshots
from node.resp import OK, Error, Reply, ReplyError
from node.server import LoadFailed
from node.session import Session

if TYPE_CHECKING:
    from node.server import Server

PORTION: Final = 16 << 10
"""Bytes that are read at once: well under a millisecond's work."""

TURN_NS: Final = 1_000_000
PROGRESS_NS: Final = 5_000_000_000
MEGABYTE: Final = 1 << 20

LOADING_ERROR: Final = Error(b"LOADING Redis is loading the dataset in memory")
BAD_OPTIONS: Final = b"ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options."
RELOAD_FAILED: Final = b"ERR Error trying to load the RDB dump, check server logs."


def _ignore_head(aux: dict[bytes, bytes]) -> None:
    return None


# Loads the data if it has any, or has the say on whether there are any.
Source = Callable[[], Awaitable[bool]]


class Loading(Component):
    """Brings the data in. ``sources`` are asked in order until one returns True.

    ``expired`` and ``loaded`` count the keys of the last snapshot that was read.
    """

    def __init__(self, server: Server, snapshots: Snapshots) -> None:
        super().__init__(server.engine)
        self._server = server
        self._snapshots = snapshots
        self._files = server.files
        self._config = server.config
        self._log = server.log
        self._clock = server.clock
        self.sources: list[Source] = [self._load_snapshot]
        # Told what the head of the snapshot says that is loaded at start, before any key is.
        self.head_read: Callable[[dict[bytes, bytes]], None] = _ignore_head
        self.expired = 0
        self.loaded = 0
        # Progress: Unix seconds, bytes.
        self._began = 0
        self._total = 0
        self._done = 0
        self._memory = 0  # what the writer of the file says that the data took
        self._turn_ns = 0
        self._progress_ns = 0
        server.load = self.load

    # At start.

    async def load(self) -> None:
        """Load the data. Raises LoadFailed; the reason has been logged."""
        self.enter()
        with collector_at_rest():
            for source in self.sources:
                if await source():
                    break
        self.leave()

    def enter(self, *, serving: bool = False) -> None:
        """From here on the data are not all there, or (``serving``) they are the old ones."""
        self._server.loading = True
        self._server.async_loading = serving
        if not serving:
            self.engine.keyspace.hold_still(STILL_LOADING, True)
        self.engine.add_guard(STAGE_LOADING, self.guard)
        self.begin(0)

    def leave(self) -> None:
        """The data are there."""
        self.engine.remove_guard(self.guard)
        self.engine.keyspace.hold_still(STILL_LOADING, False)
        self._server.loading = False
        self._server.async_loading = False
        self._snapshots.forget_changes()

    def guard(self, session: Session, command: Command, argv: list[bytes]) -> Reply:
        """Refuse whatever needs the data, or would change what is being loaded."""
        if self._server.async_loading:
            return LOADING_ERROR if command.flags & NO_ASYNC_LOADING else None
        if not command.flags & LOADING:
            return LOADING_ERROR
        if command.name == b"exec" and session.queue is not None:
            for queued in session.queue:
                if not queued.command.flags & LOADING:
                    return LOADING_ERROR
        return None

    def begin(self, total: int) -> None:
        """Files of ``total`` bytes are going to be loaded."""
        now = self._clock.monotonic_ns()
        self._began = int(self._clock.wall())
        self._total = total
        self._done = 0
        self._memory = 0
        self._turn_ns = now + TURN_NS
        self._progress_ns = now + PROGRESS_NS

    async def pace(self, done: int) -> None:
        """So many bytes have been loaded: let the other tasks run if it is time."""
        self._done = done
        now = self._clock.monotonic_ns()
        if now < self._turn_ns:
            return
        if now >= self._progress_ns:
            self._progress_ns = now + PROGRESS_NS
            self._log.notice(
                f"Loading: {done // MEGABYTE} of {self._total // MEGABYTE} MB, "
                f"{self._percentage():.0f}%"
            )
        await trio.lowlevel.checkpoint()
        self._turn_ns = self._clock.monotonic_ns() + TURN_NS

    async def _load_snapshot(self) -> bool:
        """Load ``dbfilename``; False if there is no such file."""
        path = self._config.text("dbfilename")
        log = self._log
        started = self._clock.monotonic_ns()
        try:
            descriptor = self._files.open(path)
        except FileNotFoundError:
            return False
        except OSError as error:
            log.warning(
                f"Fatal error: can't open the RDB file {path} for reading: {error.strerror}"
            )
            raise self._failure() from None
        try:
            self.begin(self._files.size_of(descriptor))
            reader, intake = self.open_reader()
            intake.left_out = self._log_expiry
            await self.read(descriptor, reader, intake, self.head_read)
        except (RdbError, Unloadable, OSError) as error:
            self.complain(path, error)
            raise self._failure() from None
        finally:
            self._files.close(descriptor)
        self.settle(reader, intake)
        taken = (self._clock.monotonic_ns() - started) / 1e9
        log.notice(f"DB loaded from disk: {taken:.3f} seconds")
        return True

    def _failure(self) -> LoadFailed:
        self._log.warning("Fatal error loading the DB, check server logs. Exiting.")
        return LoadFailed()

    def _log_expiry(self, db: int, key: bytes) -> None:
        """Replicas that go on where the snapshot ends have the key still."""
        engine = self.engine
        engine.command_log.append([(db, [engine.keyspace.expire_command, key])])

    async def read(
        self,
        descriptor: int,
        reader: RdbReader,
        intake: Intake,
        head_read: Callable[[dict[bytes, bytes]], None] = _ignore_head,
    ) -> None:
        """Read the whole file. Raises RdbError, Unloadable, OSError."""
        config = self._config
        told = False
        done = 0
        while data := self._files.read(descriptor, PORTION):
            records = reader.feed(data)
            if not told and (records or reader.finished):
                told = True
                self.tell_origin(reader)
                head_read(reader.aux)
            if config.integer("key-load-delay") > 0:
                for record in records:
                    intake.take([record])
                    await trio.sleep(max(0, config.integer("key-load-delay")) / 1e6)
            else:
                intake.take(records)
            done += len(data)
            await self.pace(done)
        check_end(reader)

    # What all who read RDB files need.

    def open_reader(
        self,
        *,
        keep_expired: bool = False,
        replace: bool = False,
        keyspace: Keyspace | None = None,
    ) -> tuple[RdbReader, Intake]:
        """A reader of an RDB file, and what puts its records into the keyspace, or another one.

        A replica keeps what has expired: its master will say when it is gone.
        """
        config = self._config
        own = self.engine.keyspace
        if keyspace is None:
            keyspace = own
        reader = RdbReader(keyspace.limits, config.boolean("rdbchecksum"))
        intake = Intake(
            keyspace,
            int(self._clock.wall() * 1000),
            config.text("maxmemory-policy"),
            keep_expired=keep_expired or bool(own.still & STILL_REPLICA),
            replace=replace,
            sizes=reader.sizes,
        )
        return reader, intake

    def tell_origin(self, reader: RdbReader) -> None:
        """Log what the head of the file says about where it comes from."""
        aux = reader.aux
        log = self._log
        if b"redis-ver" in aux:
            version = aux[b"redis-ver"].decode(errors="backslashreplace")
            log.notice(f"Loading RDB produced by version {version}")
        created = _number(aux.get(b"ctime"))
        if created is not None:
            log.notice(f"RDB age {max(0, int(self._clock.wall()) - created)} seconds")
        used = _number(aux.get(b"used-mem"))
        if used is not None:
            self._memory = used
            log.notice(f"RDB memory usage when created {used / MEGABYTE:.2f} Mb")
        if _number(aux.get(b"aof-base")):
            log.notice("RDB is base AOF")

    @property
    def functions(self) -> list[bytes]:
        """Libraries of functions that a file has brought: kept, to be written with the data."""
        return self._snapshots.functions

    def settle(self, reader: RdbReader, intake: Intake) -> None:
        """A file has been loaded whole: count it, keep what is no key, and log it."""
        self._snapshots.functions = reader.functions
        self.loaded = intake.loaded
        self.expired = intake.expired
        skipped = f", empty keys skipped: {reader.empty_keys}" if reader.empty_keys else ""
        self._log.notice(
            f"Done loading RDB, keys loaded: {intake.loaded}, keys expired: {intake.expired}"
            f"{skipped}."
        )

    def complain(self, path: str, error: RdbError | Unloadable | OSError) -> None:
        """Log why the file cannot be loaded, and how to look into it."""
        name = self._config.path("dbfilename") if path == self._config.text("dbfilename") else path
        if isinstance(error, RdbError):
            self._log.warning(
                f"Bad file format reading the RDB file {name} at offset {error.offset}: "
                f"{error.message}"
            )
        elif isinstance(error, OSError):
            self._log.warning(f"Error reading the RDB file {name}: {error.strerror}")
        else:
            self._log.warning(f"The RDB file {name} cannot be loaded: {error}")
        self._log.warning(f"The file has not been changed. Examine it with: redis-check-rdb {name}")

    # DEBUG RELOAD.

    def reload(self, ctx: Session, argv: list[bytes]) -> Reply:
        """Save the data, forget them, load them. A file that cannot be loaded changes nothing."""
        options = {option.lower() for option in argv[2:]}
        if not options <= {b"merge", b"noflush", b"nosave"}:
            raise ReplyError(BAD_OPTIONS)
        if b"nosave" not in options and not self._snapshots.save():
            raise ReplyError(b"ERR")
        keyspace = self.engine.keyspace
        path = self._config.text("dbfilename")
        reader, intake = self.open_reader(replace=True)
        try:
            records = self._read_at_once(path, reader)
            if b"merge" not in options:
                self._check_unique(records, alone=b"noflush" not in options)
        except (RdbError, Unloadable, OSError) as error:
            self.complain(path, error)
            raise ReplyError(RELOAD_FAILED) from None
        if b"noflush" not in options:
            for db in keyspace.databases:
                db.clear()
        self.tell_origin(reader)
        intake.take(records)
        self.settle(reader, intake)
        self._log.warning("DB reloaded by DEBUG RELOAD")
        return OK

    def _read_at_once(self, path: str, reader: RdbReader) -> list[Record]:
        """All records of the file. Raises RdbError, OSError."""
        records: list[Record] = []
        descriptor = self._files.open(path)
        try:
            while data := self._files.read(descriptor, PORTION):
                records += reader.feed(data)
        finally:
            self._files.close(descriptor)
        check_end(reader)
        return records

    def _check_unique(self, records: Sequence[Record], *, alone: bool) -> None:
        """Raise Unloadable where a key comes twice, or is there already and will not go before."""
        databases = self.engine.keyspace.databases
        seen: set[tuple[int, bytes]] = set()
        for record in records:
            name = (record.db, record.key)
            if record.db >= len(databases):
                raise Unloadable("The file has databases that are not there")
            if name in seen or not (alone or databases[record.db].stored(record.key) is None):
                text = record.key.decode(errors="backslashreplace")
                raise Unloadable(f"RDB has duplicated key '{text}' in DB {record.db}")
            seen.add(name)

    # INFO.

    def sections(self) -> Sequence[Section]:
        return (Section("Persistence", self._collect),)

    def _percentage(self) -> float:
        return self._done * 100 / self._total if self._total else 100.0

    def _collect(self) -> Fields:
        fields: Fields = [
            ("rdb_last_load_keys_expired", self.expired),
            ("rdb_last_load_keys_loaded", self.loaded),
            ("module_fork_in_progress", 0),
            ("module_fork_last_cow_size", 0),
        ]
        if self._server.loading:
            elapsed = int(self._clock.wall()) - self._began
            left = max(0, self._total - self._done)
            eta = elapsed * left // (self._done + 1) if elapsed else 1
            fields += [
                ("loading_start_time", self._began),
                ("loading_total_bytes", self._total),
                ("loading_rdb_used_mem", self._memory),
                ("loading_loaded_bytes", self._done),
                ("loading_loaded_perc", self._percentage()),
                ("loading_eta_seconds", eta),
            ]
        return fields


def check_end(reader: RdbReader) -> None:
    """Raise RdbError unless the file was there to its end."""
    if not reader.finished:
        raise RdbError("Unexpected end of file", reader.offset + reader.buffered)


def _number(text: bytes | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None
