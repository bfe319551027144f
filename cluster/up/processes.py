"""The processes of nodes and sentinels: started, watched, and ended together.

Each has a folder of its own and a process group of its own, so that Ctrl-C on the terminal ends
this command first, which then ends them in good order. Should it be killed itself, the kernel ends
them (on Linux). A process that has ended is not started again, since whoever ended it will have
meant it, unless that is asked for by a file in its folder (`START_NAME`).
"""

from __future__ import annotations

import contextlib
import ctypes
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import trio

from cluster.tool.connection import Address

LOG_NAME: Final = "node.log"
START_NAME: Final = "start"
"""A file of this name in the folder of a process that has ended starts it again, and is removed."""
STOP_LIMIT: Final = 20.0
POLL_INTERVAL: Final = 0.05
LOG_TAIL: Final = 2000
_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None) if sys.platform == "linux" else None


@dataclass(slots=True)
class Process:
    """A node or sentinel: where it listens and lives.

    ``ended`` tells how it has ended; empty: it has not.
    """

    address: Address
    folder: Path
    handle: subprocess.Popen[bytes]
    ended: str = ""
    command: Sequence[str] = field(default=(), repr=False)

    @property
    def pid(self) -> int:
        """The process's id."""
        return self.handle.pid

    def look(self) -> bool:
        """Whether it has ended since it was looked at last."""
        if self.ended or self.handle.poll() is None:
            return False
        self.ended = describe_end(self.handle.returncode)
        return True

    def heed_request(self) -> bool:
        """Start it again if it has ended and that is asked for; whether it was. Raises OSError."""
        request = self.folder / START_NAME
        if not request.exists():
            return False
        request.unlink()
        if not self.ended:
            return False
        self.handle = start(self.command, self.folder, self.address).handle
        self.ended = ""
        return True

    def tail(self) -> str:
        """The end of its log."""
        with contextlib.suppress(OSError):
            return (self.folder / LOG_NAME).read_text(errors="replace")[-LOG_TAIL:].strip()
        return ""


def describe_end(code: int) -> str:
    """An exit code for people."""
    if code >= 0:
        return f"ended with exit code {code}"
    with contextlib.suppress(ValueError):
        return f"killed by {signal.Signals(-code).name}"
    return f"killed by signal {-code}"


def start(command: Sequence[str], folder: Path, address: Address) -> Process:
    """Start a program there. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOG_NAME).open("ab") as log:
        handle = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
            start_new_session=True,
            # There is no thread besides this one; and the signal comes when this one ends.
            preexec_fn=_die_with_parent if _LIBC is not None else None,  # noqa: PLW1509
        )
    return Process(address, folder, handle, command=command)


def _die_with_parent() -> None:
    assert _LIBC is not None
    _LIBC.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))


async def stop(processes: Sequence[Process], limit: float = STOP_LIMIT) -> list[Process]:
    """End all by SIGTERM; who had to be killed since it did not heed that within the limit.

    When this is cancelled, all are killed at once.
    """
    killed: list[Process] = []
    try:
        for process in processes:
            if process.handle.poll() is None:
                process.handle.terminate()
        with trio.move_on_after(limit):
            for process in processes:
                while process.handle.poll() is None:  # noqa: ASYNC110
                    await trio.sleep(POLL_INTERVAL)
    finally:
        for process in processes:
            if process.handle.poll() is None:
                process.handle.kill()
                killed.append(process)
            process.handle.wait()
            process.look()
    return killed
