"""Numbers made of counters: rates over the last moments, percentiles out of histograms.

A command's histogram (:class:`node.command.Command`) counts calls by powers of two of nanoseconds.
What lies between two powers is taken as evenly spread.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

SAMPLES: Final = 16
PERIOD_NS: Final = 100_000_000


class Rate:
    """How fast a counter has grown lately: the mean of the last 16 samples, in units a second.

    Redis's ``trackInstantaneousMetric``: a sample covers about 100 ms, and samples that do not
    exist yet count as 0. What comes later than that counts for all the samples that are missing.
    """

    __slots__ = ("_samples", "_at", "_last", "_last_ns")

    def __init__(self) -> None:
        self._samples = [0.0] * SAMPLES
        self._at = 0
        self._last = 0
        self._last_ns = 0

    def sample(self, count: int, now_ns: int) -> None:
        """The counter stands at ``count`` now."""
        passed = now_ns - self._last_ns
        if self._last_ns and passed > 0:
            # A counter that was reset starts from 0 again.
            grown = count - self._last if count >= self._last else count
            for _ in range(min(max(1, (passed + PERIOD_NS // 2) // PERIOD_NS), SAMPLES)):
                self._samples[self._at] = grown * 1e9 / passed
                self._at = (self._at + 1) % SAMPLES
        self._last = count
        self._last_ns = now_ns

    def mean(self) -> float:
        """Units a second."""
        return sum(self._samples) / SAMPLES


def percentile(histogram: Sequence[int], share: float, total_ns: int) -> float:
    """The time in nanoseconds that ``share`` percent of the calls took at most.

    ``total_ns`` is the sum over all calls: a single call is known exactly, and no call can have
    taken longer than all together.
    """
    calls = sum(histogram)
    if calls == 0:
        return 0.0
    if calls == 1:
        return float(total_ns)
    wanted = max(1.0, calls * share / 100)
    passed = 0
    for power, count in enumerate(histogram):
        if count and passed + count >= wanted:
            low = (1 << power) >> 1
            high = 1 << power
            return min(low + (high - low) * (wanted - passed) / count, float(total_ns))
        passed += count
    return float(total_ns)


def distribution(histogram: Sequence[int]) -> list[tuple[int, int]]:
    """(microseconds, calls that took at most as long): LATENCY HISTOGRAM's map.

    Bounds are Redis's: powers of two of 1024 ns, as its histogram of two digits rounds them up, in
    whole microseconds; a bound below which nothing was added is left out.
    """
    found: list[tuple[int, int]] = []
    passed = 0
    for power, count in enumerate(histogram):
        passed += count
        if power < 10 or not passed:
            continue
        if not found or passed > found[-1][1]:
            bound = 1 << power
            found.append(((bound + (bound >> 7) - 1) // 1000, passed))
    return found
