"""What a cached key's position does to it, layer by layer, found by asking the model itself.

Keys are cached after the rotary position code (RoPE, arXiv 2104.09864): channels are taken in pairs
and pair t of a key at position p is turned by the angle p * f_t. Moving a key by D positions is one
more turn by D * f_t, the same for every token, head and old position (PIE, arXiv 2407.03157).

Which channels form a pair (halves or neighbours), how many rotate, with which frequencies, and in
which of the cached tensors they lie differs between architectures. A sequence of a single token
attends to itself alone, so its keys at two positions differ by that rotation and nothing else: one
forward pass over some tokens at two positions shows for every layer which candidate explains it
best, no rotation among them. A layer that none explains has no known repair: the model is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicCache, DynamicLayer

from codegen.decoding.passes import cache_argument
from codegen.errors import ModelError
from codegen.kernels.rotation import turned

_PROBED = (1, 18)  # positions, within any model's range
_TOKENS = 4
# What a candidate may leave unexplained, as a share of the states' norm; 16-bit types: _ROUGH.
_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-6}
_ROUGH = 1e-2


Part = Literal["keys", "values"]


@dataclass(frozen=True, eq=False)
class Rotation:
    """How the cached states of one layer turn when their position changes.

    Attributes:
        part: which cached tensor holds the rotated channels. Multi-head latent attention caches
            the latent as keys and the shared rotary key as values.
        frequencies: f_t in radians a position, float32 [R / 2]; the first R channels rotate.
        neighbours: whether pairs are channels (2t, 2t + 1) and not (t, t + R / 2).
    """

    part: Part
    frequencies: torch.Tensor
    neighbours: bool

    def turns(self, shifts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines, float32 [N, R / 2], of shifts int64 [N] in positions.

        They are pure: a factor on the cosines that a model applies (YaRN's attention scaling) is in
        the cached key already.
        """
        angles = shifts.double()[:, None] * self.frequencies.double()
        return angles.cos().float(), angles.sin().float()

    def turn(
        self, states: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor
    ) -> torch.Tensor:
        """States [..., N, D] turned by what :meth:`turns` gave, computed in float32."""
        return turned(states, cosines, sines, self.neighbours)


@torch.inference_mode()
def find_rotations(model: PreTrainedModel) -> list[Rotation | None]:
    """Each layer's rotation; None for layers whose states do not depend on the position.

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
                f"{type(model).__name__} can't be edited in its cache: the states of layer {number}"
                " depend on the position in another way than by a rotation (learned positions?).",
                "Use a model with rotary positions, or encode the whole context each time.",
            )
        found.append(rotation)
    return found


def _frequencies(model: PreTrainedModel) -> list[torch.Tensor]:
    """All distinct tables of frequencies that the model's modules hold, float32 [R / 2]."""
    found: list[torch.Tensor] = []
    for name, buffer in model.named_buffers():
        if name.endswith("inv_freq") and buffer.ndim == 1:
            table = buffer.detach().float().clone()
            if not any(table.shape == t.shape and torch.equal(table, t) for t in found):
                found.append(table)
    return found


def _identify(
    keys: torch.Tensor, values: torch.Tensor, tables: Sequence[torch.Tensor]
) -> tuple[Rotation | None, bool]:
    """The candidate that explains a layer's states best, and whether it explains them.

    Args:
        keys, values: [2 T, H, 1, D] and [2 T, H', 1, D'], T tokens at the first position and the
            same at the second one.
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
        rest = unmoved["values" if part == "keys" else "keys"]  # it must not have changed
        for table in tables:
            if 2 * len(table) > before.shape[-1]:
                continue
            for neighbours in (False, True):
                rotation = Rotation(part, table, neighbours)
                turned = rotation.turn(before, *rotation.turns(shift))
                left = _distance(turned, after) + rest
                if left < best[0]:
                    best = (left, rotation)
    return best[1], best[0] <= _TOLERANCE.get(keys.dtype, _ROUGH)


def _distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """The norm of the difference as a share of the norm."""
    return float((one.float() - other.float()).norm() / other.float().norm())
