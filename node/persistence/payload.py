"""The payload of DUMP: a value as in an RDB file, two bytes of version, eight of checksum."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from node.persistence.crc64 import crc64
from node.persistence.rdb_format import (
    NEWEST_TYPE,
    NEWEST_VERSION,
    STRING,
    VERSION_WRITTEN,
    RdbError,
)
from node.persistence.rdb_reader import RdbReader, Value
from node.persistence.rdb_writer import encode_portions, encode_string, encode_value, value_type
from node.values.collection import Limits

FOOTER: Final = 10
_VERSION: Final = VERSION_WRITTEN.to_bytes(2, "little")
_STRING_TYPE: Final = bytes((STRING,))


class DumpError(Exception):
    """A payload of a version that is too new, or that is damaged."""


def dump(value: Value, compress: bool) -> bytes:
    """Return the payload of a value, as Redis 7.0 would make it."""
    if isinstance(value, bytes):
        signed = _STRING_TYPE + encode_string(value, compress) + _VERSION
    else:
        kind, body = encode_value(value, compress)
        signed = bytes((kind,)) + body + _VERSION
    return signed + crc64(signed).to_bytes(8, "little")


def dump_portions(value: Value, compress: bool) -> Iterator[bytes]:
    """Yield the payload of a value bit by bit; the value must not change meanwhile."""
    portion = bytes((value_type(value),))
    crc = crc64(portion)
    yield portion
    for portion in encode_portions(value, compress):
        crc = crc64(portion, crc)
        yield portion
    yield _VERSION + crc64(_VERSION, crc).to_bytes(8, "little")


def load(payload: bytes, limits: Limits) -> Value:
    """Return the value of a payload.

    Raises DumpError if version or checksum are wrong, RdbError if there is no value that this
    server could hold in what they vouch for.  The value is complete or not there at all.
    """
    start = len(payload) - FOOTER
    if start < 0 or int.from_bytes(payload[start : start + 2], "little") > NEWEST_VERSION:
        raise DumpError("DUMP payload version or checksum are wrong")
    if crc64(payload[:-8]) != int.from_bytes(payload[-8:], "little"):
        raise DumpError("DUMP payload version or checksum are wrong")
    if start > 1 and payload[0] == STRING and payload[1] == start - 2 < 64:
        return payload[2:start]  # a short string, as most are
    if not start or payload[0] > NEWEST_TYPE:
        raise RdbError("Unknown type of value", 0)
    return RdbReader(limits).read_value(payload[0], payload[1:start])
