"""What all models that write in no fixed order have in common, for training and for decoding.

A model takes :class:`~codegen.decoding.insertion.text.Text` apart at random (``corrupt``), learns
to put it together (``forward`` gives a loss a text), and completes texts with gaps (``fill``).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils.generic import ModelOutput

from codegen.decoding.insertion.encoder import Memory, TextEncoder
from codegen.decoding.insertion.text import BODY, EncoderConfig, Text, TextBatch


class Corrupted(Protocol):
    """A text taken apart; its length decides which others it is best padded with."""

    def __len__(self) -> int: ...


@dataclass
class Losses(ModelOutput):
    """What ``forward`` gives.

    Attributes:
        losses: float32 [B], of each text; what is minimised is their mean.
        parts: name -> float32 [B]: what they are made of, detached.
    """

    losses: Tensor | None = None
    parts: dict[str, Tensor] | None = None


@dataclass(frozen=True, slots=True)
class FillOptions:
    """How gaps are filled.

    Attributes:
        max_new_tokens: tokens written into a text, at most.
        temperature: of tokens; 0 takes the most probable one.
        top_p: nucleus of tokens.
        stages: of :class:`InsertionLM`: 1 draws slot and token from their joint distribution, 2
            first the slot, then a token there (all runs of the paper).
        slot_temperature: of the slot in two stages; the paper has 0.
        stop_threshold: probability of stopping from which on a text is finished (the paper has 0.5
            for planning, 0.9 for text, 0.8 for infilling).
        insist: whether the first step inserts whatever the stop head says (infilling).
        insertions: a step's insertions into a text, at most, never into neighboring slots.
        least_share: further insertions of a step must be this probable, as a share of the best one.
        steps: of the models with masks: steps of time; 0 for one a token.
        order: of the models with masks: which masks are filled first, the surest or any.
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
        given: one flag a token: whether it stood there before.
        steps: forward passes it took.
        finished: whether the model ended it, not the limit of tokens.
    """

    body: list[int]
    given: list[bool]
    steps: int
    finished: bool


def at_least_float32(x: Tensor) -> Tensor:
    """Losses are computed in float32, or in float64 if the model is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class FillingModel(PreTrainedModel):
    """See the module."""

    config_class = EncoderConfig
    config: Any
    encoder: TextEncoder
    fills_gaps = True  # its passes are its own: it gets no positions from the loop
    _supports_sdpa = True

    @abstractmethod
    def corrupt(self, text: Text, rng: np.random.Generator) -> Corrupted:
        """One random training example of a text."""

    @abstractmethod
    def collate(self, corrupted: Sequence[Any]) -> dict[str, Any]:
        """What ``forward`` is called with for these."""

    @abstractmethod
    def fill(
        self, texts: Sequence[Text], options: FillOptions, rngs: Sequence[np.random.Generator]
    ) -> list[Filled]:
        """Completes texts together, each with randomness of its own."""

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)

    def start(self, texts: Sequence[Text]) -> TextBatch:
        """The texts as a batch on the model's device."""
        return TextBatch.of(texts, self.config).to(self.device)

    def remember(self, batch: TextBatch) -> Memory | None:
        """What the encoder needs to compute but once for all steps, if anything."""
        return None if batch.prefixes is None else self.encoder.remember(batch.prefixes)

    def forbid(self, logits: Tensor) -> Tensor:
        """Logits [..., V] in float32, those of the special tokens at -inf."""
        forbidden = torch.tensor(self.config.forbidden_token_ids, device=logits.device)
        return at_least_float32(logits).index_fill(-1, forbidden, -torch.inf)


class Running:
    """The unfinished texts of a batch that is decoded, and what became of the others: texts leave
    the batch when they are finished.

    Attributes:
        batch: B unfinished texts.
        rows: their numbers.
        given: bool [B, S], the tokens that stood there from the start.
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
        """float64 [count, B, S] in [0, 1): a row's depend on nothing but the row."""
        batch, width = self.batch.input_ids.shape
        out = np.ones((count, batch, width))
        for row, (rng, length) in enumerate(
            zip(self.rngs, self.batch.lengths.tolist(), strict=True)
        ):
            out[:, row, :length] = rng.random((count, length))
        return torch.from_numpy(out).to(self.batch.input_ids.device)

    def insert(self, where: Tensor, tokens: Tensor) -> None:
        """Inserts tokens right after the marked ones; see :meth:`TextBatch.insert`."""
        given = replace(self.batch, input_ids=self.given.long())
        self.given = given.insert(where, torch.zeros_like(tokens)).input_ids.bool()
        self.batch = self.batch.insert(where, tokens)

    def finish(self, done: Tensor, *, finished: bool) -> None:
        """Takes texts out of the batch: bool [B]."""
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
        """All texts, in their first order."""
        return [self._filled[number] for number in range(len(self._filled))]
