"""A full synchronization as the replica sees it: all data come, in place of those that are there.

From disk (``repl-diskless-load disabled``): the snapshot goes into a file, while the old data are
served; then that file takes the place of ``dbfilename``, and is loaded as at start.

From the socket: the snapshot is loaded as it comes, either over an empty keyspace, or (``swapdb``)
into another one that takes the place of the old data once all is there. Should it fail, the old
data are what they were. They are served meanwhile if they are an earlier state of the same history.

(``readSyncBulkPayload`` in Redis's replication.c.)
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import trio

from node.files import Sink
from node.persistence.aof import OFF
from node.persistence.child import KIND_SNAPSHOT
from node.persistence.dataset import Intake, Unloadable
from node.persistence.loading import check_end
from node.persistence.rdb_format import RdbError
from node.persistence.rdb_reader import RdbReader
from node.replication.payload import Payload, PayloadError

if TYPE_CHECKING:
    from node.persistence.aof import AppendOnlyFile
    from node.persistence.child import Child
    from node.persistence.loading import Loading
    from node.replication.handshake import FullSync
    from node.replication.replication import Replication

SYNC_PORTION: Final = 8 << 20
"""Bytes of the file after which it is flushed (REPL_MAX_WRITTEN_BEFORE_FSYNC)."""

DRAIN_BUDGET: Final = 1000


class TransferError(Exception):
    """Nothing came of it, and the reason has been logged."""


class Transfer:
    """One full synchronization, on one connection; ``receive`` awaits more bytes from there.

    ``leave`` is called once the old data, which were a part of the old history, are going to be
    dropped: until then they may still be of use to another attempt.

    ``payload`` is how far the snapshot has come, ``loading`` whether it is being loaded (so that
    nobody listens to the master, who has to be told that the replica lives). ``stream_db`` is the
    database that the stream begins in, ``rest`` what has come of it.
    """

    __slots__ = (
        "payload",
        "loading",
        "stream_db",
        "rest",
        "_replication",
        "_loader",
        "_child",
        "_log_file",
        "_outcome",
        "_receive",
        "_leave",
        "_half",
    )

    def __init__(
        self,
        replication: Replication,
        loader: Loading,
        child: Child,
        log_file: AppendOnlyFile,
        outcome: FullSync,
        receive: Callable[[], Awaitable[bytes]],
        leave: Callable[[], None],
    ) -> None:
        self.payload = Payload()
        self.loading = False
        self.stream_db = 0
        self.rest = b""
        self._replication = replication
        self._loader = loader
        self._child = child
        self._log_file = log_file
        self._outcome = outcome
        self._receive = receive
        self._leave = leave
        self._half = False  # the old data are gone, and the new not all there

    async def run(self, data: bytes) -> None:
        """Fetch and load the snapshot; ``data`` is what has come of it.

        Raises TransferError. Whatever it ends with, the server is not loading afterwards, and has
        the new data, or the old ones, or none.
        """
        payload = self.payload
        log = self._replication.log
        try:
            found = payload.feed(data) if data else b""
            while not payload.begun:
                found = payload.feed(await self._receive())
            direct = self._loads_directly()
            target = "parser" if direct else "disk"
            if payload.streamed:
                log.notice(
                    "MASTER <-> REPLICA sync: receiving streamed RDB from master with EOF to "
                    + target
                )
            else:
                log.notice(
                    f"MASTER <-> REPLICA sync: receiving {payload.length} bytes from master to "
                    + target
                )
            if not direct:
                await self._load_by_file(found)
            elif self._replication.config.text("repl-diskless-load") == "swapdb":
                await self._load_aside(found)
            else:
                await self._load_in_place(found)
        except PayloadError as error:
            log.warning(str(error))
            raise TransferError from None
        finally:
            if self._half:
                self._flush()
                self._half = False
        self.rest = payload.rest

    def _loads_directly(self) -> bool:
        """Whether the snapshot is loaded out of the socket (``useDisklessLoad``)."""
        how = self._replication.config.text("repl-diskless-load")
        if how == "on-empty-db":
            return not any(db.count for db in self._replication.engine.keyspace.databases)
        return how == "swapdb"

    # By a file.

    async def _load_by_file(self, found: bytes) -> None:
        replication = self._replication
        log = replication.log
        files = replication.server.files
        name = replication.config.text("dbfilename")
        aside = f"temp-{int(replication.clock.wall())}.{os.getpid()}.rdb"
        try:
            sink = Sink(files, aside, SYNC_PORTION)
        except OSError as error:
            log.warning(
                "Opening the temp file needed for MASTER <-> REPLICA synchronization: "
                f"{error.strerror}"
            )
            raise TransferError from None
        try:
            await self._fill(sink, found)
            if self._child.kind == KIND_SNAPSHOT:
                log.notice(
                    "Replica is about to load the RDB file received from the master, but there is "
                    f"a pending RDB child running. Killing process {self._child.pid} and removing "
                    "its temp file to avoid any race"
                )
                self._child.kill()
            try:
                files.rename(aside, name)
                files.sync_folder(replication.config.text("dir"))
            except OSError as error:
                log.warning(
                    f"Failed trying to rename the temp DB into {name} in MASTER <-> REPLICA "
                    f"synchronization: {error.strerror}"
                )
                raise TransferError from None
        except BaseException:
            sink.abandon()
            with contextlib.suppress(OSError):
                files.remove(aside)
            raise
        await self._make_way()
        await self._load_file(name)
        if replication.config.boolean("rdb-del-sync-files") and not self._persists():
            log.notice(
                "Removing the RDB file obtained from the master. This replica has persistence "
                "disabled"
            )
            with contextlib.suppress(OSError):
                files.remove(name)

    async def _fill(self, sink: Sink, found: bytes) -> None:
        """Write the snapshot to the file. Raises TransferError, PayloadError."""
        payload = self.payload
        try:
            while True:
                if found:
                    sink.write(found)
                if payload.complete:
                    break
                found = payload.feed(await self._receive())
            sink.finish()
        except OSError as error:
            self._replication.log.warning(
                "Write error or short write writing to the DB dump file needed for "
                f"MASTER <-> REPLICA synchronization: {error.strerror}"
            )
            raise TransferError from None

    async def _load_file(self, name: str) -> None:
        replication = self._replication
        loader = self._loader
        files = replication.server.files
        reader, intake = loader.open_reader(keep_expired=True)
        descriptor = -1
        self.loading = True
        loader.enter()
        try:
            descriptor = files.open(name)
            loader.begin(files.size_of(descriptor))
            await loader.read(descriptor, reader, intake)
            self._finish(reader, intake)
        except (RdbError, Unloadable, OSError) as error:
            loader.complain(name, error)
            replication.log.warning(
                "Failed trying to load the MASTER synchronization DB from disk, check server logs."
            )
            raise TransferError from None
        finally:
            if descriptor >= 0:
                files.close(descriptor)
            loader.leave()
            self.loading = False

    def _persists(self) -> bool:
        config = self._replication.config
        return bool(config.save_points()) or config.boolean("appendonly")

    # Out of the socket.

    async def _load_in_place(self, found: bytes) -> None:
        loader = self._loader
        await self._make_way()
        reader, intake = loader.open_reader(keep_expired=True)
        loader.enter()
        try:
            await self._load_stream(reader, intake, found)
            self._finish(reader, intake)
        finally:
            loader.leave()

    async def _load_aside(self, found: bytes) -> None:
        """Load into another keyspace, which takes the place of the old one when all is there."""
        replication = self._replication
        loader = self._loader
        keyspace = replication.engine.keyspace
        log = replication.log
        fresh = keyspace.sibling()
        reader, intake = loader.open_reader(keep_expired=True, keyspace=fresh)
        # An earlier state of the same history may be read meanwhile.
        loader.enter(serving=self._outcome.id == replication.history.id)
        try:
            log.notice("MASTER <-> REPLICA sync: Loading DB in memory")
            try:
                await self._load_stream(reader, intake, found)
            except BaseException:
                log.notice("MASTER <-> REPLICA sync: Discarding temporary DB in background")
                keyspace.discard_all(fresh)
                raise
            self._leave()
            self._stop_log_file()
            replication.masters.disconnect_all()
            log.notice("MASTER <-> REPLICA sync: Swapping active DB with loaded DB")
            keyspace.replace_all(fresh)
            self._finish(reader, intake)
        finally:
            loader.leave()
        log.notice("MASTER <-> REPLICA sync: Discarding old DB in background")
        if keyspace.pending:
            replication.engine.settle_background()  # somebody has waited for what is there now

    async def _load_stream(self, reader: RdbReader, intake: Intake, found: bytes) -> None:
        """Load the snapshot as it comes. Raises TransferError, PayloadError."""
        loader = self._loader
        payload = self.payload
        log = self._replication.log
        loader.begin(max(0, payload.length))
        self.loading = True
        told = False
        try:
            while True:
                records = reader.feed(found)
                if not told and (records or reader.finished):
                    told = True
                    loader.tell_origin(reader)
                intake.take(records)
                await loader.pace(payload.received)
                if payload.complete:
                    break
                # Whoever waits for the master does listen to it.
                self.loading = False
                found = payload.feed(await self._receive())
                self.loading = True
            check_end(reader)
            if reader.rest:
                raise RdbError("There is something behind the end", reader.offset)
        except (RdbError, Unloadable) as error:
            if isinstance(error, RdbError):
                log.warning(f"{error.message}, at offset {error.offset} of what the master sent")
            else:
                log.warning(str(error))
            log.warning(
                "Failed trying to load the MASTER synchronization DB from socket, check server "
                "logs."
            )
            raise TransferError from None
        finally:
            self.loading = False

    # What all ways have in common.

    def _stop_log_file(self) -> None:
        if self._log_file.state != OFF:
            self._log_file.stop()

    async def _make_way(self) -> None:
        """Let go of the old data, and of those who have them from here."""
        replication = self._replication
        keyspace = replication.engine.keyspace
        self._leave()
        self._stop_log_file()
        replication.masters.disconnect_all()
        replication.history.drop_backlog()
        replication.log.notice("MASTER <-> REPLICA sync: Flushing old data")
        self.loading = True
        self._half = True
        try:
            self._flush()
            if not replication.config.boolean("replica-lazy-flush"):
                # So that the old and the new data are not in memory at the same time.
                while not keyspace.trash.drain(DRAIN_BUDGET):
                    await trio.lowlevel.checkpoint()
        finally:
            self.loading = False
        replication.log.notice("MASTER <-> REPLICA sync: Loading DB in memory")

    def _flush(self) -> None:
        for db in self._replication.engine.keyspace.databases:
            db.clear()

    def _finish(self, reader: RdbReader, intake: Intake) -> None:
        """All data are there: they are what the master says."""
        self._loader.settle(reader, intake)
        self._half = False
        selected = reader.aux.get(b"repl-stream-db", b"")
        if selected.isdigit() and int(selected) < len(self._replication.engine.keyspace.databases):
            self.stream_db = int(selected)
        history = self._replication.history
        outcome = self._outcome
        if outcome.id:
            history.join(outcome.id, outcome.offset)
        else:
            history.begin_anew()
        history.open_backlog(self._replication.config.integer("repl-backlog-size"))
