"""What is refused when memory is short, the same as in the real server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import pytest

from tests.differential.pair import Pair, exact
from tests.servers import Server

DATA: Final = (
    "SET string value",
    "SET number 12",
    "RPUSH list a b c",
    "HSET hash field value",
    "ZADD zset 1 a 2 b",
    "SADD set a b c",
)
# One of each kind: what needs memory, what reads, what frees, what is about the connection.
REQUESTS: Final = """\
SET string other
SET string
NOSUCH x
SETRANGE string 1 x
GETSET string x
GETEX string EX 100
GETDEL string
INCR number
INCRBYFLOAT number 1.5
SETBIT bits 5 1
MSET a 1 b 2
LPUSH list x
LPUSHX list x
LSET list 0 x
LINSERT list BEFORE a x
LRANGE list 0 -1
LPOP list
LMOVE list list LEFT RIGHT
RPOPLPUSH list list
LTRIM list 0 1
HSET hash field other
HINCRBY hash n 1
HDEL hash nosuch
HGETALL hash
SADD set d
SMOVE set other a
SINTERSTORE other set
SINTERCARD 1 set
SPOP nosuch
ZADD zset 3 c
ZINCRBY zset 1 a
ZRANGESTORE other zset 0 -1
ZPOPMIN zset
SORT list ALPHA STORE other
SORT list ALPHA
COPY hash copy
RENAME hash renamed
EXPIRE set 100
PERSIST set
MOVE set 1
BLPOP list 1
BLMOVE list other LEFT LEFT 1
PUBLISH channel message
WATCH list
UNWATCH
MULTI
SET string x
EXEC
MULTI
GET string
EXEC
MULTI
GET string
DISCARD
MULTI
EXEC
MULTI
SET
EXEC
MULTI
RESET
SWAPDB 0 1
FLUSHALL
SET string x
"""


@pytest.fixture
def pairs(
    start_node: Callable[..., Server], start_oracle: Callable[..., Server], protocol: int
) -> Iterator[tuple[Pair, Pair]]:
    """Two clients, each of both servers."""
    node, oracle = start_node(), start_oracle()
    client = Pair.connect(node, oracle, protocol)
    admin = Pair.connect(node, oracle, protocol, client.transcript, "admin")
    yield client, admin
    client.close()
    admin.close()


def test_refusals(pairs: tuple[Pair, Pair]) -> None:
    pair, _ = pairs
    pair.setup(*(request.encode().split() for request in DATA))
    exact(pair, b"CONFIG SET maxmemory 1".split())
    for line in REQUESTS.splitlines():
        exact(pair, line.encode().split())
    exact(pair, b"CONFIG SET maxmemory 0".split())
    exact(pair, b"SET string x".split())


def test_transactions_that_began_before(pairs: tuple[Pair, Pair]) -> None:
    """The limit is lowered by another client while commands are queued."""
    pair, admin = pairs
    pair.setup(*(request.encode().split() for request in DATA))
    for queued in (["SET string x", "GET string"], ["GET string", "DEL list"], []):
        exact(pair, [b"MULTI"])
        for request in queued:
            exact(pair, request.encode().split())
        exact(admin, b"CONFIG SET maxmemory 1".split())
        exact(pair, [b"EXEC"])
        exact(pair, b"CONFIG SET maxmemory 0".split())
        exact(pair, b"GET string".split())


@pytest.mark.parametrize("policy", ["volatile-lru", "volatile-lfu", "volatile-ttl"])
def test_volatile_policies_refuse_once_nothing_can_go(
    pairs: tuple[Pair, Pair], policy: str
) -> None:
    pair, _ = pairs
    exact(pair, b"CONFIG SET maxmemory-eviction-tenacity 100".split())
    exact(pair, [b"CONFIG", b"SET", b"maxmemory-policy", policy.encode()])
    for i in range(50):
        exact(pair, [b"SET", b"volatile:%d" % i, b"x", b"EX", b"1000"])
        exact(pair, [b"SET", b"persistent:%d" % i, b"x"])
    exact(pair, b"CONFIG SET maxmemory 1".split())
    exact(pair, b"SET more x".split())
    exact(pair, b"SCAN 0 COUNT 1000 TYPE nosuch".split())
    exact(pair, [b"DBSIZE"])
    exact(pair, b"EXISTS persistent:0 persistent:49 volatile:0".split())
