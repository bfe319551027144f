"""Links that are cut anywhere, that are slow, and that are silently gone."""

from __future__ import annotations

import os
import random

import pytest

from tests.chaos.conftest import StartKind
from tests.chaos.history import Writer
from tests.chaos.proxy import Proxy
from tests.chaos.scenes import await_link, await_true, follow, online, stat
from tests.replicas import Traffic, connections_lost, info, wait_for_equality

CUTS = 15
HANDSHAKE = 300  # bytes that a master says at most until the stream begins


@pytest.mark.parametrize(
    ("kinds", "seed"),
    [(("ours", "redis"), 101), (("redis", "ours"), 102), (("ours", "ours"), 103)],
)
def test_a_link_that_is_cut_after_any_byte(
    start: StartKind, kinds: tuple[str, str], seed: int
) -> None:
    """Inside of requests and transactions: each time the replica goes on where it was."""
    draw = random.Random(seed)
    lifetimes = [0, *(draw.randrange(HANDSHAKE, 20_000) for _ in range(CUTS))]
    master, replica = (start(kind) for kind in kinds)
    with master.connect() as upper, Proxy(master.address, lifetimes=lifetimes) as proxy:
        traffic = Traffic(upper, seed)
        traffic.run(500)
        follow(replica, proxy)
        await_link(replica)
        refusals = stat(upper, "sync_partial_err")  # of a replica's first request
        proxy.cut()

        def go_on() -> bool:
            traffic.run(50)
            return proxy.cuts > CUTS

        with Writer(master) as writer:
            await_true(go_on, f"{CUTS} cuts")
            await_true(lambda: online(upper) == 1, "the replica")
            await_link(replica)
        with replica.connect() as lower:
            wait_for_equality(upper, lower)
            writer.check_complete(lower)
        assert stat(upper, "sync_full") == 1
        assert stat(upper, "sync_partial_ok") == CUTS + 1
        assert stat(upper, "sync_partial_err") == refusals


@pytest.mark.parametrize(
    ("kinds", "load"),
    [
        (("ours", "redis"), "disabled"),
        (("redis", "ours"), "disabled"),
        (("redis", "ours"), "swapdb"),
    ],
)
def test_a_link_that_is_cut_before_all_data_are_there(
    start: StartKind, kinds: tuple[str, str], load: str
) -> None:
    """In the middle of the handshake, of the snapshot's header, of the snapshot."""
    master = start(kinds[0])
    replica = start(kinds[1], "--repl-diskless-load", load)
    with master.connect() as upper:
        for n in range(20):
            upper("SET", f"large:{n}", os.urandom(20_000))
        Traffic(upper, 104).run(500)
        with Proxy(master.address, lifetimes=[9, 120, 200_000]) as proxy:
            follow(replica, proxy)
            with Writer(master) as writer:
                await_link(replica)
            assert proxy.cuts == 3
            with replica.connect() as lower:
                wait_for_equality(upper, lower)
                writer.check_complete(lower)


@pytest.mark.parametrize("kinds", [("ours", "redis"), ("redis", "ours")])
def test_a_slow_link(start: StartKind, kinds: tuple[str, str]) -> None:
    """All data take longer than the replica's `repl-timeout`, but they come; nobody else waits."""
    master, steady = start(kinds[0]), start("ours")
    replica = start(kinds[1], "--repl-timeout", "3")
    with master.connect() as upper, Proxy(master.address, window=8192) as proxy:
        proxy.rate = 300_000
        for n in range(60):
            upper("SET", f"large:{n}", os.urandom(20_000))
        follow(steady, master)
        await_link(steady)
        follow(replica, proxy)
        with Writer(master, 1) as writer:
            await_link(replica)
        assert len(writer.safe) == len(writer.acknowledged)
        assert stat(upper, "sync_full") == 2
        assert connections_lost(replica) == 0
        with replica.connect() as lower, steady.connect() as other:
            wait_for_equality(upper, other, lower)
            writer.check_complete(lower)


@pytest.mark.parametrize("kinds", [("ours", "redis"), ("redis", "ours")])
def test_a_link_that_is_silently_gone(start: StartKind, kinds: tuple[str, str]) -> None:
    """Nobody is told, and both sides notice; what was written meanwhile comes from the backlog."""
    master, replica = (start(kind, "--repl-timeout", "2") for kind in kinds)
    with (
        master.connect() as upper,
        replica.connect() as lower,
        Proxy(master.address) as proxy,
    ):
        follow(replica, proxy)
        await_link(replica)
        await_true(lambda: online(upper) == 1, "the replica")
        with Writer(master) as writer:
            proxy.hold()
            await_true(lambda: online(upper) == 0, "that the master notices")
            await_true(
                lambda: info(lower, "replication")["master_link_status"] == "down",
                "that the replica notices",
            )
            proxy.cut()
            proxy.release()
            await_link(replica)
        wait_for_equality(upper, lower)
        writer.check_complete(lower)
        assert stat(upper, "sync_full") == 1
