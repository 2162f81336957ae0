"""Cached keys turned to new positions where they lie (PIE, arXiv 2407.03157).

What is read are the keys as the model encoded them, what is written the keys that attention uses,
so that a key is always one rotation away from what the model computed.
"""

from __future__ import annotations

import torch

from codegen.errors import InputError
from codegen.kernels.backend import close, run


def turn_cells(
    encoded: torch.Tensor,
    states: torch.Tensor,
    cells: torch.Tensor,
    cosines: torch.Tensor,
    sines: torch.Tensor,
    neighbours: bool,
) -> None:
    """Writes into ``states`` the turned ``encoded`` states of some cells, computed in float32.

    Args:
        encoded, states: [B, H, S, D], any float type.
        cells: int64 [N], each at most once.
        cosines, sines: float32 [N, R / 2]; the first R channels turn.
        neighbours: whether pairs are channels (2t, 2t + 1) and not (t, t + R / 2).

    Raises:
        InputError: if the shapes do not fit together.
    """
    if encoded.shape != states.shape or encoded.dtype != states.dtype:
        raise InputError("The encoded and the turned states differ in shape or type.")
    if cosines.shape != sines.shape or len(cosines) != len(cells):
        raise InputError("cosines and sines must be [N, R / 2] for N cells.")
    if 2 * cosines.shape[1] > states.shape[3]:
        raise InputError(f"States of {states.shape[3]} channels can't turn more of them.")
    if not len(cells):
        return
    turn = (cells, cosines, sines, neighbours)

    def by_kernel(onto: torch.Tensor) -> torch.Tensor:
        from codegen.kernels.gpu.rotation import launch

        launch(encoded, onto, *turn)
        return onto

    def plainly() -> torch.Tensor:
        reference(encoded, states, *turn)
        return states

    run(
        "turn_cells",
        states,
        lambda: by_kernel(states),
        plainly,
        close,
        rehearse=lambda: by_kernel(states.clone()),
        variant=(cosines.shape[1], neighbours),
    )


def reference(
    encoded: torch.Tensor,
    states: torch.Tensor,
    cells: torch.Tensor,
    cosines: torch.Tensor,
    sines: torch.Tensor,
    neighbours: bool,
) -> None:
    """The same by gathering, turning and scattering."""
    states.index_copy_(2, cells, turned(encoded.index_select(2, cells), cosines, sines, neighbours))


def turned(
    states: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor, neighbours: bool
) -> torch.Tensor:
    """States [..., N, D] turned, computed in float32; see :func:`turn_cells`."""
    rotary = 2 * cosines.shape[-1]
    wide = states[..., :rotary].float()
    u, v = (wide[..., 0::2], wide[..., 1::2]) if neighbours else wide.chunk(2, dim=-1)
    parts = (u * cosines - v * sines, v * cosines + u * sines)
    wide = torch.stack(parts, dim=-1).flatten(-2) if neighbours else torch.cat(parts, dim=-1)
    return torch.cat([wide.to(states.dtype), states[..., rotary:]], dim=-1)
