"""Masters, replicas, sentinels and pairs of them are killed and stopped in any order.

Afterwards all of them run again, and then there is one master that all sentinels name, the others
are its replicas (in a cluster: one for each shard, and all slots are served), no sentinel has voted
twice in an epoch, and no epoch had two leaders.

`SENTRIO_CHAOS_SECONDS` says how long the faults go on (15 s for each of the tests).
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final

import pytest

from tests.conftest import require_oracle
from tests.faults import Faults
from tests.formations import OURS, REAL
from tests.guarded import guarded_cluster
from tests.replicas import wait_until
from tests.sentinels import Guarded, check_logs
from tests.servers import Server
from tests.wire import OK, Client, Closed, Error

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
    guarded = Guarded(
        stack, servers, sentinels, down_after=DOWN_AFTER, failover_timeout=FAILOVER_TIMEOUT
    )
    guarded.rage(guarded.everybody, guarded.masters, random.Random(seed), SECONDS)
    wait_until(guarded.is_well, "agreement", PATIENCE)
    (master,) = guarded.masters()
    with master.connect() as client:
        _write(client)
    check_logs(guarded.sentinels)


@pytest.mark.parametrize(
    ("kind", "seed"), [pytest.param(OURS, 4, id="ours"), pytest.param(REAL, 5, id="redis")]
)
def test_a_whole_cluster_in_the_end(stack: ExitStack, kind: str, seed: int) -> None:
    """Three masters with a replica each; two may be lost at once."""
    nodes = [kind] * 6
    guarded = stack.enter_context(guarded_cluster(nodes, 3, {3: 0, 4: 1, 5: 2}, require_oracle()))
    faults = Faults()
    stack.callback(faults.thaw)

    def find_masters() -> list[Server]:
        for sentinel in guarded.sentinels:
            try:
                ports = guarded.leaders(sentinel).values()
            except (OSError, Closed):
                continue
            return [node for node in guarded.cluster.nodes if node.port in ports]
        return []

    everybody = [*guarded.cluster.nodes, *guarded.sentinels]
    faults.rage(everybody, find_masters, random.Random(seed), SECONDS)
    guarded.wait(guarded.is_whole, "a whole cluster", PATIENCE)
    for key in ("foo", "bar", "hello"):
        assert guarded.cluster.call(key, "SET", key, "afterwards") == OK
    check_logs(guarded.sentinels, shards=True)


def _write(client: Client) -> None:
    reply = client("SET", "written", "afterwards")
    assert not isinstance(reply, Error), reply
