"""Chains of replicas, of both kinds of server, and what a promotion in them leaves to fetch."""

from __future__ import annotations

import pytest

from tests.conftest import StartServer
from tests.replicas import Traffic, info, wait_for_equality, wait_for_link, wait_until
from tests.servers import Server
from tests.wire import OK, Client

DEBUG = ("--enable-debug-command", "yes")
QUICK = (*DEBUG, "--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")


def follow(replica: Client, master: Server) -> None:
    """Make it a replica, and wait until it is."""
    assert replica("REPLICAOF", "127.0.0.1", master.port) == OK
    wait_for_link(replica)


def wait_for_replica(master: Client) -> None:
    """Until it has one that gets the stream."""
    wait_until(lambda: "state=online" in info(master, "replication").get("slave0", ""))


@pytest.mark.parametrize(
    "chain", [("redis", "ours", "redis"), ("redis", "ours", "ours"), ("ours", "ours", "redis")]
)
def test_the_stream_goes_through(
    start_oracle: StartServer, start_node: StartServer, chain: tuple[str, str, str]
) -> None:
    servers = [(start_oracle if kind == "redis" else start_node)(*QUICK) for kind in chain]
    first, middle, last = (server.connect() for server in servers)
    Traffic(first, 21).run(500)
    follow(middle, servers[0])
    follow(last, servers[1])
    traffic = Traffic(first, 22)
    traffic.run(1000)
    wait_for_equality(first, middle, last)
    # The middle takes up its link where it broke, and the last one does not even notice.
    for _ in range(3):
        first("CLIENT", "KILL", "TYPE", "replica")
        traffic.run(300)
        wait_for_replica(first)
    wait_for_equality(first, middle, last)
    assert info(middle, "stats")["sync_full"] == "1"
    assert info(middle, "replication")["connected_slaves"] == "1"
    for _ in range(3):
        middle("CLIENT", "KILL", "TYPE", "replica")
        traffic.run(300)
        wait_for_replica(middle)
    wait_for_equality(first, middle, last)
    assert info(middle, "stats")["sync_full"] == "1"
    assert info(middle, "stats")["sync_partial_ok"] == "3"
    for client in (first, middle, last):
        client.close()


@pytest.mark.parametrize("kind", ["redis", "ours"])
def test_the_promoted_goes_on_with_the_others(
    start_oracle: StartServer, start_node: StartServer, kind: str
) -> None:
    """Of three that have the same, one becomes the master of the others: nothing is fetched."""
    master = start_oracle(*QUICK, "--repl-ping-replica-period", "1000")
    heir = start_node(*QUICK)
    other = (start_oracle if kind == "redis" else start_node)(*QUICK)
    with master.connect() as old, heir.connect() as new, other.connect() as third:
        follow(new, master)
        follow(third, master)
        Traffic(old, 31).run(300)
        old("CLIENT", "PAUSE", 1_000_000, "WRITE")  # nothing expires either
        wait_for_equality(old, new, third)
        assert new("REPLICAOF", "NO", "ONE") == OK
        Traffic(new, 32).run(300)
        follow(third, heir)
        assert old("REPLICAOF", "127.0.0.1", heir.port) == OK
        assert old("CLIENT", "UNPAUSE") == OK
        wait_for_link(old)
        Traffic(new, 33).run(300)
        wait_for_equality(new, third, old)
        stats = info(new, "stats")
        assert (stats["sync_full"], stats["sync_partial_ok"]) == ("0", "2")


def test_a_promotion_in_the_middle_of_a_chain(
    start_oracle: StartServer, start_node: StartServer
) -> None:
    master, middle, last = start_oracle(*QUICK), start_node(*QUICK), start_oracle(*QUICK)
    with master.connect() as top, middle.connect() as ours, last.connect() as end:
        follow(ours, master)
        follow(end, middle)
        Traffic(top, 41).run(300)
        wait_for_equality(top, ours, end)
        assert ours("REPLICAOF", "NO", "ONE") == OK
        Traffic(ours, 42).run(300)
        wait_for_link(end)
        wait_for_equality(ours, end)
        assert info(ours, "stats")["sync_full"] == "1"
        # And back: what the old master has is a part of the new one's history.
        assert top("REPLICAOF", "127.0.0.1", middle.port) == OK
        wait_for_link(top)
        wait_for_equality(ours, end, top)


def test_a_replica_of_a_replica_without_a_master(
    start_oracle: StartServer, start_node: StartServer
) -> None:
    """It is told to come again, and does."""
    master, middle, last = start_oracle(*QUICK), start_node(*QUICK), start_node(*QUICK)
    with middle.connect() as ours, last.connect() as end:
        follow(ours, master)
        master.stop()
        wait_until(lambda: info(ours, "replication")["master_link_status"] == "down")
        end("REPLICAOF", "127.0.0.1", middle.port)
        wait_until(lambda: "NOMASTERLINK" in last.log)
        assert ours("REPLICAOF", "NO", "ONE") == OK
        wait_for_link(end)
        ours("SET", "key", "value")
        wait_for_equality(ours, end)


@pytest.mark.parametrize("kind", ["redis", "ours"])
def test_a_master_that_restarts_goes_on_with_its_replicas(
    start_oracle: StartServer, start_node: StartServer, kind: str
) -> None:
    """Its snapshot says of which history the data are.

    What has expired in it is deleted at the replicas, which only hide it.
    """
    master = start_node(*QUICK, "--save", "3600", "1")
    replica = (start_oracle if kind == "redis" else start_node)(*QUICK)
    with replica.connect() as lower:
        with master.connect() as upper:
            follow(lower, master)
            Traffic(upper, 71).run(300)
            upper("DEBUG", "SET-ACTIVE-EXPIRE", 0)
            upper("SELECT", 5)
            upper("SET", "doomed", "value", "PX", 100)
            lower("SELECT", 5)
            wait_for_equality(upper, lower)
            wait_until(lambda: lower("EXISTS", "doomed") == 0)
            wait_for_equality(upper, lower)
        master.restart()
        with master.connect() as upper:
            wait_for_link(lower)
            wait_for_equality(upper, lower)
            Traffic(upper, 72).run(300)
            wait_for_equality(upper, lower)
            stats = info(upper, "stats")
            assert (stats["sync_full"], stats["sync_partial_ok"]) == ("0", "1")
