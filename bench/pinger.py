"""Another client, in a process of its own: the longest that it waited for an answer.

`python -m bench.pinger PORT` pings until its standard input closes, then prints that in ms.
"""

from __future__ import annotations

import select
import subprocess
import sys
import time

from tests.installation import ROOT
from tests.servers import Server
from tests.wire import Client


class Pinger:
    """Pings a server as long as the context lasts; `longest` in ms is known after it."""

    def __init__(self, server: Server) -> None:
        self.longest = 0.0
        self._port = server.port
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Pinger:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.pinger", str(self._port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        said, _stderr = self._process.communicate(timeout=300)
        self.longest = float(said)


def ping(port: int) -> float:
    """Ping until standard input closes; the longest wait in ms."""
    longest = 0.0
    with Client(("127.0.0.1", port), timeout=300.0) as client:
        client("PING")
        print("ready", flush=True)
        while not select.select([sys.stdin], [], [], 0)[0]:
            started = time.perf_counter()
            client("PING")
            longest = max(longest, time.perf_counter() - started)
    return longest * 1e3


if __name__ == "__main__":
    print(ping(int(sys.argv[1])))
