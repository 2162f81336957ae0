"""Decoding and cache editing that call the kernels, against the same by PyTorch alone."""

from __future__ import annotations

from collections import Counter
from types import ModuleType
from typing import Any

import pytest
import torch

from codegen.decoding.cache import KVCache, Rotation
from codegen.decoding.loop import Row, decode
from codegen.decoding.passes import exchange
from codegen.decoding.rpg import RepetitionPenaltyOptions
from codegen.decoding.rpg.methods import Method, Penalized
from codegen.decoding.strategies import rsd
from codegen.kernels import backend
from codegen.kernels.gpu import kv_cache, tree_attention, vocabulary
from tests.llamas import small_llama

pytestmark = pytest.mark.slow


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each kernel was launched."""
    counts: Counter[str] = Counter()

    def count(module: ModuleType, name: str) -> None:
        launch = getattr(module, name)

        def counted(*given: Any) -> Any:
            counts[name] += 1
            return launch(*given)

        monkeypatch.setattr(module, name, counted)

    for module in (kv_cache, tree_attention, vocabulary):
        for name in vars(module):
            if name.startswith("launch"):
                count(module, name)
    return counts


def _model(seed: int, device: str) -> Any:
    sizes = {"num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.3}
    return small_llama(seed, hidden_size=32, intermediate_size=48, **sizes).to(device)


@pytest.mark.parametrize(("temperature", "accepts"), [(0.9, "launch_tree"), (0.0, "launch_greedy")])
def test_drafted_trees(temperature, accepts, device, launched, monkeypatch) -> None:
    target, draft = _model(0, device), _model(0, device)
    with torch.no_grad():  # near the target, so that some of a tree stands
        for weight in draft.parameters():
            weight += 0.03 * torch.randn(weight.shape).to(device)
    assert exchange(target) and exchange(draft)

    def texts() -> list[list[int]]:
        rows = [Row([3, 7, 9], []), Row([5], [])]
        decode(
            target, rows, max_new_tokens=7, temperature=temperature, top_p=0.95, eos=frozenset(),
            strategy=rsd.RecursiveSpeculation(draft, rsd.StochasticBeam(3, 2), [1, 2]),
        )  # fmt: skip
        return [row.tokens for row in rows]

    found = texts()
    expected = {"launch", accepts, "launch_compact"}
    assert set(launched) == expected | ({"launch_top_k"} if temperature else set())
    monkeypatch.setattr(backend, "use_triton", lambda tensor: False)
    assert texts() == found


def test_penalties(device, launched, monkeypatch) -> None:
    model = _model(0, device)
    method = Method.of(RepetitionPenaltyOptions(penalty=1.5), [b"x"] * 60)

    def texts() -> list[list[int]]:
        rows = [Row([3, 7, 9], []), Row([5], [])]
        decode(model, rows, max_new_tokens=6, temperature=0.0, top_p=1.0, eos=frozenset(),
               strategy=Penalized(method))  # fmt: skip
        return [row.tokens for row in rows]

    found = texts()
    assert launched["launch_penalize"] == 6
    monkeypatch.setattr(backend, "use_triton", lambda tensor: False)
    assert texts() == found


def test_moved_slots(device, launched, monkeypatch) -> None:
    rotation = Rotation("keys", torch.tensor([1.0, 0.1, 0.01], device=device), False)
    g = torch.Generator().manual_seed(0)
    given = torch.randn(2, 1, 2, 6, 8, generator=g).to(device)

    def moved() -> torch.Tensor:
        cache = KVCache([rotation], 6, device=torch.device(device))
        cache.place(torch.arange(6, device=device)[None], 6)
        layer: Any = cache.layers[0]
        layer.update(given[0], given[1])
        slots = torch.tensor([4, 1], device=device)
        cache.move(slots, torch.tensor([9, -3], device=device))
        return layer.keys

    found = moved()
    assert launched["launch_turn"] == 1
    monkeypatch.setattr(backend, "use_triton", lambda tensor: False)
    torch.testing.assert_close(found, moved())
