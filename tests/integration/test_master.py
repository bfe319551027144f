"""Our node as the master of real redis-servers, and of replicas that behave badly."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node.replication.handshake import Continue, FullSync
from node.resp import encode_request
from tests.conftest import StartServer, require_oracle, require_program
from tests.differential.families import FAMILIES
from tests.differential.grammar import Step, steps
from tests.integration.test_replication_protocol import Link
from tests.replicas import wait_until
from tests.servers import Server, node_command
from tests.wire import OK, Client, Error, Push, Reply, encode

DEBUG: Final = ("--enable-debug-command", "yes")
AT_ONCE: Final = ("--repl-diskless-sync-delay", "0")
LIMIT: Final = ("replica", "2mb", "0", "0")
PATIENCE: Final = 60.0
DATA: Final = ("strings", "bitmaps", "lists", "hashes", "sets", "sorted_sets", "keys", "dumps")

either_way = pytest.mark.parametrize("diskless", ["yes", "no"])


def info(client: Client, section: str = "replication") -> dict[str, str]:
    """The fields of a section."""
    text = client("INFO", section)
    assert isinstance(text, bytes)
    return dict(line.split(":", 1) for line in text.decode().splitlines() if ":" in line)


def await_link(replica: Client) -> None:
    """Wait until the replica gets the stream."""
    wait_until(lambda: info(replica)["master_link_status"] == "up")


def await_same(master: Client, replica: Client) -> None:
    """Wait until the replica has the master's data."""
    wait_until(lambda: same_data(master, replica))


def follow(start_oracle: StartServer, master: Server, *directives: str) -> Server:
    """A real replica of ``master``, in sync."""
    replica = start_oracle(*DEBUG, "--replicaof", f"127.0.0.1 {master.port}", *directives)
    with replica.connect() as client:
        wait_until(lambda: info(client)["master_link_status"] == "up")
    return replica


def same_data(master: Client, replica: Client) -> bool:
    """Whether the replica has come as far as the master, and to the same data."""
    there = info(replica)["slave_repl_offset"]
    return there == info(master)["master_repl_offset"] and (
        master("DEBUG", "DIGEST") == replica("DEBUG", "DIGEST")
    )


def fill(client: Client, keys: int = 300) -> None:
    """All types, some keys with deadlines, in two databases."""
    requests = [[b"SET", b"string:%d" % n, os.urandom(n % 90).hex().encode()] for n in range(keys)]
    for size in (3, 700):
        names = [b"member:%d" % n for n in range(size)]
        pairs = [word for name in names for word in (name, b"value of " + name)]
        scores = [word for n, name in enumerate(names) for word in (b"%d.5" % n, name)]
        requests += [
            [b"RPUSH", b"list:%d" % size, *names],
            [b"HSET", b"hash:%d" % size, *pairs],
            [b"SADD", b"set:%d" % size, *names],
            [b"SADD", b"intset:%d" % size, *(b"%d" % n for n in range(size))],
            [b"ZADD", b"zset:%d" % size, *scores],
        ]
    requests += [
        [b"SET", b"passing", b"1", b"EX", b"1000"],
        [b"SELECT", b"3"],
        [b"SET", b"elsewhere", b"2"],
        [b"SELECT", b"0"],
    ]
    for reply in client.pipeline(requests):
        assert not isinstance(reply, Error)


class Writer:
    """Writes all the time, from a thread, until the end of the block."""

    def __init__(self, server: Server) -> None:
        self._client = server.connect()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write)
        self.count = 0

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._client.close()

    def _write(self) -> None:
        while not self._stop.wait(0.001):
            n = self.count
            self._client("SET", f"string:{n % 500}", n)
            self._client("RPUSH", f"log:{n % 7}", n)
            self._client("HINCRBY", "hash:3", f"field:{n % 50}", 1)
            self.count += 1


# --- synchronization ------------------------------------------------------------------------------


@either_way
def test_everything_is_there_and_stays_the_same(
    start_node: StartServer, start_oracle: StartServer, diskless: str
) -> None:
    node = start_node(*DEBUG, *AT_ONCE, "--repl-diskless-sync", diskless)
    with node.connect() as master:
        fill(master)
        replica = follow(start_oracle, node)
        with replica.connect() as other:
            await_same(master, other)
            with Writer(node) as writer:
                wait_until(lambda: writer.count > 200)
            await_same(master, other)

            for done in range(1, 4):
                with Writer(node) as writer:
                    wait_until(lambda: writer.count > 20)
                    assert master("CLIENT", "KILL", "TYPE", "replica") == 1
                    await_link(other)
                    wait_until(lambda: len(master_replicas(master)) == 1)
                await_same(master, other)
                assert info(master, "stats")["sync_partial_ok"] == str(done)
            assert info(master, "stats")["sync_full"] == "1"
    assert not list(node.folder.glob("*.rdb"))


def master_replicas(client: Client) -> list[Reply]:
    """What ROLE of a master tells of its replicas."""
    role = client("ROLE")
    assert isinstance(role, list)
    assert role[0] == b"master"
    replicas = role[2]
    assert isinstance(replicas, list)
    return replicas


@either_way
def test_changes_while_a_snapshot_is_made(
    start_node: StartServer, start_oracle: StartServer, diskless: str
) -> None:
    """Nothing of what is written between the fork and the end is lost or done twice."""
    node = start_node(
        *(*DEBUG, *AT_ONCE, "--repl-diskless-sync", diskless),
        *("--rdb-key-save-delay", "2000", "--repl-backlog-size", "16kb"),
    )
    with node.connect() as master:
        fill(master)
        with Writer(node):
            replica = follow(start_oracle, node)
            with replica.connect() as other:
                wait_until(lambda: len(master_replicas(master)) == 1)
        with replica.connect() as other:
            await_same(master, other)
        assert info(master, "stats")["sync_full"] == "1"


@either_way
def test_one_child_for_several_replicas(
    start_node: StartServer, start_oracle: StartServer, diskless: str
) -> None:
    node = start_node(
        *(*DEBUG, "--repl-diskless-sync", diskless, "--repl-diskless-sync-delay", "60"),
        *("--repl-diskless-sync-max-replicas", "2", "--rdb-key-save-delay", "3000"),
    )
    with node.connect() as master:
        fill(master)
        replicas = [start_oracle(*DEBUG, "--replicaof", f"127.0.0.1 {node.port}") for _ in range(2)]
        clients = [replica.connect() for replica in replicas]
        with contextlib.ExitStack() as stack:
            for client in clients:
                stack.enter_context(client)
            for client in clients:
                await_link(client)
            master("SET", "after", "all")
            for client in clients:
                await_same(master, client)
        stats = info(master, "stats")
        assert stats["sync_full"] == "2"
        assert stats["total_forks"] == "1"


def test_redis_cli_fetches_a_snapshot(start_node: StartServer) -> None:
    program = require_program("redis-cli")
    node = start_node(*DEBUG, *AT_ONCE, "--enable-protected-configs", "yes")
    with node.connect() as client:
        fill(client)
        digest = client("DEBUG", "DIGEST")
        for option, name in (("--rdb", "all.rdb"), ("--functions-rdb", "functions.rdb")):
            path = node.folder / name
            subprocess.run(
                [program, "-p", str(node.port), option, str(path)],
                check=True,
                capture_output=True,
                timeout=60,
            )
            wait_until(lambda: info(client)["connected_slaves"] == "0")
        client("CONFIG", "SET", "dbfilename", "all.rdb")
        client("FLUSHALL")
        assert client("DEBUG", "RELOAD", "NOSAVE") == OK
        assert client("DEBUG", "DIGEST") == digest
        client("CONFIG", "SET", "dbfilename", "functions.rdb")
        assert client("DEBUG", "RELOAD", "NOSAVE") == OK
        assert client("DBSIZE") == 0


def test_a_killed_child_is_followed_by_another(
    start_node: StartServer, start_oracle: StartServer
) -> None:
    """FLUSHALL ends the snapshot that is being made; the replica comes back for the next."""
    node = start_node(*DEBUG, *AT_ONCE, "--rdb-key-save-delay", "20000")
    with node.connect() as master:
        fill(master)
        replica = start_oracle(*DEBUG, "--replicaof", f"127.0.0.1 {node.port}")
        wait_until(lambda: info(master, "persistence")["rdb_bgsave_in_progress"] == "1")
        master("FLUSHALL")
        master("SET", "new", "1")
        with replica.connect() as other:
            await_link(other)
            await_same(master, other)
        assert "SYNC failed. BGSAVE child returned an error" in node.log


# --- the stream -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Client, Client]]:
    """Our node and a real replica of it."""
    with (
        Server(node_command(), *DEBUG, *AT_ONCE) as node,
        Server(
            require_oracle(), *DEBUG, "--replicaof", f"127.0.0.1 {node.port}", name="oracle"
        ) as replica,
        node.connect() as master,
        replica.connect() as other,
    ):
        await_link(other)
        yield master, other


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(taken=st.one_of([steps(FAMILIES[name]) for name in DATA]))
def test_random_traffic(pair: tuple[Client, Client], taken: list[Step]) -> None:
    master, other = pair
    assert master("FLUSHALL") == OK
    for step in taken:
        # What may wait does not wait in a transaction.
        waits = step.argv[0][:2].lower() in (b"bl", b"br", b"bz")
        for argv in ([b"MULTI"], step.argv, [b"EXEC"]) if waits else (step.argv,):
            master(*argv)
    await_same(master, other)


def test_the_stream_by_the_byte(start_node: StartServer) -> None:
    """SELECT only where the database changes, units whole, messages, and nothing that is read."""
    node = start_node(*DEBUG, *AT_ONCE, "--repl-ping-replica-period", "3600")
    with node.connect() as client:
        client("SET", "before", "1")
        link = Link(node.address)
        outcome = link.handshake.outcome
        assert isinstance(outcome, FullSync)
        assert outcome.offset == 0
        link.fetch()
        expected = b""
        for argv, *logged in (
            ["SET a 1", "SELECT 0", "SET a 1"],
            ["GET a"],
            ["INCR a", "INCR a"],
            ["PUBLISH channel message", "PUBLISH channel message"],
            ["SPUBLISH channel message", "SPUBLISH channel message"],
            ["SELECT 5"],
            ["PUBLISH channel message", "PUBLISH channel message"],
            ["SET b 2", "SELECT 5", "SET b 2"],
            ["MULTI"],
            ["SET c 3"],
            ["PUBLISH channel message"],
            ["GET c"],
            ["DEL b"],
            ["EXEC", "MULTI", "SET c 3", "PUBLISH channel message", "DEL b", "EXEC"],
            ["SELECT 0"],
            ["DEL nothing"],
            ["DEL a", "SELECT 0", "DEL a"],
        ):
            client(*argv.split())
            expected += b"".join(encode(text.split()) for text in logged)
        assert link.read_until(expected[-20:], 0) == expected
        assert int(info(client)["master_repl_offset"]) == len(expected)
        link.sock.close()

        again = Link(node.address, outcome.id, len(expected) - 30)
        assert again.handshake.outcome == Continue(outcome.id)
        assert again.read_until(expected[-30:], 0) == expected[-30:]
        again.sock.close()


def test_the_stream_begins_at_once_for_a_replica_quicker_than_the_child(
    start_node: StartServer,
) -> None:
    """Its first word comes before the child has ended, and it says no more for a second."""
    node = start_node(*DEBUG, *AT_ONCE, "--rdb-key-save-delay", "300000")
    with node.connect() as master:
        master("SET", "before", "1")
        link = Link(node.address)
        link.sock.sendall(encode_request([b"REPLCONF", b"ACK", b"0"]))
        assert b"before" in link.fetch()
        master("SET", "after", "2")
        expected = encode_request([b"SET", b"after", b"2"])
        while expected not in link.data:
            data = link.sock.recv(65536)
            assert data
            link.data += data
        link.sock.close()


def test_what_expires_goes_without_anybody_asking(pair: tuple[Client, Client]) -> None:
    master, other = pair
    for client in pair:
        client("SELECT", 0)  # wherever random traffic has left them
    assert master("FLUSHALL") == OK
    assert master("SET", "brief", "1", "PX", 500) == OK
    assert master("WAIT", 1, 0) == 1
    wait_until(lambda: other("DBSIZE") == 0)
    assert int(info(master, "stats")["expired_keys"]) > 0
    await_same(master, other)


def test_messages_reach_those_who_listen_to_a_replica(pair: tuple[Client, Client]) -> None:
    master, other = pair
    address = other.socket.getpeername()
    with Client(address, protocol=3) as listener:
        listener("SUBSCRIBE", "news")
        assert master("PUBLISH", "news", "it rains") == 0
        assert listener.read() == Push([b"message", b"news", b"it rains"])


def test_messages_are_not_logged(start_node: StartServer, start_oracle: StartServer) -> None:
    node = start_node(*DEBUG, *AT_ONCE, "--appendonly", "yes")
    with node.connect() as client:
        follow(start_oracle, node)
        client("SET", "a", "1")
        client("PUBLISH", "news", "it rains")
        client("MULTI")
        client("PUBLISH", "news", "still")
        client("SET", "b", "2")
        client("EXEC")
        client("SET", "c", "3")
        digest = client("DEBUG", "DIGEST")
        assert client("WAIT", 1, 0) == 1
        log = next(node.folder.glob("appendonlydir/*.incr.aof"))
        wait_until(lambda: b"$1\r\n3\r\n" in log.read_bytes())
        assert b"rains" not in log.read_bytes()
        assert b"still" not in log.read_bytes()
    node.restart()
    with node.connect() as client:
        assert client("DEBUG", "DIGEST") == digest


# --- replicas that lag ----------------------------------------------------------------------------


def test_a_replica_that_reads_nothing_is_dropped(
    start_node: StartServer, start_oracle: StartServer
) -> None:
    """It costs its output limit; the other does not notice."""
    node = start_node(
        *(*DEBUG, *AT_ONCE, "--client-output-buffer-limit", *LIMIT),
        *("--repl-backlog-size", "1mb"),
    )
    replica = follow(start_oracle, node)
    with node.connect() as master, replica.connect() as other:
        idle = Link(node.address)
        assert isinstance(idle.handshake.outcome, FullSync)
        idle.fetch()
        idle.sock.sendall(encode_request([b"REPLCONF", b"ACK", b"0"]))
        wait_until(lambda: len(master_replicas(master)) == 2)
        for n in range(300):
            master("SET", f"key:{n}", b"x" * 100_000)
            assert master("WAIT", 1, 0) == 1
        wait_until(lambda: info(master)["connected_slaves"] == "1")
        assert info(master, "stats")["client_output_buffer_limit_disconnections"] == "1"
        await_same(master, other)
        assert int(info(master)["repl_backlog_histlen"]) < 2 << 20
        idle.sock.close()


def test_a_replica_that_is_too_slow_for_the_snapshot_is_dropped(start_node: StartServer) -> None:
    """What is kept of the stream for one that is still being sent all data is bounded, too."""
    node = start_node(
        *(*DEBUG, *AT_ONCE, "--client-output-buffer-limit", *LIMIT),
        *("--repl-backlog-size", "1mb"),
    )
    with node.connect() as master:
        for n in range(200):
            master("SET", f"key:{n}", os.urandom(50_000))
        slow = Link(node.address)  # and reads nothing of the snapshot
        assert isinstance(slow.handshake.outcome, FullSync)
        for n in range(200):
            master("SET", f"other:{n}", b"x" * 50_000)
        wait_until(lambda: info(master)["connected_slaves"] == "0")
        wait_until(lambda: info(master, "persistence")["rdb_bgsave_in_progress"] == "0")
        master("SET", "one", "more")
        wait_until(lambda: master("SET", "x" * 1000, "1") and backlog_size(master) < 2 << 20)
        slow.sock.close()


def backlog_size(client: Client) -> int:
    """Bytes that the backlog holds."""
    return int(info(client)["repl_backlog_histlen"])


@either_way
def test_silent_replicas_are_dropped(start_node: StartServer, diskless: str) -> None:
    node = start_node(*DEBUG, *AT_ONCE, "--repl-timeout", "2", "--repl-diskless-sync", diskless)
    with node.connect() as master:
        link = Link(node.address)
        link.fetch()
        link.sock.sendall(encode_request([b"REPLCONF", b"ACK", b"0"]))
        wait_until(lambda: len(master_replicas(master)) == 1)
        wait_until(lambda: info(master)["connected_slaves"] == "0")
        assert "Disconnecting timedout replica (streaming sync)" in node.log
        link.sock.close()

        for n in range(100):
            master("SET", f"key:{n}", os.urandom(100_000))
        deaf = Link(node.address)
        wait_until(lambda: info(master)["connected_slaves"] == "0")
        assert "Disconnecting timedout replica (full sync)" in node.log
        wait_until(lambda: info(master, "persistence")["rdb_bgsave_in_progress"] == "0")
        deaf.sock.close()


def test_a_replica_that_is_busy_loading_is_not_silent(start_node: StartServer) -> None:
    # So long even a busy machine does not keep a sign of life from coming.
    node = start_node(*DEBUG, *AT_ONCE, "--repl-timeout", "2")
    with node.connect() as master:
        link = Link(node.address)
        link.fetch()
        link.sock.sendall(encode_request([b"REPLCONF", b"ACK", b"0"]))
        wait_until(lambda: len(master_replicas(master)) == 1)
        until = time.monotonic() + 4
        while time.monotonic() < until:
            link.sock.sendall(b"\n")
            assert len(master_replicas(master)) == 1
            time.sleep(0.2)
        link.sock.close()


def test_signs_of_life(start_node: StartServer) -> None:
    """A replica that waits hears something every second; one that is online is pinged."""
    node = start_node(
        *(*DEBUG, "--repl-diskless-sync-delay", "2"), *("--repl-ping-replica-period", "1")
    )
    with socket.create_connection(node.address, timeout=20) as sock:
        sock.sendall(encode(["REPLCONF", "capa", "eof"]))
        assert sock.recv(5) == b"+OK\r\n"
        sock.sendall(encode(["PSYNC", "?", -1]))
        assert sock.recv(1) == b"\n"
    link = Link(node.address)
    link.fetch()
    assert link.read_until(encode_request([b"PING"]), 0).endswith(encode_request([b"PING"]))
    link.sock.close()


def test_a_backlog_that_nobody_wants(start_node: StartServer, start_oracle: StartServer) -> None:
    node = start_node(*DEBUG, *AT_ONCE, "--repl-backlog-ttl", "1")
    with node.connect() as master:
        replica = follow(start_oracle, node)
        before = info(master)
        assert before["repl_backlog_active"] == "1"
        replica.stop()
        wait_until(lambda: info(master)["repl_backlog_active"] == "0")
        after = info(master)
        assert after["master_replid"] != before["master_replid"]
        assert after["master_replid2"] == "0" * 40
        master("SET", "a", "1")
        assert info(master)["master_repl_offset"] == after["master_repl_offset"]
        other = follow(start_oracle, node)
        with other.connect() as client:
            await_same(master, client)


# --- WAIT and the least number of replicas --------------------------------------------------------


def test_wait(start_node: StartServer, start_oracle: StartServer) -> None:
    node = start_node(*DEBUG, *AT_ONCE)
    with node.connect() as master, node.connect() as another:
        assert master("WAIT", 0, 0) == 0
        assert master("WAIT", 1, 10) == 0
        replica = follow(start_oracle, node)
        for n in range(50):
            master("SET", "a", n)
            assert master("WAIT", 1, 0) == 1
        assert master("WAIT", 1, 0) == 1
        master("MULTI")
        master("SET", "a", 1)
        master("WAIT", 1, 0)
        # What the transaction itself writes is not written yet.
        assert master("EXEC") == [OK, 1]

        os.kill(replica.pid, signal.SIGSTOP)
        try:
            master("SET", "a", "unheard")
            assert master("WAIT", 1, 100) == 0
            master.send("WAIT", 2, 0)
            wait_until(lambda: info(another, "clients")["blocked_clients"] == "1")
            assert another("WAIT", 1, 50) == 0
        finally:
            os.kill(replica.pid, signal.SIGCONT)
        assert another("WAIT", 1, 0) == 1
        assert another("CLIENT", "UNBLOCK", client_id(another, b"wait"), "TIMEOUT") == 1
        assert master.read() == 1


def client_id(client: Client, command: bytes) -> bytes:
    """Of the client that is in this command."""
    lines = client("CLIENT", "LIST")
    assert isinstance(lines, bytes)
    for line in lines.splitlines():
        if b" cmd=%b " % command in line and b" flags=b " in line:
            return line.split(b" ")[0].removeprefix(b"id=")
    raise AssertionError(lines)


def test_too_few_replicas(start_node: StartServer, start_oracle: StartServer) -> None:
    node = start_node(*DEBUG, *AT_ONCE, "--min-replicas-to-write", "1")
    refusal = Error(b"NOREPLICAS Not enough good replicas to write.")
    with node.connect() as master:
        assert master("SET", "a", "1") == refusal
        assert master("MULTI") == OK
        assert master("SET", "a", "1") == refusal
        master("DISCARD")
        assert isinstance(master("GET", "a"), object)
        replica = follow(start_oracle, node, "--repl-timeout", "3600")
        wait_until(lambda: info(master)["min_slaves_good_slaves"] == "1")
        assert master("SET", "a", "1") == OK
        master("CONFIG", "SET", "min-replicas-max-lag", 1)
        os.kill(replica.pid, signal.SIGSTOP)
        try:
            wait_until(lambda: master("SET", "a", "2") == refusal)
        finally:
            os.kill(replica.pid, signal.SIGCONT)
        wait_until(lambda: master("SET", "a", "3") == OK)
        assert master("CONFIG", "SET", "min-replicas-to-write", 2) == OK
        assert master("SET", "a", "1") == refusal
        assert master("CONFIG", "SET", "min-replicas-to-write", 0) == OK
        assert master("SET", "a", "1") == OK


# --- what is told ---------------------------------------------------------------------------------


def await_online(client: Client) -> None:
    """Wait until the master's first replica gets the stream."""
    wait_until(lambda: "state=online" in info(client)["slave0"])


def test_info_and_role(start_node: StartServer, start_oracle: StartServer) -> None:
    """The same fields as a real master's, in the same order."""
    node = start_node(*AT_ONCE)
    oracle = start_oracle(*AT_ONCE)
    replicas = [follow(start_oracle, server) for server in (node, oracle)]
    with node.connect() as ours, oracle.connect() as theirs:
        assert list(info(ours)) == list(info(theirs))
        ours("SET", "a", "1")
        for client, replica in zip((ours, theirs), replicas, strict=True):
            await_online(client)
            fields = dict(pair.split("=") for pair in info(client)["slave0"].split(","))
            assert list(fields) == ["ip", "port", "state", "offset", "lag"]
            assert (fields["ip"], fields["port"]) == ("127.0.0.1", str(replica.port))
            address, port, offset = master_replicas(client)[0]  # type: ignore[misc]
            assert (address, port) == (b"127.0.0.1", b"%d" % replica.port)
            assert isinstance(offset, bytes)
            listed = client("CLIENT", "LIST", "TYPE", "replica")
            assert isinstance(listed, bytes)
            assert listed.count(b"\n") == 1
            assert b" flags=S " in listed
            memory = info(client, "memory")
            for field in ("replication_backlog", "total_replication_buffers", "clients_slaves"):
                assert int(memory[f"mem_{field}"]) > 0 or client is theirs


def test_a_replica_gets_no_replies(start_node: StartServer) -> None:
    """A reply would become a part of the stream: the replica is cut off instead."""
    node = start_node(*DEBUG, *AT_ONCE)
    for words in (["GET", "a"], ["PING"], ["NONSENSE"]):
        link = Link(node.address)
        link.fetch()
        link.sock.sendall(encode(words))
        rest = b""
        with contextlib.suppress(ConnectionResetError):
            while data := link.sock.recv(4096):
                rest += data
        assert rest == b""
        link.sock.close()
    assert "Replica generated a reply to command 'ping'" in node.log
