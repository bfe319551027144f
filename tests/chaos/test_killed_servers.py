"""Replicas are killed, and masters, in the worst of moments."""

from __future__ import annotations

import os
import random

import pytest

from tests.chaos.conftest import StartKind
from tests.chaos.history import Writer
from tests.chaos.scenes import (
    await_link,
    await_progress,
    await_true,
    follow,
    online,
    relaunch,
    stat,
)
from tests.replicas import Traffic, connections_lost, digest, info, wait_for_equality

KEY_DELAY = "300"  # µs: a snapshot lasts long enough to be interrupted


@pytest.mark.parametrize("kinds", [("ours", "redis", "ours"), ("ours", "ours", "redis")])
def test_a_replica_is_killed_again_and_again(start: StartKind, kinds: tuple[str, ...]) -> None:
    """While it gets the stream, or the snapshot; neither the master nor the other one cares."""
    master, steady, victim = (start(kind) for kind in kinds)
    with master.connect() as client, Writer(master, 1) as writer:
        Traffic(client, 81).run(1500)
        follow(steady, master)
        follow(victim, master)
        await_link(steady, victim)
        client("CONFIG", "SET", "rdb-key-save-delay", KEY_DELAY)
        for moment in ("stream", "snapshot", "stream"):
            if moment == "stream":
                await_link(victim)
            else:
                await_true(
                    lambda: info(client, "persistence")["rdb_bgsave_in_progress"] == "1",
                    "the snapshot",
                )
            victim.kill()
            await_progress(writer.safe, 50)
            relaunch(victim)
            follow(victim, master)
        client("CONFIG", "SET", "rdb-key-save-delay", "0")
        await_link(victim)
    assert writer.failures == 0
    assert connections_lost(steady) == 0
    with master.connect() as upper, steady.connect() as one, victim.connect() as other:
        wait_for_equality(upper, one, other)
        for client in (upper, one, other):
            writer.check_complete(client)


@pytest.mark.parametrize(
    ("kinds", "load"), [(("redis", "ours"), "disabled"), (("ours", "ours"), "swapdb")]
)
def test_the_master_is_killed_while_it_sends_all_data(
    start: StartKind, kinds: tuple[str, str], load: str
) -> None:
    """The replica keeps what it had until it has got all of what comes instead."""
    master = start(kinds[0], "--appendonly", "yes", "--appendfsync", "always")
    replica = start(kinds[1], "--repl-diskless-load", load)
    with master.connect() as upper, replica.connect() as lower:
        for n in range(100):  # more than is gathered before anything is sent
            upper("SET", f"large:{n}", os.urandom(10_000))
        upper("CONFIG", "SET", "rdb-key-save-delay", "50000")
        lower("SET", "own", "data")
        before = digest(lower)
        follow(replica, master)
        await_true(
            lambda: info(upper, "persistence")["rdb_bgsave_in_progress"] == "1", "the snapshot"
        )
        await_true(
            lambda: int(info(lower, "replication").get("master_sync_read_bytes", 0)) > 0,
            "that it comes",
        )
    master.kill()
    with replica.connect() as lower:
        await_true(
            lambda: info(lower, "replication").get("master_sync_in_progress") == "0",
            "that the replica gives up",
        )
        assert digest(lower) == before
    relaunch(master)
    await_link(replica)
    with master.connect() as upper, replica.connect() as lower:
        Traffic(upper, 84).run(300)
        wait_for_equality(upper, lower)


@pytest.mark.parametrize("kinds", [("ours", "redis"), ("ours", "ours")])
def test_a_master_is_killed_under_load_and_comes_back(
    start: StartKind, kinds: tuple[str, str]
) -> None:
    """With `appendfsync always` it has all that it acknowledged, and then so has the replica."""
    draw = random.Random(85)
    master = start(kinds[0], "--appendonly", "yes", "--appendfsync", "always")
    replica = start(kinds[1])
    follow(replica, master)
    await_link(replica)
    with Writer(master) as writer:
        for _ in range(2):
            await_progress(writer.acknowledged, draw.randrange(50, 200))
            master.kill()
            with replica.connect() as client:
                writer.look(client)
            relaunch(master)
            await_link(replica)
    with master.connect() as upper, replica.connect() as lower:
        await_true(lambda: online(upper) == 1, "the replica")
        wait_for_equality(upper, lower)
        for client in (upper, lower):
            writer.check_complete(client)
        assert stat(upper, "sync_full") >= 1
