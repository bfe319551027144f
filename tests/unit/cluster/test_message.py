"""The packets of the bus: what is encoded is decoded, and nothing else is taken for a packet."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster import message
from cluster.message import Gossip, Malformed, Packet, Splitter, decode, encode

names = st.text("0123456789abcdef", min_size=40, max_size=40)
hosts = st.text("abc.:0123456789", max_size=45)
ports = st.integers(0, 65535)
epochs = st.integers(0, 2**64 - 1)
bitmaps = st.integers(0, 1000).map(lambda seed: random.Random(seed).randbytes(2048))


@st.composite
def packets(draw: st.DrawFn) -> Packet:
    """Any packet that is meant to be sent."""
    kinds = [kind for kind in range(11) if kind != message.MODULE]
    packet = Packet(draw(st.sampled_from(kinds)), draw(names))
    packet.port, packet.bus_port, packet.tls_port = draw(ports), draw(ports), draw(ports)
    packet.current_epoch, packet.config_epoch = draw(epochs), draw(epochs)
    packet.offset = draw(epochs)
    packet.slots = draw(st.sampled_from([message.NO_SLOTS, bytes([255]) * 2048]) | bitmaps)
    packet.master = draw(st.just("") | names)
    packet.ip = draw(hosts)
    packet.flags = draw(ports)
    packet.down = draw(st.booleans())
    packet.says = draw(st.sampled_from([0, message.SAYS_PAUSED, message.SAYS_FORCED]))
    if packet.is_ping:
        seconds = st.integers(0, 2**32 - 1)
        entries = st.builds(Gossip, names, seconds, seconds, hosts, ports, ports, ports, ports)
        packet.gossip = draw(st.lists(entries, max_size=5))
        texts = st.none() | st.text("abcdef.-", min_size=1, max_size=60)
        packet.hostname, packet.human_name = draw(texts), draw(texts)
        packet.shard = draw(st.none() | names)
        packet.forgotten = draw(st.lists(st.tuples(names, epochs), max_size=2))
    elif packet.type in (message.PUBLISH, message.PUBLISHSHARD):
        packet.channel, packet.message = draw(st.binary(max_size=50)), draw(st.binary(max_size=50))
    elif packet.type == message.FAIL:
        packet.about = draw(names)
    elif packet.type == message.UPDATE:
        packet.about, packet.about_epoch = draw(names), draw(epochs)
        packet.about_slots = draw(bitmaps)
    return packet


def attributes(kind: type) -> list[str]:
    """Names; compiled classes tell them otherwise."""
    return list(getattr(kind, "__mypyc_attrs__", None) or kind.__dict__["__slots__"])


def fields(packet: Packet) -> dict[str, object]:
    """All that a packet says, but for the sign that there are extensions."""
    found = {name: getattr(packet, name) for name in attributes(Packet)}
    found["gossip"] = [
        [getattr(entry, name) for name in attributes(Gossip)] for entry in packet.gossip
    ]
    found["says"] = packet.says & ~message.SAYS_EXTENSIONS
    return found


@given(packets())
def test_what_is_encoded_is_decoded(packet: Packet) -> None:
    wire = encode(packet)
    assert int.from_bytes(wire[4:8], "big") == len(wire)
    assert fields(decode(wire)) == fields(packet)


@given(packets(), st.data())
def test_damaged_packets_are_refused_or_harmless(packet: Packet, data: st.DataObject) -> None:
    wire = bytearray(encode(packet))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(wire) - 1))
        wire[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(wire)))
    for damaged in (bytes(wire), bytes(wire[:cut]), bytes(wire) + b"\0" * (cut % 9)):
        try:
            decode(damaged)
        except Malformed:
            continue


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda wire: b"RCmc" + wire[4:], "signature"),
        (lambda wire: wire + b"\0", "as long as it says"),
        (lambda wire: wire[:9] + b"\2" + wire[10:], "version 2"),
        (lambda wire: wire[:13] + b"\x63" + wire[14:], "unknown type"),
        (lambda wire: wire[:15] + b"\1" + wire[16:], "less gossip"),
        (lambda wire: wire[:100], "shorter"),
    ],
)
def test_reasons(damage: object, why: str) -> None:
    assert callable(damage)
    with pytest.raises(Malformed, match=why):
        decode(damage(encode(Packet(message.PING, "a" * 40))))


def test_unknown_extensions_are_left_out() -> None:
    packet = Packet(message.PING, "a" * 40)
    packet.hostname = "node.example"
    wire = bytearray(encode(packet))
    extension = len(wire) - 24
    assert wire[extension : extension + 4] == (24).to_bytes(4, "big")
    wire[extension + 5] = 77
    assert decode(bytes(wire)).hostname is None


@given(st.integers(0, 1000), st.data())
def test_a_stream_in_fragments(seed: int, data: st.DataObject) -> None:
    sent = [Packet(message.PONG, "a" * 40) for _ in range(seed % 4 + 1)]
    for packet in sent[::2]:
        packet.hostname = "node.example"
    stream = b"".join(map(encode, sent))
    splitter = Splitter()
    found: list[bytes] = []
    while stream:
        size = data.draw(st.integers(300, 4000))
        found += splitter.feed(stream[:size])
        stream = stream[size:]
    assert found == list(map(encode, sent))
    assert splitter.size == 0


@pytest.mark.parametrize(
    "stream", [b"GET / HTTP/1.1\r\n\r\n", b"RCmb\0\0\0\1", b"RCmb\xff\xff\xff\xff"]
)
def test_a_stream_of_something_else(stream: bytes) -> None:
    with pytest.raises(Malformed):
        Splitter().feed(stream)
