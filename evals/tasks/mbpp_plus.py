"""MBPP+ (Liu et al. 2023, arXiv 2305.01210): 378 problems of MBPP with 35 times the tests.

The data is EvalPlus's release file (``MbppPlus.jsonl``), or ``hub:evalplus/mbppplus``. JSON has no
tuples, sets or complex numbers, so the file's inputs come back with the wrong types; which argument
of which problem is what stands in :data:`_SHAPES`, as EvalPlus's own reader has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from codegen.errors import InputError

from .mbpp import called_function
from .plus import Oracle, PlusProblem, PlusTask, plus_problem, with_inputs
from .rows import Home, make_problems, read_rows_of, text_field

HOME = Home("evalplus/MbppPlus.jsonl.gz", "evalplus/mbppplus")

Shape = Callable[[Any], Any]


def _as_is(value: Any) -> Any:
    return value


def _each(shape: Shape) -> Shape:
    return lambda value: [shape(item) for item in value]


def _tuple_of(shape: Shape) -> Shape:
    return lambda value: tuple(shape(item) for item in value)


def _tuple_if_list(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _all_tuples(value: Any) -> Any:
    return tuple(map(_all_tuples, value)) if isinstance(value, list) else value


def _set_or_dict(value: Any) -> Any:
    return set(value) if isinstance(value, list) and value else {}


def _tuple_values(value: Any) -> Any:
    return {key: tuple(item) for key, item in value.items()}


# The shapes of a problem's arguments; the last one holds for all arguments that follow.
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
    "similar_elements": "set",
    "find_char_long": "set",
    "common_in_nested_lists": "set",
    "extract_singly": "set",
    "larg_nnum": "set",
    "intersection_array": "set",
    "find_dissimilar": "set",
    "Diff": "set",
    "check_str": "not_none",
    "text_match_three": "not_none",
    "text_starta_endb": "not_none",
    "are_equivalent": "any",
    "sum_div": "or_zero",
    "surface_Area": "pyramid",
    "digit_distance_nums": "digits",
}


class MbppPlus(PlusTask):
    """The task over given problems, asked as EvalPlus does."""

    whole_programs = True

    def instruction(self, problem: PlusProblem) -> str:
        """The docstring with its test, and what to do with it."""
        return (
            "Please provide a self-contained Python script that solves the following problem in a "
            f"markdown code block:\n```\n{problem.prompt.strip()}\n```"
        )


def mbpp_plus(name: str, description: str, source: str | None = None) -> MbppPlus:
    """All problems."""
    rows = read_rows_of(source, HOME)
    problems = make_problems(rows, _problem, lambda problem: problem.id)
    return MbppPlus(name, description, problems, rows.source)


def _problem(place: str, row: Mapping[str, Any]) -> PlusProblem:
    if "base_input" not in row:
        problem = plus_problem(place, _release_row(place, row))
        oracle = _ORACLES.get(problem.entry_point, "equal")
        return with_inputs(problem, problem.inputs, oracle)  # Python text has the right types
    problem = plus_problem(place, row)
    number = problem.id.rpartition("/")[2]
    shapes = _SHAPE_OF.get(int(number) if number.isdecimal() else -1)
    inputs = [_shaped(arguments, shapes) for arguments in problem.inputs]
    return with_inputs(problem, inputs, _ORACLES.get(problem.entry_point, "equal"))


def _release_row(place: str, row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row of the hub's data set with the names of the release file."""
    tests, code = row.get("test_list"), text_field(place, row, "code")
    if not isinstance(tests, list) or not tests or not all(isinstance(t, str) for t in tests):
        raise InputError(f"{place}: the field 'test_list' must be a list of texts.")
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
