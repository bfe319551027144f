"""Files that survive a power cut: written aside, flushed, renamed, and their folder flushed."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def replace_file(path: str, content: bytes, mode: int = 0o644) -> None:
    """Put `content` in place of the file, in one step: a reader sees all of the old or of the new.

    A file that exists keeps its mode, and a symbolic link stays one; otherwise the mode is `mode`
    less the umask. Raises OSError, and then the old file is as it was.
    """
    target = Path(path).resolve()
    aside = target.with_name(f"{target.name}.{os.getpid()}.{os.urandom(4).hex()}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        try:
            with contextlib.suppress(FileNotFoundError):
                os.fchmod(descriptor, target.stat().st_mode & 0o7777)
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        aside.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise
    sync_folder(target.parent)


def sync_folder(folder: str | Path) -> None:
    """Make renames and new names inside the folder permanent. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
