"""What replicas say that they have: WAIT, WAITAOF, and writes that too few replicas would get.

Behaviour after ``waitCommand``, ``waitaofCommand``, ``processClientsWaitingReplicas`` and
``refreshGoodSlavesCount`` in replication.c of Redis 7.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from node.blocking import Wait
from node.command import WRITE, Command, Group
from node.commands.arguments import bounded_integer, integer, positive_integer
from node.component import Component
from node.engine import STAGE_REPLICA
from node.keyspace import STILL_PAUSED
from node.persistence.aof import OFF, ON
from node.resp import NO_REPLY, Error, Reply, ReplyError, encode_request
from node.session import Session
from node.values.number import MAX_INTEGER, parse_integer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from node.replication.feed import Feed
    from node.replication.replica import Replica
    from node.replication.replication import Replication

GROUP: Final = Group("generic")

GETACK: Final = encode_request([b"REPLCONF", b"GETACK", b"*"])

NO_REPLICAS: Final = Error(b"NOREPLICAS Not enough good replicas to write.")
NOT_ON_REPLICAS: Final = (
    b"ERR WAIT cannot be used with replica instances. Please also note that since Redis 4.0 if a "
    b"replica is configured to be writable (which is not the default) writes to replicas are just "
    b"local and are not propagated."
)
NO_LOG_ON_REPLICAS: Final = (
    b"ERR WAITAOF cannot be used with replica instances. Please also note that writes to replicas "
    b"are just local and are not propagated."
)
NO_LOG: Final = b"ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled."


class Aim:
    """What a client waits for: so many replicas that have the history up to a position.

    WAITAOF: that have it in their append-only files for good; and, if ``local``, that all that the
    own file had been given when it came (``logged`` bytes) is there for good.
    """

    __slots__ = ("replicas", "position", "in_log", "local", "logged")

    def __init__(self, replicas: int, position: int) -> None:
        self.replicas = replicas
        self.position = position
        self.in_log = False
        self.local = False
        self.logged = 0


class Acknowledgements(Component):
    """Who waits for them, and how many replicas are near enough."""

    def __init__(self, replication: Replication, feed: Feed) -> None:
        super().__init__(replication.engine)
        self._replication = replication
        self._feed = feed
        self._aims: dict[Wait, Aim] = {}
        # Called whenever a replica has said how much it has.
        self.heard: list[Callable[[], None]] = []
        # The history ended there after all replicas had been asked.
        self._asked = -1
        self._least = 0
        self._largest_lag = 0
        self.guarding = False
        replication.config.on_change(
            ("min-replicas-to-write", "min-replicas-max-lag"), self.configure
        )
        self.configure()

    def groups(self) -> Sequence[Group]:
        return (GROUP,)

    def configure(self) -> None:
        """Take over the directives, and the role."""
        config = self._replication.config
        self._least = config.integer("min-replicas-to-write")
        self._largest_lag = config.integer("min-replicas-max-lag") * 1000
        wanted = bool(self._least and self._largest_lag and not self._replication.is_replica)
        if wanted and not self.guarding:
            self.engine.add_guard(STAGE_REPLICA, self.guard)
        elif self.guarding and not wanted:
            self.engine.remove_guard(self.guard)
        self.guarding = wanted

    # Writes are refused while there are too few replicas.

    def count_good(self) -> int:
        """Replicas that were heard of within ``min-replicas-max-lag``."""
        # In whole seconds, as the lag is told.
        since = (self.engine.keyspace.now - self._largest_lag) // 1000
        return sum(
            replica.streaming and replica.session.heard // 1000 >= since
            for replica in self._feed.replicas.values()
        )

    def guard(self, session: Session, command: Command, argv: list[bytes]) -> Reply:
        """Refuse what changes the data while too few replicas get it."""
        flags = session.queue_flags if command.name == b"exec" else command.flags
        if flags & WRITE and self.count_good() < self._least:
            return NO_REPLICAS
        return None

    # WAIT.

    def hear(self, replica: Replica, offset: int, logged: int) -> None:
        """The replica says how much it has, and how much of that is in its append-only file."""
        if offset > replica.offset or logged > replica.logged:
            replica.offset = max(replica.offset, offset)
            replica.logged = max(replica.logged, logged)
            self.check()
        for hear in self.heard:
            hear()

    def check(self) -> None:
        """Let those go on who have what they wait for."""
        log_file = self._replication.log_file
        for wait, aim in list(self._aims.items()):
            if aim.local and log_file.state == OFF:
                self.engine.blocking.end(wait, Error(NO_LOG))
                continue
            wait.timeout_reply = self._describe(aim)
            if self._is_reached(aim):
                self.engine.blocking.end(wait, wait.timeout_reply)

    def _count(self, aim: Aim) -> int:
        """Replicas that have said that they have what is wanted."""
        return sum(
            replica.streaming and (replica.logged if aim.in_log else replica.offset) >= aim.position
            for replica in self._feed.replicas.values()
        )

    def _has_logged(self, aim: Aim) -> bool:
        """Whether the own append-only file has it for good."""
        log_file = self._replication.log_file
        return log_file.state == ON and log_file.writer.permanent >= aim.logged

    def _is_reached(self, aim: Aim) -> bool:
        return self._count(aim) >= aim.replicas and (not aim.local or self._has_logged(aim))

    def _describe(self, aim: Aim) -> Reply:
        """The reply, as things are."""
        count = self._count(aim)
        return [int(self._has_logged(aim)), count] if aim.in_log else count

    @GROUP.command(
        "wait",
        3,
        "blocking",
        categories="connection -keyspace",
        since="3.0.0",
        complexity="O(1)",
        summary="Waits until replicas have what was written before.",
        syntax="numreplicas:integer timeout:integer",
        tips=("request_policy:all_shards", "response_policy:agg_min"),
    )
    def wait(self, ctx: Session, argv: list[bytes]) -> Reply:
        """How many replicas have it, as far as they have said so when the time is up."""
        if self._replication.is_replica:
            raise ReplyError(NOT_ON_REPLICAS)
        wanted = integer(argv[1])
        timeout = _parse_timeout(argv[2], ctx.now)
        return self._wait_for(ctx, argv, timeout, Aim(wanted, self._feed.written))

    @GROUP.command(
        "waitaof",
        4,
        "blocking",
        categories="connection -keyspace",
        since="7.2.0",
        complexity="O(1)",
        summary="Waits until what was written before is in append-only files for good.",
        syntax="numlocal:integer numreplicas:integer timeout:integer",
        tips=("request_policy:all_shards", "response_policy:agg_min"),
    )
    def wait_for_log(self, ctx: Session, argv: list[bytes]) -> Reply:
        """Whether the own file has it (1 or 0), and how many replicas' files."""
        local = bounded_integer(argv[1], 0, 1)
        wanted = positive_integer(argv[2])
        timeout = _parse_timeout(argv[3], ctx.now)
        if self._replication.is_replica:
            raise ReplyError(NO_LOG_ON_REPLICAS)
        log_file = self._replication.log_file
        if local and log_file.state == OFF:
            raise ReplyError(NO_LOG)
        aim = Aim(wanted, self._feed.written)
        aim.in_log = True
        aim.local = bool(local)
        aim.logged = log_file.writer.logged
        return self._wait_for(ctx, argv, timeout, aim)

    def _wait_for(self, ctx: Session, argv: list[bytes], timeout: int, aim: Aim) -> Reply:
        if self._is_reached(aim) or ctx.deny_blocking:
            return self._describe(aim)
        wait = self.engine.blocking.wait(ctx, argv, timeout, self._describe(aim))
        wait.cancelled = self._forget
        self._aims[wait] = aim
        self.ask()
        return NO_REPLY

    def has_everything(self, replica: Replica) -> bool:
        """Whether it has said that it has all data as they are by now."""
        return replica.streaming and replica.offset >= self._feed.written

    def ask(self) -> None:
        """Have the replicas say how much they have, unless they have been asked since.

        Nothing is added to the history while there is a pause: they say it each second anyway.
        """
        history = self._replication.history
        if self.engine.keyspace.still & STILL_PAUSED or not self._feed.replicas:
            return
        if history.offset != self._asked:
            self._feed.fill(GETACK)
            self._asked = history.offset

    def _forget(self, wait: Wait) -> None:
        del self._aims[wait]


def _parse_timeout(argument: bytes, now: int) -> int:
    """Milliseconds; 0 is for ever. Raises ReplyError."""
    timeout = parse_integer(argument)
    if timeout is None:
        raise ReplyError(b"ERR timeout is not an integer or out of range")
    if timeout < 0:
        raise ReplyError(b"ERR timeout is negative")
    if timeout + now > MAX_INTEGER:
        raise ReplyError(b"ERR timeout is out of range")
    return timeout
