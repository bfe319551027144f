"""A run of a list's elements, packed into one bytes object.

`marshal` does it, the fastest way there is (15 to 25 ns an element, either way); it never sees data
from outside this process.  Runs of large elements stay Python lists, since packing would save
little.
"""

from __future__ import annotations

from marshal import dumps, loads
from typing import Final

Chunk = bytes | list[bytes]

PACKABLE: Final = 32 * 1024
"""Runs with more bytes than this stay lists."""


def pack(part: list[bytes]) -> Chunk:
    """Return a chunk of these elements, the list itself if it is large."""
    if sum(map(len, part)) > PACKABLE:
        return part
    return dumps(part, 2)


def unpack(chunk: Chunk) -> list[bytes]:
    """Return the elements of a chunk; if it is a list, the list itself."""
    if isinstance(chunk, list):
        return chunk
    part: list[bytes] = loads(chunk)
    return part


def count_elements(chunk: Chunk) -> int:
    """Return how many elements a chunk has."""
    if isinstance(chunk, list):
        return len(chunk)
    # After a byte for the type, marshal writes the length of the list.
    return int.from_bytes(chunk[1:5], "little")
