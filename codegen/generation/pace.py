"""Limits of the requests to a server: how many at once, how many a minute, and their cost.

One :class:`Pace` is shared by all threads that call a server:

* **At once.** The number of requests in flight starts at the user's limit, is halved when the
  server says that it is too busy (429 or 503), and grows by one for each round of successes
  (additive increase, multiplicative decrease). Requests that were already in flight when it was
  halved do not halve it again.
* **A minute.** Requests are spaced evenly, by two clocks: each request moves the clock of requests
  by 1/rpm of a minute, and that of tokens by its tokens/tpm. A request's tokens are estimated
  before it is sent and corrected once the server has counted them.
* **Money.** Once the new completions cost the limit, no request is sent; those in flight end, so
  up to ``concurrency`` of them come on top.

Limit: a pace is one process's. Several processes on one server have a share of the limits each.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from codegen.generation.backends import Endpoint
from codegen.generation.cached import Prices
from codegen.generation.protocol import ModelUnusable

_LOOK_S = 0.25  # how often a waiting thread checks whether it was stopped
_MINUTE_S = 60.0


class CalledOff(Exception):
    """A request was not sent because the run was stopped."""


class CostLimitReached(ModelUnusable):
    """The cost limit is reached; run again with a higher one to resume."""

    exit_code = 1


@dataclass(slots=True)
class Pace:
    """The limits of an endpoint, for all its threads."""

    endpoint: Endpoint
    _changed: threading.Condition = field(default_factory=threading.Condition, init=False)
    _limit: float = field(init=False)  # requests in flight at most
    _in_flight: int = field(default=0, init=False)
    _slowed_at: float = field(default=0.0, init=False)
    _resume_at: float = field(default=0.0, init=False)
    _next_request: float = field(default=0.0, init=False)
    _next_tokens: float = field(default=0.0, init=False)
    _cost_micros: int = field(default=0, init=False)
    _uncounted: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._limit = self.endpoint.concurrency

    def enter(self, tokens: int, stop: threading.Event) -> float:
        """Waits until a request may be sent.

        Args:
            tokens: an estimate of what it will take.
            stop: calls it off.

        Returns:
            The time at which it is sent (``time.monotonic``).

        Raises:
            CalledOff: if ``stop`` is set.
            CostLimitReached: if there is no money left.
        """
        rpm, tpm = self.endpoint.rpm, self.endpoint.tpm
        with self._changed:
            while not stop.is_set():
                self._check_cost()
                now = time.monotonic()
                wait_s = max(self._resume_at, self._next_request, self._next_tokens) - now
                if wait_s <= 0 and self._in_flight < int(self._limit):
                    self._in_flight += 1
                    if rpm:
                        self._next_request = now + _MINUTE_S / rpm
                    if tpm:
                        self._next_tokens = now + _MINUTE_S * tokens / tpm
                    return now
                self._changed.wait(min(wait_s, _LOOK_S) if wait_s > 0 else _LOOK_S)
        raise CalledOff

    def leave(
        self,
        sent_at: float,
        estimated: int,
        spent: tuple[int, int],
        *,
        answered: bool,
        busy: bool = False,
        wait_s: float = 0.0,
    ) -> None:
        """Records how a request ended.

        Args:
            sent_at, estimated: what :meth:`enter` returned and was given.
            spent: the tokens of prompt and completion that the server counted.
            answered: whether there was a completion.
            busy: whether the server says that it is too busy.
            wait_s: how long the server asks to wait; that holds for all threads.
        """
        now = time.monotonic()
        with self._changed:
            self._in_flight -= 1
            if self.endpoint.tpm:
                used = sum(spent) or (estimated if answered else 0)
                self._next_tokens += _MINUTE_S * (used - estimated) / self.endpoint.tpm
            prices = Prices(self.endpoint.price_in, self.endpoint.price_out)
            self._cost_micros += prices.micros(*spent)
            self._uncounted = self._uncounted or (answered and not sum(spent))
            self._resume_at = max(self._resume_at, now + wait_s)
            if busy and sent_at >= self._slowed_at:
                self._limit = max(1.0, self._limit / 2)
                self._slowed_at = now
            elif answered:
                self._limit = min(self.endpoint.concurrency, self._limit + 1 / self._limit)
            self._changed.notify_all()

    def _check_cost(self) -> None:
        most = self.endpoint.max_cost
        if most and self._uncounted:
            raise CostLimitReached(
                "The server does not report how many tokens a response took, so the limit cannot "
                "be kept.",
                "Leave out --max-cost.",
            )
        if most and self._cost_micros >= most * 1e6:
            raise CostLimitReached(
                f"The cost limit of {most:g} is reached: new responses cost "
                f"{self._cost_micros / 1e6:.6g}.",
                "Run the same command again, or with a higher --max-cost, to resume: finished "
                "responses are kept.",
            )
