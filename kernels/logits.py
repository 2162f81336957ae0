"""Grammar masks, bans, penalties and temperature over all rows of a draft in one pass.

A draft's tokens are context of the rows below them: a penalty that forgets them, or a mask applied
to the first row only, lets the verifier accept what plain decoding would not have sampled.
"""

from __future__ import annotations

import torch

from codegen.errors import InputError
from codegen.kernels.backend import close, run


def adjust_logits(
    logits: torch.Tensor,
    tokens: torch.Tensor,
    ancestors: torch.Tensor,
    counts: torch.Tensor,
    prompt: torch.Tensor,
    settings: torch.Tensor,
    allowed: torch.Tensor,
    banned: torch.Tensor,
) -> torch.Tensor:
    """Logits float32 [B, T, V] by which row b's node i chooses what follows it.

    In this order: the repetition penalty (arXiv 1909.05858) on tokens of the prompt or generated,
    the frequency and presence penalties (OpenAI's) on generated ones, temperature, masks.

    Args:
        logits: [B, T, V], any float type.
        tokens: int64 [B, T], the nodes'.
        ancestors: int64 [B, T], bit j of node i says whether it sees node j, as in tree attention.
        counts: int32 [B, V], how often each token was generated before node 0.
        prompt: bool [B, V], the tokens of the prompt.
        settings: float32 [B, 4]: repetition (1 is none), frequency, presence (0 is none) and
            temperature (0 leaves the scale, for greedy choice).
        allowed: int32 [B, T, ceil(V / 32)], a grammar's bits, token 0 the lowest of word 0.
        banned: int64 [B, X], tokens ruled out, -1 for none.

    Raises:
        InputError: if the shapes do not fit together.
    """
    rows, nodes, vocabulary = logits.shape
    if tokens.shape != (rows, nodes) or ancestors.shape != (rows, nodes) or nodes > 64:
        raise InputError("tokens and ancestors must be [B, T], T at most 64.")
    if counts.shape != (rows, vocabulary) or prompt.shape != (rows, vocabulary):
        raise InputError("counts and prompt must be [B, V].")
    if allowed.shape != (rows, nodes, -(-vocabulary // 32)) or settings.shape != (rows, 4):
        raise InputError("allowed must be [B, T, ceil(V / 32)] and settings [B, 4].")
    given = (logits, tokens, ancestors, counts, prompt, settings, allowed, banned)

    def kernel() -> torch.Tensor:
        from codegen.kernels.gpu.logits import launch

        return launch(*given)

    return run("adjust_logits", logits, kernel, lambda: reference(*given), close)


def reference(
    logits: torch.Tensor,
    tokens: torch.Tensor,
    ancestors: torch.Tensor,
    counts: torch.Tensor,
    prompt: torch.Tensor,
    settings: torch.Tensor,
    allowed: torch.Tensor,
    banned: torch.Tensor,
) -> torch.Tensor:
    """The same on whole tensors."""
    rows, nodes, vocabulary = logits.shape
    x = logits.float()
    bits = torch.arange(nodes, device=x.device)
    sees = (ancestors[:, :, None] >> bits) & 1  # [B, T, T]
    generated = counts[:, None].repeat(1, nodes, 1).long()
    generated.scatter_add_(2, tokens[:, None].expand(-1, nodes, -1), sees)
    repetition, frequency, presence, temperature = settings[:, :, None, None].unbind(1)
    seen = (generated > 0) | prompt[:, None]
    x = torch.where(seen, torch.where(x > 0, x / repetition, x * repetition), x)
    x = x - frequency * generated - presence * (generated > 0)
    x = x / torch.where(temperature > 0, temperature, 1.0)
    token = torch.arange(vocabulary, device=x.device)
    permitted = (allowed.gather(2, (token // 32).expand(rows, nodes, -1)) >> token % 32) & 1 == 1
    out = torch.zeros(rows, vocabulary + 1, dtype=torch.bool, device=x.device)
    out.scatter_(1, torch.where(banned < 0, vocabulary, banned), True)
    return x.masked_fill(~permitted | out[:, None, :-1], -torch.inf)
