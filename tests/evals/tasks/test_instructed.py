"""Instructed edits: their sizes, and tests out of the program's reach."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codegen.core.records import Sample
from codegen.evals import tasks
from codegen.evals.scoring import score
from codegen.evals.tasks.instructed import edit_sizes
from codegen.sandbox import Sandbox
from tests.evals.tasks.test_extraction import BEFORE
from tests.evals.tasks.test_polyglot import block


def test_sizes_of_an_edit() -> None:
    right = BEFORE.replace("return 2", "return 3")
    assert edit_sizes(BEFORE, BEFORE, right) == {
        "unchanged": 1, "changed_lines": 0, "excess_lines": 0,
    }  # fmt: skip
    assert edit_sizes(BEFORE, right, right)["excess_lines"] == 0
    much = right.replace("def g", "def h").replace("return 1", "return 7")
    assert edit_sizes(BEFORE, much, right) == {
        "unchanged": 0, "changed_lines": 8, "excess_lines": 3,
    }  # fmt: skip


EDIT = {
    "task_id": "EditEval/1",
    "instruction": "Return 3 in place of 2.",
    "input": "    def f(self):\n        return 2\n",
    "output": "    def f(self):\n        return 3\n",
    "context": "class A:\n{{Code}}\n\nedited_code = '''\n{{Code}}\n'''\n",
    "test": "def check():\n    assert A().f() == 3\n    assert '3' in edited_code\n",
    "META": {},
}


@pytest.mark.parametrize("name", ["editeval", "editeval-diff"])
def test_instructed_edits(
    name: str, write_rows: Callable[[list[Any]], Path], tmp_path: Path, sandbox: Sandbox
) -> None:
    plain = {
        **EDIT,
        "task_id": "EditEval/2",
        "context": "",
        "input": "def f():\n    return 2\n",
        "output": "def f():\n    return 3\n",
        "test": "def check():\n    assert f() == 3\n    assert f() < 4\n",
    }
    task = tasks.load(name, str(write_rows([EDIT, plain])))
    grades = [task.job(each, each.after).trust for each in task.problems()]  # type: ignore[union-attr]
    assert grades == ["in_sandbox", "isolated"]
    shown = task.request(task.problems()[0], tasks.STYLES["chat"], 0)
    assert "Return 3 in place of 2." in shown.prompt
    assert shown.original == EDIT["input"]
    assert ("SEARCH" in shown.prompt) == name.endswith("-diff")
    good = {"editeval": "```python\n{}```", "editeval-diff": block("return 2\n", "return 3\n")}[
        name
    ]
    samples = []
    for problem in task.problems():
        texts = [good.format(task.reference(problem)), "```\nreturn 2\n```", "I can't."]
        samples += [
            Sample("", problem.id, i, "", text, "stop", {}, 0, 1, 1, meta={"style": "chat"})
            for i, text in enumerate(texts)
        ]
    result = score(samples, task, out=tmp_path / "out", sandbox=sandbox)
    assert result.statuses["passed"] == 2, result
    assert result.statuses["no_answer"] == (4 if name.endswith("-diff") else 2)
    if name.endswith("-diff"):
        assert result.measures["well_formed"].mean == pytest.approx(1 / 3)
