"""What `sentrio up` shows: on a terminal a table that lives, elsewhere a line for each event."""

from __future__ import annotations

import datetime as dt
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Final

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cluster.tool.display import Display
from cluster.up.status import Row

EVENTS_SHOWN: Final = 8


class Board:
    """Rows and events; :meth:`enter` and :meth:`leave` bracket the live table."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        self.rows: list[Row] = []
        self._title = ""
        self._events: deque[str] = deque(maxlen=EVENTS_SHOWN)
        self._live: Live | None = None

    def __enter__(self) -> Board:
        if self.console.is_terminal:
            self._live = Live(console=self.console, auto_refresh=False)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def tell(self, event: str) -> None:
        """Something has happened."""
        line = f"{dt.datetime.now().astimezone():%H:%M:%S} {event}"
        if self._live is None:
            self.console.print(Text(line))
        else:
            self._events.append(line)
            self._refresh()

    def show(self, rows: Sequence[Row], title: str) -> None:
        """How the nodes are."""
        self.rows = list(rows)
        self._title = title
        self._refresh()

    def _refresh(self) -> None:
        if self._live is not None:
            self._live.update(self.render(), refresh=True)

    def render(self) -> RenderableType:
        """The table, and the last events below it."""
        parts: list[RenderableType] = []
        if self.rows:
            parts.append(render_rows(self.rows, self._title))
        parts += [Text(line, style="dim", overflow="ellipsis") for line in self._events]
        return Group(*parts)


def render_rows(rows: Sequence[Row], title: str) -> Table:
    """The table."""
    table = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False
    )
    for name in ("node", "role"):
        table.add_column(name)
    for name in ("slots", "keys", "ops/s", "lag"):
        table.add_column(name, justify="right")
    for name in ("state", "which"):
        table.add_column(name, overflow="ellipsis", no_wrap=True)
    for row in rows:
        indent = "" if row.role != "replica" else "  "
        good = row.state == "ok"
        master = row.role == "master"
        serves = row.role in ("master", "replica")
        table.add_row(
            f"{indent}{row.address}",
            row.role,
            str(row.slots) if master else "",
            str(row.keys) if serves else "",
            str(row.ops) if serves else "",
            "" if row.lag is None else f"{row.lag} B",
            Text(row.state, style="green" if good else "red"),
            row.which,
        )
    return table


class EventDisplay(Display):
    """Lets the tool's code tell what it does on the board; tables are left out."""

    def __init__(self, board: Board) -> None:
        super().__init__(yes=True)
        self._board = board

    def say(self, text: str) -> None:
        self._board.tell(text)

    step = good = say

    def warn(self, text: str) -> None:
        self._board.tell(f"Warning: {text}")

    bad = warn

    def table(
        self, columns: Sequence[str], rows: Sequence[Sequence[object]], title: str = ""
    ) -> None:
        return None
