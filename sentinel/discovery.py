"""Who belongs to a master: replicas by its INFO, other sentinels by their hello.

A sentinel is known by its run id. One that says hello from another address has moved there, for all
masters; a new one at the address of a known one has taken its place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentinel.state import Address, Master, Peer, Replica

if TYPE_CHECKING:
    from sentinel.machine import Machine


class Discovery:
    """Gets to know, and forgets."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._state = machine.state

    # Replicas.

    def add_replica(self, master: Master, host: str, port: int) -> Replica | None:
        """A replica of the master; None if it is known, or its name stands for nothing."""
        machine = self._machine
        address = machine.locate(host, port)
        if address is None:
            return None
        for known in master.replicas.values():
            if known.address.is_same(address):
                return None
        try:
            replica = self._state.add_replica(master, address, machine.now)
        except ValueError:
            return None
        machine.tell("notice", "+slave", replica)
        machine.save()
        machine.wake()
        return replica

    def forget_replica(self, replica: Replica) -> None:
        """It belongs to the master no more."""
        self._machine.links.release(replica)
        replica.master.replicas.pop(replica.name, None)

    # Sentinels.

    def meet(self, master: Master, run_id: str, host: str, port: int) -> Peer | None:
        """The sentinel that has said hello for a master; None if it cannot be known."""
        machine = self._machine
        address = machine.locate(host, port)
        if address is None:
            return None
        known = master.peers.get(run_id)
        if known is not None and known.address.is_same(address):
            return known
        if known is not None:
            self.forget_peer(known)
            machine.tell(
                "notice",
                "+sentinel-address-switch",
                master,
                f" ip {host} port {port} for {run_id}",
            )
        else:
            self._remove_former(master, address)
        peer = self._state.add_peer(master, run_id, address, machine.now)
        if known is None:
            machine.tell("notice", "+sentinel", peer)
        else:
            self._move_others(peer)
        machine.save()
        machine.wake()
        return peer

    def _remove_former(self, master: Master, address: Address) -> None:
        """Whoever was at the address of a new sentinel is not there any more."""
        for other in master.peers.values():
            if other.address.is_same(address):
                self._machine.tell("notice", "+sentinel-invalid-addr", other)
                for each in self._state.masters.values():
                    former = each.peers.get(other.run_id)
                    if former is not None:
                        self.forget_peer(former)
                return

    def _move_others(self, peer: Peer) -> None:
        """The sentinel's records for other masters have to change their address as well."""
        machine = self._machine
        moved = 0
        for master in self._state.masters.values():
            other = master.peers.get(peer.run_id)
            if other is None or other is peer or other.link is peer.link:
                continue
            machine.links.release(other)
            other.address = peer.address
            other.link = peer.link
            peer.link.users.append(other)
            moved += 1
        if moved:
            text = f" {moved} additional matching instances"
            machine.tell("notice", "+sentinel-address-update", peer, text)

    def forget_peer(self, peer: Peer) -> None:
        """It is not one of the master's sentinels any more."""
        self._machine.links.release(peer)
        peer.master.peers.pop(peer.run_id, None)
