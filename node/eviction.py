"""maxmemory: what happens when the data no longer fits.

Before each command, as in Redis's ``evict.c``: while more is used than ``maxmemory`` allows, keys
go, chosen by the policy from small random samples; the best candidates of earlier samples are kept
in a pool, which makes the choice close to the true least recently (or frequently) used. When
nothing can go, commands that may use more memory are refused with OOM.

What counts is what grows: data (accounted by increments in the keyspace) and clients' buffers, not
the interpreter itself, and not values that are already on their way out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from node.command import DENYOOM, Command
from node.component import Component
from node.engine import STAGE_MEMORY, Engine
from node.information import Fields, Section
from node.keyspace import STILL_PAUSED, Database
from node.resp import Error, Reply
from node.session import Session

if TYPE_CHECKING:
    from node.server import Server

POOL_SIZE: Final = 16
# Buckets looked at for a sample of keys with a deadline before giving up for this time.
VOLATILE_PASSES: Final = 1024
OOM: Final = b"OOM command not allowed when used memory > 'maxmemory'."

# What a client in MULTI may do when memory is short.
NEVER_DENIED: Final = frozenset((b"discard", b"quit", b"reset"))


def clients_memory(engine: Engine) -> int:
    """Bytes held for clients: a fixed part each, queued requests and unsent replies."""
    total = 0
    for session in engine.sessions.values():
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
    """Keeps the data within maxmemory."""

    def __init__(self, server: Server) -> None:
        super().__init__(server.engine)
        self._config = server.config
        self._pool: list[Candidate] = []
        self._next_db = 0
        self._volatile_cursor = 0
        self._guarding = False
        self.limit = 0
        self._policy = "noeviction"
        self._samples = 5
        self._time_limit = 0
        self._clients_memory = 0
        self.exceeded_since = 0
        self.exceeded_ns = 0
        server.config.on_change(
            (
                "maxmemory",
                "maxmemory-policy",
                "maxmemory-samples",
                "maxmemory-eviction-tenacity",
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
        self.limit = config.integer("maxmemory")
        policy = config.text("maxmemory-policy")
        if policy != self._policy:
            self._policy = policy
            self._pool.clear()
        self._samples = config.integer("maxmemory-samples")
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
        self._guarding = self.limit > 0

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
        return keyspace.used_memory - keyspace.trash_memory + self._clients_memory

    def tick(self, now_ns: int) -> None:
        """Clients' buffers are added up here, not for every command."""
        if self.limit:
            self._clients_memory = clients_memory(self.engine)
            if self.used() > self.limit:
                self.make_room()

    def guard(self, session: Session, command: Command, argv: list[bytes]) -> Reply:
        """Make room; refuse what would need more when there is none."""
        keyspace = self.engine.keyspace
        used = keyspace.used_memory - keyspace.trash_memory + self._clients_memory
        if used <= self.limit:
            if self.exceeded_since:
                self.exceeded_ns += self.engine.ended_ns - self.exceeded_since
                self.exceeded_since = 0
            return None
        if session.from_master and self._config.boolean("replica-ignore-maxmemory"):
            return None
        if not self.make_room():
            if not self.exceeded_since:
                self.exceeded_since = self.engine.ended_ns
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

    def make_room(self) -> bool:
        """Evict until the limit holds; False when it still does not and nothing can go.

        Stops after the time that ``maxmemory-eviction-tenacity`` allows; the next commands go on
        (True then, since there is progress).
        """
        if self.engine.keyspace.still & STILL_PAUSED:
            return True
        if self._policy == "noeviction":
            return False
        engine = self.engine
        clock = engine.clock
        until = clock.monotonic_ns() + self._time_limit
        evicted = 0
        enough = True
        while self.used() > self.limit:
            found = self._choose()
            if found is None:
                enough = False
                break
            db, key = found
            db.evict(key)
            evicted += 1
            if evicted % 16 == 0 and clock.monotonic_ns() > until:
                break
        if evicted:
            engine.settle_background()
            engine.report_stall(b"eviction-cycle", clock.monotonic_ns() - until + self._time_limit)
        return enough

    def _choose(self) -> tuple[Database, bytes] | None:
        """The next key to go; None when the policy finds none."""
        databases = self.engine.keyspace.databases
        policy = self._policy
        volatile = policy.startswith("volatile")
        if policy.endswith("random"):
            for _ in databases:
                db = databases[self._next_db]
                self._next_db = (self._next_db + 1) % len(databases)
                keys = self._sample(db, volatile, 1)
                if keys:
                    return db, keys[0]
            return None
        for _ in range(8):
            found_any = False
            for db in databases:
                if db.volatile if volatile else db.count:
                    found_any = True
                    self._fill_pool(db, volatile)
            while self._pool:
                best = self._pool.pop()
                bucket = best.db.bucket_of(best.key)
                if best.key in bucket.values and (
                    not volatile or (bucket.deadlines is not None and best.key in bucket.deadlines)
                ):
                    return best.db, best.key
            if not found_any:
                return None
        return None

    def _fill_pool(self, db: Database, volatile: bool) -> None:
        """Put the better ones of a fresh sample into the pool, the best at its end."""
        keyspace = db.keyspace
        by_deadline = self._policy == "volatile-ttl"
        pool = self._pool
        known = {candidate.key for candidate in pool if candidate.db is db}
        for key in self._sample(db, volatile, self._samples):
            if key in known:
                continue
            known.add(key)
            bucket = db.bucket_of(key)
            if by_deadline:
                assert bucket.deadlines is not None
                score = (1 << 62) - bucket.deadlines[key]
            elif keyspace.lfu:
                score = 255 - keyspace.lfu_decayed(bucket.clocks[key])
            else:
                score = (keyspace.clock - bucket.clocks[key]) & 0xFFFFFF
            if len(pool) >= POOL_SIZE and score <= pool[0].score:
                continue
            at = len(pool)
            while at and pool[at - 1].score > score:
                at -= 1
            pool.insert(at, Candidate(score, db, key))
            if len(pool) > POOL_SIZE:
                del pool[0]

    def _sample(self, db: Database, volatile: bool, count: int) -> list[bytes]:
        """Up to ``count`` random keys of ``db``, with a deadline if ``volatile``."""
        keys: list[bytes] = []
        if not volatile:
            if db.count:
                for _ in range(count):
                    key = db.random_key()
                    assert key is not None
                    keys.append(key)
            return keys
        if not db.volatile:
            return keys
        rng = db.keyspace.random
        # Usually most buckets have some; where few do, walk on from where the last walk ended.
        at = int(rng.random() * db.size)
        if db.volatile * 8 < db.size:
            at = self._volatile_cursor % db.size
        passes = max(VOLATILE_PASSES, db.size // 64)
        while passes:
            deadlines = db.buckets[at].deadlines
            at = (at + 1) % db.size
            passes -= 1
            if deadlines is None:
                continue
            names = list(deadlines)
            rng.shuffle(names)
            keys.extend(names[: count - len(keys)])
            if len(keys) >= count:
                break
        self._volatile_cursor = at
        return keys
