"""What is left on the simulated disk when the power fails, and what a child does to it."""

from __future__ import annotations

import random

import pytest

from tests.simulation.disk import Disk, DiskFiles

HOME = "/home"


def open_disk(seed: int) -> tuple[Disk, DiskFiles]:
    disk = Disk(random.Random(seed))
    return disk, DiskFiles(disk, HOME, random.Random(seed))


def reread(disk: Disk, name: str) -> bytes | None:
    """The content, for a process that starts now."""
    files = DiskFiles(disk, HOME, random.Random(0))
    return None if files.length(name) is None else files.read_all(name)


def outcomes(*steps: str) -> set[bytes | None]:
    """What `file` may hold when the power fails after these steps."""
    found: set[bytes | None] = set()
    for seed in range(60):
        disk, files = open_disk(seed)
        old = files.create("file")
        files.write_all(old, b"old")
        files.fsync(old)
        files.close(old)
        files.sync_folder(".")
        new = files.create("aside")
        files.write_all(new, b"new")
        for step in steps:
            if step == "flush":
                files.fsync(new)
            elif step == "rename":
                files.rename("aside", f"{HOME}/file")
            else:
                files.sync_folder(HOME)
        disk.fail_power()
        found.add(reread(disk, "file"))
    return found


def test_a_file_that_is_replaced_in_the_right_order_is_the_old_or_the_new_one() -> None:
    assert outcomes("flush") == {b"old"}
    assert outcomes("flush", "rename") == {b"old", b"new"}
    assert outcomes("flush", "rename", "folder") == {b"new"}


def test_what_is_not_flushed_may_be_lost_in_part() -> None:
    assert outcomes("rename", "folder") == {b"", b"n", b"ne", b"new"}


def test_a_process_that_is_gone_changes_nothing() -> None:
    disk, files = open_disk(1)
    descriptor = files.create("file")
    files.write_all(descriptor, b"content")
    files.abandon()
    with pytest.raises(OSError, match="Input/output error"):
        files.write(descriptor, b"more")
    with pytest.raises(OSError, match="Input/output error"):
        files.remove("file")
    assert reread(disk, "file") == b"content"


def test_what_a_child_does_takes_effect_step_by_step() -> None:
    disk, files = open_disk(1)

    def work() -> None:
        descriptor = files.create("aside")
        files.write_all(descriptor, b"content")
        files.fsync(descriptor)
        files.close(descriptor)
        files.rename("aside", "file")

    steps, code = files.record(work)
    assert code == 0
    assert reread(disk, "aside") is None
    for step in steps[:2]:
        assert step()
    assert reread(disk, "aside") == b"content"
    for step in steps[2:]:
        assert step()
    assert reread(disk, "aside") is None
    assert reread(disk, "file") == b"content"


def test_a_child_waits_while_the_pipe_is_full() -> None:
    _, files = open_disk(1)
    reading, writing = files.pipe()
    content = bytes(200_000)
    steps, _ = files.record(lambda: files.write_all(writing, content))
    files.close(writing)
    received = b""
    for step in steps:
        while not step():
            received += files.read(reading, 50_000)
    files.release_pipes()
    while data := files.read(reading, 50_000):
        received += data
    assert received == content
