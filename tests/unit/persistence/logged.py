"""A node with an append-only file in the test's own process, on a disk that may fail."""

from __future__ import annotations

import os
import time
from pathlib import Path

import trio

from node.log import Log
from node.persistence.aof import AppendOnlyFile
from node.persistence.child import Child
from tests.faulty import FaultyFiles
from tests.inprocess import LocalClient, LocalServer
from tests.wire import Error, Simple

PATIENCE = 60.0
NO_SPACE = Error(b"MISCONF Errors writing to the AOF file: No space left on device")
IO_ERROR = Error(b"MISCONF Errors writing to the AOF file: Input/output error")
STARTED = Simple(b"Background append only file rewriting started")
SCHEDULED = Simple(b"Background append only file rewriting scheduled")


class Ended(BaseException):
    """The process would have ended."""


class LoggedNode:
    """A node with a log in the current folder. It is loaded, and its tasks do not run."""

    def __init__(self, *options: str, load: bool = True) -> None:
        self.files = FaultyFiles()
        options = ("--save", "", "--enable-debug-command", "yes", *options)
        if "--appendonly" not in options:
            options = ("--appendonly", "yes", *options)
        self.node = LocalServer(*options, files=self.files)
        self.server = self.node.server
        self.log_path = Path("log")
        self.log_path.touch()
        log = self.server.log
        assert isinstance(log, Log)
        log.path = str(self.log_path.absolute())
        parts = self.node.engine.components
        self.child = next(part for part in parts if isinstance(part, Child))
        self.aof = next(part for part in parts if isinstance(part, AppendOnlyFile))
        self.writer = self.aof.writer
        self.aof.end = self._end
        self.client = self.node.connect()
        if load:
            self.load()

    def _end(self, code: int) -> None:
        raise Ended(code)

    def busy(self) -> bool:
        """Whether there is a child."""
        return self.child.running

    def state(self) -> int:
        """Whether there is a log."""
        return self.aof.state

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def load(self) -> None:
        """What happens at start."""
        self.node.engine.refresh()
        trio.run(self.server.load)

    def batch(self, *requests: str, client: LocalClient | None = None) -> list[object]:
        """Requests whose replies go out together, once all barriers have been passed."""
        client = client or self.client
        replies: list[object] = [client(*request.split()) for request in requests]
        for barrier in self.server.hub.barriers:
            barrier()
        return replies

    def settle(self) -> None:
        """Wait until the child has ended."""
        deadline = time.monotonic() + PATIENCE
        while self.child.running:
            self.child.tick(0)
            assert time.monotonic() < deadline

    def syncs(self) -> int:
        """How often a file of the log has been synced."""
        return self.files.calls.get("fdatasync", 0)

    def sync(self) -> None:
        """What the worker would do."""
        trio.run(self.writer._work_off)

    def advance(self, seconds: float) -> None:
        """Let time pass, with a disk that is quick."""
        self.node.advance(seconds)
        self.sync()

    def digest(self) -> object:
        return self.client("DEBUG", "DIGEST")

    def close(self) -> None:
        self.child.kill()
        if self.writer.is_open:
            os.close(self.writer.descriptor)
            self.writer.descriptor = -1
        self.node.close()


def again(*options: str) -> LoggedNode:
    """Another node that loads what is in the folder."""
    return LoggedNode(*options)


def reload_digest(*options: str) -> object:
    """The digest of what is loaded out of the folder."""
    node = again(*options)
    try:
        return node.digest()
    finally:
        node.close()


def wire(*argv: str) -> bytes:
    parts = [b"*%d\r\n" % len(argv)]
    parts += [b"$%d\r\n%b\r\n" % (len(word), word.encode()) for word in argv]
    return b"".join(parts)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "appendonlydir").iterdir())


def content(folder: Path, name: str) -> bytes:
    return (folder / "appendonlydir" / name).read_bytes()
