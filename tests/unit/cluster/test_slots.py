"""Slots of keys, and the index of each slot's keys against a recount."""

from __future__ import annotations

import random
import re
from binascii import crc_hqx
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.slots import SlotIndex, key_slot, slot_index
from node.key_table import Entry
from node.keyspace import Database
from tests.differential.families import FAMILIES
from tests.differential.grammar import PROLOGUE, steps
from tests.inprocess import LocalServer

# --- the slot of a key ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "hashed"),
    [
        (b"123456789", b"123456789"),
        (b"", b""),
        (b"{user1000}.following", b"user1000"),
        (b"foo{}{bar}", b"foo{}{bar}"),
        (b"foo{{bar}}zap", b"{bar"),
        (b"foo{bar}{zap}", b"bar"),
        (b"a}b{c", b"a}b{c"),
        (b"}{x}", b"x"),
    ],
)
def test_slot_of_a_key(key: bytes, hashed: bytes) -> None:
    for _ in range(2):
        assert key_slot(key) == crc_hqx(hashed, 0) % 16384
    assert key_slot(b"123456789") == 0x31C3


def tag_of(key: bytes) -> bytes:
    """What of a key is hashed, by the letter of the specification."""
    match = re.match(rb"[^{]*\{([^}]+)\}", key, re.DOTALL)
    return key if match is None else match[1]


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=20),
            st.lists(st.sampled_from(b"{}ab"), max_size=7).map(bytes),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_slots_do_not_depend_on_what_was_asked_before(keys: list[bytes]) -> None:
    for key in (*keys, *keys):
        assert key_slot(key) == crc_hqx(tag_of(key), 0) % 16384


# --- the index -----------------------------------------------------------------------------------


def check(db: Database) -> None:
    """The index has what a recount finds."""
    index = slot_index(db)
    expected: dict[int, set[bytes]] = {}
    for key in [*db.keys()]:
        expected.setdefault(key_slot(key), set()).add(key)
    assert index.used() == sorted(expected)
    for slot, keys in expected.items():
        assert index.count(slot) == len(keys)
        assert set(index.keys(slot, 1 << 40)) == keys
        assert len(index.keys(slot, 1)) == 1
    if not expected:
        assert index.memory == 0


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with LocalServer("--enable-debug-command", "yes") as local:
        for db in local.keyspace.databases:
            db.index_keys(SlotIndex())
        yield local


@pytest.mark.parametrize("family", ["keys", "strings", "dumps"])
@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_commands_keep_the_index(server: LocalServer, family: str, data: st.DataObject) -> None:
    client = server.connect()
    client("FLUSHALL", "SYNC")
    for argv in PROLOGUE:
        client(*argv)
    for step in data.draw(steps(FAMILIES[family]), label=family):
        client.send(*step.argv)
        if client.session.blocked is not None:
            client.close()
            client = server.connect()
        if data.draw(st.booleans()):
            server.advance(data.draw(st.sampled_from([0.001, 1.0, 100.0])))
        check(client.session.db)
    client.close()
    for db in server.keyspace.databases:
        check(db)
        for key in [*db.keys()]:
            db.delete(key)
        assert db.memory == 0
        check(db)
    while not server.keyspace.trash.drain(100):
        pass
    assert server.keyspace.used_memory == 0


def test_an_index_of_what_is_there_already() -> None:
    with LocalServer() as local:
        client = local.connect()
        for n in range(500):
            client("SET", f"key:{n}", n)
        db = local.keyspace.databases[0]
        before = db.memory
        db.index_keys(SlotIndex())
        check(db)
        assert db.memory - before == slot_index(db).memory > 0


def test_eviction_is_heard_of() -> None:
    with LocalServer("--maxmemory-policy", "allkeys-random") as local:
        db = local.keyspace.databases[0]
        db.index_keys(SlotIndex())
        client = local.connect()
        for n in range(2000):
            client("SET", f"key:{n}", n)
        client("CONFIG", "SET", "maxmemory", local.keyspace.used_memory // 2)
        client("SET", "another", 1)
        assert db.count < 2000
        check(db)


def test_a_full_synchronization_brings_an_index() -> None:
    with LocalServer() as local:
        keyspace = local.keyspace
        db = keyspace.databases[0]
        db.index_keys(SlotIndex())
        local.connect()("SET", "old", 1)
        fresh = keyspace.sibling()
        for n in range(100):
            fresh.databases[0].add(b"key:%d" % n, b"value")
        check(fresh.databases[0])
        keyspace.replace_all(fresh)
        check(db)
        assert db.count == 100
        while not keyspace.trash.drain(10):
            pass
        assert keyspace.used_memory == db.memory


def make_entry(key: bytes) -> Entry:
    return Entry(key, b"", 0, 0, None)


def test_entries_come_and_go_in_any_order() -> None:
    index = SlotIndex()
    rng = random.Random(1)
    entries = [make_entry(b"{t}%d" % n) for n in range(2000)]
    others = [make_entry(b"other:%d" % n) for n in range(100)]
    slot = key_slot(b"t")
    total = sum(map(index.add, others))
    for entry in entries:
        total += index.add(entry)
    assert total == index.memory
    assert index.count(slot) == len(entries)
    assert len(set(index.keys(slot, 10))) == 10
    assert slot in index.used()
    rng.shuffle(entries)
    while entries:
        assert set(index.keys(slot, 1 << 40)) == {entry.key for entry in entries}
        for _ in range(50):
            total += index.discard(entries.pop())
        assert total == index.memory
        assert index.count(slot) == len(entries)
    assert slot not in index.used()
    for entry in others:
        total += index.discard(entry)
    assert index.used() == []
    assert index.memory == total == 0


def test_an_index_is_freed_in_portions() -> None:
    index = SlotIndex()
    for n in range(4000):
        index.add(make_entry(b"{t}%d" % n))
        index.add(make_entry(b"%d" % n))
    turns = 1
    while not index.drain(100):
        turns += 1
    assert turns > 8000 / 150
    assert index.memory == 0
    assert index.used() == []
