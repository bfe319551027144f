"""How keys are cut into MIGRATE requests.

The source and the target do nothing else while a MIGRATE lasts. So what is sent at once (a round)
is bounded by bytes and by count, and the count follows from how long the last rounds took: a round
of small keys holds hundreds of them, and a key that is larger than a round goes alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

ROUND_SECONDS: Final = 0.01
"""How long a round should last at most: others wait as long."""
FIRST_COUNT: Final = 32
MOST_KEYS: Final = 1000
ROUND_BYTES: Final = 512 * 1024


@dataclass(frozen=True, slots=True)
class Batch:
    """Keys of one slot, for one MIGRATE."""

    slot: int
    keys: tuple[bytes, ...]


class Sizer:
    """How many keys a round has: more while rounds are short, fewer when they get long."""

    __slots__ = ("count", "_most")

    def __init__(self, most: int = MOST_KEYS) -> None:
        self._most = most
        self.count = min(FIRST_COUNT, most)

    def learn(self, keys: int, seconds: float) -> None:
        """A round of so many keys took so long."""
        if seconds > ROUND_SECONDS:
            self.count = max(1, min(self.count, keys) // 2)
        elif keys >= self.count and seconds < ROUND_SECONDS / 2:
            self.count = min(self._most, self.count * 2)


def cut_round(
    waiting: list[Batch], sizes: Mapping[bytes, int], most_keys: int, most_bytes: int = ROUND_BYTES
) -> list[Batch]:
    """Take the next round off the front of what waits; at least one key of it.

    A key whose size nobody knows counts as nothing.
    """
    taken: list[Batch] = []
    count = 0
    size = 0
    while waiting:
        batch = waiting[0]
        fit = 0
        for key in batch.keys:
            bytes_ = sizes.get(key, 0)
            if count and (count >= most_keys or size + bytes_ > most_bytes):
                break
            count += 1
            size += bytes_
            fit += 1
        if fit:
            taken.append(Batch(batch.slot, batch.keys[:fit]))
        if fit < len(batch.keys):
            waiting[0] = Batch(batch.slot, batch.keys[fit:])
            break
        waiting.pop(0)
    return taken


def make_batches(keys: Mapping[int, Sequence[bytes]]) -> list[Batch]:
    """One batch for each slot that has keys."""
    return [Batch(slot, tuple(found)) for slot, found in keys.items() if found]
