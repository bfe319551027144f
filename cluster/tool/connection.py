"""A small client: requests out, replies in, many at once."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import hiredis
import trio

from cluster.tool.errors import Unreachable
from node.network import Network
from node.resp import encode_request

WINDOW: Final = 256
"""Requests that are under way at once, so that neither side has to hold all of a long list."""
RECEIVE_SIZE: Final = 65536

Word = bytes | str | int
# bytes (also for simple strings) | int | None | list | ErrorReply
Reply = Any


class Address(NamedTuple):
    """Where a node listens."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class Credentials(NamedTuple):
    """What a client shows; no password: none is asked for. Without a user it is the default one."""

    user: str = ""
    password: str = ""

    def words(self) -> list[str]:
        """AUTH's arguments."""
        if not self.password:
            return []
        return [self.user, self.password] if self.user else [self.password]

    def migrate_words(self) -> list[str]:
        """MIGRATE's arguments for the same."""
        if not self.password:
            return []
        if self.user:
            return ["AUTH2", self.user, self.password]
        return ["AUTH", self.password]


class ErrorReply(Exception):
    """An error as a node's answer: a value in pipelines, raised by :meth:`Connection.call`."""

    @property
    def text(self) -> str:
        """The whole line."""
        return str(self.args[0])

    @property
    def code(self) -> str:
        """Its first word."""
        return self.text.partition(" ")[0]


def parse_address(text: str) -> Address:
    """`host:port`, `[v6]:port` or `v6:port`, also with the bus port behind an `@`.

    Raises ValueError.
    """
    host, colon, port = text.partition("@")[0].rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"'{text}' is not host:port")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    return Address(host, int(port))


async def resolve_host(host: str) -> str:
    """The address of a name, since CLUSTER MEET takes no names. Raises Unreachable."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        return host
    try:
        found = await trio.socket.getaddrinfo(host, None, type=trio.socket.SOCK_STREAM)
    except OSError as error:
        raise Unreachable(f"{host}: {error.strerror or error}") from None
    # Most clusters are addressed by IPv4, where a name has both.
    found.sort(key=lambda entry: entry[0] != trio.socket.AF_INET)
    return str(found[0][4][0])


def _explain(error: Exception) -> str:
    """What has happened to a connection, without the address, which others add."""
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return str(error) or "connection lost"


def encode_words(words: Sequence[Word]) -> bytes:
    """One request."""
    return encode_request([w if isinstance(w, bytes) else str(w).encode() for w in words])


class Connection:
    """One connection for one task at a time; made when it is needed, and again after a failure.

    ``timeout`` is in seconds and bounds each wait for a reply. All methods raise Unreachable,
    after which the connection is closed.
    """

    def __init__(
        self, network: Network, address: Address, credentials: Credentials, timeout: float
    ) -> None:
        self.address = address
        self._network = network
        self._credentials = credentials
        self._timeout = timeout
        self._stream: trio.abc.Stream | None = None
        self._reader = hiredis.Reader(replyError=ErrorReply)

    async def connect(self) -> None:
        """Have it open before anything is sent: what fails here has not been done."""
        with trio.move_on_after(self._timeout) as scope:
            try:
                await self._open()
            except (OSError, trio.BrokenResourceError, hiredis.ProtocolError) as error:
                self.close()
                raise Unreachable(f"{self.address}: {_explain(error)}") from None
            except BaseException:
                self.close()
                raise
        if scope.cancelled_caught:
            raise Unreachable(f"{self.address}: no connection within {self._timeout:g} s")

    async def call(self, *words: Word, patience: float = 0.0) -> Reply:
        """Send a request; its reply. Raises ErrorReply.

        ``patience`` is how many seconds longer than usual it may take.
        """
        reply = (await self.pipeline([words], patience=patience))[0]
        if isinstance(reply, ErrorReply):
            raise reply
        return reply

    async def pipeline(
        self, requests: Iterable[Sequence[Word]], patience: float = 0.0
    ) -> list[Reply]:
        """Send requests and read as many replies, errors among them as values."""
        queue = [encode_words(words) for words in requests]
        replies: list[Reply] = []
        for start in range(0, len(queue), WINDOW):
            part = queue[start : start + WINDOW]
            with trio.move_on_after(self._timeout + patience) as scope:
                try:
                    await self._open()
                    assert self._stream is not None
                    await self._stream.send_all(b"".join(part))
                    replies += [await self._read() for _ in part]
                except (OSError, trio.BrokenResourceError, hiredis.ProtocolError) as error:
                    self.close()
                    raise Unreachable(f"{self.address}: {_explain(error)}") from None
                except BaseException:
                    self.close()
                    raise
            if scope.cancelled_caught:
                limit = self._timeout + patience
                raise Unreachable(f"{self.address}: no answer within {limit:g} s")
        return replies

    async def receive(self, patience: float = 0.0) -> bytes:
        """Some bytes that are no reply (a snapshot's)."""
        await self._open()
        assert self._stream is not None
        try:
            with trio.fail_after(self._timeout + patience):
                data = await self._stream.receive_some(RECEIVE_SIZE)
        except trio.TooSlowError:
            self.close()
            raise Unreachable(f"{self.address}: no data within {self._timeout:g} s") from None
        except (OSError, trio.BrokenResourceError) as error:
            self.close()
            raise Unreachable(f"{self.address}: {_explain(error)}") from None
        if not data:
            self.close()
            raise Unreachable(f"{self.address}: connection closed")
        return bytes(data)

    async def send(self, *words: Word) -> None:
        """Send a request whose reply is none that :meth:`call` could read."""
        await self._open()
        assert self._stream is not None
        await self._stream.send_all(encode_words(words))

    def close(self) -> None:
        """Close at once; may be called again."""
        stream, self._stream = self._stream, None
        self._reader = hiredis.Reader(replyError=ErrorReply)
        if isinstance(stream, trio.SocketStream):
            stream.socket.close()

    async def _open(self) -> None:
        if self._stream is not None:
            return
        self._stream = await self._network.connect(self.address.host, self.address.port)
        words = self._credentials.words()
        if words:
            await self._stream.send_all(encode_words(["AUTH", *words]))
            reply = await self._read()
            if isinstance(reply, ErrorReply):
                raise OSError(f"authentication failed: {reply.text}")

    async def _read(self) -> Reply:
        assert self._stream is not None
        while (reply := self._reader.gets()) is False:
            data = await self._stream.receive_some(RECEIVE_SIZE)
            if not data:
                raise OSError("connection closed")
            self._reader.feed(bytes(data))
        return reply
