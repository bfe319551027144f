"""PING, INFO and hello: how often they are sent, and what their answers say.

At Redis's rates: PING each second or ``down-after-milliseconds``, whichever is less; INFO each ten
seconds, and each second to replicas while their master is down or being replaced or their link to
it is broken; a hello each two seconds. Beyond that, INFO is asked for at once where something
depends on it: how far the replicas are when their master goes down, whether a replica has become
master, whether one follows the new master. (``sentinelSendPeriodicCommands``.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from node.resp import Error, Reply, Status
from sentinel.information import parse_information
from sentinel.state import (
    FAILOVER_IN_PROGRESS,
    MASTER_REBOOT,
    O_DOWN,
    PROMOTED,
    RECONF_INPROG,
    RECONF_SENT,
    S_DOWN,
    SCRIPT_KILL_SENT,
    WAIT_PROMOTION,
    Instance,
    Link,
    Master,
    Peer,
    Replica,
)

if TYPE_CHECKING:
    from sentinel.machine import Machine

MOST_PENDING: Final = 100
CLOSE_PERIOD: Final = 1_000  # of INFO, for what is watched closely
PROMOTION_PERIOD: Final = 100
RECONFIGURATION_PERIOD: Final = 200


class Monitoring:
    """Asks, and hears the answers."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._settings = machine.settings

    # Asking.

    def send_periodic(self, instance: Instance) -> None:
        """Send what is due."""
        link = instance.link
        if not link.commands_open or link.pending >= MOST_PENDING * len(link.users):
            return
        now = self._machine.now
        settings = self._settings
        if not isinstance(instance, Peer) and not instance.info_pending:
            age = now - instance.info_refreshed
            period = self._information_period(instance)
            if not instance.info_refreshed or age >= period:
                self.ask_information(instance)
            elif period < CLOSE_PERIOD:
                self._machine.wake_at(instance.info_refreshed + period)
        period = min(instance.down_after, settings.ping_period)
        if now - link.last_pong >= period and now - link.last_ping >= period // 2:
            self.ping(instance)
        if (
            now - instance.last_hello_sent >= settings.publish_period
            or not instance.last_hello_sent
        ):
            self._machine.hello.publish(instance)

    def _information_period(self, instance: Instance) -> int:
        period = self._settings.info_period
        if not isinstance(instance, Replica):
            # A master that says that it is none is asked more often, too.
            return min(period, CLOSE_PERIOD) if instance.role_reported != "master" else period
        master = instance.master
        if instance.has(PROMOTED) and master.failover_state == WAIT_PROMOTION:
            return PROMOTION_PERIOD
        if instance.has(RECONF_SENT | RECONF_INPROG):
            return RECONFIGURATION_PERIOD
        if (
            master.has(S_DOWN | O_DOWN | FAILOVER_IN_PROGRESS)
            or instance.master_link_down_time
            or instance.role_reported == "master"
        ):
            return min(period, CLOSE_PERIOD)
        return period

    def ask_information(self, instance: Instance, *, behind: bool = False) -> None:
        """Send INFO, unless an answer is on its way; ``behind`` what has just been sent anyway."""
        if instance.link.commands_open and (behind or not instance.info_pending):
            instance.info_pending = True
            instance.info_asked = self._machine.now
            argv = [self._machine.command(instance, "INFO")]
            self._machine.request(instance, argv, "info", follows=behind)

    def ask_replicas(self, master: Master) -> None:
        """How far are they, now?"""
        for replica in master.replicas.values():
            self.ask_information(replica)

    def ping(self, instance: Instance) -> None:
        """Send PING."""
        link = instance.link
        link.last_ping = self._machine.now
        if not link.ping_sent:
            link.ping_sent = self._machine.now
        self._machine.request(instance, [self._machine.command(instance, "PING")], "ping")

    # Answers.

    def hear_pong(self, link: Link, reply: Reply) -> None:
        """The answer to PING: PONG, LOADING and MASTERDOWN count as being there.

        What another node says than who is meant does not.
        """
        now = self._machine.now
        if isinstance(reply, Status | Error):
            text = reply.text
        else:
            text = bytes(reply) if isinstance(reply, bytes | bytearray) else b""
        if link.is_of_stranger:
            self._machine.links.miss(link)
        elif text.startswith((b"PONG", b"LOADING", b"MASTERDOWN")):
            link.last_available = now
            link.ping_sent = 0
            if text.startswith(b"PONG"):
                for instance in link.users:
                    instance.flags &= ~MASTER_REBOOT
        elif text.startswith(b"BUSY"):
            for instance in link.users:
                self._kill_script(instance)
        link.last_pong = now

    def _kill_script(self, instance: Instance) -> None:
        """A script keeps it busy for too long: it counts as down, so end the script."""
        if instance.has(S_DOWN) and not instance.has(SCRIPT_KILL_SENT):
            argv = [self._machine.command(instance, "SCRIPT"), b"KILL"]
            self._machine.request(instance, argv, "script kill")
            instance.flags |= SCRIPT_KILL_SENT

    def hear_information(self, instance: Instance, reply: Reply) -> None:
        """The answer to INFO."""
        instance.info_pending = False
        if isinstance(reply, bytes | bytearray) and isinstance(instance, Master | Replica):
            instance.info = bytes(reply).decode("utf-8", "replace")
            self._machine.roles.refresh(instance, parse_information(instance.info))
