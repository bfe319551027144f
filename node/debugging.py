"""DEBUG: for tests and for people who look under the hood.

Only what has a meaning here; replies and texts are those of ``debugCommand`` in Redis's debug.c.
Whether the command is allowed says ``enable-debug-command``.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from node.command import Command, Group
from node.commands.arguments import (
    NO_SUCH_KEY,
    NOT_POSITIVE,
    help_reply,
    integer,
    positive_integer,
    subcommand_error,
)
from node.component import Component
from node.config.rewriting import rewrite_file
from node.config.syntax import decode, parse_memory
from node.connection import is_local
from node.key_table import NEVER, Entry
from node.keyspace import Database
from node.resp import (
    OK,
    BigNumber,
    Encoded,
    Error,
    Map,
    Push,
    Reply,
    ReplyError,
    SetReply,
    Status,
    Verbatim,
    encode,
)
from node.session import Session
from node.values.collection import Collection
from node.values.digest import SIZE, dataset_digest, key_digest, value_digest
from node.values.hash import Hash
from node.values.list import List
from node.values.pattern import matches
from node.values.set import Set
from node.values.sorted_set import SortedSet
from node.values.string import encoding
from node.values.table import Table

if TYPE_CHECKING:
    from node.server import Server

GROUP: Final = Group("server")

HELP: Final = (
    "ASSERT",
    "    End the process as if by a failed assertion.",
    "CHANGE-REPL-ID",
    "    Begin a history of replication that no replica can continue.",
    "CLIENT-EVICTION",
    "    Tell how many clients use how much memory, by powers of two.",
    "CONFIG-REWRITE-FORCE-ALL",
    "    As CONFIG REWRITE, but write every directive, also those at their defaults.",
    "DIGEST",
    "    Compute a hexadecimal digest of all data.",
    "DIGEST-VALUE <key> [<key> ...]",
    "    Compute a hexadecimal digest of each of the values.",
    "ERROR <string>",
    "    Reply with an error that has the text <string>.",
    "HTSTATS <dbid> [full]",
    "    Tell how the keys of a database lie in its table.",
    "HTSTATS-KEY <key> [full]",
    "    The same for a value that is a table.",
    "LOG <message>",
    "    Write <message> into the server's log.",
    "OBJECT <key>",
    "    Tell about the object that is the value of <key>.",
    "OOM",
    "    End the process as if there were no more memory.",
    "PANIC",
    "    End the process as if by a bug.",
    "PAUSE-CRON <0|1>",
    "    Let nothing happen periodically (1), or again (0).",
    "POPULATE <count> [<prefix>] [<size>]",
    "    Create <count> strings called <prefix>:<number>, 'key' being the usual prefix, of <size>",
    "    bytes each. They are not replicated.",
    "PROTOCOL <type>",
    "    Reply with a value of a type: string, integer, double, bignum, null, array, set, map,",
    "    attrib, push, verbatim, true, false.",
    "QUICKLIST-PACKED-THRESHOLD <size>",
    "    Accepted without effect: lists have no plain nodes here.",
    "RELOAD [option ...]",
    "    Save the data, forget them and load them again. Options:",
    "    * MERGE: keys of the file take the place of those that are there.",
    "    * NOFLUSH: what is there stays; without MERGE, no key of the file may be there.",
    "    * NOSAVE: load the file as it is.",
    "REPLYBUFFER PEAK-RESET-TIME <NEVER|RESET|time>",
    "    Accepted without effect: reply buffers have no fixed part here.",
    "REPLYBUFFER RESIZING <0|1>",
    "    Likewise.",
    "SDSLEN <key>",
    "    Tell how long the key and its value, a string, are, and what they take.",
    "SEGFAULT",
    "    End the process by SIGSEGV.",
    "SET-ACTIVE-EXPIRE <0|1>",
    "    Expire keys only when they are accessed (0), or unasked too (1).",
    "SLEEP <seconds>",
    "    Stop the server for a time; fractions are allowed.",
    "STRINGMATCH-LEN <pattern> <string>",
    "    Tell whether a glob pattern matches: 1 or 0.",
    "STRUCTSIZE",
    "    Tell how many bytes the server's own objects take.",
)

NOT_ALLOWED: Final = (
    b'ERR DEBUG command not allowed. If the enable-debug-command option is set to "local", you '
    b"can run it from a local connection, otherwise you need to set this option in the "
    b"configuration file, and then restart the server."
)
NO_TABLE: Final = (
    b"ERR The value stored at the specified key is not represented using an hash table"
)
BAD_TYPE: Final = (
    b"ERR Wrong protocol type name. Please use one of the following: "
    b"string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false"
)
LARGEST_THRESHOLD: Final = 0xFFFFFFFF - (1 << 20)

_FLOAT: Final = re.compile(rb"\s*([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)")
_INTEGER: Final = re.compile(rb"\s*([+-]?[0-9]+)")

Subcommand = Callable[[Session, list[bytes]], Reply]


class Debugging(Component):
    """The DEBUG command."""

    def __init__(self, server: Server) -> None:
        super().__init__(server.engine)
        self._server = server
        self._allowed = server.config.text("enable-debug-command")
        if self._allowed != "yes":
            server.engine.protection = self._protect
        # Name -> least and most arguments (with DEBUG and the name), handler.
        self._subcommands: dict[bytes, tuple[int, int, Subcommand]] = {
            b"assert": (2, 2, self._crash),
            b"client-eviction": (2, 2, self._client_eviction),
            b"config-rewrite-force-all": (2, 2, self._rewrite_all),
            b"digest": (2, 2, self._digest),
            b"digest-value": (2, sys.maxsize, self._digest_values),
            b"error": (3, 3, self._error),
            b"help": (2, 2, self._help),
            b"htstats": (3, 4, self._table_of_database),
            b"htstats-key": (3, 4, self._table_of_value),
            b"log": (3, 3, self._log),
            b"oom": (2, 2, self._crash),
            b"panic": (2, 2, self._crash),
            b"pause-cron": (3, 3, self._pause_cron),
            b"populate": (3, 5, self._populate),
            b"protocol": (3, 3, self._protocol),
            b"quicklist-packed-threshold": (3, 3, self._packed_threshold),
            b"replybuffer": (4, 4, self._reply_buffer),
            b"sdslen": (3, 3, self._string_length),
            b"segfault": (2, 2, self._crash),
            b"set-active-expire": (3, 3, self._set_active_expire),
            b"sleep": (3, 3, self._sleep),
            b"stringmatch-len": (4, 4, self._match),
            b"structsize": (2, 2, self._sizes),
        }

    def groups(self) -> Sequence[Group]:
        return (GROUP,)

    def add(self, name: bytes, least: int, most: int, handler: Subcommand) -> None:
        """Take in another component's subcommand, with its least and most arguments."""
        self._subcommands[name] = (least, most, handler)

    def _protect(self, session: Session, command: Command, argv: list[bytes]) -> Reply:
        """The refusal of those who may not, which comes before anything else, MULTI's queue too."""
        return None if self._allowed == "local" and is_local(session) else Error(NOT_ALLOWED)

    @GROUP.command(
        "debug",
        -2,
        "admin noscript loading stale protected",
        since="1.0.0",
        complexity="Depends on subcommand.",
        summary="Holds the commands for debugging.",
        doc_flags=["syscmd"],
    )
    def debug(self, ctx: Session, argv: list[bytes]) -> Reply:
        """Run a subcommand."""
        found = self._subcommands.get(argv[1].lower())
        if found is None or not found[0] <= len(argv) <= found[1]:
            raise subcommand_error(argv)
        return found[2](ctx, argv)

    def _help(self, ctx: Session, argv: list[bytes]) -> Reply:
        return help_reply("debug", HELP)

    # Time, log, replies.

    def _sleep(self, ctx: Session, argv: list[bytes]) -> Reply:
        match = _FLOAT.match(argv[2])
        seconds = float(match[1]) if match is not None else 0.0
        if seconds > 0:
            self._server.sleep(seconds)
        return OK

    def _set_active_expire(self, ctx: Session, argv: list[bytes]) -> Reply:
        self.engine.keyspace.active_expiry = _leading_integer(argv[2]) != 0
        return OK

    def _pause_cron(self, ctx: Session, argv: list[bytes]) -> Reply:
        self.engine.cron_paused = _leading_integer(argv[2]) != 0
        return OK

    def _log(self, ctx: Session, argv: list[bytes]) -> Reply:
        self.engine.log.warning(f"DEBUG LOG: {argv[2].decode(errors='surrogateescape')}")
        return OK

    def _error(self, ctx: Session, argv: list[bytes]) -> Reply:
        raise ReplyError(argv[2])

    def _protocol(self, ctx: Session, argv: list[bytes]) -> Reply:
        kind = argv[2].lower()
        if kind == b"attrib":
            wire = encode(b"Some real reply following the attribute", ctx.protocol)
            if ctx.protocol == 3:
                named = encode(b"key-popularity", 3) + encode([b"key:123", 90], 3)
                wire = b"|1\r\n" + named + wire
            return Encoded(wire)
        if kind == b"push":
            if ctx.protocol == 2:
                raise ReplyError(b"ERR RESP2 is not supported by this command")
            push = encode(Push([b"server-cpu-usage", 42]), 3)
            return Encoded(push + encode(b"Some real reply following the push reply", 3))
        samples: dict[bytes, Reply] = {
            b"string": b"Hello World",
            b"integer": 12345,
            b"double": 3.141,
            b"bignum": BigNumber(b"1234567999999999999999999999999999999"),
            b"null": None,
            b"array": [0, 1, 2],
            b"set": SetReply([0, 1, 2]),
            b"map": Map([0, False, 1, True, 2, False]),
            b"verbatim": Verbatim(b"This is a verbatim\nstring"),
            b"true": True,
            b"false": False,
        }
        if kind not in samples:
            raise ReplyError(BAD_TYPE)
        return samples[kind]

    def _match(self, ctx: Session, argv: list[bytes]) -> Reply:
        return int(matches(argv[2], argv[3]))

    def _packed_threshold(self, ctx: Session, argv: list[bytes]) -> Reply:
        size = parse_memory(decode(argv[2]))
        if size is None or not 0 <= size <= LARGEST_THRESHOLD:
            raise ReplyError(
                b"ERR argument must be a memory value bigger than 1 and smaller than 4gb"
            )
        return OK

    def _reply_buffer(self, ctx: Session, argv: list[bytes]) -> Reply:
        what = argv[2].lower()
        if what == b"peak-reset-time":
            if argv[3].lower() not in (b"never", b"reset"):
                integer(argv[3])
        elif what != b"resizing":
            raise subcommand_error(argv)
        return OK

    def _rewrite_all(self, ctx: Session, argv: list[bytes]) -> Reply:
        config = self.engine.config
        if not config.file:
            raise ReplyError(b"ERR The server is running without a config file")
        try:
            rewrite_file(config, everything=True)
        except OSError as error:
            reason = (error.strerror or str(error)).encode()
            raise ReplyError(b"ERR CONFIG-REWRITE-FORCE-ALL failed: " + reason) from None
        return OK

    def _crash(self, ctx: Session, argv: list[bytes]) -> Reply:
        """End the process at once, the hard way; what is not saved is lost."""
        name = argv[1].decode().upper()
        self.engine.log.warning(f"DEBUG {name} called: the process ends here, by a signal")
        os.kill(os.getpid(), signal.SIGSEGV if name == "SEGFAULT" else signal.SIGABRT)
        return OK

    # Data.

    def _digest(self, ctx: Session, argv: list[bytes]) -> Reply:
        databases = self.engine.keyspace.databases
        digest = dataset_digest([(db.index, _key_digests(db)) for db in databases if db.count])
        return Status(digest.hex().encode())

    def _digest_values(self, ctx: Session, argv: list[bytes]) -> Reply:
        digests: list[Reply] = []
        for name in argv[2:]:
            value = ctx.db.stored(name)
            digest = bytes(SIZE)
            if value is not None:
                digest = value_digest(value, ctx.db.deadline(name) is not None)
            digests.append(Status(digest.hex().encode()))
        return digests

    def _populate(self, ctx: Session, argv: list[bytes]) -> Reply:
        count = positive_integer(argv[2], NOT_POSITIVE)
        prefix = argv[3].partition(b"\0")[0] if len(argv) > 3 else b"key"
        size = positive_integer(argv[4], NOT_POSITIVE) if len(argv) > 4 else 0
        db = ctx.db
        for number in range(count):
            name = (b"%b:%d" % (prefix, number))[:127]
            if db.find_for_write(name) is None:
                value = b"value:%d" % number
                db.put(name, value[:size].ljust(size, b"\0") if size else value)
                db.changed(name, None, 0, b"", 0)
        return OK

    def _string_length(self, ctx: Session, argv: list[bytes]) -> Reply:
        name = argv[2]
        value = ctx.db.stored(name)
        if value is None:
            raise ReplyError(NO_SUCH_KEY)
        if isinstance(value, Collection) or encoding(value) == "int":
            raise ReplyError(b"ERR Not an sds encoded string.")
        spare = max(0, sys.getsizeof(value) - sys.getsizeof(type(value)()) - len(value))
        return Status(
            b"key_sds_len:%d, key_sds_avail:0, key_zmalloc: %d, "
            b"val_sds_len:%d, val_sds_avail:%d, val_zmalloc: %d"
            % (len(name), sys.getsizeof(name), len(value), spare, sys.getsizeof(value))
        )

    def _table_of_database(self, ctx: Session, argv: list[bytes]) -> Reply:
        number = integer(argv[2])
        databases = self.engine.keyspace.databases
        if not 0 <= number < len(databases):
            raise ReplyError(b"ERR Out of range database")
        table = databases[number].table
        lengths = [len(table.keys_at(i)) for i in range(table.size)]
        text = "[Dictionary HT]\n" + describe_table(lengths)
        # These are in a list, which has no empty place.
        text += "[Expires HT]\n" + describe_table([1] * len(table.timed))
        return Verbatim(text.encode())

    def _table_of_value(self, ctx: Session, argv: list[bytes]) -> Reply:
        value = ctx.db.stored(argv[2])
        if value is None:
            raise ReplyError(NO_SUCH_KEY)
        if isinstance(value, (Hash, Set, SortedSet)) and value.encoding() in (
            "hashtable",
            "skiplist",
        ):
            if isinstance(value, Hash):
                table: object = value.fields
            elif isinstance(value, Set):
                table = value.elements
            else:
                table = value.scores
            if isinstance(table, Table):
                sizes = [len(bucket) for bucket in table.buckets]
            else:
                sizes = [len(value)]
            return Verbatim(describe_table(sizes).encode())
        raise ReplyError(NO_TABLE)

    # The server.

    def _client_eviction(self, ctx: Session, argv: list[bytes]) -> Reply:
        if not self.engine.config.integer("maxmemory-clients"):
            raise ReplyError(b"ERR maxmemory-clients is disabled.")
        found: dict[int, list[int]] = {}
        for session in self.engine.sessions.values():
            size = session.out_size + session.query_size + session.queue_memory
            found.setdefault(size.bit_length(), []).append(size)
        lines = [
            f"bucket {power}: below {1 << power} bytes, {len(sizes)} clients, {sum(sizes)} bytes\n"
            for power, sizes in sorted(found.items())
        ]
        return Verbatim("".join(lines).encode())

    def _sizes(self, ctx: Session, argv: list[bytes]) -> Reply:
        limits = self._server.limits
        objects: list[tuple[str, object]] = [
            ("bytes", b""),
            ("bytearray", bytearray()),
            ("list", List(limits)),
            ("hash", Hash(limits)),
            ("set", Set(limits)),
            ("zset", SortedSet(limits)),
            ("entry", Entry(b"", b"", 0, 0, None)),
            ("session", ctx),
        ]
        bits = 64 if sys.maxsize > 2**32 else 32
        sizes = "".join(f"{name}:{sys.getsizeof(item)} " for name, item in objects)
        return f"bits:{bits} {sizes}".encode()


def _leading_integer(text: bytes) -> int:
    """The number that ``text`` begins with, 0 for none (C's atoi)."""
    match = _INTEGER.match(text)
    return int(match[1]) if match is not None else 0


def _key_digests(db: Database) -> Iterator[bytes]:
    for entry in db.table.slots:
        while entry is not None:
            yield key_digest(entry.key, entry.value, entry.deadline != NEVER)
            entry = entry.next


def describe_table(sizes: Sequence[int]) -> str:
    """Lines on a table whose buckets have ``sizes`` entries."""
    count = sum(sizes)
    if not count:
        return "No stats available for empty dictionaries\n"
    used = sum(1 for size in sizes if size)
    lines = [
        "Hash table 0 stats (main hash table):",
        f" table size: {len(sizes)}",
        f" number of elements: {count}",
        f" different slots: {used}",
        f" max chain length: {max(sizes)}",
        f" avg chain length (counted): {count / used:.2f}",
        f" avg chain length (computed): {count / used:.2f}",
        " Chain length distribution:",
    ]
    for length in sorted(set(sizes)):
        buckets = sizes.count(length)
        lines.append(f"   {length}: {buckets} ({buckets * 100 / len(sizes):.2f}%)")
    return "".join(f"{line}\n" for line in lines)
