"""The directives of persistence that have a meaning here."""

from typing import Final

from node.config.checks import check_log_folder, check_log_name, check_snapshot_name
from node.config.directive import (
    INT_MAX,
    INT_MIN,
    Bool,
    Directive,
    Enum,
    Integer,
    Memory,
    Text,
)
from node.config.special import SavePoints
from node.config.syntax import INT64_MAX

SNAPSHOTS: Final[list[Directive]] = [
    SavePoints(
        "save",
        ("3600", "1", "300", "100", "60", "10000"),
        'Write a snapshot after so many seconds if so many changes were made; `save ""` for never.',
        multiple=True,
    ),
    Text(
        "dbfilename",
        "dump.rdb",
        "File name of the snapshot.",
        protected=True,
        check=check_snapshot_name,
    ),
    Bool("rdbcompression", True, "Compress strings in snapshots."),
    Bool("rdbchecksum", True, "End snapshots with a checksum and verify it.", mutable=False),
    Bool("rdb-save-incremental-fsync", True, "Flush a snapshot to disk while it is written."),
    Bool("stop-writes-on-bgsave-error", True, "Refuse writes after a snapshot failed."),
    Enum(
        "sanitize-dump-payload",
        "no",
        ("no", "yes", "clients"),
        "Check snapshots and RESTORE payloads in depth, which is done whatever is set.",
    ),
    Integer(
        "rdb-key-save-delay",
        0,
        INT_MIN,
        INT_MAX,
        "Microseconds to wait after each key of a snapshot, for tests.",
        hidden=True,
    ),
    Integer(
        "key-load-delay",
        0,
        INT_MIN,
        INT_MAX,
        "Microseconds to wait after each key that is loaded, for tests.",
        hidden=True,
    ),
]

APPEND_ONLY_FILE: Final[list[Directive]] = [
    Bool("appendonly", False, "Keep a log of all writes.", deny_loading=True),
    Text(
        "appendfilename",
        "appendonly.aof",
        "Base of the log's file names.",
        mutable=False,
        check=check_log_name,
    ),
    Text(
        "appenddirname",
        "appendonlydir",
        "Folder of the log's files, inside `dir`.",
        mutable=False,
        check=check_log_folder,
    ),
    Enum(
        "appendfsync",
        "everysec",
        ("everysec", "always", "no"),
        "When the log is flushed to disk: once a second, before each reply, or by the system.",
    ),
    Bool(
        "no-appendfsync-on-rewrite",
        False,
        "Do not flush the log while a snapshot or a rewrite is being written.",
    ),
    Integer(
        "auto-aof-rewrite-percentage",
        100,
        0,
        INT_MAX,
        "Growth in percent that rewrites the log; 0: only when asked to.",
    ),
    Memory(
        "auto-aof-rewrite-min-size",
        64 * 1024 * 1024,
        0,
        INT64_MAX,
        "Size of the log below which it is not rewritten.",
    ),
    Bool(
        "aof-load-truncated",
        True,
        "Cut off the end of a log that breaks off in the middle of a command, instead of refusing "
        "to start.",
    ),
    Bool("aof-use-rdb-preamble", True, "Write the base of the log as a snapshot."),
    Bool("aof-timestamp-enabled", False, "Write times into the log."),
    Bool("aof-rewrite-incremental-fsync", True, "Flush a rewritten log while it is written."),
    Bool("aof-disable-auto-gc", False, "Keep files of the log that are not needed."),
]

SECTIONS: Final[list[tuple[str, list[Directive]]]] = [
    ("Snapshots", SNAPSHOTS),
    ("Append-only file", APPEND_ONLY_FILE),
]
