"""The directives of replication that have a meaning here."""

from typing import Final

from node.config.directive import INT_MAX, Bool, Directive, Enum, Integer, Memory, Text
from node.config.special import MasterAddress
from node.config.syntax import INT64_MAX

MASTERS: Final[list[Directive]] = [
    Integer(
        "min-replicas-to-write",
        0,
        0,
        INT_MAX,
        "Replicas without which writes are refused.",
        aliases=("min-slaves-to-write",),
    ),
    Integer(
        "min-replicas-max-lag",
        10,
        0,
        INT_MAX,
        "Seconds of silence after which a replica does not count.",
        aliases=("min-slaves-max-lag",),
    ),
    Integer(
        "repl-ping-replica-period",
        10,
        1,
        INT_MAX,
        "Seconds between pings to replicas.",
        aliases=("repl-ping-slave-period",),
    ),
    Integer("repl-timeout", 60, 1, INT_MAX, "Seconds of silence that end a replication link."),
    Bool("repl-disable-tcp-nodelay", False, "Send replicas fewer, larger packets."),
    Memory(
        "repl-backlog-size",
        1024 * 1024,
        1,
        INT64_MAX,
        "Bytes of the write stream kept for partial resyncs.",
        clamp=(16 * 1024, INT64_MAX),
    ),
    Integer(
        "repl-backlog-ttl",
        3600,
        0,
        INT64_MAX,
        "Seconds without replicas after which that stream is dropped; 0 for never.",
    ),
    Integer("shutdown-timeout", 10, 0, INT_MAX, "Seconds a shutdown waits for replicas."),
    Bool("repl-diskless-sync", True, "Send full resyncs without a file."),
    Integer(
        "repl-diskless-sync-delay", 5, 0, INT_MAX, "Seconds to wait for more replicas before one."
    ),
    Integer(
        "repl-diskless-sync-max-replicas",
        0,
        0,
        INT_MAX,
        "Replicas that end that wait; 0 for no number.",
    ),
]

LINKS: Final[list[Directive]] = [
    MasterAddress(
        "replicaof",
        (),
        "Host and port of the master to replicate.",
        aliases=("slaveof",),
        mutable=False,
        multiple=True,
    ),
    Text("masterauth", "", "Password to give to the master.", sensitive=True, absent_if_empty=True),
    Text(
        "masteruser", "", "User name to give to the master.", sensitive=True, absent_if_empty=True
    ),
    Bool(
        "replica-serve-stale-data",
        True,
        "Serve clients while the master is out of reach.",
        aliases=("slave-serve-stale-data",),
    ),
    Bool(
        "replica-read-only",
        True,
        "Refuse writes of clients on a replica.",
        aliases=("slave-read-only",),
    ),
    Bool(
        "replica-lazy-flush",
        False,
        "Free the old data set in the background after a full resync.",
        aliases=("slave-lazy-flush",),
    ),
    Bool(
        "replica-ignore-maxmemory",
        True,
        "Let a replica evict only what the master evicts.",
        aliases=("slave-ignore-maxmemory",),
    ),
    Integer(
        "replica-priority",
        100,
        0,
        INT_MAX,
        "Rank for sentinels that choose a replica to promote; 0 for never.",
        aliases=("slave-priority",),
    ),
    Bool("replica-announced", True, "Let sentinels list this replica."),
    Text(
        "replica-announce-ip",
        "",
        "Address to report to the master.",
        aliases=("slave-announce-ip",),
        absent_if_empty=True,
    ),
    Integer(
        "replica-announce-port",
        0,
        0,
        65535,
        "Port to report to the master.",
        aliases=("slave-announce-port",),
    ),
    Enum(
        "repl-diskless-load",
        "disabled",
        ("disabled", "on-empty-db", "swapdb"),
        "When a full resync is loaded without a file.",
        deny_loading=True,
    ),
    Bool(
        "replica-ignore-disk-write-errors",
        False,
        "Let a replica execute its master's writes although its disk fails, instead of ending.",
    ),
    Enum(
        "propagation-error-behavior",
        "ignore",
        ("ignore", "panic", "panic-on-replicas"),
        "Whether a replicated or logged command that fails ends the server.",
    ),
    Bool("rdb-del-sync-files", False, "Delete the snapshots that replication needed."),
    Text(
        "bind-source-addr",
        "",
        "Local address of connections that the server opens.",
        absent_if_empty=True,
    ),
]

SECTIONS: Final[list[tuple[str, list[Directive]]]] = [
    ("Replicas", MASTERS),
    ("Being a replica", LINKS),
]
