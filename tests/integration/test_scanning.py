"""SCAN's guarantee: what is there throughout is returned, while the rest comes and goes.

Between two calls a random part of the other elements is added or removed, so that the tables
grow and shrink several times during one iteration.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.servers import Server
from tests.wire import Client, Reply

# More than a hash keeps in one listpack, which a call returns whole.
STABLE = 700
MOST_OTHERS = 20_000
LIMIT_OF_CALLS = 100_000


@dataclass(frozen=True)
class Collection:
    """How to add, remove and scan; `key` is empty for the keyspace itself."""

    scan: str
    add: Callable[[Client, list[str]], Reply]
    remove: Callable[[Client, list[str]], Reply]
    pairs: bool = False
    key: str = ""


COLLECTIONS = [
    Collection(
        "SCAN",
        lambda client, names: client("MSET", *[w for name in names for w in (name, "v")]),
        lambda client, names: client("DEL", *names),
    ),
    Collection(
        "SSCAN",
        lambda client, names: client("SADD", "set", *names),
        lambda client, names: client("SREM", "set", *names),
        key="set",
    ),
    Collection(
        "HSCAN",
        lambda client, names: client("HSET", "hash", *[w for name in names for w in (name, "v")]),
        lambda client, names: client("HDEL", "hash", *names),
        pairs=True,
        key="hash",
    ),
    Collection(
        "ZSCAN",
        lambda client, names: client("ZADD", "zset", *[w for name in names for w in (1, name)]),
        lambda client, names: client("ZREM", "zset", *names),
        pairs=True,
        key="zset",
    ),
]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("collection", COLLECTIONS, ids=lambda each: each.scan)
def test_what_stays_is_returned(node: Server, collection: Collection, seed: int) -> None:
    chance = random.Random(f"{collection.scan} {seed}")
    stable = {f"stable:{n}" for n in range(STABLE)}
    key = [collection.key] if collection.key else []
    with node.connect() as client:
        collection.add(client, sorted(stable))
        others = 0
        growing = True
        found: set[str] = set()
        cursor = b"0"
        for call in range(LIMIT_OF_CALLS):
            count = chance.choice([1, 5, 10, 100])
            reply = client(collection.scan, *key, cursor, "COUNT", count)
            assert isinstance(reply, list)
            cursor, items = reply  # type: ignore[assignment]
            assert isinstance(items, list)
            names = items[::2] if collection.pairs else items
            assert len(names) <= 10 * count + 100, "a call returns about COUNT elements"
            found.update(name.decode() for name in names if isinstance(name, bytes))
            if cursor == b"0":
                break
            # As fast as the scan goes on; growth must end for the iteration to end.
            step = chance.randint(1, 40) * count
            if growing and others < MOST_OTHERS and call < 500:
                collection.add(client, [f"other:{n}" for n in range(others, others + step)])
                others += step
            elif others:
                first = max(others - 3 * step, 0)
                collection.remove(client, [f"other:{n}" for n in range(first, others)])
                others = first
            if chance.random() < 0.1:
                growing = not growing
        assert cursor == b"0", "the iteration ends"
        assert stable <= found


@pytest.mark.parametrize("collection", COLLECTIONS, ids=lambda each: each.scan)
def test_a_quiet_collection_is_returned_whole(node: Server, collection: Collection) -> None:
    names = [f"name:{n}" for n in range(5000)]
    key = [collection.key] if collection.key else []
    with node.connect() as client:
        collection.add(client, names)
        found: list[bytes] = []
        cursor = b"0"
        calls = 0
        while calls == 0 or cursor != b"0":
            reply = client(collection.scan, *key, cursor)
            assert isinstance(reply, list)
            cursor, items = reply  # type: ignore[assignment]
            assert isinstance(items, list)
            step = items[::2] if collection.pairs else items
            found += [name for name in step if isinstance(name, bytes)]
            calls += 1
        assert sorted(set(found)) == sorted(name.encode() for name in names)
        assert calls >= 100, "ten a call by default, not all at once"
