"""What an object really costs, found by walking everything it holds."""

from __future__ import annotations

import gc
import sys
from types import FunctionType

from node.values.collection import Limits


def measure(root: object, *shared: object) -> int:
    """Return the bytes of an object and all it holds, as CPython and malloc round them up.

    What is `shared` does not count.
    """
    seen = {id(item) for item in shared}
    pending = [root]
    total = 0
    while pending:
        item = pending.pop()
        if id(item) in seen or item is None:
            continue
        if isinstance(item, (type, Limits, int, FunctionType)):
            continue
        seen.add(id(item))
        # Counts the collector's header where there is one.
        size = sys.getsizeof(item)
        total += -(-size // 16) * 16 if size <= 512 else -(-(size + 8) // 16) * 16
        if isinstance(item, bytes):
            continue
        pending.extend(gc.get_referents(item))
    return total
