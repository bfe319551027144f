"""DUMP and RESTORE: values as payloads, of every type and encoding, whole and damaged."""

from __future__ import annotations

from typing import Final

from node.persistence.crc64 import crc64
from node.persistence.payload import load
from node.values.collection import Limits
from node.values.digest import value_digest
from tests.differential.grammar import (
    Command,
    among,
    any_key,
    members,
    mostly,
    optional,
    options,
    sequence,
    some,
    values,
)
from tests.differential.pair import comparing, kind, near
from tests.wire import Reply

# What redis-server 7.0.15 has replied to DUMP.
REAL: Final[dict[str, bytes]] = {
    "string": b"\x00\x05hello\n\x00cr\xdfve4 \n",
    "number": b"\x00\xc1\xc7\xcf\n\x00g\xed\xa26\xb4\xdb&\xd0",
    "compressed string": b"\x00\xc3\n<\x02aba\xe0.\x01\x01ab\n\x00\xbb\x16\xd3\xeb\xaeo\xc5t",
    "list": b"\x12\x01\x02\xc3 @`\x18`\x00\x00\x00\x06\x00\x81a\x02\x81b\x02\x01\x01\xdf\xfb\x02"
    b"\xf2p\x11\x01\x04\xe0Fx\xe0<\x00\x01H\xff\n\x00\xac\x1at\xce\x1b\xe3\xb3\x00",
    "list of several nodes": b"\x12\x03\x02\r\r\x00\x00\x00\x02\x00\x81a\x02\x81b\x02\xff\x02\r\r"
    b"\x00\x00\x00\x02\x00\x81c\x02\x81d\x02\xff\x02\n\n\x00\x00\x00\x01\x00\x81e\x02\xff\n\x00"
    b"\xecR6\xa7` \xa1\xdb",
    "intset": b"\x0b\x0e\x02\x00\x00\x00\x03\x00\x00\x00\x01\x00\x02\x00,\x01\n\x00\xe5\x10\xb2\x8e"
    b"{\x95)\xaa",
    "set": b"\x02\x03\xc0\x01\x01b\x01a\n\x00Dg\xf0\xc6\xe2\xd1.[",
    "hash": b"\x10\x14\x14\x00\x00\x00\x04\x00\x81f\x02\x01\x01\x81g\x02\x83two\x04\xff\n\x00\xe3"
    b"\x18t+a\xdbo\xdf",
    "hash table": b"\x04\x02\x01g\x03two\x01f\xc0\x01\n\x00\x95\xd2\x15D\xc6\xb4\x1ca",
    "sorted set": b"\x11\xc3(1\r1\x00\x00\x00\x06\x00\x81c\x02\x98-3.0\xe0\x05\x00\x142e+300\x19"
    b"\x81a\x02\x01\x01\x81b\x02\x832.5\x04\xff\n\x00\x16\xc6\x1f\x9a+\x1eb\xbc",
    "skiplist": b"\x05\x03\x01c\x00\x00\x00\x00\x00\x00\xf0\x7f\x01b\x00\x00\x00\x00\x00\x00\x04@"
    b"\x01a\x00\x00\x00\x00\x00\x00\xf0?\n\x00\xd0]#\xaf>\x18\x0f\xa6",
}


def signed(body: bytes, version: int = 10) -> bytes:
    """A payload of type and value, with the footer that belongs to it."""
    whole = body + version.to_bytes(2, "little")
    return whole + crc64(whole).to_bytes(8, "little")


WRONG: Final = (
    b"",
    b"x",
    signed(b""),
    signed(b"\x00"),
    signed(b"\x00\x45hello"),
    signed(b"\x63\x05hello"),
    signed(b"\x00\x05hello", 200),
    signed(b"\x00\xc4\x05hello"),
    signed(b"\x00\xc3\x05\x50hello"),
    signed(b"\x01\x00"),  # empty
    signed(b"\x02\x00"),
    signed(b"\x04\x00"),
    signed(b"\x05\x00"),
    signed(b"\x12\x00"),
    signed(b"\x02\x02\x01a\x01a"),  # the same twice
    signed(b"\x02\xbf\xff\xff\xff\x01a"),  # many are announced
    signed(b"\x05\x01\x01a\x00\x00\x00\x00\x00\x00\xf8\x7f"),  # NaN
    signed(b"\x0b\x0c\x03\x00\x00\x00\x02\x00\x00\x00\x01\x00\x02\x00"),  # integers of 24 bits
    signed(b"\x0b\x08\x02\x00\x00\x00\x00\x00\x00\x00"),
    signed(b"\x10\x0a\x0b\x00\x00\x00\x01\x00\x81a\x02\xff"),  # another size
    signed(b"\x12\x01\x03\x01a"),  # a node of no kind
    REAL["string"][:-1] + b"x",
    REAL["hash"][1:],
    REAL["list"][:-4],
)

# Types whose elements lie in the same order in both servers, so that the bytes are the same.
ORDERED: Final = (0, 5, 11, 16, 17)


def as_payload(reply: Reply) -> object:
    """The type of a payload, its version and the digest of its value."""
    if not isinstance(reply, bytes):
        return reply
    if reply[0] in ORDERED:
        return reply
    return reply[0], reply[-10:-8], value_digest(load(reply, Limits()))


payloads = mostly(among(*REAL.values()), among(*WRONG))
# Relative times that could run out meanwhile are left out.
ttls = mostly(
    among(b"0", b"100000", b"1000000000"),
    among(b"-1", b"9223372036854775807", b"x", b"", b"1.0", b"9223372036854775808"),
)
# Long ago, or far off even where it is taken for a relative one.
times = mostly(among(b"0", b"100000", b"4000000000000"), among(b"-1", b"9223372036854775807", b"x"))
idle = sequence(b"IDLETIME", mostly(among(b"0", b"100", b"1000"), among(b"-1", b"x", b"")))
frequency = sequence(
    b"FREQ", mostly(among(b"0", b"5", b"255"), among(b"-1", b"256", b"x", b"", b"1e2"))
)
further = options(b"REPLACE", b"replace", idle, frequency, most=3)

# Nobody listens there.
nowhere = sequence(b"127.0.0.1", b"1")
databases = mostly(among(b"0", b"1"), among(b"-1", b"x", b"", b"9223372036854775808"))
timeouts = mostly(among(b"0", b"10000"), among(b"-1", b"x", b"", b"9223372036854775808"))
credentials = mostly(
    among(b"AUTH", b"auth"), sequence(b"AUTH2", mostly(among(b"someone"), among(b"KEYS")))
)
choices = options(b"COPY", b"REPLACE", b"copy", sequence(credentials, optional(b"secret")), b"x")
named = sequence(b"KEYS", some(any_key, least=0))

COMMANDS: Final = [
    Command("SET", any_key, values),
    Command("RPUSH", any_key, some(values)),
    Command("SADD", any_key, some(members)),
    Command("ZADD", any_key, some(b"1.5", members)),
    Command("HSET", any_key, some(members, values)),
    Command("DEL", some(any_key)),
    Command("PEXPIRE", any_key, among(b"100000", b"-1")),
    Command("DUMP", any_key, check=comparing(as_payload), weight=4),
    Command("RESTORE", any_key, ttls, payloads, further, weight=4),
    Command("RESTORE", any_key, ttls, payloads, b"REPLACE", weight=4),
    Command("RESTORE", any_key, times, payloads, b"ABSTTL", further, weight=3),
    Command("RESTORE-ASKING", any_key, ttls, payloads, further),
    Command("MIGRATE", nowhere, any_key, databases, timeouts, choices, mangle=False),
    Command("MIGRATE", nowhere, b"", databases, timeouts, choices, named, mangle=False),
    Command("MIGRATE", nowhere, any_key, databases, timeouts, choices, named, mangle=False),
    Command("PTTL", any_key, check=near(5000), weight=2),
    Command("PEXPIRETIME", any_key, check=near(5000)),
    Command("TYPE", any_key),
    Command("OBJECT IDLETIME", any_key, check=kind),
]
