"""Kernels over the vocabulary: penalties in one pass over their tokens; Gumbel noise by counters;
Gumbel-top-k in two launches, first the best of each block of tokens, then the best of those.

``codegen.kernels.logits`` has the plain versions.
"""

# Triton's language and launches are typed for its compiler only.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false

from __future__ import annotations

import torch
import triton
import triton.language as tl

BLOCK = 4096


@triton.jit
def penalize_kernel(logits, rows, ids, amounts, row_stride, count, BLOCK: tl.constexpr):
    """One block of the penalties; grid (blocks)."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    real = i < count
    row = tl.load(rows + i, mask=real, other=0)
    at = logits + row * row_stride + tl.load(ids + i, mask=real, other=0)
    z = tl.load(at, mask=real, other=0.0).to(tl.float32)
    above = tl.load(amounts + i, mask=real, other=1.0).to(tl.float32)
    below = tl.load(amounts + count + i, mask=real, other=1.0).to(tl.float32)
    added = tl.load(amounts + 2 * count + i, mask=real, other=0.0).to(tl.float32)
    z = tl.where(z > 0, z * above, z * below) + added
    tl.store(at, z.to(logits.dtype.element_ty), mask=real)


def launch_penalize(
    logits: torch.Tensor, rows: torch.Tensor, ids: torch.Tensor, amounts: torch.Tensor
) -> None:
    """See :func:`codegen.kernels.logits.penalize`."""
    assert logits.stride(1) == 1
    count = len(rows)
    penalize_kernel[(triton.cdiv(count, 256),)](
        logits,
        rows.contiguous(),
        ids.contiguous(),
        amounts.contiguous(),
        logits.stride(0),
        count,
        BLOCK=256,
        num_warps=4,
    )


@triton.jit
def gumbel(seed, request, position, token):
    """Standard Gumbel variables, float32, in the shape of ``token`` (int32)."""
    zero = token * 0
    word, _, _, _ = tl.philox(
        seed, token, zero + position.to(tl.int32), zero + request.to(tl.int32), zero
    )
    v = (word.to(tl.float32) + 0.5) * 2.3283064365386963e-10  # 2^-32
    v = tl.minimum(v, 0.99999994)  # 1 - 2^-24
    rest = 1.0 - v
    exponential = tl.where(rest == 1.0, v, tl.log(rest) * v / (rest - 1.0))
    return -tl.log(exponential)


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
    noise = gumbel(tl.load(seeds + row), tl.load(requests + row), tl.load(positions + row), token)
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
    """The k largest of a row's candidates, which are in ascending order of blocks; grid (R)."""
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


def launch_top_k(
    log_probs: torch.Tensor,
    k: int,
    seeds: torch.Tensor,
    requests: torch.Tensor,
    positions: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """See :func:`codegen.kernels.logits.gumbel_top_k`."""
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
