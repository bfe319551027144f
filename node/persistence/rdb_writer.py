"""Writes RDB files and the bodies of DUMP payloads, as Redis 7.0 would write the same data.

A value that Redis keeps packed is written packed: it takes least room so, and loads fastest.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import Final

from node.persistence.crc64 import crc64
from node.persistence.lzf import compress as compress_lzf
from node.persistence.packed import encode_intset, encode_listpack
from node.persistence.rdb_format import (
    AUX,
    DEADLINE_MS,
    END,
    FREQUENCY,
    FUNCTION,
    HASH,
    HASH_LISTPACK,
    IDLE,
    LIST_QUICKLIST_2,
    MAGIC,
    NODE_PACKED,
    RESIZE,
    SELECT,
    SET,
    SET_INTSET,
    SHORT_LENGTHS,
    STRING,
    VERSION_WRITTEN,
    ZSET_2,
    ZSET_LISTPACK,
    encode_length,
)
from node.values.collection import Collection
from node.values.hash import Hash
from node.values.list import List
from node.values.listpack import HEADER, SAFE_SIZE, SIZE_LIMITS, measure_entry
from node.values.number import WHOLE, format_exact, parse_integer
from node.values.ranking import ShortRanking
from node.values.set import INTSET, Set
from node.values.sorted_set import SortedSet

Value = bytes | bytearray | Collection

COMPRESSIBLE: Final = 21
"""Strings of fewer bytes are never compressed."""

PORTION: Final = 512
"""Elements of a large collection that are written at a time."""

BUFFER: Final = 65536
"""Bytes that are collected before they are written."""

SINGLE_NODE: Final = SHORT_LENGTHS[1] + SHORT_LENGTHS[NODE_PACKED]
"""What stands before the only node of a list."""

EIGHTHS: Final = 1e9
"""Up to this a multiple of an eighth has no more digits than a double tells apart."""

_DOUBLE: Final = struct.Struct("<d")
_INTEGERS_8: Final = tuple(
    b"\xc0" + number.to_bytes(1, "little", signed=True) for number in range(-128, 128)
)
_OPCODES: Final = tuple(bytes((code,)) for code in range(256))
_STRING_TYPE: Final = _OPCODES[STRING]
_LARGEST_INTEGER: Final = (1 << 31) - 1
_LONG_INTEGER: Final = 11  # characters


# --- strings -------------------------------------------------------------------------------------


def append_string(parts: list[bytes], text: bytes, compress: bool) -> int:
    """Append a string as it is written, in one or more parts; return how many bytes these are."""
    length = len(text)
    if length < COMPRESSIBLE:
        if 0 < length <= _LONG_INTEGER and text[0] < 58:
            number = parse_integer(text)
            if number is not None and -_LARGEST_INTEGER - 1 <= number <= _LARGEST_INTEGER:
                packed = _pack_integer(number)
                parts.append(packed)
                return len(packed)
        parts.append(SHORT_LENGTHS[length])
        parts.append(text)
        return length + 1
    if compress:
        shorter = compress_lzf(text)
        if shorter is not None:
            head = b"\xc3" + encode_length(len(shorter)) + encode_length(length)
            parts.append(head)
            parts.append(shorter)
            return len(head) + len(shorter)
    head = encode_length(length)
    parts.append(head)
    parts.append(text)
    return len(head) + length


def _pack_integer(number: int) -> bytes:
    if -128 <= number <= 127:
        return _INTEGERS_8[number + 128]
    if -32768 <= number <= 32767:
        return b"\xc1" + number.to_bytes(2, "little", signed=True)
    return b"\xc2" + number.to_bytes(4, "little", signed=True)


def encode_string(text: bytes, compress: bool) -> bytes:
    """Return a string as it is written: a number of 32 bits as such, others with their length."""
    parts: list[bytes] = []
    append_string(parts, text, compress)
    return b"".join(parts)


# --- values --------------------------------------------------------------------------------------


def encode_value(value: Value, compress: bool) -> tuple[int, bytes]:
    """Return the type that a value is written as, and what is written after the key."""
    return value_type(value), b"".join(encode_portions(value, compress))


def serialized_size(value: Value, compress: bool) -> int:
    """Return the bytes that are written after the key."""
    size = 0
    for portion in encode_portions(value, compress):
        size += len(portion)
    return size


def value_type(value: Value) -> int:
    """Return the type that a value is written as.  Raises TypeError if it is of no known type."""
    if isinstance(value, (bytes, bytearray)):
        return STRING
    if isinstance(value, List):
        return LIST_QUICKLIST_2
    if isinstance(value, Hash):
        return HASH_LISTPACK if value.compact else HASH
    if isinstance(value, Set):
        return SET_INTSET if value.form == INTSET else SET
    if isinstance(value, SortedSet):
        return ZSET_LISTPACK if value.compact else ZSET_2
    raise TypeError(f"no RDB type for {type(value).__name__}")


def encode_portions(value: Value, compress: bool) -> Iterator[bytes]:
    """Yield what is written after the key, bit by bit: a large collection is not written as one.

    The value must not change meanwhile.
    """
    packed = _pack(value)
    if packed is not None:
        head = SINGLE_NODE if isinstance(value, List) else b""
        yield head + encode_string(packed, compress)
    elif isinstance(value, bytes):
        yield encode_string(value, compress)
    elif isinstance(value, bytearray):
        yield encode_string(bytes(value), compress)
    elif isinstance(value, List):
        counts = node_counts(value)
        yield encode_length(len(counts))
        elements = iter(value)
        for count in counts:
            node = encode_listpack(list(islice(elements, count)))
            yield SHORT_LENGTHS[NODE_PACKED] + encode_string(node, compress)
    elif isinstance(value, Hash):
        yield encode_length(len(value))
        pairs = iter(value.items())
        for _ in range(0, len(value), PORTION):
            parts: list[bytes] = []
            for field, text in islice(pairs, PORTION):
                append_string(parts, field, compress)
                append_string(parts, text, compress)
            yield b"".join(parts)
    elif isinstance(value, Set):
        yield encode_length(len(value))
        members = iter(value.elements)
        for _ in range(0, len(value), PORTION):
            parts = []
            for member in islice(members, PORTION):
                append_string(parts, member, compress)
            yield b"".join(parts)
    elif isinstance(value, SortedSet):
        yield encode_length(len(value))
        # From the highest to the lowest, as Redis does, which inserts fastest so.
        for stop in range(len(value), 0, -PORTION):
            parts = []
            for score, member in value.range(stop - PORTION, stop, True):
                append_string(parts, member, compress)
                parts.append(_DOUBLE.pack(score))
            yield b"".join(parts)
    else:
        raise TypeError(f"no RDB type for {type(value).__name__}")


def append_small(parts: list[bytes], value: Value, compress: bool) -> int:
    """Append what is written after the key, if that is little; return its bytes, 0 if it is not.

    The same bytes as from `encode_portions`, several times as fast.
    """
    packed = _pack(value)
    if packed is not None:
        if isinstance(value, List):
            parts.append(SINGLE_NODE)
            return append_string(parts, packed, compress) + len(SINGLE_NODE)
        return append_string(parts, packed, compress)
    if isinstance(value, Set) and len(value.elements) < 64:
        parts.append(SHORT_LENGTHS[len(value.elements)])
        size = 1
        for member in value.elements:
            size += append_string(parts, member, compress)
        return size
    return 0


def _pack(value: Value) -> bytes | None:
    """Return the value as one packed string, if it is written as such."""
    if isinstance(value, Hash):
        if value.compact:
            return encode_listpack(list(chain.from_iterable(value.items())))
    elif isinstance(value, List):
        if value.compact:
            # One Python list, as long as it is short.
            elements = value.head if value.head is value.tail else list(value)
            return encode_listpack(elements)
    elif isinstance(value, SortedSet):
        if value.compact:
            entries: list[bytes] = []
            ranking = value.ranking
            if isinstance(ranking, ShortRanking):
                scores = ranking.keys.tolist()
                for at, member in enumerate(ranking.part):
                    entries.append(member)
                    entries.append(_format_score(scores[at]))
            else:
                for score, member in value:
                    entries.append(member)
                    entries.append(_format_score(score))
            return encode_listpack(entries)
    elif isinstance(value, Set):
        if value.form == INTSET:
            return encode_intset(sorted(map(int, value.elements)))
    return None


def _format_score(score: float) -> bytes:
    """Return a score as Redis 7.0 writes it into a listpack."""
    if -EIGHTHS <= score <= EIGHTHS:
        eighths = int(score * 8.0)
        if eighths == score * 8.0:
            if not eighths & 7:
                return b"%d" % (eighths >> 3)
            # Few digits, all of which `repr` prints too, only faster.
            return repr(score).encode("ascii")
    elif -WHOLE <= score <= WHOLE and int(score) == score:
        return b"%d" % int(score)
    return format_exact(score)


def node_counts(value: List) -> list[int]:
    """Return how many elements of a list go into each node, as in Redis's quicklist."""
    if value.compact:
        return [len(value)]
    fill = value.limits.list_max_listpack_size
    largest = SAFE_SIZE
    longest = max(fill, 1)
    if fill < 0:
        largest = SIZE_LIMITS[-fill - 1] if fill >= -5 else SIZE_LIMITS[-1]
        longest = len(value)
    counts: list[int] = []
    count = 0
    size = HEADER
    for element in value:
        step = measure_entry(element)
        if count and (size + step > largest or count >= longest):
            counts.append(count)
            count = 0
            size = HEADER
        count += 1
        size += step
    if count:
        counts.append(count)
    return counts


# --- files ---------------------------------------------------------------------------------------


class RdbWriter:
    """Writes one RDB file to `write`, in pieces of about BUFFER bytes.

    The calls come in the order of the file: `begin`, `function` for each library, then for each
    database `select` and `entry` for each key, and `end`.  What `write` raises passes through; the
    file is of no use then.
    """

    __slots__ = ("_written", "_write", "_compress", "_checksum", "_crc", "_parts", "_pending")

    def __init__(self, write: Callable[[bytes], object], compress: bool, checksum: bool) -> None:
        self._written = 0
        self._write = write
        self._compress = compress
        self._checksum = checksum
        self._crc = 0
        self._parts: list[bytes] = []
        self._pending = 0

    @property
    def size(self) -> int:
        """How many bytes there are so far, those included that are not written yet."""
        return self._written + self._pending

    def begin(self, aux: dict[bytes, bytes]) -> None:
        """Write the head of the file, and what is told about where it comes from."""
        self._append(MAGIC + b"%04d" % VERSION_WRITTEN)
        for name, text in aux.items():
            self.aux(name, text)

    def aux(self, name: bytes, text: bytes) -> None:
        """Write one more thing to be told."""
        pair = encode_string(name, self._compress) + encode_string(text, self._compress)
        self._append(_OPCODES[AUX] + pair)

    def function(self, code: bytes) -> None:
        """Write a library of functions, which is its source text."""
        self._append(_OPCODES[FUNCTION] + encode_string(code, self._compress))

    def select(self, db: int, keys: int, volatile: int) -> None:
        """Begin a database, of so many keys, so many of which expire."""
        self._append(
            _OPCODES[SELECT]
            + encode_length(db)
            + _OPCODES[RESIZE]
            + encode_length(keys)
            + encode_length(volatile)
        )

    def entry(
        self,
        key: bytes,
        value: Value,
        deadline: int | None,
        idle: int | None,
        freq: int | None,
    ) -> None:
        """Write a key that expires at a Unix time in milliseconds.

        `idle` is for how many seconds it has not been used, `freq` its LFU count (0 to 255); each
        is written if given.
        """
        parts = self._parts
        pending = self._pending
        if deadline is not None:
            parts.append(_OPCODES[DEADLINE_MS])
            parts.append(deadline.to_bytes(8, "little", signed=True))
            pending += 9
        if idle is not None:
            head = _OPCODES[IDLE] + encode_length(idle)
            parts.append(head)
            pending += len(head)
        if freq is not None:
            parts.append(_OPCODES[FREQUENCY])
            parts.append(_OPCODES[freq])
            pending += 2
        compress = self._compress
        if isinstance(value, bytes):
            parts.append(_STRING_TYPE)
            pending += append_string(parts, key, compress) + 1
            pending += append_string(parts, value, compress)
            if pending >= BUFFER:
                self._pending = pending
                self.flush()
            else:
                self._pending = pending
            return
        parts.append(_OPCODES[value_type(value)])
        pending += append_string(parts, key, compress) + 1
        small = append_small(parts, value, compress)
        if small:
            self._pending = pending + small
            if self._pending >= BUFFER:
                self.flush()
            return
        self._pending = pending
        for portion in encode_portions(value, compress):
            self._append(portion)

    def end(self) -> None:
        """Write the end and the checksum (nought if none is wanted), and everything pending."""
        self._append(_OPCODES[END])
        self.flush()
        crc = self._crc if self._checksum else 0
        self._checksum = False  # which is not part of itself
        self._append(crc.to_bytes(8, "little"))
        self.flush()

    def _append(self, part: bytes) -> None:
        self._parts.append(part)
        self._pending += len(part)
        if self._pending >= BUFFER:
            self.flush()

    def flush(self) -> None:
        """Write what is pending."""
        data = b"".join(self._parts)
        self._parts = []
        self._pending = 0
        if data:
            if self._checksum:
                self._crc = crc64(data, self._crc)
            self._written += len(data)
            self._write(data)
