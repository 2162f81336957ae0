"""Objective dpo: the loss by a plain loop, the same run after a kill, what the result prefers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from codegen.core.errors import ConfigError, InputError
from codegen.finetune import parse_recipe
from codegen.finetune.lifecycle import train
from codegen.models import load

pytest.importorskip("trl")
pytestmark = pytest.mark.slow

GOOD, BAD = "def f(x):\n    return x + {}\n", "def f(x):\n    return x - {}\n"


@pytest.fixture
def row(recipe_of: Any) -> dict[str, Any]:
    rows = [
        {"prompt": f"Add {n}.\n", "chosen": GOOD.format(n), "rejected": BAD.format(n)}
        for n in range(8)
    ]
    return recipe_of(
        rows,
        objective="dpo",
        format="plain",
        method="full",
        steps=2,
        batch_size=8,
        micro_batch_size=4,
        learning_rate=0.001,
        schedule="constant",
        warmup=0,
    )


def run(row: dict[str, Any], **changes: Any) -> Any:
    return train(parse_recipe({**row, **changes}))


def answer_log_probability(model: str, prompt: str, answer: str) -> torch.Tensor:
    """The sum over the answer's tokens and its end, one forward pass without a batch."""
    loaded = load(model, dtype=torch.float32)
    tokenizer = loaded.tokenizer
    before = tokenizer(prompt, add_special_tokens=False).input_ids
    bos = tokenizer.bos_token_id
    if tokenizer("a").input_ids[:1] == [bos]:
        before = [bos, *before]
    after = [*tokenizer(answer, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
    with torch.no_grad():
        logits = loaded.model(torch.tensor([before + after])).logits[0]
    chosen = torch.log_softmax(logits, -1)[len(before) - 1 : -1]
    return chosen[torch.arange(len(after)), torch.tensor(after)].sum()


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_loss_is_the_papers(row: dict[str, Any], tmp_path: Path, method: str) -> None:
    """Of the second step: from the initial model and that after one step, by equation 7."""
    row |= {"method": method, "learning_rate": 0.001 if method == "full" else 0.05}
    one = run(row, steps=1, output=str(tmp_path / "one"))
    two = run(row, steps=2, output=str(tmp_path / "two"))
    assert one.losses == two.losses[:1] and one.losses[0][1] == pytest.approx(0.693147, abs=1e-5)
    losses, right = [], 0
    for line in Path(row["data"]).read_text().splitlines():
        pair = json.loads(line)
        gains = [
            answer_log_probability(one.model, pair["prompt"], pair[side])
            - answer_log_probability(row["model"], pair["prompt"], pair[side])
            for side in ("chosen", "rejected")
        ]
        losses.append(-torch.nn.functional.logsigmoid(0.1 * (gains[0] - gains[1])))
        right += bool(gains[0] > gains[1])
    assert two.losses[1][1] == pytest.approx(float(torch.stack(losses).mean()), abs=2e-5)
    assert two.losses[1][1] < 0.69
    assert two.parts["rewards/accuracies"][1][1] == pytest.approx(right / 8)


@pytest.mark.long
def test_a_killed_run_ends_with_the_same_weights(row: dict[str, Any], tmp_path: Path) -> None:
    changes = {"steps": 6, "batch_size": 4, "save_every": 2, "schedule": "linear"}
    whole = run(row, **changes, output=str(tmp_path / "whole"))
    killed = {**row, **changes}
    script = (
        "import json, os, signal, sys\n"
        "from codegen.finetune import parse_recipe\n"
        "from codegen.finetune.lifecycle import train\n"
        "train(parse_recipe(json.loads(sys.argv[1])),"
        " on_step=lambda s, *_: s == 5 and os.kill(os.getpid(), signal.SIGKILL))\n"
    )
    done = subprocess.run([sys.executable, "-c", script, json.dumps(killed)], env=os.environ)
    assert done.returncode == -signal.SIGKILL and not Path(row["output"], "train.json").exists()
    notes: list[str] = []
    resumed = train(parse_recipe(killed), on_message=notes.append)
    assert "Resuming from checkpoint-4." in notes
    assert resumed.losses == whole.losses
    one, other = (load_file(Path(r.model, "model.safetensors")) for r in (whole, resumed))
    assert one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.long
def test_what_is_left_out_is_counted(row: dict[str, Any], tmp_path: Path) -> None:
    data = tmp_path / "more.jsonl"
    extra = [
        {"prompt": "a", "chosen": "b " * 400, "rejected": "c"},
        {"prompt": "a", "chosen": "b", "rejected": "b"},
    ]
    lines = "".join(json.dumps(r) + "\n" for r in extra)
    data.write_text(Path(row["data"]).read_text() + lines)
    result = run(row, data=str(data), steps=1, max_length=64)
    assert result.counts["examples"] == 8
    assert result.counts["dropped"] == {"too long": 1, "equal answers": 1}
    data.write_text(lines)
    with pytest.raises(InputError, match="1 too long, 1 equal answers"):
        run(row, data=str(data), max_length=64, output=str(tmp_path / "none"))


@pytest.mark.long
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"micro_batch_size": 3}, "not a multiple of micro_batch_size 3"),
        ({"dpo": {"trl": {"betta": 1}}}, "DPOConfig rejects these settings.*betta"),
        ({"dpo": {"trl": {"beta": 1}}}, "set by the recipe"),
        ({"dpo": {"trl": {"loss_type": "exo_pair"}}}, "rejects these settings: Label smoothing"),
        ({"packing": "best_fit"}, "does not support packing"),
        ({"method": "lora", "lora": {"targets": ["lm_head"]}}, "rejects these settings"),
    ],
)
def test_settings_that_do_not_go_together(
    row: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        run(row, **changes)


def test_a_row_that_is_no_pair_is_named(row: dict[str, Any], tmp_path: Path) -> None:
    data = tmp_path / "texts.jsonl"
    data.write_text('{"prompt": "a", "completion": "b"}\n')
    with pytest.raises(InputError, match=r"texts\.jsonl:1 is not a pair.*codegen data preferences"):
        run(row, data=str(data))
    data.write_text('{"prompt": "a", "chosen": "b", "rejected": 3}\n')
    with pytest.raises(InputError, match=r"texts\.jsonl:1 \(rejected\)"):
        run(row, data=str(data))
