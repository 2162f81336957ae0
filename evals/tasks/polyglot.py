"""The Python part of Aider's polyglot benchmark (Gauthier 2024): 34 Exercism exercises.

A problem shows the exercise's instructions and the file to complete; the answer is the whole file
(``aider-polyglot``, aider's format ``whole``) or search-and-replace blocks
(``aider-polyglot-diff``, its format ``diff``). A problem has two attempts: ``codegen eval run TASK
-o retry=RUN`` shows the model each failed sample's file and test output, as aider does.
Aider's pass_rate_1 is pass@1 of the first run and pass_rate_2 is pass@1 of the second, which keeps
passed samples. ``well_formed`` is the fraction of answers with a file, or with matching blocks.

The data is a copy of the repository Aider-AI/polyglot-benchmark (``--source DIR``), or a file with
one exercise per row: ``id``, ``files`` (path -> text), and lists of paths in ``solution``, ``test``
and ``example``.

Differences from aider: one conversation turn instead of two, no repository map, and no other
requests after a malformed answer. Tests that need more than plain values and functions run in the
program's process (``in_sandbox``) and could be forged, as in aider, since blinded tests report only
the first failure. The second prompt reports the tests like pytest: the failing tests' source and
the difference, at most 50 lines.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from codegen.core.errors import InputError
from codegen.core.records import Sample, Verdict
from codegen.evals.tasks.base import CodeTask
from codegen.evals.tasks.dataset_rows import (
    DataLocation,
    DatasetRows,
    Problem,
    make_problems,
    read_json,
    read_rows_of,
    read_text,
    text_field,
    texts_field,
)
from codegen.evals.tasks.extraction import BLOCKS, Extraction, apply_blocks
from codegen.evals.tasks.styles import style_of
from codegen.sandbox import Job, Limits, Mode

# The wording is aider's (benchmark/prompts.py).
_ADDENDUM = """\
####

Use the above instructions to modify the supplied files: {name}
Don't change the names of existing functions or classes, as they may be referenced from other code \
like unit tests, etc.
Only use standard libraries, don't suggest installing any packages.
"""
_FAILED = """\
####

See the testing errors above.
The tests are correct, don't try and change them.
Fix the code in {name} to resolve the errors.
"""
_WHOLE = "Answer with the whole file {name}, in one code block."
_LINES = 50  # maximum lines of test output shown
_MOST_BYTES = 16 << 20  # maximum size of an exercise's file
_DOCS = (".docs/introduction.md", ".docs/instructions.md", ".docs/instructions.append.md")
# Exercises whose tests catch the program's own exceptions, patch its callees, or pass it objects.
_BESIDE = frozenset({"python/grep", "python/list-ops", "python/paasio"})
_BROKEN = {"python/paasio": "its tests look for the file name paasio.py in the call stack"}
_AS_MODULE = "import sys\n\nsys.modules[{module!r}] = sys.modules['candidate']\n\n"


@dataclass(frozen=True, slots=True)
class Exercise(Problem):
    """One exercise; ``prompt`` is the file to complete.

    Attributes:
        instructions: the exercise in words.
        test: the tests, without imports of the program.
        example: the solution.
    """

    name: str
    instructions: str
    test: str
    example: str


class Polyglot(CodeTask[Exercise]):
    """The Python exercises of Aider's polyglot benchmark."""

    home = DataLocation("languages/aider_polyglot/python.jsonl.gz")
    asks = ("instruction",)
    whole_programs = True
    style = "chat"
    reference_exceptions = _BROKEN

    @classmethod
    def load(cls, name: str, description: str, source: str | None = None) -> Self:
        """Loads the exercises."""
        if source and Path(source).is_dir():
            rows = DatasetRows(_exercises(Path(source)), Path(source).name)
        else:
            rows = read_rows_of(source, cls.home)
        return cls(name, description, make_problems(rows, cls.problem_of), rows.source)

    @classmethod
    def problem_of(cls, place: str, row: Mapping[str, Any]) -> Exercise:
        """Parses a row into an exercise."""
        files = row.get("files")
        if not isinstance(files, Mapping) or not all(isinstance(t, str) for t in files.values()):
            raise InputError(f"{place}: the field 'files' must be an object of strings by path.")

        def texts(column: str) -> list[tuple[str, str]]:
            names = texts_field(place, row, column)
            if not names or not {*names} <= {*files}:
                raise InputError(f"{place}: {column!r} must be a list of paths in 'files'.")
            return [(name, files[name]) for name in names]

        if len(texts("solution")) != 1:
            raise InputError(f"{place}: the exercise has several files to complete.")
        ((name, stub),) = texts("solution")
        tests = [(path.removesuffix(".py"), text) for path, text in texts("test")]
        try:
            test = test_of(tests, name.removesuffix(".py"))
        except SyntaxError as error:
            raise InputError(f"{place}: the tests are not Python ({error}).") from None
        return Exercise(
            text_field(place, row, "id"),
            stub,
            name,
            "\n\n".join(files[path].strip() for path in _DOCS if path in files),
            test,
            texts("example")[0][1],
        )

    def instruction(self, problem: Exercise) -> str:
        """Returns the instructions, the file, and the answer format."""
        addendum = _ADDENDUM.format(name=problem.name)
        return f"{problem.instructions}\n\n{addendum}\n{self._shown(problem, problem.prompt)}"

    def _shown(self, problem: Exercise, code: str) -> str:
        answer_format = BLOCKS if self.by_blocks else _WHOLE.format(name=problem.name)
        return f"{problem.name}\n```python\n{code.strip(chr(10))}\n```\n\n{answer_format}"

    def again(self, problem: Exercise, sample: Sample, verdict: Verdict) -> str:
        """Returns the instructions, the file after the first attempt, and its tests' output."""
        output = "\n".join(verdict.message.splitlines()[:_LINES])
        code = self.extract(problem, sample).program or self._before(problem, sample)
        failed = _FAILED.format(name=problem.name)
        addendum = _ADDENDUM.format(name=problem.name)
        shown = self._shown(problem, code)
        return f"{problem.instructions}\n\n{addendum}\n{output}\n\n{failed}\n{shown}"

    def extract(self, problem: Exercise, sample: Sample) -> Extraction:
        """Extracts the file after the answer's edits."""
        if not self.by_blocks or style_of(sample).read == "whole":
            return super().extract(problem, sample)
        return apply_blocks(self._before(problem, sample), sample.completion)

    def _before(self, problem: Exercise, sample: Sample) -> str:
        before = sample.meta.get("before")
        return before if isinstance(before, str) and before else problem.prompt

    def job(self, problem: Exercise, program: str) -> Job:
        """Returns a job with the exercise's tests."""
        limits = Limits(cpu_s=30.0)
        if problem.id not in _BESIDE:
            job = Job(program, test=problem.test.partition(_RUN)[0])
            plain = job.mechanism == "isolated"
            # Not blinded, since the second attempt shows the message of each failed test.
            mode: Mode = "isolated" if plain else "in_sandbox"
            return Job(program, test=problem.test, mode=mode, limits=limits, plain=plain)
        module = _AS_MODULE.format(module=problem.name.removesuffix(".py"))
        return Job(program, test=module + problem.test, mode="in_sandbox", limits=limits)

    def reference(self, problem: Exercise) -> str:
        """Returns the exercise's example."""
        return problem.example

    def buggy(self, problem: Exercise) -> Sequence[str]:
        """Returns the unchanged file."""
        return (problem.prompt,)

    def measure(self, problem: Exercise, sample: Sample) -> Mapping[str, float]:
        """Returns the measures that the module docstring lists."""
        return {"well_formed": float(bool(self.extract(problem, sample).program))}


def test_of(tests: Sequence[tuple[str, str]], module: str) -> str:
    """Joins test modules into one; names of the program and of the modules become globals.

    Args:
        tests: name and source of each module; the first one has the test cases.
    """
    names = {module, *(name for name, _ in tests)}
    texts = []
    for _, text in reversed(tests):
        tree = _Imports(names).visit(ast.parse(text))
        texts.append(ast.unparse(ast.fix_missing_locations(tree)))
    cases = {
        f"{kind.name}.{method.name}": ast.unparse(method)
        for kind in ast.parse(tests[0][1]).body
        if isinstance(kind, ast.ClassDef)
        for method in kind.body
        if isinstance(method, ast.FunctionDef) and method.name.startswith("test")
    }
    return "\n\n".join([*texts, f"CASES = {cases!r}", _RUN])


class _Imports(ast.NodeTransformer):
    """Removes imports of modules whose names are global here."""

    def __init__(self, modules: set[str]) -> None:
        self._modules = modules
        self._imported: set[str] = set()

    def visit_ImportFrom(self, node: ast.ImportFrom) -> Any:
        """Replaces ``from m import a as b`` with ``b = a``."""
        if node.module not in self._modules:
            return node
        return [
            ast.parse(f"{alias.asname} = {alias.name}").body[0]
            for alias in node.names
            if alias.asname and alias.asname != alias.name
        ] or ast.Pass()

    def visit_Import(self, node: ast.Import) -> Any:
        """Removes ``import m``."""
        self._imported |= self._modules & {alias.name for alias in node.names}
        node.names = [alias for alias in node.names if alias.name not in self._modules]
        return node if node.names else ast.Pass()

    def visit_Attribute(self, node: ast.Attribute) -> Any:
        """Replaces ``m.a`` with ``a``."""
        self.generic_visit(node)
        if isinstance(node.value, ast.Name) and node.value.id in self._imported:
            return ast.copy_location(ast.Name(node.attr, node.ctx), node)
        return node


# Reports each failed test like pytest: its source, and the difference.
_RUN = """
def run_all():
    import traceback
    import unittest

    said = []

    class Result(unittest.TestResult):
        def addFailure(self, test, err):
            self.tell(test, err[1])

        addError = addFailure

        def addSubTest(self, test, subtest, err):
            if err is not None:
                self.tell(test, err[1])

        def tell(self, test, error):
            name = ".".join(test.id().split(".")[-2:])
            text = "".join(traceback.format_exception_only(error)).strip()
            said.append(f"FAILED {name}\\n{CASES.get(name, '')}\\nE   {text}\\n")

    count = 0
    for name, value in list(globals().items()):
        if isinstance(value, type) and issubclass(value, unittest.TestCase):
            suite = unittest.defaultTestLoader.loadTestsFromTestCase(value)
            count += suite.countTestCases()
            suite.run(Result())
            del globals()[name]  # so that it is not run again
    assert count, "there are no tests"
    if said:
        raise AssertionError(f"{len(said)} of {count} tests failed\\n\\n" + "\\n".join(said))


run_all()
"""


def _exercises(folder: Path) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Yields the exercises in a repository copy, as rows."""
    pattern = "python/exercises/practice/*/.meta/config.json"
    configs = sorted(folder.glob(pattern))
    if not configs:
        raise InputError(
            f"{folder} contains no {pattern}.",
            "Pass the directory of a copy of Aider-AI/polyglot-benchmark.",
        )
    for config in configs:
        place, exercise = str(config), config.parent.parent
        try:
            named = read_json(config)["files"]
            paths = {column: list(named[column]) for column in ("solution", "test", "example")}
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{place}: not an exercise's configuration.") from None
        wanted = [*_DOCS, *(str(path) for paths_ in paths.values() for path in paths_)]
        files = {}
        for path in wanted:
            file = (exercise / path).resolve()
            if file.is_relative_to(exercise.resolve()) and file.is_file():
                if file.stat().st_size > _MOST_BYTES:
                    raise InputError(f"{file} is larger than {_MOST_BYTES >> 20} MiB.")
                files[path] = read_text(file)
        yield place, {"id": f"python/{exercise.name}", "files": files, **paths}
