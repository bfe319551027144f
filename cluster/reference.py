"""Writes `docs/commands.md` from the commands' declarations and the tests' source text.

`python -m cluster.reference`, in a checkout.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from cluster.composition import install_cluster
from cluster.evidence import find_evidence
from node.clock import SystemClock
from node.command import Command
from node.composition import compose
from node.config import make_config
from node.log import Log
from node.network import SystemNetwork
from node.syntax import parse, render

ROOT: Final = Path(__file__).parents[1]
TARGET: Final = ROOT / "docs" / "commands.md"

_INTRODUCTION: Final = """\
# Commands

<!-- Written by `python -m cluster.reference` from the commands' declarations, and the tests. -->

The commands of `sentrio node`, with the semantics of Redis 7.2. A command that is not listed here
is an unknown command. *Since* is the version of Redis that brought the command; a deprecated one
works, but has a better successor. The same facts, and more (flags, positions of keys, ACL
categories), come from the server itself: `COMMAND INFO name`, `COMMAND DOCS name`.

*Tested* says in which ways tests call the command, as found in their source text:

| tested | how |
| --- | --- |
| random | drawn at random, with good and bad arguments, for this server and a redis-server: \
replies in both protocols, effects, events and data must be equal (`tests/differential/families`) |
| compared | in scripts for this server and a redis-server, whose answers must be equal \
(`tests/differential`) |
| unit | by itself, within the test's process (`tests/unit`) |
| processes | on running servers, with clients or a redis-server as a peer (`tests/integration`) |
| simulated | on servers in virtual time, with faults drawn from a seed (`tests/simulation`) |
| chaos | on servers that are killed, stopped and cut off meanwhile (`tests/chaos`) |

What COMMAND says of them is compared with what a redis-server says, for all that it has.

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


def _row(command: Command, evidence: Sequence[str]) -> str:
    spec = command.spec
    syntax = render(parse(spec.syntax, len(spec.keys)))
    name = f"{spec.name.replace('|', ' ').upper()} {syntax}".strip()
    summary = spec.summary
    if spec.deprecated_since:
        summary += f" *Deprecated since {spec.deprecated_since}"
        summary += f", use {spec.replaced_by}.*" if spec.replaced_by else ".*"
    cells = (f"`{name}`", summary, spec.since, spec.complexity, ", ".join(evidence))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def write_reference(commands: Sequence[Command], evidence: Mapping[str, Sequence[str]]) -> str:
    """The whole page; ``evidence`` has how each command is tested."""
    parts = [_INTRODUCTION]
    for group, title in _TITLES.items():
        members = [command for command in commands if command.spec.group == group]
        if members:
            parts.append(f"## {title}\n\n")
            parts.append("| command | what it does | since | complexity | tested |\n")
            parts.append("| --- | --- | --- | --- | --- |\n")
            parts += [
                _row(member, evidence[_name(member)]) for member in sorted(members, key=_name)
            ]
            parts.append("\n")
    return "".join(parts).rstrip("\n") + "\n"


def _name(command: Command) -> str:
    return command.spec.name


def main() -> None:
    """Write the page to its place."""
    commands = installed_commands()
    evidence = find_evidence(ROOT / "tests", [command.spec.name for command in commands])
    page = write_reference(commands, evidence)
    TARGET.write_text(page, encoding="utf-8")
    sys.stdout.write(f"{TARGET}\n")


if __name__ == "__main__":
    main()
