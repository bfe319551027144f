"""The snapshot that a master sends at the beginning of a full synchronization.

It comes as ``$<length>`` and so many bytes (from a file), or as ``$EOF:<mark>`` and bytes until the
mark of 40 bytes (written straight to the socket, when nobody knew the length before). Empty lines
ahead of it are signs of life while the snapshot is being made. What follows it is the stream.
(``readSyncBulkPayload`` in Redis's replication.c.)
"""

from __future__ import annotations

from typing import Final

MARK_LENGTH: Final = 40
# More than any header there is.
HEADER_LIMIT: Final = 128


class PayloadError(Exception):
    """What comes is no snapshot; the text is for the log."""


class Payload:
    """Finds a snapshot in what a master sends.

    Feed it what comes in, and hand on what :meth:`feed` returns; once ``complete`` is set, ``rest``
    is what has come of the stream. ``length`` is -1 while unknown, or where there is a mark;
    ``received`` counts the snapshot's bytes.
    """

    __slots__ = ("length", "received", "complete", "rest", "_mark", "_held")

    def __init__(self) -> None:
        self.length = -1
        self.received = 0
        self.complete = False
        self.rest = b""
        self._mark = b""
        self._held = b""

    @property
    def begun(self) -> bool:
        """Whether the header has been read."""
        return self.length >= 0 or bool(self._mark)

    @property
    def streamed(self) -> bool:
        """Whether it ends with a mark (a diskless master)."""
        return bool(self._mark)

    def feed(self, data: bytes) -> bytes:
        """Take some bytes; those of the snapshot among them. Raises PayloadError."""
        assert not self.complete
        if not self.begun:
            data = self._read_header(self._held + data)
            if not self.begun:
                return b""
        return self._take_streamed(data) if self._mark else self._take_counted(data)

    def _read_header(self, data: bytes) -> bytes:
        """Find the header; what comes after it."""
        data = data.lstrip(b"\r\n")
        line, found, rest = data.partition(b"\n")
        if not found:
            if len(data) > HEADER_LIMIT:
                raise PayloadError(_bad_protocol(data[:HEADER_LIMIT]))
            self._held = data
            return b""
        self._held = b""
        line = line.removesuffix(b"\r")
        if line.startswith(b"-"):
            text = line[1:].decode(errors="replace")
            raise PayloadError(f"MASTER aborted replication with an error: {text}")
        if line.startswith(b"$EOF:") and len(line) == 5 + MARK_LENGTH:
            self._mark = line[5:]
        elif line.startswith(b"$") and line[1:].isdigit() and len(line) < 20:
            self.length = int(line[1:])
        else:
            raise PayloadError(_bad_protocol(line))
        return rest

    def _take_counted(self, data: bytes) -> bytes:
        missing = self.length - self.received
        found = data[:missing]
        self.received += len(found)
        if self.received == self.length:
            self.complete = True
            self.rest = data[missing:]
        return found

    def _take_streamed(self, data: bytes) -> bytes:
        data = self._held + data
        at = data.find(self._mark)
        if at >= 0:
            self.complete = True
            self.rest = data[at + MARK_LENGTH :]
            self._held = b""
            found = data[:at]
        else:
            # The last bytes may be the beginning of the mark.
            keep = max(0, len(data) - MARK_LENGTH + 1)
            found, self._held = data[:keep], data[keep:]
        self.received += len(found)
        return found


def _bad_protocol(line: bytes) -> str:
    return (
        "Bad protocol from MASTER, the first byte is not '$' (we received "
        f"'{line.decode(errors='replace')}'), are you sure the host and port are right?"
    )
