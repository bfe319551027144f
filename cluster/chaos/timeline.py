"""A picture of a run: load and latency by the second, and below it faults, failovers, outages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from cluster.chaos.history import percentile
from cluster.chaos.report import Report

WIDTH: Final = 1200
LEFT: Final = 110
RIGHT: Final = 20
PLOT: Final = 120
ROW: Final = 22
GAP: Final = 34
COLOURS: Final = {
    "kill": "#c0392b",
    "stop": "#d68910",
    "partition": "#7d3c98",
    "slow": "#2471a3",
    "full": "#5d6d7e",
    "clock": "#117864",
}
OUTAGE: Final = "#e6b0aa"
FAILOVER: Final = "#1e8449"


class _Canvas:
    """SVG's elements; times are mapped onto the width."""

    def __init__(self, seconds: float) -> None:
        self._seconds = max(seconds, 1.0)
        self.parts: list[str] = []

    def x(self, time: float) -> float:
        """Where a time is."""
        inside = min(max(time, 0.0), self._seconds)
        return round(LEFT + inside / self._seconds * (WIDTH - LEFT - RIGHT), 1)

    def text(self, x: float, y: float, text: str, anchor: str = "start") -> None:
        self.parts.append(f'<text x="{x}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>')

    def bar(self, start: float, end: float, y: float, colour: str, title: str) -> None:
        """From one time to another."""
        left, right = self.x(start), self.x(end)
        self.parts.append(
            f'<rect x="{left}" y="{y}" width="{max(right - left, 1.5):.1f}" height="{ROW - 6}" '
            f"fill={quoteattr(colour)}><title>{escape(title)}</title></rect>"
        )

    def mark(self, time: float, y: float, title: str) -> None:
        """A moment."""
        x = self.x(time)
        self.parts.append(
            f'<path d="M{x} {y} l5 {ROW - 6} l-10 0 z" fill="{FAILOVER}">'
            f"<title>{escape(title)}</title></path>"
        )

    def line(self, x1: float, y1: float, x2: float, y2: float, colour: str = "#d5d8dc") -> None:
        self.parts.append(f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{colour}"/>')

    def plot(self, values: Sequence[float], top: float, name: str, unit: str, colour: str) -> None:
        """Values by the second, in a frame of their own."""
        most = max([*values, 0.0]) or 1.0
        bottom = top + PLOT
        self.text(LEFT - 8, top + 14, name, "end")
        self.text(LEFT - 8, top + 30, f"most {most:.0f} {unit}", "end")
        self.line(LEFT, top, WIDTH - RIGHT, top)
        self.line(LEFT, bottom, WIDTH - RIGHT, bottom)
        points = " ".join(
            f"{self.x(second + 0.5)},{bottom - value / most * PLOT:.1f}"
            for second, value in enumerate(values)
        )
        self.parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
        )


def draw(report: Report) -> str:
    """The picture, as SVG's text."""
    canvas = _Canvas(report.seconds)
    seconds = report.load[: int(report.seconds) + 1]
    top = GAP
    canvas.text(
        LEFT,
        20,
        f"sentrio chaos, seed {report.seed}: {report.done} faults in {report.seconds:.0f} s; "
        f"lost {report.findings.all_lost}, duplicated {report.findings.all_duplicated}, "
        f"stale {report.findings.stale}",
    )
    canvas.plot([second.good for second in seconds], top, "load", "op/s", "#2e4053")
    top += PLOT + GAP
    tail = [percentile(second.latencies, 0.99) * 1000 for second in seconds]
    canvas.plot(tail, top, "p99", "ms", "#a04000")
    top += PLOT + GAP
    for kind, colour in COLOURS.items():
        events = [event for event in report.events if event.fault.kind == kind]
        shown = [event for event in events if event.begun is not None]
        if not shown:
            continue
        canvas.text(LEFT - 8, top + 12, kind, "end")
        for event in shown:
            begun = event.begun or 0.0
            end = event.ended if event.ended is not None else report.seconds
            canvas.bar(begun, end, top, colour, str(event))
        top += ROW
    for shard, outages in report.outages.items():
        canvas.text(LEFT - 8, top + 12, f"shard {shard + 1}", "end")
        canvas.line(LEFT, top + ROW / 2 - 3, WIDTH - RIGHT, top + ROW / 2 - 3)
        for outage in outages:
            title = f"not writable for {outage.length:.2f} s"
            canvas.bar(outage.start, outage.end, top, OUTAGE, title)
        for failover in report.failovers:
            if failover.shard == shard:
                canvas.mark(failover.time, top, f"{failover.old} to {failover.new}")
        top += ROW
    top += 12
    _draw_axis(canvas, report.seconds, top)
    canvas.text(
        LEFT, top + 40, "Below: faults by kind; shards with outages (red) and failovers (green)."
    )
    height = top + 56
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"',
            f'  width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="12">',
            f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
            *canvas.parts,
            "</svg>",
            "",
        ]
    )


def _draw_axis(canvas: _Canvas, seconds: float, top: float) -> None:
    step = next((s for s in (1, 5, 10, 30, 60, 300, 600) if seconds / s <= 15), 1800)
    canvas.line(LEFT, top, WIDTH - RIGHT, top, "#2e4053")
    for time in range(0, int(seconds) + 1, step):
        canvas.line(canvas.x(time), top, canvas.x(time), top + 5, "#2e4053")
        canvas.text(canvas.x(time), top + 19, f"{time} s", "middle")
