"""Limits of requests in flight, a minute and for money, by a clock that the test moves."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from codegen.generation import openai as module
from codegen.generation.backends import Endpoint
from codegen.generation.openai import CalledOff, CostLimitReached, Pace


class Clock:
    """Time that passes only while somebody waits."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    yield clock


def paced(clock: Clock, **limits: Any) -> Pace:
    made = Pace(Endpoint("http://h", "m", **limits))
    made._changed.wait = lambda timeout=None: clock.wait(timeout or 0.0)  # type: ignore[method-assign,assignment]
    return made


def send(made: Pace, tokens: int = 0, spent: tuple[int, int] = (5, 5), **how: Any) -> float:
    """One request from its beginning to its end, which takes no time; when it was sent."""
    at = made.enter(tokens, threading.Event())
    made.leave(at, tokens, spent, **{"answered": True, **how})
    return at


def test_requests_a_minute_are_spaced_evenly(clock: Clock) -> None:
    made = paced(clock, rpm=30)
    times = [send(made) for _ in range(10)]
    assert [round(b - a, 6) for a, b in itertools.pairwise(times)] == [2.0] * 9


def test_tokens_a_minute_count_what_the_server_counted(clock: Clock) -> None:
    made = paced(clock, tpm=6000)
    times = [send(made, tokens=1000, spent=(60, 40)) for _ in range(10)]  # estimated, then 100 each
    assert times[-1] - times[0] == pytest.approx(9.0)
    times = [send(made, tokens=1000, spent=(0, 0)) for _ in range(4)]  # a server that counts none
    assert times[-1] - times[0] == pytest.approx(30.0)


def test_busy_halves_and_success_adds_one_a_round(clock: Clock) -> None:
    made = paced(clock, concurrency=16)
    stop = threading.Event()
    together = [made.enter(0, stop) for _ in range(16)]
    clock.now += 1
    for at in together:  # all of one rush: halved once
        made.leave(at, 0, (0, 0), answered=False, busy=True)
    assert made._limit == 8
    clock.now += 1
    send(made, answered=False, busy=True)
    assert made._limit == 4
    for _ in range(4):
        send(made)
    assert 4.8 < made._limit < 5.2
    for _ in range(2000):
        send(made)
    assert made._limit == 16
    for _ in range(9):
        clock.now += 1
        send(made, answered=False, busy=True)
    assert made._limit == 1


def test_a_wait_that_the_server_asks_for_holds_for_all(clock: Clock) -> None:
    made = paced(clock)
    send(made, answered=False, busy=True, wait_s=7.0)
    assert send(made) == pytest.approx(1007.0)


def test_the_cost_limit(clock: Clock) -> None:
    made = paced(clock, price_in=1.0, price_out=10.0, max_cost=0.001)  # 1000 millionths
    for _ in range(9):
        send(made, spent=(10, 10))  # 110 each
    send(made, spent=(9, 0))
    with pytest.raises(CostLimitReached, match=r"cost limit of 0.001 is reached.*resume") as caught:
        for _ in range(2):
            send(made, spent=(1, 0))
    assert caught.value.exit_code == 1


def test_a_server_that_counts_nothing_cannot_keep_a_cost_limit(clock: Clock) -> None:
    made = paced(clock, price_in=1.0, max_cost=1.0)
    send(made, spent=(0, 0))
    with pytest.raises(CostLimitReached, match="Leave out --max-cost"):
        send(made)


def test_waiting_ends_when_called_off(clock: Clock) -> None:
    made = paced(clock, concurrency=1)
    stop = threading.Event()
    made.enter(0, stop)
    stop.set()
    with pytest.raises(CalledOff):
        made.enter(0, stop)
