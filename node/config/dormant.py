"""Directives that a Redis 7.2 server knows and on which nothing here acts.

They are accepted, kept, checked against the same bounds, reported by CONFIG GET and written by
CONFIG REWRITE, so that config files and tools written for Redis work. The server says at start
which of them a config sets. A directive leaves this table for the component that gives it a
meaning.
"""

from typing import Final

from node.config.checks import (
    check_defragmentation,
    check_title_template,
)
from node.config.directive import (
    INT_MAX,
    UINT_MAX,
    Bool,
    Directive,
    Enum,
    Integer,
    Memory,
    Text,
)
from node.config.special import OomScores
from node.config.syntax import INT64_MAX


def _bool(
    name: str,
    default: bool,
    help: str,
    *,
    alias: str = "",
    mutable: bool = True,
    hidden: bool = False,
    deny_loading: bool = False,
) -> Directive:
    return Bool(
        name,
        default,
        help,
        aliases=(alias,) if alias else (),
        mutable=mutable,
        hidden=hidden,
        deny_loading=deny_loading,
        meaning=False,
    )


def _int(
    name: str,
    default: int,
    lower: int,
    upper: int,
    help: str,
    *,
    alias: str = "",
    mutable: bool = True,
    hidden: bool = False,
) -> Directive:
    return Integer(
        name,
        default,
        lower,
        upper,
        help,
        aliases=(alias,) if alias else (),
        mutable=mutable,
        hidden=hidden,
        meaning=False,
    )


def _memory(
    name: str,
    default: int,
    lower: int,
    upper: int,
    help: str,
) -> Directive:
    return Memory(name, default, lower, upper, help, meaning=False)


def _text(
    name: str,
    help: str,
    *,
    alias: str = "",
    mutable: bool = True,
    hidden: bool = False,
    sensitive: bool = False,
) -> Directive:
    return Text(
        name,
        "",
        help,
        aliases=(alias,) if alias else (),
        mutable=mutable,
        hidden=hidden,
        sensitive=sensitive,
        meaning=False,
        absent_if_empty=True,
    )


def _enum(
    name: str,
    default: str,
    choices: tuple[str, ...],
    help: str,
    *,
    mutable: bool = True,
    deny_loading: bool = False,
) -> Directive:
    return Enum(
        name, default, choices, help, mutable=mutable, deny_loading=deny_loading, meaning=False
    )


SNAPSHOTS: Final[list[Directive]] = [
    _int(
        "loading-process-events-interval-bytes",
        2 * 1024 * 1024,
        1024,
        INT_MAX,
        "Bytes to load before clients are served in between.",
        hidden=True,
    ),
]

TLS: Final[list[Directive]] = [
    _int("tls-port", 0, 0, 65535, "Port for TLS connections; 0 for none."),
    _text("tls-cert-file", "Certificate of the server."),
    _text("tls-key-file", "Its private key."),
    _text("tls-key-file-pass", "Passphrase of that key.", sensitive=True),
    _text("tls-client-cert-file", "Certificate for connections that the server opens."),
    _text("tls-client-key-file", "Its private key."),
    _text("tls-client-key-file-pass", "Passphrase of that key.", sensitive=True),
    _text("tls-dh-params-file", "Diffie-Hellman parameters."),
    _text("tls-ca-cert-file", "Certificates that are trusted."),
    _text("tls-ca-cert-dir", "Folder of certificates that are trusted."),
    _enum(
        "tls-auth-clients",
        "yes",
        ("no", "yes", "optional"),
        "Whether clients have to show a certificate.",
    ),
    _bool("tls-replication", False, "Use TLS to the master."),
    _bool("tls-cluster", False, "Use TLS on the cluster bus."),
    _text("tls-protocols", "Versions of TLS that are allowed."),
    _text("tls-ciphers", "Ciphers for TLS 1.2."),
    _text("tls-ciphersuites", "Ciphers for TLS 1.3."),
    _bool("tls-prefer-server-ciphers", False, "Choose the cipher by the server's order."),
    _bool("tls-session-caching", True, "Resume TLS sessions."),
    _int("tls-session-cache-size", 20 * 1024, 0, INT_MAX, "Sessions that are kept."),
    _int("tls-session-cache-timeout", 300, 0, INT_MAX, "Seconds for which they are kept."),
]

ACCESS_AND_TRACKING: Final[list[Directive]] = [
    Text("aclfile", "", "File with ACL users.", mutable=False, meaning=False),
    _enum(
        "acl-pubsub-default",
        "resetchannels",
        ("allchannels", "resetchannels"),
        "Channels that a new ACL user may use.",
    ),
    _int("acllog-max-len", 128, 0, INT64_MAX, "Entries that ACL LOG keeps."),
    _int(
        "tracking-table-max-keys",
        1000000,
        0,
        INT64_MAX,
        "Keys remembered for client side caching.",
    ),
    _enum(
        "enable-module-command",
        "no",
        ("no", "yes", "local"),
        "Whether MODULE is allowed.",
        mutable=False,
    ),
]

TYPES_AND_SCRIPTS: Final[list[Directive]] = [
    _int(
        "busy-reply-threshold",
        5000,
        0,
        INT64_MAX,
        "Milliseconds after which a script counts as busy.",
        alias="lua-time-limit",
    ),
    _bool(
        "lua-enable-deprecated-api",
        False,
        "Functions of Lua that scripts should not use any more.",
        mutable=False,
        hidden=True,
    ),
    _int("list-compress-depth", 0, 0, INT_MAX, "Nodes at the ends of a list never compressed."),
    _memory("hll-sparse-max-bytes", 3000, 0, INT64_MAX, "Size of a sparse HyperLogLog."),
    _memory("stream-node-max-bytes", 4096, 0, INT64_MAX, "Bytes in one node of a stream."),
    _int("stream-node-max-entries", 100, 0, INT64_MAX, "Entries in one node of a stream."),
    Text("locale-collate", "", "Locale for SORT ALPHA; bytes are compared here.", meaning=False),
]

PROCESS: Final[list[Directive]] = [
    _bool("set-proc-title", True, "Show the address in the process list.", mutable=False),
    Text(
        "proc-title-template",
        "{title} {listen-addr} {server-mode}",
        "How the process is shown there.",
        meaning=False,
        check=check_title_template,
    ),
    _int("socket-mark-id", 0, 0, UINT_MAX, "Mark of listening sockets.", mutable=False),
    _int("io-threads", 1, 1, 128, "Threads for reading and writing.", mutable=False),
    _bool("io-threads-do-reads", False, "Read in those threads too.", mutable=False),
    _text("server-cpulist", "CPUs for the server.", alias="server_cpulist", mutable=False),
    _text("bio-cpulist", "CPUs for background threads.", alias="bio_cpulist", mutable=False),
    _text(
        "aof-rewrite-cpulist",
        "CPUs for rewriting the log.",
        alias="aof_rewrite_cpulist",
        mutable=False,
    ),
    _text("bgsave-cpulist", "CPUs for snapshots.", alias="bgsave_cpulist", mutable=False),
    Enum(
        "oom-score-adj",
        "no",
        ("no", "yes", "absolute"),
        "Tell the kernel whom to kill first when memory runs out.",
        meaning=False,
        synonyms=(("relative", "yes"),),
        listed=("no", "yes", "relative", "absolute"),
    ),
    OomScores(
        "oom-score-adj-values",
        ("0", "200", "800"),
        "Scores for a master, a replica and a background child.",
        multiple=True,
        meaning=False,
    ),
    _bool("disable-thp", True, "Switch transparent huge pages off.", mutable=False),
    Text("ignore-warnings", "", "Warnings about the system to pass over.", meaning=False),
    _bool("activerehashing", True, "Spend time on rehashing unasked."),
    _bool("jemalloc-bg-thread", True, "Let the allocator purge in a thread."),
    Bool(
        "activedefrag",
        False,
        "Defragment memory while running; cannot be switched on.",
        meaning=False,
        check=check_defragmentation,
    ),
    _memory(
        "active-defrag-ignore-bytes",
        100 * 1024 * 1024,
        1,
        INT64_MAX,
        "Waste below which nothing is defragmented.",
    ),
    _int("active-defrag-threshold-lower", 10, 0, 1000, "Percent of waste to start at."),
    _int("active-defrag-threshold-upper", 100, 0, 1000, "Percent of waste for full effort."),
    _int("active-defrag-cycle-min", 1, 1, 99, "Least effort in percent of CPU time."),
    _int("active-defrag-cycle-max", 25, 1, 99, "Full effort in percent of CPU time."),
    _int(
        "active-defrag-max-scan-fields",
        1000,
        1,
        INT64_MAX,
        "Fields of a value that are scanned at once.",
    ),
    _bool("crash-memcheck-enabled", True, "Test memory when the server crashes."),
    _bool("use-exit-on-panic", False, "Exit instead of abort on a panic.", hidden=True),
    _int("watchdog-period", 0, 0, INT_MAX, "Milliseconds that trigger the watchdog.", hidden=True),
    _text("debug-context", "Text to show in crash reports.", hidden=True),
]

SECTIONS: Final[list[tuple[str, list[Directive]]]] = [
    ("Snapshots", SNAPSHOTS),
    ("TLS", TLS),
    ("Access control and tracking", ACCESS_AND_TRACKING),
    ("Types and scripts", TYPES_AND_SCRIPTS),
    ("Process and allocator", PROCESS),
]
