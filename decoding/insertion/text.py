"""Model configurations, and texts ``[CLS] prefix [BOS] body`` with slots between tokens.

Slot k is immediately after token k. The body's first slot is after ``[BOS]``; no token is
inserted after ``[CLS]`` or into the prefix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PretrainedConfig

from codegen.decoding.device import upload

CLS, PREFIX, BODY = range(3)  # kinds of tokens; [BOS] belongs to the prefix
N_KINDS = 3


class EncoderConfig(PretrainedConfig):
    """The encoder's sizes, and the ids of the special tokens.

    Args:
        vocab_size: number of tokens, including special ones.
        hidden_size: width d.
        num_hidden_layers: number of layers.
        num_attention_heads: number of heads; ``hidden_size`` is an even multiple.
        intermediate_size: width of the feed-forward layers; 0 for 4 d.
        dropout: dropout of each sub-layer's output.
        rope_theta: base of the rotary frequencies.
        rope_step: angle between neighboring tokens in the fastest channels. RoPE's 1 barely
            distinguishes odd from even positions; pi does.
        final_norm: True adds a layer norm before the heads; not in the paper's runs.
        mixes_neighbours: True adds linear maps of a token's neighbors to its embedding,
            so that no layer must learn to attend to them; not in the paper.
        marks_open_slots: True adds a learned vector to tokens before open slots, so that the
            stop head can detect gaps to fill (for infilling).
        prefix_apart: True lets the prefix attend only to itself (:mod:`.base`); not published.
        initializer_range: standard deviation of the initial weights.
        cls_token_id, bos_token_id, pad_token_id, mask_token_id: see :class:`TextBatch`.
        forbidden_token_ids: special tokens, which are never generated.
    """

    vocab_size: int = 32
    hidden_size: int = 128
    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    intermediate_size: int = 0
    dropout: float = 0.1
    rope_theta: float = 10000.0
    rope_step: float = 1.0
    final_norm: bool = False
    mixes_neighbours: bool = False
    marks_open_slots: bool = False
    prefix_apart: bool = False
    initializer_range: float = 0.02
    cls_token_id: int = 0
    bos_token_id: int = 1
    pad_token_id: int = 2
    mask_token_id: int = 3
    forbidden_token_ids: tuple[int, ...] | list[int] = (0, 1, 2, 3)
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        if self.hidden_size % (2 * self.num_attention_heads):
            raise ValueError(
                f"hidden_size {self.hidden_size} is not an even multiple of "
                f"{self.num_attention_heads} heads"
            )
        self.intermediate_size = self.intermediate_size or 4 * self.hidden_size
        self.forbidden_token_ids = list(self.forbidden_token_ids)
        super().__post_init__(**kwargs)


class InsertionConfig(EncoderConfig):
    """The configuration of :class:`codegen.decoding.insertion.InsertionLM`.

    Args:
        stop_weight: weight of the stop loss (1; in the paper 0.001 for zebra and web text).
        stop_class_weights: weights of the classes stop and continue.
        infill_rate: fraction of the training texts in which only a span has gaps.
        kwargs: see :class:`EncoderConfig`.
    """

    model_type = "insertion_lm"

    stop_weight: float = 1.0
    stop_class_weights: tuple[float, float] | list[float] = (1.0, 1.0)
    infill_rate: float = 0.0

    def __post_init__(self, **kwargs: Any) -> None:
        self.stop_class_weights = list(self.stop_class_weights)
        super().__post_init__(**kwargs)


class FlexibleMaskConfig(EncoderConfig):
    """The configuration of :class:`codegen.decoding.insertion.FlexibleMaskLM`.

    Args:
        loss_length: divisor of every text's loss: the length in tokens of the longest training
            body. It only scales the loss.
        kwargs: see :class:`EncoderConfig`.
    """

    model_type = "flexible_mask_lm"

    loss_length: int = 1


class FixedMaskConfig(EncoderConfig):
    """The configuration of :class:`codegen.decoding.insertion.FixedMaskLM`.

    Args:
        body_length: tokens per body; shorter bodies end in ``eos_token_id``.
        kwargs: see :class:`EncoderConfig`.
    """

    model_type = "fixed_mask_lm"

    body_length: int = 8


@dataclass(frozen=True, slots=True)
class Text:
    """A prompt and a part of its completion.

    Attributes:
        prefix: token ids of the prompt.
        body: token ids, without an end of sequence.
        open: for each slot, starting with the slot of ``[BOS]``, True if insertion is allowed: one
            more flag than the body has tokens. Empty: all slots are open.
    """

    prefix: Sequence[int]
    body: Sequence[int] = ()
    open: Sequence[bool] = field(default=())

    def __post_init__(self) -> None:
        if len(self.open) not in (0, len(self.body) + 1):
            raise ValueError(f"a body of {len(self.body)} tokens has {len(self.open)} slot flags")

    @property
    def slots(self) -> list[bool]:
        """One flag per slot, as in ``open``."""
        return list(self.open) or [True] * (len(self.body) + 1)


@dataclass(slots=True)
class Prefixes:
    """G prefixes that are encoded separately, padded on the right.

    Attributes:
        input_ids: int64 [G, P].
        attention_mask: bool [G, P].
    """

    input_ids: Tensor
    attention_mask: Tensor


@dataclass(slots=True)
class TextBatch:
    """B texts of up to S tokens, padded on the right.

    Attributes:
        input_ids: int64 [B, S]; with ``prefixes`` they are ``[CLS] [BOS] body``.
        attention_mask: bool [B, S].
        kinds: int64 [B, S].
        open_slots: bool [B, S].
        owner: index of each text's prefix in ``prefixes``, int64 [B].
        shift: int64 [B], number of the prefix's tokens that are encoded separately.
        prefixes: the prefixes that are encoded separately, if any.
    """

    input_ids: Tensor
    attention_mask: Tensor
    kinds: Tensor
    open_slots: Tensor
    owner: Tensor
    shift: Tensor
    prefixes: Prefixes | None = None

    @classmethod
    def of(cls, texts: Sequence[Text], config: EncoderConfig) -> TextBatch:
        """Adds special tokens and padding; with ``prefix_apart`` equal prefixes are stored once."""
        apart = config.prefix_apart
        own = [() if apart else tuple(text.prefix) for text in texts]
        lengths = [
            2 + len(prefix) + len(text.body) for prefix, text in zip(own, texts, strict=True)
        ]
        shape = (len(texts), max(lengths))
        ids = np.full(shape, config.pad_token_id, np.int64)
        kinds = np.full(shape, BODY, np.int64)
        open_slots = np.zeros(shape, bool)
        for row, (prefix, text, length) in enumerate(zip(own, texts, lengths, strict=True)):
            ids[row, :length] = [config.cls_token_id, *prefix, config.bos_token_id, *text.body]
            start = 1 + len(prefix)
            kinds[row, 0], kinds[row, 1 : start + 1] = CLS, PREFIX
            open_slots[row, start:length] = text.slots
        mask = np.arange(shape[1]) < np.array(lengths)[:, None]
        numbers: dict[tuple[int, ...], int] = {}
        owner = [numbers.setdefault(tuple(text.prefix), len(numbers)) for text in texts]
        shift = [len(text.prefix) * apart for text in texts]
        return cls(
            torch.from_numpy(ids),
            torch.from_numpy(mask),
            torch.from_numpy(kinds),
            torch.from_numpy(open_slots),
            torch.tensor(owner),
            torch.tensor(shift),
            _prefixes(list(numbers), config) if apart else None,
        )

    def on(
        self, device: torch.device, *others: torch.Tensor
    ) -> tuple[TextBatch, list[torch.Tensor]]:
        """Copies a batch and other host tensors, int64 or float64, to a device at once.

        The prefixes are not moved.
        """
        own = [getattr(self, name) for name in _TENSORS]
        moved = upload(device, *(tensor.long() for tensor in own), *others)
        pairs = zip(_TENSORS, moved, own, strict=False)
        found = {name: tensor.to(old.dtype) for name, tensor, old in pairs}
        return replace(self, **found), moved[len(own) :]

    def inputs(self) -> dict[str, Any]:
        """Returns the tensors by name, as arguments of a model; see :meth:`from_inputs`."""
        found = {name: getattr(self, name) for name in _TENSORS}
        if self.prefixes is not None:
            found["prefix_ids"] = self.prefixes.input_ids
            found["prefix_mask"] = self.prefixes.attention_mask
        return found

    @classmethod
    def from_inputs(cls, inputs: dict[str, Tensor]) -> TextBatch:
        """Rebuilds the batch of :meth:`inputs`; other names are ignored."""
        prefixes = None
        if "prefix_ids" in inputs:
            prefixes = Prefixes(inputs["prefix_ids"], inputs["prefix_mask"])
        return cls(**{name: inputs[name] for name in _TENSORS}, prefixes=prefixes)

    def __len__(self) -> int:
        return len(self.input_ids)

    def positions(self) -> Tensor:
        """Returns positions in the whole text, including the prefix, int64 [B, S]."""
        place = torch.arange(self.input_ids.shape[1], device=self.input_ids.device)
        return place + (place > 0) * self.shift[:, None]

    @property
    def lengths(self) -> Tensor:
        """Lengths of the texts, int64 [B]."""
        return self.attention_mask.sum(-1)

    @property
    def starts(self) -> Tensor:
        """Position of ``[BOS]``, int64 [B]."""
        return (self.kinds != BODY).sum(-1) - 1

    def take(self, rows: Tensor) -> TextBatch:
        """Returns the marked rows, bool [B], without padding-only columns."""
        width = int(self.lengths[rows].max()) if bool(rows.any()) else 0
        return replace(
            self,
            input_ids=self.input_ids[rows, :width],
            attention_mask=self.attention_mask[rows, :width],
            kinds=self.kinds[rows, :width],
            open_slots=self.open_slots[rows, :width],
            owner=self.owner[rows],
            shift=self.shift[rows],
        )

    def bodies(self) -> list[list[int]]:
        """Returns the bodies' token ids."""
        inside = self.attention_mask & (self.kinds == BODY)
        return [row[keep].tolist() for row, keep in zip(self.input_ids, inside, strict=True)]

    def insert(self, where: Tensor, tokens: Tensor) -> TextBatch:
        """Returns the texts with a token inserted right after each marked one.

        Args:
            where: bool [B, S].
            tokens: int64 [B, S], used where marked.

        Returns:
            The longer texts; slots of new tokens are open.
        """
        batch, width = where.shape
        before = where.long().cumsum(-1)  # insertions up to and including the slot, [B, S]
        place = torch.arange(width, device=where.device) + before - where.long()
        lengths = self.lengths + before[:, -1]
        wide = int(lengths.max())
        place = torch.where(self.attention_mask, place, wide)  # padding goes to a dropped column
        rows, slots = where.nonzero(as_tuple=True)
        new = place[rows, slots] + 1

        def grown(old: Tensor, fill: int | bool, inserted: Tensor | int | bool) -> Tensor:
            out = torch.full((batch, wide + 1), fill, dtype=old.dtype, device=old.device)
            out.scatter_(1, place, old)
            out[rows, new] = torch.as_tensor(inserted, dtype=old.dtype, device=old.device)
            return out[:, :wide]

        return replace(
            self,
            input_ids=grown(self.input_ids, 0, tokens[rows, slots]),
            attention_mask=torch.arange(wide, device=where.device) < lengths[:, None],
            kinds=grown(self.kinds, BODY, BODY),
            open_slots=grown(self.open_slots, False, True),
        )


_TENSORS = ("input_ids", "attention_mask", "kinds", "open_slots", "owner", "shift")


def _prefixes(prefixes: list[tuple[int, ...]], config: EncoderConfig) -> Prefixes:
    width = max(1, *map(len, prefixes)) if prefixes else 1
    ids = np.full((len(prefixes), width), config.pad_token_id, np.int64)
    mask = np.zeros(ids.shape, bool)
    for row, prefix in enumerate(prefixes):
        ids[row, : len(prefix)], mask[row, : len(prefix)] = prefix, True
    return Prefixes(torch.from_numpy(ids), torch.from_numpy(mask))
