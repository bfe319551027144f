"""The command log: every change to the data, as RESP requests, in the order of execution.

It is written once and read by all who need it (the append-only file, replicas through the
backlog): each reader gets the same bytes. A SELECT stands before a command whose database is not
that of the command before it, and commands that must take effect together stand between MULTI and
EXEC, as in Redis's ``propagatePendingCommands``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from node.resp import encode_request

Reader = Callable[[bytes], None]

# Stands for the database of what changes no data (PUBLISH): it matters to replicas alone.
MESSAGE: Final = -1

_MULTI = encode_request([b"MULTI"])
_EXEC = encode_request([b"EXEC"])


class CommandLog:
    """Encodes commands for its readers. Without a reader nothing is encoded.

    ``selected`` is the database that a reader of the whole log would be in, -1 if unknown.
    """

    __slots__ = ("readers", "message_readers", "selected", "waiting", "kept")

    def __init__(self) -> None:
        self.readers: list[Reader] = []
        # Bytes that have not gone to the append-only file yet.
        self.waiting: Callable[[], int] = _nothing
        # Bytes that are kept for replicas: as many as always, and as many as one that lags lacks.
        self.kept: Callable[[], tuple[int, int]] = _nothing_kept
        # Those of them that want messages, too.
        self.message_readers: list[Reader] = []
        self.selected = -1

    def attach(self, reader: Reader, *, messages: bool = False) -> None:
        """Send all further changes to ``reader``, which starts with a SELECT of its own.

        ``messages``: and what the data do not depend on.
        """
        self.readers.append(reader)
        if messages:
            self.message_readers.append(reader)
        self.selected = -1

    def detach(self, reader: Reader) -> None:
        self.readers.remove(reader)
        if reader in self.message_readers:
            self.message_readers.remove(reader)

    def append_one(self, db: int, argv: list[bytes]) -> None:
        """Log one request that changes a database: what is logged nearly always."""
        if db == self.selected:
            wire = encode_request(argv)
            for reader in self.readers:
                reader(wire)
        else:
            self.append([(db, argv)])

    def append(self, commands: list[tuple[int, list[bytes]]], *, together: bool = True) -> None:
        """Log (database, request) pairs; more than one are one unit if they belong ``together``.

        A request whose database is MESSAGE goes only to those who want such.
        """
        if not self.readers or not commands:
            return
        changes = commands
        for db, _ in commands:
            if db == MESSAGE:
                changes = [entry for entry in commands if entry[0] != MESSAGE]
                break
        selected = self.selected
        wire = self._encode(changes, together)
        if changes is commands:
            for reader in self.readers:
                reader(wire)
            return
        self.selected = selected
        whole = self._encode(commands, together)
        for reader in self.readers:
            if reader in self.message_readers:
                reader(whole)
            elif wire:
                reader(wire)

    def _encode(self, commands: list[tuple[int, list[bytes]]], together: bool) -> bytes:
        parts: list[bytes] = []
        unit = together and len(commands) > 1
        for i, (db, argv) in enumerate(commands):
            if db not in (self.selected, MESSAGE):
                parts.append(encode_request([b"SELECT", b"%d" % db]))
                self.selected = db
            if unit and i == 0:
                parts.append(_MULTI)
            parts.append(encode_request(argv))
        if unit:
            parts.append(_EXEC)
        return b"".join(parts)


def _nothing() -> int:
    return 0


def _nothing_kept() -> tuple[int, int]:
    return 0, 0
