"""The ``hf`` back-end: our decoding loop on plain transformers models.

Requests are decoded in batches in the order given. A sample's random numbers depend on its own seed
alone; its logits still depend on the batch in the last bits, as in every batched floating-point
computation, so a run that must be repeatable to the byte keeps its batches (``codegen.evals.run``
does).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import islice

import numpy as np

from codegen.decoding.contexts import LMInfinite, check
from codegen.decoding.drafts import DrafterMaker, FixedCosts, PassCosts, Planner
from codegen.decoding.healing import Vocabulary
from codegen.decoding.loop import Row, Strategy, decode
from codegen.decoding.passes import check_supported
from codegen.decoding.rpg.methods import Method, Penalised
from codegen.decoding.strategies.backspace import Backspace
from codegen.decoding.strategies.rsd import RecursiveSpeculation
from codegen.decoding.strategies.sorted import Nested, SortedDrafter
from codegen.decoding.strategies.speculative import Speculation
from codegen.decoding.strategies.superposed import NGrams, Settings, Superposition
from codegen.errors import ConfigError, ModelError
from codegen.generation.decoders import Decoded, TextDecoder, find_decoder
from codegen.generation.draft_model import SortedDraft
from codegen.generation.encoding import encode, end_tokens
from codegen.generation.filling import fill_requests
from codegen.generation.protocol import (
    BKSPC,
    Decoder,
    Request,
    SamplingParams,
    request_seed,
    settings_of,
)
from codegen.generation.superposed import Superposed
from codegen.generation.text import TextStream
from codegen.models import LoadedModel, fills_gaps, load
from codegen.records import Sample


class HFGenerator:
    """Generates with a loaded transformers model; implements ``codegen.generation.Generator``.

    Args:
        loaded: the model, from :func:`codegen.models.load`.
        batch_size: rows decoded at once. Memory grows with it; on a CPU 32 to 64 is a good value.
        window: batches' worth of requests that are decoded together: as rows finish, others take
            their place. With 1 batches stay apart, as a run must have it that is to be repeatable
            to the byte from any batch on.
        infinite: for contexts beyond the model's length (:mod:`codegen.decoding.contexts`).
    """

    def __init__(
        self,
        loaded: LoadedModel,
        batch_size: int = 40,
        window: int = 1,
        infinite: LMInfinite | None = None,
    ) -> None:
        if not loaded.tokenizer.is_fast:
            raise ModelError(
                f"The tokenizer of {loaded.name!r} has no fast version, which streaming needs.",
                "Convert it with transformers' convert_slow_tokenizer and save it.",
            )
        self.loaded = loaded
        self.batch_size = batch_size
        self.window = window
        self.infinite = infinite
        self._planner = Planner(PassCosts())  # what passes cost is learned once
        self._drafting: dict[str, LoadedModel] = {}
        self._nested: dict[tuple[str, tuple[int, ...]], Nested] = {}
        self._ngrams: dict[Superposed, NGrams | None] = {}

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The tokenizer's tokens as bytes, for healing."""
        return Vocabulary.of(self.loaded.tokenizer)

    @cached_property
    def eos(self) -> frozenset[int]:
        """All ids that end a sequence."""
        model = self.loaded.model
        return end_tokens(self.loaded.tokenizer, model.generation_config, model.config)

    def generate(
        self,
        requests: Iterable[Request],
        params: SamplingParams,
        decoder: Decoder,
        on_text: Callable[[int, str], None] | None = None,
    ) -> Iterator[Sample]:
        """Yields the samples batch by batch, within a batch in the order of the requests.

        Raises:
            ModelError: for a prompt the model cannot hold, naming the problem.
            ConfigError: for an unknown decoder or option.
        """
        reader = find_decoder(decoder)
        if reader.fills:
            yield from fill_requests(
                self.loaded, requests, params, decoder, self.batch_size, on_text
            )
            return
        if fills_gaps(self.loaded.model):
            raise ModelError(
                f"The model {self.loaded.name!r} writes in no fixed order.",
                "Choose the decoder insertion.",
            )
        if self.infinite and (reader.draft_model or reader.superposed or reader.backspace):
            raise ConfigError(
                f"The decoder {decoder.name} does not go on beyond the model's length.",
                "Leave LM-Infinite out, or choose the decoder sample, suffix, edit or sorted.",
            )
        method = None
        if reader.penalty:
            method = Method.of(reader.penalty, self.vocabulary.tokens, self.eos)
        self._backspace(reader)  # before anything is made
        if reader.superposed and params.temperature:
            raise ConfigError(
                "The decoder superposed draws nothing; its drafts are the most probable ones.",
                "Leave the temperature at 0. (Its own is an option: -o temperature=0.06)",
            )
        remaining = iter(requests)
        done = 0
        apart = reader.draft_model or reader.superposed  # these have loops of their own
        size = self.batch_size * (1 if apart else self.window)
        while batch := list(islice(remaining, size)):
            offset = done  # bound per batch for the closure below
            streams = [self._start(request, params, reader) for request in batch]
            yield from self._run(streams, params, decoder, reader, method, on_text, offset)
            done += len(batch)

    def _backspace(self, reader: TextDecoder) -> int | None:
        if not reader.backspace:
            return None
        token = self.loaded.tokenizer.get_vocab().get(BKSPC)
        if token is None:
            raise ModelError(
                f"The model {self.loaded.name!r} has no token {BKSPC}, which the decoder backspace"
                " needs.",
                "Fine-tune it on data of: codegen data backspace.",
            )
        return token

    def _start(self, request: Request, params: SamplingParams, reader: TextDecoder) -> _Running:
        tokenizer = self.loaded.tokenizer
        prompt = encode(request, tokenizer, self.vocabulary, heals=reader.heals)
        try:
            if self.infinite:
                check(self.loaded.model, self.infinite)
            else:
                check_supported(self.loaded.model, len(prompt.ids) + params.max_new_tokens)
        except ModelError as error:
            where = f"{request.problem_id}: " if request.problem_id else ""
            raise ModelError(where + error.message, error.remedy) from None
        seed = request_seed(params.seed, request)
        uniforms = np.random.Generator(np.random.Philox(seed)).random(params.max_new_tokens)
        stream = TextStream(
            tokenizer.backend_tokenizer,
            prompt.ids,
            taken=prompt.taken,
            stops=reader.stops(request.stop),
        )
        return _Running(request, Row(prompt.ids, uniforms.tolist(), prompt.rest), stream, seed)

    def _run(
        self,
        batch: list[_Running],
        params: SamplingParams,
        decoder: Decoder,
        reader: TextDecoder,
        method: Method | None,
        on_text: Callable[[int, str], None] | None,
        offset: int,
    ) -> Iterator[Sample]:
        backspace = self._backspace(reader)

        def on_token(number: int, token: int) -> bool:
            stream = batch[number].stream
            piece = stream.push(token)
            if on_text and piece:
                on_text(offset + number, piece)
            return stream.stopped

        prompt_tokens = [len(running.row.prompt) for running in batch]
        strategy = self._strategy(batch, reader, method, backspace)
        late = backspace is not None or reader.superposed is not None
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
        passes = strategy.passes_of
        for number, running in enumerate(batch if late else ()):
            for token in running.row.tokens:  # only now is it certain which stand
                if on_token(number, token):
                    running.row.finish = "stop"
                    break
        for number, running in enumerate(batch):
            if on_text and (piece := running.stream.flush()):
                on_text(offset + number, piece)
        settings = settings_of(self.loaded.name, params, decoder)
        for number, (running, length) in enumerate(zip(batch, prompt_tokens, strict=True)):
            finish_reason = running.row.finish or "length"
            decoded = reader.read(running.stream.text, finish_reason)
            if passes is not None:
                meta = {**decoded.meta, "passes": passes[number]}
                if isinstance(strategy, Speculation) and reader.drafts:
                    meta["drafts"] = strategy.tallies[number]
                decoded = replace(decoded, meta=meta)
            if self.infinite:
                decoded = replace(
                    decoded, meta={**decoded.meta, "lm_infinite": asdict(self.infinite)}
                )
            if backspace is not None:
                decoded = self._with_actions(decoded, running.row.actions, backspace)
            yield Sample(
                task=running.request.task,
                problem_id=running.request.problem_id,
                index=running.request.index,
                prompt=running.request.prompt,
                completion=decoded.completion,
                finish_reason=finish_reason,
                settings=settings,
                seed=running.seed,
                prompt_tokens=length,
                completion_tokens=len(running.row.actions or running.row.tokens),
                actions=decoded.actions,
                meta=decoded.meta,
            )

    def _strategy(
        self,
        batch: Sequence[_Running],
        reader: TextDecoder,
        method: Method | None,
        backspace: int | None,
    ) -> Strategy:
        """How the decoder chooses tokens."""
        if reader.draft_model:
            draft = self._draft_model(reader.draft_model.draft).model
            seeds = [running.seed for running in batch]
            return RecursiveSpeculation(draft, reader.draft_model.shape(), seeds)
        if reader.superposed:
            return self._superposition(reader.superposed)
        if reader.sorted_draft:
            return self._sorted(batch, reader.sorted_draft)
        if reader.drafts:
            return self._speculation(batch, reader)
        if method:
            return Penalised(method)
        return Strategy() if backspace is None else Backspace(backspace)

    def _draft_model(self, name: str) -> LoadedModel:
        """The model that drafts, loaded once.

        Raises:
            ModelError: if it has other tokens.
        """
        if name not in self._drafting:
            ours = self.loaded
            found = load(name, dtype=ours.model.dtype, device=str(ours.model.device))
            if found.tokenizer.get_vocab() != ours.tokenizer.get_vocab():
                raise ModelError(
                    f"The draft model {name!r} has other tokens than {ours.name!r}.",
                    "Choose one with the same tokenizer.",
                )
            self._drafting[name] = found
        return self._drafting[name]

    def _sorted(self, batch: Sequence[_Running], settings: SortedDraft) -> Speculation:
        """A drafter for each row; they share the nested model, not its states."""
        key = settings.draft, settings.exits
        if key not in self._nested:
            found = self._draft_model(settings.draft)
            _check_sorted(found)
            self._nested[key] = Nested(found.model, settings.exits)
        nested = self._nested[key]
        settings.check(nested)
        drafters = [
            SortedDrafter(
                nested,
                tokens=settings.tokens,
                thresholds=settings.thresholds,
                least=settings.least,
            )
            for _ in batch
        ]
        return Speculation(drafters, limit=settings.tokens)

    def _superposition(self, settings: Superposed) -> Superposition:
        if settings not in self._ngrams:
            self._ngrams[settings] = settings.ngrams(self._maker.encode)
        return Superposition(Settings(settings.alpha, settings.temperature), self._ngrams[settings])

    def _speculation(self, batch: Sequence[_Running], reader: TextDecoder) -> Speculation:
        """Drafters for a batch; those of its rows share nothing, so that a row's drafts are its
        own.
        """
        drafters = [self._maker.chain(reader.drafts) for _ in batch]
        contexts = [self._maker.context(running.request.original) for running in batch]
        planner = self._planner
        if reader.token_cost is not None:
            planner = Planner(FixedCosts(reader.token_cost))
        return Speculation(drafters, contexts, planner=planner)

    @cached_property
    def _maker(self) -> DrafterMaker:
        return DrafterMaker.of(self.loaded.tokenizer, self.vocabulary.tokens)

    def _with_actions(self, decoded: Decoded, actions: list[int], backspace: int) -> Decoded:
        text = self.loaded.tokenizer.decode([a for a in actions if a not in self.eos])
        meta = {"actions": len(actions), "backspaces": actions.count(backspace)}
        return replace(decoded, actions=text, meta={**decoded.meta, **meta})


def _check_sorted(draft: LoadedModel) -> None:
    """Refuses a draft whose early layers nobody trained to be drafts.

    The loss that trained its exits is in its configuration, or in the card of an older one.
    """
    config = draft.model.config.get_text_config()
    loss = getattr(config, "exit_loss", None) or draft.card.recipe.get("loss")
    if loss != "sorted" or not getattr(config, "exit_layers", None):
        raise ModelError(
            f"The draft model {draft.name!r} was not trained with the loss sorted, so its early "
            "layers are no drafts.",
            "Train one (codegen finetune recipes/sorted_draft.yaml), or choose the decoder rsd, "
            "which takes any model.",
        )


@dataclass(frozen=True, slots=True)
class _Running:
    request: Request
    row: Row
    stream: TextStream
    seed: int
