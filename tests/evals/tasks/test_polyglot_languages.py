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

# language -> the exercise's files, the right answer's, and programs that cheat
GO = {
    "stub": {"twice.go": 'package twice\n\nfunc Twice(x int) int {\n\tpanic("no")\n}\n'},
    "tests": {
        "cases_test.go": "package twice\n\nvar cases = []int{1, 2}\n",
        "twice_test.go": (
            'package twice\n\nimport (\n\t"strings"\n\t"testing"\n)\n\n'
            "func TestTwice(t *testing.T) {\n\tfor _, x := range cases {\n"
            '\t\tif Twice(x) != x+x {\n\t\t\tt.Errorf(strings.ToUpper("wrong %d"), x)\n\t\t}\n'
            "\t}\n}\n\nfunc TestLater(t *testing.T) {\n\tt.Parallel()\n"
            "\tif Twice(8) != 16 {\n\t\tt.Fatal()\n\t}\n}\n"
        ),
        "more_test.go": "//go:build bonus\n\npackage twice\n\nfunc TestNone() { none }\n",
    },
    "example": {
        ".meta/example.go": (
            'package twice\n\nimport "strings"\n\nfunc Twice(x int) int {\n'
            '\treturn len(strings.Repeat("ab", x))\n}\n'
        )
    },
    "wrong": ["package twice\n\nfunc Twice(x int) int { return x % 8 * 2 }\n"],
    "cheats": [
        'package twice\n\nimport "os"\n\nfunc Twice(x int) int { os.Exit(0); return 0 }\n',
        'package twice\n\nimport (\n\t"fmt"\n\t"os"\n)\n\n'
        'func init() { fmt.Println("PASS\\nok  twice 0.1s"); os.Exit(0) }\n\n'
        "func Twice(x int) int { return 0 }\n",
        'package twice\n\nimport "runtime"\n\n'
        "func Twice(x int) int { runtime.Goexit(); return 0 }\n",
    ],
}
RUST = {
    "stub": {"src/lib.rs": "pub fn twice(_x: i32) -> i32 {\n    todo!()\n}\n"},
    "tests": {
        "tests/two-fold.rs": (
            "use two_fold::*;\n\n#[test]\nfn small() {\n    assert_eq!(twice(2), 4);\n}\n\n"
            "mod large {\n    use super::*;\n\n    #[test]\n    #[ignore]\n    /// Large.\n"
            "    fn large() {\n        assert_eq!(two_fold::twice(8), 16);\n    }\n}\n\n"
            '#[cfg(feature = "more")]\nmod more {\n    #[test]\n    fn none() { none }\n}\n'
        )
    },
    "example": {
        ".meta/example.rs": (
            "mod inner {\n    pub fn two() -> i32 { 2 }\n}\n\n"
            "pub fn twice(x: i32) -> i32 { crate::inner::two() * x }\n\n"
            "#[cfg(test)]\nmod tests {\n    #[test]\n    fn own() { assert!(false) }\n}\n"
        )
    },
    "wrong": [
        "pub fn twice(x: i32) -> i32 { x % 8 * 2 }\n",
        "fn twice(x: i32) -> i32 { 2 * x }\n",  # private
    ],
    "cheats": [
        "pub fn twice(_x: i32) -> i32 { std::process::exit(0) }\n",
        'pub fn twice(_x: i32) -> i32 {\n    println!("test result: ok. 2 passed");\n'
        "    std::process::exit(0)\n}\n",
        "fn main() {}\npub fn twice(x: i32) -> i32 { x }\n",
    ],
}
_H = "#pragma once\n#include <string>\nnamespace two_fold {\n%s}\n"
CPP = {
    "stub": {"two_fold.h": _H % "", "two_fold.cpp": '#include "two_fold.h"\n'},
    "tests": {
        "two_fold_test.cpp": (
            '#include "two_fold.h"\n#ifdef EXERCISM_TEST_SUITE\n#include <catch2/catch.hpp>\n'
            '#else\n#include "test/catch.hpp"\n#endif\n#include <stdexcept>\n\n'
            'TEST_CASE("one", "[id]") {\n    REQUIRE(two_fold::twice(2) == 4);\n}\n'
            '#if defined(EXERCISM_RUN_ALL_TESTS)\nTEST_CASE("two") {\n'
            "    CHECK(8 * 2 == two_fold::twice(8));\n"
            "    REQUIRE_THROWS_AS(two_fold::twice(-1), std::domain_error);\n}\n#endif\n"
        )
    },
    "example": {
        ".meta/example.cpp": (
            '#include "two_fold.h"\n#include <stdexcept>\nnamespace two_fold {\n'
            'int twice(int x) {\n    if (x < 0) throw std::domain_error("x");\n'
            "    return 2 * x;\n}\n}\n"
        ),
        ".meta/example.h": _H % "int twice(int x);\n",
    },
    "wrong": [
        _H % "inline int twice(int x) { return 2 * x; }\n",
        "#include <stdexcept>\n"
        + _H % 'inline int twice(int x) { throw std::domain_error(""); }\n',
    ],
    "cheats": [
        "#include <cstdlib>\n" + _H % "inline int twice(int x) { std::exit(0); }\n",
        "#include <cstdio>\n#include <cstdlib>\n"
        + _H % 'inline int twice(int) { std::puts("All tests passed"); std::_Exit(0); }\n',
        "int main() { return 0; }\n" + _H % "inline int twice(int x) { return x; }\n",
    ],
}
_JS = "export const twice = (x) => %s;\n"
JAVASCRIPT = {
    "stub": {"two-fold.js": "export const twice = (x) => {\n  throw new Error('no');\n};\n"},
    "tests": {
        "two-fold.spec.js": (
            "import { twice, later } from './two-fold';\n\nconst cases = [1, 2];\n\n"
            "describe('Twice', () => {\n  test('small', () => {\n"
            "    cases.forEach((x) => expect(twice(x)).toEqual(x + x));\n  });\n\n"
            "  xtest('later', async () => {\n    await expect(later(8)).resolves.toBe(16);\n"
            "    await expect(later('a')).rejects.toThrow(new Error('NaN'));\n"
            "    expect(() => twice()).not.toThrow();\n  });\n});\n"
        )
    },
    "example": {
        ".meta/proof.ci.js": (
            "import { inspect } from 'node:util';\n\nconst cases = inspect(2);\n"
            "export const twice = (x) => Number(cases) * x;\n"
            "export async function later(x) {\n  await null;\n"
            "  if (typeof x !== 'number') throw new Error('NaN');\n  return twice(x);\n}\n"
        )
    },
    "wrong": [
        _JS % "2 * x" + "export const later = async (x) => 2 * x;\n",
        _JS % "2 * x",
    ],
    "cheats": [
        _JS % "process.exit(0)",
        _JS % "x" + "console.log('Tests: 2 passed, 2 total');\nprocess.exit(0);\n",
        _JS % "x" + "process.on('exit', () => { process.exitCode = 0; });\n",
        _JS % "codegen_done()",
    ],
}
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


@pytest.fixture(params=LANGUAGES)
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
