"""The ``vllm`` backend: runs many requests at once with vLLM in this process.

Our code handles prompts, stop strings, end tokens and decoded strings, so greedy completions equal
the ``transformers`` backend's in float32. Sampled ones differ: vLLM draws its own random numbers
from each request's seed, independent of the other requests.

Prompts are healed with one-token requests whose token must spell the rest of the prompt; the
completion continues from there. Such a prompt is processed once or twice more.

vLLM's kernels run a LoRA adapter on its base model; adapters with other weights are rejected.

Our drafters (decoders ``suffix`` and ``edit``, which need vLLM's model runner V1) or vLLM's (option
``speculative_config``) draft tokens.

vLLM runs without a separate process (``VLLM_ENABLE_V1_MULTIPROCESSING=0``): it starts sooner, and
the same requests share a step in every run, so the last bits of their logits are reproducible. It
logs only errors, to standard error. Environment variables that are already set keep their values.
Weights are read from safetensors only, and model code is never run.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from codegen import models
from codegen.core.errors import ConfigError, ModelError, in_one_line
from codegen.core.generation import (
    Backend,
    Completion,
    Decoder,
    OnText,
    Request,
    RequestFailed,
    SamplingParams,
    request_seed,
)
from codegen.core.records import FinishReason
from codegen.decoding.healing import Vocabulary
from codegen.generation.decoders import DraftOptions, ResolvedDecoder, supported
from codegen.generation.detokenize import TextStream, encode, end_tokens, stream_of
from codegen.models.config_checks import vet_adapter

PROCESSOR = "codegen.decoding.rpg.vllm_processors:VllmPenalties"
PROPOSER = "codegen.decoding.drafts.vllm_proposer.DraftProposer"
WORKER = "codegen.decoding.drafts.vllm_worker.DraftWorker"
DRAFTED = 16  # maximum draft length in tokens, as in our decoding loop
# Drafts from the request's own text, for prompts that contain the file to rewrite. vLLM's
# defaults, 5 and 5, skip most positions right after an edit.
NGRAM = {"method": "ngram", "prompt_lookup_min": 2, "prompt_lookup_max": 8}

_WAITING = 512  # requests submitted to vLLM at a time; it batches those that fit
_SEED_BITS = (1 << 63) - 1

_ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "VLLM_NO_USAGE_STATS": "1",
}
_OURS = (
    "model", "tokenizer", "worker_cls", "logits_processors", "enable_lora", "max_lora_rank",
    "load_format", "generation_config", "trust_remote_code",
)  # fmt: skip
_MATRICES = (".lora_A.weight", ".lora_B.weight")
_PLAIN = (True, False, None, "gaussian")  # other values also change the base's weights
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # allowed values of vLLM's max_lora_rank


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """Sampling parameters of one vLLM request.

    Attributes:
        max_tokens: maximum number of new tokens, including the end token.
        temperature, top_p: temperature, 0 for greedy decoding; nucleus probability mass.
        seed: seed in [0, 2**63); None for greedy decoding.
        ends: token ids that end the completion.
        allowed: ids that new tokens are restricted to, None for all.
        extra_args: arguments of the plugins: repetition penalty, the file to rewrite.
    """

    max_tokens: int
    temperature: float
    top_p: float
    seed: int | None
    ends: Sequence[int]
    allowed: Sequence[int] | None = None
    extra_args: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA adapter."""

    place: str
    rank: int

    @classmethod
    def read(cls, place: str) -> Adapter:
        """Reads the adapter in a directory.

        Raises:
            ModelError: if it is corrupt, not LoRA, or has weights that vLLM ignores.
        """
        from safetensors import SafetensorError, safe_open

        vet_adapter(place)
        settings = json.loads((Path(place) / "adapter_config.json").read_text(encoding="utf-8"))
        unlike = [name for name in ("alpha_pattern", "rank_pattern") if settings.get(name)]
        if settings.get("peft_type") != "LORA":
            unlike.append(f"the type {settings.get('peft_type')}")
        if settings.get("init_lora_weights") not in _PLAIN:
            unlike.append("init_lora_weights")
        try:
            with safe_open(Path(place) / "adapter_model.safetensors", framework="numpy") as file:
                names = list(file.keys())
        except (OSError, SafetensorError) as error:
            raise ModelError(f"The adapter {place} does not load: {in_one_line(error)}.") from error
        unlike += [name for name in names if not name.endswith(_MATRICES)]
        rank = settings.get("r")
        if unlike or not isinstance(rank, int) or not 0 < rank <= _RANKS[-1]:
            what = unlike[0] if unlike else f"the rank {rank}"
            raise ModelError(
                f"The adapter {place} has {what}, which vLLM cannot run: it supports plain LoRA "
                f"matrices up to rank {_RANKS[-1]}.",
                "Use --backend transformers.",
            )
        return cls(place, rank)


@dataclass(frozen=True, slots=True)
class EngineOutput:
    """One request's new tokens from a step; ``ended``: True if the request is finished."""

    name: str
    tokens: list[int]
    ended: bool


class VllmBackend(Backend):
    """A model that vLLM runs.

    vLLM starts at the first completion, and restarts when a drafting decoder follows one that does
    not draft, or vice versa.

    Args:
        model: ``embedded``, the directory of a model or LoRA adapter, or a hub id.
        batch_size: maximum requests per step, by default vLLM's.
        options: vLLM options, see :class:`VllmEngine`.

    Raises:
        ModelError: if the model does not exist, or vLLM cannot run its kind.
    """

    kind = "vllm"
    capabilities = frozenset({"logits", "drafts"})
    settings: Mapping[str, Any] = {"backend": "vllm"}

    def __init__(
        self,
        model: str,
        *,
        batch_size: int | None = None,
        options: Mapping[str, Any] | None = None,
        start: Callable[..., VllmEngine] | None = None,
    ) -> None:
        self.model = model
        self.place, self.origin = models.resolve(model)
        card = models.read_card(self.place)
        self.style, self.decoder = card.style, card.decoder
        self.adapter: Adapter | None = None
        if (Path(self.place) / "adapter_config.json").is_file():
            self.adapter = Adapter.read(self.place)
            self.place, self.origin = models.resolve(models.base_of(model))
            if (Path(self.place) / "adapter_config.json").is_file():
                raise ModelError(
                    f"The base of {model} is itself an adapter; vLLM supports only one adapter.",
                    "Use --backend transformers.",
                )
        self._config = _read_config(self.place)
        self.tokenizer = models.load_tokenizer(model)
        self._start_engine = start or VllmEngine
        self._options = options
        self._batch_size = batch_size
        self._engine: VllmEngine | None = None
        self._started_for = ""
        self._names = 0

    @property
    def parameters(self) -> int:  # type: ignore[override]
        """Number of parameters in the weight files."""
        from huggingface_hub import snapshot_download
        from safetensors import safe_open

        folder = Path(self.place)
        if not folder.is_dir():
            folder = Path(snapshot_download(self.place, local_files_only=True))
        count = 0
        for path in folder.glob("*.safetensors"):
            with safe_open(path, framework="numpy") as file:
                shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118
            count += sum(math.prod(shape) for shape in shapes)
        return count

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The tokenizer's tokens as bytes, for healing."""
        return Vocabulary.of(self.tokenizer)

    @cached_property
    def eos(self) -> frozenset[int]:
        """All ids that end a sequence, as in the ``transformers`` backend."""
        return end_tokens(self.tokenizer, self._config, *_generation_config(self.place))

    def engine(self, requires: str = "") -> VllmEngine:
        """Returns an engine for strategies with this requirement; starts vLLM if necessary.

        Raises:
            ModelError, ConfigError: as :class:`VllmEngine`, and if two drafters are requested.
        """
        if "speculative_config" not in (self._options or {}):
            requires = requires if requires == "drafts" else ""  # the penalties are always loaded
        elif requires == "drafts":
            raise ConfigError(
                "speculative_config: the decoders suffix and edit have their own drafters.",
                "Remove speculative_config, or choose another decoder.",
            )
        if self._engine is not None and self._started_for != requires:
            self.close()
        if self._engine is None:
            self._engine = self._start_engine(
                self.place,
                requires=requires,
                adapter=self.adapter,
                batch_size=self._batch_size,
                options=self._options,
            )
            self._started_for = requires
        return self._engine

    def close(self) -> None:
        """Stops vLLM and frees its memory; vLLM restarts when needed."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def new_name(self) -> str:
        """Returns a unique request name."""
        self._names += 1
        return str(self._names)

    def identity(self, decoder: Decoder) -> dict[str, Any]:
        """Returns the weights' origin and fingerprint, dtype and device; starts vLLM."""
        resolved = supported(decoder, self)
        engine = self.engine(resolved.strategy.requires)
        return {
            "model_origin": self.origin,
            "model_fingerprint": models.fingerprint_of(self.model),
            "dtype": engine.dtype,
            "device": engine.device,
            **({"vllm_options": dict(self._options)} if self._options else {}),
        }

    def generate(self, requests, params, decoder, on_text=None):
        """Yields completions as they finish.

        Raises:
            ModelError: if vLLM does not start.
            ConfigError: if the decoder or an option is unknown, or vLLM cannot run it.
        """
        resolved = supported(decoder, self)
        if isinstance(resolved.options, DraftOptions) and resolved.options.token_cost is not None:
            raise ConfigError(
                "token_cost cannot be set: vLLM's drafts have fixed costs.",
                "Remove token_cost, or use --backend transformers.",
            )
        engine = self.engine(resolved.strategy.requires)
        if params.temperature and engine.drafts and not engine.v2:
            raise ConfigError(
                "Drafts require temperature 0: when vLLM's model runner V1 verifies drafts, a"
                " request's seed does not determine its samples.",
                "Set the temperature to 0, disable drafts, or use --backend transformers.",
            )
        calls = _Calls(self, engine, params, decoder, resolved, on_text)
        remaining = enumerate(requests)
        try:
            while True:
                for number, request in islice(remaining, _WAITING - len(calls.running)):
                    try:
                        calls.start(number, request)
                    except ModelError as error:
                        failure = RequestFailed(error.message, error.remedy)
                        yield Completion(number, request, error=failure)
                if not calls.running:
                    return
                yield from calls.step()
        finally:
            calls.abort()


@dataclass(slots=True)
class _Running:
    """A request in flight; ``codegen.decoding.loop.Row`` documents the fields of the same names."""

    number: int
    request: Request
    seed: int
    prompt: list[int]
    rest: bytes
    stream: TextStream
    extra: Mapping[str, Any]
    tokens: list[int] = field(default_factory=list)
    healing: bool = False
    passes: int = 0
    finish: FinishReason | None = None


@dataclass(eq=False)
class _Calls:
    """The requests of one call of ``generate``; ``running``: those submitted to vLLM."""

    backend: VllmBackend
    engine: VllmEngine
    params: SamplingParams
    decoder: Decoder
    resolved: ResolvedDecoder
    on_text: OnText | None
    running: dict[str, _Running] = field(default_factory=dict)

    def start(self, number: int, request: Request) -> None:
        """Starts a request.

        Raises:
            ModelError: if the request is too long for vLLM.
        """
        backend, resolved, holds = self.backend, self.resolved, self.engine.holds
        heals = resolved.strategy.heals
        prompt = encode(request, backend.tokenizer, backend.vocabulary, heals=heals)
        length = len(prompt.ids) + self.params.max_new_tokens
        if length > holds:
            raise ModelError(
                f"Prompt and completion take up to {length} tokens; vLLM's limit is {holds}.",
                "Shorten the prompt, lower max_new_tokens or, if the model supports it, raise "
                "vLLM's option max_model_len.",
            )
        extra: dict[str, Any] = {}
        if resolved.strategy.requires == "logits":
            extra[resolved.method] = dict(self.decoder.options)
        if resolved.method == "edit" and request.original:
            extra["original"] = request.original
        stops = resolved.stops(request.stop)
        stream = stream_of(backend.tokenizer, prompt, stops, request.marks)
        seed = request_seed(self.params.seed, request)
        self._submit(_Running(number, request, seed, prompt.ids, prompt.rest, stream, extra))

    def step(self) -> Iterator[Completion]:
        """Advances vLLM by a step and yields the finished completions."""
        for output in self.engine.step():
            if output.name not in self.running:
                continue  # ended by a stop string, which is unknown to vLLM
            run = self.running[output.name]
            self._take(run, output.tokens)
            if output.ended and run.finish is None:
                if run.healing and len(run.tokens) < self.params.max_new_tokens:
                    del self.running[output.name]
                    self._submit(run)
                    continue
                run.finish = "length"
            if run.finish is None:
                continue
            del self.running[output.name]
            if not output.ended:
                self.engine.abort([output.name])
            yield self._completion(run, run.finish)

    def abort(self) -> None:
        """Aborts the requests that are still running."""
        if self.running:
            self.engine.abort(list(self.running))

    def _submit(self, run: _Running) -> None:
        """Submits a request to vLLM: for one token while its prompt is healed, else to the end."""
        params, backend = self.params, self.backend
        run.healing = bool(run.rest)
        # Each part of a request uses its own random numbers.
        seed = (run.seed + len(run.tokens)) & _SEED_BITS
        request = EngineRequest(
            max_tokens=1 if run.healing else params.max_new_tokens - len(run.tokens),
            temperature=params.temperature,
            top_p=params.top_p,
            seed=seed if params.temperature else None,
            ends=sorted(backend.eos),
            allowed=backend.vocabulary.allowed(run.rest) if run.healing else None,
            extra_args=run.extra,
        )
        name = backend.new_name()
        self.engine.add(name, [*run.prompt, *run.tokens], request)
        self.running[name] = run

    def _take(self, run: _Running, tokens: Sequence[int]) -> None:
        """Appends a step's tokens, up to the end of the completion."""
        run.passes += bool(tokens)
        for token in tokens:
            if token in self.backend.eos:
                run.finish = "eos"
                return
            run.rest = self.backend.vocabulary.after(run.rest, token) if run.rest else b""
            run.tokens.append(token)
            piece = run.stream.push(token)
            if self.on_text and piece:
                self.on_text(run.number, piece)
            if run.stream.stopped:
                run.finish = "stop"
                return

    def _completion(self, run: _Running, finish: FinishReason) -> Completion:
        if self.on_text and (piece := run.stream.flush()):
            self.on_text(run.number, piece)
        return self.resolved.completion(
            run.number,
            run.request,
            run.stream.text,
            finish,
            meta={"passes": run.passes} if self.engine.drafts else {},
            seed=run.seed,
            prompt_tokens=len(run.prompt),
            completion_tokens=len(run.tokens),
        )


def _read_config(place: str) -> SimpleNamespace:
    """Reads a model's type and end tokens from its configuration."""
    from transformers import PretrainedConfig

    try:
        values, _ = PretrainedConfig.get_config_dict(place)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"Cannot read the configuration of {place!r}: {in_one_line(error)}."
        ) from error
    text = values.get("text_config") or {}
    config = SimpleNamespace(
        model_type=str(values.get("model_type", "")),
        eos_token_id=values.get("eos_token_id", text.get("eos_token_id")),
    )
    if models.is_infilling(SimpleNamespace(config=config)):
        raise ModelError(
            f"The model {place!r} generates in any order; vLLM only generates left to right.",
            "Use --backend transformers.",
        )
    return config


def _generation_config(place: str) -> list[Any]:
    from transformers import GenerationConfig

    try:
        return [GenerationConfig.from_pretrained(place)]
    except (OSError, ValueError):
        return []


class VllmEngine:
    """vLLM on one model: accepts tokenized requests and advances them step by step.

    Args:
        place: directory or hub id of the model.
        requires: the strategy's requirement: ``drafts`` loads our drafters, ``logits`` the
            repetition penalties, which are also loaded without drafts.
        adapter: LoRA adapter to apply, None for none.
        batch_size: maximum requests per step, by default vLLM's.
        options: arguments of vLLM's ``LLM`` (``tensor_parallel_size``,
            ``max_model_len``, ...), and ``num_speculative_tokens``. ``speculative_config`` may be
            the word ``ngram``, for :data:`NGRAM`.

    Attributes:
        holds: maximum number of tokens in a prompt and its completion.
        device, dtype: device type and dtype of the model.
        drafts: True if tokens are drafted.
        v2: True on vLLM's model runner V2.

    Raises:
        ModelError: if vLLM is not installed, or cannot start with this model or machine.
        ConfigError: if an option is unknown to vLLM or set by this backend.
    """

    def __init__(
        self,
        place: str,
        *,
        requires: str = "",
        adapter: Adapter | None = None,
        batch_size: int | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        options = dict(options or {})
        if taken := [name for name in _OURS if name in options]:
            raise ConfigError(f"The option {taken[0]!r} of vLLM is set by this backend.")
        vllm = import_vllm()
        from vllm.platforms import current_platform  # type: ignore[reportMissingImports]

        self.device = str(current_platform.device_type)
        if not self.device:
            raise ModelError(
                "vLLM is installed, but this build finds no supported device.",
                "See docs/vllm.md, or use --backend transformers.",
            )
        settings = {
            **_defaults(self.device, batch_size),
            **_drafting(requires, options),
            **options,
        }
        if adapter is not None:
            rank = min(rank for rank in _RANKS if rank >= adapter.rank)
            settings.update(enable_lora=True, max_lora_rank=rank)
            if settings.get("speculative_config"):
                # vLLM reserves room in a step for the drafts of all sequences.
                settings.setdefault("max_num_seqs", 128)
        self._vllm = vllm
        _check_runner(requires, "speculative_config" in settings)
        self._llm = _start(vllm, place, settings)
        self._engine = self._llm.llm_engine
        self._lora = None if adapter is None else self._load(adapter)
        config = self._engine.model_config
        self.holds: int = config.max_model_len
        self.dtype = str(config.dtype).removeprefix("torch.")
        self.drafts = settings.get("speculative_config") is not None
        self.v2 = bool(self._engine.vllm_config.use_v2_model_runner)

    def _load(self, adapter: Adapter) -> Any:
        """Loads an adapter and returns vLLM's request object for it."""
        from vllm.lora.request import LoRARequest  # type: ignore[reportMissingImports]

        request = LoRARequest("adapter", 1, adapter.place)
        try:
            self._engine.add_lora(request)
        except (ValueError, RuntimeError, self._vllm.exceptions.VLLMError) as error:
            self.close()
            raise ModelError(
                f"vLLM cannot run the adapter {adapter.place}: {in_one_line(error)}.",
                "Use --backend transformers.",
            ) from error
        return request

    def add(self, name: str, prompt: Sequence[int], turn: EngineRequest) -> None:
        """Adds a request; its name must be unique among running requests.

        Raises:
            ConfigError: if a value is outside vLLM's bounds, such as a temperature above 2.
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
            self._engine.add_request(name, tokens, params, lora_request=self._lora)
        except (ValueError, self._vllm.exceptions.VLLMClientError) as error:
            raise ConfigError(f"vLLM rejected the request: {in_one_line(error)}.") from None

    def step(self) -> list[EngineOutput]:
        """Advances all requests that fit in one step."""
        return [
            EngineOutput(made.request_id, list(made.outputs[0].token_ids), made.finished)
            for made in self._engine.step()
        ]

    def abort(self, names: Sequence[str]) -> None:
        """Aborts requests; finished ones are ignored."""
        self._engine.abort_request(list(names))

    def close(self) -> None:
        """Stops vLLM and frees its memory."""
        import gc

        with suppress(AttributeError):  # the name is not public
            self._engine.engine_core.shutdown()
        del self._engine, self._llm
        gc.collect()


def import_vllm() -> Any:
    """Imports ``vllm`` with the module docstring's log and process settings.

    Raises:
        ModelError: if it is not installed or fails to load.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import vllm  # type: ignore[reportMissingImports]
        import vllm.exceptions  # type: ignore[reportMissingImports]
        import vllm.sampling_params  # type: ignore[reportMissingImports]
    except (ImportError, OSError, RuntimeError) as error:
        if getattr(error, "name", "") == "vllm":
            raise ModelError(
                "vLLM is not installed.",
                "Install it with: pip install 'codegen-toolkit[vllm]' (docs/vllm.md), or use "
                "--backend transformers.",
            ) from None
        raise ModelError(
            f"vLLM is installed but fails to load: {in_one_line(error)}.", "See docs/vllm.md."
        ) from error
    return vllm


def _check_runner(requires: str, drafts: bool) -> None:
    """Checks that vLLM's model runner on this machine supports the combination.

    Raises:
        ConfigError: if penalties and vLLM's drafts are combined without V2 (no Triton, or V1 set).
    """
    from vllm import envs  # type: ignore[reportMissingImports]
    from vllm.triton_utils import HAS_TRITON  # type: ignore[reportMissingImports]

    chosen = getattr(envs, "VLLM_USE_V2_MODEL_RUNNER", None)
    if requires == "logits" and drafts and not (HAS_TRITON if chosen is None else chosen):
        raise ConfigError(
            "vLLM's model runner V1, in use here, cannot combine repetition penalties with drafts.",
            "Remove the penalty or speculative_config; vLLM's model runner V2 supports both.",
        )


def _defaults(device: str, batch_size: int | None) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "dtype": str(models.pick_dtype(device)).removeprefix("torch."),
        "disable_log_stats": True,
    }
    if batch_size is not None:
        settings["max_num_seqs"] = batch_size
    if device == "cpu":
        # Compiling takes a minute and gains 5%. Chunked prefill crashes the engine if the
        # request has a seed ("CPU Generator does not use offset").
        settings.update(enforce_eager=True, enable_chunked_prefill=False)
    return settings


def _drafting(requires: str, options: dict[str, Any]) -> dict[str, Any]:
    """Returns the settings for drafts and penalties; removes the options that it reads."""
    most = options.pop("num_speculative_tokens", DRAFTED)
    theirs = options.pop("speculative_config", None)
    if not isinstance(most, int) or isinstance(most, bool) or most < 1:
        raise ConfigError(f"num_speculative_tokens is {most!r}; it must be an integer >= 1.")
    if theirs is not None:
        if theirs == "ngram":
            theirs = NGRAM | {"num_speculative_tokens": most}
        if not isinstance(theirs, Mapping):
            raise ConfigError(
                f"speculative_config is {theirs!r}.",
                'Pass ngram or JSON, such as \'{"method": "eagle3", "model": "DIR"}\'.',
            )
        rules = {"logits_processors": [PROCESSOR]} if requires == "logits" else {}
        return {"speculative_config": dict(theirs), **rules}
    if requires != "drafts":
        return {"logits_processors": [PROCESSOR]}
    config = {
        "method": "custom_class",
        "model": PROPOSER,
        "num_speculative_tokens": most,
        "suffix_decoding_max_spec_factor": 2.0,
        # A request's drafts depend only on itself, as in our decoding loop.
        "suffix_decoding_max_cached_requests": 0,
    }
    return {"speculative_config": config, "worker_cls": WORKER}


def _start(vllm: Any, place: str, settings: Mapping[str, Any]) -> Any:
    try:
        return vllm.LLM(
            place,
            load_format="safetensors",  # never a pickle
            trust_remote_code=False,
            generation_config="vllm",  # no default sampling parameters
            **settings,
        )
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        name = str(error).rpartition("argument ")[2].strip("'")
        raise ConfigError(f"vLLM has no option {name!r}.") from None
    except (ValueError, RuntimeError, OSError, vllm.exceptions.VLLMError) as error:
        raise ModelError(
            f"vLLM cannot start with the model {place!r}: {in_one_line(error)}.",
            "Set vLLM options with -o engine (docs/vllm.md), or use --backend transformers.",
        ) from error
