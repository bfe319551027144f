"""The sizes of Redis's listpack, which decide how a list is encoded (`listpack.c`)."""

from __future__ import annotations

from typing import Final

from node.values.number import parse_integer

HEADER: Final = 7
"""An empty listpack, its end mark included."""

SIZE_LIMITS: Final = (4096, 8192, 16384, 32768, 65536)
"""list-max-listpack-size -1 to -5, in bytes."""

SAFE_SIZE: Final = 8192
"""With a list-max-listpack-size in elements, a listpack still has no more bytes than this."""


def measure_entry(value: bytes) -> int:
    """Return the bytes an element takes in a listpack."""
    length = len(value)
    if 0 < length < 21 and value[0] < 58:
        # It may be a number: it begins with a digit, a minus sign or something even smaller.
        number = parse_integer(value)
        if number is not None:
            if 0 <= number <= 127:
                return 2
            if -4096 <= number <= 4095:
                return 3
            if -32768 <= number <= 32767:
                return 4
            if -8388608 <= number <= 8388607:
                return 5
            if -2147483648 <= number <= 2147483647:
                return 6
            return 10
    if length < 64:
        return length + 2
    size = length + 2 if length < 4096 else length + 5
    for width, limit in enumerate((127, 16382, 2097150, 268435454), 1):
        if size <= limit:
            return size + width
    return size + 5
