"""The data as commands: what they make is what there was."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.keyspace import STILL_LOADING, Keyspace
from node.persistence.aof_parser import AofParser
from node.persistence.aof_replay import Replay
from node.persistence.aof_rewriter import encode_key, write_commands
from node.values.collection import Limits
from node.values.hash import Hash
from node.values.list import List
from node.values.set import Set
from node.values.sorted_set import SortedSet
from tests.inprocess import LocalServer
from tests.wire import Simple

LIMITS = Limits()
names = st.binary(max_size=20)
many = st.lists(names, min_size=1, max_size=200, unique=True)


def commands(keyspace: Keyspace, timestamp: int | None = None) -> tuple[bytes, list[int]]:
    """What is written, and what progress is told."""
    parts: list[bytes] = []
    steps: list[int] = []
    write_commands(parts.append, keyspace, steps.append, timestamp)
    return b"".join(parts), steps


def parse(octets: bytes) -> list[list[bytes]]:
    parser = AofParser(len(octets))
    found = parser.feed(octets)
    assert parser.offset == len(octets)
    return found


@settings(deadline=None)
@given(
    texts=st.dictionaries(names, names, max_size=5),
    elements=many,
    scores=st.lists(st.floats(allow_nan=False), min_size=1, max_size=200),
    db=st.integers(0, 15),
    deadline=st.one_of(st.none(), st.integers(1, 1 << 60)),
)
def test_any_data(
    texts: dict[bytes, bytes],
    elements: list[bytes],
    scores: list[float],
    db: int,
    deadline: int | None,
) -> None:
    with LocalServer("--enable-debug-command", "yes") as one:
        database = one.keyspace.databases[db]
        for key, text in texts.items():
            one.keyspace.databases[0].put(key, text)
        database.put(b"array", bytearray(b"".join(elements)))
        items = List(LIMITS)
        items.extend_right([*elements, *elements])
        database.put(b"list", items)
        database.put(b"set", Set.from_members(LIMITS, elements))
        mapping = Hash(LIMITS)
        for element in elements:
            mapping.set(element, element * 2)
        database.put(b"hash", mapping)
        pairs = list(zip(elements, scores, strict=False))
        database.put(b"zset", SortedSet.from_items(LIMITS, pairs))
        if deadline is not None:
            database.set_deadline(b"list", deadline)
        octets, steps = commands(one.keyspace)
        assert steps[-1] == sum(each.count for each in one.keyspace.databases)
        expected = one.connect()("DEBUG", "DIGEST")
    with LocalServer("--enable-debug-command", "yes") as other:
        other.keyspace.hold_still(STILL_LOADING, True)
        replay = Replay(other.engine)
        requests = parse(octets)
        replay.run(requests, [0] * len(requests))
        replay.close()
        assert other.connect()("DEBUG", "DIGEST") == expected
        assert isinstance(expected, Simple)


@pytest.mark.parametrize("count", [1, 63, 64, 65, 128, 130])
def test_at_most_64_elements_each(count: int) -> None:
    items = List(LIMITS)
    items.extend_right([b"%d" % number for number in range(count)])
    found = [parse(wire)[0] for wire in encode_key(b"key", items)]
    assert all(argv[:2] == [b"RPUSH", b"key"] for argv in found)
    sizes = [len(argv) - 2 for argv in found]
    assert sum(sizes) == count
    assert all(size == 64 for size in sizes[:-1])


def test_what_redis_would_write() -> None:
    with LocalServer() as server:
        client = server.connect()
        for words in (
            *("SELECT 3", "SET text value", "ZADD z 0.1 a 3 b inf c", "HSET h f v"),
            *("PEXPIREAT h 1900000000123", "SADD s 1"),
        ):
            client(*words.split())
        octets, _ = commands(server.keyspace, 1_700_000_000)
    assert octets.startswith(b"#TS:1700000000\r\n")
    found = parse(octets)
    assert found[0] == [b"SELECT", b"3"]
    assert sorted(found[1:]) == [
        [b"HMSET", b"h", b"f", b"v"],
        [b"PEXPIREAT", b"h", b"1900000000123"],
        [b"SADD", b"s", b"1"],
        [b"SET", b"text", b"value"],
        [b"ZADD", b"z", b"0.10000000000000001", b"a", b"3", b"b", b"inf", b"c"],
    ]
