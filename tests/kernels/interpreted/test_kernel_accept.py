"""Acceptance by kernels against the references, which are held to the decoder's elsewhere."""

from __future__ import annotations

import pytest
import torch

from codegen.decoding.strategies.rsd import Beam, ConstantBranching, StochasticBeam, Tree, gumbel
from codegen.kernels import accept

SHAPES = [ConstantBranching((3, 2)), StochasticBeam(4, 3), ConstantBranching((1, 1, 1))]


def _trees(shape, rows, vocabulary, g):
    """Grown trees with the target's and the draft's probabilities."""

    def probabilities(nodes):
        return torch.softmax(torch.randn(rows, nodes, vocabulary, generator=g), -1)

    tree, beam, drafts = Tree.empty(rows), Beam.root(rows), []
    for level in range(shape.depth):
        drafts.append(probabilities(tree.widths[-1] if level else 1))
        noise = gumbel(torch.rand(*drafts[-1].shape, generator=g, dtype=torch.float64))
        beam = shape.grow(tree, drafts[-1].log(), noise, beam)
    draft = torch.cat(drafts, 1)
    target = probabilities(tree.tokens.shape[1] + 1)
    return tree, target, draft


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("vocabulary", [7, 5000])  # one block, two blocks
def test_trees(shape, vocabulary, dtype, device) -> None:
    g = torch.Generator().manual_seed(vocabulary)
    rows = 10 if vocabulary < 100 else 3
    tree, target, draft = _trees(shape, rows, vocabulary, g)
    children = tree.children()
    uniforms = torch.rand(rows, shape.depth, children.shape[2], generator=g, dtype=torch.float64)
    last = torch.rand(rows, generator=g, dtype=torch.float64)
    given = (children, tree.tokens, target.to(dtype), draft.to(dtype), uniforms, last)
    found = accept.accept_tree(*(x.to(device) for x in given))
    expected = accept.reference_tree(*given)
    for one, other in zip(found, expected, strict=True):
        assert one.tolist() == other.tolist()


def test_many_rejections(device) -> None:
    """Five siblings and uniforms near 1: what is left of p after each of them decides."""
    g = torch.Generator().manual_seed(2)
    tree, target, draft = _trees(ConstantBranching((5,)), 30, 7, g)
    children = tree.children()
    uniforms = 1 - 0.2 * torch.rand(30, 1, 5, generator=g, dtype=torch.float64)
    last = torch.rand(30, generator=g, dtype=torch.float64)
    given = (children, tree.tokens, target, draft, uniforms, last)
    found = accept.accept_tree(*(x.to(device) for x in given))
    for one, other in zip(found, accept.reference_tree(*given), strict=True):
        assert one.tolist() == other.tolist()


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
    given = (children, tokens, target, draft, uniforms, last)
    found = accept.accept_tree(*(x.to(device) for x in given))
    for one, other in zip(found, accept.reference_tree(*given), strict=True):
        assert one.tolist() == other.tolist()
    assert found.length.tolist() == [0, 1, 0]


def test_greedy(device) -> None:
    g = torch.Generator().manual_seed(5)
    tree, *_ = _trees(StochasticBeam(4, 3), 30, 6, g)
    best = torch.randint(6, (30, 13), generator=g)
    children, tokens = tree.children(), tree.tokens
    found = accept.accept_greedy(children.to(device), tokens.to(device), best.to(device), 3)
    expected = accept.reference_greedy(children, tokens, best, 3)
    for one, other in zip(found, expected, strict=True):
        assert one.tolist() == other.tolist()
    assert len(set(found.length.tolist())) > 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("vocabulary", [9, 5000])
def test_chains(vocabulary, dtype, device) -> None:
    g = torch.Generator().manual_seed(vocabulary)
    rows, most = 16, 4
    draft = torch.softmax(torch.randn(rows, most, vocabulary, generator=g), -1)
    tokens = draft.flatten(0, 1).multinomial(1, generator=g).view(rows, most)
    lengths = torch.randint(most + 1, (rows,), generator=g)
    tokens[torch.arange(most) >= lengths[:, None]] = -1
    target = torch.softmax(torch.randn(rows, most + 1, vocabulary, generator=g), -1)
    target[0, :most] = draft[0]  # all of it stands
    target[1, 0] = draft[1, 0] * 0.5  # nothing of q - p is left: q it is
    uniforms = torch.rand(rows, most, generator=g, dtype=torch.float64)
    uniforms[1] = 0.9
    seeds, requests, positions = (torch.randint(2**40, (rows,), generator=g) for _ in range(3))
    given = (tokens, target.to(dtype), draft.to(dtype), uniforms, seeds, requests, positions)
    found = accept.accept_chain(*(x.to(device) for x in given))
    for one, other in zip(found, accept.reference_chain(*given), strict=True):
        assert one.tolist() == other.tolist()
