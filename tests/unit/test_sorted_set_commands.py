"""Sorted set commands: what 7.2 does as 7.0 does not, large values, waiting, what is logged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from random import Random

import pytest

from tests.inprocess import LocalClient, LocalServer, follow_log, read_log
from tests.wire import NULL, NULL_ARRAY, NULL_BULK, OK, Double, Error, Reply

WRONG_TYPE = Error(b"WRONGTYPE Operation against a key holding the wrong kind of value")


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with LocalServer() as server:
        yield server


@pytest.fixture
def client(server: LocalServer) -> LocalClient:
    return server.connect()


@pytest.fixture
def client3(server: LocalServer) -> LocalClient:
    """One that speaks RESP3."""
    return server.connect(3)


def fill(client: LocalClient, key: str, size: int) -> list[bytes]:
    """Make a sorted set of so many members with scores from 0 on, and return them in order."""
    members = [f"m{i:05}".encode() for i in range(size)]
    pairs = [word for i, member in enumerate(members) for word in (i, member)]
    assert client("ZADD", key, *pairs) == size
    return members


def wait(server: LocalServer, *arguments: str | int | float, protocol: int = 2) -> LocalClient:
    """A new client that waits in a command."""
    client = server.connect(protocol)
    client.send(*arguments)
    assert client.session.blocked is not None
    assert not client.has_input()
    return client


# --- 7.2 -----------------------------------------------------------------------------------------


def test_rank_with_score(client: LocalClient, client3: LocalClient) -> None:
    client("ZADD", "z", 1, "a", 2.5, "b", 4, "c")
    assert client("ZRANK", "z", "b", "WITHSCORE") == [1, b"2.5"]
    assert client("ZREVRANK", "z", "c", "withscore") == [0, b"4"]
    assert client3("ZRANK", "z", "b", "WITHSCORE") == [1, Double(b"2.5")]
    for command in ("ZRANK", "ZREVRANK"):
        assert client(command, "z", "x") == NULL_BULK
        assert client(command, "none", "a") == NULL_BULK
        assert client(command, "z", "x", "WITHSCORE") == NULL_ARRAY
        assert client(command, "none", "a", "WITHSCORE") == NULL_ARRAY
        assert client3(command, "z", "x", "WITHSCORE") == NULL
        assert client(command, "z", "a", "WITHSCORES") == Error(b"ERR syntax error")
        assert client(command, "z", "a", "WITHSCORE", "x") == Error(
            b"ERR wrong number of arguments for '%b' command" % command.lower().encode()
        )
    client("SET", "s", "x")
    assert client("ZRANK", "s", "a", "WITHSCORE") == WRONG_TYPE


@pytest.mark.parametrize(
    ("given", "printed"),
    [
        ("3.141592653589793", b"3.141592653589793"),
        ("0.1", b"0.1"),
        ("1e20", b"1e+20"),
        ("123456789012345678", b"123456789012345680"),
        ("-0.5e-10", b"-5e-11"),
        ("inf", b"inf"),
        ("-infinity", b"-inf"),
        ("0x10", b"16"),
    ],
)
def test_scores_are_printed_short(
    client: LocalClient, client3: LocalClient, given: str, printed: bytes
) -> None:
    client("ZADD", "z", given, "a")
    assert client("ZSCORE", "z", "a") == printed
    assert client3("ZSCORE", "z", "a") == Double(printed)
    assert client("ZRANGE", "z", 0, -1, "WITHSCORES") == [b"a", printed]
    assert client3("ZRANGE", "z", 0, -1, "WITHSCORES") == [[b"a", Double(printed)]]
    # A scan tells scores as texts, whatever the protocol.
    assert client3("ZSCAN", "z", 0) == [b"0", [b"a", printed]]


def test_encoding_by_the_number_given(client: LocalClient) -> None:
    client("ZADD", "z", *["1", "a"] * 129)
    assert client("ZCARD", "z") == 1
    assert client("OBJECT", "ENCODING", "z") == b"skiplist"
    client("ZADD", "y", 1, "a")
    assert client("OBJECT", "ENCODING", "y") == b"listpack"
    client("ZADD", "y", "XX", *["1", "a"] * 129)
    assert client("OBJECT", "ENCODING", "y") == b"skiplist"


# --- shapes --------------------------------------------------------------------------------------


def test_shapes_of_popping(client: LocalClient, client3: LocalClient) -> None:
    fill(client, "z", 12)
    assert client("ZPOPMIN", "z") == [b"m00000", b"0"]
    assert client3("ZPOPMIN", "z") == [b"m00001", Double(b"1")]
    assert client("ZPOPMAX", "z", 2) == [b"m00011", b"11", b"m00010", b"10"]
    assert client3("ZPOPMAX", "z", 1) == [[b"m00009", Double(b"9")]]
    assert client("ZMPOP", 1, "z", "MIN") == [b"z", [[b"m00002", b"2"]]]
    assert client3("BZPOPMIN", "z", 0) == [b"z", b"m00003", Double(b"3")]
    assert client("BZMPOP", 0, 2, "y", "z", "MAX", "COUNT", 2) == [
        b"z",
        [[b"m00008", b"8"], [b"m00007", b"7"]],
    ]
    assert client("ZPOPMIN", "z", 0) == []
    assert client("ZPOPMIN", "none") == []
    assert client("ZMPOP", 1, "none", "MIN") == NULL_ARRAY


def test_draws(client: LocalClient, client3: LocalClient) -> None:
    members = fill(client, "z", 8)
    assert client("ZRANDMEMBER", "z") in members
    flat = client("ZRANDMEMBER", "z", 3, "WITHSCORES")
    assert isinstance(flat, list)
    assert len(set(map(repr, flat))) == 6
    pairs = client3("ZRANDMEMBER", "z", -20, "WITHSCORES")
    assert isinstance(pairs, list)
    assert len(pairs) == 20
    assert all(
        pair == [members[i], Double(b"%d" % i)]
        for pair in pairs
        if isinstance(pair, list) and isinstance(pair[0], bytes)
        for i in [int(pair[0][1:])]
    )
    assert client("ZRANDMEMBER", "z", -(2**24) - 1) == Error(b"ERR value is out of range")
    counts: Counter[Reply] = Counter()
    for _ in range(4000):
        counts[client("ZRANDMEMBER", "z")] += 1
    assert all(abs(counts[member] - 500) < 130 for member in members)


# --- ranges of large sorted sets -----------------------------------------------------------------


@pytest.mark.parametrize("size", [5, 100, 700, 3000])
@pytest.mark.parametrize("seed", range(3))
def test_ranges_against_a_model(
    server: LocalServer, client: LocalClient, size: int, seed: int
) -> None:
    rng = Random(seed)
    scores = {
        b"%d" % rng.randrange(10**6): float(rng.randrange(size // 2 + 1)) for _ in range(size)
    }
    model = sorted((score, member) for member, score in scores.items())
    client("ZADD", "z", *[word for score, member in model for word in (score, member)])

    def check(expected: list[tuple[float, bytes]], *arguments: str | int | float) -> None:
        found = client("ZRANGE", "z", *arguments)
        assert found == [member for _, member in expected], arguments

    for _ in range(60):
        first, last = rng.randrange(-size - 3, size + 3), rng.randrange(-size - 3, size + 3)
        start = max(0, first + len(model) if first < 0 else first)
        stop = (last + len(model) if last < 0 else last) + 1
        check(model[start : max(0, stop)], first, last)
        backwards = model[::-1]
        check(backwards[start : max(0, stop)], first, last, "REV")
        low, high = sorted((rng.randrange(-1, size // 2 + 2), rng.randrange(-1, size // 2 + 2)))
        offset, count = rng.randrange(0, 9), rng.randrange(-1, 9)
        end = None if count < 0 else offset + count
        inside = [entry for entry in model if low <= entry[0] < high]
        check(inside, low, f"({high}", "BYSCORE")
        check(inside[offset:end], low, f"({high}", "BYSCORE", "LIMIT", offset, count)
        check(inside[::-1][offset:end], f"({high}", low, "BYSCORE", "REV", "LIMIT", offset, count)
        assert client("ZCOUNT", "z", low, f"({high}") == len(inside)
        member = rng.choice(model)[1]
        rank = next(i for i, entry in enumerate(model) if entry[1] == member)
        assert client("ZRANK", "z", member) == rank
        assert client("ZREVRANK", "z", member) == len(model) - 1 - rank


def test_ranges_of_members(client: LocalClient) -> None:
    names = [b"%03d" % i for i in range(600)]
    client("ZADD", "z", *[word for name in names for word in (0, name)])
    assert client("ZRANGEBYLEX", "z", "[100", "(103") == names[100:103]
    assert client("ZREVRANGEBYLEX", "z", "(103", "-", "LIMIT", 1, 2) == [b"101", b"100"]
    assert client("ZLEXCOUNT", "z", "-", "+") == 600
    assert client("ZLEXCOUNT", "z", "+", "-") == 0
    assert client("ZRANGE", "z", "+", "[598", "BYLEX", "REV") == [b"599", b"598"]
    assert client("ZREMRANGEBYLEX", "z", "(000", "(599") == 598
    assert client("ZRANGE", "z", 0, -1) == [b"000", b"599"]


def test_removal_of_ranges(client: LocalClient) -> None:
    members = fill(client, "z", 2000)
    assert client("ZREMRANGEBYRANK", "z", 10, 1009) == 1000
    assert client("ZREMRANGEBYSCORE", "z", "(1500", "+inf") == 499
    left = members[:10] + members[1010:1501]
    assert client("ZRANGE", "z", 0, -1) == left
    assert client("ZREMRANGEBYRANK", "z", 0, -1) == len(left)
    assert client("EXISTS", "z") == 0


# --- operations ----------------------------------------------------------------------------------


def test_operations_on_large_sorted_sets(client: LocalClient) -> None:
    first = fill(client, "a", 1500)
    second = [*first[500:700], b"x", b"y"]
    client("ZADD", "b", *[word for member in second for word in (0.5, member)])
    client("SADD", "s", *first[:600], "x")
    assert client("ZUNIONSTORE", "d", 3, "a", "b", "s", "WEIGHTS", 1, 2, 10) == 1502
    assert client("ZSCORE", "d", first[550]) == b"561"
    assert client("ZSCORE", "d", first[1000]) == b"1000"
    assert client("ZSCORE", "d", "x") == b"11"
    assert client("ZINTER", 3, "a", "b", "s", "AGGREGATE", "MIN", "WITHSCORES") == [
        part for member in first[500:600] for part in (member, b"0.5")
    ]
    assert client("ZINTERCARD", 2, "a", "b") == 200
    assert client("ZINTERCARD", 2, "a", "b", "LIMIT", 7) == 7
    assert client("ZDIFF", 2, "a", "b") == first[:500] + first[700:]
    assert client("ZDIFF", 2, "b", "a", "WITHSCORES") == [b"x", b"0.5", b"y", b"0.5"]
    assert client("ZDIFF", 3, "a", "b", "a") == []
    # The destination may be a source.
    assert client("ZDIFFSTORE", "a", 2, "a", "s") == 900
    assert client("ZRANGE", "a", 0, -1) == first[600:]


def test_sums_that_are_no_numbers_are_zero(client: LocalClient) -> None:
    client("ZADD", "a", "inf", "x", 0, "y")
    client("ZADD", "b", "-inf", "x", 1, "y")
    assert client("ZUNION", 2, "a", "b", "WITHSCORES") == [b"x", b"0", b"y", b"1"]
    assert client("ZINTER", 1, "a", "WEIGHTS", "inf", "WITHSCORES") == [b"y", b"0", b"x", b"inf"]
    assert client("ZINCRBY", "a", "-inf", "x") == Error(
        b"ERR resulting score is not a number (NaN)"
    )


def test_a_missing_key_does_not_excuse_another_of_a_wrong_type(client: LocalClient) -> None:
    client("SET", "s", "x")
    assert client("ZINTER", 2, "none", "s") == WRONG_TYPE
    assert client("ZINTER", 2, "none", "s", "NONSENSE") == WRONG_TYPE
    assert client("ZDIFFSTORE", "d", 1, "none", "NONSENSE") == Error(b"ERR syntax error")
    assert client("ZUNION", 0, "s") == Error(
        b"ERR at least 1 input key is needed for 'zunion' command"
    )


# --- waiting -------------------------------------------------------------------------------------


def test_oldest_first_and_logged_as_pops(server: LocalServer, client: LocalClient) -> None:
    log = follow_log(server)
    clients = [
        wait(server, "BZPOPMAX", "k", 0),
        wait(server, "BZMPOP", 0, 2, "j", "k", "MIN", "COUNT", 2, protocol=3),
        wait(server, "BZPOPMIN", "k", 0),
        wait(server, "BZPOPMIN", "j", "k", 0),
    ]
    assert client("ZADD", "k", 1, "a", 2, "b", 3, "c", 4, "d") == 4
    assert clients[0].read() == [b"k", b"d", b"4"]
    assert clients[1].read() == [b"k", [[b"a", Double(b"1")], [b"b", Double(b"2")]]]
    assert clients[2].read() == [b"k", b"c", b"3"]
    assert clients[3].session.blocked is not None
    assert read_log(log) == [
        [b"ZADD", b"k", b"1", b"a", b"2", b"b", b"3", b"c", b"4", b"d"],
        [b"ZPOPMAX", b"k"],
        [b"ZPOPMIN", b"k", b"2"],
        [b"ZPOPMIN", b"k"],
    ]
    assert client("EXISTS", "k") == 0


@pytest.mark.parametrize(
    "request_",
    [
        "ZINCRBY k 1 a",
        "ZUNIONSTORE k 1 source",
        "ZINTERSTORE k 2 source source AGGREGATE MAX",
        "ZDIFFSTORE k 1 source",
        "ZRANGESTORE k source 0 -1",
        "ZADD k INCR 1 a",
    ],
)
def test_whatever_makes_a_sorted_set_ends_the_wait(
    server: LocalServer, client: LocalClient, request_: str
) -> None:
    client("ZADD", "source", 1, "a")
    waiting = wait(server, "BZPOPMIN", "k", 0)
    client(*request_.split())
    assert waiting.read() == [b"k", b"a", b"1"]
    assert client("EXISTS", "k") == 0


def test_time_is_up(server: LocalServer, client: LocalClient) -> None:
    first = wait(server, "BZPOPMIN", "k", 0.5)
    second = wait(server, "BZMPOP", 2, 1, "k", "MAX", protocol=3)
    server.advance(0.4)
    assert not first.has_input()
    server.advance(0.2)
    assert first.read() == NULL_ARRAY
    server.advance(2)
    assert second.read() == NULL
    client("ZADD", "k", 1, "a")
    assert client("ZCARD", "k") == 1


def test_no_waiting_in_a_transaction(client: LocalClient) -> None:
    client("MULTI")
    client("BZPOPMIN", "k", 0)
    client("BZMPOP", 0, 1, "k", "MIN")
    client("ZADD", "k", 1, "a")
    client("BZPOPMAX", "k", 0)
    assert client("EXEC") == [NULL_ARRAY, NULL_ARRAY, 1, [b"k", b"a", b"1"]]


def test_a_transaction_that_takes_it_away_again(server: LocalServer, client: LocalClient) -> None:
    waiting = wait(server, "BZPOPMIN", "k", 0)
    assert client("MULTI") == OK
    client("ZADD", "k", 1, "a")
    client("ZREM", "k", "a")
    client("EXEC")
    assert not waiting.has_input()
    client("ZADD", "k", 1, "a", 2, "b")
    assert waiting.read() == [b"k", b"a", b"1"]
    assert client("ZCARD", "k") == 1
