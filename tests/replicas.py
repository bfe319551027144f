"""What tests of replication share: random writes, and waiting until all have the same."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from tests.servers import Server
from tests.wire import Argument, Client, Error, Simple

LIMIT = 60.0
FIRST_KEYS = 12


def wait_until(
    condition: Callable[[], object], what: str = "it", limit: float = LIMIT, interval: float = 0.01
) -> None:
    """Ask until it is so; TimeoutError after ``limit`` seconds."""
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come about in {limit:.0f} s")
        time.sleep(interval)


def info(client: Client, *sections: str) -> dict[str, str]:
    """INFO's fields."""
    text = client("INFO", *sections)
    assert isinstance(text, bytes), text
    lines = text.decode().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def digest(client: Client) -> bytes:
    """DEBUG DIGEST."""
    reply = client("DEBUG", "DIGEST")
    assert isinstance(reply, Simple), reply
    return reply.text


def wait_for_link(replica: Client, limit: float = LIMIT) -> None:
    """Until the replica is connected to its master."""
    wait_until(
        lambda: info(replica, "replication").get("master_link_status") == "up",
        "the link to the master",
        limit,
    )


def offset(client: Client) -> int:
    """How much of the history the server has."""
    return int(info(client, "replication")["master_repl_offset"])


def wait_for_equality(*clients: Client, limit: float = LIMIT) -> None:
    """Until all have the same offset and the same data; the first is the master of all."""

    def equal() -> bool:
        return len({(offset(client), digest(client)) for client in clients}) == 1

    wait_until(equal, "equality", limit)


def connections_lost(server: Server) -> int:
    """How often the server's log says that it has lost its master."""
    return server.log.count("Connection with master lost.")


class Traffic:
    """Random writes through one client, of all kinds that propagate as something else as well."""

    def __init__(self, client: Client, seed: int) -> None:
        self.client = client
        self.random = random.Random(seed)
        self.transaction = 0
        self.refused: set[bytes] = set()

    def run(self, count: int) -> None:
        """Send so many requests, pipelined; a transaction that is begun is ended."""
        sent = 0
        for _ in range(count):
            for argv in self._next():
                self.client.send(*argv)
                sent += 1
        if self.transaction:
            self.transaction = 0
            self.client.send("EXEC")
            sent += 1
        for _ in range(sent):
            reply = self.client.read()
            if isinstance(reply, Error):
                self.refused.add(reply.text)

    def key(self, kind: str) -> str:
        """One of few keys of that kind."""
        return f"{kind}{self.random.randrange(FIRST_KEYS)}"

    def _next(self) -> list[tuple[Argument, ...]]:
        draw = self.random
        if self.transaction:
            self.transaction -= 1
            if not self.transaction:
                return [("EXEC",)]
        elif draw.random() < 0.03:
            self.transaction = draw.randrange(2, 8)
            return [("MULTI",)]
        kind = draw.choice([self._string, self._list, self._hash, self._set, self._zset, self._any])
        return [kind()]

    def _string(self) -> tuple[Argument, ...]:
        draw = self.random
        key = self.key("s")
        text = "x" * draw.choice([0, 1, 10, 100, 3000])
        number = draw.randrange(-1000, 1000)
        return draw.choice(
            [
                ("SET", key, text),
                ("SET", key, number, "PX", draw.randrange(1, 200)),
                ("SET", key, number, "EX", 1000, "GET"),
                ("SET", key, number, "XX", "KEEPTTL"),
                ("SETEX", key, 1000, number),
                ("PSETEX", key, draw.randrange(1, 200), number),
                ("SETNX", key, number),
                ("GETSET", key, number),
                ("GETEX", key, "PX", draw.randrange(1, 200)),
                ("GETEX", key, "PERSIST"),
                ("GETDEL", key),
                ("MSET", key, text, self.key("s"), number),
                ("APPEND", key, number),
                ("SETRANGE", key, draw.randrange(50), number),
                ("SETBIT", key, draw.randrange(200), draw.randrange(2)),
                ("INCR", self.key("n")),
                ("DECRBY", self.key("n"), number),
                ("INCRBYFLOAT", self.key("n"), number / 7),
            ]
        )

    def _list(self) -> tuple[Argument, ...]:
        draw = self.random
        key = self.key("l")
        many = [draw.randrange(1000) for _ in range(draw.randrange(1, 20))]
        return draw.choice(
            [
                ("RPUSH", key, *many),
                ("LPUSH", key, *many),
                ("LPUSHX", key, *many),
                ("LPOP", key, 2),
                ("RPOP", key),
                ("LMPOP", 2, key, self.key("l"), "LEFT", "COUNT", 3),
                ("BLPOP", key, self.key("l"), 0.001),
                ("BLMOVE", key, self.key("l"), "LEFT", "RIGHT", 0.001),
                ("RPOPLPUSH", key, self.key("l")),
                ("LTRIM", key, 1, 30),
                ("LREM", key, 0, draw.randrange(1000)),
                ("LSET", key, 0, "y" * draw.choice([1, 9000])),
                ("LINSERT", key, "BEFORE", draw.randrange(1000), "between"),
                ("SORT", key, "ALPHA", "STORE", self.key("l")),
            ]
        )

    def _hash(self) -> tuple[Argument, ...]:
        draw = self.random
        key = self.key("h")
        field = f"f{draw.randrange(200)}"
        return draw.choice(
            [
                ("HSET", key, field, draw.randrange(1000), "other", "z" * draw.randrange(100)),
                ("HSETNX", key, field, 1),
                ("HINCRBY", key, "count", draw.randrange(100)),
                ("HINCRBYFLOAT", key, "float", draw.random()),
                ("HDEL", key, field, "other"),
            ]
        )

    def _set(self) -> tuple[Argument, ...]:
        draw = self.random
        key = self.key("t")
        members: list[Argument] = [draw.randrange(100) for _ in range(draw.randrange(1, 10))]
        if draw.random() < 0.3:
            members.append("word")
        return draw.choice(
            [
                ("SADD", key, *members),
                ("SADD", key, *members),
                ("SREM", key, *members),
                ("SPOP", key),
                ("SPOP", key, draw.randrange(1, 60)),
                ("SMOVE", key, self.key("t"), members[0]),
                ("SUNIONSTORE", key, self.key("t"), self.key("t")),
                ("SDIFFSTORE", key, self.key("t"), self.key("t")),
            ]
        )

    def _zset(self) -> tuple[Argument, ...]:
        draw = self.random
        key = self.key("z")
        member = f"m{draw.randrange(150)}"
        return draw.choice(
            [
                ("ZADD", key, draw.random(), member, draw.randrange(9), "fix"),
                ("ZADD", key, "GT", "CH", draw.random(), member),
                ("ZADD", key, "INCR", draw.random(), member),
                ("ZINCRBY", key, draw.random(), member),
                ("ZREM", key, member),
                ("ZPOPMIN", key, 2),
                ("ZMPOP", 1, key, "MAX"),
                ("BZPOPMAX", key, self.key("z"), 0.001),
                ("ZUNIONSTORE", key, 2, self.key("z"), self.key("z"), "WEIGHTS", 1, 0.5),
                ("ZRANGESTORE", key, self.key("z"), 0, 20),
                ("ZREMRANGEBYRANK", key, 0, 1),
            ]
        )

    def _any(self) -> tuple[Argument, ...]:
        draw = self.random
        key = self.key(draw.choice("snlhtz"))
        other = self.key(draw.choice("snlhtz"))
        return draw.choice(
            [
                ("SELECT", draw.randrange(3)),
                ("SELECT", draw.randrange(3)),
                ("EXPIRE", key, 1000),
                ("PEXPIRE", key, draw.randrange(1, 200)),
                ("EXPIREAT", key, 1),
                ("PERSIST", key),
                ("DEL", key, other),
                ("UNLINK", key),
                ("COPY", key, other, "REPLACE"),
                ("RENAME", key, key + "x"),
                ("MOVE", key, draw.randrange(3)),
                ("PUBLISH", "channel", "message"),
                ("SWAPDB", draw.randrange(3), draw.randrange(3))
                if draw.random() < 0.1
                else ("TOUCH", key),
                ("FLUSHDB",) if draw.random() < 0.02 else ("PING",),
            ]
        )
