"""Which Sentrio is under test: the installed one if there is one, otherwise the checkout."""

from __future__ import annotations

import os
import sys
from importlib.metadata import distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("node", "cluster", "sentinel")


def installed_packages() -> Path | None:
    """The folder with the installed packages; None where this Python has none but the checkout.

    An editable install counts: its folder holds a pointer to the checkout. With
    ``SENTRIO_TEST_CHECKOUT=1`` none does.
    """
    if os.environ.get("SENTRIO_TEST_CHECKOUT") == "1":
        return None
    elsewhere = [path for path in sys.path if Path(path).resolve() != ROOT]
    for found in distributions(name="sentrio", path=elsewhere):
        return Path(str(found.locate_file(""))).resolve()
    return None


def stale_modules(folder: Path) -> list[str]:
    """Modules of an install in ``folder`` that are not what the checkout has by now."""
    if not (folder / "node").exists():
        return []  # an editable install
    ours, installed = _sources(ROOT), _sources(folder)
    return sorted(name for name in ours | installed if ours.get(name) != installed.get(name))


def _sources(base: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(base)): path.read_bytes()
        for package in PACKAGES
        for path in (base / package).rglob("*.py")
    }


def compiled(folder: Path) -> bool:
    """Whether the core of an install in ``folder`` is."""
    return any((folder / "node").glob("engine.*.so"))
