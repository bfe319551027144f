"""DUMP and RESTORE: values that travel between servers. Semantics follow Redis's ``cluster.c``."""

from __future__ import annotations

from typing import Final

from node.command import Group, key
from node.commands.arguments import NO_SUCH_KEY, SYNTAX_ERROR, integer
from node.keyspace import EVENT_GENERIC
from node.persistence.payload import DumpError, dump, load
from node.persistence.rdb_format import RdbError
from node.persistence.rdb_writer import serialized_size
from node.resp import OK, Reply, ReplyError, Status
from node.session import Session
from node.values.collection import Collection
from node.values.number import MAX_INTEGER
from node.values.string import encoding

GROUP: Final = Group("generic")

BUSY_KEY: Final = b"BUSYKEY Target key name already exists."
BAD_PAYLOAD: Final = b"ERR DUMP payload version or checksum are wrong"
BAD_DATA: Final = b"ERR Bad data format"

# The clock of LRU has 24 bits in Redis. A longer idle time than there are seconds in it so far
# counts as half of all it can tell.
CLOCK_MASK: Final = (1 << 24) - 1
LONGEST_IDLE: Final = 1 << 23


@GROUP.command(
    "dump",
    2,
    "readonly",
    keys=[key("RO access")],
    since="2.6.0",
    complexity="O(N), N being the bytes of the value",
    summary="Returns the value of a key in a form that RESTORE takes.",
    syntax="key",
    tips=["nondeterministic_output"],
)
def dump_key(ctx: Session, argv: list[bytes]) -> Reply:
    value = ctx.db.find(argv[1])
    if value is None:
        return None
    return dump(value, ctx.engine.config.boolean("rdbcompression"))


class _Options:
    """What RESTORE was told beside key, time and payload; None for what was not said."""

    __slots__ = ("replace", "absolute", "idle", "frequency")

    def __init__(self, argv: list[bytes]) -> None:
        self.replace = False
        self.absolute = False
        self.idle: int | None = None
        self.frequency: int | None = None
        at = 4
        while at < len(argv):
            option = argv[at].upper()
            if option == b"REPLACE":
                self.replace = True
            elif option == b"ABSTTL":
                self.absolute = True
            elif option == b"IDLETIME" and at + 1 < len(argv) and self.frequency is None:
                at += 1
                self.idle = integer(argv[at])
                if self.idle < 0:
                    raise ReplyError(b"ERR Invalid IDLETIME value, must be >= 0")
            elif option == b"FREQ" and at + 1 < len(argv) and self.idle is None:
                at += 1
                self.frequency = integer(argv[at])
                if not 0 <= self.frequency <= 255:
                    raise ReplyError(b"ERR Invalid FREQ value, must be >= 0 and <= 255")
            else:
                raise ReplyError(SYNTAX_ERROR)
            at += 1


_COMPLEXITY: Final = "O(N), N being the bytes of the value, O(N*log(N)) for a sorted set"
_SYNTAX: Final = (
    "key ttl:integer serialized-value:string [REPLACE@3.0.0] [ABSTTL@5.0.0]"
    " [IDLETIME seconds]@5.0.0 [FREQ frequency:integer]@5.0.0"
)
_HISTORY: Final = [
    ("3.0.0", "New option `REPLACE`."),
    ("5.0.0", "New option `ABSTTL`."),
    ("5.0.0", "New options `IDLETIME` and `FREQ`."),
]


@GROUP.command(
    "restore",
    -4,
    "write denyoom",
    keys=[key("OW update")],
    categories="dangerous",
    since="2.6.0",
    complexity=_COMPLEXITY,
    summary="Creates a key from what DUMP has returned.",
    syntax=_SYNTAX,
    history=_HISTORY,
)
@GROUP.command(
    "restore-asking",
    -4,
    "write denyoom asking",
    keys=[key("OW update")],
    categories="keyspace dangerous",
    group="server",
    since="3.0.0",
    complexity=_COMPLEXITY,
    summary="Creates a key of a slot that is being imported, for the commands that move keys.",
    syntax=_SYNTAX,
    history=_HISTORY,
    doc_flags=["syscmd"],
)
def restore(ctx: Session, argv: list[bytes]) -> Reply:
    options = _Options(argv)
    name = argv[1]
    db = ctx.db
    if not options.replace and db.find_for_write(name) is not None:
        raise ReplyError(BUSY_KEY)
    deadline = integer(argv[2])
    if deadline < 0:
        raise ReplyError(b"ERR Invalid TTL value, must be >= 0")
    try:
        value = load(argv[3], db.keyspace.limits)
    except DumpError:
        raise ReplyError(BAD_PAYLOAD) from None
    except RdbError as error:
        ctx.engine.log.warning(f"RESTORE refused: {error}")
        raise ReplyError(BAD_DATA) from None
    existed = options.replace and db.delete(name)
    if deadline:
        if not options.absolute:
            deadline += ctx.now
            if deadline > MAX_INTEGER:
                deadline -= 1 << 64  # as it overflows in Redis
        if deadline <= ctx.now and db.keyspace.expiring:
            if existed:
                lazy = ctx.engine.config.boolean("lazyfree-lazy-server-del")
                ctx.propagate(b"UNLINK" if lazy else b"DEL", name)
                db.changed(name, None, EVENT_GENERIC, b"del")
            return OK
    db.put(name, value)
    if deadline:
        db.set_deadline(name, deadline)
        if not options.absolute:
            ctx.propagate(*argv[:2], b"%d" % deadline, *argv[3:], b"ABSTTL")
    _set_clock(ctx, name, options)
    db.changed(name, None, EVENT_GENERIC, b"restore")
    return OK


def describe_object(ctx: Session, argv: list[bytes]) -> Reply:
    """DEBUG OBJECT: about the value of a key, and how long it is when it is serialised."""
    db = ctx.db
    name = argv[2]
    value = db.stored(name)
    if value is None:
        raise ReplyError(NO_SUCH_KEY)
    used = db.clock(name)
    form = value.encoding() if isinstance(value, Collection) else encoding(value)
    size = serialized_size(value, ctx.engine.config.boolean("rdbcompression"))
    text = (
        f"Value at:0x{id(value):x} refcount:1 encoding:{form} serializedlength:{size} "
        f"lru:{used & CLOCK_MASK} lru_seconds_idle:{(db.keyspace.clock - used) & CLOCK_MASK}"
    )
    return Status(text.encode())


def _set_clock(ctx: Session, name: bytes, options: _Options) -> None:
    """Let a key have been used when, or as often, as it is said."""
    keyspace = ctx.engine.keyspace
    if keyspace.lfu:
        if options.frequency is not None:
            counter = keyspace.lfu_fresh() & ~255 | options.frequency
            ctx.db.set_clock(name, counter)
    elif options.idle is not None:
        idle = options.idle
        if idle > keyspace.clock:
            idle = LONGEST_IDLE
        ctx.db.set_clock(name, keyspace.clock - idle & CLOCK_MASK)
