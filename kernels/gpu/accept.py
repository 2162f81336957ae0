"""Acceptance on the device, one program a row: V is streamed once for each rejected token.

A tree's p is kept as a row of the draft, the tokens taken out of it and one divisor; its q as a row
of the target or, after a rejection, in one of two scratch rows that take turns.
"""

# Triton's language and launches are typed for its compiler only.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false
# pyright: reportOperatorIssue=false

from __future__ import annotations

import torch
import triton
import triton.language as tl

from codegen.kernels.gpu.logits import gumbel

BLOCK = 4096
CHAIN_BLOCK = 2048  # the noise takes registers
_TINY = tl.constexpr(1e-12)
_ACCEPT = tl.constexpr(1)  # codegen.kernels.logits.ACCEPT


@triton.jit
def _mass_of_q(target, scratch, held, at, mask):
    """The target's q, or what is left of it if ``held``; the other load touches no memory."""
    left = (at * 0 + held) != 0  # a block: the interpreter widens scalar masks wrongly
    fresh = tl.load(target + at, mask=mask & (left == 0), other=0.0).to(tl.float32)
    return fresh + tl.load(scratch + at, mask=mask & left, other=0.0)


@triton.jit
def tree_kernel(
    children, tokens, target, draft, uniforms, last, scratch, path, count, final,
    nodes, inner, vocabulary, depth, most, uniforms_most,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Recursive rejection down one tree."""
    row = tl.program_id(0).to(tl.int64)
    lanes = tl.arange(0, BLOCK)
    children += row * nodes * most
    tokens += row * (nodes - 1)
    target += row * nodes * vocabulary
    draft += row * inner * vocabulary
    uniforms += row * depth * uniforms_most
    scratch += row * 2 * vocabulary
    path += row * depth

    node = row * 0
    half = row * 0  # the scratch row that q is in, if it is
    held = row * 0
    divisor = tl.full((), 1.0, tl.float32)  # of q
    level = row * 0
    active = row * 0 + 1
    while (level < depth) & (active != 0):
        p_row = draft + tl.minimum(node, inner - 1) * vocabulary
        kept = tl.full((), 1.0, tl.float32)  # mass of p without the tokens taken out
        below = row * 0 - 1
        trying = row * 0 + 1
        i = row * 0
        while (i < most) & (trying != 0):
            child = tl.load(children + node * most + i)
            if child >= 0:
                token = tl.load(tokens + child - 1)
                q_row, old = target + node * vocabulary, scratch + half * vocabulary
                chance = tl.load(uniforms + level * uniforms_most + i).to(tl.float64)
                p_token = tl.load(p_row + token).to(tl.float32) / kept
                q_token = _mass_of_q(q_row, old, held, token, token >= 0) / divisor
                if chance * p_token.to(tl.float64) < q_token.to(tl.float64):
                    below = child
                    trying = row * 0
                else:
                    new = scratch + (1 - half) * vocabulary
                    left = tl.zeros((BLOCK,), tl.float32)
                    rest = tl.zeros((BLOCK,), tl.float32)
                    for start in range(0, vocabulary, BLOCK):
                        v = start + lanes
                        real = v < vocabulary
                        q = _mass_of_q(q_row, old, held, v, real) / divisor
                        p = tl.load(p_row + v, mask=real, other=0.0).to(tl.float32)
                        for earlier in range(i):
                            gone = tl.load(children + node * most + earlier)
                            out = tl.load(tokens + gone - 1, mask=gone >= 0, other=-1)
                            p = tl.where(v == out, 0.0, p)
                        residual = tl.maximum(q - p / kept, 0.0)
                        tl.store(new + v, residual, mask=real)
                        left += residual
                        rest += tl.where(v == token, 0.0, p)
                    tl.debug_barrier()  # other threads' parts of the scratch row are read next
                    mass = tl.sum(left, 0)
                    if mass > _TINY:
                        half = 1 - half
                        held = row * 0 + 1
                        divisor = mass
                    kept = tl.sum(rest, 0)
                    if kept <= 0:
                        trying = row * 0
            i += 1
        if below >= 0:
            tl.store(path + level, below)
            node = below
            held = row * 0
            divisor = tl.full((), 1.0, tl.float32)
            level += 1
        else:
            active = row * 0
    tl.store(count + row, level)

    # The token whose share of the cumulated q the last uniform falls into.
    q_row, old = target + node * vocabulary, scratch + half * vocabulary
    parts = tl.zeros((BLOCK,), tl.float64)
    for start in range(0, vocabulary, BLOCK):
        v = start + lanes
        parts += (_mass_of_q(q_row, old, held, v, v < vocabulary) / divisor).to(tl.float64)
    aim = tl.load(last + row).to(tl.float64) * tl.sum(parts, 0)
    before = aim * 0
    found = row * 0 + vocabulary
    latest = row * 0  # the last token with any mass, for a sum that rounding left short
    at = row * 0
    while (at < vocabulary) & (found == vocabulary):
        v = at + lanes
        real = v < vocabulary
        q = (_mass_of_q(q_row, old, held, v, real) / divisor).to(tl.float64)
        hit = real & (before + tl.cumsum(q, 0) > aim)
        found = tl.min(tl.where(hit, v, vocabulary), 0)
        latest = tl.maximum(latest, tl.max(tl.where(q > 0, v, 0), 0))
        before += tl.sum(q, 0)
        at += BLOCK
    tl.store(final + row, tl.minimum(found, latest))


@triton.jit
def greedy_kernel(
    children, tokens, best, path, count, final, nodes, depth, most, BLOCK_K: tl.constexpr
):
    """Down one tree along the target's choices."""
    row = tl.program_id(0).to(tl.int64)
    lanes = tl.arange(0, BLOCK_K)
    node = row * 0
    level = row * 0
    active = row * 0 + 1
    while (level < depth) & (active != 0):
        wanted = tl.load(best + row * nodes + node)
        child = tl.load(children + (row * nodes + node) * most + lanes, mask=lanes < most, other=-1)
        token = tl.load(tokens + row * (nodes - 1) + child - 1, mask=child >= 0, other=-1)
        good = (child >= 0) & (token == wanted)
        below = tl.min(tl.where(good, child, nodes), 0)
        if below < nodes:
            tl.store(path + row * depth + level, below)
            node = below
            level += 1
        else:
            active = row * 0
    tl.store(count + row, level)
    tl.store(final + row, tl.load(best + row * nodes + node))


@triton.jit
def chain_kernel(
    tokens, target, draft, uniforms, seeds, requests, positions, path, count, final,
    vocabulary, most,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Along one chain, then one pass over V for the target's token."""
    row = tl.program_id(0).to(tl.int64)
    lanes = tl.arange(0, BLOCK)
    target += row * (most + 1) * vocabulary
    draft += row * most * vocabulary
    stands = row * 0
    rejected = row * 0
    active = row * 0 + 1
    while (stands < most) & (active != 0):
        token = tl.load(tokens + row * most + stands)
        if token < 0:
            active = row * 0
        else:
            at = stands * vocabulary + token
            p, q = tl.load(draft + at).to(tl.float32), tl.load(target + at).to(tl.float32)
            chance = tl.load(uniforms + row * most + stands).to(tl.float64)
            if chance * p.to(tl.float64) < q.to(tl.float64):
                tl.store(path + row * most + stands, stands + 1)
                stands += 1
            else:
                active = row * 0
                rejected = row * 0 + 1
    tl.store(count + row, stands)

    # Both q - p and q compete, since only the end of the pass says whether q - p has any mass.
    seed, request = tl.load(seeds + row), tl.load(requests + row)
    position = tl.load(positions + row) + stands
    mass = tl.zeros((BLOCK,), tl.float32)
    most_left = tl.full((), float("-inf"), tl.float32)
    most_q = tl.full((), float("-inf"), tl.float32)
    token_left = tl.full((), 0, tl.int32)
    token_q = tl.full((), 0, tl.int32)
    for start in range(0, vocabulary, BLOCK):
        v = start + lanes
        real = v < vocabulary
        q = tl.load(target + stands * vocabulary + v, mask=real, other=0.0).to(tl.float32)
        p = tl.load(
            draft + stands * vocabulary + v, mask=real & ((v * 0 + rejected) != 0), other=0.0
        ).to(tl.float32)  # fmt: skip
        left = tl.maximum(q - p, 0.0)
        mass += left
        noise = gumbel(seed, request, position, v, _ACCEPT)
        none = float("-inf")
        left_keys = tl.where(left > 0, tl.log(tl.maximum(left, 1e-45)) + noise, none)
        q_keys = tl.where(q > 0, tl.log(tl.maximum(q, 1e-45)) + noise, none)
        value, index = tl.max(left_keys, 0, return_indices=True)
        if value > most_left:
            most_left = value
            token_left = start + index
        value, index = tl.max(q_keys, 0, return_indices=True)
        if value > most_q:
            most_q = value
            token_q = start + index
    use = (rejected != 0) & (tl.sum(mass, 0) > _TINY)
    tl.store(final + row, tl.where(use, token_left, token_q))


def launch_tree(
    children: torch.Tensor,
    tokens: torch.Tensor,
    target: torch.Tensor,
    draft: torch.Tensor,
    uniforms: torch.Tensor,
    last: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """See :func:`codegen.kernels.accept.accept_tree`."""
    rows, nodes, most = children.shape
    depth, vocabulary = uniforms.shape[1], target.shape[2]
    path, count, final = _results(children, depth)
    scratch = target.new_empty(rows, 2, vocabulary, dtype=torch.float32)
    given = (x.contiguous() for x in (children, tokens, target, draft, uniforms, last))
    tree_kernel[(rows,)](
        *given, scratch, path, count, final,
        nodes, draft.shape[1], vocabulary, depth, most, uniforms.shape[2],
        BLOCK=min(BLOCK, triton.next_power_of_2(vocabulary)), num_warps=8,
    )  # fmt: skip
    return path, count, final


def launch_greedy(
    children: torch.Tensor, tokens: torch.Tensor, best: torch.Tensor, depth: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """See :func:`codegen.kernels.accept.accept_greedy`."""
    rows, nodes, most = children.shape
    path, count, final = _results(children, depth)
    given = (x.contiguous() for x in (children, tokens, best))
    greedy_kernel[(rows,)](
        *given, path, count, final, nodes, depth, most,
        BLOCK_K=triton.next_power_of_2(max(most, 1)), num_warps=1,
    )  # fmt: skip
    return path, count, final


def launch_chain(
    tokens: torch.Tensor,
    target: torch.Tensor,
    draft: torch.Tensor,
    uniforms: torch.Tensor,
    seeds: torch.Tensor,
    requests: torch.Tensor,
    positions: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """See :func:`codegen.kernels.accept.accept_chain`."""
    rows, most = tokens.shape
    vocabulary = target.shape[2]
    path, count, final = _results(tokens, most)
    given = (tokens, target, draft, uniforms, seeds, requests, positions)
    chain_kernel[(rows,)](
        *(x.contiguous() for x in given), path, count, final, vocabulary, most,
        BLOCK=min(CHAIN_BLOCK, triton.next_power_of_2(vocabulary)), num_warps=8,
    )  # fmt: skip
    return path, count, final


def _results(like: torch.Tensor, depth: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rows = len(like)
    path = like.new_full((rows, depth), -1)
    return path, like.new_empty(rows), like.new_empty(rows)
