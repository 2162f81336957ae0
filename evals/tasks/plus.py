"""What HumanEval+ and MBPP+ share (Liu et al. 2023, arXiv 2305.01210): many inputs a problem, and
what the reference returns for them as the expected results.

A row of EvalPlus's release files has ``base_input`` and ``plus_input``, lists of argument lists; a
row of its data sets on the hub has them as a literal in the text of ``test``. Expected results do
not stand in the files: they are computed by running the reference in the sandbox, once, and kept in
the cache folder (``CODEGEN_CACHE``, else ``XDG_CACHE_HOME``/codegen, else ``~/.cache/codegen``).

A result is compared as EvalPlus does, but for two of its mistakes (release 0.3.1): there the
tolerance that the first test with a float result switches on stays on for all later tests, and the
residual test of HumanEval/32 forgets to count its tests, so that the right solution always fails.
One deviation: a float within a nested result gets the tolerance too. Fewer than all tests are never
run: the first one that fails ends the job.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import math
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from codegen.errors import InputError, SandboxError
from codegen.records import write_atomic

from .base import Problem, Runs
from .code import CodeTask
from .rows import entry_point_field, text_field, text_fields
from .values import READER, read_value, write_value

if TYPE_CHECKING:
    from codegen.evals.sandbox import Job

FIELDS = ("task_id", "prompt", "entry_point", "canonical_solution", "base_input", "plus_input")
_MAX_OUTPUT_BYTES = 4 << 20
_REFERENCE_CPU_S = 240.0
_MEMORY_MIB = 2048

Oracle = Literal["equal", "set", "not_none", "root", "any", "or_zero", "pyramid", "digits"]


@dataclass(frozen=True, slots=True)
class PlusProblem(Problem):
    """One row of the data.

    Attributes:
        inputs: the arguments of all tests, those of the base tests first.
        base: how many are of the base tests.
        atol: absolute tolerance of floats; 0 for the default of 1e-6.
        oracle: how a result is compared, see :func:`matches`.
    """

    entry_point: str
    canonical_solution: str
    inputs: tuple[Any, ...]
    base: int
    atol: float
    oracle: Oracle = "equal"


@dataclass(frozen=True, slots=True)
class Expected:
    """What the reference returned for each input, and the CPU seconds that took."""

    results: tuple[Any, ...]
    cpu_s: float


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
        cpu_s = Limits().cpu_s
        # In steps, so that the limit, which is part of what decides a verdict, rarely changes.
        while cpu_s < 4 * self._expected[problem.id].cpu_s:
            cpu_s *= 2
        return Job(
            program,
            test=self._test(problem),
            entry_point=problem.entry_point,
            limits=Limits(cpu_s=cpu_s, memory_mib=_MEMORY_MIB),
        )

    def _test(self, problem: PlusProblem) -> str:
        if problem.id not in self._tests:
            expected = self._expected[problem.id].results
            self._tests[problem.id] = test_text(problem, expected)
        return self._tests[problem.id]

    def prepare(self, problems: Sequence[PlusProblem], sandbox: Runs) -> None:
        """Has the expected results of ``problems`` at hand: from the cache, or by running."""
        missing = []
        for problem in problems:
            if problem.id in self._expected:
                continue
            if (cached := _read_cache(self._cache_file(problem))) is None:
                missing.append(problem)
            else:
                self._expected[problem.id] = cached
        programs = {problem.id: self.reference(problem) for problem in missing}
        for problem, expected in compute_expected(missing, programs, sandbox):
            row = {"cpu_s": expected.cpu_s, "results": write_value(list(expected.results))}
            write_atomic(self._cache_file(problem), json.dumps(row) + "\n")
            self._expected[problem.id] = expected

    def expected(self, problem: PlusProblem) -> Expected:
        """What :meth:`prepare` found."""
        return self._expected[problem.id]

    def _cache_file(self, problem: PlusProblem) -> Path:
        parts = [self.reference(problem), write_value(list(problem.inputs))]
        key = "\0".join([*parts, problem.oracle, platform.python_version()])
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        return cache_folder() / "expected" / f"{problem.id.replace('/', '-')}-{digest}.json"


def cache_folder() -> Path:
    """Where what was computed is kept."""
    if folder := os.environ.get("CODEGEN_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "codegen"


def _read_cache(path: Path) -> Expected | None:
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
        return Expected(tuple(read_value(row["results"])), float(row["cpu_s"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None  # not there, or not what we write: computed anew


# --- expected results --------------------------------------------------------------------------


def compute_expected(
    problems: Sequence[PlusProblem], programs: Mapping[str, str], sandbox: Runs
) -> list[tuple[PlusProblem, Expected]]:
    """Runs the references on all inputs.

    Args:
        problems: what to compute.
        programs: the reference of each problem, by id.

    Raises:
        SandboxError: if a reference can't be run; names the problem.
    """
    results: dict[str, list[Any]] = {}
    seconds: dict[str, float] = {}
    waiting = [(problem, 0, len(problem.inputs)) for problem in problems]
    while waiting:
        jobs = [
            (part, _reference_job(part[0], programs[part[0].id], part[1], part[2]))
            for part in waiting
        ]
        waiting = []
        for (problem, start, end), outcome in sandbox.map(jobs):
            if outcome.status == "output_limit" and end - start > 1:
                middle = (start + end) // 2  # more than one answer may hold: in two parts
                waiting += [(problem, start, middle), (problem, middle, end)]
                continue
            if not outcome.passed:
                raise SandboxError(
                    f"The reference of {problem.id} can't be run on its inputs: "
                    f"{outcome.status} {outcome.message}."
                )
            made = results.setdefault(problem.id, [None] * len(problem.inputs))
            made[start:end] = [_kept(problem, value) for value in outcome.values]
            seconds[problem.id] = seconds.get(problem.id, 0.0) + outcome.cpu_s
    return [(p, Expected(tuple(results.get(p.id, ())), seconds.get(p.id, 0.0))) for p in problems]


def _reference_job(problem: PlusProblem, program: str, start: int, end: int) -> Job:
    from codegen.evals.sandbox import Job, Limits

    return Job(
        program,
        mode="calls",
        calls=[(problem.entry_point, arguments) for arguments in problem.inputs[start:end]],
        limits=Limits(
            cpu_s=_REFERENCE_CPU_S, memory_mib=_MEMORY_MIB, output_bytes=_MAX_OUTPUT_BYTES
        ),
    )


def _kept(problem: PlusProblem, value: Any) -> Any:
    """A result as it is kept; where only its presence counts, as whether it is there."""
    if problem.oracle == "not_none":
        return value if isinstance(value, bool) else value is not None
    try:
        write_value(value)
    except TypeError as error:
        raise SandboxError(f"The reference of {problem.id} returned {error}.") from None
    return value


# --- the test ----------------------------------------------------------------------------------


def close(got: Any, expected: Any, atol: float) -> bool:
    """Whether two results are equal but for rounding: each float by numpy's rule with rtol 1e-7."""
    if type(got) is not type(expected):
        return bool(got == expected)
    if isinstance(expected, float):
        if math.isnan(expected):
            return math.isnan(got)
        return got == expected or abs(got - expected) <= atol + 1e-7 * abs(expected)
    if isinstance(expected, complex):
        return abs(got - expected) <= atol + 1e-7 * abs(expected)
    if isinstance(expected, (list, tuple)):
        return len(got) == len(expected) and all(
            close(a, b, atol) for a, b in zip(got, expected, strict=True)
        )
    if isinstance(expected, dict):
        return got.keys() == expected.keys() and all(
            close(got[key], expected[key], atol) for key in expected
        )
    return bool(got == expected)


def matches(oracle: str, got: Any, expected: Any, arguments: Any, atol: float) -> bool:
    """Whether a result is right.

    Oracles besides ``equal``, all for problems that leave their answer open:
        - ``set``: the order and number of the items don't matter.
        - ``not_none``: whether there is a result at all (the reference returns a match object).
        - ``root``: a root of the polynomial given (HumanEval/32).
        - ``any``: whatever it returns (Mbpp/164, whose reference is wrong).
        - ``or_zero``: or zero (Mbpp/295).
        - ``pyramid``: or what follows if ``height`` is the pyramid's own (Mbpp/581).
        - ``digits``: or what follows if the shorter number is padded (Mbpp/558).
    """
    tolerance = atol or 1e-6
    if oracle == "set":
        return set(got) == set(expected)
    if oracle == "not_none":
        return expected == (got if isinstance(got, bool) else got is not None)
    if oracle == "root":
        value = sum(c * math.pow(got, power) for power, c in enumerate(arguments[0]))
        return abs(value) <= tolerance
    if oracle == "any":
        return True
    if close(got, expected, tolerance):
        return True
    if oracle == "or_zero":
        return bool(got == 0)
    if oracle == "pyramid":
        edge, height = arguments
        slant = math.sqrt((edge / 2) ** 2 + height**2)
        return abs(got - round(edge**2 + 2 * edge * slant)) <= tolerance
    if oracle == "digits":
        first, second = (str(number) for number in arguments)
        width = max(len(first), len(second))
        pairs = zip(first.zfill(width), second.zfill(width), strict=True)
        return bool(got == sum(abs(int(a) - int(b)) for a, b in pairs))
    return False


def test_text(problem: PlusProblem, expected: Sequence[Any]) -> str:
    """The test of a problem, for the tests' side of the sandbox."""
    functions: Sequence[Callable[..., Any]] = (close, matches, _check)
    return "\n\n".join(
        (
            READER,
            "import math",
            *(inspect.getsource(function) for function in functions),
            f"INPUTS = read_value({write_value(list(problem.inputs))!r})",
            f"EXPECTED = read_value({write_value(list(expected))!r})",
            f"def check(candidate):\n    _check(candidate, INPUTS, EXPECTED, {problem.base}, "
            f"{problem.oracle!r}, {problem.atol!r}, {problem.entry_point!r})\n",
        )
    )


def _check(
    candidate: Any,
    inputs: Any,
    expected: Any,
    base: int,
    oracle: str,
    atol: float,
    name: str,
) -> None:
    for number, (arguments, result) in enumerate(zip(inputs, expected, strict=True)):
        got = candidate(*arguments)
        try:
            right = matches(oracle, got, result, arguments, atol)
        except (TypeError, ValueError, ArithmeticError):
            right = False  # of a type that can't be compared
        if not right:
            kind = f"base test {number + 1}" if number < base else f"plus test {number + 1 - base}"
            called = f"{name}({', '.join(map(repr, arguments))})"[:300]
            raise AssertionError(f"{kind}: {called} is {got!r:.200}, expected {result!r:.200}")


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
