"""Long random runs on large lists and hashes, with any structure that they have by then: replies
and data equal those of the real server.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

from tests.differential.pair import Argv, Pair, as_multiset, as_pairs, compare, plain
from tests.servers import Server

ROUNDS = 20
BATCH = 100
KEY = b"key"


def text(rng: random.Random) -> bytes:
    """An element: few that are often there, numbers of any length, texts of any length."""
    match rng.randrange(8):
        case 0 | 1 | 2:
            return b"%d" % rng.randrange(50)
        case 3:
            return b"%d" % rng.randrange(-(2 ** rng.randrange(1, 63)), 2 ** rng.randrange(1, 63))
        case 4 | 5:
            return rng.choice([b"", b"a", b"b", b"-", b"007", b"1.5"])
        case 6:
            return rng.randbytes(rng.randrange(1, 100))
        case _:
            return rng.randbytes(1) * rng.choice([63, 64, 127, 128, 4095, 4096, 9000])


def texts(rng: random.Random, most: int) -> list[bytes]:
    """Several elements, now and then very many."""
    return [text(rng) for _ in range(rng.choice([1, 1, 1, 2, 5, rng.randrange(1, most)]))]


def index(rng: random.Random, most: int = 3000) -> bytes:
    """An index near one of the ends, or anywhere."""
    return b"%d" % rng.choice(
        [rng.randrange(5), -1 - rng.randrange(5), rng.randrange(most), -rng.randrange(most)]
    )


def list_request(rng: random.Random) -> Argv:
    """A request to a list, which grows to some thousands and shrinks again."""
    end = rng.choice([b"LEFT", b"RIGHT"])
    count = b"%d" % rng.choice([1, 1, 2, 10, rng.randrange(1, 300)])
    makers: list[Callable[[], Argv]] = [
        lambda: [b"LPUSH", KEY, *texts(rng, 900)],
        lambda: [b"RPUSH", KEY, *texts(rng, 600)],
        lambda: [b"RPUSH", KEY, *texts(rng, 600)],
        lambda: [b"LPOP", KEY],
        lambda: [b"RPOP", KEY],
        lambda: [b"LPOP", KEY, count],
        lambda: [b"RPOP", KEY, count],
        lambda: [b"LMPOP", b"1", KEY, end, b"COUNT", count],
        lambda: [b"LLEN", KEY],
        lambda: [b"LINDEX", KEY, index(rng)],
        lambda: [b"LSET", KEY, index(rng), text(rng)],
        lambda: [b"LRANGE", KEY, b"%d" % (start := rng.randrange(3000)), b"%d" % (start + 50)],
        lambda: [b"LRANGE", KEY, index(rng), index(rng)] if rng.random() < 0.1 else [b"PING"],
        lambda: [b"LINSERT", KEY, rng.choice([b"BEFORE", b"AFTER"]), text(rng), text(rng)],
        lambda: [b"LREM", KEY, b"%d" % rng.choice([0, 1, -1, 3, -3]), text(rng)],
        lambda: [b"LMOVE", KEY, KEY, end, rng.choice([b"LEFT", b"RIGHT"])],
        lambda: [b"LPOS", KEY, text(rng), b"COUNT", b"%d" % rng.randrange(3)],
        lambda: [
            *(b"LPOS", KEY, text(rng), b"RANK", b"%d" % rng.choice([1, 2, -1, -3])),
            *(b"MAXLEN", b"%d" % rng.randrange(3000)),
        ],
        lambda: [b"LTRIM", KEY, b"%d" % rng.randrange(5), b"%d" % (-1 - rng.randrange(5))],
        lambda: [b"LTRIM", KEY, index(rng), index(rng)] if rng.random() < 0.02 else [b"PING"],
    ]
    return rng.choice(makers)()


def field(rng: random.Random) -> bytes:
    """A field out of some thousands."""
    return b"%d" % rng.choice([rng.randrange(20), rng.randrange(700), rng.randrange(5000)])


def hash_request(rng: random.Random) -> Argv:
    """A request to a hash, which grows to some thousands of fields and shrinks again."""
    several = rng.choice([1, 3, rng.randrange(1, 400)])
    makers: list[Callable[[], Argv]] = [
        lambda: [
            *(b"HSET", KEY),
            *(word for _ in range(several) for word in (field(rng), text(rng))),
        ],
        lambda: [b"HSET", KEY, field(rng), b"%d" % rng.randrange(100)],
        lambda: [b"HSETNX", KEY, field(rng), text(rng)],
        lambda: [b"HDEL", KEY, *(field(rng) for _ in range(several))],
        lambda: [b"HINCRBY", KEY, field(rng), b"%d" % rng.randrange(-1000, 1000)],
        lambda: [b"HINCRBYFLOAT", KEY, field(rng), b"%.5f" % rng.uniform(-10, 10)],
        lambda: [b"HGET", KEY, field(rng)],
        lambda: [b"HMGET", KEY, *(field(rng) for _ in range(several))],
        lambda: [b"HSTRLEN", KEY, field(rng)],
        lambda: [b"HEXISTS", KEY, field(rng)],
        lambda: [b"HLEN", KEY],
        lambda: [
            rng.choice([b"HKEYS", b"HVALS", b"HGETALL"] if rng.random() < 0.05 else [b"HLEN"]),
            KEY,
        ],
        lambda: [b"DEL", KEY] if rng.random() < 0.02 else [b"PING"],
    ]
    return rng.choice(makers)()


UNORDERED = {b"HKEYS": as_multiset, b"HVALS": as_multiset, b"HGETALL": as_pairs}


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
def pair(node: Server, oracle: Server, request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Connections to both, which are empty."""
    pair = Pair.connect(node, oracle, request.param)
    yield pair
    pair.close()


@pytest.mark.parametrize("make", [list_request, hash_request])
@pytest.mark.parametrize("seed", range(3))
def test_large(pair: Pair, make: Callable[[random.Random], Argv], seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(ROUNDS):
        requests = [make(rng) for _ in range(BATCH)]
        ours = pair.ours.pipeline(requests)
        theirs = pair.theirs.pipeline(requests)
        for argv, mine, real in zip(requests, ours, theirs, strict=True):
            if mine != real:
                pair.note(argv, mine, real)
                compare(pair, mine, real, UNORDERED.get(argv[0], plain))
        pair.compare_data()
