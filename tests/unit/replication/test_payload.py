"""Finding the snapshot in what a master sends, however it is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.replication.payload import Payload, PayloadError

MARK = b"m" * 39 + b"!"


def receive(wire: bytes, cuts: list[int]) -> tuple[Payload, bytes]:
    """Feed it in pieces; what came out."""
    payload = Payload()
    found = b""
    at = 0
    for cut in [*cuts, len(wire)]:
        piece, at = wire[at : at + cut], min(at + cut, len(wire))
        if not piece:
            continue
        if payload.complete:
            payload.rest += piece
        else:
            found += payload.feed(piece)
    return payload, found


cuts = st.lists(st.integers(1, 60), max_size=40)
# With much that looks like a mark.
contents = st.lists(st.sampled_from([b"m", b"!", b"\n", MARK[:-1], b"x" * 50, b"\r\n"])).map(
    b"".join
)


@given(contents, contents, cuts, st.sampled_from([b"", b"\n", b"\n\n\n"]))
def test_counted(content: bytes, rest: bytes, cuts: list[int], life: bytes) -> None:
    wire = life + b"$%d\r\n" % len(content) + content + rest
    payload, found = receive(wire, cuts)
    assert found == content
    assert payload.complete
    assert not payload.streamed
    assert payload.rest == rest
    assert payload.received == payload.length == len(content)


@given(contents.filter(lambda text: MARK not in text + MARK[:-1]), contents, cuts)
def test_with_a_mark(content: bytes, rest: bytes, cuts: list[int]) -> None:
    payload, found = receive(b"\n$EOF:" + MARK + b"\r\n" + content + MARK + rest, cuts)
    assert found == content
    assert payload.complete
    assert payload.streamed
    assert payload.rest == rest
    assert payload.received == len(content)
    assert payload.length == -1


def test_unfinished() -> None:
    payload = Payload()
    assert payload.feed(b"\n\n") == b""
    assert payload.feed(b"$1") == b""
    assert payload.length == -1
    assert payload.feed(b"0\r\nabc") == b"abc"
    assert payload.length == 10
    assert not payload.complete


@pytest.mark.parametrize(
    ("wire", "text"),
    [
        (b"-ERR no fork today\r\n", "MASTER aborted replication with an error: ERR no fork today"),
        (b"+OK\r\n", "Bad protocol from MASTER"),
        (b"$-1\r\n", "Bad protocol from MASTER"),
        (b"$EOF:short\r\n", "Bad protocol from MASTER"),
        (b"$99999999999999999999\r\n", "Bad protocol from MASTER"),
        (b"x" * 1000, "Bad protocol from MASTER"),
    ],
)
def test_no_snapshot(wire: bytes, text: str) -> None:
    with pytest.raises(PayloadError, match=text):
        Payload().feed(wire)
