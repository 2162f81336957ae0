"""Superposed decoding: k drafts from one forward pass per step.

Source: Shen et al., *Superposed Decoding: Multiple Generations from a Single Autoregressive
Inference Pass*, NeurIPS 2024 (arXiv 2405.18400). The model is fed one embedding: the mean of the
drafts' last tokens, weighted by the drafts' probabilities. All drafts share the resulting
distribution, and an n-gram model decides which of its tokens continues which draft. This yields
several short suggestions. It is not a lossless accelerator: the blend stays close to each draft for
about ten tokens.

The n-gram counts come from the suffix structure over the user's own code
(``codegen.decoding.suffix``), which supports all orders; the paper keeps a table per order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from transformers import PreTrainedModel

from codegen.decoding.cache import KVCache, recurrences
from codegen.decoding.device import download, upload
from codegen.decoding.loop import Batch, Row, Strategy
from codegen.decoding.passes import Passes, check_supported, forward
from codegen.decoding.prefill import prefill
from codegen.decoding.sequences import CachedRows

if TYPE_CHECKING:
    from codegen.decoding.suffix import SuffixIndex

# Weights of the orders 2 to 6 in the authors' configurations; they do not sum to one.
ORDER_WEIGHTS = {2: 0.01, 3: 0.04, 4: 0.15, 5: 0.18, 6: 0.12}
_NO_OVERLAP = 200.0  # nats that a draft loses if its n-grams contain none of the tokens


@dataclass(frozen=True, slots=True)
class SuperposedConfig:
    """The paper's settings for three drafts.

    Attributes:
        alpha: weight of the n-gram model in the log-linear blend; 0 is used without n-grams.
        temperature: temperature of the model's distribution from the second token on.
        candidates: tokens tried for each draft; 0 for three times the number of drafts.
    """

    alpha: float = 0.54
    temperature: float = 0.06
    candidates: int = 0


@dataclass(slots=True)
class Suggestion:
    """One draft.

    Attributes:
        tokens: token ids, without the end-of-sequence token.
        score: the method's log-probability.
        finished: True if an end-of-sequence token ended the draft.
    """

    tokens: list[int] = field(default_factory=list)
    score: float = 0.0
    finished: bool = False


class NGrams:
    """Probabilities of a token after a draft, from counts in the user's code.

    Args:
        index: the code.
        weights: by order n (context of n - 1 tokens), the weight of ``count(context, x) /
            count(context)``.
    """

    def __init__(self, index: SuffixIndex, weights: dict[int, float] | None = None) -> None:
        self._index = index
        self._weights = weights or ORDER_WEIGHTS

    def probabilities(self, context: Sequence[int], tokens: Sequence[int]) -> list[float]:
        """Returns the probability of each token after the context; unknown contexts add nothing."""
        found = [0.0] * len(tokens)
        for order, weight in self._weights.items():
            before = list(context[-(order - 1) :])
            total = self._index.count(before) if len(before) == order - 1 else 0
            if not total:
                continue
            for i, token in enumerate(tokens):
                found[i] += weight * self._index.count([*before, token]) / total
        return found


@torch.inference_mode()
def superpose(
    model: PreTrainedModel,
    prompt: Sequence[int],
    *,
    drafts: int = 3,
    max_new_tokens: int = 10,
    eos: frozenset[int] = frozenset(),
    settings: SuperposedConfig = SuperposedConfig(),
    ngrams: NGrams | None = None,
) -> list[Suggestion]:
    """Generates several continuations of a prompt, best first, with one pass per position.

    With one draft and without n-grams, this is greedy decoding.

    Args:
        model: loaded with ``sdpa`` attention.
        prompt: token ids, at least one.
        drafts: number of drafts; fewer are returned if fewer have nonzero probability.
        max_new_tokens: maximum tokens per draft.
        eos: token ids that end a draft.
        settings, ngrams: see :class:`SuperposedConfig` and :class:`NGrams`.

    Raises:
        ModelError: if :func:`codegen.decoding.passes.check_supported` rejects the model.
    """
    check_supported(model, len(prompt) + max_new_tokens)
    blend = _Blend(settings, drafts, ngrams, list(prompt))
    layers = recurrences(model.config.get_text_config())
    cache = KVCache(layers, len(prompt) + max_new_tokens)
    prefill(model, cache, [list(prompt)])
    embed = model.get_input_embeddings()
    device = model.device
    vector = embed(torch.tensor([[prompt[-1]]], device=device))
    alive, ended = [Suggestion()], []
    for step in range(max_new_tokens):
        slot = len(prompt) - 1 + step
        cache.place(torch.full((1, 1), slot, device=device), slot + 1)
        logits = forward(model, vector, cache, cache.mask(), 1, repeated=True)[0, -1]
        alive, over = blend.extend(alive, logits, eos)
        ended += over
        if not alive or _is_decided(alive, ended, drafts):
            break
        scores, latest = upload(
            device,
            torch.tensor([draft.score for draft in alive], dtype=torch.float64),
            torch.tensor([draft.tokens[-1] for draft in alive]),
        )
        weights = torch.softmax(scores.float(), 0).to(vector.dtype)
        vector = (weights[:, None] * embed(latest)).sum(0)[None, None]
    return sorted([*ended, *alive], key=lambda draft: -draft.score)[:drafts]


def _is_decided(alive: Sequence[Suggestion], ended: Sequence[Suggestion], drafts: int) -> bool:
    """Returns True if no running draft can still be among the best, as scores only fall."""
    best = sorted((draft.score for draft in ended), reverse=True)
    return len(best) >= drafts and best[drafts - 1] >= max(draft.score for draft in alive)


class Superposition(Strategy):
    """Strategy whose rows with the same prompt are drafts of one superposition; never samples.

    Args:
        settings, ngrams: see :class:`SuperposedConfig` and :class:`NGrams`.
    """

    forgets = False

    def __init__(
        self, settings: SuperposedConfig = SuperposedConfig(), ngrams: NGrams | None = None
    ) -> None:
        self.settings, self.ngrams = settings, ngrams

    def rounds(self, batch: Batch) -> Passes[None]:
        """Decodes the rows with its own passes, which are fed blends of embeddings."""
        assert isinstance(batch.sequences, CachedRows)
        together: dict[tuple[int, ...], list[Row]] = {}
        for row in batch.rows:
            together.setdefault(tuple(row.prompt), []).append(row)
        for prompt, rows in together.items():
            found = superpose(
                batch.sequences.model,
                prompt,
                drafts=len(rows),
                max_new_tokens=batch.most,
                eos=batch.eos,
                settings=self.settings,
                ngrams=self.ngrams,
            )
            for row, suggestion in zip(rows, found, strict=False):
                row.tokens = suggestion.tokens
                row.finish = "eos" if suggestion.finished else "length"
        yield from ()  # pyrefly: ignore[invalid-yield]


class _Blend:
    """Scores of continuations: the shared model distribution, and each draft's n-grams."""

    def __init__(
        self, settings: SuperposedConfig, drafts: int, ngrams: NGrams | None, prompt: list[int]
    ) -> None:
        self.drafts, self.ngrams, self.prompt = drafts, ngrams, prompt
        self.alpha = settings.alpha if ngrams else 0.0
        self.temperature = settings.temperature
        self.candidates = settings.candidates or 3 * drafts

    def extend(
        self, alive: Sequence[Suggestion], logits: torch.Tensor, eos: frozenset[int]
    ) -> tuple[list[Suggestion], list[Suggestion]]:
        """Returns the drafts that continue and those that ended, by the shared logits [V].

        An end-of-sequence token counts only among the best ``drafts`` continuations, so a single
        draft is greedy decoding. Up to ``drafts`` other drafts continue.
        """
        first = not alive[0].tokens
        scaled = logits.double() / (1 if first or self.drafts == 1 else self.temperature)
        number = min(self.candidates, len(logits))
        values, ids = torch.log_softmax(scaled, -1).topk(number)
        if not first:
            values = values - values.logsumexp(-1)
        scores, ids = download(torch.stack([values, ids.double()]))
        tokens = [int(token) for token in ids]
        found = []
        for draft in alive:
            blended = scores if first else self._blended(draft, tokens, scores)
            for token, score in zip(tokens, blended, strict=True):
                if score > -torch.inf:
                    found.append((draft.score + score, draft, token))
        found.sort(key=lambda item: -item[0])
        going, ended = [], []
        for rank, (score, draft, token) in enumerate(found):
            if token in eos:
                if rank < self.drafts:
                    ended.append(Suggestion(draft.tokens, score, finished=True))
            elif len(going) < self.drafts:
                going.append(Suggestion([*draft.tokens, token], score))
        return going, ended

    def _blended(
        self, draft: Suggestion, tokens: Sequence[int], scores: Sequence[float]
    ) -> list[float]:
        """Returns ``p^(1-alpha) * ngram^alpha``, normalized, in logarithms."""
        if self.ngrams is None:
            return list(scores)
        counted = self.ngrams.probabilities(self.prompt + draft.tokens, tokens)
        own = torch.tensor(scores, dtype=torch.float64) * (1 - self.alpha)
        theirs = torch.tensor(counted, dtype=torch.float64)
        if not bool((theirs > 0).any()):
            return (own - _NO_OVERLAP).tolist()
        blended = own + self.alpha * theirs.log()
        return (blended - blended.logsumexp(-1)).tolist()
