"""Loads an append-only file: its base, which may be a snapshot, and then what was logged since.

Files are read in small portions between which other tasks run. Only the last file may end in the
middle of a command or a transaction, and only with ``aof-load-truncated``: that end is cut off, so
that the log can go on after it. Whatever else is wrong ends the start, and changes nothing on disk.
Rules and log lines after ``loadAppendOnlyFiles`` and ``loadSingleAppendOnlyFile`` of Redis (aof.c).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import trio

from node.files import Files
from node.log import Log
from node.persistence.aof_manifest import Manifest, manifest_name
from node.persistence.aof_parser import AofParser, FormatError
from node.persistence.aof_replay import Replay, ReplayError
from node.persistence.dataset import Unloadable
from node.persistence.loading import PORTION, Loading, check_end
from node.persistence.rdb_format import MAGIC, RdbError
from node.server import LoadFailed

if TYPE_CHECKING:
    from node.engine import Engine


_KINDS: Final = ("incr", "base")


class AofLoader:
    """Loads one log out of ``folder``; ``name`` is the directive `appendfilename`."""

    def __init__(
        self, engine: Engine, loading: Loading, files: Files, log: Log, folder: str, name: str
    ) -> None:
        self._engine = engine
        self._loading = loading
        self._files = files
        self._log = log
        self._folder = folder
        self._name = name
        self._check = f"redis-check-aof --fix {os.path.join(folder, manifest_name(name))}"  # noqa: PTH118
        self._before = 0  # bytes of the files before the one that is being read

    def measure(self, manifest: Manifest) -> dict[str, int]:
        """The size in bytes of each file to be loaded. Raises LoadFailed where one is missing."""
        sizes: dict[str, int] = {}
        for file in manifest.files:
            try:
                size = self._files.length(self._path(file.name))
            except OSError as error:
                self._log.warning(
                    f"Unable to obtain the AOF file {file.name} length. stat: {error.strerror}"
                )
                raise LoadFailed from None
            if size is None:
                self._log.warning(
                    f"Fatal error: the AOF file {file.name}, which the manifest in "
                    f"{self._folder} names, doesn't exist"
                )
                raise LoadFailed
            sizes[file.name] = size
        return sizes

    async def load(self, manifest: Manifest, sizes: dict[str, int], truncate: bool) -> None:
        """Load all files; ``truncate`` is whether the last may be cut short.

        Raises LoadFailed, and then the reason has been logged.
        """
        self._loading.begin(sum(sizes.values()))
        clock = self._engine.clock
        replay = Replay(self._engine)
        files = manifest.files
        try:
            for file in files:
                started = clock.monotonic_ns()
                last = file is files[-1]
                if sizes[file.name]:
                    await self._load_file(file.name, replay, truncate=truncate and last, last=last)
                self._before += sizes[file.name]
                kind = _KINDS[file is manifest.base]
                taken = (clock.monotonic_ns() - started) / 1e9
                if sizes[file.name]:
                    self._log.notice(f"DB loaded from {kind} file {file.name}: {taken:.3f} seconds")
        finally:
            replay.close()

    def _path(self, name: str) -> str:
        return os.path.join(self._folder, name)  # noqa: PTH118

    async def _load_file(self, name: str, replay: Replay, *, truncate: bool, last: bool) -> None:
        log = self._log
        files = self._files
        path = self._path(name)
        try:
            descriptor = files.open(path)
        except OSError as error:
            log.warning(
                f"Fatal error: can't open the append log file {name} for reading: {error.strerror}"
            )
            raise LoadFailed from None
        try:
            total = files.size_of(descriptor)
            data = files.read(descriptor, PORTION)
            offset = 0
            if data.startswith(MAGIC):
                data, offset = await self._load_snapshot(name, descriptor, data)
            await self._load_commands(descriptor, AofParser(total, offset), data, replay)
        except FormatError as error:
            log.warning(
                f"Bad file format reading the append only file {name} at offset {error.offset}: "
                f"{error.reason}"
            )
            log.warning(f"Make a backup of your AOF file, then use {self._check}")
            raise LoadFailed from None
        except ReplayError as error:
            log.warning(
                f"{error.reason} reading the append only file {name}, before offset {error.offset}"
            )
            raise LoadFailed from None
        except OSError as error:
            log.warning(
                f"Unrecoverable error reading the append only file {name}: {error.strerror}"
            )
            raise LoadFailed from None
        finally:
            files.close(descriptor)
        if replay.valid < total:
            self._cut(name, replay, total, truncate=truncate, last=last)

    async def _load_snapshot(self, name: str, descriptor: int, data: bytes) -> tuple[bytes, int]:
        """Load a file's beginning that is a snapshot: what was read beyond it, and its length."""
        log = self._log
        loading = self._loading
        old_style = name == self._name
        if old_style:
            log.notice("Reading RDB preamble from AOF file...")
        else:
            log.notice("Reading RDB base file on AOF loading...")
        reader, intake = loading.open_reader(keep_expired=True)
        told = False
        done = self._before
        try:
            while data:
                records = reader.feed(data)
                if not told and (records or reader.finished):
                    told = True
                    loading.tell_origin(reader)
                intake.take(records)
                if reader.finished:
                    break
                done += len(data)
                await loading.pace(done)
                data = self._files.read(descriptor, PORTION)
            check_end(reader)
        except (RdbError, Unloadable) as error:
            loading.complain(self._path(name), error)
            if old_style:
                log.warning(
                    f"Error reading the RDB preamble of the AOF file {name}, AOF loading aborted"
                )
            else:
                log.warning(f"Error reading the RDB base file {name}, AOF loading aborted")
            raise LoadFailed from None
        loading.settle(reader, intake)
        if old_style:
            log.notice("Reading the remaining AOF tail...")
        return reader.rest, reader.offset

    async def _load_commands(
        self, descriptor: int, parser: AofParser, data: bytes, replay: Replay
    ) -> None:
        """Execute what the file says from here on. Raises FormatError, ReplayError, OSError."""
        loading = self._loading
        engine = self._engine
        read = self._files.read
        delay = engine.config.integer("key-load-delay") / 1e6
        done = self._before + parser.offset
        replay.begin(parser.offset)
        if not data:
            data = read(descriptor, PORTION)
        while data and not parser.short:
            requests = parser.feed(data)
            if delay > 0:
                for request, end in zip(requests, parser.ends, strict=True):
                    replay.run([request], [end])
                    await trio.sleep(delay)
            else:
                replay.run(requests, parser.ends)
            done += len(data)
            engine.begin_batch()
            await loading.pace(done)
            data = read(descriptor, PORTION)
        replay.run(parser.finish(), parser.ends)
        if not replay.in_unit:
            replay.valid = parser.offset

    def _cut(self, name: str, replay: Replay, total: int, *, truncate: bool, last: bool) -> None:
        """The file ends in the middle of something: cut that off, or raise LoadFailed."""
        log = self._log
        offset = replay.valid
        if replay.in_unit:
            log.warning(f"Revert incomplete MULTI/EXEC transaction from AOF file {name}")
            replay.drop_unit()
        if not truncate:
            log.warning(
                f"Unexpected end of file reading the append only file {name} at offset {total}, "
                f"{total - offset} bytes after the last whole command."
            )
            if not last:
                log.warning("Fatal error: the truncated file is not the last file")
                log.warning(f"Make a backup of your AOF file, then use {self._check}")
            else:
                log.warning(
                    f"You can: 1) Make a backup of your AOF file, then use {self._check}. "
                    "2) Alternatively you can set the 'aof-load-truncated' configuration option "
                    "to yes and restart the server."
                )
            raise LoadFailed
        log.warning(f"!!! Warning: short read while loading the AOF file {name}!!!")
        log.warning(f"!!! Truncating the AOF {name} at offset {offset} !!!")
        try:
            descriptor = self._files.append(self._path(name))
            try:
                self._files.truncate(descriptor, offset)
                self._files.fsync(descriptor)
            finally:
                self._files.close(descriptor)
        except OSError as error:
            log.warning(f"Error truncating the AOF file {name}: {error.strerror}")
            raise LoadFailed from None
        log.warning(f"AOF {name} loaded anyway because aof-load-truncated is enabled")
