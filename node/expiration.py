"""Active expiry: keys whose time has come go even if nobody asks for them.

As in Redis's ``expire.c`` the work is bounded and adapts to what it finds. A cycle, ``hz`` times a
second, walks on from where the last one stopped, at least a little; it goes on while it finds more
than a tenth of the looked-at keys expired, up to a quarter of the processor's time
(``active-expire-effort`` moves both figures). It works in slices of under a millisecond with the
clients served between them.
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
# Keys looked at before a cycle may find that there is little to do.
SAMPLE: Final = 400
# Empty-handed buckets passed before it may find the same.
PASSES: Final = 4000


class Expiration(Component):
    """The task that expires keys."""

    def __init__(self, server: Server) -> None:
        super().__init__(server.engine)
        self._config = server.config
        self._db = 0
        # The share of expired keys among those with an expiry, as found lately.
        self.stale = 0.0

    def sections(self) -> Sequence[Section]:
        return (Section("Stats", self._collect),)

    def _collect(self) -> Fields:
        return [("expired_stale_perc", self.stale * 100)]

    def reset_statistics(self) -> None:
        self.stale = 0.0

    async def run(self) -> None:
        engine = self.engine
        keyspace = engine.keyspace
        while True:
            await trio.sleep(1.0 / self._config.integer("hz"))
            if not keyspace.active_expiry or not keyspace.expiring or engine.cron_paused:
                continue
            effort = self._config.integer("active-expire-effort") - 1
            share = (25 + 2 * effort) / 100
            stale = (10 - effort) / 100
            budget = int(share * 1e9 / self._config.integer("hz"))
            spent = 0
            for _ in range(len(keyspace.databases)):
                db = keyspace.databases[self._db]
                self._db = (self._db + 1) % len(keyspace.databases)
                more = db.volatile > 0
                while more and spent < budget:
                    engine.refresh()
                    start = engine.ended_ns
                    more = self.expire_slice(db, start + SLICE_NS, stale)
                    if keyspace.pending:
                        engine.settle_background()
                    taken = engine.clock.monotonic_ns() - start
                    spent += taken
                    engine.report_stall(b"expire-cycle", taken)
                    await trio.lowlevel.checkpoint()
                if more:
                    keyspace.statistics.expired_time_cap_reached += 1
                    break
            keyspace.statistics.expire_cycle_cpu_ns += spent

    def expire_slice(self, db: Database, until: int, stale: float) -> bool:
        """Expire what is due in some buckets of ``db``; True when it pays to go on at once.

        ``until`` is in monotonic nanoseconds, ``stale`` the share of expired keys among those
        looked at that may be left.
        """
        clock = self.engine.clock
        now = db.keyspace.now
        looked = expired = passed = 0
        lifetimes = 0
        while db.volatile:
            if db.expire_cursor >= db.size:
                db.expire_cursor = 0
            deadlines = db.buckets[db.expire_cursor].deadlines
            db.expire_cursor += 1
            if deadlines is None:
                passed += 1
                if passed % 64 == 0 and (passed >= PASSES or clock.monotonic_ns() > until):
                    return False
                continue
            due = [key for key, deadline in deadlines.items() if deadline <= now]
            count = len(deadlines)
            looked += count
            # A twentieth of the figure is renewed by each sample, as in Redis.
            self.stale += (len(due) - self.stale * count) * 0.05 / max(SAMPLE, count)
            if due:
                expired += len(due)
                for key in due:
                    db.expire(key)
            left = sum(deadlines.values()) - len(deadlines) * now
            if deadlines:
                lifetimes = left // len(deadlines)
                db.average_ttl += (
                    (lifetimes - db.average_ttl) // 50 if db.average_ttl else lifetimes
                )
            if looked >= SAMPLE and expired <= looked * stale:
                return False
            if clock.monotonic_ns() > until:
                return True
            if passed + looked > SAMPLE and db.expire_cursor >= db.size and not expired:
                return False
        return False
