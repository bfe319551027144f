"""`sentrio node` with a meter: how long, in processor time, a task holds the loop at most.

While one task runs, nobody else is served, so the
longest run of a task is the longest that a client waits because of the server; unlike the time on
the clock it does not depend on what else the machine does. The meter adds the command LONGESTRUN,
which returns the microseconds and the task's name since it was last asked.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Final
from unittest import mock

import trio

import sentrio
from cluster.composition import install_cluster
from node.command import Group
from node.component import Component
from node.resp import Reply
from node.server import Server
from node.session import Session
from tests import servers
from tests.installation import ROOT
from tests.wire import Client

GROUP: Final = Group("server")
# The checkout comes last, so that the rest is what is installed.
START: Final = f"""
import runpy, sys
sys.path.append({str(ROOT)!r})
runpy.run_module("tests.metered", run_name="__main__")
"""
COMMAND: Final = [sys.executable, "-c", START]


class Meter(Component, trio.abc.Instrument):
    """Looks at each run of a task."""

    def __init__(self, server: Server) -> None:
        super().__init__(server.engine)
        self._began = 0
        self._longest = 0
        self._name = ""

    def groups(self) -> Sequence[Group]:
        return (GROUP,)

    async def run(self) -> None:
        self._began = time.thread_time_ns()
        trio.lowlevel.add_instrument(self)
        await trio.sleep_forever()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._began = time.thread_time_ns()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        taken = time.thread_time_ns() - self._began
        if taken > self._longest:
            self._longest = taken
            self._name = task.name

    @GROUP.command(
        "longestrun",
        1,
        "fast",
        since="7.2.0",
        complexity="O(1)",
        summary="Tells the longest run of a task since it was last asked.",
    )
    def longest_run(self, ctx: Session, argv: list[bytes]) -> Reply:
        """Microseconds, and the task's name."""
        found = [self._longest // 1000, self._name.encode()]
        self._longest = 0
        self._name = ""
        return found


def start(*directives: str) -> servers.Server:
    """A metered node, to be used as a context."""
    return servers.Server(COMMAND, *directives, name="metered")


def longest_run(client: Client) -> tuple[float, str]:
    """Milliseconds and the task's name since the last call."""
    reply = client("LONGESTRUN")
    assert isinstance(reply, list)
    microseconds, name = reply
    assert isinstance(microseconds, int)
    assert isinstance(name, bytes)
    return microseconds / 1000, name.decode()


def extend(server: Server, components: Sequence[Component]) -> list[Component]:
    """What is installed into a node, and the meter."""
    return [*install_cluster(server, components), Meter(server)]


def main() -> int:
    """Run the node."""
    with mock.patch.object(sentrio, "install_cluster", extend):
        return sentrio.run_node(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
