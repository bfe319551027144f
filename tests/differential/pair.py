"""Two connections, one to each server, and what it means that they answered the same.

A *check* runs one request on both sides and raises `Difference` when the replies differ in a way
that matters for that command. `exact` is the rule; each other check states one thing that
may differ: the order of an unordered collection, how a double is printed, what chance picked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from tests.servers import Server
from tests.wire import Client, Double, Error, Map, Null, Reply, Set, Simple, render

Argv: TypeAlias = list[bytes]
Check: TypeAlias = Callable[["Pair", Argv], None]
Normalise: TypeAlias = Callable[[Reply], object]

# Where 7.2 answers with another error than the 7.0 that is compared with: theirs, ours.
ERRORS_REWORDED: Final = {
    # A timeout too large for 64 bits.
    (b"ERR timeout is negative", b"ERR timeout is out of range"),
}


class Difference(AssertionError):
    """The two servers disagree; the text holds everything that was said to them."""


class Pair:
    """One connection to our node and one to the oracle, with a transcript of what was said."""

    def __init__(self, ours: Client, theirs: Client, transcript: list[str], name: str = "") -> None:
        self.ours = ours
        self.theirs = theirs
        self.transcript = transcript
        self.name = name

    @staticmethod
    def connect(
        node: Server,
        oracle: Server,
        protocol: int,
        transcript: list[str] | None = None,
        name: str = "",
    ) -> Pair:
        """Connect to both."""
        lines: list[str] = [] if transcript is None else transcript
        return Pair(node.connect(protocol), oracle.connect(protocol), lines, name)

    def close(self) -> None:
        """Close both connections."""
        self.ours.close()
        self.theirs.close()

    def run(self, argv: Argv) -> tuple[Reply, Reply]:
        """Send a request to both and return both replies."""
        self.ours.send(*argv)
        self.theirs.send(*argv)
        replies = self.ours.read(), self.theirs.read()
        self.note(argv, *replies)
        return replies

    def note(self, argv: Argv, ours: Reply, theirs: Reply) -> None:
        """Write a request and its replies into the transcript."""
        said = " ".join(repr(word)[1:] for word in argv)
        line = f"{self.name}> {said}\n      {_short(render(ours))}"
        if ours != theirs:
            line += f"\n      {_short(render(theirs))}  (oracle)"
        self.transcript.append(line)

    def fail(self, why: str) -> Difference:
        """The error to raise, with the transcript."""
        return Difference(f"{why}\n" + "\n".join(self.transcript))

    def setup(self, *requests: Argv) -> None:
        """Run requests whose replies must be the same."""
        for argv in requests:
            exact(self, argv)

    def compare_data(self) -> None:
        """The digests of everything in both servers are the same."""
        ours, theirs = self.run([b"DEBUG", b"DIGEST"])
        if ours != theirs:
            raise self.fail("the data differ")


def _short(text: str, most: int = 1000) -> str:
    return text if len(text) <= most else f"{text[:most]}… ({len(text)} characters)"


def same_errors(ours: Error, theirs: Error) -> bool:
    """Whether two errors are the same, as far as 7.2 and 7.0 agree."""
    return ours.text == theirs.text or (theirs.text, ours.text) in ERRORS_REWORDED


def comparing(normalise: Normalise) -> Check:
    """A check: replies are the same once both are normalised; errors are always compared whole."""

    def check(pair: Pair, argv: Argv) -> None:
        ours, theirs = pair.run(argv)
        compare(pair, ours, theirs, normalise)

    return check


def compare(pair: Pair, ours: Reply, theirs: Reply, normalise: Normalise) -> None:
    """Raise Difference unless the two replies are the same once normalised."""
    if isinstance(ours, Error) and isinstance(theirs, Error):
        if not same_errors(ours, theirs):
            raise pair.fail("the errors differ")
    elif isinstance(ours, Error) or isinstance(theirs, Error):
        raise pair.fail("one replies with an error")
    elif normalise(ours) != normalise(theirs):
        raise pair.fail("the replies differ")


# --- normalisers ---------------------------------------------------------------------------------


def plain(reply: Reply) -> object:
    """Everything counts, but doubles count as numbers (7.2 prints the shortest text that reads
    back, 7.0 seventeen digits), and the order within a RESP3 set does not.
    """
    match reply:
        case Double(text):
            return ("double", float(text) if text != b"nan" else "nan")
        case Set(members):
            return ("set", sorted(map(repr, map(plain, members))))
        case Map(pairs):
            return ("map", [(plain(key), plain(value)) for key, value in pairs])
        case list():
            return [plain(item) for item in reply]
        case _:
            return reply


def as_multiset(reply: Reply) -> object:
    """The elements of an array (or set), in any order."""
    match reply:
        case list() | Set():
            items = reply if isinstance(reply, list) else reply.members
            return (type(reply), sorted(repr(plain(item)) for item in items))
        case _:
            return plain(reply)


def as_pairs(reply: Reply) -> object:
    """The pairs of a map, or of an array that alternates keys and values, in any order."""
    match reply:
        case Map(pairs):
            return (Map, sorted(repr((plain(key), plain(value))) for key, value in pairs))
        case list() if len(reply) % 2 == 0:
            pairs = list(zip(reply[::2], reply[1::2], strict=True))
            return (list, sorted(repr((plain(key), plain(value))) for key, value in pairs))
        case _:
            return plain(reply)


def as_numbers(reply: Reply) -> object:
    """Bulk strings that read as numbers count as these numbers (scores in RESP2)."""
    match reply:
        case bytes():
            try:
                return ("number", float(reply))
            except ValueError:
                return reply
        case list():
            return [as_numbers(item) for item in reply]
        case Map(pairs):
            return [(as_numbers(key), as_numbers(value)) for key, value in pairs]
        case _:
            return plain(reply)


def as_shape(reply: Reply) -> object:
    """Only the types and the number of elements count."""
    match reply:
        case list():
            return [as_shape(item) for item in reply]
        case Map(pairs):
            return (Map, [(as_shape(key), as_shape(value)) for key, value in pairs])
        case Set(members):
            return (Set, len(members))
        case Simple():
            return reply
        case Null():
            return reply
        case _:
            return type(reply)


exact: Check = comparing(plain)
unordered: Check = comparing(as_multiset)
unordered_pairs: Check = comparing(as_pairs)
scores: Check = comparing(as_numbers)
shape: Check = comparing(as_shape)


def kind(pair: Pair, argv: Argv) -> None:
    """Both reply with the same type (or the same error); what they say is each server's own."""
    ours, theirs = pair.run(argv)
    compare(pair, ours, theirs, type)


def near(tolerance: int) -> Check:
    """A check for integers that depend on when a request arrived."""

    def check(pair: Pair, argv: Argv) -> None:
        ours, theirs = pair.run(argv)
        if isinstance(ours, int) and isinstance(theirs, int) and min(ours, theirs) >= 0:
            if abs(ours - theirs) > tolerance:
                raise pair.fail(f"more than {tolerance} apart")
        else:
            compare(pair, ours, theirs, plain)

    return check


def in_transaction(check: Normalise) -> Check:
    """Run inside MULTI, where a blocking command does not block."""

    def run(pair: Pair, argv: Argv) -> None:
        exact(pair, [b"MULTI"])
        queued = pair.run(argv)
        compare(pair, *queued, plain)
        if isinstance(queued[0], Error):
            exact(pair, [b"EXEC"])
            return
        ours, theirs = pair.run([b"EXEC"])
        match ours, theirs:
            case [our_reply], [their_reply]:
                compare(pair, our_reply, their_reply, check)
            case _:
                raise pair.fail("EXEC did not reply with one reply")

    return run


def members_of(reply: Reply) -> list[Reply]:
    """The elements of an array or set; a lone bulk string is one."""
    match reply:
        case list():
            return reply
        case Set(members):
            return members
        case bytes():
            return [reply]
        case _:
            return []
