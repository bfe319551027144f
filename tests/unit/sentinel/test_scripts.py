"""Scripts: real processes, and a time that the test moves."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from node.resp import Map, Reply
from sentinel.machine import Settings
from sentinel.scripts import MOST_QUEUED, MOST_RUNNING, Process, Scripts

LIMIT = 30.0


class FakeProcess:
    """Runs until the test says how it ends."""

    def __init__(self, argv: Sequence[str], pid: int) -> None:
        self.argv = list(argv)
        self.number = pid
        self.code: int | None = None
        self.killed = False

    @property
    def pid(self) -> int:
        return self.number

    def poll(self) -> int | None:
        return self.code

    def kill(self) -> None:
        self.killed = True
        self.code = -9


class Desk:
    """Scripts with processes that are none."""

    def __init__(self) -> None:
        self.settings = Settings()
        self.events: list[tuple[str, str, str]] = []
        self.started: list[FakeProcess] = []
        self.error: OSError | None = None
        self.scripts = Scripts(self.settings, self.tell, self.start)

    def tell(self, level: str, event: str, text: str) -> None:
        self.events.append((level, event, text))

    def start(self, argv: Sequence[str]) -> Process:
        if self.error is not None:
            raise self.error
        process = FakeProcess(argv, 100 + len(self.started))
        self.started.append(process)
        return process


@pytest.fixture
def desk() -> Desk:
    return Desk()


def fields(row: Reply) -> dict[bytes, Reply]:
    assert isinstance(row, Map)
    return dict(zip(row.items[::2], row.items[1::2], strict=True))


def test_a_script_gets_its_arguments_and_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP", "open")
    script = tmp_path / "script"
    script.write_text(f'#!/bin/sh\necho "$SHOP|$1|$2" > {tmp_path}/out\nexit 3\n')
    script.chmod(0o755)
    events: list[tuple[str, str, str]] = []
    scripts = Scripts(Settings(), lambda *event: events.append(event))
    scripts.schedule(str(script), ["+sdown", "master m 127.0.0.1 1"])
    end = time.monotonic() + LIMIT
    while scripts.jobs and time.monotonic() < end:
        scripts.tick(1)
        os.sched_yield()
    assert (tmp_path / "out").read_text() == "open|+sdown|master m 127.0.0.1 1\n"
    assert [event for _, event, _ in events] == ["+script-child", "-script-child", "-script-error"]
    assert events[-1] == ("warning", "-script-error", f"{script} 0 3")


def test_a_script_that_cannot_be_executed(tmp_path: Path) -> None:
    events: list[tuple[str, str, str]] = []
    scripts = Scripts(Settings(), lambda *event: events.append(event))
    scripts.schedule(str(tmp_path / "missing"), [])
    scripts.tick(1)
    assert events == [("warning", "-script-error", f"{tmp_path}/missing 0 2")]
    assert scripts.jobs == []


def test_sixteen_run_at_once_in_order(desk: Desk) -> None:
    for number in range(20):
        desk.scripts.schedule("s", [str(number)])
    desk.scripts.tick(1)
    assert [process.argv[1] for process in desk.started] == [str(n) for n in range(MOST_RUNNING)]
    desk.started[3].code = 0
    desk.scripts.tick(2)
    assert desk.started[-1].argv == ["s", "16"]
    assert (desk.scripts.running, len(desk.scripts.jobs)) == (MOST_RUNNING, 19)


def test_the_queue_drops_its_oldest_that_does_not_run(desk: Desk) -> None:
    desk.scripts.schedule("first", [])
    desk.scripts.tick(1)
    for number in range(MOST_QUEUED + 3):
        desk.scripts.schedule("s", [str(number)])
    assert len(desk.scripts.jobs) == MOST_QUEUED
    assert [job.argv for job in desk.scripts.jobs[:2]] == [["first"], ["s", "4"]]


@pytest.mark.parametrize("code", [1, -15])
def test_what_fails_is_tried_again_after_ever_longer_waits(desk: Desk, code: int) -> None:
    desk.scripts.schedule("s", [])
    now = 1
    for attempt in range(10):
        desk.scripts.tick(now)
        assert len(desk.started) == attempt + 1
        desk.started[-1].code = code
        desk.scripts.tick(now)
        delay = desk.settings.script_retry_delay * 2**attempt
        if attempt == 9:
            break
        row = fields(desk.scripts.describe(now)[0])
        assert (row[b"flags"], row[b"run-delay"]) == (b"scheduled", b"%d" % delay)
        desk.scripts.tick(now + delay - 1)
        assert len(desk.started) == attempt + 1
        now += delay
    assert desk.scripts.jobs == []
    signal, code = (15, 0) if code < 0 else (0, 1)
    assert desk.events[-1] == ("warning", "-script-error", f"s {signal} {code}")


def test_another_failure_is_final(desk: Desk) -> None:
    desk.scripts.schedule("s", [])
    desk.scripts.tick(1)
    desk.started[0].code = 2
    desk.scripts.tick(2)
    assert desk.events[1:] == [
        ("debug", "-script-child", "100 2 0"),
        ("warning", "-script-error", "s 0 2"),
    ]
    assert desk.scripts.jobs == []


def test_who_takes_too_long_is_killed_and_tried_again(desk: Desk) -> None:
    desk.scripts.schedule("s", [])
    desk.scripts.tick(1)
    desk.scripts.tick(60_001)
    assert [process.killed for process in desk.started] == [False]
    desk.scripts.tick(60_002)
    assert [process.killed for process in desk.started] == [True]
    assert desk.events[-1] == ("warning", "-script-timeout", "s 100")
    desk.scripts.tick(60_003)
    assert desk.events[-1] == ("debug", "-script-child", "100 0 9")
    assert desk.scripts.jobs[0].start == 90_003


def test_a_process_that_cannot_be_made_is_tried_again(desk: Desk) -> None:
    desk.error = BlockingIOError(11, "Resource temporarily unavailable")
    desk.scripts.schedule("s", [])
    desk.scripts.tick(1)
    assert desk.events == [("warning", "-script-error", "s 99 0")]
    desk.error = None
    desk.scripts.tick(2)
    assert len(desk.started) == 1


def test_pending_scripts(desk: Desk) -> None:
    desk.scripts.schedule("s", ["a", "b c"])
    assert fields(desk.scripts.describe(1)[0]) == {
        b"argv": [b"s", b"a", b"b c"],
        b"flags": b"scheduled",
        b"pid": b"0",
        b"run-delay": b"0",
        b"retry-num": b"0",
    }
    desk.scripts.tick(1)
    assert fields(desk.scripts.describe(7)[0]) == {
        b"argv": [b"s", b"a", b"b c"],
        b"flags": b"running",
        b"pid": b"100",
        b"run-time": b"6",
        b"retry-num": b"1",
    }
