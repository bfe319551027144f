"""Where the requests of a stream end, however it comes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.replication.stream import StreamError, StreamParser
from node.resp import encode_request

ARGUMENTS = st.lists(st.binary(max_size=20), min_size=1, max_size=4)


def canonical(argv: list[bytes]) -> tuple[bytes, list[list[bytes]]]:
    return encode_request(argv), [argv]


UNITS = st.one_of(
    ARGUMENTS.map(canonical),
    st.sampled_from(
        [
            (b"PING\r\n", [[b"PING"]]),
            (b"set a 'b c'\n", [[b"set", b"a", b"b c"]]),
            (b"\n", []),
            (b"*0\r\n", []),
        ]
    ),
    st.integers(1000, 70000).map(lambda size: canonical([b"SET", b"k", b"x" * size])),
)


@given(st.lists(UNITS, max_size=8), st.lists(st.integers(1, 30000), min_size=1, max_size=20))
def test_all_requests_come_out_and_every_end_is_known(
    units: list[tuple[bytes, list[list[bytes]]]], cuts: list[int]
) -> None:
    wire = b"".join(data for data, _ in units)
    wanted = [argv for _, found in units for argv in found]
    ends: dict[int, int] = {}  # of so many requests
    at = 0
    count = 0
    for data, found in units:
        at += len(data)
        count += len(found)
        ends[count] = at
    parser = StreamParser()
    got: list[list[bytes]] = []
    position = 0
    fed = 0
    i = 0
    while fed < len(wire):
        piece = wire[fed : fed + cuts[i % len(cuts)]]
        i += 1
        fed += len(piece)
        requests = parser.feed(piece)
        assert parser.data[: parser.used] == wire[position : position + parser.used]
        whole = [argv for argv in requests if argv]
        for n in range(1, len(requests) + 1):
            before = len([argv for argv in requests[:n] if argv])
            end = position + parser.end_of(n, requests)
            assert end <= ends[len(got) + before]
            if n < len(requests):
                assert end > position
        got += whole
        position += parser.used
        assert position + parser.buffered == fed
    assert got == wanted
    assert position == len(wire)


@pytest.mark.parametrize(
    "wire", [b"*1\r\n+PING\r\n", b"*x\r\n", b"*1\r\n$-1\r\n", b"'a\r\n", b"*1\r\n$x\r\n"]
)
def test_what_is_no_stream_is_an_error(wire: bytes) -> None:
    with pytest.raises(StreamError):
        StreamParser().feed(wire)


@pytest.mark.parametrize(
    "other",
    [
        "%1 $1 a $1 b",
        "~1 $1 a",
        ">1 $1 a",
        "$0 ''",
        "$1 a",
        ":5",
        "_",
        "#t",
        ",1.5",
        "+OK",
        "=5 txt:a",
    ],
)
def test_other_types_are_inline_requests(other: str) -> None:
    """Whatever hiredis would make of them between two requests."""
    lines = other.split()
    wire = encode_request([b"PING"])
    between = [line.encode() for line in lines]
    data = wire + b"".join(line + b"\r\n" for line in between) + wire
    parser = StreamParser()
    words = [[line.replace(b"'", b"")] for line in between]
    assert parser.feed(data) == [[b"PING"], *words, [b"PING"]]
    assert parser.used == len(data)


def test_a_large_string_is_waited_for() -> None:
    parser = StreamParser()
    wire = encode_request([b"SET", b"k", b"x" * 1_000_000]) + encode_request([b"PING"])
    found: list[list[bytes]] = []
    for at in range(0, len(wire), 16384):
        found += parser.feed(wire[at : at + 16384])
    assert [argv[0] for argv in found] == [b"SET", b"PING"]
