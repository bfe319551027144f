"""What tests of metrics share: asking a server over HTTP, and reading what it says."""

from __future__ import annotations

import http.client
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.replicas import wait_until
from tests.servers import free_port

Series = tuple[str, tuple[tuple[str, str], ...]]
LINE = re.compile(r"([a-z_]+)(?:\{(.*)\})? (\S+)")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
EXPORTER = "prometheus-redis-exporter"


def ask(port: int, path: str) -> tuple[int, str]:
    """Status and body of a GET."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def scrape(port: int) -> dict[Series, float]:
    """All series of /metrics."""
    status, text = ask(port, "/metrics")
    assert status == 200, text
    return parse(text)


def parse(text: str) -> dict[Series, float]:
    """Series and values of Prometheus's text format.

    prometheus_client's own parser gives counters names that they do not have.
    """
    found: dict[Series, float] = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        match = LINE.fullmatch(line)
        assert match is not None, line
        name, labels, value = match.groups()
        series = (name, tuple(sorted(LABEL.findall(labels or ""))))
        assert series not in found, line
        found[series] = float(value)
    return found


def find(series: dict[Series, float], name: str, **labels: str) -> float:
    """The value of the one series of that name with (at least) these labels."""
    found = [
        value
        for (title, pairs), value in series.items()
        if title == name and labels.items() <= dict(pairs).items()
    ]
    assert len(found) == 1, (name, labels, found)
    return found[0]


@contextmanager
def run_exporter(port: int, *options: str) -> Iterator[int]:
    """redis_exporter for a server on the loopback address; the port to scrape it at."""
    program = shutil.which(EXPORTER) or shutil.which("redis_exporter")
    if program is None:
        pytest.skip(f"needs redis_exporter (Debian: apt-get install {EXPORTER})")
    own = free_port()
    process = subprocess.Popen(
        [
            *(program, "-redis.addr", f"redis://127.0.0.1:{port}"),
            *("-web.listen-address", f"127.0.0.1:{own}", "-redis-only-metrics", *options),
        ],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )

    def is_up() -> bool:
        assert process.poll() is None, process.communicate()[1].decode()
        try:
            return ask(own, "/health")[0] == 200
        except OSError:
            return False

    try:
        wait_until(is_up, "the exporter")
        yield own
    finally:
        process.terminate()
        process.communicate()
