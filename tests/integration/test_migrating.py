"""docs/migrating.md, done: from Redis to Sentrio and back, while somebody writes."""

from __future__ import annotations

import random
import threading
import time

import pytest

from tests.conftest import StartServer
from tests.replicas import Traffic, digest, info, offset, wait_for_link, wait_until
from tests.servers import Server
from tests.wire import Client, Closed, Error

LEAST = 200


class Writer:
    """A client as it should be: it goes on elsewhere where it may not write, and counts.

    What it does is made of requests that tell whether they were done before: unique members, and a
    counter, of which no reply may come twice.
    """

    def __init__(self, servers: list[Server]) -> None:
        self._servers = servers
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._random = random.Random(1)
        self.written: list[int] = []
        self.counts: list[int] = []
        self.uncertain: set[int] = set()
        self.moves = 0
        self.longest = 0.0  # seconds between two writes that were done
        self.unexpected: list[object] = []

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Write no more."""
        self._stop.set()
        self._thread.join()

    def await_more(self) -> None:
        """Until so many more have been written."""
        before = len(self.written)
        wait_until(lambda: len(self.written) >= before + LEAST, "writes", 60)

    def _run(self) -> None:
        place = 0
        client: Client | None = None
        number = 0
        done = time.monotonic()
        while not self._stop.is_set():
            try:
                if client is None:
                    client = self._servers[place].connect(timeout=30)
                number += 1
                reply = client("SADD", "members", number)
                if reply == 1:
                    self.written.append(number)
                    now = time.monotonic()
                    self.longest = max(self.longest, now - done)
                    done = now
                    count = client("INCR", "counter")
                    if isinstance(count, int):
                        self.counts.append(count)
                        continue
                    reply = count
                if not isinstance(reply, Error) or not reply.text.startswith(
                    (b"READONLY", b"LOADING", b"MASTERDOWN", b"UNBLOCKED")
                ):
                    self.unexpected.append(reply)
            except (OSError, Closed):
                # It may have been written.
                self.uncertain.add(number)
            if client is not None:
                client.close()
                client = None
            place = (place + 1) % len(self._servers)
            self.moves += 1

    def check(self, client: Client) -> None:
        """That the server has what was told to be written, once."""
        members = client("SMEMBERS", "members")
        assert isinstance(members, list)
        found = {int(member) for member in members if isinstance(member, bytes)}
        assert set(self.written) <= found
        assert found - set(self.written) <= self.uncertain
        assert self.counts == sorted(set(self.counts))
        assert not self.unexpected


@pytest.fixture
def pair(start_oracle: StartServer, start_node: StartServer) -> tuple[Server, Server]:
    """A redis-server with data of all types, and an empty node."""
    quick = ("--repl-diskless-sync-delay", "0", "--enable-debug-command", "yes")
    redis, sentrio = start_oracle(*quick), start_node(*quick)
    with redis.connect() as client:
        client("SELECT", 3)
        Traffic(client, 7).run(2000)
    return redis, sentrio


def hand_over(old: Server, new: Server) -> None:
    """The two steps of the page: replicate, then FAILOVER."""
    with old.connect() as master, new.connect() as replica:
        if info(replica, "replication")["role"] == "master":
            assert not isinstance(replica("REPLICAOF", "127.0.0.1", old.port), Error)
        wait_for_link(replica)
        wait_until(
            lambda: f"port={new.port},state=online" in str(info(master, "replication")),
            "a replica that is online",
        )
        assert not isinstance(master("FAILOVER", "TO", "127.0.0.1", new.port), Error)
        wait_until(lambda: info(replica, "replication")["role"] == "master", "the new master")
        wait_for_link(master)


def test_there_and_back_while_somebody_writes(pair: tuple[Server, Server]) -> None:
    redis, sentrio = pair
    with Writer([redis, sentrio]) as writer:
        writer.await_more()
        hand_over(redis, sentrio)
        moves = writer.moves
        writer.await_more()
        hand_over(sentrio, redis)
        writer.await_more()
        assert writer.moves > moves > 0
    with redis.connect() as client, sentrio.connect() as other:
        wait_until(lambda: offset(client) == offset(other), "equal offsets")
        assert digest(client) == digest(other)
        writer.check(client)
        # Nobody has noticed more than a pause.
        assert writer.longest < 10
        # Neither way took more than one full synchronization, the first one.
        assert info(client, "stats")["sync_full"] == "1"
        assert info(other, "stats")["sync_full"] == "0"
