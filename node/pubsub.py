"""Publish and subscribe: channels, patterns, shard channels, keyspace events.

A message is encoded once, whoever gets it: its forms in RESP2 and RESP3 differ in the first byte
only. Behaviour after Redis's pubsub.c and notify.c.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from node.clients import wrong_arguments
from node.command import Group, KeySpec
from node.component import Component
from node.information import Fields, Section
from node.keyspace import (
    EVENT_EVICTED,
    EVENT_EXPIRED,
    EVENT_GENERIC,
    EVENT_HASH,
    EVENT_KEY_MISS,
    EVENT_KEYEVENT,
    EVENT_KEYSPACE,
    EVENT_LIST,
    EVENT_MODULE,
    EVENT_NEW,
    EVENT_SET,
    EVENT_STREAM,
    EVENT_STRING,
    EVENT_ZSET,
)
from node.resp import NO_REPLY, Encoded, Reply, Status, encode
from node.session import GATE_REPLY, GATE_SUBSCRIBED, INTEREST_MEMORY, Session
from node.values import pattern as glob

if TYPE_CHECKING:
    from node.server import Server

GROUP: Final = Group("pubsub")
GROUP.container("pubsub", since="2.8.0", summary="Holds the commands about channels.")

SUBSCRIBING: Final = "pubsub noscript loading stale"
INSPECTING: Final = "pubsub loading stale"

HELP: Final = (
    "PUBSUB <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "CHANNELS [<pattern>]",
    "    List the channels that someone listens to and that match <pattern> (default: '*').",
    "NUMPAT",
    "    Count the patterns that someone listens to.",
    "NUMSUB [<channel> ...]",
    "    Count who listens to each channel, not counting patterns.",
    "SHARDCHANNELS [<pattern>]",
    "    List the shard channels that someone listens to and that match <pattern> (default: '*').",
    "SHARDNUMSUB [<shardchannel> ...]",
    "    Count who listens to each shard channel.",
    "HELP",
    "    Print this help.",
)

CLASSES: Final = {
    "g": EVENT_GENERIC,
    "$": EVENT_STRING,
    "l": EVENT_LIST,
    "s": EVENT_SET,
    "h": EVENT_HASH,
    "z": EVENT_ZSET,
    "x": EVENT_EXPIRED,
    "e": EVENT_EVICTED,
    "t": EVENT_STREAM,
    "d": EVENT_MODULE,
    "m": EVENT_KEY_MISS,
    "n": EVENT_NEW,
    "K": EVENT_KEYSPACE,
    "E": EVENT_KEYEVENT,
}
ALL_CLASSES: Final = "g$lshzxetd"

Listeners = dict[Session, None]


def parse_event_classes(letters: str) -> int:
    """The bits of ``notify-keyspace-events``; 0 where no channel is chosen to publish on."""
    flags = 0
    for letter in letters.replace("A", ALL_CLASSES):
        flags |= CLASSES[letter]
    return flags if flags & (EVENT_KEYSPACE | EVENT_KEYEVENT) else 0


class Pattern:
    """A pattern that clients listen to."""

    __slots__ = ("text", "matches", "listeners")

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.matches: Callable[[bytes], bool] = glob.compile(text)
        self.listeners: Listeners = {}


class PubSub(Component):
    """All channels and who listens to them."""

    def __init__(self, server: Server) -> None:
        super().__init__(server.engine)
        self.channels: dict[bytes, Listeners] = {}
        self.patterns: dict[bytes, Pattern] = {}
        self.shard_channels: dict[bytes, Listeners] = {}
        self._config = server.config
        # Lets others deliver a message, too: replicas, or the nodes of a cluster.
        self.propagate: Callable[[list[bytes]], None] = self.engine.log_message
        self.engine.keyspace.notify = self.notify
        self._config.on_change("notify-keyspace-events", self._configure)
        self._configure()

    def groups(self) -> Sequence[Group]:
        return (GROUP,)

    def sections(self) -> Sequence[Section]:
        return (Section("Stats", self._collect),)

    def _collect(self) -> Fields:
        return [
            ("pubsub_channels", len(self.channels)),
            ("pubsub_patterns", len(self.patterns)),
            ("pubsubshard_channels", len(self.shard_channels)),
        ]

    def _configure(self) -> None:
        letters = self._config.text("notify-keyspace-events")
        self.engine.keyspace.notify_flags = parse_event_classes(letters)

    # Messages.

    def publish(self, channel: bytes, message: bytes) -> int:
        """Send ``message`` to who listens to ``channel``; how many times it was sent."""
        count = 0
        listeners = self.channels.get(channel)
        if listeners is not None:
            count = len(listeners)
            send_all(listeners, b"3\r\n$7\r\nmessage\r\n", [channel, message])
        if self.patterns:
            for pattern in self.patterns.values():
                if pattern.matches(channel):
                    count += len(pattern.listeners)
                    send_all(
                        pattern.listeners,
                        b"4\r\n$8\r\npmessage\r\n",
                        [pattern.text, channel, message],
                    )
        return count

    def publish_shard(self, channel: bytes, message: bytes) -> int:
        """The same for a shard channel."""
        listeners = self.shard_channels.get(channel)
        if listeners is None:
            return 0
        send_all(listeners, b"3\r\n$8\r\nsmessage\r\n", [channel, message])
        return len(listeners)

    def notify(self, event_class: int, event: bytes, key: bytes, db: int) -> None:
        """Publish a keyspace event; the keyspace has looked whether its class is wanted."""
        if not self.channels and not self.patterns:
            return
        flags = self.engine.keyspace.notify_flags
        if flags & EVENT_KEYSPACE:
            self.publish(b"__keyspace@%d__:%b" % (db, key), event)
        if flags & EVENT_KEYEVENT:
            self.publish(b"__keyevent@%d__:%b" % (db, event), key)

    # Listening.

    def subscribe(self, session: Session, channel: bytes) -> None:
        """Let a client listen to a channel."""
        if channel not in session.channels:
            session.channels[channel] = None
            self.channels.setdefault(channel, {})[session] = None
            _begin(session, channel)

    def unsubscribe(self, session: Session, channel: bytes) -> None:
        """The client listens to the channel no more."""
        if channel in session.channels:
            del session.channels[channel]
            _remove(self.channels, channel, session)
            _end(session, channel)

    def subscribe_pattern(self, session: Session, text: bytes) -> None:
        """Let a client listen to all channels that match a pattern."""
        if text not in session.patterns:
            session.patterns[text] = None
            pattern = self.patterns.get(text)
            if pattern is None:
                pattern = self.patterns[text] = Pattern(text)
            pattern.listeners[session] = None
            _begin(session, text)

    def unsubscribe_pattern(self, session: Session, text: bytes) -> None:
        """The client listens to the pattern no more."""
        if text in session.patterns:
            del session.patterns[text]
            pattern = self.patterns[text]
            del pattern.listeners[session]
            if not pattern.listeners:
                del self.patterns[text]
            _end(session, text)

    def subscribe_shard(self, session: Session, channel: bytes) -> None:
        """Let a client listen to a shard channel."""
        if channel not in session.shard_channels:
            session.shard_channels[channel] = None
            self.shard_channels.setdefault(channel, {})[session] = None
            _begin(session, channel)

    def unsubscribe_shard(self, session: Session, channel: bytes) -> None:
        """The client listens to the shard channel no more."""
        if channel in session.shard_channels:
            del session.shard_channels[channel]
            _remove(self.shard_channels, channel, session)
            _end(session, channel)

    def end_shard_channel(self, channel: bytes) -> None:
        """Nobody listens to a shard channel any more, and all who did are told."""
        for session in list(self.shard_channels.get(channel, ())):
            self.unsubscribe_shard(session, channel)
            session.send(confirm(session, b"sunsubscribe", channel, len(session.shard_channels)))

    def session_closed(self, session: Session) -> None:
        if session.gate & GATE_SUBSCRIBED:
            self.session_reset(session)

    def session_reset(self, session: Session) -> None:
        """The client listens to nothing any more, without being told."""
        for channel in list(session.channels):
            self.unsubscribe(session, channel)
        for text in list(session.patterns):
            self.unsubscribe_pattern(session, text)
        for channel in list(session.shard_channels):
            self.unsubscribe_shard(session, channel)

    # Commands.

    @GROUP.command(
        "subscribe",
        -2,
        SUBSCRIBING,
        since="2.0.0",
        complexity="O(N) where N is the number of channels to subscribe to.",
        summary="Listens to channels.",
        syntax="channel [channel ...]",
    )
    def subscribe_command(self, ctx: Session, argv: list[bytes]) -> Reply:
        """A confirmation for each channel, with what the client listens to by then."""
        replies = []
        for channel in argv[1:]:
            self.subscribe(ctx, channel)
            replies.append(confirm(ctx, b"subscribe", channel, ctx.subscriptions))
        return answer(ctx, replies)

    @GROUP.command(
        "unsubscribe",
        -1,
        SUBSCRIBING,
        since="2.0.0",
        complexity="O(N) where N is the number of clients already subscribed to a channel.",
        summary="Listens to channels no more, or to none at all.",
        syntax="[channel [channel ...]]",
    )
    def unsubscribe_command(self, ctx: Session, argv: list[bytes]) -> Reply:
        """A confirmation for each channel; one with a null where there was none."""
        replies = []
        for channel in argv[1:] or list(ctx.channels):
            self.unsubscribe(ctx, channel)
            replies.append(confirm(ctx, b"unsubscribe", channel, ctx.subscriptions))
        if not replies:
            replies.append(confirm(ctx, b"unsubscribe", None, ctx.subscriptions))
        return answer(ctx, replies)

    @GROUP.command(
        "psubscribe",
        -2,
        SUBSCRIBING,
        since="2.0.0",
        complexity=("O(N) where N is the number of patterns the client is already subscribed to."),
        summary="Listens to all channels that match patterns.",
        syntax="<pattern> [<pattern> ...]",
    )
    def psubscribe_command(self, ctx: Session, argv: list[bytes]) -> Reply:
        """As SUBSCRIBE."""
        replies = []
        for text in argv[1:]:
            self.subscribe_pattern(ctx, text)
            replies.append(confirm(ctx, b"psubscribe", text, ctx.subscriptions))
        return answer(ctx, replies)

    @GROUP.command(
        "punsubscribe",
        -1,
        SUBSCRIBING,
        since="2.0.0",
        complexity=(
            "O(N+M) where N is the number of patterns the client is already subscribed and M is "
            "the number of total patterns subscribed in the system (by any client)."
        ),
        summary="Listens to patterns no more, or to none at all.",
        syntax="[pattern [pattern ...]]",
    )
    def punsubscribe_command(self, ctx: Session, argv: list[bytes]) -> Reply:
        """As UNSUBSCRIBE."""
        replies = []
        for text in argv[1:] or list(ctx.patterns):
            self.unsubscribe_pattern(ctx, text)
            replies.append(confirm(ctx, b"punsubscribe", text, ctx.subscriptions))
        if not replies:
            replies.append(confirm(ctx, b"punsubscribe", None, ctx.subscriptions))
        return answer(ctx, replies)

    @GROUP.command(
        "ssubscribe",
        -2,
        SUBSCRIBING,
        keys=[KeySpec("not_key", last=-1)],
        since="7.0.0",
        complexity="O(N) where N is the number of shard channels to subscribe to.",
        summary="Listens to shard channels.",
        syntax="shardchannel [shardchannel ...]",
    )
    def ssubscribe_command(self, ctx: Session, argv: list[bytes]) -> Reply:
        """As SUBSCRIBE; shard channels are counted by themselves."""
        replies = []
        for channel in argv[1:]:
            self.subscribe_shard(ctx, channel)
            replies.append(confirm(ctx, b"ssubscribe", channel, len(ctx.shard_channels)))
        return answer(ctx, replies)

    @GROUP.command(
        "sunsubscribe",
        -1,
        SUBSCRIBING,
        keys=[KeySpec("not_key", last=-1)],
        since="7.0.0",
        complexity="O(N) where N is the number of clients already subscribed to a shard channel.",
        summary="Listens to shard channels no more, or to none at all.",
        syntax="[shardchannel [shardchannel ...]]",
    )
    def sunsubscribe_command(self, ctx: Session, argv: list[bytes]) -> Reply:
        """As UNSUBSCRIBE."""
        replies = []
        for channel in argv[1:] or list(ctx.shard_channels):
            self.unsubscribe_shard(ctx, channel)
            replies.append(confirm(ctx, b"sunsubscribe", channel, len(ctx.shard_channels)))
        if not replies:
            replies.append(confirm(ctx, b"sunsubscribe", None, 0))
        return answer(ctx, replies)

    @GROUP.command(
        "publish",
        3,
        "pubsub loading stale fast may_replicate",
        since="2.0.0",
        complexity=(
            "O(N+M) where N is the number of clients subscribed to the receiving channel and M is "
            "the total number of subscribed patterns (by any client)."
        ),
        summary="Sends a message to who listens to a channel.",
        syntax="channel message",
    )
    def publish_command(self, ctx: Session, argv: list[bytes]) -> Reply:
        """How many times the message was sent."""
        self.propagate(argv)
        return self.publish(argv[1], argv[2])

    @GROUP.command(
        "spublish",
        3,
        "pubsub loading stale fast may_replicate",
        keys=[KeySpec("not_key")],
        since="7.0.0",
        complexity=(
            "O(N) where N is the number of clients subscribed to the receiving shard channel."
        ),
        summary="Sends a message to who listens to a shard channel.",
        syntax="shardchannel message",
    )
    def spublish_command(self, ctx: Session, argv: list[bytes]) -> Reply:
        """How many clients the message was sent to."""
        self.propagate(argv)
        return self.publish_shard(argv[1], argv[2])

    @GROUP.command(
        "pubsub|channels",
        -2,
        INSPECTING,
        since="2.8.0",
        complexity=(
            "O(N) where N is the number of active channels, and assuming constant time pattern "
            "matching (relatively short channels and patterns)"
        ),
        summary="Lists channels that someone listens to.",
        syntax="[pattern]",
    )
    def list_channels(self, ctx: Session, argv: list[bytes]) -> Reply:
        """Their names."""
        return _list(self.channels, argv)

    @GROUP.command(
        "pubsub|numsub",
        -2,
        INSPECTING,
        since="2.8.0",
        complexity=("O(N) for the NUMSUB subcommand, where N is the number of requested channels"),
        summary="Counts who listens to channels.",
        syntax="[channel [channel ...]]",
    )
    def count_listeners(self, ctx: Session, argv: list[bytes]) -> Reply:
        """Names and numbers in turn."""
        return _count(self.channels, argv)

    @GROUP.command(
        "pubsub|numpat",
        2,
        INSPECTING,
        since="2.8.0",
        complexity="O(1)",
        summary="Counts the patterns that someone listens to.",
    )
    def count_patterns(self, ctx: Session, argv: list[bytes]) -> Reply:
        """Different patterns, not clients."""
        return len(self.patterns)

    @GROUP.command(
        "pubsub|shardchannels",
        -2,
        INSPECTING,
        since="7.0.0",
        complexity=(
            "O(N) where N is the number of active shard channels, and assuming constant time "
            "pattern matching (relatively short shard channels)."
        ),
        summary="Lists shard channels that someone listens to.",
        syntax="[pattern]",
    )
    def list_shard_channels(self, ctx: Session, argv: list[bytes]) -> Reply:
        """Their names."""
        return _list(self.shard_channels, argv)

    @GROUP.command(
        "pubsub|shardnumsub",
        -2,
        INSPECTING,
        since="7.0.0",
        complexity=(
            "O(N) for the SHARDNUMSUB subcommand, where N is the number of requested shard channels"
        ),
        summary="Counts who listens to shard channels.",
        syntax="[shardchannel [shardchannel ...]]",
    )
    def count_shard_listeners(self, ctx: Session, argv: list[bytes]) -> Reply:
        """Names and numbers in turn."""
        return _count(self.shard_channels, argv)

    @GROUP.command(
        "pubsub|help",
        2,
        "loading stale",
        since="6.2.0",
        complexity="O(1)",
        summary="Lists the subcommands of PUBSUB.",
    )
    def help(self, ctx: Session, argv: list[bytes]) -> Reply:
        """The lines above."""
        return [Status(line.encode()) for line in HELP]


def send_all(listeners: Listeners, head: bytes, texts: list[bytes]) -> None:
    """Send an array (RESP2) or push (RESP3) to all listeners.

    ``head`` is its beginning after the first byte, ``texts`` are the bulk strings after that.
    """
    body = head + b"".join([b"$%d\r\n%b\r\n" % (len(text), text) for text in texts])
    array = b"*" + body
    push = b""
    for session in listeners:
        if session.protocol == 2:
            session.send(array)
        else:
            push = push or b">" + body
            session.send(push)


def confirm(session: Session, kind: bytes, name: bytes | None, count: int) -> bytes:
    """What SUBSCRIBE and its like answer for one channel."""
    mark = b"*" if session.protocol == 2 else b">"
    label = b"3\r\n$%d\r\n%b\r\n" % (len(kind), kind)
    return mark + label + encode(name, session.protocol) + b":%d\r\n" % count


def answer(session: Session, replies: list[bytes]) -> Reply:
    """Give these confirmations, which CLIENT REPLY does not silence."""
    wire = b"".join(replies)
    if session.in_exec and not session.gate & GATE_REPLY:
        return Encoded(wire)
    session.out.append(wire)
    return NO_REPLY


def _begin(session: Session, name: bytes) -> None:
    session.interest_memory += len(name) + INTEREST_MEMORY
    session.set_gate(GATE_SUBSCRIBED, True)


def _end(session: Session, name: bytes) -> None:
    session.interest_memory -= len(name) + INTEREST_MEMORY
    if not (session.channels or session.patterns or session.shard_channels):
        session.set_gate(GATE_SUBSCRIBED, False)


def _remove(channels: dict[bytes, Listeners], channel: bytes, session: Session) -> None:
    listeners = channels[channel]
    del listeners[session]
    if not listeners:
        del channels[channel]


def _list(channels: dict[bytes, Listeners], argv: list[bytes]) -> Reply:
    if len(argv) > 3:
        raise wrong_arguments(argv)
    if len(argv) == 2:
        return list(channels)
    matches = glob.compile(argv[2])
    return [channel for channel in channels if matches(channel)]


def _count(channels: dict[bytes, Listeners], argv: list[bytes]) -> Reply:
    counts: list[Reply] = []
    for channel in argv[2:]:
        counts += (channel, len(channels.get(channel, ())))
    return counts
