"""A file layer that fails where a test wants it to."""

from __future__ import annotations

import errno
import os

from node.files import Files


class FaultyFiles(Files):
    """The machine's files, but the n-th call of a method raises an error from then on.

    `fail("write", ENOSPC, 3)` lets two calls of `write` pass; `fill(10)` leaves room on the disk
    for ten bytes; `heal()` ends all faults. `calls` counts the calls of each method since the last
    `fail` or `heal`.
    """

    __slots__ = ("calls", "faults", "room")

    def __init__(self) -> None:
        self.calls: dict[str, int] = {}
        self.faults: dict[str, tuple[int, int]] = {}
        self.room: int | None = None

    def fill(self, room: int) -> None:
        """Let the disk have room for so many bytes more."""
        self.room = room

    def fail(self, method: str, number: int, at: int = 1) -> None:
        """Let the calls of a method from the given one on raise OSError with this number."""
        self.calls.clear()
        self.faults[method] = (number, at)

    def heal(self) -> None:
        """Work again."""
        self.calls.clear()
        self.faults.clear()
        self.room = None

    def _pass(self, method: str) -> None:
        count = self.calls[method] = self.calls.get(method, 0) + 1
        number, at = self.faults.get(method, (0, 0))
        if number and count >= at:
            raise OSError(number, os.strerror(number))

    def open(self, path: str) -> int:
        self._pass("open")
        return super().open(path)

    def create(self, path: str, mode: int = 0o644) -> int:
        self._pass("create")
        return super().create(path, mode)

    def create_new(self, path: str, mode: int = 0o644) -> int:
        self._pass("create_new")
        return super().create_new(path, mode)

    def append(self, path: str, mode: int = 0o644) -> int:
        self._pass("append")
        return super().append(path, mode)

    def read(self, descriptor: int, size: int) -> bytes:
        self._pass("read")
        return super().read(descriptor, size)

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        self._pass("write")
        if self.room is None:
            return super().write(descriptor, data)
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = super().write(descriptor, data[: self.room])
        self.room -= written
        return written

    def truncate(self, descriptor: int, size: int) -> None:
        self._pass("truncate")
        super().truncate(descriptor, size)

    def fsync(self, descriptor: int) -> None:
        self._pass("fsync")
        super().fsync(descriptor)

    def fdatasync(self, descriptor: int) -> None:
        self._pass("fdatasync")
        super().fdatasync(descriptor)

    def make_folder(self, path: str) -> None:
        self._pass("make_folder")
        super().make_folder(path)

    def rename(self, old: str, new: str) -> None:
        self._pass("rename")
        super().rename(old, new)

    def sync_folder(self, path: str) -> None:
        self._pass("sync_folder")
        super().sync_folder(path)
