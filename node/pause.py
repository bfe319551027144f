"""Pauses: for a while, commands of clients (or those that write) wait.

A command that comes meanwhile is put off before anything else is done with it but the checks that
would refuse it anyway; when the pause is over it passes the whole gate again. While any pause lasts
the data stays as it is: nothing expires and nothing is evicted.

Clients ask for one by CLIENT PAUSE, and the server needs one while it hands its role over, or waits
for its replicas before it ends. Each purpose has its own pause; what is paused is what any of them
asks for. Behaviour after ``pauseActions`` in Redis's networking.c.
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

# What a pause is for.
BY_CLIENT: Final = 0
BY_SHUTDOWN: Final = 1
BY_FAILOVER: Final = 2

FOREVER: Final = MAX_INTEGER


class Pause(Component):
    """The pauses that there are.

    ``mode`` is the strictest of them, ``until`` the end of the first that ends, in Unix
    milliseconds.
    """

    def __init__(self, server: Server) -> None:
        super().__init__(server.engine)
        self.mode = PAUSE_NONE
        self.until = 0
        # Mode and end, by purpose.
        self._pauses: dict[int, tuple[int, int]] = {}

    def groups(self) -> Sequence[Group]:
        return (GROUP,)

    def begin(self, mode: int, until: int, purpose: int = BY_CLIENT) -> None:
        """Pause until then (Unix milliseconds, FOREVER: until :meth:`end`).

        Where there is one for this purpose already, the stricter mode and the later end hold.
        """
        old_mode, old_until = self._pauses.get(purpose, (PAUSE_NONE, 0))
        self._pauses[purpose] = (max(old_mode, mode), max(old_until, until))
        if self.mode == PAUSE_NONE:
            self.engine.add_guard(STAGE_PAUSE, self.guard)
            self.engine.keyspace.hold_still(STILL_PAUSED, True)
        self._combine()

    def end(self, purpose: int = BY_CLIENT) -> None:
        """End the pause for this purpose, if there is one: whom no other one holds may go on."""
        if self._pauses.pop(purpose, None) is not None:
            self._relax()

    def holds(self, purpose: int) -> bool:
        """Whether there is a pause for this purpose."""
        return purpose in self._pauses

    def _combine(self) -> None:
        self.mode = max((mode for mode, _ in self._pauses.values()), default=PAUSE_NONE)
        self.until = min((until for _, until in self._pauses.values()), default=0)

    def _relax(self) -> None:
        """A pause is over."""
        mode = self.mode
        self._combine()
        if self.mode == PAUSE_NONE:
            self.engine.remove_guard(self.guard)
            self.engine.keyspace.hold_still(STILL_PAUSED, False)
        if self.mode < mode:
            self.engine.blocking.resume_postponed()

    def _end_in_time(self) -> None:
        """End the pauses whose time is up."""
        now = self.engine.keyspace.now
        self._pauses = {what: pause for what, pause in self._pauses.items() if pause[1] > now}
        self._relax()

    def tick(self, now_ns: int) -> None:
        if self.mode != PAUSE_NONE and self.engine.keyspace.now >= self.until:
            self._end_in_time()

    def guard(self, session: Session, command: Command, argv: list[bytes]) -> Reply:
        """Put off what the pause is for; replicas and monitors are never paused."""
        if self.engine.keyspace.now >= self.until:
            self._end_in_time()
            if self.mode == PAUSE_NONE:
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
