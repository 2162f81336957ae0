"""Preferences and reinforcement on TRL: losses, rewards, records, resuming, one-line mistakes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from codegen.core.errors import ConfigError, InputError
from codegen.finetune import parse_recipe
from codegen.finetune.lifecycle import train
from codegen.models import load
from tests.processes import wait_for

pytest.importorskip("trl", reason="pip install 'codegen-toolkit[rl]' to run this test")
pytestmark = pytest.mark.slow


@pytest.fixture
def recipe(tmp_path: Path, tiny_model_dir: Path) -> dict[str, Any]:
    rows = [
        {
            "id": f"p{n}",
            "prompt": f"# {n}\ndef f(x):",
            "entry_point": "f",
            "tests": [f"assert f({x}) == {n}" for x in range(4)],
        }
        for n in range(6)
    ]
    (tmp_path / "task.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "objective": "grpo",
        "model": str(tiny_model_dir),
        "output": str(tmp_path / "run"),
        "steps": 4,
        "method": "lora",
        "lora": {"rank": 4},
        "format": "plain",
        "batch_size": 2,
        "micro_batch_size": 4,
        "learning_rate": 1e-3,
        "schedule": "constant",
        "warmup": 0,
        "save_every": 2,
        "grpo": {
            "task": f"file:{tmp_path / 'task.jsonl'}",
            "style": "continue",
            "group": 4,
            "max_new_tokens": 8,
            "rewards": {"passed": 1.0, "compiles": 0.5},
            "hidden": 0.5,
            "workers": 1,
        },
    }


def run(recipe: dict[str, Any]) -> Any:
    from codegen.finetune.lifecycle import train

    return train(parse_recipe(recipe))


def lines(folder: str | Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(folder, "rollouts.jsonl").open()]


def without_times(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "cpu_s"} for row in rows]


def test_a_run_its_records_and_its_report(
    recipe: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from codegen.finetune.lifecycle import train
    from codegen.models import load

    seen: list[tuple[Any, ...]] = []
    result = train(parse_recipe(recipe), on_step=lambda *step: seen.append(step))
    rows = lines(recipe["output"])
    assert [row["step"] for row in rows] == [step for step in (1, 2, 3, 4) for _ in range(8)]
    # Each step has two problems with a group of four each, and each pass over all has each once.
    groups = Counter((row["step"], row["problem_id"]) for row in rows)
    assert set(groups.values()) == {4} and len(groups) == 8
    assert len({row["problem_id"] for row in rows[:24]}) == 6
    for row in rows:
        passed, compiles = row["rewards"]["passed"][0], row["rewards"]["compiles"][0]
        assert row["reward"] == pytest.approx(passed + 0.5 * compiles)
        assert compiles == float(_compiles(row["program"]))
        assert row["program"].startswith(f"# {row['problem_id'][1:]}\ndef f(x):")
    means = dict(result.parts["reward"])
    for step, _, reward in seen:
        mean = sum(row["reward"] for row in rows if row["step"] == step) / 8
        assert means[step] == reward == pytest.approx(mean)
    assert result.parts["reward/compiles"]
    loaded = load(result.model)
    assert loaded.card.style == "plain"
    assert (Path(recipe["output"]) / "reward.svg").is_file()


def _compiles(program: str) -> bool:
    try:
        compile(program, "", "exec")
    except (SyntaxError, ValueError):
        return False
    return True


@pytest.mark.long
def test_a_killed_run_ends_as_if_it_was_not(recipe: dict[str, Any], tmp_path: Path) -> None:
    whole = {**recipe, "output": str(tmp_path / "whole")}
    result = run(whole)
    config = tmp_path / "recipe.yaml"
    config.write_text(json.dumps(recipe))
    command = [sys.executable, "-m", "codegen", "finetune", str(config), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    # Killed while the third step's samples are there and its checkpoint is not.
    path = Path(recipe["output"]) / "rollouts.jsonl"
    wait_for(path.exists, 120)
    wait_for(lambda: path.read_bytes().count(b"\n") >= 24)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (Path(recipe["output"]) / "train.json").exists()
    with path.open("a") as file:
        file.write('{"step": 3, "torn')
    resumed = run(recipe)
    assert without_times(lines(recipe["output"])) == without_times(lines(whole["output"]))
    assert dict(resumed.losses) == pytest.approx(dict(result.losses), abs=1e-7)
    weights = [
        Path(one.model, "adapter_model.safetensors").read_bytes() for one in (result, resumed)
    ]
    assert weights[0] == weights[1]
    assert run(recipe).losses == resumed.losses  # a finished run is read


def test_settings_of_trl(recipe: dict[str, Any]) -> None:
    recipe["grpo"]["trl"] = {"beta": 0.1}  # with a reference model
    recipe |= {"method": "full", "learning_rate": 1e-5, "steps": 1}
    assert run(recipe).parts["kl"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": "d"}, "generates its data"),
        ({"grpo": {}}, "needs a task"),
        ({"loss": "sequencematch"}, "does not support loss"),
        ({"grpo": {"task": "t", "rewards": {"passed": 0.0}}}, "needs a nonzero weight"),
    ],
)
def test_mistakes_before_anything_is_loaded(
    recipe: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_recipe({**recipe, **change})


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"trl": {"epsilon_hihg": 0.3}}, "GRPOConfig rejects.*epsilon_hihg"),
        ({"trl": {"learning_rate": 1.0}}, "grpo.trl.learning_rate is set by the recipe"),
        ({"trl": {"auto_find_batch_size": True}}, "GRPOConfig rejects.*auto_find_batch_size"),
        ({"max_new_tokens": 600}, "longest prompt has .* supports 512 in total"),
        ({"group": 3}, "6 samples.*not a multiple of micro_batch_size 4"),
        ({"rewards": {"pased": 1.0}}, "Did you mean 'passed'"),
        ({"task": "file:nothing.jsonl"}, "nothing.jsonl"),
        ({"style": "few-shot"}, "no prompts in the style"),
    ],
)
def test_mistakes_before_the_first_step(
    recipe: dict[str, Any], own: dict[str, Any], message: str
) -> None:
    recipe["grpo"] |= own
    with pytest.raises((ConfigError, InputError), match=message):
        run(recipe)
    assert not (Path(recipe["output"]) / "rollouts.jsonl").exists() or not lines(recipe["output"])


def test_tests_that_could_be_forged_are_told_before_the_first_step(
    recipe: dict[str, Any], tmp_path: Path
) -> None:
    row = {"id": "p", "prompt": "def f(x):", "tests": ["c = C()\nassert c.f(2) == c.f(c.f(2))"]}
    (tmp_path / "task.jsonl").write_text(json.dumps(row))
    with pytest.raises(ConfigError, match="all 1 problems have less trust than blinded"):
        run(recipe)


def test_anyones_trainer(tiny_model_dir: Path, tmp_path: Path) -> None:
    """The example of docs/reinforcement.md, on a tiny model."""
    from datasets import Dataset
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer

    from codegen.rewards import SandboxReward

    rows = [{"prompt": "# square\ndef f(x):", "tests": ["assert f(3) == 9"]}] * 4
    reward = SandboxReward({"passed": 1.0, "compiles": 0.1})
    trainer = GRPOTrainer(
        str(tiny_model_dir),
        reward_funcs=reward,
        train_dataset=Dataset.from_list(rows),
        args=GRPOConfig(
            str(tmp_path), max_steps=1, per_device_train_batch_size=4, num_generations=4,
            max_completion_length=8, use_cpu=True, bf16=False, gradient_checkpointing=False,
            report_to=[], save_strategy="no", logging_steps=1, disable_tqdm=True,
        ),
    )  # fmt: skip
    trainer.train()
    reward.close()
    (row,) = [row for row in trainer.state.log_history if "loss" in row]
    assert row["rewards/sandbox/mean"] == pytest.approx(
        row["reward/passed"] + 0.1 * row["reward/compiles"]
    )


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


def trained_on(row: dict[str, Any], **changes: Any) -> Any:
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
    one = trained_on(row, steps=1, output=str(tmp_path / "one"))
    two = trained_on(row, steps=2, output=str(tmp_path / "two"))
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
    whole = trained_on(row, **changes, output=str(tmp_path / "whole"))
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
    result = trained_on(row, data=str(data), steps=1, max_length=64)
    assert result.counts["examples"] == 8
    assert result.counts["dropped"] == {"too long": 1, "equal answers": 1}
    data.write_text(lines)
    with pytest.raises(InputError, match="1 too long, 1 equal answers"):
        trained_on(row, data=str(data), max_length=64, output=str(tmp_path / "none"))


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
        trained_on(row, **changes)


def test_a_row_that_is_no_pair_is_named(row: dict[str, Any], tmp_path: Path) -> None:
    data = tmp_path / "texts.jsonl"
    data.write_text('{"prompt": "a", "completion": "b"}\n')
    with pytest.raises(InputError, match=r"texts\.jsonl:1 is not a pair.*codegen data preferences"):
        trained_on(row, data=str(data))
    data.write_text('{"prompt": "a", "chosen": "b", "rejected": 3}\n')
    with pytest.raises(InputError, match=r"texts\.jsonl:1 \(rejected\)"):
        trained_on(row, data=str(data))
