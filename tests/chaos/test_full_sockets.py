"""Somebody reads nothing; what waits for them is bounded, and nobody else waits."""

from __future__ import annotations

import contextlib
import os

import pytest

from tests.chaos.conftest import StartKind
from tests.chaos.history import Writer
from tests.chaos.proxy import Proxy
from tests.chaos.scenes import await_link, await_progress, await_true, follow, online, stat
from tests.replicas import Traffic, connections_lost, info, wait_for_equality
from tests.servers import Server

WINDOW = 4096
BLOCK = 50_000
SMALL_BACKLOG = ("--repl-backlog-size", "1mb")
LARGE_BACKLOG = ("--repl-backlog-size", "64mb")
HARD = ("--client-output-buffer-limit", "replica", "2mb", "0", "0")
SOFT = ("--client-output-buffer-limit", "replica", "0", "1mb", "1")
UNREAD = ("normal", "4mb", "0", "0", "pubsub", "4mb", "0", "0")


def cuts(server: Server) -> int:
    """How many it has cut off because too much waited for them."""
    return server.log.count("for overcoming of output buffer limits")


@pytest.mark.parametrize(
    ("kinds", "limits", "whole"),
    [
        (("ours", "ours", "redis"), (*HARD, *SMALL_BACKLOG), True),
        (("ours", "redis", "ours"), (*SOFT, *LARGE_BACKLOG), False),
        (("redis", "ours", "ours"), (*SOFT, *LARGE_BACKLOG), False),
    ],
)
def test_a_replica_that_falls_behind_is_cut_and_catches_up(
    start: StartKind, kinds: tuple[str, ...], limits: tuple[str, ...], whole: bool
) -> None:
    """By all data if the backlog has gone on too far, and otherwise by what it has missed."""
    master = start(kinds[0], *limits)
    steady, slow = (start(kind) for kind in kinds[1:])
    with master.connect() as client, Proxy(master.address, window=WINDOW) as proxy:
        Traffic(client, 95).run(300)
        follow(steady, master)
        follow(slow, proxy)
        await_link(steady, slow)
        await_true(lambda: online(client) == 2, "both replicas")
        syncs = stat(client, "sync_full")
        with Writer(master, 1) as writer:
            proxy.hold()
            key = 0

            def grow() -> bool:
                nonlocal key
                key += 1
                client("SET", f"large:{key % 50}", os.urandom(BLOCK))
                assert client("WAIT", 1, 0) == 1  # no faster than the steady one
                return online(client) == 1

            await_true(grow, "that the slow one is cut")
            memory = info(client, "memory")
            assert int(memory["mem_clients_slaves"]) < 8 << 20
            await_progress(writer.safe, 20)
            proxy.release()
            await_true(lambda: online(client) == 2, "that the slow one comes back")
        assert cuts(master) == 1
        assert stat(client, "sync_full") - syncs == whole
        assert stat(client, "sync_partial_ok") == (not whole)
        assert connections_lost(steady) == 0
        assert len(writer.safe) == len(writer.acknowledged)
        with steady.connect() as one, slow.connect() as other:
            wait_for_equality(client, one, other)
            writer.check_complete(other)


@pytest.mark.parametrize("kinds", [("ours", "redis"), ("redis", "ours"), ("ours", "ours")])
def test_clients_that_read_nothing_delay_no_replica(
    start: StartKind, kinds: tuple[str, str]
) -> None:
    """One that gets replies and one that gets messages, at the master and at the replica."""
    limits = (
        "--client-output-buffer-limit",
        *["normal", "4mb", "0", "0", "pubsub", "4mb", "0", "0"],
    )
    master, replica = (start(kind, *limits) for kind in kinds)
    follow(replica, master)
    await_link(replica)
    with master.connect() as upper, Writer(master, 1) as writer:
        upper("SET", "large", os.urandom(BLOCK))
        await_progress(writer.safe, 1)
        first = writer.safe[0]
        greedy = [server.connect() for server in (master, replica)]
        deaf = [server.connect() for server in (master, replica)]
        for client in deaf:
            client("SUBSCRIBE", "news")
        for client in greedy:
            with contextlib.suppress(OSError):  # it may have been cut already
                for _ in range(500):
                    client.send("GET", "large")

        def publish() -> bool:
            upper("PUBLISH", "news", b"x" * BLOCK)
            return cuts(master) == 2 and cuts(replica) == 2

        await_true(publish, "that all of them are cut")
        await_progress(writer.safe, 20)
        for client in (*greedy, *deaf):
            client.close()
    assert writer.failures == 0
    assert writer.safe == [entry for entry in writer.acknowledged if entry >= first]
    assert connections_lost(replica) == 0
    with master.connect() as upper, replica.connect() as lower:
        wait_for_equality(upper, lower)
        writer.check_complete(lower)
