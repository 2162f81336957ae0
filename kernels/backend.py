"""Which code runs: a Triton kernel where the device can run it, else the plain reference."""

from __future__ import annotations

import functools
import importlib.util
import os

import torch


@functools.cache
def triton_installed() -> bool:
    """Whether Triton can be imported (it has wheels for Linux only)."""
    return importlib.util.find_spec("triton") is not None


def interpreting() -> bool:
    """Whether Triton runs kernels in its interpreter, on tensors of the CPU."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def use_triton(tensor: torch.Tensor) -> bool:
    """Whether a kernel can work on this tensor."""
    return triton_installed() and (tensor.is_cuda or interpreting())
