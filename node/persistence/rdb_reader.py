"""Reads RDB files as their bytes come, in pieces of any size, and the bodies of DUMP payloads.

The reader is in one of three places: before a record, within a collection whose elements come one
by one, or behind the end.  Each step (an opcode with its arguments, the head of a value, one
element or node) is read whole or not at all: when its bytes are not all there yet, the reader goes
back to the *mark* before the step, and remembers how many bytes it takes, so that it does not try
again before they have come.  So a large string is waited for, not parsed many times, and a large
collection goes into the value as it comes.

Nothing is believed on the strength of a number alone: memory is taken for bytes that are there, or
that come out of them.  Redis can leave the deep inspection of values out (`sanitize-dump-payload`);
here values are made anew from their elements in any case, so all are always inspected.

What is told of a file by rules of this server:

- Libraries of functions are kept as they are, in `functions`; the reader does not compile them.
- What there is nothing here to hold ends the reading with an error that names it, since it would
  be lost by the next snapshot: a stream, a hash with fields that expire by themselves, a module's
  value and, as in Redis, the data of a module beside the keys.
- An empty collection, which older versions could leave behind, is left out and counted.
"""

from __future__ import annotations

import struct
from math import inf
from typing import Final

from mypy_extensions import mypyc_attr

from node.persistence.crc64 import crc64
from node.persistence.lzf import MOST_EXPANSION, decompress
from node.persistence.packed import decode_listpack, decode_ziplist
from node.persistence.rdb_format import (
    AUX,
    COMPRESSED,
    DEADLINE_MS,
    DEADLINE_SECONDS,
    END,
    FIRST_WITH_CHECKSUM,
    FREQUENCY,
    FUNCTION,
    FUNCTION_EARLY,
    HASH,
    HASH_LISTPACK_EX,
    HASH_LISTPACK_EX_EARLY,
    HASH_METADATA,
    HASH_METADATA_EARLY,
    IDLE,
    INTEGER_8,
    INTEGER_16,
    INTEGER_32,
    LIST,
    LIST_QUICKLIST,
    LIST_QUICKLIST_2,
    MAGIC,
    MODULE,
    MODULE_AUX,
    NEWEST_TYPE,
    NEWEST_VERSION,
    NODE_PACKED,
    NODE_PLAIN,
    RESIZE,
    SCORE_INFINITE,
    SCORE_NAN,
    SCORE_NEGATIVE_INFINITE,
    SELECT,
    SET,
    SLOT_INFO,
    STREAMS,
    STRING,
    ZSET,
    ZSET_2,
    RdbError,
)
from node.persistence.rdb_values import (
    FIELD_EXPIRES,
    NESTED,
    append_node,
    decode_nested,
    hash_without_expiry,
    module_name,
    node_list,
    set_for,
    set_of,
    settle_list,
)
from node.values.collection import SMALL, Collection, Limits
from node.values.hash import Hash
from node.values.list import List
from node.values.number import format_integer
from node.values.set import Set
from node.values.sorted_set import SortedSet

Value = bytes | bytearray | Collection

NO_DEADLINE: Final = -1
"""How Redis may write that a key does not expire."""

_DOUBLE: Final = struct.Struct("<d")


class Shortage(Exception):
    """There are not enough bytes; `RdbReader` knows how many it takes."""


@mypyc_attr(acyclic=True)
class Record:
    """A key out of the file.

    `deadline`: Unix milliseconds when it expires; `idle`: seconds since it was used last; `freq`:
    its LFU count (0 to 255); None for what the file does not say.
    """

    __slots__ = ("db", "key", "value", "deadline", "idle", "freq")

    def __init__(
        self,
        db: int,
        key: bytes,
        value: Value,
        deadline: int | None,
        idle: int | None,
        freq: int | None,
    ) -> None:
        self.db = db
        self.key = key
        self.value = value
        self.deadline = deadline
        self.idle = idle
        self.freq = freq


class RdbReader:
    """Reads one file: `feed` it until `finished`.

    `version` is the file's, 0 before its head was read; `aux` what it tells about where it comes
    from; `functions` the source texts of libraries; `empty_keys` how many keys without elements
    were left out; `sizes` how many keys each database is said to have, which may be untrue;
    `offset` how many bytes have been read.  Once `finished`, the checksum was right (if there is
    one, and `checksum` is true), and `rest` is what came behind the end.

    All calls raise RdbError for what cannot be loaded; the reader is of no use afterwards.
    """

    __slots__ = (
        "version",
        "aux",
        "functions",
        "empty_keys",
        "sizes",
        "finished",
        "rest",
        "_limits",
        "_checksum",
        "_crc",
        "_data",
        "_at",
        "_base",
        "_pieces",
        "_coming",
        "_wanted",
        "_db",
        "_deadline",
        "_idle",
        "_freq",
        "_type",
        "_key",
        "_reading",
        "_left",
        "_list",
        "_nodes",
        "_hash",
        "_set",
        "_gathers",
        "_members",
        "_scores",
        "_mark",
        "_records",
    )

    def __init__(self, limits: Limits, checksum: bool = True) -> None:
        self.version = 0
        self.aux: dict[bytes, bytes] = {}
        self.functions: list[bytes] = []
        self.empty_keys = 0
        self.sizes: dict[int, int] = {}
        self.finished = False
        self.rest = b""
        self._limits = limits
        self._checksum = checksum
        self._crc = 0
        self._data = b""
        self._at = 0
        self._base = 0  # offset of the data's start
        self._pieces: list[bytes] = []
        self._coming = 0  # bytes in the pieces
        self._wanted = 0  # bytes from the mark that the next step takes, as far as is known
        self._db = 0
        self._deadline: int | None = None
        self._idle: int | None = None
        self._freq: int | None = None
        self._type = -1  # of the collection whose elements are being read
        self._key = b""
        self._reading = False  # the value of the key
        self._left = 0  # elements to come
        self._list = List(limits)
        self._nodes = 0
        self._hash = Hash(limits)
        self._set = Set(limits)
        self._gathers = False  # the members, to make a set of them at once
        self._members: list[bytes] = []
        self._scores: dict[bytes, float] = {}
        self._mark = 0  # where the step began that is being read
        self._records: list[Record] = []

    @property
    def offset(self) -> int:
        """How many bytes have been read."""
        return self._base + self._at

    @property
    def buffered(self) -> int:
        """How many bytes wait for those that belong to them."""
        return len(self._data) - self._at + self._coming

    def feed(self, data: bytes) -> list[Record]:
        """Take the next bytes of the file, and return the keys that are complete by them."""
        if self.finished:
            self.rest += data
            return []
        self._pieces.append(data)
        self._coming += len(data)
        if len(self._data) - self._at + self._coming < self._wanted:
            return []
        self._base += self._at
        self._data = b"".join([self._data[self._at :], *self._pieces])
        self._at = 0
        self._pieces = []
        self._coming = 0
        self._wanted = 0
        self._records = []
        ended = False
        try:
            ended = self._read()
        except Shortage:
            self._at = self._mark
            self._wanted -= self._mark
        except ValueError as error:
            raise self._error(str(error)) from None
        if ended:
            return self._finish()
        if self._checksum:
            self._crc = crc64(self._data[: self._at], self._crc)
        records = self._records
        self._records = []
        return records

    def read_value(self, kind: int, data: bytes) -> Value:
        """Return a value of a type out of all that is written after its key.

        For payloads: what comes after it is ignored, and an empty collection is an error.
        """
        self._data = data
        try:
            value = self._begin_value(kind)
            if value is None:
                self._type = kind
                value = self._read_elements()
        except Shortage:
            raise RdbError("Unexpected end", len(data)) from None
        except ValueError as error:
            raise self._error(str(error)) from None
        if isinstance(value, Collection) and not len(value):
            raise self._error("Empty collection")
        return value

    def _error(self, message: str) -> RdbError:
        if self._reading:
            message += f", in the value of key {self._key!r}"
        return RdbError(message, self._base + self._at)

    # The pieces of which steps consist.

    def _need(self, size: int) -> int:
        """Return where the next `size` bytes begin, and step over them."""
        at = self._at
        stop = at + size
        if stop > len(self._data):
            self._wanted = stop
            raise Shortage
        self._at = stop
        return at

    def _byte(self) -> int:
        at = self._at
        if at >= len(self._data):
            self._wanted = at + 1
            raise Shortage
        self._at = at + 1
        return self._data[at]

    def _length(self) -> int:
        """Read a length; ValueError for what is no length but a form of string."""
        head = self._byte()
        if head < 64:
            return head
        if head < 128:
            return (head & 63) << 8 | self._byte()
        if head == 128:
            at = self._need(4)
            return int.from_bytes(self._data[at : at + 4], "big")
        if head == 129:
            at = self._need(8)
            return int.from_bytes(self._data[at : at + 8], "big")
        raise ValueError(f"Unknown length encoding {head}")

    def _string(self) -> bytes:
        data = self._data
        at = self._at
        if at < len(data):
            head = data[at]
            if head < 64:
                stop = at + 1 + head
                if stop <= len(data):
                    self._at = stop
                    return data[at + 1 : stop]
        if self._byte() >= 192:
            return self._special_string()
        self._at -= 1
        length = self._length()
        at = self._need(length)
        return data[at : at + length]

    def _special_string(self) -> bytes:
        data = self._data
        form = data[self._at - 1] & 63
        if form == INTEGER_8:
            number = self._byte()
            return format_integer(number - 256 if number > 127 else number)
        if form == INTEGER_16:
            at = self._need(2)
            number = data[at] | data[at + 1] << 8
            return format_integer(number - 65536 if number > 32767 else number)
        if form == INTEGER_32:
            at = self._need(4)
            number = int.from_bytes(data[at : at + 4], "little", signed=True)
            return format_integer(number)
        if form != COMPRESSED:
            raise ValueError(f"Unknown string encoding {form}")
        compressed = self._length()
        size = self._length()
        if size > compressed * MOST_EXPANSION:
            raise ValueError("Invalid LZF compressed string")
        at = self._need(compressed)
        return decompress(data[at : at + compressed], size)

    def _old_score(self) -> float:
        """Read a score as a text, the way of the first versions."""
        length = self._byte()
        if length == SCORE_NAN:
            raise ValueError("Zset with NAN score detected")
        if length == SCORE_INFINITE:
            return inf
        if length == SCORE_NEGATIVE_INFINITE:
            return -inf
        at = self._need(length)
        score = float(self._data[at : at + length])
        if score != score:
            raise ValueError("Zset with NAN score detected")
        return score

    # Records.

    def _read(self) -> bool:
        """Read what is there; True once the end has been reached, Shortage at any other place."""
        if not self.version:
            self._mark = self._at
            self._read_head()
        while True:
            if self._type >= 0:
                self._add_record(self._read_elements())
                self._type = -1
            self._mark = self._at
            code = self._byte()
            if code == STRING:
                key = self._string()
                self._add(key, self._string())
            elif code <= NEWEST_TYPE:
                self._key = self._string()
                self._reading = True
                value = self._begin_value(code)
                if value is None:
                    self._type = code
                else:
                    self._add_record(value)
            elif code == END:
                if self.version >= FIRST_WITH_CHECKSUM:
                    self._need(8)
                return True
            else:
                self._read_opcode(code)

    def _read_head(self) -> None:
        at = self._need(9)
        head = self._data[at : at + 9]
        if head[:5] != MAGIC:
            self._at = 0
            raise ValueError("Wrong signature trying to load DB from file")
        version = head[5:]
        number = int(version) if version.isdigit() else 0
        if not 1 <= number <= NEWEST_VERSION:
            self._at = 0
            raise ValueError(f"Can't handle RDB format version {number}")
        self.version = number

    def _add(self, key: bytes, value: Value) -> None:
        self._records.append(Record(self._db, key, value, self._deadline, self._idle, self._freq))
        self._deadline = None
        self._idle = None
        self._freq = None

    def _add_record(self, value: Value) -> None:
        self._reading = False
        if isinstance(value, Collection) and not len(value):
            self.empty_keys += 1
            self._deadline = None
            self._idle = None
            self._freq = None
        else:
            self._add(self._key, value)

    def _read_opcode(self, code: int) -> None:
        if code == DEADLINE_MS:
            at = self._need(8)
            deadline = int.from_bytes(self._data[at : at + 8], "little", signed=True)
            self._deadline = None if deadline == NO_DEADLINE else deadline
        elif code == DEADLINE_SECONDS:
            at = self._need(4)
            seconds = int.from_bytes(self._data[at : at + 4], "little", signed=True)
            self._deadline = seconds * 1000
        elif code == IDLE:
            self._idle = self._length()
        elif code == FREQUENCY:
            self._freq = self._byte()
        elif code == SELECT:
            self._db = self._length()
        elif code == RESIZE:
            self.sizes[self._db] = self._length()
            self._length()
        elif code == SLOT_INFO:
            self._length()
            self._length()
            self._length()
        elif code == AUX:
            name = self._string()
            self.aux[name] = self._string()
        elif code == FUNCTION:
            self.functions.append(self._string())
        elif code == MODULE_AUX:
            module = module_name(self._length())
            raise ValueError(
                f"The RDB file contains AUX module data I can't load: no matching module '{module}'"
            )
        elif code == FUNCTION_EARLY:
            raise ValueError("Pre-release function format not supported.")
        else:
            raise ValueError(f"Unknown RDB encoding type {code}")

    def _finish(self) -> list[Record]:
        at = self._at
        if self.version >= FIRST_WITH_CHECKSUM:
            expected = int.from_bytes(self._data[at - 8 : at], "little")
            if self._checksum and expected:
                actual = crc64(self._data[: at - 8], self._crc)
                if actual != expected:
                    raise self._error(
                        f"Wrong RDB checksum expected: ({expected:x}) but got ({actual:x})"
                    )
        self.finished = True
        self.rest = self._data[at:]
        self._data = self._data[:at]
        records = self._records
        self._records = []
        return records

    # Values.

    def _begin_value(self, kind: int) -> Value | None:
        """Read a value that is one string, or how many elements one has that is more.

        Returns None in the second case.
        """
        if kind == STRING:
            return self._string()
        if kind in NESTED:
            return decode_nested(kind, self._string(), self._limits)
        if kind in (LIST, LIST_QUICKLIST, LIST_QUICKLIST_2):
            self._left = self._length()
            self._list = List(self._limits)
            self._nodes = 1 if kind == LIST else 0
        elif kind == SET:
            self._left = self._length()
            self._set = set_for(self._limits, self._left)
            self._gathers = self._left <= SMALL
            self._members = []
        elif kind in (ZSET, ZSET_2):
            self._left = self._length()
            self._scores = {}
        elif kind in (HASH, HASH_METADATA, HASH_METADATA_EARLY):
            if kind == HASH_METADATA:
                self._need(8)  # the first time when a field expires
            self._left = self._length()
            self._hash = Hash(self._limits)
            self._hash.expect(self._left)
        elif kind in (HASH_LISTPACK_EX, HASH_LISTPACK_EX_EARLY):
            if kind == HASH_LISTPACK_EX:
                self._need(8)
            return hash_without_expiry(self._limits, decode_listpack(self._string()))
        elif kind in STREAMS:
            raise ValueError("Stream, which this server cannot hold")
        elif kind == MODULE:
            name = module_name(self._length())
            raise ValueError(
                f"The RDB file contains module data I can't load: no matching module type '{name}'"
            )
        else:
            raise ValueError(f"Unknown RDB encoding type {kind}")
        return None

    def _read_elements(self) -> Collection:
        """Read the elements still to come, and return the value that they make."""
        kind = self._type
        if kind == HASH:
            return self._read_fields()
        if kind == SET:
            return self._read_members()
        if kind in (ZSET, ZSET_2):
            return self._read_scores(kind)
        if kind in (LIST, LIST_QUICKLIST, LIST_QUICKLIST_2):
            return self._read_nodes(kind)
        fields = self._hash
        while self._left:
            self._mark = self._at
            if self._length():
                raise ValueError(FIELD_EXPIRES)
            field = self._string()
            if not fields.set(field, self._string()):
                raise ValueError("Duplicate hash fields detected")
            self._left -= 1
        return fields

    def _read_fields(self) -> Collection:
        fields = self._hash
        while self._left:
            self._mark = self._at
            field = self._string()
            if not fields.set(field, self._string()):
                raise ValueError("Duplicate hash fields detected")
            self._left -= 1
        return fields

    def _read_members(self) -> Collection:
        members = self._set
        texts = self._members
        while self._left:
            self._mark = self._at
            if self._gathers:
                texts.append(self._string())
            elif not members.add(self._string()):
                raise ValueError("Duplicate set members detected")
            self._left -= 1
        if self._gathers:
            self._members = []
            return set_of(self._limits, texts, members.form)
        return members

    def _read_scores(self, kind: int) -> Collection:
        scores = self._scores
        while self._left:
            self._mark = self._at
            member = self._string()
            if kind == ZSET_2:
                at = self._need(8)
                score: float = _DOUBLE.unpack_from(self._data, at)[0]
                if score != score:
                    raise ValueError("Zset with NAN score detected")
            else:
                score = self._old_score()
            if member in scores:
                raise ValueError("Duplicate zset members detected")
            scores[member] = score
            self._left -= 1
        self._scores = {}
        return SortedSet.from_scores(self._limits, scores)

    def _read_nodes(self, kind: int) -> Collection:
        while self._left:
            self._mark = self._at
            if kind == LIST:
                self._list.push_right(self._string())
            elif kind == LIST_QUICKLIST:
                self._add_node(decode_ziplist(self._string()), 0)
            else:
                form = self._length()
                if form == NODE_PACKED:
                    packed = self._string()
                    self._add_node(decode_listpack(packed), len(packed))
                elif form == NODE_PLAIN:
                    element = self._string()
                    if not element:
                        raise ValueError("Empty node of a quicklist")
                    self._list.push_right(element)
                    self._nodes += 2  # which makes it no listpack
                else:
                    raise ValueError(f"Unknown kind {form} of a quicklist's node")
            self._left -= 1
        return settle_list(self._list, self._nodes)

    def _add_node(self, entries: list[bytes], size: int) -> None:
        if not self._nodes:
            self._list = node_list(self._limits, entries, size)
        else:
            append_node(self._list, entries)
        self._nodes += 1
