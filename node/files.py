"""The file system, handed in: what is to survive a power cut goes through one small layer.

:class:`Files` is the machine's; a test passes one of its own that fails where it wants. All methods
raise OSError. What must not be seen half written is written aside, flushed, renamed, and its folder
flushed.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import trio

WRITE_SIZE: Final = 1 << 20


class Files:
    """Descriptors and names, one method for each thing that can fail."""

    __slots__ = ()

    # Descriptors.

    def open(self, path: str) -> int:
        """A descriptor to read the file with."""
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def create(self, path: str, mode: int = 0o644) -> int:
        """A descriptor to write the file with, which is empty now, whatever was there."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)

    def create_new(self, path: str, mode: int = 0o644) -> int:
        """As :meth:`create`; raises FileExistsError where there is something of that name."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)

    def append(self, path: str, mode: int = 0o644) -> int:
        """A descriptor whose writes go to the end of the file, made if it is not there."""
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, mode)

    def read(self, descriptor: int, size: int) -> bytes:
        """Up to ``size`` bytes; none at the end."""
        return os.read(descriptor, size)

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        """Write some of ``data``, at least a byte; how many bytes it was."""
        return os.write(descriptor, data)

    def overwrite(self, descriptor: int, data: bytes, place: int) -> None:
        """Write all of ``data`` at that place of the file, over what is there."""
        while data:
            done = os.pwrite(descriptor, data, place)
            place += done
            data = data[done:]

    def truncate(self, descriptor: int, size: int) -> None:
        """Cut the file to ``size`` bytes."""
        os.ftruncate(descriptor, size)

    def fsync(self, descriptor: int) -> None:
        """Make what has been written to the descriptor permanent, the file's length included."""
        os.fsync(descriptor)

    def fdatasync(self, descriptor: int) -> None:
        """As :meth:`fsync`, without what is not needed to read the data back (times)."""
        if sys.platform == "darwin":
            os.fsync(descriptor)
        else:
            os.fdatasync(descriptor)

    def size_of(self, descriptor: int) -> int:
        """The length of the file in bytes."""
        return os.fstat(descriptor).st_size

    def close(self, descriptor: int) -> None:
        """Let go of the descriptor."""
        os.close(descriptor)

    async def run_aside(self, work: Callable[[int], None], descriptor: int) -> None:
        """Do what may take long (``fdatasync``, ``close``) while the other tasks run: in a thread.

        When cancelled it finishes that first.
        """
        await trio.to_thread.run_sync(work, descriptor)

    def pipe(self) -> tuple[int, int]:
        """Descriptors of a pipe's ends, the one to read from (which never waits) first."""
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        return reading, writing

    async def wait_readable(self, descriptor: int) -> None:
        """Return when there is something to be read from the pipe, or its end."""
        await trio.lowlevel.wait_readable(descriptor)

    # Names.

    def rename(self, old: str, new: str) -> None:
        """Give the file the name ``new``, in place of what had it."""
        Path(old).replace(new)

    def remove(self, path: str) -> None:
        """Remove the file's name."""
        Path(path).unlink()

    def make_folder(self, path: str) -> None:
        """Make the folder, unless it is there."""
        Path(path).mkdir(0o755, parents=True, exist_ok=True)

    def list_folder(self, path: str) -> list[str]:
        """The names in the folder, in no order."""
        return [entry.name for entry in Path(path).iterdir()]

    def length(self, path: str) -> int | None:
        """Bytes of the file, None where there is no such file."""
        try:
            return Path(path).stat().st_size
        except FileNotFoundError:
            return None

    def is_folder(self, path: str) -> bool:
        """Whether there is a folder of that name."""
        return Path(path).is_dir()

    def sync_folder(self, path: str) -> None:
        """Make renames and new names inside the folder permanent."""
        descriptor = self.open(path)
        try:
            self.fsync(descriptor)
        finally:
            self.close(descriptor)

    # What is made of these.

    def write_all(self, descriptor: int, data: bytes | memoryview) -> None:
        """Write all of ``data``. Where it raises, some of it may have been written."""
        rest = memoryview(data)
        while rest:
            rest = rest[self.write(descriptor, rest[:WRITE_SIZE]) :]

    def read_all(self, path: str) -> bytes:
        """The whole content of the file."""
        descriptor = self.open(path)
        try:
            parts: list[bytes] = []
            while part := self.read(descriptor, WRITE_SIZE):
                parts.append(part)
            return b"".join(parts)
        finally:
            self.close(descriptor)


SYSTEM_FILES: Final = Files()


def replace_file(path: str, content: bytes, mode: int = 0o644, files: Files = SYSTEM_FILES) -> None:
    """Put `content` in place of the file, in one step: a reader sees all of the old or of the new.

    A file that exists keeps its mode, and a symbolic link stays one; otherwise the mode is `mode`
    less the umask. Raises OSError, and then the old file is as it was (unless only its folder
    could not be flushed).
    """
    target = Path(path).resolve()
    aside = str(target.with_name(f"{target.name}.{os.getpid()}.{os.urandom(4).hex()}"))
    descriptor = files.create_new(aside, mode)
    try:
        try:
            with contextlib.suppress(FileNotFoundError):
                os.fchmod(descriptor, target.stat().st_mode & 0o7777)
            files.write_all(descriptor, content)
            files.fsync(descriptor)
        finally:
            files.close(descriptor)
        files.rename(aside, str(target))
    except BaseException:
        with contextlib.suppress(OSError):
            files.remove(aside)
        raise
    files.sync_folder(str(target.parent))


class Sink:
    """Writes a file from its start to its end, making it permanent in portions if so wanted.

    That way the disk works all along, instead of stopping everything at the end. ``portion`` is in
    bytes; 0: nothing is flushed before :meth:`finish`. All methods raise OSError.
    """

    __slots__ = ("size", "_files", "_descriptor", "_portion", "_unsynced")

    def __init__(self, files: Files, path: str, portion: int = 0) -> None:
        self.size = 0
        self._files = files
        self._descriptor = files.create(path)
        self._portion = portion
        self._unsynced = 0

    def write(self, data: bytes) -> None:
        """Add ``data`` at the end."""
        self._files.write_all(self._descriptor, data)
        self.size += len(data)
        self._unsynced += len(data)
        if self._portion and self._unsynced >= self._portion:
            self._files.fdatasync(self._descriptor)
            self._unsynced = 0

    def finish(self) -> None:
        """Make the file permanent, and let go of it."""
        self._files.fsync(self._descriptor)
        descriptor = self._descriptor
        self._descriptor = -1
        self._files.close(descriptor)

    def abandon(self) -> None:
        """Let go of a file that is of no use any more; raises nothing."""
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                self._files.close(self._descriptor)
            self._descriptor = -1
