"""What is compiled ahead of time: each kernel as a launch on common model shapes would have it."""

from __future__ import annotations

from collections.abc import Iterator

from codegen.kernels.gpu import accept, compaction, gumbel, logits, rotation, tree_attention
from codegen.kernels.gpu.compile import Variant


def variants() -> Iterator[Variant]:
    """All of them."""
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


def _acceptance() -> Iterator[Variant]:
    results = {"path": "*i64", "count": "*i64", "final": "*i64", "tokens": "*i64"}
    rows = {"target": "*fp32", "draft": "*fp32", "uniforms": "*fp64"}
    block = {"BLOCK": accept.BLOCK}
    yield Variant(
        "accept.tree fp32", accept.tree_kernel,
        results | rows | {"children": "*i64", "last": "*fp64", "scratch": "*fp32"}, block, warps=8,
    )  # fmt: skip
    yield Variant(
        "accept.greedy", accept.greedy_kernel, results | {"children": "*i64", "best": "*i64"},
        {"BLOCK_K": 4}, warps=1,
    )  # fmt: skip
    keys = {"seeds": "*i64", "requests": "*i64", "positions": "*i64"}
    yield Variant(
        "accept.chain fp32",
        accept.chain_kernel,
        results | rows | keys,
        {"BLOCK": accept.CHAIN_BLOCK},
        warps=8,
    )


def _vocabulary() -> Iterator[Variant]:
    types = {
        "log_probs": "*fp32", "seeds": "*i64", "requests": "*i64", "positions": "*i64",
        "best": "*fp32", "best_tokens": "*i32", "tokens": "*i64", "keys": "*fp32",
        "chosen": "*fp32",
    }  # fmt: skip
    yield Variant(
        "gumbel.block k=4", gumbel.block_kernel, types, {"K": 4, "BLOCK": gumbel.BLOCK}, warps=8
    )
    yield Variant("gumbel.row k=4", gumbel.row_kernel, types, {"K": 4, "BLOCK_C": 256})
    types = {
        "logits": "*bf16", "tokens": "*i64", "ancestors": "*i64", "counts": "*i32",
        "prompt": "*u8", "settings": "*fp32", "allowed": "*i32", "banned": "*i64",
        "result": "*fp32",
    }  # fmt: skip
    yield Variant(
        "logits.adjust bf16", logits.adjust_kernel, types, {"BLOCK": 1024}, ("vocabulary",)
    )


def _states() -> Iterator[Variant]:
    yield Variant(
        "compaction fp16 D=128", compaction.compact_kernel,
        {"table": "*i64", "like": "*fp16", "path": "*i64", "cursors": "*i64"},
        {"D": 128, "BLOCK_D": 128, "dim_stride": 1},
        ("row_stride", "head_stride", "slot_stride"), warps=1,
    )  # fmt: skip
    places = [f"{x}_{y}" for x in "es" for y in ("row", "head", "slot")]
    yield Variant(
        "rotation fp16 D=128", rotation.turn_kernel,
        {
            "encoded": "*fp16", "states": "*fp16", "cells": "*i64", "cosines": "*fp32",
            "sines": "*fp32",
        },
        {"HALF": 64, "D": 128, "NEIGHBOURS": False, "BLOCK": 64, "e_dim": 1, "s_dim": 1},
        tuple(places), warps=1,
    )  # fmt: skip
