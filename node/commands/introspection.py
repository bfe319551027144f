"""COMMAND: what the server knows of its commands, all of it from their declarations.

Shapes and texts are those of Redis 7.2 (``commandCommand`` and its neighbours in server.c); the
documentation of arguments is read from the declared notation by :mod:`node.syntax`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from node.command import (
    CATEGORIES,
    FLAG_NAMES,
    HIDDEN_FLAGS,
    NO_MANDATORY_KEYS,
    Command,
    Group,
    KeySpec,
    plain_range,
)
from node.commands.arguments import SYNTAX_ERROR, help_reply
from node.component import Component
from node.resp import Encoded, Map, Reply, ReplyError, SetReply, Status, encode
from node.session import Session
from node.syntax import Argument, parse
from node.values.pattern import compile as compile_pattern

if TYPE_CHECKING:
    from node.server import Server

GROUP: Final = Group("server")

# The flags of a key specification, in the order of COMMAND INFO.
KEY_FLAGS: Final = (
    *("RO", "RW", "OW", "RM", "access", "update", "insert", "delete"),
    *("not_key", "incomplete", "variable_flags"),
)

HELP: Final = (
    "(no subcommand)",
    "    Describe all commands.",
    "COUNT",
    "    Tell how many commands there are.",
    "LIST",
    "    List the names of all commands and subcommands, or of those a filter lets through.",
    "INFO [<command-name> ...]",
    "    Describe the named commands, or all: arity, flags, keys, categories, tips.",
    "DOCS [<command-name> ...]",
    "    Document the named commands, or all.",
    "GETKEYS <full-command>",
    "    Tell which arguments of a command are keys.",
    "GETKEYSANDFLAGS <full-command>",
    "    The same, and what the command does with each.",
)


class Introspection(Component):
    """The COMMAND command.

    Clients ask for everything when they connect, so these answers are kept once they are made;
    commands come and go only while the server is put together.
    """

    def __init__(self, server: Server) -> None:
        super().__init__(server.engine)
        self._arguments: dict[Command, list[Argument]] = {}
        # Of all commands, by protocol.
        self._descriptions: dict[int, Encoded] = {}
        self._documents: dict[int, Encoded] = {}

    def groups(self) -> Sequence[Group]:
        return (GROUP,)

    @GROUP.command(
        "command",
        -1,
        "loading stale",
        categories="connection",
        since="2.8.13",
        complexity="O(N), N being the number of commands",
        summary="Describes all commands.",
        tips=["nondeterministic_output_order"],
    )
    def describe_all(self, ctx: Session, argv: list[bytes]) -> Reply:
        """Everything that INFO tells, of every command."""
        known = self._descriptions.get(ctx.protocol)
        if known is None:
            everything = [describe(command) for command in self.engine.commands.values()]
            known = self._descriptions[ctx.protocol] = Encoded(encode(everything, ctx.protocol))
        return known

    @GROUP.command(
        "command|count",
        2,
        "loading stale",
        categories="connection",
        since="2.8.13",
        complexity="O(1)",
        summary="Counts the commands.",
    )
    def count(self, ctx: Session, argv: list[bytes]) -> Reply:
        """Subcommands do not count."""
        return len(self.engine.commands)

    @GROUP.command(
        "command|list",
        -2,
        "loading stale",
        categories="connection",
        since="7.0.0",
        complexity="O(N), N being the number of commands",
        summary="Lists the names of commands.",
        syntax="[FILTERBY <MODULE module-name | ACLCAT category | PATTERN pattern>]",
        tips=["nondeterministic_output_order"],
    )
    def list_names(self, ctx: Session, argv: list[bytes]) -> Reply:
        """Names, those of subcommands included, that pass the filter."""
        if len(argv) == 2:
            return [command.name for command in self.engine.all_commands()]
        if len(argv) != 5 or argv[2].lower() != b"filterby":
            raise ReplyError(SYNTAX_ERROR)
        kind = argv[3].lower()
        if kind == b"aclcat":
            category = argv[4].lower().decode("latin-1")
            return [
                command.name
                for command in self.engine.all_commands()
                if category in command.spec.categories
            ]
        if kind == b"pattern":
            matches = compile_pattern(argv[4], True)
            return [command.name for command in self.engine.all_commands() if matches(command.name)]
        if kind == b"module":
            # No command here comes from a module.
            return []
        raise ReplyError(SYNTAX_ERROR)

    @GROUP.command(
        "command|info",
        -2,
        "loading stale",
        categories="connection",
        since="2.8.13",
        complexity="O(N), N being the number of names",
        summary="Describes some commands, or all.",
        syntax="[command-name [command-name ...]]",
        history=[("7.0.0", "The names may be left out.")],
        tips=["nondeterministic_output_order"],
    )
    def info(self, ctx: Session, argv: list[bytes]) -> Reply:
        """A null stands for a name that no command has."""
        if len(argv) == 2:
            return self.describe_all(ctx, argv)
        found = [self._named(name) for name in argv[2:]]
        return [None if command is None else describe(command) for command in found]

    @GROUP.command(
        "command|docs",
        -2,
        "loading stale",
        categories="connection",
        since="7.0.0",
        complexity="O(N), N being the number of names",
        summary="Documents some commands, or all.",
        syntax="[command-name [command-name ...]]",
        tips=["nondeterministic_output_order"],
    )
    def docs(self, ctx: Session, argv: list[bytes]) -> Reply:
        """A name that no command has is left out."""
        if len(argv) > 2:
            named = [self._named(name) for name in argv[2:]]
            return self._document_all([command for command in named if command is not None])
        known = self._documents.get(ctx.protocol)
        if known is None:
            everything = self._document_all(list(self.engine.commands.values()))
            known = self._documents[ctx.protocol] = Encoded(encode(everything, ctx.protocol))
        return known

    @GROUP.command(
        "command|getkeys",
        -3,
        "loading stale",
        categories="connection",
        since="2.8.13",
        complexity="O(N), N being the number of arguments",
        summary="Finds the keys among the arguments of a command.",
        syntax="command [arg [arg ...]]",
    )
    def get_keys(self, ctx: Session, argv: list[bytes]) -> Reply:
        """The keys in the order in which the command's specifications name them."""
        return [argv[2 + index] for index, _ in self._keys_of(argv[2:])]

    @GROUP.command(
        "command|getkeysandflags",
        -3,
        "loading stale",
        categories="connection",
        since="7.0.0",
        complexity="O(N), N being the number of arguments",
        summary="Finds the keys among the arguments of a command, and what it does with them.",
        syntax="command [arg [arg ...]]",
    )
    def get_keys_and_flags(self, ctx: Session, argv: list[bytes]) -> Reply:
        """Pairs of a key and its flags."""
        return [
            [argv[2 + index], describe_key_flags(flags)] for index, flags in self._keys_of(argv[2:])
        ]

    @GROUP.command(
        "command|help",
        2,
        "loading stale",
        categories="connection",
        since="5.0.0",
        complexity="O(1)",
        summary="Lists the subcommands of COMMAND.",
    )
    def help(self, ctx: Session, argv: list[bytes]) -> Reply:
        """The lines above."""
        return help_reply("command", HELP)

    def _named(self, name: bytes) -> Command | None:
        """The command called ``name``, or ``container|name``."""
        container, bar, subcommand = name.lower().partition(b"|")
        command = self.engine.commands.get(container)
        if command is None or not bar:
            return command
        return command.subcommands.get(subcommand) if command.subcommands is not None else None

    def _keys_of(self, argv: list[bytes]) -> list[tuple[int, tuple[str, ...]]]:
        """Where the keys of a request are, and their flags; the errors are GETKEYS's."""
        command = self.engine.find_command(argv)
        if not isinstance(command, Command):
            raise ReplyError(b"ERR Invalid command specified")
        spec = command.spec
        if spec.key_finder is None and all("not_key" in keys.flags for keys in spec.keys):
            raise ReplyError(b"ERR The command has no key arguments")
        if not command.accepts(len(argv)):
            raise ReplyError(b"ERR Invalid number of arguments specified for command")
        try:
            found = command.keys_with_flags(argv)
        except ValueError:
            found = []
        if not found and not command.flags & NO_MANDATORY_KEYS:
            raise ReplyError(b"ERR Invalid arguments specified for command")
        return found

    # COMMAND DOCS.

    def _document_all(self, commands: Sequence[Command]) -> Map:
        items: list[Reply] = []
        for command in commands:
            items += (command.name, self._document(command))
        return Map(items)

    def _document(self, command: Command) -> Map:
        spec = command.spec
        items: list[Reply] = [
            *(b"summary", spec.summary.encode()),
            *(b"since", spec.since.encode()),
            *(b"group", spec.group.encode()),
        ]
        if spec.complexity:
            items += (b"complexity", spec.complexity.encode())
        if spec.doc_flags:
            items += (b"doc_flags", _names(spec.doc_flags))
        if spec.deprecated_since:
            items += (b"deprecated_since", spec.deprecated_since.encode())
        if spec.replaced_by:
            items += (b"replaced_by", spec.replaced_by.encode())
        if spec.history:
            history = [[version.encode(), text.encode()] for version, text in spec.history]
            items += (b"history", SetReply(list(history)))
        arguments = self.arguments_of(command)
        if arguments:
            items += (b"arguments", [_document_argument(argument) for argument in arguments])
        if command.subcommands:
            items += (b"subcommands", self._document_all(list(command.subcommands.values())))
        return Map(items)

    def arguments_of(self, command: Command) -> Sequence[Argument]:
        """What ``command`` takes, as declared."""
        known = self._arguments.get(command)
        if known is None:
            known = self._arguments[command] = parse(command.spec.syntax, len(command.spec.keys))
        return known


def _document_argument(argument: Argument) -> Map:
    items: list[Reply] = [
        *(b"name", argument.name.encode()),
        *(b"type", argument.kind.encode()),
    ]
    if argument.display:
        items += (b"display_text", argument.display.encode())
    if argument.key_spec >= 0:
        items += (b"key_spec_index", argument.key_spec)
    if argument.token:
        items += (b"token", argument.token.encode())
    if argument.since:
        items += (b"since", argument.since.encode())
    flags = [
        name
        for name, is_set in (
            ("optional", argument.optional),
            ("multiple", argument.multiple),
            ("multiple_token", argument.multiple_token),
        )
        if is_set
    ]
    if flags:
        items += (b"flags", _names(flags))
    if argument.arguments:
        items += (b"arguments", [_document_argument(inner) for inner in argument.arguments])
    return Map(items)


# COMMAND INFO.


def describe(command: Command) -> Reply:
    """The ten elements that COMMAND INFO tells of a command."""
    spec = command.spec
    first, last, step, _ = plain_range(spec.keys)
    flags = command.flags & ~HIDDEN_FLAGS
    subcommands: Reply = SetReply([])
    if command.subcommands:
        subcommands = [describe(subcommand) for subcommand in command.subcommands.values()]
    return [
        command.name,
        command.arity,
        _names([name for name, bit in FLAG_NAMES if flags & bit]),
        first,
        last,
        step,
        _names([f"@{name}" for name in CATEGORIES if name in spec.categories]),
        SetReply([tip.encode() for tip in spec.tips]),
        SetReply([_describe_keys(keys) for keys in spec.keys]),
        subcommands,
    ]


def _names(names: Sequence[str]) -> SetReply:
    return SetReply([Status(name.encode()) for name in names])


def describe_key_flags(flags: tuple[str, ...]) -> SetReply:
    """The flags of a key, in Redis's order."""
    return _names([name for name in KEY_FLAGS if name in flags])


def _describe_keys(spec: KeySpec) -> Map:
    items: list[Reply] = []
    if spec.notes:
        items += (b"notes", spec.notes.encode())
    items += (b"flags", describe_key_flags(spec.flags))
    if spec.unknown:
        begin = _typed(b"unknown")
        find = _typed(b"unknown")
    else:
        if spec.keyword is not None:
            begin = _typed(b"keyword", b"keyword", spec.keyword, b"startfrom", spec.start)
        else:
            begin = _typed(b"index", b"index", spec.index)
        if spec.keynum is not None:
            find = _typed(
                *(b"keynum", b"keynumidx", spec.keynum),
                *(b"firstkey", spec.first, b"keystep", spec.step),
            )
        else:
            find = _typed(
                *(b"range", b"lastkey", spec.last),
                *(b"keystep", spec.step, b"limit", spec.limit),
            )
    return Map([*items, b"begin_search", begin, b"find_keys", find])


def _typed(kind: bytes, *spec: Reply) -> Map:
    return Map([b"type", kind, b"spec", Map(list(spec))])
