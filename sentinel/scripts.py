"""Scripts that are told of events: the queue, and the processes that run.

Behaviour after ``sentinelScheduleScriptExecution`` and its neighbours in sentinel.c: a script that
ends with 1, or by a signal, is run again, up to ten times and each time after twice as long a wait;
one that runs for too long is killed. Time is handed in; nothing here waits.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from node.resp import Map, Reply

if TYPE_CHECKING:
    from sentinel.machine import Settings

MOST_QUEUED: Final = 256
MOST_RUNNING: Final = 16
MOST_ATTEMPTS: Final = 10
RETRY_CODE: Final = 1
# What the child of a fork would end with where the script cannot be executed.
NOT_EXECUTED: Final = 2
NOT_STARTED: Final = 99

Tell = Callable[[str, str, str], None]
"""(level, event, text)."""


class Process(Protocol):
    """A script that runs."""

    @property
    def pid(self) -> int:
        """The process's id."""
        ...

    def poll(self) -> int | None:
        """The exit code (minus the signal), None while it runs."""
        ...

    def kill(self) -> None:
        """End it at once."""
        ...


def start_process(argv: Sequence[str]) -> Process:
    """Run a script, with the sentinel's environment and output. Raises OSError."""
    return subprocess.Popen(argv, stdin=subprocess.DEVNULL)


class Job:
    """A script with its arguments. ``start`` is when it was started, or is to be again."""

    __slots__ = ("argv", "attempts", "process", "start")

    def __init__(self, argv: Sequence[str]) -> None:
        self.argv = list(argv)
        self.attempts = 0
        self.start = 0
        self.process: Process | None = None


class Scripts:
    """The queue of one sentinel. All times are the machine's milliseconds."""

    def __init__(
        self,
        settings: Settings,
        tell: Tell,
        start: Callable[[Sequence[str]], Process] = start_process,
    ) -> None:
        self.jobs: list[Job] = []
        self._settings = settings
        self._tell = tell
        self._start = start

    @property
    def running(self) -> int:
        """How many are running."""
        return sum(job.process is not None for job in self.jobs)

    def schedule(self, path: str, arguments: Sequence[str]) -> None:
        """Queue a script; where there are too many, the oldest that does not run is dropped."""
        self.jobs.append(Job([path, *arguments]))
        if len(self.jobs) > MOST_QUEUED:
            for job in self.jobs:
                if job.process is None:
                    self.jobs.remove(job)
                    break

    def tick(self, now: int) -> None:
        """See who has ended, end who takes too long, start who is due."""
        for job in list(self.jobs):
            if job.process is not None:
                self._look_after(job, job.process, now)
        running = self.running
        for job in list(self.jobs):
            if running >= MOST_RUNNING:
                return
            if job.process is None and job.start <= now:
                running += self._run(job, now)

    def _look_after(self, job: Job, process: Process, now: int) -> None:
        code = process.poll()
        if code is not None:
            signal = max(0, -code)
            self._tell("debug", "-script-child", f"{process.pid} {max(0, code)} {signal}")
            self._end(job, max(0, code), signal, now)
        elif now - job.start > self._settings.script_max_runtime:
            self._tell("warning", "-script-timeout", f"{job.argv[0]} {process.pid}")
            process.kill()

    def _run(self, job: Job, now: int) -> bool:
        job.attempts += 1
        job.start = now
        try:
            job.process = self._start(job.argv)
        except (BlockingIOError, MemoryError):
            # No process could be made.
            self._tell("warning", "-script-error", f"{job.argv[0]} {NOT_STARTED} 0")
            return False
        except (OSError, ValueError):
            self._end(job, NOT_EXECUTED, 0, now)
            return False
        self._tell("debug", "+script-child", str(job.process.pid))
        return True

    def _end(self, job: Job, code: int, signal: int, now: int) -> None:
        job.process = None
        if (signal or code == RETRY_CODE) and job.attempts < MOST_ATTEMPTS:
            job.start = now + self._settings.script_retry_delay * 2 ** (job.attempts - 1)
            return
        if signal or code:
            self._tell("warning", "-script-error", f"{job.argv[0]} {signal} {code}")
        self.jobs.remove(job)

    def describe(self, now: int) -> list[Reply]:
        """SENTINEL PENDING-SCRIPTS."""
        return [self._describe(job, now) for job in self.jobs]

    def _describe(self, job: Job, now: int) -> Reply:
        if job.process is not None:
            state, label, time = b"running", b"run-time", now - job.start
            pid = job.process.pid
        else:
            state, label, time = b"scheduled", b"run-delay", max(0, job.start - now)
            pid = 0
        return Map(
            [
                *(b"argv", [os.fsencode(word) for word in job.argv]),
                *(b"flags", state),
                *(b"pid", b"%d" % pid),
                *(label, b"%d" % time),
                *(b"retry-num", b"%d" % job.attempts),
            ]
        )
