"""maxmemory: which keys go under which policy, who is refused, what is told of it."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator

import pytest
import trio
import trio.testing

from node.eviction import ENOUGH, IN_VAIN, UNFINISHED, Eviction, clients_memory
from node.keyspace import Database
from tests.inprocess import LocalClient, LocalServer
from tests.unit.test_expiration import TickingClock
from tests.wire import NULL, OK, QUEUED, Error, Reply

OOM = Error(b"OOM command not allowed when used memory > 'maxmemory'.")
ABORTED = Error(b"EXECABORT Transaction discarded because of previous errors.")
REFUSED_EXEC = Error(
    b"EXECABORT Transaction discarded because of: "
    b"OOM command not allowed when used memory > 'maxmemory'."
)
POLICIES = [
    f"{keys}-{rule}" for keys in ("allkeys", "volatile") for rule in ("lru", "lfu", "random")
]
POLICIES.append("volatile-ttl")


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with LocalServer() as local:
        yield local


def eviction_of(server: LocalServer) -> Eviction:
    return next(part for part in server.engine.components if isinstance(part, Eviction))


def configure(client: LocalClient, **directives: str | int) -> None:
    words = itertools.chain.from_iterable(
        (name.replace("_", "-"), str(value)) for name, value in directives.items()
    )
    assert client("CONFIG", "SET", *words) == OK


def limit_to_what_is_used(server: LocalServer, client: LocalClient, more: int = 0) -> None:
    """Nothing more fits than so many bytes."""
    used = server.keyspace.used_memory + clients_memory(server.engine)
    configure(client, maxmemory=used + more)


def add_keys(db: Database, prefix: bytes, count: int, ttl: Callable[[int], int] | None) -> None:
    for i in range(count):
        key = b"%b:%d" % (prefix, i)
        db.put(key, b"x" * 20)
        if ttl is not None:
            db.set_deadline(key, db.keyspace.now + ttl(i))


def press(client: LocalClient, count: int, *options: str) -> None:
    """Write more keys, so that others have to go."""
    for i in range(count):
        assert client("SET", f"new:{i}", "x" * 20, *options) == OK


def left_of(db: Database, prefix: bytes) -> int:
    return sum(1 for key, _ in db.items() if key.startswith(prefix + b":"))


# Refusals.


def test_without_eviction_what_needs_memory_is_refused(server: LocalServer) -> None:
    client = server.connect()
    client("SET", "k", "v")
    client("RPUSH", "l", "a", "b")
    configure(client, maxmemory=1)
    for request in ("SET k w", "LPUSH l x", "APPEND k x", "SETRANGE k 0 x", "COPY k m", "INCR n"):
        assert client(*request.split()) == OOM
    assert client("GET", "k") == b"v"
    assert client("RPOP", "l") == b"b"
    assert client("EXPIRE", "k", "100") == 1
    assert client("RENAME", "k", "m") == OK
    assert client("DEL", "m") == 1
    stats = client("INFO", "errorstats")
    assert isinstance(stats, bytes)
    assert b"errorstat_OOM:count=6\r\n" in stats
    configure(client, maxmemory=0)
    assert client("SET", "k", "w") == OK


def test_a_transaction_is_refused_while_it_is_queued(server: LocalServer) -> None:
    client = server.connect()
    client("SET", "k", "v")
    configure(client, maxmemory=1)
    assert client("MULTI") == OK
    # The queue itself takes memory, whatever is in it.
    assert client("GET", "k") == OOM
    assert client("SET", "k", "w") == OOM
    assert client("EXEC") == ABORTED
    assert client("MULTI") == OK
    assert client("PING") == OOM
    assert client("DISCARD") == OK
    assert client("MULTI") == OK
    assert client("EXEC") == []
    assert client("GET", "k") == b"v"


def test_a_queued_transaction_is_refused_as_a_whole(server: LocalServer) -> None:
    client, other = server.connect(), server.connect()
    client("SET", "k", "v")
    for commands, reply in (
        (["SET k w", "GET k"], REFUSED_EXEC),
        (["GET k", "DEL k"], [b"v", 1]),
    ):
        client("MULTI")
        for request in commands:
            assert client(*request.split()) == QUEUED
        configure(other, maxmemory=1)
        assert client("EXEC") == reply
        configure(other, maxmemory=0)
    assert client("EXISTS", "k") == 0


def test_the_same_in_a_pause(server: LocalServer) -> None:
    client, admin = server.connect(), server.connect()
    configure(client, maxmemory=1)
    admin("CLIENT", "PAUSE", "1000", "WRITE")
    # Put off rather than refused, since the pause may bring room.
    client.send("SET", "k", "v")
    assert not client.has_input()
    configure(admin, maxmemory=0)
    admin("CLIENT", "UNPAUSE")
    assert client.read() == OK


# Who goes.


@pytest.mark.parametrize("policy", POLICIES)
def test_the_limit_holds(server: LocalServer, policy: str) -> None:
    client = server.connect()
    db = server.keyspace.databases[0]
    add_keys(db, b"old", 2000, lambda i: 1_000_000 + i)
    configure(client, maxmemory_policy=policy)
    limit_to_what_is_used(server, client, 2000)
    options = ["EX", "1000"] if policy.startswith("volatile") else []
    press(client, 1000, *options)
    component = eviction_of(server)
    # The last command was let in below the limit; it may have made a bucket's dict grow.
    assert component.used() <= component.limit + 3000
    assert server.keyspace.statistics.evicted == pytest.approx(1000, abs=300)
    assert left_of(db, b"old") + left_of(db, b"new") == db.count
    stats = client("INFO", "stats")
    assert isinstance(stats, bytes)
    assert b"evicted_keys:%d\r\n" % server.keyspace.statistics.evicted in stats


@pytest.mark.parametrize("policy", [p for p in POLICIES if p.startswith("volatile")])
def test_persistent_keys_are_never_evicted_by_volatile_policies(
    server: LocalServer, policy: str
) -> None:
    client = server.connect()
    db = server.keyspace.databases[0]
    add_keys(db, b"persistent", 5000, None)
    add_keys(db, b"volatile", 300, lambda i: 1_000_000)
    configure(client, maxmemory_policy=policy)
    limit_to_what_is_used(server, client)
    replies: list[Reply] = []
    while OOM not in replies:
        replies.append(client("SET", f"new:{len(replies)}", "x" * 20))
    # All others had to go first.
    assert len(replies) > 200
    assert db.volatile == 0
    assert left_of(db, b"persistent") == 5000
    assert left_of(db, b"new") == len(replies) - 1
    assert client("GET", "persistent:0") == b"x" * 20
    # Keys that may go make room again: some, since the last key that was let in may have made a
    # bucket's dict grow by a few thousand bytes.
    for i in range(60):
        assert client("EXPIRE", f"persistent:{i}", "1000") == 1
    assert client("SET", "another", "x") == OK


def test_the_few_volatile_keys_of_a_large_database_are_found(server: LocalServer) -> None:
    client = server.connect()
    db = server.keyspace.databases[0]
    add_keys(db, b"persistent", 150_000, None)
    for i in range(3):
        db.set_deadline(b"persistent:%d" % (i * 31_111), server.keyspace.now + 10**6)
    configure(client, maxmemory_policy="volatile-lru")
    limit_to_what_is_used(server, client)
    component = eviction_of(server)
    for left in (2, 1, 0):
        component.limit = component.used() - 1
        while component.make_room() == UNFINISHED:
            pass
        assert db.volatile == left
    component.limit = component.used() - 1
    assert component.make_room() == IN_VAIN


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-lru"])
@pytest.mark.parametrize("samples", [5, 10])
def test_lru_keeps_what_was_used_recently(server: LocalServer, policy: str, samples: int) -> None:
    client = server.connect()
    db = server.keyspace.databases[0]
    configure(client, maxmemory_policy=policy, maxmemory_samples=samples)
    add_keys(db, b"cold", 2000, lambda i: 10**7)
    add_keys(db, b"hot", 2000, lambda i: 10**7)
    server.advance(100.0)
    for i in range(2000):
        assert client("GET", f"hot:{i}") == b"x" * 20
    server.advance(100.0)
    limit_to_what_is_used(server, client)
    press(client, 1000, "EX", "1000")
    assert left_of(db, b"cold") < 1100
    assert left_of(db, b"hot") > (1900 if samples == 5 else 1980)
    assert left_of(db, b"new") > 990


@pytest.mark.parametrize("policy", ["allkeys-lfu", "volatile-lfu"])
def test_lfu_keeps_what_is_used_often(server: LocalServer, policy: str) -> None:
    client = server.connect()
    db = server.keyspace.databases[0]
    configure(client, maxmemory_policy=policy)
    add_keys(db, b"rare", 1500, lambda i: 10**7)
    add_keys(db, b"often", 500, lambda i: 10**7)
    for _ in range(60):
        for i in range(500):
            client("GET", f"often:{i}")
    # Used once, but last.
    server.advance(30.0)
    for i in range(1500):
        client("GET", f"rare:{i}")
    limit_to_what_is_used(server, client)
    press(client, 500, "EX", "1000")
    assert left_of(db, b"often") > 480
    assert left_of(db, b"rare") < 1300


def test_lfu_forgets(server: LocalServer) -> None:
    client = server.connect()
    configure(client, maxmemory_policy="allkeys-lfu", lfu_log_factor=0, lfu_decay_time=1)
    client("SET", "k", "v")
    for _ in range(20):
        client("GET", "k")
    assert client("OBJECT", "FREQ", "k") == 25
    server.advance(600.0)
    assert client("OBJECT", "FREQ", "k") == 15
    configure(client, lfu_decay_time=5)
    assert client("OBJECT", "FREQ", "k") == 23
    configure(client, lfu_decay_time=0)
    assert client("OBJECT", "FREQ", "k") == 25


def test_ttl_takes_what_expires_next(server: LocalServer) -> None:
    client = server.connect()
    db = server.keyspace.databases[0]
    order = list(range(2000))
    random.Random(5).shuffle(order)
    add_keys(db, b"old", 2000, lambda i: 100_000 + order[i] * 100)
    configure(client, maxmemory_policy="volatile-ttl", maxmemory_samples=10)
    limit_to_what_is_used(server, client)
    press(client, 500)
    gone = sorted(order[i] for i in range(2000) if db.peek(b"old:%d" % i) is None)
    assert len(gone) > 300
    # A random choice would take as many from each part.
    assert gone[len(gone) * 9 // 10] < 700
    assert gone[-1] < 1400


@pytest.mark.parametrize("policy", ["allkeys-random", "volatile-random"])
def test_random_takes_anything(server: LocalServer, policy: str) -> None:
    client = server.connect()
    db = server.keyspace.databases[0]
    configure(client, maxmemory_policy=policy)
    add_keys(db, b"old", 2000, lambda i: 10**7 + i)
    limit_to_what_is_used(server, client)
    press(client, 1000)
    gone = [i for i in range(2000) if db.peek(b"old:%d" % i) is None]
    assert len(gone) > 500
    assert 0.4 < sum(gone) / len(gone) / 2000 < 0.6


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-random", "volatile-ttl"])
def test_all_databases_take_part(server: LocalServer, policy: str) -> None:
    client = server.connect()
    configure(client, maxmemory_policy=policy)
    for db in server.keyspace.databases:
        add_keys(db, b"old", 100, lambda i: 10**6 + i)
    server.advance(10.0)
    limit_to_what_is_used(server, client)
    press(client, 800)
    left = [left_of(db, b"old") for db in server.keyspace.databases]
    assert all(count < 95 for count in left)
    assert all(count > 5 for count in left[1:])


def test_a_policy_set_later_judges_anew(server: LocalServer) -> None:
    client = server.connect()
    db = server.keyspace.databases[0]
    add_keys(db, b"persistent", 500, None)
    server.advance(10.0)
    add_keys(db, b"volatile", 500, lambda i: 10**6)
    configure(client, maxmemory_policy="allkeys-lru")
    limit_to_what_is_used(server, client)
    press(client, 50)
    assert left_of(db, b"volatile") > 490
    configure(client, maxmemory_policy="volatile-lru")
    before = left_of(db, b"persistent")
    press(client, 50)
    assert left_of(db, b"persistent") == before


# What is told.


def test_events(server: LocalServer) -> None:
    client, listener = server.connect(), server.connect()
    configure(client, maxmemory_policy="allkeys-random", notify_keyspace_events="Ee")
    listener("PSUBSCRIBE", "*")
    client("SET", "k", "v" * 1000)
    limit_to_what_is_used(server, client, -500)
    assert client("SET", "m", "v") == OK
    assert listener.read() == [b"pmessage", b"*", b"__keyevent@0__:evicted", b"k"]


def test_a_watched_key_that_is_evicted_fails_the_transaction(server: LocalServer) -> None:
    client, other = server.connect(3), server.connect()
    configure(client, maxmemory_policy="allkeys-random")
    client("SET", "k", "v" * 1000)
    client("WATCH", "k")
    limit_to_what_is_used(server, other, -500)
    assert other("SET", "m", "v") == OK
    assert client("EXISTS", "k") == 0
    client("MULTI")
    client("PING")
    assert client("EXEC") == NULL


@pytest.mark.parametrize(("lazy", "command"), [("no", b"DEL"), ("yes", b"UNLINK")])
def test_the_log(server: LocalServer, lazy: str, command: bytes) -> None:
    client = server.connect()
    configure(client, maxmemory_policy="allkeys-random", lazyfree_lazy_eviction=lazy)
    for i in range(3):
        client("SET", f"key:{i}", "v" * 1000)
    logged: list[bytes] = []
    limit_to_what_is_used(server, client, -2900)
    server.engine.command_log.attach(logged.append)
    client("SET", "m", "v")
    wire = b"".join(logged)
    assert wire.count(command) == 3
    # Each stands by itself, before the command that made it necessary.
    assert b"MULTI" not in wire
    assert wire.rindex(command) < wire.index(b"SET")


# Time.


@pytest.mark.parametrize(("tenacity", "most"), [(0, 16), (10, 16 * 6), (30, 16 * 90)])
def test_tenacity_bounds_the_time(server: LocalServer, tenacity: int, most: int) -> None:
    client = server.connect()
    db = server.keyspace.databases[0]
    add_keys(db, b"old", 20_000, None)
    configure(client, maxmemory_policy="allkeys-lru", maxmemory_eviction_tenacity=tenacity)
    configure(client, maxmemory=100_000)
    server.engine.clock = TickingClock(server.clock, 100_000)
    component = eviction_of(server)
    assert component.make_room() == UNFINISHED
    assert 16 <= server.keyspace.statistics.evicted <= most
    assert component.exceeded_since > 0
    # The command passes all the same, since the rest is on its way out.
    assert client("SET", "k", "v") == OK
    configure(client, maxmemory_eviction_tenacity=100)
    assert component.make_room() == ENOUGH
    assert component.exceeded_since == 0
    assert component.exceeded_ns > 0


async def test_the_task_goes_on_with_what_is_left(
    server: LocalServer, autojump_clock: trio.testing.MockClock
) -> None:
    client = server.connect()
    db = server.keyspace.databases[0]
    add_keys(db, b"old", 20_000, None)
    server.engine.clock = TickingClock(server.clock, 100_000)
    component = eviction_of(server)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(component.run)
        await trio.sleep(1)
        # The new limit is enough to start it, no command has to come.
        configure(client, maxmemory_policy="allkeys-lru", maxmemory=1_000_000)
        await trio.sleep(1)
        assert component.used() <= 1_000_000
        assert db.count > 1000
        configure(client, maxmemory=500_000, maxmemory_eviction_tenacity=0)
        await trio.sleep(1)
        assert component.used() <= 500_000
        nursery.cancel_scope.cancel()


def test_buffers_of_clients_count(server: LocalServer) -> None:
    client = server.connect()
    client("SET", "k", "v")
    configure(client, maxmemory=100_000)
    component = eviction_of(server)
    component.tick(0)
    assert client("SET", "k", "v") == OK
    client.session.out_size = 200_000
    component.tick(0)
    assert client("SET", "k", "v") == OOM
    client.session.out_size = 0
    component.tick(0)
    assert client("SET", "k", "v") == OK


def test_what_is_on_its_way_out_does_not_count(server: LocalServer) -> None:
    client = server.connect()
    client("SADD", "big", *[f"member:{i}" for i in range(10_000)])
    component = eviction_of(server)
    configure(client, maxmemory=component.used() + 100_000)
    used = component.used()
    client("DEL", "big")
    assert server.keyspace.trash.memory > 500_000
    assert component.used() < used - 500_000
    while not server.keyspace.trash.drain(1000):
        pass
    assert server.keyspace.used_memory == 0
