"""Who is master changes: the new one, and what becomes of all that belonged to the old one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from sentinel.state import NONE, Address, Master

if TYPE_CHECKING:
    from sentinel.machine import Machine


class Configuration:
    """Changes addresses of masters."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._state = machine.state

    def switch(self, master: Master, address: Address) -> None:
        """Guard the master at another address (``sentinelResetMasterAndChangeAddress``).

        Whoever was master is one of the replicas then, and is made one when it is seen. The other
        sentinels stay known.
        """
        machine = self._machine
        old = master.address
        # Back to the old one, from where a failover had already led.
        left = master.current_address if old.is_same(address) else old
        text = (
            f"{master.name} {self._state.show(left)} {left.port} "
            f"{self._state.show(address)} {address.port}"
        )
        machine.announce("warning", "+switch-master", master, text)
        replicas = [replica.address for replica in master.replicas.values()]
        replicas = [each for each in replicas if not each.is_same(address)]
        if not old.is_same(address):
            replicas.append(old)
        self.forget(master)
        master.address = master.link.address = address
        master.o_down_since = 0
        master.s_down_since = 0
        for each in replicas:
            machine.discovery.add_replica(master, each.host, each.port)
        machine.guard.switched(master)
        machine.save()
        machine.wake()

    def forget(self, master: Master) -> None:
        """Forget what was found out of a master, but for its sentinels (``sentinelResetMaster``).

        It can be failed over at any time then.
        """
        machine = self._machine
        now = machine.now
        for replica in list(master.replicas.values()):
            machine.discovery.forget_replica(replica)
        link = master.link
        machine.links.drop(link)
        master.flags = 0
        master.leader = ""
        master.failover_state = NONE
        master.failover_state_since = 0
        master.failover_start = 0
        master.turn_at = 0
        master.vain_attempts = 0
        master.gave_up = ""
        master.promoted = None
        master.run_id = ""
        master.info_refreshed = 0
        master.info_pending = False
        master.role_reported = "master"
        master.role_reported_since = now
        master.last_hello_sent = 0
        link.is_of_stranger = False
        link.ping_sent = now
        link.last_ping = 0
        link.last_available = now
        link.last_pong = now

    def run_script(
        self,
        master: Master,
        role: Literal["leader", "observer"],
        state: str,
        old: Address,
        new: Address,
    ) -> None:
        """Tell the master's client-reconfig-script, if it has one."""
        if master.client_reconfig_script:
            show = self._state.show
            self._machine.outside.run_script(
                master.client_reconfig_script,
                [master.name, role, state, show(old), str(old.port), show(new), str(new.port)],
            )
