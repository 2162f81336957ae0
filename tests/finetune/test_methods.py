"""The methods through the trainer: packing, several processes, curricula, mixtures, SequenceMatch,
evaluation. On a small random model.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from codegen.core.errors import CodegenError, InputError
from codegen.core.records import Example, Segment, TrainingText, write_jsonl
from codegen.finetune import parse_recipe
from codegen.finetune.lifecycle import TrainingResult, train
from codegen.finetune.sft import WHOLE
from codegen.methods.backspace import Backspace, load_codec
from codegen.models import load

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
FSDP = {
    "fsdp_version": 2,
    "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
    "fsdp_state_dict_type": "FULL_STATE_DICT",
    "fsdp_reshard_after_forward": True,
}


def text(i: int, prompt: str, answer: str) -> TrainingText:
    return TrainingText(f"t{i}", f"e{i}", "whole", (Segment(prompt, False), Segment(answer, True)))


TEXTS = [
    text(i, f"Add {i}.\n", f"def f(x):\n    return x + {i}\n" + "    # more\n" * 3 * (i % 5))
    for i in range(16)
]


@pytest.fixture
def row(recipe_of: Any) -> dict[str, Any]:
    sizes = {"batch_size": 6, "micro_batch_size": 2, "max_length": 128}
    return recipe_of(TEXTS, steps=6, save_every=2, **sizes)


def run(row: dict[str, Any], **changes: Any) -> TrainingResult:
    return train(parse_recipe({**row, **changes}))


def weights_file(result: TrainingResult) -> Path:
    path = Path(result.model) / "adapter_model.safetensors"
    return path if path.exists() else path.with_name("model.safetensors")


def weights(result: TrainingResult) -> dict[str, torch.Tensor]:
    return load_file(weights_file(result))


def difference(one: TrainingResult, other: TrainingResult) -> float:
    """The largest between their weights, against the largest change of any weight from 0."""
    a, b = weights(one), weights(other)
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def test_packing_trains_the_same_weights(row: dict[str, Any], tmp_path: Path) -> None:
    plain = run(row)
    packed = run(row, output=str(tmp_path / "p"), packing="best_fit", micro_batch_size=1)
    assert [loss for _, loss in packed.losses] == pytest.approx(
        [loss for _, loss in plain.losses], rel=1e-4
    )
    assert difference(plain, packed) < 1e-3
    assert packed.counts["rows"] < plain.counts["rows"]
    assert packed.counts["micro_batches"] < 36 and plain.counts["padding"] > 0
    mixed = run(row, output=str(tmp_path / "n"), packing="best_fit", isolation="none")
    assert difference(plain, mixed) > 1e-3  # examples that see one another are another loss


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _launch(recipe: Path, *options: str, program: Sequence[str]) -> list[str]:
    return [
        sys.executable, "-m", "accelerate.commands.launch", *options, "--num_processes", "2",
        "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no",
        "--main_process_port", str(_free_port()), *program, "finetune", str(recipe), "--json",
    ]  # fmt: skip


def _torchrun(recipe: Path, *program: str) -> list[str]:
    """Two processes on the CPU; accelerate's own launcher starts one there."""
    return [
        sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2",
        "--master_port", str(_free_port()), *program, "finetune", str(recipe), "--json",
    ]  # fmt: skip


def _trains_the_same(
    single: TrainingResult, launch: Sequence[str], folder: Path, near: float = 1e-4
) -> None:
    done = subprocess.run(launch, capture_output=True, text=True, check=False, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr[-6000:]
    result = json.loads(done.stdout)  # one process tells
    assert result["processes"] == 2
    assert [loss for _, loss in result["losses"]] == pytest.approx(
        [loss for _, loss in single.losses], rel=near
    )
    assert [loss for _, loss in result["evaluations"]] == pytest.approx(
        [loss for _, loss in single.evaluations], rel=1e-4
    )
    one, two = weights(single), load_file(folder / "model" / weights_file(single).name)
    assert one.keys() == two.keys()
    differences = [float((one[name] - two[name]).abs().max()) for name in one]
    assert max(differences) < 1e-3 or near > 1e-4


@pytest.mark.long
@pytest.mark.parametrize("options", [{}, {"packing": "best_fit", "batch_size": 5}])
def test_two_processes_train_the_same_weights(
    row: dict[str, Any], tmp_path: Path, options: dict[str, Any]
) -> None:
    """gloo on CPU, with fewer micro-batches than the processes could share in some steps."""
    single = run({**row, **options})
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps({**row, **options, "output": str(tmp_path / "two")}))
    _trains_the_same(single, _torchrun(recipe, "--module", "codegen"), tmp_path / "two")


@pytest.mark.long
@pytest.mark.parametrize(
    ("method", "base"), [("full", "float32"), ("lora", "float32"), ("lora", "bfloat16")]
)
def test_sharded_weights_train_the_same(
    row: dict[str, Any], tmp_path: Path, method: str, base: str
) -> None:
    """FSDP2 over two processes, killed in between and gone on with."""
    row |= {"method": method, "steps": 8, "dtype": base}
    single = run(row)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps({**row, "output": str(tmp_path / "two")}))
    config = tmp_path / "fsdp.yaml"
    config.write_text(
        json.dumps({"distributed_type": "FSDP", "use_cpu": True, "fsdp_config": FSDP})
    )
    launch = _launch(
        recipe,
        "--config_file",
        str(config),
        program=[str(Path(__file__).parent / "accelerators.py")],
    )
    begun = subprocess.Popen(launch, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    saved = tmp_path / "two" / "checkpoints" / "checkpoint-4" / WHOLE
    while not saved.exists() and begun.poll() is None:
        time.sleep(0.05)
    begun.terminate()  # the launcher ends its processes
    begun.wait()
    assert saved.exists()
    # A bfloat16 base rounds each product, and other rows in a product give another rounding.
    _trains_the_same(single, launch, tmp_path / "two", near=1e-4 if base == "float32" else 1e-2)


def test_a_curriculum_of_lengths(row: dict[str, Any]) -> None:
    curriculum = {"mode": "bucket", "tokens_per_step": 256, "micro_batch_tokens": 128, "least": 16}
    result = run(row, curriculum=curriculum, steps=8)
    lengths = {name for name in result.parts if name.startswith("loss_length_")}
    assert len(lengths) >= 2
    assert sum(len(result.parts[name]) for name in lengths) == 8
    assert result.counts["slots"] == 8 * 256


def test_decomposition_predicts_every_token_once(row: dict[str, Any], tmp_path: Path) -> None:
    curriculum = {"mode": "decompose", "tokens_per_step": 128, "least": 2}
    result = run(row, curriculum=curriculum, method="full", steps=5, max_length=64)
    texts = [
        load(row["model"]).tokenizer(t.text, add_special_tokens=False).input_ids for t in TEXTS
    ]
    lost = result.counts["dropped_tokens"].get("below_least", 0)
    assert result.counts["trained_tokens"] + lost == sum(map(len, texts))
    assert result.counts["mask_coverage"] == 1 and result.counts["padding"] == 0


def test_a_mixture_reports_each_domain(row: dict[str, Any], tmp_path: Path) -> None:
    other = [text(i, f"What is {i} + 1?\n", str(i + 1)) for i in range(5)]
    write_jsonl(tmp_path / "math.jsonl", other)
    data = {"code": row["data"], "math": str(tmp_path / "math.jsonl")}
    mixture = {"balance": True, "order": "default_first",
               "systems": {"code": "You are a programmer."}}  # fmt: skip
    result = run(row, data=data, mixture=mixture, packing="best_fit", isolation="chunk")
    assert {"loss_code", "loss_math"} <= result.parts.keys()
    assert len(result.parts["loss_math"]) == 6
    assert result.losses[-1][1] < result.losses[0][1]


@pytest.mark.long
def test_held_out_loss_stops_early_and_the_best_is_kept(
    row: dict[str, Any], tmp_path: Path
) -> None:
    held = [text(100 + i, f"Mul {i}.\n", f"def g(y):\n    return y * {i}\n") for i in range(4)]
    write_jsonl(tmp_path / "held.jsonl", held)
    evaluation = {"data": str(tmp_path / "held.jsonl"), "every": 2, "patience": 2}
    result = run(row, evaluation=evaluation, steps=60, learning_rate=0.05)
    scores = dict(result.evaluations)
    assert len(result.losses) < 60 and result.kept_step == min(scores, key=lambda s: scores[s])
    assert "held out" in (Path(row["output"]) / "loss.svg").read_text()
    last = run(
        row, evaluation={**evaluation, "keep": "last", "patience": 0}, steps=8,
        output=str(tmp_path / "last"),
    )  # fmt: skip
    assert last.kept_step == 8 and len(last.evaluations) == 4


@pytest.fixture
def backspace_row(row: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    load_codec.cache_clear()
    generator = Backspace(model=row["model"], eta=0.2, noise="uniform", format="chat")
    import random

    texts = [
        made
        for i, t in enumerate(TEXTS)
        for made in generator.generate(
            Example(f"e{i}", t.prompt.strip(), t.trained), random.Random(i)
        )
    ]
    write_jsonl(tmp_path / "backspace.jsonl", texts)
    sequencematch = {"sample_every": 2, "samples": 3, "max_new_tokens": 12, "buffer": 5,
                     "alpha": 0.1, "ramp": 0.5}  # fmt: skip
    return {**row, "data": str(tmp_path / "backspace.jsonl"), "loss": "sequencematch",
            "decoder": "backspace", "sequencematch": sequencematch}  # fmt: skip


@pytest.mark.parametrize("method", ["lora", "full"])
def test_sequencematch_trains_a_new_token(backspace_row: dict[str, Any], method: str) -> None:
    result = run(backspace_row, method=method)
    assert {"nll", "penalty", "penalty_own"} <= result.parts.keys()
    assert result.parts["penalty"][0][1] == 0 < result.parts["penalty"][-1][1]  # the ramp
    loaded = load(result.model, dtype=torch.float32)
    token = loaded.tokenizer.convert_tokens_to_ids("<bkspc>")
    assert loaded.tokenizer.decode([token]) == "<bkspc>"
    assert loaded.model.get_input_embeddings().num_embeddings > token
    assert loaded.card.decoder == "backspace"


def test_backspace_data_of_another_format_is_refused(backspace_row: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="made for format 'chat', but the recipe has 'plain'"):
        run(backspace_row, format="plain")


@pytest.mark.long
def test_a_killed_sequencematch_run_goes_on_to_the_same_weights(
    backspace_row: dict[str, Any], tmp_path: Path
) -> None:
    """The buffer of own samples is part of the checkpoint."""
    backspace_row["steps"] = 9
    whole = run(backspace_row)
    other = {**backspace_row, "output": str(tmp_path / "killed")}
    script = (
        "import json, sys, time, torch; torch.set_num_threads(1)\n"
        "from codegen.finetune import parse_recipe\n"
        "from codegen.finetune.lifecycle import train\n"
        "train(parse_recipe(json.loads(sys.argv[1])), on_step=lambda s, *_: print(s, flush=True))\n"
    )
    for moment in (3, 6):
        process = subprocess.Popen(
            [sys.executable, "-c", script, json.dumps(other)],
            stdout=subprocess.PIPE, text=True, env=ENVIRONMENT,
        )  # fmt: skip
        assert process.stdout
        for line in process.stdout:
            if int(line) >= moment:
                process.send_signal(signal.SIGKILL)
                break
        process.wait()
        process.stdout.close()
    resumed = run(other)
    assert difference(whole, resumed) == 0
    assert resumed.losses == whole.losses


def test_merging_saves_a_whole_model(row: dict[str, Any], tmp_path: Path) -> None:
    kept = load(run(row).model, dtype=torch.float32)
    merged = load(run(row, merge=True, output=str(tmp_path / "m")).model, dtype=torch.float32)
    assert not (tmp_path / "m/model/adapter_config.json").exists()
    tokens = torch.tensor([[5, 6, 7]])
    with torch.inference_mode():
        gap = (kept.model(tokens).logits - merged.model(tokens).logits).abs().max()
    assert gap < 1e-4


def test_a_loss_that_is_no_number_stops_the_run(row: dict[str, Any], tmp_path: Path) -> None:
    """And what was saved before is still there to go on from, with other settings or none."""
    loaded = load(row["model"], dtype=torch.float32)
    with torch.no_grad():
        loaded.model.model.norm.weight[0] = torch.nan
    loaded.model.save_pretrained(tmp_path / "nan")
    loaded.tokenizer.save_pretrained(tmp_path / "nan")
    with pytest.raises(CodegenError, match="The loss became nan at step 1"):
        run(row, model=str(tmp_path / "nan"))
    assert not (Path(row["output"]) / "train.json").exists()


def test_marks_that_no_model_has_learned_are_trained_beside_an_adapter(
    row: dict[str, Any], tmp_path: Path, tiny_model_dir: Path
) -> None:
    """Two tokens with one vector are told apart, and only their rows and the adapter change."""
    marks = ["<|im_start|>", "<|endoftext|>"]
    folder = tmp_path / "alike"
    shutil.copytree(tiny_model_dir, folder)
    loaded = load(str(folder))
    ids = [loaded.tokenizer.convert_tokens_to_ids(mark) for mark in marks]
    with torch.no_grad():
        for layer in (loaded.model.get_input_embeddings(), loaded.model.get_output_embeddings()):
            layer.weight[ids[1]] = layer.weight[ids[0]]
    loaded.model.save_pretrained(folder)
    texts = [
        TrainingText(
            f"t{i}", f"e{i}", "edits",
            (Segment(f"{marks[i % 2]}x\n", False), Segment(marks[1 - i % 2] + "y\n", True)),
            {"special_tokens": marks, "trained_tokens": marks},
        )
        for i in range(8)
    ]  # fmt: skip
    write_jsonl(tmp_path / "data.jsonl", texts)
    result = run(row, model=str(folder), format="plain", steps=8)
    trained = weights(result)
    (name,) = [n for n in trained if "embed_tokens" in n and "trainable_tokens" in n]
    assert trained[name].shape[0] == len(marks)
    model = load(result.model).model
    rows = model.get_input_embeddings().weight[ids].float()
    assert torch.cosine_similarity(rows[0], rows[1], dim=0) < 0.99
    others = [i for i in range(100) if i not in ids]
    before = loaded.model.get_input_embeddings().weight[others]
    assert torch.equal(model.get_input_embeddings().weight[others].float(), before.float())
