"""Questions to an instruction-tuned model, and its answers, whoever gives them.

Data generators that use a model (UniCode's ``llm`` and ``hybrid`` modes) depend on this module's
:class:`Asker`; :mod:`codegen.generation.endpoint` asks a server that speaks OpenAI's protocol,
:mod:`codegen.generation.local_model` a model in this process. Light: standard library only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from codegen.errors import ConfigError, ModelError


@dataclass(frozen=True, slots=True)
class Ask:
    """One question.

    Attributes:
        prompt: the user's turn or, without ``chat``, the text to continue.
        chat: whether the model's chat template is applied.
        max_tokens: the most tokens of the answer.
        temperature: 0 is greedy.
        top_p: the mass of the nucleus.
        seed: of the sampling; sent as 31 bits, the range that all servers accept.
        stop: strings that end the answer, which holds none of them.
    """

    prompt: str
    chat: bool = True
    max_tokens: int = 1024
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model answered.

    Attributes:
        text: the answer.
        finish_reason: ``stop`` (ended by itself), ``length``, or another word of the server's.
        prompt_tokens: tokens of the question, 0 if the server does not tell.
        completion_tokens: tokens of the answer, 0 if the server does not tell.
        stopped_at: the stop string that ended it, if the server tells.
        cached: whether it came from the cache, and so cost nothing now.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    stopped_at: str = ""
    cached: bool = False


@dataclass(frozen=True, slots=True)
class Totals:
    """A number of answers, and the tokens they took."""

    answers: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


class RequestFailed(ModelError):
    """One question got no answer; others may."""


class ModelUnusable(ConfigError):
    """No question can get an answer: a wrong key, an unknown model, a server that is gone.

    A :class:`~codegen.errors.ConfigError`, since that is what ends a run of the data engine.
    """


class Asker(Protocol):
    """A model that answers questions."""

    def ask_many(self, asks: Sequence[Ask]) -> list[Answer | RequestFailed]:
        """The answer to each question, or why there is none.

        Raises:
            ModelUnusable: if no question can get an answer.
        """
        ...


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices of a million tokens, in any currency."""

    prompt: float = 0.0
    completion: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.prompt < 1e6 and 0 <= self.completion < 1e6):
            raise ConfigError("Prices of a million tokens must lie in [0, 1000000).")

    @property
    def paid(self) -> bool:
        """Whether tokens cost anything."""
        return self.prompt > 0 or self.completion > 0

    def micros(self, prompt_tokens: int, completion_tokens: int) -> int:
        """The cost in millionths of the currency's unit, rounded."""
        return round(prompt_tokens * self.prompt + completion_tokens * self.completion)


def ask_key(identity: Mapping[str, Any], ask: Ask) -> bytes:
    """The cache's key of an answer: a hash of the model's identity and all of the question."""
    row = json.dumps([dict(identity), asdict(ask)], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(row.encode("ascii")).digest()
