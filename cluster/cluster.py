"""The cluster mode of a node: the machine, connected to the server that it is part of.

This component is the machine's :class:`~cluster.machine.Outside`. It gives it time, the bus, the
role and offset of replication, the keys of a slot, and has what the machine knows saved
(:mod:`.saving`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import trio

from cluster.bus import Bus
from cluster.config_file import ConfigFile, Corrupt, Locked, format_state, parse_state
from cluster.machine import TICKS_PER_SECOND, Link, Machine, Outside, Settings
from cluster.saving import Saver
from cluster.slots import SlotIndex, key_slot, slot_index
from cluster.state import MASTER, MYSELF, NOFAILOVER, Node, State, draw_name
from node.component import Component, find_component
from node.config import ConfigFileError
from node.pause import BY_FAILOVER, PAUSE_WRITE
from node.pubsub import PubSub
from node.replication.replication import Replication

if TYPE_CHECKING:
    from node.server import Server

BUS_PORT_OFFSET: Final = 10_000
LARGEST_PORT: Final = 65_535
# Keys of a slot that another node has, deleted in one portion.
PORTION: Final = 1000
TICK_NS: Final = 1_000_000_000 // TICKS_PER_SECOND

DIRECTIVES: Final = (
    "cluster-node-timeout",
    "cluster-ping-interval",
    "cluster-replica-validity-factor",
    "cluster-replica-no-failover",
    "cluster-migration-barrier",
    "cluster-allow-replica-migration",
    "cluster-require-full-coverage",
    "cluster-link-sendbuf-limit",
    "cluster-announce-ip",
    "cluster-announce-port",
    "cluster-announce-bus-port",
    "cluster-announce-tls-port",
    "cluster-announce-hostname",
    "cluster-announce-human-nodename",
    "repl-ping-replica-period",
    "port",
)


class Cluster(Component, Outside):
    """The node's part in a cluster. Made before the data are loaded, from the cluster's file."""

    def __init__(self, server: Server, components: Sequence[Component]) -> None:
        super().__init__(server.engine)
        self._server = server
        self._config = server.config
        self._log = server.log
        self._clock = server.clock
        self._replication = find_component(components, Replication)
        self._replication.clustered = True
        self._pubsub = find_component(components, PubSub)
        self._db = self.engine.keyspace.databases[0]
        self._db.index_keys(SlotIndex())
        # Time that no step of the wall clock changes, but counted like it.
        self._epoch_ms = int(self._clock.wall() * 1000) - self._clock.monotonic_ns() // 1_000_000
        self._next_tick_ns = 0
        self._doomed: list[int] = []  # slots whose keys are to be deleted
        self._doomed_there = trio.Event()
        # Sends clients away that wait for keys of slots that are not here any more.
        self.redirect_waiting: Callable[[], None] = _do_nothing
        settings = Settings()
        self.file = ConfigFile(self._config.text("cluster-config-file"), server.files)
        state = self._load()
        self.bus = Bus(server.network, self._log, self.now, self.settle)
        self.machine = Machine(state, settings, self, self.engine.keyspace.random)
        self.bus.serve(self.machine)
        self.saver = Saver(self.file, self.machine, self.bus, self._log, self.settle)
        self._config.on_change(DIRECTIVES, self._configure)
        self._configure()
        self._pubsub.propagate = self._propagate
        server.listen_hooks.append(self._listen)
        server.hub.barriers.append(self.saver.save_before_replies)
        server.shutdown_hooks.append(lambda _: self.saver.save_at_end())
        server.loaded_hooks.append(self._check_data)
        if state.myself.master is not None and state.myself.master.has_address:
            self.follow(state.myself.master)

    @property
    def state(self) -> State:
        return self.machine.state

    def now(self) -> int:
        """The machine's time: Unix milliseconds by the monotonic clock."""
        return self._epoch_ms + self._clock.monotonic_ns() // 1_000_000

    # The file.

    def _load(self) -> State:
        """What the file says, or a cluster of this node alone. Raises ConfigFileError."""
        name = self._config.text("cluster-config-file")
        random = self.engine.keyspace.random
        try:
            content = self.file.open()
        except Locked:
            self._log.warning(
                f"Sorry, the cluster configuration file {name} is already used by a different "
                "Redis Cluster node. Please make sure that different nodes use different cluster "
                "configuration files."
            )
            raise ConfigFileError("The cluster configuration file is in use") from None
        except OSError as error:
            self._log.warning(f"Can't open {name} in order to acquire a lock: {error.strerror}")
            raise ConfigFileError("The cluster configuration file can't be opened") from None
        if content:
            try:
                state = parse_state(content, self.now())
            except Corrupt as error:
                self._log.warning(
                    f"Unrecoverable error: corrupted cluster config file {name}: {error}. Nothing "
                    "was changed; restore it from a backup, or remove it to start as a new node."
                )
                raise ConfigFileError("The cluster configuration file is corrupt") from None
            self._log.notice(f"Node configuration loaded, I'm {state.myself.name}")
            for node in state.masters():
                if not node.shard:  # the file of a 7.0 node
                    for member in state.shard_of(node):
                        member.shard = node.shard = node.shard or draw_name(random)
            return state
        myself = Node(draw_name(random), MYSELF | MASTER, self.now())
        self._log.notice(f"No cluster configuration found, I'm {myself.name}")
        state = State(myself)
        try:
            myself.shard = draw_name(random)
            self.file.save(format_state(state), 1)
        except OSError as error:
            self._log.warning(f"Fatal: can't update cluster config file: {error.strerror}")
            raise ConfigFileError("The cluster configuration file can't be written") from None
        return state

    def settle(self) -> None:
        """The machine has been told something: let it draw its conclusions, and save them."""
        machine = self.machine
        machine.settle(self.now())
        self.saver.hold_packets()
        if self.state.moved:
            self._leave_channels()
        if self._server.resting and self.rest() < 1 / TICKS_PER_SECOND:
            self._server.end_rest()

    # Configuration.

    def _configure(self) -> None:
        config = self._config
        settings = self.machine.settings
        myself = self.machine.myself
        settings.node_timeout = config.integer("cluster-node-timeout")
        settings.ping_interval = config.integer("cluster-ping-interval")
        settings.replica_validity_factor = config.integer("cluster-replica-validity-factor")
        settings.replica_no_failover = config.boolean("cluster-replica-no-failover")
        settings.replica_ping_period = config.integer("repl-ping-replica-period") * 1000
        settings.migration_barrier = config.integer("cluster-migration-barrier")
        settings.allow_replica_migration = config.boolean("cluster-allow-replica-migration")
        settings.require_full_coverage = config.boolean("cluster-require-full-coverage")
        announced_ip = settings.announce_ip
        settings.announce_ip = config.text("cluster-announce-ip")
        self.bus.limit = config.integer("cluster-link-sendbuf-limit")
        self.bus.source_address = config.text("bind-source-addr")
        before = _identity(myself)
        port = config.integer("port")
        myself.port = config.integer("cluster-announce-port") or port
        myself.bus_port = config.integer("cluster-announce-bus-port") or self._listening_port()
        myself.tls_port = config.integer("cluster-announce-tls-port")
        myself.hostname = config.text("cluster-announce-hostname")
        myself.human_name = config.text("cluster-announce-human-nodename")
        if settings.announce_ip:
            myself.ip = settings.announce_ip
        elif announced_ip:
            myself.ip = ""  # until somebody connects to it
        if settings.replica_no_failover:
            myself.flags |= NOFAILOVER
        else:
            myself.flags &= ~NOFAILOVER
        if _identity(myself) != before:
            self.machine.save()
        self.machine.doubt()

    def _listening_port(self) -> int:
        config = self._config
        port = config.integer("cluster-port") or config.integer("port") + BUS_PORT_OFFSET
        if port > LARGEST_PORT:
            self._log.warning(
                "Redis port number too high for cluster mode. The cluster bus port number you "
                f"want to use is {port}, but it must be at most {LARGEST_PORT}: set cluster-port."
            )
            raise ConfigFileError("The cluster bus port is too high")
        return port

    def _listen(self) -> None:
        """Listen for other nodes wherever clients are listened for. Raises CannotListen."""
        self.bus.listeners = self._server.listen_everywhere(self._listening_port(), "cluster")

    # Tasks.

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.bus.run)
            nursery.start_soon(self.saver.run)
            nursery.start_soon(self._delete_stranded)

    def tick(self, now_ns: int) -> None:
        # With the node's other periodic work: a task of its own would wake an idle node as often
        # again. Ten times a second, or hz times where that is less (as in Redis).
        if now_ns < self._next_tick_ns:
            return
        self._next_tick_ns = max(self._next_tick_ns + TICK_NS, now_ns)
        self.machine.tick(self.now())
        self.settle()
        self.saver.tick()
        self.redirect_waiting()

    def rest(self) -> float:
        master = self.machine.myself.master
        if self.engine.blocking.waits or (master is not None and not self.is_following()):
            return 0.0
        return self.machine.rest(self.now()) / 1000

    async def _delete_stranded(self) -> None:
        """Delete the keys in slots that another node has, a portion at a time."""
        while True:
            await self._doomed_there.wait()
            self._doomed_there = trio.Event()
            while self._doomed:
                slot = self._doomed[-1]
                # It may have come back meanwhile.
                mine = self.state.owners[slot] is self.machine.myself
                keys = [] if mine else slot_index(self._db).keys(slot, PORTION)
                if not keys:
                    self._doomed.pop()
                for key in keys:
                    self._db.remove_stray(key)
                self.engine.settle_background()
                await trio.lowlevel.checkpoint()

    def _check_data(self) -> None:
        """The data are loaded: see whether they are of slots that this node has.

        A slot that nobody has becomes ours, one that another node has is marked as being imported
        (``verifyClusterConfigWithData``).
        """
        state = self.state
        myself = state.myself
        if not myself.is_master:
            return
        changed = False
        for slot in slot_index(self._db).used():
            owner = state.owners[slot]
            if owner is myself or slot in state.importing:
                continue
            if owner is None:
                self._log.warning(
                    f"I have keys for unassigned slot {slot}. Taking ownership of it."
                )
                state.assign(slot, myself)
            else:
                self._log.warning(
                    f"I have keys for slot {slot}, but the slot is assigned to another node. "
                    "Setting it to importing state."
                )
                state.importing[slot] = owner
            changed = True
        if changed:
            self.machine.save()

    # What the machine wants (Outside).

    def open_link(self, node: Node) -> Link:
        return self.bus.open(node)

    def send(self, link: Link, data: bytes) -> None:
        self.saver.hold_packets()
        self.bus.send(link, data)

    def close_link(self, link: Link) -> None:
        self.bus.close(link)

    def follow(self, master: Node) -> None:
        self._replication.follow(master.ip, master.port)

    def promote(self) -> None:
        self._replication.promote()

    def is_following(self) -> bool:
        return self._replication.is_replica

    def replication_offset(self) -> int:
        link = self._replication.link
        if link is not None and self._replication.is_replica:
            return max(0, link.position)
        return self._replication.history.offset

    def replication_silence(self) -> int:
        link = self._replication.link
        return 0 if link is None else link.silence_ms

    def pause_writes(self, until: int) -> None:
        self.engine.refresh()  # a node at rest has not looked at the clock for a while
        end = self.engine.keyspace.now + until - self.now()
        self._replication.pause.begin(PAUSE_WRITE, end, BY_FAILOVER)

    def resume_writes(self) -> None:
        self._replication.pause.end(BY_FAILOVER)

    def count_keys(self, slot: int) -> int:
        return slot_index(self._db).count(slot)

    def delete_keys(self, slot: int) -> None:
        self._doomed.append(slot)
        self._doomed_there.set()

    def deliver(self, channel: bytes, message: bytes, sharded: bool) -> None:
        if sharded:
            self._pubsub.publish_shard(channel, message)
        else:
            self._pubsub.publish(channel, message)

    def log(self, level: str, text: str) -> None:
        if level == "notice":
            self._log.notice(text)
        elif level == "warning":
            self._log.warning(text)
        elif level == "verbose":
            self._log.verbose(text)
        else:
            self._log.debug(text)

    # Messages of clients.

    def _propagate(self, argv: list[bytes]) -> None:
        """Let the other nodes deliver what a client has published here."""
        sharded = argv[0].lower() == b"spublish"
        self.machine.gossip.publish(argv[1], argv[2], sharded)

    def _leave_channels(self) -> None:
        """Nobody here hears any more what is said in slots that have gone to another shard."""
        moved = self.state.moved
        self.state.moved = 0
        shard = self.state.shard_of(self.machine.myself)
        for channel in list(self._pubsub.shard_channels):
            slot = key_slot(channel)
            if moved & 1 << slot and self.state.owners[slot] not in shard:
                self._pubsub.end_shard_channel(channel)


def _identity(node: Node) -> tuple[object, ...]:
    """What others are told of a node, and what is kept."""
    return (node.address, node.hostname, node.human_name)


def _do_nothing() -> None:
    return None
