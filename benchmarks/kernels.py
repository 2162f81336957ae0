"""The Triton kernels compiled without a GPU: the resources that they use.

What: every kernel is compiled ahead of time for sm_80, sm_90 and sm_100 as for a launch on common
model shapes; ``kernels`` has each one's registers and spilled bytes per thread, shared memory per
block, and the bytes of its widest read of global memory. No GPU is needed for that, and none is
used.

Limits: the kernels are not run, and only a GPU shows what these numbers mean for speed: ``timings``
is null, ``codegen bench gpu`` has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from codegen.benchmarks.tools.machine import versions
from codegen.benchmarks.tools.notes import say
from codegen.benchmarks.tools.report import Report


def run(quick: bool = False) -> Mapping[str, object]:
    """Runs the benchmark.

    Args:
        quick: compiles half-precision attention at D = 128 and the other kernels once, for sm_90.
    """
    report = Report()
    report.versions |= versions("codegen-toolkit", "torch", "triton")
    report.figures["kernels"] = _compiled(report, quick)
    report.figures["timings"] = None
    report.notes.append("Compiled, not run: codegen bench gpu times the kernels on a GPU.")
    return report.mapping()


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
