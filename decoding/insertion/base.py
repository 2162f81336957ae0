"""Base class of models that generate tokens in any order, for training and decoding.

For training, a model corrupts a :class:`~codegen.decoding.insertion.text.Text` at random
(``corrupt``) and learns to restore it (``forward`` returns a loss per text). For decoding, it
completes texts with gaps (``fill``), using :class:`Insertion` as the loop's strategy.

:class:`TokenEncoder` is bidirectional and pre-norm, with rotary positions and without causal mask
or time input. Source: Patel et al., "Insertion Language Models", 2025 (arXiv 2505.05755), section 3
and the released code: no biases in attention, ReLU, by default no layer norm after the last layer.

With ``prefix_apart``, which is not in the paper, the prefix attends only to itself. Its keys and
values are then the same for all bodies: for many corruptions of one text in training and for all
steps of decoding, while the paper's encoder recomputes them for every inserted token.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.utils.generic import ModelOutput

from codegen.core.errors import ModelError
from codegen.decoding.insertion.text import (
    BODY,
    N_KINDS,
    PREFIX,
    EncoderConfig,
    Prefixes,
    Text,
    TextBatch,
)
from codegen.decoding.loop import Batch, Row, Strategy
from codegen.decoding.passes import Passes
from codegen.decoding.sequences import CachedRows

Memory = list[tuple[Tensor, Tensor]]  # per layer: rotated keys, values [G, heads, P, size]


class TokenEncoder(nn.Module):
    """Encoder from token ids to hidden states."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        d = config.hidden_size
        self.tokens = nn.Embedding(config.vocab_size, d)
        self.kinds = nn.Embedding(N_KINDS, d)
        self.open_slots = nn.Embedding(2, d) if config.marks_open_slots else None
        self.neighbours = nn.Linear(2 * d, d, bias=False) if config.mixes_neighbours else None
        self.dropout = nn.Dropout(config.dropout)
        layers: Any = nn.ModuleList(EncoderLayer(config) for _ in range(config.num_hidden_layers))
        self.layers: Sequence[EncoderLayer] = layers
        self.norm = nn.LayerNorm(d) if config.final_norm else nn.Identity()
        self.head_size = d // config.num_attention_heads
        self.theta, self.step = config.rope_theta, config.rope_step

    def match_keys(self) -> None:
        """Initializes keys equal to queries, so equal tokens attend to each other from the start.

        Source: Trockman and Kolter, "Mimetic Initialization of Self-Attention Layers", 2023 (arXiv
        2305.09828), in its simplest form.
        """
        with torch.no_grad():
            for layer in self.layers:
                query, key, _ = layer.qkv.weight.chunk(3)
                key.copy_(query)

    def remember(self, prefixes: Prefixes) -> Memory:
        """Computes keys and values of G prefixes that attend only to themselves."""
        kinds = torch.full_like(prefixes.input_ids, PREFIX)
        mask = prefixes.attention_mask
        x = self.embed(prefixes.input_ids, mask, kinds, torch.zeros_like(mask))
        width = prefixes.input_ids.shape[1]
        rotation = self.rotation(1 + torch.arange(width, device=x.device)[None])  # after [CLS]
        mask = mask[:, None, None]
        memory: Memory = []
        for layer in self.layers:
            q, k, v = layer.project(x, rotation)
            memory.append((k, v))
            if len(memory) < len(self.layers):
                x = layer.update(x, q, k, v, mask)
        return memory

    def forward(
        self, batch: TextBatch, memory: Memory | None = None, summary: Tensor | None = None
    ) -> Tensor:
        """Computes hidden states, [B, S, d].

        Args:
            batch: B texts.
            memory: keys and values of the batch's prefixes; computed by default.
            summary: [B, d], added to ``[CLS]`` if present.
        """
        x = self.embed(
            batch.input_ids, batch.attention_mask, batch.kinds, batch.open_slots, summary
        )
        rotation = self.rotation(batch.positions())
        mask, prefixes = batch.attention_mask, batch.prefixes
        if prefixes is not None:
            memory = self.remember(prefixes) if memory is None else memory
            mask = torch.cat((prefixes.attention_mask[batch.owner], mask), 1)
        # On other devices the host would wait for the check.
        whole = mask.device.type == "cpu" and bool(mask.all())
        mask = None if whole else mask[:, None, None]
        for number, layer in enumerate(self.layers):
            q, k, v = layer.project(x, rotation)
            if memory is not None:
                keys, values = memory[number]
                k = torch.cat((keys[batch.owner], k), 2)
                v = torch.cat((values[batch.owner], v), 2)
            x = layer.update(x, q, k, v, mask)
        return self.norm(x)

    def embed(
        self,
        ids: Tensor,
        mask: Tensor,
        kinds: Tensor,
        open_slots: Tensor,
        summary: Tensor | None = None,
    ) -> Tensor:
        """Computes the first layer's input [B, S, d]; all arguments but ``summary`` are [B, S]."""
        x = self.tokens(ids) + self.kinds(kinds)
        if self.neighbours is not None:
            there = functional.pad(x * mask[..., None], (0, 0, 1, 1))  # zeros beyond the ends
            x = x + self.neighbours(torch.cat((there[:, :-2], there[:, 2:]), -1))
        if self.open_slots is not None:
            x = x + self.open_slots(open_slots.long())
        if summary is not None:
            x = torch.cat((x[:, :1] + summary[:, None].to(x.dtype), x[:, 1:]), 1)
        return self.dropout(x)

    def rotation(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Returns cosines and sines for positions [B, S]: each [B, 1, S, size / 2]."""
        angles = self.step * rotary_angles(positions, self.head_size, self.theta)[:, None]
        return angles.cos(), angles.sin()


class EncoderLayer(nn.Module):
    """Attention and a feed-forward layer, each as x + f(LN x)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        d, wide = config.hidden_size, config.intermediate_size
        self.heads = config.num_attention_heads
        self.attention_norm, self.mlp_norm = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv = nn.Linear(d, 3 * d, bias=False)
        self.out = nn.Linear(d, d, bias=False)
        self.up, self.down = nn.Linear(d, wide), nn.Linear(wide, d)
        self.dropout = nn.Dropout(config.dropout)

    def project(self, x: Tensor, rotation: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Returns rotated queries and keys, and values, of [B, S, d]: each [B, heads, S, size]."""
        batch, length, _ = x.shape
        qkv = self.qkv(self.attention_norm(x)).view(batch, length, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        return rotate(q, *rotation), rotate(k, *rotation), v

    def update(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """Returns the layer's output; ``mask``: keys to attend to, bool [B, 1, 1, keys]."""
        seen = _attend(q, k, v, mask).transpose(1, 2).flatten(2)
        x = x + self.dropout(self.out(seen))
        return x + self.dropout(self.down(torch.relu(self.up(self.mlp_norm(x)))))


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    if q.device.type != "cpu" or v.dtype.itemsize >= 4:
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    # On CPUs the backward pass of attention is several times slower in bfloat16 than in float32.
    with torch.autocast("cpu", enabled=False):
        wide = functional.scaled_dot_product_attention(
            q.float(), k.float(), v.float(), attn_mask=mask
        )
    return wide.to(v.dtype)


def rotary_angles(positions: Tensor, size: int, theta: float) -> Tensor:
    """Returns the angle per position and channel pair (RoFormer), float32 [..., size / 2]."""
    frequencies = theta ** (-torch.arange(0, size, 2, device=positions.device).float() / size)
    return positions.float()[..., None] * frequencies


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Applies rotary positions to [..., S, size]; channels i and i + size / 2 form a pair."""
    first, second = x.chunk(2, -1)
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1)


@dataclass(frozen=True, slots=True)
class CorruptedText:
    """A corrupted text, and the tokens to restore, in order; similar lengths are batched together.

    Subclasses add the tokens' positions.
    """

    text: Text
    targets: list[int]

    def __len__(self) -> int:
        return len(self.text.prefix) + len(self.text.body)


@dataclass
class Losses(ModelOutput):
    """Result of ``forward``.

    Attributes:
        losses: float32 [B], one per text; training minimizes their mean.
        parts: name -> float32 [B]: detached parts of the losses.
    """

    losses: Tensor | None = None
    parts: dict[str, Tensor] | None = None


@dataclass(frozen=True, slots=True)
class FillOptions:
    """Options for filling gaps.

    Attributes:
        max_new_tokens: maximum tokens inserted per text.
        temperature: sampling temperature of tokens; 0 takes the most likely one.
        top_p: nucleus for tokens.
        stages: for :class:`InsertionLM`: 1 samples slot and token from their joint distribution; 2
            samples the slot, then a token for it (as in all runs of the paper).
        slot_temperature: temperature of the slot in two stages; 0 in the paper.
        stop_threshold: minimum stop probability at which a text is finished (in the paper 0.5 for
            planning, 0.9 for text, 0.8 for infilling).
        insist: True ignores the stop head in the first step (for infilling).
        insertions: maximum insertions per step and text, never into neighboring slots.
        least_share: minimum probability of a step's additional insertions, relative to its best.
        steps: time steps of masked models; 0 for one per token.
        order: fill order of masked models: the most confident masks first, or random ones.
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
class FilledText:
    """A finished text.

    Attributes:
        body: its token ids.
        given: for each token, True if it was in the text at the start.
        steps: number of forward passes.
        finished: True if the model ended the text, False if the token limit did.
    """

    body: list[int]
    given: list[bool]
    steps: int
    finished: bool


def at_least_float32(x: Tensor) -> Tensor:
    """Converts to the dtype of losses: float32, or float64 if ``x`` already is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def sum_by_row(values: Tensor, places: Tensor) -> Tensor:
    """Sums values [N] at the N marks of bool [B, S], by row: [B]."""
    rows = places.nonzero()[:, 0]
    return values.new_zeros(len(places)).index_add(0, rows, values)


class FillingModel(PreTrainedModel):
    """Base class of models that fill gaps; see the module."""

    config_class = EncoderConfig
    config: Any
    fills_gaps = True  # runs its own passes, so it needs no positions from the loop
    _supports_sdpa = True

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        self.encoder = TokenEncoder(config)
        self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    @abstractmethod
    def corrupt(self, text: Text, rng: np.random.Generator) -> CorruptedText:
        """Returns one random training example of a text."""

    def collate(self, corrupted: Sequence[Any]) -> dict[str, Any]:
        """Builds the arguments of ``forward``: the texts' batch, and all targets in order."""
        batch = TextBatch.of([item.text for item in corrupted], self.config)
        targets = [token for item in corrupted for token in item.targets]
        return {**batch.inputs(), "targets": torch.tensor(targets).long()}

    @abstractmethod
    def fill(
        self, texts: Sequence[Text], options: FillOptions, rngs: Sequence[np.random.Generator]
    ) -> list[FilledText]:
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
        """Arranges the texts as a batch on the host, with the prefixes on the device."""
        batch = TextBatch.of(texts, self.config)
        if batch.prefixes is not None:
            ids, mask = batch.prefixes.input_ids, batch.prefixes.attention_mask
            batch.prefixes = Prefixes(ids.to(self.device), mask.to(self.device))
        return batch

    def remember(self, batch: TextBatch) -> Memory | None:
        """Computes the encoder's results that are shared by all steps, if any."""
        return None if batch.prefixes is None else self.encoder.remember(batch.prefixes)

    def masks(self, batch: TextBatch) -> Tensor:
        """Returns True where a token is the mask token: bool [B, S]."""
        return (batch.input_ids == self.config.mask_token_id) & batch.attention_mask

    def forbid(self, logits: Tensor, *, but: int | None = None) -> Tensor:
        """Returns logits [..., V] in float32, with -inf for the special tokens except ``but``."""
        wide = at_least_float32(logits).clone()
        for token in self.config.forbidden_token_ids:  # a list as the index would be copied
            if token != but:
                wide[..., token] = -torch.inf
        return wide


def at(states: Tensor, places: Tensor) -> Tensor:
    """Returns states [B, S, ...] at some positions, [N, ...].

    Args:
        states: states of a batch.
        places: marks, bool [B, S], for which the host waits on a GPU; or :func:`numbers`.
    """
    return states.flatten(0, 1)[places.flatten()]


def numbers(marks: Tensor) -> Tensor:
    """Returns the row-major indices of marks, bool [B, S]: int64 [N]."""
    return marks.flatten().nonzero()[:, 0]


class RunningBatch:
    """The unfinished texts of a batch, and the results of finished ones, which leave the batch.

    All tensors are on the host: each step copies the texts to the device and the choices back.

    Attributes:
        batch: B unfinished texts.
        rows: numbers of these texts.
        given: bool [B, S], the tokens that were present at the start.
        steps: forward passes so far.
    """

    def __init__(self, batch: TextBatch, rngs: Sequence[np.random.Generator]) -> None:
        self.batch, self.rngs = batch, list(rngs)
        self.rows = list(range(len(self.rngs)))
        self.given = batch.attention_mask
        self.steps = 0
        self._start = batch.lengths
        self._filled: dict[int, FilledText] = {}

    @property
    def written(self) -> Tensor:
        """Number of tokens inserted so far, int64 [B]."""
        return self.batch.lengths - self._start

    def uniforms(self, count: int) -> Tensor:
        """Returns random numbers, float64 [count, B, S] in [0, 1), from each row's generator."""
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
            self._filled[self.rows[row]] = FilledText(
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

    def results(self) -> list[FilledText]:
        """Returns all texts, in their original order."""
        return [self._filled[number] for number in range(len(self._filled))]


@dataclass
class GapRow(Row):
    """A row whose text has open slots; ``prompt`` is its prefix and body.

    Attributes:
        text: the prefix, the body so far, and the open slots.
        filled: the finished text; ``tokens`` is its body.
    """

    text: Text = field(default_factory=lambda: Text([]))
    filled: FilledText | None = None

    @classmethod
    def of(cls, text: Text) -> GapRow:
        """Creates a row from a text."""
        return cls([*text.prefix, *text.body], (), text=text)


class Insertion(Strategy):
    """Strategy that fills :class:`GapRow` objects together, each with its own generator.

    Args:
        options: fill options; token limit, temperature and top-p come from the batch.
        rngs: one generator per row.
    """

    forgets = False

    def __init__(self, options: FillOptions, rngs: Sequence[np.random.Generator]) -> None:
        self.options, self.rngs = options, rngs

    def rounds(self, batch: Batch) -> Passes[None]:
        """Fills the batch; the model runs its own passes.

        Raises:
            ModelError: if the model writes from left to right.
        """
        assert isinstance(batch.sequences, CachedRows)
        model = batch.sequences.model
        if not isinstance(model, FillingModel):
            raise ModelError(
                f"{type(model).__name__} generates from left to right; it is not an insertion "
                "model.",
                "Choose another decoder, or a model trained for insertion.",
            )
        options = replace(
            self.options,
            max_new_tokens=batch.most,
            temperature=batch.temperature,
            top_p=batch.top_p,
        )
        rows = [row for row in batch.rows if isinstance(row, GapRow)]
        filled = model.fill([row.text for row in rows], options, self.rngs)
        for row, found in zip(rows, filled, strict=True):
            row.filled, row.tokens = found, found.body
            row.finish = "eos" if found.finished else "length"
        yield from ()  # pyrefly: ignore[invalid-yield]
