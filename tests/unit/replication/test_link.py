"""The link to a master that does what the test says, in virtual time.

The master's history is made of INCRs, alone and in transactions, so that the value of the key says
how much of the history the data are made of.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import hiredis
import pytest
import trio
import trio.testing

from node.composition import compose
from node.config import make_config
from node.engine import STAGE_DISK
from node.log import Log
from node.network import SystemNetwork
from node.persistence.rdb_writer import RdbWriter
from node.replication.link import Link
from node.replication.replication import Replication
from node.resp import encode_request
from tests.inprocess import FakeClock, LocalClient
from tests.wire import Error

ID = b"a" * 40
OTHER_ID = b"b" * 40
MARK = b"m" * 40
INCR = encode_request([b"INCR", b"counter"])
UNIT = (
    encode_request([b"MULTI"]) + INCR + encode_request([b"SELECT", b"0"]) + INCR
) + encode_request([b"EXEC"])


def snapshot(value: int, **others: bytes) -> bytes:
    """An RDB file with the counter and other strings."""
    parts: list[bytes] = []
    writer = RdbWriter(parts.append, compress=True, checksum=True)
    writer.begin({b"redis-ver": b"7.2.4", b"repl-stream-db": b"0"})
    writer.select(0, 1 + len(others), 0)
    writer.entry(b"counter", b"%d" % value, None, None, None)
    for key, text in others.items():
        writer.entry(key.encode(), text, None, None, None)
    writer.end()
    return b"".join(parts)


class Conversation:
    """The master's end of one connection."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._reader = hiredis.Reader()

    async def read(self) -> list[bytes]:
        """The next request of the replica; signs of life are skipped."""
        while (argv := self._reader.gets()) is False:
            data = bytes(await self.stream.receive_some(65536))
            if not data:
                raise EOFError
            self._reader.feed(data.lstrip(b"\n"))
        assert isinstance(argv, list)
        return argv

    async def say(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def introduce(self) -> list[bytes]:
        """Answer everything that comes before PSYNC, which is returned."""
        while (argv := await self.read())[0] != b"PSYNC":
            await self.say(b"+PONG\r\n" if argv[0] == b"PING" else b"+OK\r\n")
        return argv

    async def close(self) -> None:
        await trio.aclose_forcefully(self.stream)


class Network(SystemNetwork):
    """A network in which every connection leads to the test."""

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[Conversation](100)
        self.refusing = False
        self.attempts = 0
        self.reachable = trio.Event()
        self.reachable.set()
        self.incoming: list[trio.testing.MemoryReceiveStream] = []  # what replicas read from

    async def connect(self, host: str, port: int, source: str = "") -> trio.abc.Stream:
        self.attempts += 1
        await self.reachable.wait()
        if self.refusing:
            raise ConnectionRefusedError(111, "Connection refused")
        ours, theirs = trio.testing.memory_stream_pair()
        self.incoming.append(ours.receive_stream)
        self._send.send_nowait(Conversation(theirs))
        return ours

    async def accept(self) -> Conversation:
        """The next connection that the replica makes."""
        return await self._receive.receive()


class Replica:
    """A node whose master is the test."""

    def __init__(self, network: Network, *directives: str) -> None:
        config = make_config()
        words = ("--replicaof", "master", "1", "--save", "", *directives)
        config.read_options([word.encode() for word in words])
        self.clock = FakeClock()
        self.log_path = Path("log").absolute()
        self.server = compose(config, Log(self.clock, path=str(self.log_path)), self.clock, network)
        self.engine = self.server.engine
        parts = self.engine.components
        self.replication = next(part for part in parts if isinstance(part, Replication))
        link = self.replication.link
        assert isinstance(link, Link)
        self.link = link
        self.client = LocalClient(self.engine)

    async def run(self) -> None:
        """The task of the link, and the ticks without which it would not try again."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.link.run)
            while True:
                await trio.sleep(0.1)
                self.clock.ns += 100_000_000
                self.link.tick(0)

    @property
    def log(self) -> str:
        return self.log_path.read_text() if self.log_path.exists() else ""

    @property
    def counter(self) -> int:
        reply = self.client("GET", "counter")
        return int(reply) if isinstance(reply, bytes) else 0

    @property
    def offset(self) -> int:
        return self.replication.history.offset


@asynccontextmanager
async def running(network: Network, *directives: str) -> AsyncIterator[Replica]:
    """A replica that runs."""
    replica = Replica(network, *directives)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(replica.run)
            yield replica
            nursery.cancel_scope.cancel()
    finally:
        replica.server.hub.close()


def read_file(name: str) -> bytes:
    return Path(name).read_bytes()


def list_files() -> list[str]:
    return sorted(path.name for path in Path().iterdir())


async def wait_until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(1000):
        while not condition():  # noqa: ASYNC110 nothing tells
            await trio.sleep(0.01)


async def synchronize(master: Conversation, value: int, offset: int, **others: bytes) -> None:
    """A full synchronization, from disk."""
    await master.introduce()
    data = snapshot(value, **others)
    await master.say(b"+FULLRESYNC %b %d\r\n" % (ID, offset))
    await master.say(b"\n$%d\r\n%b" % (len(data), data))


async def come_back(network: Network, replica: Replica, value: int, offset: int) -> Conversation:
    """The replica has the data, loses its master, and asks for what it lacks."""
    master = await network.accept()
    await synchronize(master, value, offset)
    await wait_until(lambda: replica.link.connected)
    await master.close()
    master = await network.accept()
    await master.introduce()
    return master


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def network() -> Network:
    return Network()


async def test_a_full_synchronization_and_the_stream(
    network: Network, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(network) as replica:
        master = await network.accept()
        assert await master.introduce() == [b"PSYNC", b"?", b"-1"]
        data = snapshot(5)
        await master.say(b"+FULLRESYNC %b 1000\r\n" % ID)
        await master.say(b"\n\n$%d\r\n" % len(data))
        await master.say(data[:50])
        await wait_until(lambda: replica.link.state == "sync")
        await master.say(data[50:] + INCR)
        assert await master.read() == [b"REPLCONF", b"ACK", b"%d" % (1000 + len(INCR))]
        assert replica.link.state == "connected"
        assert replica.counter == 6
        assert replica.replication.history.id == ID
        assert read_file("dump.rdb") == data
        assert list_files() == ["dump.rdb", "log"]


async def test_the_offset_is_told_each_second_and_when_asked(
    network: Network, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(network) as replica:
        master = await network.accept()
        await synchronize(master, 0, 0)
        began = trio.current_time()
        for _ in range(5):
            await master.read()
        assert 3.9 <= trio.current_time() - began <= 5.1
        began = trio.current_time()
        getack = encode_request([b"REPLCONF", b"GETACK", b"*"])
        await master.say(INCR + getack)
        position = len(INCR + getack)
        assert await master.read() == [b"REPLCONF", b"ACK", b"%d" % position]
        assert trio.current_time() - began < 0.5
        assert replica.offset == position


@pytest.mark.parametrize("cut", range(0, len(UNIT) + 1, 3))
async def test_a_transaction_counts_as_a_whole(
    network: Network, autojump_clock: trio.testing.MockClock, cut: int
) -> None:
    async with running(network) as replica:
        master = await network.accept()
        await synchronize(master, 0, 100)
        await master.read()
        wire = INCR + UNIT[:cut]
        await master.say(wire)
        await wait_until(lambda: replica.link.fields()[5][1] == 100 + len(wire))
        whole = len(INCR) if cut < len(UNIT) else len(INCR + UNIT)
        assert replica.offset == 100 + whole
        assert replica.counter == (1 if cut < len(UNIT) else 3)
        await master.close()
        master = await network.accept()
        assert await master.introduce() == [b"PSYNC", ID, b"%d" % (101 + whole)]
        await master.say(b"+CONTINUE\r\n" + (INCR + UNIT)[whole:] + INCR)
        await wait_until(lambda: replica.counter == 4)
        assert replica.offset == 100 + len(INCR + UNIT + INCR)


@pytest.mark.parametrize("seed", range(20))
async def test_the_data_are_a_prefix_of_the_history(
    network: Network, autojump_clock: trio.testing.MockClock, seed: int
) -> None:
    """Whatever breaks when: the offset says how much of the history the data are made of."""
    draw = random.Random(seed)
    history = b""
    values = {0: 0}  # by offset
    value = 0
    for _ in range(400):
        unit = draw.random() < 0.4
        history += UNIT if unit else INCR
        value += 2 if unit else 1
        values[len(history)] = value

    async def serve(master: Conversation) -> None:
        argv = await master.introduce()
        position = int(argv[2]) - 1
        fetch = argv[1] != ID
        if fetch or draw.random() < 0.2:
            position = draw.choice([at for at in values if at >= max(position, 0)])
            data = snapshot(values[position])
            await master.say(b"+FULLRESYNC %b %d\r\n" % (ID, position))
            head = b"$%d\r\n%b" % (len(data), data)
            tail = b"$EOF:%b\r\n%b%b" % (MARK, data, MARK)
            await send_some(master, draw.choice([head, tail]), 0.2)
        else:
            assert position in values
            await master.say(b"+CONTINUE\r\n")
        while position < len(history):
            piece = history[position : position + draw.randrange(1, 200)]
            position += len(piece)
            await send_some(master, piece, 0.05)

    async def send_some(master: Conversation, data: bytes, risk: float) -> None:
        """Send it, or only a part of it, after which the connection breaks."""
        if draw.random() < risk:
            await master.say(data[: draw.randrange(len(data) + 1)])
            raise EOFError
        await master.say(data)
        if draw.random() < 0.1:
            await trio.sleep(draw.random() * 3)

    how = draw.choice(["disabled", "on-empty-db", "swapdb"])
    async with running(network, "--repl-diskless-load", how) as replica:
        done = False
        while not done:
            master = await network.accept()
            try:
                await serve(master)
                await wait_until(lambda: replica.offset == len(history))
                done = True
            except EOFError:
                if draw.random() < 0.5:
                    await trio.testing.wait_all_tasks_blocked()
            except trio.BrokenResourceError:
                pass
            await master.close()
            if replica.link.resumable:
                assert replica.counter == values[replica.offset]
        assert replica.counter == value


async def test_a_silent_master_is_given_up(
    network: Network, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(network, "--repl-timeout", "5") as replica:
        began = trio.current_time()
        await network.accept()
        master = await network.accept()
        assert 5 <= trio.current_time() - began < 7
        assert "Timeout connecting to the MASTER..." in replica.log
        await master.introduce()
        await master.say(b"+FULLRESYNC %b 0\r\n$1000\r\n" % ID)
        for _ in range(4):
            await trio.sleep(4)
            await master.say(b"R")
        began = trio.current_time()
        master = await network.accept()
        assert 4.9 <= trio.current_time() - began < 7
        assert "Timeout receiving bulk data from MASTER..." in replica.log
        await synchronize(master, 1, 0)
        await wait_until(lambda: replica.link.connected)
        for _ in range(4):
            await trio.sleep(4)
            await master.say(encode_request([b"PING"]))
        began = trio.current_time()
        # It goes on where it was, at once.
        master = await network.accept()
        assert 4.9 <= trio.current_time() - began < 5.5
        assert "MASTER timeout: no data nor PING received..." in replica.log
        position = 4 * len(encode_request([b"PING"]))
        assert (await master.introduce())[2] == b"%d" % (position + 1)


@pytest.mark.parametrize("how", ["on-empty-db", "swapdb"])
async def test_a_master_that_falls_silent_while_its_data_are_loaded(
    network: Network, autojump_clock: trio.testing.MockClock, how: str
) -> None:
    """Waiting for the rest of a snapshot is not loading it."""
    async with running(network, "--repl-timeout", "5", "--repl-diskless-load", how) as replica:
        master = await network.accept()
        await master.introduce()
        data = snapshot(1, other=b"x" * 1000)
        await master.say(b"+FULLRESYNC %b 0\r\n$%d\r\n%b" % (ID, len(data), data[:-20]))
        await wait_until(lambda: replica.link.state == "sync")
        began = trio.current_time()
        with trio.fail_after(20):
            await network.accept()
        assert 4.9 <= trio.current_time() - began < 7
        assert "Timeout receiving bulk data from MASTER..." in replica.log


async def test_attempts_become_rarer_down_to_one_a_second(
    network: Network, autojump_clock: trio.testing.MockClock
) -> None:
    network.refusing = True
    async with running(network) as replica:
        for seconds, least, most in ((0.85, 3, 4), (9, 7, 9), (10, 8, 10)):
            before = network.attempts
            await trio.sleep(seconds)
            assert least <= network.attempts - before <= most
        assert "Error condition on socket for SYNC: Connection refused" in replica.log
        assert replica.link.state == "connect"
        network.refusing = False
        await network.accept()
        await wait_until(lambda: replica.link.state == "handshake")


@pytest.mark.parametrize("how", ["disabled", "on-empty-db", "swapdb"])
async def test_a_snapshot_that_is_broken(
    network: Network, autojump_clock: trio.testing.MockClock, how: str
) -> None:
    async with running(network, "--repl-diskless-load", how) as replica:
        master = await network.accept()
        await synchronize(master, 7, 0, other=b"x" * 1000)
        await wait_until(lambda: replica.link.connected)
        await master.close()
        master = await network.accept()
        data = bytearray(snapshot(8, other=b"y" * 1000))
        # While it comes the old data are there, and what they are a part of is known.
        assert (await master.introduce())[1] == ID
        await master.say(
            b"+FULLRESYNC %b 0\r\n$%d\r\n%b" % (OTHER_ID, len(data), bytes(data[:-30]))
        )
        await wait_until(lambda: replica.log.count("sync: receiving") == 2)
        assert replica.link.resumable
        await master.close()
        master = await network.accept()
        assert await master.introduce() == [b"PSYNC", ID, b"1"]
        assert "Reconnecting to MASTER master:1 after failure" in replica.log
        data[-20] ^= 1
        await master.say(b"+FULLRESYNC %b 0\r\n$%d\r\n%b" % (OTHER_ID, len(data), bytes(data)))
        await wait_until(lambda: "Failed trying to load the MASTER" in replica.log)
        assert not replica.server.loading
        if how == "swapdb":
            assert "Discarding temporary DB in background" in replica.log
            assert replica.engine.keyspace.trash.memory > 0
        # Only with swapdb the old data are not in the way. (on-empty-db: it is not empty.)
        assert replica.counter == (7 if how == "swapdb" else 0)
        assert replica.client("DBSIZE") == (2 if how == "swapdb" else 0)
        master = await network.accept()
        old = [b"PSYNC", ID, b"1"] if how == "swapdb" else [b"PSYNC", b"?", b"-1"]
        assert await master.introduce() == old
        await master.say(b"+FULLRESYNC %b 50\r\n" % OTHER_ID)
        good = snapshot(9)
        await master.say(b"$%d\r\n%b" % (len(good), good))
        await wait_until(lambda: replica.link.connected)
        assert replica.counter == 9
        assert replica.replication.history.id == OTHER_ID
        assert replica.offset == 50


@pytest.mark.parametrize("same", [True, False])
async def test_what_is_served_while_data_are_swapped(
    network: Network, autojump_clock: trio.testing.MockClock, same: bool
) -> None:
    """The old data, if they are an earlier state of the same history."""
    async with running(network, "--repl-diskless-load", "swapdb") as replica:
        master = await come_back(network, replica, 7, 0)
        data = snapshot(8)
        history = ID if same else OTHER_ID
        await master.say(b"+FULLRESYNC %b 0\r\n$%d\r\n%b" % (history, len(data), data[:30]))
        await wait_until(lambda: replica.server.loading)
        reply = replica.client("GET", "counter")
        if same:
            assert reply == b"7"
            assert replica.server.async_loading
        else:
            assert isinstance(reply, Error)
            assert reply.text.startswith(b"LOADING")
        assert isinstance(replica.client("REPLICAOF", "NO", "ONE"), Error)
        await master.say(data[30:])
        await wait_until(lambda: replica.link.connected)
        assert replica.counter == 8
        assert not replica.server.loading


@pytest.mark.parametrize("lazily", [True, False])
async def test_the_old_data_are_freed_lazily_or_at_once(
    network: Network, autojump_clock: trio.testing.MockClock, lazily: bool
) -> None:
    words = ("--replica-lazy-flush", "yes" if lazily else "no")
    async with running(network, *words) as replica:
        for serial in range(100):
            replica.engine.keyspace.databases[1].put(b"key:%d" % serial, b"old")
        await synchronize(await network.accept(), 7, 0)
        await wait_until(lambda: replica.link.connected)
        memory = replica.client("INFO", "memory")
        assert isinstance(memory, bytes)
        assert (b"lazyfree_pending_objects:0\r\n" not in memory) == lazily
        assert (
            replica.client("INFO", "keyspace")
            == b"# Keyspace\r\ndb0:keys=1,expires=0,avg_ttl=0\r\n"
        )


async def test_a_history_goes_on_under_another_name(
    network: Network, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(network) as replica:
        master = await come_back(network, replica, 0, 10)
        await master.say(b"+CONTINUE %b\r\n%b" % (OTHER_ID, INCR))
        await wait_until(lambda: replica.counter == 1)
        history = replica.replication.history
        assert (history.id, history.second_id, history.second_end) == (OTHER_ID, ID, 10)
        assert f"Master replication ID changed to {OTHER_ID.decode()}" in replica.log


async def test_promotion_while_data_are_coming(
    network: Network, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(network) as replica:
        master = await network.accept()
        await master.introduce()
        await master.say(b"+FULLRESYNC %b 0\r\n$1000\r\nREDIS" % ID)
        await wait_until(lambda: replica.link.state == "sync")
        replica.client("REPLICAOF", "NO", "ONE")
        assert replica.client("SET", "key", "value") is not None
        with pytest.raises((EOFError, trio.BrokenResourceError)):
            await master.read()
        assert list_files() == ["log"]
        assert replica.link.state == "none"
        assert replica.client("GET", "key") == b"value"


@pytest.mark.parametrize("answer", ["continue", "whole", "last piece"])
async def test_promotion_when_the_master_has_just_answered(
    network: Network, autojump_clock: trio.testing.MockClock, answer: str
) -> None:
    """The task of the link has been woken, but has not had its turn."""
    async with running(network) as replica:
        master = await come_back(network, replica, 7, 10)
        data = snapshot(8)
        said = b"+CONTINUE %b\r\n%b" % (OTHER_ID, INCR)
        if answer != "continue":
            said = b"+FULLRESYNC %b 0\r\n$%d\r\n%b" % (OTHER_ID, len(data), data)
        if answer == "last piece":
            await master.say(said[:-1])
            await wait_until(lambda: replica.link.state == "sync")
            said = said[-1:]
        await trio.testing.wait_all_tasks_blocked()
        network.incoming[-1].put_data(said)
        replica.client("REPLICAOF", "NO", "ONE")
        history = replica.replication.history
        own = history.id
        with pytest.raises((EOFError, trio.BrokenResourceError)):
            await master.read()
        assert replica.link.state == "none"
        assert replica.link.session is None
        assert (history.id, history.second_id) == (own, ID)
        assert own != OTHER_ID
        assert replica.counter == 7
        assert replica.client("INCR", "counter") == 8


async def test_another_master_when_the_connection_has_just_come_about(
    network: Network, autojump_clock: trio.testing.MockClock
) -> None:
    network.reachable = trio.Event()
    async with running(network) as replica:
        await wait_until(lambda: replica.link.state == "connecting")
        network.reachable.set()
        replica.client("REPLICAOF", "another", 1)
        with trio.fail_after(10):
            while True:
                master = await network.accept()
                with contextlib.suppress(EOFError, trio.BrokenResourceError):
                    await synchronize(master, 7, 10)
                    break
        await wait_until(lambda: replica.link.connected)
        assert replica.counter == 7


async def test_an_old_master_that_knows_only_sync(
    network: Network, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(network) as replica:
        master = await network.accept()
        await master.introduce()
        await master.say(b"-ERR unknown command 'PSYNC'\r\n")
        assert await master.read() == [b"SYNC"]
        data = snapshot(3)
        await master.say(b"$%d\r\n%b%b" % (len(data), data, INCR))
        await wait_until(lambda: replica.link.connected and replica.counter == 4)
        await trio.sleep(3)
        await master.close()
        master = await network.accept()
        assert (await master.introduce())[1] == b"?"


@pytest.mark.parametrize("ignored", [False, True])
async def test_a_disk_that_fails(
    network: Network, autojump_clock: trio.testing.MockClock, ignored: bool
) -> None:
    """What the master writes is not executed in vain, unless that is wanted."""
    words = ("--replica-ignore-disk-write-errors", "yes") if ignored else ()
    async with running(network, *words) as replica:
        ended: list[int] = []
        replica.replication.log_file.end = ended.append
        master = await network.accept()
        await synchronize(master, 1, 0)
        await wait_until(lambda: replica.link.connected)
        replica.engine.add_guard(STAGE_DISK, lambda session, command, argv: None)
        ping = encode_request([b"PING"])
        await master.say(ping)
        await wait_until(lambda: replica.offset == len(ping))
        assert "to disk" not in replica.log.partition("Finished with success")[2]
        await master.say(INCR + INCR)
        await wait_until(lambda: replica.counter == 3)
        assert ended == ([] if ignored else [1, 1])
        refusal = "Replica was unable to write command to disk."
        assert (refusal in replica.log) is not ignored
        remark = "Replica is applying a command even though it is unable to write to disk."
        assert replica.log.count(remark) == 1


@pytest.mark.parametrize(
    ("how", "ends"),
    [
        ("", False),
        ("--propagation-error-behavior panic", True),
        ("--propagation-error-behavior panic-on-replicas", True),
        ("--propagation-error-behavior panic --replica-read-only no", False),
    ],
)
async def test_a_command_that_fails_here_only(
    network: Network, autojump_clock: trio.testing.MockClock, how: str, ends: bool
) -> None:
    async with running(network, *how.split()) as replica:
        ended: list[int] = []
        replica.replication.log_file.end = ended.append
        master = await network.accept()
        await synchronize(master, 1, 0)
        await wait_until(lambda: replica.link.connected)
        await master.say(encode_request([b"LPUSH", b"counter", b"x"]))
        await wait_until(lambda: "== CRITICAL == This replica is sending an error" in replica.log)
        assert ended == ([1] if ends else [])
        text = "This replica panicked sending an error to its master after processing the command"
        assert (f"{text} 'lpush'" in replica.log) is ends


@pytest.mark.parametrize("how", ["no", "yes", "yes --save 60 1"])
async def test_the_file_of_a_snapshot_goes_if_nobody_wants_it(
    network: Network, autojump_clock: trio.testing.MockClock, how: str
) -> None:
    async with running(network, *f"--rdb-del-sync-files {how}".split()) as replica:
        master = await network.accept()
        await synchronize(master, 1, 0)
        await wait_until(lambda: replica.link.connected)
        assert ("dump.rdb" in list_files()) is (how != "yes")


async def test_what_the_master_must_not_say(
    network: Network, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(network) as replica:
        master = await network.accept()
        await synchronize(master, 0, 0)
        wrong = encode_request([b"LPUSH", b"counter", b"x"])
        await master.say(wrong + encode_request([b"NOSUCH"]) + encode_request([b"GET"]) + INCR)
        await wait_until(lambda: replica.counter == 1)
        assert replica.log.count("== CRITICAL ==") == 3
        await master.say(b"*1\r\n+x\r\n")
        master = await network.accept()
        assert "Protocol error from the master" in replica.log
        # What came before has been executed.
        assert (await master.introduce())[1] == ID
