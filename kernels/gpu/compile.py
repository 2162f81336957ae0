"""Kernels compiled ahead of time, without a GPU, and what they take of a multiprocessor.

The cubin is for a fixed architecture; its resource table has the registers and the bytes spilled to
local memory, Triton's metadata the shared memory. ``variants.py`` has what is compiled.
"""

# Triton's language and launches are typed for its compiler only.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from codegen.errors import MachineError
from codegen.kernels.backend import interpreting

ARCHITECTURES = (80, 90)


@dataclass(frozen=True)
class Variant:
    """A kernel with the types of its arguments.

    Attributes:
        name: of the kernel and what is particular.
        kernel: decorated with ``triton.jit``.
        types: of the arguments that are not int32, as Triton writes them (``*fp16``, ``fp32``).
        constants: its constexpr arguments.
        aligned: int32 arguments that 16 divides, as a rule strides; pointers always are aligned.
        warps, stages: as in the launch.
    """

    name: str
    kernel: Any
    types: Mapping[str, str]
    constants: Mapping[str, Any]
    aligned: tuple[str, ...] = ()
    warps: int = 4
    stages: int = 2


@dataclass(frozen=True)
class Figures:
    """What a compiled kernel takes.

    Attributes:
        architecture: 80 for sm_80.
        registers: of a thread, at most 255.
        spilled: bytes of local memory a thread.
        shared: bytes of shared memory a block.
        threads: of a block.
    """

    name: str
    architecture: int
    registers: int
    spilled: int
    shared: int
    threads: int
    ptx: str = field(repr=False)


def compile_variant(variant: Variant, architecture: int) -> Figures:
    """Compiles for ``sm_<architecture>``.

    Raises:
        MachineError: in Triton's interpreter, which has no code to compile, or if the tools that
            come with Triton fail.
    """
    if interpreting():
        raise MachineError("Triton's interpreter compiles nothing.", "Unset TRITON_INTERPRET.")
    names: list[str] = variant.kernel.arg_names
    signature = {
        name: "constexpr" if name in variant.constants else variant.types.get(name, "i32")
        for name in names
    }
    attributes = {
        (place,): [["tt.divisibility", 16]]
        for place, name in enumerate(names)
        if signature[name].startswith("*") or name in variant.aligned
    }
    source = ASTSource(variant.kernel, signature, dict(variant.constants), attributes)
    options = {
        "num_warps": variant.warps,
        "num_stages": variant.stages,
        "enable_fp_fusion": True,  # its default is about to change
    }
    compiled = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options)
    usage = _resources(compiled.asm["cubin"])
    return Figures(
        name=variant.name,
        architecture=architecture,
        registers=usage["REG"],
        spilled=usage["LOCAL"] + usage["STACK"],
        shared=int(compiled.metadata.shared),
        threads=32 * variant.warps,
        ptx=compiled.asm["ptx"],
    )


def _resources(cubin: bytes) -> dict[str, int]:
    """The entries of a cubin's resource table, such as ``REG:40 STACK:0 SHARED:0 LOCAL:0``."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(cubin)
        tool = triton.knobs.nvidia.cuobjdump.path
        done = subprocess.run(
            [tool, "--dump-resource-usage", file.name], capture_output=True, text=True, check=False
        )
    found = dict(re.findall(r"\b(REG|STACK|LOCAL|SHARED):(\d+)", done.stdout))
    if done.returncode or not {"REG", "STACK", "LOCAL"} <= set(found):
        raise MachineError(f"cuobjdump did not tell what a kernel takes: {done.stderr.strip()}")
    return {name: int(value) for name, value in found.items()}
