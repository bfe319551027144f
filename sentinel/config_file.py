"""The sentinel's config file: its ``sentinel`` statements, read at start and kept up to date.

The file is the operator's and the sentinel's. What it says is carried out whatever its order:
global options first, then the masters, then what is said of each, as Redis does it. What the
sentinel finds out or decides (its id, epochs, votes, replicas, other sentinels) is written back
into the same file, whose comments, order and foreign lines stay: the lines that hold take the
places of those that did, what is new comes last. The file is written aside, flushed and renamed,
and its folder is flushed; so a real redis-sentinel can go on with our file, and we with its.

(``sentinelHandleConfiguration`` and ``rewriteConfigSentinelOption`` in sentinel.c of Redis 7.2.)
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from node.config.rewriting import Line, describe, merge
from node.config.syntax import INT64_MAX, decode, encode, parse_lenient_integer
from node.files import replace_file
from node.words import quote
from sentinel.guarded import (
    SEPARATOR,
    GuardedCluster,
    add_cluster,
    copy_options,
    restore_shard,
)
from sentinel.state import (
    DEFAULT_DOWN_AFTER,
    DEFAULT_FAILOVER_TIMEOUT,
    DEFAULT_PARALLEL_SYNCS,
    MAXIMUM_ID,
    Address,
    Master,
    State,
)

if TYPE_CHECKING:
    from node.config import Config, Statement
    from node.files import Files

LARGEST_PORT: Final = 65_535
UNRECOGNIZED: Final = "Unrecognized sentinel configuration statement."
NO_SUCH_MASTER: Final = "No such master with specified name."
CANNOT_RESOLVE: Final = "Can't resolve instance hostname."
BAD_PORT: Final = "Invalid port number."
BAD_NOTIFICATION_SCRIPT: Final = "Notification script seems non existing or non executable"
BAD_RECONFIG_SCRIPT: Final = "Client reconfiguration script seems non existing or non executable"

# When a statement is carried out.
GLOBAL: Final = 0
MASTERS: Final = 1
NODES: Final = 2
DETAILS: Final = 3

Resolve = Callable[[str], str]
"""The IP that a host stands for, "" if it cannot be found out."""

_PLAIN: Final = re.compile(rb"[!#-&(-~]+")
_RENAMED: Final = {"known-slave": "known-replica"}

# Statements about the sentinel as such, and about one master, which the next word names.
GLOBALS: Final = frozenset(
    (
        *("myid", "current-epoch", "announce-ip", "announce-port", "sentinel-user"),
        *("sentinel-pass", "deny-scripts-reconfig", "resolve-hostnames", "announce-hostnames"),
    )
)
OF_MASTERS: Final = frozenset(
    (
        *("monitor", "down-after-milliseconds", "failover-timeout", "parallel-syncs"),
        *("notification-script", "client-reconfig-script", "auth-pass", "auth-user"),
        *("master-reboot-down-after-period", "config-epoch", "leader-epoch"),
        *("known-replica", "known-sentinel", "rename-command"),
        *("monitor-cluster", "known-cluster-node"),
    )
)


def is_executable(path: str) -> bool:
    """Whether there is a script at ``path`` that can be run."""
    return os.access(path, os.X_OK) and Path(path).is_file()


# Reading.


class Reader:
    """Carries out the statements of a config file on a state that knows nothing yet.

    ``resolve`` is asked for host names, and waits.
    """

    def __init__(self, state: State, resolve: Resolve, now: int) -> None:
        self.state = state
        self._resolve = resolve
        self._now = now
        # By cluster and shard: what is known of the nodes.
        self._nodes: dict[tuple[str, str], list[tuple[str, Address, bool]]] = {}
        # By name: when, the numbers of words after it that are allowed, and how.
        self.known: dict[str, tuple[int, tuple[int, ...], Callable[[Sequence[str]], None]]] = {
            "myid": (GLOBAL, (1,), self._set_id),
            "current-epoch": (GLOBAL, (1,), self._set_current_epoch),
            "announce-ip": (GLOBAL, (1,), self._set_announce_ip),
            "announce-port": (GLOBAL, (1,), self._set_announce_port),
            "deny-scripts-reconfig": (GLOBAL, (1,), self._set_deny_scripts),
            "sentinel-user": (GLOBAL, (1,), self._set_sentinel_user),
            "sentinel-pass": (GLOBAL, (1,), self._set_sentinel_pass),
            "resolve-hostnames": (GLOBAL, (1,), self._set_resolve_hostnames),
            "announce-hostnames": (GLOBAL, (1,), self._set_announce_hostnames),
            "monitor": (MASTERS, (4,), self._monitor),
            "monitor-cluster": (MASTERS, (4,), self._monitor_cluster),
            "known-cluster-node": (NODES, (6,), self._add_cluster_node),
            "down-after-milliseconds": (DETAILS, (2,), self._set_down_after),
            "failover-timeout": (DETAILS, (2,), self._set_failover_timeout),
            "parallel-syncs": (DETAILS, (2,), self._set_parallel_syncs),
            "notification-script": (DETAILS, (2,), self._set_notification_script),
            "client-reconfig-script": (DETAILS, (2,), self._set_reconfig_script),
            "auth-pass": (DETAILS, (2,), self._set_auth_pass),
            "auth-user": (DETAILS, (2,), self._set_auth_user),
            "master-reboot-down-after-period": (DETAILS, (2,), self._set_reboot_down_after),
            "config-epoch": (DETAILS, (2,), self._set_config_epoch),
            "leader-epoch": (DETAILS, (2,), self._set_leader_epoch),
            "known-replica": (DETAILS, (3,), self._add_replica),
            "known-slave": (DETAILS, (3,), self._add_replica),
            "known-sentinel": (DETAILS, (3, 4), self._add_peer),
            "rename-command": (DETAILS, (3,), self._rename_command),
        }

    def read(self, statements: Sequence[Statement]) -> None:
        """Carry out all statements. Raises ConfigFileError, which names file, line and reason."""
        plan: list[list[tuple[Statement, Callable[[Sequence[str]], None]]]] = [[], [], [], []]
        for statement in statements:
            if not statement.words:
                continue  # --sentinel alone, as redis-server needs it
            entry = self.known.get(statement.words[0].lower())
            if entry is None or len(statement.words) - 1 not in entry[1]:
                raise statement.refuse(UNRECOGNIZED)
            plan[entry[0]].append((statement, entry[2]))
        for number, phase in enumerate(plan):
            if number == DETAILS:
                # What is said of a cluster holds for its shards, unless more is said of those.
                phase.sort(key=lambda step: step[0].words[1] not in self.state.clusters)
            for statement, carry_out in phase:
                name = statement.words[1]
                if number == DETAILS and self._nodes and name not in self.state.clusters:
                    self._begin_shards()
                if number == DETAILS and self._is_of_lost_shard(name):
                    continue
                try:
                    carry_out(statement.words[1:])
                except ValueError as error:
                    raise statement.refuse(str(error)) from None
        self._begin_shards()
        for master in self.state.masters.values():
            for instance in (*master.replicas.values(), *master.peers.values()):
                instance.down_after = master.down_after

    def address(self, host: str, port: str) -> Address:
        """A place. ValueError: there can be none, or its name is not known and must be."""
        number = parse_lenient_integer(port) if port else None
        if number is None or not 0 <= number <= LARGEST_PORT:
            raise ValueError(BAD_PORT)
        ip = self._resolve(host)
        if not ip and not self.state.resolve_hostnames:
            raise ValueError(CANNOT_RESOLVE)
        return Address(host, number, ip)

    def _find(self, name: str) -> Master:
        """A master, or the options of a cluster."""
        cluster = self.state.clusters.get(name)
        return cluster.options if cluster is not None else self._find_master(name)

    def _find_master(self, name: str) -> Master:
        master = self.state.masters.get(name)
        if master is None:
            raise ValueError(NO_SUCH_MASTER)
        return master

    # Clusters.

    def _monitor_cluster(self, words: Sequence[str]) -> None:
        name, host, port, quorum = words
        add_cluster(self.state, name, self.address(host, port), _quorum(quorum), self._now)

    def _add_cluster_node(self, words: Sequence[str]) -> None:
        name, shard, node_id, host, port, role = words
        if name not in self.state.clusters or not shard.startswith(f"{name}{SEPARATOR}"):
            raise ValueError(NO_SUCH_MASTER)
        if role not in ("master", "slave"):
            raise ValueError("The role of a node is master or slave.")
        nodes = self._nodes.setdefault((name, shard), [])
        nodes.append((node_id, self.address(host, port), role == "master"))

    def _begin_shards(self) -> None:
        """All nodes of all shards are known, and what is said of their clusters."""
        for (name, shard), nodes in self._nodes.items():
            cluster = self.state.clusters[name]
            restore_shard(self.state, cluster, shard, nodes, self._now)
            if shard in self.state.masters:
                copy_options(cluster.options, self.state.masters[shard])
        self._nodes.clear()

    def _is_of_lost_shard(self, name: str) -> bool:
        """Whether somebody has taken a shard's nodes out of the file, but not all about it."""
        cluster, separator, _ = name.partition(SEPARATOR)
        return bool(separator) and cluster in self.state.clusters and name not in self.state.masters

    # Global options.

    def _set_id(self, words: Sequence[str]) -> None:
        if len(words[0]) != MAXIMUM_ID:
            raise ValueError("Malformed Sentinel id in myid option.")
        self.state.my_id = words[0]

    def _set_current_epoch(self, words: Sequence[str]) -> None:
        self.state.current_epoch = max(self.state.current_epoch, _epoch(words[0]))

    def _set_announce_ip(self, words: Sequence[str]) -> None:
        self.state.announce_ip = words[0]

    def _set_announce_port(self, words: Sequence[str]) -> None:
        number = parse_lenient_integer(words[0]) if words[0] else None
        if number is None or not 0 <= number <= LARGEST_PORT:
            raise ValueError(BAD_PORT)
        self.state.announce_port = number

    def _set_deny_scripts(self, words: Sequence[str]) -> None:
        self.state.deny_scripts_reconfig = _yes_or_no(words[0], "deny-scripts-reconfig options")

    def _set_sentinel_user(self, words: Sequence[str]) -> None:
        self.state.sentinel_user = words[0]

    def _set_sentinel_pass(self, words: Sequence[str]) -> None:
        self.state.sentinel_pass = words[0]

    def _set_resolve_hostnames(self, words: Sequence[str]) -> None:
        self.state.resolve_hostnames = _yes_or_no(words[0], "resolve-hostnames option")

    def _set_announce_hostnames(self, words: Sequence[str]) -> None:
        self.state.announce_hostnames = _yes_or_no(words[0], "announce-hostnames option")

    # Masters, and what is said of them.

    def _monitor(self, words: Sequence[str]) -> None:
        name, host, port, quorum = words
        number = _quorum(quorum)
        if name in self.state.clusters:
            raise ValueError("Duplicate master name.")
        self.state.add_master(name, self.address(host, port), number, self._now)

    def _set_down_after(self, words: Sequence[str]) -> None:
        self._find(words[0]).down_after = _period(words[1])

    def _set_failover_timeout(self, words: Sequence[str]) -> None:
        self._find(words[0]).failover_timeout = _period(words[1])

    def _set_parallel_syncs(self, words: Sequence[str]) -> None:
        master = self._find(words[0])
        number = parse_lenient_integer(words[1]) if words[1] else None
        if number is None or number < 0:
            raise ValueError("parallel-syncs must be a number that is not negative.")
        master.parallel_syncs = number

    def _set_notification_script(self, words: Sequence[str]) -> None:
        master = self._find(words[0])
        if not is_executable(words[1]):
            raise ValueError(f"{BAD_NOTIFICATION_SCRIPT}.")
        master.notification_script = words[1]

    def _set_reconfig_script(self, words: Sequence[str]) -> None:
        master = self._find(words[0])
        if not is_executable(words[1]):
            raise ValueError(f"{BAD_RECONFIG_SCRIPT}.")
        master.client_reconfig_script = words[1]

    def _set_auth_pass(self, words: Sequence[str]) -> None:
        self._find(words[0]).auth_pass = words[1]

    def _set_auth_user(self, words: Sequence[str]) -> None:
        self._find(words[0]).auth_user = words[1]

    def _set_reboot_down_after(self, words: Sequence[str]) -> None:
        master = self._find(words[0])
        number = parse_lenient_integer(words[1]) if words[1] else None
        if number is None or number < 0:
            raise ValueError("negative time parameter.")
        master.reboot_down_after = number

    def _set_config_epoch(self, words: Sequence[str]) -> None:
        master = self._find_master(words[0])
        master.config_epoch = _epoch(words[1])
        if master.cluster is None:
            self.state.current_epoch = max(self.state.current_epoch, master.config_epoch)

    def _set_leader_epoch(self, words: Sequence[str]) -> None:
        self._find_master(words[0]).leader_epoch = _epoch(words[1])

    def _add_replica(self, words: Sequence[str]) -> None:
        master = self._find_master(words[0])
        self.state.add_replica(master, self.address(words[1], words[2]), self._now)

    def _add_peer(self, words: Sequence[str]) -> None:
        master = self._find_master(words[0])
        # Sentinels without an id are of old files; a copied file may name this one as another.
        if len(words) == 4 and words[3] != self.state.my_id:
            address = self.address(words[1], words[2])
            self.state.add_peer(master, words[3], address, self._now)

    def _rename_command(self, words: Sequence[str]) -> None:
        renamed = self._find(words[0]).renamed_commands
        old = words[1].upper()
        if old in renamed:
            raise ValueError("Same command renamed multiple times with rename-command.")
        renamed[old] = words[2]


def _yes_or_no(word: str, what: str) -> bool:
    if word.lower() not in ("yes", "no"):
        raise ValueError(f"Please specify yes or no for the {what}.")
    return word.lower() == "yes"


def _quorum(word: str) -> int:
    number = parse_lenient_integer(word)
    if number is None or number <= 0:
        raise ValueError("Quorum must be 1 or greater.")
    return number


def _period(word: str) -> int:
    number = parse_lenient_integer(word)
    if number is None or number <= 0:
        raise ValueError("negative or zero time parameter.")
    return number


def _epoch(word: str) -> int:
    number = parse_lenient_integer(word) if word else None
    if number is None or not 0 <= number < INT64_MAX:
        raise ValueError("Invalid epoch.")
    return number


# Writing.


def about(words: Sequence[bytes]) -> str:
    """What a statement is about: its lines are replaced by those of the same subject."""
    if words[0].lower() != b"sentinel" or len(words) < 2:
        return ""
    name = decode(words[1]).lower()
    name = _RENAMED.get(name, name)
    if name in GLOBALS:
        return _subject(name)
    if name in OF_MASTERS and len(words) > 2:
        return _subject(name, decode(words[2]))
    return ""


def format_state(state: State) -> Iterator[Line]:
    """The statements for all that is known and set; defaults replace lines, but bring none."""
    yield _line(True, "myid", state.my_id)
    deny = state.deny_scripts_reconfig
    yield _line(not deny, "deny-scripts-reconfig", _format_bool(deny))
    resolve = state.resolve_hostnames
    yield _line(resolve, "resolve-hostnames", _format_bool(resolve))
    announce = state.announce_hostnames
    yield _line(announce, "announce-hostnames", _format_bool(announce))
    for cluster in state.clusters.values():
        yield from _format_cluster(state, cluster)
    for master in state.masters.values():
        yield from _format_master(state, master)
    yield _line(True, "current-epoch", str(state.current_epoch))
    if state.announce_ip:
        yield _line(True, "announce-ip", state.announce_ip)
    yield _line(state.announce_port != 0, "announce-port", str(state.announce_port))
    if state.sentinel_user:
        yield _line(True, "sentinel-user", state.sentinel_user)
    if state.sentinel_pass:
        yield _line(True, "sentinel-pass", state.sentinel_pass)


def _format_cluster(state: State, cluster: GuardedCluster) -> Iterator[Line]:
    name = cluster.name
    options = cluster.options
    entry = _place(state, options.address)
    yield _line(True, "monitor-cluster", name, *entry, str(cluster.quorum))
    yield from _format_options(options, None)
    for shard in cluster.registry.shards.values():
        master = state.masters.get(shard.name)
        if master is None:
            continue
        # During a failover, who is read as the master's replica is the old one.
        nodes: list[tuple[str, Address]] = [(master.node_id, master.address)]
        nodes += [(replica.node_id, replica.address) for replica in master.replicas.values()]
        for node_id, address in nodes:
            role = "master" if address.is_same(master.current_address) else "slave"
            if node_id:
                words = (shard.name, node_id, *_place(state, address), role)
                yield _line(True, "known-cluster-node", name, *words)


def _format_master(state: State, master: Master) -> Iterator[Line]:
    name = master.name
    current = master.current_address
    if master.cluster is None:
        yield _line(True, "monitor", name, *_place(state, current), str(master.quorum))
    yield from _format_options(
        master, master.cluster.options if master.cluster is not None else None
    )
    yield _line(True, "config-epoch", name, str(master.config_epoch))
    yield _line(True, "leader-epoch", name, str(master.leader_epoch))
    for replica in master.replicas.values() if master.cluster is None else ():
        address = replica.address
        if address.is_same(current):
            # It is the master already; who is read as its replica is the old one.
            address = master.address
        yield _line(True, "known-replica", name, *_place(state, address))
    for peer in master.peers.values():
        yield _line(True, "known-sentinel", name, *_place(state, peer.address), peer.run_id)


def _format_options(master: Master, common: Master | None) -> Iterator[Line]:
    """What is set for a master; for a shard, what is otherwise than for its cluster."""
    name = master.name
    for option, attribute, default in (
        ("down-after-milliseconds", "down_after", DEFAULT_DOWN_AFTER),
        ("failover-timeout", "failover_timeout", DEFAULT_FAILOVER_TIMEOUT),
        ("parallel-syncs", "parallel_syncs", DEFAULT_PARALLEL_SYNCS),
        ("master-reboot-down-after-period", "reboot_down_after", 0),
    ):
        number: int = getattr(master, attribute)
        if common is None:
            yield _line(number != default, option, name, str(number))
        elif number != getattr(common, attribute):
            yield _line(True, option, name, str(number))
    for option, attribute in (
        ("notification-script", "notification_script"),
        ("client-reconfig-script", "client_reconfig_script"),
        ("auth-pass", "auth_pass"),
        ("auth-user", "auth_user"),
    ):
        text: str = getattr(master, attribute)
        if text and (common is None or text != getattr(common, attribute)):
            yield _line(True, option, name, text)
    if common is None or master.renamed_commands != common.renamed_commands:
        for old, new in master.renamed_commands.items():
            yield _line(True, "rename-command", name, old, new)


def _place(state: State, address: Address) -> tuple[str, str]:
    host = address.host if state.resolve_hostnames else address.ip or address.host
    return host, str(address.port)


def _line(force: bool, name: str, *words: str) -> Line:
    subject = _subject(name, words[0]) if name in OF_MASTERS else _subject(name)
    return subject, b" ".join([b"sentinel", encode(name), *map(_quote, words)]), force


def _subject(name: str, master: str = "") -> str:
    return f"sentinel {name} {master}"


def _quote(word: str) -> bytes:
    """The word, in quotes where the file could not hold it otherwise."""
    octets = encode(word)
    return octets if _PLAIN.fullmatch(octets) else quote(octets)


def _format_bool(value: bool) -> str:
    return "yes" if value else "no"


class ConfigFile:
    """The file, kept up to date: by the thread that serves and by others, one at a time."""

    def __init__(self, config: Config, files: Files) -> None:
        self.path = config.file
        self._config = config
        self._files = files
        self._lock = threading.Lock()
        self._saved = 0
        self._written = b""

    def draft(self, state: State) -> list[Line]:
        """The lines that hold now, for :meth:`save`."""
        # Save points say nothing here, and their lines go, as in Redis.
        directives = [line for line in describe(self._config) if line[0] != "save"]
        return [*directives, *format_state(state)]

    def save(self, lines: Sequence[Line], number: int) -> None:
        """Put these lines into the file, on disk when this returns. Raises OSError.

        ``number`` grows with each draft; one that has been overtaken is not written any more.
        """
        with self._lock:
            if number < self._saved:
                return
            try:
                content = self._files.read_all(self.path)
            except FileNotFoundError:
                content = b""
            text = merge(self._config, content, lines, about)
            if text != self._written or text != content:
                replace_file(self.path, text, 0o644, self._files)
                self._written = text
            self._saved = number
