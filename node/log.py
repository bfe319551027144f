"""The log, in the shape that operators of redis-server and their tools read.

A line is `pid:role date level message`, for example
`4019:M 23 Nov 2026 13:03:51.378 * Ready to accept connections tcp`. The role is one letter: X for a
sentinel, C for a process that is starting or a background child, S for a replica, M for a master.
The level is one sign: `.` debug, `-` verbose, `*` notice, `#` warning. Behaviour after `serverLog`
in Redis (server.c).
"""

from __future__ import annotations

import os
import sys
import time
from typing import Final

from node.clock import Clock

if sys.platform != "win32":
    import syslog

DEBUG: Final = 0
VERBOSE: Final = 1
NOTICE: Final = 2
WARNING: Final = 3
NOTHING: Final = 4

LEVELS: Final = {
    "debug": DEBUG,
    "verbose": VERBOSE,
    "notice": NOTICE,
    "warning": WARNING,
    "nothing": NOTHING,
}

ROLE_STARTING: Final = "C"
ROLE_MASTER: Final = "M"
ROLE_REPLICA: Final = "S"
ROLE_SENTINEL: Final = "X"

_SIGNS: Final = ".-*#"
_MONTHS: Final = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)


def format_date(seconds: float) -> str:
    """`23 Nov 2026 12:00:00.123` in the machine's time zone, from Unix seconds."""
    milliseconds = int(seconds * 1000)
    local = time.localtime(milliseconds // 1000)
    return (
        f"{local.tm_mday:02d} {_MONTHS[local.tm_mon - 1]} {local.tm_year} "
        f"{local.tm_hour:02d}:{local.tm_min:02d}:{local.tm_sec:02d}.{milliseconds % 1000:03d}"
    )


class Log:
    """Where a process writes what happens to it, line by line, each at once.

    clock        gives the date of a line
    level        the least level that is written; change it with `set_level`
    path         a file, opened for each line, so that it may be moved away; empty for `descriptor`
    role         the letter in each line; whoever knows the role sets it
    descriptor   an open file for lines without a path, standard output by default

    A line that cannot be written is lost, silently: a full disk must not stop the server.
    """

    __slots__ = ("_clock", "_descriptor", "_facility", "level", "path", "role")

    def __init__(
        self,
        clock: Clock,
        *,
        level: str = "notice",
        path: str = "",
        role: str = ROLE_STARTING,
        descriptor: int = 1,
    ) -> None:
        self._clock = clock
        self._descriptor = descriptor
        self._facility = -1
        self.level = LEVELS[level]
        self.path = path
        self.role = role

    def set_level(self, name: str) -> None:
        """Write from this level on: `debug`, `verbose`, `notice`, `warning` or `nothing`."""
        self.level = LEVELS[name]

    def open_syslog(self, ident: str, facility: str) -> None:
        """Send lines to syslog too. `facility` is `user` or `local0` to `local7`."""
        code: int = getattr(syslog, f"LOG_{facility.upper()}")
        self._facility = code
        syslog.openlog(ident, syslog.LOG_PID | syslog.LOG_NDELAY | syslog.LOG_NOWAIT, code)

    @property
    def to_syslog(self) -> bool:
        """Whether lines go to syslog too."""
        return self._facility >= 0

    def debug(self, message: str) -> None:
        """For who works on the server."""
        self.write(DEBUG, message)

    def verbose(self, message: str) -> None:
        """Rarely of use."""
        self.write(VERBOSE, message)

    def notice(self, message: str) -> None:
        """What an operator may want to know."""
        self.write(NOTICE, message)

    def warning(self, message: str) -> None:
        """What an operator should see."""
        self.write(WARNING, message)

    def write(self, level: int, message: str) -> None:
        """One line at a level of this module."""
        if level < self.level:
            return
        date = format_date(self._clock.wall())
        self._append(f"{os.getpid()}:{self.role} {date} {_SIGNS[level]} {message}\n")
        self._send(level, message)

    def raw(self, level: int, text: str) -> None:
        """Text without the prefix, such as the banner."""
        if level < self.level:
            return
        self._append(f"{text}\n")
        self._send(level, text)

    def open(self) -> int:
        """A descriptor that text can be appended to without this object; -1 if there is none."""
        try:
            return _open(self.path) if self.path else self._descriptor
        except OSError:
            return -1

    def _append(self, text: str) -> None:
        octets = text.encode("utf-8", "surrogateescape")
        try:
            if not self.path:
                _write_all(self._descriptor, octets)
                return
            descriptor = _open(self.path)
            try:
                _write_all(descriptor, octets)
            finally:
                os.close(descriptor)
        except OSError:
            return

    def _send(self, level: int, message: str) -> None:
        if self._facility >= 0:
            priorities = (syslog.LOG_DEBUG, syslog.LOG_INFO, syslog.LOG_NOTICE, syslog.LOG_WARNING)
            text = message.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            syslog.syslog(priorities[level], text.replace("\0", "\\0"))


def _open(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)


def _write_all(descriptor: int, octets: bytes) -> None:
    rest = memoryview(octets)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
