"""CLIENT PAUSE: for a while, commands of clients (or those that write) wait.

A command that comes meanwhile is put off before anything else is done with it but the checks that
would refuse it anyway; when the pause is over it passes the whole gate again. While any pause lasts
the data stays as it is: nothing expires and nothing is evicted. Behaviour after ``pauseActions`` in
Redis's networking.c.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from node.clients import ADMIN_FLAGS, wrong_arguments
from node.command import MAY_REPLICATE, WRITE, Command, Group
from node.component import Component
from node.engine import STAGE_PAUSE
from node.keyspace import STILL_PAUSED
from node.resp import NO_REPLY, OK, Reply, ReplyError
from node.session import GATE_OUTSIDE, Session
from node.values.number import MAX_INTEGER, parse_integer

if TYPE_CHECKING:
    from node.server import Server

GROUP: Final = Group("connection")

PAUSE_NONE: Final = 0
PAUSE_WRITE: Final = 1
PAUSE_ALL: Final = 2


class Pause(Component):
    """The pause that clients have asked for.

    ``until`` is in Unix milliseconds.
    """

    def __init__(self, server: Server) -> None:
        super().__init__(server.engine)
        self.mode = PAUSE_NONE
        self.until = 0

    def groups(self) -> Sequence[Group]:
        return (GROUP,)

    def begin(self, mode: int, until: int) -> None:
        """Pause, or go on with a pause: the stricter mode and the later end hold."""
        if self.mode == PAUSE_NONE:
            self.engine.add_guard(STAGE_PAUSE, self.guard)
            self.engine.keyspace.hold_still(STILL_PAUSED, True)
        self.mode = max(self.mode, mode)
        self.until = max(self.until, until)

    def end(self) -> None:
        """Let all clients go on."""
        if self.mode == PAUSE_NONE:
            return
        self.mode = PAUSE_NONE
        self.until = 0
        self.engine.remove_guard(self.guard)
        self.engine.keyspace.hold_still(STILL_PAUSED, False)
        self.engine.blocking.resume_postponed()

    def tick(self, now_ns: int) -> None:
        if self.mode != PAUSE_NONE and self.engine.keyspace.now >= self.until:
            self.end()

    def guard(self, session: Session, command: Command, argv: list[bytes]) -> Reply:
        """Put off what the pause is for; replicas and monitors are never paused."""
        if self.engine.keyspace.now >= self.until:
            self.end()
            return None
        if session.gate & GATE_OUTSIDE or session.wake is None:
            return None
        if self.mode == PAUSE_WRITE:
            flags = command.flags
            if command.name == b"exec":
                flags |= session.queue_flags
            if not flags & (WRITE | MAY_REPLICATE):
                return None
        self.engine.blocking.postpone(session, command, argv)
        return NO_REPLY

    @GROUP.command(
        "client|pause",
        -3,
        ADMIN_FLAGS,
        since="2.9.50",
        complexity="O(1)",
        summary="Holds back the commands of clients for a while.",
        syntax="timeout [WRITE | ALL]@6.2.0",
        history=[("6.2.0", "The mode `WRITE`, and the option that names the mode.")],
    )
    def pause(self, ctx: Session, argv: list[bytes]) -> Reply:
        """The time is in milliseconds."""
        if len(argv) > 4:
            raise wrong_arguments(argv)
        mode = PAUSE_ALL
        if len(argv) == 4:
            word = argv[3].upper()
            if word == b"WRITE":
                mode = PAUSE_WRITE
            elif word != b"ALL":
                raise ReplyError(b"ERR CLIENT PAUSE mode must be WRITE or ALL")
        timeout = parse_integer(argv[2])
        if timeout is None:
            raise ReplyError(b"ERR timeout is not an integer or out of range")
        if timeout < 0:
            raise ReplyError(b"ERR timeout is negative")
        if timeout > MAX_INTEGER - ctx.now:
            raise ReplyError(b"ERR timeout is out of range")
        self.begin(mode, ctx.now + timeout)
        return OK

    @GROUP.command(
        "client|unpause",
        2,
        ADMIN_FLAGS,
        since="6.2.0",
        complexity="O(N) Where N is the number of paused clients",
        summary="Ends a pause of clients.",
    )
    def unpause(self, ctx: Session, argv: list[bytes]) -> Reply:
        """OK, whether there was a pause or not."""
        self.end()
        return OK
