"""MONITOR: clients that are shown every command that the server executes.

A line is made once for all of them, after the command has run (so that it could hide arguments) and
before those it has served. Administrative commands are not shown, nor is a blocked command that is
tried again. Behaviour after ``replicationFeedMonitors`` in Redis's replication.c.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from node.command import ADMIN, SKIP_MONITOR, Command, Group
from node.component import Component
from node.resp import NO_REPLY, OK, Reply, ReplyError
from node.session import GATE_OUTSIDE, GATE_REPLY, Session

if TYPE_CHECKING:
    from node.server import Server

GROUP: Final = Group("server")

_ESCAPED: Final = {
    ord("\\"): b"\\\\",
    ord('"'): b'\\"',
    ord("\n"): b"\\n",
    ord("\r"): b"\\r",
    ord("\t"): b"\\t",
    ord("\a"): b"\\a",
    ord("\b"): b"\\b",
}
_SHOWN: Final = [
    _ESCAPED.get(byte, b"%c" % byte if 32 <= byte < 127 else b"\\x%02x" % byte)
    for byte in range(256)
]
_PLAIN: Final = bytes(byte for byte in range(256) if len(_SHOWN[byte]) == 1)


def quote(text: bytes) -> bytes:
    """``text`` in double quotes, with escapes for what is not graphic ASCII (``sdscatrepr``)."""
    if not text.translate(None, _PLAIN):
        return b'"' + text + b'"'
    return b'"' + b"".join([_SHOWN[byte] for byte in text]) + b'"'


class Monitor(Component):
    """The clients that watch, and the observer that feeds them."""

    def __init__(self, server: Server) -> None:
        super().__init__(server.engine)
        self.sessions: dict[Session, None] = {}

    def groups(self) -> Sequence[Group]:
        return (GROUP,)

    def session_closed(self, session: Session) -> None:
        if session.monitor:
            self.session_reset(session)

    def session_reset(self, session: Session) -> None:
        """The client is an ordinary one again."""
        if session.monitor:
            session.monitor = False
            session.set_gate(GATE_OUTSIDE, False)
            del self.sessions[session]
            if not self.sessions:
                self.engine.remove_observer(self.observe)

    def observe(self, session: Session, command: Command, argv: list[bytes]) -> None:
        """Show a command to all monitors."""
        if command.flags & (ADMIN | SKIP_MONITOR):
            return
        microseconds = int(self.engine.clock.wall() * 1_000_000)
        source = session.address
        if session.unix_socket:
            source = b"unix:" + source.removesuffix(b":0")
        line = b"+%d.%06d [%d %b] %b\r\n" % (
            microseconds // 1_000_000,
            microseconds % 1_000_000,
            session.db.index,
            source,
            b" ".join([quote(argument) for argument in argv]),
        )
        for monitor in self.sessions:
            if not (monitor.gate & GATE_REPLY and monitor.reply_mode == 1):
                monitor.send(line)

    @GROUP.command(
        "monitor",
        1,
        "admin noscript loading stale",
        since="1.0.0",
        summary="Shows every command that the server executes.",
    )
    def monitor(self, ctx: Session, argv: list[bytes]) -> Reply:
        """From now on lines come, until RESET or the end of the connection."""
        if ctx.in_exec:
            raise ReplyError(b"ERR MONITOR isn't allowed for DENY BLOCKING client")
        if ctx.monitor:
            return NO_REPLY
        if not self.sessions:
            self.engine.add_observer(self.observe)
        self.sessions[ctx] = None
        ctx.monitor = True
        ctx.set_gate(GATE_OUTSIDE, True)
        return OK
