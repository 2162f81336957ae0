"""Exercises in other languages than Python: right, wrong, and cheating answers."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from suites import suite

from codegen.errors import ConfigError, InputError
from codegen.evals import tasks
from codegen.evals.sandbox import Sandbox
from codegen.evals.sandbox.languages import MissingToolchainError, find, find_toolchain
from codegen.evals.tasks.check import check
from codegen.records import Sample
from tests.selection import some

# language -> the exercise's files, the right answer's, and programs that cheat
GO = suite("polyglot_exercises")["go"]
RUST = suite("polyglot_exercises")["rust"]
_H = "#pragma once\n#include <string>\nnamespace two_fold {\n%s}\n"
CPP = suite("polyglot_exercises")["cpp"]
_JS = "export const twice = (x) => %s;\n"
JAVASCRIPT = suite("polyglot_exercises")["javascript"]
JAVA = suite("polyglot_languages")
LANGUAGES: dict[str, dict[str, Any]] = {
    "go": GO,
    "java": JAVA,
    "rust": RUST,
    "cpp": CPP,
    "javascript": JAVASCRIPT,
}


def row(language: str) -> dict[str, Any]:
    made = LANGUAGES[language]
    docs = {".docs/instructions.md": "# Instructions\n\nDouble it.\n"}
    shared = {"test/shared": {"shared": "0123"}}
    return {
        "id": f"{language}/two-fold",
        "solution": list(made["stub"]),
        "test": [
            path
            for path in made["tests"]
            if "cases" not in path and "more" not in path and "Large" not in path
        ],
        "example": list(made["example"]),
        "files": {**made["stub"], **made["tests"], **made["example"], **docs, **shared},
    }


@pytest.fixture(params=some(LANGUAGES, 2))
def opened(
    request: pytest.FixtureRequest, write_rows: Callable[[list[Any]], Path]
) -> Iterator[tuple[tasks.Task[Any], Sandbox]]:
    task = tasks.load(f"aider-polyglot:{request.param}", str(write_rows([row(request.param)])))
    try:
        sandbox = Sandbox(workers=2, languages=task.languages)
    except MissingToolchainError as error:
        pytest.skip(str(error))
    with sandbox:
        yield task, sandbox


def test_right_wrong_and_cheating_programs(opened: tuple[tasks.Task[Any], Sandbox]) -> None:
    task, sandbox = opened
    (problem,) = task.problems()
    made = LANGUAGES[task.languages[0]]
    programs = [("right", task.reference(problem)), ("stub", problem.prompt)]
    for kind in ("wrong", "cheats"):
        for number, text in enumerate(made[kind]):
            files = {**made["stub"], next(iter(made["stub"])): text}
            named = "".join(f"{name}\n```\n{body}```\n\n" for name, body in files.items())
            sample = Sample(
                "", problem.id, 0, "", named, "eos", {}, 0, 0, 0, meta={"style": "chat"}
            )
            programs.append((f"{kind} {number}", task.program(problem, sample)))
    keyed = [(key, problem, program) for key, program in programs]
    found = dict(task.judge(keyed, sandbox))
    assert {key for key, outcome in found.items() if outcome.status == "passed"} == {"right"}
    assert {outcome.trust for outcome in found.values()} == {"in_sandbox"}
    assert not [key for key, outcome in found.items() if outcome.status == "infra_error"]
    said = found["wrong 0"].message
    assert any(text in said for text in ("FAIL", "panicked")), said


def test_what_is_asked(opened: tuple[tasks.Task[Any], Sandbox]) -> None:
    task, _ = opened
    (problem,) = task.problems()
    asked = task.request(problem, tasks.find_style("chat"), 0).prompt
    for name, text in LANGUAGES[task.languages[0]]["stub"].items():
        assert f"{name}\n```{task.languages[0]}\n{text}```" in asked
    assert "Double it." in asked
    assert (
        "TestTwice" not in asked
        and "TEST_CASE" not in asked
        and "#[test]" not in asked
        and "describe" not in asked
        and "@Test" not in asked
    )


def test_names_of_languages(write_rows: Callable[[list[Any]], Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no exercises in Lua"):
        tasks.load("aider-polyglot:lua", "x.jsonl")
    with pytest.raises(InputError, match="go/exercises"):
        tasks.load("aider-polyglot:go", str(tmp_path))
    task = tasks.load("aider-polyglot-diff:rs", str(write_rows([row("rust")])))
    (problem,) = task.problems()
    edit = "<<<<<<< SEARCH\n    todo!()\n=======\n    2 * _x\n>>>>>>> REPLACE\n"
    sample = Sample("", problem.id, 0, "", edit, "eos", {}, 0, 0, 0, meta={"style": "chat"})
    assert "    2 * _x\n" in task.program(problem, sample)


def test_a_copy_of_the_repository(tmp_path: Path) -> None:
    made = row("go")
    folder = tmp_path / "go/exercises/practice/two-fold"
    for path, text in made["files"].items():
        if isinstance(text, str):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
    names = {key: made[key] for key in ("solution", "test", "example")}
    (folder / ".meta/config.json").write_text(json.dumps({"files": names}))
    (problem,) = tasks.load("aider-polyglot:go", str(tmp_path)).problems()
    assert {*problem.others} == {*GO["tests"]}
    assert problem.example == GO["example"][".meta/example.go"]


@pytest.mark.slow
def test_assertions_in_java_hold_as_in_assertj(tmp_path: Path) -> None:
    """Its own package is the oracle, if it is installed (libassertj-core-java)."""
    share = Path("/usr/share/java")
    if not (share / "assertj-core.jar").exists():
        pytest.skip("libassertj-core-java is not installed")
    try:
        toolchain = find_toolchain(find("java"))
    except MissingToolchainError as error:
        pytest.skip(str(error))
    toolchain.prepared_binds()
    cases = Path(__file__).with_name("Assertions.java")
    said = []
    for path in (
        f"{toolchain.cache_here}/junit",
        f"{share}/assertj-core.jar:{share}/byte-buddy.jar",
    ):
        made = tmp_path / str(len(said))
        compiler = [toolchain.here["javac"], "-nowarn", "-cp", path, "-d", str(made), str(cases)]
        subprocess.run(compiler, check=True, capture_output=True)
        command = [toolchain.here["java"], "-cp", f"{path}:{made}", "Cases"]
        said.append(subprocess.check_output(command, text=True).splitlines())
    assert said[0] == said[1]
    assert len(said[0]) > 100 and len({line.split()[1] for line in said[0]}) == 2


# language -> exercises, and references that can't pass here
COUNTS = {"cpp": (26, 2), "go": (39, 2), "java": (47, 2), "javascript": (49, 1), "rust": (30, 8)}


@pytest.mark.long
@pytest.mark.parametrize("language", COUNTS)
def test_references(data_folder: Path, monkeypatch: pytest.MonkeyPatch, language: str) -> None:
    monkeypatch.setenv("CODEGEN_TEST_DATA", str(data_folder))
    task = tasks.load(f"aider-polyglot:{language}")
    total, most = COUNTS[language]
    try:
        opened = Sandbox(languages=task.languages)
    except MissingToolchainError as error:
        pytest.skip(str(error))
    with opened as sandbox:
        found = check(task, sandbox)
    assert found.references == total
    assert len(found.exceptions) <= most
    assert found.failures == {}
    assert list(found.accepted) == []
