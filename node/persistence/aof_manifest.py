"""The manifest of an append-only file: which files the log is made of, and in which order.

The log of Redis 7 is a folder: at most one *base* (the data as of the last rewrite, a snapshot or
commands), then *incremental* files with the changes since, each begun by a rewrite, and *history*
files that a rewrite has made superfluous and that are still to be removed. The manifest lists
them, a line each::

    file appendonly.aof.2.base.rdb seq 2 type b
    file appendonly.aof.1.incr.aof seq 1 type h
    file appendonly.aof.2.incr.aof seq 2 type i

Nothing here touches a disk. Format, rules and errors after Redis's aof.c.
"""

from __future__ import annotations

import re
from typing import Final

from node.words import quote, split_words

BASE: Final = "b"
HISTORY: Final = "h"
INCREMENTAL: Final = "i"

MANIFEST_SUFFIX: Final = ".manifest"
TEMPORARY_PREFIX: Final = "temp-"
LONGEST_LINE: Final = 1022
"""Bytes of a line without its end: Redis reads lines into 1024 bytes."""

_NUMBER: Final = re.compile(rb"[ \t\n\v\f\r]*([+-]?[0-9]+)")


class ManifestError(Exception):
    """A manifest that cannot be followed.

    reason   Redis's text
    number   of the line, from 1; 0 where it is about no line
    line     the line, without blanks around it
    """

    def __init__(self, reason: str, number: int = 0, line: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.number = number
        self.line = line


class AofFile:
    """One file of the log: its name inside the folder, its sequence number, its kind."""

    __slots__ = ("name", "sequence", "kind")

    def __init__(self, name: str, sequence: int, kind: str) -> None:
        self.name = name
        self.sequence = sequence
        self.kind = kind

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AofFile):
            return NotImplemented
        return (self.name, self.sequence, self.kind) == (other.name, other.sequence, other.kind)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"AofFile({self.name!r}, {self.sequence}, {self.kind!r})"


class Manifest:
    """The files of a log. Changes are made to a copy, which replaces the original once on disk.

    name   the directive `appendfilename`, which all names of files begin with
    """

    __slots__ = ("name", "base", "incremental", "history", "base_sequence", "incremental_sequence")

    def __init__(self, name: str) -> None:
        self.name = name
        self.base: AofFile | None = None
        self.incremental: list[AofFile] = []
        self.history: list[AofFile] = []  # the last to become one comes first
        self.base_sequence = 0
        self.incremental_sequence = 0

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to load."""
        return self.base is None and not self.incremental

    @property
    def files(self) -> list[AofFile]:
        """What is to be loaded, in order."""
        return [*([self.base] if self.base is not None else ()), *self.incremental]

    def copy(self) -> Manifest:
        """Another one with the same files."""
        other = Manifest(self.name)
        other.base = self.base
        other.incremental = list(self.incremental)
        other.history = list(self.history)
        other.base_sequence = self.base_sequence
        other.incremental_sequence = self.incremental_sequence
        return other

    def add_base(self, *, snapshot: bool) -> AofFile:
        """Begin anew with another base; the one before is history."""
        if self.base is not None:
            self._retire(self.base)
        self.base_sequence += 1
        suffix = "rdb" if snapshot else "aof"
        name = f"{self.name}.{self.base_sequence}.base.{suffix}"
        self.base = AofFile(name, self.base_sequence, BASE)
        return self.base

    def adopt_base(self, name: str) -> None:
        """Take a single file of Redis 6 as the base."""
        self.base_sequence = 1
        self.base = AofFile(name, 1, BASE)

    def add_incremental(self) -> AofFile:
        """Go on in another incremental file."""
        self.incremental_sequence += 1
        name = f"{self.name}.{self.incremental_sequence}.incr.aof"
        file = AofFile(name, self.incremental_sequence, INCREMENTAL)
        self.incremental.append(file)
        return file

    def last_incremental(self) -> AofFile:
        """The file to append to, which is made up where there is none."""
        return self.incremental[-1] if self.incremental else self.add_incremental()

    def retire_incremental(self, *, keep_last: bool) -> None:
        """The base holds what the incremental files say; the last may have been begun since."""
        kept = self.incremental[-1:] if keep_last else []
        for file in self.incremental[: len(self.incremental) - len(kept)]:
            self._retire(file)
        self.incremental = kept

    def _retire(self, file: AofFile) -> None:
        self.history.insert(0, AofFile(file.name, file.sequence, HISTORY))


def manifest_name(name: str) -> str:
    """The manifest's file name for an `appendfilename`."""
    return name + MANIFEST_SUFFIX


def temporary_incremental_name(name: str) -> str:
    """Where changes go while the first base of a log that was switched on is being written."""
    return f"{TEMPORARY_PREFIX}{name}.incr"


def format_manifest(manifest: Manifest) -> bytes:
    """The file's content."""
    lines = [
        b"file %b seq %d type %b\n" % (_quote(file.name), file.sequence, file.kind.encode())
        for file in (
            *([manifest.base] if manifest.base is not None else ()),
            *manifest.history,
            *manifest.incremental,
        )
    ]
    return b"".join(lines)


def parse_manifest(content: bytes, name: str) -> Manifest:
    """Read a manifest; `name` is the directive `appendfilename`. Raises ManifestError."""
    manifest = Manifest(name)
    lines = content.split(b"\n")
    unfinished = lines.pop()
    if not lines and not unfinished:
        raise ManifestError("Found an empty AOF manifest")
    if unfinished:
        lines.append(unfinished)
    for number, raw in enumerate(lines, 1):
        if raw.startswith(b"#"):
            continue
        line = raw.strip(b" \t\r\n")
        shown = line.decode("utf-8", "surrogateescape")
        if len(raw) > LONGEST_LINE or (unfinished and number == len(lines)):
            raise ManifestError("The AOF manifest file contains too long line", number, shown)
        try:
            _add_line(manifest, line)
        except ManifestError as error:
            raise ManifestError(error.reason, number, shown) from None
    return manifest


def _add_line(manifest: Manifest, line: bytes) -> None:
    words = split_words(line) if line else None
    if words is None or len(words) < 6 or len(words) % 2:
        raise ManifestError("Invalid AOF manifest file format")
    file_name = b""
    sequence = 0
    kind = b""
    # What else is said of a file is for later versions.
    for field, value in zip(words[::2], words[1::2], strict=True):
        match field.lower():
            case b"file":
                file_name = value
                if b"/" in file_name or b"\\" in file_name:
                    raise ManifestError("File can't be a path, just a filename")
            case b"seq":
                number = _NUMBER.match(value)
                sequence = int(number[1]) if number is not None else 0
            case b"type":
                kind = value[:1]
            case _:
                pass
    if not file_name or not sequence or not kind:
        raise ManifestError("Invalid AOF manifest file format")
    file = AofFile(file_name.decode("utf-8", "surrogateescape"), sequence, kind.decode("latin-1"))
    if file.kind == BASE:
        if manifest.base is not None:
            raise ManifestError("Found duplicate base file information")
        manifest.base = file
        manifest.base_sequence = sequence
    elif file.kind == HISTORY:
        manifest.history.append(file)
    elif file.kind == INCREMENTAL:
        if sequence <= manifest.incremental_sequence:
            raise ManifestError("Found a non-monotonic sequence number")
        manifest.incremental.append(file)
        manifest.incremental_sequence = sequence
    else:
        raise ManifestError("Unknown AOF file type")


def _quote(name: str) -> bytes:
    """The name as a word of a line: in quotes where it would not be one word of itself."""
    octets = name.encode("utf-8", "surrogateescape")
    if octets and all(33 <= byte <= 126 and byte not in b"\\\"'" for byte in octets):
        return octets
    return quote(octets)
