"""MBPP: prompts, answers, and tests that need the program's class."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from eval_fakes import sample

from codegen.core.errors import ConfigError
from codegen.evals import tasks
from codegen.evals.scoring import score
from codegen.sandbox import Job, Sandbox

MBPP = [
    {
        "task_id": number,
        "text": f"Add {number}.",
        "code": f"def add(x):\r\n    return x + {number}",
        "test_setup_code": "",
        "test_list": [f"assert add(1) == {number + 1}", f"assert add(0) == {number}"],
    }
    for number in (2, 3, 4, 11)
]


def test_prompts_of_mbpp(write_rows: Callable[[list[Any]], Path]) -> None:
    path = str(write_rows(MBPP))
    task = tasks.load("mbpp", path)
    problem = task.problems()[3]
    few = task.request(problem, tasks.STYLES["few-shot"], 0)
    assert few.prompt.count("[BEGIN]\n") == 4
    assert few.prompt.count("[DONE]") == 3
    assert few.prompt.endswith("assert add(0) == 11\n[BEGIN]\n")
    assert few.stop == ("[DONE]", "[/ANSWER]")
    base = task.request(problem, tasks.STYLES["continue"], 0)
    assert base.prompt == '"""\nAdd 11.\nassert add(1) == 12\n"""\n'
    assert "\ndef " not in base.stop  # a whole program may have helpers
    assert [p.number for p in tasks.load("mbpp-test", path).problems()] == [11]
    with pytest.raises(ConfigError, match="lacks the solved examples"):
        tasks.load("mbpp", str(write_rows(MBPP[2:]))).request(problem, tasks.STYLES["few-shot"], 0)


def test_answers_of_mbpp(
    write_rows: Callable[[list[Any]], Path], tmp_path: Path, sandbox: Sandbox
) -> None:
    task = tasks.load("mbpp", str(write_rows(MBPP)))
    program = "import math\n\ndef help(x):\n    return x + 11\n\ndef add(x):\n    return help(x)\n"
    samples = [
        sample("MBPP/11", program + "[DONE]\nmore", "few-shot", 0),
        sample("MBPP/11", program + "\nprint(add(3))\nassert 0", "continue", 1),
        sample("MBPP/11", f"Text.\n```python\n{program}```", "chat", 2),
        sample("MBPP/11", "def add(x):\n    return 12", "solution", 3),
    ]
    result = score(samples, task, out=tmp_path / "out", sandbox=sandbox)
    assert result.statuses == {"passed": 3, "wrong": 1}


def test_mbpp_s_tests_that_need_the_program_s_class(
    write_rows: Callable[[list[Any]], Path], sandbox: Sandbox
) -> None:
    row = {
        **MBPP[0],
        "task_id": 367,
        "code": "class N:\n    x = 1\n\ndef get(n):\n    return n.x",
        "test_setup_code": "n = N()",
        "test_list": ["assert get(n) == 1"],
    }
    task = tasks.load("mbpp", str(write_rows([row])))
    job = task.job(task.problems()[0], row["code"])
    assert isinstance(job, Job)
    outcome = sandbox.run(job)
    assert (outcome.status, outcome.trust) == ("passed", "blinded")
