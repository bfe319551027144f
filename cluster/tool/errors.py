"""How the tool ends: its exit codes, and the exceptions that lead to them."""

from __future__ import annotations

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
