"""What a sentinel knows: the masters that it guards, their replicas, and the other sentinels.

Plain data, changed by :mod:`.machine` and its parts alone. Times are the machine's, in
milliseconds; 0 stands for never. Names of fields and flags follow ``sentinel.c`` of Redis 7.2,
whose words SENTINEL MASTERS, REPLICAS and SENTINELS show.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sentinel.guarded import GuardedCluster

# Flags of an instance.
S_DOWN: Final = 1 << 0  # subjectively down: it does not answer this sentinel
O_DOWN: Final = 1 << 1  # objectively down: so many as the quorum say so (masters only)
MASTER_DOWN: Final = 1 << 2  # this sentinel says that the master is down (peers only)
FAILOVER_IN_PROGRESS: Final = 1 << 3
PROMOTED: Final = 1 << 4  # the replica that is to be the master
RECONF_SENT: Final = 1 << 5  # it has been told to follow the new master
RECONF_INPROG: Final = 1 << 6  # it follows it, but has not synchronized
RECONF_DONE: Final = 1 << 7  # it is synchronized with it
FORCE_FAILOVER: Final = 1 << 8  # SENTINEL FAILOVER: the master need not be down
SCRIPT_KILL_SENT: Final = 1 << 9  # a script that keeps it busy has been killed
MASTER_REBOOT: Final = 1 << 10  # it came back with another run id, and may be loading

# States of a failover.
NONE: Final = 0
WAIT_START: Final = 1
SELECT_SLAVE: Final = 2
SEND_SLAVEOF_NOONE: Final = 3
WAIT_PROMOTION: Final = 4
RECONF_SLAVES: Final = 5
UPDATE_CONFIG: Final = 6
FAILOVER_STATE_NAMES: Final = (
    "none",
    "wait_start",
    "select_slave",
    "send_slaveof_noone",
    "wait_promotion",
    "reconf_slaves",
    "update_config",
)

DEFAULT_DOWN_AFTER: Final = 30_000
DEFAULT_FAILOVER_TIMEOUT: Final = 180_000
DEFAULT_PARALLEL_SYNCS: Final = 1
DEFAULT_REPLICA_PRIORITY: Final = 100
MAXIMUM_ID: Final = 40


class Address:
    """Where an instance is: ``host`` as it was given (a name or an IP), ``ip`` what it stands for.

    ``ip`` is "" while a name could not be resolved.
    """

    __slots__ = ("host", "ip", "port")

    def __init__(self, host: str, port: int, ip: str | None = None) -> None:
        self.host = host
        self.port = port
        self.ip = host if ip is None else ip

    def is_same(self, other: Address) -> bool:
        """Whether both are one place: the same port, and the same IP or the same name."""
        return self.port == other.port and (
            (self.ip != "" and self.ip == other.ip) or self.host.lower() == other.host.lower()
        )

    def name(self, by_host: bool) -> str:
        """What a replica there is called: by IP, or by host name (announce-hostnames)."""
        host = self.shown(by_host)
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    def shown(self, by_host: bool) -> str:
        """The IP, or the host name (announce-hostnames), which is told to others."""
        return self.host if by_host else self.ip or self.host

    def __repr__(self) -> str:
        return self.name(by_host=False)


class Link:
    """The two connections to a process: one for commands, one that hears its hello channel.

    All :class:`Peer` records of one sentinel share a link, however many masters it guards with us.
    The outside keeps what it needs (sockets, tasks) by the link's identity.
    """

    def __init__(self, address: Address, now: int, *, listens: bool) -> None:
        self.address = address
        self.listens = listens  # whether it needs the half for messages
        self.users: list[Instance] = []  # who share it
        self.commands_open = False
        self.messages_open = False
        self.commands_opening = False
        self.messages_opening = False
        self.greeting: tuple[tuple[bytes, ...], ...] = ()  # what was said first on the halves
        self.pending = 0  # requests without an answer yet
        self.commands_since = 0  # when the connection for commands was begun or came about
        self.messages_since = 0
        self.last_message = 0  # when the hello channel was last heard
        self.last_available = now  # the last answer to PING that counts as being there
        # Since when an answer that counts is missing: the first PING that has none, or the loss of
        # the connection; 0 if none is. An instance begins like this, being unknown.
        self.ping_sent = now
        self.last_ping = now
        self.last_pong = now  # the last answer to PING, whatever it was
        self.last_attempt = 0  # to connect
        # Of a cluster's node: another one answers at its address. That does not count.
        self.is_of_stranger = False

    @property
    def is_disconnected(self) -> bool:
        """Whether one of the connections that it needs is missing."""
        return not self.commands_open or (self.listens and not self.messages_open)


class Instance:
    """A process that is watched."""

    kind = ""  # "master", "slave", "sentinel": the words of events

    def __init__(self, name: str, address: Address, link: Link, now: int) -> None:
        self.name = name
        self.address = address
        self.link = link
        link.users.append(self)
        self.run_id = ""
        self.node_id = ""  # of a cluster's node
        self.flags = 0
        self.down_after = DEFAULT_DOWN_AFTER
        self.s_down_since = 0  # when it last began to be; stays when it is over
        self.o_down_since = 0
        self.last_hello_sent = 0  # by us, to its channel, as far as it took it
        self.hello_pending = False
        self.last_hello_heard = now  # from it (peers)
        self.info = ""  # the last reply to INFO
        self.info_refreshed = 0
        self.info_asked = 0
        self.info_pending = False
        # What INFO says that it is, and since when.
        self.role_reported = "master" if self.kind == "master" else "slave"
        self.role_reported_since = now

    def has(self, flags: int) -> bool:
        """Whether any of the flags is set."""
        return bool(self.flags & flags)


class Replica(Instance):
    """A replica of a guarded master; by the name "ip:port" as Redis's sentinels call it."""

    kind = "slave"

    def __init__(self, name: str, address: Address, link: Link, now: int, master: Master) -> None:
        super().__init__(name, address, link, now)
        self.master = master
        self.down_after = master.down_after
        self.priority = DEFAULT_REPLICA_PRIORITY
        self.announced = True  # replica-announced
        self.reconf_sent_at = 0
        self.promotion_sent_at = 0
        self.repaired_at = 0  # when it was last told to follow its master
        # As its INFO says: its master, how the link to that is, and how far it is.
        self.master_host = ""
        self.master_port = 0
        self.master_link_up = False
        self.master_link_down_time = 0  # milliseconds; negative: it has never been up
        self.has_nothing = False  # it has never synchronized, and no keys of its own
        self.offset = 0
        self.conf_changed = now  # when the master that it follows last changed


class Peer(Instance):
    """Another sentinel of the same master; by its run id."""

    kind = "sentinel"

    def __init__(self, name: str, address: Address, link: Link, now: int, master: Master) -> None:
        super().__init__(name, address, link, now)
        self.master = master
        self.run_id = name
        self.down_after = master.down_after
        # What it answered to IS-MASTER-DOWN-BY-ADDR: whom it voted for, in which epoch.
        self.leader = ""
        self.leader_epoch = 0
        self.last_master_down_reply = now
        self.asked_at = 0
        self.ask_pending = False
        self.refused_epoch = 0  # in which it has said that its vote is not ours


class Master(Instance):
    """A guarded master, with those that belong to it."""

    kind = "master"

    def __init__(self, name: str, address: Address, link: Link, now: int, quorum: int) -> None:
        super().__init__(name, address, link, now)
        self.quorum = quorum
        self.replicas: dict[str, Replica] = {}
        self.peers: dict[str, Peer] = {}
        self.parallel_syncs = DEFAULT_PARALLEL_SYNCS
        self.failover_timeout = DEFAULT_FAILOVER_TIMEOUT
        self.reboot_down_after = 0  # master-reboot-down-after-period
        self.reboot_since = 0
        self.auth_user = ""
        self.auth_pass = ""
        # SENTINEL SET rename-command: what commands are called there, by their names in upper case.
        self.renamed_commands: dict[str, str] = {}
        self.notification_script = ""
        self.client_reconfig_script = ""
        self.config_epoch = 0
        # The last vote of this sentinel. ``leader`` is "" if it is not known any more.
        self.leader = ""
        self.leader_epoch = 0
        # The failover that this sentinel leads, or last led.
        self.failover_epoch = 0
        self.failover_state = NONE
        self.failover_state_since = 0
        self.failover_start = 0  # or when it voted for another; 0: another may begin at any time
        self.failover_delay_logged = 0
        self.promoted: Replica | None = None
        self.cluster: GuardedCluster | None = None  # that it is a shard of
        # For beginning one: when it is this sentinel's turn (0: not decided), how often it has been
        # in vain, and why the last time (see the election).
        self.turn_at = 0
        self.vain_attempts = 0
        self.gave_up = ""

    @property
    def current_address(self) -> Address:
        """Where clients are to go: the promoted replica's as soon as it is known to be a master.

        (``sentinelGetCurrentMasterAddress``.)
        """
        if (
            self.has(FAILOVER_IN_PROGRESS)
            and self.promoted is not None
            and self.failover_state >= RECONF_SLAVES
        ):
            return self.promoted.address
        return self.address

    def instances(self) -> Iterator[Instance]:
        """The master, its replicas and the other sentinels."""
        yield self
        yield from self.replicas.values()
        yield from self.peers.values()


class State:
    """Everything that one sentinel knows. What has to survive a crash is in its config file."""

    def __init__(self, my_id: str) -> None:
        self.my_id = my_id
        self.port = 0  # where it listens
        self.current_epoch = 0
        self.masters: dict[str, Master] = {}
        self.clusters: dict[str, GuardedCluster] = {}  # their shards are among the masters
        # SENTINEL CONFIG; "" and 0 where the address is found out.
        self.announce_ip = ""
        self.announce_port = 0
        self.resolve_hostnames = False
        self.announce_hostnames = False
        self.sentinel_user = ""  # for other sentinels
        self.sentinel_pass = ""
        self.requirepass = ""  # its own password, which others are given if there is no other
        self.deny_scripts_reconfig = True

    def show(self, address: Address) -> str:
        """The host of an address as others are told it."""
        return address.shown(self.announce_hostnames)

    # Building it, from a config file or by the machine. Addresses have to be resolved already, as
    # far as they can be; nothing is told, nothing marked as unsaved.

    def add_master(self, name: str, address: Address, quorum: int, now: int) -> Master:
        """A master to be guarded. ValueError: the name is taken."""
        if name in self.masters:
            raise ValueError("Duplicate master name.")
        master = Master(name, address, Link(address, now, listens=True), now, quorum)
        self.masters[name] = master
        return master

    def add_replica(self, master: Master, address: Address, now: int) -> Replica:
        """A replica that is known. ValueError: it is known already."""
        name = address.name(self.announce_hostnames)
        if name in master.replicas:
            raise ValueError("Duplicate hostname and port for replica.")
        replica = Replica(name, address, Link(address, now, listens=True), now, master)
        master.replicas[name] = replica
        return replica

    def add_peer(self, master: Master, run_id: str, address: Address, now: int) -> Peer:
        """Another sentinel that guards the master, too; shares the link of its other records.

        ValueError: it is known already, or is this one itself.
        """
        if run_id in master.peers or run_id == self.my_id:
            raise ValueError("Duplicate runid for sentinel.")
        link = None
        for other in self.masters.values():
            known = other.peers.get(run_id)
            if known is not None and known.address.is_same(address):
                link = known.link
                break
        peer = Peer(run_id, address, link or Link(address, now, listens=False), now, master)
        master.peers[run_id] = peer
        return peer

    def shift_times(self, delta: int) -> None:
        """Move everything that was noted at some time by so much: the clock has been moved."""
        links: dict[Link, None] = {}
        for master in self.masters.values():
            for instance in master.instances():
                links[instance.link] = None
                for name in _TIMES.get(type(instance), ()):
                    _shift(instance, name, delta)
        for link in links:
            for name in _LINK_TIMES:
                _shift(link, name, delta)


_LINK_TIMES: Final = (
    "commands_since",
    "messages_since",
    "last_message",
    "last_available",
    "ping_sent",
    "last_ping",
    "last_pong",
    "last_attempt",
)
_INSTANCE_TIMES: Final = (
    "s_down_since",
    "o_down_since",
    "last_hello_sent",
    "last_hello_heard",
    "info_refreshed",
    "info_asked",
    "role_reported_since",
)
_TIMES: Final[dict[type[Instance], tuple[str, ...]]] = {
    Replica: (
        *_INSTANCE_TIMES,
        "reconf_sent_at",
        "promotion_sent_at",
        "repaired_at",
        "conf_changed",
    ),
    Peer: (*_INSTANCE_TIMES, "last_master_down_reply", "asked_at"),
    Master: (
        *_INSTANCE_TIMES,
        "reboot_since",
        "failover_state_since",
        "failover_start",
        "failover_delay_logged",
        "turn_at",
    ),
}


def _shift(thing: object, name: str, delta: int) -> None:
    value = getattr(thing, name)
    if value:
        setattr(thing, name, max(1, value + delta))
