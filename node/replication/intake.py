"""The stream on its way from the master's socket into the data, without any task in between.

The hub reads the master's socket among those of the clients: a piece of the stream then costs no
switch of tasks, and between two pieces clients get their turn. The task of the link sleeps
meanwhile; it is woken when the link breaks, and when the stream has to wait for the end of a pause.
Where there is no socket that the hub could look at, the task reads, and gives what it gets to
:meth:`Intake.take`.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Final

from node.hub import Hub
from node.keyspace import STILL_PAUSED
from node.replication.execution import Execution

READ_SIZE: Final = 16 * 1024
LARGE_READ_SIZE: Final = 1024 * 1024


class Intake:
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
        "_keyspace",
        "_execution",
        "_sock",
        "_receive",
        "_hear",
        "_feed",
        "_listening",
        "_ended",
    )

    def __init__(
        self,
        hub: Hub,
        execution: Execution,
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
        self._keyspace = hub.engine.keyspace
        self._execution = execution
        self._sock = sock
        # Looked up once, since it is called for each piece.
        self._receive: Callable[[int], bytes] = _receive_nothing if sock is None else sock.recv
        self._hear = hear
        self._feed = feed
        self._listening = False
        self._ended = False

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
        self._hub.add_inlet(self._sock.fileno(), self.attend)

    def end(self) -> None:
        """Read and execute no more, not even what has come."""
        self._ended = True
        self._stop()

    def _stop(self) -> None:
        if self._listening:
            assert self._sock is not None
            self._listening = False
            self._hub.remove_inlet(self._sock.fileno())

    def attend(self) -> None:
        """There is something to read."""
        if self._ended:
            return
        if self._keyspace.still & STILL_PAUSED:
            self._stop()
            self.halted()
            return
        try:
            data = self._receive(self.read_size)
            if not data:
                raise EOFError
            self._hear(len(data))
            self.take(data)
        except (BlockingIOError, InterruptedError):
            return
        except Exception as error:
            self.failure = error
            self._stop()
            self.halted()

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
            self.answer(self._sock)


def _do_nothing() -> None:
    return None


def _answer_nothing(sock: socket.socket | None) -> None:
    return None


def _receive_nothing(size: int) -> bytes:
    return b""
