"""Random sequences of each family, on both servers, in both protocols: replies and data equal."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import require_oracle
from tests.differential.families import FAMILIES
from tests.differential.grammar import PROLOGUE, steps
from tests.differential.pair import Pair
from tests.servers import Server, node_command
from tests.wire import OK

# So small that a few elements are enough to change an encoding.
SMALL = [
    *["--enable-debug-command", "yes"],
    *["--hash-max-listpack-entries", "4"],
    *["--hash-max-listpack-value", "32"],
    *["--zset-max-listpack-entries", "4"],
    *["--zset-max-listpack-value", "32"],
    *["--set-max-intset-entries", "3"],
    *["--list-max-listpack-size", "4"],
]


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[Server, Server]]:
    """Both, with thresholds small enough for short sequences to cross them."""
    with (
        Server(node_command(), *SMALL, name="node") as node,
        Server(require_oracle(), *SMALL, name="oracle") as oracle,
    ):
        for server in (node, oracle):
            # What has expired goes when it is looked at, not at some time of the server's choice.
            with server.connect() as client:
                assert client("DEBUG", "SET-ACTIVE-EXPIRE", 0) == OK
        yield node, oracle


@pytest.mark.parametrize("protocol", [2, 3], ids=["resp2", "resp3"])
@pytest.mark.parametrize("family", FAMILIES)
@settings(suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_family(
    servers: tuple[Server, Server], family: str, protocol: int, data: st.DataObject
) -> None:
    sequence = data.draw(steps(FAMILIES[family]), label=family)
    pair = Pair.connect(*servers, protocol)
    try:
        pair.setup([b"FLUSHALL"], *PROLOGUE)
        pair.transcript.clear()
        for step in sequence:
            step.check(pair, step.argv)
        with_data = Pair.connect(*servers, 2, pair.transcript)
        try:
            with_data.compare_data()
        finally:
            with_data.close()
    finally:
        pair.close()
