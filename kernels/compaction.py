"""The states of an accepted path moved together, in all layers at once.

Node j of row b's tree lies at slot ``cursor_b + j`` of the cache. Once a path stands, its i-th node
belongs at ``cursor_b + 1 + i``; nothing else moves, and no key turns, since a node's position was
its depth all along. Paths go up in node numbers, so a slot is read before it is overwritten.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from codegen.errors import InputError
from codegen.kernels.backend import equal, run


def compact(states: Sequence[torch.Tensor], path: torch.Tensor, cursors: torch.Tensor) -> None:
    """Moves states in place.

    Args:
        states: keys and values of all layers, [B, H, S, D] each, alike in shape, type and strides.
        path: int64 [B, depth], the accepted nodes in ascending order, -1 behind the last.
        cursors: int64 [B], the slots of the nodes 0.

    Raises:
        InputError: if the tensors are not alike.
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
        from codegen.kernels.gpu.compaction import launch

        launch(onto, path, cursors)
        return tuple(onto)

    def plainly() -> tuple[torch.Tensor, ...]:
        reference(states, path, cursors)
        return ends

    run(
        "compact",
        first,
        lambda: by_kernel(states),
        plainly,
        equal,
        rehearse=lambda: by_kernel([tensor.clone() for tensor in ends]),
    )


def reference(states: Sequence[torch.Tensor], path: torch.Tensor, cursors: torch.Tensor) -> None:
    """The same, row by row; rows whose path lies together already cost nothing."""
    for row, (nodes, cursor) in enumerate(zip(path.tolist(), cursors.tolist(), strict=True)):
        kept = [node for node in nodes if node >= 0]
        if kept == list(range(1, len(kept) + 1)):
            continue
        source = cursor + torch.tensor(kept, device=path.device)
        for tensor in states:
            tensor[row, :, cursor + 1 : cursor + 1 + len(kept)] = tensor[row, :, source]
