"""What a replica tells its master of how much it has, once a second and whenever it is asked.

Most answers are sent right where the question was read (:mod:`.inflow`), since somebody waits for
them (WAIT); whatever does not go at once is left to the task.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

import trio

from node.persistence.aof import OFF
from node.resp import encode_request

if TYPE_CHECKING:
    from node.persistence.aof import AppendOnlyFile
    from node.replication.link import Link

BEAT_SECONDS: Final = 1.0
SIGN_OF_LIFE: Final = b"\n"


class Report:
    """Of one link. ``silent``: the master knows only SYNC, and is told no offsets."""

    __slots__ = ("silent", "_link", "_log_file", "_wanted", "_sending", "_unsent")

    def __init__(self, link: Link, log_file: AppendOnlyFile) -> None:
        self.silent = False
        self._link = link
        self._log_file = log_file
        self._wanted = trio.Event()
        self._sending = False
        self._unsent = b""

    def compose(self) -> bytes:
        """How much there is by now, and how much of that is in the append-only file for good."""
        argv = [b"REPLCONF", b"ACK", b"%d" % self._link.position]
        log_file = self._log_file
        if log_file.state != OFF:
            log_file.writer.flush()
            logged = log_file.permanent_offset
            if logged >= 0:
                argv += [b"FACK", b"%d" % logged]
        return encode_request(argv)

    def ask(self) -> None:
        """Have the task tell."""
        self._wanted.set()

    def answer(self, sock: socket.socket | None) -> None:
        """Tell at once, over the connection's socket, if that is possible."""
        if sock is None or self._sending or self._unsent or self.silent:
            self._wanted.set()
            return
        data = self.compose()
        try:
            sent = sock.send(data)
        except OSError:
            self._wanted.set()  # the task will see whether it goes
            return
        if sent < len(data):
            self._unsent = data[sent:]
            self._wanted.set()

    async def run(self, stream: trio.abc.Stream) -> None:
        """The task of one connection; ends when nothing can be sent over it."""
        link = self._link
        self._unsent = b""
        due_at = trio.current_time() + BEAT_SECONDS
        while True:
            with trio.move_on_at(due_at):
                await self._wanted.wait()
            self._wanted = trio.Event()
            due = trio.current_time() >= due_at
            if due:
                due_at = trio.current_time() + BEAT_SECONDS
            data = self._unsent
            self._unsent = b""
            if link.session is not None:
                if due:
                    link.restart_log_file()  # where that was impossible before
                if not self.silent:
                    data += self.compose()
            elif due and link.loading:
                # Nobody listens to the master now, which is no fault of its own.
                link.excuse_silence()
                data += SIGN_OF_LIFE
            if data:
                self._sending = True
                try:
                    await stream.send_all(data)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    return  # whoever reads will learn of it
                finally:
                    self._sending = False
