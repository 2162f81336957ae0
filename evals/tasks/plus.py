"""What HumanEval+ and MBPP+ share (Liu et al. 2023, arXiv 2305.01210): many inputs a problem, and
what the reference returns for them as the expected results.

A row of EvalPlus's release files has ``base_input`` and ``plus_input``, lists of argument lists; a
row of its data sets on the hub has them as a literal in the text of ``test``. Expected results do
not stand in the files: they are computed by running the reference, see ``expected``.

A result is compared as EvalPlus does, but for two of its mistakes (release 0.3.1): there the
tolerance that the first test with a float result switches on stays on for all later tests, and the
residual test of HumanEval/32 forgets to count its tests, so that the right solution always fails.
One deviation: a float within a nested result gets the tolerance too. Fewer than all tests are never
run: the first one that fails ends the job.

Some results are lists of a million numbers. Of these only a digest is expected, and of what a
program returns only a digest leaves its sandbox.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from codegen.errors import InputError, SandboxError

from .base import Problem, Runs
from .code import CodeTask
from .expected import Expected, expected_results
from .oracles import SOURCE, with_digests
from .rows import entry_point_field, text_field, text_fields
from .values import write_value

if TYPE_CHECKING:
    from codegen.evals.sandbox import Job

FIELDS = ("task_id", "prompt", "entry_point", "canonical_solution", "base_input", "plus_input")
_MEMORY_MIB = 2048

Oracle = Literal["equal", "set", "not_none", "root", "any", "or_zero", "pyramid", "digits"]


@dataclass(frozen=True, slots=True)
class PlusProblem(Problem):
    """One row of the data.

    Attributes:
        inputs: the arguments of all tests, those of the base tests first.
        base: how many are of the base tests.
        atol: absolute tolerance of floats; 0 for the default of 1e-6.
        oracle: how a result is compared, see :func:`codegen.evals.tasks.oracles.matches`.
    """

    entry_point: str
    canonical_solution: str
    inputs: tuple[Any, ...]
    base: int
    atol: float
    oracle: Oracle = "equal"


class PlusTask(CodeTask[PlusProblem]):
    """The task over given problems."""

    needs_preparation = True

    def __init__(
        self, name: str, description: str, problems: Sequence[PlusProblem], source: str
    ) -> None:
        super().__init__(name, description, problems, source)
        self._expected: dict[str, Expected] = {}
        self._tests: dict[str, str] = {}

    def entry_point(self, problem: PlusProblem) -> str:
        """The function under test."""
        return problem.entry_point

    def reference(self, problem: PlusProblem) -> str:
        """The prompt with the canonical solution."""
        return problem.prompt + problem.canonical_solution

    def job(self, problem: PlusProblem, program: str) -> Job:
        """One job for all inputs; time for four times what the reference needs."""
        from codegen.evals.sandbox import Job, Limits

        if problem.id not in self._expected:
            raise SandboxError(f"The expected results of {problem.id} were not prepared.")
        memory_mib = _MEMORY_MIB
        if self._expected[problem.id].has_digests:
            program = with_digests(program, problem.entry_point)
            memory_mib *= 2
        cpu_s = Limits().cpu_s
        # In steps, so that the limit, which is part of what decides a verdict, rarely changes.
        while cpu_s < 4 * self._expected[problem.id].cpu_s:
            cpu_s *= 2
        return Job(
            program,
            test=self._test(problem),
            entry_point=problem.entry_point,
            limits=Limits(cpu_s=cpu_s, memory_mib=memory_mib),
        )

    def _test(self, problem: PlusProblem) -> str:
        if problem.id not in self._tests:
            self._tests[problem.id] = test_text(problem, self._expected[problem.id])
        return self._tests[problem.id]

    def prepare(self, problems: Sequence[PlusProblem], sandbox: Runs) -> None:
        """Has the expected results of ``problems`` at hand: from the cache, or by running."""
        missing = {
            problem.id: (problem, self.reference(problem))
            for problem in problems
            if problem.id not in self._expected
        }
        for id_, expected in expected_results(missing, sandbox):
            self._expected[id_] = expected

    def expected(self, problem: PlusProblem) -> Expected:
        """What :meth:`prepare` found."""
        return self._expected[problem.id]


# --- the test ----------------------------------------------------------------------------------


def test_text(problem: PlusProblem, expected: Expected) -> str:
    """The test of a problem, for the tests' side of the sandbox."""
    digests = "digest_call" if expected.has_digests else "None"
    return "\n\n".join(
        (
            SOURCE,
            f"INPUTS = read_value({write_value(list(problem.inputs))!r})",
            f"EXPECTED = read_value({write_value(list(expected.results))!r})",
            f"def check(candidate):\n    check_all(candidate, {digests}, INPUTS, EXPECTED, "
            f"{problem.base}, {problem.oracle!r}, {problem.atol!r}, {problem.entry_point!r})\n",
        )
    )


# --- the data ----------------------------------------------------------------------------------


def plus_problem(place: str, row: Mapping[str, Any]) -> PlusProblem:
    """The problem of a row of EvalPlus's release files.

    Raises:
        InputError: naming what is wrong with the row.
    """
    text_fields(place, row, FIELDS[:4])
    entry_point = entry_point_field(place, row)
    if "base_input" not in row and "test" in row:
        inputs, atol = inputs_of_test(place, row)
        base_and_plus = {"base_input": [], "plus_input": inputs, "atol": atol}
        row = {**row, **base_and_plus}
    base, plus = (_argument_lists(place, row, name) for name in ("base_input", "plus_input"))
    atol = row.get("atol", 0)
    if not isinstance(atol, (int, float)) or isinstance(atol, bool):
        raise InputError(f"{place}: the field 'atol' must be a number.")
    return PlusProblem(
        row["task_id"],
        row["prompt"],
        entry_point,
        row["canonical_solution"],
        inputs=(*base, *plus),
        base=len(base),
        atol=atol,
    )


def inputs_of_test(place: str, row: Mapping[str, Any]) -> tuple[list[Any], float]:
    """The inputs and the tolerance in the test of a row of the hub's data sets.

    There the text assigns the argument lists to ``inputs`` and calls ``assertion(..., atol)``.

    Raises:
        InputError: if it does not.
    """
    text = text_field(place, row, "test")
    inputs: list[Any] | None = None
    atol = 0.0
    try:
        for node in ast.walk(ast.parse(text)):
            match node:
                case ast.Assign(targets=[ast.Name(id="inputs")], value=value):
                    inputs = _literal(value)
                case ast.Call(func=ast.Name(id="assertion"), args=[_, _, tolerance]):
                    atol = float(_literal(tolerance))
    except (SyntaxError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{place}: the inputs in 'test' can't be read ({error}).") from None
    if not isinstance(inputs, list) or not all(isinstance(i, (list, tuple)) for i in inputs):
        raise InputError(f"{place}: 'test' holds no list of argument lists called inputs.")
    return [list(arguments) for arguments in inputs], atol


def _literal(node: ast.expr) -> Any:
    """The value of a literal in which ``inf`` and ``nan`` are names, as they print."""
    for part in ast.walk(node):
        for field, value in ast.iter_fields(part):
            values = value if isinstance(value, list) else [value]
            named = [_number(item) for item in values]
            setattr(part, field, named if isinstance(value, list) else named[0])
    return ast.literal_eval(_number(node))


def _number(node: Any) -> Any:
    if isinstance(node, ast.Name) and node.id in ("inf", "nan"):
        return ast.Constant(float(node.id))
    return node


def _argument_lists(place: str, row: Mapping[str, Any], name: str) -> list[Any]:
    value = row.get(name) or []  # MBPP+ has an empty object where there are none
    if not isinstance(value, list) or not all(isinstance(item, list) for item in value):
        raise InputError(f"{place}: the field {name!r} must be a list of argument lists.")
    return value


def with_inputs(problem: PlusProblem, inputs: Sequence[Any], oracle: Oracle) -> PlusProblem:
    """The problem with its inputs repaired, and its oracle."""
    return replace(problem, inputs=tuple(inputs), oracle=oracle)
