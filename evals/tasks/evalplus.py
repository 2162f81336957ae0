"""HumanEval+ and MBPP+ (Liu et al. 2023, arXiv 2305.01210): many inputs per problem; the
reference computes the expected results.

``humaneval-plus`` has HumanEval's problems with 80 times the tests, ``mbpp-plus`` 378 problems of
MBPP with 35 times the tests. The data is EvalPlus's release files, or its datasets on the hub. A
sample passes if it passes the base and the new inputs; the job stops at the first failure.

A row of EvalPlus's release files has ``base_input`` and ``plus_input``, lists of argument lists; a
row of its datasets on the hub has them as a literal in the string ``test``. The files have no
expected results: the reference runs once in the sandbox, and its results are cached in
:func:`codegen.core.paths.cache_folder`.

Results are compared as in EvalPlus 0.3.1, without two of its bugs: there, the first test with a
float result enables the tolerance for all later tests, and the residual test of HumanEval/32 does
not count its tests, so that the correct solution always fails. One deviation: floats within a
nested result get the tolerance, too.

Some results are lists of a million numbers. For these a digest is expected, and only a digest of
the program's result leaves the sandbox.

JSON has no tuples, sets or complex numbers, so the inputs in MBPP+'s file have the wrong types;
:data:`_SHAPES` maps the arguments of each problem to their types, like EvalPlus's own reader.
HumanEval/32 is scored by the residual at the returned root, not by the root.
"""

from __future__ import annotations

import ast
import hashlib
import json
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from codegen.core.errors import InputError, SandboxError
from codegen.core.paths import cache_folder, write_atomic
from codegen.evals.tasks.base import CodeTask
from codegen.evals.tasks.comparators import SOURCE, is_digest, read_value, with_digests, write_value
from codegen.evals.tasks.dataset_rows import (
    DataLocation,
    Problem,
    entry_point_field,
    text_field,
    text_fields,
    texts_field,
)
from codegen.evals.tasks.humaneval import FunctionPrompts
from codegen.evals.tasks.mbpp import called_function
from codegen.sandbox import Job, Limits, SandboxProtocol

FIELDS = ("task_id", "prompt", "entry_point", "canonical_solution", "base_input", "plus_input")
_MEMORY_MIB = 2048
_REFERENCE = Limits(cpu_s=240.0, memory_mib=8192, output_bytes=4 << 20)

Oracle = Literal["equal", "set", "not_none", "root", "any", "or_zero", "pyramid", "digits"]


@dataclass(frozen=True, slots=True)
class PlusProblem(Problem):
    """One data row.

    Attributes:
        inputs: the arguments of all tests, base tests first.
        base: number of base tests.
        atol: absolute tolerance of floats; 0 for the default of 1e-6.
        oracle: comparison of the results, see :func:`codegen.evals.tasks.comparators.matches`.
    """

    entry_point: str
    canonical_solution: str
    inputs: tuple[Any, ...]
    base: int
    atol: float
    oracle: Oracle = "equal"


@dataclass(frozen=True, slots=True)
class ExpectedOutputs:
    """The reference's result for each input, and its total CPU seconds."""

    results: tuple[Any, ...]
    cpu_s: float

    @property
    def has_digests(self) -> bool:
        """True if some results are so large that only their digests are stored."""
        return any(is_digest(result) for result in self.results)


def expected_results(
    problems: Mapping[str, tuple[PlusProblem, str]], sandbox: SandboxProtocol
) -> Iterator[tuple[str, ExpectedOutputs]]:
    """Yields the expected results of problems, cached or computed; each is cached on arrival.

    Args:
        problems: id -> (problem, its reference).

    Raises:
        SandboxError: if a reference cannot be run; names the problem.
    """
    missing = {}
    for id_, (problem, program) in problems.items():
        if (cached := _read(cache_file(problem, program))) is None:
            missing[id_] = (problem, program)
        else:
            yield id_, cached
    for id_, expected in compute(missing, sandbox):
        row = {"cpu_s": expected.cpu_s, "results": write_value(list(expected.results))}
        write_atomic(cache_file(*missing[id_]), json.dumps(row) + "\n")
        yield id_, expected


def cache_file(problem: PlusProblem, program: str) -> Path:
    """Returns the cache file of a problem's results, keyed by reference, inputs and Python."""
    parts = (program, write_value(list(problem.inputs)), problem.oracle, platform.python_version())
    digest = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return cache_folder() / "expected" / f"{problem.id.replace('/', '-')}-{digest}.json"


def _read(path: Path) -> ExpectedOutputs | None:
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
        return ExpectedOutputs(tuple(read_value(row["results"])), float(row["cpu_s"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None  # missing, or written by another user: recompute


@dataclass(frozen=True, slots=True)
class _Part:
    """A range of a problem's inputs, to run the reference on."""

    problem: PlusProblem
    program: str
    start: int
    end: int

    def job(self) -> Job:
        inputs = self.problem.inputs[self.start : self.end]
        return Job(
            with_digests(self.program, self.problem.entry_point),
            mode="calls",
            calls=[("kept_call", arguments) for arguments in inputs],
            limits=_REFERENCE,
        )

    def halves(self) -> list[_Part]:
        """Splits the inputs into two halves."""
        middle = (self.start + self.end) // 2
        return [replace(self, end=middle), replace(self, start=middle)]


def compute(
    problems: Mapping[str, tuple[PlusProblem, str]], sandbox: SandboxProtocol
) -> Iterator[tuple[str, ExpectedOutputs]]:
    """Runs the references on all inputs; yields a problem's results when they are complete.

    Raises:
        SandboxError: if a reference cannot be run; names the problem.
    """
    results: dict[str, list[Any]] = {}
    seconds = dict.fromkeys(problems, 0.0)
    left = {id_: len(problem.inputs) for id_, (problem, _) in problems.items()}
    waiting = [_Part(p, program, 0, len(p.inputs)) for p, program in problems.values()]
    while waiting:
        jobs = [(part, part.job()) for part in waiting]
        waiting = []
        for part, outcome in sandbox.map(jobs):
            id_ = part.problem.id
            # The size of a job's output is limited.
            if outcome.status == "output_limit" and part.end - part.start > 1:
                waiting += part.halves()
                continue
            if not outcome.passed:
                raise SandboxError(
                    f"The reference of {id_} cannot be run on its inputs: {outcome.status} "
                    f"{outcome.message}."
                )
            made = results.setdefault(id_, [None] * len(part.problem.inputs))
            made[part.start : part.end] = [_kept(part.problem, v) for v in outcome.values]
            seconds[id_] += outcome.cpu_s
            left[id_] -= part.end - part.start
            if not left[id_]:
                yield id_, ExpectedOutputs(tuple(results.pop(id_)), seconds[id_])


def _kept(problem: PlusProblem, answer: tuple[str, object]) -> object:
    """Returns a result in its cached form; for oracle ``not_none``, whether it is not None."""
    kind, value = answer
    if kind == "digest":
        return answer
    if problem.oracle == "not_none":
        return value if isinstance(value, bool) else value is not None
    try:
        write_value(value)
    except TypeError as error:
        raise SandboxError(f"The reference of {problem.id} returned {error}.") from None
    return value


class PlusTask(CodeTask[PlusProblem]):
    """A task whose expected results are computed by running the references."""

    needs_preparation = True

    def __init__(
        self, name: str, description: str, problems: Sequence[PlusProblem], source: str
    ) -> None:
        super().__init__(name, description, problems, source)
        self._expected: dict[str, ExpectedOutputs] = {}
        self._tests: dict[str, str] = {}

    def job(self, problem: PlusProblem, program: str) -> Job:
        """Returns one job for all inputs, limited to at least four times the reference's time."""
        if problem.id not in self._expected:
            raise SandboxError(f"The expected results of {problem.id} were not prepared.")
        expected = self._expected[problem.id]
        if problem.id not in self._tests:
            self._tests[problem.id] = test_text(problem, expected)
        memory_mib = _MEMORY_MIB
        if expected.has_digests:
            program = with_digests(program, problem.entry_point)
            memory_mib *= 2
        cpu_s = Limits().cpu_s
        # Rounded up in steps: the limit is part of a verdict's key, so it should rarely change.
        while cpu_s < 4 * expected.cpu_s:
            cpu_s *= 2
        return Job(
            program,
            test=self._tests[problem.id],
            entry_point=problem.entry_point,
            limits=Limits(cpu_s=cpu_s, memory_mib=memory_mib),
            plain=True,
        )

    def prepare(self, problems: Sequence[PlusProblem], sandbox: SandboxProtocol) -> None:
        """Reads the expected results of ``problems`` from the cache, or computes them."""
        missing = {
            problem.id: (problem, self.reference(problem))
            for problem in problems
            if problem.id not in self._expected
        }
        for id_, expected in expected_results(missing, sandbox):
            self._expected[id_] = expected

    def expected(self, problem: PlusProblem) -> ExpectedOutputs:
        """Returns the results that :meth:`prepare` read."""
        return self._expected[problem.id]


class HumanEvalPlus(PlusTask, FunctionPrompts[PlusProblem]):
    """HumanEval+, with HumanEval's prompts."""

    home = DataLocation("evalplus/HumanEvalPlus.jsonl.gz", "evalplus/humanevalplus")

    @classmethod
    def problem_of(cls, place: str, row: Mapping[str, object]) -> PlusProblem:
        """Parses a row into a problem."""
        problem = plus_problem(place, row)
        return replace(problem, oracle="root") if problem.id == "HumanEval/32" else problem


Shape = Callable[[Any], Any]


def _as_is(value: object) -> object:
    return value


def _each(shape: Shape) -> Shape:
    return lambda value: [shape(item) for item in value]


def _tuple_of(shape: Shape) -> Shape:
    return lambda value: tuple(shape(item) for item in value)


def _tuple_if_list(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _all_tuples(value: object) -> object:
    return tuple(map(_all_tuples, value)) if isinstance(value, list) else value


def _set_or_dict(value: object) -> object:
    return set(value) if isinstance(value, list) and value else {}


def _tuple_values(value: Any) -> Any:
    return {key: tuple(item) for key, item in value.items()}


# Types of a problem's arguments; the last one applies to all arguments that follow.
_SHAPES: Mapping[tuple[Shape, ...], tuple[int, ...]] = {
    (tuple,): (
        *(2, 116, 132, 143, 222, 261, 273, 394, 399, 421, 424, 429, 470, 560, 579, 596, 616, 630),
        *(726, 740, 744, 809),
    ),
    (_each(tuple),): (63, 64, 70, 94, 120, 237, 272, 299, 400, 409, 417, 438, 473, 614, 780),
    (_each(tuple), _as_is): (75, 413, 444, 753),
    (_as_is, tuple): (106, 750),
    (_each(_set_or_dict),): (115,),
    (float, complex): (124,),
    (tuple, _as_is): (250, 307, 405, 446, 617, 720, 763, 808),
    (_tuple_of(tuple),): (259, 401, 445),
    (_tuple_of(_tuple_if_list),): (278,),
    (_tuple_values, _as_is): (722,),
    (complex,): (252,),
    (_all_tuples,): (580, 615, 791),
}
_SHAPE_OF = {number: shapes for shapes, numbers in _SHAPES.items() for number in numbers}

_ORACLES: Mapping[str, Oracle] = {
    "similar_elements": "set", "find_char_long": "set", "common_in_nested_lists": "set",
    "extract_singly": "set", "larg_nnum": "set", "intersection_array": "set",
    "find_dissimilar": "set", "Diff": "set", "check_str": "not_none",
    "text_match_three": "not_none", "text_starta_endb": "not_none", "are_equivalent": "any",
    "sum_div": "or_zero", "surface_Area": "pyramid", "digit_distance_nums": "digits",
}  # fmt: skip


class MbppPlus(PlusTask):
    """MBPP+, with EvalPlus's prompts."""

    home = DataLocation("evalplus/MbppPlus.jsonl.gz", "evalplus/mbppplus")
    whole_programs = True

    @classmethod
    def problem_of(cls, place: str, row: Mapping[str, object]) -> PlusProblem:
        """Parses a row of the release files or of the hub's dataset."""
        is_release = "base_input" in row
        problem = plus_problem(place, row if is_release else _release_row(place, row))
        problem = replace(problem, oracle=_ORACLES.get(problem.entry_point, "equal"))
        if not is_release:
            return problem  # Python literals have the correct types
        number = problem.id.rpartition("/")[2]
        shapes = _SHAPE_OF.get(int(number) if number.isdecimal() else -1)
        return replace(problem, inputs=tuple(_shaped(args, shapes) for args in problem.inputs))

    def instruction(self, problem: PlusProblem) -> str:
        """Returns the docstring with its test, in EvalPlus's instruction."""
        return (
            "Please provide a self-contained Python script that solves the following problem in a "
            f"markdown code block:\n```\n{problem.prompt.strip()}\n```"
        )


def _release_row(place: str, row: Mapping[str, object]) -> Mapping[str, object]:
    """Converts a row of the hub's dataset to the release file's fields."""
    tests, code = texts_field(place, row, "test_list"), text_field(place, row, "code")
    if not tests:
        raise InputError(f"{place}: the field 'test_list' is empty.")
    return {
        "task_id": f"Mbpp/{row.get('task_id')}",
        "prompt": f'"""\n{text_field(place, row, "prompt")}\n{tests[0]}\n"""\n',
        "entry_point": called_function(tests, code),
        "canonical_solution": f"\n{code}\n",
        "test": row.get("test"),
    }


def _shaped(arguments: list[Any], shapes: tuple[Shape, ...] | None) -> list[Any]:
    if shapes is None:
        return arguments
    padded = [*shapes, *[shapes[-1]] * (len(arguments) - len(shapes))]
    return [shape(argument) for shape, argument in zip(padded, arguments, strict=False)]


def test_text(problem: PlusProblem, expected: ExpectedOutputs) -> str:
    """Returns the test of a problem, for the tests' side of the sandbox."""
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


def plus_problem(place: str, row: Mapping[str, Any]) -> PlusProblem:
    """Parses a row of EvalPlus's release files.

    Raises:
        InputError: if the row is invalid.
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


def inputs_of_test(place: str, row: Mapping[str, object]) -> tuple[list[Any], float]:
    """Returns the inputs and the tolerance in the field ``test`` of a hub row.

    Its code assigns the argument lists to ``inputs`` and calls ``assertion(..., atol)``.

    Raises:
        InputError: if the code has another form.
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
        raise InputError(f"{place}: the inputs in 'test' cannot be read ({error}).") from None
    if not isinstance(inputs, list) or not all(isinstance(i, (list, tuple)) for i in inputs):
        raise InputError(f"{place}: 'test' has no list of argument lists named inputs.")
    return [list(arguments) for arguments in inputs], atol


def _literal(node: ast.expr) -> Any:
    """Evaluates a literal in which ``inf`` and ``nan`` may occur as names."""
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


def _argument_lists(place: str, row: Mapping[str, object], name: str) -> list[object]:
    value = row.get(name) or []  # MBPP+ has an empty object instead of an empty list
    if not isinstance(value, list) or not all(isinstance(item, list) for item in value):
        raise InputError(f"{place}: the field {name!r} must be a list of argument lists.")
    return value
