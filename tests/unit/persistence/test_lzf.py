"""LZF: what is compressed comes back, what is damaged is refused."""

from __future__ import annotations

import contextlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.persistence.lzf import SAVING, compress, decompress

# Compressed by redis-server 7.0.15.
KNOWN = {
    b"ab" * 30: b"\x02aba\xe0.\x01\x01ab",
    b"a" * 21: b"\x01aa\xe0\x0a\x00",
}
repetitive = st.builds(
    lambda parts, times: b"".join(parts) * times,
    st.lists(st.binary(max_size=40), max_size=8),
    st.integers(1, 40),
)


@pytest.mark.parametrize("data", KNOWN)
def test_as_the_real_server(data: bytes) -> None:
    assert compress(data) == KNOWN[data]


@given(data=st.one_of(st.binary(max_size=2000), repetitive))
def test_round_trip(data: bytes) -> None:
    compressed = compress(data)
    if compressed is not None:
        assert len(compressed) <= len(data) - SAVING
        assert decompress(compressed, len(data)) == data


@pytest.mark.parametrize("size", [1000, 70_000])
def test_large_strings(size: int) -> None:
    rng = random.Random(size)
    noise = rng.randbytes(size)
    assert compress(noise) is None
    for data in (bytes(size), noise + noise[-5000:] * 60, b"abcdefghij" * (size // 10) + noise):
        compressed = compress(data)
        assert compressed is not None
        assert decompress(compressed, len(data)) == data


def test_one_string_is_no_memory_for_the_next() -> None:
    first = bytes(range(200))
    assert compress(first) is None
    assert compress(first) is None
    assert compress(first * 2) == compress(first * 2)


@given(data=st.binary(max_size=60), size=st.integers(0, 1000))
def test_any_bytes_are_refused_or_decompressed(data: bytes, size: int) -> None:
    with contextlib.suppress(ValueError):
        assert len(decompress(data, size)) == size


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (b"\x02ab", 3),  # a literal run that is cut off
        (b"\x00a\x20", 5),  # a copy that is
        (b"\x00a\xe0\x00", 5),
        (b"\x00a\x20\x01", 5),  # from before the start
        (b"\x02abc", 2),  # longer
        (b"\x02abc", 4),  # shorter
    ],
)
def test_damaged(data: bytes, size: int) -> None:
    with pytest.raises(ValueError, match="compressed string"):
        decompress(data, size)
