"""Tasks in several languages: their tests taken apart, answers put together, and the gates.

The oracle of the tests taken apart is the data set's own rule, run beside: a program passes by
either or by none (but one that forges an exit status).
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from suites import suite

from codegen.core.errors import ConfigError, InputError
from codegen.core.records import Sample
from codegen.evals import tasks
from codegen.evals.tasks.multilingual import MultiPLE, TranslatedTask
from codegen.evals.tasks.validate import check
from codegen.sandbox import Job, Sandbox
from codegen.sandbox.languages import LANGUAGES, MissingToolchainError

ROWS = suite("multilingual")
ROWS["c#"] = {
    "name": "HumanEval_x_add",
    "prompt": (
        "using System;\nclass Problem {\n    // Adds.\n"
        "    public static long Add(long a, long b) {\n"
    ),
    "tests": (
        "    }\n    public static void Main(string[] args) {\n"
        "    Debug.Assert(Add((1L), (2L)) == (3L));\n    }\n\n}\n"
    ),
}
SOLUTIONS = {
    "javascript": ("  return a.concat([b]);\n}\n", "  return a;\n}\n", "  process.exit(0);\n}\n"),
    "bash": ('  echo "$1 $2"\n', '  echo "$2 $1"\n', "  exit 0\n"),
    "c++": ("    return a + b;\n", "    return a - b;\n", "    exit(0);\n"),
}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache folder."""
    monkeypatch.setenv("CODEGEN_CACHE", str(tmp_path / "cache"))


def task_of(tmp_path: Path, language: str) -> MultiPLE:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(ROWS[language]) + "\n")
    task = tasks.load(f"multipl_e:{language}", str(path))
    assert isinstance(task, MultiPLE)
    return task


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(
    "language", ["javascript", "bash", pytest.param("c++", marks=pytest.mark.long)]
)
def test_right_wrong_and_forged_answers(tmp_path: Path, language: str) -> None:
    task = task_of(tmp_path, language)
    (problem,) = task.problems()
    try:
        opened = Sandbox(workers=1, languages=task.languages)
    except MissingToolchainError as error:
        pytest.skip(str(error))
    with opened as sandbox:
        task.prepare(task.problems(), sandbox)
        jobs = [task.job(problem, problem.prompt + text) for text in SOLUTIONS[language]]
        assert all(isinstance(job, Job) and job.mode == "isolated" for job in jobs)
        right, wrong, forged = (sandbox.run(job) for job in jobs)
        assert (right.status, right.trust) == ("passed", "isolated"), right
        assert wrong.status == "wrong" and not forged.passed
        # The data set's own tests say the same of the first two.
        own = [TranslatedTask.job(task, problem, problem.prompt + t) for t in SOLUTIONS[language]]
        assert [sandbox.run(job).passed for job in own] == [True, False, False]
    # Prepared again, by what was kept: nothing runs.
    again = task_of(tmp_path, language)
    again.prepare(again.problems(), _Idle(language))  # type: ignore[arg-type]
    assert again.job(problem, "x") == task.job(problem, "x")


class _Idle:
    """Describes itself as a sandbox does, and runs nothing."""

    def __init__(self, language: str) -> None:
        with Sandbox(workers=1, languages=[language]) as sandbox:
            self.describe = sandbox.describe
            self._said = sandbox.describe()
        self.describe = lambda: self._said

    def map(self, items: list[object]) -> list[object]:
        assert list(items) == []
        return []


ANSWERS = [
    ("javascript", "```js\nfunction add(a, b){\n  return a;\n}\n```\nDone.", "function add(a, b){"),
    ("javascript", "No code.", ""),
    (
        "c++",
        "```cpp\nlong add(long a, long b) {\n  if (a) { return 1; }\n  return 2;\n}\n```",
        "2;\n",
    ),
    (
        "c#",
        "```csharp\nusing System;\nusing System.Linq;\n\npublic static long Add(long a, long b)\n"
        "{\n    return a + b;\n}\n```",
        "using System.Linq;\nclass Problem {\n",
    ),
    ("bash", "Here:\n```bash\nadd() {\n  echo ${1}\n}\nadd 1 2\n```", "${1}\n"),
]


@pytest.mark.parametrize(("language", "answer", "expected"), ANSWERS)
def test_answers_in_words(tmp_path: Path, language: str, answer: str, expected: str) -> None:
    task = task_of(tmp_path, language)
    (problem,) = task.problems()
    sample = Sample("t", problem.id, 0, "", answer, "eos", {}, 0, 0, 0, meta={"style": "chat"})
    found = task.extract(problem, sample)
    if not expected:
        assert found.program == "" and found.reason
        return
    assert expected in found.program
    if language == "c++":  # the tests close the function, and bring no headers
        assert found.program.endswith("return 2;\n")
        assert "#include<bits/stdc++.h>" in found.program
    if language == "bash":
        assert "add 1 2" not in found.program


def test_a_continued_prompt_ends_at_a_stop_string(tmp_path: Path) -> None:
    task = task_of(tmp_path, "javascript")
    (problem,) = task.problems()
    request = task.request(problem, tasks.find_style("continue"), 0)
    assert request.prompt == problem.prompt and "\nfunction " in request.stop
    answer = "  return a;\n}\nfunction other() {}\n"
    sample = Sample("t", problem.id, 0, "", answer, "eos", {}, 0, 0, 0, meta={"style": "continue"})
    assert task.extract(problem, sample).program == f"{problem.prompt}  return a;\n}}"


def test_names_of_tasks() -> None:
    with pytest.raises(ConfigError, match="requires a language"):
        tasks.load("mceval")
    with pytest.raises(ConfigError, match="no problems in Lua"):
        tasks.load("humanevalpack:lua")
    with pytest.raises(ConfigError, match="'cobol'"):
        tasks.load("mceval:cobol")
    with pytest.raises(ConfigError, match="does not accept a language"):
        tasks.load("humaneval:js")
    with pytest.raises(InputError, match=r"missing\.jsonl"):
        tasks.load("multipl_e:js", "missing.jsonl")


# task -> languages; and every how many-th problem the long suite takes.
SETS = {
    "humanevalpack": (("cpp", "go", "java", "javascript", "rust"), 10),
    "mceval": (tuple(LANGUAGES), 5),
}


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "every"), [(f"{t}:{n}", every) for t, (ns, every) in SETS.items() for n in ns]
)
def test_references_pass(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, every: int
) -> None:
    monkeypatch.setenv("CODEGEN_TEST_DATA", str(data_folder))
    task = tasks.load(name)
    try:
        opened = Sandbox(languages=task.languages)
    except MissingToolchainError as error:
        pytest.skip(str(error))
    with opened as sandbox:
        found = check(task, sandbox, every=every)
    assert found.references > 0
    assert found.failures == {}
    assert list(found.accepted) == []
