"""CodeRepetEval: what ends passes, and the shipped continuations repeat themselves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from eval_fakes import sample

from codegen.evals import tasks
from codegen.evals.scoring import score
from codegen.sandbox import Sandbox


def test_repetition_passes_what_ends(
    write_rows: Callable[[list[Any]], Path], tmp_path: Path, sandbox: Sandbox
) -> None:
    task = tasks.load("coderepeteval", str(write_rows([{"prompt": "x = 1\n", "samples": []}])))
    loop = "print(x)\n" * 20
    samples = [
        sample("CodeRepetEval/1", "y = 2\nprint(x, y)\n", "continue", 0),
        sample("CodeRepetEval/1", loop, "continue", 1, finish_reason="length"),
    ]
    result = score(samples, task, out=tmp_path, sandbox=sandbox)
    assert result.statuses == {"passed": 1, "wrong": 1}
    assert result.complete
    assert result.reference.total == 0
    assert result.measures["looping"].mean == 0.5
    assert task.measure(task.problems()[0], samples[1])["tr_s"] > 0.9
    assert task.measure(task.problems()[0], samples[0])["tr_s"] == 0
    assert any("ended its answer itself" in note for note in result.notes)


def test_the_shipped_continuations_repeat_themselves(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from codegen.evals.tasks.coderepeteval import repetition

    monkeypatch.setenv("CODEGEN_TEST_DATA", str(data_folder))
    problems = tasks.load("coderepeteval").problems()[:40]
    assert all(problem.repetitive for problem in problems)
    tr_n = [repetition(p.prompt, p.prompt + p.repetitive)["tr_n"] for p in problems]
    assert sum(tr_n) / len(tr_n) > 0.5
