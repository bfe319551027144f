"""Executes the commands of an append-only file, on behalf of nobody.

Commands go straight to their handlers: nothing is refused, counted, logged or propagated, and
nobody waits. What stands between MULTI and EXEC is done when EXEC is there, or never.
"""

from __future__ import annotations

import traceback
from typing import Final

from node.command import Command
from node.engine import Engine
from node.resp import Error, ReplyError
from node.session import Session

MULTI: Final = b"multi"
EXEC: Final = b"exec"


class ReplayError(Exception):
    """A command that cannot be executed here; ``offset`` is the byte after it."""

    def __init__(self, reason: str, offset: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.offset = offset


class Replay:
    """The fake client of one file.

    valid     the byte after the last command, or the last transaction, that was executed
    executed  how many commands that were
    """

    __slots__ = ("valid", "executed", "_engine", "_session", "_unit")

    def __init__(self, engine: Engine) -> None:
        self.valid = 0
        self.executed = 0
        self._engine = engine
        # Unknown to all others: CLIENT LIST does not show it.
        self._session = Session(engine, 0, engine.keyspace.databases[0])
        self._unit: list[tuple[Command, list[bytes]]] | None = None

    @property
    def in_unit(self) -> bool:
        """Whether a transaction has begun and not ended."""
        return self._unit is not None

    def begin(self, offset: int) -> None:
        """Another file begins, with its commands from this byte on."""
        self.valid = offset
        self._session.db = self._engine.keyspace.databases[0]

    def drop_unit(self) -> None:
        """The transaction that has begun will never end."""
        self._unit = None

    def close(self) -> None:
        """The client goes; a transaction that has not ended is dropped."""
        engine = self._engine
        self._session.propagate_nothing()
        engine.settle(self._session, [])

    def run(self, requests: list[list[bytes]], ends: list[int]) -> None:
        """Execute requests; ``ends`` has the byte after each. Raises ReplayError."""
        engine = self._engine
        unit = self._unit
        for argv, end in zip(requests, ends, strict=True):
            command = engine.find_command(argv)
            if type(command) is Error:
                name = argv[0].decode(errors="backslashreplace")
                raise ReplayError(f"Unknown command '{name}'", end)
            assert isinstance(command, Command)
            name_of = command.name
            if unit is not None:
                if name_of == EXEC:
                    self._unit = None
                    for queued, words in unit:
                        self._execute(queued, words, end)
                    unit = None
                    self.valid = end
                else:
                    unit.append((command, argv))
            elif name_of == MULTI:
                unit = self._unit = []
            else:
                self._execute(command, argv, end)
                self.valid = end

    def _execute(self, command: Command, argv: list[bytes], end: int) -> None:
        engine = self._engine
        session = self._session
        session.running = command
        try:
            if not command.accepts(len(argv)):
                raise ReplyError(b"ERR wrong number of arguments for '%b' command" % command.name)
            reply = command.handler(session, argv)
            if type(reply) is Error:
                raise ReplyError(reply.text)
        except ReplyError as error:
            engine.count_error(error.text)
            engine.log.warning(
                "== CRITICAL == This server is sending an error to its AOF-loading-client: "
                f"'-{error.text.decode(errors='replace')}' after processing the command "
                f"'{command.name.decode()}'"
            )
            if engine.config.text("propagation-error-behavior") == "panic":
                raise ReplayError(
                    "This server panicked sending an error to its AOF-loading-client after "
                    f"processing the command '{command.name.decode()}'",
                    end,
                ) from None
        except Exception:
            engine.log.warning(
                f"Unexpected error in '{command.name.decode()}':\n{traceback.format_exc()}"
            )
            raise ReplayError(
                f"The command '{command.name.decode()}' cannot be executed", end
            ) from None
        finally:
            session.running = None
        self.executed += 1
        if engine.keyspace.pending:
            # Who waits for a key is served in the end.
            engine.keyspace.pending = False
            session.effects = None
