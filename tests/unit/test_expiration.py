"""Active expiry: bounded slices, cycles that adapt to what they find, what is told of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio
import trio.testing

from node.expiration import FAST_INTERVAL, SLICE_NS, Expiration
from node.keyspace import Database
from tests.inprocess import FakeClock, LocalServer

FAR = 10**15


class TickingClock:
    """Time passes with each look at it: what it takes to do things, as it were."""

    def __init__(self, clock: FakeClock, step: int) -> None:
        self.clock = clock
        self.step = step

    def wall(self) -> float:
        return self.clock.wall()

    def monotonic_ns(self) -> int:
        self.clock.ns += self.step
        return self.clock.ns


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with LocalServer("--enable-debug-command", "yes") as local:
        yield local


def expiration_of(server: LocalServer) -> Expiration:
    return next(part for part in server.engine.components if isinstance(part, Expiration))


def fill(db: Database, count: int, ttl: int, prefix: bytes = b"key") -> None:
    """Keys that expire in so many milliseconds, 0 for never."""
    for i in range(count):
        key = b"%b:%d" % (prefix, i)
        db.put(key, b"v")
        if ttl:
            db.set_deadline(key, db.keyspace.now + ttl)


async def run_and_tick(expiration: Expiration) -> None:
    """As in a server: its task, and a tick ten times a second."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(expiration.run)
        while True:
            expiration.tick(0)
            await trio.sleep(0.1)


def run_slices(server: LocalServer, db: Database, most: int) -> int:
    """Slices until one says that there is little left to do; how many it took."""
    expiration = expiration_of(server)
    for number in range(1, most + 1):
        if not expiration.expire_slice(db, FAR, expiration.acceptable):
            return number
    raise AssertionError("no end")


def test_what_is_due_goes_and_the_rest_stays(server: LocalServer) -> None:
    db = server.keyspace.databases[3]
    fill(db, 5000, 10, b"due")
    fill(db, 5000, 0, b"persistent")
    server.advance(1.0)
    fill(db, 20, 10_000, b"later")
    while db.volatile > 20:
        run_slices(server, db, 100)
    assert server.keyspace.statistics.expired == 5000
    assert sorted(key.partition(b":")[0] for key, _ in db.items()) == (
        [b"later"] * 20 + [b"persistent"] * 5000
    )


def test_a_slice_ends_when_its_time_is_up(server: LocalServer) -> None:
    db = server.keyspace.databases[0]
    fill(db, 20_000, 10)
    server.advance(1.0)
    clock = TickingClock(server.clock, 100_000)
    server.engine.clock = clock
    until = clock.monotonic_ns() + SLICE_NS
    assert expiration_of(server).expire_slice(db, until, 0.1)
    gone = 20_000 - db.count
    # The clock is read every few keys.
    assert 0 < gone < 7 * 200
    assert server.clock.ns <= until + 200_000


def test_the_only_one_among_many_is_found_at_once(server: LocalServer) -> None:
    db = server.keyspace.databases[0]
    fill(db, 50_000, 0)
    db.set_deadline(b"key:1", server.keyspace.now + 1)
    server.advance(1.0)
    assert run_slices(server, db, 1) == 1
    assert db.volatile == 0


@pytest.mark.parametrize("first", ["due", "lasting"])
def test_the_order_in_which_keys_came_does_not_matter(server: LocalServer, first: str) -> None:
    """Those that are due are found even where there are long stretches of others."""
    db = server.keyspace.databases[0]
    if first == "due":
        fill(db, 5_000, 10, b"due")
    fill(db, 20_000, 100_000)
    if first == "lasting":
        fill(db, 5_000, 10, b"due")
    server.advance(1.0)
    run_slices(server, db, 1000)
    # A tenth of those that there are may be left.
    assert db.volatile < 20_000 * 1.2


def test_little_to_do_ends_early(server: LocalServer) -> None:
    db = server.keyspace.databases[0]
    fill(db, 50_000, 100_000)
    fill(db, 1000, 10, b"due")
    server.advance(1.0)
    # 2% are due, fewer than may be left.
    assert run_slices(server, db, 1) == 1
    assert server.keyspace.statistics.expired <= 400


def test_effort_leaves_less(server: LocalServer) -> None:
    db = server.keyspace.databases[0]
    client = server.connect()
    client("CONFIG", "SET", "active-expire-effort", "10")
    assert expiration_of(server).acceptable == 0.01
    fill(db, 50_000, 100_000)
    fill(db, 1000, 10, b"due")
    server.advance(1.0)
    # Fewer and fewer are left to be found, until it is not worth it.
    for _ in range(100):
        run_slices(server, db, 100)
    assert server.keyspace.statistics.expired > 500


def test_the_average_time_to_live(server: LocalServer) -> None:
    db = server.keyspace.databases[0]
    fill(db, 10_000, 60_000)
    server.engine.refresh()
    for _ in range(30):
        run_slices(server, db, 1)
    assert db.average_ttl == pytest.approx(60_000, rel=0.01)
    server.advance(30.0)
    for _ in range(100):
        run_slices(server, db, 1)
    assert db.average_ttl == pytest.approx(30_000, rel=0.1)
    info = server.connect()("INFO", "keyspace")
    assert isinstance(info, bytes)
    assert b"db0:keys=10000,expires=10000,avg_ttl=%d\r\n" % db.average_ttl in info


def test_small_databases_are_looked_at_once_a_slice(server: LocalServer) -> None:
    db = server.keyspace.databases[0]
    fill(db, 5, 60_000)
    clock = TickingClock(server.clock, 1000)
    server.engine.clock = clock
    before = clock.clock.ns
    assert not expiration_of(server).expire_slice(db, FAR, 0.1)
    assert clock.clock.ns - before <= 2000


@pytest.mark.parametrize(("lazy", "command"), [("no", b"DEL"), ("yes", b"UNLINK")])
def test_the_log_names_each_key_by_itself(server: LocalServer, lazy: str, command: bytes) -> None:
    client = server.connect()
    client("CONFIG", "SET", "lazyfree-lazy-expire", lazy)
    logged: list[bytes] = []
    server.engine.command_log.attach(logged.append)
    db = server.keyspace.databases[0]
    fill(db, 3, 10)
    server.advance(1.0)
    run_slices(server, db, 2)
    server.engine.settle_background()
    wire = b"".join(logged)
    assert wire.count(command) == 3
    assert b"MULTI" not in wire
    assert all(b"key:%d" % i in wire for i in range(3))


# The task, in trio's virtual time.


async def wait_until_empty(db: Database, most: float) -> None:
    with trio.fail_after(most):
        while db.count:  # noqa: ASYNC110 (a database tells nobody that it is empty)
            await trio.sleep(0.01)


async def test_the_task_expires_everything(
    server: LocalServer, autojump_clock: trio.testing.MockClock
) -> None:
    db = server.keyspace.databases[1]
    fill(db, 3000, 10)
    server.advance(1.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_and_tick, expiration_of(server))
        await wait_until_empty(db, 10)
        nursery.cancel_scope.cancel()
    assert server.keyspace.statistics.expired == 3000
    assert server.keyspace.statistics.expired_time_cap_reached == 0


async def test_a_cycle_keeps_to_its_share_of_the_time(
    server: LocalServer, autojump_clock: trio.testing.MockClock
) -> None:
    db = server.keyspace.databases[0]
    fill(db, 40_000, 10)
    server.advance(1.0)
    server.engine.clock = TickingClock(server.clock, 100_000)
    statistics = server.keyspace.statistics
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_and_tick, expiration_of(server))
        # The first cycle of 10 a second: a quarter of 100 ms.
        with trio.fail_after(10):
            while statistics.expire_cycle_cpu_ns == 0:
                await trio.lowlevel.checkpoint()
        assert 24e6 < statistics.expire_cycle_cpu_ns < 28e6
        assert statistics.expired_time_cap_reached == 1
        first = statistics.expired
        assert 0 < first < 40_000
        # Fast slices until the next cycle.
        await trio.sleep(FAST_INTERVAL * 10)
        assert first < statistics.expired
        await wait_until_empty(db, 60)
        nursery.cancel_scope.cancel()
    stats = server.connect()("INFO", "stats")
    assert isinstance(stats, bytes)
    assert b"expired_keys:40000\r\n" in stats
    share = float(stats.partition(b"expired_stale_perc:")[2].split()[0])
    assert 0 < share <= 100


@pytest.mark.parametrize("reason", ["DEBUG", "PAUSE"])
async def test_the_task_does_nothing_while_it_must_not(
    server: LocalServer, autojump_clock: trio.testing.MockClock, reason: str
) -> None:
    client = server.connect()
    if reason == "DEBUG":
        client("DEBUG", "SET-ACTIVE-EXPIRE", "0")
    else:
        client("CLIENT", "PAUSE", "100000", "WRITE")
    db = server.keyspace.databases[0]
    fill(db, 100, 10)
    server.advance(1.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_and_tick, expiration_of(server))
        await trio.sleep(5)
        assert db.count == 100
        if reason == "DEBUG":
            client("DEBUG", "SET-ACTIVE-EXPIRE", "1")
        else:
            client("CLIENT", "UNPAUSE")
        await wait_until_empty(db, 10)
        nursery.cancel_scope.cancel()
