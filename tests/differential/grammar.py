"""Strategies from which requests are made.

A part of a request is a strategy for a list of words; a plain `bytes` stands for itself. Small
alphabets make requests meet each other's keys, fields and values; edge values are among them.
Every request may also be mangled (a word dropped, doubled, replaced), so invalid arguments need no
entries of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.differential.pair import Argv, Check, exact

Words: TypeAlias = SearchStrategy[list[bytes]]
Part: TypeAlias = bytes | Words


class Command:
    """One way to call a command: its name, the parts of its arguments, how replies compare."""

    __slots__ = ("argv", "check", "name", "weight")

    def __init__(
        self, name: str, *parts: Part, check: Check = exact, weight: int = 1, mangle: bool = True
    ) -> None:
        self.name = name
        self.check = check
        self.weight = weight
        names = [word.encode() for word in name.split()]
        words = sequence(*names, *parts)
        self.argv: Words = mangled(words, len(names)) if mangle else words


class Step:
    """A request and how its replies are compared."""

    __slots__ = ("argv", "check")

    def __init__(self, argv: Argv, check: Check) -> None:
        self.argv = argv
        self.check = check

    def __repr__(self) -> str:
        return " ".join(repr(word)[1:] for word in self.argv)


def steps(commands: Sequence[Command], max_size: int = 25) -> SearchStrategy[list[Step]]:
    """Sequences of requests drawn from a table."""
    return st.lists(step(commands), min_size=1, max_size=max_size)


def step(commands: Sequence[Command]) -> SearchStrategy[Step]:
    """One request drawn from a table; a command with weight 3 comes three times as often."""
    weighted = [command for command in commands for _ in range(command.weight)]
    return st.sampled_from(weighted).flatmap(
        lambda command: command.argv.map(lambda argv: Step(argv, command.check))
    )


# --- how parts combine ---------------------------------------------------------------------------


def _words(part: Part) -> Words:
    return st.just([part]) if isinstance(part, bytes) else part


def _flat(parts: Sequence[list[bytes]]) -> list[bytes]:
    return [word for part in parts for word in part]


def sequence(*parts: Part) -> Words:
    """The parts, one after another."""
    return st.tuples(*[_words(part) for part in parts]).map(_flat)


def either(*parts: Part) -> Words:
    """One of the parts."""
    return st.one_of([_words(part) for part in parts])


def optional(*parts: Part) -> Words:
    """The parts, or nothing."""
    return st.one_of(st.just([]), sequence(*parts))


def some(*parts: Part, least: int = 1, most: int = 3) -> Words:
    """The parts, several times."""
    return st.lists(sequence(*parts), min_size=least, max_size=most).map(_flat)


def options(*parts: Part, most: int = 3) -> Words:
    """Any of the parts, in any order; now and then two that exclude each other."""
    return some(either(*parts), least=0, most=most)


def counted(part: Words, most: int = 3) -> Words:
    """`numkeys` and so many keys; sometimes a count that does not fit them."""
    right = st.lists(part, min_size=1, max_size=most).map(
        lambda words: [b"%d" % len(words), *_flat(words)]
    )
    wrong = st.tuples(st.sampled_from([b"0", b"-1", b"5", b"x"]), part).map(
        lambda both: [both[0], *both[1]]
    )
    return mostly(right, wrong)


def mostly(usual: Words, rare: Words) -> Words:
    """`usual` nine times out of ten."""
    return st.integers(0, 9).flatmap(lambda n: rare if n == 9 else usual)


def among(*words: bytes) -> Words:
    """One word out of these."""
    return st.sampled_from([[word] for word in words])


# --- mangling ------------------------------------------------------------------------------------

# No word here is a count or an offset that a server would accept and then work on for long.
JUNK: Final = (
    b"",
    b"0",
    b"-1",
    b"1.5",
    b"abc",
    b"nan",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"9223372036854775808",
    b"\xff\x00\r\n",
    b"COUNT",
    b"WITHSCORES",
    b"LIMIT",
)


def _drop(argv: Argv, at: int, _: bytes) -> Argv:
    return [*argv[:at], *argv[at + 1 :]]


def _double(argv: Argv, at: int, _: bytes) -> Argv:
    return [*argv[: at + 1], *argv[at:]]


def _replace(argv: Argv, at: int, word: bytes) -> Argv:
    return [*argv[:at], word, *argv[at + 1 :]]


def _insert(argv: Argv, at: int, word: bytes) -> Argv:
    return [*argv[:at], word, *argv[at:]]


def _append(argv: Argv, _: int, word: bytes) -> Argv:
    return [*argv, word]


def _swap_case(argv: Argv, at: int, _: bytes) -> Argv:
    return [*argv[:at], argv[at].swapcase(), *argv[at + 1 :]]


_EDITS: Final[tuple[Callable[[Argv, int, bytes], Argv], ...]] = (
    _drop,
    _double,
    _replace,
    _insert,
    _append,
    _swap_case,
)


def _mangle(argv: Argv, first: int) -> Words:
    if len(argv) <= first:
        return st.sampled_from(JUNK).map(lambda word: [*argv, word])
    return st.builds(
        lambda edit, at, word: edit(argv, at, word),
        st.sampled_from(_EDITS),
        st.integers(first, len(argv) - 1),
        st.sampled_from(JUNK),
    )


def mangled(words: Words, first: int) -> Words:
    """The words, one time in fifteen with one mistake in them, not before word `first` (unknown
    commands and subcommands have their own entries).
    """
    return st.tuples(words, st.integers(0, 14)).flatmap(
        lambda both: _mangle(both[0], first) if both[1] == 14 else st.just(both[0])
    )


# --- alphabets -----------------------------------------------------------------------------------

# A key of each type is there before a sequence starts, so that a wrong type is met.
PROLOGUE: Final[list[Argv]] = [
    [b"SET", b"a:string", b"value"],
    [b"RPUSH", b"a:list", b"a", b"b", b"c", b"1", b"10"],
    [b"HSET", b"a:hash", b"a", b"1", b"b", b"2"],
    [b"SADD", b"a:set", b"a", b"b", b"1"],
    [b"ZADD", b"a:zset", b"1", b"a", b"2", b"b", b"2.5", b"c"],
]
TYPED_KEYS: Final = tuple(request[1] for request in PROLOGUE)


def keys(*names: bytes) -> Words:
    """A family's keys; one time in ten a key that may have any type."""
    return mostly(among(*names), among(*TYPED_KEYS, b"missing", b""))


any_key: Words = among(*TYPED_KEYS, b"missing", b"x", b"y", b"{t}1")
values: Words = among(
    b"",
    b"a",
    b"b",
    b"c",
    b"ohmytext",
    b"mynewtext",
    b"0",
    b"1",
    b"10",
    b"-5",
    b"3.0",
    b"9223372036854775807",
    b"\x00\xff\x80 binary",
    b"v" * 70,
)
members: Words = among(b"a", b"b", b"c", b"d", b"e", b"1", b"2", b"3", b"-7", b"", b"m" * 70)
patterns: Words = among(b"*", b"a*", b"?", b"[ab]", b"[^a]*", b"h[a-c]llo", b"\\a", b"nothing", b"")
integers: Words = mostly(
    among(b"0", b"1", b"-1", b"2", b"3", b"10", b"-10", b"100"),
    among(
        b"9223372036854775807",
        b"-9223372036854775808",
        b"9223372036854775808",
        b"1.0",
        b"abc",
        b"",
        b" 1",
        b"01",
        b"+1",
        b"-0",
    ),
)
indexes: Words = mostly(
    among(b"0", b"1", b"2", b"3", b"5", b"-1", b"-2", b"-3", b"-100", b"100"),
    among(b"9223372036854775807", b"-9223372036854775808", b"x", b"", b"1.5"),
)
counts: Words = mostly(among(b"1", b"2", b"3", b"10"), among(b"0", b"-1", b"-3", b"x", b""))
floats: Words = mostly(
    among(b"0", b"1", b"-1", b"2", b"2.5", b"-0.5", b"0.1", b"3.141592653589793", b"1e3", b"-1e-3"),
    among(b"inf", b"-inf", b"+inf", b"nan", b"1e308", b"-1e308", b"1e400", b"x", b"", b"-0", b" 1"),
)
# Ends of expiry: far off or past, so that nothing depends on how long a test takes.
seconds: Words = mostly(
    among(b"100", b"1000000"),
    among(b"0", b"-1", b"-100", b"9223372036854775807", b"9223372036854776", b"x", b""),
)
milliseconds: Words = mostly(
    among(b"100000", b"1000000000"),
    among(b"0", b"-1", b"9223372036854775807", b"9223370000000000000", b"x", b""),
)
unix_seconds: Words = mostly(
    among(b"4000000000", b"4000000001", b"1"),
    among(b"0", b"-1", b"9223372036854775807", b"9223372036854776", b"x", b""),
)
unix_milliseconds: Words = mostly(
    among(b"4000000000000", b"4000000000001", b"1"),
    among(b"0", b"-1", b"9223372036854775807", b"x", b""),
)
