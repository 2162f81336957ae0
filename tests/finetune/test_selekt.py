"""SeleKT and replay: few weights change, and domains give their shares."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from codegen.errors import ConfigError
from codegen.finetune import parse_recipe
from codegen.finetune.attention import causal
from codegen.finetune.plan import make_plan
from codegen.finetune.run import train
from codegen.finetune.selekt import project
from codegen.finetune.tokens import EncodedExample


@pytest.fixture
def row(tmp_path: Path, tiny_model_dir: Path) -> dict[str, Any]:
    data = tmp_path / "data.jsonl"
    rows = [{"prompt": f"Add {n}.", "completion": f"x = {n}\n"} for n in range(8)]
    data.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return {
        "model": str(tiny_model_dir),
        "data": str(data),
        "output": str(tmp_path / "out"),
        "steps": 7,
        "method": "full",
        "learning_rate": 0.01,
        "dtype": "float32",
        "save_every": 2,
    }


def run(row: dict[str, Any], **changes: Any) -> Any:
    return train(parse_recipe({**row, **changes}))


def weights(folder: str | Path) -> dict[str, torch.Tensor]:
    return load_file(Path(folder, "model.safetensors"))


@given(
    st.lists(st.integers(-5, 5), min_size=1, max_size=30),
    st.floats(0, 1),
)
def test_the_largest_changes_are_kept(changes: list[int], share: float) -> None:
    base = torch.arange(len(changes), dtype=torch.float32) / 3
    weight = base + torch.tensor(changes)
    found = project(weight, base, share)
    kept = int(share * len(changes))
    # A plain sort, the first of equal changes first.
    order = sorted(range(len(changes)), key=lambda i: (-abs(weight[i] - base[i]), i))
    expected = base.clone()
    for i in order[:kept]:
        expected[i] = weight[i]
    assert torch.equal(found, expected)


def test_few_weights_differ_from_the_base_and_the_model_learns(row: dict[str, Any]) -> None:
    result = run(row, selekt={"share": 0.05, "every": 3})
    base, tuned = weights(row["model"]), weights(result.model)
    assert base.keys() == tuned.keys()
    for name, weight in base.items():
        changed = int((tuned[name] != weight).sum())
        assert changed <= int(0.05 * weight.numel()), name
    assert any(int((tuned[name] != base[name]).sum()) for name in base)
    assert result.losses[-1][1] < result.losses[0][1]


def test_a_share_of_one_is_full_fine_tuning(row: dict[str, Any], tmp_path: Path) -> None:
    plain = run(row, output=str(tmp_path / "plain"))
    whole = run(row, selekt={"share": 1.0, "every": 2})
    a, b = weights(plain.model), weights(whole.model)
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_resuming_across_a_projection_gives_the_same_weights(
    row: dict[str, Any], tmp_path: Path
) -> None:
    selekt = {"share": 0.1, "every": 3}
    whole = run(row, selekt=selekt, output=str(tmp_path / "whole"))

    class Stopped(Exception):
        pass

    def stop(step: int, *_: Any) -> None:
        if step == 5:  # after the projection at 3 and the checkpoint at 4
            raise Stopped

    recipe = parse_recipe({**row, "selekt": selekt})
    with pytest.raises(Stopped):
        train(recipe, on_step=stop)
    resumed = train(recipe)
    a, b = weights(whole.model), weights(resumed.model)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert resumed.losses == whole.losses


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "lora", "selekt": {"share": 0.5}}, "selekt trains all weights.*method: full"),
        (
            {"selekt": {"share": 0.5}, "evaluation": {"data": "d", "every": 30}},
            "evaluation.every 30 is not a multiple of selekt.every 100",
        ),
        ({"mixture": {"shares": {"a": 1.0}}}, "mixture.shares names a for the domains none"),
        (
            {"data": {"a": "p", "b": "q"}, "mixture": {"shares": {"a": 1.0, "b": 0.0}}},
            "Give each domain of data a share above 0",
        ),
        (
            {
                "data": {"a": "p", "b": "q"},
                "mixture": {"shares": {"a": 1.0, "b": 1.0}, "balance": True},
            },
            "mixture.shares goes neither with",
        ),
    ],
)
def test_settings_that_do_not_go_together(
    row: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_recipe({**row, **change})


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
    assert longer.steps[:30] == plan.steps[:30]
