"""The Triton kernels: resources per multiprocessor; on a GPU, time against the lower bound.

What: every kernel is compiled ahead of time for sm_80 and sm_90 as a launch on common model shapes
would have it; ``kernels`` has for each the registers of a thread, the bytes that it spills, and the
shared memory of a block. No GPU is needed for that, and none is used.

With a GPU, ``timings`` has for each operation at the shapes of an 8B model the median time in
microseconds, that of the plain reference in PyTorch, the floor, and the share of it that was
achieved (floor / time). The floor is the larger of bytes moved over the bandwidth and of operations
over the rate, both measured on the spot by a copy of 512 MiB and a product of 8192 x 8192 in half
precision. Each result is compared with the reference's first. Without a GPU it is null.

Limits: compiled is not run. What the compiler's figures mean for speed only a GPU says; times on a
GPU include launches, which the floor does not know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from codegen.benchmarks.tools.kernel_cases import Case, cases
from codegen.benchmarks.tools.machine import versions
from codegen.benchmarks.tools.notes import say
from codegen.benchmarks.tools.report import Report, at_least
from codegen.errors import MachineError


def run(
    quick: bool = False, *, seed: int = 0, context: int = 4096, batch: int = 8
) -> Mapping[str, object]:
    """Measures.

    Args:
        quick: compiles half-precision attention at D = 128 and the other kernels once, for sm_90.
        seed: of the inputs on a GPU.
        context: slots of a prefix.
        batch: rows.
    """
    at_least(1, context=context, batch=batch)
    from codegen.kernels.backend import without_trials

    report = Report(seed=seed)
    report.versions |= versions("codegen-toolkit", "torch", "triton")
    report.figures["kernels"] = _compiled(report, quick)
    with without_trials():
        report.figures["timings"] = _timed(report, seed, context, batch)
    return report.mapping()


def _compiled(report: Report, quick: bool) -> list[dict[str, Any]] | None:
    from codegen.kernels.backend import triton_installed

    if not triton_installed():
        report.install["triton"] = "pip install triton (Linux)"
        return None
    from codegen.kernels.gpu.compile import ARCHITECTURES, compile_variant, variants

    rows = []
    for variant in variants():
        if quick and "attention" in variant.name and "fp16 D=128" not in variant.name:
            continue
        for architecture in ARCHITECTURES[-1:] if quick else ARCHITECTURES:
            found = compile_variant(variant, architecture)
            say(
                f"{found.name}, sm_{architecture}: {found.registers} registers,"
                f" {found.spilled} B spilled, {found.shared} B shared"
            )
            rows.append(
                {
                    "kernel": found.name,
                    "architecture": f"sm_{architecture}",
                    "registers": found.registers,
                    "spilled_bytes": found.spilled,
                    "shared_bytes": found.shared,
                    "threads": found.threads,
                }
            )
    report.samples["kernels"] = len(rows)
    return rows


def _timed(report: Report, seed: int, context: int, batch: int) -> list[dict[str, Any]] | None:
    import torch

    from codegen.kernels.backend import triton_installed

    if not torch.cuda.is_available() or not triton_installed():
        report.notes.append("No GPU that Triton can use: nothing was timed.")
        return None
    report.versions["device"] = torch.cuda.get_device_name()
    bandwidth, rate = _device()
    report.set("bandwidth_gb_per_s", bandwidth / 1e9)
    report.set("half_tflops", rate / 1e12)
    rows = []
    for case in cases(seed, context, batch):
        _check(case)
        time, plain = _median_us(case.kernel), _median_us(case.reference)
        floor = 1e6 * max(case.bytes / bandwidth, case.operations / rate)
        say(f"{case.name}: {time:.1f} us, floor {floor:.1f} us, reference {plain:.1f} us")
        rows.append(
            {
                "operation": case.name,
                "us": round(time, 2),
                "reference_us": round(plain, 2),
                "floor_us": round(floor, 2),
                "achieved": round(floor / time, 3),
            }
        )
    return rows


def _check(case: Case) -> None:
    """Compares the kernel's result with the reference's.

    Raises:
        MachineError: if they differ.
    """
    import torch

    for one, other in zip(case.kernel(), case.reference(), strict=True):
        if not torch.allclose(one.float(), other.float(), atol=case.tolerance, rtol=case.tolerance):
            raise MachineError(f"{case.name} differs from its reference on this device.")


def _device() -> tuple[float, float]:
    """Bytes a second of a copy, and half-precision operations a second of a matrix product."""
    import torch

    source = torch.empty(2**29, dtype=torch.uint8, device="cuda")
    to = torch.empty_like(source)
    copied = 2 * source.numel() / (_median_us(lambda: to.copy_(source)) * 1e-6)
    n = 8192
    matrix = torch.randn(n, n, device="cuda", dtype=torch.float16)
    return copied, 2 * n**3 / (_median_us(lambda: matrix @ matrix) * 1e-6)


def _median_us(call: Callable[[], object]) -> float:
    """Median of many runs with a cold second-level cache."""
    from triton.testing import do_bench

    median = do_bench(call, return_mode="median")
    assert isinstance(median, float)
    return 1e3 * median
