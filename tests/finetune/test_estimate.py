"""A recipe's needs: by formulas, as the command prints them, and against a real step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from codegen.finetune import parse_recipe
from codegen.finetune.estimate import estimate
from tests.finetune.test_losses import run


@pytest.fixture
def row(recipe_of: Any) -> dict[str, Any]:
    rows = [{"prompt": f"Add {n}.", "completion": f"x = {n}\n"} for n in range(8)]
    return recipe_of(rows, steps=12, batch_size=8, micro_batch_size=8)


def test_the_plan_counts_what_formulas_know(row: dict[str, Any]) -> None:
    recipe = {**row, "epochs": 3, "steps": 0, "batch_size": 4, "micro_batch_size": 2}
    needs = estimate(parse_recipe(recipe))
    model = AutoModelForCausalLM.from_pretrained(row["model"], dtype=torch.float32)
    weights = sum(weight.numel() for weight in model.parameters())
    adapter = needs.trained_parameters
    assert needs.parameters == weights + adapter and needs.steps == 6
    assert needs.memory["adapter"] == needs.memory["gradients"] == 4 * adapter
    assert needs.memory["optimizer"] == 8 * adapter
    assert needs.memory["weights"] == pytest.approx(4 * weights, rel=0.01)
    # 2 operations a weight forward, 2 for the inputs' gradients, 6 for the adapter's; attention.
    embeddings: Any = model.get_input_embeddings()
    matrices = weights - embeddings.weight.numel()
    least = needs.tokens * (4 * matrices + 6 * adapter)
    assert least < needs.flops < 1.6 * least
    result = run({k: v for k, v in recipe.items() if k != "steps"})
    assert result.counts["slots"] == needs.tokens
    assert result.trainable_parameters == adapter
    # A tiny model's files are mostly its tokenizer and settings, which the plan leaves out.
    weights_on_disk = [
        f for f in Path(row["output"]).rglob("*") if f.suffix in (".safetensors", ".pt")
    ]
    assert 0 < sum(file.stat().st_size for file in weights_on_disk) < 1.1 * needs.disk


def test_the_command_prints_the_plan(row: dict[str, Any], tmp_path: Path, codegen: Any) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(row))
    code, text, _ = codegen("finetune", path, "--plan")
    assert not code
    found = json.loads(codegen("finetune", path, "--plan", "--json").out)
    assert found["peak"] == sum(found["memory"].values()) and found["steps"] == 12
    for word in ("weights", "activations", "tokens", "operations"):
        assert word in text
    assert not Path(row["output"]).exists()


def test_the_plan_has_the_tensors_of_a_real_step(row: dict[str, Any]) -> None:
    """The storages of a step with data are those of the step without."""
    from codegen.finetune.estimate import StorageTracker
    from codegen.finetune.sft import StepTrainer

    original = StepTrainer.training_step
    for changes in ({"steps": 2}, {"steps": 2, "method": "full", "packing": "best_fit"}):
        recipe = {**row, **changes, "batch_size": 8, "micro_batch_size": 4}
        peaks: list[int] = []

        def step(self: Any, model: Any, inputs: Any, num: Any = None, peaks: Any = peaks) -> Any:
            with StorageTracker(model) as storages:
                found = original(self, model, inputs, num)
            peaks.append(storages.peak)
            return found

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(StepTrainer, "training_step", step)
            run(recipe, output=f"{row['output']}{len(changes)}")
        needs = estimate(parse_recipe(recipe))
        assert needs.peak - needs.memory["optimizer"] == pytest.approx(max(peaks), rel=0.15)
