"""The digests of DEBUG DIGEST and DEBUG DIGEST-VALUE, equal to Redis's for equal data.

A digest is 20 bytes.  What has an order is *mixed* into it one after the other; what has none is
combined by exclusive or of the SHA-1 of each, so that the order in which it is visited plays no
role (`debug.c`).  Here a digest under construction is an integer, which makes exclusive or cheap.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha1
from typing import Final

from node.values.collection import Collection
from node.values.hash import Hash
from node.values.list import List
from node.values.number import format_exact
from node.values.set import Set
from node.values.sorted_set import SortedSet

SIZE: Final = 20

STRING: Final = 0
LIST: Final = 1
SET: Final = 2
SORTED_SET: Final = 3
HASH: Final = 4

EXPIRES: Final = b"!!expire!!"
"""What a key with an expiry adds; when it expires makes no difference."""


def hash_bytes(data: bytes | bytearray) -> int:
    """Return what an element of an unordered whole contributes by exclusive or."""
    return int.from_bytes(sha1(data).digest(), "big")


def mix(digest: int, data: bytes | bytearray) -> int:
    """Return a digest with one more element of an ordered whole in it."""
    return hash_bytes((digest ^ hash_bytes(data)).to_bytes(SIZE, "big"))


def _mix_number(digest: int, number: int) -> int:
    return mix(digest, number.to_bytes(4, "big"))


def _mix_value(digest: int, value: bytes | bytearray | Collection, expires: bool) -> int:
    if isinstance(value, (bytes, bytearray)):
        digest = mix(_mix_number(digest, STRING), value)
    elif isinstance(value, List):
        digest = _mix_number(digest, LIST)
        for element in value:
            digest = mix(digest, element)
    elif isinstance(value, Set):
        digest = _mix_number(digest, SET)
        for member in value.elements:
            digest ^= hash_bytes(member)
    elif isinstance(value, SortedSet):
        digest = _mix_number(digest, SORTED_SET)
        for member, score in value.items():
            pair = mix(mix(0, member), format_exact(score))
            digest ^= hash_bytes(pair.to_bytes(SIZE, "big"))
    elif isinstance(value, Hash):
        digest = _mix_number(digest, HASH)
        for field, content in value.items():
            pair = mix(mix(0, field), content)
            digest ^= hash_bytes(pair.to_bytes(SIZE, "big"))
    else:
        raise TypeError(f"no digest of {type(value).__name__}")
    return digest ^ hash_bytes(EXPIRES) if expires else digest


def value_digest(value: bytes | bytearray | Collection, expires: bool = False) -> bytes:
    """Return the digest of one value as DEBUG DIGEST-VALUE prints it, in hexadecimal."""
    return _mix_value(0, value, expires).to_bytes(SIZE, "big")


def key_digest(key: bytes, value: bytes | bytearray | Collection, expires: bool = False) -> bytes:
    """Return what one key contributes to its database: its name, its value, whether it expires."""
    return _mix_value(mix(0, key), value, expires).to_bytes(SIZE, "big")


def dataset_digest(databases: Iterable[tuple[int, Iterable[bytes]]]) -> bytes:
    """Return the digest of everything, from the number and the key digests of each database.

    Databases come in ascending order of their numbers; those without keys do not count.
    """
    final = 0
    for number, digests in databases:
        first = True
        for digest in digests:
            if first:
                final = _mix_number(final, number)
                first = False
            final ^= hash_bytes(digest)
    return final.to_bytes(SIZE, "big")
