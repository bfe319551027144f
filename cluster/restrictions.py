"""What commands that reach beyond one slot or database say in a cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from node.command import Command
from node.resp import Reply, ReplyError
from node.session import Session
from node.values.number import parse_integer

if TYPE_CHECKING:
    from node.engine import Engine

Handler = Callable[[Session, list[bytes]], Reply]
Check = Callable[[list[bytes]], None]

# Commands that make no sense where there is one database and the bus says whom to replicate.
REFUSED: Final = {
    b"move": b"ERR MOVE is not allowed in cluster mode",
    b"swapdb": b"ERR SWAPDB is not allowed in cluster mode",
}


def restrict_commands(engine: Engine) -> None:
    """Let commands that reach beyond one slot or database say that they do not."""
    for name, text in REFUSED.items():
        command = engine.commands.get(name)
        if command is not None:
            command.handler = _refuse(text)
    for name, check in ((b"select", _check_select), (b"copy", _check_copy)):
        _check_first(engine.commands[name], check)
    for name in (b"sort", b"sort_ro"):
        _check_first(engine.commands[name], _check_sort)


def _refuse(text: bytes) -> Handler:
    def refuse(ctx: Session, argv: list[bytes]) -> Reply:
        raise ReplyError(text)

    return refuse


def _check_first(command: Command, check: Check) -> None:
    """Let ``check``, which raises ReplyError, look at the arguments before the handler does."""
    handler = command.handler

    def checked(ctx: Session, argv: list[bytes]) -> Reply:
        check(argv)
        return handler(ctx, argv)

    command.handler = checked


def _check_select(argv: list[bytes]) -> None:
    if parse_integer(argv[1]):  # what is no number is refused as such
        raise ReplyError(b"ERR SELECT is not allowed in cluster mode")


def _check_copy(argv: list[bytes]) -> None:
    for i in range(3, len(argv) - 1):
        if argv[i].lower() == b"db" and argv[i + 1] != b"0":
            raise ReplyError(b"ERR Copying to another database is not allowed in cluster mode")


def _check_sort(argv: list[bytes]) -> None:
    """BY and GET name keys of any slot."""
    i = 2
    while i < len(argv):
        word = argv[i].lower()
        if word == b"by" and i + 1 < len(argv):
            if b"*" in argv[i + 1]:
                raise ReplyError(b"ERR BY option of SORT denied in Cluster mode.")
            i += 1
        elif word == b"get" and i + 1 < len(argv):
            raise ReplyError(b"ERR GET option of SORT denied in Cluster mode.")
        elif word == b"limit":
            i += 2
        elif word == b"store":
            i += 1
        i += 1
