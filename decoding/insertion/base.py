"""The base of all models that write in no fixed order, for training and for decoding.

For training, a model corrupts a :class:`~codegen.decoding.insertion.text.Text` at random
(``corrupt``) and learns to restore it (``forward`` gives a loss per text). For decoding, it
completes texts with gaps (``fill``).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils.generic import ModelOutput

from codegen.decoding.insertion.encoder import Memory, TextEncoder
from codegen.decoding.insertion.text import BODY, EncoderConfig, Prefixes, Text, TextBatch


@dataclass(frozen=True, slots=True)
class Corrupted:
    """A corrupted text; subclasses add what is missing. Similar lengths are batched together."""

    text: Text

    def __len__(self) -> int:
        return len(self.text.prefix) + len(self.text.body)


@dataclass
class Losses(ModelOutput):
    """The result of ``forward``.

    Attributes:
        losses: float32 [B], one per text; training minimizes their mean.
        parts: name -> float32 [B]: the parts of the losses, detached.
    """

    losses: Tensor | None = None
    parts: dict[str, Tensor] | None = None


@dataclass(frozen=True, slots=True)
class FillOptions:
    """How gaps are filled.

    Attributes:
        max_new_tokens: most tokens written into a text.
        temperature: of tokens; 0 takes the most probable one.
        top_p: nucleus of tokens.
        stages: for :class:`InsertionLM`: 1 draws slot and token from their joint distribution; 2
            draws first the slot, then a token for it (as in all runs of the paper).
        slot_temperature: of the slot in two stages; 0 in the paper.
        stop_threshold: a text is finished at this probability of stopping (in the paper 0.5 for
            planning, 0.9 for text, 0.8 for infilling).
        insist: whether the first step ignores the stop head (for infilling).
        insertions: most insertions per step and text, never into neighboring slots.
        least_share: least probability of further insertions in a step, relative to the best one.
        steps: for models with masks: steps of time; 0 for one per token.
        order: for models with masks: fill the most certain masks first, or random ones.
    """

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    stages: int = 2
    slot_temperature: float = 0.0
    stop_threshold: float = 0.5
    insist: bool = False
    insertions: int = 1
    least_share: float = 0.5
    steps: int = 0
    order: Literal["confident", "random"] = "confident"


@dataclass(frozen=True, slots=True)
class Filled:
    """A finished text.

    Attributes:
        body: its token ids.
        given: for each token whether it was in the text before.
        steps: number of forward passes.
        finished: whether the model ended the text, not the token limit.
    """

    body: list[int]
    given: list[bool]
    steps: int
    finished: bool


def at_least_float32(x: Tensor) -> Tensor:
    """``x`` in float32, or in float64 if it is: the dtype of losses."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def sum_by_row(values: Tensor, places: Tensor) -> Tensor:
    """Sums of values [N] at the N marks of bool [B, S], by row: [B]."""
    rows = places.nonzero()[:, 0]
    return values.new_zeros(len(places)).index_add(0, rows, values)


class FillingModel(PreTrainedModel):
    """The base class; see the module."""

    config_class = EncoderConfig
    config: Any
    encoder: TextEncoder
    fills_gaps = True  # runs its own passes, so it needs no positions from the loop
    _supports_sdpa = True

    @abstractmethod
    def corrupt(self, text: Text, rng: np.random.Generator) -> Corrupted:
        """One random training example of a text."""

    @abstractmethod
    def collate(self, corrupted: Sequence[Any]) -> dict[str, Any]:
        """The arguments of ``forward`` for these texts."""

    @abstractmethod
    def fill(
        self, texts: Sequence[Text], options: FillOptions, rngs: Sequence[np.random.Generator]
    ) -> list[Filled]:
        """Completes texts together, each with its own random generator."""

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)

    def start(self, texts: Sequence[Text]) -> TextBatch:
        """The texts as a batch on the host, where they are arranged; the prefixes on the device."""
        batch = TextBatch.of(texts, self.config)
        if batch.prefixes is not None:
            ids, mask = batch.prefixes.input_ids, batch.prefixes.attention_mask
            batch.prefixes = Prefixes(ids.to(self.device), mask.to(self.device))
        return batch

    def remember(self, batch: TextBatch) -> Memory | None:
        """What the encoder computes only once for all steps, if anything."""
        return None if batch.prefixes is None else self.encoder.remember(batch.prefixes)

    def masks(self, batch: TextBatch) -> Tensor:
        """The masks' places: bool [B, S]."""
        return (batch.input_ids == self.config.mask_token_id) & batch.attention_mask

    def forbid(self, logits: Tensor, *, but: int | None = None) -> Tensor:
        """Logits [..., V] in float32, with -inf for the special tokens but one, if given."""
        wide = at_least_float32(logits).clone()
        for token in self.config.forbidden_token_ids:  # a list as the index would be copied
            if token != but:
                wide[..., token] = -torch.inf
        return wide


def at(states: Tensor, places: Tensor) -> Tensor:
    """States [B, S, ...] at some places, [N, ...].

    Args:
        states: of a batch.
        places: marks, bool [B, S], for which the host waits on a GPU; or :func:`numbers`.
    """
    return states.flatten(0, 1)[places.flatten()]


def numbers(marks: Tensor) -> Tensor:
    """The numbers of marks, bool [B, S], in row-major order, int64 [N]."""
    return marks.flatten().nonzero()[:, 0]


class Running:
    """The unfinished texts of a batch, and the results of finished ones, which leave the batch.

    Everything is on the host: a step copies the texts to the device and what it chose back.

    Attributes:
        batch: B unfinished texts.
        rows: their numbers.
        given: bool [B, S], the tokens that were there from the start.
        steps: forward passes so far.
    """

    def __init__(self, batch: TextBatch, rngs: Sequence[np.random.Generator]) -> None:
        self.batch, self.rngs = batch, list(rngs)
        self.rows = list(range(len(self.rngs)))
        self.given = batch.attention_mask
        self.steps = 0
        self._start = batch.lengths
        self._filled: dict[int, Filled] = {}

    @property
    def written(self) -> Tensor:
        """int64 [B], tokens inserted so far."""
        return self.batch.lengths - self._start

    def uniforms(self, count: int) -> Tensor:
        """Random numbers float64 [count, B, S] in [0, 1), each row's from its own generator."""
        batch, width = self.batch.input_ids.shape
        out = np.ones((count, batch, width))
        for row, (rng, length) in enumerate(
            zip(self.rngs, self.batch.lengths.tolist(), strict=True)
        ):
            out[:, row, :length] = rng.random((count, length))
        return torch.from_numpy(out)

    def insert(self, where: Tensor, tokens: Tensor) -> None:
        """Inserts tokens right after the marked ones; see :meth:`TextBatch.insert`."""
        given = replace(self.batch, input_ids=self.given.long())
        self.given = given.insert(where, torch.zeros_like(tokens)).input_ids.bool()
        self.batch = self.batch.insert(where, tokens)

    def finish(self, done: Tensor, *, finished: bool) -> None:
        """Removes the marked texts, bool [B], from the batch."""
        if not bool(done.any()):
            return
        inside = self.batch.attention_mask & (self.batch.kinds == BODY)
        for row in done.nonzero()[:, 0].tolist():
            keep = inside[row]
            self._filled[self.rows[row]] = Filled(
                self.batch.input_ids[row][keep].tolist(),
                self.given[row][keep].tolist(),
                self.steps,
                finished,
            )
        left = (~done).nonzero()[:, 0].tolist()
        self.rows = [self.rows[row] for row in left]
        self.rngs = [self.rngs[row] for row in left]
        self.batch, self._start = self.batch.take(~done), self._start[~done]
        self.given = self.given[~done, : self.batch.input_ids.shape[1]]

    def results(self) -> list[Filled]:
        """All texts, in their original order."""
        return [self._filled[number] for number in range(len(self._filled))]
