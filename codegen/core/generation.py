"""The interface of generation backends.

A backend turns :class:`Request` objects into :class:`Completion` objects; :func:`samples` converts
them to evaluation records. Packages that need completions (evals, cogex, sqlnet, the data
generators) depend only on this module. It imports no model library.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

from codegen.core.errors import ConfigError, ModelError
from codegen.core.records import FinishReason, Sample

BKSPC = "<bkspc>"  # special token that deletes the previous one (SequenceMatch)

OnText = Callable[[int, str], None]

# Capabilities that a strategy (codegen.generation.decoders) can require, with names for errors.
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
    """Request for one completion.

    Attributes:
        prompt: the text to continue, or with ``chat`` the user's turn.
        chat: True wraps ``prompt`` in the model's chat template, so that the completion is the
            assistant's turn.
        prefill: the beginning of the assistant's turn, which the completion continues; only with
            ``chat``.
        stop: strings that end the completion; it does not include them.
        task, problem_id, index: copied into the sample; they also seed its randomness.
        heal: True lets the completion's first token replace the end of the prompt (token
            healing). False if the model was trained with a token boundary there; ignored for chat.
        original: text of the file that the completion rewrites; some decoders draft from it.
        seed: the request's own seed, in [0, 2**63), sent to a server unchanged. None derives one
            from the problem, see :func:`request_seed`.
        marks: special tokens that are included in the text by name, if the backend has access to
            tokens; other special tokens are omitted.
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
    """Sampling parameters; ``temperature`` 0 is greedy, ``top_p`` the nucleus mass."""

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens is {self.max_new_tokens}; it must be at least 1.")
        if not 0 <= self.temperature <= 100:
            raise ConfigError(f"temperature is {self.temperature}; it must be in [0, 100].")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p is {self.top_p}; it must be in (0, 1].")


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
        number: index of the request, from 0.
        text: the decoded program.
        actions: the model's output, if it is not the program (edits, backspaces).
        finish_reason: ``eos``, ``stop`` (a stop string), ``length``, or ``content_filter`` if a
            server withheld the rest.
        prompt_tokens, completion_tokens: counts; 0 if a server does not report them.
        meta: the decoder's counters.
        cached: True if it comes from a cache and cost nothing.
        wasted: prompt and completion tokens of unusable earlier responses.
        retries: number of retries.
        error: the failure, if this request failed and others may succeed.
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
        """Returns the evaluation record.

        Args:
            settings: the settings that determined the completion, see :func:`settings_of`.

        Raises:
            RequestFailed: if the request failed; names the problem.
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
    """One request got no completion; other requests may succeed."""


class ModelUnusable(ConfigError):
    """No request can get a completion: a wrong key, an unknown model, an unreachable server.

    A :class:`~codegen.core.errors.ConfigError`, because those abort a run of the data engine.
    """


class Backend(ABC):
    """A model that completes requests.

    Attributes:
        kind: the backend's name.
        model: the model's name in samples.
        capabilities: names from :data:`CAPABILITIES` that strategies may require.
        settings: extra settings recorded in each sample (JSON values).
        style: the prompt style that the model was tuned for.
        decoder: the decoder that the model was tuned for.
        parameters: number of parameters, None if unknown.
        about: facts for a run's settings file that do not affect the samples (JSON values).
        independent: True if completions do not depend on concurrent requests.
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
        """Opens a model.

        Args:
            options: backend options; evaluations pass ``batch_size``, the requests per call.
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
        """Yields one completion per request, in completion order. Overrides inherit the types.

        A single request's failure yields a completion with an ``error``.

        Args:
            requests: consumed as far ahead as needed to keep the model busy.
            on_text: called as ``on_text(i, text)`` with each new chunk of the i-th request's text.

        Raises:
            ConfigError: for an unknown or unsupported decoder or option.
            ModelUnusable: if no request can be completed.
        """

    def identity(self, decoder: Decoder) -> dict[str, Any]:
        """Returns the backend's settings that determine completions (JSON values)."""
        return {"model": self.model}


class ModelSpec(Protocol):
    """Hashable, picklable settings that name a model and can open it."""

    @property
    def model(self) -> str:
        """The model's name."""
        ...

    def identity(self) -> dict[str, Any]:
        """Returns the settings that determine completions, without opening the model."""
        ...

    def open(self) -> Backend:
        """Opens the model's backend."""
        ...


def samples(
    backend: Backend,
    requests: Iterable[Request],
    params: SamplingParams,
    decoder: Decoder,
    on_text: OnText | None = None,
) -> Iterator[Sample]:
    """Completes requests and yields evaluation records in completion order.

    Raises:
        RequestFailed: at the first failed request; names its problem.
    """
    settings = {**settings_of(backend.model, params, decoder), **backend.settings}
    for completion in backend.generate(requests, params, decoder, on_text):
        yield completion.sample(settings)


def request_seed(seed: int, request: Request) -> int:
    """Returns the 64-bit seed of one completion, from the run's seed, the problem and the index.

    Batching, order and resuming therefore never change a sample's random numbers. A request's own
    seed replaces the problem id.
    """
    problem = request.problem_id if request.seed is None else str(request.seed)
    key = f"{seed}\x00{request.task}\x00{problem}\x00{request.index}"
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big")


def settings_of(model: str, params: SamplingParams, decoder: Decoder) -> dict[str, Any]:
    """Returns a sample's ``settings``, which determine its tokens besides prompt and index."""
    return {
        "model": model,
        "decoder": decoder.name,
        **({"decoder_options": dict(decoder.options)} if decoder.options else {}),
        **asdict(params),
    }


def function_instruction(signature: str, docstring: str) -> str:
    """Returns the instruction for one Python function, the same in training and evaluation.

    The wording is from HumanEvalPack's ``instruction`` field (HumanEvalSynthesize, Muennighoff
    et al. 2023), which the LintSeq reference code uses as its HumanEval prompt.

    Args:
        signature: the function's header without ``def`` and colon, ``name(args) -> type``.
        docstring: its docstring, dedented.
    """
    header = f"Write a Python function `{signature}` to solve the following problem:"
    return f"{header}\n{docstring.strip()}"


def cut_at_stop(text: str, stops: Iterable[str]) -> str:
    """Cuts ``text`` at the first stop string; unchanged if absent."""
    return text[: min((at for stop in stops if (at := text.find(stop)) >= 0), default=len(text))]
