"""Supervisors, pid files, open files."""

from __future__ import annotations

import os
import resource
import socket
from pathlib import Path

import pytest

from node import process
from node.log import Log


class StoppedClock:
    """Always the same moment."""

    def wall(self) -> float:
        return 0.0

    def monotonic_ns(self) -> int:
        return 0


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(StoppedClock(), path=str(tmp_path / "log"))


def logged(log: Log) -> list[str]:
    path = Path(log.path)
    text = path.read_text() if path.exists() else ""
    return [line.split(" ", 5)[5] for line in text.splitlines()]


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told(log: Log, tmp_path: Path, abstract: bool) -> None:
    address = f"@sentrio-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + address[1:] if abstract else address)
        listener.settimeout(10)
        supervisor = process.Supervisor("auto", {"NOTIFY_SOCKET": address}, log)
        assert supervisor.kind == "systemd"
        supervisor.starting()
        supervisor.ready()
        supervisor.stopping()
        assert listener.recv(100) == b"STATUS=Sentrio is loading...\n"
        assert listener.recv(100) == b"STATUS=Ready to accept connections\nREADY=1\n"
        assert listener.recv(100) == b"STOPPING=1\n"
    assert logged(log)[0].startswith("* supervised by systemd.")


@pytest.mark.parametrize(
    ("mode", "complaint"),
    [
        ("systemd", "# systemd supervision error: NOTIFY_SOCKET not found!"),
        ("upstart", "# upstart supervision requested, but UPSTART_JOB not found!"),
        ("auto", None),
        ("no", None),
    ],
)
def test_nobody_supervises(log: Log, mode: str, complaint: str | None) -> None:
    supervisor = process.Supervisor(mode, {}, log)
    assert supervisor.kind == ""
    supervisor.starting()
    supervisor.ready()
    assert logged(log) == ([complaint] if complaint else [])


def test_a_deaf_supervisor_is_logged(log: Log, tmp_path: Path) -> None:
    supervisor = process.Supervisor("systemd", {"NOTIFY_SOCKET": str(tmp_path / "none")}, log)
    supervisor.ready()
    assert logged(log) == ["# Could not notify systemd: No such file or directory"]


def test_pid_file(log: Log, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    pid_file = process.PidFile(str(path), log)
    pid_file.write()
    assert path.read_text() == f"{os.getpid()}\n"
    pid_file.remove()
    assert not path.exists()
    process.PidFile(str(tmp_path / "no" / "pid"), log).write()
    process.PidFile("", log).write()
    process.PidFile("", log).remove()
    assert logged(log) == [
        "* Removing the pid file.",
        "* Failed to write PID file: No such file or directory",
    ]


class Limits:
    """The limit of open files as a process without privileges sees it."""

    def __init__(self, soft: int, hard: int) -> None:
        self.pair = (soft, hard)

    def get(self, kind: int) -> tuple[int, int]:
        assert kind == resource.RLIMIT_NOFILE
        return self.pair

    def set(self, kind: int, pair: tuple[int, int]) -> None:
        if pair[1] > self.pair[1] or pair[0] > pair[1]:
            raise PermissionError(1, "Operation not permitted")
        self.pair = pair


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "possible", "after"),
    [
        (20000, 20000, 10000, 10000, 20000),
        (1024, 20000, 10000, 10000, 10032),
        (1024, 4096, 10000, 4064, 4096),
        (1024, 1024, 10000, 992, 1024),
    ],
)
def test_open_files(
    log: Log,
    monkeypatch: pytest.MonkeyPatch,
    soft: int,
    hard: int,
    wanted: int,
    possible: int,
    after: int,
) -> None:
    limits = Limits(soft, hard)
    monkeypatch.setattr(resource, "getrlimit", limits.get)
    monkeypatch.setattr(resource, "setrlimit", limits.set)
    assert process.allow_clients(wanted, log) == possible
    assert limits.pair[0] == after
    text = "\n".join(logged(log))
    assert ("reduced to" in text) == (possible < wanted)
    assert ("Increased maximum number" in text) == (possible == wanted and soft < wanted)


def test_too_few_open_files(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits(32, 32)
    monkeypatch.setattr(resource, "getrlimit", limits.get)
    monkeypatch.setattr(resource, "setrlimit", limits.set)
    with pytest.raises(process.TooFewFiles, match="is not enough for the server to start"):
        process.allow_clients(100, log)


def test_an_exception_that_ends_the_server_is_logged_with_its_place(log: Log) -> None:
    crashes = process.CrashReports(log)
    for enabled in (True, False):
        crashes.enabled = enabled
        try:
            raise ValueError("what nobody expected")
        except ValueError as error:
            crashes.report(error)
    lines = Path(log.path).read_text().splitlines()
    assert "=== SENTRIO BUG REPORT START: Cut & paste starting from here ===" in lines
    assert "ValueError: what nobody expected" in lines
    assert any(
        line.endswith("in test_an_exception_that_ends_the_server_is_logged_with_its_place")
        for line in lines
    )
    assert lines[-1].endswith("# The server ends: ValueError: what nobody expected")
    assert sum("Traceback" in line for line in lines) == 1
