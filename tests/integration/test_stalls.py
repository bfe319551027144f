"""Large values, flushes and expiry do not hold the server up, measured in its processor time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import pytest

from tests import metered
from tests.replicas import wait_until
from tests.servers import Server
from tests.wire import OK, Client, Error, Simple

MEMBERS: Final = 1_000_000
KEYS: Final = 300_000
PER_COMMAND: Final = 500
AT_ONCE: Final = 20
# Milliseconds that one task may run. It is about one; the rest is for a machine whose caches
# others use too.
LONGEST_RUN: Final = 10.0
PATIENCE: Final = 120.0

Maker = Callable[[int], list[bytes]]

# How to add the n-th element.
VALUES: Final[dict[str, tuple[bytes, Maker]]] = {
    "list": (b"RPUSH", lambda n: [b"item:%d" % n]),
    "set": (b"SADD", lambda n: [b"member:%d" % n]),
    "hash": (b"HSET", lambda n: [b"field:%d" % n, b"value:%d" % n]),
    "zset": (b"ZADD", lambda n: [b"%d" % n, b"member:%d" % n]),
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with metered.start("--enable-debug-command", "yes") as node:
        yield node


def make_value(client: Client, kind: str) -> None:
    command, words = VALUES[kind]
    requests = (
        [command, b"big", *[w for n in range(at, at + PER_COMMAND) for w in words(n)]]
        for at in range(0, MEMBERS, PER_COMMAND)
    )
    client.send_all(requests, AT_ONCE)


def pending(client: Client) -> bool:
    """Whether there is something left to be freed."""
    info = client("INFO", "memory")
    assert isinstance(info, bytes)
    return b"lazyfree_pending_objects:0\r\n" not in info


@pytest.mark.parametrize("kind", VALUES)
def test_a_value_of_a_million_goes(server: Server, kind: str) -> None:
    """By whatever removes it: DEL for one, SET over it for another."""
    how = {
        "list": ["PEXPIRE big 1"],
        "set": ["SET other x", "RENAME other big"],
        "hash": ["SET big x"],
        "zset": ["DEL big"],
    }[kind]
    with server.connect(timeout=60.0) as client:
        assert client("FLUSHALL") == OK
        make_value(client, kind)
        metered.longest_run(client)
        for request in how:
            assert not isinstance(client(*request.split()), Error)
        wait_until(lambda: client("TYPE", "big") != Simple(kind.encode()), limit=PATIENCE)
        wait_until(lambda: not pending(client), limit=PATIENCE)
        longest, task = metered.longest_run(client)
        assert longest < LONGEST_RUN, task


def test_many_keys_are_flushed_and_expire(server: Server) -> None:
    with server.connect(timeout=60.0) as client:
        assert client("FLUSHALL") == OK
        assert client("CONFIG", "RESETSTAT") == OK
        assert client("DEBUG", "SET-ACTIVE-EXPIRE", 0) == OK
        strings = ([b"SET", b"key:%d" % n, b"v", b"PX", b"1"] for n in range(KEYS))
        client.send_all(strings, AT_ONCE)
        assert client("SWAPDB", 0, 1) == OK
        client.send_all(([b"SADD", b"key:%d" % n, b"a", b"b"] for n in range(KEYS)), AT_ONCE)
        metered.longest_run(client)

        assert client("FLUSHDB", "ASYNC") == OK
        wait_until(lambda: not pending(client), limit=PATIENCE)
        longest, task = metered.longest_run(client)
        assert longest < LONGEST_RUN, task

        assert client("SELECT", 1) == OK
        assert client("DEBUG", "SET-ACTIVE-EXPIRE", 1) == OK
        wait_until(lambda: client("DBSIZE") == 0, limit=PATIENCE)
        longest, task = metered.longest_run(client)
        assert longest < LONGEST_RUN, task
        info = client("INFO", "stats")
        assert isinstance(info, bytes)
        assert b"expired_keys:%d\r\n" % KEYS in info
