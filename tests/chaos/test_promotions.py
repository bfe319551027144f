"""Masters are killed under load, and what clients have waited for survives."""

from __future__ import annotations

import random
from contextlib import ExitStack

import pytest

from tests.chaos.conftest import StartKind
from tests.chaos.history import Writer
from tests.chaos.proxy import Proxy
from tests.chaos.scenes import await_link, await_progress, await_true, follow, relaunch, stat
from tests.replicas import info, offset, wait_for_equality
from tests.wire import OK, Client

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
    hasty = Writer(master, 0, "c")  # waits for nobody, and may lose what was not sent
    writers = [Writer(master, 1, "a"), Writer(master, 1, "b"), hasty]
    with ExitStack() as links, ExitStack() as writing:
        link = links.enter_context(Proxy(master.address))
        for replica in replicas:
            follow(replica, link)
        await_link(*replicas)
        for writer in writers:
            writing.enter_context(writer)
        for reign in range(REIGNS):
            await_progress(writers[0].safe, draw.randrange(50, 200))
            if reign != 1:
                # What is written from now on reaches nobody.
                link.hold()
                await_progress(hasty.acknowledged, draw.randrange(20, 100))
            master.kill()
            link.cut()
            link.release()
            offsets = {}
            for replica in replicas:
                with replica.connect() as client:
                    # What has come of the stream by then is in the offset.
                    await_down(client)
                    offsets[replica] = offset(client)
            heir, other = sorted(replicas, key=lambda replica: -offsets[replica])
            link = links.enter_context(Proxy(heir.address))
            with heir.connect() as client:
                assert client("REPLICAOF", "NO", "ONE") == OK
                follow(other, link)
                for writer in writers:
                    writer.switch(heir)
                await_link(other)
                assert stat(client, "sync_partial_ok") == 1
                # The old one comes back with nothing, and is a replica like any other.
                relaunch(master)
                follow(master, link)
                await_link(master)
                for writer in writers:
                    writer.look(client)
            master, replicas = heir, [other, master]
        await_progress(writers[1].safe, 20)
        writing.close()
        clients = [links.enter_context(server.connect()) for server in (master, *replicas)]
        wait_for_equality(*clients)
        for client in clients:
            for writer in writers:
                writer.check(client)


def await_down(replica: Client) -> None:
    """Until it has lost its master."""
    await_true(lambda: info(replica, "replication")["master_link_status"] == "down", "the loss")
