"""A sentinel, as a state machine that does no I/O.

Theory of operation.  The machine is told what happens by a few methods: a connection is open or
lost, an answer or a message has come, a tenth of a second has passed (:meth:`Machine.tick`), an
operator or another sentinel wants something. It changes its :class:`~sentinel.state.State` and says
what is to be done by calling its :class:`Outside`. It reads no clock, resolves no name, draws from
the random source that it is given, opens no socket and starts no task, so that whole groups of
sentinels run in one process and in virtual time.

Two rules:

1. What has to survive a crash is on disk before anybody hears of it. A change that matters sets
   :attr:`Machine.unsaved`; requests that were handed to the outside after that, and replies to
   clients, must not leave before the config file has been written and flushed. So a vote is never
   given twice in an epoch, and an epoch that was announced is never forgotten.
2. Everything is judged by time that cannot be trusted: a process that stood still, or a clock that
   jumped, would see everybody down. Then the machine is in TILT: it watches, and does nothing.

The parts: :mod:`.monitoring` (PING, INFO, hello: how often, and what the answers say),
:mod:`.discovery` (replicas by INFO, sentinels by hello), :mod:`.failure` (SDOWN, ODOWN),
:mod:`.election` (epochs, votes, the leader), :mod:`.selection` (which replica), :mod:`.failover`.
Behaviour after ``sentinel.c`` of Redis 7.2 and the documentation of Redis Sentinel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from node.resp import Reply
from sentinel.state import Address, Instance, Link

TICKS_PER_SECOND: Final = 10
HELLO_CHANNEL: Final = b"__sentinel__:hello"

Half = Literal["commands", "messages"]


class Request:
    """One request that was sent on the half of a link that is for commands.

    ``purpose`` is what the machine wants with the answer; ``instance`` for whom it asked (a link is
    shared by all records of a sentinel).
    """

    __slots__ = ("argv", "instance", "purpose")

    def __init__(self, instance: Instance, argv: Sequence[bytes], purpose: str) -> None:
        self.instance = instance
        self.argv = argv
        self.purpose = purpose


class Outside:
    """What the machine asks of the world; a process, or a simulation."""

    def open(self, link: Link, half: Half) -> None:
        """Begin to connect to ``link.address``; `Machine.opened` or `Machine.lost` follows.

        The half for messages is subscribed to by the machine, which sends SUBSCRIBE on it.
        """
        raise NotImplementedError

    def close(self, link: Link, half: Half) -> None:
        """Let go of a connection; the machine will not hear of it any more."""
        raise NotImplementedError

    def send(self, link: Link, request: Request) -> None:
        """Send a request, after everything that is unsaved now has been saved.

        `Machine.answered` follows for each, in order, unless the connection is lost before.
        """
        raise NotImplementedError

    def subscribe(self, link: Link, argv: Sequence[bytes]) -> None:
        """Send something (AUTH, CLIENT, SUBSCRIBE) on the half for messages.

        Its answers are not passed on; published messages are, by `Machine.heard`.
        """
        raise NotImplementedError

    def local_ip(self, link: Link) -> str:
        """This end's address on the link's connection for commands; "" if it is not open."""
        raise NotImplementedError

    def resolve(self, host: str) -> str:
        """The IP that a host name has stood for lately; "" if it is unknown. Never waits.

        Names are looked up by the outside again and again, aside.
        """
        raise NotImplementedError

    def tell(self, level: str, event: str, instance: Instance | None, text: str) -> None:
        """An event, for the log, for subscribers of a channel of that name, and for the scripts.

        ``event`` as in Redis, with its sign ("+sdown"); ``text`` is the payload, ``level`` one of
        "debug", "verbose", "notice", "warning" ("warning" runs the notification script).
        Events of level "debug" are not published.
        """
        raise NotImplementedError

    def run_script(self, path: str, arguments: Sequence[str]) -> None:
        """Queue a script (client-reconfig-script)."""
        raise NotImplementedError


__all__ = ["HELLO_CHANNEL", "TICKS_PER_SECOND", "Address", "Half", "Outside", "Reply", "Request"]
