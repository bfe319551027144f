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
from node.values.listpack import HEADER, SIZE_LIMITS, measure_entry
from node.values.number import format_integer, to_double
from node.values.set import HASHTABLE, LISTPACK, Set
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
            members[format_integer(number)] = None
        return Set.from_integers(limits, members)
    if kind == SET_LISTPACK:
        return set_of(limits, decode_listpack(packed), LISTPACK)
    if kind == LIST_ZIPLIST:
        return settle_list(node_list(limits, decode_ziplist(packed)), 1)
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
    value = Hash.from_entries(limits, entries)
    if len(value) * 2 != count:
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


def set_of(limits: Limits, entries: list[bytes], form: int) -> Set:
    """Return a set of members that are added to an empty one of an encoding."""
    members = dict.fromkeys(entries)
    if len(members) != len(entries):
        raise ValueError("Duplicate set members detected")
    return Set.from_elements(limits, members, form)


def _sorted_set_of_texts(limits: Limits, entries: list[bytes]) -> SortedSet:
    count = len(entries)
    if count & 1:
        raise ValueError("Zset with a member that has no score")
    scores: dict[bytes, float] = {}
    for at in range(0, count, 2):
        scores[entries[at]] = to_double(entries[at + 1])
    if len(scores) * 2 != count:
        raise ValueError("Duplicate zset members detected")
    for score in scores.values():
        if score != score:
            raise ValueError("Zset with NAN score detected")
    return SortedSet.from_scores(limits, scores)


def node_list(limits: Limits, entries: list[bytes], size: int = 0) -> List:
    """Return a list of the elements of its first node, whose listpack has `size` bytes if known."""
    return List.from_elements(limits, entries, size or HEADER + sum(map(measure_entry, entries)))


def append_node(value: List, entries: list[bytes]) -> None:
    """Append the elements of a further node to a list that is being read."""
    for entry in entries:
        value.push_right(entry)


def settle_list(value: List, nodes: int) -> List:
    """Choose the encoding of a list that was read, out of so many nodes, and return it."""
    fill = value.limits.list_max_listpack_size
    if nodes != 1 or value.weight < 0:
        value.compact = False
    elif fill < 0:
        value.compact = value.weight <= (SIZE_LIMITS[-fill - 1] if fill >= -5 else SIZE_LIMITS[-1])
    else:
        value.compact = value.count <= max(fill, 1)
    return value


def module_name(number: int) -> str:
    """Return the name of the module, or of its type, that a number in the file stands for."""
    return "".join([_MODULE_LETTERS[number >> shift & 63] for shift in range(58, 9, -6)])
