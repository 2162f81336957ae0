"""RSD emits by the target's distribution: a chi-squared test, and one that must fail; greedy text
is that of plain decoding, whatever the draft.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from codegen.core.errors import ModelError
from codegen.decoding import loop
from codegen.decoding.loop import Row
from codegen.decoding.sampling import choose, distribution
from codegen.decoding.strategies import rsd
from codegen.decoding.strategies.rsd import Beam, gumbel
from codegen.kernels.vocabulary import accept_tree
from tests.llamas import small_llama

V, TRIALS = 5, 60_000
SHAPES: list[rsd.Shape] = [
    rsd.ConstantBranching((1, 1)),
    rsd.ConstantBranching((2, 2)),
    rsd.ConstantBranching((3, 2)),
    rsd.StochasticBeam(3, 2),
    rsd.StochasticBeam(4, 2),
]
PROMPTS = [[5, 9, 20, 31, 8], [7], [11, 12, 13, 14, 15, 16, 17, 18, 19, 21, 22], [40, 3]]


def tables(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random models of two tokens: p(first) [V] and p(second | first) [V, V]."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(V, generator=generator, dtype=torch.float64)
    second = torch.randn(V, V, generator=generator, dtype=torch.float64)
    return torch.softmax(1.5 * first, -1), torch.softmax(1.5 * second, -1)


def draw(log_probs: torch.Tensor, shape: rsd.Shape, uniforms: torch.Tensor) -> rsd.SampledTokens:
    """Children by log-probabilities [B, n, V] and uniforms of the same shape."""
    return rsd.largest(log_probs, shape.branches, gumbel(uniforms))


def depths(tree: rsd.DraftTree) -> torch.Tensor:
    levels = [0, *(level + 1 for level, n in enumerate(tree.widths) for _ in range(n))]
    return torch.tensor(levels).expand(len(tree.tokens), -1)


def emitted(shape: rsd.Shape, sort_siblings: bool = False) -> tuple[torch.Tensor, float]:
    """Counts [V, V] of the first two tokens over the trials, and the tokens a round."""
    target, draft = tables(1), tables(2)
    generator = torch.Generator().manual_seed(3)

    def uniforms(*size: int) -> torch.Tensor:
        return torch.rand(*size, generator=generator, dtype=torch.float64)

    tree, beam = rsd.DraftTree.empty(TRIALS), Beam.root(TRIALS)
    p = draft[0].expand(TRIALS, 1, V)
    beam = shape.grow(tree, draw(p.log(), shape, uniforms(TRIALS, 1, V)), beam)
    if sort_siblings:  # the wrong thing to do
        order = draft[0][tree.tokens].argsort(-1, descending=True)
        tree.tokens = tree.tokens.gather(1, order)
    below = draft[1][tree.tokens]
    shape.grow(tree, draw(below.log(), shape, uniforms(*below.shape)), beam)
    first = tree.widths[0]
    q = torch.cat(
        [
            target[0].expand(TRIALS, 1, V),
            target[1][tree.tokens[:, :first]],
            torch.full((TRIALS, tree.widths[1], V), 1 / V, dtype=torch.float64),  # never looked at
        ],
        1,
    )
    draft_probs = torch.cat([p, below], 1)
    numbers = uniforms(TRIALS, 2, 8), uniforms(TRIALS)
    found = accept_tree(tree.children(), tree.tokens, depths(tree), q, draft_probs, *numbers)
    tokens = torch.cat([tree.tokens.new_zeros(TRIALS, 1), tree.tokens], 1)
    path = tokens.gather(1, found.path.clamp(min=0))
    length = (found.path >= 0).sum(1)
    one = torch.where(length > 0, path[:, 0], found.token)
    two = torch.where(length > 1, path[:, 1], found.token)
    # A round that gave one token alone: the next round's first follows the target, given that one.
    drawn = torch.multinomial(target[1][one], 1, generator=generator)[:, 0]
    two = torch.where(length == 0, drawn, two)
    counts = torch.bincount(one * V + two, minlength=V * V).view(V, V)
    return counts, float(1 + length.double().mean())


def chi_squared(counts: torch.Tensor) -> float:
    first, second = tables(1)
    expected = TRIALS * first[:, None] * second
    return float(((counts - expected) ** 2 / expected).sum())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_what_is_emitted_follows_the_target(shape: rsd.Shape) -> None:
    counts, per_round = emitted(shape)
    assert int(counts.sum()) == TRIALS
    assert chi_squared(counts) < 60  # 24 degrees of freedom: above it once in 10,000
    assert per_round > 1.5


def test_siblings_sorted_by_probability_are_found_out() -> None:
    counts, _ = emitted(rsd.ConstantBranching((2, 2)), sort_siblings=True)
    assert chi_squared(counts) > 1000


def test_stochastic_beams_are_drawn_without_replacement() -> None:
    """Paths, too, are distinct, and the first is a sample from the draft itself."""
    draft = tables(2)
    generator = torch.Generator().manual_seed(5)
    rows = 20_000
    tree, beam = rsd.DraftTree.empty(rows), Beam.root(rows)
    shape = rsd.StochasticBeam(4, 2)

    def drawn_by(log_probs: torch.Tensor) -> rsd.SampledTokens:
        given = torch.rand(log_probs.shape, generator=generator, dtype=torch.float64)
        return draw(log_probs, shape, given)

    beam = shape.grow(tree, drawn_by(draft[0].log().expand(rows, 1, V)), beam)
    assert all(len(set(row)) == 4 for row in tree.tokens.tolist())
    below = draft[1][tree.tokens].log()
    end = shape.grow(tree, drawn_by(below), beam)
    above = tree.tokens.gather(1, tree.parents[:, 4:] - 1)
    paths = (above * V + tree.tokens[:, 4:]).tolist()
    assert all(len(set(row)) == 4 for row in paths)
    torch.testing.assert_close(end.perturbed[:, 0], beam.perturbed[:, 0])
    expected = rows * (draft[0][:, None] * draft[1]).flatten()
    counts = torch.bincount(torch.tensor([row[0] for row in paths]), minlength=V * V)
    assert float(((counts - expected) ** 2 / expected).sum()) < 60


@pytest.mark.parametrize("top_p", [1.0, 0.8, 0.3])
def test_distribution_is_what_choose_draws_from(top_p: float) -> None:
    logits = 2 * torch.randn(1, 7, generator=torch.Generator().manual_seed(0))
    expected = distribution(logits, 0.7, top_p)[0]
    numbers = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    drawn = choose(logits.expand(20_000, -1), numbers, 0.7, top_p)
    shares = torch.bincount(drawn, minlength=7) / 20_000
    torch.testing.assert_close(shares, expected, atol=2e-4, rtol=0)


# With models.


def small(seed: int, layers: int = 1, vocabulary: int = 120) -> Any:
    return small_llama(
        seed, vocab_size=vocabulary, hidden_size=32, intermediate_size=48, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=2, initializer_range=0.3,
    )  # fmt: skip


def plain(model: Any, prompts: list[list[int]], new: int, eos: frozenset[int]) -> list[Row]:
    rows = [Row(list(prompt), [0.0] * new) for prompt in prompts]
    loop.decode(model, rows, max_new_tokens=new, temperature=0, top_p=1, eos=eos)
    return rows


@pytest.mark.parametrize(
    "shape",
    [SHAPES[0], SHAPES[2], pytest.param(rsd.StochasticBeam(3, 4), marks=pytest.mark.long)],
    ids=str,
)
@pytest.mark.parametrize("self_draft", [True, False])
def test_greedy_text_is_that_of_plain_decoding(llama: Any, shape: Any, self_draft: bool) -> None:
    vocabulary = llama.config.vocab_size
    draft = llama if self_draft else small(1, vocabulary=vocabulary)
    eos = frozenset(range(1, vocabulary, 29))
    expected = plain(llama, PROMPTS, 40, eos)
    batches = [PROMPTS, *([prompt] for prompt in PROMPTS)]
    for batch in batches:
        rows = [Row(list(prompt), []) for prompt in batch]
        strategy = rsd.RecursiveSpeculation(draft, shape, range(len(rows)))
        loop.decode(
            llama, rows, max_new_tokens=40, temperature=0, top_p=1, eos=eos, strategy=strategy
        )
        for row in rows:
            twin = next(e for e in expected if e.prompt == row.prompt)
            assert (row.tokens, row.finish) == (twin.tokens, twin.finish)
        if self_draft and len(batch) == len(PROMPTS):  # all is accepted: depth + 1 tokens a pass
            for row, passes in zip(rows, strategy.passes_of, strict=True):
                made = len(row.tokens) + (row.finish == "eos")
                assert passes == -(-made // (shape.depth + 1))


def test_samples_follow_the_target_and_not_the_batch() -> None:
    """Two tokens of tiny models, sampled 6,000 times, against their exact distribution."""
    target, draft = small(3, vocabulary=6), small(4, vocabulary=6)
    prompt, trials = [2, 4, 1], 6000

    def sample(numbers: range) -> list[list[int]]:
        rows = [Row(list(prompt), []) for _ in numbers]
        loop.decode(
            target, rows, max_new_tokens=3, temperature=0.8, top_p=0.95, eos=frozenset(),
            strategy=rsd.RecursiveSpeculation(draft, rsd.ConstantBranching((2, 2)), numbers),
        )  # fmt: skip
        return [row.tokens for row in rows]

    drawn = sample(range(trials))
    assert sample(range(37, 40)) == drawn[37:40]
    with torch.inference_mode():
        first = distribution(target(torch.tensor([prompt])).logits[:, -1], 0.8, 0.95)[0]
        ends = torch.tensor([[*prompt, token] for token in range(6)])
        second = distribution(target(ends).logits[:, -1], 0.8, 0.95)
    expected = trials * first[:, None] * second
    counts = Counter((a, b) for a, b, _ in drawn)
    table = torch.tensor([[counts[a, b] for b in range(6)] for a in range(6)])
    likely = expected > 0
    assert table[~likely].sum() == 0
    statistic = ((table - expected)[likely] ** 2 / expected[likely]).sum()
    assert float(statistic) < int(likely.sum()) + 5 * (2 * int(likely.sum())) ** 0.5


def test_stops_and_models_that_do_not_fit(llama: Any) -> None:
    vocabulary = llama.config.vocab_size
    row = Row(list(PROMPTS[0]), [])
    seen: list[int] = []

    def on_token(_: int, token: int) -> bool:
        seen.append(token)
        return len(seen) == 5

    options: dict[str, Any] = {
        "max_new_tokens": 20, "temperature": 1.0, "top_p": 1.0, "eos": frozenset(),
    }  # fmt: skip
    shape = rsd.ConstantBranching((2, 1, 1))
    strategy = rsd.RecursiveSpeculation(llama, shape, [0])
    loop.decode(llama, [row], on_token=on_token, strategy=strategy, **options)
    assert row.tokens == seen and len(seen) == 5 and row.finish == "stop"
    with pytest.raises(ModelError, match="vocabulary has 7 tokens"):
        strategy = rsd.RecursiveSpeculation(small(0, vocabulary=7), shape, [0])
        loop.decode(llama, [row], strategy=strategy, **options)
    assert vocabulary != 7
