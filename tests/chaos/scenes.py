"""What the tests of chaos do to servers, and wait for."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.chaos.proxy import Proxy
from tests.replicas import info, wait_for_link, wait_until
from tests.servers import Server
from tests.wire import OK, Client, Simple

PATIENCE = 60.0


def follow(replica: Server, master: Server | Proxy) -> None:
    """Make it a replica of the master, or of whom the proxy leads to; without waiting."""
    with replica.connect() as client:
        reply = client("REPLICAOF", "127.0.0.1", master.port)
        assert reply == OK or (isinstance(reply, Simple) and reply.text.startswith(b"OK")), reply


def await_link(*replicas: Server) -> None:
    """Until all of them have the stream coming."""
    for replica in replicas:
        with replica.connect() as client:
            wait_for_link(client, PATIENCE)


def await_true(condition: Callable[[], bool], what: str) -> None:
    """`wait_until`, with the patience that processes need that have been killed."""
    wait_until(condition, what, PATIENCE)


def await_progress(entries: list[int], count: int) -> None:
    """Until a writer has so many more of them."""
    wanted = len(entries) + count
    await_true(lambda: len(entries) >= wanted, "entries")


def online(master: Client) -> int:
    """How many replicas get the stream, as the master sees it."""
    fields = info(master, "replication")
    return sum(
        "state=online" in value for name, value in fields.items() if name.startswith("slave")
    )


def stat(client: Client, name: str) -> int:
    """A number of INFO's section of statistics."""
    return int(info(client, "stats")[name])


@contextmanager
def stopped(server: Server) -> Iterator[None]:
    """The process stands still as long as the context lasts."""
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


def relaunch(server: Server) -> None:
    """Start a killed server again on its port, and wait until it answers."""
    server.launch()
    server.await_ready()
