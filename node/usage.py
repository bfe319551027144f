"""What this process takes of the machine: memory and processor time."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import resource
import sys
from collections.abc import Callable
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


def _libc_function(name: str) -> Callable[[int], int] | None:
    """A function of the C library that takes and returns an int, where there is one."""
    try:
        function: Callable[[int], int] = getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError):
        return None
    return function


def release_memory() -> None:
    """Give what is free on top of and within the C heap back to the system, where that is known.

    Python's own arenas go back by themselves once they are empty.
    """
    trim = _libc_function("malloc_trim")
    if trim is not None:
        trim(0)


_TOLD: Final = ("VmPeak", "VmSize", "VmHWM", "VmData", "VmSwap", "RssAnon")


def allocator_report() -> str:
    """Lines on Python's allocator and the process, as far as they tell."""
    lines = [
        f"blocks in use (Python objects up to 512 bytes): {sys.getallocatedblocks()}",
        f"objects that the cyclic collector leaves alone: {gc.get_freeze_count()}",
    ]
    for generation, figures in enumerate(gc.get_stats()):
        lines.append(
            f"collector, generation {generation}: {gc.get_count()[generation]} pending, "
            f"{figures['collections']} collections, {figures['collected']} collected"
        )
    lines.append(f"resident memory: {resident_memory()} bytes")
    with contextlib.suppress(OSError):
        status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        lines += [" ".join(line.split()) for line in status if line.startswith(_TOLD)]
    return "".join(f"{line}\n" for line in lines)


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
