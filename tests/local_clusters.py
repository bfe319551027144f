"""Clusters of `sentrio up`, for tests."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.replicas import wait_until
from tests.servers import LOWEST_PORT, environment, is_free

LIMIT: Final = 90.0
FAR: Final = 10_000  # between a node's ports for clients and for the bus, and a sentinel's


def free_ports(count: int) -> int:
    """The first of so many ports that are free, as are those of buses and sentinels."""
    for _ in range(100):
        # Away from the ports of other tests, which may run beside this one.
        first = random.randrange(10500, LOWEST_PORT - FAR - count)
        all_ports = [first + n + far for n in range(count) for far in (0, FAR, 2 * FAR)]
        if all(is_free(port) for port in all_ports):
            return first
    raise RuntimeError("no free ports")


class Up:
    """One run of the command; ``output`` is all that it has printed."""

    def __init__(self, process: subprocess.Popen[bytes], path: Path) -> None:
        self.process = process
        self._path = path

    @property
    def output(self) -> str:
        return self._path.read_text(errors="replace")

    def wait_for(self, text: str, times: int = 1) -> None:
        """Until it has printed that."""
        wait_until(
            lambda: self.output.count(text) >= times or self.process.poll() is not None,
            text,
            LIMIT,
        )
        assert self.output.count(text) >= times, self.output

    def end(self, number: int = signal.SIGINT) -> int:
        """End it by a signal; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(LIMIT)


def up_words(command: str, port: int, folder: Path) -> list[str]:
    """The command line."""
    words = [sys.executable, "-m", "sentrio", "up", "--node-command", command]
    return [*words, "--port", str(port), "--dir", str(folder)]


@contextmanager
def up(
    command: str, port: int, folder: Path, *words: str, before: Sequence[str] = ()
) -> Iterator[Up]:
    """Run it, by way of what stands before, and see to it that nothing of it is left."""
    path = folder.parent / f"output-{random.randrange(10**9)}"
    with path.open("wb") as output:
        process = subprocess.Popen(
            [*before, *up_words(command, port, folder), *words],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**environment(), "PYTHONUNBUFFERED": "1"},
        )
    try:
        yield Up(process, path)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(LIMIT)
