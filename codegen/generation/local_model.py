"""A model in this process as an ``asking.Asker``: the ``hf`` back-end with a cache of answers.

A question's random numbers depend on its own seed alone. Its logits depend in the last bits on the
questions beside it in a batch, so only ``batch_size`` 1, the default, gives the same answers
whatever else is asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from codegen.errors import ConfigError, ModelError
from codegen.generation.asking import (
    Answer,
    Ask,
    ModelUnusable,
    RequestFailed,
    Totals,
    ask_key,
)
from codegen.generation.ledger import Ledger
from codegen.generation.protocol import Decoder, Request, SamplingParams
from codegen.generation.response_cache import ResponseCache


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model as :func:`codegen.models.load` takes it: ``embedded``, a directory or a hub id."""

    model: str = "embedded"
    batch_size: int = 1

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError(f"batch_size is {self.batch_size}; it must be at least 1.")

    def identity(self) -> dict[str, Any]:
        """What decides the answers: the weights, and whether batches do."""
        from codegen.models import fingerprint_of

        with _unusable():
            weights = fingerprint_of(self.model)
        return {"model": self.model, "weights": weights, "batch_size": self.batch_size}


class LocalClient:
    """Asks a local model, which is loaded at the first question that is not in the cache."""

    def __init__(
        self, local: LocalModel, cache: ResponseCache | None = None, ledger: Ledger | None = None
    ) -> None:
        self.local = local
        self.cache = cache
        self.ledger = ledger
        self._identity = local.identity()
        self._generator: Any = None

    def ask_many(self, asks: Sequence[Ask]) -> list[Answer | RequestFailed]:
        """See :class:`codegen.generation.asking.Asker`."""
        keys = [ask_key(self._identity, ask) for ask in asks]
        found: dict[bytes, Answer | RequestFailed] = {}
        missing: dict[bytes, Ask] = {}
        for key, ask in zip(keys, asks, strict=True):
            if self.cache and (answer := self.cache.get(key)):
                found[key] = answer
            else:
                missing[key] = ask
        # A batch shares its parameters; the seed is each request's own.
        for _, group in groupby(missing.items(), key=lambda item: _params(item[1])):
            items = list(group)
            for start in range(0, len(items), self.local.batch_size):
                batch = items[start : start + self.local.batch_size]
                for (key, _), answer in zip(batch, self._answers(batch), strict=True):
                    found[key] = answer
                    if isinstance(answer, Answer):
                        self._keep(key, answer)
        return [found[key] for key in keys]

    def _keep(self, key: bytes, answer: Answer) -> None:
        if self.cache:
            self.cache.put(key, self.local.model, answer)
        if self.ledger:
            self.ledger.add(Totals(1, answer.prompt_tokens, answer.completion_tokens))

    def _answers(self, batch: list[tuple[bytes, Ask]]) -> list[Answer | RequestFailed]:
        generator = self._load()
        requests = [
            Request(ask.prompt, chat=ask.chat, stop=ask.stop, problem_id=str(ask.seed))
            for _, ask in batch
        ]
        try:
            samples = list(generator.generate(requests, _params(batch[0][1]), Decoder()))
        except ModelError as error:
            if len(batch) == 1:
                return [RequestFailed(error.message, error.remedy)]
            return [answer for item in batch for answer in self._answers([item])]
        return [
            Answer(
                text=sample.completion,
                finish_reason="length" if sample.finish_reason == "length" else "stop",
                prompt_tokens=sample.prompt_tokens,
                completion_tokens=sample.completion_tokens,
            )
            for sample in samples
        ]

    def _load(self) -> Any:
        if self._generator is None:
            from codegen.generation.hf import HFGenerator
            from codegen.models import load

            with _unusable():
                self._generator = HFGenerator(load(self.local.model), self.local.batch_size)
        return self._generator


@contextmanager
def _unusable() -> Iterator[None]:
    """A model that does not load is no fault of a question."""
    try:
        yield
    except ModelError as error:
        raise ModelUnusable(error.message, error.remedy) from error


def _params(ask: Ask) -> SamplingParams:
    return SamplingParams(ask.max_tokens, ask.temperature, ask.top_p)
