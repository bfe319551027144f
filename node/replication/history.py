"""Which history a server's data are part of, and who may go on with it (Redis's PSYNC2).

A history has an id, 40 hexadecimal digits, and a length: the data of a server with the id R and
the offset N are what the first N bytes of the history R make. When a replica is promoted it begins
a history of its own with a new id, and remembers the id of the one that it comes from, and how far
it went: up to there both are the same, so that the other replicas of its old master can go on with
it without fetching all data again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from node.replication.backlog import Backlog

NO_ID: Final = b"0" * 40
ID_LENGTH: Final = 40


class History:
    """The ids and offsets of one server, and the recent end of its stream.

    ``backlog`` is None while nobody may need it (a master that never had a replica): then the
    offset stands still, since nothing is streamed.
    """

    __slots__ = ("id", "second_id", "second_end", "backlog", "_offset", "_draw_id")

    def __init__(self, draw_id: Callable[[], bytes]) -> None:
        self._draw_id = draw_id
        self.id = draw_id()
        # The history that this one continues, and the position up to which it does; -1: none.
        self.second_id = NO_ID
        self.second_end = -1
        self.backlog: Backlog | None = None
        self._offset = 0

    @property
    def offset(self) -> int:
        """How many bytes of history the data are made of (``master_repl_offset``)."""
        return self._offset if self.backlog is None else self.backlog.end

    def serve(self, size: int) -> None:
        """A replica asks a master for its history: keep it from now on.

        Where it was not kept before, it is a new one, since nobody has counted what was changed
        (``syncCommand``).
        """
        if self.backlog is None:
            self.begin_anew()
            self.open_backlog(size)

    def open_backlog(self, size: int) -> Backlog:
        """Keep the end of the history, beginning where it stands."""
        if self.backlog is None:
            self.backlog = Backlog(size, self._offset)
        return self.backlog

    def drop_backlog(self) -> None:
        """Keep nothing any more (``repl-backlog-ttl``): changes are not counted from now on.

        So the data leave this history, and nobody can go on with it.
        """
        if self.backlog is not None:
            self._offset = self.backlog.end
            self.backlog = None
            self.begin_anew()

    def begin_anew(self) -> None:
        """Start a history that nobody else is part of (the data are not what they were)."""
        self.id = self._draw_id()
        self.forget_second()

    def forget_second(self) -> None:
        """The old history is of no use any more."""
        self.second_id = NO_ID
        self.second_end = -1

    def fork(self) -> None:
        """A replica becomes a master: a history of its own, which continues its master's.

        (``shiftReplicationId``.)
        """
        self.second_id = self.id
        self.second_end = self.offset
        self.id = self._draw_id()

    def join(self, id: bytes, offset: int) -> None:
        """All data have been fetched: they are the first ``offset`` bytes of the history ``id``."""
        self.id = id
        self.forget_second()
        self._offset = offset
        if self.backlog is not None:
            self.backlog = Backlog(self.backlog.size, offset)

    def rename(self, id: bytes) -> None:
        """The master goes on with the same history under a new id (``+CONTINUE <id>``)."""
        if id != self.id:
            self.second_id = self.id
            self.second_end = self.offset
            self.id = id

    def can_continue(self, id: bytes, position: int) -> bool:
        """Whether a replica that has ``position`` bytes of the history ``id`` can go on from here.

        ``position`` is the offset asked for in PSYNC less one.
        """
        if id != self.id and (id != self.second_id or position > self.second_end):
            return False
        return self.backlog is not None and self.backlog.holds(position)
