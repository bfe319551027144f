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
from random import Random
from typing import Final, Literal

from node.resp import Reply
from sentinel.state import Address, Instance, Link, Master, State

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
        """Our own address on the link's connection for commands; "" if it is not open."""
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

    def log(self, level: str, text: str) -> None:
        """A line of the log that is no event."""
        raise NotImplementedError

    def run_script(self, path: str, arguments: Sequence[str]) -> None:
        """Queue a script (client-reconfig-script)."""
        raise NotImplementedError

    def crash(self) -> None:
        """End the process at once, with what is saved (SENTINEL SIMULATE-FAILURE)."""
        raise NotImplementedError


class Refused(Exception):
    """What was asked for is not done; the text is Redis's error for the client ("ERR ...")."""


class Settings:
    """What SENTINEL DEBUG can change; milliseconds. Names there have hyphens.

    The last two are for scripts, which are the outside's.
    """

    def __init__(self) -> None:
        self.info_period = 10_000
        self.ping_period = 1_000
        self.ask_period = 1_000
        self.publish_period = 2_000
        self.default_down_after = 30_000
        self.default_failover_timeout = 180_000
        self.tilt_trigger = 2_000
        self.tilt_period = 30_000
        self.slave_reconf_timeout = 10_000
        self.min_link_reconnect_period = 15_000
        self.election_timeout = 10_000
        self.script_max_runtime = 60_000
        self.script_retry_delay = 30_000


class Machine:
    """One sentinel's part.

    ``now`` is a clock in milliseconds that only grows while all is well (a monotonic one, not the
    wall's; any origin, but more than 0). :meth:`tick` must be called as soon as ``now`` reaches
    :attr:`deadline`, which every call may change; it is never more than a tenth of a second away.
    """

    def __init__(self, state: State, settings: Settings, outside: Outside, random: Random) -> None:
        self.state = state
        self.settings = settings
        self.outside = outside
        self.random = random
        self.now = 0
        self.deadline = 0
        self.unsaved = False  # see rule 1; the outside clears it when it has taken the state's text
        self.tilt = False
        self.tilt_since = 0
        # SENTINEL SIMULATE-FAILURE: end at these points of a failover that this sentinel leads.
        self.crash_after_election = False
        self.crash_after_promotion = False

    # What happens.

    def tick(self, now: int) -> None:
        """The deadline has come, or something may have changed (``sentinelTimer``)."""
        raise NotImplementedError

    def doubt_time(self, now: int) -> None:
        """The wall clock has jumped: TILT begins (anew), as after a stall of the process."""
        raise NotImplementedError

    def opened(self, link: Link, half: Half, now: int) -> None:
        """A connection that :meth:`Outside.open` began stands."""
        raise NotImplementedError

    def lost(self, link: Link, half: Half, reason: str, now: int) -> None:
        """A connection is over or has not come about; what was asked on it stays unanswered."""
        raise NotImplementedError

    def answered(self, link: Link, request: Request, reply: Reply, now: int) -> None:
        """The answer to a request, decoded: bytes (simple strings, too), int, list, None, Error."""
        raise NotImplementedError

    def heard(self, link: Link, channel: bytes, payload: bytes, now: int) -> None:
        """A message was published on the half for messages."""
        raise NotImplementedError

    def hear_published(self, payload: bytes, now: int) -> None:
        """A client (another sentinel) has published a hello to this sentinel itself."""
        raise NotImplementedError

    # What operators and other sentinels want.

    def monitor(self, name: str, address: Address, quorum: int, now: int) -> Master:
        """Begin to guard a master, at SENTINEL MONITOR; tells +monitor, sets ``unsaved``.

        Name, port and quorum are valid (the caller has looked). Raises :exc:`Refused` for a name
        that is taken. What the config file says is built by the methods of `State` instead
        (`State.add_master`, `add_replica`, `add_peer`), and begun by :meth:`begin`.
        """
        raise NotImplementedError

    def begin(self, now: int) -> None:
        """Everything is loaded (``sentinelIsRunning``): tells +monitor for each master."""
        raise NotImplementedError

    def remove(self, name: str, now: int) -> None:
        """Guard a master no more (SENTINEL REMOVE); tells -monitor. KeyError: no such master."""
        raise NotImplementedError

    def reset(self, pattern: str, now: int) -> int:
        """Forget what was found out of the masters whose names match; how many they are."""
        raise NotImplementedError

    def force_failover(self, name: str, now: int) -> None:
        """Fail over without asking anybody (SENTINEL FAILOVER). Raises :exc:`Refused`.

        KeyError: no such master.
        """
        raise NotImplementedError

    def is_master_down(
        self, ip: str, port: int, epoch: int, run_id: str, now: int
    ) -> tuple[bool, str, int]:
        """Another sentinel asks whether a master is down, and maybe for a vote (``run_id`` not *).

        Whether it is down; whom this sentinel votes for ("*": nobody) and in which epoch. The reply
        must not leave before what is ``unsaved`` has been saved.
        """
        raise NotImplementedError

    def check_quorum(self, master: Master) -> tuple[int, bool, bool]:
        """Usable sentinels (this one included), and are they enough for quorum, and majority.

        (SENTINEL CKQUORUM.)
        """
        raise NotImplementedError

    def changed(self, master: Master, now: int, *, credentials: bool = False) -> None:
        """SENTINEL SET has changed directives of a master.

        Passes down_after on to its replicas and peers; with ``credentials`` the links to the master
        and its replicas are made anew. Sets ``unsaved``.
        """
        raise NotImplementedError

    def credentials_changed(self, now: int) -> None:
        """SENTINEL CONFIG SET sentinel-user or sentinel-pass: links to sentinels are made anew."""
        raise NotImplementedError


__all__ = [
    "HELLO_CHANNEL",
    "TICKS_PER_SECOND",
    "Address",
    "Half",
    "Machine",
    "Outside",
    "Refused",
    "Reply",
    "Request",
    "Settings",
]
