"""redis-benchmark's default list runs to its end."""

from __future__ import annotations

import csv
import subprocess

import pytest

from tests.conftest import require_program
from tests.servers import Server

DEFAULT_LIST = {
    "PING_INLINE",
    "PING_MBULK",
    "SET",
    "GET",
    "INCR",
    "LPUSH",
    "RPUSH",
    "LPOP",
    "RPOP",
    "SADD",
    "HSET",
    "SPOP",
    "ZADD",
    "ZPOPMIN",
    "LPUSH (needed to benchmark LRANGE)",
    "LRANGE_100 (first 100 elements)",
    "LRANGE_300 (first 300 elements)",
    "LRANGE_500 (first 500 elements)",
    "LRANGE_600 (first 600 elements)",
    "MSET (10 keys)",
}
# Streams come later.
NOT_YET = {"XADD"}


def run(server: Server, *arguments: str) -> str:
    """What redis-benchmark prints; it must end with 0 and complain about nothing."""
    done = subprocess.run(
        [require_program("redis-benchmark"), "-p", str(server.port), *arguments],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed
    for complaint in ("Error", "Could not"):
        assert complaint not in printed, printed
    return printed


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["-c", "1", "-n", "300"],
        ["-P", "16", "-r", "1000"],
        ["-c", "20", "-d", "1000", "-k", "0", "-n", "200"],
        ["--threads", "2", "-3"],
    ],
    ids=" ".join,
)
def test_default_list(node: Server, options: list[str]) -> None:
    names: set[str] = set()
    lines = run(node, "-n", "1000", "--csv", *options).splitlines()
    for row in csv.DictReader(line for line in lines if line.startswith('"')):
        names.add(row["test"])
        assert float(row["rps"]) > 0
    assert names - NOT_YET == DEFAULT_LIST


def test_own_command(node: Server) -> None:
    run(node, "-n", "1000", "-r", "100", "-q", "zadd", "board", "__rand_int__", "m:__rand_int__")
    with node.connect() as client:
        card = client("ZCARD", "board")
        assert isinstance(card, int)
        assert 50 < card <= 100
