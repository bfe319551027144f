"""Several clients at once, on both servers: transactions, pub/sub, blocking commands.

Each client is a `Pair`: the same connection to both servers. The steps are run one after
another, so both servers see them in one order.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.conftest import require_oracle
from tests.differential.grammar import (
    PROLOGUE,
    Command,
    Step,
    among,
    counts,
    either,
    integers,
    keys,
    members,
    optional,
    patterns,
    sequence,
    some,
    step,
    values,
)
from tests.differential.pair import Pair, as_numbers, compare, exact, members_of, plain, scores
from tests.servers import Server, node_command
from tests.wire import OK, QUEUED, Client, Closed, Error, Push, Reply

CLIENTS = 3
WAIT_LIMIT = 10.0

Schedule = list[tuple[int, Step]]


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[Server, Server]]:
    """Both servers, keyspace notifications on."""
    directives = ["--enable-debug-command", "yes", "--notify-keyspace-events", "KEA"]
    with (
        Server(node_command(), *directives, name="node") as node,
        Server(require_oracle(), *directives, name="oracle") as oracle,
    ):
        for server in (node, oracle):
            # What has expired goes when it is looked at, not at some time of the server's choice.
            with server.connect() as client:
                assert client("DEBUG", "SET-ACTIVE-EXPIRE", 0) == OK
        yield node, oracle


@contextmanager
def connected(servers: tuple[Server, Server], protocol: int) -> Iterator[tuple[list[Pair], Pair]]:
    """Clients and one more that looks on, over data that is the same on both sides."""
    transcript: list[str] = []
    pairs = [
        Pair.connect(*servers, protocol, transcript, name=f"client {number} ")
        for number in range(CLIENTS)
    ]
    onlooker = Pair.connect(*servers, 2, transcript, name="onlooker ")
    try:
        onlooker.setup([b"FLUSHALL"], *PROLOGUE)
        transcript.clear()
        yield pairs, onlooker
    finally:
        for pair in [*pairs, onlooker]:
            pair.close()


def schedules(commands: Sequence[Command], max_size: int = 25) -> SearchStrategy[Schedule]:
    """Steps, each with the number of the client that takes it."""
    one = st.tuples(st.integers(0, CLIENTS - 1), step(commands))
    return st.lists(one, min_size=1, max_size=max_size)


# --- transactions --------------------------------------------------------------------------------

key = keys(b"x", b"y", b"n")

TRANSACTIONS = [
    Command("MULTI", weight=5),
    Command("EXEC", weight=5, check=scores),
    Command("DISCARD"),
    Command("WATCH", some(key), weight=3),
    Command("UNWATCH"),
    Command("RESET", mangle=False),
    Command("SET", key, values, weight=3),
    Command("GET", key),
    Command("INCR", key, weight=2),
    Command("RPUSH", key, some(values)),
    Command("LPOP", key, optional(counts)),
    Command("DEL", some(key), weight=2),
    Command("TOUCH", key),
    Command("EXPIRE", key, b"1000"),
    Command("PEXPIREAT", key, among(b"1", b"4000000000000")),
    Command("PERSIST", key),
    Command("RENAME", key, key),
    Command("SELECT", among(b"0", b"1", b"x")),
    Command("SWAPDB", b"0", b"1"),
    Command("COPY", key, key, optional(b"REPLACE")),
    Command("FLUSHDB", mangle=False),
    Command("FLUSHALL", mangle=False),
    Command("SUBSCRIBE", mangle=False),
    Command("NOSUCH", key),
    Command("GET"),
    Command("DBSIZE"),
]


@pytest.mark.parametrize("protocol", [2, 3], ids=["resp2", "resp3"])
@settings(suppress_health_check=list(HealthCheck))
@given(schedule=schedules(TRANSACTIONS))
def test_transactions(servers: tuple[Server, Server], protocol: int, schedule: Schedule) -> None:
    with connected(servers, protocol) as (pairs, onlooker):
        for number, taken in schedule:
            taken.check(pairs[number], taken.argv)
        onlooker.compare_data()


# --- pub/sub -------------------------------------------------------------------------------------

channels = among(b"a", b"b", b"news.it", b"news.art", b"")
channel_patterns = among(b"a", b"news.*", b"*", b"[ab]", b"?")

PUBSUB = [
    Command("SUBSCRIBE", some(channels), weight=3),
    Command("UNSUBSCRIBE", some(channels, least=0), weight=2),
    Command("PSUBSCRIBE", some(channel_patterns), weight=3),
    Command("PUNSUBSCRIBE", some(channel_patterns, least=0)),
    Command("SSUBSCRIBE", some(channels), weight=2),
    Command("SUNSUBSCRIBE", some(channels, least=0)),
    Command("PUBLISH", channels, values, weight=5),
    Command("SPUBLISH", channels, values, weight=3),
    Command("PUBSUB NUMSUB", some(channels, least=0)),
    Command("PUBSUB SHARDNUMSUB", some(channels, least=0)),
    Command("PUBSUB NUMPAT"),
    Command("GET", key),
    Command("RESET", mangle=False),
    Command("MULTI", mangle=False),
    Command("EXEC", mangle=False),
    Command("DISCARD", mangle=False),
    # Events of the keyspace are messages too.
    Command("PSUBSCRIBE", among(b"__key*__:*", b"__keyevent@0__:*"), weight=3, mangle=False),
    Command("SUBSCRIBE", among(b"__keyspace@0__:x", b"__keyevent@0__:del"), mangle=False),
    Command("SET", key, values, optional(b"EX", b"1000"), weight=2),
    Command("DEL", some(key)),
    Command("RPUSH", key, some(values)),
    Command("RPOPLPUSH", key, key),
    Command("LPOP", key),
    Command("SADD", key, some(members)),
    Command("SMOVE", key, key, members),
    Command("SINTERSTORE", key, some(key)),
    Command("ZADD", key, b"1", members),
    Command("ZINCRBY", key, among(b"1", b"0.5", b"-2", b"x"), members),
    Command("ZREMRANGEBYRANK", key, b"0", b"0"),
    Command("HSET", key, members, values),
    Command("HDEL", key, some(members)),
    Command("HINCRBY", key, members, integers),
    Command("EXPIRE", key, among(b"1000", b"-1")),
    Command("PERSIST", key),
    Command("RENAME", key, key),
    Command("COPY", key, key, optional(b"REPLACE")),
    Command("MOVE", key, b"1"),
    Command("APPEND", key, values),
    Command("SETRANGE", key, among(b"0", b"3"), values),
    Command("INCRBYFLOAT", key, integers),
    Command("GETDEL", key),
    Command("GETEX", key, either(b"PERSIST", sequence(b"EX", among(b"1000", b"-1")))),
    Command("SETBIT", key, among(b"0", b"9"), b"1"),
    Command("SORT", key, b"ALPHA", b"STORE", key),
]

BARRIER = b"the barrier after a step"


def barrier_reached(reply: Reply) -> bool:
    """Whether this answers `PING BARRIER`, in either protocol, subscribed, queued or refused."""
    match reply:
        case bytes():
            return reply == BARRIER
        case [b"pong", bytes() as text]:
            return text == BARRIER
        case _:
            return False


def in_some_order(messages: list[Reply]) -> list[object]:
    """Messages, where those that a server may send in any order are sorted: one message that
    matches several patterns, and what is unsubscribed by one UNSUBSCRIBE without channels (the
    counts fall in order whichever goes first).
    """
    found: list[object] = []
    for about, group in itertools.groupby(messages, kind_of_message):
        if about == b"pmessage":
            found += sorted(map(repr, group))
        elif about.endswith(b"unsubscribe"):
            items = [message_items(message) for message in group]
            found += sorted(repr(item[1]) for item in items)
            found += [(about, item[2]) for item in items]
        else:
            found += [(type(message), plain(message)) for message in group]
    return found


def after_the_reply(received: list[Reply]) -> list[Reply]:
    """What the acting client was sent, with the messages that its own command caused at the end.

    There 7.2 sends them; 7.0 sent them before or within the reply, which broke that of EXEC apart
    (so its elements are compared one by one).
    """
    flat: list[Reply] = []
    for reply in received:
        if isinstance(reply, list) and not kind_of_message(reply):
            flat += reply
        else:
            flat.append(reply)
    own = [reply for reply in flat if kind_of_message(reply).endswith(b"message")]
    return [reply for reply in flat if not kind_of_message(reply).endswith(b"message")] + own


def message_items(message: Reply) -> list[Reply]:
    """The elements of a message in either protocol."""
    return message.items if isinstance(message, Push) else members_of(message)


def kind_of_message(message: Reply) -> bytes:
    """`pmessage` and the like; empty for what is no message."""
    items = message_items(message)
    return items[0] if len(items) > 2 and isinstance(items[0], bytes) else b""


class Reader:
    """Reads all that a server has sent to a client, with a PING as the end of it."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.in_transaction = False

    def read_all(self, *, acted: bool) -> list[Reply]:
        """What has come until now; `acted` says that the client has just sent a command."""
        self.client.send("PING", BARRIER)
        # In a transaction the PING is queued, and so may the command before it have been.
        owed = 1 if acted and self.in_transaction else 0
        found: list[Reply] = []
        while True:
            reply = self.client.read()
            if barrier_reached(reply):
                self.in_transaction = False
                return found
            found.append(reply)
            if owed and not isinstance(reply, Push):
                owed -= 1
            elif reply == QUEUED:
                self.in_transaction = True
                return found


@pytest.mark.parametrize("protocol", [2, 3], ids=["resp2", "resp3"])
@settings(suppress_health_check=list(HealthCheck))
@given(schedule=schedules(PUBSUB))
def test_pubsub(servers: tuple[Server, Server], protocol: int, schedule: Schedule) -> None:
    with connected(servers, protocol) as (pairs, onlooker):
        readers = {pair.name: (Reader(pair.ours), Reader(pair.theirs)) for pair in pairs}
        for number, taken in schedule:
            pair = pairs[number]
            pair.ours.send(*taken.argv)
            pair.theirs.send(*taken.argv)
            # The one that acts first: what it did has then reached the others.
            for each in [pair, *[other for other in pairs if other is not pair]]:
                ours, theirs = [
                    reader.read_all(acted=each is pair) for reader in readers[each.name]
                ]
                if each is pair:
                    ours, theirs = after_the_reply(ours), after_the_reply(theirs)
                said = taken.argv if each is pair else [b"(meanwhile)"]
                pair.note([each.name.encode(), *said], ours, theirs)
                if in_some_order(ours) != in_some_order(theirs):
                    raise pair.fail(f"{each.name}was sent other messages: {theirs} (oracle)")
        onlooker.compare_data()


# --- blocking ------------------------------------------------------------------------------------

some_key = among(b"k", b"l", b"m")
forever = among(b"0")
end = among(b"LEFT", b"RIGHT")
extreme = among(b"MIN", b"MAX")

# Each waits for one key. Since 7.2 a command is run again as a whole when one of its keys appears,
# before, it was served from that very key: with several keys the answers need not be the same.
BLOCKING = [
    Command("BLPOP", some_key, forever, mangle=False, weight=2),
    Command("BRPOP", some_key, forever, mangle=False),
    Command("BLMOVE", some_key, some_key, end, end, forever, mangle=False, weight=2),
    Command("BRPOPLPUSH", some_key, some_key, forever, mangle=False),
    Command("BLMPOP", forever, b"1", some_key, end, optional(b"COUNT", b"2"), mangle=False),
    Command("BZPOPMIN", some_key, forever, mangle=False, weight=2),
    Command("BZPOPMAX", some_key, forever, mangle=False),
    Command("BZMPOP", forever, b"1", some_key, extreme, optional(b"COUNT", b"2"), mangle=False),
]
WAKING = [
    Command("RPUSH", some_key, some(values), mangle=False, weight=4),
    Command("LPUSH", some_key, some(values), mangle=False, weight=2),
    Command("ZADD", some_key, some(integers, members), mangle=False, weight=3),
    Command("SET", some_key, values, mangle=False),
    Command("DEL", some(some_key), mangle=False, weight=2),
    Command("LPOP", some_key, mangle=False),
    Command("RENAME", some_key, some_key, mangle=False),
    Command("COPY", some_key, some_key, b"REPLACE", mangle=False),
    Command("LMOVE", some_key, some_key, end, end, mangle=False),
    Command("SORT", b"a:list", b"ALPHA", b"STORE", some_key, mangle=False),
    Command("ZUNIONSTORE", some_key, b"1", b"a:zset", mangle=False),
    Command("MULTI", mangle=False),
    Command("EXEC", mangle=False, weight=2, check=scores),
    Command("SELECT", among(b"0", b"1"), mangle=False),
    Command("MOVE", some_key, b"1", mangle=False),
    Command("SWAPDB", b"0", b"1", mangle=False),
    Command("FLUSHALL", mangle=False),
    Command("PEXPIREAT", some_key, b"1", mangle=False),
    Command("RPUSH", some_key, b"a", b"b", b"c", b"d", mangle=False),
    Command("UNBLOCK", either(b"TIMEOUT", b"ERROR"), mangle=False),
    Command("GET", patterns, mangle=False),
]
# They are the same where one key appears at a time, and always a list.
numbered = either(sequence(b"2", some_key, some_key), sequence(b"3", some_key, some_key, some_key))
SEVERAL = [
    Command("BLPOP", some(some_key), forever, mangle=False, weight=2),
    Command("BRPOP", some(some_key), forever, mangle=False, weight=2),
    Command("BLMPOP", forever, numbered, end, optional(b"COUNT", b"2"), mangle=False, weight=2),
    Command("RPUSH", some_key, some(values), mangle=False, weight=4),
    Command("LPUSH", some_key, some(values), mangle=False, weight=2),
    Command("LMOVE", some_key, some_key, end, end, mangle=False),
    Command("LMOVE", b"a:list", some_key, end, end, mangle=False),
    Command("RENAME", some_key, some_key, mangle=False),
    Command("COPY", some_key, some_key, b"REPLACE", mangle=False),
    Command("DEL", some(some_key), mangle=False),
    Command("UNBLOCK", either(b"TIMEOUT", b"ERROR"), mangle=False),
]


class Blocked:
    """Which clients wait for a reply, on both servers."""

    def __init__(self, pairs: list[Pair], onlooker: Pair) -> None:
        self.pairs = pairs
        self.onlooker = onlooker
        self.waiting: set[int] = set()
        self.ids = [(client_id(pair.ours), client_id(pair.theirs)) for pair in pairs]

    def settle(self, number: int) -> None:
        """After client `number` sent a blocking command: both replied, or both wait."""
        pair = self.pairs[number]
        ours = self._has_replied(pair.ours, self.onlooker.ours, self.ids[number][0])
        theirs = self._has_replied(pair.theirs, self.onlooker.theirs, self.ids[number][1])
        if ours is not theirs:
            who = "ours" if ours else "the oracle"
            raise pair.fail(f"{pair.name}blocked on one side only: {who} has replied")
        if ours:
            self.waiting.discard(number)
            replies = pair.ours.read(), pair.theirs.read()
            pair.note([b"(replied)"], *replies)
            compare(pair, *replies, as_numbers)
        else:
            self.waiting.add(number)

    def settle_all(self) -> None:
        """After anything that may wake: every client that waited still does, or has its reply."""
        for number in sorted(self.waiting):
            self.settle(number)

    def unblock(self, by: bytes) -> None:
        """CLIENT UNBLOCK of whoever waits."""
        for number in sorted(self.waiting):
            ours, theirs = self.ids[number]
            replies = (
                self.onlooker.ours("CLIENT", "UNBLOCK", ours, by),
                self.onlooker.theirs("CLIENT", "UNBLOCK", theirs, by),
            )
            self.onlooker.note([b"CLIENT UNBLOCK", by], *replies)
            compare(self.onlooker, *replies, plain)
        self.settle_all()

    def _has_replied(self, client: Client, onlooker: Client, number: int) -> bool:
        deadline = time.monotonic() + WAIT_LIMIT
        while time.monotonic() < deadline:
            if client.has_input():
                return True
            listing = onlooker("CLIENT", "LIST", "ID", number)
            if b" flags=b" in (listing if isinstance(listing, bytes) else b""):
                return client.has_input()
        raise Closed("a client neither waits nor has a reply")


def client_id(client: Client) -> int:
    """The number that the server gave a connection."""
    reply = client("CLIENT", "ID")
    assert isinstance(reply, int)
    return reply


def run_blocking(servers: tuple[Server, Server], protocol: int, schedule: Schedule) -> None:
    """Run the steps of those who do not wait, and look at all who wait after each."""
    with connected(servers, protocol) as (pairs, onlooker):
        blocked = Blocked(pairs, onlooker)
        for number, taken in schedule:
            if taken.argv[0] == b"UNBLOCK":
                blocked.unblock(taken.argv[1])
                continue
            if number in blocked.waiting:
                continue
            pair = pairs[number]
            pair.ours.send(*taken.argv)
            pair.theirs.send(*taken.argv)
            pair.transcript.append(f"{pair.name}{taken!r}")
            blocked.settle(number)
            blocked.settle_all()
        blocked.unblock(b"TIMEOUT")
        onlooker.compare_data()


@pytest.mark.parametrize("protocol", [2, 3], ids=["resp2", "resp3"])
@settings(suppress_health_check=list(HealthCheck))
@given(
    schedule=st.lists(
        st.tuples(st.integers(0, CLIENTS - 1), st.one_of(step(BLOCKING), step(WAKING))),
        min_size=2,
        max_size=20,
    )
)
def test_blocking(servers: tuple[Server, Server], protocol: int, schedule: Schedule) -> None:
    run_blocking(servers, protocol, schedule)


@pytest.mark.parametrize("protocol", [2, 3], ids=["resp2", "resp3"])
@settings(suppress_health_check=list(HealthCheck))
@given(schedule=schedules(SEVERAL))
def test_blocking_on_several_keys(
    servers: tuple[Server, Server], protocol: int, schedule: Schedule
) -> None:
    run_blocking(servers, protocol, schedule)


def test_timeout_of_a_blocking_command(servers: tuple[Server, Server]) -> None:
    for protocol in (2, 3):
        pair = Pair.connect(*servers, protocol)
        pair.setup([b"FLUSHALL"])
        for argv in (
            [b"BLPOP", b"missing", b"0.02"],
            [b"BLMOVE", b"missing", b"k", b"LEFT", b"LEFT", b"0.02"],
            [b"BLMPOP", b"0.02", b"1", b"missing", b"LEFT"],
            [b"BZPOPMIN", b"missing", b"0.02"],
            [b"BZMPOP", b"0.02", b"1", b"missing", b"MIN"],
            [b"BRPOPLPUSH", b"missing", b"k", b"0.02"],
        ):
            exact(pair, argv)
        pair.close()


def test_errors_come_before_blocking(servers: tuple[Server, Server]) -> None:
    pair = Pair.connect(*servers, 2)
    pair.setup([b"FLUSHALL"], *PROLOGUE)
    for argv in (
        [b"BLPOP", b"a:string", b"0"],
        [b"BLPOP", b"missing", b"a:string", b"0"],
        [b"BZPOPMIN", b"a:list", b"0"],
        [b"BLMOVE", b"a:zset", b"k", b"LEFT", b"LEFT", b"0"],
        [b"BLPOP", b"missing", b"-1"],
        [b"BLPOP", b"missing", b"x"],
        [b"BLPOP", b"missing", b"1e300"],
        [b"BLMPOP", b"x", b"1", b"missing", b"LEFT"],
        [b"BLMPOP", b"0", b"0", b"missing", b"LEFT"],
        [b"BZMPOP", b"0", b"1", b"missing", b"LEFT"],
        [b"BZMPOP", b"0", b"1", b"missing", b"MIN", b"COUNT", b"0"],
    ):
        ours, _ = pair.run(argv)
        assert isinstance(ours, Error)
        exact(pair, argv)
    pair.close()
