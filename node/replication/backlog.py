"""The recent end of a master's history, kept so that a replica that was away can go on reading.

Offsets count the bytes of the replication stream since it began. A position is the number of bytes
before it: ``end`` is what Redis calls ``master_repl_offset``, and a replica that has everything
up to ``end`` asks for byte ``end + 1`` in PSYNC. All readers, however many, read the same bytes
from here: each only remembers its position (Redis 7's shared replication buffer).
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

# Small writes are gathered to blocks of about this size.
BLOCK: Final = 16 * 1024


class Backlog:
    """Bytes ``start`` to ``end`` of the stream, at least the last ``size`` of them if there are.

    What a reader that lags behind still needs is kept beyond that: see :meth:`trim`.
    """

    __slots__ = ("size", "start", "end", "_blocks", "_positions", "_tail")

    def __init__(self, size: int, end: int = 0) -> None:
        self.size = size
        self.start = end
        self.end = end
        # Full blocks, the position that each begins at, and the block being filled.
        self._blocks: list[bytes] = []
        self._positions: list[int] = []
        self._tail = bytearray()

    def __len__(self) -> int:
        return self.end - self.start

    def append(self, data: bytes) -> None:
        """Add to the end of the history."""
        self._tail += data
        self.end += len(data)
        if len(self._tail) >= BLOCK:
            self._blocks.append(bytes(self._tail))
            self._positions.append(self.end - len(self._tail))
            self._tail.clear()

    def holds(self, position: int) -> bool:
        """Whether a reader that has everything before ``position`` can go on from here."""
        return self.start <= position <= self.end

    def read(self, position: int, limit: int) -> bytes:
        """Some bytes from ``position`` on, about ``limit`` at most; none at the end.

        ValueError for a position that is not held.
        """
        if not self.holds(position):
            raise ValueError(f"position {position} is not in {self.start}..{self.end}")
        tail_start = self.end - len(self._tail)
        if position >= tail_start:
            at = position - tail_start
            return bytes(self._tail[at : at + limit])
        i = bisect_right(self._positions, position) - 1
        at = position - self._positions[i]
        block = self._blocks[i]
        if at or len(block) > limit:
            return block[at : at + limit]
        parts = [block]
        taken = len(block)
        for block in self._blocks[i + 1 :]:
            if taken + len(block) > limit:
                break
            parts.append(block)
            taken += len(block)
        return b"".join(parts)

    def trim(self, needed: int) -> None:
        """Forget what is beyond ``size`` and before the position ``needed`` by any reader."""
        least = min(self.end - self.size, needed)
        count = 0
        while count < len(self._blocks):
            following = (
                self._positions[count + 1]
                if count + 1 < len(self._blocks)
                else self.end - len(self._tail)
            )
            if following > least:
                break
            self.start = following
            count += 1
        if count:
            del self._blocks[:count]
            del self._positions[:count]

    def resize(self, size: int) -> None:
        """Keep another number of bytes from now on; what is held goes at the next trim."""
        self.size = size

    @property
    def memory(self) -> int:
        """Bytes that it takes, about."""
        return self.end - self.start + 96 * (len(self._blocks) + 1)
