"""redis-py's everyday calls, sync and asyncio, in both protocols."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import redis.asyncio

from tests.servers import Server

# redis-py's annotations give a union of the sync and async results for every command.
Redis = Any


@pytest.fixture
def db(node: Server, protocol: int) -> Iterator[Redis]:
    """A client that decodes replies."""
    client = redis.Redis(port=node.port, protocol=protocol, decode_responses=True)
    yield client
    client.close()


def test_strings(db: Redis) -> None:
    assert db.set("key", "value") is True
    assert db.get("key") == "value"
    assert db.set("key", "other", nx=True) is None
    assert db.set("key", "other", get=True) == "value"
    assert db.get("missing") is None
    assert db.incr("counter", 5) == 5
    assert db.incrbyfloat("pi", 3.25) == 3.25
    assert db.mset({"a": 1, "b": 2}) is True
    assert db.mget("a", "b", "missing") == ["1", "2", None]
    assert db.setbit("bits", 7, 1) == 0
    assert db.bitcount("bits") == 1
    assert db.set("key", "bytes é", ex=100) is True
    assert 0 < db.ttl("key") <= 100
    assert db.getex("key", persist=True) == "bytes é"
    assert db.ttl("key") == -1
    assert db.append("key", "!") == 9
    assert db.delete("key", "missing") == 1


def test_lists(db: Redis) -> None:
    assert db.rpush("list", "a", "b", "c") == 3
    assert db.lrange("list", 0, -1) == ["a", "b", "c"]
    assert db.lpop("list", 2) == ["a", "b"]
    assert db.lmove("list", "other") == "c"
    assert db.blpop(["list", "other"], timeout=1) in (("other", "c"), ["other", "c"])
    assert db.blpop("list", timeout=0.01) is None
    assert db.rpush("list", *range(5)) == 5
    assert db.lpos("list", "3") == 3
    assert db.lmpop(2, "missing", "list", direction="RIGHT", count=2) == ["list", ["4", "3"]]


def test_hashes(db: Redis) -> None:
    assert db.hset("hash", mapping={"name": "Ada", "born": 1815}) == 2
    assert db.hgetall("hash") == {"name": "Ada", "born": "1815"}
    assert db.hget("hash", "name") == "Ada"
    assert db.hmget("hash", "name", "nothing") == ["Ada", None]
    assert db.hincrby("hash", "born", 1) == 1816
    assert sorted(db.hkeys("hash")) == ["born", "name"]
    assert dict(db.hscan_iter("hash")) == {"name": "Ada", "born": "1816"}
    assert db.hexists("hash", "name")
    assert db.hdel("hash", "name", "born") == 2
    assert db.exists("hash") == 0


def test_sets(db: Redis) -> None:
    assert db.sadd("one", "a", "b", "c") == 3
    assert db.sadd("two", "b", "c", "d") == 3
    assert db.smembers("one") == {"a", "b", "c"}
    assert set(db.sinter("one", "two")) == {"b", "c"}
    assert db.sunionstore("three", "one", "two") == 4
    assert db.smismember("one", ["a", "x"]) == [1, 0]
    assert db.sintercard(2, ["one", "two"]) == 2
    assert set(db.sscan_iter("three")) == {"a", "b", "c", "d"}
    assert db.spop("one") in {"a", "b", "c"}


def test_sorted_sets(db: Redis, protocol: int) -> None:
    assert db.zadd("board", {"ann": 1, "bob": 2.5, "cy": 3}) == 3
    pairs = [("ann", 1.0), ("bob", 2.5), ("cy", 3.0)]
    assert list(map(tuple, db.zrange("board", 0, -1, withscores=True))) == pairs
    assert db.zscore("board", "bob") == 2.5
    assert db.zrank("board", "cy") == 2
    assert db.zincrby("board", 10, "ann") == 11.0
    assert db.zrevrange("board", 0, 0) == ["ann"]
    assert db.zrangebyscore("board", "(2.5", "+inf") == ["cy", "ann"]
    assert db.zcount("board", "-inf", 3) == 2
    assert list(map(tuple, db.zpopmin("board", 1))) == [("bob", 2.5)]
    assert dict(db.zscan_iter("board")) == {"cy": 3.0, "ann": 11.0}
    assert db.bzpopmax("board", timeout=1)[1] == "ann"
    assert db.zadd("board", {"cy": 1}, xx=True, ch=True) == 1


def test_keys(db: Redis) -> None:
    db.mset({f"key:{n}": n for n in range(100)})
    assert len(db.keys("key:*")) == 100
    assert set(db.scan_iter("key:1*", count=7)) == set(db.keys("key:1*"))
    assert db.dbsize() == 100
    assert db.rename("key:1", "one") is True
    assert db.type("one") == "string"
    assert db.expire("one", 100) is True
    assert db.object("encoding", "one") == "int"
    assert db.copy("one", "two") is True
    assert db.unlink("one", "two") == 2
    assert db.flushdb() is True
    assert db.randomkey() is None


def test_pipeline_and_transaction(db: Redis) -> None:
    with db.pipeline(transaction=False) as pipe:
        for n in range(200):
            pipe.set(f"k{n}", n)
        assert pipe.execute() == [True] * 200
    with db.pipeline() as pipe:
        pipe.incr("counter").rpush("list", "x").get("counter")
        assert pipe.execute() == [1, 1, "1"]
    with db.pipeline() as pipe:
        pipe.watch("counter")
        db.incr("counter")
        pipe.multi()
        pipe.set("counter", "lost")
        with pytest.raises(redis.WatchError):
            pipe.execute()
    with db.pipeline() as pipe:
        pipe.set("s", "text").incr("s").get("s")
        with pytest.raises(redis.ResponseError, match="not an integer"):
            pipe.execute()
    assert db.get("s") == "text"


def test_pubsub(db: Redis) -> None:
    pubsub = db.pubsub()
    pubsub.subscribe("news")
    pubsub.psubscribe("n*")
    assert pubsub.get_message(timeout=5)["type"] == "subscribe"
    assert pubsub.get_message(timeout=5)["type"] == "psubscribe"
    assert db.publish("news", "hello") == 2
    kinds = {pubsub.get_message(timeout=5)["type"] for _ in range(2)}
    assert kinds == {"message", "pmessage"}
    assert db.pubsub_numsub("news") == [("news", 1)]
    assert db.pubsub_channels() == ["news"]
    pubsub.unsubscribe()
    pubsub.punsubscribe()
    pubsub.close()


def test_blocking_pop_is_served(db: Redis, node: Server) -> None:
    found: list[Any] = []
    waiting = redis.Redis(port=node.port, decode_responses=True)
    thread = threading.Thread(target=lambda: found.append(waiting.blpop("queue", timeout=20)))
    thread.start()
    while db.info("clients")["blocked_clients"] == 0:
        assert thread.is_alive()
    db.rpush("queue", "job")
    thread.join(20)
    assert [tuple(each) for each in found] == [("queue", "job")]
    waiting.close()


def test_locks(db: Redis) -> None:
    # A lock is released by a script; taking it is all that needs none.
    lock = db.lock("lock", timeout=10)
    assert lock.acquire(blocking=False)
    assert not db.lock("lock", timeout=10).acquire(blocking=False)
    assert db.pttl("lock") > 0


def test_server_calls(db: Redis, protocol: int) -> None:
    assert db.ping() is True
    assert db.echo("hello") == "hello"
    info = db.info()
    assert info["redis_version"].startswith("7.")
    assert info["redis_mode"] == "standalone"
    assert info["role"] == "master"
    assert db.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    assert db.config_set("maxmemory-samples", 6) is True
    assert db.config_set("maxmemory-samples", 5) is True
    assert db.client_setname("me") is True
    assert db.client_getname() == "me"
    assert any(client["name"] == "me" for client in db.client_list())
    assert db.client_id() > 0
    assert db.command_count() > 150
    assert "get" in db.command()
    assert db.slowlog_reset() is True
    assert db.slowlog_get() == []
    assert len(db.time()) == 2
    assert db.memory_usage("missing") is None
    db.set("key", "value")
    assert db.memory_usage("key") > 0
    assert db.role()[0] == "master"
    assert db.info("keyspace")["db0"]["keys"] == 1


def test_errors(db: Redis) -> None:
    db.set("text", "x")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        db.lpush("text", "y")
    with pytest.raises(redis.ResponseError, match="unknown command"):
        db.execute_command("NOSUCH", "x")


def test_asyncio(node: Server, protocol: int) -> None:
    async def everyday() -> None:
        db: Redis = redis.asyncio.Redis(
            port=node.port, protocol=protocol, decode_responses=True, max_connections=50
        )
        async with db:
            assert await db.set("key", "value") is True
            assert await db.get("key") == "value"
            assert await asyncio.gather(*[db.incr("n") for _ in range(40)]) is not None
            assert await db.get("n") == "40"
            async with db.pipeline(transaction=True) as pipe:
                pipe.hset("hash", mapping={"a": 1})
                pipe.hgetall("hash")
                assert await pipe.execute() == [1, {"a": "1"}]
            assert sorted([key async for key in db.scan_iter()]) == ["hash", "key", "n"]
            pubsub = db.pubsub()
            await pubsub.subscribe("news")
            assert (await pubsub.get_message(timeout=5))["type"] == "subscribe"
            assert await db.publish("news", "hello") == 1
            assert (await pubsub.get_message(timeout=5))["data"] == "hello"
            await pubsub.aclose()
            waiting = asyncio.create_task(db.blpop("queue", timeout=20))
            while (await db.info("clients"))["blocked_clients"] == 0:  # noqa: ASYNC110
                await asyncio.sleep(0)
            await db.rpush("queue", "job")
            assert tuple(await waiting) == ("queue", "job")

    asyncio.run(everyday())
