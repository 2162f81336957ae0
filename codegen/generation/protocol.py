"""What a generation back-end takes and gives. Light: imports no model library.

A back-end turns :class:`Request` objects into :class:`~codegen.records.Sample` records. Rooms that
need completions (evals, cogex, sqlnet) depend on this module alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from codegen.errors import ConfigError
from codegen.records import Sample

BKSPC = "<bkspc>"  # the special token of models that take tokens back (SequenceMatch)


@dataclass(frozen=True, slots=True)
class Request:
    """One completion to make.

    Attributes:
        prompt: the text to continue, or with ``chat`` the user's turn.
        chat: whether to wrap ``prompt`` in the model's chat template, so that the completion is
            the assistant's turn.
        stop: strings that end the completion, which holds none of them.
        task, problem_id, index: copied into the sample; they also seed its randomness.
        heal: whether to let the completion's first token reach back over the prompt's end (token
            healing). Off where the model was trained with a border between the tokens there;
            without meaning for chat.
        original: the text of the file that the completion rewrites, if it does, which some decoders
            draft from.
    """

    prompt: str
    chat: bool = False
    stop: tuple[str, ...] = ()
    task: str = ""
    problem_id: str = ""
    index: int = 0
    heal: bool = True
    original: str = ""


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How tokens are chosen: ``temperature`` 0 is greedy, ``top_p`` the mass of the nucleus."""

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens is {self.max_new_tokens}; it must be at least 1.")
        if not 0 <= self.temperature <= 100:
            raise ConfigError(f"temperature is {self.temperature}; it must lie in [0, 100].")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p is {self.top_p}; it must lie in (0, 1].")


@dataclass(frozen=True, slots=True)
class Decoder:
    """A named way to turn a model's tokens into a program, with its options."""

    name: str = "sample"
    options: Mapping[str, Any] = field(default_factory=dict)


class Generator(Protocol):
    """A generation back-end."""

    def generate(
        self,
        requests: Iterable[Request],
        params: SamplingParams,
        decoder: Decoder,
        on_text: Callable[[int, str], None] | None = None,
    ) -> Iterator[Sample]:
        """Yields one sample a request, in the order they finish.

        ``on_text(i, text)`` is called with each new piece of text of the i-th request as it is
        decoded.
        """
        ...


def request_seed(seed: int, request: Request) -> int:
    """The 64-bit seed of one sample: a function of the run's seed, the problem and the index alone.

    Batching, order and resuming therefore never change which random numbers a sample sees.
    """
    key = f"{seed}\x00{request.task}\x00{request.problem_id}\x00{request.index}"
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big")


def settings_of(model: str, params: SamplingParams, decoder: Decoder) -> dict[str, Any]:
    """The ``settings`` of a sample: all that decides its tokens besides the prompt and index."""
    return {
        "model": model,
        "decoder": decoder.name,
        **({"decoder_options": dict(decoder.options)} if decoder.options else {}),
        **asdict(params),
    }
