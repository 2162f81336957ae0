"""The ``vllm`` back-end: many requests at once by vLLM, with the records of the ``hf`` back-end.

Prompts, stop strings, ends and texts are ours, so greedy completions are those of the ``hf``
back-end in float32. Sampled ones are not: vLLM draws its own random numbers, from each request's
seed, so that they do not depend on what else runs.

A prompt is healed by one-token requests whose token must spell the rest of the prompt; the
completion goes on from them. That reads such a prompt once or twice more.

What vLLM has no place for is refused (``REFUSED``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from codegen.decoding.healing import Vocabulary
from codegen.decoding.rpg import METHODS
from codegen.errors import ConfigError, ModelError
from codegen.generation.decoders import DECODERS, DRAFTS, TextDecoder, find_decoder
from codegen.generation.encoding import encode, end_tokens
from codegen.generation.protocol import (
    Decoder,
    Request,
    SamplingParams,
    request_seed,
    settings_of,
)
from codegen.generation.text import TextStream
from codegen.generation.vllm_engine import Engine, Grown, Turn, VllmEngine
from codegen.models import fills_gaps, fingerprint_of, load_tokenizer, read_card, resolve
from codegen.records import FinishReason, Sample

# Why vLLM has no place for a decoder.
REFUSED: Mapping[str, str] = {
    "backspace": "takes tokens back, and vLLM's requests only grow",
    "insertion": "fills gaps in no fixed order, and vLLM writes from left to right",
    "rsd": "verifies trees of drafts against the draft model's probabilities, and vLLM verifies"
    " chains",
    "sorted": "stops within a nested model, layer by layer, and vLLM runs the whole of a model",
    "superposed": "feeds the model mixtures of tokens, and vLLM feeds one token at a time",
}
_SUPPORTED = ({*DECODERS} - {*REFUSED}) | {*METHODS} | {*DRAFTS}
_WAITING = 512  # requests that are with vLLM at a time; it batches those that fit
_SEED_BITS = (1 << 63) - 1


def accept(decoder: Decoder) -> TextDecoder:
    """The decoder, if vLLM can do it.

    Raises:
        ConfigError: with the reason, if it can't, and for an unknown name or option.
    """
    reader = find_decoder(decoder)
    for name in decoder.name.split("+"):
        if name not in _SUPPORTED:
            reason = REFUSED.get(name, "is a loop of its own, which vLLM can't run")
            raise ConfigError(f"The decoder {name!r} {reason}.", "Take --backend hf.")
    return reader


class VllmGenerator:
    """Generates with vLLM; implements ``codegen.generation.Generator``.

    vLLM is started at the first call of :meth:`generate`, and anew for a decoder that drafts after
    one that does not, or the other way round.

    Args:
        model: ``embedded``, the directory of a whole model, or a hub id.
        batch_size: requests of a step at most, by default as many as vLLM takes.
        options: vLLM's own, see :class:`VllmEngine`.
        start: makes the engine.

    Raises:
        ModelError: if there is no such model, or it is none for vLLM.
    """

    def __init__(
        self,
        model: str,
        *,
        batch_size: int | None = None,
        options: Mapping[str, Any] | None = None,
        start: Callable[..., Engine] = VllmEngine,
    ) -> None:
        self.name = model
        self.place, self.origin = resolve(model)
        self.card = read_card(self.place)
        if (Path(self.place) / "adapter_config.json").is_file():
            raise ModelError(
                f"{model} is a LoRA adapter; the vllm back-end takes whole models.",
                "Take --backend hf.",
            )
        self._config = _read_config(self.place)
        self.tokenizer = load_tokenizer(model)
        self._start_engine = start
        self._settings: dict[str, Any] = {"batch_size": batch_size, "options": options}
        self._engine: Engine | None = None
        self._drafting = False
        self._names = 0

    @property
    def fingerprint(self) -> str:
        """As of ``codegen.models.LoadedModel``."""
        return fingerprint_of(self.name)

    @property
    def parameters(self) -> int:
        """The number of parameters that the weight files hold."""
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
        """All ids that end a sequence, those of the ``hf`` back-end."""
        return end_tokens(self.tokenizer, self._config, *_generation_config(self.place))

    def engine(self, drafting: bool = False) -> Engine:
        """vLLM, started if it has to be."""
        if self._engine is not None and self._drafting != drafting:
            self.close()
        if self._engine is None:
            self._engine = self._start_engine(self.place, drafts=drafting, **self._settings)
            self._drafting = drafting
        return self._engine

    def close(self) -> None:
        """Ends vLLM and frees its memory; it starts again when it is needed."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def generate(
        self,
        requests: Iterable[Request],
        params: SamplingParams,
        decoder: Decoder,
        on_text: Callable[[int, str], None] | None = None,
    ) -> Iterator[Sample]:
        """Yields one sample a request, in the order they finish.

        Raises:
            ModelError: for a prompt the model cannot hold, naming the problem, and if vLLM does not
                start.
            ConfigError: for an unknown decoder or option, or one that vLLM has no place for.
        """
        reader = accept(decoder)
        if reader.drafts and params.temperature:
            raise ConfigError(
                f"The decoder {decoder.name!r} with a temperature: where vLLM verifies drafts, a"
                " request's seed does not settle what it samples.",
                "Leave the temperature at 0, leave the drafts out, or take --backend hf.",
            )
        if reader.token_cost is not None:
            raise ConfigError(
                "token_cost: vLLM's drafts have fixed costs.", "Leave it out, or take --backend hf."
            )
        engine = self.engine(bool(reader.drafts))
        remaining = enumerate(requests)
        running: dict[str, _Running] = {}
        try:
            while True:
                for number, request in islice(remaining, _WAITING - len(running)):
                    started = self._start(number, request, params, decoder, reader, engine.holds)
                    self._ask(engine, started, params, running)
                if not running:
                    return
                for grown in engine.step():
                    if grown.name not in running:
                        continue  # it ended by a stop string, which vLLM does not know
                    ended = running[grown.name]
                    if self._take(engine, ended, grown, params, running, on_text):
                        yield self._sample(ended, params, decoder, reader, on_text)
        finally:
            if running:
                engine.abort(list(running))

    def _start(
        self,
        number: int,
        request: Request,
        params: SamplingParams,
        decoder: Decoder,
        reader: TextDecoder,
        holds: int,
    ) -> _Running:
        prompt = encode(request, self.tokenizer, self.vocabulary, heals=reader.heals)
        length = len(prompt.ids) + params.max_new_tokens
        if length > holds:
            where = f"{request.problem_id}: " if request.problem_id else ""
            raise ModelError(
                f"{where}Prompt and completion take up to {length} tokens, vLLM holds {holds}.",
                "Shorten the prompt, lower max_new_tokens or, if the model can, raise vLLM's option"
                " max_model_len.",
            )
        extra: dict[str, Any] = {}
        if reader.penalty:
            method = next(name for name in decoder.name.split("+") if name in METHODS)
            extra[method] = dict(decoder.options)
        if "cursor" in reader.drafts and request.original:
            extra["original"] = request.original
        stream = TextStream(
            self.tokenizer.backend_tokenizer,
            prompt.ids,
            taken=prompt.taken,
            stops=reader.stops(request.stop),
        )
        seed = request_seed(params.seed, request)
        return _Running(number, request, seed, prompt.ids, prompt.rest, stream, extra)

    def _ask(
        self,
        engine: Engine,
        run: _Running,
        params: SamplingParams,
        running: dict[str, _Running],
    ) -> None:
        """Hands a request to vLLM: for one token while its prompt is healed, else to the end."""
        run.healing = bool(run.rest)
        name = str(self._names)
        self._names += 1
        # Each part of a request draws its own random numbers.
        seed = (run.seed + len(run.tokens)) & _SEED_BITS
        turn = Turn(
            max_tokens=1 if run.healing else params.max_new_tokens - len(run.tokens),
            temperature=params.temperature,
            top_p=params.top_p,
            seed=seed if params.temperature else None,
            ends=sorted(self.eos),
            allowed=self.vocabulary.allowed(run.rest) if run.healing else None,
            extra_args=run.extra,
        )
        engine.add(name, [*run.prompt, *run.tokens], turn)
        running[name] = run

    def _take(
        self,
        engine: Engine,
        run: _Running,
        grown: Grown,
        params: SamplingParams,
        running: dict[str, _Running],
        on_text: Callable[[int, str], None] | None,
    ) -> bool:
        """Takes what a step gave; true once the request has ended."""
        run.passes += bool(grown.tokens)
        for token in grown.tokens:
            if token in self.eos:
                run.finish = "eos"
                break
            run.rest = self.vocabulary.after(run.rest, token) if run.rest else b""
            run.tokens.append(token)
            piece = run.stream.push(token)
            if on_text and piece:
                on_text(run.number, piece)
            if run.stream.stopped:
                run.finish = "stop"
                break
        if grown.ended and run.finish is None:
            if run.healing and len(run.tokens) < params.max_new_tokens:
                del running[grown.name]
                self._ask(engine, run, params, running)
                return False
            run.finish = "length"
        if run.finish is None:
            return False
        del running[grown.name]
        if not grown.ended:
            engine.abort([grown.name])
        return True

    def _sample(
        self,
        run: _Running,
        params: SamplingParams,
        decoder: Decoder,
        reader: TextDecoder,
        on_text: Callable[[int, str], None] | None,
    ) -> Sample:
        if on_text and (piece := run.stream.flush()):
            on_text(run.number, piece)
        assert run.finish is not None
        decoded = reader.read(run.stream.text, run.finish)
        return Sample(
            task=run.request.task,
            problem_id=run.request.problem_id,
            index=run.request.index,
            prompt=run.request.prompt,
            completion=decoded.completion,
            finish_reason=run.finish,
            settings={**settings_of(self.name, params, decoder), "backend": "vllm"},
            seed=run.seed,
            prompt_tokens=len(run.prompt),
            completion_tokens=len(run.tokens),
            actions=decoded.actions,
            meta={**decoded.meta, "passes": run.passes} if reader.drafts else decoded.meta,
        )


@dataclass(slots=True)
class _Running:
    """A request on its way; see ``codegen.decoding.loop.Row`` for fields of the same names."""

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


class _Config:
    """A model's configuration, as far as it names its kind and its ends."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        text = values.get("text_config") or {}
        self.model_type = str(values.get("model_type", ""))
        self.eos_token_id = values.get("eos_token_id", text.get("eos_token_id"))


def _read_config(place: str) -> _Config:
    from transformers import PretrainedConfig

    try:
        values, _ = PretrainedConfig.get_config_dict(place)
    except (OSError, ValueError) as error:
        text = " ".join(str(error).split())
        raise ModelError(f"The configuration of {place!r} can't be read: {text[:200]}.") from error
    config = _Config(values)
    if fills_gaps(SimpleNamespace(config=config)):
        raise ModelError(
            f"The model {place!r} writes in no fixed order, and vLLM writes from left to right.",
            "Take --backend hf.",
        )
    return config


def _generation_config(place: str) -> list[Any]:
    from transformers import GenerationConfig

    try:
        return [GenerationConfig.from_pretrained(place)]
    except (OSError, ValueError):
        return []  # it has none
