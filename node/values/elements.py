"""A map from bytes that is a dict while small and a Table beyond: the body of most collections.

A dict costs least and answers fastest; past SMALL elements its growth would become noticeable, and
so would counting through it for a random element.
"""

from __future__ import annotations

from random import Random
from typing import Final, TypeVar

from node.values.collection import DICT_BYTES, DICT_STEP, SMALL, measure_dict
from node.values.table import ENTRY_BYTES, LOAD, Table, is_spacious, nth_key, scan_bucket

V = TypeVar("V")

SCANNABLE: Final = LOAD * 2
"""A dict of up to so many elements is scanned in place, as one bucket; beyond, it gives way to a
Table first, so that each step of an iteration looks at one bucket and not at everything."""

TABLE_BYTES: Final = 176
"""What an empty Table costs beyond an empty dict: itself and its list of buckets."""

STEP: Final = [*DICT_STEP[: SMALL + 1], ENTRY_BYTES]
"""What the n-th element adds to the map's cost, without the element itself; the last for all
beyond.  A Table of few elements counts like a dict: the difference is small and passes."""


def measure_room(source: dict[bytes, V] | Table[V]) -> int:
    """Return what the map costs beyond an empty dict, in bytes, without keys and values."""
    if isinstance(source, Table):
        return TABLE_BYTES + source.room
    return measure_dict(source.__sizeof__()) - DICT_BYTES[0]


def resized(source: dict[bytes, V]) -> dict[bytes, V]:
    """Return a dict that has just grown, or a new one where keys that are gone made it grow."""
    return {**source} if is_spacious(source, source.__sizeof__()) else source


def random_key(source: dict[bytes, V] | Table[V], rng: Random) -> bytes:
    """Return a key, all being equally likely; IndexError when there is none."""
    if isinstance(source, Table):
        return source.random_key(rng)
    count = len(source)
    if count == 0:
        raise IndexError("random element of an empty value")
    return nth_key(source, int(rng.random() * count))


def random_keys(source: dict[bytes, V] | Table[V], rng: Random, n: int) -> list[bytes]:
    """Return n keys drawn independently, so that some may repeat."""
    count = len(source)
    if count == 0:
        raise IndexError("random element of an empty value")
    if n > 2 and (count <= SMALL or n >= count):
        keys = list(source)
        draw = rng.random
        return [keys[int(draw() * count)] for _ in range(n)]
    return [random_key(source, rng) for _ in range(n)]


def sample_keys(source: dict[bytes, V] | Table[V], rng: Random, n: int) -> list[bytes]:
    """Return n distinct keys, or all when there are fewer; every subset is equally likely."""
    if n >= len(source):
        return list(source)
    if isinstance(source, Table):
        return source.sample(rng, n)
    if n == 1:
        return [random_key(source, rng)]
    return rng.sample(list(source), n)


def scan_dict(source: dict[bytes, V], cursor: int, count: int) -> tuple[int, list[bytes]]:
    """Scan a small dict in a Table's order, so that it may become one between two calls."""
    if cursor == 0 and count >= len(source):
        return 0, list(source)
    following, keys = scan_bucket(source, cursor & ((1 << 48) - 1), max(count, 1))
    return max(following, 0), keys


def drain_map(source: dict[bytes, V] | Table[V], budget: int) -> int:
    """Destroy up to `budget` elements; return how many."""
    if isinstance(source, Table):
        return source.drain(budget)
    removed = min(len(source), budget)
    if removed == len(source):
        source.clear()
    else:
        for _ in range(removed):
            source.popitem()
    return removed
