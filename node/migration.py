"""MIGRATE: keys that move to another server, while everybody else is served.

Redis does nothing else until the target has answered. Here the client that has sent MIGRATE waits,
a task talks to the target (what it says is :mod:`node.shipment`'s business), and to everyone it
looks as if it had happened in one moment, the one at which it is over:

- While keys are under way, a guard puts off every request that has one of them among its keys,
  reads as well, and EXEC of a transaction with such a request; so does what concerns all keys
  (FLUSHALL, FLUSHDB, SWAPDB) or ends the server (SHUTDOWN). They are taken up afterwards, in order,
  and pass the whole gate again. Without a migration there is no guard.
- A key that nevertheless expires or is evicted meanwhile is gone here as it would be, and comes to
  live at the target: its deletion has been logged already. In the end only what is still the very
  value that was sent is deleted, and only if the target has confirmed it.
- What was deleted is logged as one DEL. While clients are paused for a failover nothing changes:
  the end is put off, too.
- A server that becomes a replica meanwhile deletes nothing: its master says what goes. The client
  is told that it is read-only.
- A client that goes away leaves its migration running, as in Redis.

Most migrations are of a few small keys to a target that answers at once. Where there is a
connection to it, such a one is over within the command itself: it is sent and the answer awaited
for a moment, no longer than a turn of the hub lasts. What has not been answered by then goes on in
a task.

In a transaction or a script nothing can be put off: there MIGRATE does hold everyone up, for its
timeout at most in each step. (``migrateCommand`` in Redis's cluster.c.)
"""

from __future__ import annotations

import errno
import os
import select
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import trio

from node.command import Command, Group, KeySpec, key
from node.commands.arguments import REDACTED, SYNTAX_ERROR, integer
from node.component import Component
from node.engine import STAGE_MIGRATION
from node.hub import PATIENCE as HUB_PATIENCE
from node.information import Fields, Section
from node.keyspace import STILL_PAUSED, STILL_REPLICA
from node.replication.restraint import READ_ONLY
from node.resp import NO_REPLY, OK, Error, Reply, ReplyError, Status
from node.session import GATE_OUTSIDE, Session
from node.shipment import Shipment, ShipmentError, find_present

if TYPE_CHECKING:
    from node.blocking import Wait
    from node.server import Server

GROUP: Final = Group("generic")

NO_KEY: Final = Status(b"NOKEY")
MISPLACED_KEY: Final = (
    b"ERR When using MIGRATE KEYS option, the key argument must be set to the empty string"
)
CONNECT_FAILED: Final = Error(b"IOERR error or timeout connecting to the client")
WRITE_FAILED: Final = Error(b"IOERR error or timeout writing to target instance")
READ_FAILED: Final = Error(b"IOERR error or timeout reading to target instance")
BROKEN: Final = Error(b"ERR internal error in 'migrate', see the server's log")

USUAL_TIMEOUT: Final = 1000  # milliseconds, where none or less was given
# Bytes on their way to the target beyond which its answers are awaited.
WINDOW: Final = 1 << 20
# A write of so many bytes has to be done within the timeout.
SLICE: Final = 64 * 1024
READ_SIZE: Final = 64 * 1024

# How long, in milliseconds, a target's answer is awaited with nobody being served meanwhile.
PATIENCE: Final = 2

# How such a try went: everything is answered, or is to be awaited; the connection is broken.
ANSWERED: Final = 0
UNANSWERED: Final = 1
LOST: Final = 2

# Connections are kept for the next migration to the same target.
IDLE_SECONDS: Final = 10.0
MOST_IDLE: Final = 64

# What concerns all keys, or ends the server.
SWEEPING: Final = frozenset((b"flushall", b"flushdb", b"swapdb", b"shutdown"))
# The options, and how many arguments follow each.
OPTIONS: Final = {b"COPY": 0, b"REPLACE": 0, b"AUTH": 1, b"AUTH2": 2}


class Failure(Exception):
    """The connection to the target is of no use any more; ``final``: trying again would not help.

    ``reply`` is what the client will be told if there is no second try.
    """

    def __init__(self, reply: Error, *, final: bool) -> None:
        super().__init__(reply.text)
        self.reply = reply
        self.final = final


class Line:
    """A connection to a target, in database ``selected`` (-1: unknown).

    ``timeout`` (seconds) holds for each step. ``quick``: the target has answered in a moment so
    far.
    """

    __slots__ = (
        "address",
        "stream",
        "timeout",
        "selected",
        "used",
        "pollable",
        "quick",
        "_poll",
        "_fd",
    )

    def __init__(self, address: tuple[str, int], stream: trio.abc.Stream, timeout: float) -> None:
        self.address = address
        self.stream = stream
        self.timeout = timeout
        self.selected = -1
        self.used = 0.0  # trio's time
        self._fd = -1
        if isinstance(stream, trio.SocketStream):
            self._fd = stream.socket.fileno()
            self._poll = select.poll()
            self._poll.register(self._fd, select.POLLIN)
        self.pollable = self._fd >= 0
        self.quick = self.pollable

    def hurry(self, shipment: Shipment, unsent: list[bytes]) -> int:
        """Send a portion, and await its answer for a moment; how that went.

        What is still to be sent of the portion is left in ``unsent``.
        """
        try:
            unsent += shipment.load()
            while unsent:
                sent = os.write(self._fd, unsent[0])
                unsent[0] = unsent[0][sent:]
                if unsent[0]:
                    return UNANSWERED
                del unsent[0]
            while shipment.sent and not shipment.complete:
                if not self._poll.poll(PATIENCE):
                    self.quick = False
                    return UNANSWERED
                data = os.read(self._fd, READ_SIZE)
                if not data:
                    return LOST
                shipment.receive(data)
        except BlockingIOError:
            return UNANSWERED
        except (OSError, ShipmentError):
            return LOST
        return ANSWERED if shipment.complete else UNANSWERED

    async def send(self, piece: bytes) -> None:
        """Raises Failure."""
        for part in _cut(piece):
            try:
                with trio.fail_after(self.timeout):
                    await self.stream.send_all(part)
            except trio.TooSlowError:
                raise Failure(WRITE_FAILED, final=True) from None
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                raise Failure(WRITE_FAILED, final=False) from None

    async def receive(self) -> bytes:
        """Raises Failure."""
        try:
            with trio.fail_after(self.timeout):
                data = await self.stream.receive_some(READ_SIZE)
        except trio.TooSlowError:
            raise Failure(READ_FAILED, final=True) from None
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise Failure(READ_FAILED, final=False) from None
        if not data:
            raise Failure(READ_FAILED, final=False)
        return bytes(data)


class Order:
    """What a MIGRATE asks for, beside the keys. Raises ReplyError.

    Passwords are made unrecognizable in ``argv``, which the slow log and MONITOR may show.
    """

    __slots__ = ("host", "port", "timeout", "target_db", "copy", "replace", "credentials", "names")

    def __init__(self, argv: list[bytes]) -> None:
        self.copy = False
        self.replace = False
        self.credentials: list[bytes] = []
        self.names = [argv[3]]
        at = 6
        while at < len(argv):
            option = argv[at].upper()
            if option == b"KEYS":
                if argv[3]:
                    raise ReplyError(MISPLACED_KEY)
                self.names = argv[at + 1 :]
                break
            values = OPTIONS.get(option)
            if values is None or at + values >= len(argv):
                raise ReplyError(SYNTAX_ERROR)
            if option == b"COPY":
                self.copy = True
            elif option == b"REPLACE":
                self.replace = True
            else:
                self.credentials = argv[at + 1 : at + 1 + values]
                argv[at + 1 : at + 1 + values] = [REDACTED] * values
            at += 1 + values
        timeout = integer(argv[5])
        self.target_db = integer(argv[4])
        self.timeout = (timeout if timeout > 0 else USUAL_TIMEOUT) / 1000
        self.host = argv[1].decode(errors="surrogateescape")
        self.port = int(argv[2]) if argv[2].isdigit() and len(argv[2]) < 6 else 0


def find_keys(argv: Sequence[bytes]) -> list[tuple[int, tuple[str, ...]]]:
    """Where the keys of a MIGRATE are: the third argument, or all after KEYS."""
    flags = ("RW", "access", "delete")
    at = 6
    while at < len(argv):
        option = argv[at].upper()
        if option == b"KEYS":
            if argv[3] or at + 1 == len(argv):
                break
            return [(position, flags) for position in range(at + 1, len(argv))]
        at += 1 + OPTIONS.get(option, 0)
    return [(3, flags)]


class Job:
    """A migration under way. ``wait`` is its client's, until that has gone.

    ``line`` is a connection on which it has begun, with ``unsent`` to be sent first; ``tries`` is
    how many there are left.
    """

    __slots__ = ("order", "shipment", "wait", "reply", "line", "unsent", "tries")

    def __init__(self, order: Order, shipment: Shipment, wait: Wait) -> None:
        self.order = order
        self.shipment = shipment
        self.wait: Wait | None = wait
        self.reply: Reply = BROKEN
        self.line: Line | None = None
        self.unsent: list[bytes] = []
        self.tries = 2
        wait.unblockable = False
        wait.cancelled = self.forget_client

    def forget_client(self, wait: Wait) -> None:
        """The wait is over."""
        self.wait = None


class Migration(Component):
    """MIGRATE, and the keys that are under way.

    ``asking``: the target is a node of the cluster that imports the slot (RESTORE-ASKING).
    """

    def __init__(self, server: Server) -> None:
        super().__init__(server.engine)
        self._network = server.network
        self._hub = server.hub
        self._log = server.log
        self.asking = server.config.boolean("cluster-enabled")
        self._nursery: trio.Nursery | None = None
        self._jobs: dict[Job, None] = {}
        # Those whose end is put off.
        self._held: list[Job] = []
        self._under_way: dict[bytes, None] = {}
        self._idle: dict[tuple[str, int], list[Line]] = {}
        self._idle_count = 0

    def groups(self) -> Sequence[Group]:
        return (GROUP,)

    def sections(self) -> Sequence[Section]:
        return (Section("Stats", self._collect),)

    def _collect(self) -> Fields:
        return [("migrate_cached_sockets", self._idle_count)]

    # What others ask.

    @property
    def busy(self) -> bool:
        """Whether any migration is under way."""
        return bool(self._jobs)

    def is_under_way(self, name: bytes) -> bool:
        """Whether a key is being moved, in whatever database: it is here until that is over."""
        return name in self._under_way

    # The command.

    @GROUP.command(
        "migrate",
        -6,
        "write",
        keys=[
            key("RW access delete", 3),
            KeySpec("RW access delete incomplete", keyword=b"KEYS", start=-2, last=-1),
        ],
        key_finder=find_keys,
        categories="dangerous",
        since="2.6.0",
        complexity="O(N) for each key, N being the bytes of its value, here and at the target",
        summary="Moves keys to another server, each of them being at one of the two at any time.",
        syntax='host port <key#0 | ""> destination-db timeout [COPY]@3.0.0 [REPLACE]@3.0.0 '
        "authentication=[AUTH@4.0.7 password | AUTH2@6.0.0 username password] "
        "[KEYS@3.0.6 key#1 [key#1 ...]]",
        history=[
            ("3.0.0", "New options `COPY` and `REPLACE`."),
            ("3.0.6", "New option `KEYS`."),
            ("4.0.7", "New option `AUTH`."),
            ("6.0.0", "New option `AUTH2`."),
        ],
        tips=["nondeterministic_output"],
    )
    def migrate(self, ctx: Session, argv: list[bytes]) -> Reply:
        """OK when all keys that were there are at the target; NOKEY when none was there."""
        order = Order(argv)
        names = find_present(ctx.db, order.names)
        if not names:
            return NO_KEY
        shipment = Shipment(
            ctx.db,
            names,
            order.target_db,
            credentials=order.credentials,
            replace=order.replace,
            asking=self.asking,
        )
        if ctx.deny_blocking or self._nursery is None:
            return self._settle(ctx, order, shipment, self._deliver_at_once(order, shipment))
        line = self._take_idle(order)
        unsent: list[bytes] = []
        outcome = UNANSWERED
        if line is not None:
            shipment.begin(line.selected)
            if line.quick:
                outcome = line.hurry(shipment, unsent)
                if outcome == ANSWERED:
                    return self._settle(ctx, order, shipment, self._end_exchange(line, shipment))
        job = Job(order, shipment, self.engine.blocking.wait(ctx, argv, 0, NO_REPLY))
        if outcome == UNANSWERED:
            job.line = line
            job.unsent = unsent
        elif line is not None:
            self._close_soon(line)
            job.tries -= 1
            if shipment.answered or shipment.error is not None:
                job.tries = 0
        if not self._jobs:
            self.engine.add_guard(STAGE_MIGRATION, self.guard)
            self._hub.patience = 0.0
        self._jobs[job] = None
        for name in names:
            self._under_way[name] = None
        self._nursery.start_soon(self._carry, job)
        return NO_REPLY

    def _settle(self, ctx: Session, order: Order, shipment: Shipment, reply: Reply) -> Reply:
        """The migration is over with the command that asked for it. Raises ReplyError."""
        moved = [] if order.copy else shipment.remove_moved()
        if moved:
            ctx.propagate(b"DEL", *moved)
        if type(reply) is Error:
            raise ReplyError(reply.text)
        return reply

    # While keys are under way.

    def guard(self, session: Session, command: Command, argv: list[bytes]) -> Reply:
        """Put off what would touch keys under way; who cannot wait is let pass."""
        if session.wake is None or session.gate & GATE_OUTSIDE:
            return None
        queue = session.queue
        if queue is None:
            touching = self._touches(command, argv)
        else:
            # What is queued is not executed before EXEC.
            touching = command.name == b"exec" and any(
                self._touches(queued.command, queued.argv) for queued in queue
            )
        if not touching:
            return None
        self.engine.blocking.postpone(session, command, argv)
        return NO_REPLY

    def _touches(self, command: Command, argv: list[bytes]) -> bool:
        if command.name in SWEEPING:
            return True
        try:
            positions = command.key_positions(argv)
        except ValueError:
            return False  # it will be refused for its arguments
        return any(argv[at] in self._under_way for at in positions)

    # The end.

    def _conclude(self, job: Job) -> None:
        """Delete what has been moved, answer, and let those go on who had to wait for it."""
        engine = self.engine
        still = engine.keyspace.still
        if still & STILL_PAUSED:
            self._held.append(job)
            return
        engine.refresh()
        reply = job.reply
        if not job.order.copy and still & STILL_REPLICA:
            reply = READ_ONLY
        else:
            moved = [] if job.order.copy else job.shipment.remove_moved()
            if moved:
                engine.log_background(job.shipment.db, [b"DEL", *moved])
        del self._jobs[job]
        for name in job.shipment.keys:
            self._under_way.pop(name, None)
        if not self._jobs:
            engine.remove_guard(self.guard)
            self._hub.patience = HUB_PATIENCE
        if job.wait is not None:
            engine.blocking.finish(job.wait, reply)
        engine.blocking.resume_postponed()

    def tick(self, now_ns: int) -> None:
        held = self._held
        if held and not self.engine.keyspace.still & STILL_PAUSED:
            self._held = []
            for job in held:
                self._conclude(job)

    # Talking to the target.

    async def run(self) -> None:
        """The migrations' tasks; and connections that nobody has used for a while are closed."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                while True:
                    await trio.sleep(1.0)
                    self._close_idle(trio.current_time() - IDLE_SECONDS)
            finally:
                self._nursery = None

    async def _carry(self, job: Job) -> None:
        """One migration, from the connection to the end."""
        try:
            job.reply = await self._deliver(job)
        except Exception:
            self.engine.statistics.unexpected += 1
            self._log.warning(f"Unexpected error in a migration:\n{traceback.format_exc()}")
        self._conclude(job)

    async def _deliver(self, job: Job) -> Reply:
        """Send all keys, and read what comes back; what the client is to be told.

        A connection that breaks before the target has answered for any key may have been an old one
        that it has closed long since: there is a second try.
        """
        order = job.order
        shipment = job.shipment
        reply = READ_FAILED
        while job.tries:
            line = job.line
            job.line = None
            if line is None:
                try:
                    line = await self._connect(order)
                except Failure as failure:
                    return failure.reply
                shipment.begin(-1)
            try:
                await self._exchange(line, job)
            except Failure as failure:
                await trio.aclose_forcefully(line.stream)
                job.tries -= 1
                job.unsent = []
                reply = failure.reply
                if failure.final or shipment.answered or shipment.error is not None:
                    break
            except BaseException:
                await trio.aclose_forcefully(line.stream)
                raise
            else:
                return self._end_exchange(line, shipment)
        return reply if shipment.error is None else _target_error(shipment.error)

    def _end_exchange(self, line: Line, shipment: Shipment) -> Reply:
        """Everything has been answered: keep the connection; what the client is to be told."""
        line.selected = shipment.target_db if shipment.error is None else -1
        self._put_back(line)
        return OK if shipment.error is None else _target_error(shipment.error)

    async def _exchange(self, line: Line, job: Job) -> None:
        """Raises Failure."""
        engine = self.engine
        keyspace = engine.keyspace
        shipment = job.shipment
        for piece in job.unsent:
            await line.send(piece)
        while not shipment.sent:
            if keyspace.still & STILL_REPLICA:
                # The master may change what is being serialized.
                raise Failure(READ_ONLY, final=True)
            engine.refresh()
            pieces = shipment.load()
            if not pieces:
                await trio.lowlevel.checkpoint()
            for piece in pieces:
                await line.send(piece)
            while shipment.in_flight > WINDOW:
                await self._receive(line, shipment)
        began = trio.current_time()
        while not shipment.complete:
            await self._receive(line, shipment)
        line.quick = line.pollable and trio.current_time() - began < PATIENCE / 1000

    async def _receive(self, line: Line, shipment: Shipment) -> None:
        data = await line.receive()
        try:
            shipment.receive(data)
        except ShipmentError:
            raise Failure(READ_FAILED, final=True) from None

    # Connections.

    def _take_idle(self, order: Order) -> Line | None:
        """A connection to the target that nobody uses."""
        idle = self._idle.get((order.host, order.port))
        if not idle:
            return None
        self._idle_count -= 1
        line = idle.pop()
        line.timeout = order.timeout
        return line

    async def _connect(self, order: Order) -> Line:
        """A new connection. Raises Failure."""
        address = order.host, order.port
        try:
            with trio.fail_after(order.timeout):
                stream = await self._network.connect(*address)
        except (OSError, ValueError, trio.TooSlowError) as error:
            raise Failure(_connect_error(error), final=True) from None
        return Line(address, stream, order.timeout)

    def _put_back(self, line: Line) -> None:
        if self._idle_count >= MOST_IDLE:
            self._close_soon(line)
            return
        line.used = trio.current_time()
        self._idle.setdefault(line.address, []).append(line)
        self._idle_count += 1

    def _close_soon(self, line: Line) -> None:
        if self._nursery is not None:
            self._nursery.start_soon(trio.aclose_forcefully, line.stream)

    def _close_idle(self, until: float) -> None:
        """Close the connections that were last used at ``until`` or before."""
        for address, lines in list(self._idle.items()):
            kept = [line for line in lines if line.used > until]
            for line in lines:
                if line.used <= until:
                    self._idle_count -= 1
                    self._close_soon(line)
            if kept:
                self._idle[address] = kept
            else:
                del self._idle[address]

    # Holding everybody up.

    def _deliver_at_once(self, order: Order, shipment: Shipment) -> Reply:
        """As :meth:`_deliver`, on a connection of its own, with nobody being served meanwhile."""
        try:
            sock = self._network.connect_blocking(order.host, order.port, order.timeout)
        except (OSError, ValueError) as error:
            return _connect_error(error)
        reply: Reply = OK
        failed = WRITE_FAILED
        with sock:
            shipment.begin(-1)
            try:
                while not shipment.sent:
                    for piece in shipment.load():
                        for part in _cut(piece):
                            sock.sendall(part)
                failed = READ_FAILED
                while not shipment.complete:
                    data = sock.recv(READ_SIZE)
                    if not data:
                        raise ConnectionResetError
                    shipment.receive(data)
            except (OSError, ShipmentError):
                reply = failed
        return reply if shipment.error is None else _target_error(shipment.error)


def _connect_error(error: Exception) -> Error:
    """What the client is told when there is no connection.

    Redis hears that it was refused only when it writes. (ValueError: it was no name of a host.)
    """
    refused = isinstance(error, OSError) and error.errno in (errno.ECONNREFUSED, errno.EHOSTUNREACH)
    return WRITE_FAILED if refused else CONNECT_FAILED


def _cut(piece: bytes) -> list[bytes | memoryview]:
    """What is to be written within one timeout each."""
    if len(piece) <= SLICE:
        return [piece]
    whole = memoryview(piece)
    return [whole[at : at + SLICE] for at in range(0, len(piece), SLICE)]


def _target_error(text: bytes) -> Error:
    return Error(b"ERR Target instance replied with error: " + text)
