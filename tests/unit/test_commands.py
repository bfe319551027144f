"""Every command's declaration is whole, and the reference in docs/ is made of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cluster.evidence import find_calls, find_evidence
from cluster.reference import installed_commands, write_reference
from node.command import Command
from node.syntax import Argument, parse
from tests.inprocess import LocalServer
from tests.installation import ROOT
from tests.wire import Map, Reply, Set, Simple

COMMANDS = {command.spec.name: command for command in installed_commands()}


def leaves(arguments: list[Argument]) -> Iterator[Argument]:
    """All arguments that hold no others."""
    for argument in arguments:
        if argument.arguments:
            yield from leaves(argument.arguments)
        else:
            yield argument


@pytest.fixture(scope="module")
def evidence() -> dict[str, list[str]]:
    """How each command is tested."""
    return find_evidence(ROOT / "tests", COMMANDS)


def test_reference_is_fresh(evidence: dict[str, list[str]]) -> None:
    assert (ROOT / "docs" / "commands.md").read_text(encoding="utf-8") == write_reference(
        list(COMMANDS.values()), evidence
    ), "run python -m cluster.reference"


def test_every_command_is_tested(evidence: dict[str, list[str]]) -> None:
    assert [name for name, kinds in evidence.items() if not kinds] == []


# Of commands that there are not, since this text, too, is searched for calls.
CALLS = """
'''FETCH in a docstring.'''
SCRIPT = '''
a CLUMP TWIN
STORE key value
'''
# MANY a b
client("POKE")
node.do("BAG", "FETCH", "name", 1)
ask(name, "ADD", value)
table = [("x", b"JOIN", b"key", name), f"PUSH {key} LENGTH"]
sent = b"LONELY"
fails("expected LENGTH in the text", "and LENGTH")
"""


def test_what_counts_as_a_call() -> None:
    called = {"clump|twin", "store", "poke", "bag|fetch", "add", "join", "push", "lonely"}
    assert find_calls(CALLS, {*called, "clump", "fetch", "many", "length"}) == called


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_declaration_is_whole(command: Command) -> None:
    spec = command.spec
    assert spec.since.count(".") == 2
    assert spec.summary.endswith((".", "!"))
    assert spec.complexity or spec.name in ("lolwut", "monitor", "psync", "sync")
    assert bool(spec.deprecated_since) == ("deprecated" in spec.doc_flags)
    words = spec.name.count("|") + 1
    arguments = parse(spec.syntax, len(spec.keys))
    required = [argument for argument in arguments if not argument.optional]
    if spec.arity > 0:
        assert len(required) == len(arguments), "optional arguments, but a fixed number of them"
        assert (spec.arity == words) == (not arguments)
    # Each key specification is some argument's.
    found = {leaf.key_spec for leaf in leaves(arguments)} - {-1}
    wanted = {at for at, keys in enumerate(spec.keys) if "not_key" not in keys.flags}
    assert found >= wanted


@pytest.fixture
def node() -> Iterator[LocalServer]:
    """A whole node that does not run."""
    local = LocalServer()
    yield local
    local.close()


def documented(reply: Reply, name: bytes) -> dict[bytes, Reply]:
    """What COMMAND DOCS says of a command."""
    assert isinstance(reply, Map)
    about = dict(reply.pairs)[name]
    assert isinstance(about, Map)
    return {key: value for key, value in about.pairs if isinstance(key, bytes)}


def test_docs_in_the_shape_of_7_2(node: LocalServer) -> None:
    about = documented(node.connect(3)("COMMAND", "DOCS", "SET"), b"set")
    assert list(about)[:4] == [b"summary", b"since", b"group", b"complexity"]
    assert isinstance(about[b"history"], Set)
    arguments = about[b"arguments"]
    assert isinstance(arguments, list)
    assert arguments[0] == Map(
        [
            (b"name", b"key"),
            (b"type", b"key"),
            (b"display_text", b"key"),
            (b"key_spec_index", 0),
        ]
    )
    condition = arguments[2]
    assert isinstance(condition, Map)
    fields = {key: value for key, value in condition.pairs if isinstance(key, bytes)}
    assert (fields[b"name"], fields[b"type"]) == (b"condition", b"oneof")
    assert fields[b"flags"] == Set([Simple(b"optional")])
    assert b"display_text" not in fields


def test_docs_of_deprecated_and_of_containers(node: LocalServer) -> None:
    client = node.connect(3)
    about = documented(client("COMMAND", "DOCS", "getset", "nosuch", "config"), b"getset")
    assert about[b"doc_flags"] == Set([Simple(b"deprecated")])
    assert about[b"deprecated_since"] == b"6.2.0"
    assert b"replaced_by" in about
    about = documented(client("COMMAND", "DOCS", "config"), b"config")
    assert about[b"complexity"] == b"Depends on subcommand."
    subcommands = about[b"subcommands"]
    assert isinstance(subcommands, Map)
    assert b"config|get" in dict(subcommands.pairs)


def test_filters_of_command_list(node: LocalServer) -> None:
    client = node.connect()
    everything = client("COMMAND", "LIST")
    assert isinstance(everything, list)
    assert b"config|get" in everything
    assert client("COMMAND", "LIST", "FILTERBY", "PATTERN", "PE*AT") == [b"pexpireat"]
    dangerous = client("COMMAND", "LIST", "FILTERBY", "ACLCAT", "DANGEROUS")
    assert isinstance(dangerous, list)
    assert b"keys" in dangerous
    assert b"get" not in dangerous


def test_a_renamed_command_is_found_by_its_new_name() -> None:
    node = LocalServer("--rename-command", "GET", "FETCH", "--rename-command", "SET", "")
    try:
        client = node.connect()
        found = client("COMMAND", "INFO", "fetch", "get", "set")
        assert isinstance(found, list)
        assert isinstance(found[0], list)
        assert not isinstance(found[1], list)
        assert not isinstance(found[2], list)
        assert client("COMMAND", "GETKEYS", "FETCH", "a") == [b"a"]
    finally:
        node.close()
