"""Masters are killed under load, and what clients have waited for survives."""

from __future__ import annotations

import random

import pytest

from tests.chaos.conftest import StartKind
from tests.chaos.history import Writer
from tests.chaos.scenes import await_link, await_true, follow, relaunch, stat
from tests.replicas import info, offset, wait_for_equality

REIGNS = 3


@pytest.mark.parametrize(
    ("kinds", "seed"),
    [(("ours", "redis", "ours"), 1), (("redis", "ours", "ours"), 2), (("ours", "ours", "ours"), 3)],
)
def test_what_was_waited_for_survives(start: StartKind, kinds: tuple[str, ...], seed: int) -> None:
    """The replica that has most takes over each time; the other one goes on from its backlog."""
    draw = random.Random(seed)
    servers = [start(kind) for kind in kinds]
    master, *replicas = servers
    for replica in replicas:
        follow(replica, master)
    await_link(*replicas)
    with Writer(master, 1, "a") as first, Writer(master, 1, "b") as second:
        for _ in range(REIGNS):
            wanted = len(first.safe) + draw.randrange(50, 250)
            await_true(lambda wanted=wanted: len(first.safe) >= wanted, "safe entries")
            master.kill()
            offsets = {}
            for replica in replicas:
                with replica.connect() as client:
                    # What has come of the stream by then is in the offset.
                    await_true(
                        lambda client=client: (
                            info(client, "replication")["master_link_status"] == "down"
                        ),
                        "the loss",
                    )
                    offsets[replica] = offset(client)
            heir, other = sorted(replicas, key=lambda replica: -offsets[replica])
            with heir.connect() as client:
                client("REPLICAOF", "NO", "ONE")
                follow(other, heir)
                first.switch(heir)
                second.switch(heir)
                await_link(other)
                assert stat(client, "sync_partial_ok") == 1
            # The old one comes back with nothing, and is a replica like any other.
            relaunch(master)
            follow(master, heir)
            await_link(master)
            for writer in (first, second):
                with heir.connect() as client:
                    writer.look(client)
            master, replicas = heir, [other, master]
        wanted = len(second.safe) + 20
        await_true(lambda: len(second.safe) >= wanted, "safe entries")
    clients = [server.connect() for server in (master, *replicas)]
    wait_for_equality(*clients)
    for client in clients:
        for writer in (first, second):
            writer.check(client)
        client.close()
