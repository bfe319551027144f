"""Whole clusters of one kind of server, for measuring: formed as quickly as the nodes allow."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final

from tests.replicas import wait_until
from tests.servers import Server, free_port
from tests.wire import Argument, Error, Reply

SLOTS: Final = 16384
PATIENCE: Final = 120.0  # s; many nodes that start at once share the cores


class Member(Server):
    """A node in cluster mode, on ports that are known from the start."""

    def __init__(
        self, command: list[str], port: int, bus_port: int, directives: Sequence[str], name: str
    ) -> None:
        super().__init__(
            command,
            *("--cluster-enabled", "yes", "--cluster-port", str(bus_port)),
            *("--repl-diskless-sync-delay", "0"),
            *directives,
            name=name,
        )
        self.port = port
        self.bus_port = bus_port

    def do(self, *words: Argument) -> Reply:
        """One request on a connection of its own; RuntimeError if it is refused."""
        with self.connect() as client:
            reply = client(*words)
        if isinstance(reply, Error):
            raise RuntimeError(f"{words[0]!r} was refused: {reply.text!r}")
        return reply

    @property
    def id(self) -> str:
        """CLUSTER MYID."""
        return _text(self.do("CLUSTER", "MYID"))

    def fields(self, *command: str) -> dict[str, str]:
        """What CLUSTER INFO, or INFO, says."""
        lines = _text(self.do(*command)).splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def is_up(self) -> bool:
        """Whether it takes the cluster to be up."""
        return self.fields("CLUSTER", "INFO")["cluster_state"] == "ok"

    @property
    def is_synchronized(self) -> bool:
        """Whether it is a replica that has all of its master's data."""
        return self.fields("INFO", "replication").get("master_link_status") == "up"

    def knows(self, names: Sequence[str]) -> bool:
        """Whether it has heard of all these nodes."""
        text = _text(self.do("CLUSTER", "NODES"))
        return all(name in text for name in names)

    def follow(self, master: Member) -> None:
        """Be a replica of another member."""
        self.do("CLUSTER", "REPLICATE", master.id)
        wait_until(lambda: self.is_synchronized, "a replica", PATIENCE)


@contextlib.contextmanager
def running(
    command: list[str], shares: Sequence[int], *directives: str, name: str
) -> Iterator[list[Member]]:
    """A cluster that is up: a node for each of ``shares``, which has so many slots, in order.

    The shares are to be all slots. A node without a share is a master without slots.
    """
    members = [
        Member(command, free_port(), free_port(), directives, f"{name}-{at}")
        for at in range(len(shares))
    ]
    try:
        for member in members:
            member.launch()
        for member in members:
            member.await_ready(PATIENCE)
        _form(members, shares)
        yield members
    finally:
        for member in members:
            if member.process is not None and member.process.poll() is None:
                member.process.kill()
        for member in members:
            member.stop()


def _form(members: list[Member], shares: Sequence[int]) -> None:
    first = 0
    for at, (member, share) in enumerate(zip(members, shares, strict=True)):
        if share:
            member.do("CLUSTER", "ADDSLOTSRANGE", first, first + share - 1)
            first += share
        member.do("CLUSTER", "SET-CONFIG-EPOCH", at + 1)
    for member in members[1:]:
        members[0].do("CLUSTER", "MEET", "127.0.0.1", member.port, member.bus_port)
    names = [member.id for member in members]
    for member in members:
        wait_until(partial(member.knows, names), "a meeting", PATIENCE)
        wait_until(member.is_up, "a cluster that is up", PATIENCE)


def _text(reply: Reply) -> str:
    assert isinstance(reply, bytes), reply
    return reply.decode()
