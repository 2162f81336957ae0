"""A custom task from a JSONL file, without code: ``--task file:my.jsonl``.

A row is one problem. Columns:

- ``prompt`` (required), ``id`` (default: the line's number);
- how answers are scored, one of:
  - ``tests``: Python statements that run outside the program's process: asserts, or a function
    ``check``, which is called with ``entry_point``, or functions named ``test…`` without arguments,
    or unittest classes. Tests that pass for any return value end as ``bad_test``;
  - ``calls`` and ``expected``: lists of equal length; a call is ``["name", [arguments]]``, or only
    the list of arguments if the row has an ``entry_point``. Floats are compared with a tolerance
    of 1e-6, and a tuple equals a list, since JSON has no tuples;
  - ``stdin`` and ``stdout``: two strings, or two lists of strings; ``stdin`` is optional.
    Whitespace at the ends of lines and of the output is ignored;
  - ``answer``: the correct string, or a list of correct strings;
- optional: ``entry_point``; ``setup``, code before the tests; ``solution``, a correct answer, and
  ``buggy``, a list of wrong ones, for ``codegen eval check``; ``mode`` ``in_sandbox`` for tests
  that need program objects that cannot leave the sandbox; ``cpu_s`` and ``memory_mib``, limits per
  program.

If the prompt is code that defines the entry point, base models continue it; otherwise the prompt
requests a whole program.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from codegen.core.errors import ConfigError, InputError
from codegen.core.generation import cut_at_stop
from codegen.core.records import Verdict
from codegen.evals.tasks.base import CodeTask
from codegen.evals.tasks.cases import cases_test, with_runner
from codegen.evals.tasks.comparators import SOURCE, write_value
from codegen.evals.tasks.dataset_rows import (
    FILE,
    DataLocation,
    Problem,
    entry_point_field,
    make_problems,
    optional_text,
    read_rows_of,
    text_field,
)
from codegen.evals.tasks.extraction import (
    Extraction,
    fenced_blocks,
    imports_at_top,
    parses,
    tagged_answers,
)
from codegen.evals.tasks.styles import PromptStyle
from codegen.sandbox import Job, Limits

JUDGED_BY = ("tests", "expected", "stdout", "answer")


@dataclass(frozen=True, slots=True)
class CustomProblem(Problem):
    """One row, in the format of the module docstring.

    Attributes:
        tests: source of the tests; built from calls and expected values if the row has these.
        cases: pairs of standard input and output.
        answers: the correct strings.
    """

    entry_point: str = ""
    setup: str = ""
    tests: str = ""
    cases: tuple[tuple[str, str], ...] = ()
    answers: tuple[str, ...] = ()
    solution: str = ""
    buggy_solutions: tuple[str, ...] = ()
    mode: Literal["isolated", "in_sandbox"] = "isolated"
    limits: Limits = Limits()

    @property
    def is_code(self) -> bool:
        """True if the prompt is code to continue."""
        return bool(self.entry_point) and _defines(self.prompt, self.entry_point)


class CustomTask(CodeTask[CustomProblem]):
    """A custom task."""

    @classmethod
    def load(cls, name: str, description: str, source: str | None = None) -> Self:
        """Loads the task ``file:PATH``, from ``source`` instead if given."""
        path = source or name.removeprefix(FILE)
        problems = make_problems(read_rows_of(path, DataLocation(path)), cls.problem_of)
        # Settings and reports must not contain a machine's paths.
        short = path if path.startswith("hub:") else Path(path).name
        return cls(f"{FILE}{short}", description, problems, short)

    @classmethod
    def problem_of(cls, place: str, row: Mapping[str, Any]) -> CustomProblem:
        """Parses a row in the format of the module docstring."""
        kinds = [column for column in JUDGED_BY if column in row]
        if len(kinds) != 1:
            flaw = f"has {' and '.join(kinds)}" if kinds else "has no column for scoring answers"
            raise InputError(
                f"{place}: the row {flaw}.",
                "It needs one of: tests; calls and expected; stdin and stdout; answer.",
            )
        made = {
            "tests": _of_tests,
            "expected": _of_calls,
            "stdout": _of_cases,
            "answer": _of_answers,
        }[kinds[0]](place, row)
        id_ = row.get("id", place.rpartition(":")[2])
        if not isinstance(id_, (str, int)) or isinstance(id_, bool) or id_ == "":
            raise InputError(f"{place}: the field 'id' must be a string or a number.")
        return CustomProblem(
            str(id_),
            text_field(place, row, "prompt"),
            entry_point_field(place, row) if row.get("entry_point") else "",
            setup=optional_text(place, row, "setup"),
            solution=optional_text(place, row, "solution"),
            buggy_solutions=_texts(place, row, "buggy") if "buggy" in row else (),
            mode=_mode(place, row),
            limits=_limits(place, row),
            **made,
        )

    def _stops(self, style: PromptStyle) -> tuple[str, ...]:
        # A style has one set of stop strings for all problems.
        return style.stop if all(p.is_code for p in self._problems) else style.program_stop

    def preamble(self, problem: CustomProblem) -> str:
        """Returns the imports of a prompt that is code."""
        if not problem.is_code:
            return ""
        return imports_at_top(problem.prompt)

    def joined(self, problem: CustomProblem, completion: str) -> str:
        """Appends the completion to a prompt that is code; otherwise returns it alone."""
        return problem.prompt + completion if problem.is_code else completion

    def read(self, problem: CustomProblem, style: PromptStyle, answer: str) -> Extraction:
        """Extracts the program or the answer string."""
        if not problem.answers:
            return super().read(problem, style, answer)
        return Extraction(find_text(cut_at_stop(answer, self._stops(style))))

    def job(self, problem: CustomProblem, program: str) -> Job | Verdict:
        """Returns a job or verdict according to the row's columns."""
        limits = problem.limits
        if problem.answers:
            right = _words(program) in map(_words, problem.answers)
            message = "" if right else f"the answer is {program[:200]!r}"
            return Verdict(problem.id, 0, "passed" if right else "wrong", message=message)
        if len(problem.cases) == 1:
            ((given, expected),) = problem.cases
            return Job(program, mode="stdio", stdin=given, expected_stdout=expected, limits=limits)
        if problem.cases:
            if not parses(program):
                return Verdict(problem.id, 0, "syntax_error", message="not valid Python")
            return Job(
                with_runner(program),
                test=cases_test(problem.cases, "lines"),
                limits=limits,
                plain=True,
            )
        return Job(
            program,
            test=problem.tests,
            entry_point=problem.entry_point,
            setup=problem.setup,
            mode=problem.mode,
            limits=limits,
            plain=problem.tests.startswith(SOURCE),
        )

    def reference(self, problem: CustomProblem) -> str:
        """Returns the row's solution."""
        return self._whole(problem, problem.solution) if problem.solution else ""

    def buggy(self, problem: CustomProblem) -> Sequence[str]:
        """Returns the row's wrong solutions."""
        return [self._whole(problem, text) for text in problem.buggy_solutions]

    def _whole(self, problem: CustomProblem, text: str) -> str:
        if problem.is_code and not _defines(text, problem.entry_point):
            return problem.prompt + text
        return text


def _defines(code: str, name: str) -> bool:
    return re.search(rf"^(async )?def {re.escape(name)}\b", code, re.MULTILINE) is not None


# Bounded, so that endless repetition in an answer takes linear time.
_NAMED = re.compile(
    r"\banswer(?:\s{1,9}is\b\s{0,9}:?|\s{0,9}[*_]{0,9}\s{0,9}[:=])"
    r"[ \t]{0,9}[*_]{0,9}[ \t]{0,9}(\S[^\n]*)",
    re.IGNORECASE,
)


def find_text(text: str) -> str:
    """Extracts the answer: tagged, else after "answer is", else the last fence, else all text."""
    named = [answer.rstrip("*_") for answer in _NAMED.findall(text)]
    for candidates in (tagged_answers(text), named, fenced_blocks(text)):
        if answers := [answer.strip() for answer in candidates if answer.strip()]:
            return answers[-1]
    return text.strip()


def _words(text: str) -> str:
    return " ".join(text.split())


def calls_test(calls: Sequence[tuple[str, Sequence[object]]], expected: Sequence[object]) -> str:
    """Returns a test that makes the calls and compares their results with the expected ones."""
    functions = {name: None for name, _ in calls}
    table = ", ".join(f"{name!r}: {name}" for name in functions)
    return "\n\n".join(
        (
            SOURCE,
            f"CALLS = read_value({write_value([[name, list(args)] for name, args in calls])!r})",
            f"EXPECTED = read_value({write_value(list(expected))!r})",
            f"FUNCTIONS = {{{table}}}",
            _CALLS_LOOP,
        )
    )


_CALLS_LOOP = """\
for number, ((name, arguments), expected) in enumerate(zip(CALLS, EXPECTED), 1):
    got = FUNCTIONS[name](*arguments)
    if not close(as_json(got), expected, 1e-6):
        called = f"{name}({', '.join(map(repr, arguments))})"[:300]
        raise AssertionError(f"call {number}: {called} is {got!r:.200}, expected {expected!r:.200}")
"""


def _of_tests(place: str, row: Mapping[str, object]) -> dict[str, Any]:
    text = row["tests"]
    return {"tests": text if isinstance(text, str) else "\n".join(_texts(place, row, "tests"))}


def _of_calls(place: str, row: Mapping[str, object]) -> dict[str, Any]:
    calls, expected = row.get("calls"), row["expected"]
    if not isinstance(calls, list) or not isinstance(expected, list):
        raise InputError(f"{place}: calls and expected must both be lists.")
    if len(calls) != len(expected) or not calls:
        raise InputError(
            f"{place}: {len(calls)} calls and {len(expected)} expected values.",
            "Write at least one call, and one expected value per call.",
        )
    named = [_call(place, call, row.get("entry_point")) for call in calls]
    return {"tests": calls_test(named, expected)}


def _call(place: str, call: object, entry_point: object) -> tuple[str, list[object]]:
    if isinstance(call, list):
        if isinstance(entry_point, str) and entry_point:
            is_named = len(call) == 2 and call[0] == entry_point and isinstance(call[1], list)
            return entry_point, call[1] if is_named else call
        match call:
            case [str(name), list(arguments)] if name.isidentifier():
                return name, arguments
    raise InputError(
        f"{place}: the call {str(call)[:60]} cannot be read.",
        'A call is ["name", [arguments]], or a list of arguments with the column entry_point.',
    )


def _of_cases(place: str, row: Mapping[str, object]) -> dict[str, Any]:
    if isinstance(row["stdout"], str):
        stdin = text_field(place, row, "stdin") if "stdin" in row else ""
        return {"cases": ((stdin, row["stdout"]),)}
    outputs = _texts(place, row, "stdout")
    inputs = _texts(place, row, "stdin") if "stdin" in row else ("",) * len(outputs)
    if len(inputs) != len(outputs) or not outputs:
        raise InputError(f"{place}: {len(inputs)} strings in stdin and {len(outputs)} in stdout.")
    return {"cases": tuple(zip(inputs, outputs, strict=True))}


def _of_answers(place: str, row: Mapping[str, object]) -> dict[str, Any]:
    answer = row["answer"]
    answers = (answer,) if isinstance(answer, str) else _texts(place, row, "answer")
    if not answers:
        raise InputError(f"{place}: the field 'answer' is empty.")
    return {"answers": answers}


def _texts(place: str, row: Mapping[str, object], name: str) -> tuple[str, ...]:
    value = row.get(name)
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InputError(f"{place}: the field {name!r} must be a string or a list of strings.")
    return tuple(value)


def _mode(place: str, row: Mapping[str, Any]) -> Any:
    mode = row.get("mode", "isolated")
    if mode not in ("isolated", "in_sandbox"):
        raise InputError(f"{place}: the mode {mode!r} must be isolated or in_sandbox.")
    return mode


def _limits(place: str, row: Mapping[str, Any]) -> Limits:
    limits = {name: row[name] for name in ("cpu_s", "memory_mib") if name in row}
    if isinstance(memory := limits.get("memory_mib"), float) and memory.is_integer():
        limits["memory_mib"] = int(memory)
    try:
        return Limits(**limits)
    except ConfigError as error:
        raise InputError(f"{place}: {error.message}") from None
