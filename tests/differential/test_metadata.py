"""COMMAND's answers about every command of ours are the real server's.

`COMMAND INFO` whole: arity, flags, key positions, ACL categories, tips, key specifications,
subcommands. Of `COMMAND DOCS` what programs read: group, since, deprecation, the syntax tree of the
arguments; the sentences are our own.
"""

from __future__ import annotations

from typing import Final

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.differential.families import FAMILIES
from tests.differential.grammar import Step, step
from tests.differential.pair import Argv, Pair, as_multiset, compare, members_of, plain
from tests.differential.test_clients import BLOCKING, PUBSUB, TRANSACTIONS, WAKING
from tests.servers import Server
from tests.wire import Error, Map, Reply, Set, Simple

# What 7.2 changed since the 7.0 that is compared with: command, field, what 7.2 says.
# Fields: arity, flags, first, last, step, acl, tips, keys, subcommands.
CHANGED: Final[dict[tuple[bytes, str], object]] = {
    # Scripts may call what blocks; it answers at once there.
    (b"blmove", "flags"): [repr(flag) for flag in (b"blocking", b"denyoom", b"write")],
    (b"blpop", "flags"): [repr(flag) for flag in (b"blocking", b"write")],
    (b"brpop", "flags"): [repr(flag) for flag in (b"blocking", b"write")],
    (b"brpoplpush", "flags"): [repr(flag) for flag in (b"blocking", b"denyoom", b"write")],
    (b"bzpopmax", "flags"): [repr(flag) for flag in (b"blocking", b"fast", b"write")],
    (b"bzpopmin", "flags"): [repr(flag) for flag in (b"blocking", b"fast", b"write")],
    (b"wait", "flags"): [repr(b"blocking")],
    (b"wait", "acl"): [repr(word) for word in (b"@blocking", b"@connection", b"@slow")],
    # A command alone is enough.
    (b"command|getkeys", "arity"): -3,
    (b"command|getkeysandflags", "arity"): -3,
    # WITHSCORE.
    (b"zrank", "arity"): -3,
    (b"zrevrank", "arity"): -3,
    # While the data are loaded clients may find out where else to go.
    (b"cluster|shards", "flags"): [repr(flag) for flag in (b"loading", b"stale")],
    (b"cluster|slots", "flags"): [repr(flag) for flag in (b"loading", b"stale")],
    # MSETNX cannot be split among shards, and what RANDOMKEY and SCAN find cannot be merged simply.
    (b"msetnx", "tips"): [],
    (b"randomkey", "tips"): [
        repr(b"nondeterministic_output"),
        repr(b"request_policy:all_shards"),
        repr(b"response_policy:special"),
    ],
    (b"scan", "tips"): [
        repr(b"nondeterministic_output"),
        repr(b"request_policy:special"),
        repr(b"response_policy:special"),
    ],
}

# Commands and subcommands that came with 7.2.
NEW: Final = frozenset({b"client|no-touch", b"client|setinfo", b"cluster|myshardid", b"waitaof"})

# Subcommands of the real server that ours does not have.
MISSING: Final = frozenset({b"client|getredir", b"client|tracking", b"client|trackinginfo"})

FIELDS: Final = (
    "name",
    "arity",
    "flags",
    "first",
    "last",
    "step",
    "acl",
    "tips",
    "keys",
    "subcommands",
)


def names(server: Server) -> list[bytes]:
    """All commands that a server lists, without their subcommands."""
    return sorted(name for name in all_names(server) if b"|" not in name)


def all_names(server: Server) -> list[bytes]:
    """All commands and subcommands that a server lists."""
    with server.connect() as client:
        reply = client("COMMAND", "LIST")
    assert isinstance(reply, list)
    return [name for name in reply if isinstance(name, bytes)]


def described(reply: Reply) -> dict[bytes, dict[str, object]]:
    """COMMAND INFO of one command, its subcommands beside it, by name."""
    found: dict[bytes, dict[str, object]] = {}
    assert isinstance(reply, list), reply
    fields = dict(zip(FIELDS, reply, strict=True))
    name = fields["name"]
    assert isinstance(name, bytes)
    # An empty list of them comes as a set.
    for subcommand in members_of(fields["subcommands"]):
        found |= described(subcommand)
    found[name] = {field: texts(value) for field, value in fields.items() if field != "subcommands"}
    found[name]["type of subcommands"] = type(fields["subcommands"])
    found[name]["subcommands"] = sorted(
        sub for sub in found if sub != name and sub not in NEW | MISSING
    )
    return found


def texts(value: Reply) -> object:
    """A field to compare: sets in one order, notes of key specifications left out."""
    match value:
        case Set(items):
            return sorted(
                repr(item.text if isinstance(item, Simple) else texts(item)) for item in items
            )
        case list():
            return [texts(item) for item in value]
        case Map(pairs):
            return {repr(key): texts(item) for key, item in pairs if key != b"notes"}
        case _:
            return value


def test_info_of_every_command(node: Server, oracle: Server) -> None:
    different: list[str] = []
    with node.connect(3) as ours, oracle.connect(3) as theirs:
        for name in names(node):
            our_info = ours("COMMAND", "INFO", name)
            their_info = theirs("COMMAND", "INFO", name)
            assert isinstance(our_info, list)
            assert isinstance(their_info, list)
            if not isinstance(their_info[0], list):
                if name not in NEW:
                    different.append(f"{name!r} is no command of the real server")
                continue
            mine, real = described(our_info[0]), described(their_info[0])
            for each, fields in mine.items():
                if each in NEW:
                    continue
                if each not in real:
                    different.append(f"{each!r} is no command of the real server")
                    continue
                for field, value in fields.items():
                    expected = CHANGED.get((each, field), real[each][field])
                    if value != expected:
                        different.append(f"{each!r} {field}: {value} instead of {expected}")
    assert not different, "\n".join(different)


# --- COMMAND DOCS --------------------------------------------------------------------------------

# Commands that 7.2 documents in another way than 7.0.
DOCS_CHANGED: Final[frozenset[bytes]] = frozenset(
    {
        # Deprecated in favour of SET since 7.2.
        *(b"psetex", b"setex", b"setnx"),
        # WITHSCORE.
        *(b"zrank", b"zrevrank"),
        # Repeated arguments without a block around each.
        *(b"client|list", b"config|get", b"psubscribe"),
        # Documented at all.
        *(b"command|getkeys", b"command|getkeysandflags"),
        # Deprecated.
        b"quit",
        # The empty key is a token of two quotes, a way to authenticate not optional by itself.
        b"migrate",
    }
)


def syntax(value: Reply) -> object:
    """An argument: what it is and what it holds; names and displayed texts are documentation."""
    match value:
        case list():
            return [syntax(item) for item in value]
        case Map(pairs):
            return {
                repr(key): syntax(item)
                for key, item in pairs
                if key in (b"type", b"token", b"flags", b"arguments", b"key_spec_index")
            }
        case Set(items):
            return sorted(map(repr, items))
        case _:
            return value


def documented(reply: Reply) -> dict[bytes, dict[str, object]]:
    """COMMAND DOCS: what is compared of each command and subcommand, by name."""
    found: dict[bytes, dict[str, object]] = {}
    assert isinstance(reply, Map), reply
    for name, about in reply.pairs:
        assert isinstance(name, bytes)
        assert isinstance(about, Map)
        fields = {key: value for key, value in about.pairs if isinstance(key, bytes)}
        for text in (b"summary", b"since", b"group"):
            assert isinstance(fields[text], bytes), (name, text)
        subcommands = fields.get(b"subcommands")
        found[name] = {
            "group": fields[b"group"],
            "since": fields[b"since"],
            "flags": texts(fields.get(b"doc_flags", Set([]))),
            "deprecated": fields.get(b"deprecated_since"),
            "replaced": fields.get(b"replaced_by"),
            "arguments": syntax(fields.get(b"arguments", [])),
        }
        if subcommands is not None:
            found |= documented(subcommands)
    return found


def test_docs_of_every_command(node: Server, oracle: Server) -> None:
    different: list[str] = []
    with node.connect(3) as ours, oracle.connect(3) as theirs:
        for name in names(node):
            mine = documented(ours("COMMAND", "DOCS", name))
            real = documented(theirs("COMMAND", "DOCS", name))
            for each, fields in mine.items():
                if each in NEW or each in DOCS_CHANGED:
                    continue
                for field, value in fields.items():
                    expected = real.get(each, {}).get(field)
                    if value != expected:
                        different.append(f"{each!r} {field}: {value} instead of {expected}")
    assert not different, "\n".join(different)


def test_command_without_arguments_lists_every_command(node: Server) -> None:
    with node.connect(3) as client:
        everything = client("COMMAND")
        assert isinstance(everything, list)
        infos = [described(info) for info in everything]
        listed = sorted(next(name for name in info if b"|" not in name) for info in infos)
        assert listed == names(node)
        assert sorted(name for info in infos for name in info) == sorted(all_names(node))
        assert client("COMMAND", "COUNT") == len(listed)
        docs = client("COMMAND", "DOCS")
        assert isinstance(docs, Map)
        assert sorted(name for name, _ in docs.pairs if isinstance(name, bytes)) == listed


# --- coverage ------------------------------------------------------------------------------------

# What ends a connection or the server, or came with 7.2, is tested by itself.
IN_NO_TABLE: Final = frozenset({b"quit", b"monitor", b"shutdown", b"sync", *NEW})


def test_every_command_is_in_a_table(node: Server) -> None:
    tables = [*FAMILIES.values(), TRANSACTIONS, PUBSUB, BLOCKING, WAKING]
    compared = {
        command.name.lower().replace(" ", "|").encode() for table in tables for command in table
    }
    listed = set(all_names(node))
    containers = {name.partition(b"|")[0] for name in listed if b"|" in name}
    assert listed - containers - compared == IN_NO_TABLE


# --- keys of a request ---------------------------------------------------------------------------

ALL_STEPS: Final = st.one_of([step(commands) for commands in FAMILIES.values()])


@settings(suppress_health_check=list(HealthCheck))
@given(taken=ALL_STEPS)
def test_keys_of_a_request(shared_node: Server, shared_oracle: Server, taken: Step) -> None:
    pair = Pair.connect(shared_node, shared_oracle, 2)
    try:
        for subcommand in (b"GETKEYS", b"GETKEYSANDFLAGS"):
            argv: Argv = [b"COMMAND", subcommand, *taken.argv]
            ours, theirs = pair.run(argv)
            if isinstance(ours, Error) and isinstance(theirs, Error):
                continue
            if isinstance(theirs, Error) and (taken.argv[0].lower(), "arity") in CHANGED:
                continue
            compare(pair, ours, theirs, plain if subcommand == b"GETKEYS" else as_multiset)
    finally:
        pair.close()
