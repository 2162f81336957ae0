"""Copies between the host and the device, and the shapes of device computations.

While the host waits for a copy, a GPU idles until the next pass is launched. So a round of the loop
makes at most one copy each way: :func:`upload` sends everything that the host decides (drafts,
penalties) together, from pinned memory and without waiting; :func:`download` fetches the chosen
tokens, and is the only point where the host waits.

Shapes that change with every token would need new kernels and new graphs, so widths and lengths are
rounded up on a GPU (:func:`padded_width`, :func:`padded_slots`). On a CPU neither is needed.

A pass launches several hundred kernels, which takes the host 2 to 3 ms for 30 layers regardless
of the model's size; a CUDA graph of it is one launch (:class:`CapturedGraphs`). A graph reads and
writes fixed addresses, so inputs are copied to the captured addresses.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from codegen.kernels.backend import TRIALS, close
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
    """Returns a tensor as nested lists; the host waits until the device has computed it."""
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
    """Returns the width, rounded up to a power of two on a GPU."""
    return width if device.type == "cpu" else 1 << (width - 1).bit_length()


def padded_slots(slots: int, device: torch.device) -> int:
    """Returns the slots of a pass or a cache, rounded up to a multiple of 256 on a GPU."""
    return slots if device.type == "cpu" else -(-slots // PAGE) * PAGE


Tensors = Mapping[str, torch.Tensor]
Replay = tuple[Callable[[], None], torch.Tensor]
"""A function that repeats a computation, and the tensor that it writes."""
Capture = Callable[[Callable[[], torch.Tensor]], Replay]

_MOST = 32  # graphs kept


def cuda_graphs() -> Capture:
    """Returns a function that captures computations as CUDA graphs.

    The computation must have run once, so that its kernels are compiled. Graphs share their memory:
    a result is valid until another graph is replayed.
    """
    pool = torch.cuda.graph_pool_handle()

    def capture(compute: Callable[[], torch.Tensor]) -> Replay:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            result = compute()
        return graph.replay, result

    return capture


@dataclass(frozen=True, slots=True)
class _Captured:
    inputs: Tensors
    replay: Callable[[], None]
    result: torch.Tensor


class CapturedGraphs:
    """Captured computations by key and shape.

    The first passes of a shape run normally: kernels are compiled and pass their trials
    (:mod:`codegen.kernels.backend`), which is not possible in a capture. Then a pass is captured,
    and its replay compared with the computation. If either fails, all later passes run normally,
    after one warning.

    Args:
        capture: makes a graph of a computation.
    """

    def __init__(self, capture: Capture) -> None:
        self._capture = capture
        self._layout: object = None
        self._known: dict[object, _Captured | int] = {}  # int: number of passes so far
        self._works = True

    def run(
        self,
        key: object,
        layout: object,
        inputs: Tensors,
        compute: Callable[[Tensors], torch.Tensor],
    ) -> torch.Tensor:
        """Returns the result of a computation; the next computation overwrites it.

        Args:
            key: properties that the computation depends on, besides the inputs and their shapes.
            layout: a new object whenever memory that ``compute`` uses besides the inputs has moved.
            inputs: tensors by name; the dtype of a name is fixed.
            compute: must be repeatable: running it twice has the effect of running it once.
        """
        key = (key, *((name, *tensor.shape) for name, tensor in inputs.items()))
        if layout is not self._layout or len(self._known) > _MOST:
            self._layout, self._known = layout, {}
        kept = self._known.get(key, 0)
        if isinstance(kept, int) and (kept < TRIALS or not self._works):
            self._known[key] = kept + 1
            return compute(inputs)
        if isinstance(kept, int):
            own = {name: tensor.clone() for name, tensor in inputs.items()}
            try:
                replay, result = self._capture(lambda: compute(own))
                replay()
                if not close(result, compute(own)):
                    raise RuntimeError("a replayed CUDA graph returns different values")
            except RuntimeError as error:
                self._works = False
                warnings.warn(
                    f"CUDA graphs are disabled ({error}); passes launch each kernel.",
                    RuntimeWarning,
                    stacklevel=2,
                )
                return compute(inputs)
            kept = self._known[key] = _Captured(own, replay, result)
        for name, tensor in inputs.items():
            kept.inputs[name].copy_(tensor)
        kept.replay()
        return kept.result
