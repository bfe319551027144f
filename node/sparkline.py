"""Columns of characters for a series of numbers, with a label written downwards below each.

The look is that of LATENCY GRAPH: four rows, three heights to a row, 80 columns to a strip.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Final

ROWS: Final = 4
COLUMNS: Final = 80
TOPS: Final = "_o#"
STEM: Final = "|"


def draw(values: Sequence[int], labels: Sequence[str]) -> str:
    """Lines of text for ``values`` with as many ``labels``; strips are parted by empty lines."""
    low = min(values)
    span = max(values) - low or 1
    steps = ROWS * len(TOPS)
    heights = [min((value - low) * steps // span, steps - 1) for value in values]
    strips = [
        _draw_strip(heights[at : at + COLUMNS], labels[at : at + COLUMNS])
        for at in range(0, len(values), COLUMNS)
    ]
    return "\n".join(strips)


def _draw_strip(heights: Sequence[int], labels: Sequence[str]) -> str:
    lines: list[str] = []
    for row in reversed(range(ROWS)):
        base = row * len(TOPS)
        lines.append("".join(_mark(height - base) for height in heights))
    lines.append(" " * len(heights))
    lines += ["".join(letters) for letters in zip_longest(*labels, fillvalue=" ")]
    return "".join(f"{line}\n" for line in lines)


def _mark(height: int) -> str:
    """What a column that is so many steps above the bottom of a row shows in it."""
    if height < 0:
        return " "
    return TOPS[height] if height < len(TOPS) else STEM
