"""The interface of generation back-ends.

A back-end turns :class:`Request` objects into :class:`Completion` objects; :func:`samples` writes
them as the records of evaluations. Packages that need completions (evals, cogex, sqlnet, the data
generators) depend on this module alone. It imports no model library.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

from codegen.errors import ConfigError, ModelError
from codegen.records import FinishReason, Sample

BKSPC = "<bkspc>"  # the special token of models that take tokens back (SequenceMatch)

OnText = Callable[[int, str], None]

# What a strategy (codegen.generation.decoders) can require of a back-end, in words for errors.
CAPABILITIES: Mapping[str, str] = {
    "logits": "access to the logits before a token is chosen",
    "drafts": "verification of drafted tokens",
    "trees": "verification of trees of drafts against the draft model's probabilities",
    "layers": "drafts by a model's early layers",
    "mixtures": "forward passes on mixtures of tokens",
    "removal": "removal of tokens from the end of a sequence",
    "insertion": "a model that inserts tokens in any order",
    "loop": "the decoding loop of this package",
}


@dataclass(frozen=True, slots=True)
class Request:
    """One completion to make.

    Attributes:
        prompt: the text to continue, or with ``chat`` the user's turn.
        chat: whether to wrap ``prompt`` in the model's chat template, so that the completion is
            the assistant's turn.
        prefill: the beginning of the assistant's turn, which the completion continues; with
            ``chat`` only.
        stop: strings that end the completion, which holds none of them.
        task, problem_id, index: copied into the sample; they also seed its randomness.
        heal: whether to let the completion's first token reach back over the prompt's end (token
            healing). Off where the model was trained with a border between the tokens there;
            without meaning for chat.
        original: the text of the file that the completion rewrites; some decoders draft from it.
        seed: the request's own seed, in [0, 2**63), sent to a server unchanged. None derives one
            from the problem, see :func:`request_seed`.
        marks: special tokens that appear in the text by their names, where the back-end sees
            tokens; other special tokens give no text.
    """

    prompt: str
    chat: bool = False
    prefill: str = ""
    stop: tuple[str, ...] = ()
    task: str = ""
    problem_id: str = ""
    index: int = 0
    heal: bool = True
    original: str = ""
    seed: int | None = None
    marks: tuple[str, ...] = ()


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
    """A named way to turn a model's tokens into a program, with its options.

    The name joins a reader, a strategy or one of each by ``+``; see
    :mod:`codegen.generation.decoders`.
    """

    name: str = "sample"
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Completion:
    """The completion of one request.

    Attributes:
        number: the request's place among those given, from 0.
        text: the program that the decoder reads from what the model wrote.
        actions: what the model wrote, where that is not the program (edits, backspaces).
        finish_reason: ``eos``, ``stop`` (a stop string), ``length``, or ``content_filter`` where a
            server withheld the rest.
        prompt_tokens, completion_tokens: counts; 0 if a server does not report them.
        meta: what the decoder counted.
        cached: whether it comes from a cache and cost nothing.
        wasted: tokens of prompt and completion of earlier responses that could not be used.
        retries: how often the request was sent again.
        error: why there is no text, if this request failed and others may not.
    """

    number: int
    request: Request
    text: str = ""
    actions: str = ""
    finish_reason: FinishReason | Literal["content_filter"] = "eos"
    seed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    meta: Mapping[str, Any] = field(default_factory=dict)
    cached: bool = False
    wasted: tuple[int, int] = (0, 0)
    retries: int = 0
    error: RequestFailed | None = None

    def sample(self, settings: Mapping[str, Any]) -> Sample:
        """The record of an evaluation.

        Args:
            settings: what else decided it, see :func:`settings_of`.

        Raises:
            RequestFailed: naming the problem, if the request failed.
        """
        request, reason = self.request, self.finish_reason
        if self.error:
            where = f"{request.problem_id}: " if request.problem_id else ""
            raise RequestFailed(where + self.error.message, self.error.remedy) from self.error
        if reason == "content_filter":
            reason = "stop" if request.stop else "eos"
        return Sample(
            task=request.task,
            problem_id=request.problem_id,
            index=request.index,
            prompt=request.prompt,
            completion=self.text,
            finish_reason=reason,
            settings=settings,
            seed=self.seed,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            actions=self.actions,
            meta=self.meta,
        )


class RequestFailed(ModelError):
    """One request got no completion; others may."""


class ModelUnusable(ConfigError):
    """No request can get a completion: a wrong key, an unknown model, an unreachable server.

    A :class:`~codegen.errors.ConfigError`, because those end a run of the data engine.
    """


class Backend(ABC):
    """A model that completes requests.

    Attributes:
        kind: the back-end's name.
        model: the model's name, which samples record.
        capabilities: what strategies may require of it, names of :data:`CAPABILITIES`.
        settings: further settings that each sample records (JSON values).
        style: the prompt style that the model was tuned for.
        decoder: the decoder that it was tuned for.
        parameters: the number of its parameters, None if unknown.
        about: facts for a run's settings file that do not decide the samples (JSON values).
        independent: whether a completion depends on its own request alone, not on those beside it.
    """

    kind: str
    model: str
    capabilities: frozenset[str] = frozenset()
    settings: Mapping[str, Any] = {}
    style: str = "chat"
    decoder: str = "sample"
    parameters: int | None = None
    about: Mapping[str, Any] = {}
    independent: bool = False

    @classmethod
    def open(cls, model: str, **options: Any) -> Backend:
        """The back-end for a model.

        Args:
            options: its own, by name; evaluations give ``batch_size``, the requests of a call.
        """
        return cls(model, **options)  # type: ignore[call-arg]

    @abstractmethod
    def generate(
        self,
        requests: Iterable[Request],
        params: SamplingParams,
        decoder: Decoder,
        on_text: OnText | None = None,
    ) -> Iterator[Completion]:
        """Yields one completion a request, in the order they finish. Overrides inherit the types.

        A request that fails alone gives a completion with an ``error``.

        Args:
            requests: read as far ahead as is needed to keep the model busy.
            on_text: called as ``on_text(i, text)`` with each new piece of text of the i-th request.

        Raises:
            ConfigError: for an unknown decoder or option, or a decoder that requires what this
                back-end lacks.
            ModelUnusable: if no request can be completed.
        """

    def identity(self, decoder: Decoder) -> dict[str, Any]:
        """What decides the completions beside requests, parameters and decoder (JSON values)."""
        return {"model": self.model}


class ModelSpec(Protocol):
    """Settings that name a model: hashable, can be pickled, and can open it."""

    @property
    def model(self) -> str:
        """Its name."""
        ...

    def identity(self) -> dict[str, Any]:
        """What decides its completions (JSON values), without opening it."""
        ...

    def open(self) -> Backend:
        """Its back-end."""
        ...


def samples(
    backend: Backend,
    requests: Iterable[Request],
    params: SamplingParams,
    decoder: Decoder,
    on_text: OnText | None = None,
) -> Iterator[Sample]:
    """Completes requests and yields the records of an evaluation, in the order they finish.

    Raises:
        RequestFailed: at the first request that failed, naming its problem.
    """
    settings = {**settings_of(backend.model, params, decoder), **backend.settings}
    for completion in backend.generate(requests, params, decoder, on_text):
        yield completion.sample(settings)


def request_seed(seed: int, request: Request) -> int:
    """The 64-bit seed of one completion: of the run's seed, the problem and the index alone.

    Batching, order and resuming therefore never change which random numbers a sample sees. A
    request with a seed of its own counts as the problem of that name.
    """
    problem = request.problem_id if request.seed is None else str(request.seed)
    key = f"{seed}\x00{request.task}\x00{problem}\x00{request.index}"
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big")


def settings_of(model: str, params: SamplingParams, decoder: Decoder) -> dict[str, Any]:
    """The ``settings`` of a sample: all that decides its tokens besides the prompt and index."""
    return {
        "model": model,
        "decoder": decoder.name,
        **({"decoder_options": dict(decoder.options)} if decoder.options else {}),
        **asdict(params),
    }


def function_instruction(signature: str, docstring: str) -> str:
    """The instruction that asks for one Python function, alike in training data and evaluation.

    The wording is that of HumanEvalPack's ``instruction`` field (HumanEvalSynthesize, Muennighoff
    et al. 2023), which the LintSeq reference code uses as its HumanEval prompt.

    Args:
        signature: the function's header without ``def`` and colon, ``name(args) -> type``.
        docstring: its docstring, dedented.
    """
    header = f"Write a Python function `{signature}` to solve the following problem:"
    return f"{header}\n{docstring.strip()}"


def cut_at_stop(text: str, stops: Iterable[str]) -> str:
    """``text`` up to the first stop string; unchanged if it holds none."""
    return text[: min((at for stop in stops if (at := text.find(stop)) >= 0), default=len(text))]
