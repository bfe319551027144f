"""Python's cyclic collector, kept away from the data: values hold no cycles."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

# Objects that may hold others, made and not yet freed, at which the collector looks at them.
YOUNG_OBJECTS: Final = 250
NEVER: Final = 1_000_000_000


def tune_collector() -> None:
    """Set the collector up for a server; for the whole process.

    New objects are looked at once (exceptions and tasks may make cycles), in portions that take
    well under a millisecond; what is still used then is data, most likely, and is not looked at
    again: walking even a part of it would stop the server for tens of milliseconds.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, NEVER, NEVER)


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """Do not even look once at what comes to be meanwhile, which is nearly all data.

    Changes nothing in a process whose collector is not tuned.
    """
    if gc.get_threshold()[1] != NEVER:
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
