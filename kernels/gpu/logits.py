"""The vocabulary's kernels: logits adjusted in one pass, each read once and written once; Gumbel
noise by counters; Gumbel-top-k in two launches, the best of each block of tokens, then the best of
those.

``codegen.kernels.logits`` has the plain versions.
"""

# Triton's language and launches are typed for its compiler only.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false

from __future__ import annotations

import torch
import triton
import triton.language as tl

BLOCK = 4096
_DRAFT = tl.constexpr(0)  # codegen.kernels.logits.DRAFT


@triton.jit
def adjust_kernel(
    logits, tokens, ancestors, counts, prompt, settings, allowed, banned, result,
    nodes, vocabulary, words, bans, BLOCK: tl.constexpr,
):  # fmt: skip
    """One block of the vocabulary after one node; grid (B * T, blocks)."""
    place = tl.program_id(0).to(tl.int64)
    row = place // nodes
    v = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    real = v < vocabulary
    x = tl.load(logits + place * vocabulary + v, mask=real, other=0.0).to(tl.float32)
    generated = tl.load(counts + row * vocabulary + v, mask=real, other=0)
    bits = tl.load(ancestors + place)
    for j in range(nodes):
        if ((bits >> j) & 1) == 1:
            generated += tl.where(v == tl.load(tokens + row * nodes + j), 1, 0)
    repetition, frequency = tl.load(settings + row * 4), tl.load(settings + row * 4 + 1)
    presence, temperature = tl.load(settings + row * 4 + 2), tl.load(settings + row * 4 + 3)
    given = tl.load(prompt + row * vocabulary + v, mask=real, other=0)
    seen = (generated > 0) | (given != 0)
    x = tl.where(seen, tl.where(x > 0, x / repetition, x * repetition), x)
    x -= frequency * generated.to(tl.float32) + presence * tl.where(generated > 0, 1.0, 0.0)
    x /= tl.where(temperature > 0, temperature, 1.0)
    word = tl.load(allowed + place * words + v // 32, mask=real, other=0)
    permitted = ((word >> (v % 32)) & 1) == 1
    for i in range(bans):
        permitted = permitted & (v != tl.load(banned + row * bans + i))
    tl.store(result + place * vocabulary + v, tl.where(permitted, x, float("-inf")), mask=real)


def launch_adjust(
    logits: torch.Tensor,
    tokens: torch.Tensor,
    ancestors: torch.Tensor,
    counts: torch.Tensor,
    prompt: torch.Tensor,
    settings: torch.Tensor,
    allowed: torch.Tensor,
    banned: torch.Tensor,
) -> torch.Tensor:
    """See :func:`codegen.kernels.logits.adjust_logits`."""
    rows, nodes, vocabulary = logits.shape
    result = torch.empty(logits.shape, dtype=torch.float32, device=logits.device)
    block = min(1024, triton.next_power_of_2(vocabulary))
    given = (logits, tokens, ancestors, counts, prompt.to(torch.uint8), settings, allowed, banned)
    adjust_kernel[(rows * nodes, triton.cdiv(vocabulary, block))](
        *(x.contiguous() for x in given), result,
        nodes, vocabulary, allowed.shape[2], banned.shape[1], BLOCK=block, num_warps=4,
    )  # fmt: skip
    return result


@triton.jit
def gumbel(seed, request, position, token, STREAM: tl.constexpr):
    """Standard Gumbel variables, float32, of the shape of ``token`` (int32)."""
    zero = token * 0
    word, _, _, _ = tl.philox(
        seed, token, zero + position.to(tl.int32), zero + request.to(tl.int32), zero + STREAM
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
