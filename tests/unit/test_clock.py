"""A clock that is off, as a file says."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from node.clock import LOOK_INTERVAL, SHIFT_VARIABLE, ShiftedClock, SystemClock, choose_clock


def test_a_clock_jumps_and_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    now = [10**9]
    monkeypatch.setattr(time, "monotonic_ns", lambda: now[0])
    monkeypatch.setattr(time, "time", lambda: 5000.0)
    clock = choose_clock({SHIFT_VARIABLE: "shift"})
    assert isinstance(clock, ShiftedClock)
    # The folder of the beginning is meant: servers go to another one.
    monkeypatch.chdir("/")
    assert clock.wall() == 5000.0
    for text, wall in (("-3600\n", 1400.0), ("60.5", 5060.5), ("soon", 5000.0), ("", 5000.0)):
        before = clock.wall()
        (tmp_path / "shift").write_text(text)
        # Files are not read for each command.
        assert clock.wall() == before
        now[0] += LOOK_INTERVAL
        assert clock.wall() == wall


@pytest.mark.parametrize("environment", [{}, {SHIFT_VARIABLE: ""}])
def test_a_clock_is_right_unless_somebody_asks(environment: dict[str, str]) -> None:
    assert isinstance(choose_clock(environment), SystemClock)
