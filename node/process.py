"""What a server does as a process of a Unix system: detach, tell its supervisor, leave its id.

The log lines and the order of things are those of redis-server (server.c).
"""

from __future__ import annotations

import contextlib
import errno
import faulthandler
import os
import resource
import signal
import socket
import sys
import traceback
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Final

from node.log import NOTICE, WARNING, Log
from node.version import REDIS_VERSION, SENTRIO_VERSION

DEFAULT_PID_FILE: Final = "/var/run/sentrio.pid"
RESERVED_FILES: Final = 32
"""Descriptors that are not for clients: listeners, logs, files being saved."""

_BANNER: Final = """\

      .--.         Sentrio {version} (Redis {redis})
   .-(    )-.
  (___.__.___)     Running in {mode} mode
   |  |  |  |      Port: {port}
   |  |  |  |      PID: {pid}
  _|__|__|__|_
 '------------'
"""


class CannotStart(Exception):
    """The process has to end before it serves anybody; the text, for the log, says why."""


class TooFewFiles(CannotStart):
    """The system lets this process open too few files to serve anybody."""


def detach() -> Callable[[], None]:
    """Go on as a background process in a session of its own.

    The original process stays until what is returned is called, and ends with 0 then; if the
    background process ends before that, with 1. Until then, too, standard error is what it was,
    for what stops the start. Standard input and output become /dev/null at once, so that a log
    without a file is lost, as with redis-server. Must be called before threads or an event loop
    exist.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    waiting, telling = os.pipe()
    if os.fork():
        os.close(telling)
        os._exit(0 if os.read(waiting, 1) else 1)
    os.close(waiting)
    os.setsid()
    if os.fork():
        os._exit(0)
    _silence(0, 1)

    def release() -> None:
        sys.stderr.flush()
        _silence(2)
        os.write(telling, b".")
        os.close(telling)

    return release


def _silence(*descriptors: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in descriptors:
        os.dup2(null, descriptor)
    if null not in descriptors:
        os.close(null)


class Supervisor:
    """Whoever watches over the process: `systemd`, `upstart` or nobody.

    mode          the `supervised` directive: `no`, `auto`, `systemd` or `upstart`
    environment   the process's environment
    """

    __slots__ = ("_environment", "_log", "kind")

    def __init__(self, mode: str, environment: MutableMapping[str, str], log: Log) -> None:
        self._environment = environment
        self._log = log
        self.kind = ""
        if mode == "auto":
            mode = (
                "upstart"
                if "UPSTART_JOB" in environment
                else "systemd"
                if "NOTIFY_SOCKET" in environment
                else "no"
            )
        if mode == "upstart":
            self._find(
                "UPSTART_JOB", mode, "upstart supervision requested, but UPSTART_JOB not found!"
            )
        elif mode == "systemd":
            self._find("NOTIFY_SOCKET", mode, "systemd supervision error: NOTIFY_SOCKET not found!")

    def _find(self, variable: str, kind: str, complaint: str) -> None:
        if self._environment.get(variable):
            self.kind = kind
        else:
            self._log.warning(complaint)

    def starting(self) -> None:
        """Say that the server starts. For upstart the process stops until it is continued."""
        if self.kind == "upstart":
            self._log.notice("supervised by upstart, will stop to signal readiness.")
            del self._environment["UPSTART_JOB"]
            os.kill(os.getpid(), signal.SIGSTOP)
        elif self.kind == "systemd":
            self._log.notice(
                "supervised by systemd. Please make sure you set appropriate values for "
                "TimeoutStartSec and TimeoutStopSec in your service unit."
            )
            self._notify("STATUS=Sentrio is loading...\n")

    def ready(self) -> None:
        """Say that the server accepts connections."""
        self._notify("STATUS=Ready to accept connections\nREADY=1\n")

    def stopping(self) -> None:
        """Say that the server shuts down."""
        self._notify("STOPPING=1\n")

    def _notify(self, text: str) -> None:
        if self.kind != "systemd":
            return
        address = self._environment["NOTIFY_SOCKET"]
        if address.startswith("@"):
            address = "\0" + address[1:]
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
                notify.setblocking(False)
                notify.sendto(text.encode(), address)
        except OSError as error:
            self._log.warning(f"Could not notify systemd: {error.strerror or error}")


class PidFile:
    """A file that holds the process's id while it runs; `path` empty for none."""

    __slots__ = ("_log", "path")

    def __init__(self, path: str, log: Log) -> None:
        self.path = path
        self._log = log

    def write(self) -> None:
        """Write it; a failure is logged and otherwise of no consequence, as in Redis."""
        if not self.path:
            return
        try:
            Path(self.path).write_text(f"{os.getpid()}\n", encoding="ascii")
        except OSError as error:
            self._log.notice(f"Failed to write PID file: {error.strerror}")

    def remove(self) -> None:
        """Remove it, at the end of the process."""
        if not self.path:
            return
        self._log.notice("Removing the pid file.")
        with contextlib.suppress(OSError):
            Path(self.path).unlink()


def remove_socket(path: str, log: Log) -> None:
    """Remove the file of the Unix socket, at the end of the process; `path` empty for none."""
    if not path:
        return
    log.notice("Removing the unix socket file.")
    with contextlib.suppress(OSError):
        Path(path).unlink()


class CrashReports:
    """What is logged when the process ends in a way that nobody meant (``crash-log-enabled``).

    Of a signal such as SIGSEGV nothing but a descriptor can be used: the log file is kept open for
    that, wherever it is moved.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._descriptor = -1
        self.enabled = False

    def enable(self, enabled: bool) -> None:
        """Report from now on, or no more."""
        self.enabled = enabled
        if not enabled:
            faulthandler.disable()
            return
        if self._descriptor < 0:
            self._descriptor = self._log.open()
        if self._descriptor >= 0:
            faulthandler.enable(self._descriptor)

    def report(self, error: Exception) -> None:
        """An exception has ended the server."""
        log = self._log
        if not self.enabled:
            log.warning(f"The server ends: {type(error).__name__}: {error}")
            return
        log.raw(WARNING, "\n=== SENTRIO BUG REPORT START: Cut & paste starting from here ===")
        log.warning(f"Sentrio {SENTRIO_VERSION} ended by {type(error).__name__}: {error}")
        log.raw(WARNING, "".join(traceback.format_exception(error)))
        log.raw(WARNING, "=== SENTRIO BUG REPORT END ===\n")


def greet(log: Log, configured: bool, program: str) -> None:
    """The first lines of a log. `configured`: whether there was anything on the command line."""
    bits = 64 if sys.maxsize > 2**32 else 32
    log.notice("oO0OoO0OoO0Oo Sentrio is starting oO0OoO0OoO0Oo")
    log.notice(
        f"Sentrio version={SENTRIO_VERSION}, redis_version={REDIS_VERSION}, bits={bits}, "
        f"pid={os.getpid()}, just started"
    )
    if configured:
        log.notice("Configuration loaded")
    else:
        log.warning(
            "Warning: no config file specified, using the default config. In order to specify a "
            f"config file use {program} /path/to/sentrio.conf"
        )


def show_banner(log: Log, mode: str, port: int, always: bool) -> None:
    """The picture with mode, port and process id, or one line where the log is no terminal."""
    if always or (not log.path and not log.to_syslog and sys.stdout.isatty()):
        banner = _BANNER.format(
            version=SENTRIO_VERSION, redis=REDIS_VERSION, mode=mode, port=port, pid=os.getpid()
        )
        log.raw(NOTICE, banner)
    else:
        log.notice(f"Running mode={mode}, port={port}.")


def warn_about_backlog(log: Log, backlog: int) -> None:
    """Say so where the kernel makes the listen backlog shorter than configured."""
    try:
        limit = int(Path("/proc/sys/net/core/somaxconn").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return
    if 0 < limit < backlog:
        log.warning(
            f"WARNING: The TCP backlog setting of {backlog} cannot be enforced because "
            f"/proc/sys/net/core/somaxconn is set to the lower value of {limit}."
        )


def allow_clients(wanted: int, log: Log) -> int:
    """Raise the limit of open files so that `wanted` clients may connect; how many really may.

    Raises TooFewFiles where not even one may.
    """
    try:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    except OSError as error:
        log.warning(
            f"Unable to obtain the current NOFILE limit ({error.strerror}), assuming 1024 and "
            "setting the max clients configuration accordingly."
        )
        return min(wanted, 1024 - RESERVED_FILES)
    needed = wanted + RESERVED_FILES
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    reached, reason = _raise_limit(soft, hard, needed)
    if reached >= needed:
        log.notice(
            f"Increased maximum number of open files to {needed} (it was originally set to {soft})."
        )
        return wanted
    if reached <= RESERVED_FILES:
        raise TooFewFiles(
            f"Your current 'ulimit -n' of {soft} is not enough for the server to start. Please "
            f"increase your open file limit to at least {needed}. Exiting."
        )
    possible = reached - RESERVED_FILES
    log.warning(
        f"You requested maxclients of {wanted} requiring at least {needed} max file descriptors."
    )
    log.warning(f"Server can't set maximum open files to {needed} because of OS error: {reason}.")
    log.warning(
        f"Current maximum open files is {reached}. maxclients has been reduced to {possible} to "
        "compensate for low ulimit. If you need higher maxclients increase 'ulimit -n'."
    )
    return possible


def _raise_limit(soft: int, hard: int, needed: int) -> tuple[int, str]:
    """The limit of open files that could be set, and why not the one that is needed."""
    reason = ""
    attempts = [(needed, needed if hard != resource.RLIM_INFINITY and hard < needed else hard)]
    if hard != resource.RLIM_INFINITY:
        attempts.append((min(needed, hard), hard))
    for limits in attempts:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        except OSError as error:
            reason = reason or error.strerror or str(error)
            continue
        except ValueError:
            # What the resource module makes of EPERM and EINVAL.
            reason = reason or os.strerror(errno.EPERM)
            continue
        return limits[0], reason
    return soft, reason
