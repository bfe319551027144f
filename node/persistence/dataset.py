"""Between the databases and an RDB file: all keys written out, and keys that were read put in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from node.key_table import NEVER
from node.keyspace import Keyspace
from node.persistence.rdb_reader import Record
from node.persistence.rdb_writer import RdbWriter
from node.version import REDIS_VERSION

SYNC_PORTION: Final = 4 << 20
"""Bytes after which an incremental flush is due (REDIS_AUTOSYNC_BYTES)."""

STEP: Final = 32
"""Keys after which whoever waits for a data set to be written hears how far it has come."""

CLOCK_MASK: Final = 0xFFFFFF


def _ignore_key(db: int, key: bytes) -> None:
    return None


class Unloadable(Exception):
    """Well-formed records that cannot be put into this keyspace; the text says why."""


def describe_origin(keyspace: Keyspace, now: float, base: bool) -> dict[bytes, bytes]:
    """The aux fields at the head of a file: who wrote it, when (Unix seconds), out of how much.

    ``base`` is whether it is the base of an append-only file.
    """
    return {
        b"redis-ver": REDIS_VERSION.encode(),
        b"redis-bits": b"64",
        b"ctime": b"%d" % int(now),
        b"used-mem": b"%d" % keyspace.used_memory,
        b"aof-base": b"1" if base else b"0",
    }


def write_dataset(
    writer: RdbWriter, keyspace: Keyspace, policy: str, step: Callable[[int], None]
) -> None:
    """Write all databases.

    ``policy`` is that of eviction, which decides whether idle times or frequencies are written as
    well. ``step`` is called every STEP keys, with the number of keys written.
    """
    recency = policy.endswith("lru")
    frequency = policy.endswith("lfu")
    written = 0
    for db in keyspace.databases:
        if not db.count:
            continue
        writer.select(db.index, db.count, db.volatile)
        for entry in db.table.slots:
            while entry is not None:
                idle: int | None = None
                count: int | None = None
                if recency:
                    idle = (keyspace.clock - entry.clock) & CLOCK_MASK
                elif frequency:
                    count = keyspace.lfu_decayed(entry.clock)
                deadline = None if entry.deadline == NEVER else entry.deadline
                writer.entry(entry.key, entry.value, deadline, idle, count)
                written += 1
                if written % STEP == 0:
                    step(written)
                entry = entry.next
    step(written)


class Intake:
    """Puts records into a keyspace and counts them.

    ``now`` is in Unix milliseconds. Keys whose time has come before it are left out, unless
    ``keep_expired`` (a file that belongs to a log which will delete them); ``left_out`` is called
    with the database and the name of each. ``replace`` allows keys
    that are there already. ``sizes`` may say how many keys the databases will have, to make room in
    one go; what has been used of it is taken out.
    """

    __slots__ = (
        "loaded",
        "expired",
        "left_out",
        "_keyspace",
        "_now",
        "_keep_expired",
        "_replace",
        "_policy",
        "_sizes",
    )

    def __init__(
        self,
        keyspace: Keyspace,
        now: int,
        policy: str,
        *,
        keep_expired: bool = False,
        replace: bool = False,
        sizes: dict[int, int] | None = None,
    ) -> None:
        self.loaded = 0
        self.expired = 0
        self.left_out: Callable[[int, bytes], None] = _ignore_key
        self._keyspace = keyspace
        self._now = now
        self._keep_expired = keep_expired
        self._replace = replace
        self._policy = policy
        self._sizes = sizes if sizes is not None else {}

    def take(self, records: Sequence[Record]) -> None:
        """Put records in. Raises Unloadable; those before are in then."""
        keyspace = self._keyspace
        databases = keyspace.databases
        recency = self._policy.endswith("lru")
        frequency = self._policy.endswith("lfu")
        for record in records:
            if record.db >= len(databases):
                raise Unloadable(
                    "Data file was created with a server configured to handle more than "
                    f"{len(databases)} databases"
                )
            deadline = record.deadline
            if deadline is not None and deadline < self._now and not self._keep_expired:
                self.expired += 1
                self.left_out(record.db, record.key)
                continue
            key = record.key
            db = databases[record.db]
            if self._sizes and record.db in self._sizes:
                db.table.reserve(self._sizes.pop(record.db))
            if not db.add(key, record.value):
                if not self._replace:
                    name = key.decode(errors="backslashreplace")
                    raise Unloadable(f"RDB has duplicated key '{name}' in DB {record.db}")
                db.put(key, record.value)
            if deadline is not None:
                db.set_deadline(key, deadline)
            if recency and record.idle is not None:
                idle = min(record.idle, CLOCK_MASK)
                db.set_clock(key, (keyspace.clock - idle) & CLOCK_MASK)
            elif frequency and record.freq is not None:
                db.set_clock(key, (keyspace.now // 60000 & 0xFFFF) << 8 | record.freq)
            self.loaded += 1
