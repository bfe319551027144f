"""The connections to all that are watched: made, greeted, given up when they look dead.

A master or replica has two, one for commands and one that hears its hello channel; another sentinel
has one for commands, shared by all records of it. There is one attempt per ping period to make what
is missing; while it is not decided yet whether an instance is down there are four, so that one that
comes back in time is found. (``sentinelReconnectInstance``.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentinel.state import S_DOWN, Instance, Link, Master, Peer, Replica

if TYPE_CHECKING:
    from sentinel.machine import Half, Machine

ATTEMPTS_IN_DOUBT: Final = 4
SHORTEST_PAUSE: Final = 100
SHORTEST_PATIENCE: Final = 2_000
HELLO_CHANNEL: Final = b"__sentinel__:hello"


class Links:
    """Makes and lets go of connections."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._outside = machine.outside
        self._settings = machine.settings

    # Making.

    def maintain(self, instance: Instance) -> None:
        """Begin to connect what is missing, if it is time to."""
        link = instance.link
        if not link.is_disconnected or not instance.address.port:
            return
        commands = not link.commands_open and not link.commands_opening
        messages = link.listens and not link.messages_open and not link.messages_opening
        if not commands and not messages:
            return
        machine = self._machine
        now = machine.now
        if link.last_attempt:
            due = link.last_attempt + self._pause(link)
            if now < due:
                machine.wake_at(due)
                return
        link.last_attempt = now
        self._resolve(link)
        if not link.address.ip:
            return
        if commands:
            link.commands_opening = True
            link.commands_since = now
            self.miss(link)
            self._outside.open(link, "commands")
        if messages:
            link.messages_opening = True
            link.messages_since = now
            self._outside.open(link, "messages")

    def _pause(self, link: Link) -> int:
        period = self._settings.ping_period
        if not link.ping_sent or any(user.has(S_DOWN) for user in link.users):
            return period
        shortest = min(user.down_after for user in link.users)
        return min(period, max(SHORTEST_PAUSE, shortest // ATTEMPTS_IN_DOUBT))

    def _resolve(self, link: Link) -> None:
        """A host name may stand for another IP by now."""
        address = link.address
        if self._machine.state.resolve_hostnames or not address.ip:
            ip = self._machine.resolve(address.host)
            if ip:
                address.ip = ip

    def miss(self, link: Link) -> None:
        """From now on, if not for longer, the instance is not known to be there."""
        if not link.ping_sent:
            link.ping_sent = self._machine.now

    # What has become of it.

    def opened(self, link: Link, half: Half) -> None:
        """A connection stands: say who this is, and hear."""
        now = self._machine.now
        instance = link.users[0]
        if half == "commands":
            link.commands_opening = False
            link.commands_open = True
            link.commands_since = now
            link.pending = 0
            link.greeting = self._greeting(instance)
            for argv in (*link.greeting, self._naming(instance, "cmd")):
                self._machine.request(instance, argv, "greeting")
            self._machine.monitoring.ping(instance)
            if not isinstance(instance, Peer):
                # It may have been started anew, as something else.
                self._machine.monitoring.ask_information(instance)
            for user in list(link.users):
                self._machine.monitoring.send_periodic(user)
        else:
            link.messages_opening = False
            link.messages_open = True
            link.messages_since = link.last_message = now
            for argv in (*self._greeting(instance), self._naming(instance, "pubsub")):
                self._outside.subscribe(link, argv)
            subscribe = self._machine.command(instance, "SUBSCRIBE")
            self._outside.subscribe(link, [subscribe, HELLO_CHANNEL])

    def _greeting(self, instance: Instance) -> tuple[tuple[bytes, ...], ...]:
        """AUTH, if there are credentials (``sentinelSendAuthIfNeeded``)."""
        state = self._machine.state
        if isinstance(instance, Peer):
            user, password = state.sentinel_user, state.sentinel_pass
            if not password:
                user, password = "", state.requirepass
        else:
            assert isinstance(instance, Master | Replica)
            master = instance.master if isinstance(instance, Replica) else instance
            user, password = master.auth_user, master.auth_pass
        if not password:
            return ()
        words = [user, password] if user else [password]
        return ((self._machine.command(instance, "AUTH"), *(word.encode() for word in words)),)

    def _naming(self, instance: Instance, half: str) -> tuple[bytes, ...]:
        """CLIENT SETNAME, for whoever looks at the instance's clients."""
        name = f"sentinel-{self._machine.state.my_id[:8]}-{half}"
        return (self._machine.command(instance, "CLIENT"), b"SETNAME", name.encode())

    def lost(self, link: Link, half: Half, reason: str) -> None:
        """A connection is over, or has not come about."""
        if half == "commands":
            was_open = link.commands_open
            self._forget_commands(link)
        else:
            was_open = link.messages_open
            link.messages_open = link.messages_opening = False
        if not was_open:
            word = "cmd" if half == "commands" else "pubsub"
            self._machine.tell("debug", f"-{word}-link-reconnection", link.users[0], f" #{reason}")

    def _forget_commands(self, link: Link) -> None:
        link.commands_open = link.commands_opening = False
        link.pending = 0
        for user in link.users:
            user.info_pending = user.hello_pending = False
            if isinstance(user, Peer):
                user.ask_pending = False
        self.miss(link)

    # Letting go.

    def drop(self, link: Link) -> None:
        """Close both halves; they are made anew as soon as somebody looks."""
        self.drop_commands(link)
        self.drop_messages(link)
        link.last_attempt = 0

    def drop_commands(self, link: Link) -> None:
        """Close the half for commands."""
        if link.commands_open or link.commands_opening:
            self._outside.close(link, "commands")
            self._forget_commands(link)

    def drop_messages(self, link: Link) -> None:
        """Close the half for messages."""
        if link.messages_open or link.messages_opening:
            self._outside.close(link, "messages")
            link.messages_open = link.messages_opening = False

    def release(self, instance: Instance) -> None:
        """The instance is no more; its link goes with its last user."""
        link = instance.link
        if instance in link.users:
            if len(link.users) == 1:
                self.drop(link)
            link.users.remove(instance)

    def renew(self, link: Link) -> None:
        """Make the connections anew if credentials are others than they were made with."""
        if link.commands_open and link.greeting != self._greeting(link.users[0]):
            self.drop(link)
        elif not link.commands_open:
            link.last_attempt = 0

    def drop_the_dead(self, instance: Instance) -> None:
        """Give up connections that only seem to stand (``sentinelCheckSubjectivelyDown``)."""
        link = instance.link
        now = self._machine.now
        settings = self._settings
        half_down = instance.down_after // 2
        if link.commands_opening:
            patience = max(SHORTEST_PATIENCE, half_down)
            if now - link.commands_since > min(patience, settings.min_link_reconnect_period):
                self.drop_commands(link)
        elif (
            link.commands_open
            and now - link.commands_since > settings.min_link_reconnect_period
            and link.ping_sent
            and now - link.ping_sent > half_down
            and now - link.last_pong > half_down
        ):
            self.drop_commands(link)
        if link.messages_opening:
            patience = max(SHORTEST_PATIENCE, half_down)
            if now - link.messages_since > min(patience, settings.min_link_reconnect_period):
                self.drop_messages(link)
        elif (
            link.messages_open
            and now - link.messages_since > settings.min_link_reconnect_period
            and now - link.last_message > settings.publish_period * 3
        ):
            self.drop_messages(link)
