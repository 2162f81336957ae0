"""Our tasks in lm-evaluation-harness: the file it reads, and what becomes of answers.

With the harness installed (`pip install lm_eval`), its own evaluator runs the task too.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from eval_fakes import FakeSandbox

from codegen.core.errors import ConfigError, SandboxError
from codegen.evals import lm_eval, tasks
from codegen.sandbox import Job, Outcome, verdicts

ROWS = [
    {
        "id": f"double{i}",
        "prompt": f"Write f(x), which is {i} * x.",
        "entry_point": "f",
        "calls": [[2], [3]],
        "expected": [2 * i, 3 * i],
        "solution": f"def f(x):\n    return {i} * x\n",
    }
    for i in range(1, 4)
]
RIGHT = "```python\ndef f(x):\n    return {} * x\n```"
WRONG = "```python\ndef f(x):\n    return 99\n```"


@pytest.fixture
def benchmark(tmp_path: Path) -> str:
    path = tmp_path / "my-own.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return f"file:{path}"


class Loader(yaml.SafeLoader):
    """Reads the harness's tag as the name that it holds."""


Loader.add_constructor("!function", yaml.SafeLoader.construct_scalar)


def written(benchmark: str, out: Path) -> dict[str, Any]:
    path, name = lm_eval.write_task(out, benchmark, "chat")
    row: dict[str, Any] = yaml.load(path.read_text(), Loader)
    assert (path.name, row["task"]) == (f"{name}.yaml", name)
    return row


def test_the_file_names_our_functions_and_says_how_to_sample(
    benchmark: str, tmp_path: Path
) -> None:
    row = written(benchmark, tmp_path)
    assert row["task"] == "codegen_my_own"
    for key, function in (
        ("custom_dataset", lm_eval.documents),
        ("process_results", lm_eval.process_results),
    ):
        assert row[key] == f"{function.__module__}.{function.__name__}"
    assert [metric["metric"] for metric in row["metric_list"]] == ["pass@1"]
    greedy = row["generation_kwargs"]
    assert greedy["do_sample"] is False and "temperature" not in greedy
    task = tasks.load(benchmark)
    (documents,) = lm_eval.documents(**row["dataset_kwargs"], pretrained="ignored").values()
    prompts = [task.request(p, tasks.find_style("chat"), 0).prompt for p in task.problems()]
    assert [document["prompt"] for document in documents] == prompts
    assert [document["reference"] for document in documents] == [r["solution"] for r in ROWS]


def document(benchmark: str, number: int) -> dict[str, Any]:
    return list(lm_eval.documents(benchmark, "chat")["test"])[number]


def scores(patch: pytest.MonkeyPatch, sandbox: Any, row: Any, *answers: str) -> dict[str, float]:
    patch.setattr(lm_eval, "shared_sandbox", lambda _: sandbox)
    patch.setattr(verdicts, "PAUSE_S", 0)
    return lm_eval.process_results(row, [answers])


def test_answers_are_judged_as_by_ours(benchmark: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def verdict(job: Job) -> Outcome:
        return Outcome("passed" if "3 * x" in job.program else "wrong", "isolated")

    sandbox = FakeSandbox(verdict)
    answers = [RIGHT.format(3), WRONG, RIGHT.format(3), "I can't.", WRONG]
    found = scores(monkeypatch, sandbox, document(benchmark, 2), *answers)
    # 2 of 5: 1 - C(3, k)/C(5, k)
    assert found == pytest.approx({"pass@1": 0.4, "pass@2": 0.7, "pass@3": 0.9, "pass@5": 1.0})
    assert len(sandbox.ran) == 2  # each distinct program once; the reference is one of them


def test_a_broken_environment_gives_no_score(
    benchmark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = FakeSandbox(lambda _: Outcome("wrong", "isolated", message="no"))
    with pytest.raises(SandboxError, match="reference solution of double1 fails here: no"):
        scores(monkeypatch, wrong, document(benchmark, 0), WRONG)
    broken = FakeSandbox(lambda _: Outcome("infra_error", "isolated", message="gone"))
    with pytest.raises(verdicts.NotScored, match="gone"):
        scores(monkeypatch, broken, document(benchmark, 0), WRONG)
    assert len(broken.ran) == 2 * verdicts.TRIES  # the reference and the answer


def test_what_can_not_be_asked_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs the decoder 'edit_sequence'"):
        lm_eval.write_task(tmp_path, "humaneval-edits", "continue")
    with pytest.raises(ConfigError, match="Unknown prompt style"):
        lm_eval.write_task(tmp_path, "humaneval", "no such style")
    with pytest.raises(ConfigError, match="has no prompts in the style"):
        lm_eval.write_task(tmp_path, "humaneval", "fim-starcoder")
    assert list(tmp_path.iterdir()) == []
