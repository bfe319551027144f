"""The server as such: its time, its end, and a picture.

Behaviour after ``timeCommand``, ``shutdownCommand`` and lolwut.c in Redis.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from node.command import Group
from node.commands.arguments import SYNTAX_ERROR, integer
from node.commands.lolwut import HIGHEST, WIDEST, draw_hills, draw_maze
from node.component import Component
from node.resp import NO_REPLY, OK, Reply, ReplyError, Verbatim
from node.server import SHUTDOWN_FAILED, ShutdownRefused, ShutdownRequest
from node.session import Session
from node.version import REDIS_VERSION, SENTRIO_VERSION

if TYPE_CHECKING:
    from node.server import Server

GROUP: Final = Group("server")


class Serving(Component):
    """TIME, LOLWUT and SHUTDOWN."""

    def __init__(self, server: Server) -> None:
        super().__init__(server.engine)
        self._server = server

    def groups(self) -> Sequence[Group]:
        return (GROUP,)

    @GROUP.command(
        "time",
        1,
        "loading stale fast",
        since="2.6.0",
        complexity="O(1)",
        summary="Tells the server's time.",
        tips=["nondeterministic_output"],
    )
    def time(self, ctx: Session, argv: list[bytes]) -> Reply:
        """Unix seconds, and the microseconds of the current second."""
        seconds, microseconds = divmod(int(self.engine.clock.wall() * 1_000_000), 1_000_000)
        return [b"%d" % seconds, b"%d" % microseconds]

    @GROUP.command(
        "lolwut",
        -1,
        "readonly fast",
        since="5.0.0",
        summary="Draws a picture and tells the server's version.",
        syntax="[VERSION version]",
    )
    def lolwut(self, ctx: Session, argv: list[bytes]) -> Reply:
        """The picture of a version, with its width and height; or only the server's version."""
        random = self.engine.keyspace.random
        picture = ""
        if len(argv) > 2 and argv[1].lower() == b"version":
            version = integer(argv[2])
            sizes = [integer(argument) for argument in argv[3:]]
            if version == 5:
                picture = draw_maze(random, *_size(sizes, 66, 12))
            elif version == 6:
                picture = draw_hills(random, *_size(sizes, 80, 20))
        else:
            picture = draw_hills(random, 80, 20)
        footer = f"Redis ver. {REDIS_VERSION} (Sentrio {SENTRIO_VERSION})\n"
        return Verbatim((picture + footer).encode())

    @GROUP.command(
        "shutdown",
        -1,
        "admin noscript loading stale no_multi allow_busy",
        since="1.0.0",
        complexity="O(N) when data are saved, N being the number of all keys, otherwise O(1)",
        summary="Ends the server.",
        syntax="[NOSAVE | SAVE] [NOW]@7.0.0 [FORCE]@7.0.0 [ABORT]@7.0.0",
        history=[("7.0.0", "Takes `NOW`, `FORCE` and `ABORT`.")],
    )
    def shutdown(self, ctx: Session, argv: list[bytes]) -> Reply:
        """No reply: the connection is closed, unless the server has to stay."""
        words = [argument.lower() for argument in argv[1:]]
        if not set(words) <= {b"nosave", b"save", b"now", b"force", b"abort"}:
            raise ReplyError(SYNTAX_ERROR)
        if b"abort" in words:
            if set(words) != {b"abort"}:
                raise ReplyError(SYNTAX_ERROR)
            if not self._server.abort_shutdown():
                raise ReplyError(b"ERR No shutdown in progress.")
            return OK
        if b"save" in words and b"nosave" in words:
            raise ReplyError(SYNTAX_ERROR)
        if b"now" not in words and ctx.deny_blocking:
            raise ReplyError(
                b"ERR SHUTDOWN without NOW or ABORT isn't allowed for DENY BLOCKING client"
            )
        try:
            ended = self._server.shut_down(ShutdownRequest([word.decode() for word in words]))
        except ShutdownRefused:
            raise ReplyError(SHUTDOWN_FAILED) from None
        if ended:
            ctx.closing = True
        else:
            wait = self.engine.blocking.wait(ctx, argv, 0, NO_REPLY)
            wait.unblockable = False
        return NO_REPLY


def _size(given: list[int], width: int, height: int) -> tuple[int, int]:
    """Columns and rows, as given or else as usual, within bounds."""
    if given:
        width = given[0]
    if len(given) > 1:
        height = given[1]
    return min(max(width, 1), WIDEST), min(max(height, 1), HIGHEST)
