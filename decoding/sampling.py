"""Chooses tokens from logits by random numbers from the caller.

Each token uses one uniform number, generated from its row's own seed, by inverse-transform
sampling. So a row's sample does not depend on the rest of the batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from codegen.decoding.device import upload
from codegen.kernels.vocabulary import inverse_transform

# Most nuclei fit in this many tokens; rows with a larger nucleus are fully sorted.
_TOP = 512


def choose(
    logits: torch.Tensor, uniforms: torch.Tensor, temperature: float, top_p: float
) -> torch.Tensor:
    """Chooses one token per row.

    Args:
        logits: [B, V], any float dtype; -inf forbids a token.
        uniforms: float64 [B] in [0, 1).
        temperature: 0 takes the largest logit (the lowest id among equals).
        top_p: mass of the nucleus (Holtzman et al. 2020): the fewest tokens, most likely first,
            that reach ``top_p``; ties are broken arbitrarily.

    Returns:
        int64 [B].
    """
    if temperature == 0:
        return logits.argmax(-1)
    scaled = logits.double() if logits.dtype == torch.float64 else logits.float()
    # Relative to the row's maximum: a tiny temperature then yields -inf instead of inf - inf.
    scaled = (scaled - scaled.amax(-1, keepdim=True)) / temperature
    if top_p >= 1:
        return inverse_transform(torch.softmax(scaled, -1), uniforms)
    total = torch.logsumexp(scaled, -1, keepdim=True)
    if scaled.device.type != "cpu":  # checking nucleus sizes would make the host wait
        values, ids = scaled.sort(dim=-1, descending=True, stable=True)
        picked = _nucleus((values - total).exp(), uniforms, top_p)
        return ids.gather(-1, picked[:, None])[:, 0]
    values, ids = scaled.topk(min(_TOP, scaled.shape[-1]), dim=-1)
    probabilities = (values - total).exp()
    short = probabilities.double().sum(-1) < top_p  # float64, since rounding could exceed top_p
    picked = _nucleus(probabilities, uniforms, top_p)
    token = ids.gather(-1, picked[:, None])[:, 0]
    if bool(short.any()) and ids.shape[-1] < scaled.shape[-1]:
        rows = short.nonzero()[:, 0]
        values, ids = scaled[rows].sort(dim=-1, descending=True, stable=True)
        probabilities = (values - total[rows]).exp()
        picked = _nucleus(probabilities, uniforms[rows], top_p)
        token[rows] = ids.gather(-1, picked[:, None])[:, 0]
    return token


def allow_only(logits: torch.Tensor, tokens_of: Mapping[int, Sequence[int]]) -> None:
    """Forbids, in place, all but the given tokens in some rows of logits [B, V].

    Rows without tokens are unchanged. Makes one copy to the device.
    """
    pairs = [(row, token) for row, tokens in tokens_of.items() for token in tokens]
    if not pairs:
        return
    ((rows, ids),) = upload(logits.device, torch.tensor(pairs).T)
    kept = logits[rows, ids]
    for row in {row for row, _ in pairs}:
        logits[row] = -torch.inf
    logits[rows, ids] = kept


def distribution(logits: torch.Tensor, temperature: float, top_p: float) -> torch.Tensor:
    """Returns the probabilities [..., V] with which :func:`choose` picks tokens."""
    if temperature == 0:
        best = logits.argmax(-1, keepdim=True)
        return torch.zeros_like(logits, dtype=torch.float32).scatter(-1, best, 1.0)
    scaled = logits.float()
    scaled = (scaled - scaled.amax(-1, keepdim=True)) / temperature
    probabilities = torch.softmax(scaled, -1)
    if top_p >= 1:
        return probabilities
    ranked, ids = probabilities.sort(dim=-1, descending=True, stable=True)
    before = ranked.double().cumsum(-1) - ranked
    kept = torch.where(before < top_p, ranked, 0)
    kept /= kept.sum(-1, keepdim=True)
    return torch.zeros_like(probabilities).scatter(-1, ids, kept)


def _nucleus(probabilities: torch.Tensor, uniforms: torch.Tensor, top_p: float) -> torch.Tensor:
    """Samples indices [B] from the nucleus of descending probabilities [B, K]."""
    mass_before = probabilities.double().cumsum(-1) - probabilities
    return inverse_transform(torch.where(mass_before < top_p, probabilities, 0), uniforms)
