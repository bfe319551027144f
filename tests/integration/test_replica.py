"""Our node as the replica of a real redis-server."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.replicas import (
    Traffic,
    connections_lost,
    digest,
    info,
    offset,
    wait_for_equality,
    wait_for_link,
    wait_until,
)
from tests.servers import Server, node_command
from tests.wire import OK, Error, Simple

DEBUG = ("--enable-debug-command", "yes")
MASTER = (*DEBUG, "--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")


def replica_of(start_node: StartServer, master: Server, *directives: str) -> Server:
    """Our node as a replica, by its configuration."""
    return start_node("--replicaof", "127.0.0.1", str(master.port), *DEBUG, *directives)


@pytest.mark.parametrize("diskless", ["yes", "no"])
@pytest.mark.parametrize("load", ["disabled", "on-empty-db", "swapdb"])
def test_all_data_come_and_then_all_changes(
    start_oracle: StartServer, start_node: StartServer, diskless: str, load: str
) -> None:
    master = start_oracle(*MASTER, "--repl-diskless-sync", diskless)
    with master.connect() as client:
        Traffic(client, 1).run(3000)
        node = replica_of(start_node, master, "--repl-diskless-load", load)
        with node.connect() as replica:
            wait_for_link(replica)
            traffic = Traffic(client, 2)
            for _ in range(5):
                traffic.run(2000)
            wait_for_equality(client, replica)
            assert info(client, "stats")["sync_full"] == "1"
            assert info(replica, "stats")["unexpected_error_replies"] == "0"
            assert "CRITICAL" not in node.log


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_a_broken_link_is_taken_up_where_it_broke(
    start_oracle: StartServer, start_node: StartServer, seed: int
) -> None:
    master = start_oracle(*MASTER)
    node = replica_of(start_node, master)
    with master.connect() as client, node.connect() as replica, master.connect() as killer:
        wait_for_link(replica)
        traffic = Traffic(client, seed)
        for turn in range(10):
            lost = connections_lost(node)
            traffic.run(300)
            # In the middle of what is on its way.
            if turn % 2:
                assert killer("CLIENT", "KILL", "TYPE", "replica") == 1
            else:
                assert replica("CLIENT", "KILL", "TYPE", "master") == 1
            traffic.run(300)
            wait_until(lambda lost=lost: connections_lost(node) > lost)  # type: ignore[misc]
            wait_for_link(replica)
        wait_for_equality(client, replica)
        stats = info(client, "stats")
        assert stats["sync_full"] == "1"
        assert stats["sync_partial_ok"] == "10"
        assert stats["sync_partial_err"] == "0"
        assert info(replica, "stats")["unexpected_error_replies"] == "0"


def test_the_role_at_run_time(start_oracle: StartServer, start_node: StartServer) -> None:
    master = start_oracle(*MASTER)
    node = start_node(*DEBUG)
    with master.connect() as client, node.connect() as replica:
        client("SET", "from", "the master")
        replica("SET", "own", "1")
        assert replica("REPLICAOF", "127.0.0.1", master.port) == OK
        assert replica("CONFIG", "GET", "replicaof") == [
            b"replicaof",
            b"127.0.0.1 %d" % master.port,
        ]
        wait_for_link(replica)
        wait_for_equality(client, replica)
        assert replica("GET", "own") != b"1"
        assert replica("GET", "from") == b"the master"
        reply = replica("ROLE")
        assert isinstance(reply, list)
        assert reply[:4] == [b"slave", b"127.0.0.1", master.port, b"connected"]
        refusal = Error(b"READONLY You can't write against a read only replica.")
        assert replica("SET", "a", "1") == refusal
        assert replica("MULTI") == OK
        assert replica("SET", "a", "1") == refusal
        assert replica("EXEC") == Error(
            b"EXECABORT Transaction discarded because of previous errors."
        )
        before = info(replica, "replication")
        assert replica("REPLICAOF", "NO", "ONE") == OK
        after = info(replica, "replication")
        assert after["role"] == "master"
        assert after["master_replid2"] == before["master_replid"] != after["master_replid"]
        assert after["second_repl_offset"] == str(int(before["master_repl_offset"]) + 1)
        assert replica("SET", "a", "1") == OK
        assert replica("CONFIG", "GET", "replicaof") == [b"replicaof", b""]


def test_keys_expire_when_the_master_says_so(
    start_oracle: StartServer, start_node: StartServer
) -> None:
    master = start_oracle(*MASTER)
    node = replica_of(start_node, master, "--replica-read-only", "no")
    with master.connect() as client, node.connect() as replica:
        wait_for_link(replica)
        client("DEBUG", "SET-ACTIVE-EXPIRE", "0")
        client("SET", "key", "1", "PX", "30")
        wait_until(lambda: replica("DBSIZE") == 1, "the key")
        wait_until(lambda: replica("EXISTS", "key") == 0, "that it is hidden")
        assert replica("DBSIZE") == 1
        assert replica("GET", "key") == client("GET", "nothing")
        assert replica("KEYS", "*") == []
        assert info(replica, "stats")["expired_keys"] == "0"
        # The master looks at it, and tells.
        assert client("EXISTS", "key") == 0
        wait_until(lambda: replica("DBSIZE") == 0, "the deletion")
        wait_for_equality(client, replica)


def test_what_has_expired_is_there_for_the_commands_of_the_master(
    start_node: StartServer,
) -> None:
    """A command that was executed in time is carried out, even if it comes late."""
    master = start_node(*MASTER)
    node = replica_of(start_node, master)
    with master.connect() as client, node.connect() as replica:
        wait_for_link(replica)
        client("DEBUG", "SET-ACTIVE-EXPIRE", "0")
        client("RPUSH", "list", "a")
        # The stream has begun once that is there: the time that is measured starts then.
        wait_until(lambda: offset(client) == offset(replica))
        client("PEXPIRE", "list", "2000")
        wait_until(lambda: offset(client) == offset(replica))
        replica.send("DEBUG", "SLEEP", "2.2")
        client("RPUSH", "list", "b")
        client("PERSIST", "list")
        assert replica.read() == OK
        wait_for_equality(client, replica)
        assert replica("LRANGE", "list", "0", "-1") == [b"a", b"b"]


def test_without_the_master(start_oracle: StartServer, start_node: StartServer) -> None:
    master = start_oracle(*MASTER)
    node = replica_of(start_node, master, "--replica-serve-stale-data", "no")
    with node.connect() as replica:
        wait_for_link(replica)
        replica("GET", "key")
        master.stop()
        down = Error(
            b"MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."
        )
        wait_until(lambda: replica("GET", "key") == down, "MASTERDOWN")
        assert info(replica, "replication")["master_link_status"] == "down"
        assert replica("SUBSCRIBE", "channel") == [b"subscribe", b"channel", 1]
        assert replica("UNSUBSCRIBE") == [b"unsubscribe", b"channel", 0]
        assert replica("CONFIG", "SET", "replica-serve-stale-data", "yes") == OK
        assert not isinstance(replica("GET", "key"), Error)


def test_messages_are_passed_on(start_oracle: StartServer, start_node: StartServer) -> None:
    master = start_oracle(*MASTER)
    node = replica_of(start_node, master)
    with master.connect() as client, node.connect() as replica, node.connect() as listener:
        wait_for_link(replica)
        listener("SUBSCRIBE", "channel")
        client("PUBLISH", "channel", "hello")
        assert listener.read() == [b"message", b"channel", b"hello"]


def test_events_of_the_keyspace(start_oracle: StartServer, start_node: StartServer) -> None:
    master = start_oracle(*MASTER)
    node = replica_of(start_node, master, "--notify-keyspace-events", "KEA")
    with master.connect() as client, node.connect() as replica, node.connect() as listener:
        wait_for_link(replica)
        listener("SUBSCRIBE", "__keyevent@0__:set", "__keyevent@0__:del")
        listener.read()
        client("SET", "key", "1", "PX", "10")
        assert listener.read() == [b"message", b"__keyevent@0__:set", b"key"]
        assert listener.read() == [b"message", b"__keyevent@0__:del", b"key"]


def test_blocked_clients_are_let_go_when_the_role_changes(
    start_oracle: StartServer, start_node: StartServer
) -> None:
    master = start_oracle(*MASTER)
    node = start_node()
    with node.connect() as replica, node.connect() as waiting:
        waiting.send("BLPOP", "list", "0")
        wait_until(lambda: info(replica, "clients")["blocked_clients"] == "1")
        replica("REPLICAOF", "127.0.0.1", master.port)
        assert waiting.read() == Error(
            b"UNBLOCKED force unblock from blocking operation, instance state changed "
            b"(master -> replica?)"
        )


def test_a_restart_goes_on_where_the_snapshot_ends(
    start_oracle: StartServer, start_node: StartServer
) -> None:
    master = start_oracle(*MASTER)
    node = replica_of(start_node, master, "--save", "3600", "1")
    with master.connect() as client:
        with node.connect() as replica:
            wait_for_link(replica)
            Traffic(client, 5).run(500)
            wait_for_equality(client, replica)
        node.restart()
        Traffic(client, 6).run(500)
        with node.connect() as replica:
            wait_for_link(replica)
            wait_for_equality(client, replica)
        assert info(client, "stats")["sync_full"] == "1"
        assert info(client, "stats")["sync_partial_ok"] == "1"


def test_a_master_that_wants_a_password(start_oracle: StartServer, start_node: StartServer) -> None:
    master = start_oracle(*MASTER, "--requirepass", "secret")
    node = replica_of(start_node, master)
    with node.connect() as replica:
        wait_until(lambda: "NOAUTH" in node.log, "the refusal")
        assert info(replica, "replication")["master_link_status"] == "down"
        replica("CONFIG", "SET", "masterauth", "secret")
        wait_for_link(replica)
        with master.connect() as client:
            client("AUTH", "secret")
            client("ACL", "SETUSER", "copier", "on", ">word", "+psync", "+replconf", "+ping")
            client("ACL", "SETUSER", "default", "-psync", "-sync")
            client("CLIENT", "KILL", "TYPE", "replica")
        wait_until(lambda: "NOPERM" in node.log, "the refusal")
        replica("CONFIG", "SET", "masteruser", "copier", "masterauth", "wrong")
        wait_until(lambda: "Unable to AUTH to MASTER: -WRONGPASS" in node.log, "the refusal")
        replica("CONFIG", "SET", "masterauth", "word")
        wait_for_link(replica)


def test_the_master_hears_where_the_replica_says_that_it_is(
    start_oracle: StartServer, start_node: StartServer
) -> None:
    master = start_oracle(*MASTER)
    node = replica_of(
        start_node, master, "--replica-announce-ip", "10.0.0.1", "--replica-announce-port", "7777"
    )
    with master.connect() as client, node.connect() as replica:
        wait_for_link(replica)
        wait_until(lambda: "slave0" in info(client, "replication"))
        assert info(client, "replication")["slave0"].startswith("ip=10.0.0.1,port=7777,")


def test_the_log_begins_anew_with_the_data_of_the_master(
    start_oracle: StartServer, start_node: StartServer
) -> None:
    master = start_oracle(*MASTER)
    with master.connect() as client:
        client("SET", "before", "1")
        node = replica_of(start_node, master, "--appendonly", "yes")
        with node.connect() as replica:
            wait_for_link(replica)
            Traffic(client, 7).run(300)
            wait_for_equality(client, replica)
            wait_until(
                lambda: (
                    info(replica, "persistence")["aof_rewrite_in_progress"] == "0"
                    and info(replica, "persistence")["aof_rewrite_scheduled"] == "0"
                ),
                "the rewrite",
            )
            data = digest(replica)
            replica("CONFIG", "SET", "appendfsync", "always")
        master.stop()
        node.restart()
        with node.connect() as replica:
            assert digest(replica) == data


def test_a_killed_replica_goes_on_where_its_last_snapshot_ends(
    start_oracle: StartServer, start_node: StartServer
) -> None:
    """A snapshot that is made in the middle of the stream is what its offset says."""
    master = start_oracle(*MASTER)
    node = replica_of(start_node, master, "--save", "3600", "1")
    with master.connect() as client:
        for seed in (51, 52):
            with node.connect() as replica:
                wait_for_link(replica)
                traffic = Traffic(client, seed)
                traffic.run(300)
                saves = info(replica, "persistence")["rdb_saves"]
                replica("BGSAVE")
                traffic.run(500)
                wait_until(
                    lambda replica=replica: (  # type: ignore[misc]
                        info(replica, "persistence")["rdb_bgsave_in_progress"] == "0"
                    ),
                    "the snapshot",
                )
                assert info(replica, "persistence")["rdb_saves"] != saves
                traffic.run(200)
            os.kill(node.pid, signal.SIGKILL)
            node.restart()
        with node.connect() as replica:
            wait_for_link(replica)
            wait_for_equality(client, replica)
        assert info(client, "stats")["sync_full"] == "1"
        assert info(client, "stats")["sync_partial_ok"] == "2"


def test_a_master_that_is_killed_and_comes_back(
    start_oracle: StartServer, start_node: StartServer
) -> None:
    """Its data are what it has, whatever the replica had."""
    master = start_oracle(*MASTER, "--appendonly", "yes", "--appendfsync", "always")
    node = replica_of(start_node, master)
    with node.connect() as replica:
        with master.connect() as client:
            wait_for_link(replica)
            Traffic(client, 61).run(300)
        os.kill(master.pid, signal.SIGKILL)
        wait_until(lambda: info(replica, "replication")["master_link_status"] == "down")
        master.restart()
        with master.connect() as client:
            wait_for_link(replica)
            Traffic(client, 62).run(300)
            wait_for_equality(client, replica)


def test_the_role_is_written_to_the_config_file(
    start_oracle: StartServer, start_node: StartServer, tmp_path: Path
) -> None:
    master = start_oracle(*MASTER)
    path = tmp_path / "sentrio.conf"
    path.write_text("save ''\n")
    node = Server([*node_command(), str(path)], *DEBUG)
    with node, node.connect() as replica:
        assert replica("SLAVEOF", "127.0.0.1", master.port) == OK
        assert replica("SLAVEOF", "127.0.0.1", master.port) == Simple(
            b"OK Already connected to specified master"
        )
        assert replica("CONFIG", "REWRITE") == OK
        assert f"replicaof 127.0.0.1 {master.port}\n" in path.read_text()
        assert replica("REPLICAOF", "NO", "ONE") == OK
        assert replica("CONFIG", "REWRITE") == OK
        assert "replicaof" not in path.read_text()


def test_a_replica_evicts_only_if_told_to(
    start_oracle: StartServer, start_node: StartServer
) -> None:
    master = start_oracle(*MASTER)
    node = replica_of(
        start_node, master, "--maxmemory", "1mb", "--maxmemory-policy", "allkeys-random"
    )
    with master.connect() as client, node.connect() as replica:
        wait_for_link(replica)
        for i in range(300):
            client("SET", f"key{i}", "x" * 10000)
        wait_for_equality(client, replica)
        assert replica("GET", "key0") == b"x" * 10000
        assert replica("DBSIZE") == 300
        replica("CONFIG", "SET", "replica-ignore-maxmemory", "no")
        replica("GET", "key0")
        client("SET", "another", "x")
        # What there is no time for at once goes bit by bit.
        wait_until(lambda: int(info(replica, "stats")["evicted_keys"]) > 100, "room to be made")
        wait_until(lambda: offset(replica) == offset(client))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has the policy")
def test_a_replica_under_a_flow_interrupts_nobody(
    start_oracle: StartServer, start_node: StartServer
) -> None:
    master = start_oracle(*MASTER)
    node = replica_of(start_node, master)

    def has(policy: int) -> bool:
        return os.sched_getscheduler(node.pid) == policy

    with master.connect() as client, node.connect() as replica:
        wait_for_link(replica)
        assert has(os.SCHED_OTHER)

        def gives_way() -> bool:
            for _ in range(100):
                client("INCR", "number")
            return has(os.SCHED_BATCH)

        wait_until(gives_way, "giving way")
        wait_until(lambda: has(os.SCHED_OTHER), "its end, with the flow")
        wait_until(gives_way, "giving way again")
        assert replica("REPLICAOF", "NO", "ONE") == OK
        wait_until(lambda: has(os.SCHED_OTHER), "its end, with the role")
