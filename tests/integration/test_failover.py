"""FAILOVER: a master and a replica change places, whichever of them is ours."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Generator

import pytest

from tests.conftest import StartServer
from tests.replicas import Traffic, info, wait_for_equality, wait_for_link, wait_until
from tests.servers import Server
from tests.wire import OK, Argument, Client, Error, Reply

QUICK = (
    *("--enable-debug-command", "yes", "--repl-diskless-sync-delay", "0"),
    *("--repl-ping-replica-period", "1"),
)
READ_ONLY = Error(b"READONLY You can't write against a read only replica.")


def state(client: Client) -> str:
    """How far the failover is."""
    return info(client, "replication")["master_failover_state"]


def follow(replica: Client, master: Server, upper: Client) -> None:
    """Make it a replica, and wait until its master counts it as one."""
    assert replica("REPLICAOF", "127.0.0.1", master.port) == OK
    wait_for_link(replica)
    wait_until(lambda: "state=online" in str(info(upper, "replication")))


@contextlib.contextmanager
def stopped(server: Server) -> Generator[None]:
    """The process does nothing for a while."""
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


@pytest.mark.parametrize(
    "kinds", [("ours", "redis"), ("redis", "ours"), ("ours", "ours")], ids="-".join
)
def test_they_change_places(
    start_oracle: StartServer, start_node: StartServer, kinds: tuple[str, str]
) -> None:
    """Nothing is lost and nothing is fetched anew, and another replica comes along."""
    first, second, third = (
        (start_oracle if kind == "redis" else start_node)(*QUICK) for kind in (*kinds, "redis")
    )
    with first.connect() as old, second.connect() as new, third.connect() as other:
        follow(new, first, old)
        follow(other, first, old)
        Traffic(old, 51).run(300)
        with first.connect() as writer, first.connect() as waiting:
            waiting.send("BLPOP", "nothing", 0)
            wait_until(lambda: info(old, "clients")["blocked_clients"] == "1")
            assert old("FAILOVER", "TO", "127.0.0.1", second.port, "TIMEOUT", 60_000) == OK
            writer.send("SET", "late", "1")
            assert writer.read() == READ_ONLY
            refused = waiting.read()
            assert isinstance(refused, Error)
            assert refused.text.startswith(b"UNBLOCKED")
        wait_until(lambda: state(old) == "no-failover")
        assert old("EXISTS", "late") == 0
        wait_for_link(old)
        assert info(new, "replication")["role"] == "master"
        assert info(old, "replication")["master_port"] == str(second.port)
        wait_for_link(other)
        Traffic(new, 52).run(300)
        wait_for_equality(new, old, other)
        assert info(new, "stats")["sync_full"] == "0"
        assert info(new, "stats")["sync_partial_ok"] == "1"
        for line in (
            f"FAILOVER requested to 127.0.0.1:{second.port}.",
            f"Failover target 127.0.0.1:{second.port} is synced, failing over.",
        ):
            assert line in first.log
        assert "Failover request received for replid " in second.log
        assert "MASTER MODE enabled (failover request from '" in second.log
        # And back, to whomever has everything.
        wait_until(lambda: "state=online" in str(info(new, "replication")))
        assert new("FAILOVER") == OK
        wait_until(lambda: info(new, "replication")["role"] == "slave")
        wait_for_link(new)
        assert "FAILOVER requested to any replica." in second.log


def test_what_is_refused(start_oracle: StartServer, start_node: StartServer) -> None:
    """The same as Redis refuses, in the same order."""
    servers = [start_oracle(*QUICK), start_node(*QUICK)]
    with contextlib.ExitStack() as stack:
        masters = [stack.enter_context(server.connect()) for server in servers]

        def both(*argv: Argument) -> Reply:
            replies = [master("FAILOVER", *argv) for master in masters]
            assert replies[0] == replies[1], argv
            return replies[0]

        alone: list[tuple[Argument, ...]] = [
            *((), ("ABORT",), ("ABORT", "ABORT"), ("abort", "x"), ("TIMEOUT",), ("TIMEOUT", 0)),
            *(("TIMEOUT", -1), ("TIMEOUT", "x"), ("TIMEOUT", 1, "TIMEOUT", 1), ("FORCE",)),
            *(("FORCE", "FORCE"), ("TO",), ("TO", "a"), ("TO", "a", "b"), ("TO", "a", 1, "x")),
            *(("TO", "a", 1, "TO", "a", 1), ("TO", "a", 1, "FORCE", "TIMEOUT", 5), ("nonsense",)),
        ]
        for argv in alone:
            both(*argv)
        replicas = [start_oracle(*QUICK, "--replica-announce-port", "7") for _ in servers]
        for master, server, replica in zip(masters, servers, replicas, strict=True):
            with replica.connect() as lower:
                follow(lower, server, master)
        for argv in (*alone[1:], ("FORCE", "TIMEOUT", 5), ("TO", "127.0.0.1", 7, "FORCE")):
            assert isinstance(both(*argv), Error)
        with stopped(replicas[0]), stopped(replicas[1]):
            for master in masters:
                master("SET", "key", "value")
            assert both("TO", "127.0.0.1", 7) == OK
            assert both() == Error(b"ERR FAILOVER already in progress.")
            for master in masters:
                assert state(master) == "waiting-for-sync"
                assert master("REPLICAOF", "NO", "ONE") == Error(
                    b"ERR REPLICAOF not allowed while failing over."
                )
            assert both("ABORT") == OK
        for master, server in zip(masters, servers, strict=True):
            assert "FAILOVER to 127.0.0.1:7 aborted: Failover manually aborted" in server.log
            assert master("SET", "key", "value") == OK
            assert master("REPLICAOF", "127.0.0.1", 1) == OK
        assert both() == Error(b"ERR FAILOVER is not valid when server is a replica.")


def test_a_replica_that_lags(start_oracle: StartServer, start_node: StartServer) -> None:
    """It is not waited for longer than was said; writes wait meanwhile."""
    master, replica = start_node(*QUICK), start_oracle(*QUICK)
    with master.connect() as upper, replica.connect() as lower, master.connect() as writer:
        follow(lower, master, upper)
        with stopped(replica):
            upper("SET", "key", "1")
            assert upper("FAILOVER", "TIMEOUT", 300) == OK
            writer.send("SET", "key", "2")
            assert not writer.has_input()
            assert upper("GET", "key") == b"1"
            assert writer.read() == OK  # when the time is up
            assert state(upper) == "no-failover"
        line = "FAILOVER to any replica aborted: Replica never caught up before timeout"
        assert line in master.log
        assert upper("ROLE")[0] == b"master"  # type: ignore[index]
        wait_for_equality(upper, lower)


def test_by_force(start_node: StartServer) -> None:
    """The role goes over when the time is up; it is the own one again if that is aborted."""
    master, replica = start_node(*QUICK), start_node(*QUICK)
    with master.connect() as upper, replica.connect() as lower, master.connect() as writer:
        follow(lower, master, upper)
        target = ("TO", "127.0.0.1", replica.port)
        with stopped(replica):
            upper("SET", "key", "1")
            assert upper("FAILOVER", *target, "TIMEOUT", 100, "FORCE") == OK
            writer.send("SET", "key", "2")
            wait_until(lambda: state(upper) == "failover-in-progress")
            assert upper("SET", "key", "2") == READ_ONLY
            assert info(upper, "replication")["role"] == "slave"
            assert upper("FAILOVER", "ABORT") == OK
            assert writer.read() == OK
            assert info(upper, "replication")["role"] == "master"
        line = f"Failover to 127.0.0.1:{replica.port} time out exceeded, failing over."
        assert line in master.log
        wait_for_link(lower)
        wait_for_equality(upper, lower)
        with stopped(replica):
            upper("SET", "key", "3")
            assert upper("FAILOVER", *target, "TIMEOUT", 100, "FORCE") == OK
            wait_until(lambda: state(upper) == "failover-in-progress")
        wait_until(lambda: state(upper) == "no-failover")
        wait_for_link(upper)
        assert info(lower, "replication")["role"] == "master"
        wait_for_equality(lower, upper)


def test_a_target_that_refuses(start_node: StartServer) -> None:
    """It has become a master by itself, say: then this one stays the master."""
    master, replica = start_node(*QUICK), start_node(*QUICK)
    with master.connect() as upper, replica.connect() as lower:
        follow(lower, master, upper)
        assert lower("CONFIG", "SET", "requirepass", "secret") == OK
        with stopped(replica):
            upper("SET", "key", "1")
            target = ("TO", "127.0.0.1", replica.port)
            assert upper("FAILOVER", *target, "TIMEOUT", 100, "FORCE") == OK
            wait_until(lambda: state(upper) == "failover-in-progress")
        # REPLCONF is refused, and PSYNC too.
        wait_until(lambda: state(upper) == "no-failover")
        line = f"FAILOVER to 127.0.0.1:{replica.port} aborted: Failover target rejected psync"
        assert line in master.log
        assert info(upper, "replication")["role"] == "master"
        assert upper("SET", "key", "2") == OK
        wait_for_link(lower)
        lower("CONFIG", "SET", "requirepass", "")
        wait_for_equality(upper, lower)
