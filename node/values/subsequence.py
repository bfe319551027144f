"""The longest common subsequence of two strings, as LCS reports it (``t_string.c``, lcsCommand).

Redis fills a table of (n + 1)(m + 1) lengths, one cell at a time. Here a whole row is one integer
with a bit per column: bit j of row i tells that the length grows from column j to j + 1. A row
follows from the one before by one addition and a few logical operations (Hyyrö's formula), so the
time is n * m / 30 machine steps in C, and a table of rows takes a thirty-second of Redis's memory.

Of several longest subsequences and several ways to read one, Redis reports the one that its walk
from the table's far corner finds. That walk is repeated here: on equal bytes to the diagonal,
otherwise to where the length does not fall, and if it falls in neither direction, along ``b``.
Rows run along the longer string, and runs of steps in one direction are taken at once, so that the
walk costs no more than the table.
"""

from __future__ import annotations

Match = tuple[int, int, int]
"""Where a run of equal bytes begins in ``a`` and in ``b``, and its length."""


def measure(a: bytes, b: bytes) -> int:
    """The length of the longest common subsequence."""
    if len(a) < len(b):
        a, b = b, a
    rows = _fill(a, b, keep=False)
    return rows[-1].bit_count() if rows else 0


def find(a: bytes, b: bytes) -> tuple[bytes, list[Match]]:
    """The subsequence, and its runs of bytes adjacent in both strings, the last run first."""
    if not a or not b:
        return b"", []
    ends = _walk_long_b(a, b) if len(b) > len(a) else _walk_long_a(a, b)
    found = bytes([a[i] for i, _ in reversed(ends)])
    return found, _join(ends)


def _fill(long: bytes, short: bytes, *, keep: bool) -> list[int]:
    """One row per byte of ``short``, with a bit per byte of ``long``; without ``keep`` the last."""
    if not long or not short:
        return []
    size = len(long)
    full = (1 << size) - 1
    places: dict[int, int] = {byte: _find_places(long, byte) for byte in set(short)}
    rows: list[int] = []
    flat = full  # 1 where the length does not grow
    for byte in short:
        matching = flat & places[byte]
        flat = (flat + matching | flat - matching) & full
        if keep:
            rows.append(flat ^ full)
    return rows if keep else [flat ^ full]


def _find_places(text: bytes, byte: int) -> int:
    """An integer whose bit i tells whether ``text[i]`` is ``byte``."""
    table = bytearray(b"0" * 256)
    table[byte] = 49
    return int(text.translate(bytes(table))[::-1], 2)


def _walk_long_b(a: bytes, b: bytes) -> list[tuple[int, int]]:
    """The matched pairs of indices from the far end on, with a row per byte of ``a``."""
    rows = _fill(b, a, keep=True)
    pairs: list[tuple[int, int]] = []
    i = len(a)
    j = len(b)
    while i and j:
        byte = a[i - 1]
        if byte == b[j - 1]:
            i -= 1
            j -= 1
            pairs.append((i, j))
            continue
        # Along b while the length stays, until bytes match or it would fall.
        grows = rows[i - 1] & (1 << j) - 1
        falls = grows.bit_length()
        matches = b.rfind(byte, 0, j) + 1
        if falls > matches:
            j = falls
            i -= 1
        else:
            j = matches
    return pairs


def _walk_long_a(a: bytes, b: bytes) -> list[tuple[int, int]]:
    """The same with a row per byte of ``b``: bits tell where the length grows along ``a``."""
    rows = _fill(a, b, keep=True)
    pairs: list[tuple[int, int]] = []
    i = len(a)
    j = len(b)
    here = rows[j - 1]
    left = rows[j - 2] if j > 1 else 0
    while i and j:
        # The length falls from b's column j to j - 1, at a's prefix i: then the walk goes along a.
        byte = b[j - 1]
        if a[i - 1] == byte:
            i -= 1
            pairs.append((i, j - 1))
        else:
            mask = (1 << i) - 1
            if (here & mask).bit_count() > (left & mask).bit_count():
                stays = (here & ~left & mask).bit_length()
                matches = a.rfind(byte, 0, i) + 1
                # At stays - 1 both columns have the same length; before that, bytes may match.
                if matches > stays - 1 and matches:
                    i = matches
                    continue
                i = max(stays - 1, 0)
                if i == 0:
                    break
                if a[i - 1] == byte:
                    continue
        j -= 1
        here = left
        left = rows[j - 2] if j > 1 else 0
    return pairs


def _join(pairs: list[tuple[int, int]]) -> list[Match]:
    """Runs of adjacent pairs, in the order of ``pairs``."""
    runs: list[Match] = []
    at = 0
    while at < len(pairs):
        i, j = pairs[at]
        size = 1
        while at + size < len(pairs) and pairs[at + size] == (i - size, j - size):
            size += 1
        runs.append((i - size + 1, j - size + 1, size))
        at += size
    return runs
