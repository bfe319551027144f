"""SLOWLOG: the last commands that took long.

Behaviour after Redis's slowlog.c: what counts is the time of execution, without reading, queueing
or writing; long requests are kept in part.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final

from node.command import SKIP_SLOWLOG, Command, Group
from node.commands.arguments import bounded_integer, help_reply, subcommand_error
from node.component import Component
from node.resp import OK, Reply
from node.session import Session

if TYPE_CHECKING:
    from node.server import Server

GROUP: Final = Group("server")
GROUP.container("slowlog", since="2.2.12", summary="Holds the commands about the slow log.")

MOST_ARGUMENTS: Final = 32
LONGEST_ARGUMENT: Final = 128

HELP: Final = (
    "GET [<count>]",
    "    List the last <count> entries (10 unless told; -1 for all), each an array of",
    "    id, time, microseconds taken, arguments, address of the client, its name.",
    "LEN",
    "    Tell how many entries there are.",
    "RESET",
    "    Forget all entries.",
)


class Entry:
    """One slow command. ``time`` is in Unix seconds, ``taken`` in microseconds."""

    __slots__ = ("id", "time", "taken", "arguments", "address", "name")

    def __init__(
        self, id: int, time: int, taken: int, arguments: list[bytes], address: bytes, name: bytes
    ) -> None:
        self.id = id
        self.time = time
        self.taken = taken
        self.arguments = arguments
        self.address = address
        self.name = name


class SlowLog(Component):
    """The log and its command; the newest entry comes first."""

    def __init__(self, server: Server) -> None:
        super().__init__(server.engine)
        self._config = server.config
        self.entries: deque[Entry] = deque()
        self._next_id = 0
        self._most = 0
        server.config.on_change(("slowlog-log-slower-than", "slowlog-max-len"), self._configure)
        self._configure()

    def _configure(self) -> None:
        threshold = self._config.integer("slowlog-log-slower-than")
        self._most = self._config.integer("slowlog-max-len")
        self.engine.observe_slow(self.add, None if threshold < 0 else threshold * 1000)
        self._trim()

    def groups(self) -> Sequence[Group]:
        return (GROUP,)

    def add(self, session: Session, command: Command, argv: list[bytes], taken: int) -> None:
        """Log a command that took ``taken`` nanoseconds, unless it is none for the log."""
        if command.flags & SKIP_SLOWLOG:
            return
        entry = Entry(
            self._next_id,
            int(self.engine.clock.wall()),
            taken // 1000,
            shorten(argv),
            session.address,
            session.name,
        )
        self._next_id += 1
        self.entries.appendleft(entry)
        self._trim()

    def _trim(self) -> None:
        while len(self.entries) > self._most:
            self.entries.pop()

    @GROUP.command(
        "slowlog|get",
        -2,
        "admin loading stale",
        since="2.2.12",
        complexity="O(N), N being the number of entries returned",
        summary="Lists entries of the slow log.",
        syntax="[count]",
        tips=["request_policy:all_nodes", "nondeterministic_output"],
        history=[("4.0.0", "Tells the client's address and name too.")],
    )
    def get(self, ctx: Session, argv: list[bytes]) -> Reply:
        """The newest entries."""
        count = 10
        if len(argv) > 3:
            raise subcommand_error(argv)
        if len(argv) == 3:
            count = bounded_integer(
                argv[2], -1, error=b"ERR count should be greater than or equal to -1"
            )
        found = islice(self.entries, len(self.entries) if count == -1 else count)
        return [
            [entry.id, entry.time, entry.taken, entry.arguments, entry.address, entry.name]
            for entry in found
        ]

    @GROUP.command(
        "slowlog|len",
        2,
        "admin loading stale",
        since="2.2.12",
        complexity="O(1)",
        summary="Tells how many entries the slow log has.",
        tips=["request_policy:all_nodes", "response_policy:agg_sum", "nondeterministic_output"],
    )
    def length(self, ctx: Session, argv: list[bytes]) -> Reply:
        """The number of entries."""
        return len(self.entries)

    @GROUP.command(
        "slowlog|reset",
        2,
        "admin loading stale",
        since="2.2.12",
        complexity="O(N), N being the number of entries",
        summary="Empties the slow log.",
        tips=["request_policy:all_nodes", "response_policy:all_succeeded"],
    )
    def reset(self, ctx: Session, argv: list[bytes]) -> Reply:
        """Forget all entries; their numbers are not used again."""
        self.entries.clear()
        return OK

    @GROUP.command(
        "slowlog|help",
        2,
        "loading stale",
        since="6.2.0",
        complexity="O(1)",
        summary="Lists the subcommands of SLOWLOG.",
    )
    def help(self, ctx: Session, argv: list[bytes]) -> Reply:
        """The lines above."""
        return help_reply("slowlog", HELP)


def shorten(argv: list[bytes]) -> list[bytes]:
    """What the log keeps of a request: 32 arguments, 128 bytes of each."""
    kept = argv
    if len(argv) > MOST_ARGUMENTS:
        kept = argv[: MOST_ARGUMENTS - 1]
    found: list[bytes] = []
    for argument in kept:
        more = len(argument) - LONGEST_ARGUMENT
        if more > 0:
            found.append(b"%b... (%d more bytes)" % (argument[:LONGEST_ARGUMENT], more))
        else:
            found.append(argument)
    if kept is not argv:
        found.append(b"... (%d more arguments)" % (len(argv) - len(kept)))
    return found
