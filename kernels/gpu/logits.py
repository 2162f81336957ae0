"""One pass over the logits of all nodes: each is read once and written once."""

# Triton's language and launches are typed for its compiler only.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false

from __future__ import annotations

import torch
import triton
import triton.language as tl


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


def launch(
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
