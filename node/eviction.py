"""maxmemory: what happens when the data no longer fits.

Before each command, as in Redis's ``evict.c``: while more is used than ``maxmemory`` allows, keys
go, chosen by the policy from small random samples; the best candidates of earlier samples are kept
in a pool, which makes the choice close to the true least recently (or frequently) used. When
nothing can go, commands that may use more memory are refused with OOM. Where more must go than the
time for it allows (``maxmemory-eviction-tenacity``), the commands pass and a task goes on with it.

What counts is what grows: data (accounted by increments in the keyspace) and clients' buffers, not
the interpreter itself, and not values that are already on their way out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import trio

from node.command import DENYOOM, Command
from node.component import Component
from node.engine import STAGE_MEMORY, Engine
from node.information import Fields, Section
from node.key_table import NEVER, Entry
from node.keyspace import STILL_REPLICA, Database
from node.resp import Error, Reply
from node.session import CLASS_REPLICA, Session

if TYPE_CHECKING:
    from node.server import Server

POOL_SIZE: Final = 16
# Beyond this more samples would only take longer.
MOST_SAMPLES: Final = 1000
# Clients' buffers are added up over this many clients per tick at most, on average.
CLIENTS_PER_TICK: Final = 1000
OOM: Final = b"OOM command not allowed when used memory > 'maxmemory'."

# What a client in MULTI may do when memory is short.
NEVER_DENIED: Final = frozenset((b"discard", b"quit", b"reset"))

# How making room went.
ENOUGH: Final = 0  # the limit holds
UNFINISHED: Final = 1  # more has to go, and can
IN_VAIN: Final = 2  # more would have to go, but the policy finds nothing


def clients_memory(engine: Engine) -> int:
    """Bytes held for clients: a fixed part each, queued requests and unsent replies.

    Without replicas: what is queued for them does not count against maxmemory, since evicting keys
    would only make it more.
    """
    total = 0
    for session in engine.sessions.values():
        if session.client_class != CLASS_REPLICA or session.monitor:
            total += session.memory
    return total


def buffers_memory(engine: Engine) -> int:
    """Bytes beside the data that count against maxmemory."""
    return clients_memory(engine) + engine.command_log.kept()[0]


def replicas_memory(engine: Engine) -> int:
    """Bytes held for replicas, counted as for other clients."""
    total = 0
    for session in engine.sessions.values():
        if session.client_class == CLASS_REPLICA and not session.monitor:
            total += session.memory
    return total


class Candidate:
    """A key that may have to go; the higher its ``score`` the sooner."""

    __slots__ = ("score", "db", "key")

    def __init__(self, score: int, db: Database, key: bytes) -> None:
        self.score = score
        self.db = db
        self.key = key


class Eviction(Component):
    """Keeps the data within maxmemory.

    ``limit`` in bytes, 0 for none. ``exceeded_since`` (monotonic nanoseconds, 0 if not) and
    ``exceeded_ns`` tell how long the limit could not be kept.
    """

    def __init__(self, server: Server) -> None:
        super().__init__(server.engine)
        self._config = server.config
        self._pool: list[Candidate] = []
        self._next_db = 0
        self._guarding = False
        self.limit = 0
        self._policy = "noeviction"
        self._volatile = False
        self._samples = 5
        self._time_limit = 0
        self._buffers_memory = 0
        self._ticks = 0
        self._work = trio.Event()
        self.exceeded_since = 0
        self.exceeded_ns = 0
        server.config.on_change(
            (
                "maxmemory",
                "maxmemory-policy",
                "maxmemory-samples",
                "maxmemory-eviction-tenacity",
                "lazyfree-lazy-eviction",
                "lfu-log-factor",
                "lfu-decay-time",
            ),
            self.configure,
        )
        self.configure()

    def configure(self) -> None:
        """Take over the directives."""
        config = self._config
        keyspace = self.engine.keyspace
        before = self.limit
        self.limit = config.integer("maxmemory")
        policy = config.text("maxmemory-policy")
        if policy != self._policy:
            self._policy = policy
            self._volatile = policy.startswith("volatile")
            self._pool.clear()
        self._samples = min(config.integer("maxmemory-samples"), MOST_SAMPLES)
        keyspace.evict_command = b"UNLINK" if config.boolean("lazyfree-lazy-eviction") else b"DEL"
        keyspace.lfu = policy.endswith("lfu")
        keyspace.lfu_log_factor = config.integer("lfu-log-factor")
        keyspace.lfu_decay_minutes = config.integer("lfu-decay-time")
        tenacity = config.integer("maxmemory-eviction-tenacity")
        # evictionTimeLimitUs: up to 500 µs linearly, then geometrically, at 100 without limit.
        if tenacity <= 10:
            self._time_limit = 50_000 * tenacity
        elif tenacity < 100:
            self._time_limit = int(500_000 * 1.15 ** (tenacity - 10))
        else:
            self._time_limit = 1 << 62
        if self.limit and not self._guarding:
            self.engine.add_guard(STAGE_MEMORY, self.guard)
        elif not self.limit and self._guarding:
            self.engine.remove_guard(self.guard)
            self._end_excess()
        self._guarding = self.limit > 0
        if self.limit and self.limit != before:
            self._buffers_memory = buffers_memory(self.engine)
            used = self.used()
            if used > self.limit:
                self.engine.log.warning(
                    f"maxmemory is {self.limit} bytes now, less than the {used} bytes in use: "
                    "keys will be evicted or writes refused, as maxmemory-policy has it."
                )
                self._work.set()

    def sections(self) -> Sequence[Section]:
        return (Section("Stats", self._collect),)

    def _collect(self) -> Fields:
        current = 0
        if self.exceeded_since:
            current = self.engine.clock.monotonic_ns() - self.exceeded_since
        return [
            ("total_eviction_exceeded_time", (self.exceeded_ns + current) // 1_000_000),
            ("current_eviction_exceeded_time", current // 1_000_000),
        ]

    def reset_statistics(self) -> None:
        self.exceeded_ns = 0

    def used(self) -> int:
        """Bytes that count against maxmemory."""
        keyspace = self.engine.keyspace
        return keyspace.used_memory - keyspace.trash.memory + self._buffers_memory

    def tick(self, now_ns: int) -> None:
        """Clients' buffers are added up here, not for every command."""
        if not self.limit:
            return
        self._ticks -= 1
        if self._ticks < 0:
            self._ticks = len(self.engine.sessions) // CLIENTS_PER_TICK
            self._buffers_memory = buffers_memory(self.engine)
        if self.used() > self.limit:
            self._work.set()

    async def run(self) -> None:
        """Go on with what commands had no time for, a portion at a time."""
        while True:
            await self._work.wait()
            self._work = trio.Event()
            while self.limit and self.used() > self.limit:
                self.engine.refresh()
                if self.make_room() != UNFINISHED:
                    break
                await trio.lowlevel.checkpoint()

    # Before each command.

    def guard(self, session: Session, command: Command, argv: list[bytes]) -> Reply:
        """Make room; refuse what would need more when there is none."""
        keyspace = self.engine.keyspace
        used = keyspace.used_memory - keyspace.trash.memory + self._buffers_memory
        if used <= self.limit:
            if self.exceeded_since:
                self._end_excess()
            return None
        if keyspace.still and self._is_still():
            return None
        result = self.make_room()
        if result == UNFINISHED:
            self._work.set()
        elif result == IN_VAIN:
            denied = command.flags & DENYOOM
            if session.queue is not None:
                # A queue may not grow either, whatever it is that is queued.
                if command.name == b"exec":
                    denied = session.queue_flags & DENYOOM
                elif command.name not in NEVER_DENIED:
                    denied = DENYOOM
            if denied:
                return Error(OOM)
        return None

    def make_room(self) -> int:
        """Evict until the limit holds, nothing can go, or the time for it is up.

        Returns ENOUGH, IN_VAIN or UNFINISHED.
        """
        keyspace = self.engine.keyspace
        if keyspace.still and self._is_still():
            return ENOUGH
        result = IN_VAIN if self._policy == "noeviction" else self._evict()
        if result == ENOUGH:
            self._end_excess()
        elif not self.exceeded_since:
            self.exceeded_since = self.engine.clock.monotonic_ns()
        return result

    def _is_still(self) -> bool:
        """Whether nothing may go: a replica evicts by itself only if told to have a limit."""
        return self.engine.keyspace.still != STILL_REPLICA or self._config.boolean(
            "replica-ignore-maxmemory"
        )

    def _end_excess(self) -> None:
        if self.exceeded_since:
            self.exceeded_ns += self.engine.clock.monotonic_ns() - self.exceeded_since
            self.exceeded_since = 0

    def _evict(self) -> int:
        engine = self.engine
        clock = engine.clock
        start = clock.monotonic_ns()
        until = start + self._time_limit
        evicted = 0
        result = ENOUGH
        while self.used() > self.limit:
            found = self._choose()
            if found is None:
                result = UNFINISHED if self._can_go_on() else IN_VAIN
                break
            db, key = found
            db.evict(key)
            evicted += 1
            if evicted % 16 == 0 and clock.monotonic_ns() > until:
                if self.used() > self.limit:
                    result = UNFINISHED
                break
        if evicted:
            engine.settle_background()
            engine.report_stall(b"eviction-cycle", clock.monotonic_ns() - start)
        return result

    # The choice.

    def _can_go_on(self) -> bool:
        """Whether there is any key that the policy may choose."""
        for db in self.engine.keyspace.databases:
            if db.volatile if self._volatile else db.count:
                return True
        return False

    def _choose(self) -> tuple[Database, bytes] | None:
        """The next key to go; None when none was found, be it for want of time."""
        databases = self.engine.keyspace.databases
        if self._policy.endswith("random"):
            for _ in databases:
                self._next_db = (self._next_db + 1) % len(databases)
                db = databases[self._next_db]
                for entry in self._sample(db, 1):
                    return db, entry.key
            return None
        # Another one first each time, since the pool may be full before the last.
        first = self._next_db = (self._next_db + 1) % len(databases)
        for db in databases[first:] + databases[:first]:
            if db.volatile if self._volatile else db.count:
                self._fill_pool(db)
        while self._pool:
            best = self._pool.pop()
            stored = best.db.table.seek(best.key)
            if stored is not None and (not self._volatile or stored.deadline != NEVER):
                return best.db, best.key
        return None

    def _fill_pool(self, db: Database) -> None:
        """Put the better ones of a fresh sample into the pool, the best at its end."""
        keyspace = db.keyspace
        by_deadline = self._policy == "volatile-ttl"
        pool = self._pool
        known = {candidate.key for candidate in pool if candidate.db is db}
        for entry in self._sample(db, self._samples):
            key = entry.key
            if key in known:
                continue
            known.add(key)
            score: int
            if by_deadline:
                score = -entry.deadline
            elif keyspace.lfu:
                score = 255 - keyspace.lfu_decayed(entry.clock)
            else:
                score = (keyspace.clock - entry.clock) & 0xFFFFFF
            if len(pool) >= POOL_SIZE and score <= pool[0].score:
                continue
            at = len(pool)
            while at and pool[at - 1].score > score:
                at -= 1
            pool.insert(at, Candidate(score, db, key))
            if len(pool) > POOL_SIZE:
                del pool[0]

    def _sample(self, db: Database, count: int) -> list[Entry]:
        """Up to ``count`` random keys that may go; some may be the same, or none be found."""
        random = db.keyspace.random.random
        if self._volatile:
            return db.table.sample_timed(count, random)
        return db.table.sample(count, random)
