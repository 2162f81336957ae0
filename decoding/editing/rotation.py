"""Models that support cache editing, and how positions rotate their cached keys.

Keys are cached with rotary positions (RoPE, arXiv 2104.09864): channels form pairs, and pair t of a
key at position p is rotated by the angle p * f_t. Moving a key by D positions adds a rotation by
D * f_t, the same for every token, head and old position (PIE, arXiv 2407.03157).

Architectures differ in which channels form a pair (halves or neighbors), how many rotate, at which
frequencies, and in which cached tensor. :func:`find_rotations` probes the model: a
sequence of one token attends only to itself, so its keys at two positions differ only by the
rotation. One forward pass over some tokens at two positions shows which candidate (or no rotation)
explains each layer best.

Unsupported, with the reason:

- attention other than sdpa, ALiBi, encoder-decoder models, chunked attention: the model would
  ignore our mask, or the mask would be wrong;
- linear attention and other recurrent layers: one state for the whole past cannot be edited;
- a layer whose states no candidate explains (learned positions);
- models whose logits through the cache differ from a plain forward pass's;
- ``dynamic`` (NTK) and ``longrope`` scaling beyond the original length: frequencies depend on the
  longest length so far, so keys cached at different lengths are incompatible.

Sliding windows are supported: all states are kept, and the mask applies the window.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicCache, DynamicLayer

from codegen.core.errors import ModelError
from codegen.decoding.cache import Rotation
from codegen.decoding.passes import cache_argument, check_architecture, check_attention_only

_PROBED = (1, 18)  # positions within any model's range
_TOKENS = 4
# Maximum unexplained fraction of the states' norm; _ROUGH for 16-bit types.
_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-6}
_ROUGH = 1e-2
BOUND_TO_LENGTH = ("dynamic", "longrope")  # rope types

Part = Literal["keys", "values"]


@dataclass(frozen=True)
class Support:
    """A model's properties that editing depends on.

    Attributes:
        name: the model's class name.
        rotations: one per layer.
        limit: maximum tokens per sequence; None if unlimited.
        reason: reason for the limit.
    """

    name: str
    rotations: list[Rotation | None]
    limit: int | None
    reason: str

    def check_length(self, length: int) -> None:
        """Rejects sequences beyond the limit.

        Raises:
            ModelError: if the sequence is too long; gives both lengths.
        """
        if self.limit is not None and length > self.limit:
            raise ModelError(
                f"A context of {length} tokens cannot be edited with {self.name}: {self.reason}.",
                f"Shorten it to {self.limit} tokens.",
            )


_known: weakref.WeakKeyDictionary[PreTrainedModel, Support] = weakref.WeakKeyDictionary()


def examine(model: PreTrainedModel) -> Support:
    """Returns a model's support for editing, cached per model.

    Raises:
        ModelError: if the model is unsupported.
    """
    if model not in _known:
        check_architecture(model)
        check_attention_only(model, "cache edits")
        limit, reason = _limit(model.config.get_text_config())
        _known[model] = Support(type(model).__name__, find_rotations(model), limit, reason)
    return _known[model]


def _limit(config: Any) -> tuple[int | None, str]:
    """Returns the maximum tokens per sequence, and the reason."""
    limit = getattr(config, "max_position_embeddings", None)
    reason = f"it supports {limit}"
    for scaling in rope_settings(config):
        kind = scaling.get("rope_type", scaling.get("type"))
        if kind not in BOUND_TO_LENGTH:
            continue
        original = (
            scaling.get("original_max_position_embeddings")
            or getattr(config, "original_max_position_embeddings", None)
            or limit
        )
        if original and (limit is None or original <= limit):
            limit = original
            reason = f"beyond {original} tokens its {kind} positions depend on the length"
    return limit, reason


def rope_settings(config: Any) -> list[dict[str, Any]]:
    """Returns the rotary position settings: one, or one per kind of layer."""
    settings = getattr(config, "rope_parameters", None) or {}
    nested = [value for value in settings.values() if isinstance(value, dict)]
    return nested or [settings]


@torch.inference_mode()
def find_rotations(model: PreTrainedModel) -> list[Rotation | None]:
    """Finds each layer's rotation; None for layers whose states do not depend on the position.

    Raises:
        ModelError: if a layer's states change with the position in an unknown way.
    """
    cache = DynamicCache()
    device = model.device
    last = model.config.get_text_config().vocab_size - 1
    tokens = torch.linspace(1, last, _TOKENS, device=device).long()
    options: dict[str, Any] = {cache_argument(type(model)): cache}
    model(
        input_ids=tokens.repeat(2)[:, None],
        position_ids=torch.tensor(_PROBED, device=device).repeat_interleave(_TOKENS)[:, None],
        use_cache=True,
        **options,
    )
    tables = _frequencies(model)
    found: list[Rotation | None] = []
    for number, layer in enumerate(cache.layers):
        assert isinstance(layer, DynamicLayer)
        assert layer.keys is not None and layer.values is not None
        rotation, is_right = _identify(layer.keys, layer.values, tables)
        if not is_right:
            raise ModelError(
                f"{type(model).__name__} does not support cache editing: the positions of layer "
                f"{number} are not rotary (learned positions?).",
                "Use a model with rotary positions, or encode the whole context each time.",
            )
        found.append(rotation)
    return found


def _frequencies(model: PreTrainedModel) -> list[torch.Tensor]:
    """Returns all distinct tables of frequencies in the model's modules, float32 [R / 2]."""
    found: list[torch.Tensor] = []
    for name, buffer in model.named_buffers():
        if name.endswith("inv_freq") and buffer.ndim == 1:
            table = buffer.detach().to(model.device, torch.float32, copy=True)
            if not any(table.shape == t.shape and torch.equal(table, t) for t in found):
                found.append(table)
    return found


def _identify(
    keys: torch.Tensor, values: torch.Tensor, tables: Sequence[torch.Tensor]
) -> tuple[Rotation | None, bool]:
    """Returns the rotation that best explains a layer's states, and True if it is good enough.

    Args:
        keys, values: [2 T, H, 1, D] and [2 T, H', 1, D'], of T tokens at the first position and
            the same tokens at the second.
    """
    shift = torch.tensor([_PROBED[1] - _PROBED[0]], device=keys.device)
    (keys_before, keys_after), (values_before, values_after) = keys.chunk(2), values.chunk(2)
    unmoved = {
        "keys": _distance(keys_before, keys_after),
        "values": _distance(values_before, values_after),
    }
    best: tuple[float, Rotation | None] = (unmoved["keys"] + unmoved["values"], None)
    parts: tuple[tuple[Part, torch.Tensor, torch.Tensor], ...] = (
        ("keys", keys_before, keys_after),
        ("values", values_before, values_after),
    )
    for part, before, after in parts:
        rest = unmoved["values" if part == "keys" else "keys"]  # must be unchanged
        for table in tables:
            if 2 * len(table) > before.shape[-1]:
                continue
            for neighbors in (False, True):
                rotation = Rotation(part, table, neighbors)
                turned = rotation.turn(before, *rotation.turns(shift))
                left = _distance(turned, after) + rest
                if left < best[0]:
                    best = (left, rotation)
    return best[1], best[0] <= _TOLERANCE.get(keys.dtype, _ROUGH)


def _distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """Returns the norm of the difference, relative to the norm of ``other``."""
    return float((one.float() - other.float()).norm() / other.float().norm())
