"""SORT: the elements of a list, set or sorted set in order, or what they point to.

Semantics follow Redis's ``sort.c``. Texts compare byte by byte, as in the C locale.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from node.command import Group, key, keys_unknown
from node.commands.arguments import SYNTAX_ERROR, WRONG_TYPE, integer
from node.keyspace import EVENT_GENERIC, EVENT_LIST, Database
from node.resp import Reply, ReplyError
from node.session import Session
from node.values.hash import Hash
from node.values.list import List
from node.values.number import LEADING_SPACE, parse_float
from node.values.set import Set
from node.values.sorted_set import SortedSet

GROUP: Final = Group("generic")

_OUTER_KEYS_NOTE: Final = "What BY and GET name depends on the elements of the key to sort"
_STORE_NOTE: Final = "For STORE, which may stand anywhere among the options"


class Reference:
    """A pattern of BY or GET: what it means for an element.

    ``#`` is the element itself; otherwise the element stands for the first ``*``, and the string at
    the key so named is meant, or with ``->field`` after the ``*`` a field of the hash there.
    """

    __slots__ = ("itself", "constant", "prefix", "suffix", "field")

    def __init__(self, pattern: bytes) -> None:
        self.itself = pattern == b"#"
        self.prefix, star, rest = pattern.partition(b"*")
        self.constant = not star
        self.suffix, _, field = rest.partition(b"->")
        self.field: bytes | None = field
        if not field:
            self.suffix = rest
            self.field = None

    def follow(self, db: Database, element: bytes) -> bytes | None:
        """The text that ``element`` leads to, None if there is none."""
        if self.itself:
            return element
        if self.constant:
            return None
        value = db.find(self.prefix + element + self.suffix)
        if self.field is not None:
            return value.get(self.field) if type(value) is Hash else None
        if type(value) is bytes:
            return value
        return bytes(value) if type(value) is bytearray else None


class Options:
    """What a SORT asks for, as it stands in the request.

    ``unsorted``: some BY names no pattern, whatever others say.
    """

    __slots__ = ("descending", "alpha", "offset", "count", "by", "unsorted", "get", "store")

    def __init__(self) -> None:
        self.descending = False
        self.alpha = False
        self.offset = 0
        self.count = -1
        self.by: Reference | None = None
        self.unsorted = False
        self.get: list[Reference] = []
        self.store: bytes | None = None


def _parse(argv: list[bytes], *, stores: bool) -> Options:
    options = Options()
    at = 2
    argc = len(argv)
    while at < argc:
        word = argv[at].upper()
        left = argc - at - 1
        if word == b"ASC":
            options.descending = False
        elif word == b"DESC":
            options.descending = True
        elif word == b"ALPHA":
            options.alpha = True
        elif word == b"LIMIT" and left >= 2:
            options.offset = integer(argv[at + 1])
            options.count = integer(argv[at + 2])
            at += 2
        elif word == b"STORE" and left >= 1 and stores:
            options.store = argv[at + 1]
            at += 1
        elif word == b"BY" and left >= 1:
            options.by = Reference(argv[at + 1])
            options.unsorted = options.unsorted or options.by.constant
            at += 1
        elif word == b"GET" and left >= 1:
            options.get.append(Reference(argv[at + 1]))
            at += 1
        else:
            raise ReplyError(SYNTAX_ERROR)
        at += 1
    return options


def _parse_weight(text: bytes) -> float:
    """A number as strtod reads it from the whole text, nothing at all being zero."""
    number = parse_float(text)
    if number is None:
        text = text.partition(b"\0")[0]
        number = parse_float(text.lstrip(LEADING_SPACE)) if text else 0.0
        if number is None:
            raise ReplyError(b"ERR One or more scores can't be converted into double")
    return number


def _in_order(db: Database, elements: Sequence[bytes], options: Options) -> list[bytes]:
    """The elements, sorted as the options say."""
    by = options.by
    descending = options.descending
    if options.alpha:
        if by is None:
            return sorted(elements, reverse=descending)
        texts: dict[bytes, tuple[bool, bytes]] = {}
        for element in elements:
            text = by.follow(db, element)
            # Elements without a text come before all others.
            texts[element] = (text is not None, text or b"")
        return sorted(elements, key=texts.__getitem__, reverse=descending)
    weights: list[float]
    if by is None:
        weights = list(map(_parse_weight, elements))
    else:
        weights = []
        for element in elements:
            text = by.follow(db, element)
            weights.append(0.0 if text is None else _parse_weight(text))
    return [
        element for _, element in sorted(zip(weights, elements, strict=True), reverse=descending)
    ]


def _select(ctx: Session, name: bytes, options: Options) -> list[bytes]:
    """The elements that the options choose, in their order."""
    db = ctx.db
    value = db.find(name)
    if value is None:
        return []
    if type(value) is not List and type(value) is not Set and type(value) is not SortedSet:
        raise ReplyError(WRONG_TYPE)
    size = len(value)
    start = min(max(options.offset, 0), size)
    stop = size if options.count < 0 else min(start + options.count, size)
    if type(value) is SortedSet:
        # Redis turns it into its larger form, for good.
        value.compact = False
    if options.unsorted:
        if type(value) is Set:
            if options.store is None:
                return list(value.members())[start:stop]
            # Replicas must store the same list.
            return sorted(value.members(), reverse=options.descending)[start:stop]
        if options.descending:
            start, stop = size - stop, size - start
        if type(value) is List:
            chosen = value.range(start, stop)
        else:
            assert type(value) is SortedSet
            chosen = value.range_members(start, stop)
        if options.descending:
            chosen.reverse()
        return chosen
    elements: Sequence[bytes]
    if type(value) is List:
        elements = value.range(0, size)
    elif type(value) is Set:
        elements = list(value.members())
    else:
        assert type(value) is SortedSet
        elements = list(value.scores)
    return _in_order(db, elements, options)[start:stop]


def _sort(ctx: Session, argv: list[bytes], *, stores: bool) -> Reply:
    options = _parse(argv, stores=stores)
    db = ctx.db
    found: list[bytes] = _select(ctx, argv[1], options)
    target = options.store
    if not options.get:
        if target is None:
            return found
    elif target is None:
        return [reference.follow(db, element) for element in found for reference in options.get]
    else:
        found = [
            reference.follow(db, element) or b"" for element in found for reference in options.get
        ]
    if found:
        result = List(ctx.engine.keyspace.limits)
        result.extend_right(found)
        db.put(target, result)
        db.changed(target, None, EVENT_LIST, b"sortstore", len(found))
    elif db.delete(target):
        db.changed(target, None, EVENT_GENERIC, b"del")
    return len(found)


def _find_keys(argv: Sequence[bytes]) -> list[tuple[int, tuple[str, ...]]]:
    """The key to sort, and the last that STORE names."""
    found: list[tuple[int, tuple[str, ...]]] = [(1, ("RO", "access"))]
    store = 0
    at = 2
    while at < len(argv):
        word = argv[at].upper()
        if word == b"LIMIT":
            at += 2
        elif word in (b"GET", b"BY"):
            at += 1
        elif word == b"STORE" and at + 1 < len(argv):
            store = at + 1
        at += 1
    if store:
        found.append((store, ("OW", "update")))
    return found


@GROUP.command(
    "sort",
    -2,
    "write denyoom",
    keys=[
        key("RO access"),
        keys_unknown("RO access", notes=_OUTER_KEYS_NOTE),
        keys_unknown("OW update", notes=_STORE_NOTE),
    ],
    key_finder=_find_keys,
    categories="-keyspace set sortedset list dangerous",
    since="1.0.0",
    complexity="O(N+M*log(M)), N being the number of elements and M that of those returned; "
    "O(N) without sorting",
    summary="Sorts the elements of a list, set or sorted set, and stores them on demand.",
    syntax="key [BY by-pattern:pattern#1] [LIMIT offset count] "
    "[GET get-pattern:pattern#1 [GET get-pattern:pattern#1 ...]] [ASC | DESC] [sorting=[ALPHA]] "
    "[STORE destination#2]",
)
def sort(ctx: Session, argv: list[bytes]) -> Reply:
    return _sort(ctx, argv, stores=True)


@GROUP.command(
    "sort_ro",
    -2,
    "readonly",
    keys=[key("RO access"), keys_unknown("RO access", notes=_OUTER_KEYS_NOTE)],
    key_finder=lambda argv: [(1, ("RO", "access"))],
    categories="-keyspace set sortedset list dangerous",
    since="7.0.0",
    complexity="O(N+M*log(M)), N being the number of elements and M that of those returned; "
    "O(N) without sorting",
    summary="Sorts the elements of a list, set or sorted set.",
    syntax="key [BY by-pattern:pattern#1] [LIMIT offset count] "
    "[GET get-pattern:pattern#1 [GET get-pattern:pattern#1 ...]] [ASC | DESC] [sorting=[ALPHA]]",
)
def sort_readonly(ctx: Session, argv: list[bytes]) -> Reply:
    return _sort(ctx, argv, stores=False)
