"""A whole data server in the test's own process, which never runs: its engine is called directly.

Its time stands still until the test moves it, or a client sends DEBUG SLEEP.
"""

from __future__ import annotations

import os

from node.composition import compose
from node.config import make_config
from node.files import SYSTEM_FILES, Files
from node.log import Log
from node.network import SystemNetwork
from tests.inprocess import FakeClock, LocalClient
from tests.wire import Argument


class ComposedNode:
    """All commands and components of a node; `options` are words of the command line."""

    def __init__(self, *options: str, files: Files = SYSTEM_FILES) -> None:
        self.clock = FakeClock()
        self.config = make_config()
        self.config.read_options([os.fsencode(word) for word in options])
        log = Log(self.clock, path=os.devnull)
        self.server = compose(self.config, log, self.clock, SystemNetwork(), files=files)
        self.server.sleep = self._sleep
        self.engine = self.server.engine

    def _sleep(self, seconds: float) -> None:
        self.clock.ns += round(seconds * 1e9)

    def close(self) -> None:
        """Let go of the hub's descriptors."""
        self.server.hub.close()

    def connect(self, protocol: int = 2) -> LocalClient:
        """A new client."""
        self.engine.refresh()
        return LocalClient(self.engine, protocol)

    def advance(self, seconds: float) -> None:
        """Let time pass, and the periodic work be done once."""
        self._sleep(seconds)
        self.engine.refresh()
        for component in self.engine.components:
            component.tick(self.engine.ended_ns)

    def info(self, *sections: Argument) -> dict[str, str]:
        """INFO's fields."""
        text = self.connect()("INFO", *sections)
        assert isinstance(text, bytes)
        lines = text.decode().splitlines()
        return dict(line.split(":", 1) for line in lines if line and not line.startswith("#"))
