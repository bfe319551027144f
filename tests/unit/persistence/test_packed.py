"""Listpack, ziplist, zipmap and intset: all entries, and no belief in what is damaged."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.persistence.packed import (
    decode_intset,
    decode_listpack,
    decode_ziplist,
    decode_zipmap,
    encode_backward_length,
    encode_intset,
    encode_listpack,
)
from node.values.listpack import HEADER, measure_entry
from tests.rdb_files import EDGES, intset, ziplist, zipmap
from tests.unit.persistence.drawn import texts

# Written by redis-server 7.0.15.
LISTPACK = (
    b"\x31\x00\x00\x00\x06\x00\x81c\x02\x98-3.0000000000000001e+300\x19\x81a\x02\x01\x01\x81b\x02"
    b"\x832.5\x04\xff"
)


def test_listpack_of_the_real_server() -> None:
    entries = [b"c", b"-3.0000000000000001e+300", b"a", b"1", b"b", b"2.5"]
    assert decode_listpack(LISTPACK) == entries
    assert encode_listpack(entries) == LISTPACK


@given(entries=st.lists(texts, max_size=20))
def test_listpacks(entries: list[bytes]) -> None:
    packed = encode_listpack(entries)
    assert decode_listpack(packed) == entries
    assert len(packed) == HEADER + sum(map(measure_entry, entries))


def test_listpack_with_long_entries() -> None:
    entries = [*EDGES, b"z" * 16380, b"z" * 2097200, b"last"]
    assert decode_listpack(encode_listpack(entries)) == entries


def test_listpack_with_more_entries_than_its_count_can_tell() -> None:
    entries = [b"%d" % number for number in range(70_000)]
    packed = encode_listpack(entries)
    assert packed[4:6] == b"\xff\xff"
    assert decode_listpack(packed) == entries


@pytest.mark.parametrize(
    ("length", "written"),
    [
        (127, b"\x7f"),
        (128, b"\x01\x80"),
        (16382, b"\x7f\xfe"),
        (16383, b"\x00\xff\xff"),
        (2097150, b"\x7f\xff\xfe"),
        (2097151, b"\x00\xff\xff\xff"),
        (268435454, b"\x7f\xff\xff\xfe"),
        (268435455, b"\x00\xff\xff\xff\xff"),
    ],
)
def test_backward_lengths(length: int, written: bytes) -> None:
    assert encode_backward_length(length) == written


@given(entries=st.lists(texts, max_size=20), small_integers=st.booleans())
def test_ziplists(entries: list[bytes], small_integers: bool) -> None:
    assert decode_ziplist(ziplist(entries, small_integers)) == entries


def test_ziplist_of_all_edges() -> None:
    assert decode_ziplist(ziplist(EDGES)) == list(EDGES)


@given(pairs=st.lists(st.tuples(texts, texts), max_size=10), spare=st.integers(0, 5))
def test_zipmaps(pairs: list[tuple[bytes, bytes]], spare: int) -> None:
    assert decode_zipmap(zipmap(pairs, spare)) == [text for pair in pairs for text in pair]


def test_zipmap_of_unknown_size() -> None:
    pairs = [(b"%d" % number, b"") for number in range(300)]
    assert len(decode_zipmap(zipmap(pairs))) == 600


@given(numbers=st.sets(st.integers(-(1 << 63), (1 << 63) - 1), min_size=1, max_size=20))
def test_intsets(numbers: set[int]) -> None:
    ordered = sorted(numbers)
    assert decode_intset(encode_intset(ordered)) == ordered


@pytest.mark.parametrize("width", [2, 4, 8])
def test_width_of_intsets(width: int) -> None:
    for number in (1 << width * 8 - 1) - 1, -(1 << width * 8 - 1):
        numbers = sorted([number, 5])
        assert encode_intset(numbers) == intset(numbers, width)


SOME = [b"a", b"12", b"70000", b"x" * 70, b"-5", b"y" * 300, b"-5000000000"]
SAMPLES: list[tuple[Callable[[bytes], object], bytes]] = [
    (decode_listpack, encode_listpack(SOME)),
    (decode_ziplist, ziplist(SOME)),
    (decode_zipmap, zipmap([(b"a", b"1"), (b"b", b"x" * 300)], 2)),
    (decode_intset, encode_intset([1, 2, 70000])),
]
NAMES = ["listpack", "ziplist", "zipmap", "intset"]


@pytest.mark.parametrize(("decode", "packed"), SAMPLES, ids=NAMES)
def test_cut_off(decode: Callable[[bytes], object], packed: bytes) -> None:
    for size in range(len(packed)):
        with pytest.raises(ValueError, match=r"list|zip|intset"):
            decode(packed[:size])
    with pytest.raises(ValueError, match=r"list|zip|intset"):
        decode(packed + b"\xff")


@pytest.mark.parametrize(("decode", "packed"), SAMPLES, ids=NAMES)
def test_every_byte_replaced(decode: Callable[[bytes], object], packed: bytes) -> None:
    for at in range(len(packed)):
        for byte in range(256):
            with contextlib.suppress(ValueError):
                decode(packed[:at] + bytes([byte]) + packed[at + 1 :])


@given(data=st.binary(max_size=60))
def test_noise(data: bytes) -> None:
    framed = (len(data) + 4).to_bytes(4, "little") + data
    for decode, _ in SAMPLES:
        for noise in (data, framed, framed[:-1] + b"\xff"):
            with contextlib.suppress(ValueError):
                decode(noise)
