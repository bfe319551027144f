"""The data as a plain dictionary, and what the requests of a replication stream do to them.

It knows the requests into which the node turns what the simulation's clients write, and nothing of
the node but how to read its data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from node.key_table import Value
from node.keyspace import Keyspace
from node.values.hash import Hash
from node.values.list import List
from node.values.set import Set

# A string, a list, a set or a hash.
Plain = bytes | list[bytes] | set[bytes] | dict[bytes, bytes]
Name = tuple[int, bytes]

NO_DEADLINE: Final = -1


def _fingerprint(name: Name, value: Plain, deadline: int) -> int:
    """Equal for equal entries; those of all keys are combined by exclusive or."""
    if isinstance(value, bytes):
        return hash((name, value, deadline))
    if isinstance(value, list):
        return hash((name, "list", tuple(value), deadline))
    if isinstance(value, set):
        return hash((name, "set", frozenset(value), deadline))
    return hash((name, "hash", frozenset(value.items()), deadline))


def _plain(value: Value) -> Plain:
    """The value of a node's key."""
    if isinstance(value, List):
        return list(value)
    if isinstance(value, Set):
        return set(value)
    if isinstance(value, Hash):
        return dict(value.items())
    assert isinstance(value, (bytes, bytearray)), f"the model knows no {type(value).__name__}"
    return bytes(value)


def _entries(keyspace: Keyspace) -> Iterator[tuple[Name, Plain, int]]:
    """All that a node has, expired or not."""
    for db in keyspace.databases:
        if not db.count:
            continue
        for key, value in db.items():
            deadline = db.deadline(key)
            yield (db.index, key), _plain(value), NO_DEADLINE if deadline is None else deadline


def fingerprint_of(keyspace: Keyspace) -> int:
    """What :attr:`Model.fingerprint` is for the same data."""
    total = 0
    for name, value, deadline in _entries(keyspace):
        total ^= _fingerprint(name, value, deadline)
    return total


def read_lists(keyspace: Keyspace) -> Iterator[bytes]:
    """The elements of all lists that a node has."""
    for _, value, _ in _entries(keyspace):
        if isinstance(value, list):
            yield from value


class Model:
    """Data, and the database that the stream is in (-1: it has not said)."""

    def __init__(self) -> None:
        self.values: dict[Name, Plain] = {}
        self.deadlines: dict[Name, int] = {}
        self.fingerprint = 0
        self.selected = -1

    @classmethod
    def read(cls, keyspace: Keyspace) -> Model:
        """The data that a node has."""
        model = cls()
        for name, value, deadline in _entries(keyspace):
            model.values[name] = value
            if deadline != NO_DEADLINE:
                model.deadlines[name] = deadline
            model.fingerprint ^= _fingerprint(name, value, deadline)
        return model

    def describe(self) -> dict[Name, tuple[Plain, int]]:
        """Everything, to be looked at."""
        return {
            name: (value, self.deadlines.get(name, NO_DEADLINE))
            for name, value in sorted(self.values.items())
        }

    def apply(self, argv: list[bytes]) -> None:
        """Do what one request of the stream does."""
        command = argv[0].lower()
        if command in _MESSAGES:
            return
        if command == b"select":
            self.selected = int(argv[1])
            return
        assert self.selected >= 0, f"the stream writes before it selects a database: {argv}"
        if command in (b"flushdb", b"flushall"):
            for name in list(self.values):
                if command == b"flushall" or name[0] == self.selected:
                    self._mix(name)
                    self._drop(name)
            return
        if command in (b"del", b"unlink"):
            for key in argv[1:]:
                name = (self.selected, key)
                if name in self.values:
                    self._mix(name)
                    self._drop(name)
            return
        name = (self.selected, argv[1])
        self._mix(name)
        _COMMANDS[command](self, name, argv)
        if name in self.values and not self.values[name] and command not in _MAY_BE_EMPTY:
            self._drop(name)
        self._mix(name)

    def _mix(self, name: Name) -> None:
        """Take what a key contributes to the fingerprint out of it, or put it in."""
        value = self.values.get(name)
        if value is not None:
            deadline = self.deadlines.get(name, NO_DEADLINE)
            self.fingerprint ^= _fingerprint(name, value, deadline)

    def _drop(self, name: Name) -> None:
        del self.values[name]
        self.deadlines.pop(name, None)

    # The commands.

    def _set(self, name: Name, argv: list[bytes]) -> None:
        self.values[name] = argv[2]
        self.deadlines.pop(name, None)
        if len(argv) > 3:
            assert argv[3].lower() == b"pxat", argv
            self.deadlines[name] = int(argv[4])

    def _incrby(self, name: Name, argv: list[bytes]) -> None:
        value = self.values.get(name, b"0")
        assert isinstance(value, bytes)
        self.values[name] = b"%d" % (int(value) + (int(argv[2]) if len(argv) > 2 else 1))

    def _append(self, name: Name, argv: list[bytes]) -> None:
        value = self.values.get(name, b"")
        assert isinstance(value, bytes)
        self.values[name] = value + argv[2]

    def _push(self, name: Name, argv: list[bytes]) -> None:
        value = self.values.setdefault(name, [])
        assert isinstance(value, list)
        value += argv[2:]

    def _lpop(self, name: Name, argv: list[bytes]) -> None:
        value = self.values[name]
        assert isinstance(value, list)
        del value[: int(argv[2]) if len(argv) > 2 else 1]

    def _sadd(self, name: Name, argv: list[bytes]) -> None:
        value = self.values.setdefault(name, set())
        assert isinstance(value, set)
        value.update(argv[2:])

    def _srem(self, name: Name, argv: list[bytes]) -> None:
        value = self.values[name]
        assert isinstance(value, set)
        value.difference_update(argv[2:])

    def _hset(self, name: Name, argv: list[bytes]) -> None:
        value = self.values.setdefault(name, {})
        assert isinstance(value, dict)
        value.update(zip(argv[2::2], argv[3::2], strict=True))

    def _hincrby(self, name: Name, argv: list[bytes]) -> None:
        value = self.values.setdefault(name, {})
        assert isinstance(value, dict)
        value[argv[2]] = b"%d" % (int(value.get(argv[2], b"0")) + int(argv[3]))

    def _hdel(self, name: Name, argv: list[bytes]) -> None:
        value = self.values[name]
        assert isinstance(value, dict)
        for field in argv[2:]:
            value.pop(field, None)

    def _pexpireat(self, name: Name, argv: list[bytes]) -> None:
        self.deadlines[name] = int(argv[2])

    def _persist(self, name: Name, argv: list[bytes]) -> None:
        del self.deadlines[name]


_MESSAGES: Final = frozenset({b"ping", b"replconf", b"publish", b"multi", b"exec"})
_MAY_BE_EMPTY: Final = frozenset({b"set", b"append"})
_COMMANDS: Final[dict[bytes, Callable[[Model, Name, list[bytes]], None]]] = {
    b"set": Model._set,
    b"incr": Model._incrby,
    b"incrby": Model._incrby,
    b"append": Model._append,
    b"rpush": Model._push,
    b"lpop": Model._lpop,
    b"sadd": Model._sadd,
    b"srem": Model._srem,
    b"hset": Model._hset,
    b"hincrby": Model._hincrby,
    b"hdel": Model._hdel,
    b"pexpireat": Model._pexpireat,
    b"persist": Model._persist,
}
