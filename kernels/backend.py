"""Which code runs: a Triton kernel where the device can run it, else the plain reference.

A kernel that a GPU has not run before has to prove itself on it: its first results there are
compared with the reference's, which are the ones that count meanwhile. One that differs, or can't
be compiled or launched, gives way to the reference for the rest of the process, with one warning;
one that passed is remembered for later processes (:mod:`codegen.kernels.known`). (A fault inside a
running kernel ends the process's use of the device, as any does.)
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

TRIALS = 8  # results that are compared
_T = TypeVar("_T")
_Tensors = torch.Tensor | tuple[torch.Tensor, ...]
_Key = tuple[torch.device, str]

_left: dict[_Key, int] = {}  # comparisons still to come
_failed: set[_Key] = set()
_announced: set[torch.device] = set()
_trusting = False


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


def run(
    name: str,
    like: torch.Tensor,
    kernel: Callable[[], _T],
    reference: Callable[[], _T],
    same: Callable[[_T, _T], bool],
    rehearse: Callable[[], _T] | None = None,
    variant: Callable[[], tuple[int, ...]] = tuple,
) -> _T:
    """The kernel's result, or the reference's where it can't run or is not trusted.

    Args:
        name: of the kernel, for the warning.
        like: a tensor whose device, type and last dimension the kernel is compiled for.
        kernel, reference: the two ways.
        same: whether what both returned agrees.
        rehearse: what is compared in place of ``kernel``, if that changes its arguments; it is
            called before ``reference``.
        variant: what else than the type and row length of ``like`` the kernel is compiled for;
            asked only where a kernel can run.
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
        return reference()  # nothing can be compared while a graph is captured
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
    except Exception as error:  # noqa: BLE001 - a compiler's or a driver's: whatever it is
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
            f"The kernel {name} is not used on {like.device} ({trouble}); PyTorch does its work.",
            RuntimeWarning,
            stacklevel=2,
        )
    return expected


@contextlib.contextmanager
def without_trials() -> Iterator[None]:
    """Kernels run at once, for tests and benchmarks that compare them themselves."""
    global _trusting
    before, _trusting = _trusting, True
    try:
        yield
    finally:
        _trusting = before


def equal(found: _Tensors, expected: _Tensors) -> bool:
    """Whether tensors are equal bit by bit, one by one."""

    def same(one: torch.Tensor, other: torch.Tensor) -> bool:
        alike = (one.shape, one.dtype) == (other.shape, other.dtype)
        return alike and torch.equal(_bits(one), _bits(other))

    return all(map(same, _each(found), _each(expected)))


def close(found: _Tensors, expected: _Tensors) -> bool:
    """Whether tensors are equal up to what another order of sums in their type makes."""

    def near(one: torch.Tensor, other: torch.Tensor) -> bool:
        if not one.is_floating_point():
            return torch.equal(one, other)
        tolerance = 1e-3 if one.dtype == torch.float32 else 2e-2
        return torch.allclose(
            one.float(), other.float(), rtol=tolerance, atol=tolerance, equal_nan=True
        )

    return all(map(near, _each(found), _each(expected)))


def _current(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Triton launches on the current device."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().flatten().view(torch.uint8)


def _each(tensors: _Tensors) -> tuple[torch.Tensor, ...]:
    return (tensors,) if isinstance(tensors, torch.Tensor) else tensors
