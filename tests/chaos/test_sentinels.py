"""Masters, replicas, sentinels and pairs of them are killed and stopped in any order.

Afterwards all of them run again, and then there is one master that all sentinels name, the others
are its replicas, no sentinel has voted twice in an epoch, and no epoch had two leaders.

`SENTRIO_CHAOS_SECONDS` says how long the faults go on (15 s for each of the tests).
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final

import pytest

from tests.replicas import wait_until
from tests.sentinels import Guarded, check_logs
from tests.servers import Server
from tests.wire import Client, Error

DOWN_AFTER: Final = 400
FAILOVER_TIMEOUT: Final = 2500
SECONDS: Final = float(os.environ.get("SENTRIO_CHAOS_SECONDS", "15"))
PATIENCE: Final = 120.0


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.parametrize(
    ("servers", "sentinels", "seed"),
    [
        pytest.param(["ours"] * 3, ["ours"] * 3, 1, id="ours"),
        pytest.param(["redis", "ours", "ours"], ["ours", "redis", "ours"], 2, id="mixed"),
        pytest.param(["redis"] * 3, ["ours"] * 5, 3, id="five-guard-redis"),
    ],
)
def test_one_master_in_the_end(
    stack: ExitStack, servers: list[str], sentinels: list[str], seed: int
) -> None:
    draw = random.Random(seed)
    guarded = Guarded(
        stack, servers, sentinels, down_after=DOWN_AFTER, failover_timeout=FAILOVER_TIMEOUT
    )
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        victims = _choose(draw, guarded)
        for victim in victims:
            guarded.hit(victim, stop=draw.random() < 0.4)
        time.sleep(draw.choice([0.1, 1.0, 3.0]))
        for victim in draw.sample(victims, len(victims)):
            guarded.mend(victim)
        time.sleep(draw.choice([0.0, 0.5, 2.0]))
    for victim in guarded.everybody:
        guarded.mend(victim)
    wait_until(guarded.is_well, "agreement", PATIENCE)
    master = guarded.master()
    assert master is not None
    with master.connect() as client:
        _write(client)
    check_logs(guarded.sentinels)


def _choose(draw: random.Random, guarded: Guarded) -> list[Server]:
    """One process, or two: mostly the master is among them."""
    master = guarded.master()
    victims: list[Server] = []
    if master is not None and draw.random() < 0.6:
        victims.append(master)
    wanted = draw.choice([1, 2])
    others = [each for each in guarded.everybody if each is not master]
    return (
        victims + draw.sample(others, wanted - len(victims)) if len(victims) < wanted else victims
    )


def _write(client: Client) -> None:
    reply = client("SET", "written", "afterwards")
    assert not isinstance(reply, Error), reply
