"""What this process takes of the machine: memory and processor time."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path
from typing import Final

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_STATUS: Final = Path("/proc/self/statm")


def resident_memory() -> int:
    """Bytes of RAM that the process occupies now; where the system does not tell, at its most."""
    try:
        return int(_STATUS.read_bytes().split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024


def total_memory() -> int:
    """Bytes of RAM that the machine has."""
    return os.sysconf("SC_PHYS_PAGES") * _PAGE


class CpuTimes:
    """Seconds of processor time: of the process, its ended children, the calling thread."""

    __slots__ = (
        "system",
        "user",
        "children_system",
        "children_user",
        "thread_system",
        "thread_user",
    )

    def __init__(self) -> None:
        own = resource.getrusage(resource.RUSAGE_SELF)
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.system = own.ru_stime
        self.user = own.ru_utime
        self.children_system = children.ru_stime
        self.children_user = children.ru_utime
        if sys.platform == "linux":
            thread = resource.getrusage(resource.RUSAGE_THREAD)
            self.thread_system = thread.ru_stime
            self.thread_user = thread.ru_utime
        else:
            self.thread_system = self.system
            self.thread_user = self.user


def human_size(count: int) -> str:
    """``count`` bytes as INFO writes them: 512B, 1.50K, 20.00M."""
    if count < 1024:
        return f"{count}B"
    size = float(count)
    for unit in "KMGTP":
        size /= 1024
        if size < 1024:
            return f"{size:.2f}{unit}"
    return f"{count}B"
