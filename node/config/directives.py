"""The directives of a data server that have a meaning here, in sections as in the reference.

A component of its own (replication, persistence, cluster …) declares its directives where it
lives. Defaults and bounds are those of Redis 7.2.
"""

from typing import Final

from node.config import cluster, durability, replication, telemetry
from node.config.checks import check_shutdown_flags
from node.config.directive import (
    INT_MAX,
    INT_MIN,
    UINT_MAX,
    Bool,
    Directive,
    Enum,
    Flags,
    Integer,
    Memory,
    Octal,
    Text,
)
from node.config.special import (
    Addresses,
    Directory,
    KeyspaceEvents,
    OutputBufferLimits,
    Percentiles,
)
from node.config.syntax import INT64_MAX, UINT64_MAX
from node.values.collection import Limits

PERMISSIONS: Final = ("no", "yes", "local")
LOG_LEVELS: Final = ("debug", "verbose", "notice", "warning", "nothing")
SYSLOG_FACILITIES: Final = (
    "user",
    "local0",
    "local1",
    "local2",
    "local3",
    "local4",
    "local5",
    "local6",
    "local7",
)
EVICTION_POLICIES: Final = (
    "volatile-lru",
    "volatile-lfu",
    "volatile-random",
    "volatile-ttl",
    "allkeys-lru",
    "allkeys-lfu",
    "allkeys-random",
    "noeviction",
)
SHUTDOWN_FLAGS: Final = ("save", "nosave", "now", "force")

NETWORK: Final[list[Directive]] = [
    Addresses(
        "bind",
        ("*", "-::*"),
        "Addresses to listen on. One that starts with `-` may be missing; `*` and `::*` are all "
        "addresses of a family; an empty one means to listen on no address.",
        multiple=True,
    ),
    Integer("port", 6379, 0, 65535, "TCP port to listen on; 0 for none."),
    Text(
        "unixsocket",
        "",
        "Path of a Unix socket to listen on; empty for none.",
        mutable=False,
        absent_if_empty=True,
    ),
    Octal(
        "unixsocketperm",
        0,
        0,
        0o777,
        "File mode of the Unix socket; 0 leaves it to the umask.",
        mutable=False,
    ),
    Integer(
        "tcp-backlog",
        511,
        0,
        INT_MAX,
        "Connections the kernel queues until they are accepted.",
        mutable=False,
    ),
    Integer(
        "tcp-keepalive",
        300,
        0,
        INT_MAX,
        "Seconds between probes of a silent TCP connection; 0 for no probes.",
    ),
    Integer(
        "timeout", 0, 0, INT_MAX, "Seconds after which an idle client is disconnected; 0 for never."
    ),
    Integer("maxclients", 10000, 1, UINT_MAX, "Clients that may be connected at the same time."),
    Bool(
        "protected-mode",
        True,
        "Refuse clients from other machines while no password is set.",
    ),
    Memory(
        "proto-max-bulk-len",
        512 * 1024 * 1024,
        1024 * 1024,
        INT64_MAX,
        "Size of the largest single argument a client may send.",
    ),
    Memory(
        "client-query-buffer-limit",
        1024 * 1024 * 1024,
        1024 * 1024,
        INT64_MAX,
        "Bytes a client may have sent that are not executed yet; beyond, it is disconnected.",
    ),
    OutputBufferLimits(
        "client-output-buffer-limit",
        (
            *("normal", "0", "0", "0"),
            *("slave", str(256 * 1024 * 1024), str(64 * 1024 * 1024), "60"),
            *("pubsub", str(32 * 1024 * 1024), str(8 * 1024 * 1024), "60"),
        ),
        "Bytes of replies that may wait for a client of a class (normal, replica, pubsub) before "
        "it is disconnected: at once above the hard limit, after so many seconds above the soft "
        "one. 0 for no limit. A line sets the classes it names.",
        multiple=True,
    ),
]

SECURITY: Final[list[Directive]] = [
    Text(
        "requirepass",
        "",
        "Password of the default user; empty for none.",
        sensitive=True,
        absent_if_empty=True,
    ),
    Enum(
        "enable-protected-configs",
        "no",
        PERMISSIONS,
        "Whether CONFIG SET may change `dir` and `dbfilename`: never, always, or for clients on "
        "this machine.",
        mutable=False,
    ),
    Enum(
        "enable-debug-command",
        "no",
        PERMISSIONS,
        "Whether DEBUG is allowed: never, always, or for clients on this machine.",
        mutable=False,
    ),
]

PROCESS: Final[list[Directive]] = [
    Directory(
        "dir",
        "",
        "Working directory, where files without a folder are. Takes effect where it is read: "
        "relative paths of later `include` lines start there.",
        protected=True,
        deny_loading=True,
    ),
    Bool("daemonize", False, "Detach from the terminal and run in the background.", mutable=False),
    Text(
        "pidfile",
        "",
        "File that holds the process id while the server runs. Written when it is set or when "
        "`daemonize` is.",
        mutable=False,
        absent_if_empty=True,
    ),
    Enum(
        "supervised",
        "no",
        ("upstart", "systemd", "auto", "no"),
        "Tell a supervisor when the server is ready: upstart by SIGSTOP, systemd through its "
        "notify socket; auto looks at the environment. Rules out `daemonize`.",
        mutable=False,
    ),
    Integer(
        "databases", 16, 1, INT_MAX, "Number of databases; SELECT takes 0 up to it.", mutable=False
    ),
    Integer(
        "hz",
        10,
        0,
        INT_MAX,
        "Times a second that background work (expiry, time-outs) runs.",
        clamp=(1, 500),
    ),
    Bool("dynamic-hz", True, "Raise `hz` while very many clients are connected."),
    Flags(
        "shutdown-on-sigint",
        "default",
        SHUTDOWN_FLAGS,
        "Options of the SHUTDOWN that SIGINT causes.",
        check=check_shutdown_flags,
    ),
    Flags(
        "shutdown-on-sigterm",
        "default",
        SHUTDOWN_FLAGS,
        "Options of the SHUTDOWN that SIGTERM causes.",
        check=check_shutdown_flags,
    ),
]

LOGGING: Final[list[Directive]] = [
    Enum("loglevel", "notice", LOG_LEVELS, "The least important messages that are still logged."),
    Text(
        "logfile",
        "",
        "File to append log lines to, opened for each line, so that it may be moved away at any "
        "time; empty for standard output.",
        mutable=False,
    ),
    Bool("syslog-enabled", False, "Send log lines to syslog too.", mutable=False),
    Text("syslog-ident", "redis", "Name of the program in syslog.", mutable=False),
    Enum(
        "syslog-facility",
        "local0",
        SYSLOG_FACILITIES,
        "Facility of the messages in syslog.",
        mutable=False,
    ),
    Bool(
        "crash-log-enabled",
        True,
        "Log a report, with the place in the program, when the server crashes.",
    ),
    Bool(
        "always-show-logo",
        False,
        "Print the banner at start even where the log is no terminal.",
        mutable=False,
    ),
]

OBSERVATION: Final[list[Directive]] = [
    Integer(
        "slowlog-log-slower-than",
        10000,
        -1,
        INT64_MAX,
        "Microseconds from which on a command enters SLOWLOG; 0 for all, -1 for none.",
    ),
    Integer("slowlog-max-len", 128, 0, INT64_MAX, "Entries that SLOWLOG keeps."),
    Integer(
        "latency-monitor-threshold",
        0,
        0,
        INT64_MAX,
        "Milliseconds from which on an event enters LATENCY; 0 for none.",
    ),
    Bool("latency-tracking", True, "Keep a histogram of execution times for each command."),
    Percentiles(
        "latency-tracking-info-percentiles",
        ("50", "99", "99.9"),
        "Percentiles of execution times in INFO latencystats.",
        multiple=True,
    ),
    KeyspaceEvents(
        "notify-keyspace-events",
        "",
        "Changes of keys to publish: K and/or E choose the channels, the rest the kinds of events.",
    ),
]

MEMORY: Final[list[Directive]] = [
    Memory(
        "maxmemory",
        0,
        0,
        UINT64_MAX,
        "Bytes the data set may take before keys are evicted or writes refused; 0 for no limit.",
    ),
    Enum(
        "maxmemory-policy",
        "noeviction",
        EVICTION_POLICIES,
        "Which keys to evict at `maxmemory`: among all or those with an expiry, by recency, "
        "frequency, at random or by time to live; or none.",
    ),
    Integer("maxmemory-samples", 5, 1, INT_MAX, "Keys looked at for each choice of one to evict."),
    Integer(
        "maxmemory-eviction-tenacity",
        10,
        0,
        100,
        "How long eviction may hold up other clients: 0 shortest, 100 without bound.",
    ),
    Memory(
        "maxmemory-clients",
        0,
        0,
        INT64_MAX,
        "Bytes that the buffers of all clients may take before the largest clients are "
        "disconnected, or a share of `maxmemory`; 0 for no limit.",
        percent=True,
    ),
    Integer(
        "lfu-log-factor", 10, 0, INT_MAX, "How slowly the access counter of a key grows (LFU)."
    ),
    Integer(
        "lfu-decay-time",
        1,
        0,
        INT_MAX,
        "Minutes after which the access counter of a key drops by one (LFU); 0 for never.",
    ),
    Integer(
        "active-expire-effort", 1, 1, 10, "How hard the server looks for expired keys unasked."
    ),
    Bool("lazyfree-lazy-eviction", False, "Free evicted values in the background."),
    Bool("lazyfree-lazy-expire", False, "Free expired values in the background."),
    Bool(
        "lazyfree-lazy-server-del",
        False,
        "Free values that commands such as RENAME replace in the background.",
    ),
    Bool("lazyfree-lazy-user-del", False, "Let DEL do what UNLINK does."),
    Bool("lazyfree-lazy-user-flush", False, "Let FLUSHDB and FLUSHALL default to ASYNC."),
]

# The thresholds as they are where nobody configures them.
_LIMITS: Final = Limits()

ENCODINGS: Final[list[Directive]] = [
    Integer(
        "hash-max-listpack-entries",
        _LIMITS.hash_max_listpack_entries,
        0,
        INT64_MAX,
        "Fields up to which a hash has the encoding listpack.",
        aliases=("hash-max-ziplist-entries",),
    ),
    Memory(
        "hash-max-listpack-value",
        _LIMITS.hash_max_listpack_value,
        0,
        INT64_MAX,
        "Bytes of a field or value up to which a hash has the encoding listpack.",
        aliases=("hash-max-ziplist-value",),
    ),
    Integer(
        "list-max-listpack-size",
        _LIMITS.list_max_listpack_size,
        INT_MIN,
        INT_MAX,
        "Up to which size a list has the encoding listpack: positive for a number of elements, -1 "
        "to -5 for 4, 8, 16, 32 or 64 kB.",
        aliases=("list-max-ziplist-size",),
    ),
    Integer(
        "set-max-intset-entries",
        _LIMITS.set_max_intset_entries,
        0,
        INT64_MAX,
        "Members up to which a set of integers has the encoding intset.",
    ),
    Integer(
        "set-max-listpack-entries",
        _LIMITS.set_max_listpack_entries,
        0,
        INT64_MAX,
        "Members up to which a set has the encoding listpack.",
    ),
    Integer(
        "set-max-listpack-value",
        _LIMITS.set_max_listpack_value,
        0,
        INT64_MAX,
        "Bytes of a member up to which a set has the encoding listpack.",
    ),
    Integer(
        "zset-max-listpack-entries",
        _LIMITS.zset_max_listpack_entries,
        0,
        INT64_MAX,
        "Members up to which a sorted set has the encoding listpack.",
        aliases=("zset-max-ziplist-entries",),
    ),
    Memory(
        "zset-max-listpack-value",
        _LIMITS.zset_max_listpack_value,
        0,
        INT64_MAX,
        "Bytes of a member up to which a sorted set has the encoding listpack.",
        aliases=("zset-max-ziplist-value",),
    ),
]

SECTIONS: Final[list[tuple[str, list[Directive]]]] = [
    ("Network and clients", NETWORK),
    ("Security", SECURITY),
    ("Process", PROCESS),
    ("Log", LOGGING),
    ("Observation", OBSERVATION),
    *telemetry.SECTIONS,
    ("Memory and expiry", MEMORY),
    ("Encodings", ENCODINGS),
    *durability.SECTIONS,
    *replication.SECTIONS,
    *cluster.SECTIONS,
]
