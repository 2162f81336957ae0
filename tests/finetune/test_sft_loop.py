"""The flat script: the trainer's losses, an evaluation, and a model that loads."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from codegen.core.errors import ConfigError, InputError
from codegen.core.records import Segment, TrainingText, write_jsonl
from codegen.finetune import parse_recipe
from codegen.finetune.lifecycle import train
from codegen.models import load
from tests.processes import run

SCRIPT = Path(__file__).parents[2] / "recipes" / "sft_loop.py"
TEXTS = [
    TrainingText(
        f"t{i}", f"e{i}", "lintseq",
        (Segment(f"Add {i}.\n", False),
         Segment(f"def f(x):\n    return x + {i}\n" + "    # more\n" * (i % 4), True)),
    )
    for i in range(12)
]  # fmt: skip


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("sft_loop", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["sft_loop"] = module  # pydantic looks the module of its models up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def settings(tmp_path: Path, tiny_model_dir: Path) -> dict[str, Any]:
    write_jsonl(tmp_path / "data.jsonl", TEXTS)
    write_jsonl(tmp_path / "held.jsonl", TEXTS[:3])
    return {
        "model": str(tiny_model_dir),
        "data": str(tmp_path / "data.jsonl"),
        "held_out": str(tmp_path / "held.jsonl"),
        "output": str(tmp_path / "flat"),
        "steps": 6,
        "batch_size": 5,
        "max_length": 96,
        "learning_rate": 0.01,
        "warmup_steps": 2,
        "rank": 4,
        "evaluate_every": 3,
    }


def test_it_computes_the_losses_of_the_trainer(
    script: Any, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same batches, masks, adapter, schedule and clipping: the same loss at each step."""
    monkeypatch.setattr(script, "pick_dtype", lambda _: torch.float32)
    metrics = script.main(script.Settings(**settings))
    trained = train(
        parse_recipe(
            {
                "model": settings["model"],
                "data": settings["data"],
                "output": str(tmp_path / "run"),
                "steps": 6,
                "batch_size": 5,
                "micro_batch_size": 1,
                "packing": "best_fit",
                "max_length": 96,
                "row_length": 96,
                "learning_rate": 0.01,
                "warmup": 2 / 6,
                "lora": {"rank": 4, "alpha": 8},
                "dtype": "float32",
                "decoder": "edit_sequence",
                "evaluation": {"data": settings["held_out"], "every": 3, "keep": "last"},
            }
        )
    )
    assert [row["loss"] for row in metrics] == pytest.approx(
        [loss for _, loss in trained.losses], rel=1e-4
    )
    assert [row["rate"] for row in metrics] == pytest.approx(
        [rate for _, rate in trained.learning_rates]
    )
    assert [row["held_out"] for row in metrics if "held_out" in row] == pytest.approx(
        [loss for _, loss in trained.evaluations], rel=1e-3
    )
    ours, theirs = (load(folder, dtype=torch.float32) for folder in
                    (str(Path(settings["output"]) / "model"), trained.model))  # fmt: skip
    assert ours.card.decoder == theirs.card.decoder == "edit_sequence"
    tokens = torch.tensor([[5, 6, 7]])
    with torch.inference_mode():
        gap = (ours.model(tokens).logits - theirs.model(tokens).logits).abs().max()
    assert gap < 1e-3


def test_it_learns(script: Any, settings: dict[str, Any]) -> None:
    metrics = script.main(script.Settings(**{**settings, "steps": 25, "warmup_steps": 0}))
    assert metrics[-1]["loss"] < 0.6 * metrics[0]["loss"]
    lines = (Path(settings["output"]) / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, 26))


def test_mistakes_are_one_line(script: Any, settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="Raise max_length"):
        script.main(script.Settings(**{**settings, "max_length": 8}))
    with pytest.raises(ConfigError, match="learning_rate"):
        script.Settings(**{**settings, "learning_rate": 0})
    done = run(sys.executable, SCRIPT, "data=d", "step=3")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("Error: sft_loop: unknown key 'step'. Did you")
    assert "Traceback" not in done.stderr
    assert len(SCRIPT.read_text().splitlines()) < 200
