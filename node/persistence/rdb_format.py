"""The numbers of the RDB format: versions, opcodes, types, and how lengths are written.

A file is the magic word, four digits for its version, records each begun by one byte (an opcode,
or the type of a value, which its key and the value follow), the opcode END, and since version 5 a
checksum of everything before it.
"""

from __future__ import annotations

from typing import Final

from librt.strings import BytesWriter
from mypy_extensions import i64, u8

MAGIC: Final = b"REDIS"
VERSION_WRITTEN: Final = 10
"""What Redis 7.0 writes and reads."""
NEWEST_VERSION: Final = 12
"""What Redis 7.4 writes."""
FIRST_WITH_CHECKSUM: Final = 5

# Opcodes.
SLOT_INFO: Final = 244
FUNCTION: Final = 245
FUNCTION_EARLY: Final = 246  # of release candidates of Redis 7.0
MODULE_AUX: Final = 247
IDLE: Final = 248
FREQUENCY: Final = 249
AUX: Final = 250
RESIZE: Final = 251
DEADLINE_MS: Final = 252
DEADLINE_SECONDS: Final = 253
SELECT: Final = 254
END: Final = 255

# Types of values.
STRING: Final = 0
LIST: Final = 1
SET: Final = 2
ZSET: Final = 3
HASH: Final = 4
ZSET_2: Final = 5  # scores as binary doubles
MODULE_EARLY: Final = 6
MODULE: Final = 7
HASH_ZIPMAP: Final = 9
LIST_ZIPLIST: Final = 10
SET_INTSET: Final = 11
ZSET_ZIPLIST: Final = 12
HASH_ZIPLIST: Final = 13
LIST_QUICKLIST: Final = 14
STREAM: Final = 15
HASH_LISTPACK: Final = 16
ZSET_LISTPACK: Final = 17
LIST_QUICKLIST_2: Final = 18
STREAM_2: Final = 19
SET_LISTPACK: Final = 20
STREAM_3: Final = 21
HASH_METADATA_EARLY: Final = 22  # of release candidates of Redis 7.4
HASH_LISTPACK_EX_EARLY: Final = 23
HASH_METADATA: Final = 24
HASH_LISTPACK_EX: Final = 25
NEWEST_TYPE: Final = 25

STREAMS: Final = (STREAM, STREAM_2, STREAM_3)

# Kinds of nodes of a list.
NODE_PLAIN: Final = 1
NODE_PACKED: Final = 2

# Special forms of strings, in place of a length.
INTEGER_8: Final = 0
INTEGER_16: Final = 1
INTEGER_32: Final = 2
COMPRESSED: Final = 3

# A score in a text of this length, which then has no text.
SCORE_NAN: Final = 253
SCORE_INFINITE: Final = 254
SCORE_NEGATIVE_INFINITE: Final = 255


class RdbError(Exception):
    """An RDB file or a DUMP payload that cannot be loaded.

    `offset` is how many bytes from the start the fault was noticed, or just before.
    """

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(f"{message} (at offset {offset})")
        self.message = message
        self.offset = offset


def write_length(out: BytesWriter, length: i64) -> None:
    """Write a length: in 1, 2, 5 or 9 bytes."""
    if length < 64:
        out.append(u8(length))
    elif length < 1 << 14:
        out.append(u8(length >> 8 | 0x40))
        out.append(u8(length & 255))
    elif length < 1 << 32:
        out.append(0x80)
        out.write(int(length).to_bytes(4, "big"))
    else:
        out.append(0x81)
        out.write(int(length).to_bytes(8, "big"))


def encode_length(length: int) -> bytes:
    """Return a length as it is written; modules write any numbers of 64 bits so."""
    if length >= 1 << 63:
        return b"\x81" + length.to_bytes(8, "big")
    out = BytesWriter()
    write_length(out, length)
    return out.getvalue()
