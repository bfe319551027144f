"""Clients that write at random, over the simulated network, and ask whether replicas have it."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final, Protocol

import hiredis
import trio

from node.resp import encode_request
from tests.simulation.histories import TOKEN_START, Token
from tests.simulation.machine import PORT, Machine
from tests.simulation.network import Network
from tests.simulation.sockets import Stream, open_stream

PATIENCE: Final = 5.0
KEYS: Final = 4
DATABASES: Final = 3


class Witness(Protocol):
    """Who judges what clients are told."""

    def target(self) -> Machine:
        """Where to write."""
        ...

    def begin_write(self, token: Token, machine: Machine) -> None:
        """The client is going to send a write that has this token."""
        ...

    def written(self, token: Token, machine: Machine) -> None:
        """The server says that the write is done."""
        ...

    def end_write(self, token: Token, replicas: int) -> None:
        """So many replicas have the write, says the server; -1 if it has not said."""
        ...

    def end_log_wait(self, token: Token, local: int, replicas: int) -> None:
        """The same, of append-only files: the server's own (1 or 0), and those of replicas."""
        ...


class Lost(Exception):
    """The connection is of no use any more."""


class Writer:
    """One client. It writes where ``witness`` says, until :meth:`stop`."""

    def __init__(
        self, name: str, network: Network, draw: random.Random, witness: Witness, pause: float
    ) -> None:
        self.name = name
        self.replies = 0
        self.refusals = 0
        self._network = network
        self._draw = draw
        self._witness = witness
        self._pause = pause
        self._stopped = False
        self._serial = 0
        self._reader = hiredis.Reader()

    def stop(self) -> None:
        """Write no more after the request that is under way."""
        self._stopped = True

    async def run(self) -> None:
        """Connect, and write; again and again."""
        while not self._stopped:
            machine = self._witness.target()
            stream: Stream | None = None
            try:
                with trio.fail_after(PATIENCE):
                    stream = await open_stream(self._network, self.name, machine.name, PORT)
                self._reader = hiredis.Reader()
                await self._converse(stream, machine)
            except (OSError, Lost, trio.TooSlowError, trio.BrokenResourceError):
                pass
            finally:
                if stream is not None:
                    await trio.aclose_forcefully(stream)
            await trio.sleep(self._draw.uniform(0.05, 0.5))

    async def _converse(self, stream: Stream, machine: Machine) -> None:
        """Write until the connection breaks, or another server is the master."""
        for _ in range(self._draw.randrange(10, 60)):
            if self._stopped or self._witness.target() is not machine:
                return
            if self._draw.random() < 0.3:
                await self._write_and_wait(stream, machine)
            else:
                count = self._draw.choice([1, 1, 2, 5])
                await self._ask(stream, [self._draw_request() for _ in range(count)])
            await trio.sleep(self._draw.expovariate(1 / self._pause))

    async def _ask(self, stream: Stream, requests: list[list[bytes]]) -> list[object]:
        """The replies. Raises Lost where there are none."""
        replies: list[object] = []
        with trio.fail_after(PATIENCE):
            await stream.send_all(b"".join(map(encode_request, requests)))
            while len(replies) < len(requests):
                reply = self._reader.gets()
                if reply is False:
                    data = await stream.receive_some()
                    if not data:
                        raise Lost
                    self._reader.feed(data)
                    continue
                replies.append(reply)
                self.replies += 1
                self.refusals += isinstance(reply, hiredis.ReplyError)
        return replies

    async def _write_and_wait(self, stream: Stream, machine: Machine) -> None:
        """Write something that can be recognized, and WAIT for replicas."""
        draw = self._draw
        self._serial += 1
        token = TOKEN_START + f"{self.name}:{self._serial}".encode()
        self._witness.begin_write(token, machine)
        answer: object = None
        try:
            write = [b"RPUSH", f"log:{self.name}".encode(), token]
            wait = self._draw_wait()
            pipelined = draw.random() < 0.5
            if pipelined:
                # What comes after WAIT is executed when that is over.
                rest = [self._draw_request() for _ in range(draw.choice([0, 0, 1, 3]))]
                written, waited, *_ = await self._ask(stream, [write, wait, *rest])
                if isinstance(written, int):
                    self._witness.written(token, machine)
            else:
                (written,) = await self._ask(stream, [write])
                if isinstance(written, int):
                    self._witness.written(token, machine)
                await trio.sleep(draw.choice([0, 0, 0.01, 0.2]))
                (waited,) = await self._ask(stream, [wait])
            if isinstance(written, int):
                answer = waited
        finally:
            if isinstance(answer, list):
                self._witness.end_log_wait(token, *answer)
            else:
                self._witness.end_write(token, answer if isinstance(answer, int) else -1)

    def _draw_wait(self) -> list[bytes]:
        draw = self._draw
        words = [b"%d" % draw.randrange(1, 4), b"%d" % draw.choice([50, 500, 3000])]
        if draw.random() < 0.3:
            return [b"WAITAOF", b"%d" % draw.randrange(2), *words]
        return [b"WAIT", *words]

    def _draw_request(self) -> list[bytes]:
        draw = self._draw
        return draw.choices(_REQUESTS, _WEIGHTS)[0](draw)


def _key(kind: str, draw: random.Random) -> bytes:
    return f"{kind}{draw.randrange(KEYS)}".encode()


def _number(draw: random.Random) -> bytes:
    return b"%d" % draw.randrange(1000)


def _set_large(draw: random.Random) -> list[bytes]:
    size = draw.choice([100, 3000, 12000])
    return [b"SET", _key("s", draw), bytes(draw.choices(b"abcdefgh", k=16)) * (size // 16)]


def _set_briefly(draw: random.Random) -> list[bytes]:
    return [b"SET", _key("s", draw), _number(draw), b"PX", b"%d" % draw.randrange(1, 3000)]


def _any_key(draw: random.Random) -> bytes:
    return _key(draw.choice("snlth"), draw)


Request = Callable[[random.Random], list[bytes]]
_TABLE: Final[list[tuple[float, Request]]] = [
    (4, lambda draw: [b"SET", _key("s", draw), _number(draw)]),
    (1, _set_large),
    (2, _set_briefly),
    (6, lambda draw: [b"INCR", _key("n", draw)]),
    (2, lambda draw: [b"INCRBY", _key("n", draw), _number(draw)]),
    (1, lambda draw: [b"APPEND", _key("s", draw), _number(draw)]),
    (2, lambda draw: [b"RPUSH", _key("l", draw), _number(draw), _number(draw)]),
    (3, lambda draw: [b"LPOP", _key("l", draw)]),
    (3, lambda draw: [b"SADD", _key("t", draw), _number(draw), b"word"]),
    (1, lambda draw: [b"SREM", _key("t", draw), b"word"]),
    (1, lambda draw: [b"SPOP", _key("t", draw)]),
    (3, lambda draw: [b"HSET", _key("h", draw), _number(draw), _number(draw)]),
    (1, lambda draw: [b"HINCRBY", _key("n", draw) + b"h", b"f", b"1"]),
    (2, lambda draw: [b"DEL", _any_key(draw), _any_key(draw)]),
    (2, lambda draw: [b"PEXPIRE", _any_key(draw), b"%d" % draw.randrange(1, 3000)]),
    (1, lambda draw: [b"PERSIST", _any_key(draw)]),
    (2, lambda draw: [b"GET", _key("s", draw)]),
    (1, lambda draw: [b"EXISTS", _any_key(draw), _any_key(draw)]),
    (2, lambda draw: [b"SELECT", b"%d" % draw.randrange(DATABASES)]),
    (2, lambda draw: [b"MULTI"]),
    (4, lambda draw: [b"EXEC"]),
    (0.5, lambda draw: [b"PUBLISH", b"channel", b"message"]),
    (0.3, lambda draw: [b"FLUSHDB"]),
    (0.1, lambda draw: [b"FLUSHALL"]),
]
_REQUESTS: Final = [request for _, request in _TABLE]
_WEIGHTS: Final = [weight for weight, _ in _TABLE]
