"""The message by which sentinels find each other and spread who is master.

Eight fields, separated by commas: the sentinel's address (IP, port), its run id and current epoch;
the master's name, address (IP, port) and config epoch. It is published to the channel
``__sentinel__:hello`` of all masters and replicas, where the other sentinels listen, and to the
other sentinels themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from node.resp import Error, Reply
from sentinel import election
from sentinel.links import HELLO_CHANNEL
from sentinel.state import FAILOVER_IN_PROGRESS, RECONF_SLAVES, Instance, Master, Peer, Replica

if TYPE_CHECKING:
    from sentinel.machine import Machine

FIELDS: Final = 8
REPEATS: Final = 4
MOST_HEARD: Final = 4096
NEVER: Final = -(1 << 62)
LARGEST_EPOCH: Final = (1 << 64) - 1


class Hello:
    """A hello, taken apart."""

    __slots__ = (
        "config_epoch",
        "current_epoch",
        "host",
        "master_host",
        "master_name",
        "master_port",
        "port",
        "run_id",
    )

    def __init__(
        self,
        host: str,
        port: int,
        run_id: str,
        current_epoch: int,
        master_name: str,
        master_host: str,
        master_port: int,
        config_epoch: int,
    ) -> None:
        self.host = host
        self.port = port
        self.run_id = run_id
        self.current_epoch = current_epoch
        self.master_name = master_name
        self.master_host = master_host
        self.master_port = master_port
        self.config_epoch = config_epoch

    def format(self) -> bytes:
        """As it is published."""
        return (
            f"{self.host},{self.port},{self.run_id},{self.current_epoch},{self.master_name},"
            f"{self.master_host},{self.master_port},{self.config_epoch}"
        ).encode()


def parse_hello(payload: bytes) -> Hello | None:
    """A hello; None if it is not one."""
    fields = payload.decode("utf-8", "replace").split(",")
    if len(fields) != FIELDS:
        return None
    host, port, run_id, epoch, name, master_host, master_port, config_epoch = fields
    try:
        hello = Hello(
            host,
            int(port),
            run_id,
            int(epoch),
            name,
            master_host,
            int(master_port),
            int(config_epoch),
        )
    except ValueError:
        return None
    if not host or not run_id or not master_host:
        return None
    if not 0 < hello.port < 65536 or not 0 < hello.master_port < 65536:
        return None
    if not 0 <= hello.current_epoch <= LARGEST_EPOCH:
        return None
    return hello if 0 <= hello.config_epoch <= LARGEST_EPOCH else None


class Hellos:
    """Says hello, and hears it."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._state = machine.state
        self._heard: dict[bytes, int] = {}  # when which message was heard last

    # Saying it.

    def publish(self, instance: Instance) -> None:
        """Publish to an instance who this sentinel is and whom it takes for the master."""
        if instance.hello_pending or not instance.link.commands_open:
            return
        machine = self._machine
        state = self._state
        assert isinstance(instance, Master | Replica | Peer)
        master = instance if isinstance(instance, Master) else instance.master
        host = state.announce_ip or machine.outside.local_ip(instance.link)
        if not host:
            return
        address = master.current_address
        hello = Hello(
            host,
            state.announce_port or state.port,
            state.my_id,
            state.current_epoch,
            master.name,
            state.show(address),
            address.port,
            master.config_epoch,
        )
        instance.hello_pending = True
        publish = machine.command(instance, "PUBLISH")
        machine.request(instance, [publish, HELLO_CHANNEL, hello.format()], "hello")

    def taken(self, instance: Instance, reply: Reply) -> None:
        """The answer to PUBLISH; if it was refused, it is tried again soon."""
        instance.hello_pending = False
        if not isinstance(reply, Error):
            instance.last_hello_sent = self._machine.now

    def publish_soon(self, master: Master) -> None:
        """There is news: tell everybody now, not when it is due."""
        for instance in master.instances():
            instance.last_hello_sent = 0
            self.publish(instance)

    # Hearing it.

    def hear(self, payload: bytes) -> None:
        """A hello of somebody, maybe of this sentinel itself (``sentinelProcessHelloMessage``)."""
        machine = self._machine
        since = machine.now - self._heard.get(payload, NEVER)
        if 0 <= since < machine.settings.publish_period // REPEATS:
            return  # in a cluster, what is published at one node is heard at all
        hello = parse_hello(payload)
        if hello is None or hello.run_id == self._state.my_id:
            return
        master = self._state.masters.get(hello.master_name)
        if master is None or master.cluster is not None:
            master = machine.guard.find_master(hello)
        if master is None:
            return
        if len(self._heard) >= MOST_HEARD:
            self._heard.clear()
        self._heard[payload] = machine.now
        peer = machine.discovery.meet(master, hello.run_id, hello.host, hello.port)
        machine.learn_epoch(master, hello.current_epoch)
        if peer is None:
            return
        peer.last_hello_heard = machine.now
        if master.cluster is not None:
            machine.guard.hear_configuration(master, hello)
        elif hello.config_epoch > master.config_epoch:
            self._update(master, peer, hello)
        elif hello.config_epoch and hello.config_epoch == master.config_epoch:
            self._resolve_collision(master, hello)

    def _resolve_collision(self, master: Master, hello: Hello) -> None:
        """Two configurations with one epoch, as failovers that were forced can leave.

        With Redis's sentinels they stay for good. Here one of the two who see it takes a new epoch.
        """
        machine = self._machine
        address = master.current_address
        if hello.master_port == address.port and machine.is_host(address, hello.master_host):
            return
        if machine.tilt or self._state.my_id < hello.run_id:
            return
        machine.learn_epoch(master, self._state.current_epoch + 1)
        master.config_epoch = self._state.current_epoch
        if master.has(FAILOVER_IN_PROGRESS):
            master.failover_epoch = master.config_epoch
        machine.save()
        machine.log(
            "warning",
            f"{hello.run_id} has another master of {master.name} in epoch {hello.config_epoch}: "
            f"new config epoch {master.config_epoch}",
        )
        self.publish_soon(master)

    def _update(self, master: Master, peer: Peer, hello: Hello) -> None:
        """The peer knows a newer configuration of the master."""
        machine = self._machine
        address = machine.locate(hello.master_host, hello.master_port)
        if address is None:
            return
        master.config_epoch = hello.config_epoch
        machine.learn_epoch(master, hello.config_epoch)
        machine.save()
        old = master.current_address
        if old.is_same(address):
            if master.has(FAILOVER_IN_PROGRESS) and master.failover_state < RECONF_SLAVES:
                # What this sentinel is about to bring about would be older than that.
                machine.failover.abort(
                    master, "-failover-abort-master-changed", election.MASTER_CHANGED
                )
            return
        machine.tell("warning", "+config-update-from", peer)
        machine.configuration.switch(master, address)
        machine.configuration.run_script(master, "observer", "start", old, address)
