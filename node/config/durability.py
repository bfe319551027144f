"""The directives of persistence that have a meaning here."""

from typing import Final

from node.config.checks import check_snapshot_name
from node.config.directive import INT_MAX, INT_MIN, Bool, Directive, Enum, Integer, Text
from node.config.special import SavePoints

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

SECTIONS: Final[list[tuple[str, list[Directive]]]] = [("Snapshots", SNAPSHOTS)]
