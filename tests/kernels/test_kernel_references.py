"""The plain references against what they stand for, and what wrong shapes get."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from codegen.decoding.cache import CacheLayer, KVCache, Rotation
from codegen.decoding.strategies.rsd import Beam, ConstantBranching, StochasticBeam, Tree, gumbel
from codegen.errors import InputError
from codegen.kernels import accept as kernel_accept
from codegen.kernels import logits, tree_attention
from codegen.kernels import states as kernel_states
from codegen.kernels.logits import ACCEPT, DRAFT, gumbel_top_k

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
    tree, beam, drafts = Tree.empty(ROWS), Beam.root(ROWS), []
    for level in range(shape.depth):
        nodes = tree.widths[-1] if level else 1
        drafts.append(torch.softmax(torch.randn(ROWS, nodes, V, generator=g), -1))
        noise = gumbel(torch.rand(ROWS, nodes, V, generator=g, dtype=torch.float64))
        beam = shape.grow(tree, drafts[-1].log(), noise, beam)
    draft = torch.cat(drafts, 1)
    target = torch.softmax(torch.randn(ROWS, tree.tokens.shape[1] + 1, V, generator=g), -1)
    children = tree.children()
    uniforms = torch.rand(ROWS, shape.depth, children.shape[2], generator=g, dtype=torch.float64)
    last = torch.rand(ROWS, generator=g, dtype=torch.float64)
    given = (children, tree.tokens, target, draft, uniforms, last)
    found = kernel_accept.accept_tree(*given)
    walked = [_walk(*(x[row] for x in given)) for row in range(ROWS)]
    assert [[n for n in path if n >= 0] for path in found.path.tolist()] == [w[0] for w in walked]
    assert found.token.tolist() == [w[1] for w in walked]
    assert found.length.tolist() == [len(w[0]) for w in walked]
    # A one-hot target is greedy decoding, whatever the draft.
    best = target.argmax(-1)
    certain = torch.nn.functional.one_hot(best, V).float()
    expected = kernel_accept.accept_tree(children, tree.tokens, certain, draft, uniforms, last)
    greedy = kernel_accept.accept_greedy(children, tree.tokens, best, shape.depth)
    assert torch.equal(greedy.path, expected.path)
    assert torch.equal(greedy.token, expected.token)


def test_chains_follow_the_target(g) -> None:
    """Chi-squared of 40,000 pairs of tokens; and not without the rejection's residual."""
    rows, v = 40_000, 4
    p = torch.softmax(torch.randn(2, v, generator=g), -1)
    q = torch.softmax(torch.randn(3, v, generator=g), -1)
    # All prefixes share a level's distributions, so the pair's law is a product.
    ids = torch.arange(rows)
    seeds, positions = torch.full((rows,), 7), torch.full((rows,), 11)
    tokens = torch.stack(
        [p[i].expand(rows, -1).multinomial(1, generator=g)[:, 0] for i in (0, 1)], 1
    )
    uniforms = torch.rand(rows, 2, generator=g, dtype=torch.float64)
    target, draft = q.expand(rows, -1, -1), p.expand(rows, -1, -1)
    found = kernel_accept.accept_chain(tokens, target, draft, uniforms, seeds, ids, positions)

    def chi2(first: torch.Tensor) -> float:
        seen = torch.bincount(first, minlength=v)
        return float(
            stats.chisquare(
                seen.numpy(), rows * q[0].double().numpy() / float(q[0].double().sum())
            ).pvalue
        )

    first = torch.where(found.length > 0, tokens[:, 0], found.token)
    assert chi2(first) > 1e-3
    second = torch.where(found.length > 1, tokens[:, 1], found.token)[found.length > 0]
    expected = len(second) * q[1].double() / q[1].double().sum()
    assert (
        stats.chisquare(torch.bincount(second, minlength=v).numpy(), expected.numpy()).pvalue > 1e-3
    )
    assert chi2(tokens[:, 0]) < 1e-6  # the draft's own law is another one


def test_attention_by_loops(g) -> None:
    """Against softmax written out, one query at a time, over the slots that it sees."""
    lengths = [0, 5]
    q = torch.randn(2, 4, 4, 8, generator=g)
    keys, values = torch.randn(2, 2, 2, 9, 8, generator=g)
    parents = [0, 0, 1, 0]
    among = torch.eye(4, dtype=torch.bool)
    for node in range(1, 4):
        among[node] |= among[parents[node]]
    found = tree_attention.tree_attention(
        q, keys, values, torch.tensor(lengths), tree_attention.pack(among.expand(2, -1, -1))
    )
    for b, length in enumerate(lengths):
        for i in range(4):
            slots = [*range(length), *(length + j for j in range(4) if among[i, j])]
            for head in range(4):
                k, v = keys[b, head // 2, slots], values[b, head // 2, slots]
                weights = torch.softmax(k @ q[b, i, head] / math.sqrt(8), 0)
                torch.testing.assert_close(found[b, i, head], weights @ v)


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
    noise = logits.gumbel(one, ids, one, 1000, DRAFT)
    assert stats.kstest(noise.flatten().numpy(), "gumbel_r").pvalue > 1e-3
    assert torch.equal(logits.gumbel(one[:1], ids[30:31], one[:1], 1000, DRAFT)[0], noise[30])
    assert not torch.equal(logits.gumbel(one, ids, one, 1000, ACCEPT), noise)
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


def test_the_cache_keeps_a_path(g) -> None:
    """By slots written out; layers of two shapes, and a row whose path lies together already."""
    cache = KVCache(3, 12)
    cache.place(torch.arange(12).repeat(3, 1), 12)
    tensors: list[torch.Tensor] = []
    for layer, heads in zip(cache.layers, (3, 3, 1), strict=True):
        assert isinstance(layer, CacheLayer)
        tensors += layer.update(*torch.randn(2, 3, heads, 12, 4, generator=g))
    before = [tensor.clone() for tensor in tensors]
    cache.keep(torch.tensor([[2, 4, -1], [3, -1, -1], [1, 2, -1]]), torch.tensor([1, 6, 0]))
    moves = {(0, 2): 3, (0, 3): 5, (1, 7): 9}  # (row, slot): where its states came from
    for now, then in zip(tensors, before, strict=True):
        for row in range(3):
            for slot in range(12):
                source = moves.get((row, slot), slot)
                assert torch.equal(now[row, :, slot], then[row, :, source])


@pytest.mark.parametrize("neighbours", [False, True])
def test_rotation_as_the_editor_turns(neighbours, g) -> None:
    turn = Rotation("keys", torch.tensor([1.0, 0.1, 0.01]), neighbours)
    encoded = torch.randn(1, 2, 6, 8, generator=g).half()
    states, cells = encoded.clone(), torch.tensor([4, 1])
    cosines, sines = turn.turns(torch.tensor([9, -3]))
    kernel_states.turn_slots(encoded, states, cells, cosines, sines, neighbours)
    expected = turn.turn(encoded.index_select(2, cells), cosines, sines)
    assert torch.equal(states[:, :, cells], expected)
    assert torch.equal(states[:, :, 0], encoded[:, :, 0])


def test_logits_token_by_token(g) -> None:
    """Against the rule written out for each node and token."""
    nodes, vocabulary = 3, 40
    raw = torch.randn(1, nodes, vocabulary, generator=g)
    tokens, ancestors = torch.tensor([[5, 6, 5]]), torch.tensor([[1, 3, 5]])
    counts = torch.zeros(1, vocabulary, dtype=torch.int32)
    counts[0, 7] = 2
    prompt = torch.zeros(1, vocabulary, dtype=torch.bool)
    prompt[0, 8] = True
    allowed = torch.full((1, nodes, 2), -1, dtype=torch.int32)
    allowed[0, 1, 1] = ~(1 << 3)  # token 35 after node 1
    settings = torch.tensor([[1.5, 0.25, 0.5, 0.8]])
    found = logits.adjust_logits(
        raw, tokens, ancestors, counts, prompt, settings, allowed, torch.tensor([[2, -1]])
    )
    paths = [[5], [5, 6], [5, 5]]
    for node, path in enumerate(paths):
        for token in range(vocabulary):
            x, n = float(raw[0, node, token]), path.count(token) + 2 * (token == 7)
            if n or token == 8:
                x = x / 1.5 if x > 0 else x * 1.5
            x = (x - 0.25 * n - 0.5 * (n > 0)) / 0.8
            if token == 2 or (node == 1 and token == 35):
                x = -math.inf
            assert float(found[0, node, token]) == pytest.approx(x, abs=1e-5)


def test_wrong_shapes_are_named() -> None:
    q, kv = torch.zeros(1, 65, 2, 8), torch.zeros(1, 2, 80, 8)
    length, bits = torch.zeros(1).long(), torch.zeros(1, 65).long()
    with pytest.raises(InputError, match="65 nodes"):
        tree_attention.tree_attention(q, kv, kv, length, bits)
    with pytest.raises(InputError, match="3 query heads"):
        tree_attention.tree_attention(torch.zeros(1, 1, 3, 8), kv, kv, length, bits[:, :1])
    with pytest.raises(InputError, match="k is 9"):
        gumbel_top_k(torch.zeros(1, 4), 9, length, length, length)
    with pytest.raises(InputError, match="differ"):
        kernel_states.compact([kv, kv.half()], bits[:, :2], length)
