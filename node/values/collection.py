"""What all data types with elements have in common, and the thresholds of their encodings.

*Encoding* means what OBJECT ENCODING reports.  Here it is a label, kept because clients see it
and because SCAN returns compact values whole; the representation follows size alone.  It changes
exactly when Redis 7.2 would convert a value.

*Memory* is what a value costs this process, in bytes: the objects' sizes in CPython 3.11 rounded
up as its allocator rounds them, and the shares of the hash tables that hold them.  Each method
keeps it up to date by increments, so reading it is free.
"""

from __future__ import annotations

from typing import Final

SMALL: Final = 512
"""Up to this many elements lie in one dict or list; beyond, in a structure that grows in steps."""

OBJECT_BYTES: Final = 48
"""`(len(b) + OBJECT_BYTES) & ALIGNED` is what a bytes object costs: 33 bytes of header and
terminator before its length, all rounded up to 16."""
ALIGNED: Final = -16


def measure_bytes(length: int) -> int:
    """Return what a bytes object of a length costs."""
    return (length + OBJECT_BYTES) & ALIGNED


def measure_dict(size: int) -> int:
    """Return what a dict costs whose `__sizeof__()` is `size`, without keys and values."""
    # The collector's header is not in it.  A table of over 512 bytes comes from malloc.
    return 16 + ((size + 15) & ALIGNED if size <= 560 else (size + 23) & ALIGNED)


def _measure_growth(most: int) -> list[int]:
    """Return what dicts with bytes keys cost that grew to 0, 1, ... entries."""
    growing: dict[bytes, None] = {}
    sizes = [measure_dict(growing.__sizeof__())]
    for count in range(1, most + 1):
        growing[b"%d" % count] = None
        sizes.append(measure_dict(growing.__sizeof__()))
    return sizes


DICT_BYTES: Final = _measure_growth(SMALL + 1)
"""What a dict of so many entries costs that nothing was taken out of, without keys and values."""

DICT_STEP: Final = [DICT_BYTES[0]] + [
    DICT_BYTES[count] - DICT_BYTES[count - 1] for count in range(1, SMALL + 2)
]
"""What the n-th entry adds to a dict's cost."""


class Limits:
    """The thresholds at which values change their encoding: directives of the same names.

    One instance is shared by all values of a server, so that CONFIG SET acts on the next change of
    each.
    """

    __slots__ = (
        "hash_max_listpack_entries",
        "hash_max_listpack_value",
        "list_compress_depth",
        "list_max_listpack_size",
        "set_max_intset_entries",
        "set_max_listpack_entries",
        "set_max_listpack_value",
        "zset_max_listpack_entries",
        "zset_max_listpack_value",
    )

    def __init__(self) -> None:
        self.hash_max_listpack_entries = 512
        self.hash_max_listpack_value = 64
        self.list_compress_depth = 0
        self.list_max_listpack_size = -2
        self.set_max_intset_entries = 512
        self.set_max_listpack_entries = 128
        self.set_max_listpack_value = 64
        self.zset_max_listpack_entries = 128
        self.zset_max_listpack_value = 64


class Collection:
    """A value with elements.

    `memory` is what it costs in bytes.  `accounted` belongs to the keyspace: the part of it that is
    in the books already.
    """

    __slots__ = ("accounted", "limits", "memory")

    def __init__(self, limits: Limits) -> None:
        self.memory = 0
        self.accounted = 0
        self.limits = limits

    def __len__(self) -> int:
        raise NotImplementedError

    def encoding(self) -> str:
        """Return what OBJECT ENCODING says."""
        raise NotImplementedError

    def copy(self) -> Collection:
        """Return an independent value with the same elements and encoding, in O(n)."""
        raise NotImplementedError

    def drain(self, budget: int) -> bool:
        """Destroy elements, `budget` or a few dozen more, and tell whether none are left.

        For freeing a large value in steps; `memory` goes down with each.
        """
        raise NotImplementedError
