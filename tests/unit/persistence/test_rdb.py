"""RDB files: what is written is read again, in pieces of any size; what is damaged is refused."""

from __future__ import annotations

import struct
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.persistence.crc64 import crc64
from node.persistence.rdb_format import RdbError, encode_length
from node.persistence.rdb_reader import RdbReader, Record, Value
from node.persistence.rdb_values import module_name
from node.persistence.rdb_writer import BUFFER, RdbWriter, encode_string, encode_value
from node.values.collection import Collection, Limits
from node.values.digest import value_digest
from node.values.hash import Hash
from node.values.list import List
from node.values.set import Set
from node.values.sorted_set import SortedSet
from tests.rdb_files import EDGES, SELECT_0, entry, file, length, old_values, string, ziplist
from tests.unit.persistence.drawn import LIMITS, texts, values


def read(data: bytes, step: int = 1 << 30, limits: Limits = LIMITS) -> list[Record]:
    """All keys of a whole file that comes in pieces of a size."""
    reader = RdbReader(limits)
    records = [
        record for at in range(0, len(data), step) for record in reader.feed(data[at : at + step])
    ]
    assert reader.finished
    assert reader.offset == len(data)
    return records


def write(
    entries: list[tuple[bytes, Value]], compress: bool = True, checksum: bool = True
) -> bytes:
    """A file of these keys."""
    parts: list[bytes] = []
    writer = RdbWriter(parts.append, compress, checksum)
    writer.begin({b"redis-ver": b"7.2.4"})
    writer.select(0, len(entries), 0)
    for key, value in entries:
        writer.entry(key, value, None, None, None)
    writer.end()
    data = b"".join(parts)
    assert writer.size == len(data)
    return data


def form(value: Value) -> str:
    return value.encoding() if isinstance(value, Collection) else "string"


# --- round trips ---------------------------------------------------------------------------------


@given(
    drawn=st.dictionaries(texts, values, max_size=6),
    compress=st.booleans(),
    step=st.integers(1, 99),
)
def test_round_trip(drawn: dict[bytes, Value], compress: bool, step: int) -> None:
    records = read(write(list(drawn.items()), compress), step)
    assert [record.key for record in records] == list(drawn)
    for record in records:
        value = drawn[record.key]
        assert value_digest(record.value) == value_digest(value)
        if form(value) != "quicklist":
            assert form(record.value) == form(value)


def test_what_belongs_to_keys() -> None:
    parts: list[bytes] = []
    writer = RdbWriter(parts.append, True, True)
    writer.begin({b"redis-ver": b"7.2.4", b"redis-bits": b"64"})
    writer.function(b"#!lua name=lib\n")
    writer.select(0, 3, 1)
    writer.entry(b"a", b"1", 1_700_000_000_000, None, None)
    writer.entry(b"b", b"2", None, 1_000_000, None)
    writer.entry(b"c", b"3", None, None, 255)
    writer.select(300, 1, 0)
    writer.entry(b"d", b"4", None, None, None)
    writer.end()
    reader = RdbReader(LIMITS)
    found = [
        (record.db, record.key, record.value, record.deadline, record.idle, record.freq)
        for record in reader.feed(b"".join(parts))
    ]
    assert found == [
        (0, b"a", b"1", 1_700_000_000_000, None, None),
        (0, b"b", b"2", None, 1_000_000, None),
        (0, b"c", b"3", None, None, 255),
        (300, b"d", b"4", None, None, None),
    ]
    assert reader.aux == {b"redis-ver": b"7.2.4", b"redis-bits": b"64"}
    assert reader.functions == [b"#!lua name=lib\n"]
    assert reader.version == 10


def test_large_values_come_in_pieces() -> None:
    limits = Limits()
    members = [b"member:%d" % number for number in range(5000)]
    large: list[tuple[bytes, Value]] = [(b"string", bytes(range(256)) * 2000)]
    elements, pairs = List(limits), Hash(limits)
    elements.extend_right(members)
    for member in members:
        pairs.set(member, member * 3)
    large += [(b"list", elements), (b"hash", pairs)]
    large.append((b"set", Set.from_members(limits, members)))
    scores = {member: number / 7 for number, member in enumerate(members)}
    large.append((b"zset", SortedSet.from_items(limits, scores.items())))
    data = write(large, compress=False)
    for step in (1000, 4096, 1 << 20):
        for record, (key, value) in zip(read(data, step, limits), large, strict=True):
            assert record.key == key
            assert form(record.value) == form(value)
            assert value_digest(record.value) == value_digest(value)


def test_no_more_is_buffered_than_must_be() -> None:
    data = write([(b"%d" % number, b"value") for number in range(20_000)])
    reader = RdbReader(LIMITS)
    most = 0
    for at in range(0, len(data), 1000):
        reader.feed(data[at : at + 1000])
        most = max(most, reader.buffered)
    assert most < 20


def test_writes_are_of_moderate_size() -> None:
    sizes: list[int] = []
    writer = RdbWriter(lambda part: sizes.append(len(part)), True, True)
    writer.begin({})
    writer.select(0, 1, 0)
    large = Set.from_members(Limits(), [b"member:%d" % number for number in range(50_000)])
    writer.entry(b"set", large, None, None, None)
    writer.end()
    assert max(sizes) < 2 * BUFFER
    assert sum(sizes) == writer.size


@pytest.mark.parametrize("number", [0, 63, 64, 16383, 16384, (1 << 32) - 1, 1 << 32, (1 << 64) - 1])
def test_lengths(number: int) -> None:
    assert encode_length(number) == length(number)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        (b"0", b"\xc0\x00"),
        (b"-128", b"\xc0\x80"),
        (b"128", b"\xc1\x80\x00"),
        (b"-32769", b"\xc2\xff\x7f\xff\xff"),
        (b"2147483647", b"\xc2\xff\xff\xff\x7f"),
        (b"2147483648", b"\x0a2147483648"),
        (b"007", b"\x03007"),
        (b"-0", b"\x02-0"),
        (b"a" * 20, b"\x14" + b"a" * 20),
        (b"a" * 21, b"\xc3\x06\x15\x01aa\xe0\x0a\x00"),
    ],
)
def test_strings(text: bytes, written: bytes) -> None:
    assert encode_string(text, True) == written


# --- what other versions have written ------------------------------------------------------------


def old_file(version: int) -> bytes:
    return file(version, SELECT_0, *[entry(kind, key, body) for key, kind, body in old_values()])


@pytest.mark.parametrize("version", [1, 4, 5, 9, 12])
def test_old_encodings(version: int) -> None:
    found = {record.key: record.value for record in read(old_file(version), 7)}
    assert set(found) == {key for key, _, _ in old_values()}
    for name in (b"list", b"list:ziplist", b"list:old-ziplist"):
        value = found[name]
        assert isinstance(value, List)
        assert list(value) == list(EDGES)
    members = found[b"set"]
    assert isinstance(members, Set)
    assert set(members) == set(EDGES)
    for name in (b"hash", b"hash:ziplist"):
        fields = found[name]
        assert isinstance(fields, Hash)
        assert dict(fields.items()) == dict(zip(EDGES, reversed(EDGES), strict=True))
    old = found[b"zset"]
    assert isinstance(old, SortedSet)
    assert dict(old.items())[b"minf"] == float("inf")
    spare = found[b"zipmap:spare"]
    assert isinstance(spare, Hash)
    assert dict(spare.items()) == {b"a": b"1", b"b": b"x" * 260}


def test_times_and_clocks() -> None:
    data = file(
        12,
        *[b"\xfa" + string(b"redis-ver") + string(b"7.4.0"), SELECT_0, b"\xfb\x05\x01"],
        b"\xf4\x41\x00\x02\x01",  # what a slot holds, 7.4
        b"\xfd" + struct.pack("<i", 1_700_000_000) + entry(0, b"seconds", b"\x01a"),
        b"\xfc" + struct.pack("<q", 1_700_000_000_123) + entry(0, b"ms", b"\x01a"),
        b"\xfc" + struct.pack("<q", -1) + entry(0, b"never", b"\x01a"),
        b"\xf8\x41\x00" + entry(0, b"idle", b"\x01a"),
        b"\xf9\x07" + entry(0, b"freq", b"\x01a"),
        entry(0, b"none", b"\x01a"),
    )
    found = [(record.key, record.deadline, record.idle, record.freq) for record in read(data, 1)]
    assert found == [
        (b"seconds", 1_700_000_000_000, None, None),
        (b"ms", 1_700_000_000_123, None, None),
        (b"never", None, None, None),
        (b"idle", None, 256, None),
        (b"freq", None, None, 7),
        (b"none", None, None, None),
    ]


def listpack(*entries: bytes) -> bytes:
    body = b"".join(bytes([0x80 | len(text)]) + text + bytes([len(text) + 1]) for text in entries)
    return struct.pack("<IH", len(body) + 7, len(entries)) + body + b"\xff"


def test_newer_encodings() -> None:
    data = file(
        12,
        entry(20, b"set", string(listpack(b"a", b"b"))),
        entry(
            18, b"list", length(2) + b"\x01" + string(b"plain") + b"\x02" + string(listpack(b"p"))
        ),
        entry(24, b"meta", bytes(8) + b"\x01\x00" + string(b"f") + string(b"v")),
        entry(25, b"ex", bytes(8) + string(listpack(b"f", b"v", b"0"))),
        entry(22, b"early meta", b"\x01\x00" + string(b"f") + string(b"v")),
        entry(23, b"early ex", string(listpack(b"f", b"v", b"0"))),
    )
    found = {record.key: record.value for record in read(data, 1)}
    members, items = found.pop(b"set"), found.pop(b"list")
    assert isinstance(members, Set)
    assert members.encoding() == "listpack"
    assert isinstance(items, List)
    assert list(items) == [b"plain", b"p"]
    assert items.encoding() == "quicklist"
    for fields in found.values():
        assert isinstance(fields, Hash)
        assert dict(fields.items()) == {b"f": b"v"}


LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def test_module_data_are_refused_by_name() -> None:
    """As in Redis, which has no place for them either where the module is not loaded."""
    number = 0
    for letter in b"graphdata":
        number = number << 6 | LETTERS.index(letter)
    number = number << 10 | 3
    name = module_name(number)
    assert name == "graphdata"
    beside = file(9, b"\xf7" + length(number) + b"\x02\x01\x00", entry(0, b"k", b"\x01v"))
    with pytest.raises(RdbError, match=f"AUX module data I can't load: .* '{name}'"):
        read(beside, 1)
    value = file(9, entry(7, b"k", length(number) + b"\x00"))
    with pytest.raises(RdbError, match=f"module data I can't load: .* '{name}', .* key b'k'"):
        read(value, 1)


def test_empty_collections_are_left_out_and_counted() -> None:
    empty = [entry(kind, b"e", b"\x00") for kind in (1, 2, 3, 4, 5, 14, 18)]
    empty += [entry(kind, b"e", string(ziplist([]))) for kind in (10, 12, 13)]
    empty += [entry(kind, b"e", string(listpack())) for kind in (16, 17, 20)]
    with_time = b"\xfc" + struct.pack("<q", 5)
    data = file(11, *[with_time + record for record in empty], entry(0, b"k", b"\x01v"))
    reader = RdbReader(LIMITS)
    records = reader.feed(data)
    assert [(record.key, record.deadline) for record in records] == [(b"k", None)]
    assert reader.empty_keys == len(empty)


def test_encodings_follow_the_limits_at_loading() -> None:
    limits = Limits()
    limits.set_max_intset_entries = 2
    limits.zset_max_listpack_entries = 2
    limits.hash_max_listpack_entries = 2
    limits.list_max_listpack_size = 2
    three = listpack(b"a", b"1", b"b", b"2", b"c", b"3")
    data = file(
        11,
        entry(11, b"set", string(struct.pack("<IIhhh", 2, 3, 1, 2, 3))),
        entry(16, b"hash", string(three)),
        entry(17, b"zset", string(three)),
        entry(18, b"list", b"\x01\x02" + string(three)),
    )
    found = [form(record.value) for record in read(data, 1 << 20, limits)]
    assert found == ["hashtable", "hashtable", "skiplist", "quicklist"]
    assert [form(record.value) for record in read(data, 1 << 20, Limits())] == [
        *("intset", "listpack", "listpack", "listpack")
    ]


# --- what is refused -----------------------------------------------------------------------------

REFUSED = [
    (entry(15, b"k", b""), 11, "Stream, which this server cannot hold, in the value of key b'k'"),
    (entry(19, b"k", b""), 11, "Stream"),
    (entry(21, b"k", b""), 11, "Stream"),
    (entry(7, b"k", length(1 << 63)), 11, "no matching module type"),
    (entry(6, b"k", b""), 11, "Unknown RDB encoding type 6"),
    (entry(8, b"k", b""), 11, "Unknown RDB encoding type 8"),
    (entry(24, b"k", bytes(8) + b"\x01\x05\x01f\x01v"), 12, "Hash with fields that expire"),
    (entry(25, b"k", bytes(8) + string(listpack(b"f", b"v", b"5"))), 12, "Hash with fields"),
    (entry(2, b"k", b"\x02\x01a\x01a"), 11, "Duplicate set members"),
    (entry(4, b"k", b"\x02\x01a\x01b\x01a\x01b"), 11, "Duplicate hash fields"),
    (entry(5, b"k", b"\x02\x01a" + bytes(8) + b"\x01a" + bytes(8)), 11, "Duplicate zset members"),
    (entry(16, b"k", string(listpack(b"a", b"b", b"a", b"c"))), 11, "Duplicate hash fields"),
    (entry(20, b"k", string(listpack(b"a", b"a"))), 11, "Duplicate set members"),
    (entry(17, b"k", string(listpack(b"a", b"1", b"a", b"2"))), 11, "Duplicate zset members"),
    (entry(16, b"k", string(listpack(b"a"))), 11, "field that has no value"),
    (entry(17, b"k", string(listpack(b"a", b"nan"))), 11, "NAN"),
    (entry(17, b"k", string(listpack(b"a", b"x"))), 11, "could not convert"),
    (entry(3, b"k", b"\x01\x01a\xfd"), 11, "NAN"),
    (entry(5, b"k", b"\x01\x01a" + struct.pack("<d", float("nan"))), 11, "NAN"),
    (entry(18, b"k", b"\x01\x03\x01a"), 11, "kind 3 of a quicklist"),
    (entry(18, b"k", b"\x01\x01\x00"), 11, "Empty node of a quicklist"),
    (entry(0, b"k", b"\xc4"), 11, "Unknown string encoding 4"),
    (entry(0, b"k", b"\xc3\x01\x80\xff\xff\xff\xffx"), 11, "Invalid LZF"),
    (entry(0, b"k", b"\x82"), 11, "Unknown length encoding 130"),
    (b"\xf6", 10, "Pre-release function format"),
    (b"\xf3", 10, "Unknown RDB encoding type 243"),
]


@pytest.mark.parametrize(("record", "version", "message"), REFUSED)
def test_refused(record: bytes, version: int, message: str) -> None:
    data = file(version, SELECT_0, record)
    for step in (1, len(data)):
        with pytest.raises(RdbError, match=message) as caught:
            read(data, step)
        assert 9 < caught.value.offset <= len(data)
        assert str(caught.value.offset) in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"RUBIS0010" + bytes(20), "Wrong signature"),
        (b"REDIS0013" + bytes(20), "Can't handle RDB format version 13"),
        (b"REDIS0000" + bytes(20), "Can't handle RDB format version 0"),
        (b"REDISabcd" + bytes(20), "Can't handle RDB format version"),
    ],
)
def test_foreign_files(data: bytes, message: str) -> None:
    with pytest.raises(RdbError, match=message) as caught:
        RdbReader(LIMITS).feed(data)
    assert caught.value.offset == 0


def test_checksum() -> None:
    data = file(10, SELECT_0, entry(0, b"k", b"\x01v"))
    wrong = data[:-1] + bytes([data[-1] ^ 1])
    with pytest.raises(RdbError, match="Wrong RDB checksum"):
        read(wrong)
    assert RdbReader(LIMITS, checksum=False).feed(wrong)
    assert read(file(10, SELECT_0, entry(0, b"k", b"\x01v"), checksum=False), 3)
    without = write([(b"k", b"v")], checksum=False)
    assert without.endswith(bytes(8))
    assert read(without)
    assert write([(b"k", b"v")])[-8:] == crc64(without[:-8]).to_bytes(8, "little")


def test_what_follows_the_end() -> None:
    data = file(10, SELECT_0, entry(0, b"k", b"\x01v"))
    reader = RdbReader(LIMITS)
    assert len(reader.feed(data + b"*1\r\n")) == 1
    assert reader.finished
    assert reader.offset == len(data)
    assert reader.feed(b"$4\r\nPING\r\n") == []
    assert reader.rest == b"*1\r\n$4\r\nPING\r\n"


# --- damage --------------------------------------------------------------------------------------


def small_file() -> bytes:
    """All types in a few hundred bytes, each value small."""
    limits = Limits()
    elements, pairs, members = List(limits), Hash(limits), Set(limits)
    elements.extend_right([b"a", b"12", b"x" * 30])
    pairs.set(b"field", b"1000")
    members.update([b"5", b"70000"])
    table = Set.from_members(limits, [b"one", b"two"], 2)
    order = SortedSet(limits)
    order.add(b"m", 1.5)
    tall = SortedSet(limits, expected=1000)
    tall.add(b"m", 1.5)
    entries: list[tuple[bytes, Value]] = [(b"s", b"ab" * 20), (b"l", elements), (b"h", pairs)]
    entries += [(b"i", members), (b"t", table), (b"z", order), (b"y", tall)]
    return write(entries)


def try_to_read(data: bytes) -> int:
    """How many keys come out; -1 if it is refused or not complete."""
    reader = RdbReader(LIMITS)
    try:
        found = len(reader.feed(data))
    except RdbError:
        return -1
    return found if reader.finished else -1


def test_cut_off_at_every_offset() -> None:
    data = small_file()
    for size in range(len(data)):
        reader = RdbReader(LIMITS)
        reader.feed(data[:size])
        assert not reader.finished
        assert reader.offset + reader.buffered == size


def test_every_byte_replaced() -> None:
    """With the checksum in force all are found; without it none does harm."""
    data = small_file()
    tracemalloc.start()
    try:
        for at in range(len(data)):
            for byte in (0, 1, 0x3F, 0x40, 0x80, 0x81, 0xC3, 0xFF, data[at] ^ 1, data[at] ^ 0x80):
                if byte == data[at]:
                    continue
                damaged = data[:at] + bytes([byte]) + data[at + 1 :]
                assert try_to_read(damaged) == -1 or at >= len(data) - 8
                if 9 <= at < len(data) - 9:
                    repaired = damaged[:-8] + crc64(damaged[:-8]).to_bytes(8, "little")
                    try_to_read(repaired)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


@settings(max_examples=50)
@given(noise=st.binary(max_size=200), version=st.integers(1, 12))
def test_noise(noise: bytes, version: int) -> None:
    try_to_read(b"REDIS%04d" % version + noise)


@pytest.mark.parametrize(
    "record",
    [
        entry(0, b"k", b"\x81" + b"\x7f" * 8),
        entry(0, b"k", b"\xc3\x81" + b"\x7f" * 8 + b"\x81" + b"\x7f" * 8),
        b"\x00\x80\xff\xff\xff\xff",
        *[entry(kind, b"k", b"\x81" + b"\x7f" * 8) for kind in (1, 2, 3, 4, 5, 14, 18)],
        *[entry(kind, b"k", b"\x80\xff\xff\xff\xff") for kind in (9, 10, 11, 12, 13, 16, 17, 20)],
    ],
)
def test_no_memory_on_the_strength_of_a_length(record: bytes) -> None:
    tracemalloc.start()
    try:
        reader = RdbReader(LIMITS)
        reader.feed(b"REDIS0011" + record)
        assert not reader.finished
        reader.feed(b"\x01a" * 100)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    except RdbError:
        pass
    finally:
        tracemalloc.stop()


def test_a_string_of_another_type_is_no_value() -> None:
    with pytest.raises(TypeError, match="Collection"):
        encode_value(Collection(LIMITS), True)
