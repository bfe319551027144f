"""Keyspace events as a listener gets them: which classes, on which channels, in which order."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import require_oracle
from tests.differential.pair import Argv, Pair
from tests.servers import Server, node_command
from tests.wire import Reply

SCRIPT = """
SET s 1 | SET s 2 EX 100 | SET s 3 KEEPTTL | SET s 4 GET | SETEX s 100 5 | PSETEX s 100000 6
SETNX s 1 | SETNX s2 1 | GETSET s 7 | APPEND s x | SETRANGE s 1 y | SETRANGE none 0 "" | STRLEN s
MSET s 1 m 2 | MSETNX m1 1 m2 2 | MSETNX m1 1 m3 3 | INCR s | DECRBY s 3 | INCRBYFLOAT s 0.5
GETEX s EX 100 | GETEX s PERSIST | GETEX s | GETEX s PXAT 1 | GETDEL m | GETDEL m
SETBIT bits 3 1 | SETBIT bits 3 1
RPUSH l a b c d | LPUSH l z | LPUSHX none a | LINSERT l BEFORE a y | LINSERT l BEFORE none y
LSET l 0 first | LREM l 1 b | LREM l 1 none | LTRIM l 0 3 | LPOP l | RPOP l 2 | RPOPLPUSH l l2
LMOVE l2 l LEFT RIGHT | LMPOP 2 none l LEFT COUNT 1 | BLPOP l 0.01 | BLMOVE l l2 LEFT LEFT 0.01
RPUSH l a | LTRIM l 5 9 | RPUSH l a | LREM l 0 a
SADD t a b c 1 2 | SADD t a | SREM t a none | SMOVE t t2 b | SMOVE t t2 none | SPOP t2
SADD t2 z 1 | SINTERSTORE t3 t t2 | SUNIONSTORE t3 t t2 | SDIFFSTORE t3 t t | SINTERSTORE t3 none t
SREM t 1 2 c | SADD one x | SPOP one | SADD one x y | SPOP one 5
ZADD z 1 a 2 b 3 c 4 d | ZADD z 1 a | ZADD z CH 5 a | ZADD z XX 9 none | ZADD z INCR 2 a
ZINCRBY z 1 b | ZREM z a none | ZREMRANGEBYSCORE z 100 200 | ZREMRANGEBYRANK z 0 0
ZADD zl 0 e 0 f | ZREMRANGEBYLEX zl [e [e | ZREMRANGEBYLEX zl [x [y | ZADD z 0 e 0 f
ZPOPMIN z | ZPOPMAX z | ZADD z2 1 c 1 x 1 y
ZRANGESTORE z3 z2 0 1 | ZRANGESTORE z3 none 0 1 | ZUNIONSTORE z3 2 z z2 | ZINTERSTORE z3 2 z none
ZDIFFSTORE z3 2 z2 z | ZMPOP 1 z2 MIN COUNT 2 | BZPOPMIN z2 0.01 | ZADD z2 1 a
BZMPOP 0.01 1 z2 MAX
HSET h f 1 g 2 | HSET h f 1 | HSETNX h f 2 | HSETNX h i 3 | HMSET h j 4 | HINCRBY h f 5
HINCRBYFLOAT h f 0.5 | HDEL h f none | HDEL h g i j
SET e 1 | EXPIRE e 100 | EXPIRE e 100 XX | EXPIRE e 100 NX | PEXPIREAT e 99999999999999 | PERSIST e
PERSIST e | EXPIRE e -1 | EXPIRE none 10 | SET e 1 | RENAME e f | RENAMENX f e | RENAME e e
COPY e f | COPY e f REPLACE | COPY e f | COPY e g DB 1 | MOVE e 1 | MOVE e 1
RPUSH n 3 1 2 | SORT n STORE o | SORT none STORE o | DEL n o none | UNLINK f none | TOUCH s
SELECT 1 | SET other 1 | DEL other | SWAPDB 0 1 | SELECT 0 | FLUSHDB | FLUSHALL
GET none | HGET none f | EXISTS none | TTL none | LLEN none | MGET none none2 | TYPE none
MULTI | SET a 1 | INCR a | DEL a | EXEC
DEBUG SET-ACTIVE-EXPIRE 0 | SET a 1 PX 1 | SET b 1 PX 1 | RPUSH c x | PEXPIRE c 1 | DEBUG SLEEP 0.01
GET a | SET b 2 | LLEN c | RPUSH c y | DEBUG SET-ACTIVE-EXPIRE 1
FLUSHALL | CONFIG SET maxmemory-policy allkeys-lru | SET evict me | CONFIG SET maxmemory 1 | PING
CONFIG SET maxmemory 0 | CONFIG SET maxmemory-policy noeviction
"""

CLASSES = [
    "KEA",
    "KEAmn",
    "K$",
    "Eg",
    "El",
    "Ks",
    "Eh",
    "Kz",
    "KEx",
    "Ee",
    "Km",
    "En",
    "A",
    "KE",
    "",
]


def requests() -> list[Argv]:
    """The script's commands."""
    lines = SCRIPT.strip().replace("\n", " | ").split(" | ")
    return [
        [b"" if word == '""' else word.encode() for word in line.split()] for line in lines if line
    ]


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[Server, Server]]:
    """Both servers, for this test alone, since their settings change."""
    directives = ["--enable-debug-command", "yes"]
    with (
        Server(node_command(), *directives, name="node") as node,
        Server(require_oracle(), *directives, name="oracle") as oracle,
    ):
        yield node, oracle


def hear(pair: Pair, listener: Pair, argv: Argv) -> tuple[list[Reply], list[Reply]]:
    """What each side's listener gets of one command; a message of our own ends it."""
    pair.run(argv)
    pair.ours.send("PUBLISH", "end", "")
    pair.theirs.send("PUBLISH", "end", "")
    heard: tuple[list[Reply], list[Reply]] = ([], [])
    for messages, client in zip(heard, (listener.ours, listener.theirs), strict=True):
        while True:
            message = client.read()
            assert isinstance(message, list)
            if message[2] == b"end":
                break
            messages.append(message[2:])
    return heard


@pytest.mark.parametrize("classes", CLASSES)
def test_events(servers: tuple[Server, Server], classes: str) -> None:
    pair, listener = Pair.connect(*servers, 2), Pair.connect(*servers, 2)
    pair.setup([b"FLUSHALL"], [b"CONFIG", b"SET", b"notify-keyspace-events", classes.encode()])
    listener.run([b"PSUBSCRIBE", b"*"])
    seen = 0
    in_transaction = False
    for argv in requests():
        in_transaction = in_transaction or argv == [b"MULTI"]
        if argv == [b"EXEC"]:
            in_transaction = False
        if in_transaction:
            pair.run(argv)
            continue
        ours, theirs = hear(pair, listener, argv)
        # The PUBLISH that ends it has a reply too.
        pair.ours.read()
        pair.theirs.read()
        seen += len(ours)
        if ours != theirs:
            raise pair.fail(f"{argv}: {ours} instead of {theirs}")
    letters = set(classes)
    assert (seen > 0) is bool(letters & set("KE") and letters - set("KE"))
    pair.close()
    listener.close()
