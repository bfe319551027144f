"""What a command leaves behind beside its reply is what it leaves in the real server: keyspace
events in their order, the number of changes, hits and misses, the line of the command log, and the
transactions of other clients that it makes fail.

Ours is an engine in this process; the other side's log is its append-only file.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import hiredis
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import require_oracle
from tests.differential.families import FAMILIES
from tests.differential.grammar import PROLOGUE, steps
from tests.differential.pair import Argv, Pair
from tests.inprocess import LocalServer
from tests.servers import Server
from tests.wire import Client, Null

MILLISECONDS_APART = 10_000
ALL_EVENTS = 0xFFFF & ~(1 << 11)  # all but misses, of which the oracle is not asked either
DIRECTIVES = [
    *["--save", "", "--appendonly", "yes", "--appendfsync", "no"],
    *["--auto-aof-rewrite-percentage", "0"],
    *["--notify-keyspace-events", "KEAn", "--enable-debug-command", "yes"],
]
CHECKED = ["strings", "bitmaps", "keys", "dumps", "lists", "hashes", "sets", "sorted_sets"]
# The checks of these look at more than the request does.
LOOKED_AT_TWICE = (
    *(b"HRANDFIELD", b"SRANDMEMBER", b"ZRANDMEMBER", b"HSCAN", b"SSCAN", b"ZSCAN"),
    *(b"SCAN", b"RANDOMKEY", b"OBJECT", b"ZRANK", b"ZREVRANK"),
)
# The checks of these change the oracle's data and back; SPOP's members are what ours has popped,
# BITCOUNT and BITPOS do not look at the key when the arguments are wrong since 7.2.
NOT_COMPARED = (b"SPOP", b"BITCOUNT", b"BITPOS")


@pytest.fixture(scope="module")
def oracle() -> Iterator[Server]:
    """The real server, with an append-only file and notifications."""
    with Server(require_oracle(), *DIRECTIVES, name="oracle") as server:
        yield server


class Effects:
    """What one side's commands have left behind since the last look."""

    def __init__(self) -> None:
        self.counts = (0, 0, 0)

    def _difference(self, counts: tuple[int, int, int]) -> tuple[int, ...]:
        before, self.counts = self.counts, counts
        return tuple(new - old for new, old in zip(counts, before, strict=True))


class OurEffects(Effects):
    """Those of an engine."""

    def __init__(self, server: LocalServer) -> None:
        super().__init__()
        self.keyspace = server.keyspace
        self.events: list[tuple[bytes, bytes]] = []
        self.reader = hiredis.Reader()
        self.keyspace.notify_flags = ALL_EVENTS
        self.keyspace.notify = self._note_event
        server.engine.command_log.attach(self.reader.feed)

    def _note_event(self, _: int, event: bytes, key: bytes, db: int) -> None:
        self.events.append((event, key))

    def take(self) -> tuple[object, ...]:
        """Events, log lines, (changes, hits, misses)."""
        events, self.events = self.events, []
        statistics = self.keyspace.statistics
        counts = self._difference((self.keyspace.dirty, statistics.hits, statistics.misses))
        return events, read_all(self.reader), counts


class TheirEffects(Effects):
    """Those of a server process."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        (self.path,) = Path(server.folder, "appendonlydir").glob("*.incr.aof")
        self.position = 0
        self.listener = server.connect(3)
        self.asking = server.connect()
        self.listener.send("PSUBSCRIBE", "__keyevent@*__:*")
        self.listener.read()
        self.take()

    def close(self) -> None:
        """Hang up."""
        self.listener.close()
        self.asking.close()

    def take(self) -> tuple[object, ...]:
        """Events, log lines, (changes, hits, misses)."""
        events: list[tuple[bytes, bytes]] = []
        self.listener.send("PING", "that was all")
        while (message := self.listener.read()) != b"that was all":
            items = getattr(message, "items", None)
            assert isinstance(items, list), message
            events.append((items[2].partition(b":")[2], items[3]))
        reader = hiredis.Reader()
        with self.path.open("rb") as file:
            file.seek(self.position)
            data = file.read()
        self.position += len(data)
        reader.feed(data)
        information = read_information(self.asking)
        counts = self._difference(
            (
                information[b"rdb_changes_since_last_save"],
                information[b"keyspace_hits"],
                information[b"keyspace_misses"],
            )
        )
        return events, read_all(reader), counts


def read_all(reader: hiredis.Reader) -> list[Argv]:
    """The commands of a log, without those that select a database."""
    found: list[Argv] = []
    while (argv := reader.gets()) is not False:
        if argv[0] != b"SELECT":
            found.append(argv)
    assert not reader.has_data()
    return found


def same_effects(mine: object, real: object) -> bool:
    """Whether two sides' effects are the same but for times, which are told a little apart."""
    if isinstance(mine, list | tuple) and isinstance(real, list | tuple):
        return len(mine) == len(real) and all(map(same_effects, mine, real))
    if isinstance(mine, bytes) and isinstance(real, bytes) and len(mine) == len(real) >= 13:
        if mine.isdigit() and real.isdigit():
            return abs(int(mine) - int(real)) < MILLISECONDS_APART
    return mine == real


def read_information(client: Client) -> dict[bytes, int]:
    """The whole numbers that INFO tells of persistence and statistics."""
    text = client("INFO", "persistence", "stats")
    assert isinstance(text, bytes)
    fields = [line.partition(b":") for line in text.splitlines()]
    return {name: int(number) for name, _, number in fields if number.isdigit()}


def fails_transaction(watcher: Client) -> bool:
    """Whether what a client has watched was changed since; it watches nothing afterwards."""
    watcher("MULTI")
    return isinstance(watcher("EXEC"), Null)


@pytest.mark.parametrize("family", CHECKED)
@settings(suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_effects(oracle: Server, family: str, data: st.DataObject) -> None:
    sequence = data.draw(steps(FAMILIES[family]), label=family)
    ours = LocalServer("--enable-debug-command", "yes")
    ours.clock.start = time.time()
    ours.engine.refresh()
    pair = Pair(ours.connect(), oracle.connect(), [])
    watcher = Pair(ours.connect(), oracle.connect(), [])
    pair.setup([b"FLUSHALL"], *PROLOGUE)
    pair.transcript.clear()
    our_effects = OurEffects(ours)
    their_effects = TheirEffects(oracle)
    our_effects.take()
    try:
        for step in sequence:
            # Whatever may be a key in the request.
            watcher.setup([b"WATCH", *step.argv])
            step.check(pair, step.argv)
            mine, real = our_effects.take(), their_effects.take()
            name = step.argv[0]
            touched = fails_transaction(watcher.ours), fails_transaction(watcher.theirs)
            if name in NOT_COMPARED:
                continue
            if touched[0] is not touched[1]:
                raise pair.fail(f"watched keys were touched: {touched[0]}, not {touched[1]}")
            if name in LOOKED_AT_TWICE:
                mine, real = mine[:2], real[:2]
            if not same_effects(mine, real):
                raise pair.fail(f"other effects: {mine}\n  not (oracle): {real}")
        pair.compare_data()
    finally:
        their_effects.close()
        watcher.close()
        pair.close()
        ours.close()
