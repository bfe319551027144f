"""What faults are done to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import trio

from cluster.chaos.schedule import Topology
from cluster.tool.connection import Address
from cluster.tool.errors import Failed


class Target(Protocol):
    """A cluster's nodes and sentinels, and ways to harm them.

    Whoever has been harmed is known by its port, which is the same wherever it is seen from.
    """

    topology: Topology
    entries: Sequence[Address]
    """Where its nodes are reached from here, all of them."""
    sentinels: Sequence[Address]

    async def find_impossible(self, kinds: Sequence[str]) -> dict[str, str]:
        """Those of these kinds that it cannot do, and why. Raises ToolError."""
        ...

    async def begin(self, kind: str, port: int) -> None:
        """Raises Failed, with nothing done."""
        ...

    async def end(self, kind: str, port: int) -> None:
        """Mend it. Raises Failed."""
        ...

    async def close(self) -> None:
        """Leave nothing behind that was set up."""
        ...


async def run(words: Sequence[str]) -> str:
    """A command's output. Raises Failed if it did not end well, or is not there."""
    try:
        done = await trio.run_process(words, capture_stdout=True, capture_stderr=True, check=False)
    except OSError as error:
        raise Failed(f"{words[0]}: {error.strerror}") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise Failed(f"{' '.join(words)}: {said or f'exit code {done.returncode}'}")
    return done.stdout.decode(errors="replace")
