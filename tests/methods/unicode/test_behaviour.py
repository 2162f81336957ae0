"""UniCoder-Bench's measure: programs sent to UniCode and back still pass their tests.

In the sandbox, since the programs are run. All originals pass there too.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from codegen.evals import tasks
from codegen.evals.sandbox import Job, Sandbox
from codegen.methods.unicode import STYLES, to_python, to_unicode


def there_and_back(program: str, number: int) -> str:
    """A program through one of the styles in turn, without the annotations that do nothing."""
    style = list(STYLES.values())[number % len(STYLES)]
    return to_python(to_unicode(program, style).text)


def statuses(jobs: list[tuple[str, Job]]) -> dict[str, str]:
    with Sandbox(workers=2) as sandbox:
        return {name: outcome.status for name, outcome in sandbox.map(jobs)}


@pytest.mark.long
def test_human_eval_passes() -> None:
    task = tasks.load("humaneval")
    jobs: list[tuple[str, Job]] = []
    for number, problem in enumerate(task.problems()):
        job = task.job(problem, there_and_back(task.reference(problem), number))
        assert isinstance(job, Job)
        jobs.append((problem.id, job))
    assert len(jobs) == 164
    found = statuses(jobs)
    assert {name: status for name, status in found.items() if status != "passed"} == {}


def mbpp_programs(path: Path) -> Iterator[tuple[str, str, str]]:
    """(id, program, tests) of all problems."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for row in map(json.loads, file):
            yield (
                str(row["task_id"]),
                row["code"],
                "\n".join([row["test_setup_code"], *row["test_list"]]),
            )


@pytest.mark.long
def test_mbpp_passes(data_folder: Path) -> None:
    rows = list(mbpp_programs(data_folder / "mbpp" / "mbpp.jsonl.gz"))
    assert len(rows) == 974
    # Beside the program, since three tests build objects of its classes.
    jobs = [
        (name, Job(there_and_back(program, number), test=test, mode="in_sandbox"))
        for number, (name, program, test) in enumerate(rows)
    ]
    found = statuses(jobs)
    assert {name: status for name, status in found.items() if status != "passed"} == {}
