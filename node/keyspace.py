"""Databases: what is stored under which key, until when, and who must hear of a change.

A database has its keys in a hash table (:mod:`node.key_table`), whose entries say what the value
is, when the key expires, and when it was last used, or how often.

What happens to a key is said once, by :meth:`Database.changed`: it counts the change, keeps the
memory account, fails transactions that WATCH the key, and emits the keyspace event.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from node.key_index import KeyIndex
from node.key_table import ENTRY_MEMORY, NEVER, TIMED_MEMORY, Entry, KeyTable, Value, object_memory
from node.trash import Trash
from node.values.collection import Collection, Limits

if TYPE_CHECKING:
    from node.blocking import Wait
    from node.session import Watch

# Classes of keyspace events (notify-keyspace-events), with Redis's bits.
EVENT_KEYSPACE: Final = 1 << 0  # K
EVENT_KEYEVENT: Final = 1 << 1  # E
EVENT_GENERIC: Final = 1 << 2  # g
EVENT_STRING: Final = 1 << 3  # $
EVENT_LIST: Final = 1 << 4  # l
EVENT_SET: Final = 1 << 5  # s
EVENT_HASH: Final = 1 << 6  # h
EVENT_ZSET: Final = 1 << 7  # z
EVENT_EXPIRED: Final = 1 << 8  # x
EVENT_EVICTED: Final = 1 << 9  # e
EVENT_STREAM: Final = 1 << 10  # t
EVENT_KEY_MISS: Final = 1 << 11  # m
EVENT_MODULE: Final = 1 << 13  # d
EVENT_NEW: Final = 1 << 14  # n

# Why keys may not go by themselves, but are only hidden once they have expired.
STILL_PAUSED: Final = 1 << 0  # CLIENT PAUSE
# What is loaded is the past: a key that has expired since was there when it was used, and is not
# even hidden.
STILL_LOADING: Final = 1 << 1
STILL_REPLICA: Final = 1 << 2  # the master says what goes
# What the master has not said to be gone is there for its commands.
STILL_OBEYING: Final = 1 << 3
UNHIDDEN: Final = STILL_LOADING | STILL_OBEYING


class Statistics:
    """Counters of the keyspace since the start or CONFIG RESETSTAT."""

    __slots__ = (
        "hits",
        "misses",
        "expired",
        "expired_time_cap_reached",
        "expire_cycle_cpu_ns",
        "evicted",
    )

    def __init__(self) -> None:
        self.hits = 0
        self.misses = 0
        self.expired = 0
        self.expired_time_cap_reached = 0
        self.expire_cycle_cpu_ns = 0
        self.evicted = 0


class Keyspace:
    """All databases, and what they share.

    ``now`` (Unix milliseconds) and ``clock`` (LRU clock, seconds) stand still while a command
    runs. ``dirty`` counts changes as Redis's ``server.dirty`` does; ``pending`` tells the engine
    that the command left something to settle (log, waiters).
    """

    __slots__ = (
        "databases",
        "limits",
        "now",
        "clock",
        "lfu",
        "touching",
        "dirty",
        "pending",
        "notify_flags",
        "notify",
        "key_deleted",
        "emptied",
        "expire_command",
        "evict_command",
        "ready",
        "statistics",
        "random",
        "still",
        "expiring",
        "active_expiry",
        "trash",
        "on_touch",
        "lfu_log_factor",
        "lfu_decay_minutes",
    )

    def __init__(self, count: int, limits: Limits, seed: int | None = None) -> None:
        self.limits = limits
        self.now = 0
        self.clock = 0
        self.lfu = False
        self.touching = True
        self.dirty = 0
        self.pending = False
        self.notify_flags = 0
        # (event class, event, key, database index): set by the pub/sub component.
        self.notify: Callable[[int, bytes, bytes, int], None] = _ignore_event
        # (database, key, command): an expired or evicted key went by itself; the engine logs it as
        # the command, which is DEL or UNLINK.
        self.key_deleted: Callable[[Database, bytes, bytes], None] = _ignore_deletion
        # FLUSHALL has removed everything: set by the component that saves the data.
        self.emptied: Callable[[], None] = _ignore_flush
        self.expire_command = b"DEL"
        self.evict_command = b"DEL"
        # Keys that appeared and that clients wait for, in order.
        self.ready: list[tuple[Database, bytes]] = []
        self.statistics = Statistics()
        self.random = random.Random(seed)
        # False where keys must not be deleted on their own account (replicas, loading): they are
        # only hidden once their time has come.
        self.still = 0  # why keys must not go on their own account (STILL_…)
        self.expiring = True  # nothing of that kind
        # Whether keys expire without being asked for (DEBUG SET-ACTIVE-EXPIRE).
        self.active_expiry = True
        self.trash = Trash()
        # (database, key): called for each change, for client tracking.
        self.on_touch: Callable[[Database, bytes], None] | None = None
        self.lfu_log_factor = 10
        self.lfu_decay_minutes = 1
        self.databases = [Database(self, i) for i in range(count)]

    @property
    def used_memory(self) -> int:
        """Bytes held for data, the trash included."""
        used = self.trash.memory
        for db in self.databases:
            used += db.memory
        return used

    def hold_still(self, reason: int, on: bool) -> None:
        """Keep keys from going on their own account, for one reason, or no more for that one."""
        self.still = self.still | reason if on else self.still & ~reason
        self.expiring = not self.still

    def sibling(self) -> Keyspace:
        """Another keyspace of the same shape, without data, to be filled aside."""
        other = Keyspace(len(self.databases), self.limits)
        other.lfu = self.lfu
        other.now = self.now
        other.clock = self.clock
        for db, fresh in zip(self.databases, other.databases, strict=True):
            if db.key_index is not None:
                fresh.key_index = db.key_index.fresh()
        return other

    def swap(self, first: int, second: int) -> None:
        """SWAPDB: exchange two databases' data; waiters and watchers stay with the number.

        Whoever watches a key that was there or is there now learns of a change; whoever waits for
        one that is there now is served.
        """
        if first == second:
            return
        one, other = self.databases[first], self.databases[second]
        one.touch_watched(other)
        other.touch_watched(one)
        one.exchange(other)
        for db in (one, other):
            for key in db.waiters:
                if db.table.seek(key) is not None:
                    self.ready.append((db, key))
                    self.pending = True

    def replace_all(self, fresh: Keyspace) -> None:
        """Take over all data of a :meth:`sibling`; what was here goes.

        Waiters and watchers are treated as by :meth:`swap`. ``fresh`` is of no use afterwards.
        """
        for db, other in zip(self.databases, fresh.databases, strict=True):
            db.touch_watched(other)
            db.exchange(other)
            for key in db.waiters:
                if db.table.seek(key) is not None:
                    self.ready.append((db, key))
                    self.pending = True
        self.discard_all(fresh)

    def discard_all(self, other: Keyspace) -> None:
        """Free what another keyspace holds bit by bit; it is of no use afterwards."""
        for db in other.databases:
            if db.count:
                db.throw_away(self.trash)
        self.trash.filled()

    # The LFU counter: 16 bits of minutes, 8 bits of a logarithmic count (Redis's evict.c).

    def lfu_fresh(self) -> int:
        """The counter of a new key: LFU_INIT_VAL, so that it is not evicted at once."""
        return (self.now // 60000 & 0xFFFF) << 8 | 5

    def lfu_decayed(self, counter: int) -> int:
        """The 8-bit count of ``counter`` after the decay of the minutes since."""
        count = counter & 255
        if self.lfu_decay_minutes == 0:
            return count
        minutes = (self.now // 60000 - (counter >> 8)) & 0xFFFF
        return max(0, count - minutes // self.lfu_decay_minutes)

    def lfu_used(self, counter: int) -> int:
        """``counter`` after one more use."""
        count = self.lfu_decayed(counter)
        if count < 255:
            base = max(0, count - 5)
            if self.random.random() < 1.0 / (base * self.lfu_log_factor + 1):
                count += 1
        return (self.now // 60000 & 0xFFFF) << 8 | count


def _ignore_event(event_class: int, event: bytes, key: bytes, db: int) -> None:
    return None


def _ignore_flush() -> None:
    return None


def _ignore_deletion(db: Database, key: bytes, command: bytes) -> None:
    return None


class Database:
    """One numbered database."""

    __slots__ = (
        "index",
        "keyspace",
        "table",
        "held",
        "watches",
        "waiters",
        "key_index",
        "expire_cursor",
        "average_ttl",
    )

    def __init__(self, keyspace: Keyspace, index: int) -> None:
        self.keyspace = keyspace
        self.index = index
        self.table = KeyTable()
        self.held = 0  # bytes: all that follows from the data, but for the table's slots
        # Keys that clients WATCH -> their watches.
        self.watches: dict[bytes, dict[Watch, None]] = {}
        # Keys that clients are blocked on -> their waits, in order of arrival.
        self.waiters: dict[bytes, dict[Wait, None]] = {}
        # Hears of every key that comes and goes; another one after a flush, or when data are
        # exchanged.
        self.key_index: KeyIndex | None = None
        self.expire_cursor = 0
        self.average_ttl = 0  # milliseconds, as active expiry saw it

    @property
    def count(self) -> int:
        """How many keys there are."""
        return self.table.count

    @property
    def volatile(self) -> int:
        """How many of them have a deadline."""
        return len(self.table.timed)

    @property
    def memory(self) -> int:
        """Bytes: all that follows from the data."""
        return self.held + self.table.room

    # Looking up.

    def find(self, key: bytes) -> Value | None:
        """The value of ``key`` for a command that reads it: counted as hit or miss, and used."""
        entry = self.table.seek(key)
        keyspace = self.keyspace
        if entry is not None:
            if entry.deadline == NEVER or not self._is_due(entry):
                if keyspace.touching:
                    if keyspace.lfu:
                        entry.clock = keyspace.lfu_used(entry.clock)
                    else:
                        entry.clock = keyspace.clock
                keyspace.statistics.hits += 1
                return entry.value
        keyspace.statistics.misses += 1
        if keyspace.notify_flags & EVENT_KEY_MISS:
            keyspace.notify(EVENT_KEY_MISS, b"keymiss", key, self.index)
        return None

    def find_many(self, words: list[bytes]) -> list[Value | None]:
        """As :meth:`find` for several keys: all of ``words`` but the first."""
        keyspace = self.keyspace
        values: list[Value | None] = []
        at = 1
        for entry in self.table.seek_all(words, 1):
            if entry is None or entry.deadline != NEVER or keyspace.lfu:
                values.append(self.find(words[at]))
            else:
                if keyspace.touching:
                    entry.clock = keyspace.clock
                keyspace.statistics.hits += 1
                values.append(entry.value)
            at += 1
        return values

    def find_for_write(self, key: bytes) -> Value | None:
        """The value of ``key`` for a command that may change it: used, not counted."""
        entry = self.table.seek(key)
        if entry is None or (entry.deadline != NEVER and self._is_due(entry)):
            return None
        keyspace = self.keyspace
        if keyspace.touching:
            if keyspace.lfu:
                entry.clock = keyspace.lfu_used(entry.clock)
            else:
                entry.clock = keyspace.clock
        return entry.value

    def peek(self, key: bytes) -> Value | None:
        """The value of ``key``; neither counted nor used. An expired key is not there."""
        entry = self.table.seek(key)
        if entry is None or (entry.deadline != NEVER and self._is_due(entry)):
            return None
        return entry.value

    def stored(self, key: bytes) -> Value | None:
        """The value of ``key``, even if it has expired; neither counted nor used."""
        entry = self.table.seek(key)
        return None if entry is None else entry.value

    def _is_due(self, entry: Entry) -> bool:
        """True when a key has expired; it is deleted then, unless this is not for us to do."""
        keyspace = self.keyspace
        if entry.deadline == NEVER or entry.deadline > keyspace.now:
            return False
        if keyspace.expiring:
            self.expire(entry.key)
        return not keyspace.still & UNHIDDEN

    def is_due(self, key: bytes) -> bool:
        """True when ``key`` is still stored although its time has come."""
        deadline = self.deadline(key)
        return deadline is not None and deadline <= self.keyspace.now

    def expire(self, key: bytes) -> None:
        """Delete ``key`` because its time has come, with all that belongs to it."""
        self.keyspace.statistics.expired += 1
        self._vanish(key, EVENT_EXPIRED, b"expired", self.keyspace.expire_command)

    def evict(self, key: bytes) -> None:
        """Delete ``key`` to make room, with all that belongs to it."""
        self.keyspace.statistics.evicted += 1
        self._vanish(key, EVENT_EVICTED, b"evicted", self.keyspace.evict_command)

    def remove_stray(self, key: bytes) -> None:
        """Delete ``key``, which belongs on another node, with all that belongs to it."""
        self.keyspace.dirty += 1
        self._vanish(key, EVENT_GENERIC, b"del", self.keyspace.expire_command)

    def _vanish(self, key: bytes, event_class: int, event: bytes, command: bytes) -> None:
        keyspace = self.keyspace
        self.delete(key)
        keyspace.pending = True
        if self.watches and key in self.watches:
            self._tell_watchers(key)
        keyspace.key_deleted(self, key, command)
        if keyspace.notify_flags & event_class:
            keyspace.notify(event_class, event, key, self.index)
        if keyspace.on_touch is not None:
            keyspace.on_touch(self, key)

    # Changing.

    def put(self, key: bytes, value: Value, keep_ttl: bool = False) -> None:
        """Store ``value`` under ``key``, whatever was there; its deadline goes unless kept.

        Says nothing to anyone: the handler calls :meth:`changed` afterwards.
        """
        entry = self.table.seek(key)
        if entry is not None and entry.deadline != NEVER:
            if self._is_due(entry):
                self.delete(key)  # where it was hidden only
                entry = None
            elif not keep_ttl:
                self._drop_deadline(entry)
        if entry is None:
            self._add(key, value)
        else:
            self._overwrite(entry, value)

    def put_many(self, words: list[bytes], event_class: int, event: bytes) -> None:
        """Store strings under several keys, and say so of one after the other.

        ``words`` are a word, a key, a value, a key and so on.
        """
        found = self.table.seek_all(words, 2)
        # What is replaced is let go of at the end, all together: see `KeyTable.seek_all`.
        replaced = [entry.value for entry in found if entry is not None]
        at = 1
        for entry in found:
            # One without an entry may have got it meanwhile.
            if entry is None or entry.deadline != NEVER:
                self.put(words[at], words[at + 1])
            else:
                self._overwrite(entry, words[at + 1])
            self.changed(words[at], None, event_class, event)
            at += 2
        replaced.clear()

    def _overwrite(self, entry: Entry, value: Value) -> None:
        old = entry.value
        entry.value = value
        keyspace = self.keyspace
        if not keyspace.lfu:
            entry.clock = keyspace.clock
        elif keyspace.touching:
            entry.clock = keyspace.lfu_used(entry.clock)
        if type(value) is bytes and type(old) is bytes:
            if len(value) != len(old):
                self.held += ((len(value) + 48) & ~15) - ((len(old) + 48) & ~15)
        elif old is not value:
            if isinstance(old, Collection):
                self.held -= old.accounted
                keyspace.trash.discard(old)
            else:
                self.held -= object_memory(old)
            memory = object_memory(value)
            self.held += memory
            if isinstance(value, Collection):
                value.accounted = memory

    def replace(self, key: bytes, value: bytes | bytearray) -> None:
        """Store another string under ``key``, where the caller has just found one.

        Its deadline and access clock stay. Says nothing to anyone, as :meth:`put`.
        """
        entry = self.table.seek(key)
        assert entry is not None
        old = entry.value
        entry.value = value
        if type(value) is not bytes or type(old) is not bytes:
            self.held += object_memory(value) - object_memory(old)
        elif len(value) != len(old):
            self.held += ((len(value) + 48) & ~15) - ((len(old) + 48) & ~15)

    def add(self, key: bytes, value: Value) -> bool:
        """Store ``value`` under ``key`` unless there is something, expired or not: then False."""
        if self.table.seek(key) is not None:
            return False
        self._add(key, value)
        return True

    def _add(self, key: bytes, value: Value) -> None:
        """Store a key that is not there."""
        keyspace = self.keyspace
        clock = keyspace.lfu_fresh() if keyspace.lfu else keyspace.clock
        entry = self.table.insert(key, value, clock)
        if type(value) is bytes:
            memory = (len(value) + 48) & ~15
        else:
            memory = object_memory(value)
            if isinstance(value, Collection):
                value.accounted = memory
        self.held += ((len(key) + 48) & ~15) + ENTRY_MEMORY + memory
        if self.key_index is not None:
            self.held += self.key_index.add(entry)
        if self.waiters and key in self.waiters:
            keyspace.ready.append((self, key))
            keyspace.pending = True
        if keyspace.notify_flags & EVENT_NEW:
            keyspace.notify(EVENT_NEW, b"new", key, self.index)

    def delete(self, key: bytes) -> bool:
        """Remove ``key`` without a word; True if it was there (expired or not)."""
        value = self.take(key)
        if value is None:
            return False
        self.keyspace.trash.discard(value)
        return True

    def take(self, key: bytes) -> Value | None:
        """Remove ``key`` without a word and hand its value over, to be put elsewhere."""
        entry = self.table.remove(key)
        if entry is None:
            return None
        value = entry.value
        memory = value.accounted if isinstance(value, Collection) else object_memory(value)
        self.held -= ((len(key) + 48) & ~15) + ENTRY_MEMORY + memory
        if entry.deadline != NEVER:
            self.held -= TIMED_MEMORY
        if self.key_index is not None:
            self.held += self.key_index.discard(entry)
        return value

    def changed(
        self, key: bytes, value: Collection | None, event_class: int, event: bytes, dirty: int = 1
    ) -> None:
        """Say that a command changed ``key``: the one place where a change becomes known.

        ``value`` is the collection that was changed in place, if any (its memory is accounted
        anew). ``dirty`` is by how much Redis's counter of changes would grow.
        """
        keyspace = self.keyspace
        keyspace.dirty += dirty
        keyspace.pending = True
        if value is not None:
            self.held += value.memory - value.accounted
            value.accounted = value.memory
        if self.watches and key in self.watches:
            self._tell_watchers(key)
        if keyspace.notify_flags & event_class:
            keyspace.notify(event_class, event, key, self.index)
        if keyspace.on_touch is not None:
            keyspace.on_touch(self, key)

    def notify(self, event_class: int, event: bytes, key: bytes) -> None:
        """Emit one more event for a change that :meth:`changed` has already told."""
        keyspace = self.keyspace
        if keyspace.notify_flags & event_class:
            keyspace.notify(event_class, event, key, self.index)

    def delete_if_empty(self, key: bytes, value: Collection) -> bool:
        """Remove a collection that has lost its last element, with the event ``del``."""
        if len(value):
            return False
        self.delete(key)
        self.notify(EVENT_GENERIC, b"del", key)
        return True

    def grow(self, size: int) -> None:
        """Account ``size`` bytes more (or less) for a string changed in place."""
        self.held += size

    # When a key was last used, or how often.

    def clock(self, key: bytes) -> int:
        """The access clock (LFU: counter) of ``key``, which must be there."""
        entry = self.table.seek(key)
        assert entry is not None
        return entry.clock

    def set_clock(self, key: bytes, clock: int) -> None:
        """Set what :meth:`clock` returns."""
        entry = self.table.seek(key)
        assert entry is not None
        entry.clock = clock

    # Deadlines.

    def deadline(self, key: bytes) -> int | None:
        """When ``key`` expires, Unix milliseconds; None when it does not."""
        entry = self.table.seek(key)
        return None if entry is None or entry.deadline == NEVER else entry.deadline

    def set_deadline(self, key: bytes, deadline: int) -> None:
        """Let ``key``, which must be there, expire at ``deadline`` (Unix milliseconds)."""
        entry = self.table.seek(key)
        assert entry is not None
        if self.table.set_deadline(entry, deadline):
            self.held += TIMED_MEMORY

    def persist(self, key: bytes) -> bool:
        """Take ``key``'s deadline away; True if it had one."""
        entry = self.table.seek(key)
        return entry is not None and self._drop_deadline(entry)

    def _drop_deadline(self, entry: Entry) -> bool:
        if not self.table.drop_deadline(entry):
            return False
        self.held -= TIMED_MEMORY
        return True

    # Walking.

    def index_keys(self, index: KeyIndex) -> None:
        """Let an empty ``index`` know the keys that are there, and all that come and go."""
        self.key_index = index
        for entry in self.table.slots:
            while entry is not None:
                self.held += index.add(entry)
                entry = entry.next

    def __len__(self) -> int:
        return self.table.count

    def keys(self) -> Iterator[bytes]:
        """All keys, expired ones included; the database must not change meanwhile."""
        for entry in self.table.slots:
            while entry is not None:
                yield entry.key
                entry = entry.next

    def items(self) -> Iterator[tuple[bytes, Value]]:
        """All (key, value), expired ones included; the database must not change meanwhile."""
        for entry in self.table.slots:
            while entry is not None:
                yield entry.key, entry.value
                entry = entry.next

    def random_key(self) -> bytes | None:
        """A key, each with the same chance, expired ones included; None when there is none."""
        if self.table.count == 0:
            return None
        return self.table.draw(self.keyspace.random.random).key

    def exchange(self, other: Database) -> None:
        """Swap all data with ``other``."""
        self.table, other.table = other.table, self.table
        self.held, other.held = other.held, self.held
        self.key_index, other.key_index = other.key_index, self.key_index
        self.expire_cursor, other.expire_cursor = other.expire_cursor, self.expire_cursor

    def touch_watched(self, replacement: Database | None) -> None:
        """Tell watchers of all keys that are here, or in what takes this database's place.

        A key that had expired already is no loss, and one that has expired no gain
        (``touchAllWatchedKeysInDb`` in multi.c).
        """
        now = self.keyspace.now
        for key, watches in list(self.watches.items()):
            here = self.table.seek(key) is not None
            there = replacement is not None and replacement.table.seek(key) is not None
            if not here and not there:
                continue
            expired = False
            if there:
                assert replacement is not None
                deadline = replacement.deadline(key)
                expired = deadline is not None and deadline <= now
            for watch in list(watches):
                if (watch.expired or not here) and (expired or not there):
                    watch.expired = expired
                else:
                    watch.session.fail_watches()

    def _tell_watchers(self, key: bytes) -> None:
        """``key`` has changed: the transactions of those who watch it fail."""
        gone = self.table.seek(key) is None
        for watch in list(self.watches[key]):
            if watch.expired and gone:
                # It had expired when the client began to watch it: now it is deleted as well.
                watch.expired = False
            else:
                watch.session.fail_watches()

    def throw_away(self, trash: Trash) -> None:
        """Put all data, which are replaced or used no more, into the trash."""
        trash.discard_database(self.table, self.key_index, self.memory)

    def clear(self) -> int:
        """Let go of everything, to be freed bit by bit; the number of keys there were."""
        count = self.count
        if count:
            self.touch_watched(None)
            self.throw_away(self.keyspace.trash)
            self.keyspace.trash.filled()
            if self.key_index is not None:
                self.key_index = self.key_index.fresh()
        self.table = KeyTable()
        self.held = 0
        self.expire_cursor = 0
        return count
