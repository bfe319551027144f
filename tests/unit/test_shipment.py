"""What MIGRATE sends and what it makes of the answers, without a connection."""

from __future__ import annotations

from collections.abc import Iterator

import hiredis
import pytest

from node.keyspace import Database
from node.persistence.payload import dump, load
from node.shipment import LARGE_SIZE, PORTION, Shipment, ShipmentError
from node.values.digest import value_digest
from tests.inprocess import LocalClient, LocalServer


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with LocalServer() as local:
        yield local


@pytest.fixture
def client(server: LocalServer) -> LocalClient:
    return server.connect()


@pytest.fixture
def db(server: LocalServer) -> Database:
    return server.keyspace.databases[0]


def ship(
    db: Database, *keys: bytes, credentials: tuple[bytes, ...] = (), replace: bool = False
) -> Shipment:
    return Shipment(db, list(keys), 0, credentials=list(credentials), replace=replace, asking=False)


def requests(shipment: Shipment) -> list[list[bytes]]:
    """All that is sent from here on."""
    reader = hiredis.Reader()
    while not shipment.sent:
        for piece in shipment.load():
            reader.feed(piece)
    found: list[list[bytes]] = []
    while (argv := reader.gets()) is not False:
        found.append(argv)
    return found


def test_what_is_sent(server: LocalServer, client: LocalClient, db: Database) -> None:
    client("SET", "a", "text")
    client("SET", "b", 5, "PX", 1500)
    client("RPUSH", "c", "x", "y")
    client("SET", "d", 1, "PX", 10)
    keys = (b"a", b"none", b"b", b"c", b"d")
    shipment = ship(db, *keys, credentials=(b"me", b"secret"))
    server.advance(0.5)
    db.set_deadline(b"c", server.keyspace.now)
    payloads = {key: dump(db.stored(key) or b"", False) for key in keys}
    assert requests(shipment) == [
        [b"AUTH", b"me", b"secret"],
        [b"SELECT", b"0"],
        [b"RESTORE", b"a", b"0", payloads[b"a"]],
        [b"RESTORE", b"b", b"1000", payloads[b"b"]],
        [b"RESTORE", b"c", b"1", payloads[b"c"]],
    ]
    asking = Shipment(db, [b"a"], 7, credentials=[], replace=True, asking=True)
    asking.begin(7)
    assert requests(asking) == [[b"RESTORE-ASKING", b"a", b"0", payloads[b"a"], b"REPLACE"]]


@pytest.mark.parametrize("kind", ["RPUSH", "SADD", "HSET", "ZADD", "SET"])
def test_a_large_value_is_serialized_bit_by_bit(
    client: LocalClient, db: Database, kind: str
) -> None:
    count = LARGE_SIZE * 20
    if kind == "SET":
        client("SET", "large", "x" * (PORTION * 3))
    else:
        client(kind, "large", *range(count))
    client("SET", "small", 1)
    value = db.stored(b"large")
    assert value is not None
    shipment = ship(db, b"small", b"large", b"small")
    shipment.begin(0)
    loads = 0
    reader = hiredis.Reader()
    while not shipment.sent:
        loads += 1
        for piece in shipment.load():
            reader.feed(piece)
    first, second, third = (reader.gets() for _ in range(3))
    assert first == third == [b"RESTORE", b"small", b"0", dump(b"1", False)]
    arrived = load(second[3], db.keyspace.limits)
    assert value_digest(arrived) == value_digest(value)
    assert loads >= (4 if kind != "SET" else 2)


def test_a_large_value_that_goes_meanwhile(client: LocalClient, db: Database) -> None:
    client("SADD", "large", *range(LARGE_SIZE * 20))
    client("SET", "small", 1)
    shipment = ship(db, b"large", b"small")
    shipment.begin(0)
    assert [shipment.load() for _ in range(3)] == [[], [], []]
    client("DEL", "large")
    while not db.keyspace.trash.drain(100):
        pass
    assert [argv[1] for argv in requests(shipment)] == [b"small"]
    shipment.receive(b"+OK\r\n")
    assert shipment.complete
    assert [sent.key for sent in shipment.moved] == [b"small"]


@pytest.mark.parametrize(
    ("answer", "error", "moved"),
    [
        (b"+OK\r\n+OK\r\n+OK\r\n+OK\r\n", None, [b"a", b"b"]),
        (b"-NO auth\r\n+OK\r\n+OK\r\n+OK\r\n", b"NO auth", []),
        (b"+OK\r\n-NO select\r\n-NO key\r\n+OK\r\n", b"NO select", []),
        (b"+OK\r\n+OK\r\n-NO key\r\n+OK\r\n", b"NO key", [b"b"]),
        (b"+OK\r\n+OK\r\n-NO one\r\n-NO other\r\n", b"NO one", []),
    ],
)
@pytest.mark.parametrize("step", [1, 7, 100])
def test_answers(
    client: LocalClient,
    db: Database,
    answer: bytes,
    error: bytes | None,
    moved: list[bytes],
    step: int,
) -> None:
    client("MSET", "a", 1, "b", 2)
    shipment = ship(db, b"a", b"b", credentials=(b"secret",))
    assert len(requests(shipment)) == 4
    for at in range(0, len(answer), step):
        assert not shipment.complete
        shipment.receive(answer[at : at + step])
    assert shipment.complete
    assert shipment.error == error
    assert [sent.key for sent in shipment.moved] == moved
    assert shipment.in_flight == 0
    with pytest.raises(ShipmentError):
        shipment.receive(b"+OK\r\n")
    # On another connection it begins anew.
    shipment.begin(0)
    assert not shipment.answered
    assert len(requests(shipment)) == 3


def test_an_answer_without_an_end(client: LocalClient, db: Database) -> None:
    client("SET", "a", 1)
    shipment = ship(db, b"a")
    shipment.load()
    with pytest.raises(ShipmentError):
        shipment.receive(b"+" + b"x" * 70_000)
