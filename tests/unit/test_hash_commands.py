"""Hash commands: chance, iteration, shapes, and what the books say of memory."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import pytest

from node.key_table import ENTRY_MEMORY
from tests.differential.test_large import hash_request
from tests.inprocess import LocalClient, LocalServer, follow_log, read_log
from tests.wire import OK, Error, Map, Reply


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with LocalServer() as server:
        yield server


@pytest.fixture
def client(server: LocalServer) -> LocalClient:
    return server.connect()


def fill(client: LocalClient, key: str, size: int) -> dict[bytes, bytes]:
    """Make a hash of so many fields and return them."""
    fields = {b"f%d" % i: b"v%d" % i for i in range(size)}
    pairs = [word for pair in fields.items() for word in pair]
    assert client("HSET", key, *pairs) == size
    return fields


def texts(reply: Reply) -> list[bytes]:
    """The strings of an array."""
    assert isinstance(reply, list)
    found = [item for item in reply if isinstance(item, bytes)]
    assert len(found) == len(reply)
    return found


# --- encodings -----------------------------------------------------------------------------------


def test_many_fields_at_once_are_no_listpack_even_if_they_repeat(client: LocalClient) -> None:
    # Since 7.2 their number decides before they are looked at.
    client("CONFIG", "SET", "hash-max-listpack-entries", 4)
    assert client("HSET", "h", *(["f", "v"] * 4)) == 1
    assert client("OBJECT", "ENCODING", "h") == b"listpack"
    assert client("HSET", "h", *(["f", "v"] * 5)) == 0
    assert client("OBJECT", "ENCODING", "h") == b"hashtable"
    assert client("HMSET", "other", *(["f", "v"] * 5)) == OK
    assert client("OBJECT", "ENCODING", "other") == b"hashtable"


@pytest.mark.parametrize("request_", [("HSET", "h", "f" * 65, "v"), ("HSETNX", "h", "f", "v" * 65)])
def test_long_texts_are_no_listpack(client: LocalClient, request_: tuple[str, ...]) -> None:
    client("HSET", "h", "a" * 64, "b" * 64)
    assert client("OBJECT", "ENCODING", "h") == b"listpack"
    client(*request_)
    assert client("OBJECT", "ENCODING", "h") == b"hashtable"
    client("DEL", "h")


# --- HRANDFIELD ----------------------------------------------------------------------------------


def test_shapes_of_draws(server: LocalServer) -> None:
    resp2, resp3 = server.connect(2), server.connect(3)
    resp2("HSET", "h", "a", "1")
    assert resp2("HRANDFIELD", "h") == b"a"
    assert resp3("HRANDFIELD", "h", 1) == [b"a"]
    assert resp2("HRANDFIELD", "h", 5, "WITHVALUES") == [b"a", b"1"]
    assert resp3("HRANDFIELD", "h", 5, "WITHVALUES") == [[b"a", b"1"]]
    assert resp2("HRANDFIELD", "h", -2, "withvalues") == [b"a", b"1", b"a", b"1"]
    assert resp3("HRANDFIELD", "h", -2, "withvalues") == [[b"a", b"1"], [b"a", b"1"]]
    assert resp3("HRANDFIELD", "h", 0, "WITHVALUES") == []
    assert resp3("HRANDFIELD", "missing", 3) == []
    assert resp3("HGETALL", "missing") == Map([])
    assert resp3("HGETALL", "h") == Map([(b"a", b"1")])


@pytest.mark.parametrize("size", [7, 700])
def test_draws_without_repetition(client: LocalClient, size: int) -> None:
    fields = fill(client, "h", size)
    for count in (1, 2, 5, size - 1, size, size + 1, 9223372036854775807):
        drawn = texts(client("HRANDFIELD", "h", count))
        assert len(set(drawn)) == len(drawn) == min(count, size)
        assert fields.keys() >= set(drawn)
    drawn = texts(client("HRANDFIELD", "h", size - 2, "WITHVALUES"))
    assert len(drawn) == 2 * (size - 2)
    assert all(fields[field] == value for field, value in zip(drawn[::2], drawn[1::2], strict=True))


@pytest.mark.parametrize("size", [7, 700])
def test_draws_with_repetition(client: LocalClient, size: int) -> None:
    fields = fill(client, "h", size)
    drawn = texts(client("HRANDFIELD", "h", -3 * size, "WITHVALUES"))
    assert len(drawn) == 6 * size
    assert all(fields[field] == value for field, value in zip(drawn[::2], drawn[1::2], strict=True))


@pytest.mark.parametrize("size", [10, 1000])
@pytest.mark.parametrize("count", [None, 1, 3, -4])
def test_draws_are_uniform(client: LocalClient, size: int, count: int | None) -> None:
    fill(client, "h", size)
    drawn: Counter[bytes] = Counter()
    while drawn.total() < 40 * size:
        if count is None:
            reply = client("HRANDFIELD", "h")
            assert isinstance(reply, bytes)
            drawn[reply] += 1
        else:
            drawn.update(texts(client("HRANDFIELD", "h", count)))
    expected = drawn.total() / size
    chi_squared = sum((drawn[b"f%d" % i] - expected) ** 2 / expected for i in range(size))
    # Mean size - 1 and variance 2 * (size - 1), were it only chance.
    assert chi_squared < size - 1 + 5 * (2 * (size - 1)) ** 0.5


def test_absurd_draws(client: LocalClient) -> None:
    fill(client, "h", 3)
    bounds = (
        b"ERR value is out of range, value must between -9223372036854775807 "
        b"and 9223372036854775807"
    )
    assert client("HRANDFIELD", "h", "-9223372036854775808") == Error(bounds)
    out_of_range = Error(b"ERR value is out of range")
    assert client("HRANDFIELD", "h", 2**62, "WITHVALUES") == out_of_range
    assert client("HRANDFIELD", "h", -(2**62)) == out_of_range


# --- HSCAN ---------------------------------------------------------------------------------------


def scan(client: LocalClient, cursor: bytes, *options: str | int) -> tuple[bytes, list[bytes]]:
    """One step: the next cursor, and fields with their values between them."""
    reply = client("HSCAN", "h", cursor, *options)
    assert isinstance(reply, list)
    following, found = reply
    assert isinstance(following, bytes)
    return following, texts(found)


def test_a_compact_hash_comes_whole(client: LocalClient) -> None:
    fields = fill(client, "h", 100)
    cursor, found = scan(client, b"0", "COUNT", 1)
    assert cursor == b"0"
    assert dict(zip(found[::2], found[1::2], strict=True)) == fields


@pytest.mark.parametrize("size", [530, 5000])
def test_steps_are_about_as_large_as_asked(client: LocalClient, size: int) -> None:
    fields = fill(client, "h", size)
    cursor = b"0"
    seen: dict[bytes, bytes] = {}
    steps = 0
    while True:
        cursor, found = scan(client, cursor, "COUNT", 10)
        assert len(found) // 2 <= 20
        seen.update(zip(found[::2], found[1::2], strict=True))
        steps += 1
        if cursor == b"0":
            break
    assert seen == fields
    assert steps <= size // 5


@pytest.mark.parametrize("grow", [True, False])
def test_what_is_there_throughout_is_returned(client: LocalClient, grow: bool) -> None:
    stays = fill(client, "h", 600).keys()
    rng = random.Random(5)
    if not grow:
        client("HSET", "h", *(word for i in range(20_000) for word in (f"x{i}", "")))
    extra = list(range(20_000))
    rng.shuffle(extra)
    cursor = b"0"
    seen: set[bytes] = set()
    while True:
        cursor, found = scan(client, cursor, "COUNT", rng.choice([1, 5, 50]))
        seen.update(found[::2])
        if cursor == b"0":
            break
        changed = [f"x{extra.pop()}" for _ in range(min(300, len(extra)))]
        if changed and grow:
            client("HSET", "h", *(word for field in changed for word in (field, "")))
        elif changed:
            client("HDEL", "h", *changed)
    assert seen >= stays


def test_match_looks_at_fields(client: LocalClient) -> None:
    fill(client, "h", 1000)
    cursor = b"0"
    seen: list[bytes] = []
    while True:
        cursor, found = scan(client, cursor, "MATCH", "f99?", "COUNT", 100)
        seen += found
        if cursor == b"0":
            break
    assert dict(zip(seen[::2], seen[1::2], strict=True)) == {
        b"f99%d" % i: b"v99%d" % i for i in range(10)
    }


# --- what is left behind -------------------------------------------------------------------------


def test_sums_are_logged_as_what_they_came_to(server: LocalServer, client: LocalClient) -> None:
    log = follow_log(server)
    assert client("HINCRBYFLOAT", "h", "f", "0.1") == b"0.1"
    assert client("HINCRBYFLOAT", "h", "f", "0.2") == b"0.3"
    assert client("HINCRBYFLOAT", "h", "f", "5.0e3") == b"5000.29999999999999982"
    assert client("HINCRBY", "h", "n", "7") == 7
    assert read_log(log) == [
        [b"HSET", b"h", b"f", b"0.1"],
        [b"HSET", b"h", b"f", b"0.3"],
        [b"HSET", b"h", b"f", b"5000.29999999999999982"],
        [b"HINCRBY", b"h", b"n", b"7"],
    ]


def test_failed_sums_change_nothing(server: LocalServer, client: LocalClient) -> None:
    client("HSET", "h", "text", "x", "large", "9223372036854775807", "huge", "1e4932")
    log = follow_log(server)
    dirty = server.keyspace.dirty
    for request, error in (
        (("HINCRBY", "h", "text", "1"), b"ERR hash value is not an integer"),
        (("HINCRBY", "h", "large", "1"), b"ERR increment or decrement would overflow"),
        (("HINCRBY", "h", "new", "x"), b"ERR value is not an integer or out of range"),
        (("HINCRBYFLOAT", "h", "text", "1"), b"ERR hash value is not a float"),
        (("HINCRBYFLOAT", "h", "new", "x"), b"ERR value is not a valid float"),
        (("HINCRBYFLOAT", "h", "new", "inf"), b"ERR value is NaN or Infinity"),
        (("HINCRBYFLOAT", "missing", "new", "-inf"), b"ERR value is NaN or Infinity"),
        (("HINCRBYFLOAT", "h", "huge", "1e4932"), b"ERR increment would produce NaN or Infinity"),
    ):
        assert client(*request) == Error(error)
    assert client("HLEN", "h") == 3
    assert client("EXISTS", "missing") == 0
    assert server.keyspace.dirty == dirty
    assert read_log(log) == []


@pytest.mark.parametrize("seed", range(5))
def test_memory_is_accounted_to_the_byte(
    server: LocalServer, client: LocalClient, seed: int
) -> None:
    rng = random.Random(seed)
    db = server.keyspace.databases[0]
    for _ in range(1000):
        client(*hash_request(rng))
        value = db.peek(b"key")
        expected = 0
        if value is not None:
            assert not isinstance(value, bytes | bytearray)
            expected = ((len(b"key") + 48) & ~15) + ENTRY_MEMORY + value.memory + db.table.room
            assert len(value)
        assert db.memory == expected
