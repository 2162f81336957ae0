"""LM-Infinite: contexts beyond a model's length, without fine-tuning.

**LM-Infinite.** Source: Han et al., *LM-Infinite: Zero-Shot Extreme Length Generalization for Large
Language Models* (NAACL 2024, arXiv 2308.16137). It changes the attention of a model with rotary
positions in two ways:

- the Λ-shaped mask: query i attends to key j <= i iff j < ``n_global`` or i - j < ``n_local``;
- the distance cap: relative distances are min(i - j, ``n_local``), so that the first tokens are
  never farther away than any token in training.

Only first tokens can be beyond the cap, and all of these have the same distance. Their scores come
from keys rotated to position 0 and queries rotated to position ``n_local``, by the rotations of
``codegen.decoding.editing``, which cover all channel pairs and frequencies.
All other scores are the model's own.

In the decoding loop (``decode(..., infinite=...)``) a full row moves the states visible to its next
token to the front and rotates their keys back. So slots, positions and memory stay bounded for any
row length, and drafts and ragged batches still work. :func:`extended` changes a
model within a ``with`` block, including its ``forward`` and ``generate``, which keep all states.

The middle of the context is dropped: good for streams, but not for code whose definitions are far
away. Unsupported: sliding windows, frequencies that depend on the length (``dynamic``,
``longrope``), positions that are not rotary, logit softcapping, sinks, padding outside the loop.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from codegen.core.errors import ConfigError, ModelError
from codegen.decoding.cache import CacheLayer, KVCache, Rotation
from codegen.decoding.editing.rotation import BOUND_TO_LENGTH, find_rotations, rope_settings
from codegen.decoding.passes import (
    IN_PLACE,
    check_architecture,
    check_attention_only,
    forward,
    sliding_window,
)
from codegen.decoding.sequences import CachedRows, Trees

_NAME = "lm_infinite"
BLOCK = 256  # queries whose scores are in memory at once
_rotations: weakref.WeakKeyDictionary[PreTrainedModel, list[Rotation | None]] = (
    weakref.WeakKeyDictionary()
)


@dataclass(frozen=True, slots=True)
class LMInfinite:
    """Visible part of a context.

    Attributes:
        n_global: number of first tokens that are always visible; 10 to 100 in the paper.
        n_local: number of latest tokens that are visible, and the largest distance; the training
            length in the paper.
    """

    n_global: int = 10
    n_local: int = 2048

    def __post_init__(self) -> None:
        if self.n_global < 0 or self.n_local < 1:
            raise ConfigError(
                f"LM-Infinite cannot use n_global {self.n_global} and n_local {self.n_local}.",
                "Set n_global to 0 or more and n_local to 1 or more.",
            )

    @property
    def kept(self) -> int:
        """Number of tokens that a token attends to, without itself."""
        return self.n_global + self.n_local - 1


def check(model: PreTrainedModel, settings: LMInfinite) -> list[Rotation | None]:
    """Checks that a model's context can be extended; returns its layers' rotations.

    Raises:
        ModelError: if the model is unsupported; says why.
    """
    check_architecture(model)
    check_attention_only(model, "unlimited contexts")
    config = model.config.get_text_config()

    def refused(reason: str, remedy: str = "Use it within its own context length.") -> ModelError:
        name = type(model).__name__
        return ModelError(f"The context of {name} cannot be extended: {reason}.", remedy)

    if config._attn_implementation not in ("sdpa", IN_PLACE):  # its attention would be replaced
        raise refused(f"it runs with {config._attn_implementation!r} attention")
    if "chunked_attention" in (getattr(config, "layer_types", None) or ()):
        raise refused("its attention is chunked")
    if sliding_window(model):
        raise refused(f"it has a sliding window of {config.sliding_window} tokens")
    if kind := bound_to_length(config):
        raise refused(f"its {kind} frequencies depend on the length", "Choose another rope_type.")
    limit = getattr(config, "max_position_embeddings", None)
    if limit and settings.n_local > limit:
        raise refused(
            f"its maximum distance is {limit}, below n_local {settings.n_local}",
            f"Set n_local to {limit} or less.",
        )
    if model not in _rotations:
        try:
            _rotations[model] = find_rotations(model)
        except ModelError:
            raise refused("its positions are not rotary") from None
    found = _rotations[model]
    if any(rotation is not None and rotation.part != "keys" for rotation in found):
        raise refused("its rotating channels are not in its keys")
    return found


@contextmanager
def extended(model: PreTrainedModel, settings: LMInfinite) -> Iterator[Extension]:
    """Applies LM-Infinite's attention to the model within the block.

    Its forward passes accept rows without padding, and no cache or a ``DynamicCache``.

    Args:
        model: loaded with ``sdpa`` attention, in evaluation mode.
        settings: see :class:`LMInfinite`.

    Raises:
        ModelError: see :func:`check`.
    """
    rotations = check(model, settings)
    AttentionInterface.register(_NAME, _attention)
    AttentionMaskInterface.register(_NAME, _no_mask)
    extension = Extension(settings, rotations)
    modules: list[Any] = [
        module
        for module in model.modules()
        if isinstance(getattr(module, "layer_idx", None), int) and hasattr(module, "config")
    ]
    for module in modules:
        module.lm_infinite = extension
    before: Any = model.config.get_text_config()._attn_implementation
    model.set_attn_implementation(_NAME)
    try:
        yield extension
    finally:
        model.set_attn_implementation(before)
        for module in modules:
            del module.lm_infinite


class Extension:
    """A model's attention and the loop's cache under LM-Infinite.

    Attributes:
        settings: see :class:`LMInfinite`.
        rotations: one per layer.
    """

    def __init__(self, settings: LMInfinite, rotations: Sequence[Rotation | None]) -> None:
        self.settings, self.rotations = settings, rotations
        self._positions: torch.Tensor | None = None
        self._measured = self._far = False

    def is_far(self, positions: torch.Tensor) -> bool:
        """Returns True if a query of ``positions`` [.., Q] is beyond the cap; cached per pass."""
        if not self._measured and self._positions is not positions:
            self._positions = positions
            self._far = bool((positions >= self.settings.n_local).any())
        return self._far

    def measured(self, reach: int) -> None:
        """Computes :meth:`is_far` for the next pass, whose positions are below ``reach``; from then
        on each pass must be measured.
        """
        self._measured, self._far = True, reach > self.settings.n_local

    def restrict(self, mask: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Restricts a mask over slots, bool [B, 1, Q, S], to the Λ shape for positions [B, Q]."""
        slots = torch.arange(mask.shape[-1], device=mask.device)
        near = positions[:, None, :, None] - slots < self.settings.n_local
        return mask & (near | (slots < self.settings.n_global))

    def rows(self, model: PreTrainedModel, longest: int, drafted: int) -> BoundedRows:
        """Builds the rows of a decoding loop, with twice the visible slots, so that states move
        only once per ``n_local`` tokens.

        Args:
            model: the extended model.
            longest: maximum tokens per row.
            drafted: maximum drafted tokens per round.
        """
        kept, width = self.settings.kept, drafted + 1
        spare = max(self.settings.n_local, 2 * width, BLOCK)
        return BoundedRows(model, self, min(longest + width, kept + spare))

    def forget(self, cache: KVCache, row: int, cursor: int) -> int:
        """Drops states that tokens from ``cursor`` on cannot attend to; returns the new cursor.

        The first tokens stay. The last ones move up to follow them, and their keys are rotated back
        by as many positions, which keeps their distances; first tokens are at the cap anyway.
        """
        count = cursor - self.settings.kept
        if count <= 0:
            return cursor
        first = self.settings.n_global
        for layer, rotation in zip(cache.layers, self.rotations, strict=True):
            assert isinstance(layer, CacheLayer)
            all_keys, all_values = layer.states
            keys = all_keys[row, :, first + count : cursor].clone()
            values = all_values[row, :, first + count : cursor].clone()
            if rotation is not None:
                shift = torch.full((1,), -count, device=keys.device)  # no copy from the host
                keys = rotation.turn(keys, *rotation.turns(shift))
            all_keys[row, :, first : cursor - count] = keys
            all_values[row, :, first : cursor - count] = values
        return cursor - count


class BoundedRows(CachedRows):
    """Rows of any length in a fixed number of slots; a full row drops its middle.

    Args:
        model: the extended model.
        extension: its extension.
        capacity: slots per row.
    """

    def __init__(self, model: PreTrainedModel, extension: Extension, capacity: int) -> None:
        super().__init__(model, capacity)
        self.extension = extension
        # Positions are slot numbers, regardless of the model's context length.
        self._last_position = self.capacity - 1
        self._replays = None  # the computation depends on the largest position

    def make_room(self, width: int) -> None:
        """Drops the middle of rows that the trees would overflow."""
        for i, cursor in enumerate(self.cursors):
            if cursor + width > self.capacity:
                self.cursors[i] = self.extension.forget(self.cache, i, cursor)

    def place(self, trees: Trees, first: int = 0) -> torch.Tensor:
        """Places the trees after making room; see :class:`CachedRows`."""
        before = list(self.cursors)
        self.make_room(trees.width)
        if self.cursors != before:
            trees.cursors = None
        mask = super().place(trees, first)
        self.extension.measured(max(self.cursors) + trees.width)
        return self.extension.restrict(mask, self.cache.slots.positions)

    def _encoded(self, given: Sequence[list[int]]) -> tuple[KVCache, list[int]]:
        capacity = self.capacity
        if (reach := max(map(len, given))) <= min(self.extension.settings.n_local, capacity):
            self.extension.measured(reach)
            return super()._encoded(given)
        alone = [self._encoded_alone(tokens[:-1], capacity) for tokens in given]
        # The longest comes first: a one-token prompt's cache is empty and can only join another.
        order = sorted(range(len(given)), key=lambda row: -len(given[row]))
        together, *others = (alone[row][0] for row in order)
        for cache in others:
            together.join(cache, 1)
        together.select(torch.tensor(order, device=self.device).argsort())
        return together, [cursor for _, cursor in alone]

    def _encoded_alone(self, tokens: list[int], capacity: int) -> tuple[KVCache, int]:
        cache, cursor = KVCache(len(self.cache.layers), capacity), 0
        at = 0
        while at < len(tokens):
            if cursor == capacity:
                cursor = self.extension.forget(cache, 0, cursor)
            part = tokens[at : at + capacity - cursor]
            count = len(part)
            positions = torch.arange(cursor, cursor + count, device=self.device)[None]
            cache.place(positions, cursor + count)
            mask = self.extension.restrict(cache.mask(), positions)
            self.extension.measured(cursor + count)
            forward(self.model, torch.tensor([part], device=self.device), cache, mask, 1)
            at, cursor = at + count, cursor + count
        return cache, cursor


def _attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    position_ids: torch.Tensor | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Computes attention under LM-Infinite, as an attention function of transformers.

    Args:
        module: the layer.
        query: [B, H, Q, D], rotated to its positions.
        key, value: [B, H', S, D]. With a mask these are the loop's slots; otherwise all tokens up
            to the queries' own.
        attention_mask: bool [B, 1, Q, S] or None.
        scaling: factor of the scores.
        position_ids: int64 [B, Q].
        options: other options; rejected if they would change the result.
    """
    if position_ids is None or options.get("softcap") or options.get("s_aux") is not None:
        raise ModelError(
            f"The context of {type(module).__name__} cannot be extended: it has attention sinks or "
            "logit softcapping, or does not pass positions to its attention."
        )
    if module.training:
        raise ModelError("LM-Infinite supports inference only.", "Call model.eval() first.")
    extension: Extension = module.lm_infinite
    settings, rotation = extension.settings, extension.rotations[module.layer_idx]
    scale: float = query.shape[-1] ** -0.5 if scaling is None else scaling
    queries, slots = query.shape[2], key.shape[2]
    columns = torch.arange(slots, device=query.device)
    first = min(settings.n_global, slots)
    output = []
    for start in range(0, queries, BLOCK):
        stop = min(start + BLOCK, queries)
        at = position_ids[:, start:stop]  # [B, q]
        if attention_mask is not None:
            allowed = attention_mask[:, :, start:stop]
        else:
            allowed = extension.restrict((columns <= at[:, :, None])[:, None], at)
        capped = None
        if rotation is not None and first and extension.is_far(position_ids):
            capped = _capped(query[:, :, start:stop], key[:, :, :first], at, rotation, settings)
        output.append(_attend(query[:, :, start:stop], key, value, allowed, scale, capped))
    return torch.cat(output, 1), None


def _capped(
    query: torch.Tensor,
    key: torch.Tensor,
    positions: torch.Tensor,
    rotation: Rotation,
    settings: LMInfinite,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns products [B, H, q, G] at the cap's distance, and their mask, bool [B, 1, q, G]."""
    first = torch.arange(key.shape[2], device=key.device)
    far = (positions[:, None, :, None] - first) >= settings.n_local
    # A query at p is rotated to n_local, a key at j to 0: n_local apart.
    shape = (*positions.shape[:1], 1, positions.shape[1], -1)
    turns = rotation.turns((settings.n_local - positions).flatten())
    turned = rotation.turn(query, *(part.view(shape) for part in turns))
    back = rotation.turn(key, *rotation.turns(-first))
    return _products(turned, back), far


def _products(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """Computes products [B, H, q, S] of each query-head group with its key head."""
    rows, heads, count, width = query.shape
    grouped = query.reshape(rows, key.shape[1], -1, width)
    return (grouped @ key.transpose(2, 3)).view(rows, heads, count, key.shape[2])


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    allowed: torch.Tensor,
    scaling: float,
    capped: tuple[torch.Tensor, torch.Tensor] | None,
) -> torch.Tensor:
    """Computes softmax attention, [B, q, H, D]."""
    scores = _products(query, key)
    if capped is not None:
        products, far = capped
        first = products.shape[-1]
        scores[..., :first] = torch.where(far, products, scores[..., :first])
    wide = torch.promote_types(scores.dtype, torch.float32)
    scores = (scores.to(wide) * scaling).masked_fill(~allowed, -torch.inf)
    weights = torch.softmax(scores, -1).to(value.dtype)
    rows, heads, count, slots = weights.shape
    grouped = weights.reshape(rows, value.shape[1], -1, slots) @ value
    return grouped.view(rows, heads, count, value.shape[3]).transpose(1, 2)


def _no_mask(*_: Any, attention_mask: torch.Tensor | None = None, **__: Any) -> None:
    """Returns no mask, as the attention makes its own; rejects padding, which shifts positions."""
    if attention_mask is not None and not bool(attention_mask.all()):
        raise ModelError(
            "LM-Infinite does not support padded rows.",
            "Use rows of one length, or codegen.decoding.loop.decode.",
        )


def bound_to_length(config: Any) -> str:
    """Returns a model's rope type if its frequencies depend on the current length; else ""."""
    kinds = [settings.get("rope_type") for settings in rope_settings(config)]
    return next((kind for kind in kinds if kind in BOUND_TO_LENGTH), "")
