"""What was found, for a terminal, for a page in Markdown and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.duel import Duel
from bench.load import Comparison
from bench.memory import Weight
from bench.stalls import Finding

Rows = list[list[str]]


def _mark(reached: bool) -> str:
    return "ok" if reached else "miss"


SPEED_COLUMNS = [
    "command",
    "requests/s",
    "Redis",
    "ratio",
    "target",
    "",
    "p50 ms",
    "Redis",
    "p99 ms",
    "Redis",
    "CPU µs",
    "Redis",
]


def speed_rows(comparisons: Sequence[Comparison]) -> Rows:
    """A row per command."""
    return [
        [
            each.workload,
            f"{each.ours.rate:,.0f}",
            f"{each.theirs.rate:,.0f}",
            f"{each.ratio:.2f}",
            f"≥ {each.setting.target:.2f}",
            _mark(each.reached),
            f"{each.ours.p50:.3f}",
            f"{each.theirs.p50:.3f}",
            f"{each.ours.p99:.3f}",
            f"{each.theirs.p99:.3f}",
            f"{each.ours.cpu:.1f}",
            f"{each.theirs.cpu:.1f}",
        ]
        for each in comparisons
    ]


MEMORY_COLUMNS = [
    "a million of",
    "bytes each",
    "Redis",
    "ratio",
    "target",
    "",
    "used_memory / RSS",
    "target",
    "",
]


def memory_rows(weights: Sequence[Weight]) -> Rows:
    """A row per shape."""
    return [
        [
            each.shape,
            f"{each.ours.rss:.0f}",
            f"{each.theirs.rss:.0f}",
            f"{each.ratio:.2f}",
            f"≤ {each.target:.1f}",
            _mark(each.reached),
            f"{each.accounting:.2f}",
            "0.85 to 1.15",
            _mark(each.accounted),
        ]
        for each in weights
    ]


STALL_COLUMNS = ["what", "found", "limit", "", "idle Redis beside"]


def stall_rows(findings: Sequence[Finding]) -> Rows:
    """A row per figure."""
    return [
        [
            each.name,
            f"{each.value:,.1f} {each.unit}",
            f"≤ {each.limit:,.0f} {each.unit}",
            _mark(each.reached),
            "" if each.noise is None else f"{each.noise:,.1f} {each.unit}",
        ]
        for each in findings
    ]


DUEL_COLUMNS = ["what", "ours", "Redis", "ratio", "limit", ""]


def duel_rows(duels: Sequence[Duel]) -> Rows:
    """A row per figure."""
    return [
        [
            each.name,
            _quantity(each.ours, each.unit),
            _quantity(each.theirs, each.unit),
            f"{each.ratio:.2f}" if 0 < each.ratio < float("inf") else "",
            each.condition,
            "" if each.reached is None else _mark(each.reached),
        ]
        for each in duels
    ]


def _quantity(value: float, unit: str) -> str:
    if value == float("inf"):
        return "never"
    return f"{value:,.0f} {unit}" if value >= 1000 else f"{value:,.2f} {unit}"


class Report:
    """Everything that one run found."""

    def __init__(self, title: str, machine: dict[str, Any], method: str) -> None:
        self.title = title
        self.machine = machine
        self.method = method
        self.comparisons: list[Comparison] = []
        self.weights: list[Weight] = []
        self.findings: list[Finding] = []
        self.durability: list[Duel] = []
        self.replication: list[Duel] = []
        self.cluster: list[Duel] = []
        self.sentinels: list[Duel] = []

    def sections(self) -> list[tuple[str, list[str], Rows]]:
        """Title, columns and rows of each table."""
        found: list[tuple[str, list[str], Rows]] = []
        settings = dict.fromkeys(each.setting for each in self.comparisons)
        for setting in settings:
            rows = speed_rows([each for each in self.comparisons if each.setting == setting])
            found.append((setting.name, SPEED_COLUMNS, rows))
        if self.weights:
            found.append(("Memory", MEMORY_COLUMNS, memory_rows(self.weights)))
        for title, duels in (
            ("Durability", self.durability),
            ("Replication", self.replication),
            ("Cluster", self.cluster),
            ("Sentinels", self.sentinels),
        ):
            if duels:
                found.append((title, DUEL_COLUMNS, duel_rows(duels)))
        if self.findings:
            found.append(("Pauses", STALL_COLUMNS, stall_rows(self.findings)))
        return found

    def print(self, console: Console) -> None:
        """Tables for a terminal."""
        for title, columns, rows in self.sections():
            console.print(_table(title, columns, rows))
        console.print(f"{self.summary()}\n{self._machine_line()}", highlight=False)

    def summary(self) -> str:
        """How many targets were reached."""
        marks = [row.count("ok") for _, _, rows in self.sections() for row in rows]
        misses = [row.count("miss") for _, _, rows in self.sections() for row in rows]
        return f"{sum(marks)} targets reached, {sum(misses)} missed"

    def markdown(self) -> str:
        """A page."""
        lines = [
            f"# {self.title}",
            "",
            self.method,
            "",
            self._machine_line(),
            "",
            self.summary() + ".",
        ]
        for title, columns, rows in self.sections():
            lines += ["", f"## {title}", ""]
            lines.append("| " + " | ".join(columns) + " |")
            lines.append("|" + "|".join([" --- "] + [" ---: "] * (len(columns) - 1)) + "|")
            lines += ["| " + " | ".join(row) + " |" for row in rows]
        return "\n".join(lines) + "\n"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "machine": self.machine,
            "speed": [each.as_dict() for each in self.comparisons],
            "memory": [each.as_dict() for each in self.weights],
            "durability": [each.as_dict() for each in self.durability],
            "replication": [each.as_dict() for each in self.replication],
            "cluster": [each.as_dict() for each in self.cluster],
            "sentinels": [each.as_dict() for each in self.sentinels],
            "pauses": [each.as_dict() for each in self.findings],
        }

    def _machine_line(self) -> str:
        about = self.machine
        return (
            f"Measured on {about['date']}, {about['cores']} cores of {about['processor']}, "
            f"{about['memory']}, {about['system']}, {about['python']}, commit {about['commit']}; "
            f"ours: {about['ours']}; theirs: {about['theirs']}"
        )


def _table(title: str, columns: list[str], rows: Rows) -> Table:
    table = Table(title=title, title_justify="left")
    for at, column in enumerate(columns):
        table.add_column(column, justify="left" if at == 0 else "right")
    for row in rows:
        table.add_row(*row, style="red" if "miss" in row else None)
    return table
