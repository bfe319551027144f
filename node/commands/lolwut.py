"""What LOLWUT draws: a maze (VERSION 5), hills by night (VERSION 6).

Neither is what Redis draws under these numbers; the arguments have the same places, so that
programs which ask for a picture of a certain width get one.
"""

from __future__ import annotations

from random import Random
from typing import Final

WIDEST: Final = 1000
HIGHEST: Final = 1000

_SLOPES: Final = "\u2571\u2572"
_SKY: Final = "   \u00b7        .       +          "
_GROUND: Final = ("\u2591", "\u2592", "\u2588")


def draw_maze(random: Random, width: int, height: int) -> str:
    """Diagonals at random, which make a maze of the plane."""
    return "".join(
        "".join(random.choice(_SLOPES) for _ in range(width)) + "\n" for _ in range(height)
    )


def draw_hills(random: Random, width: int, height: int) -> str:
    """Three ranges of hills, one before the other, under a sky with stars."""
    ranges = [_draw_ridge(random, width, height * share // 10) for share in (7, 5, 3)]
    lines: list[str] = []
    for row in reversed(range(height)):
        line = ""
        for column in range(width):
            # The nearest range that reaches this high hides those behind it.
            mark = random.choice(_SKY)
            for ridge, ground in zip(ranges, _GROUND, strict=True):
                if ridge[column] > row:
                    mark = ground
            line += mark
        lines.append(line.rstrip() + "\n")
    return "".join(lines)


def _draw_ridge(random: Random, width: int, top: int) -> list[int]:
    """How high a range of hills is in each column: steps up and down, drawn towards the middle."""
    level = top * 0.7
    slope = 0.0
    heights: list[int] = []
    for _ in range(width):
        slope = slope * 0.8 + random.uniform(-0.5, 0.5) + (top * 0.6 - level) * 0.03
        level = min(max(level + slope, 0.0), float(top))
        heights.append(round(level))
    return heights
