"""The command log: every change to the data, as RESP requests, in the order of execution.

It is written once and read by all who need it (the append-only file, replicas through the
backlog): each reader gets the same bytes. A SELECT stands before a command whose database is not
that of the command before it, and commands that must take effect together stand between MULTI and
EXEC, as in Redis's ``propagatePendingCommands``.
"""

from __future__ import annotations

from collections.abc import Callable

from node.resp import encode_request

Reader = Callable[[bytes], None]

_MULTI = encode_request([b"MULTI"])
_EXEC = encode_request([b"EXEC"])


class CommandLog:
    """Encodes commands for its readers. Without a reader nothing is encoded.

    ``selected`` is the database that a reader of the whole log would be in, -1 if unknown.
    """

    __slots__ = ("readers", "selected")

    def __init__(self) -> None:
        self.readers: list[Reader] = []
        self.selected = -1

    def attach(self, reader: Reader) -> None:
        """Send all further changes to ``reader``, which starts with a SELECT of its own."""
        self.readers.append(reader)
        self.selected = -1

    def detach(self, reader: Reader) -> None:
        self.readers.remove(reader)

    def append(self, commands: list[tuple[int, list[bytes]]], *, together: bool = True) -> None:
        """Log (database, request) pairs; more than one are one unit if they belong ``together``."""
        if not self.readers or not commands:
            return
        parts: list[bytes] = []
        unit = together and len(commands) > 1
        for i, (db, argv) in enumerate(commands):
            if db != self.selected:
                parts.append(encode_request([b"SELECT", b"%d" % db]))
                self.selected = db
            if unit and i == 0:
                parts.append(_MULTI)
            parts.append(encode_request(argv))
        if unit:
            parts.append(_EXEC)
        wire = b"".join(parts)
        for reader in self.readers:
            reader(wire)
