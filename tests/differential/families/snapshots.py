"""The commands of persistence, as far as they save nothing: when that ends is each server's own."""

from __future__ import annotations

from typing import Final

from tests.differential.grammar import Command, among, optional
from tests.differential.pair import kind

COMMANDS: Final = [
    Command("SAVE", among(b"x", b""), mangle=False),
    Command("BGSAVE", among(b"x", b"", b"SCHEDULED"), optional(b"SCHEDULE"), mangle=False),
    Command("BGREWRITEAOF", among(b"x", b""), mangle=False),
    Command("LASTSAVE", check=kind),
]
