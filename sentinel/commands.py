"""SENTINEL and what else clients, operators and other sentinels ask of a sentinel.

Behaviour and texts after ``sentinelCommand`` and its neighbours in sentinel.c of Redis 7.2. What
changes the sentinel is on disk before it is answered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final

import trio

from node.blocking import Wait
from node.command import Group
from node.commands.arguments import help_reply, integer
from node.component import Component
from node.config.syntax import decode, encode
from node.information import Fields, Section
from node.resp import NO_REPLY, NULL_ARRAY, OK, Error, Reply, ReplyError, Status
from node.session import Session
from sentinel.config_file import (
    BAD_PORT,
    LARGEST_PORT,
)
from sentinel.machine import HELLO_CHANNEL, Refused, is_ip
from sentinel.rows import describe
from sentinel.state import O_DOWN, S_DOWN, Address, Instance, Master, State

if TYPE_CHECKING:
    from sentinel.watcher import Watcher

GROUP: Final = Group("sentinel")
ADMIN: Final = "admin"
GROUP.container("sentinel", flags=ADMIN, since="2.8.4", summary="Holds the commands of a sentinel.")

NO_SUCH_MASTER: Final = b"ERR No such master with that name"
NO_SHARDS: Final = b"ERR No shard of that cluster is known yet"
IS_SHARD: Final = b"ERR A shard cannot be removed alone, only its cluster"
NOT_SAVED: Final = b"ERR Failed to save config file"

HELP: Final = (
    "CKQUORUM <master-name|cluster-name>",
    "    Tell whether enough sentinels are there for the quorum, and for the majority that a",
    "    failover takes.",
    "CLUSTER <cluster-name>",
    "    Show what is known of a cluster, its shards, masters and replicas.",
    "CLUSTERS",
    "    Show what is known of all clusters.",
    "CONFIG SET <param> <value> [<param> <value> ...]",
    "    Change global options.",
    "CONFIG GET <pattern> [<pattern> ...]",
    "    Show global options.",
    "DEBUG [<param> <value> ...]",
    "    Show the periods of the sentinel's work (milliseconds), or change some.",
    "FAILOVER <master-name|cluster-name>",
    "    Fail over without asking other sentinels.",
    "FLUSHCONFIG",
    "    Write the config file, with all that is known.",
    "GET-MASTER-ADDR-BY-NAME <master-name>",
    "    Tell the ip and port of a master.",
    "INFO-CACHE <master-name> [<master-name> ...]",
    "    Show the last INFO of masters and of their replicas.",
    "IS-MASTER-DOWN-BY-ADDR <ip> <port> <current-epoch> <runid>",
    "    Tell whether this sentinel sees a master down, and vote for <runid> (unless it is *).",
    "MASTER <master-name>",
    "    Show what is known of a master.",
    "MASTERS",
    "    Show what is known of all masters.",
    "MONITOR <name> <ip> <port> <quorum>",
    "    Begin to guard a master.",
    "MONITOR-CLUSTER <name> <ip> <port> <quorum>",
    "    Begin to guard a cluster, found by one of its nodes.",
    "MYID",
    "    Tell the id of this sentinel.",
    "PENDING-SCRIPTS",
    "    Show the scripts that run, or are to run.",
    "REMOVE <master-name|cluster-name>",
    "    Guard a master, or a cluster, no more.",
    "REPLICAS <master-name>",
    "    Show what is known of a master's replicas.",
    "RESET <pattern>",
    "    Forget replicas, sentinels and failovers of the masters that match.",
    "SENTINELS <master-name>",
    "    Show what is known of the other sentinels of a master.",
    "SET <master-name|cluster-name> <option> <value> [<option> <value> ...]",
    "    Change options of a master.",
    "SIMULATE-FAILURE [CRASH-AFTER-ELECTION] [CRASH-AFTER-PROMOTION] [HELP]",
    "    Let this sentinel crash in its next failover.",
)


def find_master(state: State, name: bytes) -> Master:
    """A master by its name. Raises ReplyError."""
    master = state.masters.get(decode(name))
    if master is None:
        raise ReplyError(NO_SUCH_MASTER)
    return master


def save(watcher: Watcher) -> None:
    """Have what is known on disk before the client is answered. Raises ReplyError."""
    watcher.settle()
    try:
        watcher.save_now()
    except OSError:
        raise ReplyError(NOT_SAVED) from None


class SentinelCommands(Component):
    """The commands, and what INFO says of a sentinel."""

    def __init__(self, watcher: Watcher) -> None:
        super().__init__(watcher.engine)
        self._watcher = watcher
        self._machine = watcher.machine
        self._config = watcher.engine.config
        self._nursery: trio.Nursery | None = None

    def groups(self) -> Sequence[Group]:
        return (GROUP,)

    def sections(self) -> Sequence[Section]:
        return (Section("Sentinel", self._collect),)

    def installed(self) -> None:
        self.engine.commands[b"publish"].handler = self._publish

    async def run(self) -> None:
        async with trio.open_nursery() as self._nursery:
            await trio.sleep_forever()

    @property
    def _state(self) -> State:
        return self._machine.state

    @property
    def _now(self) -> int:
        return self._watcher.now()

    def _find(self, name: bytes) -> Master:
        return find_master(self._state, name)

    def _find_all(self, name: bytes) -> list[Master]:
        """A master, or those of a cluster. Raises ReplyError, also if there are none yet."""
        cluster = self._state.clusters.get(decode(name))
        if cluster is None:
            return [self._find(name)]
        masters = cluster.masters(self._state)
        if not masters:
            raise ReplyError(NO_SHARDS)
        return masters

    def _saved(self) -> Status:
        """OK, once everything is on disk. Raises ReplyError."""
        self._machine.unsaved = True
        save(self._watcher)
        return OK

    # INFO, ROLE, PUBLISH.

    def _collect(self) -> Fields:
        machine = self._machine
        state = self._state
        scripts = self._watcher.scripts
        tilt_since = (self._now - machine.tilt_since) // 1000 if machine.tilt else -1
        failures = machine.crash_after_election + 2 * machine.crash_after_promotion
        fields: Fields = [
            ("sentinel_masters", len(state.masters)),
            ("sentinel_tilt", int(machine.tilt)),
            ("sentinel_tilt_since_seconds", tilt_since),
            ("sentinel_running_scripts", scripts.running),
            ("sentinel_scripts_queue_length", len(scripts.jobs)),
            ("sentinel_simulate_failure_flags", failures),
        ]
        for number, master in enumerate(state.masters.values()):
            status = "odown" if master.has(O_DOWN) else "sdown" if master.has(S_DOWN) else "ok"
            host = state.show(master.address)
            text = (
                f"name={master.name},status={status},address={host}:{master.address.port},"
                f"slaves={len(master.replicas)},sentinels={len(master.peers) + 1}"
            )
            fields.append((f"master{number}", text))
        if state.clusters:
            fields.append(("sentinel_clusters", len(state.clusters)))
        for number, cluster in enumerate(state.clusters.values()):
            masters = cluster.masters(state)
            down = sum(master.has(S_DOWN | O_DOWN) for master in masters)
            text = (
                f"name={cluster.name},status={'down' if down else 'ok'},shards={len(masters)},"
                f"down={down},nodes={len(cluster.topology.nodes)},"
                f"slots={cluster.topology.covered.bit_count()}"
            )
            fields.append((f"cluster{number}", text))
        return fields

    @GROUP.command(
        "role",
        1,
        "noscript loading stale fast",
        categories="admin dangerous",
        group="server",
        since="2.8.12",
        complexity="O(1)",
        summary="Tells that this is a sentinel, and which masters it guards.",
    )
    def role(self, ctx: Session, argv: list[bytes]) -> Reply:
        """The word, and the masters' names."""
        return [b"sentinel", [encode(name) for name in self._state.masters]]

    def _publish(self, ctx: Session, argv: list[bytes]) -> Reply:
        """PUBLISH: a hello that another sentinel brings."""
        if argv[1] != HELLO_CHANNEL:
            raise ReplyError(b"ERR Only HELLO messages are accepted by Sentinel instances.")
        self._machine.hear_published(argv[2], self._now)
        self._watcher.settle()
        return 1

    # What is known.

    @GROUP.command(
        "sentinel|masters",
        2,
        ADMIN,
        since="2.8.4",
        complexity="O(N) where N is the number of masters",
        summary="Shows what is known of all masters.",
    )
    def masters(self, ctx: Session, argv: list[bytes]) -> Reply:
        """A row for each."""
        return self._describe_all(self._state.masters.values())

    @GROUP.command(
        "sentinel|master",
        3,
        ADMIN,
        since="2.8.4",
        complexity="O(1)",
        summary="Shows what is known of a master.",
        syntax="master-name",
    )
    def master(self, ctx: Session, argv: list[bytes]) -> Reply:
        """Its row."""
        return describe(self._state, self._find(argv[2]), self._now)

    @GROUP.command(
        "sentinel|replicas",
        3,
        ADMIN,
        since="5.0.0",
        complexity="O(N) where N is the number of replicas",
        summary="Shows what is known of a master's replicas.",
        syntax="master-name",
    )
    def replicas(self, ctx: Session, argv: list[bytes]) -> Reply:
        """A row for each that may be announced (replica-announced)."""
        replicas = self._find(argv[2]).replicas.values()
        return self._describe_all([replica for replica in replicas if replica.announced])

    @GROUP.command(
        "sentinel|slaves",
        3,
        ADMIN,
        since="2.8.0",
        complexity="O(N) where N is the number of replicas",
        summary="Shows what is known of a master's replicas.",
        syntax="master-name",
        deprecated_since="5.0.0",
        replaced_by="`SENTINEL REPLICAS`",
        doc_flags=("deprecated",),
    )
    def slaves(self, ctx: Session, argv: list[bytes]) -> Reply:
        """As REPLICAS."""
        return self.replicas(ctx, argv)

    @GROUP.command(
        "sentinel|sentinels",
        3,
        ADMIN,
        since="2.8.4",
        complexity="O(N) where N is the number of sentinels",
        summary="Shows what is known of the other sentinels of a master.",
        syntax="master-name",
    )
    def sentinels(self, ctx: Session, argv: list[bytes]) -> Reply:
        """A row for each."""
        return self._describe_all(self._find(argv[2]).peers.values())

    def _describe_all(self, instances: Iterable[Instance]) -> list[Reply]:
        now = self._now
        return [describe(self._state, instance, now) for instance in instances]

    @GROUP.command(
        "sentinel|myid",
        2,
        ADMIN,
        since="6.2.0",
        complexity="O(1)",
        summary="Tells the id of the sentinel.",
    )
    def my_id(self, ctx: Session, argv: list[bytes]) -> Reply:
        """40 characters."""
        return encode(self._state.my_id)

    @GROUP.command(
        "sentinel|get-master-addr-by-name",
        3,
        ADMIN,
        since="2.8.4",
        complexity="O(1)",
        summary="Tells the address of a master.",
        syntax="master-name",
    )
    def get_master_address(self, ctx: Session, argv: list[bytes]) -> Reply:
        """Host and port of whoever is the master by now; a null for an unknown name."""
        master = self._state.masters.get(decode(argv[2]))
        if master is None:
            return NULL_ARRAY
        address = master.current_address
        return [encode(self._state.show(address)), b"%d" % address.port]

    @GROUP.command(
        "sentinel|info-cache",
        -3,
        ADMIN,
        since="3.2.0",
        complexity="O(N) where N is the number of instances",
        summary="Shows the last INFO of masters and of their replicas.",
        syntax="nodename [nodename ...]",
    )
    def info_cache(self, ctx: Session, argv: list[bytes]) -> Reply:
        """For each master that there is its name, and pairs of age (milliseconds) and INFO."""
        items: list[Reply] = []
        for name in dict.fromkeys(argv[2:]):
            master = self._state.masters.get(decode(name))
            if master is not None:
                known = (master, *master.replicas.values())
                items += (name, [self._describe_info(instance) for instance in known])
        return items

    def _describe_info(self, instance: Instance) -> Reply:
        age = self._now - instance.info_refreshed if instance.info_refreshed else 0
        return [age, encode(instance.info) if instance.info else None]

    @GROUP.command(
        "sentinel|ckquorum",
        3,
        ADMIN,
        since="2.8.4",
        summary="Tells whether enough sentinels are there for a failover.",
        syntax="master-name",
    )
    def check_quorum(self, ctx: Session, argv: list[bytes]) -> Reply:
        """OK with the number of usable sentinels, or NOQUORUM with the reason.

        Of a cluster, for the shard that has the fewest.
        """
        checks = [self._machine.check_quorum(master) for master in self._find_all(argv[2])]
        usable, quorum, majority = min(checks, key=lambda c: (c[1] and c[2], c[0]))
        if quorum and majority:
            return Status(
                b"OK %d usable Sentinels. Quorum and failover authorization can be reached" % usable
            )
        reasons = []
        if not quorum:
            reasons.append(
                "Not enough available Sentinels to reach the specified quorum for this master"
            )
        if not majority:
            reasons.append(
                "Not enough available Sentinels to reach the majority and authorize a failover"
            )
        text = f"NOQUORUM {usable} usable Sentinels. {'. '.join(reasons)}"
        raise ReplyError(text.encode())

    @GROUP.command(
        "sentinel|pending-scripts",
        2,
        ADMIN,
        since="2.8.4",
        summary="Shows the scripts that run, or are to run.",
    )
    def pending_scripts(self, ctx: Session, argv: list[bytes]) -> Reply:
        """A map for each."""
        return self._watcher.scripts.describe(self._now)

    @GROUP.command(
        "sentinel|is-master-down-by-addr",
        6,
        ADMIN,
        since="2.8.4",
        complexity="O(1)",
        summary="Tells whether a master is seen down, and votes.",
        syntax="ip port current-epoch runid",
    )
    def is_master_down(self, ctx: Session, argv: list[bytes]) -> Reply:
        """0 or 1, whom this sentinel has voted for (or *), and in which epoch."""
        port = integer(argv[3])
        epoch = integer(argv[4])
        run_id = decode(argv[5])
        down, leader, leader_epoch = self._machine.is_master_down(
            decode(argv[2]), port, epoch, run_id, self._now
        )
        if run_id != "*":
            save(self._watcher)
        return [int(down), encode(leader), leader_epoch]

    # What is changed.

    @GROUP.command(
        "sentinel|monitor",
        6,
        ADMIN,
        since="2.8.4",
        complexity="O(1)",
        summary="Begins to guard a master.",
        syntax="name ip port quorum",
    )
    def monitor(self, ctx: Session, argv: list[bytes]) -> Reply:
        """OK; a host name is looked up first."""

        def begin(name: str, address: Address, quorum: int) -> None:
            self._machine.monitor(name, address, quorum, self._now)

        return self.begin_to_guard(ctx, argv, begin)

    def begin_to_guard(
        self, ctx: Session, argv: list[bytes], begin: Callable[[str, Address, int], object]
    ) -> Reply:
        """MONITOR of something that ``begin`` begins to guard, which may raise Refused."""
        quorum = integer(argv[5], b"ERR Invalid quorum")
        port = integer(argv[4], b"ERR Invalid port")
        if quorum <= 0:
            raise ReplyError(b"ERR Quorum must be 1 or greater.")
        name = decode(argv[2])
        host = decode(argv[3])
        ip = self._watcher.names.resolve(host)
        if ip or is_ip(host) or not self._state.resolve_hostnames or self._nursery is None:
            return self._monitor(begin, name, Address(host, port, ip), quorum)
        wait = self.engine.blocking.wait(ctx, argv, 0, NO_REPLY)
        wait.unblockable = False
        self._nursery.start_soon(self._monitor_name, wait, begin, name, host, port, quorum)
        return NO_REPLY

    def _monitor(
        self,
        begin: Callable[[str, Address, int], object],
        name: str,
        address: Address,
        quorum: int,
    ) -> Reply:
        if not address.ip:
            raise ReplyError(b"ERR Invalid IP address or hostname specified")
        if not 0 <= address.port <= LARGEST_PORT:
            raise ReplyError(f"ERR {BAD_PORT}".encode())
        try:
            begin(name, address, quorum)
        except Refused as error:
            raise ReplyError(encode(str(error))) from None
        return self._saved()

    async def _monitor_name(
        self,
        wait: Wait,
        begin: Callable[[str, Address, int], object],
        name: str,
        host: str,
        port: int,
        quorum: int,
    ) -> None:
        """Go on with MONITOR once the name has been looked up, unless the client has gone."""
        ip = await self._watcher.names.find(host)
        if wait not in self.engine.blocking.waits:
            return
        try:
            reply = self._monitor(begin, name, Address(host, port, ip), quorum)
        except ReplyError as error:
            reply = Error(error.text)
        self.engine.blocking.finish(wait, reply)

    @GROUP.command(
        "sentinel|remove",
        3,
        ADMIN,
        since="2.8.4",
        complexity="O(1)",
        summary="Guards a master no more.",
        syntax="master-name",
    )
    def remove(self, ctx: Session, argv: list[bytes]) -> Reply:
        """OK. A shard goes with its cluster."""
        name = decode(argv[2])
        if name not in self._state.clusters and self._find(argv[2]).cluster is not None:
            raise ReplyError(IS_SHARD)
        self._machine.remove(name, self._now)
        return self._saved()

    @GROUP.command(
        "sentinel|reset",
        3,
        ADMIN,
        since="2.8.4",
        complexity="O(N) where N is the number of masters",
        summary="Forgets what has been found out of masters.",
        syntax="<pattern>",
    )
    def reset(self, ctx: Session, argv: list[bytes]) -> Reply:
        """How many masters match."""
        count = self._machine.reset(decode(argv[2]), self._now)
        self._watcher.settle()
        return count

    @GROUP.command(
        "sentinel|failover",
        3,
        ADMIN,
        since="2.8.4",
        summary="Fails over without asking other sentinels.",
        syntax="master-name",
    )
    def failover(self, ctx: Session, argv: list[bytes]) -> Reply:
        """OK: it has begun; for a cluster, in each shard that can be failed over."""
        refused: list[Refused] = []
        masters = self._find_all(argv[2])
        for master in masters:
            try:
                self._machine.force_failover(master.name, self._now)
            except Refused as error:
                refused.append(error)
        if len(refused) == len(masters):
            raise ReplyError(encode(str(refused[0]))) from None
        self._watcher.settle()
        return OK

    @GROUP.command(
        "sentinel|flushconfig",
        2,
        ADMIN,
        since="2.8.4",
        complexity="O(1)",
        summary="Writes the config file.",
    )
    def flush_config(self, ctx: Session, argv: list[bytes]) -> Reply:
        """OK, once it is on disk."""
        return self._saved()

    @GROUP.command(
        "sentinel|simulate-failure",
        -3,
        ADMIN,
        since="3.2.0",
        summary="Lets the sentinel crash in its next failover.",
        syntax="[crash-after-election [...]] [crash-after-promotion [...]] [help [...]]",
    )
    def simulate_failure(self, ctx: Session, argv: list[bytes]) -> Reply:
        """OK, or the names of the failures; what was asked for before is off."""
        machine = self._machine
        machine.crash_after_election = machine.crash_after_promotion = False
        for word in argv[2:]:
            kind = word.lower()
            if kind == b"crash-after-election":
                machine.crash_after_election = True
            elif kind == b"crash-after-promotion":
                machine.crash_after_promotion = True
            elif kind == b"help":
                return [b"crash-after-election", b"crash-after-promotion"]
            else:
                raise ReplyError(b"ERR Unknown failure simulation specified")
        return OK

    @GROUP.command(
        "sentinel|help",
        2,
        "loading stale",
        since="6.2.0",
        complexity="O(1)",
        summary="Lists the subcommands of SENTINEL.",
    )
    def help(self, ctx: Session, argv: list[bytes]) -> Reply:
        """The lines above."""
        return help_reply("sentinel", HELP)
