"""What a round of the loop copies between host and device, on a device that counts it.

The device (:mod:`counted_device`) refuses to mix its tensors with the host's, so these are also
tests that nothing was left behind: what is decoded there is what is decoded on the CPU. With the
layers on two devices the host copies and waits no more often than with one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from counted_device import DEVICE, PLACES, SECOND, CountedDevice, OnDevice, moved, watched
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3NextConfig, Qwen3NextForCausalLM

from codegen.decoding import contexts
from codegen.decoding.contexts import LMInfinite
from codegen.decoding.drafts import Context, CursorDrafter, RecyclingDrafter, SuffixDrafter
from codegen.decoding.healing import Vocabulary
from codegen.decoding.insertion import (
    FillOptions,
    FixedMaskConfig,
    FixedMaskLM,
    FlexibleMaskConfig,
    FlexibleMaskLM,
    InsertionConfig,
    InsertionLM,
    Text,
)
from codegen.decoding.loop import Backspace, Batch, Row, Strategy, decode
from codegen.decoding.passes import ModelPass, exchange
from codegen.decoding.rpg import read_options
from codegen.decoding.rpg.methods import Method, Penalized
from codegen.decoding.strategies import rsd
from codegen.decoding.strategies.sorted import (
    Nested,
    SortedDrafter,
    SortedSpeculation,
    Tally,
)
from codegen.decoding.strategies.speculative import Speculation
from codegen.decoding.strategies.superposed import NGrams, superpose
from codegen.decoding.suffix import SuffixIndex

PROMPTS = [[3, 7, 9, 3, 7, 9, 3, 7], [5], [11, 12, 13, 14], [40, 3], [1, 2, 3, 1, 2, 3], [9],
           [8, 8], [30, 31, 32]]  # fmt: skip
NEW = 14
BKSPC = 17
TOKENS = [bytes([65 + i]) for i in range(60)]


class Forgetful(Backspace):
    """Takes every third token back."""

    def adjust(self, batch: Batch, logits: torch.Tensor) -> None:
        if batch.made[batch.numbers[0]] % 3 == 2:
            logits[:, self.backspace] = 50.0
        super().adjust(batch, logits)


def _edit(count: int) -> Strategy:
    original = Context(original=list(range(3, 50)))
    return Speculation([CursorDrafter(tree=True) for _ in range(count)], [original] * count)


class _Letters:
    """A tokenizer of :data:`TOKENS`, for a grammar."""

    eos_token_id, bos_token_id, tokens, special_token_ids = 59, None, TOKENS, (59,)

    def __call__(self, text: str) -> list[int]:
        return [ord(letter) - 65 for letter in text]


def _grammar(count: int) -> Strategy:
    llguidance = pytest.importorskip("llguidance")
    from codegen.decoding.strategies.grammar import InGrammar

    tokenizer = llguidance.LLTokenizer(llguidance.TokenizerWrapper(_Letters()))
    return InGrammar(tokenizer, "root ::= ([A-F] [a-m]){10}", count)


MAKERS: dict[str, Callable[[int, Any], Strategy]] = {
    "plain": lambda count, draft: Strategy(),
    "penalized": lambda count, draft: Penalized(
        Method.of(read_options("repetition_penalty", {}), TOKENS)
    ),
    "rpg": lambda count, draft: Penalized(Method.of(read_options("rpg", {}), TOKENS)),
    "grammar": lambda count, draft: _grammar(count),
    "backspace": lambda count, draft: Forgetful(BKSPC),
    "suffix": lambda count, draft: Speculation([SuffixDrafter() for _ in range(count)]),
    "edit": lambda count, draft: _edit(count),
    "recycling": lambda count, draft: Speculation([RecyclingDrafter() for _ in range(count)]),
    "rsd": lambda count, draft: rsd.RecursiveSpeculation(
        draft, rsd.StochasticBeam(3, 2), list(range(count))
    ),
    "rsd-c": lambda count, draft: rsd.RecursiveSpeculation(
        draft, rsd.ConstantBranching((2, 2)), list(range(count))
    ),
}


@pytest.fixture
def models() -> list[Any]:
    """A target, and a draft near it."""
    made: list[Any] = []
    for _ in range(2):
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=60, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=512,
            initializer_range=0.5,
        )  # fmt: skip
        made.append(LlamaForCausalLM(config).float().eval())
    with torch.no_grad():
        for weight in made[1].parameters():
            weight += 0.05 * torch.randn(weight.shape)
    return made


@pytest.fixture
def generators(monkeypatch: pytest.MonkeyPatch) -> None:
    """The device's random numbers are the CPU's."""
    made = torch.Generator
    monkeypatch.setattr(torch, "Generator", lambda device=None: made())


def rows_of(count: int) -> list[Row]:
    uniforms = torch.rand(count, NEW, generator=torch.Generator().manual_seed(1)).tolist()
    return [Row(list(p), u) for p, u in zip(PROMPTS, uniforms, strict=False)]


def test_the_device_counts() -> None:
    """One each for what a GPU would copy or wait for; mixing devices fails."""
    with torch.inference_mode(), CountedDevice() as device:
        there = torch.tensor([[1, 2], [3, 4]], device=DEVICE)
        assert isinstance(there, OnDevice) and there.device == DEVICE
        assert device.crossings == {"up": 1}
        there += torch.ones(2, dtype=torch.long).to(DEVICE)
        assert there.tolist() == [[2, 3], [4, 5]]
        assert device.crossings == {"up": 2, "down": 1}
        assert bool((there > 1).all()) and int(there[0, 1]) == 3
        _ = there[there > 2], there.nonzero()
        assert device.crossings == {"up": 2, "down": 1, "wait": 4}
        _ = there[torch.tensor([0])]
        assert device.crossings["up"] == 3
        with pytest.raises(RuntimeError, match="of the host and of the device"):
            _ = there + torch.ones(2)
        other = there.to(SECOND)
        assert other.device == SECOND and device.crossings["across"] == 1
        for of_two in (lambda: there + other, lambda: there[other[0]], lambda: there @ other[0]):
            with pytest.raises(RuntimeError, match="of two devices"):
                of_two()
        view = torch.zeros(2, 2, device=DEVICE)[:, 1]
        view.fill_(torch.arange(3, device=DEVICE).sum())
        assert view.tolist() == [3, 3] and view.stride() == (2,)
    with pytest.raises(RuntimeError, match="outside"):
        _ = there + 1


@pytest.mark.parametrize(
    ("count", "temperature", "in_place", "place"),
    [
        (1, 0, True, "one device"),
        pytest.param(8, 0.8, False, "one device", marks=pytest.mark.long),
        (8, 0.8, True, "one device"),
        pytest.param(8, 0.8, False, "two devices", marks=pytest.mark.long),
        (3, 0, True, "two devices"),
    ],
)
@pytest.mark.parametrize("name", MAKERS)
def test_a_round_copies_once_each_way(
    models: list[Any], generators: None, name: str, count: int, temperature: float, in_place: bool,
    place: str, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """What was chosen comes down; drafts or penalties go up, and nothing where there are none. The
    host never waits for anything else, and passes have few shapes. So with masks over a contiguous
    cache, and with tables of pages.
    """
    options: dict[str, Any] = {"max_new_tokens": NEW, "temperature": temperature, "top_p": 0.9}
    options["eos"] = frozenset()
    target, draft = models
    wanted, found = rows_of(count), rows_of(count)
    decode(target, wanted, **options, strategy=MAKERS[name](count, draft))
    assert not in_place or all(map(exchange, models))
    shapes: set[tuple[int, int]] = set()
    run = ModelPass.run

    def running(self: ModelPass) -> torch.Tensor:
        shapes.add((self.size, self.cache.slots.end))
        return run(self)

    monkeypatch.setattr(ModelPass, "run", running)
    with torch.inference_mode(), CountedDevice() as device, PLACES[place](*models):
        strategy = MAKERS[name](count, draft)
        seen = watched(strategy, device)
        decode(target, found, **options, strategy=strategy)
    assert [row.tokens for row in found] == [row.tokens for row in wanted]
    if name == "grammar":  # letters of two sets in turn
        assert all(t // 26 == i % 2 for row in found for i, t in enumerate(row.tokens))
    assert seen
    for crossings in seen:
        assert crossings["down"] == 1 and not crossings["wait"]
        assert crossings["up"] <= (name != "plain")
    fixed = "rsd" in name  # the width of its trees never changes
    read = 256 * (1 + count) if in_place else 256  # all pages, and one that belongs to no row
    assert all(slots == read and (fixed or width & (width - 1) == 0) for width, slots in shapes)


@pytest.mark.parametrize("place", PLACES)
def test_rows_come_and_go_there(models: list[Any], place: str) -> None:
    """More rows than fit, ended by tokens and by their reader, some of them healed."""
    vocabulary = Vocabulary(TOKENS)

    def texts() -> list[tuple[list[int], str | None]]:
        rows = rows_of(8)
        for row in rows[::3]:
            row.rest = TOKENS[row.prompt[0]] + TOKENS[20]
        decode(
            models[0], rows, max_new_tokens=NEW, temperature=0.9, top_p=0.8, width=3,
            eos=frozenset(range(50, 54)), vocabulary=vocabulary,
            on_token=lambda number, token: number == 4 and len(rows[4].tokens) == 5,
        )  # fmt: skip
        return [(row.tokens, row.finish) for row in rows]

    wanted = texts()
    assert {finish for _, finish in wanted} == {"eos", "stop", "length"}
    with torch.inference_mode(), CountedDevice(), PLACES[place](models[0]):
        assert texts() == wanted


def between(module: torch.nn.Module, device: CountedDevice) -> list[Counter[str]]:
    """What crosses from each forward pass of a module to the next."""
    found: list[Counter[str]] = []
    before: list[Counter[str]] = []

    def passing(*_: Any) -> None:
        if before:
            found.append(device.crossings - before.pop())
        before.append(Counter(device.crossings))

    module.register_forward_pre_hook(passing)
    return found


@pytest.mark.parametrize("place", PLACES)
def test_drafts_of_one_superposition_copy_once_each_way(models: list[Any], place: str) -> None:
    index = SuffixIndex()
    index.add([3, 7, 9, 3, 8, 7, 3, 9, 7, 8, 3])
    options: dict[str, Any] = {"drafts": 3, "max_new_tokens": 8, "ngrams": NGrams(index)}
    wanted = superpose(models[0], PROMPTS[0], **options)
    with CountedDevice() as device, PLACES[place](models[0]):
        seen = between(models[0], device)
        assert superpose(models[0], PROMPTS[0], **options) == wanted
    prompt, *rounds = seen
    assert prompt - Counter(across=99) == {"up": 1} and len(rounds) == 7
    assert all(each - Counter(across=99) == {"up": 1, "down": 1} for each in rounds)


_SIZES: dict[str, Any] = {"vocab_size": 9, "hidden_size": 16, "num_hidden_layers": 1,
                          "num_attention_heads": 2, "initializer_range": 0.5}  # fmt: skip
FILLING: dict[str, tuple[Any, Any, Any]] = {
    "insertion": (InsertionLM, InsertionConfig, {"marks_open_slots": True}),
    "insertion, prefix apart": (InsertionLM, InsertionConfig, {"prefix_apart": True}),
    "flexible": (FlexibleMaskLM, FlexibleMaskConfig, {}),
    "fixed": (FixedMaskLM, FixedMaskConfig, {"body_length": 6, "eos_token_id": 4}),
}


@pytest.mark.parametrize(
    "name", ["insertion", *(pytest.param(n, marks=pytest.mark.long) for n in list(FILLING)[1:])]
)
def test_a_step_of_filling_copies_once_each_way(name: str) -> None:
    """Also when texts are finished and leave, and with several insertions a step."""
    kind, config, more = FILLING[name]
    torch.manual_seed(1)
    model = kind(config(**_SIZES, **more)).eval()
    texts = [Text([5, 6]), Text([7]), Text([5])]
    if name != "fixed":
        texts += [Text([5, 6], [7, 8]), Text([], [8, 5, 6], [True, False, True, True])]
    options = FillOptions(
        max_new_tokens=6, temperature=0.8, top_p=0.9, insertions=3, slot_temperature=0.5, steps=5,
        stop_threshold=0.7,
    )  # fmt: skip
    rngs = lambda: [np.random.default_rng(number) for number in range(len(texts))]  # noqa: E731
    wanted = model.fill(texts, options, rngs())
    with CountedDevice() as device, moved(model):
        seen = between(model.encoder, device)
        assert model.fill(texts, options, rngs()) == wanted
    assert len(seen) > 2
    assert all(crossings == {"up": 1, "down": 1} for crossings in seen)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        pytest.param("plain", "one device", marks=pytest.mark.long),
        ("suffix", "one device"),
        ("suffix", "two devices"),
        ("sorted", "two devices"),
    ],
)
def test_rows_that_forget_copy_once_each_way(
    models: list[Any], name: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LM-Infinite, in rounds that move states to the front and in others."""
    monkeypatch.setattr(contexts, "_BLOCK", 8)
    monkeypatch.setattr("codegen.decoding.rows.padded_slots", lambda slots, device: slots)
    moves: list[int] = []
    forget = contexts.Extension.forget

    def forgetting(self: Any, cache: Any, row: int, cursor: int) -> int:
        moves.append(row)
        return forget(self, cache, row, cursor)

    monkeypatch.setattr(contexts.Extension, "forget", forgetting)
    options: dict[str, Any] = {"max_new_tokens": 40, "temperature": 0, "top_p": 1.0}
    options |= {"eos": frozenset(), "infinite": LMInfinite(2, 9)}

    def strategy() -> Strategy:
        if name == "sorted":
            nested = Nested(models[1], (1, 2))
            return SortedSpeculation([SortedDrafter(nested, tokens=4) for _ in range(3)], 4)
        drafters = [SuffixDrafter() for _ in range(3)]
        return Strategy() if name == "plain" else Speculation(drafters, limit=4)

    wanted, found = rows_of(3), rows_of(3)
    decode(models[0], wanted, **options, strategy=strategy())
    moves.clear()
    contexts._rotations.clear()  # those on the CPU
    with torch.inference_mode(), CountedDevice() as device, PLACES[place](*models):
        used = strategy()
        seen = watched(used, device)
        decode(models[0], found, **options, strategy=used)
    assert [row.tokens for row in found] == [row.tokens for row in wanted]
    assert moves and seen
    for crossings in seen:
        assert crossings["down"] == 1 and not crossings["wait"] and crossings["up"] <= 1


@pytest.mark.parametrize(
    ("name", "place"),
    [
        pytest.param("plain", "one device", marks=pytest.mark.long),
        ("suffix", "one device"),
        ("suffix", "two devices"),
    ],
)
def test_recurrent_rows_copy_once_each_way(name: str, place: str) -> None:
    """Also when states are rolled back."""
    torch.manual_seed(0)
    config = Qwen3NextConfig(
        vocab_size=60, hidden_size=16, intermediate_size=24, num_hidden_layers=4,
        num_attention_heads=2, num_key_value_heads=1, head_dim=8, initializer_range=0.5,
        layer_types=["linear_attention", "full_attention"] * 2, linear_num_key_heads=1,
        linear_num_value_heads=2, linear_key_head_dim=8, linear_value_head_dim=8, num_experts=0,
        mlp_only_layers=[0, 1, 2, 3],
    )  # fmt: skip
    model: Any = Qwen3NextForCausalLM(config).float().eval()
    options: dict[str, Any] = {"max_new_tokens": NEW, "temperature": 0, "top_p": 1.0}
    options["eos"] = frozenset()

    def strategy() -> Any:
        drafters = [SuffixDrafter() for _ in range(3)]
        return Strategy() if name == "plain" else Speculation(drafters, limit=4)

    wanted, found = rows_of(3), rows_of(3)
    decode(model, wanted, **options, strategy=strategy())
    with torch.inference_mode(), CountedDevice() as device, PLACES[place](model):
        used = strategy()
        seen = watched(used, device)
        decode(model, found, **options, strategy=used)
    assert [row.tokens for row in found] == [row.tokens for row in wanted]
    assert name == "plain" or used.drafted > used.emitted - used.passes  # some were rejected
    assert seen
    for crossings in seen:
        assert crossings["down"] == 1 and not crossings["wait"] and crossings["up"] <= 1


@pytest.mark.parametrize(
    ("place", "least", "temperature"), [("one device", 0, 0.8), ("two devices", 0.01, 0)]
)
def test_sorted_drafts_copy_once_each_way(
    models: list[Any], place: str, least: float, temperature: float
) -> None:
    """A draft is launched at one depth and comes down with the target's tokens."""
    options: dict[str, Any] = {"max_new_tokens": NEW, "temperature": temperature, "top_p": 0.9}
    options["eos"] = frozenset()
    target = models[0]
    torch.manual_seed(0)
    config = LlamaConfig(**target.config.to_dict() | {"num_hidden_layers": 3})
    draft: Any = LlamaForCausalLM(config).float().eval()
    draft.load_state_dict(target.state_dict(), strict=False)  # the second exit is the target
    wanted, found = rows_of(3), rows_of(3)
    decode(target, wanted, **options)
    tally = Tally()
    with torch.inference_mode(), CountedDevice() as device, PLACES[place](target, draft):
        nested = Nested(draft, (1, 2, 3))
        strategy = SortedSpeculation(
            [
                SortedDrafter(nested, tokens=3, thresholds=(0.4, 0.7), least=least, tally=tally)
                for _ in range(3)
            ]
        )
        seen = watched(strategy, device)
        decode(target, found, **options, strategy=strategy)
    assert [row.tokens for row in found] == [row.tokens for row in wanted]
    assert min(tally.drafted) > 0 < sum(tally.accepted)  # exits of all depths were taken
    assert seen
    for crossings in seen:
        assert crossings["down"] == 1 and not crossings["wait"] and crossings["up"] == 1
