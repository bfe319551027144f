"""The checksum of RDB files and DUMP payloads: CRC-64 by Jones, reflected, starting from nought."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from crcmod import mkCrcFun

_UPDATE: Final[Callable[..., int]] = mkCrcFun(0x1AD93D23594C935A9, initCrc=0, rev=True, xorOut=0)


def crc64(data: bytes, crc: int = 0) -> int:
    """Return the checksum of data that follow others, whose checksum is `crc`."""
    return _UPDATE(data, crc)
