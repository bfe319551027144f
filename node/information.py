"""INFO: sections that components contribute, rendered as Redis renders them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

Fields = list[tuple[str, object]]

# Redis's order of sections; others come after these, in the order of installation.
ORDER: Final = (
    *("server", "clients", "memory", "persistence", "stats", "replication", "cpu", "modules"),
    *("commandstats", "errorstats", "latencystats", "cluster", "keyspace"),
)


class Section:
    """One section of INFO.

    ``collect`` returns (field, value) pairs at the moment of asking; values are printed with
    ``str``, floats with two decimals. ``default`` sections are shown by INFO without arguments, the
    others only by name or with ``all`` or ``everything``. A section whose name is taken adds its
    fields to the section that is there.
    """

    __slots__ = ("name", "collect", "default")

    def __init__(self, name: str, collect: Callable[[], Fields], default: bool = True) -> None:
        self.name = name
        self.collect = collect
        self.default = default


def render(sections: Sequence[Section], wanted: Sequence[str]) -> bytes:
    """The text of INFO for ``wanted`` section names (lower case; none: the default ones)."""
    everything = "all" in wanted or "everything" in wanted
    with_default = not wanted or "default" in wanted
    bodies: dict[str, list[str]] = {}
    for section in sorted(sections, key=_place):
        name = section.name.lower()
        if everything or name in wanted or (with_default and section.default):
            lines = bodies.setdefault(section.name, [])
            for field, value in section.collect():
                text = f"{value:.2f}" if isinstance(value, float) else str(value)
                lines.append(f"{field}:{text}\r\n")
    text = "\r\n".join(f"# {name}\r\n{''.join(lines)}" for name, lines in bodies.items())
    return text.encode(errors="surrogateescape")


def _place(section: Section) -> int:
    name = section.name.lower()
    return ORDER.index(name) if name in ORDER else len(ORDER)
