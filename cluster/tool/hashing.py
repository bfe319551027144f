"""The slot of a key, for keys that come from outside the cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from crcmod.predefined import mkPredefinedCrcFun

from cluster.tool.view import SLOTS

_crc16: Final[Callable[[bytes], int]] = mkPredefinedCrcFun("xmodem")


def key_slot(key: bytes) -> int:
    """CRC16 of the key, or of what is between its first `{` and the next `}`, modulo 16384."""
    opening = key.find(b"{")
    if opening >= 0:
        closing = key.find(b"}", opening + 1)
        if closing > opening + 1:
            key = key[opening + 1 : closing]
    return _crc16(key) % SLOTS
