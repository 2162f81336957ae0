"""BigCodeBench-Hard (Zhuo et al. 2024, arXiv 2406.15877): 148 functions that use many libraries.

The data is a file of the authors' columns (``bigcodebench_hard.json``), or
``hub:bigcode/bigcodebench-hard:default:v0.1.4``. The style ``continue`` shows the code with its
docstring ("complete"), ``chat`` the instruction ("instruct").

The tests are ``unittest`` classes that need the program's own objects, so they run beside it and
their verdict could be forged (``trust`` is ``in_sandbox``). The sandbox offers no network and none
of the installed packages: problems that need them are listed as exceptions, with what they need,
and no model can pass them here. An answer without the header gets it put in front, as the authors'
"calibrated" scores do.
"""

from __future__ import annotations

import ast
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from codegen.evals.sandbox import Job, Limits

from .base import CodeTask
from .rows import Home, Problem, problem_of_columns

_RUN_TESTS = """

def _run():
    import unittest

    result = unittest.TestResult()
    result.failfast = True
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(TestCases)
    assert suite.countTestCases(), "there are no tests"
    suite.run(result)
    for case, text in [*result.failures, *result.errors]:
        raise AssertionError(f"{case}: {text[-1500:]}")


_run()
"""
# Which need something else that the sandbox does not have.
_NEEDS: Mapping[str, str] = {"BigCodeBench/1040": "needs a network (resolves localhost)"}


@dataclass(frozen=True, slots=True)
class BigCodeProblem(Problem):
    """One row of the data; ``prompt`` is the code with its docstring."""

    instruction: str
    header: str
    entry_point: str
    canonical_solution: str
    test: str


class BigCodeBench(CodeTask[BigCodeProblem]):
    """The task over given problems."""

    home = Home(
        "bigcodebench/bigcodebench_hard.json.gz", "bigcode/bigcodebench-hard:default:v0.1.4"
    )
    whole_programs = True

    def __init__(
        self, name: str, description: str, problems: Sequence[BigCodeProblem], source: str
    ) -> None:
        super().__init__(name, description, problems, source)
        self.reference_exceptions = {
            problem.id: reason for problem in problems if (reason := _missing(problem))
        }

    @classmethod
    def problem_of(cls, place: str, row: Mapping[str, object]) -> BigCodeProblem:
        """The problem of a row."""
        return problem_of_columns(
            BigCodeProblem,
            place,
            row,
            prompt="complete_prompt",
            instruction="instruct_prompt",
            header="code_prompt",
        )

    def instruction(self, problem: BigCodeProblem) -> str:
        """The row's instruction, which names the header to begin with."""
        return problem.instruction

    def preamble(self, problem: BigCodeProblem) -> str:
        """The imports and the header with an empty body, which an answer's function replaces."""
        return f"{problem.header.rstrip()}\n    pass\n"

    def job(self, problem: BigCodeProblem, program: str) -> Job:
        """The test class, beside the program."""
        return Job(
            program,
            test=problem.test + _RUN_TESTS,
            entry_point=problem.entry_point,
            mode="in_sandbox",
            limits=Limits(cpu_s=30.0, memory_mib=4096, file_mib=64, processes=64, open_files=256),
        )

    def reference(self, problem: BigCodeProblem) -> str:
        """The prompt with the canonical solution."""
        return problem.prompt + problem.canonical_solution


def _missing(problem: BigCodeProblem) -> str:
    reasons = []
    if packages := sorted(_packages(problem)):
        reasons.append(f"needs {', '.join(packages)}, which the sandbox does not offer")
    if needed := _NEEDS.get(problem.id):
        reasons.append(needed)
    return "; ".join(reasons)


def _packages(problem: BigCodeProblem) -> Iterator[str]:
    """The modules that the problem imports and that are not in the standard library."""
    seen: set[str] = set()
    for text in (problem.prompt + problem.canonical_solution, problem.test):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                nodes = list(ast.walk(ast.parse(text)))
        except SyntaxError:
            continue
        for node in nodes:
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            seen.update(name.split(".")[0] for name in names)
    yield from seen - sys.stdlib_module_names
