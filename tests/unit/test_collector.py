"""Python's cyclic collector: kept away from the data, and not needed for what clients leave."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from node.collector import YOUNG_OBJECTS, collector_at_rest, tune_collector
from node.session import Session
from tests.inprocess import LocalServer


@pytest.fixture
def collector() -> Iterator[None]:
    """The collector is as before after the test."""
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()
    gc.enable()


@pytest.mark.usefixtures("collector")
def test_the_collector_only_looks_at_new_objects() -> None:
    tune_collector()
    assert gc.get_freeze_count() > 0
    seen: list[int] = []

    def look(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            seen.append(info["generation"])

    gc.callbacks.append(look)
    try:
        kept = [[n] for n in range(100 * YOUNG_OBJECTS)]
    finally:
        gc.callbacks.remove(look)
    assert len(kept) == 100 * YOUNG_OBJECTS
    assert len(seen) >= 90
    assert set(seen) == {0}


@pytest.mark.usefixtures("collector")
def test_what_is_loaded_is_not_looked_at_at_all() -> None:
    tune_collector()
    gc.collect()
    frozen = gc.get_freeze_count()
    seen: list[int] = []

    def look(phase: str, info: dict[str, int]) -> None:
        seen.append(info["generation"])

    gc.callbacks.append(look)
    try:
        with collector_at_rest():
            kept = [[n] for n in range(10 * YOUNG_OBJECTS)]
        assert not seen
    finally:
        gc.callbacks.remove(look)
    assert gc.isenabled()
    assert gc.get_freeze_count() >= frozen + len(kept)


def test_a_collector_that_is_not_tuned_is_left_alone() -> None:
    with collector_at_rest():
        assert gc.isenabled()


def sessions() -> int:
    return sum(1 for thing in gc.get_objects() if type(thing) is Session)


@pytest.mark.usefixtures("collector")
@pytest.mark.parametrize(
    "requests",
    [
        ["PING", "SET k v", "GET k", "NOSUCH", "GET", "INCR k", "LPUSH k x"],
        ["SUBSCRIBE a b", "PSUBSCRIBE c*", "UNSUBSCRIBE a"],
        ["WATCH k", "MULTI", "SET k v", "GET k"],
        ["MULTI", "SET k v", "LPUSH k x", "EXEC"],
        ["BLPOP nosuch 0"],
        ["BLPOP nosuch 10"],
        ["MONITOR"],
        ["CLIENT REPLY OFF", "PING"],
        ["CLIENT NO-TOUCH ON", "CLIENT SETNAME me", "GET k", "RESET"],
        ["HELLO 3", "SUBSCRIBE a", "PING"],
        ["CONFIG SET maxmemory 1", "SET k v", "CONFIG SET maxmemory 0"],
        ["QUIT"],
    ],
    ids=lambda requests: requests[0],
)
def test_a_client_that_has_gone_leaves_no_cycle(requests: list[str]) -> None:
    with LocalServer() as server:
        gc.collect()
        gc.disable()
        before = sessions()
        for _ in range(10):
            client = server.connect()
            for request in requests:
                client.send(*request.split())
            client.close()
            del client
        # The engine may remember the last one.
        assert sessions() - before <= 1
