"""Lines of the log: shape, levels, where they go."""

from __future__ import annotations

import os
import re
import syslog
import time
from pathlib import Path

import pytest

from node.log import Log, format_date


class StoppedClock:
    """Always the same moment."""

    def wall(self) -> float:
        return 1795437472.0019

    def monotonic_ns(self) -> int:
        return 0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def log(path: Path) -> Log:
    return Log(StoppedClock(), path=str(path))


def test_shape(log: Log, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    log.notice("hello")
    log.role = "M"
    log.warning("careful")
    log.raw(2, "a picture")
    pid = os.getpid()
    assert path.read_text().splitlines() == [
        f"{pid}:C 23 Nov 2026 12:37:52.001 * hello",
        f"{pid}:M 23 Nov 2026 12:37:52.001 # careful",
        "a picture",
    ]
    monkeypatch.undo()
    time.tzset()


def test_date_is_the_local_one() -> None:
    now = time.time()
    date = format_date(now)
    assert re.fullmatch(r"\d\d \w{3} \d{4} \d\d:\d\d:\d\d\.\d{3}", date)
    assert time.mktime(time.strptime(date[:-4], "%d %b %Y %H:%M:%S")) == int(now)


@pytest.mark.parametrize(
    ("level", "signs"),
    [("debug", ".-*#"), ("verbose", "-*#"), ("notice", "*#"), ("warning", "#"), ("nothing", "")],
)
def test_levels(log: Log, path: Path, level: str, signs: str) -> None:
    log.set_level(level)
    for write in (log.debug, log.verbose, log.notice, log.warning):
        write("x")
    lines = path.read_text().splitlines() if path.exists() else []
    assert [line.split(" ")[5] for line in lines] == list(signs)


def test_file_may_be_moved_away(log: Log, path: Path) -> None:
    log.notice("one")
    path.rename(path.with_suffix(".1"))
    log.notice("two")
    assert path.read_text().endswith("two\n")
    assert path.with_suffix(".1").read_text().endswith("one\n")


def test_descriptor_gets_each_line_at_once() -> None:
    read, write = os.pipe()
    try:
        log = Log(StoppedClock(), descriptor=write)
        log.notice("caf\u00e9 \udcff")
        assert os.read(read, 1000).endswith("café ".encode() + b"\xff\n")
    finally:
        os.close(read)
        os.close(write)


def test_a_line_that_cannot_be_written_is_lost(tmp_path: Path) -> None:
    log = Log(StoppedClock(), path=str(tmp_path / "missing" / "log"))
    log.warning("nobody hears")


def test_lines_go_to_syslog_too(log: Log, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[tuple[str, int, int]] = []
    sent: list[tuple[int, str]] = []
    real = syslog.syslog

    def send(priority: int, message: str) -> None:
        real(priority, message)  # wherever that leads: it must not refuse the text
        sent.append((priority, message))

    monkeypatch.setattr(syslog, "openlog", lambda *arguments: opened.append(arguments))
    monkeypatch.setattr(syslog, "syslog", send)
    before = log.to_syslog
    log.open_syslog("my node", "local3")
    assert (before, log.to_syslog) == (False, True)
    options = syslog.LOG_PID | syslog.LOG_NDELAY | syslog.LOG_NOWAIT
    assert opened == [("my node", options, syslog.LOG_LOCAL3)]
    log.debug("too little")
    log.notice("one")
    log.warning("two \udcff\0end")
    assert sent == [(syslog.LOG_NOTICE, "one"), (syslog.LOG_WARNING, "two \ufffd\\0end")]
    assert path.read_bytes().endswith(b"two \xff\0end\n")
