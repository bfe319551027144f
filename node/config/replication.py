"""The directives of replication that have a meaning here."""

from typing import Final

from node.config.directive import INT_MAX, Bool, Directive, Integer, Memory
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

SECTIONS: Final[list[tuple[str, list[Directive]]]] = [("Replicas", MASTERS)]
