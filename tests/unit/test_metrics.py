"""Rates, percentiles, distributions, pictures of numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.metrics import PERIOD_NS, SAMPLES, Rate, distribution, percentile
from node.sparkline import draw
from node.usage import human_size


def histogram(*nanoseconds: int) -> list[int]:
    """What a command counts for calls that took so long."""
    counts = [0] * 65
    for taken in nanoseconds:
        counts[taken.bit_length()] += 1
    return counts


def test_rate_is_the_mean_of_the_samples() -> None:
    rate = Rate()
    for turn in range(SAMPLES + 1):
        rate.sample(50 * turn, 1 + turn * PERIOD_NS)
    assert rate.mean() == pytest.approx(500)


def test_rate_begins_at_nothing_and_survives_a_reset_counter() -> None:
    rate = Rate()
    rate.sample(1000, 1)
    assert rate.mean() == 0
    rate.sample(1100, 1 + PERIOD_NS)
    assert rate.mean() == pytest.approx(1000 / SAMPLES)
    rate.sample(40, 1 + 2 * PERIOD_NS)
    assert rate.mean() == pytest.approx((1000 + 400) / SAMPLES)


def test_a_late_sample_counts_for_those_that_are_missing() -> None:
    rate = Rate()
    rate.sample(0, 1)
    rate.sample(100, 1 + PERIOD_NS)
    rate.sample(150, 1 + 6 * PERIOD_NS)
    assert rate.mean() == pytest.approx((1000 + 5 * 100) / SAMPLES)
    rate.sample(150, 1 + 600 * PERIOD_NS)
    assert rate.mean() == 0


def test_a_single_call_is_known_exactly() -> None:
    assert percentile(histogram(5000), 99, 5000) == 5000
    assert percentile(histogram(), 99, 0) == 0


@given(
    calls=st.lists(st.integers(1, 10**10), min_size=1, max_size=60),
    share=st.floats(0, 100),
)
def test_percentiles_are_within_a_factor_of_two(calls: list[int], share: float) -> None:
    calls.sort()
    index = max(0, min(len(calls) - 1, int(len(calls) * share / 100 + 0.999999) - 1))
    found = percentile(histogram(*calls), share, sum(calls))
    assert calls[index] / 2 <= found <= calls[index] * 2 or found == sum(calls)


def test_percentiles_grow() -> None:
    counts = histogram(*range(100, 100_000, 77))
    figures = [percentile(counts, share, 10**9) for share in (0, 1, 10, 50, 90, 99, 99.9, 100)]
    assert figures == sorted(figures)


def test_distribution_has_the_bounds_of_redis() -> None:
    # 1 << 27 ns is 135266 µs in a histogram of two digits.
    calls = [500, 1500, 1600, 40_000, 130_000_000]
    assert distribution(histogram(*calls)) == [(1, 1), (2, 3), (66, 4), (135266, 5)]
    assert distribution(histogram()) == []


def test_sparkline() -> None:
    assert draw([161, 8, 80], ["2m", "10s", "1d"]) == ("#  \n|  \n| #\n|_|\n   \n211\nm0d\n s \n")
    assert draw([5], ["1s"]) == " \n \n \n_\n \n1\ns\n"
    assert draw(list(range(81)), ["1s"] * 81).count("\n\n") == 1


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0B"),
        (1023, "1023B"),
        (1024, "1.00K"),
        (1536 * 1024, "1.50M"),
        (3 << 30, "3.00G"),
        (5 << 40, "5.00T"),
    ],
)
def test_human_size(count: int, text: str) -> None:
    assert human_size(count) == text
