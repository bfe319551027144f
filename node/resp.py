"""The wire: requests in, replies out (RESP2, RESP3, inline commands).

Requests
    :class:`RequestParser` turns bytes as they come from a socket into argument lists. What there
    is of whole multi-bulk requests, and that is nearly all, :func:`take_requests` reads in one
    pass; anything else (inline commands, unfinished and damaged input) is read element by element
    as Redis's ``networking.c`` does it (processInlineBuffer, processMultibulkBuffer), limits and
    texts included.

Replies
    A handler returns plain Python values: ``bytes`` and ``bytearray`` (bulk string), ``int``,
    ``float`` (double), ``bool``, ``None`` (null), ``list`` (array), or one of the types below.
    :func:`encode` writes them for protocol 2 or 3.
"""

from __future__ import annotations

from itertools import chain
from typing import Any, Final

from librt.strings import BytesWriter
from mypy_extensions import i64

from node.values.number import format_double
from node.words import split_words

Reply = Any  # bytes | bytearray | int | float | bool | None | list | the types below

CRLF: Final = b"\r\n"


class Status:
    """A simple string; holds its own encoding, since nearly all are constants."""

    __slots__ = ("text", "wire")

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.wire = b"+" + text + CRLF


class Error:
    """An error as a value (inside EXEC's array, say). ``text`` starts with the code."""

    __slots__ = ("text",)

    def __init__(self, text: bytes) -> None:
        self.text = text


class Map:
    """A RESP3 map, in RESP2 a flat array; ``items`` alternates keys and values."""

    __slots__ = ("items",)

    def __init__(self, items: list[Reply]) -> None:
        self.items = items


class SetReply:
    """A RESP3 set, in RESP2 an array."""

    __slots__ = ("items",)

    def __init__(self, items: list[Reply]) -> None:
        self.items = items


class Push:
    """An out-of-band message in RESP3, in RESP2 an array."""

    __slots__ = ("items",)

    def __init__(self, items: list[Reply]) -> None:
        self.items = items


class Verbatim:
    """Text with a format of three letters; in RESP2 a bulk string."""

    __slots__ = ("format", "text")

    def __init__(self, text: bytes, format: bytes = b"txt") -> None:
        self.format = format
        self.text = text


class BigNumber:
    """An integer beyond 64 bits; in RESP2 a bulk string."""

    __slots__ = ("text",)

    def __init__(self, text: bytes) -> None:
        self.text = text


class Encoded:
    """Bytes that are already a reply (or several)."""

    __slots__ = ("wire",)

    def __init__(self, wire: bytes) -> None:
        self.wire = wire


class Constant:
    """A reply whose encoding depends on the protocol alone."""

    __slots__ = ("resp2", "resp3")

    def __init__(self, resp2: bytes, resp3: bytes) -> None:
        self.resp2 = resp2
        self.resp3 = resp3


OK: Final = Status(b"OK")
PONG: Final = Status(b"PONG")
QUEUED: Final = Status(b"QUEUED")
NULL_ARRAY: Final = Constant(b"*-1\r\n", b"_\r\n")
# The handler has nothing to send: it wrote by itself, or the client is blocked.
NO_REPLY: Final = Constant(b"", b"")


class ReplyError(Exception):
    """Raised by a handler to answer with an error. ``text`` starts with the code (ERR …)."""

    def __init__(self, text: bytes) -> None:
        super().__init__(text)
        self.text = text


CACHED_LENGTHS: Final = 2048
BULK_HEADS: Final = [b"$%d\r\n" % n for n in range(CACHED_LENGTHS)]
_BULK_LENGTHS: Final = [b"$%d" % n for n in range(CACHED_LENGTHS)]
_INTEGERS: Final = [b":%d\r\n" % n for n in range(CACHED_LENGTHS)]
_ARRAY_HEADS: Final = [b"*%d\r\n" % n for n in range(CACHED_LENGTHS)]


def encode(reply: Reply, protocol: int) -> bytes:
    """The bytes of ``reply`` in RESP ``protocol`` (2 or 3)."""
    kind = type(reply)
    if kind is bytes:
        size = len(reply)
        if size < CACHED_LENGTHS:
            return BULK_HEADS[size] + reply + CRLF  # type: ignore[no-any-return]
        return b"$%d\r\n%b\r\n" % (size, reply)
    if kind is int:
        if 0 <= reply < CACHED_LENGTHS:
            return _INTEGERS[reply]
        return b":%d\r\n" % reply
    if kind is Status:
        return reply.wire  # type: ignore[no-any-return]
    if reply is None:
        return b"$-1\r\n" if protocol == 2 else b"_\r\n"
    if kind is list:
        return _encode_items(b"*%d\r\n" % len(reply), reply, protocol)
    return _encode_rare(reply, kind, protocol)


def _encode_items(start: bytes, items: list[Reply], protocol: int) -> bytes:
    """``start`` and the concatenated encodings of ``items``."""
    if not items:
        return start
    # Arrays of short strings are the common case, and a join of two interleaved lists the
    # fastest way to write one, unless all are of one length; whatever else is inside makes one of
    # these calls raise.
    size = _find_length(items)
    if size >= 0:
        head = BULK_HEADS[size]
        return b"%b%b%b\r\n" % (start, head, (CRLF + head).join(items))
    try:
        sizes = list(map(len, items))
        parts: list[bytes] = [b""] * (2 * len(items) + 1)
        parts[0:-1:2] = map(_BULK_LENGTHS.__getitem__, sizes)
        parts[1::2] = items
        parts[0] = start + parts[0]
        return CRLF.join(parts)
    except (TypeError, IndexError):
        return start + b"".join([encode(item, protocol) for item in items])


def _find_length(items: list[Reply]) -> int:
    """The length that all ``items`` have, if they are short strings of one length, otherwise -1."""
    first = items[0]
    if type(first) is not bytes or len(first) >= CACHED_LENGTHS:
        return -1
    size = len(first)
    for item in items:
        if type(item) is not bytes or len(item) != size:
            return -1
    return size


def _encode_rare(reply: Reply, kind: type, protocol: int) -> bytes:
    if kind is bytearray:
        return b"$%d\r\n%b\r\n" % (len(reply), reply)
    if kind is bool:
        if protocol == 2:
            return b":1\r\n" if reply else b":0\r\n"
        return b"#t\r\n" if reply else b"#f\r\n"
    if kind is float:
        text = format_double(reply)
        return b"$%d\r\n%b\r\n" % (len(text), text) if protocol == 2 else b",%b\r\n" % text
    if kind is Error:
        return encode_error(reply.text)
    if kind is Constant:
        return reply.resp2 if protocol == 2 else reply.resp3  # type: ignore[no-any-return]
    if kind is Encoded:
        return reply.wire  # type: ignore[no-any-return]
    if kind is Verbatim:
        if protocol == 2:
            return b"$%d\r\n%b\r\n" % (len(reply.text), reply.text)
        return b"=%d\r\n%b:%b\r\n" % (len(reply.text) + 4, reply.format, reply.text)
    if kind is BigNumber:
        if protocol == 2:
            return b"$%d\r\n%b\r\n" % (len(reply.text), reply.text)
        return b"(%b\r\n" % reply.text
    items = reply.items
    if protocol == 2:
        start = b"*%d\r\n" % len(items)
    elif kind is Map:
        start = b"%%%d\r\n" % (len(items) // 2)
    elif kind is SetReply:
        start = b"~%d\r\n" % len(items)
    else:
        assert kind is Push, kind
        start = b">%d\r\n" % len(items)
    return _encode_items(start, items, protocol)


def encode_error(text: bytes) -> bytes:
    """An error line; line breaks in it become spaces, as in Redis's afterErrorReply."""
    if b"\n" in text or b"\r" in text:
        text = text.replace(b"\r", b" ").replace(b"\n", b" ")
    return b"-" + text + CRLF


def encode_request(argv: list[bytes]) -> bytes:
    """A request (or a line of the command log) as a multi-bulk array of bulk strings."""
    out = BytesWriter()
    count: i64 = len(argv)
    out.write(_ARRAY_HEADS[count] if count < CACHED_LENGTHS else b"*%d\r\n" % count)
    for word in argv:
        size: i64 = len(word)
        out.write(BULK_HEADS[size] if size < CACHED_LENGTHS else b"$%d\r\n" % size)
        out.write(word)
        out.write(CRLF)
    return out.getvalue()


def take_requests(data: bytes, bulk_limit: int, requests: list[list[bytes]]) -> int:
    """Append the multi-bulk requests that ``data`` begins with; where the first other thing is.

    That may be an unfinished request, one that is empty, or any that is not in its canonical form.
    Compiled, this takes half the time of a general parser in C: what is read is an argument list.
    """
    largest: i64 = bulk_limit
    end: i64 = len(data)
    begin: i64 = 0
    while begin < end:
        at: i64 = begin + 1
        if data[begin] != 42:  # *
            break
        count: i64 = 0
        start: i64 = at
        while at < end:
            digit: i64 = data[at] - 48
            if digit < 0 or digit > 9:
                break
            count = count * 10 + digit
            at += 1
        # Counts of more digits go the slow way.
        if count == 0 or at - start > 7 or at + 1 >= end or data[at] != 13 or data[start] == 48:
            break
        at += 2
        argv: list[bytes] = []
        while count > 0:
            if at >= end or data[at] != 36:  # $
                return begin
            at += 1
            size: i64 = 0
            start = at
            while at < end:
                digit = data[at] - 48
                if digit < 0 or digit > 9:
                    break
                size = size * 10 + digit
                at += 1
            if (
                at == start
                or at - start > 10
                or at + 1 >= end
                or data[at] != 13
                or (data[start] == 48 and at - start > 1)
                or size > largest
            ):
                return begin
            start = at + 2
            at = start + size + 2
            if at > end:
                return begin
            argv.append(data[start : start + size])
            count -= 1
        requests.append(argv)
        begin = at
    return begin


INLINE_LIMIT: Final = 64 * 1024  # PROTO_INLINE_MAX_SIZE
COUNT_LIMIT: Final = 2**31 - 1
# Before a client has authenticated (Redis's limits since 6.2.6).
STRANGER_COUNT_LIMIT: Final = 10
STRANGER_BULK_LIMIT: Final = 16384


class RequestParser:
    """Requests of one connection.

    :meth:`feed` returns the requests completed by the new bytes. After a protocol error ``error``
    is its text (without "ERR "), the requests before it are still returned, and nothing more
    must be fed. ``size`` is about the number of bytes held for an unfinished request.

    While ``stranger`` is set, smaller limits hold and at most one request is returned, since it
    may be the one that ends this; :meth:`take_rest` gives the bytes after it, to be fed again.
    """

    __slots__ = (
        "error",
        "size",
        "bulk_limit",
        "stranger",
        "_held",
        "_held_size",
        "_need",
        "_argv",
        "_missing",
        "_rest",
    )

    def __init__(self, bulk_limit: int = 512 * 1024 * 1024) -> None:
        self.error: bytes | None = None
        self.size = 0
        self.bulk_limit = bulk_limit
        self.stranger = False
        # Bytes of an unfinished element, and how many it takes before looking again makes sense.
        self._held: list[bytes] = []
        self._held_size = 0
        self._need = 0
        # The elements of an unfinished request that are complete, and how many are missing.
        self._argv: list[bytes] = []
        self._missing = 0
        self._rest = b""

    def take_rest(self) -> bytes:
        """The bytes after a stranger's request."""
        rest = self._rest
        self._rest = b""
        return rest

    def feed(self, data: bytes) -> list[list[bytes]]:
        """The requests that ``data`` completes, in order; each has at least one element."""
        requests: list[list[bytes]] = []
        if self.size:
            self.size += len(data)
            if self._held:
                self._held.append(data)
                self._held_size += len(data)
                if self._held_size < self._need:
                    return requests
                data = b"".join(self._held)
                self._held = []
            at = self._parse(data, requests, True)
            if at < 0:
                return requests
            self.size = 0
            if at == len(data):
                return requests
            data = data[at:]
        if self.stranger:
            at = 0 if requests else self._parse(data, requests, True)
            self._rest = data[at:] if at >= 0 else b""
            return requests
        at = take_requests(data, self.bulk_limit, requests)
        if at < len(data):
            self._parse(data[at:], requests, False)
        return requests

    def _parse(self, data: bytes, requests: list[list[bytes]], once: bool) -> int:
        """Read ``data`` as Redis does, byte for byte, into ``requests``.

        Stops at the end of ``data``, or with ``once`` after the first request. Returns where it
        stopped at a boundary between requests, or -1 with the rest held, or ``error`` set.
        """
        at = 0
        end = len(data)
        while at < end:
            after = self._parse_element(data, at)
            if after < 0:
                if self.error is None:
                    self._held = [data[at:]]
                    self._held_size = end - at
                    self.size = max(self.size, end)
                return -1
            at = after
            if self._missing == 0:
                if self._argv:
                    requests.append(self._argv)
                    self._argv = []
                if once:
                    return at
        if self._missing:
            self.size = max(self.size, end)
            return -1
        return at

    def _parse_element(self, data: bytes, at: int) -> int:
        """Take one header, bulk or inline line at ``data[at:]``; its end, or -1.

        -1 means that the element is unfinished (``_need`` bytes are needed) or ``error`` is set.
        """
        self._need = 0
        if self._missing:
            return self._parse_bulk(data, at)
        if data[at] != 42:  # *
            return self._parse_inline(data, at)
        line_end = data.find(b"\r", at)
        if line_end < 0 or line_end + 1 >= len(data):
            if len(data) - at > INLINE_LIMIT:
                self.error = b"Protocol error: too big mbulk count string"
            return -1
        count = _parse_length(data[at + 1 : line_end])
        if count is None or count > COUNT_LIMIT:
            self.error = b"Protocol error: invalid multibulk length"
            return -1
        if self.stranger and count > STRANGER_COUNT_LIMIT:
            self.error = b"Protocol error: unauthenticated multibulk length"
            return -1
        self._missing = max(count, 0)
        return line_end + 2

    def _parse_bulk(self, data: bytes, at: int) -> int:
        line_end = data.find(b"\r", at)
        if line_end < 0 or line_end + 1 >= len(data):
            if len(data) - at > INLINE_LIMIT:
                self.error = b"Protocol error: too big bulk count string"
            return -1
        if data[at] != 36:  # $
            self.error = b"Protocol error: expected '$', got '%c'" % data[at]
            return -1
        size = _parse_length(data[at + 1 : line_end])
        if size is None or size < 0 or size > self.bulk_limit:
            self.error = b"Protocol error: invalid bulk length"
            return -1
        if self.stranger and size > STRANGER_BULK_LIMIT:
            self.error = b"Protocol error: unauthenticated bulk length"
            return -1
        start = line_end + 2
        after = start + size + 2
        if after > len(data):
            self._need = after - at
            return -1
        self._argv.append(data[start : start + size])
        self._missing -= 1
        return after

    def _parse_inline(self, data: bytes, at: int) -> int:
        line_end = data.find(b"\n", at)
        if line_end < 0:
            if len(data) - at > INLINE_LIMIT:
                self.error = b"Protocol error: too big inline request"
            return -1
        line = data[at:line_end]
        if line.endswith(b"\r"):
            line = line[:-1]
        argv = split_words(line)
        if argv is None:
            self.error = b"Protocol error: unbalanced quotes in request"
            return -1
        self._argv = argv
        return line_end + 1


_BULK_SIZES: Final = [n + len(b"%d" % n) + 5 for n in range(CACHED_LENGTHS)]


def wire_size(requests: list[list[bytes]]) -> int:
    """Bytes that ``requests`` took on the wire, in their canonical form."""
    lengths = list(map(len, chain.from_iterable(requests)))
    counts = list(map(len, requests))
    try:
        size = sum(map(_BULK_SIZES.__getitem__, lengths))
        return size + sum(map(_BULK_SIZES.__getitem__, counts)) - sum(counts) - 2 * len(counts)
    except IndexError:
        size = sum(n + len(b"%d" % n) + 5 for n in lengths)
        return size + sum(len(b"%d" % n) + 3 for n in counts)


def _parse_length(text: bytes) -> int | None:
    """A count or length as Redis's string2ll reads it; None when it is no such number."""
    if not text or len(text) > 20:
        return None
    if text == b"0":
        return 0
    digits = text[1:] if text[:1] == b"-" else text
    if not digits.isdigit() or digits[:1] == b"0":
        return None
    return int(text)
