"""The stream on its way from the master's socket into the data, without any task in between.

The hub reads the master's socket among those of the clients: a piece of the stream then costs no
switch of tasks, and between two pieces clients get their turn. The task of the link sleeps
meanwhile; it is woken when the link breaks, and when the stream has to wait for the end of a pause.
Where there is no socket that the hub could look at, the task reads, and gives what it gets to
:meth:`Inflow.take`.

A master under load sends what few requests have written, again and again. To be woken for each
piece would cost several times what executing it costs, so that the inlet rests between two pieces
then, for up to a millisecond; unless the master asks how much there is (WAIT), since somebody waits
for the answer. And where clients ask for nothing, the whole server gives way to others on the same
machine meanwhile, most of all to its master (:mod:`node.scheduling`).
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Final

from node.hub import Hub
from node.keyspace import STILL_PAUSED
from node.replication.execution import Execution
from node.scheduling import Scheduling

READ_SIZE: Final = 16 * 1024
LARGE_READ_SIZE: Final = 1024 * 1024
# Pieces that come that soon after each other are a flow.
FLOW_NS: Final = 500_000
# For so long after the master has asked there is no rest.
ASKED_NS: Final = 100_000_000
# And for so long after a client has been heard the server gives way to nobody.
SERVED_NS: Final = 100_000_000


class Inflow:
    """The stream of one connection.

    ``hear`` is told how many bytes have come, ``feed`` by which bytes the history has grown.
    While ``busy``, the stream is being executed; if the master then wants to know how much there is
    (``asked``), ``answer`` is called afterwards. ``halted`` is called when the hub stops to read of
    its own accord: there is a pause, or a ``failure``, which is OSError, EOFError, StreamError, or
    a bug.
    """

    __slots__ = (
        "busy",
        "asked",
        "failure",
        "halted",
        "answer",
        "_hub",
        "_engine",
        "_execution",
        "_scheduling",
        "_sock",
        "_receive",
        "_hear",
        "_feed",
        "_listening",
        "_ended",
        "_resting",
        "_read_ns",
        "_asked_ns",
        "_client_reads",
        "_served_ns",
    )

    def __init__(
        self,
        hub: Hub,
        execution: Execution,
        scheduling: Scheduling,
        sock: socket.socket | None,
        hear: Callable[[int], None],
        feed: Callable[[bytes], None],
    ) -> None:
        self.busy = False
        self.asked = False
        self.failure: Exception | None = None
        self.halted: Callable[[], None] = _do_nothing
        self.answer: Callable[[socket.socket | None], None] = _answer_nothing
        self._hub = hub
        self._engine = hub.engine
        self._execution = execution
        self._scheduling = scheduling
        self._sock = sock
        # Looked up once, since it is called for each piece.
        self._receive: Callable[[int], bytes] = _receive_nothing if sock is None else sock.recv
        self._hear = hear
        self._feed = feed
        self._listening = False
        self._ended = False
        self._resting = False
        # When something was read, and when the master asked, for the last time.
        self._read_ns = 0
        self._asked_ns = -ASKED_NS
        # How often clients had been read, and when that number was another for the last time.
        self._client_reads = -1
        self._served_ns = 0

    @property
    def read_size(self) -> int:
        """How much is to be read at once."""
        return LARGE_READ_SIZE if self._execution.buffered > READ_SIZE else READ_SIZE

    def begin(self) -> None:
        """Let the hub read, until it halts."""
        assert self._sock is not None
        assert not self._listening
        assert not self._ended
        self._listening = True
        self._hub.inlets.add(self._sock.fileno(), self.attend)

    def end(self) -> None:
        """Read and execute no more, not even what has come."""
        self._ended = True
        self._stop()

    def _stop(self) -> None:
        if self._listening:
            assert self._sock is not None
            self._listening = False
            self._hub.inlets.remove(self._sock.fileno())
            self._scheduling.give_way(False)

    def attend(self) -> bool:
        """There is something to read; whether to rest before more is read."""
        rests = self._read()
        if self._listening:
            self._scheduling.give_way(rests and not self._serves())
        return rests

    def _serves(self) -> bool:
        """Whether clients have been asking for something lately."""
        now = self._engine.ended_ns
        reads = self._hub.statistics.reads
        if reads != self._client_reads:
            self._client_reads = reads
            self._served_ns = now
        return now - self._served_ns < SERVED_NS

    def _read(self) -> bool:
        rested = self._resting
        self._resting = False
        if self._ended:
            return False
        if self._engine.keyspace.still & STILL_PAUSED:
            self._stop()
            self.halted()
            return False
        size = self.read_size
        try:
            data = self._receive(size)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            return self._fail(error)
        if not data:
            return self._fail(EOFError())
        try:
            self._hear(len(data))
            self.take(data)
        except Exception as error:
            return self._fail(error)
        now = self._engine.ended_ns
        flows = rested or now - self._read_ns < FLOW_NS
        self._read_ns = now
        self._resting = flows and len(data) < size and now - self._asked_ns >= ASKED_NS
        return self._resting and self._listening

    def _fail(self, error: Exception) -> bool:
        self.failure = error
        self._stop()
        self.halted()
        return False

    def take(self, data: bytes) -> None:
        """Execute what has come, and pass on what is a part of the history by that.

        Raises StreamError.
        """
        self.busy = True
        try:
            grown = self._execution.apply(data)
        finally:
            self.busy = False
        if self._ended:
            return
        if grown:
            self._feed(grown)
        if self.asked:
            self.asked = False
            self._asked_ns = self._engine.ended_ns
            self.answer(self._sock)


def _do_nothing() -> None:
    return None


def _answer_nothing(sock: socket.socket | None) -> None:
    return None


def _receive_nothing(size: int) -> bytes:
    return b""
