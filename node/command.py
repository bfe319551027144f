"""What the server knows of a command: declared once, beside its handler.

The same declaration feeds the engine (arity, flags), cluster routing (key positions), ACL
(categories), ``COMMAND INFO`` and ``COMMAND DOCS``, and the generated command table.

A family module holds one :class:`Group`; each handler is decorated with :meth:`Group.command`::

    GROUP = Group("string")

    @GROUP.command("get", 2, "readonly fast", keys=[key("RO access")], since="1.0.0",
                   complexity="O(1)", summary="Returns the value of a key.", syntax="key")
    def get(ctx: Session, argv: list[bytes]) -> Reply:
        ...

A component's commands are methods, decorated in the same way in the class body; installing the
component binds them.

The shapes follow Redis's ``src/commands/*.json`` and the replies of ``COMMAND INFO``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from node.values.number import parse_integer

# Flags, in the order in which COMMAND INFO lists them.
WRITE: Final = 1 << 0
READONLY: Final = 1 << 1
DENYOOM: Final = 1 << 2
MODULE: Final = 1 << 3
ADMIN: Final = 1 << 4
PUBSUB: Final = 1 << 5
NOSCRIPT: Final = 1 << 6
BLOCKING: Final = 1 << 7
LOADING: Final = 1 << 8
STALE: Final = 1 << 9
SKIP_MONITOR: Final = 1 << 10
SKIP_SLOWLOG: Final = 1 << 11
ASKING: Final = 1 << 12
FAST: Final = 1 << 13
NO_AUTH: Final = 1 << 14
MAY_REPLICATE: Final = 1 << 15
NO_MULTI: Final = 1 << 16
MOVABLEKEYS: Final = 1 << 17
ALLOW_BUSY: Final = 1 << 18
NO_ASYNC_LOADING: Final = 1 << 19
NO_MANDATORY_KEYS: Final = 1 << 20
PROTECTED: Final = 1 << 21
TOUCHES_ARBITRARY_KEYS: Final = 1 << 22

FLAG_NAMES: Final = (
    ("write", WRITE),
    ("readonly", READONLY),
    ("denyoom", DENYOOM),
    ("module", MODULE),
    ("admin", ADMIN),
    ("pubsub", PUBSUB),
    ("noscript", NOSCRIPT),
    ("blocking", BLOCKING),
    ("loading", LOADING),
    ("stale", STALE),
    ("skip_monitor", SKIP_MONITOR),
    ("skip_slowlog", SKIP_SLOWLOG),
    ("asking", ASKING),
    ("fast", FAST),
    ("no_auth", NO_AUTH),
    ("may_replicate", MAY_REPLICATE),
    ("no_mandatory_keys", NO_MANDATORY_KEYS),
    ("protected", PROTECTED),
    ("no_async_loading", NO_ASYNC_LOADING),
    ("no_multi", NO_MULTI),
    ("movablekeys", MOVABLEKEYS),
    ("allow_busy", ALLOW_BUSY),
    ("touches_arbitrary_keys", TOUCHES_ARBITRARY_KEYS),
)
# What COMMAND INFO does not tell: they matter to the server alone.
HIDDEN_FLAGS: Final = MAY_REPLICATE | PROTECTED | TOUCHES_ARBITRARY_KEYS
_FLAGS: Final = dict(FLAG_NAMES)

# ACL categories in Redis's order of bits, which is the order COMMAND INFO lists them in.
CATEGORIES: Final = (
    "keyspace",
    "read",
    "write",
    "set",
    "sortedset",
    "list",
    "hash",
    "string",
    "bitmap",
    "hyperloglog",
    "geo",
    "stream",
    "pubsub",
    "admin",
    "fast",
    "slow",
    "blocking",
    "dangerous",
    "connection",
    "transaction",
    "scripting",
)
# The groups whose commands all belong to the ACL category of (nearly) the same name.
_GROUP_CATEGORY: Final = {
    "string": "string",
    "list": "list",
    "hash": "hash",
    "set": "set",
    "sorted-set": "sortedset",
    "bitmap": "bitmap",
    "hyperloglog": "hyperloglog",
    "geo": "geo",
    "stream": "stream",
    "transactions": "transaction",
    "connection": "connection",
    "scripting": "scripting",
    "generic": "keyspace",
}


class KeySpec:
    """Where a command's keys stand, as in Redis's key specifications.

    ``flags``: names such as ``RO access``, ``RW update``, ``OW insert``, ``RM delete``,
    ``not_key``, ``incomplete``, ``variable_flags``.
    Begin: at argument ``index``, or after ``keyword`` searched from ``start`` on (from the end
    when negative). Then a range (``last`` relative to the first, negative from the end of
    the arguments; ``step``; ``limit`` divides what is left) or, with ``keynum``, a count at
    that offset with the first key at offset ``first``. ``unknown``: only a ``key_finder`` can say.
    """

    __slots__ = (
        "flags",
        "notes",
        "index",
        "keyword",
        "start",
        "last",
        "step",
        "limit",
        "keynum",
        "first",
        "unknown",
    )

    def __init__(
        self,
        flags: str,
        *,
        index: int = 1,
        keyword: bytes | None = None,
        start: int = 0,
        last: int = 0,
        step: int = 1,
        limit: int = 0,
        keynum: int | None = None,
        first: int = 0,
        unknown: bool = False,
        notes: str = "",
    ) -> None:
        self.flags: tuple[str, ...] = tuple(flags.split())
        self.notes = notes
        self.index = index
        self.keyword = keyword
        self.start = start
        self.last = last
        self.step = step
        self.limit = limit
        self.keynum = keynum
        self.first = first
        self.unknown = unknown

    def positions(self, argv: Sequence[bytes]) -> list[int]:
        """Indices into ``argv`` of the keys that this specification finds.

        Raises ValueError when the arguments cannot be right (a count that is no number, a key
        beyond the end).
        """
        argc = len(argv)
        begin = self.index
        if self.unknown:
            return []
        if self.keyword is not None:
            begin = self._find_keyword(argv)
            if begin < 0:
                return []
        if self.keynum is not None:
            at = begin + self.keynum
            if at >= argc:
                raise ValueError("no key count")
            count = parse_integer(argv[at])
            if count is None or count < 1:
                raise ValueError("no key count")
            if count > argc:
                raise ValueError("key beyond the arguments")
            first = begin + self.first
            found = list(range(first, first + (count - 1) * self.step + 1, self.step))
        else:
            if begin >= argc:
                return []
            if self.last >= 0:
                end = begin + self.last
            else:
                end = argc + self.last
                if self.limit > 1:
                    end = begin + (argc - begin) // self.limit + self.last
            found = list(range(begin, end + 1, self.step))
        if found and (found[-1] >= argc or found[0] < 1):
            raise ValueError("key beyond the arguments")
        return found

    def _find_keyword(self, argv: Sequence[bytes]) -> int:
        argc = len(argv)
        keyword = self.keyword
        assert keyword is not None
        if self.start >= 0:
            order = range(self.start, argc)
        else:
            order = range(argc + self.start, 0, -1)
        for i in order:
            if argv[i].upper() == keyword:
                return i + 1
        return -1


def key(flags: str, index: int = 1, *, last: int = 0, step: int = 1, notes: str = "") -> KeySpec:
    """Keys from argument ``index`` to ``last`` (relative; negative: from the end)."""
    return KeySpec(flags, index=index, last=last, step=step, notes=notes)


def keys_unknown(flags: str, *, notes: str = "") -> KeySpec:
    """Keys that only a ``key_finder`` finds."""
    return KeySpec(flags, unknown=True, notes=notes)


def keys_counted(flags: str, index: int = 1) -> KeySpec:
    """A count at argument ``index`` (numkeys), then that many keys."""
    return KeySpec(flags, index=index, keynum=0, first=1)


def plain_range(keys: Sequence[KeySpec]) -> tuple[int, int, int, bool]:
    """First, last, step of the plain range that says most about ``keys``; whether more is needed.

    These are the three numbers of COMMAND INFO and the flag ``movablekeys``, for clients that know
    no key specifications (``populateCommandLegacyRangeSpec`` in server.c). ``last`` is negative
    where it counts from the end; all are 0 where there is no plain range.
    """
    if len(keys) == 1 and _is_plain(keys[0]):
        only = keys[0]
        last = only.index + only.last if only.last >= 0 else only.last
        return only.index, last, only.step, "incomplete" in only.flags
    first = last = 0
    movable = False
    for spec in keys:
        if not _is_plain(spec) or spec.step != 1 or (last and last != spec.index - 1):
            movable = True
            continue
        movable = movable or "incomplete" in spec.flags
        first = min(first, spec.index) if first else spec.index
        end = spec.index + spec.last if spec.last >= 0 else spec.last
        last = end if end < 0 or last < 0 else max(last, end)
    return first, last, 1 if first else 0, movable


def _is_plain(spec: KeySpec) -> bool:
    return not spec.unknown and spec.keyword is None and spec.keynum is None


Handler = Callable[..., Any]
KeyFinder = Callable[[Sequence[bytes]], list[tuple[int, tuple[str, ...]]]]
F = TypeVar("F", bound=Handler)


class Spec:
    """A command as declared; shared by every engine that installs it."""

    __slots__ = (
        "name",
        "arity",
        "flags",
        "keys",
        "key_finder",
        "group",
        "since",
        "complexity",
        "summary",
        "syntax",
        "categories",
        "tips",
        "history",
        "doc_flags",
        "replaced_by",
        "deprecated_since",
        "function",
    )

    def __init__(
        self,
        name: str,
        arity: int,
        flags: int,
        function: Handler | None,
        *,
        keys: Sequence[KeySpec],
        key_finder: KeyFinder | None,
        group: str,
        since: str,
        complexity: str,
        summary: str,
        syntax: str,
        categories: frozenset[str],
        tips: Sequence[str],
        history: Sequence[tuple[str, str]],
        deprecated_since: str,
        replaced_by: str,
        doc_flags: Sequence[str],
    ) -> None:
        self.name = name
        self.arity = arity
        self.flags = flags
        self.function = function
        self.keys = tuple(keys)
        self.key_finder = key_finder
        self.group = group
        self.since = since
        self.complexity = complexity
        self.summary = summary
        self.syntax = syntax
        self.categories = categories
        self.tips = tuple(tips)
        self.history = tuple(history)
        self.deprecated_since = deprecated_since
        self.replaced_by = replaced_by
        self.doc_flags = tuple(doc_flags)


class Command:
    """A command as installed in one engine: its handler bound, its counters its own.

    ``calls`` is the sum of ``histogram``, whose entry ``i`` counts calls that took from 2**(i-1)
    up to 2**i nanoseconds.
    """

    __slots__ = (
        "spec",
        "name",
        "arity",
        "flags",
        "handler",
        "subcommands",
        "container",
        "nanoseconds",
        "histogram",
        "rejected",
        "failed",
    )

    def __init__(self, spec: Spec, handler: Handler) -> None:
        self.spec = spec
        self.name: bytes = spec.name.encode()
        self.arity = spec.arity
        self.flags = spec.flags
        self.handler = handler
        self.container: Command | None = None
        self.subcommands: dict[bytes, Command] | None = None
        self.nanoseconds = 0
        self.histogram: list[int] = [0] * 65
        self.rejected = 0
        self.failed = 0

    @property
    def calls(self) -> int:
        return sum(self.histogram)

    def reset_stats(self) -> None:
        self.nanoseconds = 0
        self.histogram = [0] * 65
        self.rejected = 0
        self.failed = 0

    def accepts(self, argc: int) -> bool:
        arity = self.arity
        return argc == arity if arity >= 0 else argc >= -arity

    def key_positions(self, argv: Sequence[bytes]) -> list[int]:
        """Indices of all keys in ``argv``; ValueError when the arguments cannot be right."""
        return [index for index, _ in self.keys_with_flags(argv)]

    def keys_with_flags(self, argv: Sequence[bytes]) -> list[tuple[int, tuple[str, ...]]]:
        """(index, flags) of all keys in ``argv``; ValueError as :meth:`key_positions`."""
        spec = self.spec
        if spec.key_finder is not None:
            return spec.key_finder(argv)
        found: list[tuple[int, tuple[str, ...]]] = []
        for keys in spec.keys:
            if "not_key" in keys.flags:
                continue
            try:
                found.extend((index, keys.flags) for index in keys.positions(argv))
            except ValueError:
                if self.flags & NO_MANDATORY_KEYS:
                    return []
                raise
        return found


class Group:
    """The commands of one family, in order of declaration."""

    __slots__ = ("name", "specs")

    def __init__(self, name: str) -> None:
        self.name = name
        self.specs: list[Spec] = []

    def command(
        self,
        name: str,
        arity: int,
        flags: str = "",
        *,
        keys: Sequence[KeySpec] = (),
        key_finder: KeyFinder | None = None,
        since: str,
        complexity: str = "",
        summary: str,
        syntax: str = "",
        categories: str = "",
        group: str = "",
        tips: Sequence[str] = (),
        history: Sequence[tuple[str, str]] = (),
        deprecated_since: str = "",
        replaced_by: str = "",
        doc_flags: Sequence[str] = (),
    ) -> Callable[[F], F]:
        """Declare the decorated function as the handler of ``name``.

        A subcommand is named ``container|subcommand`` and its arity counts both words, as in
        Redis. ``syntax`` is the argument list as redis.io writes it (see
        :mod:`node.syntax`), without the command's name.
        ``categories`` adds ACL categories to those that follow from flags and group, or takes one
        away ("-keyspace").
        """

        def declare(function: F) -> F:
            self._add(
                name,
                arity,
                flags,
                function,
                keys=keys,
                key_finder=key_finder,
                since=since,
                complexity=complexity,
                summary=summary,
                syntax=syntax,
                categories=categories,
                group=group or self.name,
                tips=tips,
                history=history,
                deprecated_since=deprecated_since,
                replaced_by=replaced_by,
                doc_flags=doc_flags,
            )
            return function

        return declare

    def container(
        self, name: str, *, arity: int = -2, flags: str = "", since: str, summary: str
    ) -> None:
        """Declare a command that only holds subcommands (CLIENT, CONFIG …)."""
        self._add(
            name,
            arity,
            flags,
            None,
            since=since,
            summary=summary,
            group=self.name,
            complexity="Depends on subcommand.",
        )

    def _add(
        self,
        name: str,
        arity: int,
        flags: str,
        function: Handler | None,
        *,
        since: str,
        summary: str,
        group: str,
        keys: Sequence[KeySpec] = (),
        key_finder: KeyFinder | None = None,
        complexity: str = "",
        syntax: str = "",
        categories: str = "",
        tips: Sequence[str] = (),
        history: Sequence[tuple[str, str]] = (),
        deprecated_since: str = "",
        replaced_by: str = "",
        doc_flags: Sequence[str] = (),
    ) -> None:
        bits = 0
        for flag in flags.split():
            bits |= _FLAGS[flag]
        if plain_range(keys)[3]:
            bits |= MOVABLEKEYS
        self.specs.append(
            Spec(
                name,
                arity,
                bits,
                function,
                keys=keys,
                key_finder=key_finder,
                group=group,
                since=since,
                complexity=complexity,
                summary=summary,
                syntax=syntax,
                categories=_implied_categories(bits, group, bool(function))
                .union(categories.split())
                .difference(word[1:] for word in categories.split() if word[0] == "-")
                .intersection(CATEGORIES),
                tips=tips,
                history=history,
                deprecated_since=deprecated_since,
                replaced_by=replaced_by,
                doc_flags=doc_flags,
            )
        )


def _implied_categories(flags: int, group: str, executable: bool) -> frozenset[str]:
    """The categories that Redis derives from flags (``setImplicitACLCategories``) and group."""
    found: set[str] = set()
    category = _GROUP_CATEGORY.get(group)
    if category is not None and executable:
        found.add(category)
    if flags & WRITE:
        found.add("write")
    # What a script reads is not known beforehand.
    if flags & READONLY and group != "scripting":
        found.add("read")
    if flags & ADMIN:
        found.update(("admin", "dangerous"))
    if flags & PUBSUB:
        found.add("pubsub")
    if flags & BLOCKING:
        found.add("blocking")
    found.add("fast" if flags & FAST else "slow")
    return frozenset(found)
