"""What a round of the loop copies between host and device, on a device that counts it.

The device (:mod:`counted_device`) refuses to mix its tensors with the host's, so these are also
tests that nothing was left behind: what is decoded there is what is decoded on the CPU. With the
layers on two devices the host copies and waits no more often than with one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from counted_device import DEVICE, PLACES, SECOND, CountedDevice, OnDevice, watched
from transformers import LlamaConfig, LlamaForCausalLM

from codegen.decoding.drafts import Context, CursorDrafter, RecyclingDrafter, SuffixDrafter
from codegen.decoding.loop import BackspaceDecoding, Batch, Row, Strategy, decode
from codegen.decoding.passes import ModelPass, exchange
from codegen.decoding.rpg import read_options
from codegen.decoding.rpg.methods import Method, Penalized
from codegen.decoding.strategies import rsd
from codegen.decoding.strategies.sorted import ExitCounts, Nested, SortedDrafter, SortedSpeculation
from codegen.decoding.strategies.speculative import Speculation
from tests.llamas import small_llama
from tests.selection import some

PROMPTS = [[3, 7, 9, 3, 7, 9, 3, 7], [5], [11, 12, 13, 14], [40, 3], [1, 2, 3, 1, 2, 3], [9],
           [8, 8], [30, 31, 32]]  # fmt: skip
NEW = 14
BKSPC = 17
TOKENS = [bytes([65 + i]) for i in range(60)]


class Forgetful(BackspaceDecoding):
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
    from codegen.decoding.strategies.constrained import ConstrainedDecoding

    tokenizer = llguidance.LLTokenizer(llguidance.TokenizerWrapper(_Letters()))
    return ConstrainedDecoding(tokenizer, "root ::= ([A-F] [a-m]){10}", count)


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
    made = [small_llama() for _ in range(2)]
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
@pytest.mark.parametrize("name", some(MAKERS, 4))
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


@pytest.mark.parametrize(
    ("place", "least", "temperature"),
    [("one device", 0, 0.8), pytest.param("two devices", 0.01, 0, marks=pytest.mark.long)],
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
    tally = ExitCounts()
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
