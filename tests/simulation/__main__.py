"""``python -m tests.simulation --world replication --seeds 1000 --first 1 [--trace]``.

Runs one seed after the other. A seed whose run breaks is printed, with what has broken, and the
line that runs it again with its trace; the exit code is 1 then.

Strings have the same hashes in each run (the command sees to it), since the order of what tables
hold is decided by them.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback

from tests.simulation.trace import Broken, echo_to_output
from tests.simulation.worlds import WORLDS

SHOWN = 5
"""Of the seeds that break, so many are told of in full."""


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--world", choices=sorted(WORLDS), default="replication")
    parser.add_argument("--seeds", type=int, default=100, help="how many runs")
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--trace", action="store_true", help="print what happens")
    parser.add_argument("--seconds", type=float, default=0.0, help="stop after so long")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Run; the exit code."""
    options = parse(arguments)
    world = WORLDS[options.world]
    broken: list[int] = []
    totals: dict[str, int] = {}
    began = time.monotonic()
    runs = 0
    for seed in range(options.first, options.first + options.seeds):
        if options.seconds and time.monotonic() - began > options.seconds:
            break
        runs += 1
        try:
            trace, counts = world(seed, echo_to_output(options.trace))
        except Broken as error:
            tell(options.world, seed, str(error), len(broken))
            broken.append(seed)
        except Exception:
            tell(options.world, seed, traceback.format_exc(), len(broken))
            broken.append(seed)
        else:
            for name, count in counts.items():
                totals[name] = totals.get(name, 0) + count
            if options.trace:
                print(f"seed {seed}: {trace.count} lines, digest {trace.digest}")
    taken = time.monotonic() - began
    print(", ".join(f"{name}: {count}" for name, count in sorted(totals.items())))
    print(f"{runs} seeds in {taken:.1f} s, {len(broken)} broken{': ' if broken else ''}", end="")
    print(*broken, sep=", ")
    return 1 if broken else 0


def tell(world: str, seed: int, why: str, before: int) -> None:
    """Print what has broken, and how to see it again."""
    if before < SHOWN:
        print(f"seed {seed} of {world} has broken:\n{why}")
        print(f"  python -m tests.simulation --world {world} --first {seed} --seeds 1 --trace")
        sys.stdout.flush()


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [*sys.orig_argv])
    sys.exit(main(sys.argv[1:]))
