"""Active expiry: keys whose time has come go even if nobody asks for them.

As in Redis's ``expire.c`` the work is bounded and adapts to what it finds. A cycle, ``hz`` times a
second, walks on from where the last one stopped, at least a little, and draws as many keys at
random; it goes on while it finds more than a tenth of those drawn expired, up to a quarter of the
processor's time (``active-expire-effort`` moves both figures). A cycle that ran out of time is
followed by fast ones, single slices at short intervals, until the next. All work is done in slices
of under a millisecond with the clients served between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import trio

from node.component import Component
from node.information import Fields, Section
from node.keyspace import Database

if TYPE_CHECKING:
    from node.server import Server

SLICE_NS: Final = 700_000
# Between two fast slices: two times their length (ACTIVE_EXPIRE_CYCLE_FAST_DURATION).
FAST_INTERVAL: Final = 0.0014
# A share of expired keys that INFO shows as none.
FADED: Final = 0.00005
# Keys looked at between two looks at the clock.
PORTION: Final = 8
# Keys whose average time to live replaces what was known of it (Redis: 50 times 20).
AVERAGED: Final = 1000
# Keys looked at before it can be said how many are expired.
SAMPLE: Final = 400


class Expiration(Component):
    """The task that expires keys."""

    def __init__(self, server: Server) -> None:
        super().__init__(server.engine)
        self._config = server.config
        self._next_db = 0
        self._interval = 0.1
        self._budget_ns = 0
        # The share of expired keys that may be left, and an estimate of it over all cycles.
        self.acceptable = 0.1
        self.stale = 0.0
        self._looked = 0
        self._expired = 0
        self._due = trio.Event()
        server.config.on_change(
            ("hz", "active-expire-effort", "lazyfree-lazy-expire"), self.configure
        )
        self.configure()

    def configure(self) -> None:
        """Take over the directives."""
        config = self._config
        self._interval = 1.0 / config.integer("hz")
        effort = config.integer("active-expire-effort") - 1
        self._budget_ns = int((25 + 2 * effort) / 100 * self._interval * 1e9)
        self.acceptable = (10 - effort) / 100
        lazy = config.boolean("lazyfree-lazy-expire")
        self.engine.keyspace.expire_command = b"UNLINK" if lazy else b"DEL"

    def sections(self) -> Sequence[Section]:
        return (Section("Stats", self._collect),)

    def _collect(self) -> Fields:
        return [("expired_stale_perc", self.stale * 100)]

    def reset_statistics(self) -> None:
        self.stale = 0.0

    def tick(self, now_ns: int) -> None:
        # A task that finds nothing to do would cost an idle node more than all else.
        if self._may_work() and self._is_wanted():
            self._due.set()

    def _is_wanted(self) -> bool:
        """Whether there is anything that expires, or a figure about it that is to fade."""
        databases = self.engine.keyspace.databases
        return self.stale > FADED or any(db.volatile or db.average_ttl for db in databases)

    async def run(self) -> None:
        """Cycle after cycle."""
        while True:
            await self._due.wait()
            self._due = trio.Event()
            unfinished = await self._run_cycle() if self._may_work() else None
            while unfinished is not None:
                await self._run_fast(unfinished)
                unfinished = await self._run_cycle() if self._may_work() else None

    def _may_work(self) -> bool:
        keyspace = self.engine.keyspace
        return keyspace.active_expiry and keyspace.expiring and not self.engine.cron_paused

    async def _run_cycle(self) -> Database | None:
        """Work until little is left to do or the time is up; the database it was in then."""
        keyspace = self.engine.keyspace
        databases = keyspace.databases
        clock = self.engine.clock
        self._looked = self._expired = 0
        spent = 0
        unfinished: Database | None = None
        for _ in databases:
            db = databases[self._next_db]
            self._next_db = (self._next_db + 1) % len(databases)
            more = db.volatile > 0
            if not more:
                db.average_ttl = 0
            while more and spent < self._budget_ns:
                start = clock.monotonic_ns()
                more = self._work(db)
                spent += clock.monotonic_ns() - start
                await trio.lowlevel.checkpoint()
            if more:
                keyspace.statistics.expired_time_cap_reached += 1
                unfinished = db
                break
        keyspace.statistics.expire_cycle_cpu_ns += spent
        self.stale = self.stale * 0.95 + self._expired / max(1, self._looked) * 0.05
        return unfinished

    async def _run_fast(self, db: Database) -> None:
        """Single slices until it is time for a cycle, or little is left to do."""
        until = trio.current_time() + self._interval
        more = True
        while more and trio.current_time() < until:
            await trio.sleep(FAST_INTERVAL)
            more = self._may_work() and self._work(db)
        await trio.sleep_until(until)

    def _work(self, db: Database) -> bool:
        """One slice, with all that belongs to it."""
        engine = self.engine
        engine.refresh()
        start = engine.ended_ns
        more = self.expire_slice(db, start + SLICE_NS, self.acceptable)
        if engine.keyspace.pending:
            engine.settle_background()
        engine.report_stall(b"expire-cycle", engine.clock.monotonic_ns() - start)
        return more

    def expire_slice(self, db: Database, until: int, acceptable: float) -> bool:
        """Expire some of what is due in ``db``; True when it pays to go on at once.

        ``until`` is in monotonic nanoseconds, ``acceptable`` the share of expired keys among those
        looked at that may be left.
        """
        clock = self.engine.clock
        now = db.keyspace.now
        timed = db.table.timed
        random = db.keyspace.random.random
        # In turns: one after the other, which misses none, and at random, which tells how many are
        # due, in whatever order they came.
        drawing = False
        drawn = expired = 0
        left = 0  # milliseconds that those have that were drawn and are not due
        cursor = db.expire_cursor
        for looked in range(1, 2 * len(timed) + 1):
            if not timed:
                break
            if drawing:
                entry = timed[int(random() * len(timed))]
                drawn += 1
            else:
                # Downwards, since the last one takes the place of one that goes.
                if not 0 < cursor <= len(timed):
                    cursor = len(timed)
                cursor -= 1
                entry = timed[cursor]
            if entry.deadline <= now:
                db.expire(entry.key)
                expired += drawing
            elif drawing:
                left += entry.deadline - now
            drawing = not drawing
            # Often: a key may be a collection of some size, or the last one in memory that then
            # goes back to the system.
            if looked % PORTION == 0:
                if looked >= SAMPLE and expired <= drawn * acceptable:
                    break
                if clock.monotonic_ns() > until:
                    break
        db.expire_cursor = cursor
        if drawn > expired:
            ttl = left // (drawn - expired)
            weight = min(1.0, drawn / AVERAGED)
            db.average_ttl += int((ttl - db.average_ttl) * weight) if db.average_ttl else ttl
        self._looked += drawn
        self._expired += expired
        return db.volatile > 0 and expired > drawn * acceptable
