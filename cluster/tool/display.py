"""What the operator sees: lines, tables, questions, and how far the work is.

With ``--json`` standard output has one JSON document at the end, and all else goes to standard
error. On a terminal the work is a bar that moves; elsewhere it is a line every few seconds.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import click
import trio
from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from cluster.tool.errors import Declined, Refused

LINE_INTERVAL: Final = 3.0
PLAIN_WIDTH: Final = 200
"""Columns where there is no terminal: nothing is cut off."""


class Display:
    """Where everything is shown. ``yes``: questions are answered by it."""

    def __init__(self, as_json: bool = False, yes: bool = False, dry_run: bool = False) -> None:
        self.as_json = as_json
        self.yes = yes
        self.dry_run = dry_run
        file = sys.stderr if as_json else sys.stdout
        self.terminal = file.isatty()
        self.console = Console(
            file=file, highlight=False, width=None if self.terminal else PLAIN_WIDTH
        )

    def say(self, text: str) -> None:
        """A line."""
        self.console.print(Text(text), soft_wrap=True)

    def step(self, text: str) -> None:
        """What is being done now."""
        self.console.print(Text(text, style="bold"), soft_wrap=True)

    def good(self, text: str) -> None:
        """Something is as it should be."""
        self.console.print(Text.assemble(("OK", "green"), "  ", text), soft_wrap=True)

    def warn(self, text: str) -> None:
        """Something to know."""
        self.console.print(Text.assemble(("WARNING", "yellow"), "  ", text), soft_wrap=True)

    def bad(self, text: str) -> None:
        """Something is not as it should be."""
        self.console.print(Text.assemble(("ERROR", "red"), "  ", text), soft_wrap=True)

    def table(
        self, columns: Sequence[str], rows: Sequence[Sequence[object]], title: str = ""
    ) -> None:
        """A table; columns whose name ends in `#` hold numbers."""
        table = Table(
            title=title or None,
            title_justify="left",
            title_style="bold",
            box=box.SIMPLE_HEAD if self.terminal else None,
            pad_edge=False,
        )
        for name in columns:
            number = name.endswith("#")
            table.add_column(
                name.removesuffix("#"),
                justify="right" if number else "left",
                no_wrap=number,
                overflow="fold",
            )
        for row in rows:
            table.add_row(*(Text(str(cell)) for cell in row))
        self.console.print(table)

    def emit(self, document: Any) -> None:
        """The JSON document of this run, if one is wanted."""
        if self.as_json:
            json.dump(document, sys.stdout, indent=2)
            sys.stdout.write("\n")
            sys.stdout.flush()

    def confirm(self, question: str) -> None:
        """Ask whether to go on. Raises Declined; Refused where nobody can answer."""
        if self.yes:
            return
        try:
            answer = click.confirm(question, err=self.as_json)
        except click.Abort:
            raise Refused("Nobody to confirm it: use --yes") from None
        if not answer:
            raise Declined("Nothing has been done")

    @contextmanager
    def progress(self, what: str, slots: int, keys: int) -> Iterator[Meter]:
        """How far a move of so many slots with about so many keys is."""
        if self.terminal and not self.as_json:
            bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[slots]}/{task.fields[of]} slots"),
                TextColumn("{task.completed:.0f}/{task.total:.0f} keys"),
                _Rate(),
                TimeRemainingColumn(),
                console=self.console,
            )
            with bar:
                task = bar.add_task(what, total=max(keys, 1), slots=0, of=slots)
                meter = Meter(self, what, slots, keys, bar, task)
                yield meter
                bar.update(task, completed=max(keys, 1), slots=meter.slots_done)
        else:
            meter = Meter(self, what, slots, keys)
            yield meter
        meter.finish()


class Meter:
    """Counts what has moved."""

    def __init__(
        self,
        display: Display,
        what: str,
        slots: int,
        keys: int,
        bar: Progress | None = None,
        task: Any = None,
    ) -> None:
        self.keys_done = 0
        self.slots_done = 0
        self.seconds = 0.0
        self._display = display
        self._what = what
        self._slots = slots
        self._keys = keys
        self._bar = bar
        self._task = task
        self._begin = trio.current_time()
        self._told = self._begin

    def add(self, keys: int = 0, slots: int = 0) -> None:
        """So much more has moved."""
        self.keys_done += keys
        self.slots_done += slots
        # Keys come and go while they move: what was counted before is about right.
        self._keys = max(self._keys, self.keys_done)
        if self._bar is not None:
            self._bar.update(
                self._task,
                completed=self.keys_done,
                total=max(self._keys, 1),
                slots=self.slots_done,
            )
        elif trio.current_time() - self._told >= LINE_INTERVAL:
            self._told = trio.current_time()
            self._display.say(self.describe())

    @property
    def rate(self) -> float:
        """Keys a second so far."""
        seconds = trio.current_time() - self._begin
        return self.keys_done / seconds if seconds > 0 else 0.0

    def describe(self) -> str:
        """How far it is, in one line."""
        line = (
            f"{self._what}: {self.slots_done}/{self._slots} slots, "
            f"{self.keys_done}/{self._keys} keys, {self.rate:.0f} keys/s"
        )
        if self.rate > 0 and self._keys > self.keys_done:
            line += f", {format_seconds((self._keys - self.keys_done) / self.rate)} left"
        return line

    def finish(self) -> None:
        """All has moved."""
        self.seconds = trio.current_time() - self._begin
        self._display.say(
            f"{self._what}: {self.slots_done} slots and {self.keys_done} keys in "
            f"{format_seconds(self.seconds)} ({self.rate:.0f} keys/s)"
        )


class _Rate(ProgressColumn):
    """Keys a second, of late."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.0f} keys/s")


def format_seconds(seconds: float) -> str:
    """`850 ms`, `12.3 s`, `4 min 5 s`, `2 h 3 min`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
