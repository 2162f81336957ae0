"""Passes that are captured and replayed, with a graph that is recorded on the CPU.

As a CUDA graph does, it repeats operations on the memory that they had, and runs no Python: what
depends on anything else comes out wrong.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from codegen.decoding.device import CapturedGraphs, Replay
from codegen.decoding.drafts import RecyclingDrafter, SuffixDrafter
from codegen.decoding.loop import Row, Strategy, decode
from codegen.decoding.sequences import CachedRows
from codegen.decoding.strategies import rsd
from codegen.decoding.strategies.speculative import Speculation
from codegen.kernels.backend import TRIALS

PROMPTS = [[3, 7, 9, 3, 7, 9, 3, 7], [5], [11, 12, 13, 14], [40, 3], [9, 9]]
NEW = 24
SMALL: dict[str, Any] = {
    "vocab_size": 60, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 128,
    "initializer_range": 0.5,
}  # fmt: skip


class Recorder(TorchDispatchMode):
    """Notes operations with the tensors that they read and made."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, found))
        return found

    def replay(self) -> None:
        for func, args, kwargs, found in self.operations:
            again = func(*args, **kwargs)
            known = {t.untyped_storage().data_ptr() for t in tensors((args, kwargs))}
            for old, new in zip(tensors(found), tensors(again), strict=True):
                if old.untyped_storage().data_ptr() not in known:  # no view, and not in place
                    old.copy_(new)


def tensors(tree: Any) -> list[torch.Tensor]:
    return [each for each in tree_iter(tree) if isinstance(each, torch.Tensor)]


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> list[Recorder]:
    """The loop captures on the CPU too; what it captured."""
    graphs: list[Recorder] = []

    def capture(compute: Callable[[], torch.Tensor]) -> Replay:
        with Recorder() as graph:
            result = compute()
        graphs.append(graph)
        return graph.replay, result

    monkeypatch.setattr("codegen.decoding.device.TRIALS", 1)  # texts are short here
    make = CachedRows.__init__

    def making(self: Any, *given: Any) -> None:
        make(self, *given)
        self._replays = CapturedGraphs(capture)

    monkeypatch.setattr(CachedRows, "__init__", making)
    # As off the CPU, so that shapes stay.
    monkeypatch.setattr(
        "codegen.decoding.sequences.padded_slots", lambda n, device: -(-n // 64) * 64
    )
    return graphs


def model(kind: Any, config: Any) -> Any:
    torch.manual_seed(0)
    return kind(config).float().eval()


def texts(target: Any, strategy: Strategy, ends: dict[int, int], width: int) -> list[list[int]]:
    rows = [Row(list(prompt), [0.0] * NEW) for prompt in PROMPTS]
    decode(target, rows, max_new_tokens=NEW, temperature=0, top_p=1.0, eos=frozenset(),
           strategy=strategy, width=width,
           on_token=lambda number, _: len(rows[number].tokens) == ends.get(number))  # fmt: skip
    return [row.tokens for row in rows]


def drafting(name: str, target: Any) -> Strategy:
    if name == "rsd":
        return rsd.RecursiveSpeculation(target, rsd.StochasticBeam(3, 2), range(len(PROMPTS)))
    make = {"suffix": SuffixDrafter, "recycling": RecyclingDrafter}
    return Speculation([make[name]() for _ in PROMPTS]) if name in make else Strategy()


def texts_alone(target: Any, prompt: list[int]) -> list[int]:
    tokens = list(prompt)
    for _ in range(NEW):
        logits = target(torch.tensor([tokens]), use_cache=False).logits
        tokens.append(int(logits[0, -1].argmax()))
    return tokens[len(prompt) :]


@pytest.mark.parametrize("name", ["plain", "suffix", "recycling", "rsd"])
def test_replayed_passes_give_the_same_text(captured: list[Recorder], name: str) -> None:
    """Also when rows leave and come, which moves the cache."""
    target = model(LlamaForCausalLM, LlamaConfig(**SMALL))
    alone = [texts_alone(target, prompt) for prompt in PROMPTS]
    ends = {0: 9, 2: 15}
    found = texts(target, drafting(name, target), ends, width=3)
    assert captured
    for number, (tokens, wanted) in enumerate(zip(found, alone, strict=True)):
        assert tokens == wanted[: ends.get(number, NEW)]


def test_one_graph_for_a_shape(captured: list[Recorder], monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of one length: a first pass, a capture compared with one more pass, and replays; the
    same again at 64 slots.
    """
    target = model(MistralForCausalLM, MistralConfig(**SMALL, sliding_window=6))
    passes, calls = 0, target.forward

    def counted(*given: Any, **named: Any) -> Any:
        nonlocal passes
        passes += 1
        return calls(*given, **named)

    monkeypatch.setattr(target, "forward", counted)
    rows = [Row([5, 6, 7], [0.0] * 80), Row([9, 8, 7], [0.0] * 80)]
    decode(target, rows, max_new_tokens=80, temperature=0, top_p=1.0, eos=frozenset())
    assert len(captured) == 2 and passes == 1 + 2 * 3  # the prompts' too
    monkeypatch.undo()
    again = [Row(row.prompt, row.uniforms) for row in rows]
    decode(target, again, max_new_tokens=80, temperature=0, top_p=1.0, eos=frozenset())
    assert [row.tokens for row in again] == [row.tokens for row in rows]


def test_what_can_not_be_captured_runs_as_it_is() -> None:
    def capture(compute: Callable[[], torch.Tensor]) -> Replay:
        raise RuntimeError("operation not permitted when stream is capturing")

    replays, layout = CapturedGraphs(capture), object()
    run = lambda x: replays.run(0, layout, {"x": torch.tensor([x])}, lambda given: given["x"] * 2)  # noqa: E731
    for _ in range(TRIALS):
        assert run(1.0).item() == 2
    with pytest.warns(RuntimeWarning, match="disabled.*not permitted"):
        assert run(2.0).item() == 4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run(3.0).item() == 6


def test_a_replay_that_computes_something_else_does_not_count() -> None:
    def capture(compute: Callable[[], torch.Tensor]) -> Replay:
        return lambda: None, compute() + 1

    replays, layout = CapturedGraphs(capture), object()
    run = lambda: replays.run(0, layout, {"x": torch.ones(1)}, lambda given: given["x"] * 2)  # noqa: E731
    with pytest.warns(RuntimeWarning, match="a replayed CUDA graph returns different values"):
        found = [run().item() for _ in range(TRIALS + 3)]
    assert found == [2] * (TRIALS + 3)
