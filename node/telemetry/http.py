"""The server's side of HTTP/1.1 without I/O: bytes in, requests out; answers in, bytes out.

Only what metrics and health need: GET and HEAD without a body. Everything else is answered, too,
and then the connection is over. The grammar is h11's.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import h11

LARGEST_HEAD: Final = 8192
"""Bytes of a request's first line and headers."""

OK: Final = 200
BAD_REQUEST: Final = 400
NOT_FOUND: Final = 404
METHOD_NOT_ALLOWED: Final = 405
REQUEST_TIMEOUT: Final = 408
CONTENT_TOO_LARGE: Final = 413
UNAVAILABLE: Final = 503
REASONS: Final = {
    OK: "OK",
    BAD_REQUEST: "Bad Request",
    NOT_FOUND: "Not Found",
    METHOD_NOT_ALLOWED: "Method Not Allowed",
    REQUEST_TIMEOUT: "Request Timeout",
    CONTENT_TOO_LARGE: "Content Too Large",
    431: "Request Header Fields Too Large",
    UNAVAILABLE: "Service Unavailable",
}
PLAIN: Final = "text/plain; charset=utf-8"
METHODS: Final = ("GET", "HEAD")


class Answer(NamedTuple):
    """A response."""

    status: int
    body: bytes
    type: str = PLAIN


class Refused(Exception):
    """The request cannot be served; ``answer`` is to be sent, and the connection is over."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.answer = Answer(status, f"{text}\n".encode())


class Conversation:
    """One connection."""

    def __init__(self) -> None:
        self._connection = h11.Connection(h11.SERVER, max_incomplete_event_size=LARGEST_HEAD)
        self._method = ""
        self.begun = False
        self.over = False

    def receive(self, data: bytes) -> None:
        """Bytes from the client; none: it has closed its side."""
        if data:
            self.begun = True
        try:
            self._connection.receive_data(data)
        except h11.RemoteProtocolError:
            self.over = True

    def next_path(self) -> str | None:
        """The path that is asked for by the next request, without the query; None: read more first.

        Look at ``over`` then: the client may have said all. A path must be answered before the
        next one is asked for. Raises Refused.
        """
        connection = self._connection
        if connection.our_state is h11.DONE and connection.their_state is h11.DONE:
            connection.start_next_cycle()
            self.begun = bool(connection.trailing_data[0])
        path = None
        try:
            while not self.over:
                event = connection.next_event()
                if event is h11.NEED_DATA or event is h11.PAUSED:
                    return None
                if isinstance(event, h11.Request):
                    self._method = event.method.decode("ascii")
                    if self._method not in METHODS:
                        raise Refused(METHOD_NOT_ALLOWED, "Only GET and HEAD are known here.")
                    path = event.target.decode("ascii", "replace").partition("?")[0]
                elif isinstance(event, h11.Data):
                    raise Refused(CONTENT_TOO_LARGE, "No request here has a body.")
                elif isinstance(event, h11.EndOfMessage):
                    return path
                else:
                    self.over = True
        except h11.RemoteProtocolError as error:
            raise Refused(error.error_status_hint, str(error)) from None
        return None

    def answer(self, answer: Answer, last: bool = False) -> bytes:
        """The bytes of a response; ``over`` tells whether the connection is to be closed then.

        Nothing for a client that cannot be answered any more.
        """
        connection = self._connection
        if connection.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.over = True
            return b""
        headers = [
            ("Content-Type", answer.type),
            ("Content-Length", str(len(answer.body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
        ]
        if answer.status == METHOD_NOT_ALLOWED:
            headers.append(("Allow", ", ".join(METHODS)))
        if last:
            headers.append(("Connection", "close"))
        parts = [
            connection.send(
                h11.Response(
                    status_code=answer.status,
                    headers=headers,
                    reason=REASONS.get(answer.status, ""),
                )
            )
        ]
        if self._method != "HEAD":
            parts.append(connection.send(h11.Data(data=answer.body)))
        parts.append(connection.send(h11.EndOfMessage()))
        if connection.states[h11.SERVER] is not h11.DONE:
            self.over = True
        return b"".join(part for part in parts if part)
