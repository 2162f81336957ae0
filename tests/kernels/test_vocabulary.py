"""The plain references against what they stand for, and what wrong shapes get."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from codegen.decoding.strategies.rsd import (
    Beam,
    ConstantBranching,
    DraftTree,
    StochasticBeam,
    gumbel,
    largest,
)
from codegen.kernels import vocabulary as kernel_accept
from codegen.kernels import vocabulary as logits
from codegen.kernels.vocabulary import gumbel_top_k

ROWS, V = 200, 6


@pytest.fixture
def g() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _walk(children, tokens, target, draft, uniforms, last) -> tuple[list[int], int]:
    """Recursive rejection down the tree of one row, as the paper's algorithm is written."""
    path: list[int] = []
    node, q = 0, target[0]
    for level in range(len(uniforms)):
        p, below = draft[min(node, len(draft) - 1)], -1
        for i, child in enumerate(children[node].tolist()):
            if child < 0:
                continue
            token = int(tokens[child - 1])
            if uniforms[level, i] * p[token] < q[token]:
                below = child
                break
            left = (q - p).clamp(min=0)
            q = left / left.sum() if left.sum() > 1e-12 else q
            p = p.clone()
            p[token] = 0
            if p.sum() <= 0:
                break
            p = p / p.sum()
        if below < 0:
            break
        path.append(below)
        node, q = below, target[below]
    aim, before = last * q.double().sum(), 0.0
    for token in range(len(q)):
        before += float(q[token])
        if before > aim:
            return path, token
    return path, int(q.nonzero()[-1])


@pytest.mark.parametrize("shape", [ConstantBranching((3, 2)), StochasticBeam(4, 3)])
def test_trees_row_by_row(shape, g) -> None:
    tree, beam, drafts = DraftTree.empty(ROWS), Beam.root(ROWS), []
    for level in range(shape.depth):
        nodes = tree.widths[-1] if level else 1
        drafts.append(torch.softmax(torch.randn(ROWS, nodes, V, generator=g), -1))
        noise = gumbel(torch.rand(ROWS, nodes, V, generator=g, dtype=torch.float64))
        beam = shape.grow(tree, largest(drafts[-1].log(), shape.branches, noise), beam)
    draft = torch.cat(drafts, 1)
    target = torch.softmax(torch.randn(ROWS, tree.tokens.shape[1] + 1, V, generator=g), -1)
    children = tree.children()
    uniforms = torch.rand(ROWS, shape.depth, children.shape[2], generator=g, dtype=torch.float64)
    last = torch.rand(ROWS, generator=g, dtype=torch.float64)
    given = (children, tree.tokens, target, draft, uniforms, last)
    depths = tree.fed(torch.zeros(ROWS, 1).long(), torch.zeros(ROWS).long()).depths
    found = kernel_accept.accept_tree(children, tree.tokens, depths, *given[2:])
    walked = [_walk(*(x[row] for x in given)) for row in range(ROWS)]
    assert [[n for n in path if n >= 0] for path in found.path.tolist()] == [w[0] for w in walked]
    assert found.token.tolist() == [w[1] for w in walked]
    assert found.length.tolist() == [len(w[0]) for w in walked]
    # A one-hot target is greedy decoding, whatever the draft.
    best = target.argmax(-1)
    certain = torch.nn.functional.one_hot(best, V).float()
    expected = kernel_accept.accept_tree(
        children, tree.tokens, depths, certain, draft, uniforms, last
    )
    none = torch.full((ROWS, 1), -1)
    fed, parents = torch.cat([none, tree.tokens], 1), torch.cat([none, tree.parents], 1)
    path = kernel_accept.accept_greedy(fed, parents, best)
    assert torch.equal(path[:, : shape.depth], expected.path)
    assert path[:, shape.depth :].max() == -1


def test_philox_known_answers() -> None:
    """The published test vectors of Random123 (kat_vectors, philox4x32, 10 rounds)."""

    def word(key: tuple[int, int], *counter: int) -> int:
        seed = key[0] | key[1] << 32
        signed = seed - 2**64 if seed >= 2**63 else seed
        return int(logits.philox(torch.tensor(signed), *(torch.tensor(c) for c in counter)))

    ones = 0xFFFFFFFF
    assert word((0, 0), 0, 0, 0, 0) == 0x6627E8D5
    assert word((ones, ones), ones, ones, ones, ones) == 0x408F276D
    pi = 0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344
    assert word((0xA4093822, 0x299F31D0), *pi) == 0xD16CFE09


def test_noise_is_gumbel_and_of_no_batch() -> None:
    ids = torch.arange(50)
    one = torch.ones_like(ids)
    noise = logits.gumbel(one, ids, one, 1000)
    assert stats.kstest(noise.flatten().numpy(), "gumbel_r").pvalue > 1e-3
    assert torch.equal(logits.gumbel(one[:1], ids[30:31], one[:1], 1000)[0], noise[30])
    winners = noise[noise > 4]
    assert len(winners) > 500
    assert len(winners.unique()) == len(winners)  # the largest are told apart


def test_draw_order(g) -> None:
    """Ordered pairs come with p_i p_j / (1 - p_i) (Plackett-Luce)."""
    rows = 30_000
    p = torch.softmax(torch.randn(4, generator=g).double(), -1)
    ids, seed = torch.arange(rows), torch.full((rows,), 5)
    drawn = gumbel_top_k(p.log().expand(rows, -1), 2, seed, ids, torch.zeros_like(ids))
    pairs = [(i, j) for i in range(4) for j in range(4) if i != j]
    expected = torch.stack([p[i] * p[j] / (1 - p[i]) for i, j in pairs])
    code = drawn.tokens[:, 0] * 4 + drawn.tokens[:, 1]
    seen = torch.bincount(code, minlength=16)[[i * 4 + j for i, j in pairs]]
    assert stats.chisquare(seen.numpy(), (rows * expected / expected.sum()).numpy()).pvalue > 1e-3


def test_penalties_place_by_place(g) -> None:
    """Against the rule written out for each place."""
    raw = torch.randn(2, 40, generator=g)
    rows, ids = torch.tensor([0, 0, 1]), torch.tensor([5, 8, 5])
    amounts = torch.tensor([[0.5, 1, 3], [2, 1, 3], [0, -torch.inf, 1]], dtype=torch.float64)
    found = raw.clone()
    logits.penalize(found, rows, ids, amounts)
    for row in range(2):
        for token in range(40):
            z = float(raw[row, token])
            if (row, token) == (0, 5):
                z = z * 0.5 if z > 0 else z * 2
            elif (row, token) == (0, 8):
                z = -math.inf
            elif (row, token) == (1, 5):
                z = 3 * z + 1
            assert float(found[row, token]) == pytest.approx(z, abs=1e-6)
