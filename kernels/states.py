"""Changes cached states in place: moves an accepted path together, turns keys to new positions.

:func:`compact`: node j of row b's tree is in slot ``cursor_b + j`` of the cache. The i-th node of
an accepted path moves to ``cursor_b + 1 + i``. No key is turned, since a node's position is its
depth already. Paths ascend, so a slot is read before it is overwritten.

:func:`turn_slots` (PIE, arXiv 2407.03157) reads the keys as the model encoded them and writes the
keys that attention uses, so a key is always one rotation away from what the model computed.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from codegen.errors import InputError
from codegen.kernels.backend import close, equal, run


def compact(states: Sequence[torch.Tensor], path: torch.Tensor, cursors: torch.Tensor) -> None:
    """Moves states in place.

    Args:
        states: keys and values of all layers, [B, H, S, D] each, of one shape, dtype and strides.
        path: int64 [B, depth], the accepted nodes in ascending order, padded with -1.
        cursors: int64 [B], the slots of the nodes 0.

    Raises:
        InputError: if the tensors differ in shape, dtype, strides or device.
    """
    if not states or not path.numel():
        return
    first = states[0]
    for tensor in states:
        if (tensor.shape, tensor.dtype, tensor.stride(), tensor.device) != (
            first.shape, first.dtype, first.stride(), first.device,
        ):  # fmt: skip
            raise InputError("The layers' states differ in shape, type, strides or device.")
    ends = (first, states[-1])

    def by_kernel(onto: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        from codegen.kernels.gpu.states import launch_compact

        launch_compact(onto, path, cursors)
        return tuple(onto)

    def plainly() -> tuple[torch.Tensor, ...]:
        reference_compact(states, path, cursors)
        return ends

    run(
        "compact",
        first,
        lambda: by_kernel(states),
        plainly,
        equal,
        rehearse=lambda: by_kernel([tensor.clone() for tensor in ends]),
    )


def reference_compact(
    states: Sequence[torch.Tensor], path: torch.Tensor, cursors: torch.Tensor
) -> None:
    """The same by indices; off the CPU it moves all of ``path``, so as not to wait."""
    steps = torch.arange(1, path.shape[1] + 1, device=path.device)
    rows = torch.arange(len(path), device=path.device)
    if path.device.type == "cpu":
        path = path[:, : int((path >= 0).sum(1).max())]
        steps = steps[: path.shape[1]]
        rows = ((path >= 0) & (path != steps)).any(1).nonzero()[:, 0]
    path, first = path[rows], cursors[rows, None]
    target, source = first + steps, first + path.where(path >= 0, steps)
    for tensor in states:
        tensor[rows[:, None], :, target] = tensor[rows[:, None], :, source]


def turn_slots(
    encoded: torch.Tensor,
    states: torch.Tensor,
    slots: torch.Tensor,
    cosines: torch.Tensor,
    sines: torch.Tensor,
    neighbors: bool,
) -> None:
    """Turns the ``encoded`` states of some slots in float32 and writes them into ``states``.

    Args:
        encoded, states: [B, H, S, D], any float type.
        slots: int64 [N], each at most once.
        cosines, sines: float32 [N, R / 2]; the first R channels turn.
        neighbors: whether pairs are channels (2t, 2t + 1) and not (t, t + R / 2).

    Raises:
        InputError: if the shapes do not fit together.
    """
    if encoded.shape != states.shape or encoded.dtype != states.dtype:
        raise InputError("The encoded and the turned states differ in shape or type.")
    if cosines.shape != sines.shape or len(cosines) != len(slots):
        raise InputError("cosines and sines must be [N, R / 2] for N slots.")
    if 2 * cosines.shape[1] > states.shape[3]:
        raise InputError(f"States of {states.shape[3]} channels can't turn more of them.")
    if not len(slots):
        return
    turn = (slots, cosines, sines, neighbors)

    def by_kernel(onto: torch.Tensor) -> torch.Tensor:
        from codegen.kernels.gpu.states import launch_turn

        launch_turn(encoded, onto, *turn)
        return onto

    def plainly() -> torch.Tensor:
        reference_turn(encoded, states, *turn)
        return states

    run(
        "turn_slots",
        states,
        lambda: by_kernel(states),
        plainly,
        close,
        rehearse=lambda: by_kernel(states.clone()),
        variant=lambda: (cosines.shape[1], neighbors),
    )


def reference_turn(
    encoded: torch.Tensor,
    states: torch.Tensor,
    slots: torch.Tensor,
    cosines: torch.Tensor,
    sines: torch.Tensor,
    neighbors: bool,
) -> None:
    """The same by gathering, turning and scattering."""
    states.index_copy_(2, slots, turned(encoded.index_select(2, slots), cosines, sines, neighbors))


def turned(
    states: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor, neighbors: bool
) -> torch.Tensor:
    """States [..., N, D] turned, computed in float32; see :func:`turn_slots`."""
    rotary = 2 * cosines.shape[-1]
    wide = states[..., :rotary].float()
    u, v = (wide[..., 0::2], wide[..., 1::2]) if neighbors else wide.chunk(2, dim=-1)
    parts = (u * cosines - v * sines, v * cosines + u * sines)
    wide = torch.stack(parts, dim=-1).flatten(-2) if neighbors else torch.cat(parts, dim=-1)
    return torch.cat([wide.to(states.dtype), states[..., rotary:]], dim=-1)
