"""The arguments of a command, read from the notation in which they are declared.

The notation is that of redis.io's command pages::

    key value [NX | XX] [GET] [EX seconds | PX milliseconds | KEEPTTL]
    key [NX | XX] [GT | LT] [CH] [INCR] score member [score member ...]
    key [BY pattern] [LIMIT offset count] [GET pattern [GET pattern ...]] [ASC | DESC]

- a word in lower case is an argument that the user fills in; the name tells its type (``count`` is
  an integer, ``key`` a key), unless ``name:type`` says otherwise;
- a word in upper case, in double quotes or of signs alone is a token; one that stands before a
  value belongs to it;
- ``[…]`` is optional, ``<…>`` only groups, ``|`` separates alternatives;
- ``x [x ...]`` says that what stands before may be repeated.

What redis.io does not show can be added: ``label=[…]`` names a group, ``word@6.2.0`` (or
``[…]@6.2.0``) tells the version that brought an argument, ``name#1`` the key specification that
it belongs to, and ``pattern:pattern`` its type.

:func:`parse` makes the argument tree of ``COMMAND DOCS`` of it, :func:`render` writes a tree as
clients show it. Names of groups and the shape of the tree follow Redis's command table.
"""

from __future__ import annotations

import re
from itertools import chain
from typing import Final

TYPES: Final = frozenset(
    ("string", "integer", "double", "key", "pattern", "unix-time", "pure-token", "oneof", "block")
)

_KEYS: Final = frozenset(
    ("key", "key1", "key2", "source", "destination", "newkey", "src", "dst", "destkey", "sourcekey")
)
_INTEGERS: Final = frozenset(
    (
        *("bit", "bits", "client-id", "config-epoch", "count", "cursor", "db", "decrement"),
        *("destination-db", "end", "end-slot", "frequency", "increment", "index", "index1"),
        *("index2", "len", "limit", "milliseconds", "ms", "num-matches", "numkeys"),
        *("numreplicas", "offset", "port", "protover", "rank", "samples", "seconds", "slot"),
        *("start", "start-slot", "stop", "timeout", "ttl", "version", "weight"),
    )
)
_DOUBLES: Final = frozenset(
    ("height", "latitude", "longitude", "max", "min", "radius", "score", "width")
)

# What groups are called, by their tokens (alternatives) or the names in them (sequences).
_CHOICE_NAMES: Final[dict[tuple[str, ...], str]] = {
    ("NX", "XX"): "condition",
    ("NX", "XX", "GT", "LT"): "condition",
    ("GT", "LT"): "comparison",
    ("LEFT", "RIGHT"): "where",
    ("MIN", "MAX"): "where",
    ("BEFORE", "AFTER"): "where",
    ("ASC", "DESC"): "order",
    ("SUM", "MIN", "MAX"): "aggregate",
    ("BYTE", "BIT"): "unit",
    ("M", "KM", "FT", "MI"): "unit",
    ("BYSCORE", "BYLEX"): "sortby",
    ("ASYNC", "SYNC"): "flush-type",
    ("NOSAVE", "SAVE"): "save-selector",
    ("ON", "OFF"): "enabled",
    ("ON", "OFF", "SKIP"): "action",
    ("YES", "NO"): "mode",
    ("WRITE", "ALL"): "mode",
    ("TIMEOUT", "ERROR"): "unblock-type",
    ("MODULE", "ACLCAT", "PATTERN"): "filterby",
    ("MAXLEN", "MINID"): "strategy",
    ("=", "~"): "operator",
}
_SIGNS: Final = {
    "=": "equal",
    "~": "approximately",
    "*": "auto-id",
    "$": "new-id",
    '""': "empty-string",
}
_EXPIRATIONS: Final = frozenset(("EX", "PX", "EXAT", "PXAT"))

_WORDS: Final = re.compile(r'"[^"]*"|\.\.\.|[\[\]<>|]|[^\s\[\]<>|"]+')
_SINCE: Final = re.compile(r"@([0-9]+(?:\.[0-9]+)+)$")


class Argument:
    """One argument of a command, as ``COMMAND DOCS`` describes it.

    ``display`` is empty for groups (``oneof`` and ``block``), ``key_spec`` is -1 where the argument
    is no key, ``token`` and ``since`` are empty where there is none.
    """

    __slots__ = (
        "name",
        "kind",
        "display",
        "key_spec",
        "token",
        "since",
        "optional",
        "multiple",
        "multiple_token",
        "arguments",
    )

    def __init__(self, name: str, kind: str) -> None:
        self.name = name
        self.kind = kind
        self.display = "" if kind in ("oneof", "block") else name
        self.key_spec = -1
        self.token = ""
        self.since = ""
        self.optional = False
        self.multiple = False
        self.multiple_token = False
        self.arguments: list[Argument] = []


class _Word:
    """A placeholder or a token, as written but without its ``@version``."""

    __slots__ = ("text", "since")

    def __init__(self, text: str, since: str) -> None:
        self.text = text
        self.since = since

    @property
    def is_token(self) -> bool:
        text = self.text
        return text.startswith('"') or not any("a" <= letter <= "z" for letter in text)

    def same(self, other: _Node) -> bool:
        return isinstance(other, _Word) and self.text == other.text


class _Bracket:
    """``[…]`` or ``<…>``: alternatives, each a sequence."""

    __slots__ = ("optional", "alternatives", "label", "since")

    def __init__(self, optional: bool, alternatives: list[list[_Node]], label: str) -> None:
        self.optional = optional
        self.alternatives = alternatives
        self.label = label
        self.since = ""

    def same(self, other: _Node) -> bool:
        return (
            isinstance(other, _Bracket)
            and self.optional == other.optional
            and len(self.alternatives) == len(other.alternatives)
            and all(map(_same, self.alternatives, other.alternatives))
        )


class _Repeat:
    """A sequence that may come several times."""

    __slots__ = ("content", "label", "since")

    def __init__(self, content: list[_Node], label: str, since: str) -> None:
        self.content = content
        self.label = label
        self.since = since

    def same(self, other: _Node) -> bool:
        return isinstance(other, _Repeat) and _same(self.content, other.content)


_Node = _Word | _Bracket | _Repeat


def _same(first: list[_Node], second: list[_Node]) -> bool:
    return len(first) == len(second) and all(a.same(b) for a, b in zip(first, second, strict=True))


def parse(syntax: str, key_specs: int = 0) -> list[Argument]:
    """The arguments that ``syntax`` describes, of a command with so many key specifications.

    Raises ValueError when the notation is malformed.
    """
    reader = _Reader(_WORDS.findall(syntax), syntax)
    nodes = reader.read_sequence(("",))
    if any(map(_is_dots, nodes)):
        raise ValueError(f"... stands alone in {syntax!r}")
    arguments = _build_sequence(nodes)
    _make_unique(arguments)
    _number_keys(arguments, key_specs)
    return arguments


def _is_dots(node: _Node) -> bool:
    return isinstance(node, _Word) and node.text == "..."


class _Reader:
    """Words to nodes, by recursive descent."""

    __slots__ = ("words", "at", "syntax")

    def __init__(self, words: list[str], syntax: str) -> None:
        self.words = words
        self.at = 0
        self.syntax = syntax

    def _fail(self, why: str) -> ValueError:
        return ValueError(f"{why} in {self.syntax!r}")

    def _next(self) -> str:
        word = self.words[self.at] if self.at < len(self.words) else ""
        self.at += 1
        return word

    def read_sequence(self, ends: tuple[str, ...]) -> list[_Node]:
        """Nodes up to one of ``ends``, which is left to be read ("" is the end of all)."""
        nodes: list[_Node] = []
        label = ""
        while True:
            word = self._next()
            if word in ends:
                self.at -= 1
                if label:
                    raise self._fail(f"the label {label!r} names nothing")
                return nodes
            if word in ("", "|", "]", ">"):
                raise self._fail(f"unexpected {word!r}")
            if word in ("[", "<"):
                self._add_bracket(nodes, word, label)
                label = ""
            elif word == "...":
                nodes.append(_Word(word, ""))
            elif len(word) > 1 and word.endswith("="):
                label = word[:-1]
            else:
                since = _SINCE.search(word)
                if since is None:
                    nodes.append(_Word(word, ""))
                elif since.start() > 0:
                    nodes.append(_Word(word[: since.start()], since[1]))
                else:
                    raise self._fail(f"{word!r} stands alone")

    def _add_bracket(self, nodes: list[_Node], opening: str, label: str) -> None:
        closing = "]" if opening == "[" else ">"
        alternatives: list[list[_Node]] = []
        while True:
            alternatives.append(self.read_sequence(("|", closing)))
            if not alternatives[-1]:
                raise self._fail("nothing between brackets")
            if self._next() == closing:
                break
        bracket = _Bracket(opening == "[", alternatives, label)
        if self.at < len(self.words):
            since = _SINCE.fullmatch(self.words[self.at])
            if since is not None:
                bracket.since = since[1]
                self.at += 1
        if not any(map(_is_dots, chain(*alternatives))):
            nodes.append(bracket)
            return
        content = alternatives[0][:-1]
        size = len(content)
        if (
            len(alternatives) > 1
            or not _is_dots(alternatives[0][-1])
            or not size
            or not _same(nodes[-size:], content)
        ):
            raise self._fail("... does not repeat what stands before it")
        first = nodes[-size:]
        del nodes[-size:]
        nodes.append(_Repeat(first, label, bracket.since))


def _build_sequence(nodes: list[_Node]) -> list[Argument]:
    found: list[Argument] = []
    at = 0
    while at < len(nodes):
        node = nodes[at]
        at += 1
        if not (isinstance(node, _Word) and node.is_token):
            found.append(_build(node))
            continue
        values: list[Argument] = []
        while at < len(nodes) and _is_value(nodes[at]):
            values.append(_build(nodes[at]))
            at += 1
        token = node.text.strip('"') if node.text != '""' else '""'
        if not values:
            argument = Argument(_token_name(token), "pure-token")
        elif len(values) == 1:
            argument = values[0]
        else:
            argument = _make_block(values, token.lower())
        argument.token = token
        argument.since = argument.since or node.since
        found.append(argument)
    return found


def _is_value(node: _Node) -> bool:
    """Whether ``node`` can be what the token before it introduces."""
    if isinstance(node, _Word):
        return not node.is_token
    if isinstance(node, _Repeat):
        first = node.content[0]
        return not (isinstance(first, _Word) and first.is_token)
    return not node.optional


def _build(node: _Node) -> Argument:
    if isinstance(node, _Word):
        return _build_word(node)
    if isinstance(node, _Repeat):
        arguments = _build_sequence(node.content)
        first = node.content[0]
        if len(arguments) == 1:
            argument = arguments[0]
            argument.multiple_token = isinstance(first, _Word) and first.is_token
        else:
            argument = _make_block(arguments, node.label or "data")
        argument.multiple = True
    elif len(node.alternatives) == 1:
        arguments = _build_sequence(node.alternatives[0])
        argument = arguments[0] if len(arguments) == 1 else _make_block(arguments, "")
        argument.optional = argument.optional or node.optional
    else:
        argument = Argument("", "oneof")
        for alternative in node.alternatives:
            arguments = _build_sequence(alternative)
            argument.arguments.append(
                arguments[0] if len(arguments) == 1 else _make_block(arguments, "")
            )
        _make_unique(argument.arguments)
        argument.name = _choice_name(argument.arguments)
        argument.optional = node.optional
    if node.label:
        argument.name = node.label
    argument.since = argument.since or node.since
    return argument


def _build_word(word: _Word) -> Argument:
    if word.is_token:
        token = word.text.strip('"') or '""'
        argument = Argument(_token_name(token), "pure-token")
        argument.token = token
        argument.since = word.since
        return argument
    text, _, spec = word.text.partition("#")
    name, _, kind = text.rpartition(":")
    if kind not in TYPES or not name:
        name = text
        kind = infer_type(name)
    argument = Argument(name.replace(":", "-").replace("/", "-"), kind)
    argument.display = name
    argument.since = word.since
    if spec:
        argument.key_spec = int(spec)
    return argument


def _token_name(token: str) -> str:
    return _SIGNS.get(token, token.lower())


def _make_block(arguments: list[Argument], name: str) -> Argument:
    _make_unique(arguments)
    block = Argument(name or f"{arguments[0].name}-block", "block")
    block.arguments = arguments
    return block


def _choice_name(alternatives: list[Argument]) -> str:
    tokens = tuple(argument.token for argument in alternatives)
    name = _CHOICE_NAMES.get(tokens)
    if name is not None:
        return name
    if len(_EXPIRATIONS.intersection(tokens)) > 1:
        return "expiration"
    return "-or-".join(argument.name for argument in alternatives[:2])


def infer_type(name: str) -> str:
    """The type of an argument that is called ``name``."""
    if name in _KEYS:
        return "key"
    if name in _INTEGERS:
        return "integer"
    if name in _DOUBLES:
        return "double"
    if name.startswith("unix-time"):
        return "unix-time"
    if name == "pattern":
        return "pattern"
    return "string"


def _make_unique(arguments: list[Argument]) -> None:
    """Siblings must not share a name: the token tells them apart, then a number."""
    taken: set[str] = set()
    names = [argument.name for argument in arguments]
    for argument in arguments:
        if names.count(argument.name) > 1 and argument.token and argument.kind != "pure-token":
            argument.name = f"{argument.token.lower()}-{argument.name}"
        name = argument.name
        number = 2
        while argument.name in taken:
            argument.name = f"{name}{number}"
            number += 1
        taken.add(argument.name)


def _number_keys(arguments: list[Argument], key_specs: int) -> None:
    """Number the key arguments by key specification: in order, the last one for the rest."""
    following = 0
    pending = list(arguments)
    while pending:
        argument = pending.pop(0)
        if argument.kind == "key" and argument.key_spec < 0 and key_specs:
            argument.key_spec = min(following, key_specs - 1)
            following += 1
        pending[:0] = argument.arguments


def render(arguments: list[Argument]) -> str:
    """The notation that clients show for ``arguments``."""
    return " ".join(map(_render, arguments))


def _render(argument: Argument) -> str:
    if argument.kind == "pure-token":
        text = argument.token
    elif argument.kind == "oneof":
        text = " | ".join(map(_render, argument.arguments))
    elif argument.kind == "block":
        text = render(argument.arguments)
    else:
        text = argument.display
    token = argument.token if argument.kind != "pure-token" else ""
    if argument.kind == "oneof" and (token or not argument.optional):
        text = f"<{text}>"
    if argument.multiple:
        again = f"{token} {text}" if token and argument.multiple_token else text
        text = f"{text} [{again} ...]"
    if token:
        text = f"{token} {text}"
    return f"[{text}]" if argument.optional else text
