"""Attention that reads the cache in place: models decode as they do by masks, kernel or not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from transformers import RepetitionPenaltyLogitsProcessor

from codegen.decoding import device, passes
from codegen.decoding.drafts import Context, CursorDrafter, RecyclingDrafter, SuffixDrafter
from codegen.decoding.loop import Strategy
from codegen.decoding.rpg import read_options
from codegen.decoding.rpg.methods import Method, Penalized
from codegen.decoding.sequences import CachedRows
from codegen.decoding.strategies.rsd import ConstantBranching, RecursiveSpeculation, StochasticBeam
from codegen.decoding.strategies.sorted import Nested, SortedDrafter, SortedSpeculation
from codegen.decoding.strategies.speculative import Speculation
from codegen.decoding.strategies.superposed import Superposition
from codegen.kernels import tree_attention as kernel
from tests.decoding.test_architectures import (
    BKSPC,
    CHECKS,
    PROMPTS,
    Forced,
    made,
    prefixes,
    run,
    table,
)

QUICK = ("qwen2", "gemma2", "gpt_oss")  # windows beside full attention; soft caps; sinks
OTHERS = [name for name, works in table().items() if works["drafts"] and name not in QUICK]


KNOWN = [
    "cohere2", "deepseek_v3", "ernie4_5", "exaone4", "gemma", "gemma2", "gemma3_text", "glm4",
    "gpt_neox", "gpt_oss", "granite", "llama", "mistral", "mixtral", "olmo2", "phi", "phi3",
    "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "smollm3", "stablelm", "starcoder2",
]  # fmt: skip


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of the tables that attention was given."""
    seen: list[tuple[int, ...]] = []

    def counted(*given: Any) -> torch.Tensor:
        seen.append(tuple(given[3].shape))
        return kernel.tree_attention(*given)

    monkeypatch.setattr(passes, "tree_attention", counted)
    return seen


@pytest.mark.parametrize(
    "name", [*QUICK, *(pytest.param(name, marks=pytest.mark.long) for name in OTHERS)]
)
def test_architectures_decode_as_by_whole_prefixes(name, calls) -> None:
    model = made(name)
    if not passes.exchange(model):
        pytest.skip("its attention cannot be exchanged")
    if name not in QUICK and not passes.tables_agree(model):
        pytest.skip("it computes otherwise by a table, so the loop leaves it its masks")
    assert CachedRows(model, 8).in_place
    CHECKS["in a batch"](model)
    CHECKS["drafts"](model)
    attends = any(hasattr(module, "num_key_value_groups") for module in model.modules())
    assert calls or not attends
    assert not calls or max(width for _, width, _ in calls) > 1


def _strategies() -> Iterator[tuple[str, Strategy]]:
    count, draft = len(PROMPTS), made("llama")
    original = Context(original=[*range(4, 100), *range(4, 60)])
    yield "plain", Strategy()
    yield "backspace", Forced(BKSPC)
    yield "suffix", Speculation([SuffixDrafter() for _ in PROMPTS])
    edits = [CursorDrafter(tree=True) for _ in PROMPTS]
    yield "edit", Speculation(edits, [original] * count)
    yield "recycling", Speculation([RecyclingDrafter() for _ in PROMPTS], limit=6)
    yield "rsd, chain", RecursiveSpeculation(draft, ConstantBranching((1, 1, 1)), range(count))
    yield "rsd, tree", RecursiveSpeculation(draft, StochasticBeam(3, 2), range(count))
    nested = Nested(draft, (1, 4))
    for ahead in (False, True):
        drafters = [SortedDrafter(nested, tokens=3) for _ in PROMPTS]
        yield f"sorted, ahead: {ahead}", SortedSpeculation(drafters, ahead=ahead)
    yield "superposed", Superposition()
    yield "repetition_penalty", Penalized(Method.of(read_options("repetition_penalty", {}), []))


@pytest.mark.long
@pytest.mark.parametrize("name", KNOWN)
def test_every_strategy_decodes_greedily_as_by_whole_prefixes(name, calls, monkeypatch) -> None:
    """With the shapes of a GPU: rounded capacity and widths, tables of pages, joins and leaves."""
    gpu = torch.device("cuda")
    for module in ("loop", "strategies.speculative"):
        for rounding in (device.padded_slots, device.padded_width):
            place = f"codegen.decoding.{module}.{rounding.__name__}"
            rounded = lambda size, _, rounding=rounding: rounding(size, gpu)  # noqa: E731
            monkeypatch.setattr(place, rounded, raising=False)
    model = made(name)
    plain = [prefixes(model, prompt) for prompt in PROMPTS]
    penalty = RepetitionPenaltyLogitsProcessor(1.1)
    others = {
        "backspace": [prefixes(model, prompt, forced=True) for prompt in PROMPTS],
        "repetition_penalty": [prefixes(model, prompt, process=penalty) for prompt in PROMPTS],
    }
    assert plain not in others.values()
    assert passes.exchange(model)
    for strategy, how in _strategies():
        expected = others.get(strategy, plain)
        rows = run(model, PROMPTS, how)
        found = [row.actions if strategy == "backspace" else row.tokens for row in rows]
        for tokens, whole in zip(found, expected, strict=True):
            assert tokens[: len(whole)] == whole, strategy
    assert len({width for _, width, _ in calls}) > 3 and {slots for *_, slots in calls} == {5}
