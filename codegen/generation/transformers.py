"""The ``transformers`` backend: our decoding loop on unmodified transformers models.

Requests are decoded in batches in the order given. A sample's random numbers depend only on its own
seed; its logits still depend on the batch in the last bits, as in every batched floating-point
computation, so a run that must be exactly repeatable keeps its batches (``codegen.evals.run``
does).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from codegen.core.config import parse_config
from codegen.core.errors import ConfigError, InputError, ModelError
from codegen.core.generation import (
    BKSPC,
    CAPABILITIES,
    Backend,
    Completion,
    Decoder,
    OnText,
    Request,
    RequestFailed,
    SamplingParams,
    cut_at_stop,
    request_seed,
)
from codegen.core.optional_deps import require
from codegen.core.terminal import one_line
from codegen.decoding.drafts import DrafterMaker, FixedCosts, PassCosts, Planner
from codegen.decoding.healing import Vocabulary
from codegen.decoding.long_context import LMInfinite, check
from codegen.decoding.loop import BackspaceDecoding, Row, Strategy, decode
from codegen.decoding.passes import check_supported
from codegen.decoding.rpg.methods import Method, Penalized
from codegen.decoding.rpg.penalties import CriticalTokens
from codegen.decoding.strategies.rsd import (
    ConstantBranching,
    RecursiveSpeculation,
    StochasticBeam,
)
from codegen.decoding.strategies.sorted import Nested, SortedDrafter, SortedSpeculation
from codegen.decoding.strategies.speculative import Speculation
from codegen.decoding.strategies.superposed import NGrams, SuperposedConfig, Superposition
from codegen.decoding.suffix import SuffixIndex
from codegen.generation import decoders
from codegen.generation.detokenize import TextStream, encode, end_tokens, stream_of
from codegen.models import LoadedModel, LoadOptions, count_parameters, is_infilling, load

if TYPE_CHECKING:
    from codegen.decoding.insertion import FilledText, GapRow, Text
    from codegen.models import LoadedModel


class TransformersBackend(Backend):
    """A transformers model in this process.

    Args:
        loaded: the model, from :func:`codegen.models.load`, or its name.
        batch_size: sequences decoded at once; memory grows with it. On a CPU, use 32 to 64.
        window: number of batches whose requests are decoded together; later requests replace
            finished sequences. With 1, batches are separate, so a run can be repeated exactly from
            any batch.
        infinite: settings for longer contexts (:mod:`codegen.decoding.long_context`).

    Raises:
        ModelError: if the model does not exist, or its tokenizer cannot stream.
    """

    kind = "transformers"
    capabilities = frozenset(CAPABILITIES)

    def __init__(
        self,
        loaded: LoadedModel | str,
        batch_size: int = 40,
        window: int = 1,
        infinite: LMInfinite | None = None,
    ) -> None:
        loaded = load(loaded) if isinstance(loaded, str) else loaded
        if not loaded.tokenizer.is_fast:
            raise ModelError(
                f"The tokenizer of {loaded.name!r} has no fast version, which streaming needs.",
                "Convert it with transformers' convert_slow_tokenizer and save it.",
            )
        self.loaded = loaded
        self.model = loaded.name
        self.style = loaded.card.style
        self.decoder = "insertion" if is_infilling(loaded.model) else loaded.card.decoder
        self.infinite = infinite
        if infinite:
            self.kind = "transformers with LM-Infinite"
            self.capabilities = self.capabilities - {"trees", "mixtures", "removal", "insertion"}
        self.batch_size = batch_size
        self.window = window
        self._load_options: Mapping[str, Any] = {}
        self._planner = Planner(PassCosts())  # measures the costs of passes once
        self._drafting: dict[str, LoadedModel] = {}
        self._nested: dict[tuple[str, tuple[int, ...]], Nested] = {}
        self._ngrams: dict[decoders.SuperposedOptions, NGrams | None] = {}

    @classmethod
    def open(cls, model: str, **options: Any) -> TransformersBackend:
        """Opens a model by its name.

        Args:
            model: model name, see :func:`codegen.models.load`.
            options: arguments of the class; ``options``, see
                :class:`codegen.models.LoadOptions`.

        Raises:
            ConfigError: if an option is invalid.
            MachineError: if an option's package is not installed.
        """
        settings = parse_config(LoadOptions, dict(options.pop("options", None) or {}), "-o engine")
        made = cls(settings.load(model), **options)
        made._load_options = settings.model_dump(exclude_defaults=True, exclude={"dtype", "device"})
        return made

    @cached_property
    def parameters(self) -> int:  # type: ignore[override]
        """The number of parameters; tied weights count once."""
        return count_parameters(self.loaded.model)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The tokenizer's tokens as bytes, for healing."""
        return Vocabulary.of(self.loaded.tokenizer)

    @cached_property
    def eos(self) -> frozenset[int]:
        """All ids that end a sequence."""
        model = self.loaded.model
        return end_tokens(self.loaded.tokenizer, model.generation_config, model.config)

    def identity(self, decoder: Decoder) -> dict[str, Any]:
        """Returns the weights' origin and fingerprint, the dtype and the device."""
        return {
            "model_origin": self.loaded.origin,
            "model_fingerprint": self.loaded.fingerprint,
            "dtype": str(self.loaded.model.dtype).removeprefix("torch."),
            "device": self.loaded.model.device.type,
            **({"load_options": dict(self._load_options)} if self._load_options else {}),
        }

    def generate(self, requests, params, decoder, on_text=None):
        """Yields completions batch by batch, in request order.

        A prompt that exceeds the model's context fails alone, before its batch runs.

        Raises:
            ModelError: if the model does not support the decoder.
            ConfigError: if the decoder or an option is unknown.
        """
        resolved = decoders.supported(decoder, self)
        if isinstance(options := resolved.options, decoders.InsertionOptions):
            yield from fill_requests(
                self.loaded, requests, params, options, self.batch_size, on_text
            )
            return
        if is_infilling(self.loaded.model):
            raise ModelError(
                f"The model {self.loaded.name!r} does not generate from left to right.",
                "Choose the decoder insertion.",
            )
        if resolved.method == "superposed" and params.temperature:
            raise ConfigError(
                "superposed is deterministic and cannot sample at a temperature.",
                "Remove --temperature; the decoder's option is -o temperature=0.06.",
            )
        numbered = enumerate(requests)
        apart = resolved.method in ("rsd", "superposed")  # no refill of finished rows
        size = self.batch_size * (1 if apart else self.window)
        while batch := list(islice(numbered, size)):
            streams = []
            for number, request in batch:
                try:
                    streams.append(self._start(number, request, params, resolved))
                except ModelError as error:
                    failure = RequestFailed(error.message, error.remedy)
                    yield Completion(number, request, error=failure)
            if streams:
                strategy = self._strategy(resolved, streams)
                yield from self._run(streams, params, resolved, strategy, on_text)

    def _start(
        self,
        number: int,
        request: Request,
        params: SamplingParams,
        resolved: decoders.ResolvedDecoder,
    ) -> _Running:
        """Returns the request as a row.

        Raises:
            ModelError: if the request is too long for the model, or the model has no chat template.
        """
        tokenizer = self.loaded.tokenizer
        prompt = encode(request, tokenizer, self.vocabulary, heals=resolved.strategy.heals)
        if self.infinite:
            check(self.loaded.model, self.infinite)
        else:
            check_supported(self.loaded.model, len(prompt.ids) + params.max_new_tokens)
        seed = request_seed(params.seed, request)
        uniforms = np.random.Generator(np.random.Philox(seed)).random(params.max_new_tokens)
        stream = stream_of(tokenizer, prompt, resolved.stops(request.stop), request.marks)
        row = Row(prompt.ids, uniforms.tolist(), prompt.rest)
        return _Running(number, request, row, stream, seed)

    def _run(
        self,
        batch: list[_Running],
        params: SamplingParams,
        resolved: decoders.ResolvedDecoder,
        strategy: Strategy,
        on_text: OnText | None,
    ) -> Iterator[Completion]:
        def on_token(row: int, token: int) -> bool:
            running = batch[row]
            piece = running.stream.push(token)
            if on_text and piece:
                on_text(running.number, piece)
            return running.stream.stopped

        prompt_tokens = [len(running.row.prompt) for running in batch]
        late = strategy.backspace is not None or isinstance(strategy, Superposition)
        decode(
            self.loaded.model,
            [running.row for running in batch],
            max_new_tokens=params.max_new_tokens,
            temperature=params.temperature,
            top_p=params.top_p,
            eos=self.eos,
            vocabulary=self.vocabulary,
            on_token=None if late else on_token,
            strategy=strategy,
            width=self.batch_size,
            infinite=self.infinite,
        )
        for number, running in enumerate(batch if late else ()):
            for token in running.row.tokens:  # backspaces cannot remove tokens any more
                if on_token(number, token):
                    running.row.finish = "stop"
                    break
        for running in batch:
            if on_text and (piece := running.stream.flush()):
                on_text(running.number, piece)
        for at, (running, length) in enumerate(zip(batch, prompt_tokens, strict=True)):
            row, actions = running.row, ""
            meta: dict[str, Any] = {}
            if strategy.passes_of:
                meta["passes"] = strategy.passes_of[at]
                if isinstance(strategy, Speculation) and resolved.method in decoders.DRAFTERS:
                    meta["drafts"] = strategy.tallies[at]
            if self.infinite:
                meta["lm_infinite"] = asdict(self.infinite)
            if strategy.backspace is not None:
                kept = [action for action in row.actions if action not in self.eos]
                actions = self.loaded.tokenizer.decode(kept)
                meta["actions"] = len(row.actions)
                meta["backspaces"] = row.actions.count(strategy.backspace)
            yield resolved.completion(
                running.number,
                running.request,
                running.stream.text,
                row.finish or "length",
                actions=actions,
                meta=meta,
                seed=running.seed,
                prompt_tokens=length,
                completion_tokens=len(row.actions or row.tokens),
            )

    def _strategy(self, resolved: decoders.ResolvedDecoder, batch: Sequence[_Running]) -> Strategy:
        """Builds the strategy of a batch.

        Raises:
            ModelError: if the model has no token for backspaces.
        """
        options, method, make = resolved.options, resolved.method, resolved.strategy.make
        if make:
            return make(options, [running.row for running in batch])
        match method:
            case "rsd":
                return self._rsd(batch, options)
            case "superposed":
                return self._superposition(options)
            case "sorted":
                return self._sorted(batch, options)
            case "suffix" | "edit":
                return self._speculation(batch, method, options)
            case "grammar":
                return self._in_grammar(options, len(batch))
            case "backspace":
                return BackspaceDecoding(self._backspace_token())
        if resolved.strategy.requires == "logits":
            return Penalized(Method(options, self._critical_tokens, frozenset(self.eos)))
        return Strategy()

    def _backspace_token(self) -> int:
        token = self.loaded.tokenizer.get_vocab().get(BKSPC)
        if token is None:
            raise ModelError(
                f"The model {self.loaded.name!r} has no token {BKSPC}, which the decoder backspace"
                " needs.",
                "Fine-tune it on data from: codegen data backspace.",
            )
        return token

    @cached_property
    def _critical_tokens(self) -> CriticalTokens:
        return CriticalTokens(self.vocabulary.tokens)

    def _in_grammar(self, options: decoders.GrammarOptions, rows: int) -> Strategy:
        require("llguidance")
        from codegen.decoding.strategies.constrained import ConstrainedDecoding

        try:
            return ConstrainedDecoding(self._grammar_tokens, options.text(), rows)
        except ValueError as error:
            raise ConfigError(f"The grammar cannot be read: {one_line(str(error), 300)}.") from None

    @cached_property
    def _grammar_tokens(self) -> Any:
        from llguidance.hf import from_tokenizer

        size = self.loaded.model.get_input_embeddings().weight.shape[0]
        return from_tokenizer(self.loaded.tokenizer, size, sorted(self.eos))

    def _rsd(self, batch: Sequence[_Running], options: decoders.RsdOptions) -> RecursiveSpeculation:
        branching = ConstantBranching(options.branching)
        shape = StochasticBeam(*options.beam) if options.beam else branching
        draft = self._draft_model(options.draft).model
        return RecursiveSpeculation(draft, shape, [running.seed for running in batch])

    def _superposition(self, options: decoders.SuperposedOptions) -> Superposition:
        if options not in self._ngrams:
            self._ngrams[options] = _count_ngrams(options, self._maker.encode)
        return Superposition(
            SuperposedConfig(options.alpha, options.temperature), self._ngrams[options]
        )

    def _draft_model(self, name: str) -> LoadedModel:
        """Returns the draft model, loaded once.

        Raises:
            ModelError: if its tokenizer differs.
        """
        if name not in self._drafting:
            ours = self.loaded
            draft = load(name, dtype=ours.model.dtype, device=str(ours.model.device))
            if draft.tokenizer.get_vocab() != ours.tokenizer.get_vocab():
                raise ModelError(
                    f"The draft model {name!r} has a different tokenizer than {ours.name!r}.",
                    "Choose one with the same tokenizer.",
                )
            self._drafting[name] = draft
        return self._drafting[name]

    def _sorted(self, batch: Sequence[_Running], settings: decoders.SortedOptions) -> Speculation:
        """Builds a drafter for each row; drafters share the nested model, not its states."""
        key = settings.draft, settings.exits
        if key not in self._nested:
            draft = self._draft_model(settings.draft)
            _check_sorted(draft)
            self._nested[key] = Nested(draft.model, settings.exits)
        nested = self._nested[key]
        shallow = len(nested.exits) - 1
        if len(settings.thresholds) not in (1, shallow):
            raise ConfigError(
                f"thresholds has {len(settings.thresholds)} values, but the draft exits after "
                f"{', '.join(map(str, nested.exits))} layers.",
                f"Pass {shallow} values, or one for all exits but the last.",
            )
        drafters = [
            SortedDrafter(
                nested,
                tokens=settings.tokens,
                thresholds=settings.thresholds,
                least=settings.least,
            )
            for _ in batch
        ]
        return SortedSpeculation(drafters, limit=settings.tokens)

    def _speculation(
        self, batch: Sequence[_Running], method: str, options: decoders.DraftOptions
    ) -> Speculation:
        """Builds a drafter for each row of a batch; drafters share no state."""
        drafters = [self._maker.chain(decoders.DRAFTERS[method]) for _ in batch]
        contexts = [self._maker.context(running.request.original) for running in batch]
        planner = self._planner
        if options.token_cost is not None:
            planner = Planner(FixedCosts(options.token_cost))
        return Speculation(drafters, contexts, planner=planner)

    @cached_property
    def _maker(self) -> DrafterMaker:
        return DrafterMaker.of(self.loaded.tokenizer, self.vocabulary.tokens)


def _count_ngrams(
    options: decoders.SuperposedOptions, encode: Callable[[str], list[int]]
) -> NGrams | None:
    """Returns the n-grams of the code that the options name, None without code.

    Raises:
        InputError: if no code can be read.
    """
    if not options.code:
        return None
    root = Path(options.code)
    files = [root] if root.is_file() else sorted(root.rglob(f"*{options.suffix}"))
    index = SuffixIndex()
    for file in files:
        if not file.is_file():
            continue
        try:
            text = file.read_text("utf-8")
        except (OSError, UnicodeDecodeError):
            continue  # not a text file
        if tokens := encode(text):
            index.add(tokens)
    if not len(index):
        raise InputError(
            f"No code in {options.code}.",
            f"Pass a file, or a directory with {options.suffix} files: -o code=DIR",
        )
    return NGrams(index)


def _check_sorted(draft: LoadedModel) -> None:
    """Rejects a draft model whose early layers were not trained to draft.

    The loss that trained the exits is in the configuration or, for older models, in the card.
    """
    config = draft.model.config.get_text_config()
    loss = getattr(config, "exit_loss", None) or draft.card.recipe.get("loss")
    if loss != "sorted" or not getattr(config, "exit_layers", None):
        raise ModelError(
            f"The draft model {draft.name!r} was not trained with the loss sorted, so its early "
            "layers cannot draft.",
            "Train one (codegen finetune sorted_draft), or choose the decoder rsd, "
            "which supports any model.",
        )


@dataclass(frozen=True, slots=True)
class _Running:
    number: int
    request: Request
    row: Row
    stream: TextStream
    seed: int


def fill_requests(
    loaded: LoadedModel,
    requests: Iterable[Request],
    params: SamplingParams,
    options: decoders.InsertionOptions,
    batch_size: int,
    on_text: OnText | None = None,
) -> Iterator[Completion]:
    """Yields completions batch by batch, in request order.

    Tokens are not generated from left to right, so ``on_text`` gets whole completions; stop strings
    truncate them.

    Raises:
        ModelError: if the model generates from left to right, or cannot fill gaps.
        ConfigError: if a prompt lacks the gap marker.
    """
    from codegen.decoding.insertion import FillingModel, FillOptions, FixedMaskLM, GapRow, Insertion
    from codegen.decoding.loop import decode

    model = loaded.model
    if not isinstance(model, FillingModel):
        raise ModelError(
            f"The decoder insertion cannot be used: {loaded.name!r} generates from left to right.",
            "Choose another decoder, or train one: codegen finetune ilm_star_easy.",
        )
    if options.gap and isinstance(model, FixedMaskLM):
        raise ModelError(
            f"The model {loaded.name!r} generates a fixed length and cannot fill gaps."
        )
    own = options.model_dump(exclude={"gap"})
    fill_options = FillOptions(**own)
    waiting, number = iter(requests), 0
    while batch := list(islice(waiting, batch_size)):
        texts = [_text(loaded.tokenizer, request, options.gap) for request in batch]
        seeds = [request_seed(params.seed, request) for request in batch]
        rngs = [np.random.Generator(np.random.Philox(seed)) for seed in seeds]
        rows = [GapRow.of(text) for text in texts]
        decode(
            model,
            rows,
            max_new_tokens=params.max_new_tokens,
            temperature=params.temperature,
            top_p=params.top_p,
            eos=frozenset(),
            strategy=Insertion(fill_options, rngs),
        )
        for request, row, seed in zip(batch, rows, seeds, strict=True):
            completion = _completion(loaded, number, request, row, options.gap, seed)
            if on_text and completion.text:
                on_text(number, completion.text)
            number += 1
            yield completion


def _text(tokenizer: Any, request: Request, gap: str) -> Text:
    from codegen.decoding.insertion import Text

    def encode(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False).input_ids if text else []

    if not gap:
        return Text(encode(request.prompt))
    if gap not in request.prompt:
        where = f"{request.problem_id}: " if request.problem_id else ""
        raise ConfigError(
            f"{where}The prompt has no gap marker {gap!r}.",
            f"Put {gap!r} where code is missing.",
        )
    first, *rest = (encode(piece) for piece in request.prompt.split(gap))
    body, open_slots = list(first), [False] * len(first) + [True]
    for piece in rest:
        if not piece:
            continue
        body += piece
        open_slots += [False] * (len(piece) - 1) + [True]
    if rest and rest[-1]:
        open_slots[-1] = False
    return Text([], body, open_slots)


def _completion(
    loaded: LoadedModel, number: int, request: Request, row: GapRow, gap: str, seed: int
) -> Completion:
    decode, text, filled = loaded.tokenizer.decode, row.text, row.filled
    assert filled is not None
    completion = decode(filled.body)
    reason = "eos" if filled.finished else "length"
    meta: dict[str, Any] = {"steps": filled.steps}
    if gap:
        meta["gaps"] = [decode(ids) for ids in _gaps(text, filled)]
    elif (cut := cut_at_stop(completion, request.stop)) != completion:
        completion, reason = cut, "stop"
    return Completion(
        number,
        request,
        completion,
        finish_reason=reason,
        seed=seed,
        prompt_tokens=len(text.prefix) + len(text.body),
        completion_tokens=len(filled.body) - len(text.body),
        meta=meta,
    )


def _gaps(text: Text, filled: FilledText) -> Iterator[list[int]]:
    """Returns the tokens inserted into each open slot."""
    runs: list[list[int]] = [[]]
    for token, given in zip(filled.body, filled.given, strict=True):
        if given:
            runs.append([])
        else:
            runs[-1].append(token)
    return (run for run, is_open in zip(runs, text.slots, strict=True) if is_open)
