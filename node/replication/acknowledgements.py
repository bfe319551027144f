"""What replicas say that they have: WAIT, and writes that too few replicas would get.

Behaviour after ``waitCommand``, ``processClientsWaitingReplicas`` and ``refreshGoodSlavesCount`` in
replication.c of Redis 7.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from node.blocking import Wait
from node.command import WRITE, Command, Group
from node.commands.arguments import integer
from node.component import Component
from node.engine import STAGE_REPLICA
from node.keyspace import STILL_PAUSED
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


class Acknowledgements(Component):
    """Who waits for them, and how many replicas are near enough."""

    def __init__(self, replication: Replication, feed: Feed) -> None:
        super().__init__(replication.engine)
        self._replication = replication
        self._feed = feed
        # What is waited for: how many replicas are to have how much.
        self._waits: dict[Wait, tuple[int, int]] = {}
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

    def hear(self, replica: Replica, offset: int) -> None:
        """The replica says how much it has."""
        if offset > replica.offset:
            replica.offset = offset
            self._end_waits()
        for hear in self.heard:
            hear()

    def _end_waits(self) -> None:
        """Let those go on who have what they wait for."""
        for wait, (wanted, position) in list(self._waits.items()):
            count = self._count(position)
            wait.timeout_reply = count
            if count >= wanted:
                self.engine.blocking.end(wait, count)

    def _count(self, position: int) -> int:
        """Replicas that have said that they have so much of the history."""
        return sum(
            replica.streaming and replica.offset >= position
            for replica in self._feed.replicas.values()
        )

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
        position = self._feed.written
        count = self._count(position)
        if count >= wanted or ctx.deny_blocking:
            return count
        wait = self.engine.blocking.wait(ctx, argv, timeout, count)
        wait.cancelled = self._forget
        self._waits[wait] = (wanted, position)
        self._ask()
        return NO_REPLY

    def _ask(self) -> None:
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
        del self._waits[wait]


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
