"""Kernels over the vocabulary: penalties in one pass over their tokens; Gumbel noise from counters;
Gumbel-top-k in two launches, first the best of each block of tokens, then the best of all blocks.

**Acceptance.** The children of all inner nodes are tried at once, with the vocabulary in blocks:
whether a child is accepted depends only on its node's distributions, not on how the node was
reached. Launch i tries every node's i-th child. If it is rejected, each block stores its part of
the mass of q - p and of the rest of p, which the next launch adds up. The current q and p are
always computed from the original rows and those sums, so no row is written. One more launch walks
down the tree and sums q by blocks, and a last one finds the target's token in its block.

``codegen.kernels.vocabulary`` has the plain versions.
"""

# Triton's language is typed only for its compiler.

from __future__ import annotations

import torch
import triton
import triton.language as tl

BLOCK = 4096


@triton.jit
def penalize_kernel(logits, rows, ids, amounts, row_stride, count, BLOCK: tl.constexpr):
    """Applies one block of penalties; grid (blocks)."""
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
) -> torch.Tensor:
    """Launches :func:`codegen.kernels.vocabulary.penalize`; returns ``logits``."""
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
    return logits


@triton.jit
def gumbel(seed, request, position, token):
    """Returns standard Gumbel variables, float32, in the shape of ``token`` (int32)."""
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
    """Finds the k largest keys of one block by repeated maximum; grid (R, blocks)."""
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
    """Finds a row's k largest candidates, which are in ascending block order; grid (R)."""
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
    """Launches :func:`codegen.kernels.vocabulary.gumbel_top_k`."""
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


_TINY = tl.constexpr(1e-12)
_REJECTED, _ACCEPTED, _STOPPED = tl.constexpr(1), tl.constexpr(2), tl.constexpr(3)


@triton.jit
def _after(q, p, v, children, tokens, states, sums, step, blocks, BLOCKS: tl.constexpr):
    """Returns q and p at the tokens v after a node's first ``step`` children, and p's divisor."""
    kept = tl.full((), 1.0, tl.float32)
    lanes = tl.arange(0, BLOCKS)
    for i in range(step):
        if tl.load(states + i) == _REJECTED:
            part = sums + (i * blocks + lanes) * 2
            mass = tl.sum(tl.load(part, mask=lanes < blocks, other=0.0), 0)
            rest = tl.sum(tl.load(part + 1, mask=lanes < blocks, other=0.0), 0)
            q = tl.where(mass > _TINY, tl.maximum(q - p / kept, 0.0) / mass, q)
            token = tl.load(tokens + tl.load(children + i) - 1)
            p = tl.where(v == token, 0.0, p)
            kept = rest
    return q, p, kept


@triton.jit
def sibling_kernel(
    children, tokens, depths, target, draft, uniforms, states, sums,
    step, nodes, inner, vocabulary, depth, most, uniforms_most, blocks,
    BLOCK: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    """Tries one child of every inner node; grid (B * M, blocks)."""
    place = tl.program_id(0).to(tl.int64)
    block = tl.program_id(1)
    row, node = place // inner, place % inner
    children += (row * nodes + node) * most
    tokens += row * (nodes - 1)
    target += (row * nodes + node) * vocabulary
    draft += place * vocabulary
    states += place * most
    sums += place * most * blocks * 2
    child = tl.load(children + step)
    level = tl.load(depths + row * nodes + node)
    going = (child >= 0) & (level < depth)
    for i in range(step):
        going = going & (tl.load(states + i) < _ACCEPTED)
    if going:
        # A block of one token, since the interpreter mishandles scalars in masks.
        x = tl.load(tokens + child - 1) + tl.arange(0, 1)
        q, p = tl.load(target + x).to(tl.float32), tl.load(draft + x).to(tl.float32)
        q, p, kept = _after(q, p, x, children, tokens, states, sums, step, blocks, BLOCKS)
        chance = tl.load(uniforms + (row * depth + level) * uniforms_most + step).to(tl.float64)
        good = tl.max((chance * (p / kept).to(tl.float64) < q.to(tl.float64)).to(tl.int32), 0)
        if kept <= 0.0:  # pyrefly: ignore[unsupported-operation]
            tl.store(states + step, _STOPPED)
        elif good > 0:  # pyrefly: ignore[unsupported-operation]
            tl.store(states + step, _ACCEPTED)
        else:
            tl.store(states + step, _REJECTED)
            v = block * BLOCK + tl.arange(0, BLOCK)
            real = v < vocabulary
            all_q = tl.load(target + v, mask=real, other=0.0).to(tl.float32)
            all_p = tl.load(draft + v, mask=real, other=0.0).to(tl.float32)
            all_q, all_p, left = _after(
                all_q, all_p, v, children, tokens, states, sums, step, blocks, BLOCKS
            )
            mass = tl.sum(tl.maximum(all_q - all_p / left, 0.0), 0)
            token = tl.load(tokens + child - 1)
            rest = tl.sum(tl.where(v == token, 0.0, all_p), 0)
            tl.store(sums + (step * blocks + block) * 2, mass)
            tl.store(sums + (step * blocks + block) * 2 + 1, rest)


@triton.jit
def _q_of_leaf(
    children, tokens, target, draft, states, sums,
    row, node, v, nodes, inner, vocabulary, most, blocks, BLOCKS: tl.constexpr,
):  # fmt: skip
    """Returns the distribution after a path's last node, at the tokens v."""
    real = v < vocabulary
    q = tl.load(target + (row * nodes + node) * vocabulary + v, mask=real, other=0.0)
    q = q.to(tl.float32)
    if node < inner:
        place = row * inner + node
        p = tl.load(draft + place * vocabulary + v, mask=real, other=0.0).to(tl.float32)
        q, _p, _kept = _after(
            q, p, v, children + (row * nodes + node) * most, tokens + row * (nodes - 1),
            states + place * most, sums + place * most * blocks * 2, most, blocks, BLOCKS,
        )  # fmt: skip
    return q


@triton.jit
def walk_kernel(
    children, tokens, target, draft, states, sums, path, count, leaves, parts,
    nodes, inner, vocabulary, depth, most, blocks,
    BLOCK: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    """Walks down the accepted children, and sums the last q by blocks; grid (B, blocks)."""
    row = tl.program_id(0).to(tl.int64)
    block = tl.program_id(1)
    node = row * 0
    level = row * 0
    active = row * 0 + 1
    while (level < depth) & (active != 0):
        below = row * 0 - 1
        if node < inner:
            for i in range(most):
                if tl.load(states + (row * inner + node) * most + i) == _ACCEPTED:
                    below = tl.load(children + (row * nodes + node) * most + i)
        if below >= 0:
            tl.store(path + row * depth + level, below)
            node = below
            level += 1
        else:
            active = row * 0
    tl.store(count + row, level)
    tl.store(leaves + row, node)
    v = block * BLOCK + tl.arange(0, BLOCK)
    q = _q_of_leaf(
        children, tokens, target, draft, states, sums,
        row, node, v, nodes, inner, vocabulary, most, blocks, BLOCKS,
    )  # fmt: skip
    tl.store(parts + row * blocks + block, tl.sum(q.to(tl.float64), 0))


@triton.jit
def token_kernel(
    children, tokens, target, draft, states, sums, leaves, parts, last, final,
    nodes, inner, vocabulary, most, blocks,
    BLOCK: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    """Samples by inverse transform from the last q; grid (B)."""
    row = tl.program_id(0).to(tl.int64)
    lanes = tl.arange(0, BLOCKS)
    part = tl.load(parts + row * blocks + lanes, mask=lanes < blocks, other=0.0)
    aim = tl.load(last + row).to(tl.float64) * tl.sum(part, 0)
    # If rounding makes the sum too small, the last token with any mass is taken.
    latest = tl.max(tl.where(part > 0, lanes, 0), 0)
    block = tl.min(tl.where(tl.cumsum(part, 0) > aim, lanes, BLOCKS), 0)
    block = tl.minimum(block, latest)
    before = tl.sum(tl.where(lanes < block, part, 0.0), 0)
    v = block * BLOCK + tl.arange(0, BLOCK)
    q = _q_of_leaf(
        children, tokens, target, draft, states, sums,
        row, tl.load(leaves + row), v, nodes, inner, vocabulary, most, blocks, BLOCKS,
    )  # fmt: skip
    hit = (q > 0) & (before + tl.cumsum(q.to(tl.float64), 0) > aim)
    found = tl.min(tl.where(hit, v, vocabulary), 0)
    tl.store(final + row, tl.minimum(found, tl.max(tl.where(q > 0, v, 0), 0)))


@triton.jit
def greedy_kernel(tokens, parents, chosen, path, width, BLOCK: tl.constexpr):
    """Walks down a tree along the chosen tokens; grid (B)."""
    row = tl.program_id(0).to(tl.int64)
    lanes = tl.arange(0, BLOCK)
    token = tl.load(tokens + row * width + lanes, mask=lanes < width, other=-1)
    parent = tl.load(parents + row * width + lanes, mask=lanes < width, other=-1)
    node = row * 0
    for level in range(width - 1):
        wanted = tl.load(chosen + row * width + tl.minimum(node, width - 1))
        good = (parent == node) & (token == wanted)
        # The tree's width means "no such child".
        node = tl.min(tl.where(good, lanes, width), 0).to(tl.int64)  # pyrefly: ignore[missing-attribute]
        tl.store(path + row * (width - 1) + level, tl.where(node < width, node, -1))


def launch_tree(
    children: torch.Tensor,
    tokens: torch.Tensor,
    depths: torch.Tensor,
    target: torch.Tensor,
    draft: torch.Tensor,
    uniforms: torch.Tensor,
    last: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Launches :func:`codegen.kernels.vocabulary.accept_tree`."""
    rows, nodes, most = children.shape
    depth, vocabulary, inner = uniforms.shape[1], target.shape[2], draft.shape[1]
    block = min(BLOCK, triton.next_power_of_2(vocabulary))
    blocks = triton.cdiv(vocabulary, block)
    path = children.new_full((rows, depth), -1)
    count, leaves, final = (children.new_empty(rows) for _ in range(3))
    states = torch.zeros(rows, inner, most, dtype=torch.int32, device=children.device)
    sums = target.new_empty(rows, inner, most, blocks, 2, dtype=torch.float32)
    parts = target.new_empty(rows, blocks, dtype=torch.float64)
    children, tokens, depths, target, draft, uniforms, last = (
        x.contiguous() for x in (children, tokens, depths, target, draft, uniforms, last)
    )
    sizes = {"BLOCK": block, "BLOCKS": triton.next_power_of_2(blocks), "num_warps": 8}
    for step in range(most):
        sibling_kernel[(rows * inner, blocks)](
            children, tokens, depths, target, draft, uniforms, states, sums,
            step, nodes, inner, vocabulary, depth, most, uniforms.shape[2], blocks, **sizes,
        )  # fmt: skip
    walk_kernel[(rows, blocks)](
        children, tokens, target, draft, states, sums, path, count, leaves, parts,
        nodes, inner, vocabulary, depth, most, blocks, **sizes,
    )  # fmt: skip
    token_kernel[(rows,)](
        children, tokens, target, draft, states, sums, leaves, parts, last, final,
        nodes, inner, vocabulary, most, blocks, **sizes,
    )  # fmt: skip
    return path, count, final


def launch_greedy(
    tokens: torch.Tensor, parents: torch.Tensor, chosen: torch.Tensor
) -> torch.Tensor:
    """Launches :func:`codegen.kernels.vocabulary.accept_greedy`."""
    rows, width = tokens.shape
    path = tokens.new_empty(rows, width - 1)
    given = (x.contiguous() for x in (tokens, parents, chosen))
    block = triton.next_power_of_2(width)
    # pyrefly: ignore[bad-argument-count, bad-keyword-argument]
    greedy_kernel[(rows,)](*given, path, width, BLOCK=block, num_warps=1)
    return path
