"""The server's side of HTTP: what comes in which pieces, and what is refused how."""

from __future__ import annotations

import itertools

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.telemetry.http import LARGEST_HEAD, OK, Answer, Conversation, Refused

GET = b"GET /metrics?x=1 HTTP/1.1\r\nHost: a\r\n\r\n"


def read_response(data: bytes, method: bytes = b"GET") -> tuple[int, dict[bytes, bytes], bytes]:
    """What a client understands of the server's bytes."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    head = client.next_event()
    assert isinstance(head, h11.Response), head
    body = b""
    while not isinstance(event := client.next_event(), h11.EndOfMessage):
        assert isinstance(event, h11.Data), event
        body += event.data
    return head.status_code, dict(head.headers), body


@given(cuts=st.sets(st.integers(1, 2 * len(GET) - 1)))
def test_pieces(cuts: set[int]) -> None:
    conversation = Conversation()
    paths = []
    places = [0, *sorted(cuts), 2 * len(GET)]
    for first, last in itertools.pairwise(places):
        conversation.receive((GET + GET)[first:last])
        while (path := conversation.next_path()) is not None:
            paths.append(path)
            answer = conversation.answer(Answer(OK, b"body"))
            assert read_response(answer)[0::2] == (200, b"body")
            assert not conversation.over
    assert paths == ["/metrics", "/metrics"]
    assert not conversation.begun


def test_head_has_no_body() -> None:
    conversation = Conversation()
    conversation.receive(GET.replace(b"GET", b"HEAD"))
    assert conversation.next_path() == "/metrics"
    data = conversation.answer(Answer(OK, b"12345"))
    status, headers, body = read_response(data, b"HEAD")
    assert (status, headers[b"content-length"], body) == (200, b"5", b"")


@pytest.mark.parametrize(
    "request_head",
    [
        b"GET /healthz HTTP/1.0\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    ],
)
def test_connection_that_ends(request_head: bytes) -> None:
    conversation = Conversation()
    conversation.receive(request_head)
    assert conversation.next_path() == "/healthz"
    assert read_response(conversation.answer(Answer(OK, b"ok")))[2] == b"ok"
    assert conversation.over


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", 405),
        (b"GET /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", 413),
        (b"GET /metrics HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n", 413),
        (b"GET /metrics HTTP/1.1\r\n\r\n", 400),  # no host
        (b"GET /metrics HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"*1\r\n$4\r\nPING\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * LARGEST_HEAD, 431),
    ],
)
def test_refusals(data: bytes, status: int) -> None:
    conversation = Conversation()
    conversation.receive(data)
    with pytest.raises(Refused) as raised:
        conversation.next_path()
    found, headers, body = read_response(conversation.answer(raised.value.answer, last=True))
    assert found == status
    assert headers[b"connection"] == b"close"
    assert body
    assert conversation.over


@given(data=st.binary())
def test_nothing_breaks_it(data: bytes) -> None:
    conversation = Conversation()
    conversation.receive(data)
    conversation.receive(b"")
    try:
        while conversation.next_path() is not None:
            conversation.answer(Answer(OK, b""))
    except Refused as refused:
        conversation.answer(refused.answer, last=True)
    assert conversation.over
