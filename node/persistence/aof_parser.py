"""Reads the commands of an append-only file, and knows at which byte each ends.

A log is a sequence of requests as clients send them (arrays of bulk strings) with lines between
them that begin with `#` and mean nothing here (times). Form after Redis's
``loadSingleAppendOnlyFile`` (aof.c), as strict as redis-check-aof. Nothing here touches a disk.
"""

from __future__ import annotations

import re
from typing import Final

CACHED: Final = 10000
LINE_LIMIT: Final = 128
"""Bytes of the longest header."""

_HEADERS: Final = {b"%d\r" % number: number for number in range(CACHED)}
_NUMBER: Final = re.compile(rb"[0-9]{1,18}\r?\Z")


class FormatError(Exception):
    """Bytes that are no commands; ``offset`` is that of the first wrong one in the file."""

    def __init__(self, reason: str, offset: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.offset = offset


class AofParser:
    """Requests of one file, fed in portions.

    total    length of the file in bytes
    offset   where the parser begins; then the end of the last request or comment that is complete
    ends     for each request that :meth:`feed` has just returned, the byte after it
    short    whether a string would end beyond the end of the file: feeding more is of no use
    """

    __slots__ = ("total", "offset", "ends", "short", "_held", "_held_size", "_need")

    def __init__(self, total: int, offset: int = 0) -> None:
        self.total = total
        self.offset = offset
        self.ends: list[int] = []
        self.short = False
        self._held: list[bytes] = []
        self._held_size = 0
        self._need = 0

    def feed(self, data: bytes) -> list[list[bytes]]:
        """The requests that ``data`` completes, though maybe later: see :meth:`finish`.

        Raises FormatError. Requests before the wrong byte are lost then.
        """
        if self._held_size:
            self._held.append(data)
            self._held_size += len(data)
            if self._held_size < self._need:
                self.ends = []
                return []
            data = b"".join(self._held)
        return self._parse(data)

    def finish(self) -> list[list[bytes]]:
        """The requests that are complete in what is held, at the end of the file."""
        return self._parse(b"".join(self._held))

    def _parse(self, data: bytes) -> list[list[bytes]]:
        requests: list[list[bytes]] = []
        ends: list[int] = []
        base = self.offset
        size = len(data)
        at = 0
        self._need = 0
        while at < size:
            first = data[at]
            if first == 35:  # #
                line_end = data.find(b"\n", at)
                if line_end < 0:
                    break
                at = line_end + 1
                continue
            if first != 42:  # *
                raise FormatError("Expected a command, which begins with '*'", base + at)
            argv: list[bytes] = []
            after = self._read_request(data, at, base, argv)
            if after < 0:
                break
            at = after
            requests.append(argv)
            ends.append(base + at)
        self.offset = base + at
        self.ends = ends
        if at < size:
            rest = data[at:]
            self._held = [rest]
            self._held_size = len(rest)
            # A long request is not read again from its start for each portion of it.
            self._need = max(self._need - at, 2 * len(rest))
        else:
            self._held = []
            self._held_size = 0
        return requests

    def _read_request(self, data: bytes, at: int, base: int, argv: list[bytes]) -> int:
        """Read a request into ``argv``; where it ends, or -1 if it does not yet."""
        line_end = data.find(b"\n", at)
        if line_end < 0:
            if len(data) - at > LINE_LIMIT:
                raise FormatError("Expected the number of arguments", base + at + 1)
            return -1
        count = _read_number(data[at + 1 : line_end])
        if count < 1:
            raise FormatError("Expected the number of arguments", base + at + 1)
        at = line_end + 1
        size = len(data)
        for _ in range(count):
            if at >= size:
                return -1
            if data[at] != 36:  # $
                raise FormatError("Expected an argument, which begins with '$'", base + at)
            line_end = data.find(b"\n", at)
            if line_end < 0:
                if size - at > LINE_LIMIT:
                    raise FormatError("Expected the length of an argument", base + at + 1)
                return -1
            length = _read_number(data[at + 1 : line_end])
            if length < 0:
                raise FormatError("Expected the length of an argument", base + at + 1)
            at = line_end + 1
            end = at + length
            if end + 2 > size:
                if base + end + 2 > self.total:
                    self.short = True
                self._need = end + 2
                return -1
            if data[end] != 13 or data[end + 1] != 10:
                raise FormatError("Expected the end of a line after an argument", base + end)
            argv.append(data[at:end])
            at = end + 2
        return at


def _read_number(text: bytes) -> int:
    """A count or length with the CR after it; -1 when it is none."""
    number = _HEADERS.get(text)
    if number is not None:
        return number
    return int(text) if _NUMBER.match(text) is not None else -1
