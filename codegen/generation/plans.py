"""Questions to a model whose next question depends on the last answer, for many examples at once.

Each example is a *plan*: a coroutine that yields questions and is sent their answers.
:func:`run_plans` advances many plans side by side, so that their questions go out together.

An answer that can't be used raises :class:`Unusable`, whose ``reason`` is what the data engine
counts the example as skipped by: ``truncated``: it reached the limit of tokens; ``content_filter``:
the server withheld it; ``not_unicode``: it holds lone surrogates; others are those of the plans.
"""

from __future__ import annotations

import random
import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from codegen.generation.asking import Answer, Ask, Asker, RequestFailed
from codegen.records import has_lone_surrogate

T = TypeVar("T")
Plan = Generator[Ask, Answer, T]


class Unusable(Exception):
    """A model's answer can't be used; ``reason`` is a short stable word."""

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(detail)

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.reason, self.detail)


@dataclass(slots=True)
class Questioner:
    """Makes the questions of one example, each with a seed of its own, and counts their tokens."""

    rng: random.Random
    temperature: float
    max_tokens: int
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def ask(self, prompt: str) -> Plan[str]:
        """The text of the answer to a prompt, without a reasoning model's thoughts."""
        seed = self.rng.getrandbits(31)
        answer = yield Ask(
            prompt, max_tokens=self.max_tokens, temperature=self.temperature, seed=seed
        )
        self.prompt_tokens += answer.prompt_tokens
        self.completion_tokens += answer.completion_tokens
        if answer.finish_reason == "length":
            raise Unusable("truncated", f"the answer has more than {self.max_tokens} tokens")
        if answer.finish_reason == "content_filter":
            raise Unusable("content_filter", "the server withheld the answer")
        if has_lone_surrogate(answer.text):  # readers of the data would refuse the whole file
            raise Unusable("not_unicode", "the answer holds lone surrogates")
        return _THOUGHTS.sub("", answer.text.replace("\r\n", "\n"), count=1)


_THOUGHTS = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)


def run_plans(plans: Sequence[Plan[T]], asker: Asker | None) -> list[T | Exception]:
    """What each plan returns or raises, their questions asked together, round by round.

    Raises:
        ModelUnusable: if the model can answer no question.
    """
    results: list[T | Exception | None] = [None] * len(plans)
    asks: dict[int, Ask] = {}

    def advance(number: int, answer: Answer | RequestFailed | None) -> None:
        plan = plans[number]
        try:
            if isinstance(answer, RequestFailed):
                asks[number] = plan.throw(answer)
            elif answer is None:
                asks[number] = next(plan)
            else:
                asks[number] = plan.send(answer)
        except StopIteration as end:
            results[number] = end.value
        except Exception as error:  # noqa: BLE001 - one example's; the engine counts it
            results[number] = error

    for number in range(len(plans)):
        advance(number, None)
    while asks:
        if asker is None:
            raise TypeError("a plan has a question and there is nobody to ask")
        pending = dict(asks)
        asks.clear()
        answers = asker.ask_many(list(pending.values()))
        for number, answer in zip(pending, answers, strict=True):
            advance(number, answer)
    return results  # type: ignore[return-value] # every plan has ended
