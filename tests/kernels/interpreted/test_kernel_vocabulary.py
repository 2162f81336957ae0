"""Kernels over the vocabulary, against their references."""

from __future__ import annotations

import pytest
import torch

from codegen.kernels import logits

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
def test_logits(dtype, device) -> None:
    g = torch.Generator().manual_seed(3)
    rows, nodes, vocabulary = 3, 5, 1100
    words = -(-vocabulary // 32)
    given = (
        (3 * torch.randn(rows, nodes, vocabulary, generator=g)).to(dtype),
        torch.randint(40, (rows, nodes), generator=g),
        torch.tensor([[1, 3, 7, 15, 31], [1, 3, 5, 11, 19], [1, 3, 5, 9, 17]]),
        torch.randint(3, (rows, vocabulary), generator=g, dtype=torch.int32),
        torch.randint(2, (rows, vocabulary), generator=g).bool(),
        torch.tensor([[1.3, 0.2, 0.1, 0.7], [1, 0, 0, 0], [1, 0.5, 0, 1.5]]),
        torch.randint(-(2**31), 2**31, (rows, nodes, words), generator=g).int(),
        torch.tensor([[3, 1099], [-1, -1], [0, -1]]),
    )
    found = logits.adjust_logits(*(x.to(device) for x in given)).cpu()
    torch.testing.assert_close(found, logits.reference_adjust(*given), atol=1e-5, rtol=1e-5)
