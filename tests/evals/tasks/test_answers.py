"""CRUXEval, infilling, repairs, repetition, edits: reading answers and judging them."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codegen.core.errors import ConfigError
from codegen.core.records import Sample, Verdict
from codegen.evals import tasks
from codegen.evals.scoring import score
from codegen.evals.tasks import load as load_task
from codegen.evals.tasks.cruxeval import find_answer
from codegen.sandbox import Job, Sandbox


def sample(id_: str, text: str, style: str = "chat", index: int = 0, **fields: Any) -> Sample:
    made: dict[str, Any] = {"finish_reason": "stop", "completion_tokens": 0, **fields}
    return Sample(
        "",
        id_,
        index,
        "",
        text,
        settings={},
        seed=0,
        prompt_tokens=0,
        meta={"style": style},
        **made,
    )


# --- CRUXEval ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "output", "given_"),
    [
        ("[ANSWER]\nassert f(1, 'a') == [2, 'b']\n[/ANSWER]", "[2, 'b']", "1, 'a'"),
        ("assert f(1, 'a') == [2, 'b']", "[2, 'b']", "1, 'a'"),
        ("So:\n```python\nassert f(1, 'a') == [2, 'b']\n```\nDone.", "[2, 'b']", "1, 'a'"),
        ("As f(0) == 3,\nassert f(1, 'a') == [2, 'b']\nholds.", "[2, 'b']", "1, 'a'"),
        ("[ANSWER]assert f(1, 'a') == [2, 'b']", "[2, 'b']", "1, 'a'"),
        ("f(1, 'a')", None, "1, 'a'"),
        ("[2, 'b']", "[2, 'b']", "[2, 'b']"),
        ("assert f() == 1", "1", "*()"),
        ("assert f(f(2), x=3) == 'a == b'", "'a == b'", "f(2), x=3"),
        ("I don't know.", "", ""),
        ("[ANSWER]\n[/ANSWER]", "", ""),
    ],
)
def test_the_side_that_was_asked_for(text: str, output: str | None, given_: str) -> None:
    if output is not None:
        assert find_answer(text, output=True) == output
    assert find_answer(text, output=False) == given_


CRUX = {"id": "s", "code": "def f(x):\n    return x[::-1]", "input": "[1, 2]", "output": "[2, 1]"}


@pytest.mark.parametrize(
    ("name", "style", "text", "status"),
    [
        ("cruxeval-o", "chat", "[ANSWER]assert f([1, 2]) == [2, 1][/ANSWER]", "passed"),
        ("cruxeval-o", "chat", "[1 + 1, 1]", "passed"),
        ("cruxeval-o", "chat", "[1, 2]", "wrong"),
        ("cruxeval-o", "chat", "f([1, 2])", "error"),
        ("cruxeval-o", "chat", "assert f([1, 2]) == f([1, 2])", "error"),
        ("cruxeval-o", "chat", "No idea, sorry", "no_answer"),
        ("cruxeval-o", "continue", " [2, 1]\n[/ANSWER]", "passed"),
        ("cruxeval-o", "few-shot", "assert f([1, 2]) == [2, 1]\n", "passed"),
        ("cruxeval-i", "chat", "assert f([1, 2]) == [2, 1]", "passed"),
        ("cruxeval-i", "chat", "assert f(x=[1, 2]) == [2, 1]", "passed"),
        ("cruxeval-i", "chat", "[2, 1]", "wrong"),
        ("cruxeval-i", "chat", "1", "error"),
        ("cruxeval-i", "continue", "[1, 2]) == [2, 1]", "passed"),
        ("cruxeval-i", "chat", "", "empty"),
        (
            "cruxeval-o",
            "chat",
            "type('A', (list,), {'__eq__': lambda s, o: True})([3])",
            "wrong",
        ),
    ],
)
def test_answers_of_cruxeval(
    write_rows: Callable[[list[Any]], Path],
    tmp_path: Path,
    sandbox: Sandbox,
    name: str,
    style: str,
    text: str,
    status: str,
) -> None:
    task = tasks.load(name, str(write_rows([CRUX])))
    result = score([sample("s", text, style)], task, out=tmp_path / "out", sandbox=sandbox)
    assert list(result.statuses) == [status]
    assert result.complete


# --- infilling ---------------------------------------------------------------------------------

GAP = {
    "task_id": "SingleLineInfilling/HumanEval/0/L0",
    "entry_point": "f",
    "prompt": "import math\n\n\ndef f(x):\n",
    "suffix": "    return y\n",
    "canonical_solution": "    y = x + 1\n",
    "test": "def check(candidate):\n    assert candidate(1) == 2\n",
}


@pytest.mark.parametrize(
    ("style", "text", "status", "exact"),
    [
        ("fim-qwen", "    y = x + 1\n", "passed", 1.0),
        ("fim-qwen", "    y = x + 1\n<|endoftext|>junk", "passed", 1.0),
        ("fim-qwen", "    y = 1 + x\n", "passed", 0.0),
        ("fim-qwen", "    y = x\n", "wrong", 0.0),
        ("fim-qwen", "", "error", 0.0),  # y is not defined
        ("chat", "```\ndef f(x):\n    return x + 1\n```", "passed", None),
        ("chat", "```\n    y = x + 1\n```", "passed", None),
    ],
)
def test_infilling(
    write_rows: Callable[[list[Any]], Path],
    tmp_path: Path,
    sandbox: Sandbox,
    style: str,
    text: str,
    status: str,
    exact: float | None,
) -> None:
    task = tasks.load("humaneval-single-line", str(write_rows([GAP])))
    id_ = GAP["task_id"]
    result = score([sample(id_, text, style)], task, out=tmp_path / "out", sandbox=sandbox)
    assert list(result.statuses) == [status]
    measured = result.measures.get("exact_match")
    assert (measured.mean if measured else None) == exact


def test_a_rambling_answer_is_told_from_a_wrong_one(
    write_rows: Callable[[list[Any]], Path],
) -> None:
    task = tasks.load("humaneval-single-line", str(write_rows([GAP])))
    numbers = task.measure(
        task.problems()[0], sample(GAP["task_id"], "    y = x + 1\n    y = 0\n", "fim-qwen")
    )
    assert (numbers["exact_match"], numbers["exact_match_trimmed"]) == (0.0, 1.0)
    assert numbers["valid_syntax"] == 1.0


# --- repairs -----------------------------------------------------------------------------------

BUG = {
    "task_id": "Python/0",
    "prompt": 'def f(x):\n    """One more."""\n',
    "declaration": "def f(x):\n",
    "canonical_solution": "    return x + 1\n",
    "buggy_solution": "    return x - 1\n",
    "test": "def check(f):\n    assert f(1) == 2\n\ncheck(f)\n",
    "entry_point": "f",
}


def test_repairs(write_rows: Callable[[list[Any]], Path], tmp_path: Path, sandbox: Sandbox) -> None:
    path = str(write_rows([BUG]))
    task, docs = tasks.load("humanevalfix", path), tasks.load("humanevalfix-docs", path)
    problem = task.problems()[0]
    shown = task.request(problem, tasks.STYLES["chat"], 0).prompt
    assert shown == "def f(x):\n    return x - 1\n\n" + BUG["test"] + "\nFix bugs in f."
    assert '"""One more."""' in docs.request(problem, tasks.STYLES["chat"], 0).prompt
    assert "check" not in docs.request(problem, tasks.STYLES["chat"], 0).prompt
    samples = [
        sample("Python/0", "```\ndef f(x):\n    return x + 1\n```", index=0),
        sample("Python/0", "```\ndef f(x):\n    return x - 1\n```", index=1),
        sample("Python/0", "    return 2\n", "continue", 2),
    ]
    result = score(samples, task, out=tmp_path / "out", sandbox=sandbox)
    assert result.statuses == {"passed": 2, "wrong": 1}
    assert result.measures["unchanged"].mean == pytest.approx(1 / 3)
    assert result.measures["changed_lines"].mean == pytest.approx(4 / 3)


# --- repetition --------------------------------------------------------------------------------


def test_repetition_passes_what_ends(
    write_rows: Callable[[list[Any]], Path], tmp_path: Path, sandbox: Sandbox
) -> None:
    task = tasks.load("coderepeteval", str(write_rows([{"prompt": "x = 1\n", "samples": []}])))
    loop = "print(x)\n" * 20
    samples = [
        sample("CodeRepetEval/1", "y = 2\nprint(x, y)\n", "continue", 0),
        sample("CodeRepetEval/1", loop, "continue", 1, finish_reason="length"),
    ]
    result = score(samples, task, out=tmp_path, sandbox=sandbox)
    assert result.statuses == {"passed": 1, "wrong": 1}
    assert result.complete
    assert result.reference.total == 0
    assert result.measures["looping"].mean == 0.5
    assert task.measure(task.problems()[0], samples[1])["tr_s"] > 0.9
    assert task.measure(task.problems()[0], samples[0])["tr_s"] == 0
    assert any("ended its answer itself" in note for note in result.notes)


def test_the_shipped_continuations_repeat_themselves(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from codegen.evals.tasks.coderepeteval import repetition

    monkeypatch.setenv("CODEGEN_TEST_DATA", str(data_folder))
    problems = tasks.load("coderepeteval").problems()[:40]
    assert all(problem.repetitive for problem in problems)
    tr_n = [repetition(p.prompt, p.prompt + p.repetitive)["tr_n"] for p in problems]
    assert sum(tr_n) / len(tr_n) > 0.5


# --- edit sequences ----------------------------------------------------------------------------


def edit_task(toy_file: Path) -> tasks.Task[Any]:
    return load_task("humaneval-edits", str(toy_file))


def test_sound_edits(toy_file: Path) -> None:
    from codegen.lintseq import edit_sequence, format_edits

    program = "def add0(x):\n    y = x\n    return y\n"
    edits = edit_sequence(program, random.Random(0)).edits
    text = format_edits(edits)
    numbers = edit_task(toy_file).measure(
        edit_task(toy_file).problems()[0],
        sample("Toy/0", program, "solution", actions=text, completion_tokens=40),
    )
    assert numbers == {
        "edits": len(edits),
        "complete": 1.0,
        "round_trip": 1.0,
        "malformed": 0.0,
        "mended": 0.0,
        "valid_states": 1.0,
        "all_states_valid": 1.0,
        "tokens_per_edit": 40 / len(edits),
    }


def test_faulty_edits(toy_file: Path) -> None:
    text = (
        "<|diff|>@@ -0,0 +1 @@\n+def f(:\n"
        "<|diff|>@@ -1,0 +2 @@\n+    return 1\n"
        "<|diff|>@@ nonsense @@\n+x\n"
    )
    task = edit_task(toy_file)
    numbers = task.measure(
        task.problems()[0],
        sample("Toy/0", "other", "solution", actions=text, completion_tokens=30),
    )
    assert numbers["malformed"] > 0
    assert numbers["valid_states"] == 0.0
    assert numbers["complete"] == numbers["round_trip"] == 0.0
    assert task.measure(task.problems()[0], sample("Toy/0", "x", "solution")) == {}


# --- MBPP and BigCodeBench ---------------------------------------------------------------------

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
