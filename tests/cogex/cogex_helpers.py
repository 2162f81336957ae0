"""Scripted models."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from codegen.errors import ModelError
from codegen.generation.protocol import Decoder, Request, SamplingParams
from codegen.records import Sample

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


class Scripted:
    """A generation back-end that answers by a function of the request; None refuses it."""

    def __init__(self, answer: Callable[[Request], str | None], cut: bool = False) -> None:
        self.answer, self.cut = answer, cut
        self.requests: list[Request] = []
        self.params: list[SamplingParams] = []

    def generate(
        self,
        requests: Iterable[Request],
        params: SamplingParams,
        decoder: Decoder,
        on_text: Callable[[int, str], None] | None = None,
    ) -> Iterator[Sample]:
        for request in requests:
            self.requests.append(request)
            self.params.append(params)
            text = self.answer(request)
            if text is None:
                raise ModelError("The prompt is too long.")
            for stop in request.stop:
                text = text.partition(stop)[0]
            reason: Any = "length" if self.cut else "stop"
            yield Sample(
                request.task, request.problem_id, request.index, request.prompt, text, reason,
                {}, 0, 1, 1,
            )  # fmt: skip
