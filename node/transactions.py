"""Transactions: MULTI queues commands, EXEC runs them as one, WATCH lets it fail on a change.

While a client is in MULTI the engine queues its commands (``Engine.admit``) and remembers whether
one of them was refused; keys that it watches are known to their database, which tells of their
changes (``Database.watches``). Behaviour after Redis's multi.c.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from node.command import Group, key
from node.component import Component
from node.resp import NULL_ARRAY, OK, Reply, ReplyError
from node.session import GATE_MULTI, GATE_NO_TOUCH, Session

if TYPE_CHECKING:
    from node.server import Server

GROUP: Final = Group("transactions")


class Transactions(Component):
    """MULTI, EXEC, DISCARD, WATCH and UNWATCH; all state is in the sessions and databases."""

    def __init__(self, server: Server) -> None:
        super().__init__(server.engine)

    def groups(self) -> Sequence[Group]:
        return (GROUP,)

    def session_closed(self, session: Session) -> None:
        session.discard_transaction()

    def session_reset(self, session: Session) -> None:
        session.discard_transaction()

    @GROUP.command(
        "multi",
        1,
        "noscript loading stale fast allow_busy",
        since="1.2.0",
        complexity="O(1)",
        summary="Begins a transaction: further commands are queued.",
    )
    def multi(self, ctx: Session, argv: list[bytes]) -> Reply:
        """Queue what follows."""
        if ctx.queue is not None:
            raise ReplyError(b"ERR MULTI calls can not be nested")
        ctx.queue = []
        ctx.set_gate(GATE_MULTI, True)
        return OK

    @GROUP.command(
        "discard",
        1,
        "noscript loading stale fast allow_busy",
        since="2.0.0",
        complexity="O(N), when N is the number of queued commands",
        summary="Forgets a transaction and what was watched.",
    )
    def discard(self, ctx: Session, argv: list[bytes]) -> Reply:
        """Forget the queue."""
        if ctx.queue is None:
            raise ReplyError(b"ERR DISCARD without MULTI")
        ctx.discard_transaction()
        return OK

    @GROUP.command(
        "watch",
        -2,
        "noscript loading stale fast allow_busy",
        keys=[key("RO", last=-1)],
        since="2.2.0",
        complexity="O(1) for every key.",
        summary="Lets the next transaction fail if one of the keys changes before it.",
        syntax="key [key ...]",
    )
    def watch(self, ctx: Session, argv: list[bytes]) -> Reply:
        """Nothing to do when a change was seen already: the transaction fails anyway."""
        if ctx.queue is not None:
            raise ReplyError(b"ERR WATCH inside MULTI is not allowed")
        if not ctx.watch_failed:
            for name in argv[1:]:
                ctx.watch(name)
        return OK

    @GROUP.command(
        "unwatch",
        1,
        "noscript loading stale fast allow_busy",
        since="2.2.0",
        complexity="O(1)",
        summary="Watches no key any more.",
    )
    def unwatch(self, ctx: Session, argv: list[bytes]) -> Reply:
        """Changes seen so far are forgotten too."""
        ctx.unwatch()
        ctx.watch_failed = False
        return OK

    @GROUP.command(
        "exec",
        1,
        "noscript loading stale skip_slowlog",
        since="1.2.0",
        complexity="Depends on commands in the transaction",
        summary="Runs the queued commands as one.",
    )
    def exec(self, ctx: Session, argv: list[bytes]) -> Reply:
        """The replies of all commands; null when a watched key has changed."""
        queue = ctx.queue
        if queue is None:
            raise ReplyError(b"ERR EXEC without MULTI")
        failed = ctx.queue_failed
        dirty = ctx.watch_failed or any(
            not watch.expired and watch.db.is_due(watch.key) for watch in ctx.watches.values()
        )
        # What is queued is over in any case, and watching ends before the commands change keys.
        ctx.discard_transaction()
        if failed:
            raise ReplyError(b"EXECABORT Transaction discarded because of previous errors.")
        if dirty:
            return NULL_ARRAY
        engine = self.engine
        keyspace = engine.keyspace
        untouching = ctx.gate & GATE_NO_TOUCH
        running = ctx.running
        began = engine.ended_ns
        replies: list[Reply] = []
        ctx.in_exec = True
        engine.begin_unit()
        try:
            for queued in queue:
                if untouching:
                    keyspace.touching = queued.command.name == b"touch"
                replies.append(engine.call(ctx, queued.command, queued.argv))
                ctx.running = running
        finally:
            ctx.in_exec = False
            engine.end_unit()
        # EXEC's own time includes that of its commands.
        engine.ended_ns = began
        return replies
