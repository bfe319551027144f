"""Compiles the synchronous core with mypyc, where there is a C compiler.

What else there is to say about the package is in pyproject.toml.

The modules named here are ordinary Python and run as such: in an editable install, with
``SENTRIO_PURE=1`` set, and where compiling fails, in which case the build says so and goes on.
``SENTRIO_COMPILE=1`` insists on compiling, in an editable install too, where each change then needs
another build.
"""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build_ext import build_ext

CORE = [
    "cluster/description.py",
    "cluster/message.py",
    "cluster/routing.py",
    "cluster/slots.py",
    "cluster/state.py",
    "node/blocking.py",
    "node/key_table.py",
    "node/command.py",
    "node/command_log.py",
    "node/commands/arguments.py",
    "node/commands/bitmaps.py",
    "node/commands/blocking_lists.py",
    "node/commands/expiry.py",
    "node/commands/hashes.py",
    "node/commands/keys.py",
    "node/commands/lists.py",
    "node/commands/sets.py",
    "node/commands/sort.py",
    "node/commands/sorted_set_operations.py",
    "node/commands/sorted_set_pops.py",
    "node/commands/sorted_sets.py",
    "node/commands/strings.py",
    "node/engine.py",
    "node/hub.py",
    "node/inlets.py",
    "node/key_index.py",
    "node/keyspace.py",
    "node/persistence/dataset.py",
    "node/persistence/aof_parser.py",
    "node/persistence/aof_replay.py",
    "node/persistence/aof_writer.py",
    "node/persistence/crc64.py",
    "node/persistence/dump.py",
    "node/persistence/lzf.py",
    "node/persistence/packed.py",
    "node/persistence/payload.py",
    "node/persistence/rdb_format.py",
    "node/persistence/rdb_reader.py",
    "node/persistence/rdb_values.py",
    "node/persistence/rdb_writer.py",
    "node/replication/backlog.py",
    "node/replication/execution.py",
    "node/replication/feed.py",
    "node/replication/history.py",
    "node/replication/inflow.py",
    "node/replication/replica.py",
    "node/replication/stream.py",
    "node/resp.py",
    "node/session.py",
    "node/shipment.py",
    "node/trash.py",
    "node/values/*.py",
    "node/words.py",
]
# Derives from a class that is not compiled.
INTERPRETED = {Path("node/values/order.py")}


def core_modules() -> list[str]:
    """The files to compile."""
    found = {path for pattern in CORE for path in Path().glob(pattern)}
    return sorted(map(str, found - INTERPRETED))


class CoreDistribution(Distribution):
    """A distribution whose extensions are not known before they are built."""

    def has_ext_modules(self) -> bool:
        return True


class BuildCore(build_ext):
    """Compiles the core, all of it or nothing."""

    def run(self) -> None:
        must = os.environ.get("SENTRIO_COMPILE") == "1"
        if not self.inplace:
            self._remove_compiled()  # of an earlier build
        if not must and (self.inplace or os.environ.get("SENTRIO_PURE") == "1"):
            return
        try:
            self._compile()
        except (Exception, SystemExit) as error:  # mypyc exits where types do not fit
            self._remove_compiled()
            if must:
                raise
            self.warn(f"the core is not compiled, and will run several times slower: {error}")

    def _remove_compiled(self) -> None:
        for path in Path(self.build_lib).rglob("*" + sysconfig.get_config_var("EXT_SUFFIX")):
            path.unlink()

    def _compile(self) -> None:
        from mypyc.build import mypycify

        self.distribution.ext_modules = mypycify(
            ["--strict", *core_modules()], opt_level="3", debug_level="0"
        )
        # An ordinary command, which finds the extensions where it expects them from the start.
        command = build_ext(self.distribution)
        command.inplace = self.inplace
        command.build_lib = self.build_lib
        command.build_temp = self.build_temp
        command.ensure_finalized()
        command.run()


setup(distclass=CoreDistribution, cmdclass={"build_ext": BuildCore})
