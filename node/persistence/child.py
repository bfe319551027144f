"""The one forked child that writes down the data as they were at the moment of the fork.

``os.fork`` gives the child the whole keyspace as it is; the parent goes on and the kernel copies
what either writes to. The child touches nothing of trio and of the clients: it closes their
sockets, does its one work, and ends without any cleaning up (``os._exit``). It tells the parent by
a pipe how far it is and how much memory it has cost; how it ended the parent hears from
``waitpid``, asked in each tick. There is at most one child, as in Redis (``redisFork``,
``checkChildrenDone`` in server.c, childinfo.c).
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import signal
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from node.component import Component
from node.information import Fields, Section
from node.log import NOTICE, ROLE_STARTING, VERBOSE

if TYPE_CHECKING:
    from node.server import Server

KIND_SNAPSHOT: Final = "rdb"
KIND_REWRITE: Final = "aof"

REPORT_NS: Final = 1_000_000_000
# Looking up the cost in memory may take this fraction of the child's time.
REPORT_SHARE: Final = 100
MEGABYTE: Final = 1 << 20


class Exit:
    """How a child ended: its exit code or the signal, bytes copied, seconds it ran."""

    __slots__ = ("pid", "code", "signal", "cow", "seconds")

    def __init__(self, pid: int, code: int, signal: int, cow: int, seconds: float) -> None:
        self.pid = pid
        self.code = code
        self.signal = signal
        self.cow = cow
        self.seconds = seconds

    @property
    def ok(self) -> bool:
        """Whether the work was done."""
        return self.code == 0 and self.signal == 0

    @property
    def killed(self) -> bool:
        """Whether it was ended on purpose, by :meth:`Child.kill`, which is no failure."""
        return self.signal == signal.SIGUSR1


class Child(Component):
    """The forked child, if there is one, seen from the parent."""

    def __init__(self, server: Server) -> None:
        super().__init__(server.engine)
        self._clock = server.clock
        self._hub = server.hub
        self.kind = ""  # KIND_…; empty: there is no child
        self.pid = 0
        # Bytes copied since the fork, now and at most; when that was told; keys written of all.
        self.cow = 0
        self.cow_peak = 0
        self.told_ns = 0
        self.processed = 0
        self.total = 0
        self.forks = 0
        self.fork_ns = 0  # how long the last fork held the server up
        # Run in the child before its work: what must not be kept open there.
        self.after_fork: list[Callable[[], None]] = [self._hub.abandon]
        self._started_ns = 0
        self._pipe = -1
        self._text = b""
        self._done: Callable[[Exit], None] = _ignore_exit
        # In the child.
        self._parent = 0
        self._report_ns = 0
        self._reports = 0
        self._cow_sum = 0

    @property
    def running(self) -> bool:
        """Whether there is a child."""
        return self.pid != 0

    @property
    def seconds(self) -> float:
        """For how long it has been running; -1 where there is none."""
        if not self.pid:
            return -1.0
        return (self._clock.monotonic_ns() - self._started_ns) / 1e9

    def start(
        self,
        kind: str,
        work: Callable[[], None],
        done: Callable[[Exit], None],
        total: int = 0,
    ) -> int:
        """Fork a child that does ``work``; its process id.

        ``done`` is called in a later tick, when it has ended. A child whose work raises ends with
        1; the error is logged, unless it is an OSError, of which the work itself tells. ``total``
        is the number of keys to be written, for INFO. There must be no child running. Raises
        OSError where the system has no room for another process.
        """
        assert not self.pid
        reading, writing = os.pipe()
        self._parent = os.getpid()
        # What lives now is data, most likely: no business of the collector in either process.
        gc.freeze()
        began = self._clock.monotonic_ns()
        try:
            pid = os.fork()
        except OSError:
            os.close(reading)
            os.close(writing)
            raise
        if pid == 0:
            os.close(reading)
            self._be_child(kind, work, writing)
        os.close(writing)
        os.set_blocking(reading, False)
        self._started_ns = self._clock.monotonic_ns()
        self.fork_ns = self._started_ns - began
        self.forks += 1
        self.engine.report_stall(b"fork", self.fork_ns)
        self.kind = kind
        self.pid = pid
        self.cow = 0
        self.cow_peak = 0
        self.told_ns = self._started_ns
        self.processed = 0
        self.total = total
        self._pipe = reading
        self._text = b""
        self._done = done
        return pid

    def kill(self) -> None:
        """End the child now, unless it has just ended by itself; ``done`` is called before return.

        Waits for the process to be gone, so that it cannot change anything afterwards.
        """
        if not self.pid:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGUSR1)
        self._reap(0)

    def tick(self, now_ns: int) -> None:
        """Hear what the child says, and whether it has ended."""
        if self.pid:
            self._listen()
            self._reap(os.WNOHANG)

    def _reap(self, options: int) -> None:
        try:
            pid, status = os.waitpid(self.pid, options)
        except ChildProcessError:
            # Somebody else has waited for it: how it ended will never be known.
            pid, status = self.pid, 1 << 8
        if not pid:
            return
        self._listen()
        os.close(self._pipe)
        stopped = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 0
        end = Exit(pid, code, stopped, self.cow_peak, self.seconds)
        done = self._done
        self.kind = ""
        self.pid = 0
        self.cow = 0
        self.cow_peak = 0
        self.processed = 0
        self.total = 0
        self._pipe = -1
        self._done = _ignore_exit
        done(end)

    def _listen(self) -> None:
        try:
            while data := os.read(self._pipe, 4096):
                self._text += data
        except BlockingIOError:
            pass
        *lines, self._text = self._text.split(b"\n")
        if lines:
            cow, processed = map(int, lines[-1].split())
            self.cow = cow
            self.cow_peak = max(self.cow_peak, *(int(line.split()[0]) for line in lines))
            self.processed = processed
            self.told_ns = self._clock.monotonic_ns()

    # In the child.

    def _be_child(self, kind: str, work: Callable[[], None], pipe: int) -> NoReturn:
        """All that ever happens in the child."""
        code = 1
        log = self.engine.log
        try:
            gc.disable()
            # A signal would wake the parent's loop instead.
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
            log.role = ROLE_STARTING
            self.kind = kind
            self.cow_peak = 0
            self.processed = 0
            self._pipe = pipe
            self._report_ns = self._clock.monotonic_ns() + REPORT_NS
            for close in self.after_fork:
                close()
            work()
            self._tell(NOTICE)
            code = 0
        except OSError:
            pass
        except BaseException:
            log.warning(f"Unexpected error in the child process:\n{traceback.format_exc()}")
        finally:
            os._exit(code)

    def report(self, processed: int) -> None:
        """For the work in the child: so many keys have been written. Cheap; told once a second.

        Raises OSError as :meth:`check_parent` does.
        """
        self.processed = processed
        self.check_parent()
        if self._clock.monotonic_ns() >= self._report_ns:
            self._tell(VERBOSE)

    def check_parent(self) -> None:
        """For the work in the child: raise OSError where the server has been killed.

        Another may have been started by now, with newer data, whose files are to be left alone.
        """
        if os.getppid() != self._parent:
            raise OSError(errno.ESRCH, "The server has been killed")

    def _tell(self, level: int) -> None:
        began = self._clock.monotonic_ns()
        cow = private_dirty()
        self.cow_peak = max(self.cow_peak, cow)
        self._cow_sum += cow
        self._reports += 1
        if cow:
            self.engine.log.write(
                level,
                f"Fork CoW for {self.kind.upper()}: current {cow // MEGABYTE} MB, "
                f"peak {self.cow_peak // MEGABYTE} MB, "
                f"average {self._cow_sum // self._reports // MEGABYTE} MB",
            )
        # A parent that is gone reads nothing, and one that hangs must not hang the child.
        with contextlib.suppress(OSError):
            os.set_blocking(self._pipe, False)
            os.write(self._pipe, b"%d %d\n" % (cow, self.processed))
        now = self._clock.monotonic_ns()
        self._report_ns = now + max(REPORT_NS, (now - began) * REPORT_SHARE)

    # Statistics.

    def sections(self) -> Sequence[Section]:
        return (Section("Stats", self._collect_stats),)

    def reset_statistics(self) -> None:
        self.forks = 0
        self.fork_ns = 0

    def _collect_stats(self) -> Fields:
        return [("latest_fork_usec", self.fork_ns // 1000), ("total_forks", self.forks)]


def private_dirty() -> int:
    """Bytes of memory that this process shares with no other; 0 where the system does not tell."""
    try:
        text = Path("/proc/self/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return 0
    for line in text.splitlines():
        if line.startswith("Private_Dirty:"):
            return int(line.split()[1]) * 1024
    return 0


def _ignore_exit(end: Exit) -> None:
    return None
