"""Redis's packed forms of small values: ziplist, listpack, zipmap and intset.

Decoders trust nothing: every length is checked against what there is, lengths that are said twice
must agree, and ValueError says what is wrong.  Numbers come out as the texts they stand for.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from librt.strings import BytesWriter
from mypy_extensions import i64, u8

from node.values.number import format_integer, parse_integer

END: Final = 255
UNKNOWN_COUNT: Final = 65535
"""The count of a listpack or ziplist with as many entries or more."""

_SMALL: Final = tuple(b"%d" % number for number in range(-1, 128))

# --- listpack ------------------------------------------------------------------------------------


def encode_listpack(entries: Sequence[bytes]) -> bytes:
    """Return a listpack of the entries, numbers in their short form; at most 4 GiB."""
    out = BytesWriter()
    out.write(b"\0\0\0\0\0\0")  # its size and count, known in the end
    for entry in entries:
        length: i64 = len(entry)
        if 0 < length < 21 and entry[0] < 58:
            number = parse_integer(entry)
            if number is not None:
                _write_integer(out, number)
                continue
        if length < 64:
            out.append(u8(0x80 | length))
            out.write(entry)
            out.append(u8(length + 1))
            continue
        before: i64 = len(out)
        if length < 4096:
            out.append(u8(0xE0 | length >> 8))
            out.append(u8(length & 255))
        else:
            out.append(0xF0)
            _write_number(out, length, 4)
        out.write(entry)
        out.write(encode_backward_length(len(out) - before))
    out.append(END)
    size: i64 = len(out)
    count: i64 = min(len(entries), UNKNOWN_COUNT)
    for at in range(4):
        out[at] = u8(size >> 8 * at & 255)
    out[4] = u8(count & 255)
    out[5] = u8(count >> 8)
    return out.getvalue()


def _write_number(out: BytesWriter, number: i64, width: i64) -> None:
    """Write the lower bytes of a number, the least first."""
    while width > 0:
        out.append(u8(number & 255))
        number >>= 8
        width -= 1


def _write_integer(out: BytesWriter, number: i64) -> None:
    """Write a number's entry, with its length behind it."""
    if 0 <= number < 128:
        out.append(u8(number))
        out.append(1)
        return
    if -4096 <= number <= 4095:
        number &= 8191
        out.append(u8(0xC0 | number >> 8))
        out.append(u8(number & 255))
        out.append(2)
        return
    width: i64 = 8
    kind: i64 = 0xF4
    if -32768 <= number <= 32767:
        width = 2
        kind = 0xF1
    elif -8388608 <= number <= 8388607:
        width = 3
        kind = 0xF2
    elif -2147483648 <= number <= 2147483647:
        width = 4
        kind = 0xF3
    out.append(u8(kind))
    _write_number(out, number, width)
    out.append(u8(width + 1))


def encode_backward_length(length: int) -> bytes:
    """Return the length of an entry as it follows the entry, to be read from its end."""
    if length < 128:
        return bytes((length,))
    if length < 16383:
        return bytes((length >> 7, length & 127 | 128))
    if length < 2097151:
        return bytes((length >> 14, length >> 7 & 127 | 128, length & 127 | 128))
    parts = [length >> 21 & 127 | 128, length >> 14 & 127 | 128, length >> 7 & 127 | 128]
    parts.append(length & 127 | 128)
    if length < 268435455:
        parts[0] &= 127
        return bytes(parts)
    return bytes((length >> 28, *parts))


def decode_listpack(data: bytes) -> list[bytes]:
    """Return the entries of a listpack.  Raises ValueError."""
    total: i64 = len(data)
    if total < 7 or _read_size(data, 0) != total:
        raise ValueError("listpack has another size than it says")
    last: i64 = total - 1
    if data[last] != END:
        raise ValueError("listpack without end")
    found: list[bytes] = []
    at: i64 = 6
    while at < last:
        head: i64 = data[at]
        if 0x80 <= head < 0xC0:
            # A string of fewer than 64 bytes.
            length: i64 = head - 0x7F
            stop: i64 = at + length
            if stop >= last:
                raise ValueError("listpack entry reaches beyond the end")
            if data[stop] != length:
                raise ValueError("listpack entry with a wrong length behind it")
            found.append(data[at + 1 : stop])
            at = stop + 1
            continue
        if head < 0x80:
            # A number of seven bits.
            if data[at + 1] != 1:
                raise ValueError("listpack entry with a wrong length behind it")
            found.append(_SMALL[head + 1])
            at += 2
            continue
        start: i64 = at + 1
        if head < 0xE0:
            stop = start + 1
        elif head < 0xF0:
            start = at + 2
            stop = start + ((head & 15) << 8) + data[at + 1]
        elif head == 0xF0:
            start = at + 5
            if start >= last:
                raise ValueError("listpack entry reaches beyond the end")
            stop = start + _read_size(data, at + 1)
        elif head < 0xF5:
            stop = start + (8 if head == 0xF4 else head - 0xEF)
        else:
            raise ValueError("listpack entry of an unknown kind")
        if stop >= last:
            raise ValueError("listpack entry reaches beyond the end")
        if head < 0xE0:
            number: i64 = (head & 31) << 8 | data[start]
            found.append(format_integer(number - 8192 if number > 4095 else number))
        elif head <= 0xF0:
            found.append(data[start:stop])
        elif head == 0xF4:
            found.append(b"%d" % int.from_bytes(data[start:stop], "little", signed=True))
        else:
            found.append(format_integer(_read_integer(data, start, stop)))
        length = stop - at
        if length < 128:
            if data[stop] != length:
                raise ValueError("listpack entry with a wrong length behind it")
            at = stop + 1
        else:
            back = encode_backward_length(length)
            at = stop + len(back)
            if at > last or data[stop:at] != back:
                raise ValueError("listpack entry with a wrong length behind it")
    if at != last:
        raise ValueError("listpack entry reaches beyond the end")
    count: i64 = data[4] | data[5] << 8
    if count != len(found) and count != UNKNOWN_COUNT:
        raise ValueError("listpack has another number of entries than it says")
    return found


def _read_size(data: bytes, at: i64) -> i64:
    """Return four bytes as a number, the least first; they must be there."""
    return data[at] | data[at + 1] << 8 | data[at + 2] << 16 | data[at + 3] << 24


def _read_integer(data: bytes, start: i64, stop: i64) -> i64:
    """Return up to four bytes as a signed number, the least first; they must be there."""
    number: i64 = 0
    for at in range(stop - 1, start - 1, -1):
        number = number << 8 | data[at]
    sign: i64 = 1 << 8 * (stop - start) - 1
    return (number ^ sign) - sign


# --- ziplist -------------------------------------------------------------------------------------


def decode_ziplist(data: bytes) -> list[bytes]:
    """Return the entries of a ziplist.  Raises ValueError."""
    total = len(data)
    if total < 11 or int.from_bytes(data[:4], "little") != total:
        raise ValueError("ziplist has another size than it says")
    last = total - 1
    if data[last] != END:
        raise ValueError("ziplist without end")
    found: list[bytes] = []
    before = 0  # the length of the entry before
    tail = 10  # where the last entry begins
    at = 10
    while at < last:
        tail = at
        if data[at] < 254:
            previous = data[at]
            at += 1
        else:
            if data[at] == END or at + 5 > last:
                raise ValueError("ziplist ends early")
            previous = int.from_bytes(data[at + 1 : at + 5], "little")
            at += 5
        if previous != before:
            raise ValueError("ziplist entry with a wrong length before it")
        if at >= last:
            raise ValueError("ziplist entry reaches beyond the end")
        head = data[at]
        if head < 0x40:
            start = at + 1
            stop = start + head
        elif head < 0x80:
            start = at + 2
            stop = start + ((head & 63) << 8) + data[at + 1]
        elif head == 0x80:
            start = at + 5
            stop = start + int.from_bytes(data[at + 1 : start], "big")
        else:
            start = at + 1
            stop = start + _ziplist_number_size(head)
        if stop > last:
            raise ValueError("ziplist entry reaches beyond the end")
        if head <= 0x80:
            found.append(data[start:stop])
        elif start == stop:
            found.append(_SMALL[(head & 15)])
        else:
            found.append(b"%d" % int.from_bytes(data[start:stop], "little", signed=True))
        before = stop - tail
        at = stop
    count = int.from_bytes(data[8:10], "little")
    if count not in (len(found), UNKNOWN_COUNT):
        raise ValueError("ziplist has another number of entries than it says")
    if int.from_bytes(data[4:8], "little") != tail:
        raise ValueError("ziplist with its last entry elsewhere than it says")
    return found


def _ziplist_number_size(head: int) -> int:
    """Return the bytes of the number that follow this byte; 0 if it is in the byte itself."""
    if head == 0xC0:
        return 2
    if head == 0xD0:
        return 4
    if head == 0xE0:
        return 8
    if head == 0xF0:
        return 3
    if head == 0xFE:
        return 1
    if 0xF1 <= head <= 0xFD:
        return 0
    raise ValueError("ziplist entry of an unknown kind")


# --- zipmap --------------------------------------------------------------------------------------


def decode_zipmap(data: bytes) -> list[bytes]:
    """Return fields and values of a zipmap by turns.  Raises ValueError."""
    total = len(data)
    if total < 2:
        raise ValueError("zipmap is too short")
    found: list[bytes] = []
    at = 1
    while True:
        if at >= total:
            raise ValueError("zipmap without end")
        head = data[at]
        if head == END:
            break
        at += 1
        if head == 254:
            head = int.from_bytes(data[at : at + 4], "little")
            at += 4
        spare = 0
        if len(found) & 1:
            if at >= total:
                raise ValueError("zipmap ends early")
            spare = data[at]
            at += 1
        stop = at + head
        if stop + spare >= total:
            raise ValueError("zipmap entry reaches beyond the end")
        found.append(data[at:stop])
        at = stop + spare
    if at + 1 != total:
        raise ValueError("zipmap ends before its end")
    if len(found) & 1:
        raise ValueError("zipmap with a field that has no value")
    if data[0] < 254 and data[0] != len(found) >> 1:
        raise ValueError("zipmap has another number of fields than it says")
    return found


# --- intset --------------------------------------------------------------------------------------

_INTSET_LETTERS: Final = {2: "h", 4: "i", 8: "q"}


def encode_intset(numbers: list[int]) -> bytes:
    """Return an intset of numbers of 64 bits in ascending order; there must be one at least."""
    least = numbers[0]
    most = numbers[-1]
    width: i64 = 8
    if least >= -32768 and most <= 32767:
        width = 2
    elif least >= -2147483648 and most <= 2147483647:
        width = 4
    out = BytesWriter()
    _write_number(out, width, 4)
    _write_number(out, len(numbers), 4)
    for number in numbers:
        _write_number(out, number, width)
    return out.getvalue()


def decode_intset(data: bytes) -> list[int]:
    """Return the numbers of an intset, which are in ascending order.  Raises ValueError."""
    if len(data) < 8:
        raise ValueError("intset is too short")
    width = _read_size(data, 0)
    count = _read_size(data, 4)
    if width not in (2, 4, 8):
        raise ValueError("intset of an unknown width")
    if not count or 8 + width * count != len(data):
        raise ValueError("intset has another size than it says")
    numbers = list(struct.unpack_from(f"<{count}{_INTSET_LETTERS[width]}", data, 8))
    previous = numbers[0] - 1
    for number in numbers:
        if number <= previous:
            raise ValueError("intset is not in order")
        previous = number
    return numbers
