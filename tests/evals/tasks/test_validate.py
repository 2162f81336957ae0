"""Every task's references pass and its known bugs don't: a sample by default, all with ``long``."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from codegen.evals import tasks
from codegen.evals.tasks import load as load_task
from codegen.evals.tasks.validate import TaskCheck, check
from codegen.sandbox import Job, Sandbox

# task -> (problems, known bugs), and every how many-th the default run takes.
TASKS: dict[str, tuple[int, int, int]] = {
    "humaneval": (164, 0, 8),
    "humaneval-short": (40, 0, 8),
    "humaneval-plus": (164, 0, 40),
    "mbpp": (974, 0, 40),
    "mbpp-test": (500, 0, 40),
    "mbpp-sanitized": (427, 0, 20),
    "mbpp-plus": (378, 0, 50),
    "humaneval-single-line": (1033, 0, 60),
    "humaneval-multi-line": (5815, 0, 300),
    "humaneval-random-span": (1640, 0, 80),
    "humaneval-random-span-light": (164, 0, 20),
    "humanevalfix": (164, 164, 25),
    "humanevalfix-docs": (164, 164, 60),
    "cruxeval-o": (800, 1600, 60),
    "cruxeval-i": (800, 0, 40),
    "bigcodebench-hard": (148, 0, 12),
    "editeval": (194, 0, 20),
    "editeval-diff": (194, 0, 60),
    "canitedit": (20, 0, 13),
    "canitedit-diff": (20, 0, 13),
    "canitedit-lazy": (20, 0, 13),
    "aider-polyglot": (34, 34, 12),
    "aider-polyglot-diff": (34, 34, 20),
    "coderepeteval": (512, 0, 100),
    "humaneval-edits": (164, 0, 60),
    "next-edit": (1123, 1123, 60),
    "next-edit-refactorings": (800, 800, 60),
    "next-edit-scenarios": (45, 45, 5),
    "spider": (824, 824, 120),
    "everyday": (40, 40, 8),
}

# Other prompts or parts of tasks that the default run takes.
VARIANTS = {
    *("humaneval-short", "mbpp-test", "mbpp-sanitized", "humaneval-multi-line"),
    *("humaneval-random-span-light", "humanevalfix-docs", "cruxeval-i", "editeval-diff"),
    *("canitedit-diff", "canitedit-lazy", "aider-polyglot-diff", "humaneval-edits"),
    "next-edit-refactorings",
}
EDITED = ("editeval", "canitedit")  # some tests don't tell the program before the edit from after


@pytest.fixture
def loaded(
    request: pytest.FixtureRequest, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tasks.Task[Any]:
    monkeypatch.setenv("CODEGEN_TEST_DATA", str(data_folder))
    return load_task(request.param)


def test_the_table_has_every_task() -> None:
    # Those in several languages are in test_multilingual.py.
    one = {name for name, about in tasks.names() if not about.startswith(f"{name}:")}
    # Of bigcodebench there is no data in the folder; livecodebench has no references,
    # nor have we the databases of bird.
    assert {*TASKS, "kolmogorov", "bigcodebench", "livecodebench", "bird"} == one


@pytest.mark.slow
@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(
    "loaded",
    [pytest.param(name, marks=pytest.mark.long if name in VARIANTS else ()) for name in TASKS],
    indirect=True,
)
def test_a_sample_of_the_gate(loaded: tasks.Task[Any], sandbox: Sandbox) -> None:
    total, bugs, every = TASKS[loaded.name]
    assert len(loaded.problems()) == total
    found = check(loaded, sandbox, every=every)
    problems = len(range(0, total, every))
    assert found.failures == {}
    assert list(found.accepted) == []
    assert found.passed == found.references - len(found.exceptions) + len(found.exceptions_passed)
    assert found.references == (0 if loaded.name == "coderepeteval" else problems)
    assert found.rejected == found.buggy
    if not loaded.name.startswith(EDITED):
        assert found.buggy == bugs // total * problems
    if loaded.name.startswith(("humaneval", "mbpp", "cruxeval")):
        jobs: list[Any] = [loaded.job(p, loaded.reference(p)) for p in loaded.problems()[::every]]
        assert sum(job.trust == "isolated" for job in jobs) >= len(jobs) - 1


@pytest.mark.long
@pytest.mark.parametrize("loaded", TASKS, indirect=True)
def test_the_whole_gate(loaded: tasks.Task[Any], sandbox: Sandbox) -> None:
    total, bugs, _ = TASKS[loaded.name]
    found = check(loaded, sandbox)
    assert found.failures == {}
    assert list(found.accepted) == []
    assert found.references == (0 if loaded.name == "coderepeteval" else total)
    assert found.passed == found.references - len(found.exceptions) + len(found.exceptions_passed)
    if loaded.name.startswith(EDITED):
        # Their exceptions are named by hand, or need a package that is not mounted here.
        assert found.rejected == found.buggy >= found.passed - 4
        return
    assert found.rejected == bugs
    if loaded.name not in ("bigcodebench-hard", "aider-polyglot", "aider-polyglot-diff"):
        assert found.exceptions == {}


def test_exceptions_say_what_is_missing(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox
) -> None:
    monkeypatch.setenv("CODEGEN_TEST_DATA", str(data_folder))
    task = tasks.load("bigcodebench-hard")
    task.prepare(task.problems(), sandbox)
    for id_, reason in task.reference_exceptions.items():
        assert reason.startswith("needs "), id_
    # 32 problems use nothing but the standard library and no network; two need cgi, gone in 3.13.
    gone = 0 if find_spec("cgi") else 2
    assert len(task.problems()) - len(task.reference_exceptions) == 32 - gone


class Toy(tasks.Task[tasks.Problem]):
    """Two problems; the first reference fails, the second known bug passes."""

    name, description = "toy", ""

    def problems(self) -> list[tasks.Problem]:
        return [tasks.Problem("a", ""), tasks.Problem("b", "")]

    def request(self, problem: Any, style: Any, index: int) -> Any:
        raise NotImplementedError

    def extract(self, problem: Any, sample: Any) -> Any:
        raise NotImplementedError

    def job(self, problem: tasks.Problem, program: str) -> Job:
        return Job(program, test="assert x == 1")

    def reference(self, problem: tasks.Problem) -> str:
        return "x = 2" if problem.id == "a" else "x = 1"

    def buggy(self, problem: tasks.Problem) -> list[str]:
        return ["x = 3"] if problem.id == "a" else ["x = 0", "x = True"]


def test_a_gate_that_does_not_hold(sandbox: Sandbox) -> None:
    found = check(Toy(), sandbox)
    assert not found.holds
    assert (found.references, found.passed, found.buggy, found.rejected) == (2, 1, 3, 2)
    assert list(found.failures) == ["a"]
    assert found.failures["a"].startswith("wrong: AssertionError")
    assert found.accepted == ["b"]
    assert check(Toy(), sandbox, every=2).accepted == []


def test_an_exception_is_run_and_does_not_break_the_gate(sandbox: Sandbox) -> None:
    task = Toy()
    task.reference_exceptions = {"a": "is wrong", "b": "is said to be wrong", "c": "not asked"}
    found: TaskCheck = check(task, sandbox)
    assert found.failures == {}
    assert found.exceptions == {"a": "is wrong", "b": "is said to be wrong"}
    assert found.exceptions_passed == ["b"]
