"""Kernels over the vocabulary, against their references."""

from __future__ import annotations

import pytest
import torch

from codegen.decoding.strategies.rsd import (
    Beam,
    ConstantBranching,
    DraftTree,
    StochasticBeam,
    gumbel,
    largest,
)
from codegen.kernels import vocabulary as accept
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


def _trees(shape, rows, vocabulary, g):
    """Grown trees with the target's and the draft's probabilities."""

    def probabilities(nodes):
        return torch.softmax(torch.randn(rows, nodes, vocabulary, generator=g), -1)

    tree, beam, drafts = DraftTree.empty(rows), Beam.root(rows), []
    for level in range(shape.depth):
        drafts.append(probabilities(tree.widths[-1] if level else 1))
        noise = gumbel(torch.rand(*drafts[-1].shape, generator=g, dtype=torch.float64))
        beam = shape.grow(tree, largest(drafts[-1].log(), shape.branches, noise), beam)
    draft = torch.cat(drafts, 1)
    target = probabilities(tree.tokens.shape[1] + 1)
    return tree, target, draft


def _depths(tree):
    rows = len(tree.tokens)
    return tree.fed(torch.zeros(rows, 1).long(), torch.zeros(rows).long()).depths


def _agree(children, tokens, depths, *given, device):
    """What the kernels say, which is what the reference says."""
    everything = (children, tokens, depths, *given)
    found = accept.accept_tree(*(x.to(device) for x in everything))
    for one, other in zip(found, accept.reference_tree(children, tokens, *given), strict=True):
        assert one.tolist() == other.tolist()
    return found


@pytest.mark.parametrize(
    ("shape", "vocabulary", "dtype"),  # one block of the vocabulary, or two
    [
        (ConstantBranching((3, 2)), 7, torch.float32),
        (StochasticBeam(4, 3), 5000, torch.float16),
        (ConstantBranching((1, 1, 1)), 7, torch.float16),
    ],
)
def test_trees(shape, vocabulary, dtype, device) -> None:
    g = torch.Generator().manual_seed(vocabulary)
    rows = 4 if vocabulary < 100 else 2
    tree, target, draft = _trees(shape, rows, vocabulary, g)
    children = tree.children()
    uniforms = torch.rand(rows, shape.depth, children.shape[2], generator=g, dtype=torch.float64)
    last = torch.rand(rows, generator=g, dtype=torch.float64)
    _agree(children, tree.tokens, _depths(tree), target.to(dtype), draft.to(dtype), uniforms, last,
           device=device)  # fmt: skip


def test_tree_edges(device) -> None:
    """A draft that has nothing left, one equal to the target, and dead children."""
    children = torch.tensor([[[1, 2], [-1, -1], [-1, -1]]] * 3)
    children[2, 0, 1] = -1
    tokens = torch.tensor([[0, 1], [2, 1], [3, 0]])
    point = torch.tensor([1.0, 0, 0, 0])
    draft = torch.stack([point, torch.full((4,), 0.25), torch.tensor([0.0, 0, 0, 1])])[:, None]
    target = torch.full((3, 3, 4), 0.25)
    target[0] = torch.tensor([0, 0, 0.5, 0.5])
    uniforms = torch.full((3, 1, 2), 0.999, dtype=torch.float64)
    last = torch.tensor([0.999999, 0.0, 0.5], dtype=torch.float64)
    depths = torch.tensor([[0, 1, 1]] * 3)
    found = _agree(children, tokens, depths, target, draft, uniforms, last, device=device)
    assert found.length.tolist() == [0, 1, 0]


@pytest.mark.parametrize(("width", "rows"), [(2, 9), (13, 9), (64, 2)])
def test_greedy(width, rows, device) -> None:
    g = torch.Generator().manual_seed(width)
    parents = torch.stack([torch.randint(max(1, j), (rows,), generator=g) for j in range(width)], 1)
    parents[torch.rand(rows, width, generator=g) < 0.1] = -1
    parents[:, 0] = -1
    tokens = torch.arange(width).repeat(rows, 1)  # all differ, so siblings do
    chosen = torch.randint(width, (rows, width), generator=g)
    # Where a node has children, one of them is chosen as a rule.
    for row in range(rows):
        for node in range(width):
            below = (parents[row] == node).nonzero()[:, 0]
            if len(below) and torch.rand(1, generator=g) < 0.9:
                chosen[row, node] = tokens[row, below[-1]]
    found = accept.accept_greedy(tokens.to(device), parents.to(device), chosen.to(device))
    expected = accept.reference_greedy(tokens, parents, chosen)
    assert torch.equal(found.cpu(), expected)
    assert expected.max() > 0
