"""Writes RDB files and the bodies of DUMP payloads, as Redis 7.0 would write the same data.

A value that Redis keeps packed is written packed: it takes least room so, and loads fastest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import Final

from librt.strings import (
    BytesWriter,
    write_f64_le,
    write_i16_le,
    write_i32_le,
    write_i64_le,
)
from mypy_extensions import i16, i32, i64, u8

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
    STRING,
    VERSION_WRITTEN,
    ZSET_2,
    ZSET_LISTPACK,
    write_length,
)
from node.values.collection import Collection
from node.values.hash import Hash
from node.values.list import List
from node.values.listpack import HEADER, SAFE_SIZE, SIZE_LIMITS, measure_entry
from node.values.number import WHOLE, format_exact, format_integer, parse_integer
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

SHORT_SET: Final = 64
"""A set of up to so many members is written at once."""

EIGHTHS: Final = 1e9
"""Up to this a multiple of an eighth has no more digits than a double tells apart."""

_FRACTIONS: Final = (b"", b".125", b".25", b".375", b".5", b".625", b".75", b".875")
_LARGEST_INTEGER: Final = (1 << 31) - 1
_LONG_INTEGER: Final = 11  # characters


# --- strings -------------------------------------------------------------------------------------


def write_string(out: BytesWriter, text: bytes, compress: bool) -> None:
    """Write a string: a number of 32 bits as such, others with their length."""
    length: i64 = len(text)
    if length < COMPRESSIBLE:
        if 0 < length <= _LONG_INTEGER and text[0] < 58:
            number = parse_integer(text)
            if number is not None and -_LARGEST_INTEGER - 1 <= number <= _LARGEST_INTEGER:
                _write_integer(out, number)
                return
    elif compress:
        shorter = compress_lzf(text)
        if shorter is not None:
            out.append(0xC3)
            write_length(out, len(shorter))
            write_length(out, length)
            out.write(shorter)
            return
    write_length(out, length)
    out.write(text)


def _write_integer(out: BytesWriter, number: i64) -> None:
    if -128 <= number <= 127:
        out.append(0xC0)
        out.append(u8(number & 255))
    elif -32768 <= number <= 32767:
        out.append(0xC1)
        write_i16_le(out, i16(number))
    else:
        out.append(0xC2)
        write_i32_le(out, i32(number))


def encode_string(text: bytes, compress: bool) -> bytes:
    """Return a string as it is written."""
    out = BytesWriter()
    write_string(out, text, compress)
    return out.getvalue()


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
    out = BytesWriter()
    if write_small(out, value, compress):
        yield out.getvalue()
    elif isinstance(value, List):
        counts = node_counts(value)
        write_length(out, len(counts))
        elements = iter(value)
        for count in counts:
            out.append(NODE_PACKED)
            write_string(out, encode_listpack(list(islice(elements, count))), compress)
            yield take(out)
    elif isinstance(value, Hash):
        write_length(out, len(value))
        pairs = iter(value.items())
        for _ in range(0, len(value), PORTION):
            for field, text in islice(pairs, PORTION):
                write_string(out, field, compress)
                write_string(out, text, compress)
            yield take(out)
    elif isinstance(value, Set):
        write_length(out, len(value))
        members = iter(value.elements)
        for _ in range(0, len(value), PORTION):
            for member in islice(members, PORTION):
                write_string(out, member, compress)
            yield take(out)
    elif isinstance(value, SortedSet):
        write_length(out, len(value))
        # From the highest to the lowest, as Redis does, which inserts fastest so.
        for stop in range(len(value), 0, -PORTION):
            for score, member in value.range(stop - PORTION, stop, True):
                write_string(out, member, compress)
                write_f64_le(out, score)
            yield take(out)
    else:
        raise TypeError(f"no RDB type for {type(value).__name__}")


def take(out: BytesWriter) -> bytes:
    """Return what was written, and begin again."""
    data = out.getvalue()
    out.truncate(0)
    return data


def write_small(out: BytesWriter, value: Value, compress: bool) -> bool:
    """Write what is written after the key, if that is little or is one string in any case."""
    if isinstance(value, bytes):
        write_string(out, value, compress)
    elif isinstance(value, bytearray):
        write_string(out, bytes(value), compress)
    elif isinstance(value, Hash):
        if not value.compact:
            return False
        write_string(out, encode_listpack(list(chain.from_iterable(value.items()))), compress)
    elif isinstance(value, List):
        if not value.compact:
            return False
        out.append(1)  # node
        out.append(NODE_PACKED)
        # One Python list, as long as it is short.
        elements = value.head if value.head is value.tail else list(value)
        write_string(out, encode_listpack(elements), compress)
    elif isinstance(value, SortedSet):
        if not value.compact:
            return False
        write_string(out, encode_listpack(_list_scores(value)), compress)
    elif isinstance(value, Set):
        if value.form == INTSET:
            write_string(out, encode_intset(_sort_integers(value)), compress)
            return True
        if len(value.elements) > SHORT_SET:
            return False
        write_length(out, len(value.elements))
        for member in value.elements:
            write_string(out, member, compress)
    else:
        return False
    return True


def _list_scores(value: SortedSet) -> list[bytes]:
    """Return the members and their scores by turns, in order."""
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
    return entries


def _sort_integers(value: Set) -> list[int]:
    """Return the members of a set of integers as numbers, in ascending order."""
    numbers: list[int] = []
    for member in value.elements:
        number = parse_integer(member)
        assert number is not None
        numbers.append(number)
    numbers.sort()
    return numbers


def _format_score(score: float) -> bytes:
    """Return a score as Redis 7.0 writes it into a listpack."""
    if -EIGHTHS <= score <= EIGHTHS:
        eighths: i64 = int(score * 8.0)
        if float(eighths) == score * 8.0:
            # Few digits, so that all of them are printed.
            if eighths >= 0:
                return format_integer(eighths >> 3) + _FRACTIONS[eighths & 7]
            eighths = -eighths
            return b"-" + format_integer(eighths >> 3) + _FRACTIONS[eighths & 7]
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

    __slots__ = ("_written", "_write", "_compress", "_checksum", "_crc", "_out")

    def __init__(self, write: Callable[[bytes], object], compress: bool, checksum: bool) -> None:
        self._written = 0
        self._write = write
        self._compress = compress
        self._checksum = checksum
        self._crc = 0
        self._out = BytesWriter()

    @property
    def size(self) -> int:
        """How many bytes there are so far, those included that are not written yet."""
        return self._written + len(self._out)

    def begin(self, aux: dict[bytes, bytes]) -> None:
        """Write the head of the file, and what is told about where it comes from."""
        self._out.write(MAGIC + b"%04d" % VERSION_WRITTEN)
        for name, text in aux.items():
            self.aux(name, text)

    def aux(self, name: bytes, text: bytes) -> None:
        """Write one more thing to be told."""
        self._out.append(AUX)
        write_string(self._out, name, self._compress)
        write_string(self._out, text, self._compress)

    def function(self, code: bytes) -> None:
        """Write a library of functions, which is its source text."""
        self._out.append(FUNCTION)
        write_string(self._out, code, self._compress)
        self._relieve()

    def select(self, db: int, keys: int, volatile: int) -> None:
        """Begin a database, of so many keys, so many of which expire."""
        out = self._out
        out.append(SELECT)
        write_length(out, db)
        out.append(RESIZE)
        write_length(out, keys)
        write_length(out, volatile)

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
        out = self._out
        compress = self._compress
        if deadline is not None:
            out.append(DEADLINE_MS)
            write_i64_le(out, deadline)
        if idle is not None:
            out.append(IDLE)
            write_length(out, idle)
        if freq is not None:
            out.append(FREQUENCY)
            out.append(u8(freq))
        out.append(u8(value_type(value)))
        write_string(out, key, compress)
        if not write_small(out, value, compress):
            for portion in encode_portions(value, compress):
                out.write(portion)
                self._relieve()
        self._relieve()

    def end(self) -> None:
        """Write the end and the checksum (nought if none is wanted), and everything pending."""
        self._out.append(END)
        self.flush()
        crc = self._crc if self._checksum else 0
        self._checksum = False  # which is not part of itself
        self._out.write(crc.to_bytes(8, "little"))
        self.flush()

    def _relieve(self) -> None:
        """Write what is pending if it is much."""
        if len(self._out) >= BUFFER:
            self.flush()

    def flush(self) -> None:
        """Write what is pending."""
        data = take(self._out)
        if data:
            if self._checksum:
                self._crc = crc64(data, self._crc)
            self._written += len(data)
            self._write(data)
