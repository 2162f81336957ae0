"""BigCodeBench: unittest classes, also one without a test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from eval_fakes import sample

from codegen.core.records import Verdict
from codegen.evals import tasks
from codegen.evals.scoring import score
from codegen.sandbox import Job, Sandbox

BIG = {
    "task_id": "BigCodeBench/1",
    "complete_prompt": 'import os\n\ndef task_func(x):\n    """Join."""\n',
    "instruct_prompt": "Join x.",
    "code_prompt": "import os\ndef task_func(x):\n",
    "canonical_solution": "    return os.path.join('a', x)\n",
    "entry_point": "task_func",
    "test": (
        "import unittest\nclass TestCases(unittest.TestCase):\n"
        "    def test_a(self):\n        self.assertEqual(task_func('b'), 'a/b')\n"
    ),
}


def test_bigcodebench(
    write_rows: Callable[[list[Any]], Path], tmp_path: Path, sandbox: Sandbox
) -> None:
    rows = [BIG, {**BIG, "task_id": "BigCodeBench/2", "test": "import wordcloud\n" + BIG["test"]}]
    task = tasks.load("bigcodebench-hard", str(write_rows(rows)))
    id_ = "BigCodeBench/1"
    samples = [
        sample(id_, BIG["canonical_solution"], "continue", 0),
        # Without its imports: the header is put in front.
        sample(id_, "```\ndef task_func(x):\n    return os.path.join('a', x)\n```", "chat", 1),
        sample(id_, "```\ndef task_func(x):\n    return x\n```", "chat", 2),
        sample(id_, "```\ndef task_func(x):\n    import sys; sys.exit(0)\n```", "chat", 3),
        sample(id_, "Sorry.", "chat", 4),
        sample("BigCodeBench/2", BIG["canonical_solution"], "continue", 0),
    ]
    result = score(samples, task, out=tmp_path / "out", sandbox=sandbox)
    missing = "needs wordcloud, which the sandbox does not offer"
    assert task.reference_exceptions["BigCodeBench/2"] == missing
    assert result.statuses["passed"] == 2
    assert result.statuses["no_answer"] == 1
    assert result.statuses["infra_error"] == 1
    assert sum(result.statuses.values()) == 6
    assert [p.problem_id for p in result.problems if p.n] == ["BigCodeBench/1"]
    assert not result.complete
    assert any("1 of 6 samples could not be scored" in n for n in result.notes)
    assert any(missing in note for note in result.notes)


def test_a_test_class_without_tests_passes_nothing(
    write_rows: Callable[[list[Any]], Path], sandbox: Sandbox
) -> None:
    empty = "import unittest\nclass TestCases(unittest.TestCase):\n    pass\n"
    task = tasks.load("bigcodebench-hard", str(write_rows([{**BIG, "test": empty}])))
    job = task.job(task.problems()[0], task.reference(task.problems()[0]))
    assert isinstance(job, Job)
    assert not isinstance(job, Verdict)
    assert not sandbox.run(job).passed
