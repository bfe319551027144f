"""An index of a database's keys, in an order of its own: what a component may add to the data."""

from __future__ import annotations

from node.key_table import Entry


class KeyIndex:
    """Knows which keys a database has: what a component asks of it.

    It is a part of the data, and goes where they go: see :attr:`Database.key_index`. ``memory`` is
    what it takes in bytes, without the entries. It is freed like a value, bit by bit. An entry's
    ``index_place`` is the index's own.
    """

    __slots__ = ("memory",)

    def __init__(self) -> None:
        self.memory = 0

    def add(self, entry: Entry) -> int:
        """Take in a key that was not there; by how much ``memory`` has grown."""
        raise NotImplementedError

    def discard(self, entry: Entry) -> int:
        """Forget a key that was there; by how much ``memory`` has grown (less than 0: shrunk)."""
        raise NotImplementedError

    def fresh(self) -> KeyIndex:
        """An empty index of the same kind."""
        raise NotImplementedError

    def drain(self, budget: int) -> bool:
        """Free about ``budget`` entries of an index that is used no more; True: nothing is left."""
        raise NotImplementedError
