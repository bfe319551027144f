"""Remembers the plan of a reshard, so that running it again goes on with it instead of anew.

A file for each cluster, in the operator's own state folder. It is there from before the first slot
moves until all have moved.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from cluster.tool.planning import Move
from node.files import replace_file


def default_folder() -> Path:
    """Where such files are, as the XDG specification has it."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "sentrio"


@dataclass(frozen=True, slots=True)
class Entry:
    """A plan and what it was made for; ``begun`` is a time for people."""

    request: dict[str, Any]
    begun: str
    moves: list[Move]


class Journal:
    """The plan of the cluster that has these nodes."""

    def __init__(self, folder: Path, nodes: Iterable[str]) -> None:
        name = hashlib.sha1("".join(sorted(nodes)).encode()).hexdigest()[:16]
        self.path = folder / f"reshard-{name}.json"

    def load(self) -> Entry | None:
        """The unfinished plan; None if there is none that can be read."""
        try:
            data = json.loads(self.path.read_text())
            moves = [Move(int(slot), str(a), str(b)) for slot, a, b in data["moves"]]
            return Entry(dict(data["request"]), str(data["begun"]), moves)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def save(self, request: dict[str, Any], begun: str, moves: Sequence[Move]) -> None:
        """Keep a plan. Raises OSError."""
        document = {"request": request, "begun": begun, "moves": [astuple(m) for m in moves]}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(str(self.path), json.dumps(document).encode(), 0o600)

    def clear(self) -> None:
        """The plan is carried out."""
        with contextlib.suppress(OSError):
            self.path.unlink()
