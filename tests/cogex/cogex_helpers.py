"""Scripted models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from codegen.core.generation import RequestFailed
from codegen.generation import Backend, Completion, Request, SamplingParams

PLURAL = '''\
def pluralize(word):
    """Makes a plural.

    Args:
        word (str): the noun.

    Returns:
        dict: ending and answer.
    """
    # Step 1: Choose the ending.
    ending = choose_ending(word)
    # Step 2: Put it behind.
    return {"ending": ending, "answer": word + ending}'''


class Scripted(Backend):
    """A generation back-end that answers by a function of the request; None refuses it."""

    kind, model = "scripted", "scripted"

    def __init__(self, answer: Callable[[Request], str | None], cut: bool = False) -> None:
        self.answer, self.cut = answer, cut
        self.requests: list[Request] = []
        self.params: list[SamplingParams] = []

    def generate(self, requests, params, decoder, on_text=None):
        for number, request in enumerate(requests):
            self.requests.append(request)
            self.params.append(params)
            text = self.answer(request)
            if text is None:
                failure = RequestFailed("The prompt is too long.")
                yield Completion(number, request, error=failure)
                continue
            for stop in request.stop:
                text = text.partition(stop)[0]
            reason: Any = "length" if self.cut else "stop"
            yield Completion(number, request, text, finish_reason=reason)
