"""Fine-tuning on a small random model: masks, loss, learning, resuming after a kill."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForCausalLM

from codegen.core.errors import InputError, ModelError, ResumeError
from codegen.core.records import Segment, TrainingText
from codegen.finetune import parse_recipe
from codegen.finetune.batch_plan import make_plan
from codegen.finetune.batches import collate
from codegen.finetune.dataset import EncodingStats, encode_rows
from codegen.finetune.encode import EncodedExample, TextEncoder
from codegen.finetune.lifecycle import train
from codegen.finetune.losses import negative_log_likelihood
from codegen.finetune.trainable import muon_and_adamw
from codegen.models import load
from tests.processes import run


def text(i: int, prompt: str, answer: str) -> TrainingText:
    return TrainingText(f"t{i}", f"e{i}", "whole", (Segment(prompt, False), Segment(answer, True)))


TEXTS = [text(i, f"Add {i}.\n", f"def f(x):\n    return x + {i}\n") for i in range(12)]


def encoded(
    texts: list[TrainingText], tokenizer: Any, *, format: Any = "chat", **options: Any
) -> tuple[list[EncodedExample], EncodingStats]:
    stats, encoder = EncodingStats(), TextEncoder(tokenizer, format)
    options.setdefault("max_length", 64)
    return list(encode_rows([("", t) for t in texts], encoder, stats, **options)), stats


@pytest.fixture
def recipe_row(recipe_of: Any) -> dict[str, Any]:
    return recipe_of(TEXTS, steps=8, batch_size=4, micro_batch_size=2, save_every=2)


def test_mask_covers_the_trained_segments_and_the_end(tokenizer: Any) -> None:
    parts = (("ask", False), ("one", True), ("skip", 0.0), ("two", True))
    record = TrainingText("t", "e", "g", tuple(Segment(*part) for part in parts))
    for chat in (True, False):
        example = TextEncoder(tokenizer, "chat" if chat else "plain").encode(record)
        assert tokenizer.decode(example.targets) == "onetwo<|im_end|>"
        assert [example.ids[node + 1] for node in example.nodes] == example.targets
        whole = tokenizer.decode(example.ids)
        opening = "<|im_start|>user\nask<|im_end|>\n<|im_start|>assistant\n" if chat else "ask"
        assert whole == opening + "oneskiptwo<|im_end|>"
        assert example.final and example.layout.is_causal


def test_dropped_and_cut_texts_are_counted(tokenizer: Any) -> None:
    long = text(90, "p", "x = 1\n" * 100)
    untrained = TrainingText("u", "u", "g", (Segment("only a prompt", False),))
    records = [*TEXTS, long, untrained]
    _, dropped = encoded(records, tokenizer)
    assert dict(dropped.dropped) == {"too_long": 1, "no_trainable_token": 1}
    assert dropped.dropped_tokens["too_long"] > 400
    examples, cut = encoded(records, tokenizer, overlong="truncate")
    assert (cut.cut, dict(cut.dropped)) == (1, {"no_trainable_token": 1})
    assert cut.cut_tokens == dropped.dropped_tokens["too_long"] - 64
    longest = max(examples, key=len)
    assert len(longest) == 64 and not longest.final and longest.nodes[-1] == 62


def test_loss_equals_the_models_own(tokenizer: Any, tiny_model_dir: Path) -> None:
    """Logits at the needed columns, summed over micro-batches = one plain masked cross entropy."""
    model = AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float64)
    examples = encoded(TEXTS, tokenizer)[0][:6]
    ours = 0.0
    for rows in ([((0,),), ((1,),)], [((2,), (3,))], [((4, 5),)]):  # padded and packed
        ours += negative_log_likelihood(model, collate(examples, rows, pad=2)).sum().item()
    plain = 0.0
    for e in examples:
        labels = torch.full((1, len(e)), -100)
        labels[0, torch.tensor(e.nodes) + 1] = torch.tensor(e.targets)
        plain += model(torch.tensor([e.ids]), labels=labels).loss.item() * len(e.targets)
    assert ours == pytest.approx(plain, rel=1e-6)


def test_plan_uses_every_example_before_any_twice(tokenizer: Any) -> None:
    examples = encoded(TEXTS, tokenizer, format="plain")[0]
    plan = make_plan(examples, steps=6, batch_size=4, micro_batch_size=2, seed=3)
    flat = [i for step in range(6) for i in plan.numbers(step)]
    assert sorted(flat[:12]) == sorted(flat[12:]) == list(range(12))
    assert plan == make_plan(examples, steps=6, batch_size=4, micro_batch_size=2, seed=3)
    assert plan != make_plan(examples, steps=6, batch_size=4, micro_batch_size=2, seed=4)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_it_learns_and_the_result_loads(recipe_row: dict[str, Any], method: str) -> None:
    recipe_row.update(method=method, steps=30, batch_size=12, micro_batch_size=6)
    result = train(parse_recipe(recipe_row))
    assert len(result.losses) == 30
    picture = ElementTree.parse(Path(recipe_row["output"]) / "loss.svg").getroot()
    assert picture.find(".//{*}polyline") is not None or picture.find(".//{*}path") is not None
    assert result.losses[-1][1] < 0.5 * result.losses[0][1]
    loaded = load(result.model, dtype=torch.float32)
    assert loaded.card.style == "chat"
    example = TextEncoder(loaded.tokenizer, "chat").encode(TEXTS[3])
    with torch.inference_mode():
        loss = negative_log_likelihood(loaded.model, collate([example], [((0,),)], pad=2)).mean()
    assert float(loss) < 0.6 * result.losses[0][1]
    assert "held out" not in (Path(recipe_row["output"]) / "loss.svg").read_text()
    assert "# tiny-model" in (Path(result.model) / "README.md").read_text()
    again = train(parse_recipe(recipe_row))
    assert again == result


def test_another_recipe_is_refused(recipe_row: dict[str, Any]) -> None:
    train(parse_recipe(recipe_row))
    recipe_row["learning_rate"] = 0.02
    with pytest.raises(ResumeError, match=r"learning_rate from 0\.01 to 0\.02"):
        train(parse_recipe(recipe_row))


def test_errors_come_before_training(recipe_row: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"12 too_long.*max_length"):
        train(parse_recipe({**recipe_row, "max_length": 8}))
    with pytest.raises(InputError, match="absent"):
        train(parse_recipe({**recipe_row, "data": "absent.jsonl", "output": str(tmp_path / "o2")}))
    with pytest.raises(ModelError, match="no model directory"):
        train(parse_recipe({**recipe_row, "model": "./absent", "output": str(tmp_path / "o3")}))


@pytest.mark.long
def test_kill_and_go_on_gives_the_same_weights(recipe_row: dict[str, Any], tmp_path: Path) -> None:
    """Killed at several moments, the run ends with bit-identical weights and losses."""
    recipe_row["steps"] = 14
    train(parse_recipe(recipe_row))
    out, other = Path(recipe_row["output"]), tmp_path / "killed"
    row = {**recipe_row, "output": str(other)}
    script = (
        "import json, sys, time, torch; torch.set_num_threads(1)\n"
        "from codegen.finetune import parse_recipe\n"
        "from codegen.finetune.lifecycle import train\n"
        "train(parse_recipe(json.loads(sys.argv[1])),"
        " on_step=lambda step, *_: (print(step, flush=True), time.sleep(0.05)))\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for moment in (3, 6, 11):
        process = subprocess.Popen(
            [sys.executable, "-c", script, json.dumps(row)],
            stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        assert process.stdout
        for line in process.stdout:
            if int(line) >= moment:
                time.sleep(0.02)
                process.send_signal(signal.SIGKILL)
                break
        process.wait()
        process.stdout.close()
    assert not (other / "train.json").exists()
    result = train(parse_recipe(row))
    weights = [load_file(p / "model" / "adapter_model.safetensors") for p in (out, other)]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert result.losses == json_losses(out)


def json_losses(out: Path) -> list[tuple[int, float]]:
    return [(step, loss) for step, loss in json.loads((out / "train.json").read_text())["losses"]]


def test_a_failed_attempt_leaves_nothing_behind(recipe_row: dict[str, Any]) -> None:
    """The remedies that an error names can be followed with the same output."""
    for changes in ({"max_length": 8}, {"data": "absent.jsonl"}):
        with pytest.raises(InputError):
            train(parse_recipe({**recipe_row, **changes}))
        assert not Path(recipe_row["output"]).exists()
    assert len(train(parse_recipe(recipe_row)).losses) == 8


def test_changed_data_is_refused(recipe_row: dict[str, Any]) -> None:
    train(parse_recipe(recipe_row))
    path = Path(recipe_row["data"])
    path.write_text(path.read_text().replace("Add 1.", "Sub 1."))
    with pytest.raises(ResumeError, match="Changed: the data's content\\."):
        train(parse_recipe(recipe_row))


def test_a_moved_run_is_still_the_same_run(recipe_row: dict[str, Any], tmp_path: Path) -> None:
    first = train(parse_recipe(recipe_row))
    moved = tmp_path / "moved"
    Path(recipe_row["output"]).rename(moved)
    again = train(parse_recipe({**recipe_row, "output": str(moved)}))
    assert again.losses == first.losses
    assert load(again.model).card.decoder == "sample"


@pytest.mark.slow
@pytest.mark.parametrize(
    "size", [pytest.param(size, marks=pytest.mark.long) for size in ("60k", "150k", "300k")]
)
def test_a_full_disk_is_said_in_one_line_and_nothing_is_lost(
    recipe_row: dict[str, Any], size: str
) -> None:
    """On a real small file system of our own mount namespace, wherever the space runs out."""
    namespace = ["unshare", "--mount", "--map-root-user"]
    probe = subprocess.run([*namespace, "true"], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip("this machine lets no test mount a file system of its own")
    out = Path(recipe_row["output"])
    out.mkdir()
    recipe = out.parent / "recipe.yaml"
    recipe.write_text(json.dumps({**recipe_row, "steps": 6}))
    codegen = f"{sys.executable} -m codegen finetune {recipe} --json"
    script = (
        f"mount -t tmpfs -o size={size} none {out} || exit 77\n"
        f"{codegen} > {out.parent}/first.out 2> {out.parent}/first.err; echo $?\n"
        f"mount -o remount,size=20m {out} || exit 77\n"
        f"{codegen} > {out.parent}/second.out 2> {out.parent}/second.err; echo $?\n"
    )
    done = run(*namespace, "bash", "-c", script, env={"OMP_NUM_THREADS": "1"})
    if done.returncode == 77:
        pytest.skip("this machine lets no test mount a file system of its own")
    assert done.stdout.split() == ["1", "0"], done.stderr
    error = (out.parent / "first.err").read_text()
    assert error.startswith("Error: Cannot write to ") or "\nError: Cannot write to " in error
    assert "No space left on device" in error
    assert "Traceback" not in error
    assert len(json.loads((out.parent / "second.out").read_text())["losses"]) == 6


RECIPE = parse_recipe(
    {"model": "embedded", "data": "d", "output": "o", "steps": 10, "optimizer": "muon"}
    | {"muon_rate": 0.02, "learning_rate": 0.01, "weight_decay": 0.1}
)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(7, 6)
        self.part = nn.Module()
        self.part.layers = nn.ModuleList([nn.Linear(6, 6), nn.LayerNorm(6), nn.Linear(6, 6)])
        self.head = nn.Linear(6, 7)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.tokens(ids)
        for layer in self.part.layers:  # type: ignore[union-attr]
            x = layer(x).tanh()  # pyrefly: ignore[not-callable]
        return nn.functional.cross_entropy(self.head(x), ids.roll(1))


def test_each_parameter_has_its_optimizer() -> None:
    torch.manual_seed(0)
    net, ids = Net(), torch.arange(7)
    other = copy.deepcopy(net)
    joint = muon_and_adamw(net, RECIPE.muon_rate, RECIPE.learning_rate, RECIPE.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(joint, lambda step: 1 - step / 10)
    matrices = [
        p for n, p in other.named_parameters() if n.startswith("part.layers") and p.dim() == 2
    ]
    assert len(matrices) == 2
    rest = [p for p in other.parameters() if all(p is not matrix for matrix in matrices)]
    parts = [
        torch.optim.Muon(matrices, lr=0.02, weight_decay=0.1),
        torch.optim.AdamW(rest, lr=0.01, weight_decay=0.1),
    ]
    for step in range(6):
        if step == 3:  # as a resumed run does
            state = copy.deepcopy(joint.state_dict())
            joint = muon_and_adamw(net, RECIPE.muon_rate, RECIPE.learning_rate, RECIPE.weight_decay)
            last = schedule.state_dict()
            schedule = torch.optim.lr_scheduler.LambdaLR(joint, lambda step: 1 - step / 10)
            schedule.load_state_dict(last)
            joint.load_state_dict(state)
        for part, rate in zip(parts, (0.02, 0.01), strict=True):
            part.param_groups[0]["lr"] = rate * (1 - step / 10)
            part.zero_grad()
        other(ids).backward()
        joint.zero_grad()
        net(ids).backward()
        joint.step()
        schedule.step()
        for part in parts:
            part.step()
        for one, two in zip(net.parameters(), other.parameters(), strict=True):
            assert torch.equal(one, two)
