"""What crosses between the host and the device that computes, and in what shapes.

A copy that the host waits for costs a GPU more than it moves: the device idles until the host has
launched the next pass. So a round of the loop makes at most one copy each way: what the host
decides (drafts, penalties) goes up together by :func:`upload`, from pinned memory and without
waiting; what was chosen comes down by :func:`download`, the one point where the host waits.

Shapes that change with every token would need new kernels and new graphs, so off the CPU widths
and lengths are rounded up (:func:`padded_width`, :func:`padded_slots`). On a CPU nothing is copied
and nothing is rounded.
"""

from __future__ import annotations

from typing import Any

import torch

_SLOTS = 256


def upload(device: torch.device, *tensors: torch.Tensor) -> list[torch.Tensor]:
    """Tensors of the host on a device, all by one copy, for which the host does not wait.

    Args:
        device: where to.
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
    """Waits until a device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def padded_width(width: int, device: torch.device) -> int:
    """Tokens a row of a pass: the next power of two off the CPU."""
    return width if device.type == "cpu" else 1 << (width - 1).bit_length()


def padded_slots(slots: int, device: torch.device) -> int:
    """Slots that a pass reads or a cache has: the next multiple of 256 off the CPU."""
    return slots if device.type == "cpu" else -(-slots // _SLOTS) * _SLOTS
