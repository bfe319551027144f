"""MIGRATE between our node and the real server, both ways, beside the real server between two."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.conftest import StartServer, require_oracle
from tests.integration.test_master import fill
from tests.replicas import digest, info, wait_for_equality, wait_for_link, wait_until
from tests.servers import Server, free_port, node_command
from tests.wire import Argument, Client, Error, Null, Reply, Simple

OK = Simple(b"OK")
DIRECTIVES = ["--enable-debug-command", "yes", "--notify-keyspace-events", "KEA"]


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Server]]:
    """Two of ours and two real ones."""
    with (
        Server(node_command(), *DIRECTIVES, name="node-a") as node_a,
        Server(node_command(), *DIRECTIVES, name="node-b") as node_b,
        Server(require_oracle(), *DIRECTIVES, name="oracle-a") as oracle_a,
        Server(require_oracle(), *DIRECTIVES, name="oracle-b") as oracle_b,
    ):
        yield {
            "node": node_a,
            "node's target": node_b,
            "oracle": oracle_a,
            "oracle's target": oracle_b,
        }


# Requests to the source; @ stands for host and port of the target, > begins one to the target.
# One that begins with ~ is not compared, but for being an error or not.
SCRIPT = r"""
SET k 1 | MIGRATE @ k 0 1000 | GET k | > GET k
MIGRATE @ k 0 1000 | MIGRATE @ "" 0 1000 KEYS k none
SET k 2 | MIGRATE @ k 0 1000 | GET k | > GET k | MIGRATE @ k 0 1000 REPLACE | > GET k
SET k 3 | MIGRATE @ k 0 1000 COPY REPLACE | GET k | > GET k
SET a 1 EX 1000 | SET b 2 PX 100000 | RPUSH c x y | SADD d 1 2 3 | HSET e f v | ZADD f 1.5 m
MIGRATE @ "" 0 1000 KEYS a b c d e f none k | EXISTS a b c d e f k | DBSIZE
> TTL a | > LRANGE c 0 -1 | > SCARD d | > HGETALL e | > ZRANGE f 0 -1 WITHSCORES | > TTL c
MIGRATE @ "" 0 1000 REPLACE KEYS a b c k | GET k
SET a 1 | SET b 1 | > SET b other | > DEL a c k | SET c 1
MIGRATE @ "" 0 1000 KEYS a b c | EXISTS a | EXISTS b | EXISTS c | > MGET a b c
SET a 5 | MIGRATE @ a 3 1000 | > GET a | > SELECT 3 | > GET a | > SELECT 0
SET a 6 | MIGRATE @ a 99 1000 | GET a | MIGRATE @ a -1 1000 | MIGRATE @ a 0 1000 REPLACE
SET a 7 | MIGRATE @ a 0 1000 AUTH secret | GET a
MIGRATE @ a 0 1000 AUTH2 someone secret REPLACE | GET a
> CONFIG SET requirepass secret | ~MIGRATE @ a 0 1000 | MIGRATE @ a 0 1000 AUTH wrong REPLACE
MIGRATE @ a 0 1000 AUTH secret REPLACE | SET a 8
MIGRATE @ a 0 1000 AUTH2 default secret REPLACE KEYS a
MIGRATE @ "" 0 1000 AUTH2 default secret REPLACE KEYS a
> CONFIG SET requirepass ""
SET a 9 | MIGRATE @ a 0 | MIGRATE @ a 0 x | MIGRATE @ a x 1000 | MIGRATE @ a x y
MIGRATE @ a 0 1000 NONSENSE | MIGRATE @ a 0 1000 AUTH | MIGRATE @ a 0 1000 AUTH2 a
MIGRATE @ a 0 1000 KEYS a | MIGRATE @ "" 0 1000 KEYS | MIGRATE @ "" 0 1000
MIGRATE @ a 0 0 replace | SET a 10 | MIGRATE @ a 0 -5 Replace Copy | GET a
SET "" empty | MIGRATE @ "" 0 1000 | EXISTS "" | > GET ""
SET a 11 | MIGRATE @ "" 0 1000 REPLACE COPY KEYS a a | MIGRATE @ "" 0 1000 KEYS a
SET a 12 | SET a2 13 | MIGRATE @ "" 0 1000 KEYS a a2 a2 | EXISTS a a2
MULTI | SET m 1 | MIGRATE @ m 0 1000 | GET m | MIGRATE @ m 0 1000 | EXEC | > GET m
MULTI | SET m 1 | MIGRATE @ m 0 1000 | EXEC | GET m | WATCH m | MIGRATE @ m 0 1000 REPLACE
MULTI | PING | EXEC
DEBUG SET-ACTIVE-EXPIRE 0 | SET x 1 PX 1 | SET y 1 | DEBUG SLEEP 0.01
MIGRATE @ "" 0 1000 KEYS x y | > EXISTS x y | MIGRATE @ x 0 1000 | DBSIZE
DEBUG SET-ACTIVE-EXPIRE 1
SET z 1 | MIGRATE 127.0.0.1 1 z 0 1000 | MIGRATE 127.0.0.1 port z 0 1000 | GET z
MULTI | MIGRATE 127.0.0.1 1 z 0 1000 | EXEC
"""


def words(line: str, target: Server) -> list[Argument]:
    found: list[Argument] = []
    for word in line.split():
        if word == "@":
            found += ["127.0.0.1", target.port]
        else:
            found.append("" if word == '""' else word)
    return found


def play(source: Server, target: Server) -> list[tuple[str, Reply]]:
    """What both answer, the events at the source, and the data in the end."""
    told: list[tuple[str, Reply]] = []
    with source.connect() as here, target.connect() as there, source.connect() as listener:
        here("FLUSHALL")
        there("FLUSHALL")
        listener("PSUBSCRIBE", "__keyevent@*:del", "__keyevent@*:expired")
        listener.read()
        for line in SCRIPT.replace("\n", "|").split("|"):
            line = line.strip()
            if not line:
                continue
            client = there if line.startswith(">") else here
            reply = client(*words(line.lstrip("~> "), target))
            if line.startswith("~"):
                reply = isinstance(reply, Error)
            elif isinstance(reply, int) and "TTL" in line:
                reply = -(-reply // 10)
            told.append((line, reply))
        here("PUBLISH", "__keyevent@0__:del", "the end")
        while True:
            event = listener.read()
            told.append(("event", event))
            if isinstance(event, list) and event[-1] == b"the end":
                break
        told += [("here", digest(here)), ("there", digest(there))]
    return told


@pytest.mark.parametrize("target", ["node's target", "oracle's target"])
def test_it_is_as_between_real_servers(servers: dict[str, Server], target: str) -> None:
    expected = play(servers["oracle"], servers[target])
    found = play(servers["node"], servers[target])
    assert found == expected


@pytest.mark.parametrize("source", ["node", "oracle"])
@pytest.mark.parametrize("target", ["node's target", "oracle's target"])
def test_all_types_arrive_whole(servers: dict[str, Server], source: str, target: str) -> None:
    here, there = servers[source], servers[target]
    with here.connect() as client, there.connect() as other:
        client("FLUSHALL")
        other("FLUSHALL")
        fill(client)
        client("RPUSH", "large", *range(40_000))
        client("SET", "long", "x" * 3_000_000)
        client("SADD", "wide", *range(40_000))
        before = digest(client)
        deadline = client("PEXPIRETIME", "passing")
        for number in (0, 3):
            client("SELECT", number)
            found = client("KEYS", "*")
            assert isinstance(found, list)
            names = [name for name in found if isinstance(name, bytes)]
            at = ("127.0.0.1", there.port, "", number, 20_000)
            assert client("MIGRATE", *at, "KEYS", *names) == OK
            assert client("DBSIZE") == 0
        assert isinstance(deadline, int)
        arrived = other("PEXPIRETIME", "passing")
        assert isinstance(arrived, int)
        assert abs(arrived - deadline) < 10_000
        # The time left is counted from the arrival.
        for end in (client, other):
            end("SELECT", 0)
        other("PERSIST", "passing")
        other("PEXPIREAT", "passing", deadline)
        assert digest(other) == before


# --- a target that takes its time -----------------------------------------------------------------


class Target:
    """Listens, and says what the test wants it to say."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(20)
        self.port: int = self._listener.getsockname()[1]
        self._links: list[socket.socket] = []

    def __enter__(self) -> Target:
        return self

    def __exit__(self, *_: object) -> None:
        for link in self._links:
            link.close()
        self._listener.close()

    def accept(self) -> socket.socket:
        link, _ = self._listener.accept()
        link.settimeout(20)
        self._links.append(link)
        return link


def read_until(link: socket.socket, ending: bytes) -> bytes:
    data = b""
    while not data.endswith(ending):
        part = link.recv(65536)
        assert part, data
        data += part
    return data


def waiting(client: Client) -> bool:
    """Whether it has not been answered."""
    return not client.has_input()


def test_others_are_served_and_keys_under_way_are_not(start_node: StartServer) -> None:
    node = start_node(*DIRECTIVES)
    with Target() as target, node.connect() as mover, node.connect() as other:
        other("MSET", "a", 1, "b", 2, "c", 3)
        mover.send("MIGRATE", "127.0.0.1", target.port, "", 0, 60_000, "KEYS", "a", "b")
        mover.send("GET", "a")  # its own pipeline waits
        link = target.accept()
        read_until(link, b"\r\n")
        assert other("SET", "c", 4) == OK
        assert other("CLIENT", "UNBLOCK", mover_id(other, "migrate")) == 0
        held = [node.connect() for _ in range(6)]
        held[0].send("GET", "a")
        held[1].send("SET", "b", "late")
        held[2].send("MSET", "c", 5, "b", "later")
        for request in (["MULTI"], ["INCR", "c"], ["GET", "b"]):
            held[3](*request)
        held[3].send("EXEC")
        held[4].send("FLUSHALL")
        held[5].send("SWAPDB", 0, 1)
        assert other("GET", "c") == b"4"
        assert all(map(waiting, [mover, *held]))
        link.sendall(b"+OK\r\n+OK\r\n+OK\r\n")
        assert mover.read() == OK
        assert mover.read() == Null(b"$-1")
        assert held[0].read() == Null(b"$-1")
        for client in held[1:]:
            assert not isinstance(client.read(), Error)
        for client in held:
            client.close()


def mover_id(client: Client, command: str) -> int:
    """The id of the client whose last command it was."""
    found: list[int] = []

    def look() -> bool:
        text = client("CLIENT", "LIST")
        assert isinstance(text, bytes)
        for line in text.decode().splitlines():
            fields = dict(part.split("=", 1) for part in line.split() if "=" in part)
            if fields["cmd"] == command:
                found.append(int(fields["id"]))
        return bool(found)

    wait_until(look)
    return found[0]


@pytest.mark.parametrize("kind", ["node", "oracle"])
@pytest.mark.parametrize("in_transaction", [False, True])
def test_partial_success_and_a_target_that_falls_silent(
    start_node: StartServer, start_oracle: StartServer, kind: str, in_transaction: bool
) -> None:
    server = (start_node if kind == "node" else start_oracle)(*DIRECTIVES)
    with Target() as target, server.connect() as mover:

        def move(timeout: int, *options: Argument) -> None:
            if in_transaction:
                mover("MULTI")
            mover.send("MIGRATE", "127.0.0.1", target.port, "", 0, timeout, *options)
            if in_transaction:
                assert mover.read() == Simple(b"QUEUED")
                mover.send("EXEC")

        def answer() -> Reply:
            reply = mover.read()
            return reply[0] if isinstance(reply, list) else reply

        mover("MSET", "a", 1, "b", 2, "c", 3, "d", 4)
        # The second is refused, and the last is not answered: only the first is gone.
        move(500, "KEYS", "a", "b", "c")
        link = target.accept()
        read_until(link, b"\r\n")
        link.sendall(b"+OK\r\n+OK\r\n-BUSYKEY is there\r\n")
        assert answer() == Error(b"ERR Target instance replied with error: BUSYKEY is there")
        assert mover("MGET", "a", "b", "c") == [Null(b"$-1"), b"2", b"3"]
        # Nothing is answered any more.
        move(300, "KEYS", "b", "c")
        link = target.accept()
        read_until(link, b"\r\n")
        assert answer() == Error(b"IOERR error or timeout reading to target instance")
        # It is cut off after some: no second try.
        move(5000, "KEYS", "b", "c")
        link = target.accept()
        read_until(link, b"\r\n")
        link.sendall(b"+OK\r\n+OK\r\n")
        link.close()
        assert answer() == Error(b"IOERR error or timeout reading to target instance")
        assert mover("MGET", "b", "c") == [Null(b"$-1"), b"3"]


def test_a_second_try_where_the_connection_was_an_old_one(start_node: StartServer) -> None:
    node = start_node(*DIRECTIVES)
    with Target() as target, node.connect() as mover:
        mover("MSET", "a", 1, "b", 2, "c", 3)
        mover.send("MIGRATE", "127.0.0.1", target.port, "a", 5, 5000)
        link = target.accept()
        first = read_until(link, b"\r\n")
        assert b"SELECT\r\n$1\r\n5" in first
        link.sendall(b"+OK\r\n+OK\r\n")
        assert mover.read() == OK
        # In the same database there is no SELECT any more.
        mover.send("MIGRATE", "127.0.0.1", target.port, "b", 5, 5000)
        assert b"SELECT" not in read_until(link, b"\r\n")
        link.sendall(b"+OK\r\n")
        assert mover.read() == OK
        assert info(mover, "stats")["migrate_cached_sockets"] == "1"
        link.close()
        mover.send("MIGRATE", "127.0.0.1", target.port, "c", 5, 5000)
        link = target.accept()
        assert b"SELECT" in read_until(link, b"\r\n")
        link.sendall(b"+OK\r\n+OK\r\n")
        assert mover.read() == OK
        assert mover("DBSIZE") == 0


def test_a_client_that_has_gone_and_a_source_that_becomes_a_replica(
    start_node: StartServer,
) -> None:
    node = start_node(*DIRECTIVES)
    with Target() as target, node.connect() as client:
        client("MSET", "a", 1, "b", 2)
        with node.connect() as mover:
            mover.send("MIGRATE", "127.0.0.1", target.port, "a", 0, 20_000)
            link = target.accept()
            read_until(link, b"\r\n")
        link.sendall(b"+OK\r\n+OK\r\n")
        wait_until(lambda: client("EXISTS", "a") == 0)
        with node.connect() as mover:
            mover.send("MIGRATE", "127.0.0.1", target.port, "b", 0, 20_000)
            read_until(link, b"\r\n")
            assert client("REPLICAOF", "127.0.0.1", free_port()) == OK
            link.sendall(b"+OK\r\n")
            assert mover.read() == Error(b"READONLY You can't write against a read only replica.")
        assert client("GET", "b") == b"2"


def test_a_pause_puts_the_end_off(start_node: StartServer) -> None:
    node = start_node(*DIRECTIVES)
    with Target() as target, node.connect() as client, node.connect() as mover:
        client("MSET", "a", 1)
        mover.send("MIGRATE", "127.0.0.1", target.port, "a", 0, 20_000)
        link = target.accept()
        read_until(link, b"\r\n")
        client("CLIENT", "PAUSE", 100_000, "WRITE")
        link.sendall(b"+OK\r\n+OK\r\n")
        # Its answer would show in the connection's being kept.
        wait_until(lambda: info(client, "stats")["migrate_cached_sockets"] == "1")
        assert waiting(mover)
        assert client("DBSIZE") == 1
        client("CLIENT", "UNPAUSE")
        assert mover.read() == OK
        assert client("DBSIZE") == 0


def test_what_the_replica_and_the_log_file_are_told(start_node: StartServer) -> None:
    node = start_node(*DIRECTIVES, "--appendonly", "yes", "--appendfsync", "always")
    replica = start_node(*DIRECTIVES, "--replicaof", "127.0.0.1", str(node.port))
    target = start_node(*DIRECTIVES)
    with node.connect() as client, replica.connect() as other, target.connect() as there:
        wait_for_link(other)
        for n in range(300):
            client("SET", f"key:{n}", n)
        there("SET", "key:7", "there")
        reply = client(
            *("MIGRATE", "127.0.0.1", target.port, "", 0, 20_000),
            *("KEYS", *(f"key:{n}" for n in range(200))),
        )
        assert reply == Error(
            b"ERR Target instance replied with error: BUSYKEY Target key name already exists."
        )
        assert client("DBSIZE") == 101
        assert there("DBSIZE") == 200
        client("MIGRATE", "127.0.0.1", target.port, "key:200", 0, 20_000, "COPY")
        client("MULTI")
        client("SET", "x", 1)
        client("MIGRATE", "127.0.0.1", target.port, "key:201", 0, 20_000)
        assert client("EXEC") == [OK, OK]
        wait_for_equality(client, other)
        left = digest(client)
    log = b"".join(path.read_bytes() for path in node.folder.glob("appendonlydir/*.incr.aof"))
    assert log.count(b"\r\nDEL\r\n") == 2
    assert b"MIGRATE" not in log
    node.restart()
    with node.connect() as client:
        assert digest(client) == left
