"""Writes the base of a log: all data as they are, as a snapshot or as the commands that make them.

As commands: one per key, or several of at most 64 elements each, then PEXPIREAT where the key has a
deadline; as ``rewriteAppendOnlyFileRio`` of Redis (aof.c) does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

from node.config import Config
from node.files import Files, Sink
from node.key_table import NEVER, Value
from node.keyspace import Keyspace
from node.log import Log
from node.persistence.dataset import STEP, SYNC_PORTION, describe_origin, write_dataset
from node.persistence.rdb_writer import RdbWriter
from node.resp import encode_request
from node.values.hash import Hash
from node.values.list import List
from node.values.set import Set
from node.values.sorted_set import SortedSet

ELEMENTS: Final = 64
"""Elements per command (AOF_REWRITE_ITEMS_PER_CMD)."""
BUFFER: Final = 65536
"""Bytes that are collected before they are written."""


def encode_timestamp(seconds: int) -> bytes:
    """A line of the log that says when what follows it happened, in Unix seconds."""
    return b"#TS:%d\r\n" % seconds


def encode_key(key: bytes, value: Value) -> Iterator[bytes]:
    """Requests, encoded, that make the key anew."""
    if isinstance(value, (bytes, bytearray)):
        yield encode_request([b"SET", key, bytes(value)])
    elif type(value) is List:
        yield from _encode(b"RPUSH", key, ([item] for item in value))
    elif type(value) is Set:
        yield from _encode(b"SADD", key, ([member] for member in value.members()))
    elif type(value) is SortedSet:
        yield from _encode(
            b"ZADD", key, ([b"%.17g" % score, member] for member, score in value.items())
        )
    elif type(value) is Hash:
        yield from _encode(b"HMSET", key, ([field, text] for field, text in value.items()))
    else:
        raise AssertionError(type(value))


def _encode(name: bytes, key: bytes, elements: Iterable[list[bytes]]) -> Iterator[bytes]:
    left = iter(elements)
    while batch := list(islice(left, ELEMENTS)):
        argv = [name, key]
        for words in batch:
            argv += words
        yield encode_request(argv)


def write_commands(
    write: Callable[[bytes], object],
    keyspace: Keyspace,
    step: Callable[[int], None],
    timestamp: int | None,
) -> None:
    """Write all databases.

    ``timestamp`` is written first, in Unix seconds, if given. ``step`` is called every STEP
    keys with the number of keys written. Raises what ``write`` raises.
    """
    parts: list[bytes] = []
    held = 0
    written = 0
    if timestamp is not None:
        parts.append(encode_timestamp(timestamp))
    for db in keyspace.databases:
        if not db.count:
            continue
        parts.append(encode_request([b"SELECT", b"%d" % db.index]))
        for entry in db.table.slots:
            while entry is not None:
                for wire in encode_key(entry.key, entry.value):
                    parts.append(wire)
                    held += len(wire)
                    if held >= BUFFER:
                        write(b"".join(parts))
                        parts.clear()
                        held = 0
                if entry.deadline != NEVER:
                    wire = encode_request([b"PEXPIREAT", entry.key, b"%d" % entry.deadline])
                    parts.append(wire)
                    held += len(wire)
                written += 1
                if written % STEP == 0:
                    step(written)
                entry = entry.next
    step(written)
    if parts:
        write(b"".join(parts))


def write_base(
    files: Files,
    path: str,
    config: Config,
    log: Log,
    keyspace: Keyspace,
    now: float,
    snapshot: bool,
    functions: Sequence[bytes],
    step: Callable[[int], None],
) -> bool:
    """Write the file ``path``; False when that failed, which is logged, and the file is gone.

    ``now`` is in Unix seconds, ``snapshot`` whether it is to be one; then it has the libraries of
    ``functions`` too. ``step`` as for :func:`write_commands`.
    """
    portion = SYNC_PORTION if config.boolean("aof-rewrite-incremental-fsync") else 0
    try:
        sink = Sink(files, path, portion)
    except OSError as error:
        log.warning(f"Opening the temp file for AOF rewrite: {error.strerror}")
        return False
    done = False
    try:
        if snapshot:
            writer = RdbWriter(
                sink.write, config.boolean("rdbcompression"), config.boolean("rdbchecksum")
            )
            writer.begin(describe_origin(keyspace, now, base=True))
            for library in functions:
                writer.function(library)
            write_dataset(writer, keyspace, config.text("maxmemory-policy"), step)
            writer.end()
        else:
            stamped = config.boolean("aof-timestamp-enabled")
            write_commands(sink.write, keyspace, step, int(now) if stamped else None)
        sink.finish()
        done = True
    except OSError as error:
        log.warning(f"Write error writing append only file on disk: {error.strerror}")
    finally:
        if not done:
            sink.abandon()
            with contextlib.suppress(OSError):
                files.remove(path)
    return done
