"""LZF, the compression of strings in RDB files (format of liblzf).

A compressed string is a sequence of runs.  A control byte below 32 stands before that many bytes
and one more, which are meant literally.  Any other says in its upper three bits how many bytes,
less two, are to be copied from what has been written already (7: the next byte is added), and in
its lower five bits and the byte that follows how far behind they lie, less one.
"""

from __future__ import annotations

from typing import Final

from librt.strings import BytesWriter
from librt.vecs import vec
from mypy_extensions import i64, u8

LONGEST_LITERAL: Final = 32
LONGEST_COPY: Final = 264
FARTHEST: Final = 8192

SAVING: Final = 4
"""Redis compresses a string only if that saves as many bytes."""

MOST_EXPANSION: Final = 132
"""No compressed byte stands for more bytes than this: two may stand for none, three for 264."""

_SLOTS: Final = 1 << 16

_PATIENCE: Final = 4096
"""After so many bytes without anything to copy only every other byte is looked at, after twice as
many every third, and so on: what does not compress shall not take long."""
_ENCOURAGEMENT: Final = 16
"""So many of them are forgotten for each byte that is copied."""
_LONGEST_STRIDE: Final = 64


class _Places:
    """Where three bytes of a certain hash were last seen.

    Positions are counted through all strings ever compressed, of which the one at hand begins at
    `origin`: what lies before that is a memory of another one, and so nothing need be wiped.
    """

    __slots__ = ("origin", "table")

    def __init__(self) -> None:
        self.origin: i64 = 0
        self.table: vec[i64] = vec[i64]([-1] * _SLOTS)


_PLACES: Final = _Places()


def compress(data: bytes) -> bytes | None:
    """Return the compressed data, or None if they do not get smaller by SAVING bytes."""
    total: i64 = len(data)
    if total <= SAVING:
        return None
    places = _PLACES
    table = places.table
    origin = places.origin
    places.origin = origin + total
    most: i64 = total - SAVING
    out = BytesWriter()
    pending: i64 = 0  # where the literal bytes begin that are not in `out` yet
    misses: i64 = 0
    at: i64 = 0
    last: i64 = total - 2
    second: i64 = data[0]
    third: i64 = data[1]
    while at < last:
        first: i64 = second
        second = third
        third = data[at + 2]
        word: i64 = first << 16 | second << 8 | third
        slot: i64 = ((word >> 8) - word * 5) & 65535
        known: i64 = table[slot] - origin
        table[slot] = origin + at
        distance: i64 = at - known - 1
        if (
            known <= 0
            or distance >= FARTHEST
            or data[known] != first
            or data[known + 1] != second
            or data[known + 2] != third
        ):
            at += 1
            misses += 1
            if misses > _PATIENCE:
                at += min(_LONGEST_STRIDE, misses // _PATIENCE)
                if at < last:
                    second = data[at]
                    third = data[at + 1]
            continue
        longest: i64 = last - at
        if longest > LONGEST_COPY:
            longest = LONGEST_COPY
        elif 16 < longest < 19:
            longest = 19  # as liblzf, which compares sixteen bytes at once
        length: i64 = 3
        while length < longest and data[known + length] == data[at + length]:
            length += 1
        if at > pending:
            _write_literal(out, data, pending, at)
        if len(out) + 4 >= most:
            return None
        if length < 9:
            out.append(u8((length - 2) << 5 | distance >> 8))
        else:
            out.append(u8(7 << 5 | distance >> 8))
            out.append(u8(length - 9))
        out.append(u8(distance & 255))
        at += length
        pending = at
        misses -= length * _ENCOURAGEMENT
        if misses < 0:
            misses = 0
        if at >= last:
            break
        # What the copy ends with may be copied too.
        first = data[at - 2]
        second = data[at - 1]
        third = data[at]
        word = first << 16 | second << 8 | third
        table[((word >> 8) - word * 5) & 65535] = origin + at - 2
        first = second
        second = third
        third = data[at + 1]
        word = first << 16 | second << 8 | third
        table[((word >> 8) - word * 5) & 65535] = origin + at - 1
    if len(out) + at - pending + (at - pending >> 5) + 4 > most:
        return None  # liblzf leaves room for what may still come
    _write_literal(out, data, pending, total)
    return out.getvalue()


def _write_literal(out: BytesWriter, data: bytes, start: i64, stop: i64) -> None:
    """Write bytes that are meant literally."""
    while start < stop:
        end: i64 = start + LONGEST_LITERAL
        if end > stop:
            end = stop
        out.append(u8(end - start - 1))
        while start < end:
            out.append(data[start])
            start += 1


def decompress(data: bytes, size: int) -> bytes:
    """Return the `size` bytes that were compressed.

    Raises ValueError if the data are damaged.  Takes memory for what has been decompressed, not for
    `size`.
    """
    out = BytesWriter()
    count: i64 = 0  # bytes in it
    most: i64 = size
    at: i64 = 0
    total: i64 = len(data)
    while at < total:
        control: i64 = data[at]
        at += 1
        if control < LONGEST_LITERAL:
            stop: i64 = at + control + 1
            if stop > total:
                raise ValueError("compressed string ends within a literal run")
            count += control + 1
            while at < stop:
                out.append(data[at])
                at += 1
        else:
            length: i64 = control >> 5
            if length == 7:
                if at >= total:
                    raise ValueError("compressed string ends within a copy")
                length += data[at]
                at += 1
            if at >= total:
                raise ValueError("compressed string ends within a copy")
            start: i64 = count - ((control & 31) << 8) - data[at] - 1
            at += 1
            if start < 0:
                raise ValueError("compressed string copies from before its start")
            # It may copy what it writes.
            length += 2
            count += length
            while length > 0:
                out.append(out[start])
                start += 1
                length -= 1
        if count > most:
            raise ValueError("compressed string is longer than it says")
    if count != most:
        raise ValueError("compressed string is shorter than it says")
    return out.getvalue()
