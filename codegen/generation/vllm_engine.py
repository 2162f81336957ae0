"""vLLM in this process: started with our settings, asked in tokens, advanced step by step.

It runs without a process of its own (``VLLM_ENABLE_V1_MULTIPROCESSING=0``): it starts sooner, and
which requests share a step, and so the last bits of their logits, is the same in every run. Its log
goes to standard error, errors only. Variables that are set already are left as they are.

Weights are read from safetensors only, and no code of a model's is run.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from codegen.errors import ConfigError, ModelError

PROCESSOR = "codegen.decoding.rpg.vllm_processors:VllmPenalties"
PROPOSER = "codegen.decoding.drafts.vllm_proposer.DraftProposer"
WORKER = "codegen.decoding.drafts.vllm_worker.DraftWorker"
DRAFTED = 16  # tokens of a draft at most, as in our own loop

_ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "VLLM_NO_USAGE_STATS": "1",
}
_OURS = (
    "model", "tokenizer", "speculative_config", "worker_cls", "logits_processors", "enable_lora",
    "load_format", "generation_config", "trust_remote_code",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Turn:
    """What an engine is asked: how to go on from some tokens.

    Attributes:
        max_tokens: new tokens at most, the ending one included.
        temperature, top_p: 0 is greedy; the mass of the nucleus.
        seed: of the random numbers, in [0, 2**63); None where nothing is drawn.
        ends: token ids that end it.
        allowed: ids of which each new token must be one, None for all.
        extra_args: for the plug-ins: a rule against repetition, the file that is rewritten.
    """

    max_tokens: int
    temperature: float
    top_p: float
    seed: int | None
    ends: Sequence[int]
    allowed: Sequence[int] | None = None
    extra_args: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Grown:
    """What one step gave one request: new tokens, and whether it has ended."""

    name: str
    tokens: list[int]
    ended: bool


class Engine(Protocol):
    """What the ``vllm`` back-end needs of vLLM.

    Attributes:
        holds: tokens of a prompt and its completion, at most.
        device, dtype: where and in what it computes.
    """

    holds: int
    device: str
    dtype: str

    def add(self, name: str, prompt: Sequence[int], turn: Turn) -> None:
        """Takes a request; names are unique among those that run."""
        ...

    def step(self) -> Iterable[Grown]:
        """Advances the requests that there is room for."""
        ...

    def abort(self, names: Sequence[str]) -> None:
        """Ends requests; those that have ended already may be among them."""
        ...

    def close(self) -> None:
        """Frees the memory."""
        ...


class VllmEngine:
    """vLLM on one model; implements :class:`Engine`.

    Args:
        place: directory or hub id of the model.
        drafts: whether tokens are drafted; without, rules against repetition can be asked for.
        batch_size: requests of a step, by default as many as vLLM takes.
        options: of vLLM's own, as its ``LLM`` takes them (``tensor_parallel_size``,
            ``max_model_len``, ...), and ``num_speculative_tokens``.

    Raises:
        ModelError: if vLLM is not installed, or does not start on this model or machine.
        ConfigError: for an option that vLLM has not, or that is ours to set.
    """

    def __init__(
        self,
        place: str,
        *,
        drafts: bool = False,
        batch_size: int | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        options = dict(options or {})
        if taken := [name for name in _OURS if name in options]:
            raise ConfigError(f"The option {taken[0]!r} of vLLM is set by this back-end.")
        vllm = import_vllm()
        from vllm.platforms import current_platform  # type: ignore[reportMissingImports]

        self.device = str(current_platform.device_type)
        if not self.device:
            raise ModelError(
                "vLLM is installed, but this build of it finds no device to run on here.",
                "See docs/vllm.md, or take --backend hf.",
            )
        settings = {
            **_defaults(self.device, batch_size),
            **_drafting(drafts, options.pop("num_speculative_tokens", DRAFTED)),
            **options,
        }
        self._vllm = vllm
        self._llm = _start(vllm, place, settings)
        self._engine = self._llm.llm_engine
        config = self._engine.model_config
        self.holds: int = config.max_model_len
        self.dtype = str(config.dtype).removeprefix("torch.")

    def add(self, name: str, prompt: Sequence[int], turn: Turn) -> None:
        """See :class:`Engine`.

        Raises:
            ConfigError: for what is beyond vLLM's own bounds: it takes temperatures up to 2.
        """
        try:
            params = self._vllm.SamplingParams(
                max_tokens=turn.max_tokens,
                temperature=turn.temperature,
                top_p=turn.top_p,
                seed=turn.seed,
                stop_token_ids=list(turn.ends),
                allowed_token_ids=None if turn.allowed is None else list(turn.allowed),
                extra_args=dict(turn.extra_args) or None,
                detokenize=False,
                output_kind=self._vllm.sampling_params.RequestOutputKind.DELTA,
            )
            tokens = {"prompt_token_ids": list(prompt)}
            self._engine.add_request(name, tokens, params)
        except (ValueError, self._vllm.exceptions.VLLMClientError) as error:
            raise ConfigError(f"vLLM refuses the request: {_one_line(error)}.") from None

    def step(self) -> list[Grown]:
        """See :class:`Engine`."""
        return [
            Grown(made.request_id, list(made.outputs[0].token_ids), made.finished)
            for made in self._engine.step()
        ]

    def abort(self, names: Sequence[str]) -> None:
        """See :class:`Engine`."""
        self._engine.abort_request(list(names))

    def drafted(self) -> tuple[int, int]:
        """Tokens that were drafted so far, and how many of them were accepted; as vLLM counts them,
        which it does with the option ``disable_log_stats=False``.
        """
        counts = {metric.name: getattr(metric, "value", 0) for metric in self._llm.get_metrics()}
        drafted, accepted = (
            int(counts.get(f"vllm:spec_decode_num_{kind}_tokens", 0))
            for kind in ("draft", "accepted")
        )
        return drafted, accepted

    def close(self) -> None:
        """See :class:`Engine`."""
        import gc

        with suppress(AttributeError):  # the name is not public
            self._engine.engine_core.shutdown()
        del self._engine, self._llm
        gc.collect()


def import_vllm() -> Any:
    """The ``vllm`` package, its log and its processes as said above.

    Raises:
        ModelError: if it is not installed, or does not load.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import vllm  # type: ignore[reportMissingImports]
        import vllm.exceptions  # type: ignore[reportMissingImports]
        import vllm.sampling_params  # type: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        if error.name != "vllm":
            raise ModelError(
                f"vLLM is installed but does not load: {_one_line(error)}.", "See docs/vllm.md."
            ) from error
        raise ModelError(
            "vLLM is not installed.",
            "Install it with: pip install 'codegen-toolkit[vllm]' (docs/vllm.md), or take "
            "--backend hf.",
        ) from None
    except (ImportError, OSError, RuntimeError) as error:
        raise ModelError(
            f"vLLM is installed but does not load: {_one_line(error)}.", "See docs/vllm.md."
        ) from error
    return vllm


def _defaults(device: str, batch_size: int | None) -> dict[str, Any]:
    from codegen.models import pick_dtype

    settings: dict[str, Any] = {
        "dtype": str(pick_dtype(device)).removeprefix("torch."),
        "disable_log_stats": True,
    }
    if batch_size is not None:
        settings["max_num_seqs"] = batch_size
    if device == "cpu":
        # Compiling takes a minute and gains a twentieth. A prompt that is read in parts ends the
        # engine if the request has a seed ("CPU Generator does not use offset").
        settings.update(enforce_eager=True, enable_chunked_prefill=False)
    return settings


def _drafting(drafts: bool, most: object) -> dict[str, Any]:
    if not drafts:
        return {"logits_processors": [PROCESSOR]}
    if not isinstance(most, int) or isinstance(most, bool) or most < 1:
        raise ConfigError(f"num_speculative_tokens is {most!r}; it must be a number, at least 1.")
    config = {
        "method": "custom_class",
        "model": PROPOSER,
        "num_speculative_tokens": most,
        "suffix_decoding_max_spec_factor": 2.0,
        # What a request is drafted depends on itself alone, as in our own loop.
        "suffix_decoding_max_cached_requests": 0,
    }
    return {"speculative_config": config, "worker_cls": WORKER}


def _start(vllm: Any, place: str, settings: Mapping[str, Any]) -> Any:
    try:
        return vllm.LLM(
            place,
            load_format="safetensors",  # never a pickle
            trust_remote_code=False,
            generation_config="vllm",  # how tokens are chosen is ours to say
            **settings,
        )
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        name = str(error).rpartition("argument ")[2].strip("'")
        raise ConfigError(f"vLLM has no option {name!r}.") from None
    except (ValueError, RuntimeError, OSError, vllm.exceptions.VLLMError) as error:
        raise ModelError(
            f"vLLM does not start on the model {place!r}: {_one_line(error)}.",
            "Options of vLLM's are given by --vllm-option (docs/vllm.md), or take --backend hf.",
        ) from error


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return (text if len(text) <= 300 else text[:297] + "...").rstrip(".")
