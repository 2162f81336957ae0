"""The time left is computed from what this process did, at the pace at which it does it."""

from __future__ import annotations

import time

import pytest

from codegen.core.terminal import Progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize("done_before", [0, 16])
@pytest.mark.parametrize("loading_s", [0.0, 100.0])
def test_steps_of_an_earlier_process_have_no_part_in_the_speed(
    clock: list[float], capsys: pytest.CaptureFixture[str], done_before: int, loading_s: float
) -> None:
    with Progress("steps", 32) as progress:
        clock[0] += loading_s
        for step in range(done_before + 1, done_before + 5):
            clock[0] += 20.0
            progress.update(step)
        last = capsys.readouterr().err.splitlines()[-1]
    left = (32 - done_before - 4) * 20
    assert "0.05/s" in last
    assert f"{left // 60} min {left % 60} s left" in last


def test_before_two_reports_nothing_is_said_of_the_speed(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress("steps", 32) as progress:
        clock[0] += 50
        progress.update(17)
    assert capsys.readouterr().err == "steps: 17/32, 50 s\n"


def test_the_first_of_a_batch_tells_no_speed(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    """A batch of 29 takes a minute, and its samples come at its end: 28 minutes are not left."""
    with Progress("samples", 29) as progress:
        progress.update(0)
        clock[0] += 61.0
        progress.update(1)
        assert capsys.readouterr().err == "samples: 1/29, 1 min 1 s\n"
        clock[0] += 3.0
        progress.update(29)
    assert capsys.readouterr().err == "samples: 29/29, 1 min 4 s, 0.453/s\n"


def test_a_bar_shows_that_time_passes_between_reports(clock: list[float]) -> None:
    """The time goes on during a long step; the speed is that of finished steps."""
    with Progress("steps", 10) as progress:
        progress.update(0)
        clock[0] += 60.0
        progress.update(2)
        assert str(progress) == "1 min 0 s, 0.0333/s, 4 min 0 s left"
        clock[0] += 15.0
        assert str(progress) == "1 min 15 s, 0.0333/s, 4 min 0 s left"
