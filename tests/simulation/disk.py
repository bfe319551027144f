"""A disk in memory: what files hold, and what is left of them when the power fails.

A process that ends leaves everything that it has written. When the power fails, a file is what it
was when it was last flushed, and maybe some of what was written since; a name leads where it led
when its folder was last flushed, or where it was changed to since.
"""

from __future__ import annotations

import errno
import os
import posixpath
import random
from collections.abc import Callable
from typing import Final

import trio

from node.files import Files

PIPE_SIZE: Final = 65536


class PowerCut(BaseException):
    """The process ends here, in the middle of whatever it is doing."""


class _File:
    """Content, and as much of it as is permanent."""

    __slots__ = ("content", "flushed")

    def __init__(self) -> None:
        self.content = bytearray()
        self.flushed = b""

    def fall(self, draw: random.Random) -> None:
        """The power fails: keep what was flushed, and maybe something of the rest."""
        content = bytes(self.content)
        if content.startswith(self.flushed):
            content = content[: draw.randint(len(self.flushed), len(content))]
        elif draw.random() < 0.5:
            content = self.flushed
        self.content = bytearray(content)
        self.flushed = content


class Disk:
    """The files of one host, by their names."""

    def __init__(self, draw: random.Random) -> None:
        self._draw = draw
        self.names: dict[str, _File] = {}
        self.folders: dict[str, None] = {}
        # Changes of names that are not permanent yet, in order: (folder, undo).
        self._unsettled: list[tuple[str, Callable[[], None]]] = []

    def point(self, name: str, file: _File | None) -> None:
        """Let the name lead to the file, or nowhere; permanent when the folder is flushed."""
        before = self.names.get(name)

        def undo() -> None:
            if before is None:
                self.names.pop(name, None)
            else:
                self.names[name] = before

        if file is None:
            del self.names[name]
        else:
            self.names[name] = file
        self._unsettled.append((posixpath.dirname(name), undo))

    def settle(self, folder: str) -> None:
        """Make the names of the folder permanent."""
        self._unsettled = [entry for entry in self._unsettled if entry[0] != folder]

    def fail_power(self) -> None:
        """Keep what is permanent, and some of the rest."""
        keep = self._draw.randint(0, len(self._unsettled))
        for _, undo in reversed(self._unsettled[keep:]):
            undo()
        self._unsettled = []
        for file in self.names.values():
            file.fall(self._draw)


class Pipe:
    """Bytes between the processes of one host. ``writers`` is how many hold its end."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.writers = 1
        self.reading = True
        self.changed = trio.Event()

    def wake(self) -> None:
        """Tell who waits."""
        self.changed.set()
        self.changed = trio.Event()


class _Open:
    """An open file."""

    __slots__ = ("file", "at", "appending")

    def __init__(self, file: _File, *, appending: bool = False) -> None:
        self.file = file
        self.at = 0
        self.appending = appending


# What a child does, one thing after the other; False: not possible yet, try again.
Step = Callable[[], bool]


class DiskFiles(Files):
    """The disk as one process sees it; relative names are those in the folder ``home``.

    After :meth:`abandon` nothing that the process does has any effect. ``trouble`` is called before
    each change of what is on disk, and may raise.
    """

    __slots__ = ("disk", "trouble", "_home", "_open", "_next", "_gone", "_steps", "_own", "_draw")

    def __init__(self, disk: Disk, home: str, draw: random.Random) -> None:
        self.disk = disk
        self.trouble: Callable[[], None] = _do_nothing
        self._home = home
        self._open: dict[int, _Open | tuple[Pipe, bool]] = {}
        self._next = 100
        self._gone = False
        # Of a child that is being recorded: its steps, and the descriptors that are its own.
        self._steps: list[Step] | None = None
        self._own: dict[int, None] = {}
        self._draw = draw

    @property
    def gone(self) -> bool:
        """Whether the process is gone."""
        return self._gone

    def abandon(self) -> None:
        """The process is gone."""
        self._gone = True
        for opened in self._open.values():
            if isinstance(opened, tuple):
                opened[0].wake()

    # A child.

    def record(self, work: Callable[[], None]) -> tuple[list[Step], int]:
        """Let ``work`` be done as a forked child would do it, now, but with no effect on the disk.

        Returns the steps that have the effect, and the code that the child ends with.
        """
        steps: list[Step] = []
        pipes = [opened[0] for opened in self._open.values() if isinstance(opened, tuple)]
        for pipe in pipes:
            pipe.writers += 1
        self._steps = steps
        self._own = {}
        code = 0
        try:
            work()
        except OSError:
            code = 1
        finally:
            self._steps = None
        return steps, code

    def release_pipes(self) -> None:
        """A child has ended: it holds no pipe any more."""
        for opened in list(self._open.values()):
            if isinstance(opened, tuple):
                pipe = opened[0]
                pipe.writers = min(pipe.writers, 0)
                pipe.wake()

    def _do(self, action: Callable[[], None]) -> None:
        """Change something: now, or as a step of the child that is being recorded."""
        if self._steps is not None:

            def step() -> bool:
                action()
                return True

            self._steps.append(step)
            return
        if self._gone:
            raise _failure(errno.EIO)
        self.trouble()
        action()

    def _take_number(self) -> int:
        self._next += 1
        if self._steps is not None:
            self._own[self._next] = None
        return self._next

    def _place(self, path: str) -> str:
        if path.startswith(self._home):
            path = path[len(self._home) :].lstrip("/")
        path = posixpath.normpath(path)
        return "" if path == "." else path

    def _find(self, path: str) -> _File:
        if self._gone:
            raise _failure(errno.EIO)
        file = self.disk.names.get(self._place(path))
        if file is None:
            raise _failure(errno.ENOENT)
        return file

    def _opened(self, descriptor: int) -> _Open:
        opened = self._open.get(descriptor)
        if not isinstance(opened, _Open):
            raise _failure(errno.EBADF)
        return opened

    # Descriptors.

    def open(self, path: str) -> int:
        file = self._find(path)
        number = self._take_number()
        self._open[number] = _Open(file)
        return number

    def create(self, path: str, mode: int = 0o644) -> int:
        return self._create(path, empty=True, appending=False)

    def create_new(self, path: str, mode: int = 0o644) -> int:
        if self._place(path) in self.disk.names:
            raise _failure(errno.EEXIST)
        return self._create(path, empty=True, appending=False)

    def append(self, path: str, mode: int = 0o644) -> int:
        return self._create(path, empty=False, appending=True)

    def _create(self, path: str, *, empty: bool, appending: bool) -> int:
        number = self._take_number()
        name = self._place(path)

        def create() -> None:
            file = self.disk.names.get(name)
            if file is None:
                file = _File()
                self.disk.point(name, file)
            elif empty:
                file.content.clear()
            self._open[number] = _Open(file, appending=appending)

        self._do(create)
        return number

    def read(self, descriptor: int, size: int) -> bytes:
        if self._gone:
            raise _failure(errno.EIO)
        opened = self._open.get(descriptor)
        if isinstance(opened, tuple):
            pipe = opened[0]
            if not pipe.content and pipe.writers > 0:
                raise _failure(errno.EAGAIN)
            data = bytes(pipe.content[:size])
            del pipe.content[:size]
            return data
        file = self._opened(descriptor)
        data = bytes(file.file.content[file.at : file.at + size])
        file.at += len(data)
        return data

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        taken = bytes(data)
        opened = self._open.get(descriptor)
        if isinstance(opened, tuple):
            assert self._steps is not None, "only a child writes to a pipe"
            self._write_to_pipe(opened[0], bytearray(taken))
            return len(taken)
        if self._steps is None and len(taken) > 1 and self._draw.random() < 0.05:
            taken = taken[: self._draw.randrange(1, len(taken))]

        def write() -> None:
            file = self._opened(descriptor)
            content = file.file.content
            at = len(content) if file.appending else file.at
            content[at : at + len(taken)] = taken
            file.at = at + len(taken)

        self._do(write)
        return len(taken)

    def _write_to_pipe(self, pipe: Pipe, rest: bytearray) -> None:
        assert self._steps is not None

        def step() -> bool:
            if not pipe.reading:
                raise _failure(errno.EPIPE)
            size = min(len(rest), PIPE_SIZE - len(pipe.content), self._draw.randrange(1, 8192))
            pipe.content += rest[:size]
            del rest[:size]
            pipe.wake()
            return not rest

        self._steps.append(step)

    def truncate(self, descriptor: int, size: int) -> None:
        def truncate() -> None:
            del self._opened(descriptor).file.content[size:]

        self._do(truncate)

    def fsync(self, descriptor: int) -> None:
        def flush() -> None:
            file = self._opened(descriptor).file
            file.flushed = bytes(file.content)

        self._do(flush)

    def fdatasync(self, descriptor: int) -> None:
        self.fsync(descriptor)

    def size_of(self, descriptor: int) -> int:
        return len(self._opened(descriptor).file.content)

    def close(self, descriptor: int) -> None:
        if self._steps is not None and descriptor not in self._own:
            return  # the parent's
        if self._steps is not None:
            self._do(lambda: self._close(descriptor))
            return
        self._close(descriptor)

    def _close(self, descriptor: int) -> None:
        opened = self._open.pop(descriptor, None)
        if isinstance(opened, tuple):
            pipe, reads = opened
            if reads:
                pipe.reading = False
            else:
                pipe.writers -= 1
            pipe.wake()

    async def run_aside(self, work: Callable[[int], None], descriptor: int) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(self._draw.choice([0, 0.001, 0.02, 0.3]) * self._draw.random())
            work(descriptor)

    def pipe(self) -> tuple[int, int]:
        pipe = Pipe()
        reading, writing = self._take_number(), self._take_number()
        self._open[reading] = (pipe, True)
        self._open[writing] = (pipe, False)
        return reading, writing

    async def wait_readable(self, descriptor: int) -> None:
        opened = self._open[descriptor]
        assert isinstance(opened, tuple)
        pipe = opened[0]
        while not pipe.content and pipe.writers > 0:
            await pipe.changed.wait()
        await trio.lowlevel.checkpoint()

    # Names.

    def rename(self, old: str, new: str) -> None:
        def rename() -> None:
            file = self._find(old)
            self.disk.point(self._place(new), file)
            self.disk.point(self._place(old), None)

        self._do(rename)

    def remove(self, path: str) -> None:
        def remove() -> None:
            self._find(path)
            self.disk.point(self._place(path), None)

        self._do(remove)

    def make_folder(self, path: str) -> None:
        self._do(lambda: self.disk.folders.setdefault(self._place(path)))

    def list_folder(self, path: str) -> list[str]:
        folder = self._place(path)
        return [
            posixpath.basename(name)
            for name in self.disk.names
            if posixpath.dirname(name) == folder
        ]

    def length(self, path: str) -> int | None:
        file = self.disk.names.get(self._place(path))
        return None if file is None else len(file.content)

    def is_folder(self, path: str) -> bool:
        return self._place(path) in self.disk.folders

    def sync_folder(self, path: str) -> None:
        self._do(lambda: self.disk.settle(self._place(path)))


def _failure(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def _do_nothing() -> None:
    return None
