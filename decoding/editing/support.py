"""Which models can be edited in their cache, and how long their sequences may be.

What is refused and why:

- attention other than sdpa, ALiBi, encoder-decoder models, chunked attention: the mask given to the
  model would not be honoured or not be right;
- linear attention and other recurrent layers: one state for the whole past, nothing to edit;
- positions that are learned or otherwise not a rotation (:mod:`rotation`);
- models whose logits through the cells are not those of their plain forward pass;
- ``dynamic`` (NTK) and ``longrope`` scaling beyond the original length, where frequencies depend on
  the longest length seen: keys encoded on both sides do not fit together. Shorter is fine.

Sliding windows are supported: all states are kept and the mask holds the window.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel

from codegen.decoding.editing.rotation import Rotation, find_rotations
from codegen.decoding.passes import check_architecture
from codegen.errors import ModelError

_BOUND_TO_LENGTH = ("dynamic", "longrope")


@dataclass(frozen=True)
class Support:
    """What editing needs to know of a model.

    Attributes:
        name: of its class.
        rotations: of its layers.
        window: of its sliding-window layers, None if it has none.
        by_kind: whether the model takes one mask for each kind of layer.
        limit: most tokens of a sequence, None if there is no limit.
        reason: what the limit is.
    """

    name: str
    rotations: list[Rotation | None]
    window: int | None
    by_kind: bool
    limit: int | None
    reason: str

    def check_length(self, length: int) -> None:
        """Refuses sequences beyond the limit.

        Raises:
            ModelError: naming both lengths.
        """
        if self.limit is not None and length > self.limit:
            raise ModelError(
                f"A context of {length} tokens can't be edited with {self.name}: {self.reason}.",
                f"Shorten it to {self.limit} tokens.",
            )


_known: weakref.WeakKeyDictionary[PreTrainedModel, Support] = weakref.WeakKeyDictionary()


def examine(model: PreTrainedModel) -> Support:
    """What editing needs to know; looked at once for each model.

    Raises:
        ModelError: if the model is refused.
    """
    found = _known.get(model)
    if found is None:
        found = _known[model] = _examine(model)
    return found


def _examine(model: PreTrainedModel) -> Support:
    name = type(model).__name__
    if getattr(model, "_is_stateful", False):
        raise ModelError(
            f"{name} can't be edited in its cache: recurrent layers keep one state for all tokens.",
            "Use a model with attention in all layers, or encode the whole context each time.",
        )
    check_architecture(model)
    config = model.config.get_text_config()
    window = _window(config)
    kinds = set(getattr(config, "layer_types", None) or ())
    limit, reason = _limit(config)
    return Support(
        name,
        find_rotations(model),
        window,
        window is not None and "sliding_attention" in kinds,
        limit,
        reason,
    )


def _window(config: Any) -> int | None:
    """The width of the sliding window, None if no layer has one."""
    window = getattr(config, "sliding_window", None)
    if not window or not getattr(config, "use_sliding_window", True):
        return None
    kinds = getattr(config, "layer_types", None)
    return window if not kinds or "sliding_attention" in kinds else None


def _limit(config: Any) -> tuple[int | None, str]:
    """The most tokens of a sequence, and why."""
    limit = getattr(config, "max_position_embeddings", None)
    reason = f"it holds {limit}"
    for scaling in _scalings(config):
        kind = scaling.get("rope_type", scaling.get("type"))
        if kind not in _BOUND_TO_LENGTH:
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


def _scalings(config: Any) -> list[dict[str, Any]]:
    """The settings of rotary positions: one, or one for each kind of layer."""
    settings = getattr(config, "rope_parameters", None) or {}
    nested = [value for value in settings.values() if isinstance(value, dict)]
    return nested or [settings]
