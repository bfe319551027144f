"""Foreign and malformed packets on the bus: counted, dropped, and the node goes on."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Iterator

import pytest

from cluster import message
from cluster.message import Gossip, Packet, encode
from tests.formations import OURS, Cluster, ClusterNode

ROUNDS = 40
PACKETS = 60


@pytest.fixture
def pair() -> Iterator[Cluster]:
    with Cluster([OURS, OURS]) as cluster:
        yield cluster.form(2)


def send(node: ClusterNode, data: bytes) -> None:
    """Send bytes to a node's bus, and read what it has to say until it hangs up or is silent."""
    with socket.create_connection(("127.0.0.1", node.bus_port), 10) as line:
        line.settimeout(0.02)
        with contextlib.suppress(OSError):
            line.sendall(data)
            line.shutdown(socket.SHUT_WR)
            while line.recv(65536):
                pass


def make_packets(sender: str, other: str) -> list[bytes]:
    """One packet of each type, as a node of that name would send it."""
    found: list[bytes] = []
    for kind in range(11):
        packet = Packet(kind, sender)
        packet.port = packet.bus_port = 1
        packet.flags = 1
        packet.about = other
        packet.channel = b"channel"
        packet.message = b"a message"
        if packet.is_ping:
            packet.gossip = [Gossip(other, 1, 2, "127.0.0.1", 1, 2, 1, 0)] * 3
            packet.hostname = "host.example"
            packet.human_name = "name"
            packet.shard = "0" * 40
            packet.forgotten = [("1" * 40, 60)]
        found.append(encode(packet))
    return found


def mutate(draw: random.Random, data: bytes) -> bytes:
    """A packet with some bytes replaced, cut off, or put in; often with the length made right."""
    changed = bytearray(data)
    for _ in range(draw.choice([1, 1, 2, 5, 50])):
        # The head and the end are more interesting than the bitmap of slots.
        at = draw.choice([draw.randrange(128), draw.randrange(len(data)), -draw.randrange(1, 200)])
        with contextlib.suppress(IndexError):
            changed[at] = draw.choice([0, 1, 255, draw.randrange(256)])
    match draw.randrange(6):
        case 0:
            del changed[draw.randrange(len(changed)) :]
        case 1:
            changed += draw.randbytes(draw.choice([1, 8, 104, 500]))
    if draw.random() < 0.8:
        changed[:4] = message.SIGNATURE
        changed[4:8] = len(changed).to_bytes(4, "big")
    return bytes(changed)


def assert_alive(node: ClusterNode) -> None:
    assert node.is_alive
    assert node.do("CLUSTER", "SHARDS")
    assert "Unexpected error" not in node.log
    assert "Traceback" not in node.log


def test_random_bytes(pair: Cluster) -> None:
    draw = random.Random(1)
    for _ in range(ROUNDS):
        data = draw.randbytes(draw.choice([1, 7, 8, 100, 2256, 70000]))
        if draw.random() < 0.5:
            data = message.SIGNATURE + data
        send(pair[0], data)
    pair.await_agreement()
    assert len(pair[0].rows()) == 2
    assert "Bad message length or signature received from Cluster bus." in pair[0].log
    assert_alive(pair[0])


def test_packets_of_a_stranger(pair: Cluster) -> None:
    """Nothing that somebody says who is not known changes anything."""
    draw = random.Random(2)
    before = sorted(row.fact for row in pair[0].rows().values())
    packets = make_packets("e" * 40, pair[1].id)
    del packets[message.MEET]  # which anybody may send
    for _ in range(ROUNDS):
        batch = [mutate(draw, draw.choice(packets)) for _ in range(PACKETS)]
        send(pair[0], b"".join(data for data in batch if data[10:12] != b"\0\2"))
    pair.await_agreement()
    facts = sorted(row.fact for row in pair[0].rows().values())
    assert facts == before
    assert_alive(pair[0])


def test_damaged_packets_of_a_known_node(pair: Cluster) -> None:
    """They may say anything, but do not end the node."""
    draw = random.Random(3)
    packets = make_packets(pair[1].id, pair[0].id) + make_packets(pair[0].id, pair[1].id)
    for _ in range(5 * ROUNDS):
        send(pair[0], b"".join(mutate(draw, draw.choice(packets)) for _ in range(PACKETS)))
    assert_alive(pair[0])
