"""Processes stand still for longer than their peers wait, and go on as if nothing had been."""

from __future__ import annotations

import pytest

from tests.chaos.conftest import StartKind
from tests.chaos.history import Writer
from tests.chaos.scenes import await_link, await_progress, await_true, follow, online, stat, stopped
from tests.replicas import Traffic, connections_lost, info, wait_for_equality

TIMEOUT = ("--repl-timeout", "2")


@pytest.mark.parametrize("kinds", [("ours", "redis"), ("redis", "ours")])
def test_a_stopped_replica_and_then_a_stopped_master(
    start: StartKind, kinds: tuple[str, str]
) -> None:
    """The other side gives up the link; it is taken up where it broke, in either case."""
    master, replica = (start(kind, *TIMEOUT) for kind in kinds)
    with master.connect() as upper, replica.connect() as lower:
        Traffic(upper, 91).run(300)
        follow(replica, master)
        await_link(replica)
        with Writer(master) as writer:
            await_true(lambda: online(upper) == 1, "the replica")
            with stopped(replica):
                await_true(lambda: online(upper) == 0, "that the master gives up")
                await_progress(writer.acknowledged, 50)
            await_true(lambda: stat(upper, "sync_partial_ok") >= 1, "that the replica goes on")
            await_link(replica)
            lost = connections_lost(replica)
            with stopped(master):
                await_true(lambda: connections_lost(replica) > lost, "that the replica gives up")
                assert info(lower, "replication")["master_link_status"] == "down"
                writer.look(lower)
            await_link(replica)
            await_progress(writer.acknowledged, 50)
        assert writer.failures == 0
        wait_for_equality(upper, lower)
        writer.check_complete(lower)
        assert stat(upper, "sync_full") == 1
        assert stat(upper, "sync_partial_ok") >= 2
