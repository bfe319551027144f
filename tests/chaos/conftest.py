"""Servers of either kind, which may be killed and stopped."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import StartServer
from tests.servers import Server

StartKind = Callable[..., Server]


@pytest.fixture
def start(start_node: StartServer, start_oracle: StartServer) -> Iterator[StartKind]:
    """Starts one of a kind: `start("redis", "--maxmemory", "10mb")`; quick to synchronize.

    All of them go on at the end, whatever the test has stopped.
    """
    kinds = {"ours": start_node, "redis": start_oracle}
    servers: list[Server] = []

    def start_kind(kind: str, *directives: str) -> Server:
        servers.append(
            kinds[kind](
                *("--enable-debug-command", "yes", "--repl-diskless-sync-delay", "0"),
                *("--repl-ping-replica-period", "1", *directives),
            )
        )
        return servers[-1]

    yield start_kind
    for server in servers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(server.pid, signal.SIGCONT)
