"""Kernels over the vocabulary, against their references."""

from __future__ import annotations

import pytest
import torch

from codegen.kernels import vocabulary as logits

DTYPES = [torch.float32, torch.float16]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("vocabulary", "k"), [(5, 3), (20, 16), (9001, 4)])
def test_draws(vocabulary, k, dtype, device) -> None:
    g = torch.Generator().manual_seed(k)
    log_probs = torch.log_softmax(torch.randn(6, vocabulary, generator=g), -1)
    log_probs[0, 2:] = -torch.inf  # two tokens for k draws
    log_probs = log_probs.to(dtype)
    seeds, requests, positions = (torch.randint(-(2**40), 2**40, (6,), generator=g) for _ in "123")
    given = (log_probs, k, seeds, requests, positions)
    found = logits.gumbel_top_k(
        log_probs.to(device), k, *(x.to(device) for x in (seeds, requests, positions))
    )
    expected = logits.reference_top_k(*given)
    assert found.tokens.tolist() == expected.tokens.tolist()
    assert found.tokens[0, 2:].unique().tolist() == [-1]
    for one, other in zip(found[1:], expected[1:], strict=True):
        torch.testing.assert_close(one.cpu(), other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_penalties(dtype, device) -> None:
    """More places than a block has, in rows with a stride of their own."""
    g = torch.Generator().manual_seed(3)
    raw = (3 * torch.randn(3, 900, generator=g)).to(dtype)
    raw[1, 5] = -torch.inf
    places = torch.randperm(3 * 700, generator=g)[:300]
    rows, ids = places // 700, places % 700
    amounts = torch.rand(3, 300, generator=g, dtype=torch.float64) + 0.5
    amounts[2, :3] = -torch.inf
    found, expected = raw.clone().to(device)[:, :700], raw.clone()[:, :700]
    logits.penalize(found, rows.to(device), ids.to(device), amounts.to(device))
    logits.reference_penalize(expected, rows, ids, amounts)
    close = 1e-5 if dtype == torch.float32 else 2e-3
    torch.testing.assert_close(found.cpu(), expected, atol=close, rtol=close)
    assert not torch.equal(expected, raw[:, :700])
