"""Executes a master's stream, and says how far the data are a part of the history by it.

Requests go straight to their handlers, by way of what accounts for them: the master is refused
nothing, gets no replies, and never waits. Where that cannot be right (the disk fails; a command
that the master has executed is an error here), the directives say whether to go on. A piece of the
stream is executed without any pause, so that nobody sees data that are ahead of the offset.
(``processCommandAndResetClient`` and ``replicationFeedStreamFromMasterStream`` in Redis 7.2.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from node.command import WRITE, Command
from node.engine import STAGE_DISK, UNQUEUED, Engine, wrong_arity
from node.keyspace import STILL_OBEYING
from node.replication.stream import StreamParser
from node.resp import Error
from node.session import Queued, Session

MULTI: Final = b"multi"
COMPLAINT_NS: Final = 10_000_000_000
"""Between two complaints about a disk that fails."""


class Execution:
    """The stream of one connection, executed by ``session``.

    ``end`` ends the process at once with an exit code; may return.
    """

    __slots__ = (
        "session",
        "_engine",
        "_end",
        "_parser",
        "_open",
        "_open_size",
        "_disk_fails",
        "_complaint_ns",
    )

    def __init__(self, engine: Engine, session: Session, end: Callable[[int], object]) -> None:
        self.session = session
        self._engine = engine
        self._end = end
        self._disk_fails = False
        self._complaint_ns = 0  # when it is time for the next
        self._parser = StreamParser()
        # What has been read of a transaction that has not ended.
        self._open: list[bytes] = []
        self._open_size = 0

    @property
    def unfinished(self) -> int:
        """Bytes that have been read of a request or transaction that has not ended."""
        return self._open_size + self._parser.buffered

    @property
    def buffered(self) -> int:
        """Bytes of a request that has not ended."""
        return self._parser.buffered

    def apply(self, data: bytes) -> bytes:
        """Execute what ``data`` completes.

        Returns the bytes by which the history has grown: they end with the last whole request, and
        before a transaction that has not ended. Raises StreamError.
        """
        requests = self._parser.feed(data)
        if not requests:
            return b""
        engine = self._engine
        keyspace = engine.keyspace
        engine.begin_batch()
        self._disk_fails = engine.is_guarded(STAGE_DISK)
        keyspace.hold_still(STILL_OBEYING, True)
        try:
            for argv in requests:
                if argv:
                    self._execute(argv)
        finally:
            keyspace.hold_still(STILL_OBEYING, False)
        return self._advance(requests)

    def _execute(self, argv: list[bytes]) -> None:
        engine = self._engine
        session = self.session
        command = engine.find_command(argv)
        if type(command) is not Command:
            assert type(command) is Error
            self._complain(command, argv[0])
            return
        if not command.accepts(len(argv)):
            self._complain(wrong_arity(command), argv[0])
            return
        session.last_command = command
        if self._disk_fails and command.flags & WRITE:
            self._write_in_vain()
        if session.queue is not None and command.name not in UNQUEUED:
            session.queue.append(Queued(command, argv))
            return
        reply = engine.call(session, command, argv)
        if type(reply) is Error:
            self._complain(reply, command.name)
        elif type(reply) is list:
            for part in reply:
                if type(part) is Error:
                    self._complain(part, command.name)

    def _write_in_vain(self) -> None:
        """What the master writes cannot be made safe here."""
        engine = self._engine
        if not engine.config.boolean("replica-ignore-disk-write-errors"):
            engine.log.warning("Replica was unable to write command to disk.")
            self._end(1)
        if engine.ended_ns >= self._complaint_ns:
            self._complaint_ns = engine.ended_ns + COMPLAINT_NS
            engine.log.warning(
                "Replica is applying a command even though it is unable to write to disk."
            )

    def _complain(self, error: Error, name: bytes) -> None:
        """The data are not what the master's are any more, most likely."""
        self._engine.statistics.unexpected += 1
        self._engine.log.warning(
            "== CRITICAL == This replica is sending an error to its master: "
            f"'-{error.text.decode(errors='backslashreplace')}' after processing the command "
            f"'{name.decode(errors='backslashreplace')}'"
        )
        config = self._engine.config
        if config.boolean("replica-read-only") and (
            config.text("propagation-error-behavior") != "ignore"
        ):
            self._engine.log.warning(
                "This replica panicked sending an error to its master after processing the command "
                f"'{name.decode(errors='backslashreplace')}'"
            )
            self._end(1)

    def _advance(self, requests: list[list[bytes]]) -> bytes:
        parser = self._parser
        data = parser.data
        used = parser.used
        executed = used
        if self.session.queue is not None:
            # Without the transaction that has begun: here, or else before.
            begun = len(requests) - 1
            while begun >= 0 and (not requests[begun] or requests[begun][0].lower() != MULTI):
                begun -= 1
            executed = parser.end_of(begun, requests) if begun >= 0 else 0
        grown = b""
        if executed:
            grown = data[:executed]
            if self._open:
                grown = b"".join([*self._open, grown])
                self._open = []
                self._open_size = 0
        if executed < used:
            self._open.append(data[executed:used])
            self._open_size += used - executed
        return grown
