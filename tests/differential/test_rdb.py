"""RDB files and payloads, of the real server and for it: the same data come out on either side."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator

import pytest

from node.persistence.payload import dump, load
from node.persistence.rdb_format import RdbError
from node.persistence.rdb_reader import RdbReader, Record, Value
from node.persistence.rdb_writer import RdbWriter, serialized_size
from node.values.collection import Collection, Limits
from node.values.digest import dataset_digest, key_digest, value_digest
from node.values.hash import Hash
from node.values.list import List
from node.values.set import Set
from node.values.sorted_set import SortedSet
from tests.conftest import require_oracle, require_program
from tests.differential.families.dumps import REAL, signed
from tests.rdb_files import EDGES, SELECT_0, entry, file, old_values
from tests.servers import Server
from tests.wire import OK, Client, Simple

DEADLINE = 4_000_000_000_000
NEWEST_THERE = 18
"""The newest type of value that Redis 7.0 knows."""
Data = dict[bytes, Value]


# --- data ----------------------------------------------------------------------------------------


def elements(rng: random.Random, count: int, size: int) -> list[bytes]:
    """Distinct texts of up to a size, some of them numbers, some compressible."""
    found = dict.fromkeys(EDGES[:30] if count > 30 else ())
    while len(found) < count:
        kind = rng.randrange(4)
        if kind == 0:
            found[b"%d" % rng.randint(-(1 << rng.randint(1, 62)), 1 << rng.randint(1, 62))] = None
        elif kind == 1:
            found[rng.randbytes(rng.randint(0, size))] = None
        else:
            found[bytes(rng.choice(b"abcdef 0123") for _ in range(rng.randint(1, size)))] = None
    return list(found)


SCORES = (0.0, 1.0, -2.5, 1e300, 5e-324, 0.1, 3e17, float(1 << 62), float("inf"), float("-inf"))


def collections(rng: random.Random, texts: list[bytes]) -> list[tuple[bytes, Collection]]:
    """One value of each type that holds these texts."""
    limits = Limits()
    items, fields, members, scores = List(limits), Hash(limits), Set(limits), SortedSet(limits)
    items.extend_right(texts)
    for text in texts:
        fields.set(text, rng.choice(texts))
        members.add(text)
        scores.add(text, rng.choice(SCORES))
    return [(b"list", items), (b"hash", fields), (b"set", members), (b"zset", scores)]


def make_data(seed: int) -> Data:
    """Values on either side of every threshold."""
    rng = random.Random(seed)
    data: Data = {b"string:%d" % number: text for number, text in enumerate(EDGES)}
    data[b"string:long"] = b"0123456789abcdef" * 70_000
    data[b"string:noise"] = rng.randbytes(100_000)
    data[b"string:edited"] = bytearray(b"12345")
    data[b"12345"] = b"key that is a number"
    for count, size in [(1, 10), (127, 20), (128, 64), (129, 64), (512, 30), (513, 5), (20, 65)]:
        for name, value in collections(rng, elements(rng, count, size)):
            data[b"%b:%d:%d" % (name, count, size)] = value
    for name, value in collections(rng, elements(rng, 40, 9000)):
        data[name + b":large"] = value
    for count, bits in [(1, 5), (512, 15), (511, 31), (512, 63), (513, 15)]:
        numbers = Set(Limits())
        while len(numbers) < count:
            numbers.add(b"%d" % rng.randint(-(1 << bits), (1 << bits) - 1))
        data[b"set:numbers:%d:%d" % (count, bits)] = numbers
    return data


def digest(data: Data, volatile: frozenset[bytes] = frozenset()) -> Simple:
    digests = [key_digest(key, value, key in volatile) for key, value in data.items()]
    return Simple(dataset_digest([(0, digests)]).hex().encode())


def write(data: Data, compress: bool) -> bytes:
    parts: list[bytes] = []
    writer = RdbWriter(parts.append, compress, True)
    writer.begin({b"redis-ver": b"7.2.4", b"redis-bits": b"64", b"ctime": b"1700000000"})
    writer.select(0, len(data), 1)
    for number, (key, value) in enumerate(data.items()):
        deadline = DEADLINE if key == b"string:0" else None
        writer.entry(key, value, deadline, number if number % 2 else None, None)
    writer.end()
    return b"".join(parts)


def read(content: bytes, step: int) -> list[Record]:
    reader = RdbReader(Limits())
    records = [
        record
        for at in range(0, len(content), step)
        for record in reader.feed(content[at : at + step])
    ]
    assert reader.finished
    assert not reader.rest
    return records


def check_file(server: Server) -> None:
    """`redis-check-rdb` accepts the file of a server."""
    program = require_program("redis-check-rdb")
    path = server.folder / "dump.rdb"
    run = subprocess.run([program, path], capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode == 0, run.stdout
    assert "RDB looks OK" in run.stdout


@pytest.fixture
def oracle() -> Iterator[Server]:
    """A real server that has not been started: files can be laid into its folder."""
    server = Server(require_oracle(), "--enable-debug-command", "yes", name="oracle")
    yield server
    server.stop()


# --- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", [True, False], ids=["compressed", "plain"])
def test_both_ways(oracle: Server, compress: bool) -> None:
    """It loads our file with the same data; what it saves then has the same data for us."""
    data = make_data(1 + compress)
    (oracle.folder / "dump.rdb").write_bytes(write(data, compress))
    check_file(oracle)
    oracle.start()
    volatile = frozenset((b"string:0",))
    with oracle.connect() as client:
        assert client("DBSIZE") == len(data)
        assert client("DEBUG", "DIGEST") == digest(data, volatile)
        assert client("PEXPIRETIME", "string:0") == DEADLINE
        assert client("OBJECT", "IDLETIME", "string:3") in (3, 4, 5, 6)
        assert client("CONFIG", "SET", "rdbcompression", "yes" if compress else "no") == OK
        compare_payloads(client, data, compress)
        assert client("SAVE") == OK
    content = (oracle.folder / "dump.rdb").read_bytes()
    for step in (1 << 30, 5000):
        records = {record.key: record for record in read(content, step)}
        values = {key: record.value for key, record in records.items()}
        assert digest(values, volatile) == digest(data, volatile)
        assert records[b"string:0"].deadline == DEADLINE
        for key, value in data.items():
            other = values[key]
            if isinstance(value, Collection):
                assert isinstance(other, Collection)
                assert other.encoding() == value.encoding(), key


def compare_payloads(client: Client, data: Data, compress: bool) -> None:
    """What DUMP replies is what we make of the same value; hash tables have orders of their own."""
    for key, value in data.items():
        payload = client("DUMP", key)
        assert isinstance(payload, bytes)
        ours = dump(value, compress)
        told = client("DEBUG", "OBJECT", key)
        assert isinstance(told, Simple)
        assert b" serializedlength:%d " % serialized_size(value, compress) in told.text
        assert ours[0] == payload[0]
        assert len(ours) == len(payload)
        if not (isinstance(value, Collection) and value.encoding() == "hashtable"):
            if not (isinstance(value, Set) and value.encoding() == "listpack"):
                assert ours == payload, key


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu"])
def test_what_belongs_to_keys(oracle: Server, policy: str) -> None:
    oracle.directives += ["--maxmemory-policy", policy]
    oracle.start()
    with oracle.connect() as client:
        client("SET", "k", "v", "PXAT", DEADLINE)
        client("SELECT", 3)
        client("SET", "other", "1")
        assert client("SAVE") == OK
    reader = RdbReader(Limits())
    records = reader.feed((oracle.folder / "dump.rdb").read_bytes())
    assert reader.finished
    assert reader.version == 10
    assert reader.aux[b"redis-ver"].startswith(b"7.0.")
    first, second = records
    assert (first.db, first.key, first.value, first.deadline) == (0, b"k", b"v", DEADLINE)
    assert (second.db, second.key, second.value, second.deadline) == (3, b"other", b"1", None)
    if policy == "allkeys-lru":
        assert first.idle in range(10)
        assert first.freq is None
    else:
        assert first.freq in range(4, 8)
        assert first.idle is None


@pytest.mark.parametrize("version", [5, 6, 9])
def test_old_encodings(oracle: Server, version: int) -> None:
    """What is not written any more means the same to both."""
    content = file(version, SELECT_0, *[entry(kind, key, body) for key, kind, body in old_values()])
    (oracle.folder / "dump.rdb").write_bytes(content)
    check_file(oracle)
    oracle.start()
    values = {record.key: record.value for record in read(content, 100)}
    with oracle.connect() as client:
        assert client("DBSIZE") == len(values)
        assert client("DEBUG", "DIGEST") == digest(values)


def test_functions_are_kept(oracle: Server) -> None:
    oracle.start()
    code = b"#!lua name=lib\nredis.register_function('f', function() return 1 end)"
    with oracle.connect() as client:
        assert client("FUNCTION", "LOAD", code) == b"lib"
        assert client("SAVE") == OK
    reader = RdbReader(Limits())
    assert reader.feed((oracle.folder / "dump.rdb").read_bytes()) == []
    assert reader.functions == [code]
    parts: list[bytes] = []
    writer = RdbWriter(parts.append, True, True)
    writer.begin({})
    writer.function(code)
    writer.end()
    (oracle.folder / "dump.rdb").write_bytes(b"".join(parts))
    check_file(oracle)
    oracle.stop()


def test_streams_are_refused_by_name(oracle: Server) -> None:
    oracle.start()
    with oracle.connect() as client:
        client("XADD", "log", "*", "field", "value")
        assert client("SAVE") == OK
    with pytest.raises(RdbError, match=r"Stream, .* key b'log'"):
        RdbReader(Limits()).feed((oracle.folder / "dump.rdb").read_bytes())


def test_damaged_payloads(oracle: Server) -> None:
    """What its deep inspection refuses, ours refuses; what both take is the same value."""
    oracle.directives += ["--sanitize-dump-payload", "yes"]
    oracle.start()
    rng = random.Random(4)
    limits = Limits()
    taken = refused = 0
    with oracle.connect() as client:
        for payload in REAL.values():
            for _ in range(400):
                body = bytearray(payload[:-10])
                for _ in range(rng.randint(1, 2)):
                    body[rng.randrange(len(body))] = rng.choice((rng.randrange(256), 0, 1, 255))
                if body[0] > NEWEST_THERE:
                    continue
                damaged = signed(bytes(body))
                try:
                    value: Value | None = load(damaged, limits)
                except RdbError:
                    value = None
                reply = client("RESTORE", "k", 0, damaged, "REPLACE")
                if value is None:
                    refused += 1
                    continue
                assert reply == OK, damaged
                taken += 1
                assert client("DEBUG", "DIGEST-VALUE", "k") == [
                    Simple(value_digest(value).hex().encode())
                ], damaged
    assert taken > 100
    assert refused > 1000
