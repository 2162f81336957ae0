"""Next edits: problems of real data, every format's right answer passes, the numbers by hand."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from codegen.benchmarks.tools.edit_baselines import BASELINES
from codegen.core.errors import CodegenError, ConfigError, InputError
from codegen.core.records import Example, Sample, Verdict, write_jsonl
from codegen.data import MemorySource, read_texts, run
from codegen.edits.formats import FORMATS
from codegen.edits.generator import Edits
from codegen.edits.sessions import lines_of
from codegen.evals import tasks
from codegen.evals.statistics import base_task
from codegen.evals.tasks.next_edit import NextEdit, kept_rate, measures
from codegen.evaluate import TaskSampling, sample_task

from eval_fakes import FakeGenerator  # isort: skip

OLD = "def f(a, b):\n    c = a\n    return c\n\n\ndef g(x):\n    y = x\n    return y\n"
DIFF = """\
--- a/p/m.py
+++ b/p/m.py
@@ -1,3 +1,3 @@
-def f(a, b):
+def f(a, bb):
     c = a
-    return c
+    return c + bb
"""
ROW = {"repository": "o/r", "path": "p/m.py", "commit": "0123456789abcdef", "old": OLD}


@pytest.fixture
def task(tmp_path: Path) -> NextEdit:
    rows = [{**ROW, "commit": f"{number:010}", "diff": DIFF} for number in range(9)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    loaded = tasks.load("next-edit", str(path))
    assert isinstance(loaded, NextEdit)
    return loaded


def sample(task: NextEdit, number: int, style: str, answer: str) -> Sample:
    problem = task.problems()[number]
    return Sample(task.name, problem.id, 0, "", answer, "eos", {}, 0, 1, 1, meta={"style": style})


def test_moments_of_a_row(task: NextEdit) -> None:
    problems = task.problems()
    kinds = Counter(problem.edit.category == "nothing" for problem in problems)
    assert kinds[False] == 9 and 0 < kinds[True] < 9
    assert {base_task(problem.id) for problem in problems} == {"o/r"}
    for problem in problems:
        reference = task.reference(problem)
        if problem.edit.category != "nothing":
            assert reference == OLD.replace("b)", "bb)").replace("return c", "return c + bb")
            assert problem.edit.text != reference
        assert task.job(problem, reference).status == "passed"
        (wrong,) = task.buggy(problem)
        assert task.job(problem, wrong).status == "wrong"


def test_spaces_at_line_ends_are_no_problem(tmp_path: Path) -> None:
    """They are not compared, so the file before such an edit would pass."""
    path = tmp_path / "rows.jsonl"
    diff = DIFF.replace("+    return c + bb", "+    return c  ").replace("f(a, bb):", "f(a, b):  ")
    rows = [{**ROW, "commit": f"{number:010}", "diff": diff} for number in range(9)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert {p.edit.category for p in tasks.load("next-edit", str(path)).problems()} == {"nothing"}


@pytest.mark.parametrize("name", FORMATS)
def test_the_right_answer_passes_in_every_style(task: NextEdit, name: str) -> None:
    style, form = tasks.find_style(f"edit-{name}"), FORMATS[name]
    for number, problem in enumerate(task.problems()):
        request = task.request(problem, style, 0)
        assert request.prompt == form.prompt(problem.edit)
        assert request.marks == form.trained and not request.heal
        answer = form.answer(problem.edit)
        right = sample(task, number, style.name, answer)
        assert task.extract(problem, right).program == task.reference(problem)
        found = task.measure(problem, right)
        assert found["parsed"] == found["exact"] == found[f"exact_{problem.edit.category}"] == 1
        wrong = sample(task, number, style.name, "I think that <this> is right.\n<|cursor|>")
        any_text = ("window", "window-qwen", "zeta2", "sweep", "instinct")
        if name not in any_text:
            assert task.extract(problem, wrong).status == "no_answer"
            assert task.measure(problem, wrong)["parsed"] == 0


def test_other_styles_are_refused(task: NextEdit) -> None:
    problem = task.problems()[0]
    with pytest.raises(ConfigError, match="edit-blocks"):
        task.request(problem, tasks.find_style("chat"), 0)
    with pytest.raises(InputError, match="prompt style 'chat'"):
        task.extract(problem, sample(task, 0, "chat", "x"))
    with pytest.raises(ConfigError):
        tasks.load("humaneval").request(
            tasks.load("humaneval").problems()[0], tasks.find_style("edit-hunks"), 0
        )


def test_a_style_whose_tokens_the_model_lacks(tmp_path: Path, task: NextEdit) -> None:
    backend: Any = FakeGenerator()
    backend.loaded = SimpleNamespace(tokenizer=SimpleNamespace(get_vocab=lambda: {"<filename>": 0}))
    given: Any = {"out": tmp_path / "run", "backend": backend}
    message = r"edit-blocks-qwen needs the token <\|.*Omit --style to use edit-search-replace"
    with pytest.raises(ConfigError, match=message):
        sample_task(task, "m", TaskSampling(style="edit-blocks-qwen"), **given)
    assert not (tmp_path / "run").exists()
    assert sample_task(task, "m", TaskSampling(style="edit-udiff"), **given).path.exists()


def test_a_style_of_the_users_own(tmp_path: Path, task: NextEdit) -> None:
    path = tmp_path / "styles.yaml"
    path.write_text(
        "mine:\n  ask: edit\n  read: edit-search-replace\n  chat: true\n"
        '  template: "Edit.\\n{prompt}"\n'
    )
    style = tasks.read_styles(path)["mine"]
    problem = task.problems()[0]
    request = task.request(problem, style, 0)
    assert request.chat and request.prompt.startswith("Edit.\n# Edits so far\n")
    path.write_text("mine:\n  ask: code\n  read: edit-hunks\n")
    with pytest.raises(ConfigError, match="ask: edit"):
        tasks.read_styles(path)


@pytest.mark.parametrize(
    "change", [{"diff": "@@ -1 +1 @@\n-x\n+y\n"}, {"old": 3}, {"diff": ""}, {"repository": None}]
)
def test_bad_rows_are_named(tmp_path: Path, change: dict) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({**ROW, "diff": DIFF, **change}) + "\n")
    with pytest.raises(CodegenError, match=r"rows\.jsonl:1"):
        tasks.load("next-edit", str(path))


def test_stored_moments_are_problems(tmp_path: Path) -> None:
    """Rows of Edit, and a data directory: the reference of each passes, in its own format too."""
    out = tmp_path / "out"
    new = OLD.replace("c", "cc").replace("y", "yy")
    example = Example("e", "", OLD, license="MIT", meta={"path": "a.py", "new": new})
    edits = Edits(format="udiff", moments=8, keep_moments=True, nothing=0.3)
    run(edits, MemorySource((example,)), out, workers=1)
    texts = list(read_texts(out))
    task = tasks.load("next-edit", str(out))
    problems = task.problems()
    assert [problem.id for problem in problems] == [text.id for text in texts] and texts
    for problem, text in zip(problems, texts, strict=True):
        verdict = task.job(problem, task.reference(problem))
        assert isinstance(verdict, Verdict) and verdict.status == "passed"
        assert FORMATS["udiff"].answer(problem.edit) == text.trained
        assert FORMATS["udiff"].prompt(problem.edit) == text.prompt
    rows = tmp_path / "rows.jsonl"
    write_jsonl(rows, [replace(problem.edit, category="") for problem in problems])
    again = tasks.load("next-edit", str(rows)).problems()
    assert [p.edit.category == "nothing" for p in again] == [
        p.edit.category == "nothing" for p in problems
    ]
    (out / "manifest.json").unlink()
    with pytest.raises(InputError, match=r"out is not a finished data directory"):
        tasks.load("next-edit", str(out))
    write_jsonl(rows, [replace(problems[0].edit, target=None)])
    with pytest.raises(InputError, match=r"rows.jsonl:1: the edit state .* has no target"):
        tasks.load("next-edit", str(rows))
    write_jsonl(rows, [replace(texts[0], meta={})])
    with pytest.raises(InputError, match=r"rows.jsonl:1: .*has no edit state.*--keep-moments"):
        tasks.load("next-edit", str(rows))


# --- numbers -------------------------------------------------------------------------------------


def test_measures_by_hand(task: NextEdit) -> None:
    due = next(p for p in task.problems() if p.edit.category != "nothing")
    start, end = due.edit.window
    assert (start, end) == (0, 8)
    before = due.edit.text
    target = due.edit.target or ""
    assert measures(due, None)["exact"] == 0
    silent = measures(due, before)
    assert (silent["shown"], silent["location"], silent["similarity"]) == (0, 0, 0)
    assert silent["no_op_precision"] == 0 and "kept" not in silent
    right = measures(due, target)
    assert (right["exact"], right["location"], right["kept"], right["similarity"]) == (1, 1, 1, 1)
    blanks = measures(due, target.replace("\n", "  \n"))
    assert (blanks["exact"], blanks["exact_blind"], blanks["similarity"]) == (1, 1, 0)
    elsewhere = measures(due, before.replace("y = x", "y = xyz"))
    assert (elsewhere["shown"], elsewhere["location"], elsewhere["exact"]) == (1, 0, 0)
    assert (elsewhere["undoes"], elsewhere["breaks"]) == (0, 0)
    assert "undoes" not in silent and "breaks" not in silent
    last = due.edit.history[-1]
    taken_back = "".join(
        [*lines_of(before)[: last.line], last.old,
         *lines_of(before)[last.line + last.new.count("\n") :]]
    )  # fmt: skip
    assert measures(due, taken_back)["undoes"] == 1
    assert measures(due, before.replace("y = x", "y = ("))["breaks"] == 1
    assert elsewhere["kept"] == 0
    end_of_it = next(p for p in task.problems() if p.edit.category == "nothing")
    assert measures(end_of_it, end_of_it.edit.target)["quiet"] == 1
    assert measures(end_of_it, end_of_it.edit.target)["no_op_precision"] == 1
    assert measures(end_of_it, "x\n")["quiet"] == 0


def test_kept_rate_by_hand() -> None:
    assert kept_rate("a b\n", "a b c\n", "a b c d\n") == 1
    assert kept_rate("a b\n", "a cc b d\n", "a cc b\n") == 2 / 3
    assert kept_rate("a b\n", "a\n", "a b\n") is None


# --- the data ------------------------------------------------------------------------------------


@pytest.fixture
def real(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], NextEdit]:
    monkeypatch.setenv("CODEGEN_TEST_DATA", str(data_folder))

    def load(name: str) -> NextEdit:
        loaded = tasks.load(name)
        assert isinstance(loaded, NextEdit)
        return loaded

    return load


@pytest.mark.long
def test_the_rename_baseline_is_where_it_was_found_to_be(real: Callable[[str], NextEdit]) -> None:
    """An independent count on these commits gave 3.9 % (2.7 to 5.0) of real next hunks."""
    problems = [p for p in real("next-edit").problems() if p.edit.category != "nothing"]
    assert 850 < len(problems) < 900
    exact = [measures(p, BASELINES["rename"](p.edit))["exact"] for p in problems]
    assert 0.027 <= sum(exact) / len(exact) <= 0.050


def test_scenarios(real: Callable[[str], NextEdit]) -> None:
    problems = real("next-edit-scenarios").problems()
    assert Counter(p.edit.category for p in problems) == {"scenario": 34, "nothing": 11}
    by_id = {p.id.removeprefix("NextEdit/"): p for p in problems}
    point = by_id["1-point.ts"]
    assert point.edit.text.startswith("class Point3D {")
    assert [c[2:] for c in point.edit.history] == [("class Point {\n", "class Point3D {\n")]
    assert point.edit.text[: point.edit.cursor] == "class Point3D"
    assert len(point.accepted) == 2 and all("z: number" in text for text in point.accepted)


def test_problems_do_not_change(task: NextEdit, tmp_path: Path) -> None:
    again = tasks.load("next-edit", str(tmp_path / "rows.jsonl"))
    assert list(again.problems()) == list(task.problems())
    due = [replace(p.edit, id="") for p in task.problems() if p.edit.category != "nothing"]
    assert len(set(due)) > 1  # rows with one change are asked in several ways
