"""Gumbel-top-k in two launches: the best of each block of tokens, then the best of those."""

# Triton's language and launches are typed for its compiler only.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false

from __future__ import annotations

import torch
import triton
import triton.language as tl

from codegen.kernels.gpu.random import gumbel

BLOCK = 4096
_DRAFT = tl.constexpr(0)  # codegen.kernels.philox.DRAFT


@triton.jit
def block_kernel(
    log_probs, seeds, requests, positions, best, best_tokens, vocabulary, blocks,
    K: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The k largest keys of one block by repeated maximum; grid (R, blocks)."""
    row = tl.program_id(0).to(tl.int64)
    token = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    real = token < vocabulary
    value = tl.load(log_probs + row * vocabulary + token, mask=real, other=float("-inf"))
    noise = gumbel(
        tl.load(seeds + row), tl.load(requests + row), tl.load(positions + row), token, _DRAFT
    )
    keys = value.to(tl.float32) + noise
    at = (row * blocks + tl.program_id(1)) * K
    for i in range(K):
        key, place = tl.max(keys, 0, return_indices=True, return_indices_tie_break_left=True)
        winner = tl.program_id(1) * BLOCK + place
        tl.store(best + at + i, key)
        tl.store(best_tokens + at + i, winner)
        keys = tl.where(token == winner, float("-inf"), keys)


@triton.jit
def row_kernel(
    best, best_tokens, log_probs, tokens, keys, chosen, vocabulary, candidates,
    K: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """The k largest of a row's candidates, which lie in ascending order of blocks; grid (R)."""
    row = tl.program_id(0).to(tl.int64)
    c = tl.arange(0, BLOCK_C)
    left = tl.load(best + row * candidates + c, mask=c < candidates, other=float("-inf"))
    for i in range(K):
        key, place = tl.max(left, 0, return_indices=True, return_indices_tie_break_left=True)
        token = tl.load(best_tokens + row * candidates + place)
        alive = key > float("-inf")
        tl.store(tokens + row * K + i, tl.where(alive, token, -1))
        tl.store(keys + row * K + i, key)
        value = tl.load(log_probs + row * vocabulary + token).to(tl.float32)
        tl.store(chosen + row * K + i, tl.where(alive, value, float("-inf")))
        left = tl.where(c == place, float("-inf"), left)


def launch(
    log_probs: torch.Tensor,
    k: int,
    seeds: torch.Tensor,
    requests: torch.Tensor,
    positions: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """See :func:`codegen.kernels.gumbel.gumbel_top_k`."""
    log_probs = log_probs.contiguous()
    rows, vocabulary = log_probs.shape
    block = min(BLOCK, triton.next_power_of_2(vocabulary))
    block = max(block, triton.next_power_of_2(k))
    blocks = triton.cdiv(vocabulary, block)
    best = log_probs.new_empty(rows, blocks * k, dtype=torch.float32)
    best_tokens = torch.empty(rows, blocks * k, dtype=torch.int32, device=log_probs.device)
    tokens = torch.empty(rows, k, dtype=torch.int64, device=log_probs.device)
    keys, chosen = best.new_empty(rows, k), best.new_empty(rows, k)
    block_kernel[(rows, blocks)](
        log_probs, seeds.contiguous(), requests.contiguous(), positions.contiguous(), best,
        best_tokens, vocabulary, blocks, K=k, BLOCK=block, num_warps=8,
    )  # fmt: skip
    row_kernel[(rows,)](
        best, best_tokens, log_probs, tokens, keys, chosen, vocabulary, blocks * k,
        K=k, BLOCK_C=triton.next_power_of_2(blocks * k), num_warps=4,
    )  # fmt: skip
    return tokens, keys, chosen
