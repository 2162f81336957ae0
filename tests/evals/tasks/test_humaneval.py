"""Tasks: data, prompts in every style, and finding code in answers."""

from __future__ import annotations

import ast
import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from eval_fakes import sample

from codegen.core.errors import ConfigError, InputError
from codegen.core.records import Sample
from codegen.evals import tasks
from codegen.evals.scoring import score
from codegen.evals.tasks import load as load_task
from codegen.sandbox import Job, Sandbox


def answer(task: tasks.Task[Any], problem: Any, text: str, style: str) -> tasks.Extraction:
    sample = Sample("", problem.id, 0, "", text, "stop", {}, 0, 0, 0, meta={"style": style})
    return task.extract(problem, sample)


@pytest.fixture(scope="module")
def humaneval() -> tasks.Task[Any]:
    return tasks.load("humaneval")


def test_the_registry_lists_and_loads() -> None:
    listed = tasks.names()
    assert len({name for name, _ in listed}) == len(listed)
    for name, about in listed[:2]:
        task = tasks.load(name)
        assert (task.name, task.description) == (name, about)
    with pytest.raises(ConfigError, match=r"Did you mean 'humaneval'\?"):
        tasks.load("humanevil")
    with pytest.raises(ConfigError, match="codegen eval styles"):
        tasks.find_style("shout")


def test_humaneval_is_the_package_s_data(
    humaneval: tasks.Task[Any], humaneval_rows: list[dict[str, Any]]
) -> None:
    problems = humaneval.problems()
    assert [p.id for p in problems] == [f"HumanEval/{i}" for i in range(164)]
    for problem, row in zip(problems, humaneval_rows, strict=True):
        assert problem.prompt == row["prompt"]
        job = humaneval.job(problem, "x = 1")
        assert isinstance(job, Job)
        assert (job.program, job.test, job.entry_point) == (
            "x = 1",
            row["test"],
            row["entry_point"],
        )
        assert humaneval.reference(problem) == row["prompt"] + row["canonical_solution"]
        # No reference that a program could call; 33's tests compare with it, in their process.
        own = job.setup in row["prompt"] and f"def {row['entry_point']}(" not in job.setup
        assert own != (problem.id == "HumanEval/33")
        assert job.trust == "isolated"


def test_short_is_the_forty_shortest_references(humaneval_rows: list[dict[str, Any]]) -> None:
    lengths = [len(row["canonical_solution"].strip()) for row in humaneval_rows]
    chosen = [int(p.id.split("/")[1]) for p in tasks.load("humaneval-short").problems()]
    assert len(chosen) == 40
    assert chosen == sorted(chosen)
    left_out = set(range(164)) - set(chosen)
    assert max((lengths[i], i) for i in chosen) < min((lengths[i], i) for i in left_out)


def test_prompts_in_every_style(humaneval: tasks.Task[Any]) -> None:
    problem = humaneval.problems()[0]
    plain, chat, code = (
        humaneval.request(problem, tasks.STYLES[style], 3)
        for style in ("plain", "chat", "continue")
    )
    assert code.prompt == problem.prompt
    assert "\ndef " in code.stop
    assert chat.prompt.startswith(
        "Write a Python function `has_close_elements(numbers: List[float], threshold: float)"
        " -> bool` to solve the following problem:\nCheck if in given list of numbers, are any"
        " two numbers closer to each other than\ngiven threshold.\n>>> has_close_elements("
    )
    assert (chat.chat, plain.chat, code.chat) == (True, False, False)
    assert plain.prompt == chat.prompt + "\n"
    assert chat.stop == plain.stop == ()
    assert (code.task, code.problem_id, code.index) == ("humaneval", "HumanEval/0", 3)


def test_every_instruction_has_signature_and_docstring(
    humaneval: tasks.Task[Any], humaneval_rows: list[dict[str, Any]]
) -> None:
    for problem, row in zip(humaneval.problems(), humaneval_rows, strict=True):
        first, *rest = humaneval.request(problem, tasks.STYLES["chat"], 0).prompt.split("\n")
        signature = first.split("`")[1]
        assert f"def {signature}:" in row["prompt"].replace(" :", ":")
        assert signature.startswith(row["entry_point"] + "(")
        assert len("\n".join(rest)) > 15


def test_humanevalpack_words_the_instructions_alike(
    humaneval: tasks.Task[Any], data_folder: Path
) -> None:
    """Against the independent extraction of the authors of HumanEvalPack."""
    path = data_folder / "humanevalpack" / "humanevalpack-python.jsonl.gz"
    if not path.is_file():
        pytest.skip("no humanevalpack in CODEGEN_TEST_DATA")
    text = gzip.decompress(path.read_bytes()).decode()
    rows = {row["task_id"].split("/")[1]: row for row in map(json.loads, text.splitlines())}
    same = sum(
        rows[p.id.split("/")[1]]["instruction"].split()
        == humaneval.request(p, tasks.STYLES["chat"], 0).prompt.split()
        for p in humaneval.problems()
    )
    assert same == 163  # theirs of HumanEval/115 has an import in the signature


@pytest.mark.parametrize("number", [32, 38, 50])
def test_an_answer_gets_the_prompt_s_helpers(humaneval: tasks.Task[Any], number: int) -> None:
    problem = humaneval.problems()[number]
    name = problem.entry_point
    found = answer(humaneval, problem, f"```python\ndef {name}(s):\n    return s\n```", "chat")
    defined = [n.name for n in ast.parse(found.program).body if isinstance(n, ast.FunctionDef)]
    assert len(defined) == 2
    assert defined[-1] == name


def test_references_survive_every_style(humaneval: tasks.Task[Any]) -> None:
    for problem in humaneval.problems():
        whole = humaneval.reference(problem)
        continued = answer(humaneval, problem, problem.canonical_solution, "continue").program
        assert ast.dump(ast.parse(continued)) == ast.dump(ast.parse(whole))
        assert answer(humaneval, problem, whole, "solution").program == whole
        for text in (whole, f"Sure!\n```py\n{whole}\n```\nIt works.", f"```\n{whole}"):
            program = answer(humaneval, problem, text, "plain").program
            assert program.rstrip().endswith(whole.strip())
            ast.parse(program)


def test_the_prompt_of_evalplus(humaneval: tasks.Task[Any]) -> None:
    """The text that ``evalplus.provider.utility.make_raw_chat_prompt`` makes."""
    problem = next(p for p in humaneval.problems() if p.id == "HumanEval/53")
    style = tasks.find_style("evalplus")
    request = humaneval.request(problem, style, 0)
    assert request.chat
    assert request.prompt == (
        "Please provide a self-contained Python script that solves the following problem in a "
        "markdown code block:\n```\n"
        'def add(x: int, y: int):\n    """Add two numbers x and y\n    >>> add(2, 3)\n    5\n'
        '    >>> add(5, 7)\n    12\n    """\n```\n'
    )
    assert request.prefill == (
        "Below is a Python script with a self-contained function that solves the problem and "
        "passes corresponding tests:\n```python\n"
    )
    assert "\n```" in request.stop
    text = "def add(x, y):\n    return x + y\n\nassert add(1, 1) == 3"
    for whole in (text, f"```python\n{text}\n```"):  # of a server that ignores the prefill
        found = answer(humaneval, problem, whole, "evalplus")
        assert found.program.endswith("return x + y\n") and "assert" not in found.program


GOOD = {
    "task_id": "A/1",
    "prompt": 'def f(x):\n    """F."""\n',
    "entry_point": "f",
    "canonical_solution": "    return x\n",
    "test": "def check(f): pass\n",
}


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        ([], "no problems"),
        (["not json"], "rows.jsonl:1: not valid JSON"),
        ([GOOD, "3"], "rows.jsonl:2: expected a JSON object"),
        ([GOOD, {**GOOD, "task_id": "A/2", "test": None}], "rows.jsonl:2: the field 'test' is not"),
        ([{k: v for k, v in GOOD.items() if k != "prompt"}], "rows.jsonl:1: .*'prompt' is missing"),
        ([GOOD, GOOD], "rows.jsonl:2: the id 'A/1' appears twice"),
        ([{**GOOD, "entry_point": "f(x)"}], "rows.jsonl:1: the entry_point"),
    ],
)
def test_bad_data_is_named(
    write_rows: Callable[[list[Any]], Path], rows: list[Any], named: str
) -> None:
    with pytest.raises(InputError, match=named):
        tasks.load("humaneval", str(write_rows(rows)))


def test_files_plain_compressed_missing_and_damaged(tmp_path: Path) -> None:
    packed = tmp_path / "rows.jsonl.gz"
    packed.write_bytes(gzip.compress(json.dumps(GOOD).encode()))
    task = tasks.load("humaneval", str(packed))
    assert [p.id for p in task.problems()] == ["A/1"]
    packed.write_bytes(packed.read_bytes()[:-12])
    for path, named in [
        (packed, "corrupt"),
        (tmp_path / "no", "Cannot read"),
        (tmp_path, "is not a finished data directory"),
    ]:
        with pytest.raises(InputError, match=named):
            tasks.load("humaneval", str(path))


@pytest.mark.parametrize(
    ("prompt", "named"), [("def f(x:\n", "not Python"), ("def g(x):\n    pass\n", "entry point")]
)
def test_a_prompt_without_its_function_can_only_be_continued(
    write_rows: Callable[[list[Any]], Path], prompt: str, named: str
) -> None:
    task = tasks.load("humaneval", str(write_rows([{**GOOD, "prompt": prompt}])))
    problem = task.problems()[0]
    assert task.request(problem, tasks.STYLES["continue"], 0).prompt == prompt
    with pytest.raises(InputError, match=named):
        task.request(problem, tasks.STYLES["plain"], 0)


def test_a_header_over_several_lines_is_taken_as_written(
    write_rows: Callable[[list[Any]], Path],
) -> None:
    prompt = (
        'import re\n\n\ndef f(\n    x: dict[str, int],  # a: b\n) -> int:  # c: d\n    """F."""\n'
    )
    task = tasks.load("humaneval", str(write_rows([{**GOOD, "prompt": prompt}])))
    text = task.request(task.problems()[0], tasks.STYLES["chat"], 0).prompt
    assert "`f(\n    x: dict[str, int],  # a: b\n) -> int`" in text
    assert text.endswith("\nF.")


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
        task.problems()[0], sample("Toy/0", "other", "solution", actions=text, completion_tokens=30)
    )
    assert numbers["malformed"] > 0
    assert numbers["valid_states"] == 0.0
    assert numbers["complete"] == numbers["round_trip"] == 0.0
    assert task.measure(task.problems()[0], sample("Toy/0", "x", "solution")) == {}
