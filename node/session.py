"""One client's state: what the engine must remember between its requests.

A session knows no socket. Whoever owns the connection (the hub, a script, a replication link)
gives it requests through the engine and takes the replies from ``out``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from node.blocking import Wait
    from node.command import Command
    from node.engine import Engine
    from node.keyspace import Database

# Why the engine must look twice at a request of this session (``Session.gate``).
GATE_STRANGER: Final = 1 << 0  # not authenticated, or its user may not do everything
GATE_MULTI: Final = 1 << 1  # commands are queued
GATE_SUBSCRIBED: Final = 1 << 2  # in RESP2, only pub/sub commands are allowed
GATE_REPLY: Final = 1 << 3  # CLIENT REPLY OFF or SKIP
GATE_NO_TOUCH: Final = 1 << 4  # reads leave the access clocks alone
GATE_TRACE: Final = 1 << 5  # a component follows every request of this session

GATE_OUTSIDE: Final = 1 << 6  # may not touch the keyspace (MONITOR, replicas)

CLASS_NORMAL: Final = 0
CLASS_REPLICA: Final = 1
CLASS_PUBSUB: Final = 2
CLASS_NAMES: Final = ("normal", "replica", "pubsub")

# Reply mode of a replica: a reply would be taken for a part of the stream.
REPLY_NEVER: Final = 4


# What a connected client costs: session, connection, parser and socket objects.
SESSION_MEMORY: Final = 4096
# What one more key watched or channel listened to costs beside its name.
INTEREST_MEMORY: Final = 256


class Queued:
    """A command waiting for EXEC."""

    __slots__ = ("command", "argv")

    def __init__(self, command: Command, argv: list[bytes]) -> None:
        self.command = command
        self.argv = argv


class Watch:
    """A key that a client WATCHes; known to the key's database as long as it is watched.

    ``expired``: its time had come when the watch began, so that its deletion will be no change.
    """

    __slots__ = ("session", "db", "key", "expired")

    def __init__(self, session: Session, db: Database, key: bytes, expired: bool) -> None:
        self.session = session
        self.db = db
        self.key = key
        self.expired = expired


class Session:
    """A client. Handlers get it as ``ctx``.

    ``out`` holds encoded replies not yet taken by the connection. ``blocked`` is the wait that
    the client is in, if any: the connection must then keep further requests back.
    ``effects`` is what the running command wants in the command log instead of itself
    (see :meth:`propagate`).
    """

    __slots__ = (
        "engine",
        "db",
        "id",
        "protocol",
        "gate",
        "name",
        "user",
        "authenticated",
        "library_name",
        "library_version",
        "created",
        "active",
        "heard",
        "last_command",
        "running",
        "address",
        "local_address",
        "fd",
        "unix_socket",
        "out",
        "deferred",
        "out_size",
        "closing",
        "killed",
        "close_reason",
        "wake",
        "drained",
        "close",
        "retry",
        "queue",
        "queue_memory",
        "queue_flags",
        "queue_failed",
        "watches",
        "watch_failed",
        "channels",
        "patterns",
        "shard_channels",
        "blocked",
        "resumed",
        "effects",
        "in_exec",
        "reply_mode",
        "no_touch",
        "no_evict",
        "client_class",
        "monitor",
        "read_only",
        "asking",
        "from_master",
        "query_size",
        "interest_memory",
        "soft_limit_since",
        "last_reply_error",
    )

    def __init__(self, engine: Engine, id: int, db: Database) -> None:
        self.engine = engine
        self.db = db
        self.id = id
        self.protocol = 2
        self.gate = 0
        self.name = b""
        self.user = b"default"
        self.authenticated = True
        self.library_name = b""
        self.library_version = b""
        self.created = 0.0  # wall clock, seconds
        self.active = 0  # wall clock, milliseconds, when the client last did something
        self.heard = 0  # the same, when it last sent something
        self.last_command: Command | None = None
        self.running: Command | None = None  # set while a handler runs
        self.address = b""
        self.local_address = b""
        self.fd = -1
        self.unix_socket = False
        self.out: list[bytes] = []
        # Messages to this client that its own running command has caused: they follow the reply.
        self.deferred: list[bytes] = []
        self.out_size = 0  # bytes that the connection has taken but not sent
        self.closing = False  # close once the replies are out
        self.killed = False  # close now
        self.close_reason = ""
        # How the engine reaches the connection: there is output, or the wait is over; close.
        self.wake: Callable[[], None] | None = None
        self.close: Callable[[], None] | None = None
        # Called when all that was queued for the client has been sent.
        self.drained: Callable[[], None] | None = None
        # Have a request that was put off executed, as soon as no other command is running.
        self.retry: Callable[[list[bytes]], None] | None = None
        self.queue: list[Queued] | None = None
        self.queue_memory = 0
        self.queue_flags = 0  # the flags of all commands in the queue
        self.queue_failed = False
        self.watches: dict[tuple[int, bytes], Watch] = {}  # by database and key
        self.watch_failed = False  # a key that it watches has changed: EXEC will do nothing
        self.channels: dict[bytes, None] = {}
        self.patterns: dict[bytes, None] = {}
        self.shard_channels: dict[bytes, None] = {}
        self.blocked: Wait | None = None
        self.resumed = False  # the running command is tried again after a wait
        self.effects: list[list[bytes]] | None = None
        self.in_exec = False
        self.reply_mode = 0  # 0 on, 1 off, 2 skip this reply, 3 skip the next, or REPLY_NEVER
        self.no_touch = False
        self.no_evict = False
        self.client_class = CLASS_NORMAL
        self.monitor = False
        self.read_only = False
        self.asking = False
        self.from_master = False
        self.query_size = 0
        self.interest_memory = 0  # what it watches and listens to
        self.soft_limit_since = 0.0
        self.last_reply_error = b""

    # What handlers do with their context.

    @property
    def now(self) -> int:
        """The time of the running command, Unix milliseconds: the same throughout it."""
        return self.engine.keyspace.now

    @property
    def deny_blocking(self) -> bool:
        """True where a blocking command must answer at once as if its time were up."""
        return self.in_exec or self.wake is None

    def propagate(self, *argv: bytes) -> None:
        """Put ``argv`` into the command log in place of the running command.

        Called several times, all are logged in order, as one MULTI/EXEC unit.
        """
        engine = self.engine
        if not engine.command_log.readers:
            return
        if self.effects is None:
            self.effects = []
            engine.keyspace.pending = True
        self.effects.append(list(argv))

    def propagate_nothing(self) -> None:
        """Keep the running command out of the command log, whatever it changed."""
        engine = self.engine
        if engine.command_log.readers:
            self.effects = []
            engine.keyspace.pending = True

    def send(self, wire: bytes) -> None:
        """Queue bytes that answer no request (a push, a monitor line) and wake the connection.

        What a command causes for its own client comes after the command's reply; whoever may get
        such messages has a gate (GATE_SUBSCRIBED, GATE_OUTSIDE) set.
        """
        if self.running is not None:
            self.deferred.append(wire)
            return
        if self.closing:
            return
        self.out.append(wire)
        if self.wake is not None:
            self.wake()

    def send_deferred(self) -> None:
        """The reply is out: now what came up meanwhile."""
        deferred = self.deferred
        self.deferred = []
        for wire in deferred:
            self.send(wire)

    # Transactions.

    def watch(self, key: bytes) -> None:
        """Let the next transaction fail if ``key`` changes before it."""
        db = self.db
        name = (db.index, key)
        if name in self.watches:
            return
        watch = Watch(self, db, key, db.is_due(key))
        db.watches.setdefault(key, {})[watch] = None
        self.watches[name] = watch
        self.interest_memory += len(key) + INTEREST_MEMORY

    def unwatch(self) -> None:
        """Watch nothing any more; what has failed stays failed."""
        for watch in self.watches.values():
            watchers = watch.db.watches[watch.key]
            del watchers[watch]
            if not watchers:
                del watch.db.watches[watch.key]
            self.interest_memory -= len(watch.key) + INTEREST_MEMORY
        self.watches = {}

    def fail_watches(self) -> None:
        """A watched key has changed. There is no point in watching the others any more."""
        self.watch_failed = True
        self.unwatch()

    def discard_transaction(self) -> None:
        """Forget the queue and the watches: MULTI has never been, and EXEC may do anything."""
        self.queue = None
        self.queue_memory = 0
        self.queue_flags = 0
        self.queue_failed = False
        self.set_gate(GATE_MULTI, False)
        self.unwatch()
        self.watch_failed = False

    def set_gate(self, bit: int, on: bool) -> None:
        if on:
            self.gate |= bit
        else:
            self.gate &= ~bit

    @property
    def memory(self) -> int:
        """Bytes held for the client: requests, queued commands, replies, names of what it watches
        and listens to, and a fixed part.
        """
        size = SESSION_MEMORY + self.query_size + self.queue_memory
        return size + self.interest_memory + self.out_size

    @property
    def subscriptions(self) -> int:
        """Channels and patterns, without shard channels."""
        return len(self.channels) + len(self.patterns)
