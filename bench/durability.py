"""Snapshots and the append-only file, both servers side by side.

How long a snapshot, a rewrite of the log and a start take, what a snapshot costs in memory and in
waiting under writes, and how fast writes are with the log on.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

import psutil

from bench.duel import Duel
from bench.load import SETTINGS, WORKLOADS, Comparison, Contender, compare, start_load
from bench.pinger import Pinger
from tests.servers import Server
from tests.wire import Client, Error

AT_ONCE: Final = 500
TIMES: Final = 3
PATIENCE: Final = 600.0
STALL_LIMIT: Final = 100.0  # ms
SLOWER: Final = 4.0  # times Redis's seconds

_LOADED: Final = re.compile(r"DB loaded from (?:disk|append only file): ([0-9.]+) seconds")

Requests = Iterator[list[bytes]]


def small_strings(count: int) -> Requests:
    """Keys and values of a dozen bytes."""
    for n in range(count):
        yield [b"SET", b"key:%08d" % n, b"value:%08d" % n]


def mixture(count: int) -> Requests:
    """So many keys of all types and sizes, a tenth of them with an expiry."""
    for n in range(count):
        kind = n % 10
        if kind < 4:
            expiry = [b"EX", b"100000"] if kind == 0 else []
            yield [b"SET", b"session:%08d" % n, b"x" * (n % 200), *expiry]
        elif kind < 6:
            pairs = [w for m in range(8) for w in (b"field:%d" % m, b"value:%d" % (n + m))]
            yield [b"HSET", b"profile:%08d" % n, *pairs]
        elif kind == 6:
            yield [b"RPUSH", b"queue:%08d" % n, *[b"job:%d" % (n + m) for m in range(10)]]
        elif kind == 7:
            yield [b"SADD", b"tags:%08d" % n, *[b"tag:%d" % (n * m) for m in range(5)]]
        elif kind == 8:
            yield [b"SADD", b"ids:%08d" % n, *[b"%d" % (n * m) for m in range(20)]]
        else:
            scored = [w for m in range(10) for w in (b"%d.5" % (n % 97 + m), b"player:%d" % m)]
            yield [b"ZADD", b"board:%08d" % n, *scored]


DATA: Final[tuple[tuple[str, Callable[[int], Requests], int], ...]] = (
    ("small strings", small_strings, 1),
    ("keys of all types", mixture, 5),
)


def examine_durability(
    ours: list[str], theirs: list[str], keys: int, rounds: int, seconds: float
) -> tuple[list[Duel], list[Comparison]]:
    """All figures; ``keys`` is the number of small strings."""
    duels: list[Duel] = []
    for name, requests, share in DATA:
        count = keys // share
        what = f"{count:,} {name}"
        pair = [_snapshot(command, requests(count)) for command in (ours, theirs)]
        duels.append(_duel(f"BGSAVE of {what}", "s", pair, "save", SLOWER))
        duels.append(_duel(f"start from the snapshot of {what}", "s", pair, "load", SLOWER))
        pair = [_log(command, requests(count)) for command in (ours, theirs)]
        duels.append(_duel(f"start from the log of {what}", "s", pair, "load", SLOWER))
        duels.append(_duel(f"BGREWRITEAOF of {what}", "s", pair, "rewrite", SLOWER))
    pair = [_under_writes(command, keys) for command in (ours, theirs)]
    duels.append(_duel("more memory during BGSAVE under writes", "MiB", pair, "memory", None))
    stall = _duel("longest wait during BGSAVE", "ms", pair, "stall", STALL_LIMIT)
    duels.append(replace(stall, absolute=True))
    return duels, _throughput(ours, theirs, rounds, seconds)


def _duel(
    name: str, unit: str, pair: list[dict[str, float]], key: str, limit: float | None
) -> Duel:
    return Duel(name, unit, pair[0][key], pair[1][key], limit)


def _timed(client: Client, command: str, *busy: bytes) -> float:
    """Seconds from a command until INFO shows none of the fields ``busy`` as 1."""
    started = time.perf_counter()
    reply = client(command)
    if isinstance(reply, Error):
        raise RuntimeError(f"{command}: {reply.text!r}")
    while True:
        info = client("INFO", "persistence")
        taken = time.perf_counter() - started
        if not isinstance(info, bytes) or taken > PATIENCE:
            raise RuntimeError(f"{command} does not end")
        if not any(field + b":1\r\n" in info for field in busy):
            break
        time.sleep(0.002)
    if b"last_bgsave_status:err" in info or b"last_bgrewrite_status:err" in info:
        raise RuntimeError(f"{command} failed")
    return taken


def _snapshot(command: list[str], requests: Requests) -> dict[str, float]:
    with Server(command, "--save", "", name="bench") as server:
        with server.connect(timeout=PATIENCE) as client:
            client.send_all(requests, AT_ONCE)
            save = [_timed(client, "BGSAVE", b"rdb_bgsave_in_progress") for _ in range(TIMES)]
        return {"save": statistics.median(save), "load": _load(server)}


def _log(command: list[str], requests: Requests) -> dict[str, float]:
    directives = ("--appendonly", "yes", "--save", "", "--auto-aof-rewrite-percentage", "0")
    with Server(command, *directives, name="bench") as server:
        with server.connect(timeout=PATIENCE) as client:
            client.send_all(requests, AT_ONCE)
        load = _load(server)
        busy = (b"aof_rewrite_in_progress", b"aof_rewrite_scheduled")
        with server.connect(timeout=PATIENCE) as client:
            rewrite = [_timed(client, "BGREWRITEAOF", *busy) for _ in range(TIMES)]
        return {"load": load, "rewrite": statistics.median(rewrite)}


def _load(server: Server) -> float:
    """Seconds that a start takes to load, by the server's own account."""
    found = []
    for _ in range(TIMES):
        server.restart(limit=PATIENCE)
        found.append(float(_LOADED.findall(server.log)[-1]))
    return statistics.median(found)


def _under_writes(command: list[str], keys: int) -> dict[str, float]:
    with (
        Server(command, "--save", "", name="bench") as server,
        server.connect(timeout=PATIENCE) as client,
    ):
        client.send_all(small_strings(keys), AT_ONCE)
        process = psutil.Process(server.pid)
        with _writes(server, keys):
            before = _proportional(process)
            most = before
            with Pinger(server) as pinger:
                _begin(client)
                while True:
                    most = max(most, _proportional(process))
                    info = client("INFO", "persistence")
                    if isinstance(info, bytes) and b"rdb_bgsave_in_progress:0" in info:
                        break
        return {"memory": (most - before) / 2**20, "stall": pinger.longest}


def _begin(client: Client) -> None:
    reply = client("BGSAVE")
    if isinstance(reply, Error):
        raise RuntimeError(f"BGSAVE: {reply.text!r}")


@contextmanager
def _writes(server: Server, keys: int) -> Iterator[None]:
    """SETs of random keys by some clients, as long as the context lasts."""
    load = start_load(server.port, ["-t", "set"], clients=8, keys=keys)
    try:
        yield
    finally:
        load.terminate()
        try:
            load.wait(10)
        except subprocess.TimeoutExpired:
            load.kill()
            load.wait()


def _proportional(process: psutil.Process) -> int:
    """Bytes of a process and its children, shared pages counted once."""
    total = 0
    for each in (process, *process.children()):
        try:
            total += each.memory_full_info().pss
        except psutil.Error:
            continue  # it has just ended
    return total


def _throughput(
    ours: list[str], theirs: list[str], rounds: int, seconds: float
) -> list[Comparison]:
    """SET at 50 clients with the log on."""
    workload = next(each for each in WORKLOADS if each.name == "SET")
    found: list[Comparison] = []
    for policy in ("everysec", "always"):
        directives = ("--appendonly", "yes", "--save", "", "--appendfsync", policy)
        setting = SETTINGS[0].with_name(f"50 clients, appendfsync {policy}", 0.90)
        with (
            Server(ours, *directives, name="bench-ours") as our_server,
            Server(theirs, *directives, name="bench") as their_server,
        ):
            contenders = Contender(our_server), Contender(their_server)
            found.append(compare(*contenders, workload, setting, rounds, seconds))
    return found
