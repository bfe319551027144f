"""How the tool ends: its exit codes, and the exceptions that lead to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

EXIT_DONE: Final = 0
EXIT_PROBLEMS: Final = 1
"""The cluster has problems, or the work stopped half-way (a second run continues it)."""
EXIT_USAGE: Final = 2
"""click's own: no such option, a bad value."""
EXIT_UNREACHABLE: Final = 3
"""No node could be talked to: refused, timed out, authentication failed."""
EXIT_REFUSED: Final = 4
"""What is asked for cannot be done, or would be dangerous; nothing has been changed."""
EXIT_DECLINED: Final = 5
"""Asked whether to go on, somebody said no."""
EXIT_INTERRUPTED: Final = 130
"""Ctrl-C, as shells have it."""


class ToolError(Exception):
    """The work ends here; the text is for the operator."""

    exit_code = EXIT_PROBLEMS


class Failed(ToolError):
    """It stopped half-way."""


class Unreachable(ToolError):
    """A node cannot be talked to."""

    exit_code = EXIT_UNREACHABLE


class Refused(ToolError):
    """Nothing has been done, for a reason."""

    exit_code = EXIT_REFUSED


class Declined(ToolError):
    """The plan was not confirmed."""

    exit_code = EXIT_DECLINED


def find_failure(error: BaseException) -> BaseException:
    """What has gone wrong, out of the groups that tasks put it in."""
    while isinstance(error, BaseExceptionGroup):
        found = [find_failure(inner) for inner in error.exceptions]
        ranked: list[BaseException] = []
        ranked += [inner for inner in found if isinstance(inner, KeyboardInterrupt)]
        ranked += [inner for inner in found if not isinstance(inner, ToolError)]
        error = (ranked or found)[0]
    return error


def run_to_end(work: Callable[[], int], tell: Callable[[str], None]) -> int:
    """The exit code of a program's work; a ToolError is told, and has its own."""
    try:
        return work()
    except BaseException as raised:
        error = find_failure(raised)
        if not isinstance(error, ToolError):
            raise error from None
        tell(f"Error: {error}")
        return error.exit_code
