"""Writes `docs/configuration.md` from the declarations: `python -m node.config.reference`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from node.config import directives, dormant
from node.config.directive import Directive, Memory
from node.config.syntax import format_memory

TARGET: Final = Path(__file__).parents[2] / "docs" / "configuration.md"

_INTRODUCTION: Final = """\
# Configuration

<!-- Written by `python -m node.config.reference` from the declarations in node/config. -->

`sentrio node [/path/to/sentrio.conf] [--directive value ...] [-]` takes what `redis-server` takes:
an optional file in the syntax of redis.conf, options that stand for lines after the end of that
file, and `-` for more lines from standard input. A later line wins over an earlier one.

## Syntax

- One directive a line: a name in any case, then its arguments, separated by blanks. Empty lines
  and lines that start with `#` say nothing.
- An argument may be quoted: in `"…"`, `\\n \\r \\t \\a \\b \\xHH \\" \\\\` are escapes; in `'…'`
  only `\\'` is one.
- A size is a number of bytes with an optional unit: `1k` is 1000, `1kb` 1024, and so on for `m`,
  `mb`, `g`, `gb`, in any case.
- `include path` reads another file in its place. A path with `*`, `?` or `[` reads all files that
  match, sorted by name, and may match none. A relative path starts at the working directory.
- `rename-command NAME NEWNAME` renames a command; `""` as the new name removes it.
- On the command line an argument that starts with `--` begins a line unless the option before it
  still lacks a value: `--port 6380 --save "" --bind 127.0.0.1 ::1`.

A line that cannot be used stops the start, with its file, number and text and the reason:

```
*** FATAL CONFIG FILE ERROR (Sentrio VERSION) ***
Reading the configuration file, at line 2
>>> 'maxmemory lots'
In /etc/sentrio.conf
argument must be a memory value
```

While the server runs, `CONFIG GET pattern ...` shows values, `CONFIG SET name value ...` changes
one or several (all of them, or none if one is refused), and `CONFIG REWRITE` brings the file up to
date: it keeps comments and order, replaces lines whose values have changed and appends what
differs from the default. Where the column *set* says no, a value can only be set at start;
*protected* ones only if `enable-protected-configs` allows it. *Hidden* ones are shown by CONFIG GET
only if asked for by name.

"""

_DORMANT: Final = """\
## Accepted without effect

These are directives of Redis 7.2 on which nothing in this version acts. They are checked, kept,
reported by CONFIG GET and written by CONFIG REWRITE, so that files and tools made for Redis work;
the server logs a warning at start for each one that is not at its default.

"""


def _default(directive: Directive) -> str:
    if isinstance(directive, Memory) and isinstance(directive.default, int):
        text = format_memory(directive.default)
    else:
        text = directive.write(directive.default)
    return f"`{text}`" if text else '`""`'


def _row(directive: Directive) -> str:
    names = "<br>".join(f"`{name}`" for name in (directive.name, *directive.aliases))
    bounds = directive.bounds()
    kind = directive.kind + (f": {bounds}" if bounds else "")
    mutable = "yes" if directive.mutable else "no"
    marks = [mutable]
    if directive.protected:
        marks = ["protected"]
    if directive.hidden:
        marks.append("hidden")
    cells = (names, kind, _default(directive), ", ".join(marks), directive.help)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _table(title: str, section: list[Directive]) -> str:
    head = "| name | type | default | set | meaning |\n| --- | --- | --- | --- | --- |\n"
    return f"### {title}\n\n{head}{''.join(map(_row, section))}\n"


def write_reference() -> str:
    """The whole page."""
    parts = [_INTRODUCTION, "## Directives\n\n"]
    parts += [_table(title, section) for title, section in directives.SECTIONS]
    parts.append(_DORMANT)
    parts += [_table(title, section) for title, section in dormant.SECTIONS]
    return "".join(parts).rstrip("\n") + "\n"


def main() -> None:
    """Write the page to its place."""
    TARGET.write_text(write_reference(), encoding="utf-8")
    sys.stdout.write(f"{TARGET}\n")


if __name__ == "__main__":
    main()
