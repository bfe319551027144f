"""Host names, with a directory that the test writes, in a time that jumps."""

from __future__ import annotations

import trio
import trio.testing

from sentinel.names import FORGET_SECONDS, REFRESH_SECONDS, RETRY_SECONDS, Names


class Directory:
    """Which names there are, and which have been looked up."""

    def __init__(self, **known: str) -> None:
        self.known = known
        self.asked: list[str] = []

    async def search(self, host: str) -> str:
        await trio.lowlevel.checkpoint()
        self.asked.append(host)
        return self.known.get(host, "")


async def test_names_are_looked_up_aside(
    nursery: trio.Nursery, autojump_clock: trio.abc.Clock
) -> None:
    directory = Directory(a="10.0.0.1")
    names = Names(directory.search)
    names.enabled = True
    nursery.start_soon(names.run)
    assert names.resolve("::1") == "::1"
    assert names.resolve("a") == ""
    await trio.sleep(0.1)
    assert names.resolve("a") == "10.0.0.1"
    # Who has moved is found again.
    directory.known["a"] = "10.0.0.2"
    await trio.sleep(REFRESH_SECONDS)
    assert names.resolve("a") == "10.0.0.2"
    # What was known holds while nobody can tell: an answer is missing, not the host.
    directory.known.clear()
    await trio.sleep(REFRESH_SECONDS)
    assert names.resolve("a") == "10.0.0.2"
    directory.known["a"] = "10.0.0.3"
    await trio.sleep(RETRY_SECONDS)
    assert names.resolve("a") == "10.0.0.3"


async def test_a_name_that_nobody_asks_for_is_forgotten(
    nursery: trio.Nursery, autojump_clock: trio.abc.Clock
) -> None:
    directory = Directory(a="10.0.0.1")
    names = Names(directory.search)
    names.enabled = True
    nursery.start_soon(names.run)
    names.resolve("a")
    await trio.sleep(2 * FORGET_SECONDS)
    count = len(directory.asked)
    await trio.sleep(FORGET_SECONDS)
    assert len(directory.asked) == count
    assert names.resolve("a") == ""


async def test_without_permission_names_stand_for_nothing() -> None:
    directory = Directory(a="10.0.0.1")
    names = Names(directory.search)
    assert names.resolve("a") == ""
    assert await names.find("a") == ""
    assert directory.asked == []
    names.enabled = True
    assert await names.find("a") == "10.0.0.1"
    names.learn("b", "10.0.0.9")
    assert names.resolve("b") == "10.0.0.9"


async def test_one_that_is_slow_holds_up_no_other(
    nursery: trio.Nursery, autojump_clock: trio.abc.Clock
) -> None:
    async def search(host: str) -> str:
        if host == "slow":
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        return "10.0.0.1"

    names = Names(search)
    names.enabled = True
    nursery.start_soon(names.run)
    for host in ("slow", "a"):
        assert names.resolve(host) == ""
    await trio.sleep(0.1)
    assert names.resolve("a") == "10.0.0.1"
    assert names.resolve("slow") == ""
