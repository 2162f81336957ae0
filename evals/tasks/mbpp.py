"""MBPP (Austin et al. 2021, arXiv 2108.07732): one-sentence Python problems with three tests.

``mbpp`` has all 974, ``mbpp-test`` the 500 of the paper's test split (ids 11 to 510),
``mbpp-sanitized`` the 427 that the authors verified by hand. The data is the authors' file
(``mbpp.jsonl``, ``sanitized-mbpp.json``), or ``hub:google-research-datasets/mbpp``.

The prompt style ``few-shot`` is the paper's: problems 2, 3 and 4 with their solutions between
``[BEGIN]`` and ``[DONE]``. In other styles base models get a docstring with the problem and its
first test (Fried et al. 2022, InCoder), since the problem alone does not name the function.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from codegen.core.errors import ConfigError, InputError
from codegen.evals.tasks.base import CodeTask
from codegen.evals.tasks.dataset_rows import (
    DataLocation,
    DatasetRows,
    Problem,
    make_problems,
    optional_text,
    read_rows_of,
    text_field,
    texts_field,
)
from codegen.sandbox import Job, Limits

_HUB = "google-research-datasets/mbpp"
# The splits of the hub's datasets.
_SPLITS = ("prompt", "test", "validation", "train")
_SHOTS = (2, 3, 4)

_CPU_S = {123: 60.0}  # the reference takes ten seconds


@dataclass(frozen=True, slots=True)
class MbppProblem(Problem):
    """One data row; ``prompt`` is its sentence.

    Attributes:
        number: the row's ``task_id``; ``id`` is "MBPP/" followed by it.
        tests: assert statements.
        setup: code that the tests need.
        solution: the reference.
    """

    number: int
    tests: tuple[str, ...]
    setup: str
    solution: str


class Mbpp(CodeTask[MbppProblem]):
    """The MBPP benchmark.

    Args:
        shots: solved examples for the style ``few-shot``.

    Attributes:
        numbers: problem numbers to use; None for all.
    """

    home = DataLocation("mbpp/mbpp.jsonl.gz", f"{_HUB}:full")
    numbers: range | None = None
    asks = ("code", "instruction", "few_shot")
    whole_programs = True

    def __init__(
        self,
        name: str,
        description: str,
        problems: Sequence[MbppProblem],
        source: str,
        shots: Sequence[MbppProblem] = (),
    ) -> None:
        super().__init__(name, description, problems, source)
        self._shots = tuple(shots)

    @classmethod
    def load(cls, name: str, description: str, source: str | None = None) -> Self:
        """Loads the problems in order of their number."""
        where = source or cls.home.source()
        if where == f"hub:{cls.home.hub}":
            parts = [read_rows_of(f"{where}:{split}", cls.home).items for split in _SPLITS]
            rows = DatasetRows((row for part in parts for row in part), where)
        else:
            rows = read_rows_of(source, cls.home)
        problems = sorted(make_problems(rows, cls.problem_of), key=lambda p: p.number)
        shots = [p for p in problems if p.number in _SHOTS]
        kept = [p for p in problems if cls.numbers is None or p.number in cls.numbers]
        if not kept:
            raise InputError(f"{rows.source} has no problems of {name}.")
        return cls(name, description, kept, rows.source, shots if len(shots) == len(_SHOTS) else ())

    @classmethod
    def problem_of(cls, place: str, row: Mapping[str, object]) -> MbppProblem:
        """Parses a row of either file."""
        number = row.get("task_id")
        if not isinstance(number, int) or isinstance(number, bool):
            raise InputError(f"{place}: the field 'task_id' must be a number.")
        tests, imports = (texts_field(place, row, name) for name in ("test_list", "test_imports"))
        if not tests:
            raise InputError(f"{place}: the field 'test_list' is empty.")
        setup = optional_text(place, row, "test_setup_code")
        return MbppProblem(
            f"MBPP/{number}",
            text_field(place, row, "prompt" if "prompt" in row else "text"),
            number,
            tests,
            "\n".join([*imports, setup] if setup else imports),
            text_field(place, row, "code").replace("\r\n", "\n"),
        )

    def code(self, problem: MbppProblem) -> str:
        """Returns a docstring with the problem and its first test."""
        return f'"""\n{problem.prompt.strip()}\n{problem.tests[0]}\n"""\n'

    def instruction(self, problem: MbppProblem) -> str:
        """Returns the paper's prompt."""
        tests = "\n".join(problem.tests)
        return (
            f"You are an expert Python programmer, and here is your task: {problem.prompt.strip()} "
            f"Your code should pass these tests:\n\n{tests}"
        )

    def few_shot(self, problem: MbppProblem) -> str:
        """Returns the paper's prompt after solved examples."""
        if not self._shots:
            raise ConfigError(
                f"{self.source} lacks the solved examples (problems 2, 3 and 4) for few-shot.",
                "Choose another prompt style, or pass the whole file with --source.",
            )
        solved = [
            f"{self.instruction(shot)}\n[BEGIN]\n{shot.solution.strip()}\n[DONE]\n\n"
            for shot in self._shots
        ]
        return f"{''.join(solved)}{self.instruction(problem)}\n[BEGIN]\n"

    def entry_point(self, problem: MbppProblem) -> str:
        """Returns the function that the first test calls."""
        return called_function(problem.tests, problem.solution)

    def job(self, problem: MbppProblem, program: str) -> Job:
        """Returns a job that runs the asserts."""
        return Job(
            program,
            test="\n".join(problem.tests),
            setup=problem.setup,
            entry_point=self.entry_point(problem),
            limits=Limits(cpu_s=_CPU_S.get(problem.number, 6.0)),
        )

    def reference(self, problem: MbppProblem) -> str:
        """Returns the row's solution."""
        return problem.solution


def called_function(tests: Iterable[str], solution: str) -> str:
    """Returns the solution's last function that the tests call; empty if unknown."""
    try:
        body = ast.parse(solution).body
        called = {
            node.func.id
            for test in tests
            for node in ast.walk(ast.parse(test))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
    except (SyntaxError, ValueError):
        return ""
    names = [node.name for node in body if isinstance(node, ast.FunctionDef)]
    return next((name for name in reversed(names) if name in called), "")


class MbppTest(Mbpp):
    """The problems of the paper's test split."""

    numbers = range(11, 511)


class MbppSanitized(Mbpp):
    """The problems that the authors verified."""

    home = DataLocation("mbpp/sanitized-mbpp.json.gz", f"{_HUB}:sanitized")
