"""Products on a CPU against PyTorch's, and the resources that compiled Triton kernels use.

What: ``products`` has the CPU time of multiplying some rows by a layer of Qwen2.5's half-billion
model (gate and up, [9,728, 896]) for each kernel set of this CPU, in 4 and 8 bits, and of PyTorch's
in bfloat16 and float32, with one thread; the median of several calls that take turns.

Every Triton kernel is compiled ahead of time for sm_80, sm_90 and sm_100 as for a launch on common
model shapes; ``kernels`` has each one's registers and spilled bytes per thread, shared memory per
block, and the bytes of its widest read of global memory. No GPU is needed or used.

Limits: the Triton kernels are not run, and only a GPU shows their effect on speed: ``timings`` is
null, ``codegen bench gpu`` has them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from statistics import median
from typing import Any

from codegen.benchmarks.tools.machine import versions
from codegen.benchmarks.tools.notes import say
from codegen.benchmarks.tools.report import Report

_LAYER = (9728, 896)


def run(quick: bool = False) -> Mapping[str, object]:
    """Runs the benchmark.

    Args:
        quick: compiles half-precision attention at D = 128 and the other kernels once, for sm_90.
    """
    report = Report()
    report.versions |= versions("codegen-toolkit", "torch", "triton")
    report.figures["products"] = _products(report, 5 if quick else 21)
    report.figures["kernels"] = _compiled(report, quick)
    report.figures["timings"] = None
    report.notes.append("Compiled, not run: codegen bench gpu times the kernels on a GPU.")
    return report.mapping()


def _products(report: Report, calls: int) -> list[dict[str, Any]]:
    import torch
    from torch.nn import functional

    from codegen.kernels import cpu

    torch.set_num_threads(1)
    numbers = torch.Generator().manual_seed(0)
    values = torch.randint(-127, 128, _LAYER, dtype=torch.int8, generator=numbers)
    scales = torch.full(_LAYER[:1], 1e-3)
    grouped = torch.full((_LAYER[0], _LAYER[1] // cpu.GROUP), 1e-3)
    four, eight = cpu.pack4(values.abs() % 16, grouped, grouped), cpu.pack8(values)
    methods: dict[str, tuple[torch.dtype, Callable[[torch.Tensor], torch.Tensor]]] = {}
    for name in cpu.available():
        dtype = torch.bfloat16 if name.endswith("bf16") else torch.float32
        methods[f"{name}, 4 bits"] = dtype, cpu.Product(dtype, four, kernels=name)
        methods[f"{name}, 8 bits"] = dtype, cpu.Product(dtype, eight, scales, kernels=name)
    for dtype in (torch.bfloat16, torch.float32):
        weights = (values * scales[:, None]).to(dtype)
        methods[f"torch, {dtype}"] = dtype, partial(functional.linear, weight=weights)
    rows = []
    for count in (1, 8, 32, 128):
        given = torch.rand(count, _LAYER[1], generator=numbers)
        spent: dict[str, list[float]] = {name: [] for name in methods}
        for _ in range(calls):
            for name, (dtype, method) in methods.items():
                inputs, began = given.to(dtype), time.thread_time()
                method(inputs)
                spent[name].append(time.thread_time() - began)
        row = {name: round(1000 * median(times), 3) for name, times in spent.items()}
        say(f"{count} rows, CPU ms: " + ", ".join(f"{name} {ms}" for name, ms in row.items()))
        rows.append({"rows": count, "cpu_ms": row})
    report.samples["products"] = calls
    return rows


def _compiled(report: Report, quick: bool) -> list[dict[str, Any]] | None:
    from codegen.kernels.backend import triton_installed

    if not triton_installed():
        report.install["triton"] = "pip install triton (Linux)"
        return None
    from codegen.benchmarks.tools.compile_kernels import ARCHITECTURES, compile_variant, variants

    rows = []
    for variant in variants():
        if quick and "attention" in variant.name and "fp16 D=128 T=64" not in variant.name:
            continue
        for architecture in (90,) if quick else ARCHITECTURES:
            found = compile_variant(variant, architecture)
            say(
                f"{found.name}, sm_{architecture}: {found.registers} registers,"
                f" {found.spilled} B spilled, {found.shared} B shared, reads of {found.vector} B"
            )
            rows.append(
                {
                    "kernel": found.name,
                    "architecture": f"sm_{architecture}",
                    "registers": found.registers,
                    "spilled_bytes": found.spilled,
                    "shared_bytes": found.shared,
                    "threads": found.threads,
                    "widest_read_bytes": found.vector,
                }
            )
    report.samples["kernels"] = len(rows)
    return rows
