"""Copies between the host and the device, and the shapes of what is computed there.

While the host waits for a copy, a GPU idles until the next pass is launched. So a round of the loop
makes at most one copy each way: :func:`upload` sends everything that the host decides (drafts,
penalties) together, from pinned memory and without waiting; :func:`download` fetches the chosen
tokens, and is the only point where the host waits.

Shapes that change with every token would need new kernels and new graphs, so widths and lengths are
rounded up on a GPU (:func:`padded_width`, :func:`padded_slots`). On a CPU nothing is copied or
rounded.
"""

from __future__ import annotations

from typing import Any

import torch

from codegen.kernels.tree_attention import PAGE


def upload(device: torch.device, *tensors: torch.Tensor) -> list[torch.Tensor]:
    """Copies host tensors to a device in one transfer, without waiting for it.

    Args:
        device: the target.
        tensors: int64 or float64, of any shapes.
    """
    if device.type == "cpu" or not tensors:
        return list(tensors)
    whole = torch.cat([tensor.reshape(-1).view(torch.int64) for tensor in tensors])
    if device.type == "cuda":
        whole = whole.pin_memory()
    parts = whole.to(device, non_blocking=True).split([tensor.numel() for tensor in tensors])
    pairs = zip(parts, tensors, strict=True)
    return [part.view(tensor.dtype).view(tensor.shape) for part, tensor in pairs]


def download(found: torch.Tensor) -> Any:
    """A tensor as nested lists; the host waits until the device has computed it."""
    if found.device.type == "cuda":
        pinned = torch.empty(found.shape, dtype=found.dtype, pin_memory=True)
        pinned.copy_(found, non_blocking=True)
        torch.cuda.current_stream(found.device).synchronize()
        found = pinned
    return found.tolist()


def wait(device: torch.device) -> None:
    """Waits until a device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def padded_width(width: int, device: torch.device) -> int:
    """Tokens per row of a pass: on a GPU the next power of two."""
    return width if device.type == "cpu" else 1 << (width - 1).bit_length()


def padded_slots(slots: int, device: torch.device) -> int:
    """Slots that a pass reads or a cache has: on a GPU the next multiple of 256."""
    return slots if device.type == "cpu" else -(-slots // PAGE) * PAGE
