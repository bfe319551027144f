"""When a key counts as used: OBJECT FREQ after each command, the same as in the real server.

With `lfu-log-factor 0` and no decay every use counts by one, so that the counters are exact. Values
are not small integers, since those are shared among keys in Redis, counters included.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tests.differential.pair import Pair
from tests.servers import Server
from tests.wire import OK, Error, Reply

LFU: Final = (
    *("--maxmemory-policy", "allkeys-lfu", "--lfu-log-factor", "0", "--lfu-decay-time", "0"),
    *("--enable-debug-command", "yes"),
)
KEYS: Final = (b"a", b"b", b"n", b"m", b"l", b"l2", b"s", b"s2", b"s3", b"h", b"z", b"z2")

STEPS: Final = """\
SET a xx
GET a
GET a
STRLEN a
GETRANGE a 0 1
SET a yy
SET a yy XX
SET a yy XX GET
SET a yy GET
SET a yy NX
SET a yy EX 100
SET a yy KEEPTTL
SETEX a 100 yy
PSETEX a 100000 yy
SETNX a zz
GETSET a zz
GETEX a
GETEX a EX 100
GETEX a PERSIST
MSET a zz b yy
MSETNX a b c d
MGET a b
APPEND a x
SETRANGE a 0 y
SETBIT a 1 1
GETBIT a 1
BITCOUNT a
GETDEL a
SET a xx
INCRBY n 123456
INCRBY n 123456
INCRBYFLOAT n 0.5
DECR m
EXPIRE a 100
PEXPIRE a 100000
EXPIREAT a 9999999999
TTL a
PTTL a
EXPIRETIME a
PERSIST a
TYPE a
EXISTS a
TOUCH a
OBJECT ENCODING a
OBJECT REFCOUNT a
DEBUG OBJECT a
SCAN 0 TYPE string
KEYS *
RENAME a b
GET b
RENAME b b
RENAMENX b b
RENAMENX b a
COPY a b
COPY a b
COPY a b REPLACE
MOVE a 1
LPUSH l a b c
LPUSH l d
LPUSHX l e
LRANGE l 0 -1
LINDEX l 0
LLEN l
LSET l 0 x
LINSERT l BEFORE x y
LPOS l x
LREM l 0 nothing
LTRIM l 0 -1
LPOP l
RPOPLPUSH l l
RPOPLPUSH l l2
LMOVE l l2 LEFT LEFT
LMPOP 1 l LEFT
BLPOP l 0
SORT l ALPHA
SORT l ALPHA STORE l2
SORT_RO l ALPHA
SADD s a b c d e f
SADD s g
SREM s g
SISMEMBER s a
SMISMEMBER s a b
SCARD s
SMEMBERS s
SSCAN s 0
SADD s2 a b x
SMOVE s s2 c
SINTER s s2
SINTERSTORE s s s2
SINTERSTORE s3 s s2
SUNIONSTORE s3 s s2
SDIFFSTORE s3 s2 s
SINTERCARD 2 s s2
HSET h f v
HSET h f2 v
HGET h f
HMGET h f f2
HGETALL h
HDEL h f2
HINCRBY h n 1
HLEN h
HSCAN h 0
HSETNX h f x
HEXISTS h f
ZADD z 1 a 2 b 3 c
ZADD z 4 d
ZADD z XX 5 zz
ZINCRBY z 1 a
ZSCORE z a
ZMSCORE z a b
ZRANK z a
ZCARD z
ZCOUNT z 0 10
ZRANGE z 0 -1
ZRANGESTORE z2 z 0 -1
ZRANGESTORE z z 0 -1
ZUNIONSTORE z2 2 z z2
ZINTERSTORE z2 2 z z2
ZDIFF 2 z z2
ZREM z d
ZPOPMIN z
ZMPOP 1 z MIN
ZSCAN z 0
MULTI
GET b
EXEC
WATCH b
UNWATCH
"""


def frequencies(pair: Pair) -> tuple[list[Reply], list[Reply]]:
    """The counters of all keys on both servers, an error where a key is not there."""
    replies = [pair.run([b"OBJECT", b"FREQ", key]) for key in KEYS]
    return [ours for ours, _ in replies], [theirs for _, theirs in replies]


def test_each_command_counts_as_in_redis(
    start_node: Callable[..., Server], start_oracle: Callable[..., Server]
) -> None:
    pair = Pair.connect(start_node(*LFU), start_oracle(*LFU), 2)
    for line in STEPS.splitlines():
        ours, theirs = pair.run(line.encode().split())
        assert isinstance(ours, Error) == isinstance(theirs, Error), line
        mine, real = frequencies(pair)
        assert mine == real, f"after {line}"
    pair.close()


def test_a_client_that_does_not_touch(start_node: Callable[..., Server]) -> None:
    """CLIENT NO-TOUCH is new in 7.2."""
    with start_node(*LFU).connect() as client:
        assert client("SET", "k", "value") == OK
        assert client("GET", "k") == b"value"
        assert client("OBJECT", "FREQ", "k") == 6
        assert client("CLIENT", "NO-TOUCH", "ON") == OK
        assert client("GET", "k") == b"value"
        assert client("APPEND", "k", "s") == 6
        assert client("SET", "k", "another") == OK
        assert client("OBJECT", "FREQ", "k") == 6
        assert client("TOUCH", "k") == 1
        assert client("OBJECT", "FREQ", "k") == 7
        assert client("CLIENT", "NO-TOUCH", "OFF") == OK
        assert client("GET", "k") == b"another"
        assert client("OBJECT", "FREQ", "k") == 8
