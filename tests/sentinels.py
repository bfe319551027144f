"""Sentinel processes for tests, each with a config file of its own."""

from __future__ import annotations

from collections.abc import Sequence

from tests.servers import Server


class Sentinel(Server):
    """A sentinel; ``statements`` are lines of its file, without the word ``sentinel``."""

    def __init__(
        self,
        command: list[str],
        statements: Sequence[str],
        *directives: str,
        name: str = "sentinel",
    ) -> None:
        super().__init__(command, *directives, name=name)
        self.file = self.folder / "sentinel.conf"
        self.file.write_text("".join(f"sentinel {line}\n" for line in statements))
        self.command = [*command, str(self.file)]
