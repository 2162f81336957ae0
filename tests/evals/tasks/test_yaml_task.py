"""Tasks that are one YAML file: rows, templates, answers, and what is said about a broken file."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from codegen.core.errors import CodegenError, ConfigError, InputError
from codegen.core.records import Sample, Verdict
from codegen.core.templates import Templates
from codegen.evals import tasks
from codegen.evals.tasks.validate import check
from codegen.sandbox import Job, Sandbox

TOTAL, MOST = "def total(v):\n    return sum(v)\n", "def most(v):\n    return max(v)\n"
ROWS = [
    {"number": 1, "name": "total", "text": "their sum", "code": TOTAL, "result": "3"},
    {"number": 2, "name": "most", "text": "the largest", "code": MOST, "result": "2"},
]
FILE: dict[str, Any] = {
    "about": "sums in words",
    "problems": "sums.jsonl",
    "id": "number",
    "prompt": "Write {{ name }}(values), which returns {{ text }}.",
    "entry_point": "name",
    "tests": "assert {{ name }}([1, 2]) == {{ result }}\n",
    "solution": "code",
    "buggy": ["def {{ name }}(v):\n    return 7\n"],
    "style": "plain",
}


def load(tmp_path: Path, source: str | None = None, **changes: Any) -> tasks.Task[Any]:
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    path = tmp_path / "my.yaml"
    kept = {k: v for k, v in {**FILE, **changes}.items() if v is not None}
    path.write_text(yaml.safe_dump(kept))
    return tasks.load(f"file:{path}", source)


def answered(task: tasks.Task[Any], text: str, style: str = "plain") -> tasks.Extraction:
    problem = task.problems()[0]
    sample = Sample("", problem.id, 0, "", text, "stop", {}, 0, 0, 0, meta={"style": style})
    return task.extract(problem, sample)


def test_rows_become_problems(tmp_path: Path) -> None:
    task = load(tmp_path)
    assert (task.name, task.description, task.source) == ("file:my.yaml", "sums in words",
                                                          "sums.jsonl")  # fmt: skip
    assert task.style == "plain"
    assert [problem.id for problem in task.problems()] == ["1", "2"]
    request = task.request(task.problems()[1], tasks.STYLES["plain"], 0)
    assert request.prompt == "Write most(values), which returns the largest.\n"
    job = task.job(task.problems()[0], "x = 1")
    assert isinstance(job, Job)
    assert (job.test, job.entry_point) == ("assert total([1, 2]) == 3\n", "total")
    assert task.reference(task.problems()[0]) == ROWS[0]["code"]


def test_the_references_pass_and_the_bugs_do_not(tmp_path: Path, sandbox: Sandbox) -> None:
    found = check(load(tmp_path), sandbox)
    assert found.holds
    assert (found.references, found.passed, found.buggy, found.rejected) == (2, 2, 2, 2)


def test_problems_can_be_in_the_file_and_columns_go_without_saying(tmp_path: Path) -> None:
    path = tmp_path / "quiz.yaml"
    path.write_text("problems:\n- {prompt: 2 + 2, answer: ['4', four]}\n- {prompt: x, answer: y}")
    task = tasks.load(f"file:{path}")
    assert [problem.id for problem in task.problems()] == ["1", "2"]
    assert task.description == "a task of your own"
    problem = task.problems()[0]
    verdict = task.job(problem, answered(task, "The answer is: four").program)
    assert isinstance(verdict, Verdict) and verdict.passed


def test_words_and_stops_and_programs_of_its_own(tmp_path: Path) -> None:
    task = load(
        tmp_path,
        prompt="def {{ name }}(v):\n",
        instruction="Write {{ name }}.",
        program="def {{ name }}(v):\n    return {{ completion | trim }}\n",
        stop=["\n"],
    )
    problem = task.problems()[0]
    assert task.request(problem, tasks.STYLES["chat"], 0).prompt == "Write total."
    shown = task.request(problem, tasks.STYLES["continue"], 0)
    assert (shown.prompt, shown.stop) == ("def total(v):\n", ("\n",))
    found = answered(task, "  sum(v)\nprint(1)", "continue")
    assert found.program == "def total(v):\n    return sum(v)\n"
    assert answered(task, " \n", "continue").status == "empty"


def test_columns_that_would_judge_another_way_are_columns_where_the_file_says_how(
    tmp_path: Path,
) -> None:
    path = tmp_path / "mixed.yaml"
    path.write_text(
        "problems:\n- {prompt: x, answer: '3', stdout: no}\n"
        "tests: assert x == {{ answer }}\nsolution: x = {{ answer }}"
    )
    problem = tasks.load(f"file:{path}").problems()[0]
    assert (problem.tests, problem.answers, problem.solution) == ("assert x == 3", (), "x = 3")


def test_another_source_in_place_of_the_files(tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text(json.dumps(ROWS[1]) + "\n")
    assert [problem.id for problem in load(tmp_path, str(other)).problems()] == ["2"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"problem": "x"}, "unknown key 'problem'.*'problems'"),
        ({"problems": None}, "'problems' is missing"),
        ({"problems": "../sums.jsonl"}, "not a plain file name"),
        ({"problems": "/etc/passwd"}, "not a plain file name"),
        ({"problems": "none.jsonl"}, "none.jsonl"),
        ({"solution": "cod"}, r"sums\.jsonl:1: unknown column 'cod' in solution"),
        ({"tests": None}, "has no column for scoring answers"),
        ({"tests": "{{ nam }}"}, "template of tests cannot be rendered: 'nam' is undefined"),
        ({"prompt": "{{ name"}, "template of prompt is not valid"),
        ({"prompt": None}, "'prompt' is missing"),
        ({"style": "shout"}, "Unknown prompt style 'shout'"),
        ({"mode": "outside"}, "mode 'outside' must be"),
        ({"cpu_s": -1}, "limit cpu_s is"),
        ({"id": "{{ name.__class__.__mro__ }}"}, "template of id cannot be rendered"),
    ],
)
def test_a_broken_file_is_one_line(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises((ConfigError, InputError), match=said) as caught:
        load(tmp_path, **changes)
    assert "\n" not in str(caught.value)


def test_templates_reach_nothing_but_the_row(tmp_path: Path) -> None:
    for text in (
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ row.update(x=1) }}",
        "{% include 'sums.jsonl' %}",
    ):
        with pytest.raises(CodegenError, match="cannot be rendered"):
            load(tmp_path, prompt=text)


@pytest.mark.parametrize(
    "text",
    [
        "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
        "{{ 'x' * 10 ** 10 }}",  # folded when it is compiled
        "{{ text.ljust(10 ** 10) }}",
        "{{ '%*d' % (10 ** 10, 1) }}",
        "{{ [text] | batch(10 ** 10, 'x') | first }}",
        "{% set n = namespace(x='x') %}"
        "{% for a in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
        "{{ 'x' * 10 ** 7 }}",
        "{{ " + "(" * 5000 + ")" * 5000 + "}}",
    ],
    ids=lambda text: text[:30],
)
def test_a_template_is_bounded_in_time_and_memory(tmp_path: Path, text: str) -> None:
    said = "cannot be rendered: (it|the text) (takes more than|exceeds|is nested too)|is not valid"
    with pytest.raises(CodegenError, match=said) as caught:
        load(tmp_path, prompt=text)
    assert len(str(caught.value)) < 500


def test_a_template_that_fails_keeps_no_other_from_being_filled_in() -> None:
    templates = Templates()
    with pytest.raises(InputError):
        templates.fill("{{ 'x' * 10 ** 10 }}", {}, "prompt", "row 1")
    with pytest.raises(InputError, match="CPU time"):
        templates.fill("{{ 7 ** (10 ** 9) }}", {}, "prompt", "row 1")
    assert (
        templates.fill(
            "{{ when.year }} {{ x }}\n",
            {"when": date(2026, 1, 2), "x": [1, None]},
            "prompt",
            "row 1",
        )
        == "2026 [1, None]\n"
    )


def test_one_wrong_program_may_be_one_template(tmp_path: Path) -> None:
    task = load(tmp_path, buggy="def {{ name }}(v):\n    return 7\n")
    assert list(task.buggy(task.problems()[0])) == ["def total(v):\n    return 7\n"]
