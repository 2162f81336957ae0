"""Sequences of requests in which each depends on the last completion, run concurrently.

Each example is a *plan*: a coroutine that yields requests and receives their completions.
:func:`run_plans` advances many plans, so that their requests are sent together.
:class:`ModelClient` contains the settings shared by data generators that use a model.

A completion that cannot be used raises :class:`Unusable`; the data engine counts the example as
skipped for its ``reason``: ``truncated`` (reached the token limit), ``content_filter`` (withheld by
the server), ``not_unicode`` (contains lone surrogates), or a reason of the plan.
"""

from __future__ import annotations

import random
import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from codegen.core.errors import CodegenError, ConfigError, Skip
from codegen.core.generation import (
    Backend,
    Completion,
    Decoder,
    ModelSpec,
    ModelUnusable,
    Request,
    SamplingParams,
)
from codegen.core.records import has_lone_surrogate
from codegen.generation.completion_cache import Prices, open_cached

T = TypeVar("T")
Plan = Generator[Request, Completion, T]


class Unusable(Skip):
    """A model's completion cannot be used; ``reason`` is a short stable word."""


@dataclass(frozen=True, slots=True)
class ModelClient:
    """Model settings of a data generator; can be pickled.

    Attributes:
        cache: completion cache file; empty for none.
        ledger: file that counts new completions; empty for none.
        prices: token prices, for the cost in an example's ``meta``.
    """

    spec: ModelSpec
    cache: str = ""
    ledger: str = ""
    temperature: float = 0.0
    max_tokens: int = 2048
    prices: Prices = Prices()

    def __post_init__(self) -> None:
        if self.max_tokens < 1 or not 0 <= self.temperature <= 100:
            raise ConfigError("max_tokens must be at least 1, temperature in [0, 100].")

    def config(self) -> dict[str, Any]:
        """Returns the settings that affect the data, without the address and the cache."""
        return {
            "llm": self.spec.identity(),
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "prices": {"prompt": self.prices.prompt, "completion": self.prices.completion},
        }

    def cost(self, spent: Conversation) -> dict[str, int]:
        """Returns the tokens and cost of an example's completions, for its ``meta``."""
        tokens = spent.prompt_tokens, spent.completion_tokens
        return {
            "llm_prompt_tokens": tokens[0],
            "llm_completion_tokens": tokens[1],
            "llm_cost_micros": self.prices.micros(*tokens),
        }

    def run(self, plans: Sequence[Plan[T]]) -> list[T | Exception]:
        """Runs plans; returns each plan's result or exception.

        Raises:
            ConfigError: if the model cannot complete any request, or a file cannot be used.
        """
        params = SamplingParams(self.max_tokens, self.temperature)
        try:
            return run_plans(plans, open_cached(self.spec, self.cache, self.ledger), params)
        except ConfigError:
            raise
        except CodegenError as error:  # cache or ledger failed, not an example
            raise ModelUnusable(error.message, error.remedy) from error


@dataclass(slots=True)
class Conversation:
    """Makes the requests of one example, each with its own seed, and counts their tokens.

    Attributes:
        rng: random generator of the seeds.
    """

    rng: random.Random
    max_tokens: int
    prompt_tokens: int = field(default=0, init=False)
    completion_tokens: int = field(default=0, init=False)

    def complete(self, prompt: str) -> Plan[str]:
        """Completes a prompt; removes a reasoning model's thoughts."""
        made = yield Request(prompt, chat=True, seed=self.rng.getrandbits(31))
        self.prompt_tokens += made.prompt_tokens
        self.completion_tokens += made.completion_tokens
        if made.finish_reason == "length":
            raise Unusable("truncated", f"the answer has more than {self.max_tokens} tokens")
        if made.finish_reason == "content_filter":
            raise Unusable("content_filter", "the server withheld the answer")
        if has_lone_surrogate(made.text):  # readers of the data would reject the whole file
            raise Unusable("not_unicode", "the answer contains lone surrogates")
        return _THOUGHTS.sub("", made.text.replace("\r\n", "\n"), count=1)


_THOUGHTS = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)


def run_plans(
    plans: Sequence[Plan[T]], backend: Backend | None = None, params: SamplingParams | None = None
) -> list[T | Exception]:
    """Runs plans and sends their requests together, round by round.

    Returns each plan's result or exception.

    Args:
        backend: completes the requests; None for plans without requests.
        params: sampling parameters of all requests; None for the defaults.

    Raises:
        ModelUnusable: if the model cannot complete any request.
    """
    results: list[T | Exception | None] = [None] * len(plans)
    waiting: dict[int, Request] = {}

    def advance(number: int, made: Completion | None) -> None:
        plan = plans[number]
        try:
            if made is None:
                waiting[number] = next(plan)
            elif made.error:
                waiting[number] = plan.throw(made.error)
            else:
                waiting[number] = plan.send(made)
        except StopIteration as end:
            results[number] = end.value
        except Exception as error:  # noqa: BLE001 - affects one example; the engine counts it
            results[number] = error

    for number in range(len(plans)):
        advance(number, None)
    while waiting:
        if backend is None:
            raise TypeError("a plan requests a completion, but no model is set")
        numbers, requests = list(waiting), list(waiting.values())
        waiting.clear()
        new = backend.generate(requests, params or SamplingParams(), Decoder())
        made = sorted(new, key=lambda one: one.number)
        for number, completion in zip(numbers, made, strict=True):
            advance(number, completion)
    return results  # type: ignore[return-value] # every plan has ended
