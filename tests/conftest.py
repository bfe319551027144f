"""Fixtures shared by all tests: servers, connections, hypothesis profiles."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Generator, Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.installation import compiled, stale_modules
from tests.servers import (
    PACKAGES,
    Server,
    launched,
    node_command,
    oracle_command,
    oracle_sentinel_command,
)
from tests.wire import Client

StartServer = Callable[..., Server]

_SLOW_IS_FINE = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile(
    "quick",
    deadline=None,
    max_examples=200,
    print_blob=True,
    # Explaining a failure takes longer than finding and shrinking it.
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=_SLOW_IS_FINE,
)
settings.register_profile("ci", settings.get_profile("quick"), derandomize=True, database=None)
settings.register_profile("deep", settings.get_profile("quick"), max_examples=5000)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") == "true" else "quick")
)


def pytest_report_header() -> str:
    """Says what is under test, and refuses to test something else than the checkout."""
    if PACKAGES is None:
        return "sentrio: the checkout, interpreted"
    stale = stale_modules(PACKAGES)
    if stale:
        pytest.exit(
            f"the installed sentrio is not this checkout's ({', '.join(stale[:5])}): "
            "pip install it again, or with -e",
            returncode=4,
        )
    return f"sentrio: {PACKAGES}, {'compiled' if compiled(PACKAGES) else 'interpreted'}"


LOG_TAIL = 3000


def _start(command: list[str], *directives: str, name: str) -> Server:
    server = Server(command, *directives, name=name)
    server.start()
    return server


def require_oracle() -> list[str]:
    """The command of the real server; without one the test is skipped, but fails in CI."""
    command = oracle_command()
    return [require_program("redis-server")] if command is None else command


def require_oracle_sentinel() -> list[str]:
    """The command of the real sentinel, before its file; as :func:`require_oracle`."""
    command = oracle_sentinel_command()
    return [require_program("redis-sentinel")] if command is None else command


def require_program(name: str) -> str:
    """Where a program of Redis is; without it the test is skipped, but fails in CI."""
    path = shutil.which(name)
    if path is None:
        reason = f"needs {name} (Debian: apt-get install redis-server redis-sentinel redis-tools)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return path


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows the end of each running server's log."""
    report = yield
    if report.failed:
        # Who has ended may be the reason, and is told first; who serves all tests, last.
        latest = list(reversed(launched))
        for server in sorted(latest, key=lambda each: each.ending == "runs"):
            title = f"log of {server.name} on port {server.port}, which {server.ending}"
            report.sections.append((title, server.log[-LOG_TAIL:]))
    return report


@pytest.fixture(scope="session")
def shared_node() -> Iterator[Server]:
    """Our node with default settings, one for the whole run; use `node` in tests."""
    server = _start(node_command(), "--enable-debug-command", "yes", name="node")
    yield server
    server.stop()


@pytest.fixture
def node(shared_node: Server) -> Server:
    """Our node, empty, with default settings. A test must not leave its configuration changed."""
    with shared_node.connect() as client:
        client("FLUSHALL")
    return shared_node


@pytest.fixture(scope="session")
def shared_oracle() -> Iterator[Server]:
    """The real redis-server with default settings, one for the whole run; use `oracle`."""
    server = _start(require_oracle(), "--enable-debug-command", "yes", name="oracle")
    yield server
    server.stop()


@pytest.fixture
def oracle(shared_oracle: Server) -> Server:
    """The real redis-server, empty, with default settings."""
    with shared_oracle.connect() as client:
        client("FLUSHALL")
    return shared_oracle


@pytest.fixture
def start_node() -> Iterator[StartServer]:
    """Starts nodes of the test's own: `start_node("--maxmemory", "10mb")`; stopped at its end."""
    servers: list[Server] = []

    def start(*directives: str) -> Server:
        servers.append(_start(node_command(), *directives, name=f"node-{len(servers)}"))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def start_oracle() -> Iterator[StartServer]:
    """The same for the real redis-server."""
    servers: list[Server] = []

    def start(*directives: str) -> Server:
        servers.append(_start(require_oracle(), *directives, name=f"oracle-{len(servers)}"))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
def protocol(request: pytest.FixtureRequest) -> int:
    """Both protocol versions."""
    version: int = request.param
    return version


@pytest.fixture
def client(node: Server, protocol: int) -> Iterator[Client]:
    """A connection to the empty shared node, once per protocol version."""
    with node.connect(protocol) as connection:
        yield connection
