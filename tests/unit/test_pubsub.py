"""Publish and subscribe on an engine without sockets: who gets what, in which order and form."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from node import keyspace
from node.pubsub import PubSub, parse_event_classes
from tests.inprocess import LocalClient, LocalServer
from tests.wire import NULL, OK, PONG, QUEUED, Error, Push, Reply, Simple


@pytest.fixture
def server() -> Iterator[LocalServer]:
    """An engine with all components."""
    with LocalServer() as local:
        yield local


def pubsub_of(server: LocalServer) -> PubSub:
    """The component."""
    return next(part for part in server.engine.components if isinstance(part, PubSub))


def read_all(client: LocalClient) -> list[Reply]:
    """All that has been sent to a client."""
    found: list[Reply] = []
    while client.has_input():
        found.append(client.read())
    return found


def test_a_message_in_both_protocols(server: LocalServer) -> None:
    old, new, publisher = server.connect(), server.connect(3), server.connect()
    assert old("SUBSCRIBE", "news") == [b"subscribe", b"news", 1]
    assert new("SUBSCRIBE", "news") == Push([b"subscribe", b"news", 1])
    assert publisher("PUBLISH", "news", "it rains") == 2
    assert old.read() == [b"message", b"news", b"it rains"]
    assert new.read() == Push([b"message", b"news", b"it rains"])


def test_a_client_with_channel_and_patterns_gets_it_several_times(server: LocalServer) -> None:
    client, publisher = server.connect(), server.connect()
    client("PSUBSCRIBE", "n*")
    client("SUBSCRIBE", "news")
    client("PSUBSCRIBE", "?ews")
    client("PSUBSCRIBE", "other*")
    assert publisher("PUBLISH", "news", "x") == 3
    assert read_all(client) == [
        [b"message", b"news", b"x"],
        [b"pmessage", b"n*", b"news", b"x"],
        [b"pmessage", b"?ews", b"news", b"x"],
    ]


def test_counts_of_confirmations(server: LocalServer) -> None:
    client = server.connect()
    client.send("SUBSCRIBE", "a", "b", "a")
    assert read_all(client) == [
        [b"subscribe", b"a", 1],
        [b"subscribe", b"b", 2],
        [b"subscribe", b"a", 2],
    ]
    assert client("PSUBSCRIBE", "p") == [b"psubscribe", b"p", 3]
    assert client("SSUBSCRIBE", "s") == [b"ssubscribe", b"s", 1]
    client.send("UNSUBSCRIBE", "b", "nothing")
    assert read_all(client) == [[b"unsubscribe", b"b", 2], [b"unsubscribe", b"nothing", 2]]
    client.send("UNSUBSCRIBE")
    assert read_all(client) == [[b"unsubscribe", b"a", 1]]
    assert client("PUNSUBSCRIBE") == [b"punsubscribe", b"p", 0]
    assert client("SUNSUBSCRIBE") == [b"sunsubscribe", b"s", 0]


def test_nothing_to_unsubscribe_from(server: LocalServer) -> None:
    client = server.connect(3)
    for name in (b"unsubscribe", b"punsubscribe", b"sunsubscribe"):
        assert client(name) == Push([name, NULL, 0])


def test_shard_channels_are_apart(server: LocalServer) -> None:
    client, publisher = server.connect(), server.connect()
    client("SSUBSCRIBE", "a")
    client("PSUBSCRIBE", "*")
    assert publisher("SPUBLISH", "a", "x") == 1
    assert publisher("PUBLISH", "a", "y") == 1
    assert read_all(client) == [[b"smessage", b"a", b"x"], [b"pmessage", b"*", b"a", b"y"]]


def test_commands_of_a_subscriber_in_resp2(server: LocalServer) -> None:
    client = server.connect()
    client("SSUBSCRIBE", "a")
    for name in ("GET", "PUBLISH", "MULTI", "CLIENT ID"):
        words = [*name.split(), "x", "y"][: {"MULTI": 1, "GET": 2, "CLIENT ID": 2}.get(name, 3)]
        shown = name.lower().replace(" ", "|").encode()
        assert client(*words) == Error(
            b"ERR Can't execute '%b': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET "
            b"are allowed in this context" % shown
        )
    assert client("PING") == [b"pong", b""]
    assert client("PING", "x") == [b"pong", b"x"]
    assert client("SUNSUBSCRIBE") == [b"sunsubscribe", b"a", 0]
    assert client("PING") == PONG


def test_commands_of_a_subscriber_in_resp3(server: LocalServer) -> None:
    client = server.connect(3)
    client("SUBSCRIBE", "a")
    assert client("GET", "x") == NULL
    assert client("PING") == PONG
    client("HELLO", 2)
    assert isinstance(client("GET", "x"), Error)


def test_own_messages_follow_the_reply(server: LocalServer) -> None:
    client = server.connect(3)
    client("SUBSCRIBE", "a")
    client.send("PUBLISH", "a", "x")
    assert read_all(client) == [1, Push([b"message", b"a", b"x"])]
    assert client("MULTI") == OK
    assert client("PING", "in") == QUEUED
    assert client("PUBLISH", "a", "y") == QUEUED
    assert client("PUBLISH", "a", "z") == QUEUED
    client.send("EXEC")
    assert read_all(client) == [
        [b"in", 1, 1],
        Push([b"message", b"a", b"y"]),
        Push([b"message", b"a", b"z"]),
    ]


def test_messages_to_oneself_within_one_transaction_only(server: LocalServer) -> None:
    client = server.connect()
    client("MULTI")
    client("SUBSCRIBE", "a")
    client("PUBLISH", "a", "x")
    client("UNSUBSCRIBE", "a")
    client.send("EXEC")
    assert read_all(client) == [
        [[b"subscribe", b"a", 1], 1, [b"unsubscribe", b"a", 0]],
        [b"message", b"a", b"x"],
    ]
    assert client.session.gate == 0


def test_messages_of_a_served_waiter(server: LocalServer) -> None:
    with LocalServer("--notify-keyspace-events", "KEA") as server:
        pusher, waiter = server.connect(3), server.connect(3)
        for client in (pusher, waiter):
            client("PSUBSCRIBE", "__keyevent@0__:*")
        waiter.send("BLPOP", "list", 0)
        pusher.send("RPUSH", "list", "a")

        def event(name: str) -> Push:
            channel = f"__keyevent@0__:{name}".encode()
            return Push([b"pmessage", b"__keyevent@0__:*", channel, b"list"])

        assert read_all(pusher) == [1, event("rpush"), event("lpop"), event("del")]
        assert read_all(waiter) == [
            event("rpush"),
            [b"list", b"a"],
            event("lpop"),
            event("del"),
        ]


def test_reply_off_silences_replies_only(server: LocalServer) -> None:
    client, publisher = server.connect(3), server.connect()
    client.send("CLIENT", "REPLY", "OFF")
    client.send("SUBSCRIBE", "a")
    client.send("PING")
    publisher("PUBLISH", "a", "x")
    client.send("PUBLISH", "a", "y")
    assert read_all(client) == [
        Push([b"subscribe", b"a", 1]),
        Push([b"message", b"a", b"x"]),
        Push([b"message", b"a", b"y"]),
    ]
    assert client("CLIENT", "REPLY", "ON") == OK


def test_skip_is_used_up_by_a_command_that_confirms(server: LocalServer) -> None:
    client = server.connect()
    client.send("CLIENT", "REPLY", "SKIP")
    assert client("SUBSCRIBE", "a") == [b"subscribe", b"a", 1]
    assert client("PING") == [b"pong", b""]


@pytest.mark.parametrize("end", ["RESET", "close", "unsubscribe"])
def test_nothing_is_left_of_a_subscriber(server: LocalServer, end: str) -> None:
    client, publisher = server.connect(), server.connect()
    parts = pubsub_of(server)
    client.send("SUBSCRIBE", "a", "b")
    client.send("PSUBSCRIBE", "p*")
    client.send("SSUBSCRIBE", "s")
    read_all(client)
    assert publisher("PUBSUB", "CHANNELS") == [b"a", b"b"]
    assert client.session.interest_memory > 0
    if end == "close":
        client.close()
    elif end == "RESET":
        assert client("RESET") == Simple(b"RESET")
    else:
        client.send("UNSUBSCRIBE")
        client.send("PUNSUBSCRIBE", "p*")
        client.send("SUNSUBSCRIBE", "s")
    assert (parts.channels, parts.patterns, parts.shard_channels) == ({}, {}, {})
    assert client.session.interest_memory == 0
    assert client.session.gate == 0
    assert publisher("PUBLISH", "a", "x") == 0
    assert publisher("PUBSUB", "NUMPAT") == 0


def test_introspection(server: LocalServer) -> None:
    one, other, asker = server.connect(), server.connect(), server.connect()
    one.send("SUBSCRIBE", "news.it", "news.art", "")
    other.send("SUBSCRIBE", "news.it")
    other.send("PSUBSCRIBE", "*", "?")
    one.send("PSUBSCRIBE", "*")
    one.send("SSUBSCRIBE", "shard")
    assert asker("PUBSUB", "CHANNELS", "news.*") == [b"news.it", b"news.art"]
    assert asker("PUBSUB", "CHANNELS", "*") == [b"news.it", b"news.art"]  # "" matches "" alone
    assert asker("PUBSUB", "CHANNELS") == [b"news.it", b"news.art", b""]
    assert asker("PUBSUB", "NUMSUB", "news.it", "none", "news.it") == [
        *(b"news.it", 2, b"none", 0, b"news.it", 2)
    ]
    assert asker("PUBSUB", "NUMSUB") == []
    assert asker("PUBSUB", "NUMPAT") == 2
    assert asker("PUBSUB", "SHARDCHANNELS", "s*") == [b"shard"]
    assert asker("PUBSUB", "SHARDNUMSUB", "shard", "news.it") == [b"shard", 1, b"news.it", 0]
    info = asker("INFO", "stats")
    assert isinstance(info, bytes)
    for field in (b"pubsub_channels:3", b"pubsub_patterns:2", b"pubsubshard_channels:1"):
        assert field in info
    error = asker("PUBSUB", "CHANNELS", "a", "b")
    assert error == Error(
        b"ERR unknown subcommand or wrong number of arguments for 'CHANNELS'. Try PUBSUB HELP."
    )


def test_event_classes() -> None:
    assert parse_event_classes("") == 0
    # Without K or E there is no channel to publish on.
    assert parse_event_classes("A") == 0
    assert parse_event_classes("Kg") == keyspace.EVENT_KEYSPACE | keyspace.EVENT_GENERIC
    every = parse_event_classes("KEA")
    assert not every & (keyspace.EVENT_KEY_MISS | keyspace.EVENT_NEW)
    assert parse_event_classes("KEAmn") == every | keyspace.EVENT_KEY_MISS | keyspace.EVENT_NEW


def events_of(client: LocalClient) -> list[tuple[bytes, bytes]]:
    """(channel, message) of all messages."""
    found = []
    for message in read_all(client):
        assert isinstance(message, list)
        channel, text = message[-2:]
        assert isinstance(channel, bytes)
        assert isinstance(text, bytes)
        found.append((channel, text))
    return found


def test_both_channels_of_an_event(server: LocalServer) -> None:
    listener, client = server.connect(), server.connect()
    listener("PSUBSCRIBE", "__key*")
    client("CONFIG", "SET", "notify-keyspace-events", "KE$g")
    client("SELECT", 3)
    client("SET", "key", "1")
    client("LPUSH", "list", "1")
    assert events_of(listener) == [
        (b"__keyspace@3__:key", b"set"),
        (b"__keyevent@3__:set", b"key"),
    ]
    client("CONFIG", "SET", "notify-keyspace-events", "El")
    client("DEL", "key")
    client("LPUSH", "list", "1")
    assert events_of(listener) == [(b"__keyevent@3__:lpush", b"list")]
    client("CONFIG", "SET", "notify-keyspace-events", "")
    client("LPUSH", "list", "1")
    assert events_of(listener) == []


def test_events_that_no_command_makes() -> None:
    with LocalServer(
        "--notify-keyspace-events", "KEAmn", "--maxmemory-policy", "allkeys-random"
    ) as server:
        listener, client = server.connect(), server.connect()
        listener("PSUBSCRIBE", "__keyevent@0__:*")
        client("SET", "key", "1", "PX", 10)
        client("GET", "nothing")
        server.advance(1)
        client("GET", "key")
        assert events_of(listener) == [
            (b"__keyevent@0__:new", b"key"),
            (b"__keyevent@0__:set", b"key"),
            (b"__keyevent@0__:expire", b"key"),
            (b"__keyevent@0__:keymiss", b"nothing"),
            (b"__keyevent@0__:expired", b"key"),
            (b"__keyevent@0__:keymiss", b"key"),
        ]
        client("SET", "key", "x" * 100)
        client("CONFIG", "SET", "maxmemory", 1)
        client("PING")
        assert (b"__keyevent@0__:evicted", b"key") in events_of(listener)
