"""The replica's side of the handshake, word by word."""

from __future__ import annotations

import pytest

from node.replication.handshake import Continue, Failure, FullSync, Handshake, Introduction
from node.resp import RequestParser

ID = b"0123456789" * 4
ABOUT = Introduction(port=7001, version=b"7.2.4")


def requests(wire: bytes) -> list[list[bytes]]:
    return RequestParser(1000).feed(wire)


def introduce(handshake: Handshake) -> bytes:
    """Until PSYNC is sent; what is."""
    assert requests(handshake.begin()) == [[b"PING"]]
    sent = requests(handshake.receive(b"+PONG"))
    wire = b""
    for _ in sent:
        assert wire == b""
        wire = handshake.receive(b"+OK")
    return wire


def test_all_that_a_replica_tells() -> None:
    handshake = Handshake(
        Introduction(7001, b"7.2.4", address=b"10.0.0.1", user=b"replica", password=b"secret")
    )
    handshake.begin()
    assert requests(handshake.receive(b"+PONG")) == [
        [b"AUTH", b"replica", b"secret"],
        [b"REPLCONF", b"listening-port", b"7001"],
        [b"REPLCONF", b"ip-address", b"10.0.0.1"],
        [b"REPLCONF", b"capa", b"eof", b"capa", b"psync2"],
        [b"REPLCONF", b"version", b"7.2.4"],
    ]
    for _ in range(4):
        assert handshake.receive(b"+OK") == b""
    assert requests(handshake.receive(b"+OK")) == [[b"PSYNC", b"?", b"-1"]]


def test_a_full_synchronization() -> None:
    handshake = Handshake(ABOUT)
    assert requests(introduce(handshake)) == [[b"PSYNC", b"?", b"-1"]]
    assert handshake.receive(b"") == b""  # the master is alive
    assert handshake.receive(b"+FULLRESYNC " + ID + b" 1234") == b""
    assert handshake.outcome == FullSync(ID, 1234)


@pytest.mark.parametrize(
    ("line", "id"), [(b"+CONTINUE", ID), (b"+CONTINUE " + b"F" * 40, b"f" * 40)]
)
def test_going_on(line: bytes, id: bytes) -> None:
    handshake = Handshake(ABOUT, ID, 99)
    assert requests(introduce(handshake)) == [[b"PSYNC", ID, b"100"]]
    handshake.receive(line)
    assert handshake.outcome == Continue(id)


def test_an_old_master() -> None:
    handshake = Handshake(ABOUT)
    handshake.begin()
    for _ in requests(handshake.receive(b"+PONG")):
        handshake.receive(b"-ERR unknown command 'REPLCONF'")
    assert any("Non critical" in remark for remark in handshake.remarks)
    assert requests(handshake.receive(b"-ERR unknown command 'PSYNC'")) == [[b"SYNC"]]
    assert handshake.outcome == FullSync(b"", -1)


@pytest.mark.parametrize("line", [b"-NOAUTH Authentication required.", b"-NOPERM no"])
def test_ping_may_be_refused_before_auth(line: bytes) -> None:
    handshake = Handshake(ABOUT)
    handshake.begin()
    assert handshake.receive(line)
    assert handshake.outcome is None


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"-MASTERDOWN Link with MASTER is down", "Error reply to PING"),
        (b"hello", "Error reply to PING"),
    ],
)
def test_a_master_that_does_not_want(line: bytes, text: str) -> None:
    handshake = Handshake(ABOUT)
    handshake.begin()
    assert handshake.receive(line) == b""
    assert isinstance(handshake.outcome, Failure)
    assert text in handshake.outcome.text


def test_a_wrong_password() -> None:
    handshake = Handshake(Introduction(1, b"7", password=b"wrong"))
    handshake.begin()
    handshake.receive(b"+PONG")
    handshake.receive(b"-WRONGPASS invalid username-password pair or user is disabled.")
    assert isinstance(handshake.outcome, Failure)
    assert "Unable to AUTH to MASTER" in handshake.outcome.text


@pytest.mark.parametrize(
    "line",
    [
        b"+FULLRESYNC",
        b"+FULLRESYNC " + ID,
        b"+FULLRESYNC short 1",
        b"+FULLRESYNC " + ID + b" -1",
        b"+FULLRESYNC " + b"x" * 40 + b" 1",
        b"+CONTINUE",  # nothing was asked to be continued
        b"-LOADING Redis is loading the dataset in memory",
        b"-NOMASTERLINK Can't SYNC while not connected with my master",
    ],
)
def test_answers_that_end_the_attempt(line: bytes) -> None:
    handshake = Handshake(ABOUT)
    introduce(handshake)
    assert handshake.receive(line) == b""
    assert isinstance(handshake.outcome, Failure)
