"""Clients that wait: for a key to appear, or for anything else that a component can tell.

A blocking command that cannot be served calls :meth:`Blocking.wait_for_keys` and returns
NO_REPLY. When one of its keys appears, the same handler is run again with ``ctx.resumed`` set, as
Redis has done since 7.2 (``blocked.c``): it either answers, and the wait is over, or finds nothing
and stays where it was in the order of waiting. So a command's logic is written once.

Waits on a key are served in order of arrival, after the command (or the whole transaction) that
made the key appear; a key of a type that the wait is not for leaves it waiting.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sortedcontainers import SortedList

from node.resp import NO_REPLY, Error, Reply

if TYPE_CHECKING:
    from node.command import Command
    from node.engine import Engine
    from node.keyspace import Database
    from node.session import Session


class Wait:
    """What a client waits for.

    ``kind`` is the class of values that can serve it (None: any). ``deadline`` is in monotonic
    nanoseconds, 0 for never. ``cancelled`` is called when the wait ends in any way. ``spent`` is
    how long the command has run in vain, in nanoseconds.
    """

    __slots__ = (
        "session",
        "command",
        "argv",
        "db",
        "keys",
        "kind",
        "deadline",
        "timeout_reply",
        "serial",
        "cancelled",
        "unblockable",
        "spent",
    )

    def __init__(
        self,
        session: Session,
        command: Command,
        argv: list[bytes],
        deadline: int,
        timeout_reply: Reply,
        serial: int,
    ) -> None:
        self.session = session
        self.command = command
        self.argv = argv
        self.db = session.db
        self.keys: list[bytes] = []
        self.kind: type | None = None
        self.deadline = deadline
        self.timeout_reply = timeout_reply
        self.serial = serial
        self.cancelled: Callable[[Wait], None] | None = None
        # False: CLIENT UNBLOCK does not apply (a paused client, say).
        self.unblockable = True
        self.spent = 0


class Blocking:
    """All waits of one engine."""

    __slots__ = (
        "engine",
        "waits",
        "postponed",
        "_deadlines",
        "_serial",
        "deadline_changed",
        "_serving",
    )

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.waits: dict[Wait, None] = {}
        # Clients whose request was put off before it ran; not counted as blocked.
        self.postponed: dict[Wait, None] = {}
        self._deadlines: SortedList[tuple[int, int, Wait]] = SortedList()
        self._serial = 0
        # Called when the earliest deadline has become another one.
        self.deadline_changed: Callable[[], None] | None = None
        self._serving = False

    def wait(
        self, session: Session, argv: list[bytes], timeout_ms: int, timeout_reply: Reply
    ) -> Wait:
        """Block ``session`` in its running command; ``timeout_ms`` 0 waits for ever.

        The caller returns NO_REPLY. While a wait of the session is being served again, that same
        wait goes on (its deadline and place in the order stay).
        """
        wait = session.blocked
        if wait is not None:
            return wait
        command = session.running
        assert command is not None
        deadline = 0
        if timeout_ms:
            deadline = self.engine.clock.monotonic_ns() + timeout_ms * 1_000_000
        self._serial += 1
        wait = Wait(session, command, argv, deadline, timeout_reply, self._serial)
        session.blocked = wait
        self.waits[wait] = None
        if deadline:
            self._deadlines.add((deadline, wait.serial, wait))
            if self._deadlines[0][2] is wait and self.deadline_changed is not None:
                self.deadline_changed()
        return wait

    def wait_for_keys(
        self,
        session: Session,
        argv: list[bytes],
        keys: list[bytes],
        kind: type | None,
        timeout_ms: int,
        timeout_reply: Reply,
    ) -> Reply:
        """Block until one of ``keys`` holds a ``kind``; returns NO_REPLY for the handler to return.

        Where blocking is not possible (in a transaction or script) ``timeout_reply`` is returned.
        """
        if session.deny_blocking:
            return timeout_reply
        if session.blocked is None:
            wait = self.wait(session, argv, timeout_ms, timeout_reply)
            wait.kind = kind
            wait.keys = list(dict.fromkeys(keys))
            for key in wait.keys:
                wait.db.waiters.setdefault(key, {})[wait] = None
        return NO_REPLY

    def postpone(self, session: Session, command: Command, argv: list[bytes]) -> None:
        """Put a request off that may not run now, until :meth:`resume_postponed`."""
        self._serial += 1
        wait = Wait(session, command, argv, 0, NO_REPLY, self._serial)
        wait.unblockable = False
        session.blocked = wait
        self.postponed[wait] = None

    def resume_postponed(self) -> None:
        """Take up all requests that were put off, in order; each passes the whole gate again."""
        for wait in list(self.postponed):
            session = wait.session
            self.cancel(wait)
            if session.retry is not None:
                session.retry(wait.argv)
            else:
                self.engine.execute(session, wait.argv)

    def end(self, wait: Wait, reply: Reply) -> None:
        """The wait is over; its client gets ``reply`` and goes on with its further requests."""
        self.cancel(wait)
        self.engine.reply(wait.session, reply)
        if wait.session.wake is not None:
            wait.session.wake()

    def finish(self, wait: Wait, reply: Reply) -> None:
        """The command is over without having been run again: count the call, and answer."""
        self._count(wait)
        if type(reply) is Error:
            wait.command.failed += 1
            self.engine.count_error(reply.text)
        self.end(wait, reply)

    def cancel(self, wait: Wait) -> None:
        """Forget the wait without a reply (the client has gone)."""
        if wait.session.blocked is wait:
            wait.session.blocked = None
        if wait in self.postponed:
            del self.postponed[wait]
            return
        del self.waits[wait]
        if wait.deadline:
            self._deadlines.discard((wait.deadline, wait.serial, wait))
        for key in wait.keys:
            waits = wait.db.waiters[key]
            del waits[wait]
            if not waits:
                del wait.db.waiters[key]
        if wait.cancelled is not None:
            wait.cancelled(wait)

    @property
    def next_deadline(self) -> int:
        """The earliest deadline in monotonic nanoseconds, 0 if there is none."""
        return self._deadlines[0][0] if self._deadlines else 0

    def expire(self, now: int) -> None:
        """End all waits whose deadline (monotonic nanoseconds) has come."""
        deadlines = self._deadlines
        while deadlines and deadlines[0][0] <= now:
            wait = deadlines[0][2]
            self._count(wait)
            self.end(wait, wait.timeout_reply)

    def unblock(self, session: Session, error: bytes | None) -> bool:
        """CLIENT UNBLOCK: as if timed out, or with an error; False if it is not waiting."""
        wait = session.blocked
        if wait is None or not wait.unblockable:
            return False
        self.finish(wait, wait.timeout_reply if error is None else Error(error))
        return True

    @staticmethod
    def _count(wait: Wait) -> None:
        """Count the call of a command that ends without having been run again."""
        wait.command.nanoseconds += wait.spent
        wait.command.histogram[wait.spent.bit_length()] += 1

    def serve(self) -> None:
        """Serve those who wait for keys that have appeared, until no more appear."""
        if self._serving:
            return
        self._serving = True
        keyspace = self.engine.keyspace
        try:
            while keyspace.ready:
                ready = dict.fromkeys(keyspace.ready)
                keyspace.ready = []
                for db, key in ready:
                    self._serve_key(db, key)
        finally:
            self._serving = False

    def _serve_key(self, db: Database, key: bytes) -> None:
        waits = db.waiters.get(key)
        if waits is None:
            return
        for wait in list(waits):
            if wait not in self.waits:
                continue
            value = db.peek(key)
            if value is None:
                return
            if wait.kind is None or isinstance(value, wait.kind):
                self.engine.resume(wait)
