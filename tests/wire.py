"""A client for tests that keeps everything a reply says: each type of the wire stays its own.

Ordinary clients fold a reply into what is handy (RESP3 sets into Python sets, `+OK` into `OK`);
here two replies are equal only when their types and texts are.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, TypeAlias

Argument: TypeAlias = bytes | str | int | float


@dataclass(frozen=True, slots=True)
class Simple:
    """`+text`."""

    text: bytes


@dataclass(frozen=True, slots=True)
class Error:
    """`-text`."""

    text: bytes


@dataclass(frozen=True, slots=True)
class Double:
    """`,text`, as it was written."""

    text: bytes


@dataclass(frozen=True, slots=True)
class Boolean:
    """`#t` or `#f`."""

    value: bool


@dataclass(frozen=True, slots=True)
class BigNumber:
    """`(text`."""

    text: bytes


@dataclass(frozen=True, slots=True)
class Verbatim:
    """`=length`, then a format of three letters, a colon and the text."""

    format: bytes
    text: bytes


@dataclass(frozen=True, slots=True)
class Null:
    """A null; `wire` tells the three apart: `$-1`, `*-1` (both RESP2) and `_`."""

    wire: bytes


@dataclass(frozen=True, slots=True)
class Map:
    """`%n`: the pairs in the order in which they came."""

    pairs: list[tuple[Reply, Reply]]


@dataclass(frozen=True, slots=True)
class Set:
    """`~n`: the members in the order in which they came."""

    members: list[Reply]


@dataclass(frozen=True, slots=True)
class Push:
    """`>n`: out of band."""

    items: list[Reply]


NULL_BULK: Final = Null(b"$-1")
NULL_ARRAY: Final = Null(b"*-1")
NULL: Final = Null(b"_")
OK: Final = Simple(b"OK")
QUEUED: Final = Simple(b"QUEUED")
PONG: Final = Simple(b"PONG")

# A bulk string is bytes, an integer int, an array list.
Reply: TypeAlias = (
    bytes
    | int
    | list["Reply"]
    | Simple
    | Error
    | Double
    | Boolean
    | BigNumber
    | Verbatim
    | Null
    | Map
    | Set
    | Push
)


class ProtocolViolation(Exception):
    """The server sent what is not RESP."""


class Closed(Exception):
    """The server closed the connection (before a whole reply was there)."""


def encode(arguments: Sequence[Argument]) -> bytes:
    """One request as a multi-bulk array."""
    parts = [b"*%d\r\n" % len(arguments)]
    for argument in arguments:
        text = to_bytes(argument)
        parts.append(b"$%d\r\n%s\r\n" % (len(text), text))
    return b"".join(parts)


def to_bytes(argument: Argument) -> bytes:
    """The text of an argument, as a client would send it."""
    if isinstance(argument, bytes):
        return argument
    if isinstance(argument, float):
        return repr(argument).encode()
    return str(argument).encode()


class Client:
    """One connection. Every wait has a limit: `TimeoutError` after `timeout` seconds."""

    def __init__(
        self, address: tuple[str, int] | str, *, protocol: int = 2, timeout: float = 20.0
    ) -> None:
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        self.socket.connect(address)
        if family == socket.AF_INET:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray()
        self._position = 0
        if protocol != 2:
            hello = self("HELLO", protocol)
            if isinstance(hello, Error):
                raise ProtocolViolation(f"HELLO {protocol}: {hello.text!r}")

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __call__(self, *arguments: Argument) -> Reply:
        """Send one request and read the next reply."""
        self.send(*arguments)
        return self.read()

    def send(self, *arguments: Argument) -> None:
        """Send one request; its reply is read later."""
        self.socket.sendall(encode(arguments))

    def send_raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(data)

    def pipeline(self, requests: list[list[bytes]]) -> list[Reply]:
        """Send all requests at once, then read as many replies."""
        self.socket.sendall(b"".join(encode(request) for request in requests))
        return [self.read() for _ in requests]

    def send_all(self, requests: Iterable[list[bytes]], at_once: int = 200) -> None:
        """Send all requests, so many at once; RuntimeError where one is refused."""
        rest = iter(requests)
        while batch := list(islice(rest, at_once)):
            for reply in self.pipeline(batch):
                if isinstance(reply, Error):
                    raise RuntimeError(f"refused: {reply.text!r}")

    def close(self) -> None:
        """Close; may be called again."""
        self.socket.close()

    def has_input(self, timeout: float = 0.0) -> bool:
        """Whether there is something to read (a closed connection is something) by then."""
        if self._position < len(self._buffer):
            return True
        return bool(select.select([self.socket], [], [], timeout)[0])

    def read_rest(self) -> bytes:
        """All bytes until the server closes the connection; raises TimeoutError if it does not."""
        rest = bytes(self._buffer[self._position :])
        self._buffer.clear()
        self._position = 0
        while True:
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                return rest
            if not data:
                return rest
            rest += data

    def read(self) -> Reply:
        """Read one whole reply (or push)."""
        reply = self._read_value()
        del self._buffer[: self._position]
        self._position = 0
        return reply

    def _fill(self) -> None:
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError as error:
            raise Closed("connection reset") from error
        if not data:
            raise Closed("connection closed")
        self._buffer += data

    def _read_line(self) -> bytes:
        start = self._position
        while (end := self._buffer.find(b"\r\n", start)) < 0:
            self._fill()
        self._position = end + 2
        return bytes(self._buffer[start:end])

    def _read_text(self, length: int) -> bytes:
        start = self._position
        end = start + length
        while len(self._buffer) < end + 2:
            self._fill()
        if self._buffer[end : end + 2] != b"\r\n":
            raise ProtocolViolation(f"a bulk of {length} bytes does not end in CRLF")
        self._position = end + 2
        return bytes(self._buffer[start:end])

    def _read_values(self, count: int) -> list[Reply]:
        return [self._read_value() for _ in range(count)]

    def _read_value(self) -> Reply:
        line = self._read_line()
        kind, rest = line[:1], line[1:]
        match kind:
            case b"$":
                return NULL_BULK if rest == b"-1" else self._read_text(_length(rest))
            case b":":
                return int(rest)
            case b"*":
                return NULL_ARRAY if rest == b"-1" else self._read_values(_length(rest))
            case b"+":
                return Simple(rest)
            case b"-":
                return Error(rest)
            case b"_" if not rest:
                return NULL
            case b"," if rest in (b"inf", b"-inf", b"nan") or _is_number(rest):
                return Double(rest)
            case b"#" if rest in (b"t", b"f"):
                return Boolean(rest == b"t")
            case b"(":
                int(rest)
                return BigNumber(rest)
            case b"=":
                text = self._read_text(_length(rest))
                if text[3:4] != b":":
                    raise ProtocolViolation(f"a verbatim string without a format: {text!r}")
                return Verbatim(text[:3], text[4:])
            case b"%":
                flat = self._read_values(2 * _length(rest))
                return Map(list(zip(flat[::2], flat[1::2], strict=True)))
            case b"~":
                return Set(self._read_values(_length(rest)))
            case b">":
                return Push(self._read_values(_length(rest)))
            case b"|":
                self._read_values(2 * _length(rest))
                return self._read_value()
            case _:
                raise ProtocolViolation(f"not the start of a reply: {line[:80]!r}")


def _length(text: bytes) -> int:
    if not text.isdigit():
        raise ProtocolViolation(f"not a length: {text[:80]!r}")
    return int(text)


def _is_number(text: bytes) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def render(reply: Reply) -> str:
    """A reply as one readable line, types included."""
    match reply:
        case bytes():
            return repr(reply)[1:] if len(reply) <= 200 else f"{reply[:200]!r}…({len(reply)})"[1:]
        case int():
            return str(reply)
        case list():
            return "[" + ", ".join(map(render, reply)) + "]"
        case Simple(text):
            return f"+{text.decode('latin-1')}"
        case Error(text):
            return f"-{text.decode('latin-1')}"
        case Double(text):
            return f",{text.decode('latin-1')}"
        case Boolean(value):
            return "#t" if value else "#f"
        case BigNumber(text):
            return f"({text.decode('latin-1')}"
        case Verbatim(form, text):
            return f"={form.decode('latin-1')}:{text!r}"
        case Null(wire):
            return wire.decode()
        case Map(pairs):
            return "%{" + ", ".join(f"{render(k)}: {render(v)}" for k, v in pairs) + "}"
        case Set(members):
            return "~{" + ", ".join(map(render, members)) + "}"
        case Push(items):
            return ">[" + ", ".join(map(render, items)) + "]"
