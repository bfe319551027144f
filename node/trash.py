"""What no key holds any more: freed bit by bit, so that no deletion stops the server.

Somebody has to call :meth:`Trash.drain` for that: a task of the server (:mod:`node.reclamation`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from node.key_index import KeyIndex
from node.key_table import KeyTable, Value
from node.values.collection import Collection

# Collections with more elements than this are freed bit by bit (LAZYFREE_THRESHOLD).
LAZY_FREE_SIZE: Final = 64


class Trash:
    """Large values, tables of keys and indexes on their way out.

    ``memory`` is what they still take, in bytes; ``freed`` counts those that are gone altogether.
    """

    __slots__ = ("memory", "freed", "filled", "_pieces")

    def __init__(self) -> None:
        self.memory = 0
        self.freed = 0
        # Called when something was thrown away.
        self.filled: Callable[[], None] = _ignore
        # Worked off from the right.
        self._pieces: deque[Collection | Remains | KeyIndex] = deque()

    def __len__(self) -> int:
        return len(self._pieces)

    def discard(self, value: Value) -> None:
        """Let go of a value that no key holds any more; a large one goes bit by bit."""
        if isinstance(value, Collection) and len(value) > LAZY_FREE_SIZE:
            self._pieces.append(value)
            self.memory += value.accounted
            self.filled()

    def discard_database(self, table: KeyTable, index: KeyIndex | None, memory: int) -> None:
        """Let go of all data of a database, which take so much memory, with its index.

        The caller says when, by :attr:`filled`.
        """
        self.memory += memory
        if index is not None:
            memory -= index.memory
            self._pieces.append(index)
        self._pieces.append(Remains(self, table, memory))

    def put_aside(self, value: Collection) -> None:
        """Keep a value for later that was found within another piece."""
        # To the left, since the right end is being worked on.
        self._pieces.appendleft(value)
        self.memory += value.accounted

    def drain(self, budget: int) -> bool:
        """Free up to about ``budget`` discarded elements; True when nothing is left."""
        pieces = self._pieces
        if pieces:
            piece = pieces[-1]
            before = piece.memory
            if piece.drain(budget):
                pieces.pop()
                self.freed += 1
                self.memory -= before
            else:
                self.memory -= before - piece.memory
        if not pieces:
            self.memory = 0
            return True
        return False


class Remains:
    """The keys of a flushed database (same ``drain`` as a collection)."""

    __slots__ = ("memory", "_trash", "_slots", "_timed")

    def __init__(self, trash: Trash, table: KeyTable, memory: int) -> None:
        self.memory = memory
        self._trash = trash
        self._slots = table.slots
        self._timed = table.timed

    def drain(self, budget: int) -> bool:
        timed = self._timed
        if timed:
            # Only to be forgotten: each is in a slot as well.
            del timed[-budget:]
            return False
        slots = self._slots
        while slots and budget > 0:
            self.memory -= self.memory // len(slots)
            entry = slots.pop()
            budget -= 1
            while entry is not None:
                value = entry.value
                if isinstance(value, Collection):
                    budget -= self._put_aside(value)
                budget -= 1
                entry = entry.next
        return not slots

    def _put_aside(self, value: Collection) -> int:
        """Keep a large value for later; how many elements go with one that is small."""
        size = len(value)
        if size <= LAZY_FREE_SIZE:
            return size
        self._trash.put_aside(value)
        self.memory -= value.accounted
        return 0


def _ignore() -> None:
    return None
