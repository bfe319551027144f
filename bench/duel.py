"""One figure of both servers, side by side."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Duel:
    """One figure of both servers.

    ``limit`` is of ours / theirs, of ours where ``absolute``, of ours - theirs where ``added``.

    It is the most that is allowed, or the least where ``least`` says so.
    """

    name: str
    unit: str
    ours: float
    theirs: float
    limit: float | None = None
    absolute: bool = False
    least: bool = False
    added: bool = False

    @property
    def ratio(self) -> float:
        """Ours / theirs."""
        return self.ours / self.theirs if self.theirs else float("inf")

    @property
    def reached(self) -> bool | None:
        """Whether the limit is kept; None where there is none."""
        if self.limit is None:
            return None
        found = self.ratio
        if self.absolute:
            found = self.ours
        elif self.added:
            found = self.ours - self.theirs
        return found >= self.limit if self.least else found <= self.limit

    @property
    def condition(self) -> str:
        """The limit, for a reader; empty where there is none."""
        if self.limit is None:
            return ""
        sign = "≥" if self.least else "≤"
        if self.absolute:
            return f"{sign} {self.limit:,.0f} {self.unit}"
        if self.added:
            return f"{sign} Redis + {self.limit:g} {self.unit}"
        return f"{sign} {self.limit:.2f}" if self.least else f"{sign} {self.limit:.1f}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "ratio": self.ratio, "reached": self.reached}
