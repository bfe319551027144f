"""The folder of the append-only file: its manifest on disk, and the names of its files.

The manifest is replaced in one step (written aside, flushed, renamed, the folder flushed), so that
it names a complete log at every moment. Log lines after aof.c of Redis 7.2.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Final

from node.files import Files
from node.log import Log
from node.persistence.aof_manifest import (
    TEMPORARY_PREFIX,
    Manifest,
    ManifestError,
    format_manifest,
    manifest_name,
    parse_manifest,
)
from node.server import LoadFailed


class AofFolder:
    """Where a log is kept.

    name      the directive `appendfilename`, which all names of files begin with
    label     the directive `appenddirname`
    home      the folder that the log's folder is in
    path      the log's folder
    manifest  what is on disk; change a copy and :meth:`persist` it
    """

    __slots__ = ("name", "label", "home", "path", "manifest", "_files", "_log")

    def __init__(self, files: Files, log: Log, name: str, label: str) -> None:
        self.name: Final = name
        self.label: Final = label
        self.home = ""
        self.path = ""
        self.manifest = Manifest(name)
        self._files = files
        self._log = log

    def settle(self, home: str) -> None:
        """Keep the log in a folder of the folder ``home`` from now on."""
        self.home = home
        self.path = os.path.join(home, self.label)  # noqa: PTH118

    def place(self, name: str) -> str:
        """The path of one of the log's files."""
        return os.path.join(self.path, name)  # noqa: PTH118

    def beside(self, name: str) -> str:
        """The path of a file that is not in the log's folder, but next to it."""
        return os.path.join(self.home, name)  # noqa: PTH118

    def make(self) -> bool:
        """Make the folder, unless it is there; False when that failed, which is logged."""
        try:
            self._files.make_folder(self.path)
        except OSError as error:
            self._log.warning(
                f"Can't open or create append-only dir {self.label}: {error.strerror}"
            )
            return False
        return True

    def length(self, name: str) -> int:
        """Bytes of one of the log's files, 0 where there is none. Raises OSError."""
        return self._files.length(self.place(name)) or 0

    def remove(self, path: str) -> None:
        """Remove a file, if it is there and that is possible."""
        with contextlib.suppress(OSError):
            self._files.remove(path)

    # The manifest.

    def read(self) -> None:
        """Read the manifest, if there is one. Raises LoadFailed; the reason has been logged."""
        self.manifest = Manifest(self.name)
        path = self.place(manifest_name(self.name))
        log = self._log
        try:
            content = self._files.read_all(path)
        except FileNotFoundError:
            return
        except OSError as error:
            log.warning(
                f"Fatal error: can't open the AOF manifest file {manifest_name(self.name)} "
                f"for reading: {error.strerror}"
            )
            raise LoadFailed from None
        try:
            self.manifest = parse_manifest(content, self.name)
        except ManifestError as error:
            log.warning("\n*** FATAL AOF MANIFEST FILE ERROR ***\n")
            if error.number:
                log.warning(f"Reading the manifest file {path}, at line {error.number}\n")
                log.warning(f">>> '{error.line}'\n")
            else:
                log.warning(f"Reading the manifest file {path}\n")
            log.warning(f"{error.reason}\n")
            raise LoadFailed from None

    def persist(self, manifest: Manifest) -> bool:
        """Put ``manifest`` in place of the one before; False when that failed, which is logged.

        Where only the folder could not be flushed, it is :attr:`manifest` all the same.
        """
        files = self._files
        log = self._log
        name = manifest_name(self.name)
        aside = TEMPORARY_PREFIX + name
        try:
            descriptor = files.create(self.place(aside))
        except OSError as error:
            log.warning(f"Can't open the AOF manifest file {aside}: {error.strerror}")
            return False
        try:
            try:
                files.write_all(descriptor, format_manifest(manifest))
                files.fsync(descriptor)
            finally:
                files.close(descriptor)
        except OSError as error:
            log.warning(f"Error trying to write the AOF manifest file {aside}: {error.strerror}")
            self.remove(self.place(aside))
            return False
        try:
            files.rename(self.place(aside), self.place(name))
        except OSError as error:
            log.warning(
                f"Error trying to rename the temporary AOF manifest file {aside} into {name}: "
                f"{error.strerror}"
            )
            self.remove(self.place(aside))
            return False
        self.manifest = manifest
        try:
            files.sync_folder(self.path)
        except OSError as error:
            log.warning(f"Fail to fsync AOF directory {self.path}: {error.strerror}.")
            return False
        return True

    def remove_history(self, remove: Callable[[str], None]) -> None:
        """Remove what the log does not need any more, each file by ``remove``, given its path."""
        manifest = self.manifest
        if not manifest.history:
            return
        manifest = manifest.copy()
        for file in manifest.history:
            self._log.notice(f"Removing the history file {file.name} in the background")
            with contextlib.suppress(OSError):
                remove(self.place(file.name))
        manifest.history.clear()
        self.persist(manifest)

    def adopt_single_file(self) -> None:
        """Redis 6 has the log in a single file beside the data: make it the base of this one.

        Raises LoadFailed; the reason has been logged.
        """
        name = self.name
        files = self._files
        base = self.manifest.base
        try:
            if files.length(self.beside(name)) is None:
                return
            interrupted = (
                base is not None
                and not self.manifest.incremental
                and base.name == name
                and files.length(self.place(name)) is None
            )
        except OSError as error:
            self._log.warning(f"Can't look for the AOF file {name}: {error.strerror}")
            raise LoadFailed from None
        if not self.manifest.is_empty and not interrupted:
            return
        manifest = self.manifest.copy()
        manifest.adopt_base(name)
        if not self.make() or not self.persist(manifest):
            raise LoadFailed
        try:
            files.rename(self.beside(name), self.place(name))
            files.sync_folder(self.path)
            files.sync_folder(self.home)
        except OSError as error:
            self._log.warning(
                f"Error trying to move the old AOF file {name} into dir {self.label}: "
                f"{error.strerror}"
            )
            raise LoadFailed from None
        self._log.notice(
            f"Successfully migrated an old-style AOF configuration ({name}) into the AOF "
            f"directory ({self.label})."
        )
