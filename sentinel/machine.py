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

The parts: :mod:`.links` (connections), :mod:`.monitoring` (PING, INFO, hello: how often, and what
the answers say), :mod:`.roles` (what INFO says, and what is put right), :mod:`.discovery` (who
belongs to a master), :mod:`.hello`, :mod:`.failure` (SDOWN, ODOWN), :mod:`.election` (epochs,
votes, XX
Behaviour after ``sentinel.c`` of Redis 7.2 and the documentation of Redis Sentinel.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from random import Random
from typing import Final, Literal

from node.resp import Reply
from node.values.pattern import matches
from sentinel.configuration import Configuration
from sentinel.discovery import Discovery
from sentinel.election import Election
from sentinel.failover import Failover
from sentinel.failure import FailureDetector
from sentinel.guard import Guard
from sentinel.guarded import GuardedCluster
from sentinel.hello import Hellos
from sentinel.links import HELLO_CHANNEL, Links
from sentinel.monitoring import Monitoring
from sentinel.roles import Roles
from sentinel.selection import select_replica
from sentinel.state import (
    FAILOVER_IN_PROGRESS,
    FORCE_FAILOVER,
    S_DOWN,
    Address,
    Instance,
    Link,
    Master,
    Peer,
    Replica,
    State,
)

TICK: Final = 100
STALL: Final = 100  # so much late, a tick does not take silence for a sign
AFTER_STALL: Final = 20

Half = Literal["commands", "messages"]


class Request:
    """One request that was sent on the half of a link that is for commands.

    ``purpose`` is what the machine wants with the answer; ``instance`` for whom it asked (a link is
    shared by all records of a sentinel). One that ``follows`` must not overtake what was sent
    before it, even if it tells nothing that has to be saved.
    """

    __slots__ = ("argv", "follows", "instance", "purpose")

    def __init__(
        self, instance: Instance, argv: Sequence[bytes], purpose: str, follows: bool = False
    ) -> None:
        self.instance = instance
        self.argv = argv
        self.purpose = purpose
        self.follows = follows


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

    ``script_`` ones are for the outside; ``election_turn`` is not among those of DEBUG.
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
        self.election_turn = 100  # how long one waits for another to begin; see the election
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
        # This sentinel was held up: what has been received meanwhile may not have been told yet.
        self.stalled = False
        # SENTINEL SIMULATE-FAILURE: end at these points of a failover that this sentinel leads.
        self.crash_after_election = False
        self.crash_after_promotion = False
        self._ticked = 0  # the last tick; 0 before the first
        self.links = Links(self)
        self.monitoring = Monitoring(self)
        self.roles = Roles(self)
        self.discovery = Discovery(self)
        self.hello = Hellos(self)
        self.configuration = Configuration(self)
        self.failures = FailureDetector(self)
        self.election = Election(self)
        self.failover = Failover(self)
        self.guard = Guard(self)

    # What happens.

    def tick(self, now: int) -> None:
        """The deadline has come, or something may have changed (``sentinelTimer``)."""
        self.stalled = False
        self._enter(now)
        self.deadline = now + (AFTER_STALL if self.stalled else TICK)
        self._ticked = now
        self.guard.tick()
        for master in list(self.state.masters.values()):
            for instance in list(master.instances()):
                self.links.maintain(instance)
                self.monitoring.send_periodic(instance)
                if not self.tilt:
                    self.links.drop_the_dead(instance)
                    self.failures.judge(instance)
            self._advance(master)

    def _enter(self, now: int) -> None:
        """It is ``now``, if that can be (``sentinelCheckTiltCondition``).

        Looked at before anything is judged, not only at ticks, since after a pause any event may be
        the first.
        """
        passed = now - self._ticked
        if self._ticked and not 0 <= passed <= self.settings.tilt_trigger:
            if passed < 0:
                self.state.shift_times(passed)
                self.deadline = now
            self._ticked = now
            self.now = now
            self._tilt()
        self.now = now
        if 0 < self.deadline < now - STALL:
            self.stalled = True
        if self.tilt and now - self.tilt_since >= self.settings.tilt_period:
            self.tilt = False
            self.outside.tell("warning", "-tilt", None, "#tilt mode exited")

    def _advance(self, master: Master) -> None:
        """Draw the conclusions for a master from what has happened."""
        if self.tilt:
            return
        self.failures.judge(master)
        self.failures.judge_together(master)
        self.election.start_if_needed(master)
        self.failover.advance(master)
        self.failures.ask(master)
        self.failover.finish(master)

    def doubt_time(self, now: int) -> None:
        """The wall clock has jumped: TILT begins (anew), as after a stall of the process."""
        self._enter(now)
        self._tilt()

    def _tilt(self) -> None:
        self.tilt = True
        self.tilt_since = self.now
        self.outside.tell("warning", "+tilt", None, "#tilt mode entered")

    def opened(self, link: Link, half: Half, now: int) -> None:
        """A connection that :meth:`Outside.open` began stands."""
        self._enter(now)
        self.links.opened(link, half)
        for master in self._masters_of(link):
            self._advance(master)

    def lost(self, link: Link, half: Half, reason: str, now: int) -> None:
        """A connection is over or has not come about; what was asked on it stays unanswered."""
        self._enter(now)
        if half == "commands":
            self.guard.inquiry.lost(link)
        self.links.lost(link, half, reason)
        self.links.maintain(link.users[0])
        for instance in link.users:
            # The end of its time may be known only now.
            self.wake_at(link.ping_sent + instance.down_after + 1)

    def answered(self, link: Link, request: Request, reply: Reply, now: int) -> None:
        """The answer to a request, decoded: bytes (simple strings, too), int, list, None, Error."""
        self._enter(now)
        link.pending = max(0, link.pending - 1)
        instance = request.instance
        if instance not in link.users:
            if request.purpose == "ping":
                self.monitoring.hear_pong(link, reply)
            return
        purpose, _, detail = request.purpose.partition(" ")
        if purpose == "ping":
            self.monitoring.hear_pong(link, reply)
        elif purpose == "info":
            self.monitoring.hear_information(instance, reply)
        elif purpose == "hello":
            self.hello.taken(instance, reply)
            return
        elif purpose in ("ask", "vote"):
            assert isinstance(instance, Peer)
            self.failures.hear_verdict(instance, reply, int(detail or 0))
        elif purpose == "cluster":
            self.guard.hear(instance, request.purpose, reply)
        else:
            return
        for master in self._masters_of(link):
            self._advance(master)

    def heard(self, link: Link, channel: bytes, payload: bytes, now: int) -> None:
        """A message was published on the half for messages."""
        self._enter(now)
        link.last_message = now
        if channel == HELLO_CHANNEL:
            self.hello.hear(payload)

    def hear_published(self, payload: bytes, now: int) -> None:
        """A client (another sentinel) has published a hello to this sentinel itself."""
        self._enter(now)
        self.hello.hear(payload)

    # What operators and other sentinels want.

    def monitor(self, name: str, address: Address, quorum: int, now: int) -> Master:
        """Begin to guard a master, at SENTINEL MONITOR; tells +monitor, sets ``unsaved``.

        Name, port and quorum are valid (the caller has looked). Raises :exc:`Refused` for a name
        that is taken. What the config file says is built by the methods of `State` instead
        (`State.add_master`, `add_replica`, `add_peer`), and begun by :meth:`begin`.
        """
        self._enter(now)
        try:
            if name in self.state.clusters:
                raise ValueError("Duplicate master name.")
            master = self.state.add_master(name, address, quorum, now)
        except ValueError as error:
            raise Refused(f"ERR {error}") from None
        master.down_after = self.settings.default_down_after
        master.failover_timeout = self.settings.default_failover_timeout
        # It may have been guarded before: no vote again in an epoch that it may have voted in.
        master.leader_epoch = self.state.current_epoch
        self.tell("warning", "+monitor", master, f" quorum {quorum}")
        self.save()
        self.wake()
        return master

    def monitor_cluster(self, name: str, address: Address, quorum: int, now: int) -> GuardedCluster:
        """The same for a cluster, of which ``address`` is a node; tells +monitor-cluster."""
        self._enter(now)
        try:
            return self.guard.monitor(name, address, quorum)
        except ValueError as error:
            raise Refused(f"ERR {error}") from None

    def begin(self, now: int) -> None:
        """Everything is loaded (``sentinelIsRunning``): tells +monitor for each master."""
        self._enter(now)
        for cluster in self.state.clusters.values():
            self.guard.tell(cluster, "+monitor-cluster", f" quorum {cluster.quorum}")
        for master in self.state.masters.values():
            self.tell("warning", "+monitor", master, f" quorum {master.quorum}")
        self.wake()

    def remove(self, name: str, now: int) -> None:
        """Guard a master or a cluster no more (SENTINEL REMOVE); tells -monitor.

        KeyError: there is none of that name.
        """
        self._enter(now)
        if name in self.state.clusters:
            self.guard.remove(name)
            return
        master = self.state.masters[name]
        self.tell("warning", "-monitor", master)
        del self.state.masters[name]
        for instance in list(master.instances()):
            self.links.release(instance)
        self.save()

    def reset(self, pattern: str, now: int) -> int:
        """Forget what was found out of the masters whose names match; how many they are."""
        self._enter(now)
        count = 0
        for master in self.state.masters.values():
            if matches(pattern.encode(), master.name.encode(), nocase=True):
                if not master.current_address.is_same(master.address):
                    # The new master has been told of already, with its epoch.
                    self.failover.end(master)
                for peer in list(master.peers.values()):
                    self.discovery.forget_peer(peer)
                self.configuration.forget(master)
                self.guard.suspect(master)
                self.tell("warning", "+reset-master", master)
                count += 1
        if count:
            self.save()
            self.wake()
        return count

    def force_failover(self, name: str, now: int) -> None:
        """Fail over without asking anybody (SENTINEL FAILOVER). Raises :exc:`Refused`.

        KeyError: no such master.
        """
        self._enter(now)
        master = self.state.masters[name]
        if master.has(FAILOVER_IN_PROGRESS):
            raise Refused("INPROG Failover already in progress")
        if select_replica(master, self.settings, now) is None:
            raise Refused("NOGOODSLAVE No suitable replica to promote")
        self.log("notice", f"Executing user requested FAILOVER of '{name}'")
        self.election.start(master)
        master.flags |= FORCE_FAILOVER
        self._advance(master)
        self.wake()

    def is_master_down(
        self, ip: str, port: int, epoch: int, run_id: str, now: int
    ) -> tuple[bool, str, int]:
        """Another sentinel asks whether a master is down, and maybe for a vote (``run_id`` not *).

        Whether it is down; whom this sentinel votes for ("*": nobody) and in which epoch. The reply
        must not leave before what is ``unsaved`` has been saved.
        """
        self._enter(now)
        place = Address(ip, port)
        for master in self.state.masters.values():
            if master.address.is_same(place):
                break
        else:
            return False, "*", 0
        if run_id != "*":
            self.election.hear_candidate(master, run_id)
            self.election.vote(master, epoch, run_id)
        self._advance(master)
        down = master.has(S_DOWN) and not self.tilt and master.address.is_same(place)
        if run_id == "*":
            return down, "*", 0
        return down, master.leader or "*", master.leader_epoch

    def check_quorum(self, master: Master) -> tuple[int, bool, bool]:
        """Usable sentinels (this one included), and are they enough for quorum, and majority.

        (SENTINEL CKQUORUM.)
        """
        usable = 1 + sum(not peer.has(S_DOWN) for peer in master.peers.values())
        return usable, usable >= master.quorum, usable >= (len(master.peers) + 1) // 2 + 1

    def changed(self, master: Master, now: int, *, credentials: bool = False) -> None:
        """SENTINEL SET has changed directives of a master.

        Passes down_after on to its replicas and peers; with ``credentials`` the links to the master
        and its replicas are made anew. Sets ``unsaved``.
        """
        self._enter(now)
        for instance in master.instances():
            instance.down_after = master.down_after
            if credentials:
                self.links.renew(instance.link)
        self.save()
        self.wake()

    def credentials_changed(self, now: int) -> None:
        """SENTINEL CONFIG SET sentinel-user or sentinel-pass: links to sentinels are made anew."""
        self._enter(now)
        for master in self.state.masters.values():
            for peer in master.peers.values():
                self.links.renew(peer.link)
        self.save()
        self.wake()

    def _masters_of(self, link: Link) -> list[Master]:
        """The guarded masters to which the users of a link belong."""
        masters: dict[Master, None] = {}
        for instance in link.users:
            master = instance if isinstance(instance, Master) else None
            if isinstance(instance, Replica | Peer):
                master = instance.master
            if master is not None and self.state.masters.get(master.name) is master:
                masters[master] = None
        return list(masters)

    # What the parts say.

    def save(self) -> None:
        """The state has changed in a way that must survive a crash."""
        self.unsaved = True

    def wake(self) -> None:
        """There is something to be done now: let a tick come at once."""
        self.deadline = min(self.deadline, self.now)

    def wake_at(self, when: int) -> None:
        """Let a tick come no later than that."""
        self.deadline = min(self.deadline, max(when, self.now + 1))

    def log(self, level: str, text: str) -> None:
        """A line of the log that is no event."""
        self.outside.log(level, text)

    def tell(self, level: str, event: str, instance: Instance, more: str = "") -> None:
        """An event of an instance, whose payload says which it is, and ``more``."""
        show = self.state.show
        address = instance.address
        text = f"{instance.kind} {instance.name} {show(address)} {address.port}"
        if isinstance(instance, Replica | Peer):
            master = instance.master
            text += f" @ {master.name} {show(master.address)} {master.address.port}"
        self.outside.tell(level, event, instance, text + more)

    def announce(self, level: str, event: str, instance: Instance, text: str) -> None:
        """An event whose payload is ``text`` alone."""
        self.outside.tell(level, event, instance, text)

    def learn_epoch(self, master: Master, epoch: int) -> None:
        """Another sentinel knows an epoch; the newest is this one's, too."""
        if epoch > self.state.current_epoch:
            self.state.current_epoch = epoch
            self.save()
            self.announce("warning", "+new-epoch", master, f"{epoch}")

    def command(self, instance: Instance, name: str) -> bytes:
        """What a command is called there (``sentinelInstanceMapCommand``)."""
        if isinstance(instance, Peer):
            return name.encode()
        assert isinstance(instance, Master | Replica)
        master = instance.master if isinstance(instance, Replica) else instance
        return master.renamed_commands.get(name, name).encode()

    def request(
        self, instance: Instance, argv: Sequence[bytes], purpose: str, *, follows: bool = False
    ) -> None:
        """Send a request to an instance, which is connected."""
        instance.link.pending += 1
        self.outside.send(instance.link, Request(instance, argv, purpose, follows))

    # Addresses.

    def resolve(self, host: str) -> str:
        """The IP of a host; "" if it has none as far as is known, or names are not to be used."""
        if is_ip(host):
            return host
        return self.outside.resolve(host) if self.state.resolve_hostnames else ""

    def locate(self, host: str, port: int) -> Address | None:
        """An address that was told by somebody; None if it cannot be one."""
        ip = self.resolve(host)
        if not ip and not self.state.resolve_hostnames:
            return None
        return Address(host, port, ip)

    def is_host(self, address: Address, host: str) -> bool:
        """Whether an address is on that host (``sentinelAddrEqualsHostname``)."""
        if not host:
            return False
        ip = self.resolve(host)
        if ip and ip == address.ip:
            return True
        return host.lower() == address.host.lower()


def is_ip(host: str) -> bool:
    """Whether a host is given by its IP, of either kind."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


__all__ = [
    "HELLO_CHANNEL",
    "TICK",
    "Address",
    "Half",
    "Machine",
    "Outside",
    "Refused",
    "Reply",
    "Request",
    "Settings",
]
