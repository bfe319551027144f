"""The keyspace: slots that are split and merged one by one, walks that miss nothing, deadlines."""

import random
from collections import Counter

import pytest

from node.key_table import LONGEST_CHAIN, MOST_RESERVED, NEVER, SLOT_MEMORY, _reverse
from node.keyspace import (
    EVENT_EXPIRED,
    EVENT_GENERIC,
    EVENT_STRING,
    Database,
    Keyspace,
)
from node.values.collection import Limits
from node.values.set import Set
from node.values.table import find_position


def make_keyspace(seed: int = 0) -> Keyspace:
    keyspace = Keyspace(2, Limits(), seed)
    keyspace.now = 1_000_000
    return keyspace


def check(db: Database) -> None:
    """The invariants of a database."""
    table = db.table
    assert len(table.slots) == table.size
    assert (table.mask + 1) // 2 <= table.size <= table.mask + 1
    count = volatile = 0
    for i, entry in enumerate(table.slots):
        while entry is not None:
            count += 1
            assert table.seek(entry.key) is entry
            if entry.place >= 0:
                volatile += 1
                assert entry.deadline != NEVER
                assert table.timed[entry.place] is entry
            else:
                assert entry.deadline == NEVER
            at = hash(entry.key) & table.mask
            if at >= table.size:
                at &= table.mask >> 1
            assert at == i
            entry = entry.next
    assert count == db.count == len(db)
    assert volatile == db.volatile
    assert table.room == (table.size - 1) * SLOT_MEMORY


@pytest.mark.parametrize("seed", range(5))
def test_random_changes_keep_the_invariants(seed: int) -> None:
    rng = random.Random(seed)
    keyspace = make_keyspace(seed)
    db = keyspace.databases[0]
    model: dict[bytes, bytes] = {}
    deadlines: dict[bytes, int] = {}
    empty = db.memory
    for step in range(12_000):
        key = b"%d" % rng.randrange(8000 if (step // 2000) % 2 == 0 else 300)
        action = rng.random()
        if action < 0.5:
            model[key] = b"v" * rng.randrange(100)
            keep = rng.random() < 0.3
            if not keep or db.table.seek(key) is None:
                deadlines.pop(key, None)
            db.put(key, model[key], keep)
        elif action < 0.8 or (step // 2000) % 2 == 1:
            assert db.delete(key) == (key in model)
            model.pop(key, None)
            deadlines.pop(key, None)
        elif key in model:
            if action < 0.9:
                deadlines[key] = keyspace.now + rng.randrange(1, 10**6)
                db.set_deadline(key, deadlines[key])
            else:
                assert db.persist(key) == (deadlines.pop(key, None) is not None)
    check(db)
    assert dict(db.items()) == model
    assert {key: db.deadline(key) for key in deadlines} == deadlines
    for key in list(model):
        db.delete(key)
    check(db)
    assert db.table.size == 1
    assert db.memory == empty


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("trend", [-1, 0, 1])
def test_scan_returns_all_that_is_there_throughout(seed: int, trend: int) -> None:
    rng = random.Random(seed)
    db = make_keyspace(seed).databases[0]
    stable = [b"stable:%d" % i for i in range(2000)]
    for key in stable:
        db.put(key, b"")
    passing = [b"passing:%d" % i for i in range(20_000)]
    if trend < 0:
        for key in passing:
            db.put(key, b"")
    found: set[bytes] = set()
    cursor = 0
    calls = 0
    while True:
        cursor, keys = db.table.scan(cursor, rng.choice([1, 10, 100]))
        found.update(keys)
        calls += 1
        if cursor == 0:
            break
        for _ in range(rng.randrange(400)):
            key = rng.choice(passing)
            if rng.random() < 0.5 + trend * 0.5:
                db.put(key, b"")
            else:
                db.delete(key)
    assert found >= set(stable)
    assert calls < 50_000


def test_scan_keeps_to_its_count() -> None:
    db = make_keyspace().databases[0]
    for i in range(5000):
        db.put(b"%d" % i, b"")
    for count in (1, 10, 1000):
        cursor, keys = db.table.scan(0, count)
        assert len(keys) == count
        assert 0 < cursor < 2**48
    assert sorted(db.table.scan(0, 10**6)[1]) == sorted(db.keys())


def test_a_position_is_a_hash_turned_round() -> None:
    for i in range(1000):
        key = b"%d" % i
        assert _reverse(find_position(key)) == hash(key) & (2**48 - 1)


@pytest.mark.parametrize("cursor", [1, 2**47, 2**48 - 1, 2**48, 2**64 - 1, 12345678901234567890])
def test_scan_takes_any_cursor(cursor: int) -> None:
    db = make_keyspace().databases[0]
    for i in range(1000):
        db.put(b"%d" % i, b"")
    after, keys = db.table.scan(cursor, 10)
    assert after >= 0
    assert all(find_position(key) >= cursor & (2**48 - 1) for key in keys)


def test_a_sparse_database_is_scanned_in_bounded_steps() -> None:
    db = make_keyspace().databases[0]
    for i in range(100_000):
        db.put(b"%d" % i, b"")
    # Emptied behind the back of the merging, as expiry of one region would leave it.
    table = db.table
    for i in range(1, table.size):
        table.count -= len(table.keys_at(i))
        table.slots[i] = None
    cursor, calls, found = 0, 0, 0
    while True:
        cursor, keys = db.table.scan(cursor, 10)
        found += len(keys)
        calls += 1
        if cursor == 0:
            break
    assert found == db.count
    assert calls >= table.size // 100


def test_random_key_is_uniform() -> None:
    db = make_keyspace(7).databases[0]
    for i in range(1000):
        db.put(b"%d" % i, b"")
    assert max(len(db.table.keys_at(i)) for i in range(db.table.size)) < LONGEST_CHAIN
    counts = Counter(db.random_key() for _ in range(100_000))
    assert len(counts) == 1000
    chi = sum((count - 100) ** 2 / 100 for count in counts.values())
    assert 800 < chi < 1200  # 999 degrees of freedom


def test_lazy_expiry_tells_everyone() -> None:
    keyspace = make_keyspace()
    db = keyspace.databases[0]
    events: list[tuple[bytes, bytes]] = []
    gone: list[bytes] = []
    keyspace.notify_flags = EVENT_EXPIRED | EVENT_STRING | EVENT_GENERIC
    keyspace.notify = lambda _class, event, key, _db: events.append((event, key))
    keyspace.key_deleted = lambda _db, key, _command: gone.append(key)
    db.put(b"k", b"v")
    db.set_deadline(b"k", keyspace.now + 10)
    assert db.find(b"k") == b"v"
    keyspace.now += 10
    assert db.find(b"k") is None
    assert (events, gone) == ([(b"expired", b"k")], [b"k"])
    assert keyspace.statistics.expired == 1
    assert (keyspace.statistics.hits, keyspace.statistics.misses) == (1, 1)
    check(db)


def test_where_expiry_is_not_ours_keys_are_only_hidden() -> None:
    keyspace = make_keyspace()
    keyspace.expiring = False
    db = keyspace.databases[0]
    db.put(b"k", b"v")
    db.set_deadline(b"k", keyspace.now)
    assert db.find(b"k") is None
    assert db.find_for_write(b"k") is None
    assert db.peek(b"k") is None
    assert db.count == 1


def test_overwriting_an_expired_key_expires_it_first() -> None:
    keyspace = make_keyspace()
    db = keyspace.databases[0]
    db.put(b"k", b"v")
    db.set_deadline(b"k", keyspace.now)
    db.put(b"k", b"w", keep_ttl=True)
    assert db.find(b"k") == b"w"
    assert db.deadline(b"k") is None
    assert keyspace.statistics.expired == 1
    check(db)


def test_large_values_are_freed_bit_by_bit() -> None:
    keyspace = make_keyspace()
    db = keyspace.databases[0]
    big = Set(keyspace.limits)
    for i in range(100_000):
        big.add(b"member:%d" % i)
    db.put(b"big", big)
    before = keyspace.used_memory
    assert before > 5_000_000
    db.delete(b"big")
    assert db.memory < 1000
    assert before - 1000 < keyspace.used_memory <= before
    rounds = 0
    while not keyspace.trash.drain(256):
        rounds += 1
    assert rounds > 100
    assert keyspace.used_memory == 0


def test_a_flushed_database_is_freed_bit_by_bit() -> None:
    keyspace = make_keyspace()
    db = keyspace.databases[0]
    for i in range(20_000):
        db.put(b"%d" % i, b"v")
    big = Set(keyspace.limits)
    for i in range(10_000):
        big.add(b"member:%d" % i)
    db.put(b"big", big)
    assert db.clear() == 20_001
    check(db)
    assert keyspace.used_memory > 0
    rounds = 0
    while not keyspace.trash.drain(256):
        rounds += 1
    assert rounds > 80
    assert keyspace.used_memory == 0


def test_swap_exchanges_the_data() -> None:
    keyspace = make_keyspace()
    first, second = keyspace.databases
    first.put(b"a", b"1")
    second.put(b"b", b"2")
    second.set_deadline(b"b", keyspace.now + 5)
    keyspace.swap(0, 1)
    assert (dict(first.items()), dict(second.items())) == ({b"b": b"2"}, {b"a": b"1"})
    assert first.deadline(b"b") == keyspace.now + 5
    check(first)
    check(second)


def test_the_lfu_counter_grows_slowly_and_decays() -> None:
    keyspace = make_keyspace(3)
    keyspace.lfu = True
    counter = keyspace.lfu_fresh()
    for _ in range(1000):
        counter = keyspace.lfu_used(counter)
    assert 10 < keyspace.lfu_decayed(counter) < 40
    keyspace.now += 60_000 * 7
    assert keyspace.lfu_decayed(counter) == (counter & 255) - 7


@pytest.mark.parametrize("count", [0, 1, 2, 47, 64, 1000, 5000])
def test_room_made_in_advance(count: int) -> None:
    """The table is as if it had grown, and shrinks and grows from there."""
    db = Keyspace(1, Limits()).databases[0]
    db.table.reserve(count)
    assert db.table.size == len(db.table.slots) == max(1, count)
    keys = [b"key:%d" % number for number in range(3000)]
    assert all(db.add(key, b"value") for key in keys)
    assert not any(db.add(key, b"other") for key in keys)
    assert sorted(db.keys()) == sorted(keys)
    assert {db.peek(key) for key in keys} == {b"value"}
    found: list[bytes] = []
    cursor, part = db.table.scan(0, 100)
    while True:
        found += part
        if not cursor:
            break
        cursor, part = db.table.scan(cursor, 100)
    assert sorted(found) == sorted(keys)
    check(db)
    assert all(db.delete(key) for key in keys)
    assert db.table.size < 10
    db.table.reserve(1 << 40)
    assert db.table.size == MOST_RESERVED


def test_a_random_key_where_there_was_room_made_for_many() -> None:
    db = Keyspace(1, Limits(), 1).databases[0]
    db.table.reserve(1 << 40)
    db.put(b"a", b"")
    db.put(b"b", b"")
    assert {db.random_key() for _ in range(100)} == {b"a", b"b"}
    check(db)


@pytest.mark.parametrize("lfu", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_many_keys_stored_at_once_are_as_those_stored_one_by_one(seed: int, lfu: bool) -> None:
    rng = random.Random(seed)
    pair = make_keyspace(seed), make_keyspace(seed)
    for keyspace in pair:
        keyspace.lfu = lfu
    one, other = (keyspace.databases[0] for keyspace in pair)
    for step in range(300):
        # Some twice; new ones, so that slots are split meanwhile; and values of all kinds before.
        words = [b"MSET"]
        for _ in range(rng.randrange(1, 40)):
            words += [b"%d" % rng.randrange(step + 20), bytes(rng.randrange(100))]
        for at in range(1, len(words), 2):
            one.put(words[at], words[at + 1])
        other.put_many(words, EVENT_STRING, b"set")
        for db in (one, other):
            db.keyspace.now += 1000
            key = words[1]
            if step % 3 == 0:
                db.set_deadline(key, db.keyspace.now + step % 2 * 100_000)
            elif step % 3 == 1:
                db.put(key, Set.from_members(db.keyspace.limits, [b"a", b"b"]))
            check(db)
    assert dict(one.items()).keys() == dict(other.items()).keys()
    for key, value in one.items():
        if isinstance(value, bytes):
            assert other.stored(key) == value
        assert other.deadline(key) == one.deadline(key)
        assert lfu or other.clock(key) == one.clock(key)
    assert one.memory == other.memory


@pytest.mark.parametrize("lfu", [False, True])
def test_many_keys_found_at_once_are_as_those_found_one_by_one(lfu: bool) -> None:
    rng = random.Random(1)
    pair = make_keyspace(1), make_keyspace(1)
    for keyspace in pair:
        keyspace.lfu = lfu
        db = keyspace.databases[0]
        for i in range(300):
            db.put(b"%d" % i, b"v%d" % i)
            if i % 3 == 0:
                db.set_deadline(b"%d" % i, keyspace.now + i * 10)
    one, other = (keyspace.databases[0] for keyspace in pair)
    for step in range(100):
        words = [b"MGET", *(b"%d" % rng.randrange(400) for _ in range(rng.randrange(1, 30)))]
        for keyspace in pair:
            keyspace.now += 20
            keyspace.clock = step
        assert other.find_many(words) == [one.find(key) for key in words[1:]]
    first, second = (keyspace.statistics for keyspace in pair)
    assert (first.hits, first.misses) == (second.hits, second.misses)
    assert first.expired == second.expired > 0
    assert all(lfu or other.clock(key) == one.clock(key) for key, _ in one.items())
    check(other)
