"""Keys whatever they hold: existence, deletion, renaming, walking, databases, OBJECT.

Semantics follow Redis's ``db.c`` and ``object.c``. Every deletion is a lazy one here: the key goes
at once, a large value is freed bit by bit afterwards, so DEL and UNLINK differ in name only.
"""

from __future__ import annotations

from typing import Final

from node.command import Group, key
from node.commands.arguments import (
    INT_MAX,
    INT_MIN,
    NO_SUCH_KEY,
    SYNTAX_ERROR,
    bounded_integer,
    find_untouched,
    help_reply,
    scan_cursor,
    scan_options,
    scan_reply,
    type_name,
)
from node.key_table import NEVER, Value
from node.keyspace import EVENT_GENERIC, Database
from node.resp import OK, Reply, ReplyError, Status
from node.session import Session
from node.values import pattern
from node.values.collection import Collection
from node.values.number import parse_integer
from node.values.string import encoding

GROUP: Final = Group("generic")

BAD_DATABASE: Final = b"ERR DB index is out of range"
SAME_OBJECT: Final = b"ERR source and destination objects are the same"

# What Redis says of objects that it shares: the integers below this one.
SHARED_INTEGERS: Final = 10000
SHARED_REFCOUNT: Final = (1 << 31) - 1

_NONE: Final = Status(b"none")
_TYPES: Final = {name: Status(name) for name in (b"string", b"list", b"hash", b"set", b"zset")}


def _database(ctx: Session, argument: bytes, error: bytes | None = None) -> Database:
    """The database that an argument numbers."""
    index = bounded_integer(argument, INT_MIN, INT_MAX, error)
    databases = ctx.engine.keyspace.databases
    if not 0 <= index < len(databases):
        raise ReplyError(BAD_DATABASE)
    return databases[index]


# Existence.


@GROUP.command(
    "exists",
    -2,
    "readonly fast",
    keys=[key("RO", last=-1)],
    since="1.0.0",
    complexity="O(N), N being the number of keys",
    summary="Counts how many of the keys exist; one named twice counts twice.",
    syntax="key [key ...]",
    history=[("3.0.3", "Takes several keys.")],
    tips=["request_policy:multi_shard", "response_policy:agg_sum"],
)
def exists(ctx: Session, argv: list[bytes]) -> Reply:
    db = ctx.db
    found = 0
    for name in argv[1:]:
        if find_untouched(db, name) is not None:
            found += 1
    return found


@GROUP.command(
    "touch",
    -2,
    "readonly fast",
    keys=[key("RO", last=-1)],
    since="3.2.1",
    complexity="O(N), N being the number of keys",
    summary="Counts how many of the keys exist and marks them as used.",
    syntax="key [key ...]",
    tips=["request_policy:multi_shard", "response_policy:agg_sum"],
)
def touch(ctx: Session, argv: list[bytes]) -> Reply:
    db = ctx.db
    found = 0
    for name in argv[1:]:
        if db.find(name) is not None:
            found += 1
    return found


@GROUP.command(
    "type",
    2,
    "readonly fast",
    keys=[key("RO")],
    since="1.0.0",
    complexity="O(1)",
    summary="Names the type of the value at a key.",
    syntax="key",
)
def tell_type(ctx: Session, argv: list[bytes]) -> Reply:
    value = find_untouched(ctx.db, argv[1])
    return _NONE if value is None else _TYPES[type_name(value)]


# Deletion.


def _delete(ctx: Session, names: list[bytes]) -> int:
    db = ctx.db
    deleted = 0
    for name in names:
        # An expired key is not there to be deleted.
        if (db.volatile == 0 or db.peek(name) is not None) and db.delete(name):
            db.changed(name, None, EVENT_GENERIC, b"del")
            deleted += 1
    return deleted


@GROUP.command(
    "del",
    -2,
    "write",
    keys=[key("RM delete", last=-1)],
    since="1.0.0",
    complexity="O(N), N being the number of keys; large values are freed afterwards, bit by bit",
    summary="Deletes keys.",
    syntax="key [key ...]",
    tips=["request_policy:multi_shard", "response_policy:agg_sum"],
)
def delete(ctx: Session, argv: list[bytes]) -> Reply:
    return _delete(ctx, argv[1:])


@GROUP.command(
    "unlink",
    -2,
    "write fast",
    keys=[key("RM delete", last=-1)],
    since="4.0.0",
    complexity="O(N), N being the number of keys; large values are freed afterwards, bit by bit",
    summary="Deletes keys; their values are freed in the background.",
    syntax="key [key ...]",
    tips=["request_policy:multi_shard", "response_policy:agg_sum"],
)
def unlink(ctx: Session, argv: list[bytes]) -> Reply:
    return _delete(ctx, argv[1:])


# Renaming, moving, copying.


def _move_value(source: Database, name: bytes, target: Database, new: bytes) -> None:
    """Take the value at ``name``, with its deadline and its access clock, to ``new``."""
    clock = source.clock(name)
    deadline = source.deadline(name)
    value = source.take(name)
    assert value is not None
    target.put(new, value)
    target.set_clock(new, clock)
    if deadline is not None:
        target.set_deadline(new, deadline)


def _rename(ctx: Session, argv: list[bytes]) -> bool:
    """Give a key another name; what had it goes. True unless both names are the same."""
    name = argv[1]
    new = argv[2]
    db = ctx.db
    if name == new:
        return False
    db.delete(new)
    _move_value(db, name, db, new)
    db.changed(name, None, EVENT_GENERIC, b"rename_from")
    db.changed(new, None, EVENT_GENERIC, b"rename_to", 0)
    return True


@GROUP.command(
    "rename",
    3,
    "write",
    keys=[key("RW access delete"), key("OW update", 2)],
    since="1.0.0",
    complexity="O(1)",
    summary="Gives a key another name; a key that had it is overwritten.",
    syntax="key newkey",
    history=[("3.2.0", "Both names may be the same.")],
)
def rename(ctx: Session, argv: list[bytes]) -> Reply:
    if ctx.db.find_for_write(argv[1]) is None:
        raise ReplyError(NO_SUCH_KEY)
    if argv[1] != argv[2]:
        ctx.db.find_for_write(argv[2])
        _rename(ctx, argv)
    return OK


@GROUP.command(
    "renamenx",
    3,
    "write fast",
    keys=[key("RW access delete"), key("OW insert", 2)],
    since="1.0.0",
    complexity="O(1)",
    summary="Gives a key another name, if no key has it yet.",
    syntax="key newkey",
    history=[("3.2.0", "Both names may be the same.")],
)
def rename_if_free(ctx: Session, argv: list[bytes]) -> Reply:
    if ctx.db.find_for_write(argv[1]) is None:
        raise ReplyError(NO_SUCH_KEY)
    if argv[1] == argv[2] or ctx.db.find_for_write(argv[2]) is not None:
        return 0
    return 1 if _rename(ctx, argv) else 0


@GROUP.command(
    "move",
    3,
    "write fast",
    keys=[key("RW access update")],
    since="1.0.0",
    complexity="O(1)",
    summary="Moves a key to another database, unless it has a key of that name.",
    syntax="key db",
)
def move(ctx: Session, argv: list[bytes]) -> Reply:
    name = argv[1]
    db = ctx.db
    target = _database(ctx, argv[2])
    if target is db:
        raise ReplyError(SAME_OBJECT)
    if db.find_for_write(name) is None or target.find_for_write(name) is not None:
        return 0
    _move_value(db, name, target, name)
    db.changed(name, None, EVENT_GENERIC, b"move_from")
    target.changed(name, None, EVENT_GENERIC, b"move_to", 0)
    return 1


@GROUP.command(
    "copy",
    -3,
    "write denyoom",
    keys=[key("RO access"), key("OW update", 2)],
    since="6.2.0",
    complexity="O(N), N being the number of elements of the value; O(1) for strings",
    summary="Copies the value of a key to another key.",
    syntax="source destination [DB destination-db] [REPLACE]",
)
def copy(ctx: Session, argv: list[bytes]) -> Reply:
    name = argv[1]
    new = argv[2]
    db = target = ctx.db
    replace = False
    at = 3
    while at < len(argv):
        option = argv[at].upper()
        if option == b"REPLACE":
            replace = True
        elif option == b"DB" and at + 1 < len(argv):
            at += 1
            target = _database(ctx, argv[at])
        else:
            raise ReplyError(SYNTAX_ERROR)
        at += 1
    if target is db and name == new:
        raise ReplyError(SAME_OBJECT)
    value = db.find(name)
    if value is None:
        return 0
    if target.find_for_write(new) is not None:
        if not replace:
            return 0
        target.delete(new)
    deadline = db.deadline(name)
    target.put(new, _duplicate(value))
    if deadline is not None:
        target.set_deadline(new, deadline)
    target.changed(new, None, EVENT_GENERIC, b"copy_to")
    return 1


def _duplicate(value: Value) -> Value:
    """An independent value of the same content."""
    if isinstance(value, Collection):
        return value.copy()
    return value if type(value) is bytes else bytearray(value)


# Walking.


@GROUP.command(
    "keys",
    2,
    "readonly",
    since="1.0.0",
    complexity="O(N), N being the number of keys in the database",
    summary="Lists all keys that match a pattern.",
    syntax="pattern",
    categories="dangerous",
    tips=["request_policy:all_shards", "nondeterministic_output_order"],
)
def list_keys(ctx: Session, argv: list[bytes]) -> Reply:
    now = ctx.now
    match = None if argv[1] == b"*" else pattern.compile(argv[1])
    found: list[bytes] = []
    for entry in ctx.db.table.slots:
        while entry is not None:
            if entry.deadline == NEVER or entry.deadline > now:
                if match is None or match(entry.key):
                    found.append(entry.key)
            entry = entry.next
    return found


@GROUP.command(
    "scan",
    -2,
    "readonly touches_arbitrary_keys",
    since="2.8.0",
    complexity="O(1) for each call, O(N) for a whole walk, N being the number of keys",
    summary="Walks over the keys of the database, some at a time.",
    syntax="cursor [MATCH pattern] [COUNT count] [TYPE type@6.0.0]",
    history=[("6.0.0", "New option `TYPE`.")],
    tips=["nondeterministic_output", "request_policy:special", "response_policy:special"],
)
def scan(ctx: Session, argv: list[bytes]) -> Reply:
    cursor = scan_cursor(argv[1])
    options = scan_options(argv, 2, takes_type=True)
    db = ctx.db
    cursor, found = db.table.scan(cursor, options.count)
    if options.match is not None:
        found = list(filter(options.match, found))
    kind = options.kind
    if kind is None:
        if db.volatile:
            found = [name for name in found if db.peek(name) is not None]
        return scan_reply(cursor, found)
    chosen: list[bytes] = []
    for name in found:
        value = db.peek(name)
        if value is not None and type_name(value) == kind:
            chosen.append(name)
    return scan_reply(cursor, chosen)


@GROUP.command(
    "randomkey",
    1,
    "readonly touches_arbitrary_keys",
    since="1.0.0",
    complexity="O(1)",
    summary="Returns a key picked at random.",
    tips=["request_policy:all_shards", "response_policy:special", "nondeterministic_output"],
)
def random_key(ctx: Session, argv: list[bytes]) -> Reply:
    db = ctx.db
    tries = 100
    while True:
        name = db.random_key()
        if name is None or db.peek(name) is not None:
            return name
        # Expired keys are deleted by looking at them. Where they are not (on a replica), and there
        # may be no others, one of them will do.
        tries -= 1
        if tries <= 0 and not db.keyspace.expiring:
            return name


# Databases.


@GROUP.command(
    "select",
    2,
    "loading stale fast",
    group="connection",
    since="1.0.0",
    complexity="O(1)",
    summary="Chooses the database that the connection works with.",
    syntax="index",
)
def select(ctx: Session, argv: list[bytes]) -> Reply:
    ctx.db = _database(ctx, argv[1])
    return OK


@GROUP.command(
    "swapdb",
    3,
    "write fast",
    group="server",
    categories="keyspace dangerous",
    since="4.0.0",
    complexity="O(N), N being the number of keys in both that clients watch or wait for",
    summary="Exchanges two databases for all clients.",
    syntax="index1 index2",
)
def swap(ctx: Session, argv: list[bytes]) -> Reply:
    first = bounded_integer(argv[1], INT_MIN, INT_MAX, b"ERR invalid first DB index")
    second = bounded_integer(argv[2], INT_MIN, INT_MAX, b"ERR invalid second DB index")
    keyspace = ctx.engine.keyspace
    count = len(keyspace.databases)
    if not (0 <= first < count and 0 <= second < count):
        raise ReplyError(BAD_DATABASE)
    keyspace.swap(first, second)
    keyspace.dirty += 1
    keyspace.pending = True
    return OK


@GROUP.command(
    "dbsize",
    1,
    "readonly fast",
    group="server",
    categories="keyspace",
    since="1.0.0",
    complexity="O(1)",
    summary="Returns the number of keys in the database.",
    tips=["request_policy:all_shards", "response_policy:agg_sum"],
)
def count_keys(ctx: Session, argv: list[bytes]) -> Reply:
    return len(ctx.db)


def _flush(ctx: Session, argv: list[bytes], databases: list[Database]) -> Reply:
    """Empty ``databases``. SYNC frees the memory at once, otherwise it is freed bit by bit."""
    mode = argv[1].upper() if len(argv) == 2 else b"ASYNC"
    if len(argv) > 2 or mode not in (b"SYNC", b"ASYNC"):
        raise ReplyError(SYNTAX_ERROR)
    keyspace = ctx.engine.keyspace
    for db in databases:
        keyspace.dirty += db.clear()
    if mode == b"SYNC":
        while not keyspace.trash.drain(4096):
            pass
    # Logged even if nothing was there: a replica may have what we do not.
    keyspace.pending = True
    ctx.propagate(*argv)
    return OK


@GROUP.command(
    "flushdb",
    -1,
    "write",
    group="server",
    categories="keyspace dangerous",
    since="1.0.0",
    complexity="O(1); with SYNC O(N), N being the number of keys in the database",
    summary="Deletes all keys of the database.",
    syntax="[ASYNC@4.0.0 | SYNC@6.2.0]",
    history=[
        ("4.0.0", "New option `ASYNC`."),
        ("6.2.0", "New option `SYNC`."),
    ],
    tips=["request_policy:all_shards", "response_policy:all_succeeded"],
)
def flush(ctx: Session, argv: list[bytes]) -> Reply:
    return _flush(ctx, argv, [ctx.db])


@GROUP.command(
    "flushall",
    -1,
    "write",
    group="server",
    categories="keyspace dangerous",
    since="1.0.0",
    complexity="O(1); with SYNC O(N), N being the number of keys in all databases",
    summary="Deletes all keys of all databases.",
    syntax="[ASYNC@4.0.0 | SYNC@6.2.0]",
    history=[
        ("4.0.0", "New option `ASYNC`."),
        ("6.2.0", "New option `SYNC`."),
    ],
    tips=["request_policy:all_shards", "response_policy:all_succeeded"],
)
def flush_all(ctx: Session, argv: list[bytes]) -> Reply:
    keyspace = ctx.engine.keyspace
    reply = _flush(ctx, argv, keyspace.databases)
    keyspace.emptied()
    return reply


# OBJECT.

GROUP.container(
    "object", since="2.2.3", summary="Holds the commands that look at how a value is kept."
)


def _inspect(ctx: Session, name: bytes) -> Value | None:
    """The value at ``name``, counted but neither used nor told as missed."""
    value = ctx.db.peek(name)
    statistics = ctx.engine.keyspace.statistics
    if value is None:
        statistics.misses += 1
    else:
        statistics.hits += 1
    return value


@GROUP.command(
    "object|encoding",
    3,
    "readonly",
    keys=[key("RO", 2)],
    since="2.2.3",
    complexity="O(1)",
    summary="Names the internal representation of the value at a key.",
    syntax="key",
    tips=["nondeterministic_output"],
)
def tell_encoding(ctx: Session, argv: list[bytes]) -> Reply:
    value = _inspect(ctx, argv[2])
    if value is None:
        return None
    return (value.encoding() if isinstance(value, Collection) else encoding(value)).encode()


@GROUP.command(
    "object|freq",
    3,
    "readonly",
    keys=[key("RO", 2)],
    since="4.0.0",
    complexity="O(1)",
    summary="Returns the logarithmic counter of accesses to a key.",
    syntax="key",
    tips=["nondeterministic_output"],
)
def tell_frequency(ctx: Session, argv: list[bytes]) -> Reply:
    if _inspect(ctx, argv[2]) is None:
        return None
    keyspace = ctx.engine.keyspace
    if not keyspace.lfu:
        raise ReplyError(
            b"ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please "
            b"note that when switching between policies at runtime LRU and LFU data will take some "
            b"time to adjust."
        )
    return keyspace.lfu_decayed(ctx.db.clock(argv[2]))


@GROUP.command(
    "object|idletime",
    3,
    "readonly",
    keys=[key("RO", 2)],
    since="2.2.3",
    complexity="O(1)",
    summary="Tells how many seconds ago a key was last used.",
    syntax="key",
    tips=["nondeterministic_output"],
)
def tell_idle_time(ctx: Session, argv: list[bytes]) -> Reply:
    if _inspect(ctx, argv[2]) is None:
        return None
    keyspace = ctx.engine.keyspace
    if keyspace.lfu:
        raise ReplyError(
            b"ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that "
            b"when switching between policies at runtime LRU and LFU data will take some time to "
            b"adjust."
        )
    return keyspace.clock - ctx.db.clock(argv[2]) & 0xFFFFFF


@GROUP.command(
    "object|refcount",
    3,
    "readonly",
    keys=[key("RO", 2)],
    since="2.2.3",
    complexity="O(1)",
    summary="Returns the number of references to the value at a key.",
    syntax="key",
    tips=["nondeterministic_output"],
)
def tell_reference_count(ctx: Session, argv: list[bytes]) -> Reply:
    value = _inspect(ctx, argv[2])
    if value is None:
        return None
    if type(value) is bytes and len(value) < 5:
        number = parse_integer(value)
        if number is not None and 0 <= number < SHARED_INTEGERS and _shares_integers(ctx):
            return SHARED_REFCOUNT
    return 1


def _shares_integers(ctx: Session) -> bool:
    """Whether Redis would share small integers: not where each key needs an access clock."""
    config = ctx.engine.config
    if config.integer("maxmemory") == 0:
        return True
    return not config.text("maxmemory-policy").endswith(("lru", "lfu"))


@GROUP.command(
    "object|help",
    2,
    "loading stale",
    since="6.2.0",
    complexity="O(1)",
    summary="Lists the subcommands of OBJECT.",
)
def tell_help(ctx: Session, argv: list[bytes]) -> Reply:
    return help_reply(
        "object",
        (
            "ENCODING <key>",
            "    Name the representation in which the value at <key> is kept.",
            "FREQ <key>",
            "    Return the counter of accesses to <key>; it grows with the logarithm of their",
            "    number. Kept under an LFU policy only.",
            "IDLETIME <key>",
            "    Tell how many seconds ago <key> was last used. Not kept under an LFU policy.",
            "REFCOUNT <key>",
            "    Return the number of references to the value at <key>.",
        ),
    )
