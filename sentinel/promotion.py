"""How a replica is made the master, and others are made to follow it; by the kind of master."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentinel.state import Address, Master, Replica

if TYPE_CHECKING:
    from sentinel.machine import Machine


class Promotion:
    """Of a plain master: replicas are told whom to follow, by this sentinel."""

    # Whether wrong roles and replicas of somebody else are put right by the sentinels, and the
    # other replicas are pointed to the promoted one.
    repairs = True

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def begin(self, replica: Replica) -> None:
        """Make it the master. Called again, every second, while it has not become it."""
        self._configure(replica, [b"NO", b"ONE"])

    def is_done(self, replica: Replica) -> bool:
        """Whether it is the master, as far as it has just said that it is one (role:master)."""
        return True

    def epoch(self, replica: Replica) -> int:
        """The config epoch under which it is the master, now that it is one."""
        return replica.master.failover_epoch

    def is_settled(self, master: Master, left: list[Replica]) -> bool:
        """Whether the others follow; ``left`` are those that are there and not known to."""
        return not left

    def point(self, replica: Replica, master: Address) -> None:
        """Make it follow the master at that address."""
        host = self._machine.state.show(master)
        self._configure(replica, [host.encode(), b"%d" % master.port])

    def _configure(self, replica: Replica, place: list[bytes]) -> None:
        """SLAVEOF, kept by CONFIG REWRITE; and its clients have to ask again who is master.

        (``sentinelSendSlaveOf``.) INFO is asked for behind it, to see what has become of it.
        """
        machine = self._machine
        kill = [machine.command(replica, "CLIENT"), b"KILL", b"TYPE"]
        for argv in (
            [machine.command(replica, "MULTI")],
            [machine.command(replica, "SLAVEOF"), *place],
            [machine.command(replica, "CONFIG"), b"REWRITE"],
            [*kill, b"normal"],
            [*kill, b"pubsub"],
            [machine.command(replica, "EXEC")],
        ):
            machine.request(replica, argv, "slaveof")
        machine.monitoring.ask_information(replica, behind=True)
