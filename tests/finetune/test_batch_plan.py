"""Dataset Decomposition and Mixture-of-Instructions: published numbers, exact counts, no leaks."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen.core.config import parse_config
from codegen.core.errors import ConfigError
from codegen.decoding.prefill import best_fit
from codegen.finetune import parse_recipe
from codegen.finetune.batch_plan import (
    StepPlan,
    bucket_of,
    draw_order,
    grid,
    make_curriculum,
    make_mixture,
    make_plan,
    odds_of,
)
from codegen.finetune.batches import share_of
from codegen.finetune.dataset import decompose
from codegen.finetune.encode import EncodedExample, causal
from codegen.finetune.recipe import Curriculum


def example(name: str, length: int, domain: str = "") -> EncodedExample:
    slots = list(range(length))
    return EncodedExample(name, slots, slots[:-1], slots[1:], slots[1:], causal(length), domain)


@given(st.lists(st.integers(1, 60), max_size=40), st.integers(20, 60))
def test_best_fit_loses_and_splits_nothing(lengths: list[int], capacity: int) -> None:
    rows = best_fit(lengths, capacity)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    for row in rows:
        assert sum(lengths[i] for i in row) <= capacity or len(row) == 1
    fitting = [n for n in lengths if n <= capacity]
    least = -(-sum(fitting) // capacity)
    assert len(rows) <= 11 / 9 * least * 2 + 1 + len(lengths) - len(fitting)
    # Best fit: no two rows could be one.
    room = sorted(sum(lengths[i] for i in row) for row in rows)
    assert len(room) < 2 or room[0] + room[1] > capacity


@given(st.integers(0, 5000), st.integers(0, 4), st.integers(5, 9))
def test_decompose_cuts_into_powers_of_two(length: int, least: int, most: int) -> None:
    pieces = decompose(length, 2**least, 2**most)
    assert sum(pieces) <= length < sum(pieces) + 2**least
    assert pieces == sorted(pieces, reverse=True)
    assert all(n & (n - 1) == 0 and 2**least <= n <= 2**most for n in pieces)
    assert max(Counter(n for n in pieces if n < 2**most).values(), default=1) == 1


def test_long_documents_can_give_all_lengths_equal_tokens() -> None:
    rng = random.Random(0)
    tokens: Counter[int] = Counter()
    for _ in range(300):
        pieces = decompose(5000, 32, 256, rng)
        assert 5000 - 32 < sum(pieces) <= 5000
        for size in pieces:
            tokens[size] += size
    total = sum(tokens.values())
    assert all(abs(tokens[size] / total - 0.25) < 0.03 for size in (32, 64, 128, 256))


def test_odds_and_grids() -> None:
    assert odds_of("uniform", 4) == [1, 1, 1, 1]
    assert odds_of("grow_linear", 6) == [6, 5, 4, 3, 2, 1]
    assert odds_of("grow_p2", 6) == [32, 16, 8, 4, 2, 1]
    assert grid(64, 500) == [64, 128, 256, 512]
    assert [bucket_of(n, grid(64, 500)) for n in (1, 64, 65, 512)] == [0, 0, 1, 3]


@pytest.mark.parametrize("cycles", [1, 3, 8])
def test_draws_are_exact_and_each_cycle_grows(cycles: int) -> None:
    counts = [240, 240, 240, 240]
    order = draw_order(counts, odds_of("grow_p2", 4), cycles, random.Random(0))
    assert Counter(order) == dict(enumerate(counts))
    assert order == draw_order(counts, odds_of("grow_p2", 4), cycles, random.Random(0))
    size = len(order) // cycles
    for cycle in range(cycles):
        part = order[cycle * size : (cycle + 1) * size]
        half = len(part) // 2
        assert sum(part[:half]) / half < sum(part[half:]) / (len(part) - half)


def test_the_paper_draws_by_odds_among_what_is_left() -> None:
    """The first draws of many seeds, against the probabilities of appendix B.2."""
    first = Counter(
        draw_order([5, 5, 5], odds_of("grow_p2", 3), 1, random.Random(s))[0] for s in range(4000)
    )
    for length, probability in enumerate((4 / 7, 2 / 7, 1 / 7)):
        assert abs(first[length] / 4000 - probability) < 0.03


def test_a_curriculum_has_equal_tokens_and_one_length_a_step() -> None:
    lengths = [20, 40, 70, 100, 130, 250, 30, 60, 90] * 20
    examples = [example(f"e{i}", n) for i, n in enumerate(lengths)]
    settings = {"mode": "bucket", "tokens_per_step": 1024, "micro_batch_tokens": 512, "cycles": 2}
    curriculum = parse_config(Curriculum, settings, "test")
    plan = make_curriculum(examples, curriculum, steps=60, seed=3)
    for step in range(60):
        rows = [row for rows in plan.steps[step] for row in rows]
        assert len(rows) * plan.width(step) == 1024
        assert all(len(rows) * plan.width(step) <= 512 for rows in plan.steps[step])
        assert all(len(examples[i]) <= plan.width(step) for i in plan.numbers(step))
        assert all(2 * len(examples[i]) > plan.width(step) or plan.width(step) == 32
                   for i in plan.numbers(step))  # fmt: skip
    assert plan.width(0) == 256  # the longest first: what does not fit fails at once
    assert sum(plan.widths[1:20]) < sum(plan.widths[41:60])
    tokens = Counter(plan.widths)
    assert tokens[128] / 60 == pytest.approx(20 * 3 * 128 / (20 * (2*32 + 2*64 + 3*128 + 2*256)), abs=.03)  # fmt: skip  # noqa: E501


def test_chunks_have_one_example_of_each_domain() -> None:
    examples = [example(f"{d}{i}", 5 + i, d) for d, n in (("chat", 3), ("code", 40), ("math", 9))
                for i in range(n)]  # fmt: skip
    row: dict[str, Any] = {
        "model": "embedded",
        "data": {"chat": "a", "code": "b", "math": "c"},
        "output": "o",
        "steps": 10,
        "batch_size": 12,
        "packing": "best_fit",
        "row_length": 600,
        "isolation": "chunk",
    }
    systems = {"chat": "Talk.", "code": "Program."}
    mixture = {"balance": True, "order": "default_first", "systems": systems}

    def plan_of(examples: list[EncodedExample], row: dict[str, Any]) -> StepPlan:
        recipe = parse_recipe(row)
        options: dict[str, Any] = {"micro_batch_size": recipe.micro_batch_size, "seed": recipe.seed}
        options |= {"row_length": recipe.packed_length, "isolation": recipe.isolation}
        size = recipe.batch_size
        return make_mixture(examples, recipe.mixture, steps=10, batch_size=size, **options)

    plan = plan_of(examples, {**row, "mixture": mixture})
    for step in range(10):
        chunks = [chunk for rows in plan.steps[step] for row in rows for chunk in row]
        assert len(chunks) == 4
        for chunk in chunks:
            assert [examples[i].domain for i in chunk] == ["math", "chat", "code"]
    unbalanced = plan_of(examples, row)
    seen = Counter(examples[i].domain for s in range(10) for i in unbalanced.numbers(s))
    assert seen["code"] > 3 * seen["math"]
    two = [example for example in examples if example.domain != "math"]
    row |= {"data": {"chat": "a", "code": "b"}, "batch_size": 10}
    with pytest.raises(ConfigError, match="mixture of 3 domains"):
        plan_of(examples, row)
    assert len(plan_of(two, row).numbers(0)) == 10


@given(st.integers(1, 9), st.integers(1, 4))
def test_processes_share_a_step_without_gaps(count: int, world: int) -> None:
    shares = [share_of(list(range(count)), rank, world) for rank in range(world)]
    assert len({len(share) for share in shares}) == 1
    done = [item for share in shares for item, counts in share if counts]
    assert sorted(done) == list(range(count))


def test_packing_keeps_a_steps_examples() -> None:
    examples = [example(f"e{i}", 5 + i % 17) for i in range(50)]
    loose = make_plan(examples, steps=6, batch_size=10, micro_batch_size=2, seed=1)
    packed = make_plan(examples, steps=6, batch_size=10, micro_batch_size=1, seed=1, row_length=40)
    for step in range(6):
        assert sorted(loose.numbers(step)) == sorted(packed.numbers(step))
        assert len(packed.steps[step]) < 5


def test_domains_give_their_shares_of_every_beginning() -> None:
    examples = [
        EncodedExample(f"e{n}", [1, 2], [0], [2], [1], causal(2), "ab"[n % 5 == 0])
        for n in range(50)
    ]
    options: dict[str, Any] = {"batch_size": 8, "micro_batch_size": 8, "seed": 1}
    plan = make_plan(examples, steps=30, shares={"a": 0.9, "b": 0.1}, **options)
    seen: list[int] = []
    for step in range(30):
        seen += plan.numbers(step)
        replayed = sum(examples[number].domain == "b" for number in seen)
        assert abs(replayed - 0.1 * len(seen)) <= 1
    counts = Counter(number for number in seen if examples[number].domain == "b")
    assert set(counts) == set(range(0, 50, 5)) and max(counts.values()) - min(counts.values()) <= 1
    longer = make_plan(examples, steps=40, shares={"a": 0.9, "b": 0.1}, **options)
    assert list(longer.steps)[:30] == list(plan.steps)
