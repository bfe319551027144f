"""The account of memory against the growth of the process, on mixes of what people store."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final

import pytest

from tests.conftest import StartServer
from tests.wire import Client

# The account may be off by so much of the growth.
TOLERANCE: Final = 0.15

Requests = Iterator[list[bytes]]


def strings(count: int, least: int, most: int, seed: int = 1) -> Requests:
    """Small ones with keys of 16 bytes, a third of them with an expiry."""
    rng = random.Random(seed)
    for n in range(count):
        value = b"%0*d" % (rng.randint(least, most), n)
        options = [b"EX", b"%d" % rng.randint(1000, 10**6)] if n % 3 == 0 else []
        yield [b"SET", b"key:%012d" % n, value, *options]


def overwritten() -> Requests:
    """Each value gives way to a longer or shorter one."""
    yield from strings(120_000, 3, 40)
    yield from strings(120_000, 3, 80, seed=2)


def refilled() -> Requests:
    """Keys come and go: half of them are deleted, and as many others stored, again and again."""
    rng = random.Random(3)
    there = list(range(150_000))
    for n in there:
        yield [b"SET", b"key:%012d" % n, b"%d" % n]
    for first in range(1, 6):
        rng.shuffle(there)
        for at in range(len(there) // 2):
            yield [b"DEL", b"key:%012d" % there[at]]
            there[at] = first * 150_000 + at
            if at % 2:
                yield [b"SET", b"key:%012d" % there[at - 1], b"%d" % at]
                yield [b"SET", b"key:%012d" % there[at], b"%d" % at]


def appended() -> Requests:
    """Strings that are changed in place."""
    for n in range(60_000):
        yield [b"SET", b"key:%d" % n, b"x" * (n % 100)]
        yield [b"APPEND", b"key:%d" % n, b"y" * (n % 50 + 1)]


def words(first: int, count: int, prefix: bytes) -> list[bytes]:
    return [b"%b:%d" % (prefix, n) for n in range(first, first + count)]


def small_collections() -> Requests:
    """What makes up a shop: profiles, carts, tags, boards, logs."""
    for n in range(8_000):
        yield [b"HSET", b"profile:%d" % n, *words(n, 10, b"field")]
        yield [b"SADD", b"tags:%d" % n, *words(n, 4, b"tag")]
        yield [b"RPUSH", b"log:%d" % n, *words(n, 6, b"an entry of some length")]
        scored = [word for m in range(5) for word in (b"%d.5" % m, b"player:%d" % (n + m))]
        yield [b"ZADD", b"board:%d" % n, *scored]


def tiny_collections() -> Requests:
    """One element each: the overhead of the collections themselves."""
    for n in range(20_000):
        yield [b"HSET", b"hash:%d" % n, b"f", b"%d" % n]
        yield [b"SADD", b"set:%d" % n, b"%d" % n]
        yield [b"RPUSH", b"list:%d" % n, b"%d" % n]
        yield [b"ZADD", b"zset:%d" % n, b"%d" % n, b"m"]


def large_collections() -> Requests:
    """One of each type, with a hundred thousand elements and more."""
    for n in range(0, 150_000, 50):
        yield [b"HSET", b"hash", *words(n, 100, b"field")]
        yield [b"SADD", b"set", *words(n, 50, b"member")]
        yield [b"RPUSH", b"list", *words(n, 100, b"item")]
        scored = [
            word for m in range(n, n + 50) for word in (b"%d" % (m * 7919 % 10007), b"%d" % m)
        ]
        yield [b"ZADD", b"zset", *scored]


def passing_members() -> Requests:
    """Members and fields come and go, in large sets and hashes and in many small ones."""
    rng = random.Random(4)
    large = [b"large:%d" % n for n in range(60_000)]
    small = [[b"small:%d:%d" % (n, m) for m in range(30)] for n in range(2_000)]
    for at in range(0, len(large), 50):
        yield [b"SADD", b"set", *large[at : at + 50]]
        yield [
            b"HSET",
            b"hash",
            *[word for name in large[at : at + 50] for word in (name, b"first")],
        ]
    for n, names in enumerate(small):
        yield [b"SADD", b"set:%d" % n, *names]
        yield [b"HSET", b"hash:%d" % n, *[word for name in names for word in (name, b"first")]]
    for turn in range(3):
        for at in range(0, len(large), 20):
            places = [rng.randrange(len(large)) for _ in range(20)]
            yield [b"SREM", b"set", *[large[place] for place in places]]
            yield [b"HDEL", b"hash", *[large[place] for place in places]]
            for offset, place in enumerate(places):
                large[place] = b"later:%d" % (turn * len(large) + at + offset)
                yield [b"SADD", b"set", large[place]]
                yield [b"HSET", b"hash", large[place], b"later"]
        for n, names in enumerate(small):
            places = [rng.randrange(len(names)) for _ in range(15)]
            yield [b"SREM", b"set:%d" % n, *[names[place] for place in places]]
            yield [b"HDEL", b"hash:%d" % n, *[names[place] for place in places]]
            for offset, place in enumerate(places):
                names[place] = b"later:%d:%d" % (turn, offset)
            new = [names[place] for place in places]
            yield [b"SADD", b"set:%d" % n, *new]
            yield [b"HSET", b"hash:%d" % n, *[word for name in new for word in (name, b"later")]]


MIXES: Final[dict[str, Callable[[], Requests]]] = {
    "small strings": lambda: strings(200_000, 3, 10),
    "strings": lambda: strings(100_000, 1, 500),
    "large strings": lambda: strings(6_000, 500, 20_000),
    "overwritten": overwritten,
    "refilled": refilled,
    "appended": appended,
    "small collections": small_collections,
    "tiny collections": tiny_collections,
    "large collections": large_collections,
    "members that come and go": passing_members,
}


def memory(client: Client) -> tuple[int, int]:
    """Bytes by the account, and of resident memory."""
    info = client("INFO", "memory")
    assert isinstance(info, bytes)
    fields = dict(line.split(b":", 1) for line in info.split(b"\r\n") if b":" in line)
    return int(fields[b"used_memory"]), int(fields[b"used_memory_rss"])


@pytest.mark.parametrize("mix", MIXES)
def test_the_account_follows_the_process(start_node: StartServer, mix: str) -> None:
    with start_node().connect(timeout=60.0) as client:
        # The first commands of each kind make the process grow once.
        client.send_all(islice(MIXES[mix](), 20))
        client("FLUSHALL", "SYNC")
        used_before, rss_before = memory(client)
        client.send_all(MIXES[mix]())
        used, rss = memory(client)
        ratio = (used - used_before) / (rss - rss_before)
        print(f"{mix}: {ratio:.3f} of {(rss - rss_before) / 2**20:.1f} MiB")
        assert abs(ratio - 1) <= TOLERANCE
        client("FLUSHALL", "SYNC")
        assert memory(client)[0] == used_before
