"""Compiles kernels ahead of time, without a GPU, and reads the resources they use.

A cubin is for one architecture. Its resource table has the registers and the bytes spilled to local
memory; Triton's metadata has the shared memory. :func:`variants` lists what is compiled: each
kernel with the arguments of a launch on common model shapes.
"""

# Triton's language is typed only for its compiler.

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from codegen.core.errors import MachineError
from codegen.kernels.backend import interpreting
from codegen.kernels.gpu import kv_cache, tree_attention, vocabulary

ARCHITECTURES = (80, 90, 100)


@dataclass(frozen=True)
class Variant:
    """A kernel with the types of its arguments.

    Attributes:
        name: the kernel's name and variant.
        kernel: decorated with ``triton.jit``.
        types: types of the non-int32 arguments, in Triton's notation (``*fp16``, ``fp32``).
        constants: the constexpr arguments.
        aligned: int32 arguments divisible by 16, mostly strides; pointers always are aligned.
        warps, stages: launch parameters.
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
    """The resources of a compiled kernel.

    Attributes:
        architecture: 80 for sm_80.
        registers: per thread, at most 255.
        spilled: bytes of local memory per thread.
        shared: bytes of shared memory per block.
        threads: per block.
        vector: the widest read of global memory, in bytes per thread; at most 16.
    """

    name: str
    architecture: int
    registers: int
    spilled: int
    shared: int
    threads: int
    vector: int
    ptx: str = field(repr=False)


def compile_variant(variant: Variant, architecture: int) -> Figures:
    """Compiles for ``sm_<architecture>``.

    Raises:
        MachineError: if Triton's interpreter, which cannot compile, is on, or Triton's tools fail.
    """
    if interpreting():
        raise MachineError("Triton's interpreter cannot compile.", "Unset TRITON_INTERPRET.")
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
        "enable_fp_fusion": True,  # set explicitly, since its default will change
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
        vector=_widest(compiled.asm["ptx"]),
        ptx=compiled.asm["ptx"],
    )


def _resources(cubin: bytes) -> dict[str, int]:
    """Returns the entries of a cubin's resource table: ``REG:40 STACK:0 SHARED:0 LOCAL:0``."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(cubin)
        tool = triton.knobs.nvidia.cuobjdump.path
        done = subprocess.run(
            [tool, "--dump-resource-usage", file.name], capture_output=True, text=True, check=False
        )
    found = dict(re.findall(r"\b(REG|STACK|LOCAL|SHARED):(\d+)", done.stdout))
    if done.returncode or not {"REG", "STACK", "LOCAL"} <= set(found):
        raise MachineError(f"cuobjdump did not report a kernel's resources: {done.stderr.strip()}")
    return {name: int(value) for name, value in found.items()}


def _widest(ptx: str) -> int:
    """Returns the bytes of the widest load from global memory, into registers or shared memory."""
    loads = re.findall(r"ld\.global[.\w:]*?(?:\.v(\d))?\.[bfsu](\d+)", ptx)
    copies = re.findall(r"cp\.async\.c[ag]\.shared\.global[^;]*?, (0x[0-9a-f]+)", ptx)
    widths = [int(count or 1) * int(bits) // 8 for count, bits in loads]
    return max([0, *widths, *(int(copied, 16) for copied in copies)])


def variants() -> Iterator[Variant]:
    """Yields all variants of all kernels."""
    yield from _attention()
    yield from _acceptance()
    yield from _vocabulary()
    yield from _states()


def _attention() -> Iterator[Variant]:
    strides = tuple(
        f"{x}_{y}"
        for x, y in [
            ("q", "row"), ("q", "node"), ("q", "head"), ("k", "row"), ("k", "head"), ("k", "slot"),
            ("v", "row"), ("v", "head"), ("v", "slot"),
        ]
    )  # fmt: skip
    for kind, dim, queries, paged in (
        ("fp16", 64, 16, False), ("fp16", 128, 1, True), ("fp16", 128, 64, True),
        ("bf16", 128, 16, False), ("bf16", 128, 16, True), ("fp32", 64, 16, False),
    ):  # fmt: skip
        types = {
            "q": f"*{kind}", "keys": f"*{kind}", "values": f"*{kind}", "table": "*i64",
            "partial": "*fp32", "partial_lse": "*fp32", "scale": "fp32", "cap": "fp32",
        }  # fmt: skip
        prefix = dict(tree_attention.guess(kind == "fp32", max(16, 4 * queries), dim))
        tree = dict(tree_attention.tree_settings(prefix, queries, dim))
        warps, stages = prefix.pop("num_warps"), prefix.pop("num_stages")
        tree_warps = tree.pop("num_warps")
        del tree["num_stages"]
        constants = {
            "GROUP": 4, "D": dim, "DV": dim, "CAPPED": False, "PAGED": paged, "BLOCK_D": dim,
            "BLOCK_V": dim, "PRECISION": "ieee" if kind == "fp32" else "tf32",
        }  # fmt: skip
        name = f"{kind} D={dim} T={queries}{' paged' if paged else ''}"
        yield Variant(
            f"tree_attention.prefix {name}", tree_attention.prefix_kernel, types,
            constants | prefix, strides, warps, stages,
        )  # fmt: skip
        yield Variant(
            f"tree_attention.tree {name}", tree_attention.tree_kernel,
            types | {"result": f"*{kind}", "sinks": f"*{kind}"},
            constants | tree | {"SINKS": False}, strides, tree_warps, stages=1,
        )  # fmt: skip


def _acceptance() -> Iterator[Variant]:
    ids = "children tokens depths parents chosen path count leaves final"
    types = dict.fromkeys(ids.split(), "*i64")
    floats = {"target": "*fp32", "draft": "*fp32", "uniforms": "*fp64", "last": "*fp64"}
    types |= floats | {"states": "*i32", "sums": "*fp32", "parts": "*fp64"}
    sizes = {"BLOCK": vocabulary.BLOCK, "BLOCKS": 32}
    for name in ("sibling", "walk", "token"):
        kernel = getattr(vocabulary, f"{name}_kernel")
        yield Variant(f"accept.{name} fp32", kernel, types, sizes, ("vocabulary",), warps=8)
    yield Variant("accept.greedy", vocabulary.greedy_kernel, types, {"BLOCK": 64}, warps=1)


def _vocabulary() -> Iterator[Variant]:
    types = {
        "log_probs": "*fp32", "seeds": "*i64", "requests": "*i64", "positions": "*i64",
        "best": "*fp32", "best_tokens": "*i32", "tokens": "*i64", "keys": "*fp32",
        "chosen": "*fp32",
    }  # fmt: skip
    yield Variant(
        "gumbel.block k=4", vocabulary.block_kernel, types, {"K": 4, "BLOCK": vocabulary.BLOCK},
        ("vocabulary",), warps=8,
    )  # fmt: skip
    yield Variant("gumbel.row k=4", vocabulary.row_kernel, types, {"K": 4, "BLOCK_C": 256})
    types = {"logits": "*bf16", "rows": "*i64", "ids": "*i64", "amounts": "*fp64"}
    yield Variant("logits.penalize bf16", vocabulary.penalize_kernel, types, {"BLOCK": 256})


def _states() -> Iterator[Variant]:
    yield Variant(
        "compaction fp16 D=128", kv_cache.compact_kernel,
        {"table": "*i64", "like": "*fp16", "sources": "*i64", "targets": "*i64"},
        {"D": 128, "BLOCK_D": 128, "dim_stride": 1},
        ("row_stride", "head_stride", "slot_stride"), warps=1,
    )  # fmt: skip
    places = [f"{x}_{y}" for x in "es" for y in ("row", "head", "slot")]
    yield Variant(
        "rotation fp16 D=128", kv_cache.turn_kernel,
        {
            "encoded": "*fp16", "states": "*fp16", "slots": "*i64", "cosines": "*fp32",
            "sines": "*fp32",
        },
        {"HALF": 64, "D": 128, "NEIGHBORS": False, "BLOCK": 64, "e_dim": 1, "s_dim": 1},
        tuple(places), warps=1,
    )  # fmt: skip
