"""The replica's state machines against a real redis-server as the master."""

from __future__ import annotations

import contextlib
import socket

import pytest

from node.replication.handshake import Continue, FullSync, Handshake, Introduction
from node.replication.payload import Payload
from node.resp import encode_request
from tests.conftest import StartServer


class Link:
    """A blocking connection to a master, driven by the state machines."""

    def __init__(self, address: tuple[str, int], id: bytes = b"", position: int = -1) -> None:
        self.sock = socket.create_connection(address, timeout=20)
        self.data = b""
        handshake = self.handshake = Handshake(Introduction(7001, b"7.2.4"), id, position)
        self.sock.sendall(handshake.begin())
        while handshake.outcome is None:
            self.sock.sendall(handshake.receive(self._line()))

    def _line(self) -> bytes:
        while b"\n" not in self.data:
            self._more()
        line, _, self.data = self.data.partition(b"\n")
        return line.removesuffix(b"\r")

    def _more(self) -> None:
        data = self.sock.recv(65536)
        assert data
        self.data += data

    def fetch(self) -> bytes:
        """The snapshot; ``data`` is then the beginning of the stream."""
        payload = Payload()
        found = b""
        while not payload.complete:
            if not self.data:
                self._more()
            data, self.data = self.data, b""
            found += payload.feed(data)
        self.data = payload.rest
        return found

    def read_until(self, end: bytes, position: int) -> bytes:
        """The stream as far as ``end``, from ``position`` on.

        Acknowledges from time to time, as a replica does: a diskless master streams only once it
        has heard that the snapshot has arrived, and hears that only when its child has ended.
        """
        self.sock.settimeout(0.1)
        for _ in range(200):
            if self.data.endswith(end):
                return self.data
            acknowledged = b"%d" % (position + len(self.data))
            self.sock.sendall(encode_request([b"REPLCONF", b"ACK", acknowledged]))
            with contextlib.suppress(TimeoutError):
                self._more()
        raise TimeoutError


@pytest.mark.parametrize("diskless", ["yes", "no"])
def test_a_full_and_a_partial_synchronization(start_oracle: StartServer, diskless: str) -> None:
    oracle = start_oracle("--repl-diskless-sync", diskless, "--repl-diskless-sync-delay", "0")
    with oracle.connect() as client:
        client("SET", "before", "1" * 1000)
        link = Link(oracle.address)
        outcome = link.handshake.outcome
        assert isinstance(outcome, FullSync)
        snapshot = link.fetch()
        assert snapshot.startswith(b"REDIS0")
        assert b"before" in snapshot
        client("SET", "meanwhile", "2")
        change = encode_request([b"SET", b"meanwhile", b"2"])
        stream = link.read_until(change, outcome.offset)
        position = outcome.offset + len(stream)
        link.sock.close()

        client("SET", "away", "3")
        again = Link(oracle.address, outcome.id, position)
        assert again.handshake.outcome == Continue(outcome.id)
        assert again.read_until(encode_request([b"SET", b"away", b"3"]), position)
        again.sock.close()

        elsewhere = Link(oracle.address, b"f" * 40, position)
        assert isinstance(elsewhere.handshake.outcome, FullSync)
        elsewhere.sock.close()
