"""The packets of the cluster bus: Redis's binary protocol, version 1 (``cluster.h``).

A packet is a header of 2,256 bytes, the same for all types, and a body that depends on the type.
All numbers are big-endian; texts of fixed width are padded with zero bytes.

- PING, PONG, MEET: ``count`` gossip entries of 104 bytes, then ``extensions`` extensions, each with
  its length (a multiple of 8, its own 8 bytes of header included) and type.
- FAIL: the name of the node that has failed.
- PUBLISH, PUBLISHSHARD: two lengths, the channel, the message.
- UPDATE: a config epoch, a node, the slots that it has.
- FAILOVER_AUTH_REQUEST, FAILOVER_AUTH_ACK, MFSTART: nothing.

:func:`decode` refuses what is not exactly so: the length that a packet tells must be the one that
follows from what is in it. Extensions of unknown types are left out.
"""

from __future__ import annotations

import struct
from typing import Final

SIGNATURE: Final = b"RCmb"
VERSION: Final = 1

PING: Final = 0
PONG: Final = 1
MEET: Final = 2
FAIL: Final = 3
PUBLISH: Final = 4
FAILOVER_AUTH_REQUEST: Final = 5
FAILOVER_AUTH_ACK: Final = 6
UPDATE: Final = 7
MFSTART: Final = 8
MODULE: Final = 9
PUBLISHSHARD: Final = 10

# As CLUSTER INFO calls the types.
TYPE_NAMES: Final = (
    *("ping", "pong", "meet", "fail", "publish", "auth-req", "auth-ack", "update", "mfstart"),
    *("module", "publishshard"),
)

# What the sender says with a packet (``mflags``).
SAYS_PAUSED: Final = 1 << 0  # its clients are paused for a manual failover
SAYS_FORCED: Final = 1 << 1  # the vote is wanted although the master is well
SAYS_EXTENSIONS: Final = 1 << 2  # it understands extensions

EXTENSION_HOSTNAME: Final = 0
EXTENSION_HUMAN_NAME: Final = 1
EXTENSION_FORGOTTEN: Final = 2
EXTENSION_SHARD: Final = 3

NAME_LENGTH: Final = 40
NO_NAME: Final = "\0" * NAME_LENGTH
BITMAP_SIZE: Final = 16384 // 8
NO_SLOTS: Final = bytes(BITMAP_SIZE)

_HEADER: Final = struct.Struct(">4sIHHHHQQQ40s2048s40s46sH30xHHHB3s")
_GOSSIP: Final = struct.Struct(">40sII46sHHHH2x")
_EXTENSION: Final = struct.Struct(">IHxx")
_FORGOTTEN: Final = struct.Struct(">40sQ")
_LENGTHS: Final = struct.Struct(">II")
_UPDATE: Final = struct.Struct(">Q40s2048s")
_MODULE: Final = struct.Struct(">QIB")

HEADER_SIZE: Final = _HEADER.size
PREFIX_SIZE: Final = 8  # signature and total length
# A packet that says it is longer is not read: the largest that is meant is a published message.
LARGEST_PACKET: Final = 1 << 30


# Host, port, bus port, port with TLS.
Address = tuple[str, int, int, int]


class Malformed(ValueError):
    """The bytes are no packet of this protocol; the text says why."""


class Gossip:
    """What a node tells of another one. Times are in Unix seconds."""

    __slots__ = (
        "name",
        "ping_sent",
        "pong_received",
        "ip",
        "port",
        "bus_port",
        "flags",
        "tls_port",
    )

    def __init__(
        self,
        name: str,
        ping_sent: int,
        pong_received: int,
        ip: str,
        port: int,
        bus_port: int,
        flags: int,
        tls_port: int,
    ) -> None:
        self.name = name
        self.ping_sent = ping_sent
        self.pong_received = pong_received
        self.ip = ip
        self.port = port
        self.bus_port = bus_port
        self.flags = flags
        self.tls_port = tls_port

    @property
    def address(self) -> Address:
        return (self.ip, self.port, self.bus_port, self.tls_port)


class Packet:
    """One packet. What a type does not have keeps its default.

    ``ip`` is empty where the sender leaves it to the receiver to see where it is; ``master`` is the
    name of the sender's master, empty for a master. ``slots`` is a bitmap of 2,048 bytes,
    the lowest bit first.
    """

    __slots__ = (
        "type",
        "port",
        "bus_port",
        "tls_port",
        "current_epoch",
        "config_epoch",
        "offset",
        "sender",
        "slots",
        "master",
        "ip",
        "flags",
        "down",
        "says",
        "gossip",
        "hostname",
        "human_name",
        "shard",
        "forgotten",
        "about",
        "channel",
        "message",
        "about_epoch",
        "about_slots",
    )

    def __init__(self, type: int, sender: str) -> None:
        self.type = type
        self.sender = sender
        self.port = 0
        self.bus_port = 0
        self.tls_port = 0  # for clients with TLS, as `port` is for those without
        self.current_epoch = 0
        self.config_epoch = 0
        self.offset = 0
        self.slots = NO_SLOTS
        self.master = ""
        self.ip = ""
        self.flags = 0
        self.down = False  # the sender takes the cluster to be down
        self.says = 0
        self.gossip: list[Gossip] = []
        # Extensions; None where the packet has none of that type.
        self.hostname: str | None = None
        self.human_name: str | None = None
        self.shard: str | None = None
        self.forgotten: list[tuple[str, int]] = []  # name, seconds
        # FAIL and UPDATE: about which node.
        self.about = ""
        self.about_epoch = 0
        self.about_slots = NO_SLOTS
        # PUBLISH and PUBLISHSHARD.
        self.channel = b""
        self.message = b""

    @property
    def is_ping(self) -> bool:
        """Whether it is one of the three that carry gossip."""
        return self.type <= MEET


def encode(packet: Packet) -> bytes:
    """The bytes of a packet."""
    count = 0
    extensions: list[bytes] = []
    says = packet.says
    if packet.is_ping:
        count = len(packet.gossip)
        extensions = _encode_extensions(packet)
        if extensions:
            says |= SAYS_EXTENSIONS
        body = b"".join([*map(_encode_gossip, packet.gossip), *extensions])
    elif packet.type == FAIL:
        body = packet.about.encode()
    elif packet.type in (PUBLISH, PUBLISHSHARD):
        lengths = _LENGTHS.pack(len(packet.channel), len(packet.message))
        body = lengths + packet.channel + packet.message
        count = 1
    elif packet.type == UPDATE:
        body = _UPDATE.pack(packet.about_epoch, packet.about.encode(), packet.about_slots)
    else:
        body = b""
    return (
        _HEADER.pack(
            SIGNATURE,
            HEADER_SIZE + len(body),
            VERSION,
            packet.port,
            packet.type,
            count,
            packet.current_epoch,
            packet.config_epoch,
            packet.offset,
            packet.sender.encode(),
            packet.slots,
            packet.master.encode(),
            packet.ip.encode(),
            len(extensions),
            packet.tls_port,
            packet.bus_port,
            packet.flags,
            int(packet.down),
            bytes((says, 0, 0)),
        )
        + body
    )


def _encode_gossip(entry: Gossip) -> bytes:
    return _GOSSIP.pack(
        entry.name.encode(),
        entry.ping_sent,
        entry.pong_received,
        entry.ip.encode(),
        entry.port,
        entry.bus_port,
        entry.flags,
        entry.tls_port,
    )


def _encode_extensions(packet: Packet) -> list[bytes]:
    found: list[bytes] = []
    if packet.hostname is not None:
        found.append(_extension(EXTENSION_HOSTNAME, packet.hostname.encode() + b"\0"))
    if packet.human_name is not None:
        found.append(_extension(EXTENSION_HUMAN_NAME, packet.human_name.encode() + b"\0"))
    for name, seconds in packet.forgotten:
        found.append(_extension(EXTENSION_FORGOTTEN, _FORGOTTEN.pack(name.encode(), seconds)))
    if packet.shard is not None:
        found.append(_extension(EXTENSION_SHARD, packet.shard.encode()))
    return found


def _extension(type: int, data: bytes) -> bytes:
    padded = data + bytes(-len(data) % 8)
    return _EXTENSION.pack(_EXTENSION.size + len(padded), type) + padded


def decode(data: bytes) -> Packet:
    """The packet that ``data`` is, all of it. Raises Malformed."""
    if len(data) < HEADER_SIZE:
        raise Malformed("shorter than a header")
    (
        signature,
        length,
        version,
        port,
        kind,
        count,
        current_epoch,
        config_epoch,
        offset,
        sender,
        slots,
        master,
        ip,
        extensions,
        tls_port,
        bus_port,
        flags,
        down,
        says,
    ) = _HEADER.unpack_from(data)
    if signature != SIGNATURE:
        raise Malformed("foreign signature")
    if length != len(data):
        raise Malformed("not as long as it says")
    if version != VERSION:
        raise Malformed(f"version {version} of the protocol")
    packet = Packet(kind, _text(sender, "sender"))
    packet.port = port
    packet.bus_port = bus_port
    packet.tls_port = tls_port
    packet.current_epoch = current_epoch
    packet.config_epoch = config_epoch
    packet.offset = offset
    packet.slots = slots
    packet.master = _text(master, "master")
    packet.ip = _text(ip, "address")
    packet.flags = flags
    packet.down = down != 0
    packet.says = says[0]
    if kind <= MEET:
        _decode_ping(packet, data, count, extensions if says[0] & SAYS_EXTENSIONS else 0)
    elif kind == FAIL:
        _expect(data, NAME_LENGTH)
        packet.about = _text(data[HEADER_SIZE:], "name")
    elif kind in (PUBLISH, PUBLISHSHARD):
        _decode_message(packet, data)
    elif kind == UPDATE:
        _expect(data, _UPDATE.size)
        epoch, name, packet.about_slots = _UPDATE.unpack_from(data, HEADER_SIZE)
        packet.about_epoch = epoch
        packet.about = _text(name, "name")
    elif kind in (FAILOVER_AUTH_REQUEST, FAILOVER_AUTH_ACK, MFSTART):
        _expect(data, 0)
    elif kind != MODULE:
        raise Malformed(f"unknown type {kind}")
    return packet


def _expect(data: bytes, size: int) -> None:
    if len(data) != HEADER_SIZE + size:
        raise Malformed("a body of another length than its type has")


def _decode_ping(packet: Packet, data: bytes, count: int, extensions: int) -> None:
    at = HEADER_SIZE
    if at + count * _GOSSIP.size > len(data):
        raise Malformed("less gossip than it says")
    for _ in range(count):
        name, ping, pong, ip, port, bus_port, flags, tls_port = _GOSSIP.unpack_from(data, at)
        packet.gossip.append(
            Gossip(
                _text(name, "name"),
                ping,
                pong,
                _text(ip, "address"),
                port,
                bus_port,
                flags,
                tls_port,
            )
        )
        at += _GOSSIP.size
    for _ in range(extensions):
        if at + _EXTENSION.size > len(data):
            raise Malformed("fewer extensions than it says")
        length, kind = _EXTENSION.unpack_from(data, at)
        if length < _EXTENSION.size or length % 8 or at + length > len(data):
            raise Malformed("an extension of an impossible length")
        _take_extension(packet, kind, data[at + _EXTENSION.size : at + length])
        at += length
    if at != len(data):
        raise Malformed("more than it says")


def _take_extension(packet: Packet, type: int, data: bytes) -> None:
    if type == EXTENSION_HOSTNAME:
        packet.hostname = _text(data, "host name")
    elif type == EXTENSION_HUMAN_NAME:
        packet.human_name = _text(data, "human name")
    elif type == EXTENSION_FORGOTTEN:
        if len(data) < _FORGOTTEN.size:
            raise Malformed("a forgotten node that is cut off")
        name, seconds = _FORGOTTEN.unpack_from(data)
        packet.forgotten.append((_text(name, "name"), seconds))
    elif type == EXTENSION_SHARD:
        if len(data) < NAME_LENGTH:
            raise Malformed("a shard that is cut off")
        packet.shard = _text(data[:NAME_LENGTH], "shard")


def _decode_message(packet: Packet, data: bytes) -> None:
    if len(data) < HEADER_SIZE + _LENGTHS.size:
        raise Malformed("a message that is cut off")
    channel, message = _LENGTHS.unpack_from(data, HEADER_SIZE)
    _expect(data, _LENGTHS.size + channel + message)
    middle = HEADER_SIZE + _LENGTHS.size + channel
    packet.channel = data[middle - channel : middle]
    packet.message = data[middle:]


def _text(data: bytes, what: str) -> str:
    """A text of fixed width, up to its first zero byte."""
    try:
        return data.partition(b"\0")[0].decode("ascii")
    except UnicodeDecodeError:
        raise Malformed(f"a {what} that is no text") from None


class Splitter:
    """Cuts the stream of a link into packets.

    :meth:`feed` returns the whole packets, undecoded, that the new bytes complete. It raises
    Malformed where the stream is none of this protocol, and must not be fed any more then.
    """

    __slots__ = ("_held", "_size", "_wanted")

    def __init__(self) -> None:
        self._held: list[bytes] = []
        self._size = 0
        self._wanted = PREFIX_SIZE

    def feed(self, data: bytes) -> list[bytes]:
        """Take what has come."""
        self._held.append(data)
        self._size += len(data)
        if self._size < self._wanted:
            return []
        buffer = b"".join(self._held)
        packets: list[bytes] = []
        at = 0
        while True:
            rest = len(buffer) - at
            self._wanted = PREFIX_SIZE
            if rest < PREFIX_SIZE:
                break
            length = int.from_bytes(buffer[at + 4 : at + 8], "big")
            if not buffer.startswith(SIGNATURE, at) or not HEADER_SIZE <= length <= LARGEST_PACKET:
                raise Malformed("Bad message length or signature received from Cluster bus.")
            self._wanted = length
            if rest < length:
                break
            packets.append(buffer[at : at + length])
            at += length
        self._held = [buffer[at:]]
        self._size = len(buffer) - at
        return packets

    @property
    def size(self) -> int:
        """Bytes held for a packet that is not whole yet."""
        return self._size
