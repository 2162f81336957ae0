"""Attention that reads the cache in place: models decode as they do by masks, kernel or not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from transformers import RepetitionPenaltyLogitsProcessor

from codegen.decoding import attention, device, passes
from codegen.decoding.drafts import Context, CursorDrafter, RecyclingDrafter, SuffixDrafter
from codegen.decoding.loop import Row, Strategy, decode
from codegen.decoding.rows import CachedRows
from codegen.decoding.rpg import read_options
from codegen.decoding.rpg.methods import Method, Penalized
from codegen.decoding.strategies.rsd import (
    ConstantBranching,
    RecursiveSpeculation,
    StochasticBeam,
)
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
    "cohere2",
    "deepseek_v3",
    "ernie4_5",
    "exaone4",
    "gemma",
    "gemma2",
    "gemma3_text",
    "glm4",
    "gpt_neox",
    "gpt_oss",
    "granite",
    "llama",
    "mistral",
    "mixtral",
    "olmo2",
    "phi",
    "phi3",
    "qwen2",
    "qwen2_moe",
    "qwen3",
    "qwen3_moe",
    "smollm3",
    "stablelm",
    "starcoder2",
]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of the tables that attention was given."""
    seen: list[tuple[int, ...]] = []

    def counted(*given: Any) -> torch.Tensor:
        seen.append(tuple(given[3].shape))
        return kernel.tree_attention(*given)

    monkeypatch.setattr(attention, "tree_attention", counted)
    return seen


@pytest.mark.parametrize(
    "name", [*QUICK, *(pytest.param(name, marks=pytest.mark.long) for name in OTHERS)]
)
def test_architectures_decode_as_by_whole_prefixes(name, calls) -> None:
    model = made(name)
    if not attention.exchange(model):
        pytest.skip("its attention cannot be exchanged")
    if name not in QUICK and not passes._tables_agree(model):
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
    for module in ("rows", "loop", "strategies.speculative"):
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
    assert attention.exchange(model)
    for strategy, how in _strategies():
        expected = others.get(strategy, plain)
        rows = run(model, PROMPTS, how)
        found = [row.actions if strategy == "backspace" else row.tokens for row in rows]
        for tokens, whole in zip(found, expected, strict=True):
            assert tokens[: len(whole)] == whole, strategy
    assert len({width for _, width, _ in calls}) > 3 and {slots for *_, slots in calls} == {5}


def test_trees_of_a_draft_model(calls) -> None:
    """Both models; the draft feeds a level whose ancestors are in its cache already."""
    texts = []
    for in_place in (False, True):
        target, draft = made("llama"), made("llama")
        with torch.no_grad():
            for weight in draft.parameters():
                weight += 0.02 * torch.randn(
                    weight.shape, generator=torch.Generator().manual_seed(1)
                )
        if in_place:
            assert attention.exchange(target) and attention.exchange(draft)
        rows = [Row([5, 9, 20, 31], []), Row([7], [])]
        strategy = RecursiveSpeculation(draft, StochasticBeam(3, 3), [1, 2])
        decode(target, rows, max_new_tokens=12, temperature=0.8, top_p=0.9, eos=frozenset(),
               strategy=strategy)  # fmt: skip
        texts.append([row.tokens for row in rows])
        assert strategy.accepted
    assert texts[0] == texts[1]
    assert {width for _, width, _ in calls} >= {1, 4, 7, 10}


def test_masks_and_no_masks_stay_what_they_were() -> None:
    """Outside the loop: left padding, none at all, training's gradients; soft caps included."""
    for name in ("llama", "gemma2", "gpt_oss"):
        plain, exchanged = made(name), made(name)
        assert attention.exchange(exchanged)
        ids = torch.tensor([[0, 0, 5, 9, 20, 31, 8, 7, 6, 5, 4, 3, 2, 9, 8], [*range(4, 19)]])
        for mask in (None, ids > 0):
            given = {"input_ids": ids} | ({} if mask is None else {"attention_mask": mask.long()})
            one, other = (model(**given).logits for model in (plain, exchanged))
            torch.testing.assert_close(one[:, 2:], other[:, 2:], atol=1e-5, rtol=1e-5)
        exchanged(ids).logits.sum().backward()
        assert all(p.grad is not None for p in exchanged.model.layers[0].self_attn.parameters())


@pytest.mark.long
def test_compiled_it_is_one_operation() -> None:
    """No break in the graph of a whole pass, and the same logits."""
    model = made("gemma2")
    assert attention.exchange(model)
    ids = torch.tensor([[5, 9, 20, 31]])
    chain = torch.ones(1, 4, 4, dtype=torch.bool).tril()
    table = kernel.pack(torch.tensor([0]), chain)[:, None]
    masks = dict.fromkeys(("full_attention", "sliding_attention"), table)

    def logits() -> torch.Tensor:
        return model(ids, attention_mask=masks, use_cache=False).logits

    with torch.inference_mode():
        expected = logits()
        found = torch.compile(logits, backend="eager", fullgraph=True)()
    torch.testing.assert_close(found, expected)


def test_a_model_on_a_cpu_keeps_its_attention() -> None:
    model = made("llama")
    assert not passes.read_in_place(model)
    assert model.config._attn_implementation == "sdpa"


def test_a_model_is_tried_before_it_reads_in_place(monkeypatch) -> None:
    """As on a GPU; one that does otherwise by a table keeps its masks."""
    monkeypatch.setattr(passes, "_has_kernels", lambda model: True)
    for name, expected in (("llama", True), ("gemma2", True), ("bamba", True), ("mpt", False)):
        model = made(name)
        before = model.config._attn_implementation
        assert passes.read_in_place(model) == expected
        after = model.config._attn_implementation
        assert after == (attention.IN_PLACE if expected else before)
        assert passes.read_in_place(model) == expected
    model = made("llama")
    monkeypatch.setattr(attention, "tree_attention", lambda q, *_: torch.zeros_like(q))
    assert not passes.read_in_place(model) and model.config._attn_implementation == "sdpa"
    CHECKS["in a batch"](model)
