"""Models that ``torch.compile`` compiled: the same tokens, and no graph after the first ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters

from codegen.core.errors import MachineError
from codegen.decoding import long_context
from codegen.decoding.drafts import RecyclingDrafter, SuffixDrafter
from codegen.decoding.long_context import LMInfinite
from codegen.decoding.loop import Row, Strategy, decode
from codegen.decoding.passes import exchange
from codegen.decoding.strategies import rsd
from codegen.decoding.strategies.speculative import Speculation
from codegen.decoding.strategies.superposed import Superposition
from tests.llamas import small_llama

PROMPTS = [[3, 7, 9, 3, 7, 9, 3, 7], [5], [11, 12, 13, 14], [40, 3], [1, 2, 3, 1, 2, 3], [9]]
Make = Callable[[int, Any], Strategy]
MAKERS: dict[str, Make] = {
    "plain": lambda count, draft: Strategy(),
    "suffix": lambda count, draft: Speculation([SuffixDrafter() for _ in range(count)], limit=6),
    "recycling": lambda count, draft: Speculation([RecyclingDrafter() for _ in range(count)]),
    "rsd": lambda count, draft: rsd.RecursiveSpeculation(
        draft, rsd.StochasticBeam(3, 2), list(range(count))
    ),
    "superposed": lambda count, draft: Superposition(),
    "lm-infinite": lambda count, draft: Strategy(),
}


def texts(target: Any, draft: Any, name: str, count: int, new: int) -> list[list[int]]:
    """Rows end at different lengths, and others take their places."""
    rows = [Row(list(prompt), [0.5] * new) for prompt in PROMPTS[:count]]
    decode(
        target, rows, max_new_tokens=new, temperature=0, top_p=1.0, eos=frozenset(), width=3,
        strategy=MAKERS[name](count, draft),
        infinite=LMInfinite(2, 9) if name == "lm-infinite" else None,
        on_token=lambda number, _: len(rows[number].tokens) == new - 4 * (number % 3),
    )  # fmt: skip
    return [row.tokens for row in rows]


@pytest.mark.parametrize(
    ("backend", "names", "in_place"),
    [
        ("eager", ["plain"], True),
        pytest.param("eager", list(MAKERS)[:5], False, marks=pytest.mark.long),
        pytest.param("aot_eager", list(MAKERS)[:4], True, marks=pytest.mark.long),
        pytest.param("eager", ["lm-infinite"], False, marks=pytest.mark.long),
        pytest.param("inductor", ["plain", "suffix"], True, marks=pytest.mark.long),
    ],
)
def test_compiled_models_decode_the_same(
    backend: str, names: list[str], in_place: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Longer texts, joins and leaves make no graph that was not made for shorter ones."""
    torch.compiler.reset()
    # PyTorch's shared cache mixes code for AVX2 and AVX-512 if ATEN_CPU_CAPABILITY changes.
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(long_context, "BLOCK", 8)
    target, draft = (small_llama(num_hidden_layers=1) for _ in range(2))
    assert not in_place or (exchange(target) and exchange(draft))
    counts = (1, 6) if len(names) > 1 else (6,)
    cases = [(name, count, new) for new in (12, 40) for name in names for count in counts]
    wanted = [texts(target, draft, *case) for case in cases]
    for each in (target, draft):
        each.compile(dynamic=True, backend=backend)
    counters.clear()
    graphs = []
    for case, expected in zip(cases, wanted, strict=True):
        assert texts(target, draft, *case) == expected
        graphs.append(counters["stats"]["unique_graphs"])
    assert 0 < graphs[len(graphs) // 2 - 1] == graphs[-1]  # none for the longer texts
    assert not counters["graph_break"]


def test_what_cannot_be_compiled_is_one_line() -> None:
    def fails(graph: Any, inputs: Any) -> Any:
        raise OSError("there is no compiler\nof any kind")

    torch.compiler.reset()
    target = small_llama(num_hidden_layers=1)
    target.compile(backend=fails)
    with pytest.raises(MachineError, match=r"LlamaForCausalLM: .* no compiler of") as raised:
        texts(target, None, "plain", 1, 4)
    assert "\n" not in str(raised.value) and raised.value.remedy
