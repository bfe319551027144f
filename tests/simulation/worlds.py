"""The worlds that can be run, by name.

A world is a function of a seed and of where its trace is to be printed (None: nowhere). It returns
its trace, and how often what has happened in it; it raises :class:`.trace.Broken`. The same seed
gives the same run, which the digest of the trace shows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TextIO

from tests.simulation.cluster import run_cluster
from tests.simulation.guarded import run_guarded
from tests.simulation.replication import run_replication
from tests.simulation.sentinel import run_sentinel
from tests.simulation.trace import Trace

World = Callable[[int, TextIO | None], tuple[Trace, dict[str, int]]]

WORLDS: Final[dict[str, World]] = {
    "cluster": run_cluster,
    "guarded": run_guarded,
    "replication": run_replication,
    "sentinel": run_sentinel,
}
