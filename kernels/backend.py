"""Runs a Triton kernel where the device supports it, else the plain reference.

The first results of a kernel on a new kind of GPU are compared with the reference's, which are used
meanwhile. If a kernel differs, or can't be compiled or launched, the reference is used for the rest
of the process, with one warning. A kernel that agreed is remembered for later processes
(:mod:`codegen.kernels.known`). (A fault inside a running kernel ends the process's use of the
device, as always.)
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch

from codegen.kernels.known import known

TRIALS = 8  # compared results
_T = TypeVar("_T")
_Tensors = torch.Tensor | tuple[torch.Tensor, ...]
_Key = tuple[torch.device, str]

_left: dict[_Key, int] = {}  # remaining comparisons
_failed: set[_Key] = set()
_announced: set[torch.device] = set()
_trusting = False


@functools.cache
def triton_installed() -> bool:
    """Whether Triton can be imported (it has wheels for Linux only)."""
    return importlib.util.find_spec("triton") is not None


def interpreting() -> bool:
    """Whether Triton interprets kernels, on CPU tensors."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def use_triton(tensor: torch.Tensor) -> bool:
    """Whether a kernel can process this tensor."""
    return triton_installed() and (tensor.is_cuda or interpreting())


def run(
    name: str,
    like: torch.Tensor,
    kernel: Callable[[], _T],
    reference: Callable[[], _T],
    same: Callable[[_T, _T], bool],
    rehearse: Callable[[], _T] | None = None,
    variant: Callable[[], tuple[int, ...]] = tuple,
) -> _T:
    """The kernel's result, or the reference's if the kernel can't run or is not trusted.

    Args:
        name: the kernel's name, for the warning.
        like: a tensor with the device, dtype and last dimension that the kernel is compiled for.
        kernel, reference: compute the result.
        same: whether two results agree.
        rehearse: called for comparisons instead of ``kernel``, and before ``reference``, if
            ``kernel`` changes its arguments.
        variant: what the kernel is compiled for besides ``like``; called only where a kernel can
            run.
    """
    if not use_triton(like):
        return reference()
    if interpreting() or _trusting:
        with _current(like.device):
            return kernel()
    dtype = str(like.dtype).removeprefix("torch.")
    form = " ".join(map(str, (name, dtype, like.shape[-1], *variant())))
    key, facts = (like.device, form), known(like.device)
    if form in facts.proved and key not in _failed:
        with _current(like.device):
            return kernel()
    if key in _failed or (like.is_cuda and torch.cuda.is_current_stream_capturing()):
        return reference()  # results can't be compared while a graph is captured
    if not facts.proved and like.device not in _announced:
        _announced.add(like.device)
        warnings.warn(
            f"The GPU kernels have not run on {facts.device} before; their first results are"
            " compared with PyTorch's. To check and time all of them: codegen bench gpu.",
            RuntimeWarning,
            stacklevel=3,
        )
    trouble = "its result differs from PyTorch's"
    found: list[_T] = []
    try:
        with _current(like.device):
            found.append((rehearse or kernel)())
    except Exception as error:  # noqa: BLE001 - from a compiler or a driver
        trouble = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    expected = reference()
    if found and same(found[0], expected):
        _left[key] = _left.get(key, TRIALS) - 1
        if not _left[key]:
            facts.proved.add(form)
            facts.save()
    else:
        _failed.add(key)
        warnings.warn(
            f"The kernel {name} is not used on {like.device} ({trouble}); PyTorch is used instead.",
            RuntimeWarning,
            stacklevel=2,
        )
    return expected


@contextlib.contextmanager
def without_trials() -> Iterator[None]:
    """Skips the comparisons, for tests and benchmarks that make their own."""
    global _trusting
    before, _trusting = _trusting, True
    try:
        yield
    finally:
        _trusting = before


def equal(found: _Tensors, expected: _Tensors) -> bool:
    """Whether all tensors are equal bit by bit."""

    def same(one: torch.Tensor, other: torch.Tensor) -> bool:
        alike = (one.shape, one.dtype) == (other.shape, other.dtype)
        return alike and torch.equal(_bits(one), _bits(other))

    return all(map(same, _each(found), _each(expected)))


def close(found: _Tensors, expected: _Tensors) -> bool:
    """Whether all tensors are equal up to the rounding of another order of summation."""

    def near(one: torch.Tensor, other: torch.Tensor) -> bool:
        if not one.is_floating_point():
            return torch.equal(one, other)
        tolerance = 1e-3 if one.dtype == torch.float32 else 2e-2
        return torch.allclose(
            one.float(), other.float(), rtol=tolerance, atol=tolerance, equal_nan=True
        )

    return all(map(near, _each(found), _each(expected)))


def _current(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Makes a device current, as Triton launches on the current one."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().flatten().view(torch.uint8)


def _each(tensors: _Tensors) -> tuple[torch.Tensor, ...]:
    return (tensors,) if isinstance(tensors, torch.Tensor) else tensors
