"""What a figure was measured on."""

from __future__ import annotations

import datetime as dt
import os
import platform
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tests.installation import ROOT
from tests.servers import environment


def describe(ours: list[str], theirs: list[str]) -> dict[str, Any]:
    """Cores, processor, memory, date and versions."""
    return {
        "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
        "processor": _processor(),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "commit": _output(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]),
        "ours": _output([*ours, "--version"]),
        "theirs": _output([*theirs, "--version"]),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            # Not in the checkout, whose modules would come before the installed ones.
            cwd=tempfile.gettempdir(),
            env=environment(),
        )
    except OSError:
        return ""
    return done.stdout.strip()
