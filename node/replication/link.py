"""The connection to the own master: asking for the history, fetching it, executing it.

A link is in one of these states, which ROLE tells:

- ``none``: there is no master.
- ``connect``: not connected; an attempt is made at once after a link that worked has broken, and
  otherwise some time after the last one began: a tenth of a second, then twice as long each time,
  up to a second.
- ``connecting``, ``handshake``: on the way (:mod:`.handshake`).
- ``sync``: all data are coming (:mod:`.transfer`).
- ``connected``: the stream is coming, and the hub reads it (:mod:`.inflow`). It is executed by a
  session of its own, whose requests are refused by nobody, and it is passed on, byte for byte, to
  the own backlog and the own replicas.

The history ends where the last whole request ends that was executed; a transaction counts when it
has been executed as a whole. So the link can break anywhere and be taken up there. While clients
are paused (CLIENT PAUSE), so is the stream.

Once a second, and when asked, the master is told the offset (:mod:`.report`). A master that is
silent for ``repl-timeout`` seconds is given up.

(``replicationCron``, ``syncWithMaster``, ``replicationHandleMasterDisconnection`` and
``processMultibulkBuffer`` in Redis 7.2.)
"""

from __future__ import annotations

import contextlib
import socket
import traceback
from math import inf
from typing import TYPE_CHECKING, Final

import trio

from node.hub import format_address
from node.information import Fields
from node.keyspace import STILL_PAUSED
from node.network import describe_failure
from node.persistence.aof import OFF
from node.replication.execution import Execution
from node.replication.failover import REJECTED, UNWRITABLE
from node.replication.handshake import (
    Continue,
    Failure,
    FullSync,
    Handshake,
    Introduction,
    Outcome,
)
from node.replication.inflow import READ_SIZE, Inflow
from node.replication.report import Report
from node.replication.stream import StreamError
from node.replication.transfer import Transfer, TransferError
from node.scheduling import Scheduling
from node.session import Session
from node.version import REDIS_VERSION

if TYPE_CHECKING:
    from node.persistence.child import Child
    from node.persistence.loading import Loading
    from node.replication.replication import Replication

NONE: Final = "none"
CONNECT: Final = "connect"
CONNECTING: Final = "connecting"
HANDSHAKE: Final = "handshake"
SYNC: Final = "sync"
CONNECTED: Final = "connected"

# From the beginning of an attempt to the next one: at first, and at most (as always in Redis).
FIRST_RETRY_SECONDS: Final = 0.1
RETRY_SECONDS: Final = 1.0
PAUSE_SECONDS: Final = 0.01
# The master's silence is measured to so many nanoseconds.
SILENCE_STEP_NS: Final = 100_000_000
LONGEST_LINE: Final = 64 * 1024


class LinkLost(Exception):
    """The connection is of no use any more; the text says why."""


class Unwritable(LinkLost):
    """Nothing can be sent over it."""


class Link:
    """The link to one master after the other.

    ``host`` and ``port`` say where the master is, ``state`` how far the link is. ``session``
    executes the stream while there is one. ``down_since`` is in Unix seconds, 0 if unknown.
    ``resumable`` is whether the master may be asked to go on where the own history ends.
    """

    def __init__(self, replication: Replication, loader: Loading, child: Child) -> None:
        self.host = ""
        self.port = 0
        self.state = NONE
        self.session: Session | None = None
        self.down_since = 0
        self.resumable = False
        self._replication = replication
        self._engine = replication.engine
        self._config = replication.config
        self._log = replication.log
        self._server = replication.server
        self._loader = loader
        self._child = child
        self._log_file = replication.log_file
        # The database of the stream while there is no session.
        self._selected = 0
        self._transfer: Transfer | None = None
        self._execution: Execution | None = None
        self._inflow: Inflow | None = None
        self._scheduling = Scheduling()
        self._report = Report(self, replication.log_file)
        # Of the task.
        self._wake = trio.Event()
        self._scope = trio.CancelScope()  # of the connection
        self._watch = trio.CancelScope()  # ends it when the master is silent
        self._retry_at = -inf
        self._retry_after = FIRST_RETRY_SECONDS
        self._heard_ns = 0
        self._patient_ns = 0  # until then ``_watch`` need not learn that the master was heard
        self._stirred = trio.Event()  # the inflow has stopped by itself

    # What others ask.

    @property
    def position(self) -> int:
        """The offset of the data while the stream is coming, else -1."""
        return self._replication.history.offset if self.session is not None else -1

    @property
    def stream_db(self) -> int:
        """The database that the stream is in where the history ends."""
        return self._selected if self.session is None else self.session.db.index

    @property
    def connected(self) -> bool:
        """Whether the stream is coming."""
        return self.state == CONNECTED

    @property
    def silence_ms(self) -> int:
        """Milliseconds since the master was heard, or since it has been out of reach."""
        if self.connected:
            return (self._replication.clock.monotonic_ns() - self._heard_ns) // 1_000_000
        return int((self._replication.clock.wall() - self.down_since) * 1000)

    def fields(self) -> Fields:
        """The fields of INFO."""
        config = self._config
        offset = self._replication.history.offset if self.session or self.resumable else 1
        read = offset
        if self._execution is not None:
            read += self._execution.unfinished
        now_ns = self._replication.clock.monotonic_ns()
        silence = (now_ns - self._heard_ns) // 1_000_000_000
        fields: Fields = [
            ("master_host", self.host),
            ("master_port", self.port),
            ("master_link_status", "up" if self.connected else "down"),
            ("master_last_io_seconds_ago", silence if self.session is not None else -1),
            ("master_sync_in_progress", int(self.state == SYNC)),
            ("slave_read_repl_offset", read),
            ("slave_repl_offset", offset),
        ]
        transfer = self._transfer
        if self.state == SYNC and transfer is not None:
            received = transfer.payload.received
            total = 0 if transfer.payload.streamed else transfer.payload.length
            fields += [
                ("master_sync_total_bytes", total),
                ("master_sync_read_bytes", received),
                ("master_sync_left_bytes", total - received),
                ("master_sync_perc", received * 100 / total if total > 0 else 0.0),
                ("master_sync_last_io_seconds_ago", silence),
            ]
        if not self.connected:
            down = int(self._replication.clock.wall()) - self.down_since
            fields.append(("master_link_down_since_seconds", down if self.down_since else -1))
        return [
            *fields,
            ("slave_priority", config.integer("replica-priority")),
            ("slave_read_only", int(config.boolean("replica-read-only"))),
            ("replica_announced", int(config.boolean("replica-announced"))),
        ]

    # What others want.

    def follow(self, host: str, port: int) -> None:
        """Connect to the master there, instead of the one before, if there was one.

        In any case it is asked to go on where the data end.
        """
        self._end()
        if not self.host:
            self.resumable = True
            self._selected = 0
        self.host = host
        self.port = port
        self.state = CONNECT
        self._hurry()

    def resume(self, selected: int) -> None:
        """The data that were loaded at start are part of the master's history, or were once.

        ``selected`` is the database that the stream is in that goes on there.
        """
        if selected < len(self._engine.keyspace.databases):
            self.resumable = True
            self._selected = selected

    def leave(self) -> None:
        """Have no master any more."""
        self._end()
        self._forget_history()
        self.host = ""
        self.port = 0
        self.state = NONE
        self.down_since = 0
        self.restart_log_file()

    def acknowledge(self) -> None:
        """Tell the master the offset, when what has come by now has been executed."""
        if self._inflow is not None and self._inflow.busy:
            self._inflow.asked = True
        else:
            self._report.ask()

    def tick(self, now_ns: int) -> None:
        """It may be time for the next attempt."""
        if self.state == CONNECT:
            self._wake.set()

    def _lose(self) -> None:
        """The link has worked and does no more: go on as soon as possible."""
        self._end()
        self.state = CONNECT
        self._hurry()
        self._log.notice(f"Reconnecting to MASTER {self.host}:{self.port}")

    def _hurry(self) -> None:
        """Try to connect at once, and soon again."""
        self._retry_at = -inf
        self._retry_after = FIRST_RETRY_SECONDS
        self._wake.set()

    def _end(self) -> None:
        """Let go of the connection, whatever it is doing."""
        self._scope.cancel()
        session = self.session
        if session is not None:
            self._selected = session.db.index
            self.session = None
            self._execution = None
            if self._inflow is not None:
                self._inflow.end()
                self._inflow = None
            self.down_since = int(self._replication.clock.wall())
            session.killed = True
            self._engine.close_session(session)
            self._log.notice("Connection with master lost.")
            self._log.notice("Caching the disconnected master state.")

    # The task.

    async def run(self) -> None:
        """Keep the link up; ends with the server."""
        while True:
            while not self._is_due():
                self._wake = trio.Event()
                await self._wake.wait()
            with trio.CancelScope() as self._scope:
                await self._connect(self.host, self.port)

    def _is_due(self) -> bool:
        if self.state != CONNECT or self._server.loading:
            return False
        return trio.current_time() >= self._retry_at

    async def _connect(self, host: str, port: int) -> None:
        """One attempt, and all that follows if it succeeds."""
        config = self._config
        log = self._log
        scope = self._scope
        log.notice(f"Connecting to MASTER {host}:{port}")
        self._retry_at = trio.current_time() + self._retry_after
        self._retry_after = min(2 * self._retry_after, RETRY_SECONDS)
        self.state = CONNECTING
        log.notice("MASTER <-> REPLICA sync started")
        try:
            with trio.fail_after(config.integer("repl-timeout")):
                stream = await self._server.network.connect(
                    host, port, config.text("bind-source-addr")
                )
        except OSError as error:
            log.warning(f"Error condition on socket for SYNC: {describe_failure(error)}")
            self._fail(scope)
            return
        except trio.TooSlowError:
            log.warning("Timeout connecting to the MASTER...")
            self._fail(scope)
            return
        try:
            with trio.CancelScope(deadline=self._deadline()) as self._watch:
                await self._converse(stream)
            if self._watch.cancelled_caught:
                log.warning(self._describe_timeout())
        except LinkLost as error:
            log.warning(str(error))
        except TransferError:
            pass  # it has been logged
        except Exception:
            # The next attempt may go better; the clients have nothing to do with it.
            self._engine.statistics.unexpected += 1
            log.warning(f"Unexpected error in the link to the master:\n{traceback.format_exc()}")
        finally:
            await trio.aclose_forcefully(stream)
            self._transfer = None
            self._fail(scope)

    def _fail(self, scope: trio.CancelScope) -> None:
        """The connection is over, unless another one is wanted already."""
        if scope is not self._scope or scope.cancel_called:
            return
        if trio.current_effective_deadline() == -inf:
            return  # the server ends
        if self.session is not None:
            self._lose()
            return
        if self.state == SYNC:
            self._log.notice(f"Reconnecting to MASTER {self.host}:{self.port} after failure")
        self.state = CONNECT

    @property
    def loading(self) -> bool:
        """Whether the master's data are being loaded."""
        return self._transfer is not None and self._transfer.loading

    def excuse_silence(self) -> None:
        """The master cannot be heard now: its silence begins anew."""
        self._watch.deadline = self._deadline()

    def _deadline(self) -> float:
        return trio.current_time() + self._config.integer("repl-timeout")

    def _describe_timeout(self) -> str:
        if self.state == CONNECTED:
            return "MASTER timeout: no data nor PING received..."
        if self.state == SYNC:
            return (
                "Timeout receiving bulk data from MASTER... If the problem persists try to set "
                "the 'repl-timeout' parameter in redis.conf to a larger value."
            )
        return "Timeout connecting to the MASTER..."

    async def _receive(self, stream: trio.abc.Stream, size: int = READ_SIZE) -> bytes:
        """What the master says next. Raises LinkLost."""
        try:
            data = bytes(await stream.receive_some(size))
        except trio.BrokenResourceError as error:
            cause = error.__cause__
            text = cause.strerror if isinstance(cause, OSError) else None
            raise LinkLost(self._describe_loss(text or str(error))) from None
        if not data:
            raise LinkLost(self._describe_loss("connection lost"))
        await _leave_if_unwanted()
        self._hear(len(data))
        return data

    def _hear(self, size: int) -> None:
        """The master has said so many bytes."""
        now_ns = self._heard_ns = self._replication.clock.monotonic_ns()
        if now_ns >= self._patient_ns:
            self._patient_ns = now_ns + SILENCE_STEP_NS
            self.excuse_silence()
        if self.state in (SYNC, CONNECTED):
            self._replication.input_bytes += size

    def _describe_loss(self, reason: str) -> str:
        if self.state == CONNECTED:
            return f"Connection with master broken: {reason}"
        if self.state == SYNC:
            return f"I/O error trying to sync with MASTER: {reason}"
        return f"Failed to read response from the server: {reason}"

    async def _converse(self, stream: trio.abc.Stream) -> None:
        """All that is said on one connection. Raises LinkLost, TransferError."""
        await _leave_if_unwanted()
        self.state = HANDSHAKE
        self._log.notice("Non blocking connect for SYNC fired the event.")
        outcome, rest = await self._shake_hands(stream)
        failure: LinkLost | TransferError | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._report.run, stream)
            try:
                await self._follow(stream, outcome, rest)
            except (LinkLost, TransferError) as error:
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _shake_hands(self, stream: trio.abc.Stream) -> tuple[Outcome, bytes]:
        """What the master says to the request for its history, and what comes after that.

        Raises LinkLost; where the master should have taken over by that request, the failover is
        settled by the outcome.
        """
        history = self._replication.history
        failover = self._replication.failover
        about = self._introduce()
        if self.resumable:
            history.open_backlog(self._config.integer("repl-backlog-size"))
            handshake = Handshake(about, history.id, history.offset, failover.in_progress)
        else:
            handshake = Handshake(about, failover=failover.in_progress)
        try:
            rest = await self._ask(stream, handshake)
        except LinkLost as error:
            if handshake.asked and failover.in_progress:
                failover.abort(UNWRITABLE if isinstance(error, Unwritable) else REJECTED)
            raise
        outcome = handshake.outcome
        assert outcome is not None
        if failover.in_progress:
            failover.succeed()
        return outcome, rest

    async def _ask(self, stream: trio.abc.Stream, handshake: Handshake) -> bytes:
        """Have the conversation up to its outcome; what comes after that. Raises LinkLost."""
        await self._send(stream, handshake.begin())
        buffer = b""
        while True:
            line, found, rest = buffer.partition(b"\n")
            if not found:
                if len(buffer) > LONGEST_LINE:
                    raise LinkLost("Failed to read response from the server: too long a line")
                buffer += await self._receive(stream)
                continue
            buffer = rest
            answer = handshake.receive(line.removesuffix(b"\r"))
            for remark in handshake.remarks:
                self._log.notice(remark)
            handshake.remarks = []
            if answer:
                await self._send(stream, answer)
            if handshake.outcome is not None:
                if isinstance(handshake.outcome, Failure):
                    raise LinkLost(handshake.outcome.text)
                return buffer

    def _introduce(self) -> Introduction:
        config = self._config
        port = config.integer("replica-announce-port") or config.integer("port")
        return Introduction(
            port,
            REDIS_VERSION.encode(),
            config.octets("replica-announce-ip"),
            config.octets("masteruser"),
            config.octets("masterauth"),
        )

    async def _send(self, stream: trio.abc.Stream, data: bytes) -> None:
        try:
            await stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise Unwritable("Failed to write to the master: connection lost") from None
        await _leave_if_unwanted()

    async def _follow(self, stream: trio.abc.Stream, outcome: Outcome, rest: bytes) -> None:
        """Get what the master has promised, and then its stream, until the link breaks."""
        log = self._log
        if isinstance(outcome, FullSync):
            rest = await self._fetch_all(stream, outcome, rest)
            log.notice("MASTER <-> REPLICA sync: Finished with success")
        else:
            assert isinstance(outcome, Continue)
            self._continue(outcome.id)
            log.notice("MASTER <-> REPLICA sync: Master accepted a Partial Resynchronization.")
        session = self._open_session(stream)
        execution = self._execution = Execution(self._engine, session, self._log_file.end)
        if isinstance(outcome, FullSync):
            self.acknowledge()
            self.restart_log_file()
        await self._take_in(stream, execution, rest)

    async def _take_in(self, stream: trio.abc.Stream, execution: Execution, rest: bytes) -> None:
        """Execute what has come of the stream and what comes, until the link breaks.

        Raises LinkLost, and nothing else.
        """
        keyspace = self._engine.keyspace
        sock = self._server.network.share_socket(stream)
        inflow = self._inflow = Inflow(
            self._server.hub,
            execution,
            self._scheduling,
            sock,
            self._hear,
            self._replication.masters.feed,
        )
        inflow.halted = self._stir
        inflow.answer = self._report.answer
        try:
            while True:
                while keyspace.still & STILL_PAUSED:
                    await trio.sleep(PAUSE_SECONDS)
                    self.excuse_silence()
                if self.session is not execution.session:
                    raise LinkLost("Connection with master closed")
                if rest:
                    inflow.take(rest)
                    rest = b""
                if sock is None:
                    rest = await self._receive(stream, inflow.read_size)
                else:
                    self._stirred = trio.Event()
                    inflow.begin()
                    await self._stirred.wait()
                    if inflow.failure is not None:
                        raise inflow.failure
        except StreamError as error:
            raise LinkLost(f"Protocol error from the master: {error}") from None
        except EOFError:
            raise LinkLost(self._describe_loss("connection lost")) from None
        except OSError as error:
            raise LinkLost(self._describe_loss(error.strerror or str(error))) from None
        finally:
            inflow.end()
            if sock is not None:
                # A forked child may have the connection open, too.
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
                sock.close()

    def _stir(self) -> None:
        self._stirred.set()

    def restart_log_file(self) -> None:
        """The append-only file was stopped to make way for the master's data: go on with it."""
        if self._config.boolean("appendonly") and self._log_file.state == OFF:
            self._log.notice("MASTER <-> REPLICA sync: Starting AOF with a successful sync")
            self._log_file.start()

    async def _fetch_all(self, stream: trio.abc.Stream, outcome: FullSync, rest: bytes) -> bytes:
        """Fetch and load the snapshot; what has come of the stream."""
        self.state = SYNC
        self._report.silent = not outcome.id

        async def receive() -> bytes:
            return await self._receive(stream)

        transfer = self._transfer = Transfer(
            self._replication,
            self._loader,
            self._child,
            self._log_file,
            outcome,
            receive,
            self._forget_history,
        )
        await transfer.run(rest)
        self._selected = transfer.stream_db
        self.resumable = bool(outcome.id)
        return transfer.rest

    def _forget_history(self) -> None:
        """The data are not going to be what they were: nobody can go on where they end."""
        if self.resumable:
            self._log.notice("Discarding previously cached master state.")
        self.resumable = False

    def _continue(self, id: bytes) -> None:
        """The master goes on where the data end, maybe under another id."""
        replication = self._replication
        history = replication.history
        self._report.silent = False
        if id != history.id:
            history.rename(id)
            self._log.notice(f"Master replication ID changed to {id.decode()}")
            # They have to learn it, too.
            replication.masters.disconnect_all()

    def _open_session(self, stream: trio.abc.Stream) -> Session:
        """The link is up: what comes from now on is executed."""
        engine = self._engine
        session = self.session = engine.open_session()
        session.from_master = True
        session.db = engine.keyspace.databases[self._selected]
        session.address = f"{self.host}:{self.port}".encode()
        if isinstance(stream, trio.SocketStream):
            session.fd = stream.socket.fileno()
            session.local_address = format_address(stream.socket.getsockname())
        session.close = self._lose
        self.state = CONNECTED
        self.down_since = 0
        return session


async def _leave_if_unwanted() -> None:
    """End here if the role has changed while this task had been woken, but had not had its turn.

    What it was woken with must not be acted on any more: the data are not the master's.
    """
    await trio.lowlevel.checkpoint_if_cancelled()
