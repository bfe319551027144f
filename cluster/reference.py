"""Writes `docs/commands.md` from the commands' declarations: `python -m cluster.reference`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cluster.composition import install_cluster
from node.clock import SystemClock
from node.command import Command
from node.composition import compose
from node.config import make_config
from node.log import Log
from node.network import SystemNetwork
from node.syntax import parse, render

TARGET: Final = Path(__file__).parents[1] / "docs" / "commands.md"

_INTRODUCTION: Final = """\
# Commands

<!-- Written by `python -m cluster.reference` from the declarations of the commands. -->

The commands of `sentrio node`, with the semantics of Redis 7.2. A command that is not listed here
is an unknown command. *Since* is the version of Redis that brought the command; a deprecated one
works, but has a better successor. The same facts, and more (flags, positions of keys, ACL
categories), come from the server itself: `COMMAND INFO name`, `COMMAND DOCS name`.

How they are tested: the commands of the data types and of keys by random sequences on this server
and on a redis-server, whose replies in both protocols, effects, events and data must be equal
(`tests/differential/families`); what COMMAND says, of all of them, by comparison, too; and the
others, of clients, transactions, publishing, blocking, persistence, replication and the cluster,
beside a redis-server or as its peer (`tests/differential`, `tests/integration`), and by themselves
(`tests/unit`).

"""

_TITLES: Final = {
    "string": "Strings",
    "bitmap": "Bitmaps",
    "list": "Lists",
    "hash": "Hashes",
    "set": "Sets",
    "sorted-set": "Sorted sets",
    "stream": "Streams",
    "geo": "Geospatial indexes",
    "hyperloglog": "HyperLogLogs",
    "generic": "Keys of any type",
    "pubsub": "Publish and subscribe",
    "transactions": "Transactions",
    "scripting": "Scripts and functions",
    "connection": "Connections",
    "server": "The server",
    "cluster": "The cluster",
}


def installed_commands() -> list[Command]:
    """The commands of a data server, without containers."""
    clock = SystemClock()
    server = compose(
        make_config(), Log(clock, level="nothing"), clock, SystemNetwork(), install_cluster
    )
    try:
        commands = list(server.engine.all_commands())
    finally:
        server.hub.close()
    return [command for command in commands if command.spec.function is not None]


def _row(command: Command) -> str:
    spec = command.spec
    syntax = render(parse(spec.syntax, len(spec.keys)))
    name = f"{spec.name.replace('|', ' ').upper()} {syntax}".strip()
    summary = spec.summary
    if spec.deprecated_since:
        summary += f" *Deprecated since {spec.deprecated_since}"
        summary += f", use {spec.replaced_by}.*" if spec.replaced_by else ".*"
    cells = (f"`{name}`", summary, spec.since, spec.complexity)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def write_reference(commands: Sequence[Command]) -> str:
    """The whole page."""
    parts = [_INTRODUCTION]
    for group, title in _TITLES.items():
        members = [command for command in commands if command.spec.group == group]
        if members:
            parts.append(f"## {title}\n\n")
            parts.append("| command | what it does | since | complexity |\n")
            parts.append("| --- | --- | --- | --- |\n")
            parts += [_row(command) for command in sorted(members, key=_name)]
            parts.append("\n")
    return "".join(parts).rstrip("\n") + "\n"


def _name(command: Command) -> str:
    return command.spec.name


def main() -> None:
    """Write the page to its place."""
    TARGET.write_text(write_reference(installed_commands()), encoding="utf-8")
    sys.stdout.write(f"{TARGET}\n")


if __name__ == "__main__":
    main()
