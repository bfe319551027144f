"""FAILOVER: a master hands its role over to one of its replicas, and nothing is lost.

The way of it: clients' writes are paused, so that the history stands still. When the replica (the
one that was named, or the first of them all) has said that it has all of it, this server becomes a
replica of it and asks for the history by ``PSYNC … FAILOVER``, at which the other promotes itself.
Once it has answered, the pause is over, and whoever wanted to write is told that this is a replica.

What happens is told by :attr:`Failover.state`:

- ``no-failover``;
- ``waiting-for-sync``: for the replica to have everything. When the time is up the failover is
  given up, or goes on all the same (FORCE);
- ``failover-in-progress``: the role is handed over. This lasts until the other one answers, or the
  failover is aborted, which makes this server the master again.

(``failoverCommand`` and ``updateFailoverStatus`` in replication.c of Redis 7.2.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from node.command import Group
from node.commands.arguments import SYNTAX_ERROR, integer
from node.component import Component
from node.pause import BY_FAILOVER, FOREVER, PAUSE_WRITE, Pause
from node.resp import OK, Reply, ReplyError
from node.session import Session

if TYPE_CHECKING:
    from node.replication.replication import Replication

GROUP: Final = Group("server")

NONE: Final = "no-failover"
WAITING: Final = "waiting-for-sync"
IN_PROGRESS: Final = "failover-in-progress"

REJECTED: Final = "Failover target rejected psync request"
UNWRITABLE: Final = "Write error to failover target"


class Request:
    """What FAILOVER was told: the target, if any, the time in milliseconds (0: none), FORCE."""

    __slots__ = ("target", "timeout", "force")

    def __init__(self, argv: list[bytes]) -> None:
        """Raises ReplyError."""
        self.target: tuple[str, int] | None = None
        self.timeout = 0
        self.force = False
        at = 1
        while at < len(argv):
            option = argv[at].lower()
            left = len(argv) - at - 1
            if option == b"timeout" and left >= 1 and not self.timeout:
                self.timeout = integer(argv[at + 1])
                if self.timeout <= 0:
                    raise ReplyError(b"ERR FAILOVER timeout must be greater than 0")
                at += 2
            elif option == b"to" and left >= 2 and self.target is None:
                self.target = (argv[at + 1].decode(errors="replace"), integer(argv[at + 2]))
                at += 3
            elif option == b"force" and not self.force:
                self.force = True
                at += 1
            else:
                raise ReplyError(SYNTAX_ERROR)


class Failover(Component):
    """The failover that this server is in, if any."""

    def __init__(self, replication: Replication, pause: Pause) -> None:
        super().__init__(replication.engine)
        self.state = NONE
        self._replication = replication
        self._pause = pause
        self._log = replication.log
        self._target: tuple[str, int] | None = None
        self._force = False
        self._end = 0  # Unix milliseconds; 0: never
        replication.masters.acknowledgements.heard.append(self._check)

    def groups(self) -> tuple[Group]:
        return (GROUP,)

    @property
    def in_progress(self) -> bool:
        """Whether the master that is being connected to is to take over."""
        return self.state == IN_PROGRESS

    @GROUP.command(
        "failover",
        -1,
        "admin noscript stale",
        since="6.2.0",
        complexity="O(1)",
        summary="Hands the master's role over to a replica.",
        syntax="[TO target=<host port [FORCE]>] [ABORT] [TIMEOUT milliseconds]",
    )
    def failover(self, ctx: Session, argv: list[bytes]) -> Reply:
        """OK at once; ``master_failover_state`` in INFO tells how it goes on."""
        if self._replication.clustered:
            raise ReplyError(
                b"ERR FAILOVER not allowed in cluster mode. Use CLUSTER FAILOVER command instead."
            )
        if len(argv) == 2 and argv[1].lower() == b"abort":
            if self.state == NONE:
                raise ReplyError(b"ERR No failover in progress.")
            self.abort("Failover manually aborted")
            return OK
        request = Request(argv)
        self._verify(request)
        self._target = request.target
        self._force = request.force
        self._end = ctx.now + request.timeout if request.timeout else 0
        self.state = WAITING
        self._log.notice(f"FAILOVER requested to {self._describe_target()}.")
        self._pause.begin(PAUSE_WRITE, FOREVER, BY_FAILOVER)
        return OK

    def _verify(self, request: Request) -> None:
        """Refuse what is impossible. Raises ReplyError."""
        masters = self._replication.masters
        if self.state != NONE:
            raise ReplyError(b"ERR FAILOVER already in progress.")
        if self._replication.is_replica:
            raise ReplyError(b"ERR FAILOVER is not valid when server is a replica.")
        if not masters.replicas:
            raise ReplyError(b"ERR FAILOVER requires connected replicas.")
        if request.force and not (request.timeout and request.target):
            raise ReplyError(
                b"ERR FAILOVER with force option requires both a timeout and target HOST and IP."
            )
        if request.target is not None:
            found = [replica for replica in masters.replicas if replica.is_at(*request.target)]
            if not found:
                raise ReplyError(b"ERR FAILOVER target HOST and PORT is not a replica.")
            if not found[0].streaming:
                raise ReplyError(b"ERR FAILOVER target replica is not online.")

    def _describe_target(self) -> str:
        return "any replica" if self._target is None else f"{self._target[0]}:{self._target[1]}"

    # What goes on.

    def tick(self, now_ns: int) -> None:
        self._check()

    def _check(self) -> None:
        """Go on if the replica has everything, or if the time is up."""
        if self.state != WAITING:
            return
        if self._end and self.engine.keyspace.now >= self._end:
            if self._force:
                self._log.notice(
                    f"Failover to {self._describe_target()} time out exceeded, failing over."
                )
                self._hand_over()
            else:
                self.abort("Replica never caught up before timeout")
            return
        masters = self._replication.masters
        candidates = masters.replicas
        if self._target is not None:
            candidates = [replica for replica in candidates if replica.is_at(*self._target)]
        for replica in candidates:
            if replica.offset == self._replication.history.offset and replica.streaming:
                self._target = (replica.host, replica.port)
                self._log.notice(
                    f"Failover target {self._describe_target()} is synced, failing over."
                )
                self._hand_over()
                return

    def _hand_over(self) -> None:
        """Become a replica of the target, which is asked to take over."""
        assert self._target is not None
        self.state = IN_PROGRESS
        self._replication.follow(*self._target)

    def succeed(self) -> None:
        """The target has taken over."""
        self._clear()

    def abort(self, reason: str) -> None:
        """Stay the master, or be it again."""
        self._log.notice(f"FAILOVER to {self._describe_target()} aborted: {reason}")
        if self.state == IN_PROGRESS:
            self._replication.promote()
        self._clear()

    def _clear(self) -> None:
        self.state = NONE
        self._target = None
        self._force = False
        self._end = 0
        self._pause.end(BY_FAILOVER)
