"""Everything at once, from a seed: a star and a chain of both kinds of server under load.

A schedule is a list of faults, one after the other, each of which lasts until so many more entries
have been written. Afterwards all is repaired, and everybody has to have the same, which has to be
what clients were told.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Final

import pytest

from tests.chaos.conftest import StartKind
from tests.chaos.history import Writer
from tests.chaos.proxy import Proxy
from tests.chaos.scenes import (
    await_link,
    await_progress,
    await_true,
    follow,
    online,
    relaunch,
    stopped,
)
from tests.replicas import Traffic, wait_for_equality
from tests.servers import Server

STEPS: Final = 8
SLOW: Final = 300_000


class Stage:
    """A master, two replicas behind proxies, and a replica of the second, behind one as well.

    ``links`` leads to the one above each of the three replicas.
    """

    def __init__(self, start: StartKind, kinds: tuple[str, ...], stack: ExitStack) -> None:
        self.master, *self.replicas = (start(kind) for kind in kinds)
        upper = (self.master, self.master, self.replicas[1])
        self.links = [stack.enter_context(Proxy(server.address)) for server in upper]
        for replica, link in zip(self.replicas, self.links, strict=True):
            follow(replica, link)

    def choose(self, draw: random.Random) -> list[AbstractContextManager[object]]:
        """Two faults of different replicas or their links, as contexts that they last for."""
        found: list[AbstractContextManager[object]] = []
        for at in draw.sample(range(len(self.replicas)), 2):
            replica, link = self.replicas[at], self.links[at]
            faults: list[Callable[[], AbstractContextManager[object]]] = [
                partial(self._dead, replica, link),
                partial(stopped, replica),
                partial(self._held, link),
                partial(self._slow, link),
                partial(self._gone, link),
                partial(self._missed, link),
            ]
            found.append(draw.choice(faults)())
        return found

    @contextmanager
    def _missed(self, link: Proxy) -> Iterator[None]:
        """The link breaks while the master stands still, and cannot know."""
        with stopped(self.master):
            link.cut()
        yield

    @staticmethod
    @contextmanager
    def _dead(replica: Server, link: Proxy) -> Iterator[None]:
        replica.kill()
        yield
        relaunch(replica)
        follow(replica, link)

    @staticmethod
    @contextmanager
    def _held(link: Proxy) -> Iterator[None]:
        link.hold()
        yield
        link.release()

    @staticmethod
    @contextmanager
    def _slow(link: Proxy) -> Iterator[None]:
        link.rate = SLOW
        yield
        link.rate = 0

    @staticmethod
    @contextmanager
    def _gone(link: Proxy) -> Iterator[None]:
        link.refuse()
        link.cut()
        yield
        link.refuse(False)


@pytest.mark.parametrize(
    ("kinds", "seed"),
    [
        (("ours", "redis", "ours", "redis"), 111),
        (("redis", "ours", "ours", "ours"), 112),
    ],
)
def test_whatever_happens(start: StartKind, kinds: tuple[str, ...], seed: int) -> None:
    draw = random.Random(seed)
    with ExitStack() as stack:
        stage = Stage(start, kinds, stack)
        upper = stack.enter_context(stage.master.connect())
        traffic = Traffic(upper, seed)
        traffic.run(300)
        await_link(*stage.replicas)
        writer = Writer(stage.master)
        with writer:
            for _ in range(STEPS):
                with ExitStack() as faults:
                    for fault in stage.choose(draw):
                        faults.enter_context(fault)
                    traffic.run(draw.randrange(100))
                    await_progress(writer.acknowledged, draw.randrange(1, 60))
        await_link(*stage.replicas)
        await_true(lambda: online(upper) == 2, "both replicas")
        clients = [stack.enter_context(replica.connect()) for replica in stage.replicas]
        wait_for_equality(upper, *clients)
        assert writer.failures == 0
        for client in (upper, *clients):
            writer.check_complete(client)
