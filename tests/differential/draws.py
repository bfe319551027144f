"""Checks for replies that chance or a server's own tables decide: each is right if it could be."""

from __future__ import annotations

from collections import Counter

from tests.differential.pair import (
    Argv,
    Check,
    Pair,
    as_multiset,
    as_numbers,
    compare,
    members_of,
    plain,
)
from tests.wire import NULL, NULL_ARRAY, Double, Error, Map, Null, Reply, Set


def _number_or_text(reply: Reply) -> object:
    """A score in whichever form: both printings of a double are one number."""
    text = reply.text if isinstance(reply, Double) else reply
    if isinstance(text, bytes):
        try:
            return float(text)
        except ValueError:
            return text
    return reply


def _pairs(reply: Reply) -> list[tuple[Reply, object]]:
    """The pairs of a map, of an array of pairs, or of an alternating array."""
    match reply:
        case Map(pairs):
            return [(key, _number_or_text(value)) for key, value in pairs]
        case list() if all(isinstance(item, list) and len(item) == 2 for item in reply):
            return [(item[0], _number_or_text(item[1])) for item in reply if isinstance(item, list)]
        case list():
            return [
                (key, _number_or_text(value))
                for key, value in zip(reply[::2], reply[1::2], strict=True)
            ]
        case _:
            return []


def draw_of(everything: Argv, *, pairs: bool = False) -> Check:
    """A check for `XRANDMEMBER key [count [WITH…]]`: both replies have the same shape, and ours
    holds elements of the collection, without repetition for a positive count.

    `everything` is the command that lists the collection: its name, then what follows the key;
    `pairs` says that it lists pairs; a request with a word after the count asks for them.
    """

    def check(pair: Pair, argv: Argv) -> None:
        ours, theirs = pair.run(argv)
        if isinstance(ours, Error) or isinstance(theirs, Error) or isinstance(ours, Null):
            compare(pair, ours, theirs, plain)
            return
        key = argv[1]
        whole = pair.ours(everything[0], key, *everything[1:])
        possible: list[object] = []
        drawn: list[object] = []
        if pairs and len(argv) > 3:
            possible = list(_pairs(whole))
            drawn = list(_pairs(ours))
            agree = len(drawn) == len(_pairs(theirs))
        else:
            possible = [key for key, _ in _pairs(whole)] if pairs else list(members_of(whole))
            drawn = list(members_of(ours))
            agree = len(drawn) == len(members_of(theirs))
        if not agree or type(ours) is not type(theirs):
            raise pair.fail("not as many elements")
        if any(item not in possible for item in drawn):
            raise pair.fail(f"not elements of the collection {possible!r}")
        if (
            len(argv) > 2
            and not argv[2].startswith(b"-")
            and len(set(map(repr, drawn))) < len(drawn)
        ):
            raise pair.fail("an element came twice")

    return check


def pop_of() -> Check:
    """A check for SPOP: ours pops what chance picks, then the oracle removes the same members.

    The oracle's own reply is had from a copy of the key, which is removed again.
    """
    copy = b"copy of the set to pop from"

    def check(pair: Pair, argv: Argv) -> None:
        if len(argv) < 2:
            pair.setup(argv)
            return
        pair.theirs("DEL", copy)
        pair.theirs("COPY", argv[1], copy)
        theirs = pair.theirs(argv[0], copy, *argv[2:])
        pair.theirs("DEL", copy)
        ours = pair.ours(*argv)
        pair.note(argv, ours, theirs)
        popped = members_of(ours)
        if isinstance(ours, Error) or not popped:
            compare(pair, ours, theirs, plain)
            return
        if type(ours) is not type(theirs) or len(popped) != len(members_of(theirs)):
            raise pair.fail("not as many members")
        names = [member for member in popped if isinstance(member, bytes)]
        if pair.theirs("SREM", argv[1], *names) != len(popped):
            raise pair.fail("popped what is not a member, or one member twice")

    return check


def _scan(client_reply: Reply) -> tuple[bytes, list[Reply]] | None:
    match client_reply:
        case [bytes() as cursor, list() as items]:
            return cursor, items
        case _:
            return None


def _scan_all(pair: Pair, argv: Argv, at: int, *, ours: bool) -> Reply:
    """Follow the cursor to its end; the first reply that is no scan reply ends it too."""
    client = pair.ours if ours else pair.theirs
    found: list[Reply] = []
    request = list(argv)
    for _ in range(1000):
        reply = client(*request)
        step = _scan(reply)
        if step is None:
            return reply
        found += step[1]
        if step[0] == b"0":
            return found
        request[at] = step[0]
    raise pair.fail("the cursor does not come to its end")


def scan_of(at: int, *, pairs: bool = False) -> Check:
    """A check for the SCAN commands, whose cursor is word `at`: followed to the end, both servers
    return the same elements. Within a call an element may come twice, so sets are compared.
    """

    def check(pair: Pair, argv: Argv) -> None:
        if len(argv) <= at or argv[at] != b"0":
            # Cursors are each server's own: only what is refused can be compared.
            ours, theirs = pair.run(argv)
            compare(pair, ours, theirs, lambda reply: reply if _scan(reply) is None else "scan")
            return
        ours = _scan_all(pair, argv, at, ours=True)
        theirs = _scan_all(pair, argv, at, ours=False)
        pair.note(argv, ours, theirs)
        if pairs and isinstance(ours, list) and isinstance(theirs, list):
            if set(map(repr, _pairs(ours))) != set(map(repr, _pairs(theirs))):
                raise pair.fail("not the same pairs")
        else:
            compare(pair, ours, theirs, lambda reply: {repr(item) for item in members_of(reply)})

    return check


def random_key(pair: Pair, argv: Argv) -> None:
    """RANDOMKEY names a key that exists, or both say that there is none."""
    ours, theirs = pair.run(argv)
    if isinstance(ours, bytes) and isinstance(theirs, bytes):
        if pair.ours("EXISTS", ours) != 1:
            raise pair.fail("no such key")
    else:
        compare(pair, ours, theirs, plain)


def encoding(pair: Pair, argv: Argv) -> None:
    """OBJECT ENCODING; 7.2 keeps small sets and small lists in listpacks, 7.0 does not yet."""
    ours, theirs = pair.run(argv)
    newer = {b"hashtable": b"set", b"quicklist": b"list"}
    if ours == b"listpack" and isinstance(theirs, bytes) and theirs in newer:
        kind = pair.ours("TYPE", argv[-1])
        if getattr(kind, "text", b"") == newer[theirs]:
            return
    compare(pair, ours, theirs, plain)


def sorted_reply(pair: Pair, argv: Argv) -> None:
    """SORT; elements of a set that nothing orders come in the server's own order: all of them
    without sorting, those with equal weights when weights are compared as texts.
    """
    ours, theirs = pair.run(argv)
    words = [word.lower() for word in argv]
    by = words[words.index(b"by") + 1] if b"by" in words[:-1] else b"*"
    if b"*" in by and not (b"by" in words and b"alpha" in words):
        compare(pair, ours, theirs, plain)
    elif b"limit" in words:
        compare(pair, ours, theirs, lambda reply: len(members_of(reply)))
    else:
        compare(pair, ours, theirs, as_multiset)


def arguments_first(pair: Pair, argv: Argv) -> None:
    """BITCOUNT and BITPOS; 7.2 checks the arguments before it looks at the key, 7.0 afterwards:
    ours must then be the error that 7.0 has for a key that holds a string.
    """
    ours, theirs = pair.run(argv)
    if isinstance(ours, Error) and ours != theirs and len(argv) > 2:
        stand_in = b"a key that exists"
        pair.theirs("SET", stand_in, "x")
        # From a place before the end to another before that is empty whatever follows.
        ends = [b"0" if word[1:].isdigit() and word[:1] == b"-" else word for word in argv[3:4]]
        theirs = pair.theirs(argv[0], stand_in, argv[2], *ends, *argv[4:])
        pair.theirs("DEL", stand_in)
    compare(pair, ours, theirs, plain)


def rank(pair: Pair, argv: Argv) -> None:
    """ZRANK and ZREVRANK; with 7.2's WITHSCORE, ours must be what ZRANK and ZSCORE say."""
    if len(argv) != 4:
        ours, theirs = pair.run(argv)
        compare(pair, ours, theirs, plain)
        return
    ours = pair.ours(*argv)
    place = pair.theirs(*argv[:3])
    score = pair.theirs("ZSCORE", *argv[1:3])
    pair.note(argv, ours, [place, score])
    if argv[3].lower() != b"withscore":
        compare(pair, ours, Error(b"ERR syntax error"), plain)
    elif isinstance(place, int):
        compare(pair, ours, [place, score], as_numbers)
    elif isinstance(place, Error):
        compare(pair, ours, place, plain)
    elif ours not in (NULL_ARRAY, NULL):
        raise pair.fail("a rank of what has none")


_OF_THE_SERVER = (b"version", b"id")


def hello(pair: Pair, argv: Argv) -> None:
    """HELLO's fields, but for the version and the connection's number."""

    def normalise(reply: Reply) -> object:
        match reply:
            case Map(pairs):
                return [
                    plain(key) if key in _OF_THE_SERVER else (plain(key), plain(value))
                    for key, value in pairs
                ]
            case list():
                return [
                    plain(value)
                    for at, value in enumerate(reply)
                    if at == 0 or reply[at - 1] not in _OF_THE_SERVER
                ]
            case _:
                return plain(reply)

    ours, theirs = pair.run(argv)
    compare(pair, ours, theirs, normalise)


def multiset(reply: Reply) -> Counter[str]:
    """How often each element of an array or set is there."""
    items = reply.members if isinstance(reply, Set) else members_of(reply)
    return Counter(map(repr, items))
