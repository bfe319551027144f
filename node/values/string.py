"""Strings: bytes, or a bytearray once APPEND, SETRANGE or SETBIT changed it in place."""

from __future__ import annotations

from typing import Final

from node.values.collection import ALIGNED, OBJECT_BYTES
from node.values.number import is_integer

EMBEDDED: Final = 44
"""Up to this many bytes a string shares an allocation with its header in Redis ("embstr")."""


def encoding(value: bytes | bytearray) -> str:
    """Return what OBJECT ENCODING says: int, embstr or raw."""
    if isinstance(value, bytearray):
        return "raw"
    if len(value) <= 20 and is_integer(value):
        return "int"
    return "embstr" if len(value) <= EMBEDDED else "raw"


def memory(value: bytes | bytearray) -> int:
    """Return what the object costs this process, in bytes."""
    if isinstance(value, bytearray):
        # The object, and a buffer of its own that may have room for more.
        return 64 + ((value.__alloc__() + 15) & ALIGNED)
    return (len(value) + OBJECT_BYTES) & ALIGNED
