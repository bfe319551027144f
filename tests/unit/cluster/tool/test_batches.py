"""How keys are cut into rounds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cluster.tool.batches import ROUND_SECONDS, Sizer, cut_round, make_batches


@given(
    st.lists(st.lists(st.integers(0, 5000), max_size=8), max_size=8),
    st.integers(1, 10),
    st.integers(1, 4000),
)
def test_rounds_are_bounded_and_lose_nothing(
    sizes: list[list[int]], most_keys: int, most_bytes: int
) -> None:
    keys = {slot: [b"%d-%d" % (slot, n) for n in range(len(of))] for slot, of in enumerate(sizes)}
    known = {
        key: size
        for found, of in zip(keys.values(), sizes, strict=True)
        for key, size in zip(found, of, strict=True)
    }
    waiting = make_batches(keys)
    taken: list[bytes] = []
    while waiting:
        batches = cut_round(waiting, known, most_keys, most_bytes)
        round_ = [key for batch in batches for key in batch.keys]
        assert 1 <= len(round_) <= most_keys
        # A key that is larger than a round goes alone.
        assert len(round_) == 1 or sum(known[key] for key in round_) <= most_bytes
        assert all(key in keys[batch.slot] for batch in batches for key in batch.keys)
        taken += round_
    assert taken == [key for found in keys.values() for key in found]


def test_short_rounds_get_longer_and_long_ones_shorter() -> None:
    sizer = Sizer(most=200)
    first = sizer.count
    sizer.learn(first, ROUND_SECONDS / 10)
    assert sizer.count == 2 * first
    for _ in range(20):
        sizer.learn(sizer.count, ROUND_SECONDS / 10)
    assert sizer.count == 200
    # A round that was not full says nothing about what would fit.
    sizer.learn(100, ROUND_SECONDS * 2)
    assert sizer.count == 50
    sizer.learn(10, ROUND_SECONDS / 10)
    assert sizer.count == 50
    for _ in range(20):
        sizer.learn(sizer.count, 1.0)
    assert sizer.count == 1
