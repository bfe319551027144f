"""The backlog against a model: the whole stream as one string."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.replication.backlog import BLOCK, Backlog

sizes = st.integers(1, 3 * BLOCK)


@given(
    size=st.integers(1, 5 * BLOCK),
    start=st.integers(0, 10**12),
    lengths=st.lists(st.one_of(st.integers(0, 200), sizes), max_size=30),
    seed=st.integers(0, 2**32),
)
def test_readers_get_the_stream(size: int, start: int, lengths: list[int], seed: int) -> None:
    rng = random.Random(seed)
    backlog = Backlog(size, start)
    stream = b""
    position = start
    for length in lengths:
        data = rng.randbytes(length)
        backlog.append(data)
        stream += data
        assert backlog.end == start + len(stream)
        if rng.random() < 0.5:
            part = backlog.read(position, rng.randrange(1, 3 * BLOCK))
            assert stream[position - start :].startswith(part)
            position += len(part)
        if rng.random() < 0.3:
            backlog.trim(position)
        assert backlog.holds(position)
        # All that it promises is there, and little more than somebody needs.
        assert backlog.start <= max(start, min(backlog.end - size, position))
    while part := backlog.read(position, 1000):
        assert len(part) <= 1000
        assert stream[position - start :].startswith(part)
        position += len(part)
    assert position == backlog.end
    backlog.trim(position)
    assert len(backlog) <= size + 4 * BLOCK


def test_what_is_gone_is_not_read() -> None:
    backlog = Backlog(10)
    for _ in range(10):
        backlog.append(b"x" * BLOCK)
    backlog.trim(backlog.end)
    assert backlog.start == 9 * BLOCK
    assert not backlog.holds(backlog.start - 1)
    assert not backlog.holds(backlog.end + 1)
    with pytest.raises(ValueError, match="not in"):
        backlog.read(backlog.start - 1, 1)
    assert backlog.memory < 2 * BLOCK + 1000


def test_a_reader_that_lags_keeps_its_part() -> None:
    backlog = Backlog(10)
    for _ in range(10):
        backlog.append(b"x" * BLOCK)
    backlog.trim(5)
    assert backlog.holds(5)
    backlog.resize(100 * BLOCK)
    backlog.trim(backlog.end)
    assert backlog.holds(5)
