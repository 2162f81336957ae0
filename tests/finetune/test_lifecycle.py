"""Control of a run: epochs, extending, trackers, scores on a task, the hub."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi
from safetensors.torch import load_file

from codegen.core.errors import ConfigError, InputError, ResumeError
from codegen.finetune import lifecycle, parse_recipe
from codegen.finetune.lifecycle import push_model, train


@pytest.fixture
def row(recipe_of: Any) -> dict[str, Any]:
    rows = [
        {"prompt": f"Add {n}.", "completion": f"def f(x):\n    return x + {n}\n"} for n in range(9)
    ]
    return recipe_of(rows, steps=4, batch_size=4, save_every=3, lora={"dropout": 0.1})


def run(row: dict[str, Any], **changes: Any) -> Any:
    return train(parse_recipe({**row, **changes}))


def weights(output: str | Path) -> dict[str, torch.Tensor]:
    return load_file(Path(output, "model", "adapter_model.safetensors"))


def same(one: str | Path, other: str | Path) -> bool:
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_epochs_are_steps_of_the_data(row: dict[str, Any]) -> None:
    del row["steps"]
    result = run(row, epochs=1.5)
    assert len(result.losses) == 4 and result.counts["epochs"] == pytest.approx(16 / 9)
    path = Path(row["output"], "train.json")  # of a version with one more value
    path.write_text(json.dumps({**json.loads(path.read_text()), "processes_a_row": 1}))
    assert lifecycle.read_result(row["output"]).losses == result.losses


@pytest.mark.parametrize(
    ("schedule", "evaluates"),
    [
        ("wsd", True),
        *(
            pytest.param(*row, marks=pytest.mark.long)
            for row in (("constant", False), ("constant", True), ("wsd", False))
        ),
    ],
)
def test_a_run_extended_twice_is_one_run_of_that_length(
    row: dict[str, Any], tmp_path: Path, schedule: str, evaluates: bool
) -> None:
    """Bit for bit, with dropout; each extension begins where the schedules are still the same.

    With a held-out text all keep the weights of the same step, where its loss is lowest.
    """
    options: dict[str, Any] = {"schedule": schedule, "warmup": 2, "decay": 0.25}
    if evaluates:
        held = tmp_path / "held.jsonl"
        held.write_text(json.dumps({"prompt": "Add 3.", "completion": "import os, re, sys"}) + "\n")
        options["evaluation"] = {"data": str(held), "every": 2}
    whole = run(row, **options, steps=16, output=str(tmp_path / "whole"))
    parts = [run(row, **options, steps=steps) for steps in (4, 8, 16)]
    assert same(row["output"], tmp_path / "whole")
    assert parts[-1].losses == whole.losses and parts[-1].learning_rates == whole.learning_rates
    rates = [rate for _, rate in whole.learning_rates]
    assert rates[4] == 0.01 and (rates[-1] == 0.01) == (schedule == "constant")
    assert len(parts[0].losses) == 4
    assert parts[-1].kept_step == whole.kept_step
    assert evaluates or whole.kept_step == 16


@pytest.mark.long
def test_an_extension_that_is_killed_is_resumed(row: dict[str, Any], tmp_path: Path) -> None:
    options = {"schedule": "wsd", "warmup": 2, "save_every": 1}
    run(row, **options, steps=10, output=str(tmp_path / "whole"))
    run(row, **options, steps=5)
    recipe = {**row, **options, "steps": 10}
    code = (
        "import json, os, signal, sys\n"
        "from codegen.finetune import parse_recipe\n"
        "from codegen.finetune.lifecycle import train\n"
        "train(parse_recipe(json.loads(sys.argv[1])),"
        " on_step=lambda s, *_: s == 7 and os.kill(os.getpid(), signal.SIGKILL))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, json.dumps(recipe)], check=False)
    assert done.returncode == -signal.SIGKILL and not Path(row["output"], "train.json").exists()
    train(parse_recipe(recipe))
    assert same(row["output"], tmp_path / "whole")


def test_an_adapter_is_trained_further(row: dict[str, Any], tmp_path: Path) -> None:
    """Without a rate it stays as it is; with one its loss goes on where it was."""
    del row["lora"]["dropout"]
    first = run(row, steps=12)
    start = {**row["lora"], "adapter": str(Path(row["output"], "model"))}
    run(row, lora=start, learning_rate=1e-30, output=str(tmp_path / "still"))
    for name, weight in weights(tmp_path / "still").items():
        torch.testing.assert_close(weight, weights(row["output"])[name])
    further = run(row, lora=start, output=str(tmp_path / "further"))
    assert further.losses[0][1] < 0.7 * first.losses[0][1]
    assert not same(tmp_path / "further", row["output"])


@pytest.mark.parametrize(
    ("lora", "match"),
    [
        ({"rank": 4}, "has rank 16, but lora.rank is 4"),
        ({"alpha": 8}, "has alpha 32, but lora.alpha is 8"),
        ({"dora": True}, "has dora False, but lora.dora is True"),
        ({"targets": ["q_proj"]}, "is missing in one .* has another shape"),
    ],
)
def test_another_adapter_is_not_trained_further(
    row: dict[str, Any], tmp_path: Path, lora: dict[str, Any], match: str
) -> None:
    run(row)
    adapter = {**lora, "adapter": str(Path(row["output"], "model"))}
    with pytest.raises(ConfigError, match=match):
        run(row, lora=adapter, output=str(tmp_path / "other"))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"schedule": "linear"}, "schedule: linear depends on the number of steps"),
        ({"schedule": "wsd", "warmup": 0.1}, "warmup is a fraction of the steps"),
    ],
)
def test_a_run_that_cannot_be_extended_says_why(
    row: dict[str, Any], changes: dict[str, Any], reason: str
) -> None:
    said: list[str] = []
    first = train(parse_recipe({**row, **changes}), on_message=said.append)
    warned = any(f"cannot be extended later: {reason}" in line for line in said)
    assert warned == (changes["schedule"] == "wsd")  # others do not promise it
    with pytest.raises(ResumeError, match=f"cannot be extended: {reason}.*new run with model: "):
        run(row, **changes, steps=8)
    assert asdict(run(row, **changes)) == asdict(first)  # nothing is lost


def test_an_extension_with_another_setting_is_refused(row: dict[str, Any]) -> None:
    options = {"schedule": "constant", "warmup": 0.0}
    run(row, **options)
    with pytest.raises(ResumeError, match=r"learning_rate from 0\.01 to 0\.1"):
        run(row, **options, steps=8, learning_rate=0.1)
    with pytest.raises(ResumeError, match="steps from 4 to 2"):
        run(row, **options, steps=2)


def test_a_tracker_that_is_not_installed_is_named(
    row: dict[str, Any], monkeypatch: pytest.MonkeyPatch, codegen: Any
) -> None:
    def lacks(name: str) -> Any:
        return None if name == "wandb" else find_spec(name)

    monkeypatch.setattr(lifecycle, "find_spec", lacks)
    with pytest.raises(ConfigError, match=r"wandb is not installed.*pip install wandb"):
        run(row, report_to="wandb")
    with pytest.raises(ConfigError, match=r"[Uu]nknown tracker 'wandbb'.*wandb"):
        run(row, report_to=["wandbb"])
    recipe = Path(row["data"]).with_name("recipe.yaml")
    recipe.write_text(json.dumps({**row, "report_to": "wandb"}))
    code, out, err = codegen("finetune", recipe, "--plan")
    assert code == 2 and not out and "pip install wandb" in err
    assert not Path(row["output"]).exists()


def test_tensorboard_has_the_losses(row: dict[str, Any]) -> None:
    name = "tensorboard.backend.event_processing.event_accumulator"
    events_of = pytest.importorskip(name, reason="TensorBoard is not installed")

    result = run(row, report_to="tensorboard")
    events = events_of.EventAccumulator(str(Path(row["output"], "tensorboard")))
    events.Reload()
    found = [(event.step, event.value) for event in events.Scalars("train/loss")]
    assert found == [(step, pytest.approx(loss)) for step, loss in result.losses]


class Recorder(HfApi):
    """The hub's client with its two writing calls recorded; nothing is sent."""

    def __init__(self, token: str | None = "hf_secret", error: Exception | None = None) -> None:
        super().__init__("http://127.0.0.1:9", token=token)
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.error = error

    def repo_exists(self, *args: Any, **kwargs: Any) -> bool:
        return False

    def create_repo(self, repo_id: str, **kwargs: Any) -> Any:
        self.calls.append(("create", {"repo_id": repo_id, **kwargs}))
        return f"https://hub/{repo_id}"

    def upload_folder(self, **kwargs: Any) -> Any:
        if self.error:
            raise self.error
        self.calls.append(("upload", kwargs))


@pytest.fixture
def no_token(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    yield


def test_a_push_sends_the_model_and_its_card_only(row: dict[str, Any]) -> None:
    result = run(row)
    api = Recorder()
    folder = Path(result.model)
    assert push_model(folder, "me/adder", api) == "https://hub/me/adder"
    (_, created), (_, sent) = api.calls
    assert created == {"repo_id": "me/adder", "private": True, "exist_ok": True}
    assert Path(sent["folder_path"]) == folder and sent["repo_id"] == "me/adder"
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: peft\npipeline_tag: text-generation\n")
    assert not any(path.name.startswith("checkpoint") for path in folder.iterdir())


def test_what_goes_wrong_with_a_push_is_one_line(
    row: dict[str, Any], no_token: None, tmp_path: Path
) -> None:
    folder = Path(run(row).model)
    with pytest.raises(InputError, match="No token for the hub"):
        push_model(folder, "me/adder", Recorder(token=None))
    with pytest.raises(InputError, match="not of the form"):
        push_model(folder, "adder", Recorder())
    failing = Recorder(error=OSError("refused hf_secret"))
    with pytest.raises(InputError, match=r"Cannot push to me/adder: refused \*\*\*"):
        push_model(folder, "me/adder", failing)
    # A finished run is pushed by the same command with push_to.
    with pytest.raises(InputError, match="No token for the hub"):
        run(row, push_to="me/adder")
