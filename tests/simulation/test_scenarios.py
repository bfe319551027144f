"""What the simulation has found, as stories of a few servers."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from tests.inprocess import LocalClient
from tests.simulation.clockwork import drive
from tests.simulation.machine import Machine
from tests.simulation.network import Network
from tests.simulation.timeline import Timeline

FROM_DISK = ("--repl-diskless-sync", "no", "--save", "")
LIMIT = 1000.0


class Story:
    """Machines in one network, started by the test."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.timeline = Timeline()
        self.network = Network(self.timeline, random.Random(1))
        self._nursery = nursery
        nursery.start_soon(drive, self.timeline)

    def start(self, name: str, *directives: str, master: Machine | None = None) -> Machine:
        """A machine on which a node starts."""
        machine = Machine(
            name, self.timeline, self.network, random.Random(name), _ignore_note, directives
        )
        machine.master = master
        self._nursery.start_soon(machine.live)
        machine.start()
        return machine


def _ignore_note(who: str, what: str) -> None:
    return None


async def until(condition: Callable[[], bool]) -> None:
    """Wait for it."""
    with trio.fail_after(LIMIT):
        while not condition():  # noqa: ASYNC110 nothing tells
            await trio.sleep(0.01)


@asynccontextmanager
async def story() -> AsyncIterator[Story]:
    """Ends with all machines."""
    async with trio.open_nursery() as nursery:
        yield Story(nursery)
        nursery.cancel_scope.cancel()


async def ask_waiting(client: LocalClient, *words: str) -> object:
    """The reply to a request that may block."""
    client.send(*words)
    await until(client.has_input)
    return client.read()


async def test_a_replica_that_loads_has_not_acknowledged_anything(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Not even what was written before there was a history, which is no byte of it."""
    async with story() as world:
        master = world.start("n1", *FROM_DISK)
        await until(lambda: master.ready)
        client = LocalClient(master.engine)
        client("MSET", "a", "1", "b", "2")
        replica = world.start("n2", *FROM_DISK, "--key-load-delay", "2000000", master=master)
        await until(lambda: replica.ready and replica.link.state == "sync")
        await until(lambda: replica.server is not None and replica.server.loading)
        assert await ask_waiting(client, "WAIT", "1", "1000") == 0
        assert replica.link.state == "sync"
        assert await ask_waiting(client, "WAIT", "1", "0") == 1
        assert replica.link.connected


async def test_a_log_can_be_loaded_when_the_power_fails_during_its_rewrite(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Only the last file may break off in the middle: the one before it is flushed first."""
    async with story() as world:
        for i in range(12):
            machine = world.start(f"n{i}", "--appendonly", "yes", "--save", "")
            await until(lambda machine=machine: machine.ready)  # type: ignore[misc]
            for key in range(10):
                machine.command("SET", f"key{key}", "x" * 100)
            await trio.sleep(0.1)
            machine.command("BGREWRITEAOF")
            machine.crash(power=True)
            machine.start()
            await until(lambda machine=machine: machine.ready or bool(machine.fault))  # type: ignore[misc]
            assert not machine.fault


@pytest.mark.parametrize("role", ["master", "replica"])
async def test_what_flushall_saves_is_at_no_place_of_the_history(
    autojump_clock: trio.testing.MockClock, role: str
) -> None:
    """It has no data where the history has them still: FLUSHALL itself is not yet a part of it.

    Who starts with it must not let others go on there, nor go on there itself.
    """
    async with story() as world:
        directives = ("--repl-diskless-sync", "no", "--save", "3600", "1")
        master = world.start("n1", *directives)
        await until(lambda: master.ready)
        replica = world.start("n2", *directives, master=master)
        await until(lambda: replica.up and replica.link.connected)
        LocalClient(master.engine)("SET", "a", "1")
        await until(lambda: replica.history.offset == master.history.offset)
        machine, other = (master, replica) if role == "master" else (replica, master)
        world.network.block("n1", "n2")
        if role == "master":
            LocalClient(master.engine)("FLUSHALL")
        else:
            LocalClient(master.engine)("FLUSHALL")
            world.network.unblock("n1", "n2")
            await until(lambda: replica.history.offset == master.history.offset)
        machine.crash(power=False)
        world.network.unblock("n1", "n2")
        machine.start()
        await until(lambda: machine.ready)
        assert not machine.link.resumable
        await until(lambda: replica.link.connected)
        await until(lambda: replica.history.offset == master.history.offset)
        assert machine.command("DBSIZE") == other.command("DBSIZE") == 0
