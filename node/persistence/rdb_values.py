"""Makes values of what an RDB file holds, with the encodings that Redis 7.2 gives them at loading.

Everything here raises ValueError for data that no server of sound mind has written.
"""

from __future__ import annotations

from typing import Final

from node.persistence.packed import (
    decode_intset,
    decode_listpack,
    decode_ziplist,
    decode_zipmap,
)
from node.persistence.rdb_format import (
    HASH_LISTPACK,
    HASH_ZIPLIST,
    HASH_ZIPMAP,
    LIST_ZIPLIST,
    SET_INTSET,
    SET_LISTPACK,
    ZSET_LISTPACK,
    ZSET_ZIPLIST,
)
from node.values.collection import Collection, Limits
from node.values.hash import Hash
from node.values.list import List
from node.values.listpack import SIZE_LIMITS
from node.values.set import HASHTABLE, INTSET, LISTPACK, Set
from node.values.sorted_set import SortedSet

NESTED: Final = (
    HASH_LISTPACK,
    HASH_ZIPLIST,
    HASH_ZIPMAP,
    LIST_ZIPLIST,
    SET_INTSET,
    SET_LISTPACK,
    ZSET_LISTPACK,
    ZSET_ZIPLIST,
)
"""Types of values that are written as one string, packed."""

FIELD_EXPIRES: Final = "Hash with fields that expire, which this server cannot hold"

_MODULE_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def decode_nested(kind: int, packed: bytes, limits: Limits) -> Collection:
    """Return the value of a type in NESTED; it may be empty."""
    if kind == HASH_LISTPACK:
        return hash_of(limits, decode_listpack(packed))
    if kind == ZSET_LISTPACK:
        return _sorted_set_of_texts(limits, decode_listpack(packed))
    if kind == SET_INTSET:
        members: dict[bytes, None] = {}
        for number in decode_intset(packed):
            members[b"%d" % number] = None
        return Set.from_members(limits, members, INTSET)
    if kind == SET_LISTPACK:
        entries = decode_listpack(packed)
        members = dict.fromkeys(entries)
        if len(members) != len(entries):
            raise ValueError("Duplicate set members detected")
        return Set.from_members(limits, members, LISTPACK)
    if kind == LIST_ZIPLIST:
        value = List(limits)
        append_node(value, decode_ziplist(packed))
        settle_list(value, 1)
        return value
    if kind == HASH_ZIPLIST:
        return hash_of(limits, decode_ziplist(packed))
    if kind == HASH_ZIPMAP:
        return hash_of(limits, decode_zipmap(packed))
    return _sorted_set_of_texts(limits, decode_ziplist(packed))


def hash_of(limits: Limits, entries: list[bytes]) -> Hash:
    """Return a hash of fields and values by turns."""
    count = len(entries)
    if count & 1:
        raise ValueError("Hash with a field that has no value")
    value = Hash(limits)
    for at in range(0, count, 2):
        if not value.set(entries[at], entries[at + 1]):
            raise ValueError("Duplicate hash fields detected")
    return value


def hash_without_expiry(limits: Limits, entries: list[bytes]) -> Hash:
    """Return a hash of fields, values and the times when they expire, none of which may."""
    if len(entries) % 3:
        raise ValueError("Hash with a field that has no value or no time")
    pairs: list[bytes] = []
    for at in range(0, len(entries), 3):
        if entries[at + 2] != b"0":
            raise ValueError(FIELD_EXPIRES)
        pairs.append(entries[at])
        pairs.append(entries[at + 1])
    return hash_of(limits, pairs)


def set_for(limits: Limits, count: int) -> Set:
    """Return an empty set that so many members, which come one by one, shall go into."""
    value = Set(limits)
    if count > limits.set_max_intset_entries:
        value.form = HASHTABLE
    return value


def sorted_set_of(limits: Limits, scores: dict[bytes, float]) -> SortedSet:
    """Return a sorted set of members and their scores, none of which may be NaN."""
    return SortedSet.from_items(limits, scores.items())


def _sorted_set_of_texts(limits: Limits, entries: list[bytes]) -> SortedSet:
    count = len(entries)
    if count & 1:
        raise ValueError("Zset with a member that has no score")
    scores: dict[bytes, float] = {}
    for at in range(0, count, 2):
        score = float(entries[at + 1])
        if score != score:
            raise ValueError("Zset with NAN score detected")
        scores[entries[at]] = score
    if len(scores) * 2 != count:
        raise ValueError("Duplicate zset members detected")
    return SortedSet.from_items(limits, scores.items())


def append_node(value: List, entries: list[bytes]) -> None:
    """Append the elements of one node to a list that is being read."""
    for entry in entries:
        value.push_right(entry)


def settle_list(value: List, nodes: int) -> None:
    """Choose the encoding of a list that was read, out of so many nodes."""
    fill = value.limits.list_max_listpack_size
    if nodes != 1 or value.weight < 0:
        value.compact = False
    elif fill < 0:
        value.compact = value.weight <= (SIZE_LIMITS[-fill - 1] if fill >= -5 else SIZE_LIMITS[-1])
    else:
        value.compact = value.count <= max(fill, 1)


def module_name(number: int) -> str:
    """Return the name of the module, or of its type, that a number in the file stands for."""
    return "".join([_MODULE_LETTERS[number >> shift & 63] for shift in range(58, 9, -6)])
