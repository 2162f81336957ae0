"""Translated tests taken apart: calls on one side, expected values on the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from codegen.evals import tasks
from codegen.evals.tasks.multilingual import MultiPLE
from codegen.evals.tasks.translated import FORMS, take_apart
from tests.evals.tasks.test_multilingual import ROWS


def test_a_test_taken_apart() -> None:
    row = ROWS["javascript"]
    halves = take_apart(FORMS["javascript"], row["prompt"], row["tests"])
    assert halves is not None and halves.count == 2
    assert 'codegen_answer(candidate([1, 2], "a, (b"));' in halves.calls
    assert 'codegen_answer([1, 2, "a, (b"]);\ncodegen_answer([{}]);' in halves.expected
    assert '[1, 2, "a, (b"]' not in halves.calls and "candidate" not in halves.expected
    row = ROWS["bash"]
    halves = take_apart(FORMS["bash"], row["prompt"], row["tests"])
    assert halves is not None
    assert 'codegen_answer "$(candidate "1" "a ) = b")"' in halves.calls
    assert halves.expected == 'codegen_answer "1 a ) = b"\ncodegen_answer " x"\n'


@pytest.mark.parametrize(
    "test",
    [
        "",
        "test();",
        "assert.deepEqual(f(1));",
        "assert.deepEqual(f(1),2,3);",
        "assert.deepEqual(f(",
    ],
)
def test_what_is_not_of_the_form_is_left(test: str) -> None:
    assert take_apart(FORMS["javascript"], "", test) is None


def test_a_union_is_compared_by_its_own_operator() -> None:
    test = "int main() {\n    assert(f(1) == 2);\n}\n"
    assert take_apart(FORMS["cpp"], "long f(long a) {\n", test) is not None
    assert take_apart(FORMS["cpp"], "union Union_long_float {\n", test) is None


# Their values are not of their language: "new List<List<Dictionary<null,null>>()}", "Any(10l)".
NOT_OF_THE_FORM = {
    ("multipl_e-mbpp", "csharp"): ["mbpp_568_empty_list"],
    ("multipl_e-mbpp", "scala"): ["mbpp_744_check_none", "mbpp_791_remove_nested"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["multipl_e", "multipl_e-mbpp"])
def test_all_tests_are_taken_apart(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("CODEGEN_TEST_DATA", str(data_folder))
    for language in ("javascript", "ruby", "java", "csharp", "scala", "swift"):
        task = tasks.load(f"{name}:{language}")
        assert isinstance(task, MultiPLE)
        left = [problem.id for problem in task.problems() if task.halves(problem) is None]
        assert left == NOT_OF_THE_FORM.get((name, language), []), language
