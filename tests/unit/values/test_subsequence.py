"""Longest common subsequences: rows as integers give what filling the table cell by cell does."""

from hypothesis import given
from hypothesis import strategies as st

from node.values.subsequence import Match, find, measure


def fill(a: bytes, b: bytes) -> tuple[bytes, list[Match]]:
    """The same by Redis's way: every cell, then the walk back."""
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a, 1):
        for j, y in enumerate(b, 1):
            if x == y:
                table[i][j] = table[i - 1][j - 1] + 1
            else:
                table[i][j] = max(table[i - 1][j], table[i][j - 1])
    i, j = len(a), len(b)
    found = bytearray()
    runs: list[Match] = []
    while i and j:
        if a[i - 1] == b[j - 1]:
            i -= 1
            j -= 1
            found.append(a[i])
            if runs and runs[-1][:2] == (i + 1, j + 1):
                runs[-1] = (i, j, runs[-1][2] + 1)
            else:
                runs.append((i, j, 1))
        elif table[i - 1][j] > table[i][j - 1]:
            i -= 1
        else:
            j -= 1
    return bytes(reversed(found)), runs


texts = st.one_of(
    st.binary(max_size=40),
    st.text("ab", max_size=40).map(str.encode),
    st.text("abcd", max_size=40).map(str.encode),
)


@given(texts, texts)
def test_like_the_table(a: bytes, b: bytes) -> None:
    expected, runs = fill(a, b)
    assert find(a, b) == (expected, runs)
    assert measure(a, b) == len(expected)


def test_documented_example() -> None:
    assert find(b"ohmytext", b"mynewtext") == (b"mytext", [(4, 5, 4), (2, 0, 2)])


def test_one_string_much_longer_than_the_other() -> None:
    long = b"ab" * 500_000
    assert find(long, b"bca") == (b"ba", [(999_998, 2, 1), (999_997, 0, 1)])
    assert find(b"bca", long)[0] == b"ba"
    assert measure(long, b"b" * 1000) == 1000


def test_large_strings_share_no_byte() -> None:
    assert find(b"a" * 10_000, b"b" * 10_000) == (b"", [])
