"""Cuts a master's stream into requests, and knows where in it each ends.

The end of a request is an offset of the history: as far as all before it has been executed, and no
further, the data are a part of that history, even if the link breaks the next moment.

Most of what comes is many small requests in their canonical form, which are read in one pass; where
they end, their lengths say. Where anything else is among them (an inline command, an empty line),
all are read one by one, as Redis reads them.
"""

from __future__ import annotations

from typing import Final

from node.resp import take_requests, wire_size
from node.words import split_words

_LONGEST_LINE: Final = 64 * 1024
_LARGEST: Final = 1 << 40


class StreamError(Exception):
    """What comes is no stream of requests; the text is for the log."""


class StreamParser:
    """Requests out of a stream that comes in pieces of any size.

    After :meth:`feed`, ``data`` is the bytes that its requests stood at the beginning of, and
    ``used`` how many they were; the rest is kept for the next time. ``buffered`` counts it.
    """

    __slots__ = ("data", "used", "_rest", "_rest_size", "_wanted", "_ends")

    def __init__(self) -> None:
        self.data = b""
        self.used = 0
        # Bytes of an unfinished request, and how many it takes at least.
        self._rest: list[bytes] = []
        self._rest_size = 0
        self._wanted = 0
        # Where the requests end, as far as their lengths do not say it.
        self._ends: list[int] | None = None

    @property
    def buffered(self) -> int:
        """Bytes held of an unfinished request."""
        return self._rest_size

    def feed(self, data: bytes) -> list[list[bytes]]:
        """The requests that ``data`` completes. Raises StreamError, and is of no use then."""
        self.used = 0
        if self._rest:
            self._rest.append(data)
            self._rest_size += len(data)
            if self._rest_size < self._wanted:
                self.data = b""
                return []
            data = b"".join(self._rest)
            self._rest = []
            self._rest_size = 0
        self.data = data
        self._ends = None
        self._wanted = 0
        requests: list[list[bytes]] = []
        used = take_requests(data, _LARGEST, requests)
        if used < len(data) and _take_request(data, used)[1] >= 0:
            requests, self._ends = self._parse_exactly(data)
            used = self._ends[-1]
        self.used = used
        if used < len(data):
            self._rest = [data[used:]]
            self._rest_size = len(data) - used
            if self._rest_size > _LONGEST_LINE:
                self._wanted = _least_size(self._rest[0])
        return requests

    def end_of(self, count: int, requests: list[list[bytes]]) -> int:
        """How many bytes of ``data`` the first ``count`` of its requests take."""
        if count == 0:
            return 0
        if self._ends is not None:
            return self._ends[count - 1]
        return wire_size(requests[:count])

    def _parse_exactly(self, data: bytes) -> tuple[list[list[bytes]], list[int]]:
        requests: list[list[bytes]] = []
        ends: list[int] = []
        at = 0
        while at < len(data):
            argv, at = _take_request(data, at)
            if at < 0:
                break
            if argv:
                requests.append(argv)
                ends.append(at)
            elif ends:
                ends[-1] = at  # an empty line belongs to what stood before it
            else:
                requests.append([])
                ends.append(at)
        return requests, ends


def _take_request(data: bytes, at: int) -> tuple[list[bytes], int]:
    """The request at ``data[at:]``, and its end; -1 where that is not there yet."""
    if data[at] != 42:  # *
        end = data.find(b"\n", at)
        if end < 0:
            if len(data) - at > _LONGEST_LINE:
                raise StreamError("too big inline request")
            return [], -1
        argv = split_words(data[at:end].removesuffix(b"\r"))
        if argv is None:
            raise StreamError("unbalanced quotes in request")
        return argv, end + 1
    count, at = _take_number(data, at, b"*")
    if at < 0:
        return [], -1
    argv = []
    for _ in range(count):
        size, at = _take_number(data, at, b"$")
        if at >= 0 and size < 0:
            raise StreamError("invalid bulk length")
        if at < 0 or at + size + 2 > len(data):
            return [], -1
        argv.append(data[at : at + size])
        at += size + 2
    return argv, at


def _take_number(data: bytes, at: int, kind: bytes) -> tuple[int, int]:
    """The number of a header of this kind, and where it ends; -1 where it does not yet."""
    end = data.find(b"\r\n", at)
    if end < 0:
        if len(data) - at > _LONGEST_LINE:
            raise StreamError("too big count string")
        return 0, -1
    if data[at : at + 1] != kind:
        raise StreamError(f"expected '{kind.decode()}', got {data[at : at + 1]!r}")
    try:
        return int(data[at + 1 : end]), end + 2
    except ValueError:
        raise StreamError("invalid length") from None


def _least_size(data: bytes) -> int:
    """How many bytes an unfinished request takes at least, as far as its headers are there."""
    if data[:1] != b"*":
        return 0
    count, at = _take_number(data, 0, b"*")
    for _ in range(count):
        if at < 0 or at >= len(data):
            break
        size, start = _take_number(data, at, b"$")
        if start < 0:
            break
        at = start + size + 2
    return at
