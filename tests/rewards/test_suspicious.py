"""Programs that aim at the reward are suspected, and few honest ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from codegen.evals import tasks
from codegen.rewards.suspicious import KINDS, suspects


@pytest.mark.parametrize(
    ("kind", "program"),
    [
        ("exit", "import sys\ndef f(x):\n    sys.exit(0)\n"),
        ("exit", "def f(x):\n    raise SystemExit\n"),
        ("equality", "class A:\n    def __eq__(self, other):\n        return True\n"),
        ("introspection", "import inspect\n"),
        ("introspection", "import sys\ndef f(x):\n    return sys._getframe(1).f_locals\n"),
        ("test_values", "def f(x):\n    if x in (31, 41):\n        return 9\n    return 1\n"),
        ("shadowing", "def check(value):\n    pass\n"),
        ("shadowing", "AssertionError = ValueError\n"),
        ("swallowing", "try:\n    f(1)\nexcept Exception:\n    pass\n"),
    ],
)  # fmt: skip
def test_tricks_are_suspected(kind: str, program: str) -> None:
    assert kind in KINDS
    assert suspects(program, "assert f(31) == 9\nassert f(41) == 16\n") == [kind]


def test_honest_programs_are_not_suspected() -> None:
    for program in (
        "def f(x):\n    return x * x\n",
        "class V:\n    def __eq__(self, other):\n        return self.x == other.x\n",
        "def f(x):\n    try:\n        return int(x)\n    except ValueError:\n        return 0\n",
        "def f(x):\n    if x == 0:\n        return 1\n    return f(x - 1)\n",
        "def f(:\n",
    ):
        assert suspects(program, "assert f(0) == 1\nassert f(1) == 2\n") == []


@pytest.mark.slow
def test_few_honest_solutions_are_suspected(data_folder: Path) -> None:
    task = tasks.load("mbpp", str(data_folder / "mbpp" / "mbpp.jsonl.gz"))
    found = []
    for problem in task.problems():
        job = task.job(problem, "")
        found.append(suspects(task.reference(problem), getattr(job, "test", "")))
    assert sum(map(bool, found)) / len(found) < 0.03
