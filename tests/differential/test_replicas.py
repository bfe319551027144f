"""Replicas of one master, a real one and ours: what their clients are told, and what they hear."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from tests.conftest import StartServer
from tests.replicas import digest, info, offset, wait_for_link, wait_until
from tests.servers import Server
from tests.wire import Argument, Client, Closed, Error, Reply

DEBUG: Final = ("--enable-debug-command", "yes", "--repl-diskless-sync-delay", "0")


class Family:
    """A master and its two replicas, the real one first."""

    def __init__(self, master: Server, replicas: list[Server]) -> None:
        self.servers = replicas
        self.port = master.port
        self.master = master.connect()
        self.replicas = [server.connect() for server in replicas]
        self.others: list[Client] = []
        self.follow()

    def follow(self) -> None:
        """Make them replicas, and wait until they are."""
        for replica in self.replicas:
            replica("REPLICAOF", "127.0.0.1", self.port)
            wait_for_link(replica)
        self.settle()

    def settle(self) -> None:
        """Wait until both have everything."""
        goal = offset(self.master)
        wait_until(lambda: all(offset(replica) >= goal for replica in self.replicas))

    def ask(self, request: str) -> Reply:
        """The same of both, who must answer the same."""
        theirs, ours = (replica(*request.split()) for replica in self.replicas)
        assert ours == theirs, request
        return ours

    def connect(self) -> list[Client]:
        """Another client of each replica."""
        clients = [server.connect() for server in self.servers]
        self.others += clients
        return clients

    def block(self, request: str) -> list[Client]:
        """A client each that waits."""
        clients = self.connect()
        for client in clients:
            client.send(*request.split())
        wait_until(
            lambda: all(info(each, "clients")["blocked_clients"] == "1" for each in self.replicas)
        )
        return clients

    def close(self) -> None:
        for client in (self.master, *self.replicas, *self.others):
            client.close()


@pytest.fixture
def family(start_oracle: StartServer, start_node: StartServer) -> Iterator[Family]:
    events = ("--notify-keyspace-events", "KEA")
    made = Family(
        start_oracle(*DEBUG), [start(*DEBUG, *events) for start in (start_oracle, start_node)]
    )
    yield made
    made.close()


def test_events_messages_and_hidden_keys(family: Family) -> None:
    listeners = family.connect()
    for listener in listeners:
        listener("PSUBSCRIBE", "*")
    master = family.master
    master("DEBUG", "SET-ACTIVE-EXPIRE", 0)
    for request in (
        *("SET a 1", "SET due 1 PX 50", "LPUSH l 1 2", "LPOP l", "SADD s 1 2", "SPOP s"),
        *("RENAME a b", "MULTI", "INCR n", "PUBLISH channel one", "INCR n", "EXEC"),
        *("PUBLISH channel two", "EXPIRE b 100", "EXPIREAT b 1", "HSET h f v", "HDEL h f"),
        *("INCRBYFLOAT fl 1.5", "RPUSH src 1", "LMOVE src dst LEFT RIGHT", "SORT dst STORE dst2"),
        *("GETDEL fl", "SPUBLISH shard message", "SET c 1", "COPY c d", "ZADD z 1 a", "ZPOPMIN z"),
        *(
            "SETRANGE c 5 x",
            "SELECT 3",
            "SET e 1",
            "MOVE e 0",
            "SELECT 0",
            "UNLINK e",
            "SWAPDB 0 1",
        ),
        *("SWAPDB 0 1", "FLUSHDB ASYNC"),
        *("SET due 1 PX 50", "SET n 1"),
    ):
        master(*request.split())
    family.settle()
    wait_until(lambda: family.replicas[0]("EXISTS", "due") == 0)
    wait_until(lambda: family.replicas[1]("EXISTS", "due") == 0)
    for request in (
        *(
            "GET due",
            "DBSIZE",
            "KEYS due",
            "TTL due",
            "TYPE due",
            "OBJECT ENCODING due",
            "DUMP due",
        ),
        *(
            "TOUCH due",
            "STRLEN due",
            "EXPIRETIME due",
            "MGET due n",
            "RANDOMKEY",
            "SCAN 0 COUNT 99",
        ),
    ):
        family.ask(request)
    assert master("GET", "due") != b"1"
    master("PUBLISH", "channel", "last")
    heard: list[list[Reply]] = []
    for listener in listeners:
        messages: list[Reply] = []
        while not messages or messages[-1][-1] != b"last":  # type: ignore[index]
            messages.append(listener.read())
        heard.append(messages)
    assert heard[1] == heard[0]
    assert len(heard[0]) > 60


def test_what_clients_are_refused(family: Family) -> None:
    for request in (
        *("SET a 1", "SORT l", "GETEX n", "BLPOP l 1", "PUBLISH c m", "SPUBLISH c m", "FLUSHALL"),
        *("SWAPDB 0 1", "RESTORE x 0 y", "TOUCH n", "MULTI", "SET a 1", "EXEC", "MULTI", "GET a"),
        *("EXEC", "WAIT 0 0", "FAILOVER", "WATCH w"),
    ):
        family.ask(request)
    family.master("SET", "w", "1")
    family.settle()
    for request in ("MULTI", "PING", "EXEC", "CONFIG SET replica-serve-stale-data no"):
        family.ask(request)
    assert family.ask("GET w") == b"1"
    family.master("CONFIG", "SET", "requirepass", "x")  # they come back in vain
    family.master("CLIENT", "KILL", "TYPE", "replica")
    for replica in family.replicas:
        wait_until(
            lambda replica=replica: info(replica, "replication")["master_link_status"] == "down"  # type: ignore[misc]
        )
    for request in (
        *("GET w", "PING", "INFO nosuch", "MULTI", "GET w", "EXEC", "PUBLISH a b", "SELECT 1"),
        *("ECHO x", "DBSIZE", "KEYS *", "SAVE", "FLUSHALL", "WATCH x", "UNWATCH", "SET x y"),
        *("WAIT 0 0", "SLOWLOG LEN", "DISCARD", "REPLICAOF x y"),
    ):
        family.ask(request)
    for replica in family.replicas:
        replica("CONFIG", "SET", "masterauth", "x")
        wait_for_link(replica)


def test_writable_replicas(family: Family) -> None:
    for request in (
        *("CONFIG SET replica-read-only no", "SET own 1", "SET due 1 PX 1500", "INCR n"),
        *("SADD s 1", "EXPIRE s 2"),
    ):
        family.ask(request)
    tracked = [info(each, "stats")["slave_expires_tracked_keys"] for each in family.replicas]
    assert tracked == ["2", "2"]
    # Nobody else knows of these keys.
    for each in family.replicas:
        wait_until(lambda each=each: each("DBSIZE") == 2)  # type: ignore[misc]
        stats = info(each, "stats")
        assert (stats["slave_expires_tracked_keys"], stats["expired_keys"]) == ("0", "2")
    # These are the master's.
    family.master("DEBUG", "SET-ACTIVE-EXPIRE", 0)
    family.master("SET", "hidden", 1, "PX", 50)
    family.settle()
    for each in family.replicas:
        wait_until(lambda each=each: each("EXISTS", "hidden") == 0)  # type: ignore[misc]
    for request in ("DBSIZE", "INCR hidden", "TTL hidden", "SET hidden 5 KEEPTTL", "GETDEL hidden"):
        family.ask(request)
    waiting = family.block("BLPOP list 0")
    family.master("RPUSH", "list", "a", "b")
    assert [client.read() for client in waiting] == [[b"list", b"a"]] * 2
    family.settle()
    family.ask("LRANGE list 0 -1")
    # A promotion leaves them waiting, a demotion does not.
    waiting = family.block("BLPOP other 0")
    family.ask("REPLICAOF NO ONE")
    family.ask("RPUSH other a")
    assert [client.read() for client in waiting] == [[b"other", b"a"]] * 2
    waiting = family.block("BLPOP other 0")
    family.follow()
    for client in waiting:
        reply = client.read()
        assert isinstance(reply, Error)
        assert reply.text.startswith(b"UNBLOCKED ")
        with pytest.raises(Closed):
            client.read()
    # What they had of their own is gone.
    assert {digest(each) for each in family.replicas} == {digest(family.master)}


def test_what_is_told_of_a_link(family: Family) -> None:
    """The fields of INFO, in their order, and ROLE: with a master, without it, promoted."""

    def described(replica: Client) -> tuple[list[str], dict[str, str], Reply]:
        fields = info(replica, "replication")
        names = list(fields)
        for own in (
            "master_last_io_seconds_ago",
            "master_replid",
            "master_link_down_since_seconds",
        ):
            fields.pop(own, None)
        return names, fields, replica("ROLE")

    def same() -> bool:
        theirs, ours = map(described, family.replicas)
        return ours == theirs

    wait_until(same, "the same")
    for argv in ((1,), (family.port,)):
        request: tuple[Argument, ...] = ("REPLICAOF", "127.0.0.1", *argv)
        for replica in family.replicas:
            replica(*request)
        wait_until(same, "the same")
    family.ask("REPLICAOF NO ONE")
    wait_until(same, "the same")
