"""Executes commands: from an argument list to a reply in the session's ``out``.

The way of a request, in order (:meth:`Engine.execute`, :meth:`Engine.admit`):

1. look up the command and its subcommand; check the number of arguments;
2. where something stands in the way (``gate`` of the session or the engine is not 0):
   authentication, the guards that components have installed (routing, memory, state of
   persistence and replication …) in the order of their stages, the restrictions of a subscribed
   client, the queue of MULTI;
3. call the handler;
4. account: time, histogram, slow log, errors;
5. settle what it left: the command log, then clients that wait for keys that appeared.

The engine does no I/O: sessions are fed by whoever owns their connection, replies are encoded
into ``Session.out``. Time comes from the clock that it is given.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from types import MethodType
from typing import Final

from node.blocking import Blocking, Wait
from node.clock import Clock
from node.command import (
    MAY_REPLICATE,
    NO_AUTH,
    NO_MULTI,
    PROTECTED,
    READONLY,
    TOUCHES_ARBITRARY_KEYS,
    WRITE,
    Command,
    Group,
    Spec,
)
from node.command_log import MESSAGE, CommandLog
from node.component import Component
from node.config import Config
from node.keyspace import Database, Keyspace
from node.keyspace import Statistics as KeyspaceStatistics
from node.log import Log
from node.resp import (
    BULK_HEADS,
    CACHED_LENGTHS,
    CRLF,
    NO_REPLY,
    QUEUED,
    Error,
    Reply,
    ReplyError,
    Status,
    encode,
)
from node.session import (
    GATE_MULTI,
    GATE_NO_TOUCH,
    GATE_OUTSIDE,
    GATE_REPLY,
    GATE_STRANGER,
    GATE_SUBSCRIBED,
    REPLY_NEVER,
    Queued,
    Session,
)

# Why the engine must look twice at every request (``Engine.gate``).
GATE_GUARDS: Final = 1 << 0
GATE_OBSERVERS: Final = 1 << 1

# The order in which guards are asked, that of Redis's processCommand.
STAGE_SHUTDOWN: Final = 0
STAGE_ACL: Final = 10
STAGE_ROUTE: Final = 20
STAGE_MEMORY: Final = 30
STAGE_DISK: Final = 40
STAGE_REPLICA: Final = 50
STAGE_LOADING: Final = 60
STAGE_MIGRATION: Final = 65
STAGE_PAUSE: Final = 70

# Returns None to let the command pass, otherwise the reply instead of it (an Error; NO_REPLY when
# the guard has put the client aside).
Guard = Callable[[Session, Command, list[bytes]], Reply]
# Sees each command just before its handler runs (MONITOR).
Observer = Callable[[Session, Command, list[bytes]], None]

# Hears of a slow command: its session, the command, its arguments, the nanoseconds it took.
SlowObserver = Callable[[Session, Command, list[bytes], int], None]

_BITS: Final = bytes([n.bit_length() for n in range(256)])

REFRESH_NS: Final = 1_000_000
NEVER_NS: Final = 1 << 62

SUBSCRIBED_ALLOWED: Final = frozenset(
    (
        b"subscribe",
        b"unsubscribe",
        b"psubscribe",
        b"punsubscribe",
        b"ssubscribe",
        b"sunsubscribe",
        b"ping",
        b"quit",
        b"reset",
    )
)
# What HTTP requests begin with; no command is called so.
CROSS_PROTOCOL: Final = frozenset((b"post", b"host:"))
# What MULTI does not queue.
UNQUEUED: Final = frozenset((b"exec", b"discard", b"multi", b"watch", b"quit", b"reset"))


class EngineStatistics:
    """Counters that CONFIG RESETSTAT clears."""

    __slots__ = ("errors", "error_counts", "unexpected")

    def __init__(self) -> None:
        self.errors = 0
        self.error_counts: dict[bytes, int] = {}
        self.unexpected = 0


class Engine:
    """The synchronous heart of a server: commands, keyspace, sessions."""

    def __init__(self, config: Config, clock: Clock, log: Log, keyspace: Keyspace) -> None:
        self.config = config
        self.clock = clock
        self._monotonic_ns = clock.monotonic_ns
        self.log = log
        self.keyspace = keyspace
        self.command_log = CommandLog()
        self.blocking = Blocking(self)
        self.components: list[Component] = []
        # By lower-case name; ``_lookup`` knows upper case as well.
        self.commands: dict[bytes, Command] = {}
        self._lookup: dict[bytes, Command] = {}
        self.sessions: dict[int, Session] = {}
        self._next_session = 1
        self.gate = 0
        self._guards: list[tuple[int, Guard]] = []  # by stage
        self._asked: list[Guard] = []  # the guards alone
        # Asked before all guards about commands that not everybody may use (DEBUG).
        self.protection: Guard = _let_pass
        self._observers: list[Observer] = []
        self.statistics = EngineStatistics()
        # Who is told of slow commands (slow log, latency monitor), and from which time on; the
        # least of these, less 1.
        self._slow_observers: dict[SlowObserver, int] = {}
        self.slow_ns = NEVER_NS
        # (class of event, nanoseconds): something other than a command has held the server up.
        self.report_stall: Callable[[bytes, int], None] = _ignore_stall
        self.started_ns = clock.monotonic_ns()  # of the server
        self.ended_ns = self.started_ns  # of the last command: where the next one's time begins
        self._refresh_ns = 0
        self._next_warning_ns = 0
        self._dirty_seen = 0
        self._deletions: list[tuple[int, list[bytes]]] = []
        # Changes of a transaction or script, logged as one unit; None outside.
        self._unit: list[tuple[int, list[bytes]]] | None = None
        self.current: Session | None = None
        self.cron_paused = False  # DEBUG PAUSE-CRON: nothing happens periodically
        keyspace.key_deleted = self._log_deletion
        self.refresh()

    # Composition.

    def install(self, component: Component) -> None:
        """Make ``component`` part of this engine."""
        self.components.append(component)
        for group in component.groups():
            self.install_group(group, component)

    def install_group(self, group: Group, owner: object | None = None) -> None:
        """Add a group's commands; with ``owner`` its handlers are bound to it as methods."""
        for spec in group.specs:
            self._install(spec, owner)

    def _install(self, spec: Spec, owner: object | None) -> None:
        function = spec.function
        if function is None:
            handler: Callable[..., Reply] = _call_container
        elif owner is not None:
            handler = MethodType(function, owner)
        else:
            handler = function
        command = Command(spec, handler)
        container, bar, name = spec.name.partition("|")
        if bar:
            parent = self.commands[container.encode()]
            if parent.subcommands is None:
                parent.subcommands = {}
            parent.subcommands[name.encode()] = command
            command.container = parent
            return
        assert command.name not in self.commands, command.name
        self.commands[command.name] = command
        self._lookup[command.name] = command
        self._lookup[command.name.upper()] = command

    def rename(self, name: bytes, new: bytes) -> None:
        """rename-command: ``name`` is from now on called ``new``, or gone when that is empty.

        KeyError when there is no such command, ValueError when ``new`` is taken.
        """
        command = self.commands.pop(name.lower())
        for known in [k for k, v in self._lookup.items() if v is command]:
            del self._lookup[known]
        new = new.lower()
        if new:
            if new in self.commands:
                raise ValueError(new)
            self.commands[new] = command
            self._lookup[new] = command
            self._lookup[new.upper()] = command

    def add_guard(self, stage: int, guard: Guard) -> None:
        """Ask ``guard`` about every request, in the order of stages, after others of its stage."""
        at = len(self._guards)
        while at > 0 and self._guards[at - 1][0] > stage:
            at -= 1
        self._guards.insert(at, (stage, guard))
        self._asked = [guard for _, guard in self._guards]
        self.gate |= GATE_GUARDS

    def remove_guard(self, guard: Guard) -> None:
        self._guards = [entry for entry in self._guards if entry[1] != guard]
        self._asked = [guard for _, guard in self._guards]
        if not self._guards:
            self.gate &= ~GATE_GUARDS

    def is_guarded(self, stage: int) -> bool:
        """Whether anybody guards this stage at the moment."""
        return any(guarded == stage for guarded, _ in self._guards)

    def add_observer(self, observer: Observer) -> None:
        self._observers.append(observer)
        self.gate |= GATE_OBSERVERS

    def remove_observer(self, observer: Observer) -> None:
        self._observers.remove(observer)
        if not self._observers:
            self.gate &= ~GATE_OBSERVERS

    def observe_slow(self, observer: SlowObserver, threshold_ns: int | None) -> None:
        """Tell ``observer`` of each command that takes at least ``threshold_ns``; None: of none."""
        if threshold_ns is None:
            self._slow_observers.pop(observer, None)
        else:
            self._slow_observers[observer] = threshold_ns
        self.slow_ns = min(self._slow_observers.values(), default=NEVER_NS) - 1

    def _report_slow(
        self, session: Session, command: Command, argv: list[bytes], taken: int
    ) -> None:
        # A command that waits has not been executed yet.
        if session.blocked is None:
            for observer, threshold in self._slow_observers.items():
                if taken >= threshold:
                    observer(session, command, argv, taken)

    # Sessions.

    def open_session(self) -> Session:
        session = Session(self, self._next_session, self.keyspace.databases[0])
        self._next_session += 1
        session.created = self.clock.wall()
        session.active = int(session.created * 1000)
        self.sessions[session.id] = session
        return session

    def close_session(self, session: Session) -> None:
        """The client has gone: it waits, watches and listens no more."""
        if session.blocked is not None:
            self.blocking.cancel(session.blocked)
        for component in self.components:
            component.session_closed(session)
        self.sessions.pop(session.id, None)
        session.wake = None
        session.close = None
        session.retry = None

    def all_commands(self) -> Iterator[Command]:
        """Every command and subcommand."""
        for command in self.commands.values():
            yield command
            if command.subcommands is not None:
                yield from command.subcommands.values()

    @property
    def processed(self) -> int:
        """Commands executed since the start or CONFIG RESETSTAT."""
        total = 0
        for command in self.all_commands():
            # Most have never been called, and this is asked for many times a second.
            if command.nanoseconds or command.histogram[0]:
                total += sum(command.histogram)
        return total

    def reset_statistics(self) -> None:
        """Let all counters start from zero: CONFIG RESETSTAT."""
        self.statistics = EngineStatistics()
        self.keyspace.statistics = KeyspaceStatistics()
        self.keyspace.trash.freed = 0
        for command in self.all_commands():
            command.reset_stats()
        for component in self.components:
            component.reset_statistics()

    # Time.

    def refresh(self) -> None:
        """Read the clocks."""
        keyspace = self.keyspace
        keyspace.now = int(self.clock.wall() * 1000)
        keyspace.clock = keyspace.now // 1000 & 0xFFFFFF
        self.ended_ns = self.clock.monotonic_ns()
        self._refresh_ns = self.ended_ns + REFRESH_NS

    def begin_batch(self) -> None:
        """Called before the first request of a batch: what follows is not idle time any more.

        The time that commands see is at most a millisecond old.
        """
        now = self.clock.monotonic_ns()
        if now > self._refresh_ns:
            self.refresh()
        else:
            self.ended_ns = now

    # Execution.

    def execute(self, session: Session, argv: list[bytes]) -> None:
        """Run one request of ``session``; the reply, if any, is in its ``out`` afterwards."""
        command = self._lookup.get(argv[0])
        if command is None or command.subcommands is not None:
            found = self.find_command(argv)
            if type(found) is not Command:
                if argv[0].lower() in CROSS_PROTOCOL:
                    self._cut_off(session)
                else:
                    self._reject(session, None, found)
                return
            command = found
        session.last_command = command
        arity = command.arity
        if arity != len(argv) and (arity > 0 or len(argv) < -arity):
            self._reject(session, command, wrong_arity(command))
            return
        if session.gate or self.gate or command.flags & PROTECTED:
            refusal = self.admit(session, command, argv)
            if refusal is not None:
                self.reply(session, refusal)
                return
            if session.gate:
                self._execute_gated(session, command, argv)
                return
        reply = self.call(session, command, argv)
        # The common kinds of replies are encoded right here: they are most of the traffic.
        if session.reply_mode:
            self.reply(session, reply)
        elif type(reply) is Status:
            session.out.append(reply.wire)
        elif type(reply) is bytes and len(reply) < CACHED_LENGTHS:
            session.out.append(BULK_HEADS[len(reply)] + reply + CRLF)
        elif type(reply) is int:
            session.out.append(b":%d\r\n" % reply)
        elif reply is not NO_REPLY:
            session.out.append(encode(reply, session.protocol))

    def _cut_off(self, session: Session) -> None:
        """The client speaks HTTP: a browser, probably, that someone has made send commands."""
        session.killed = True
        if self.ended_ns >= self._next_warning_ns:
            self._next_warning_ns = self.ended_ns + 60_000_000_000
            self.log.warning(
                "Possible SECURITY ATTACK detected. It looks like somebody is sending POST or "
                "Host: commands to Redis. This may be an attempt at Cross Protocol Scripting. "
                f"Connection from {session.address.decode(errors='replace')} aborted."
            )

    def _execute_gated(self, session: Session, command: Command, argv: list[bytes]) -> None:
        """Run a command of a client that is not treated like all others."""
        if session.gate & GATE_NO_TOUCH and command.name != b"touch":
            self.keyspace.touching = False
        reply = self.call(session, command, argv)
        self.keyspace.touching = True
        self.reply(session, reply)
        if session.deferred:
            session.send_deferred()

    def call(self, session: Session, command: Command, argv: list[bytes]) -> Reply:
        """Run a command's handler, account for it and settle its effects; errors are replies."""
        session.running = command
        try:
            reply = command.handler(session, argv)
        except ReplyError as error:
            command.failed += 1
            self.count_error(error.text)
            reply = Error(error.text)
        except Exception:
            # A bug must not take the other clients down.
            command.failed += 1
            self.statistics.unexpected += 1
            self.log.warning(
                f"Unexpected error in '{command.name.decode()}':\n{traceback.format_exc()}"
            )
            self.count_error(b"ERR")
            reply = Error(b"ERR internal error in '%b', see the server's log" % command.name)
        if self._observers and not session.resumed:
            for observer in self._observers:
                observer(session, command, argv)
        ended = self._monotonic_ns()
        taken = ended - self.ended_ns
        self.ended_ns = ended
        if reply is NO_REPLY and session.blocked is not None:
            session.blocked.spent += taken  # all attempts are one call, counted at the end
        else:
            command.nanoseconds += taken
            command.histogram[_count_bits(taken)] += 1
        if taken > self.slow_ns:
            self._report_slow(session, command, argv, taken)
        if self.keyspace.pending:
            self.settle(session, argv)
        session.running = None
        if ended > self._refresh_ns and not session.in_exec:
            self.refresh()
        return reply

    def find_command(self, argv: Sequence[bytes]) -> Command | Error:
        """The command or subcommand that ``argv`` names, or the error that says there is none."""
        command = self._lookup.get(argv[0])
        if command is None:
            command = self._lookup.get(argv[0].lower())
            if command is None:
                return unknown_command(argv)
        if command.subcommands is None:
            return command
        if len(argv) < 2:
            return command
        subcommand = command.subcommands.get(argv[1].lower())
        if subcommand is None:
            name = argv[1].partition(b"\0")[0][:128]
            return Error(
                b"ERR unknown subcommand '%b'. Try %b HELP." % (name, command.name.upper())
            )
        return subcommand

    def admit(self, session: Session, command: Command, argv: list[bytes]) -> Reply:
        """Everything that may stand between a well-formed request and its handler.

        None when it may run, otherwise the reply to give instead.
        """
        gate = session.gate
        flags = command.flags
        if flags & PROTECTED:
            refusal = self.protection(session, command, argv)
            if refusal is not None:
                return self._refuse(session, command, refusal)
        if gate:
            if gate & GATE_MULTI and flags & NO_MULTI:
                return self._refuse(
                    session, command, Error(b"ERR Command not allowed inside a transaction")
                )
            if gate & GATE_STRANGER and not session.authenticated and not flags & NO_AUTH:
                return self._refuse(session, command, Error(b"NOAUTH Authentication required."))
        for guard in self._asked:
            refusal = guard(session, command, argv)
            if refusal is not None:
                if refusal is NO_REPLY:
                    return refusal
                return self._refuse(session, command, refusal)
        if not gate:
            return None
        if (
            gate & GATE_SUBSCRIBED
            and session.protocol == 2
            and command.name not in SUBSCRIBED_ALLOWED
        ):
            return self._refuse(
                session,
                command,
                Error(
                    b"ERR Can't execute '%b': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / "
                    b"QUIT / RESET are allowed in this context" % command.name
                ),
            )
        if gate & GATE_OUTSIDE and flags & (READONLY | WRITE | MAY_REPLICATE):
            return self._refuse(
                session, command, Error(b"ERR Replica can't interact with the keyspace")
            )
        if gate & GATE_MULTI and session.queue is not None and command.name not in UNQUEUED:
            session.queue.append(Queued(command, argv))
            session.queue_memory += sum(map(len, argv)) + 64 * len(argv)
            session.queue_flags |= flags
            return QUEUED
        return None

    def _refuse(self, session: Session, command: Command | None, refusal: Reply) -> Reply:
        """Count a request that was refused before it ran.

        A transaction being queued fails; where EXEC itself is refused, it is over.
        """
        if command is not None:
            command.rejected += 1
            if command.name == b"exec" and type(refusal) is Error:
                session.discard_transaction()
                refusal = Error(
                    b"EXECABORT Transaction discarded because of: "
                    + refusal.text.removeprefix(b"ERR ")
                )
        if type(refusal) is Error:
            self.count_error(refusal.text)
        if session.queue is not None:
            session.queue_failed = True
        return refusal

    def _reject(self, session: Session, command: Command | None, refusal: Reply) -> None:
        if session.queue is None:
            session.asking = False
        self.reply(session, self._refuse(session, command, refusal))

    def reply(self, session: Session, reply: Reply) -> None:
        """Queue ``reply`` for the client, unless it asked for silence (CLIENT REPLY)."""
        if session.gate & GATE_REPLY and session.reply_mode:
            if reply is NO_REPLY and session.blocked is not None:
                return  # the reply that may have to be skipped is still to come
            if session.reply_mode == REPLY_NEVER:
                if reply is not NO_REPLY:
                    self._cut_replica(session)
                return
            if session.reply_mode == 2:
                session.reply_mode = 0
                session.set_gate(GATE_REPLY, False)
            elif session.reply_mode == 3:
                session.reply_mode = 2  # CLIENT REPLY SKIP itself: the next one is skipped
        elif reply is not NO_REPLY:
            session.out.append(encode(reply, session.protocol))

    def _cut_replica(self, session: Session) -> None:
        """A replica has sent something that is answered, and would not understand the answer."""
        session.killed = True
        name = session.last_command.name if session.last_command is not None else b"NULL"
        self.log.warning(
            f"Replica generated a reply to command '{name.decode(errors='replace')}', "
            f"disconnecting it: id={session.id} addr={session.address.decode(errors='replace')}"
        )

    def count_error(self, text: bytes) -> None:
        """Count an error reply under its code (INFO errorstats)."""
        statistics = self.statistics
        statistics.errors += 1
        code = text.split(b" ", 1)[0]
        counts = statistics.error_counts
        if code in counts or len(counts) < 128:
            counts[code] = counts.get(code, 0) + 1

    # What a command leaves behind.

    def settle(self, session: Session, argv: list[bytes]) -> None:
        """Log what has changed and serve those who waited for it."""
        keyspace = self.keyspace
        keyspace.pending = False
        if self._unit is None and not self.command_log.readers:
            self._dirty_seen = keyspace.dirty
            session.effects = None
            if keyspace.ready:
                self.blocking.serve()
            return
        if self._unit is None and session.effects is None and not self._deletions:
            if keyspace.dirty != self._dirty_seen:
                self._dirty_seen = keyspace.dirty
                self.command_log.append_one(session.db.index, argv)
            if keyspace.ready:
                self.blocking.serve()
            return
        changes = self._deletions
        self._deletions = []
        # A command that changed nothing may still insist on the log (FLUSHALL of nothing).
        if keyspace.dirty != self._dirty_seen or session.effects:
            self._dirty_seen = keyspace.dirty
            if self.command_log.readers:
                effects = session.effects
                db = session.db.index
                if effects is None:
                    changes.append((db, argv))
                else:
                    changes.extend([(db, effect) for effect in effects])
        session.effects = None
        if self._unit is not None:
            self._unit.extend(changes)
            return
        if changes:
            # Keys that SCAN and RANDOMKEY found expired have nothing to do with each other.
            command = session.running
            together = command is None or not command.flags & TOUCHES_ARBITRARY_KEYS
            self.command_log.append(changes, together=together)
        if keyspace.ready:
            self.blocking.serve()

    def settle_background(self) -> None:
        """As :meth:`settle`, for work that no client asked for (expiry, eviction)."""
        self.keyspace.pending = False
        changes = self._deletions
        self._deletions = []
        self.command_log.append(changes, together=False)
        if self.keyspace.ready:
            self.blocking.serve()

    def log_background(self, db: Database, argv: list[bytes]) -> None:
        """Log a change that was made between commands, for no running one: as ``argv``."""
        self._dirty_seen = self.keyspace.dirty
        if self.command_log.readers:
            self._deletions.append((db.index, argv))
        self.settle_background()

    def log_message(self, argv: list[bytes]) -> None:
        """Let replicas execute the running command too, which changes no data (PUBLISH)."""
        if self.command_log.message_readers:
            self._deletions.append((MESSAGE, argv))
            self.keyspace.pending = True

    def begin_unit(self) -> None:
        """From here on changes are logged together (EXEC, scripts)."""
        assert self._unit is None
        self._unit = []

    @property
    def in_unit(self) -> bool:
        """Whether changes are being collected to be logged together."""
        return self._unit is not None

    def end_unit(self) -> None:
        changes = self._unit
        self._unit = None
        if changes:
            self.command_log.append(changes)
        if self.keyspace.ready:
            self.blocking.serve()

    def _log_deletion(self, db: Database, key: bytes, command: bytes) -> None:
        if self.command_log.readers:
            self._deletions.append((db.index, [command, key]))

    def resume(self, wait: Wait) -> None:
        """Run a waiting command again, since what it waits for may be there.

        It passes the gate again, as in Redis 7.2: memory may be short by now, say.
        """
        session = wait.session
        if session.gate or self.gate:
            refusal = self.admit(session, wait.command, wait.argv)
            if refusal is NO_REPLY:
                self.blocking.cancel(wait)  # it has been put off, and will start anew
                return
            if refusal is not None:
                self.blocking.end(wait, refusal)
                return
        session.resumed = True
        touching = self.keyspace.touching
        self.keyspace.touching = not session.gate & GATE_NO_TOUCH
        reply = self.call(session, wait.command, wait.argv)
        self.keyspace.touching = touching
        session.resumed = False
        if reply is not NO_REPLY and session.blocked is wait:
            wait.command.nanoseconds += wait.spent
            self.blocking.end(wait, reply)
        if session.deferred:
            session.send_deferred()


def _let_pass(session: Session, command: Command, argv: list[bytes]) -> Reply:
    return None


def _ignore_stall(event: bytes, taken: int) -> None:
    return None


def _count_bits(number: int) -> int:
    """``number.bit_length()``, faster where it is small."""
    if number < 256:
        return _BITS[number]
    if number < 65536:
        return _BITS[number >> 8] + 8
    return number.bit_length()


def _call_container(session: Session, argv: list[bytes]) -> Reply:
    """A container command without a subcommand; the arity check lets none through."""
    raise ReplyError(b"ERR wrong number of arguments")


def wrong_arity(command: Command) -> Error:
    return Error(b"ERR wrong number of arguments for '%b' command" % command.name)


def unknown_command(argv: Sequence[bytes]) -> Error:
    """Redis's text, with the beginning of the arguments (processCommand); NUL ends a text."""
    name = argv[0].partition(b"\0")[0][:128]
    text = b"ERR unknown command '%b', with args beginning with: " % name
    shown = b""
    for argument in argv[1:]:
        if len(shown) >= 128:
            break
        shown += b"'%b' " % argument[: 128 - len(shown)].partition(b"\0")[0]
    return Error(text + shown)
