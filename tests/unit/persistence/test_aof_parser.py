"""The parser of the log: the same requests and offsets however the bytes come in."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.persistence.aof_parser import AofParser, FormatError
from node.resp import encode_request

requests = st.lists(
    st.lists(st.one_of(st.binary(max_size=30), st.binary(min_size=300, max_size=600)), min_size=1),
    max_size=8,
)


def parse(octets: bytes, sizes: list[int]) -> tuple[list[list[bytes]], list[int], int]:
    """Requests, where they end, and where the last whole one or comment does."""
    parser = AofParser(len(octets))
    found: list[list[bytes]] = []
    ends: list[int] = []
    at = 0
    for size in [*sizes, len(octets)]:
        portion = octets[at : at + size]
        at += size
        if portion:
            found += parser.feed(portion)
            ends += parser.ends
    found += parser.finish()
    ends += parser.ends
    return found, ends, parser.offset


@given(wanted=requests, sizes=st.lists(st.integers(1, 400)), times=st.booleans(), data=st.data())
def test_any_portions(
    wanted: list[list[bytes]], sizes: list[int], times: bool, data: st.DataObject
) -> None:
    octets = b""
    ends: list[int] = []
    for number, argv in enumerate(wanted):
        if times:
            octets += b"#TS:%d\r\n" % number
        octets += encode_request(argv)
        ends.append(len(octets))
    assert parse(octets, sizes) == (wanted, ends, len(octets))
    # Cut off anywhere, what is whole is there.
    cut = data.draw(st.integers(0, len(octets)))
    found, found_ends, offset = parse(octets[:cut], sizes)
    count = sum(end <= cut for end in ends)
    assert (found, found_ends) == (wanted[:count], ends[:count])
    assert (ends[count - 1] if count else 0) <= offset <= cut


@given(octets=st.binary(max_size=100), head=requests, sizes=st.lists(st.integers(1, 50)))
def test_any_bytes_are_read_or_refused(
    octets: bytes, head: list[list[bytes]], sizes: list[int]
) -> None:
    whole = b"".join(map(encode_request, head)) + octets
    with contextlib.suppress(FormatError):
        found, ends, _ = parse(whole, sizes)
        assert found[: len(head)] == head
        assert len(found) == len(ends)


def test_many_arguments_in_many_portions_take_no_time() -> None:
    argv = [b"%d" % number for number in range(200_000)]
    octets = encode_request(argv)
    parser = AofParser(len(octets))
    found: list[list[bytes]] = []
    for at in range(0, len(octets), 4096):
        found += parser.feed(octets[at : at + 4096])
    found += parser.finish()
    assert found == [argv]


def test_a_string_beyond_the_end_of_the_file_is_seen_at_once() -> None:
    head = b"*2\r\n$3\r\nGET\r\n$1000000000\r\nabc"
    parser = AofParser(len(head) + 5000)
    assert parser.feed(head) == []
    assert parser.short


@pytest.mark.parametrize(
    ("octets", "offset"),
    [(b"x", 0), (b"*x\r\n", 1), (b"*1\r\nx", 4), (b"*1\r\n$x\r\n", 5), (b"*1\r\n$1\r\nabc", 9)],
)
def test_the_first_wrong_byte_is_told(octets: bytes, offset: int) -> None:
    head = encode_request([b"PING"])
    parser = AofParser(1000)
    with pytest.raises(FormatError) as refusal:
        parser.feed(head + octets)
    assert refusal.value.offset == len(head) + offset
