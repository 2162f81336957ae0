"""Runs a Triton kernel if the device supports it, else the plain reference.

The first results of a kernel on a new kind of GPU are compared with the reference's, which are used
meanwhile. If a kernel differs, or cannot be compiled or launched, the reference is used for the
rest of the process, with one warning. Kernels that agreed are recorded for later processes in the
cache directory (:class:`TuningCache`), in one file per kind of device and version of Triton,
PyTorch and the kernels. (A fault inside a running kernel still makes the device unusable for the
process.)
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import json
import os
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch

from codegen.core.paths import cache_folder, write_atomic

# The layout that plain and Triton code share (codegen.kernels.tree_attention).
PAGE = 256  # slots per page
LENGTH, BITS, DEPTH, FIRST, STARTS = range(5)  # columns of a table; STARTS and more if paged


TRIALS = 8  # compared results
_T = TypeVar("_T")
_Tensors = torch.Tensor | tuple[torch.Tensor, ...]
_Key = tuple[torch.device, str]


@dataclass
class KernelTrials:
    """Kernel comparisons in this process.

    Attributes:
        left: remaining comparisons, by device and kernel.
        failed: kernels that are not used.
        announced: devices for which a warning announced the comparisons.
        skipped: True if kernels are trusted without comparisons.
    """

    left: dict[_Key, int] = field(default_factory=dict)
    failed: set[_Key] = field(default_factory=set)
    announced: set[torch.device] = field(default_factory=set)
    skipped: bool = False


trials = KernelTrials()


@functools.cache
def triton_installed() -> bool:
    """Returns True if Triton can be imported (it has wheels for Linux only)."""
    return importlib.util.find_spec("triton") is not None


def interpreting() -> bool:
    """Returns True if Triton interprets kernels, on CPU tensors."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def use_triton(tensor: torch.Tensor) -> bool:
    """Returns True if a kernel can process this tensor."""
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
    """Returns the kernel's result, or the reference's if the kernel cannot run or is not trusted.

    Args:
        name: the kernel's name, for the warning.
        like: a tensor with the device, dtype and last dimension that the kernel is compiled for.
        kernel, reference: functions that compute the result.
        same: returns True if two results agree.
        rehearse: called for comparisons instead of ``kernel``, and before ``reference``, if
            ``kernel`` changes its arguments.
        variant: other properties that the kernel is compiled for, besides ``like``; called only
            if a kernel can run.
    """
    if not use_triton(like):
        return reference()
    dtype = str(like.dtype).removeprefix("torch.")
    form = " ".join(map(str, (name, dtype, like.shape[-1], *variant())))
    key, facts = (like.device, form), known(like.device)
    proved = form in facts.proved and key not in trials.failed
    if proved or interpreting() or trials.skipped:
        with _current(like.device):
            return kernel()
    if key in trials.failed or (like.is_cuda and torch.cuda.is_current_stream_capturing()):
        return reference()  # results cannot be compared while a graph is captured
    if not facts.proved and like.device not in trials.announced:
        trials.announced.add(like.device)
        warnings.warn(
            f"The GPU kernels have not run on {facts.device} before; their first results are"
            " compared with PyTorch's. Run codegen bench gpu to check and time all of them.",
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
        trials.left[key] = trials.left.get(key, TRIALS) - 1
        if not trials.left[key]:
            facts.proved.add(form)
            facts.save()
    else:
        trials.failed.add(key)
        warnings.warn(
            f"The kernel {name} is not used on {like.device} ({trouble}); PyTorch is used instead.",
            RuntimeWarning,
            stacklevel=2,
        )
    return expected


@contextlib.contextmanager
def without_trials() -> Iterator[None]:
    """Skips the comparisons, for tests and benchmarks that make their own."""
    before, trials.skipped = trials.skipped, True
    try:
        yield
    finally:
        trials.skipped = before


def equal(found: _Tensors, expected: _Tensors) -> bool:
    """Returns True if all tensors are equal bit by bit."""

    def same(one: torch.Tensor, other: torch.Tensor) -> bool:
        alike = (one.shape, one.dtype) == (other.shape, other.dtype)
        one, other = (tensor.contiguous().flatten().view(torch.uint8) for tensor in (one, other))
        return alike and torch.equal(one, other)

    return all(map(same, _each(found), _each(expected)))


def close(found: _Tensors, expected: _Tensors) -> bool:
    """Returns True if all tensors are equal up to rounding in another summation order."""

    def near(one: torch.Tensor, other: torch.Tensor) -> bool:
        if not one.is_floating_point():
            return torch.equal(one, other)
        tolerance = 1e-3 if one.dtype == torch.float32 else 2e-2
        return torch.allclose(
            one.float(), other.float(), rtol=tolerance, atol=tolerance, equal_nan=True
        )

    return all(map(near, _each(found), _each(expected)))


def _current(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Makes a device current, since Triton launches kernels on the current device."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


def _each(tensors: _Tensors) -> tuple[torch.Tensor, ...]:
    return (tensors,) if isinstance(tensors, torch.Tensor) else tensors


KERNELS = (
    *("tree_attention", "accept_greedy", "accept_tree", "compact", "turn_slots"),
    *("gumbel_top_k", "penalize"),
)
_NUMBERS = {"BLOCK_M", "BLOCK_N", "num_warps", "num_stages"}


@dataclass
class TuningCache:
    """Cached data of one kind of device: kernels that agreed with PyTorch, and the fastest
    block sizes, so that later processes need not compare or tune.

    A corrupt file is ignored, and nothing is stored if the file cannot be written.

    Attributes:
        path: the file; None for a device that is not a GPU.
        device: name of the device.
        proved: kernels, with dtypes and shapes, whose results agreed with PyTorch's.
        settings: block sizes, warps and stages, by kernel and shape.
    """

    path: Path | None
    device: str
    proved: set[str] = field(default_factory=set)
    settings: dict[str, dict[str, int]] = field(default_factory=dict)

    def save(self) -> None:
        """Writes the file, including other processes' additions since it was read."""
        if self.path is None:
            return
        other = read_cache(self.path, self.device)
        self.proved |= other.proved
        self.settings = {**other.settings, **self.settings}
        row = {**asdict(self), "proved": sorted(self.proved), "path": None}
        with contextlib.suppress(OSError):
            write_atomic(self.path, json.dumps(row, indent=1) + "\n")


@functools.cache
def known(device: torch.device) -> TuningCache:
    """Returns a device's cached data."""
    if device.type != "cuda":
        return TuningCache(None, device.type)
    name = torch.cuda.get_device_name(device)
    return read_cache(_path(name), name)


def _path(name: str) -> Path:
    """Returns the file for devices of this name."""
    import triton

    sources = sorted(Path(__file__).parent.glob("gpu/*.py"))
    made = hashlib.sha256(b"".join(path.read_bytes() for path in sources))
    made.update(f"{triton.__version__} {torch.__version__}".encode())
    plain = re.sub(r"\W+", "-", name)[:60]
    return cache_folder() / "kernels" / f"{plain}-{made.hexdigest()[:16]}.json"


def read_cache(path: Path, device: str) -> TuningCache:
    """Reads a device's cached data; empty if the file is missing or corrupt."""
    found = TuningCache(path, device)
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
        found.proved = {str(name) for name in row["proved"]}
        for name, numbers in row["settings"].items():
            if set(numbers) == _NUMBERS and all(type(n) is int and n > 0 for n in numbers.values()):
                found.settings[str(name)] = numbers
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return TuningCache(path, device)
    return found
