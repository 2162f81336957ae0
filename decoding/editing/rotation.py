"""What a cached key's position does to it, layer by layer, found by asking the model itself.

Keys are cached after the rotary position code (RoPE, arXiv 2104.09864): channels are taken in pairs
and pair t of a key at position p is turned by the angle p * f_t. Moving a key by D positions is one
more turn by D * f_t, the same for every token, head and old position (PIE, arXiv 2407.03157).

Which channels form a pair (halves or neighbours), how many rotate, with which frequencies, and in
which of the cached tensors they lie differs between architectures. A sequence of a single token
attends to itself alone, so its keys at two positions differ by that rotation and nothing else: one
forward pass over one token at two positions shows for every layer which of the candidates is true.
A layer for which none is has no known repair and the model is refused.
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

# Far apart, so that slow pairs turn visibly too, and within any model's range.
_PROBED = (1, 18)
_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-6}  # relative; 16-bit types: 3e-2
_ROUGH = 3e-2


@dataclass(frozen=True, eq=False)
class Rotation:
    """How the cached states of one layer turn when their position changes.

    Attributes:
        part: which cached tensor holds the rotated channels. Multi-head latent attention caches
            the latent as keys and the shared rotary key as values.
        frequencies: f_t in radians a position, float32 [R / 2]; the first R channels rotate.
        neighbours: whether pairs are channels (2t, 2t + 1) and not (t, t + R / 2).
    """

    part: Literal["keys", "values"]
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
        rotary = 2 * len(self.frequencies)
        wide = states[..., :rotary].float()
        if self.neighbours:
            u, v = wide[..., 0::2], wide[..., 1::2]
        else:
            u, v = wide.chunk(2, dim=-1)
        turned = (u * cosines - v * sines, v * cosines + u * sines)
        if self.neighbours:
            wide = torch.stack(turned, dim=-1).flatten(-2)
        else:
            wide = torch.cat(turned, dim=-1)
        return torch.cat([wide.to(states.dtype), states[..., rotary:]], dim=-1)


@torch.inference_mode()
def find_rotations(model: PreTrainedModel) -> list[Rotation | None]:
    """Each layer's rotation; None for layers whose states do not depend on the position.

    Raises:
        ModelError: if a layer's states change with the position in an unknown way.
    """
    cache = DynamicCache()
    device = model.device
    token = model.config.get_text_config().vocab_size // 2
    options: dict[str, Any] = {cache_argument(type(model)): cache}
    model(
        input_ids=torch.full((2, 1), token, device=device),
        position_ids=torch.tensor(_PROBED, device=device)[:, None],
        use_cache=True,
        **options,
    )
    frequencies = _frequencies(model)
    found: list[Rotation | None] = []
    for number, layer in enumerate(cache.layers):
        assert isinstance(layer, DynamicLayer)
        assert layer.keys is not None and layer.values is not None
        parts = {"keys": layer.keys, "values": layer.values}
        moved = [name for name, states in parts.items() if not _alike(states[0], states[1])]
        if not moved:
            found.append(None)
            continue
        rotation = _identify(parts, frequencies) if len(moved) == 1 else None
        if rotation is None:
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
    parts: dict[str, torch.Tensor], frequencies: Sequence[torch.Tensor]
) -> Rotation | None:
    shift = torch.tensor([_PROBED[1] - _PROBED[0]], device=parts["keys"].device)
    for part in ("keys", "values"):
        before, after = parts[part][0], parts[part][1]  # [H, 1, D]
        for table in frequencies:
            if 2 * len(table) > before.shape[-1]:
                continue
            for neighbours in (False, True):
                rotation = Rotation(part, table, neighbours)
                if _alike(rotation.turn(before, *rotation.turns(shift)), after):
                    return rotation
    return None


def _alike(one: torch.Tensor, other: torch.Tensor) -> bool:
    tolerance = _TOLERANCE.get(one.dtype, _ROUGH)
    difference = (one.float() - other.float()).abs().max()
    return bool(difference <= tolerance * other.float().abs().max())
