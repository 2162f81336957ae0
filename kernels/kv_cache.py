"""Changes cached states in place: compacts accepted paths, rotates keys to new positions.

:func:`compact`: the accepted nodes of a draft tree move to the slots after node 0's. No key is
rotated, since a node's position already is its depth. A node only moves to the slot of an earlier
node of its path, or of a rejected node, so a slot is read before it is overwritten.

:func:`turn_slots` (PIE, arXiv 2407.03157) reads the keys as the model encoded them and writes the
keys that attention uses, so a key is always one rotation away from the model's result.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from codegen.core.errors import InputError
from codegen.kernels.backend import close, equal, run


def compact(states: Sequence[torch.Tensor], sources: torch.Tensor, targets: torch.Tensor) -> None:
    """Moves states in place.

    Args:
        states: keys and values of all layers, [B, H, S, D] each, or [1, H, S, D] if the rows share
            their slots; of one shape, dtype and strides.
        sources, targets: int64 [B, N], the slots that a row's moves read and write, one move after
            the other; no move reads a slot that an earlier move wrote. Equal slots are no-ops.

    Raises:
        InputError: if the tensors differ in shape, dtype, strides or device.
    """
    if not states or not sources.numel():
        return
    first = states[0]
    for tensor in states:
        if (tensor.shape, tensor.dtype, tensor.stride(), tensor.device) != (
            first.shape, first.dtype, first.stride(), first.device,
        ):  # fmt: skip
            raise InputError("The layers' states differ in shape, type, strides or device.")

    def kernel(onto: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        from codegen.kernels.gpu.kv_cache import launch_compact

        return launch_compact(onto, sources, targets)

    run(
        "compact",
        first,
        lambda: kernel(states),
        lambda: reference_compact(states, sources, targets),
        equal,
        rehearse=lambda: kernel([first.clone(), states[-1].clone()]),
    )


def reference_compact(
    states: Sequence[torch.Tensor], sources: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Moves states by indexing; off the CPU, no-op moves are included, to avoid waiting."""
    rows = torch.arange(len(sources), device=sources.device)[:, None].expand(sources.shape)
    if len(states[0]) == 1:
        rows = torch.zeros_like(rows)
    if sources.device.type == "cpu":
        moves = sources != targets
        rows, sources, targets = rows[moves], sources[moves], targets[moves]
    for tensor in states:
        tensor[rows, :, targets] = tensor[rows, :, sources]
    return states[0], states[-1]


def turn_slots(
    encoded: torch.Tensor,
    states: torch.Tensor,
    slots: torch.Tensor,
    cosines: torch.Tensor,
    sines: torch.Tensor,
    neighbors: bool,
) -> None:
    """Rotates the ``encoded`` states of some slots in float32 and writes them into ``states``.

    Args:
        encoded, states: [B, H, S, D], any float type.
        slots: int64 [N], each at most once.
        cosines, sines: float32 [N, R / 2]; the first R channels rotate.
        neighbors: True if pairs are channels (2t, 2t + 1), False if (t, t + R / 2).

    Raises:
        InputError: if the shapes do not fit together.
    """
    if encoded.shape != states.shape or encoded.dtype != states.dtype:
        raise InputError("The encoded and the rotated states differ in shape or dtype.")
    if cosines.shape != sines.shape or len(cosines) != len(slots):
        raise InputError("cosines and sines must be [N, R / 2] for N slots.")
    if 2 * cosines.shape[1] > states.shape[3]:
        raise InputError(
            f"{2 * cosines.shape[1]} channels cannot be rotated: the states have only "
            f"{states.shape[3]}."
        )
    if not len(slots):
        return
    turn = (slots, cosines, sines, neighbors)

    def kernel(onto: torch.Tensor) -> torch.Tensor:
        from codegen.kernels.gpu.kv_cache import launch_turn

        return launch_turn(encoded, onto, *turn)

    run(
        "turn_slots",
        states,
        lambda: kernel(states),
        lambda: reference_turn(encoded, states, *turn),
        close,
        rehearse=lambda: kernel(states.clone()),
        variant=lambda: (cosines.shape[1], neighbors),
    )


def reference_turn(
    encoded: torch.Tensor,
    states: torch.Tensor,
    slots: torch.Tensor,
    cosines: torch.Tensor,
    sines: torch.Tensor,
    neighbors: bool,
) -> torch.Tensor:
    """Gathers, rotates and scatters the states; returns ``states``."""
    new = turned(encoded.index_select(2, slots), cosines, sines, neighbors)
    return states.index_copy_(2, slots, new)


def turned(
    states: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor, neighbors: bool
) -> torch.Tensor:
    """Rotates states [..., N, D], computed in float32; see :func:`turn_slots`."""
    rotary = 2 * cosines.shape[-1]
    wide = states[..., :rotary].float()
    u, v = (wide[..., 0::2], wide[..., 1::2]) if neighbors else wide.chunk(2, dim=-1)
    parts = (u * cosines - v * sines, v * cosines + u * sines)
    wide = torch.stack(parts, dim=-1).flatten(-2) if neighbors else torch.cat(parts, dim=-1)
    return torch.cat([wide.to(states.dtype), states[..., rotary:]], dim=-1)
