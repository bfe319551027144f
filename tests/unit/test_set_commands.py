"""Set commands: what chance must and must not do, what is logged, what 7.2 does as 7.0 does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from node.keyspace import EVENT_GENERIC, EVENT_SET
from tests.inprocess import LocalClient, LocalServer, follow_log, read_log
from tests.wire import Error, Reply, Set


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with LocalServer() as server:
        yield server


@pytest.fixture
def client(server: LocalServer) -> LocalClient:
    return server.connect()


def follow_events(server: LocalServer) -> list[tuple[bytes, bytes]]:
    """The list to which (event, key) will be added."""
    events: list[tuple[bytes, bytes]] = []
    server.keyspace.notify_flags = EVENT_SET | EVENT_GENERIC
    server.keyspace.notify = lambda _, event, key, db: events.append((event, key))
    return events


def fill(client: LocalClient, key: str, size: int, prefix: str = "m") -> set[bytes]:
    """Make a set of so many members and return them."""
    members = {f"{prefix}{i}".encode() for i in range(size)}
    assert client("SADD", key, *members) == size
    return members


def items(reply: Reply) -> list[bytes]:
    """The members in a reply."""
    found = reply.members if isinstance(reply, Set) else reply
    assert isinstance(found, list)
    return [member for member in found if isinstance(member, bytes)]


def encoding(client: LocalClient, key: str) -> Reply:
    return client("OBJECT", "ENCODING", key)


# --- SPOP ----------------------------------------------------------------------------------------


def test_pop_is_logged_as_removal(server: LocalServer, client: LocalClient) -> None:
    members = fill(client, "s", 2)
    log = follow_log(server)
    events = follow_events(server)
    first = client("SPOP", "s")
    assert first in members
    assert read_log(log) == [[b"SREM", b"s", first]]
    assert events == [(b"spop", b"s")]
    second = client("SPOP", "s")
    assert {first, second} == members
    assert read_log(log) == [[b"SREM", b"s", second]]
    assert events[1:] == [(b"spop", b"s"), (b"del", b"s")]
    assert client("EXISTS", "s") == 0
    client("SPOP", "s")
    client("SPOP", "s", 3)
    assert read_log(log) == []


# Few of many, and many of few: what stays is moved into a new set then.
@pytest.mark.parametrize(("size", "count"), [(10, 3), (10, 9), (3000, 1030), (3000, 2990)])
def test_pop_of_several(server: LocalServer, client: LocalClient, size: int, count: int) -> None:
    members = fill(client, "s", size)
    client("PEXPIRE", "s", 100_000)
    log = follow_log(server)
    events = follow_events(server)
    dirty = server.keyspace.dirty
    popped = items(client("SPOP", "s", count))
    assert len(set(popped)) == len(popped) == count
    assert set(popped) < members
    assert set(items(client("SMEMBERS", "s"))) == members - set(popped)
    assert client("PTTL", "s") == 100_000
    assert events == [(b"spop", b"s")]
    assert server.keyspace.dirty == dirty + count
    logged = read_log(log)
    if count > 1024:
        assert logged[0] == [b"MULTI"]
        assert logged[-1] == [b"EXEC"]
        logged = logged[1:-1]
    assert all(len(argv) <= 2 + 1024 for argv in logged)
    assert [argv[:2] for argv in logged] == [[b"SREM", b"s"]] * -(-count // 1024)
    assert sorted(member for argv in logged for member in argv[2:]) == sorted(popped)


@pytest.mark.parametrize(("lazy", "command"), [("no", b"DEL"), ("yes", b"UNLINK")])
def test_pop_of_all_is_logged_as_deletion(
    server: LocalServer, client: LocalClient, lazy: str, command: bytes
) -> None:
    client("CONFIG", "SET", "lazyfree-lazy-server-del", lazy)
    members = fill(client, "s", 200)
    log = follow_log(server)
    events = follow_events(server)
    assert set(items(client("SPOP", "s", 1000))) == members
    assert read_log(log) == [[command, b"s"]]
    assert events == [(b"spop", b"s"), (b"del", b"s")]


def test_pop_of_nearly_all_compacts_what_stays(client: LocalClient) -> None:
    fill(client, "s", 1000)
    assert encoding(client, "s") == b"hashtable"
    client("SPOP", "s", 990)
    assert encoding(client, "s") == b"listpack"
    fill(client, "n", 500, prefix="")
    client("SPOP", "n", 490)
    assert encoding(client, "n") == b"intset"
    # A few pops change nothing.
    fill(client, "t", 200)
    client("SPOP", "t", 100)
    assert encoding(client, "t") == b"hashtable"


@pytest.mark.parametrize("size", [8, 700])
def test_pops_are_uniform(client: LocalClient, size: int) -> None:
    counts: Counter[Reply] = Counter()
    fill(client, "s", size)
    rounds = 40 * size
    for _ in range(rounds):
        member = client("SPOP", "s")
        counts[member] += 1
        client("SADD", "s", member if isinstance(member, bytes) else b"")
    statistic = sum((count - 40) ** 2 for count in counts.values()) / 40
    assert len(counts) == size
    # The statistic has mean `size` and variance 2 * `size`; six deviations never happen.
    assert abs(statistic - size) < 6 * (2 * size) ** 0.5 + 10


@pytest.mark.parametrize("count", [1, 3, 7])
def test_draws_of_several_are_uniform(client: LocalClient, count: int) -> None:
    members = fill(client, "s", 10)
    counts: Counter[bytes] = Counter()
    for _ in range(2000):
        drawn = items(client("SRANDMEMBER", "s", count))
        assert len(set(drawn)) == count
        counts.update(drawn)
    mean = 2000 * count / 10
    deviation = (2000 * count / 10 * (1 - count / 10)) ** 0.5
    assert all(abs(counts[member] - mean) < 6 * deviation for member in members)


def test_draws_with_repetitions(client: LocalClient) -> None:
    members = fill(client, "s", 3)
    drawn = items(client("SRANDMEMBER", "s", -3000))
    assert len(drawn) == 3000
    counts = Counter(drawn)
    assert set(counts) == members
    assert all(abs(count - 1000) < 200 for count in counts.values())


@pytest.mark.parametrize("count", [-(2**24) - 1, -(2**63) + 1])
def test_absurd_numbers_of_repetitions_are_refused(client: LocalClient, count: int) -> None:
    fill(client, "s", 3)
    assert client("SRANDMEMBER", "s", count) == Error(b"ERR value is out of range")


# --- encodings of 7.2 ----------------------------------------------------------------------------


def test_listpacks(client: LocalClient) -> None:
    client("SADD", "s", "a", "1")
    assert encoding(client, "s") == b"listpack"
    fill(client, "s", 126, prefix="n")
    assert encoding(client, "s") == b"listpack"
    client("SADD", "s", "one more")
    assert encoding(client, "s") == b"hashtable"
    client("SADD", "long", "a", "b" * 65)
    assert encoding(client, "long") == b"hashtable"
    # By the number given, whatever repeats.
    client("SADD", "given", *["a"] * 129)
    assert encoding(client, "given") == b"hashtable"


def test_encodings_of_results(client: LocalClient) -> None:
    client("SADD", "mixed", "1", "2", "x")
    client("SADD", "numbers", "1", "2", "3")
    client("SINTERSTORE", "d", "mixed", "numbers")
    assert encoding(client, "d") == b"intset"
    client("SUNIONSTORE", "d", "mixed", "numbers")
    assert encoding(client, "d") == b"listpack"
    client("SDIFFSTORE", "d", "numbers", "mixed")
    assert encoding(client, "d") == b"intset"
    fill(client, "large", 1000)
    client("SUNIONSTORE", "d", "large", "numbers")
    assert encoding(client, "d") == b"hashtable"
    assert client("SCARD", "d") == 1003


def test_an_intset_is_in_order(client: LocalClient) -> None:
    client("SADD", "s", 10, 9, -1, 100)
    client("SADD", "t", 50, 9)
    assert client("SMEMBERS", "s") == [b"-1", b"9", b"10", b"100"]
    assert client("SUNION", "s", "t") == [b"-1", b"9", b"10", b"50", b"100"]
    assert client("SDIFF", "s", "t") == [b"-1", b"10", b"100"]
    assert client("SINTER", "s", "s") == [b"-1", b"9", b"10", b"100"]


# --- large sets ----------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(2000, 10), (10, 2000), (1500, 1500)])
def test_operations_on_large_sets(client: LocalClient, sizes: tuple[int, int]) -> None:
    first = fill(client, "a", sizes[0])
    second = {b"m%d" % (2 * i) for i in range(sizes[1])}
    client("SADD", "b", *second)
    assert set(items(client("SINTER", "a", "b"))) == first & second
    assert set(items(client("SDIFF", "a", "b"))) == first - second
    assert set(items(client("SDIFF", "b", "a", "none"))) == second - first
    assert set(items(client("SUNION", "a", "b"))) == first | second
    assert client("SDIFF", "a", "b", "a") == []
    assert client("SINTERCARD", 2, "a", "b") == len(first & second)
    assert client("SINTERCARD", 2, "a", "b", "LIMIT", 3) == 3
    # The destination may be a source.
    assert client("SDIFFSTORE", "a", "a", "b") == len(first - second)
    assert set(items(client("SMEMBERS", "a"))) == first - second
    assert client("SUNIONSTORE", "b", "a", "b") == len(first | second)
    assert set(items(client("SMEMBERS", "b"))) == first | second


def test_a_stored_result_replaces_all_that_was_there(
    server: LocalServer, client: LocalClient
) -> None:
    fill(client, "s", 3)
    client("SET", "d", "text", "EX", 100)
    events = follow_events(server)
    assert client("SUNIONSTORE", "d", "s", "none") == 3
    assert client("TTL", "d") == -1
    assert client("SDIFFSTORE", "d", "none", "s") == 0
    assert client("EXISTS", "d") == 0
    assert client("SINTERSTORE", "d", "s", "none") == 0
    assert events == [(b"sunionstore", b"d"), (b"del", b"d")]


def test_nothing_is_kept_for_a_log_that_nobody_reads(
    server: LocalServer, client: LocalClient
) -> None:
    client.session.propagate(b"SREM", b"key", b"member")
    client.session.propagate_nothing()
    assert client.session.effects is None
    assert not server.keyspace.pending
    follow_log(server)
    session = server.connect().session
    session.propagate(b"SREM", b"key", b"member")
    assert session.effects == [[b"SREM", b"key", b"member"]]


@pytest.mark.parametrize(
    "members", [["1", "2", "3"], ["a", "b", "c"], [f"m{i}" for i in range(200)]]
)
@pytest.mark.parametrize(
    "store",
    [
        "SUNIONSTORE copy set",
        "SINTERSTORE copy set set",
        "SDIFFSTORE copy set nothing",
        "COPY set copy",
        "ZUNIONSTORE copy 1 set",
    ],
)
def test_what_is_stored_shares_nothing_with_its_source(
    client: LocalClient, members: list[str], store: str
) -> None:
    client("SADD", "set", *members)
    client(*store.split())
    client("SREM", "set", members[0])
    client("SADD", "set", "another")
    if store.startswith("Z"):
        assert client("ZSCORE", "copy", members[0]) == b"1"
        assert client("ZCARD", "copy") == len(members)
    else:
        assert client("SMISMEMBER", "copy", members[0], "another") == [1, 0]
        assert client("SCARD", "copy") == len(members)


@pytest.mark.parametrize("store", ["ZUNIONSTORE copy 1 zset", "ZRANGESTORE copy zset 0 -1"])
@pytest.mark.parametrize("size", [3, 300])
def test_what_is_stored_shares_nothing_with_a_sorted_set(
    client: LocalClient, size: int, store: str
) -> None:
    for i in range(size):
        client("ZADD", "zset", i, f"m{i}")
    client(*store.split())
    client("ZREM", "zset", "m0")
    client("ZADD", "zset", 7.5, "m1")
    assert client("ZCARD", "copy") == size
    assert client("ZSCORE", "copy", "m1") == b"1"
