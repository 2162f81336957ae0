"""What is compiled ahead of time: each kernel as a launch on common model shapes would have it."""

from __future__ import annotations

from collections.abc import Iterator

from codegen.kernels.gpu import tree_attention
from codegen.kernels.gpu.compile import Variant


def variants() -> Iterator[Variant]:
    """All of them."""
    yield from _attention()


def _attention() -> Iterator[Variant]:
    strides = tuple(
        f"{x}_{y}"
        for x, y in [
            ("q", "row"), ("q", "node"), ("q", "head"), ("k", "row"), ("k", "head"), ("k", "slot"),
            ("v", "row"), ("v", "head"), ("v", "slot"),
        ]
    )  # fmt: skip
    for kind, dim in (("fp16", 64), ("fp16", 128), ("bf16", 128), ("fp32", 64)):
        types = {
            "q": f"*{kind}", "keys": f"*{kind}", "values": f"*{kind}", "lengths": "*i64",
            "partial": "*fp32", "partial_lse": "*fp32", "scale": "fp32",
        }  # fmt: skip
        tile = tree_attention.tiling(kind == "fp32", 64, dim)
        warps = tile.pop("num_warps")
        constants = {"GROUP": 4, "D": dim, **tile}
        yield Variant(
            f"tree_attention.prefix {kind} D={dim}", tree_attention.prefix_kernel, types,
            constants | {"BLOCK_N": tree_attention.block_n(kind == "fp32")}, strides, warps,
        )  # fmt: skip
        yield Variant(
            f"tree_attention.tree {kind} D={dim}", tree_attention.tree_kernel,
            types | {"ancestors": "*i64", "result": f"*{kind}"}, constants | {"BLOCK_T": 64},
            strides, warps, stages=1,
        )  # fmt: skip
