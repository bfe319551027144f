"""Which tests call which commands, read from the tests' source text.

What counts is a request that a test makes or draws: the literals of a call's arguments or of a
list, or a line of a script, that begin with the name of a command in capitals, after the name of
the server that is asked, and the like. Docstrings and comments do not count.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

KINDS: Final[Mapping[str, str]] = {
    "differential/families": "random",
    "differential": "compared",
    "unit": "unit",
    "integration": "processes",
    "simulation": "simulated",
    "chaos": "chaos",
}
"""Folders below `tests`, and what is said of a command that is called there."""
LEADING: Final = 2
"""How many literals may come before a request's first: which server is asked, and the like."""
LONGEST_NAME: Final = 2
"""Of a server, in a script."""


def find_evidence(folder: Path, names: Collection[str]) -> dict[str, list[str]]:
    """How each of these commands (`get`, `config|set`) is tested, in the order of ``KINDS``."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    wanted = frozenset(names)
    for path in sorted(folder.glob("**/*.py")):
        kind = _find_kind(path.relative_to(folder).parent.as_posix())
        if kind:
            for name in find_calls(path.read_text(encoding="utf-8"), wanted):
                found[name].add(kind)
    return {name: [kind for kind in KINDS.values() if kind in found[name]] for name in names}


def _find_kind(place: str) -> str:
    for folder, kind in KINDS.items():
        if place == folder or place.startswith(f"{folder}/"):
            return kind
    return ""


def find_calls(text: str, names: Collection[str]) -> set[str]:
    """The commands that a module calls, as far as they are among these names."""
    return {name for words in _find_words(ast.parse(text)) if (name := _match(words, names))}


def _match(words: Sequence[str], names: Collection[str]) -> str:
    """The command that these words call, if they do."""
    if not words or not words[0].isupper():
        return ""
    for count in (2, 1):
        name = "|".join(words[:count]).lower()
        if len(words) >= count and name in names:
            return name
    return ""


def _find_words(tree: ast.AST) -> Iterator[list[str]]:
    """What may be a request."""
    nodes = [tree]
    while nodes:
        node = nodes.pop()
        children = list(ast.iter_child_nodes(node))
        nodes += children
        parts: list[ast.expr] = []
        if isinstance(node, ast.Call):
            parts = node.args
        elif isinstance(node, ast.List | ast.Tuple):
            parts = node.elts
        elif isinstance(node, ast.Expr | ast.JoinedStr):
            continue
        if parts:
            yield from _find_joined([_read(part).split() for part in parts])
        for child in children:
            if isinstance(child, ast.Constant | ast.JoinedStr):
                yield from _find_lines(_read(child), child in parts)


def _find_lines(text: str, is_part: bool) -> Iterator[list[str]]:
    """Requests of a literal's own; one word among others is none."""
    for line in text.splitlines():
        words = line.split()
        if len(words) == 1 and is_part:
            continue
        yield words
        if words and len(words[0]) <= LONGEST_NAME:
            yield words[1:]


def _find_joined(parts: Sequence[list[str]]) -> Iterator[list[str]]:
    """Requests whose words are literals of their own."""
    for start in range(min(LEADING + 1, len(parts))):
        yield [word for part in parts[start:] for word in part]
        if "".join(parts[start]).isupper():
            # What follows may as well be an argument.
            return


def _read(node: ast.AST) -> str:
    """A literal's text, as far as it is one."""
    if isinstance(node, ast.Constant):
        if isinstance(node.value, bytes):
            return node.value.decode("latin-1")
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(_read(value) or "x" for value in node.values)
    return ""
