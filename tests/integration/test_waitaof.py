"""WAITAOF: until what was written is on disks, here and at replicas."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from contextlib import contextmanager

from tests.conftest import StartServer
from tests.replicas import info, wait_for_equality, wait_for_link, wait_until
from tests.servers import Server
from tests.wire import OK, Client, Error

AT_ONCE = ("--repl-diskless-sync-delay", "0", "--enable-debug-command", "yes")
LOGGED = (*AT_ONCE, "--appendonly", "yes")
NO_LOG = Error(b"ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.")


def follow(replica: Client, master: Server) -> None:
    """Make it a replica, and wait until it is."""
    assert replica("REPLICAOF", "127.0.0.1", master.port) == OK
    wait_for_link(replica)


def blocked(client: Client) -> bool:
    """Whether somebody waits."""
    return info(client, "clients")["blocked_clients"] == "1"


@contextmanager
def stopped(server: Server) -> Generator[None]:
    """The process does nothing for a while."""
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


def test_what_is_refused(start_node: StartServer) -> None:
    with start_node(*AT_ONCE).connect() as client:
        assert client("WAITAOF", 1, 0, 0) == NO_LOG
        assert client("WAITAOF", 0, 0, 0) == [0, 0]
        assert client("WAITAOF", 0, 1, 10) == [0, 0]
        for argv, error in (
            ((2, 0, 0), b"ERR value is out of range, value must between 0 and 1"),
            ((-1, 0, 0), b"ERR value is out of range, value must between 0 and 1"),
            (("x", 0, 0), b"ERR value is not an integer or out of range"),
            ((0, -1, 0), b"ERR value is out of range, must be positive"),
            ((0, "x", 0), b"ERR value is out of range, must be positive"),
            ((0, 0, -1), b"ERR timeout is negative"),
            ((0, 0, "x"), b"ERR timeout is not an integer or out of range"),
        ):
            assert client("WAITAOF", *argv) == Error(error)
        client("REPLICAOF", "127.0.0.1", 1)
        assert client("WAITAOF", 0, 0, 0) == Error(
            b"ERR WAITAOF cannot be used with replica instances. Please also note that writes to "
            b"replicas are just local and are not propagated."
        )


def test_the_own_disk(start_node: StartServer) -> None:
    node = start_node(*LOGGED)
    with node.connect() as client, node.connect() as other:
        assert client("WAITAOF", 1, 0, 0) == [1, 0]
        for n in range(3):
            client("SET", "key", n)
            assert client("WAITAOF", 1, 0, 0) == [1, 0]
        assert client("CONFIG", "SET", "appendfsync", "always") == OK
        for n in range(30):
            client("SET", "key", n)
            assert client("WAITAOF", 1, 0, 0) == [1, 0]
        client("MULTI")
        client("SET", "key", "in a transaction")
        client("WAITAOF", 1, 1, 0)
        assert client("EXEC") == [OK, [1, 0]]
        # Nobody knows when the system writes; unless a rewrite has it all.
        assert client("CONFIG", "SET", "appendfsync", "no") == OK
        client("SET", "key", "no")
        assert client("WAITAOF", 1, 0, 50) == [0, 0]
        client.send("WAITAOF", 1, 0, 0)
        wait_until(lambda: blocked(other))
        other("BGREWRITEAOF")
        assert client.read() == [1, 0]
        # And no longer once there is no log.
        client("SET", "key", "off")
        client.send("WAITAOF", 1, 1, 0)
        wait_until(lambda: blocked(other))
        assert other("CONFIG", "SET", "appendonly", "no") == OK
        assert client.read() == NO_LOG
        # A log that begins is one when its base is there.
        assert client("CONFIG", "SET", "appendonly", "yes", "appendfsync", "everysec") == OK
        assert client("WAITAOF", 1, 0, 0) == [1, 0]


def test_the_disks_of_replicas(start_node: StartServer) -> None:
    master, replica, other = start_node(*AT_ONCE), start_node(*LOGGED), start_node(*AT_ONCE)
    with (
        master.connect() as upper,
        master.connect() as another,
        replica.connect() as lower,
        other.connect() as third,
    ):
        follow(lower, master)
        follow(third, master)
        for n in range(3):
            upper("SET", "key", n)
            assert upper("WAITAOF", 0, 1, 0) == [0, 1]
        assert upper("WAITAOF", 0, 2, 50) == [0, 1]
        assert lower("CONFIG", "SET", "appendfsync", "always") == OK
        for n in range(10):
            upper("SET", "key", n)
            assert upper("WAITAOF", 0, 1, 0) == [0, 1]
        with stopped(replica):
            upper("SET", "key", "unheard")
            assert upper("WAIT", 1, 0) == 1
            assert upper("WAITAOF", 0, 1, 50) == [0, 0]
            upper.send("WAITAOF", 0, 1, 0)
            wait_until(lambda: blocked(another))
        assert upper.read() == [0, 1]
        # What a replica has on its disk is really there.
        upper("SET", "key", "safe")
        assert upper("WAITAOF", 0, 1, 0) == [0, 1]
        replica.kill()
        replica.launch()
        replica.await_ready()
        with replica.connect() as lower_again:
            assert lower_again("GET", "key") == b"safe"


def test_a_redis_that_does_not_know_of_it(
    start_oracle: StartServer, start_node: StartServer
) -> None:
    """A replica tells what is on its disk in a way that its master may ignore, and the other way
    round.
    """
    master, replica = start_oracle(*AT_ONCE), start_node(*LOGGED)
    with master.connect() as upper, replica.connect() as lower:
        follow(lower, master)
        for n in range(5):
            upper("SET", "key", n)
            assert upper("WAIT", 1, 0) == 1
        wait_for_equality(upper, lower)
    master, replica = start_node(*LOGGED), start_oracle(*LOGGED)
    with master.connect() as upper, replica.connect() as lower:
        follow(lower, master)
        upper("SET", "key", "value")
        assert upper("WAIT", 1, 0) == 1
        assert upper("WAITAOF", 1, 0, 0) == [1, 0]
        assert upper("WAITAOF", 1, 1, 100) == [1, 0]
